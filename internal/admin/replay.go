package admin

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/platform"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// ErrPolicies says that policies can't be in force together with what the server's configuration says otherwise.
var ErrPolicies = errors.New("these policies don't fit the server's configuration")

// Outcome is what a sign-in comes to.
type Outcome string

// The outcomes, the strictest first.
const (
	Blocked      Outcome = "blocked"
	Asked        Outcome = "asked"         // for more than was proven
	SecondFactor Outcome = "second_factor" // let in, with the second factor that was demanded
	LetIn        Outcome = "let_in"        // and no second factor was demanded
)

// Outcomes lists them.
var Outcomes = []Outcome{Blocked, Asked, SecondFactor, LetIn}

// Replay is what other policies would have made of the recorded sign-ins.
type Replay struct {
	From    time.Time `json:"from,omitzero"` // the oldest and the newest sign-in that was replayed
	Until   time.Time `json:"until,omitzero"`
	SignIns int       `json:"signIns"`

	// What was not replayed: nothing was decided, since a proof was wrong; the user is gone; the record stands for several that
	// were not kept.
	Failed     int `json:"failed"`
	Unknown    int `json:"unknownUsers"`
	Summarized int `json:"summarized"`

	Was          map[Outcome]int `json:"was"`   // what really happened
	Would        map[Outcome]int `json:"would"` // what would have
	Users        []Tally         `json:"users"` // those who would have been blocked or asked most, first
	Applications []Tally         `json:"applications"`

	Changed int      `json:"changed"`
	Changes []Change `json:"changes"` // the newest first, at most MaxChanges
}

// Tally counts the sign-ins of a user or an application.
type Tally struct {
	Name    string `json:"name"`
	SignIns int    `json:"signIns"`
	Blocked int    `json:"blocked"`
	Asked   int    `json:"asked"`
	Changed int    `json:"changed"`
}

// Change is a sign-in that would have come to something else.
type Change struct {
	Reference   string        `json:"reference"`
	Time        time.Time     `json:"time"`
	User        string        `json:"user"`
	Application string        `json:"application"`
	Address     string        `json:"ipAddress"`
	Was         Outcome       `json:"was"`
	Would       Outcome       `json:"would"`
	Action      policy.Action `json:"action"`
	Reason      policy.Reason `json:"reason"`
	Policy      string        `json:"policy,omitempty"`
}

// MaxChanges is how many changes are listed.
const MaxChanges = 1000

// Replay runs policies in place of those in force over recorded sign-ins, the newest first. Locations, terms of use and the per-user
// setting are those of the server, strengths as well beside those that come along; security defaults are off. A user is as his
// directory and his account have him now, but for blocks; everything else is as the record has it. The error is one that the
// sign-ins came with, or wraps ErrPolicies, directory.ErrUnavailable or store.ErrUnavailable.
func (s *Service) Replay(ctx context.Context, policies []policy.Policy, strengths []policy.Strength, signIns iter.Seq2[audit.SignIn, error]) (*Replay, error) {
	m := s.Policy.Model
	m.Policies, m.Defaults = policies, policy.SecurityDefaults{Off: true}
	m.Strengths = slices.Clone(m.Strengths)
	for _, strength := range strengths {
		if !slices.ContainsFunc(m.Strengths, func(known policy.Strength) bool {
			return known.Name == strength.Name && slices.Equal(known.Combinations, strength.Combinations)
		}) {
			m.Strengths = append(m.Strengths, strength)
		}
	}
	rules, err := policy.New(m)
	if err != nil {
		return nil, errors.Join(ErrPolicies, err)
	}
	r := &replay{
		Service: s, rules: rules, people: map[string]*replayed{}, users: map[string]*Tally{}, applications: map[string]*Tally{},
		out: &Replay{Was: map[Outcome]int{}, Would: map[Outcome]int{}, Changes: []Change{}},
	}
	for record, err := range signIns {
		if err == nil {
			err = r.add(ctx, &record)
		}
		if err != nil {
			return nil, err
		}
	}
	r.out.Users, r.out.Applications = tallies(r.users), tallies(r.applications)
	return r.out, nil
}

// replay is a replay under way.
type replay struct {
	*Service
	out                 *Replay
	rules               *policy.Set
	people              map[string]*replayed // by id; nil: nobody any more
	users, applications map[string]*Tally
}

// replayed is a person as he is now.
type replayed struct {
	facts policy.Facts
	err   error
}

func (r *replay) add(ctx context.Context, record *audit.SignIn) error {
	var was Outcome
	switch code := record.Status.ErrorCode; {
	case record.Suppressed > 0:
		r.out.Summarized += record.Suppressed
		return nil
	case code == audit.CodeSuccess && record.Requirement == audit.MultiFactor:
		was = SecondFactor
	case code == audit.CodeSuccess:
		was = LetIn
	case code == audit.CodeBlocked:
		was = Blocked
	case code == audit.CodeMFARequired, code == audit.CodeMustRegister:
		was = Asked
	default:
		r.out.Failed++
		return nil
	}
	facts, err := r.facts(ctx, record)
	switch {
	case errors.Is(err, directory.ErrUnknown):
		r.out.Unknown++
		return nil
	case err != nil:
		return err
	case !facts.Proofs.Has(mfa.Password) && !facts.Proofs.Has(mfa.Passkey):
		r.out.Failed++
		return nil
	}
	d := r.rules.Decide(facts)
	would := outcomeOf(d)

	r.out.SignIns++
	if r.out.Until.IsZero() {
		r.out.Until = record.Created
	}
	r.out.From = record.Created
	r.out.Was[was]++
	r.out.Would[would]++
	user, application := tally(r.users, facts.User.Name), tally(r.applications, record.AppDisplayName)
	for _, t := range []*Tally{user, application} {
		t.SignIns++
		switch would {
		case Blocked:
			t.Blocked++
		case Asked:
			t.Asked++
		}
	}
	if was == would {
		return nil
	}
	r.out.Changed++
	user.Changed++
	application.Changed++
	if len(r.out.Changes) < MaxChanges {
		c := Change{
			Reference: record.CorrelationID, Time: record.Created, User: facts.User.Name, Application: record.AppDisplayName, Address: record.IPAddress,
			Was: was, Would: would, Action: d.Action, Reason: d.Reason,
		}
		if d.Policy != nil {
			c.Policy = d.Policy.Name
		}
		r.out.Changes = append(r.out.Changes, c)
	}
	return nil
}

func outcomeOf(d policy.Decision) Outcome {
	switch {
	case d.Action == policy.Block:
		return Blocked
	case d.Action != policy.Allow:
		return Asked
	case d.MFA && d.Reason != policy.InGrace:
		return SecondFactor
	}
	return LetIn
}

// facts puts together what was known when a sign-in was decided.
func (r *replay) facts(ctx context.Context, record *audit.SignIn) (*policy.Facts, error) {
	person := r.people[record.UserID]
	if person == nil {
		person = &replayed{}
		person.facts, person.err = r.person(ctx, record.UserID)
		r.people[record.UserID] = person
	}
	if person.err != nil {
		return nil, person.err
	}
	f := person.facts
	f.Now, f.Application = record.Created, record.AppDisplayName
	for _, detail := range record.Details {
		if detail.Succeeded {
			method := mfa.Method(detail.Method)
			f.Proofs = f.Proofs.With(mfa.Proof{Method: method, At: detail.Time})
			// He could prove then what he has proven, whatever he has now.
			f.Methods |= policy.MethodsOf(method, false)
			f.Registered = f.Registered || account.Lasting(method)
		}
	}
	f.Client = r.client(record)
	return &f, nil
}

// person gives what is known of a person now, without what an administrator has done to him since.
func (r *replay) person(ctx context.Context, id string) (policy.Facts, error) {
	userID, err := mfa.ParseUserID(id)
	if err != nil {
		return policy.Facts{}, directory.ErrUnknown
	}
	user, err := r.Users.ByID(ctx, userID)
	if err != nil {
		return policy.Facts{}, err
	}
	a, err := r.Accounts.Get(ctx, userID)
	if err != nil {
		return policy.Facts{}, err
	}
	f := gate.Facts(user, a, nil, nil, "", gate.Anywhere, time.Time{})
	f.Blocked = false
	if user.Disabled {
		enabled := *user
		enabled.Disabled = false
		f.User = &enabled
	}
	return f, nil
}

var clientApps = map[string]policy.ClientApp{
	audit.ClientBrowser: policy.Browser, audit.ClientMobileAndDesktop: policy.MobileAndDesktop,
	audit.ClientExchangeActiveSync: policy.ExchangeActiveSync, audit.ClientOther: policy.OtherClients,
}

func (r *replay) client(record *audit.SignIn) mfa.Client {
	c := mfa.Client{
		App: clientApps[record.ClientAppUsed], Country: record.Location.CountryOrRegion, CountryKnown: record.Location.CountryOrRegion != "",
		Platform: platformOf(record),
		Device: mfa.Device{
			Known: record.Device.IsManaged, Compliant: record.Device.IsCompliant, DomainJoined: record.Device.TrustType != "",
			ID: record.Device.DeviceID, Name: record.Device.DisplayName,
		},
	}
	c.Address, _ = netip.ParseAddr(record.IPAddress) // an address that wasn't known is none
	if !c.CountryKnown && c.Address.IsValid() && r.Country != nil {
		c.Country, c.CountryKnown = r.Country(c.Address)
	}
	return c
}

// systems are what platforms are called in records, the longer names first.
var systems = []struct {
	name     string
	platform policy.Platform
}{
	{"Windows Phone", policy.WindowsPhone}, {"Windows", policy.Windows}, {"Android", policy.Android}, {"iOS", policy.IOS}, {"iPadOS", policy.IOS},
	{"macOS", policy.MacOS}, {"Linux", policy.Linux},
}

func platformOf(record *audit.SignIn) policy.Platform {
	for _, s := range systems {
		if strings.HasPrefix(record.Device.OperatingSystem, s.name) {
			return s.platform
		}
	}
	return policy.Platform(platform.Parse("", record.UserAgent).Platform)
}

func tally(of map[string]*Tally, name string) *Tally {
	t := of[name]
	if t == nil {
		t = &Tally{Name: name}
		of[name] = t
	}
	return t
}

func tallies(of map[string]*Tally) []Tally {
	all := make([]Tally, 0, len(of))
	for _, t := range slices.Collect(maps.Values(of)) {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b Tally) int {
		return cmp.Or(b.Blocked-a.Blocked, b.Asked-a.Asked, b.Changed-a.Changed, strings.Compare(a.Name, b.Name))
	})
	return all
}
