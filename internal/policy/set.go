package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy/filter"
)

// Model is everything that an operator has said about policy.
type Model struct {
	Defaults     SecurityDefaults
	Registration Registration
	PerUser      PerUserMFA
	Remember     Remembering
	Policies     []Policy
	Locations    []NamedLocation
	Strengths    []Strength // beside the built-in ones
	Terms        []Terms

	// Registrable are the methods that people can register. Empty: the authenticator app. Codes that are sent are not among them while
	// security defaults are on: who has registered his phone before goes on using it.
	Registrable []mfa.Method

	// Sent are the methods whose codes or prompts can be sent, of SMS, Voice, Email and Push. What somebody has registered of the others is no use to him.
	Sent []mfa.Method
}

// SecurityDefaults asks every user for a second factor, in every application.
type SecurityDefaults struct {
	Off   bool          // policies and the per-user setting decide
	Grace time.Duration // from the first sign-in until a factor must be registered
	Until time.Time     // when grace ends for everybody; zero: never
}

// Terms are terms of use. Whoever has accepted an older version is asked again.
type Terms struct {
	Name    string
	Version int
}

// Set is all policy of one configuration, made ready to decide. It is not changed any more, and safe for concurrent use.
type Set struct {
	Model

	policies []compiled // in the order of Model.Policies, disabled ones included

	users  index // by principal
	target index // by application or user action

	trusted *bart.Lite        // every trusted range; nil: none
	offices *bart.Lite        // trusted ranges of the per-user setting; nil: none
	models  []map[string]bool // of each strength that names some
	allowed combinations      // that the per-user setting accepts; nil: every one
	enabled bitset            // policies that are enforced
	usable  Methods           // of sentSet and pushSet: those that can be sent

	// Places of enforced policies that block whatever the client is, and of those that concern all users and that no legacy client meets.
	blocking, everybody []int

	needs Inputs
}

// compiled is a policy, with what it names looked up.
type compiled struct {
	*Policy
	locations, excludeLocations []place
	strength                    combinations
	filter                      *filter.Rule
	terms                       []Terms
}

// place is an entry in a list of locations.
type place struct {
	all, trusted bool
	*location
}

// Inputs says which facts about a client any policy looks at. The others need not be found out.
type Inputs struct{ Address, Country, Platform, Device bool }

// Inputs says which facts decisions depend on.
func (s *Set) Inputs() Inputs { return s.needs }

// Problem is something in a policy that can't be.
type Problem struct {
	Policy  string // its name; empty: not in a policy
	Message string
}

func (p Problem) Error() string {
	if p.Policy == "" {
		return p.Message
	}
	return fmt.Sprintf("policy %q: %s", p.Policy, p.Message)
}

// New makes a model ready. The error joins a Problem for each mistake.
func New(m Model) (*Set, error) {
	s := &Set{Model: m, users: index{}, target: index{}}
	c := compiler{set: s, locations: map[string]*location{}, strengths: map[string]combinations{}, terms: map[string]Terms{}}
	c.names()
	words := (len(m.Policies) + 63) / 64
	s.policies, s.enabled = make([]compiled, len(m.Policies)), make(bitset, words)
	for i := range m.Policies {
		c.compile(i, words)
	}
	if m.PerUser.On && len(m.PerUser.TrustedRanges) > 0 {
		s.offices, s.needs.Address = table(m.PerUser.TrustedRanges), true
	}
	s.restrictPerUser()
	s.compileLegacy()
	for _, method := range m.Sent {
		s.usable |= MethodsOf(method, false)
	}
	s.needs.Address = s.needs.Address || len(m.Registration.From) > 0
	return s, errors.Join(c.problems...)
}

// restrictPerUser keeps of the combinations those that the per-user setting allows. Passes and recovery codes are ways in for who has
// lost what he had, and always count.
func (s *Set) restrictPerUser() {
	if len(s.PerUser.Methods) == 0 {
		return
	}
	allowed := passwordSet | passSet | passOnceSet | recoverySet | rememberedSet // of this see rememberedByOwn
	for _, method := range s.PerUser.Methods {
		allowed |= MethodsOf(method, false) | MethodsOf(method, true)
	}
	for _, c := range mfaCombinations {
		if c&^allowed == 0 {
			s.allowed = append(s.allowed, c)
		}
	}
}

type compiler struct {
	set       *Set
	locations map[string]*location
	strengths map[string]combinations
	terms     map[string]Terms
	policy    string
	problems  []error
}

func (c *compiler) wrong(format string, args ...any) {
	c.problems = append(c.problems, Problem{c.policy, fmt.Sprintf(format, args...)})
}

// names looks up what policies refer to.
func (c *compiler) names() {
	var trusted []netip.Prefix
	for _, l := range c.set.Locations {
		if c.locations[l.Name] != nil {
			c.wrong("there are two named locations %q; give one of them another name", l.Name)
		}
		c.locations[l.Name] = compileLocation(l)
		if l.Trusted {
			trusted = append(trusted, l.Ranges...)
		}
	}
	if len(trusted) > 0 {
		c.set.trusted = table(trusted)
	}
	for _, strength := range slices.Concat(BuiltInStrengths, c.set.Strengths) {
		if c.strengths[strength.Name] != nil {
			c.wrong("there are two authentication strengths %q; give one of them another name", strength.Name)
		}
		sets, ok := compileStrength(strength)
		if !ok {
			c.wrong("authentication strength %q: its combinations %q must be made of %s", strength.Name, strength.Combinations, strings.Join(Modes(), ", "))
		}
		if len(strength.AAGUIDs) > 0 {
			sets = c.withModels(strength, sets)
		}
		c.strengths[strength.Name] = sets
	}
	c.strengths[MFAStrength] = append(c.strengths[MFAStrength], passwordSet|recoverySet) // it leads to registration, see recovering
	for _, t := range c.set.Terms {
		c.terms[t.Name] = t
	}
}

// withModels has passkeys count only if they are of a strength's models.
func (c *compiler) withModels(strength Strength, sets combinations) combinations {
	if len(c.set.models) == MaxModelStrengths {
		c.wrong("authentication strength %q: at most %d strengths can name models of security keys", strength.Name, MaxModelStrengths)
		return sets
	}
	models := map[string]bool{}
	for _, aaguid := range strength.AAGUIDs {
		models[aaguid] = true
	}
	c.set.models = append(c.set.models, models)
	return sets.withModels(1 << (32 + len(c.set.models) - 1))
}

func (c *compiler) compile(i, words int) {
	p := &c.set.Policies[i]
	c.policy = p.Name
	out := compiled{Policy: p}
	cond, grant := &p.Conditions, &p.Grant
	switch p.State {
	case Enabled, ReportOnly, Disabled:
	default:
		c.wrong("its state is %q; want %s, %s or %s", p.State, Enabled, Disabled, ReportOnly)
	}
	if p.State == Enabled && !c.set.Defaults.Off {
		c.wrong("it is enabled, and security defaults are on, which exclude each other; write `security_defaults off`, or make it report-only")
	}
	if len(cond.SignInRisk)+len(cond.UserRisk) > 0 {
		c.wrong("it has risk levels, and nothing here detects a risk yet, so that it would never apply; take them out")
	}
	if grant.PasswordChange {
		c.wrong("it demands a new password, and no directory here can change passwords")
	}
	if cond.Users.Empty() {
		c.wrong("it selects no users; write for example `users all`")
	}
	if len(cond.Applications) == 0 && len(cond.UserActions) == 0 {
		c.wrong("it selects neither applications nor a user action; write for example `applications all`")
	}
	if len(cond.Applications) > 0 && len(cond.UserActions) > 0 {
		c.wrong("it selects applications and a user action, of which only one can be; make two policies of it")
	}
	if grant.Strength != "" {
		if out.strength = c.strengths[grant.Strength]; out.strength == nil {
			c.wrong("there is no authentication strength %q", grant.Strength)
		}
	}
	for _, name := range grant.Terms {
		t, ok := c.terms[name]
		if !ok {
			c.wrong("there are no terms of use %q", name)
		}
		out.terms = append(out.terms, t)
	}
	out.locations, out.excludeLocations = c.places(cond.Locations), c.places(cond.ExcludeLocations)
	if d := cond.Devices; d != nil {
		rule, err := filter.Parse(d.Rule, filter.DeviceAttributes)
		if err != nil {
			c.wrong("device filter: %v", err)
		}
		out.filter = rule
	}
	needs := &c.set.needs
	needs.Address = needs.Address || len(out.locations)+len(out.excludeLocations) > 0
	needs.Platform = needs.Platform || len(cond.Platforms)+len(cond.ExcludePlatforms) > 0 || out.filter != nil
	needs.Device = needs.Device || out.filter != nil || grant.CompliantDevice || grant.DomainJoinedDevice

	for _, key := range cond.Users.principals() {
		c.set.users.entry(key, words).include.set(i)
	}
	for _, key := range cond.ExcludeUsers.principals() {
		c.set.users.entry(key, words).exclude.set(i)
	}
	for _, name := range cond.Applications {
		if name != None {
			c.set.target.entry(targetKey(name, ""), words).include.set(i)
		}
	}
	for _, name := range cond.ExcludeApplications {
		c.set.target.entry(targetKey(name, ""), words).exclude.set(i)
	}
	for _, action := range cond.UserActions {
		c.set.target.entry(targetKey("", action), words).include.set(i)
	}
	if p.State == Enabled {
		c.set.enabled.set(i)
	}
	c.set.policies[i] = out
}

func (c *compiler) places(names []string) (places []place) {
	for _, name := range names {
		switch name {
		case All:
			places = append(places, place{all: true})
		case AllTrusted:
			places = append(places, place{trusted: true})
		default:
			l := c.locations[name]
			if l == nil {
				c.wrong("there is no named location %q", name)
				continue
			}
			c.set.needs.Country = c.set.needs.Country || l.ranges == nil
			places = append(places, place{location: l})
		}
	}
	return places
}

// principals are the keys of the index that stand for the selection.
func (u Users) principals() (keys []string) {
	if u.All {
		keys = append(keys, everyKey)
	}
	if u.Guests {
		keys = append(keys, guestKey)
	}
	for _, name := range u.Users {
		if canonical, err := mfa.CanonicalName(name); err == nil {
			name = canonical
		}
		keys = append(keys, userPrefix+name)
	}
	for _, name := range u.Groups {
		keys = append(keys, groupPrefix+fold(name))
	}
	for _, name := range u.Roles {
		keys = append(keys, rolePrefix+fold(name))
	}
	return keys
}
