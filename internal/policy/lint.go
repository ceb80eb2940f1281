package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Estate is what policies meet: what there is to guard, and who there is.
type Estate struct {
	Applications []string    // every one that a site has
	Users        []*mfa.User // whom directories can list; none: nothing is said of people

	// PerUser gives a user's own setting. Nil: nothing is said of it.
	PerUser func(mfa.UserID) mfa.PerUserState

	// KnownRole says whether a role is nobody's slip of the pen, though nobody holds it. Nil: none is.
	KnownRole func(name string) bool

	Now time.Time
}

// Kind is what may be wrong. Its text stands in logs.
type Kind string

// The kinds.
const (
	LintUnreached      Kind = "application_without_policy"
	LintNever          Kind = "policy_never_applies"
	LintRarely         Kind = "policy_rarely_applies"
	LintUnknownName    Kind = "unknown_name"
	LintLockedOut      Kind = "administrators_locked_out"
	LintBlockEverybody Kind = "block_without_exclusion"
	LintPlatform       Kind = "platform_is_not_verified"
	LintAdministrators Kind = "administrators_without_mfa"
	LintEmptyLocation  Kind = "location_is_nowhere"
	LintStrength       Kind = "strength_out_of_reach"
	LintLegacyExcluded Kind = "legacy_clients_tell_who_is_excluded"
)

// Finding is something that an operator may not mean. It is no error: what decides, decides.
type Finding struct {
	Kind     Kind   `json:"kind"`
	Policy   string `json:"policy,omitempty"`
	Sentence string `json:"finding"` // what is wrong, and what would be right
}

// linter looks at a set in its estate.
type linter struct {
	*Set
	Estate
	findings []Finding

	selects bitset          // policies that select at least one of the users
	names   map[string]bool // keys of the index that some user has
}

func (l *linter) find(kind Kind, p *Policy, format string, args ...any) {
	f := Finding{Kind: kind, Sentence: fmt.Sprintf(format, args...)}
	if p != nil {
		f.Policy = p.Name
	}
	l.findings = append(l.findings, f)
}

// Lint says what in the policies may not be meant. Disabled policies are left out.
func (s *Set) Lint(e Estate) []Finding {
	l := &linter{Set: s, Estate: e}
	l.meet()
	for _, loc := range s.Locations {
		if len(loc.Ranges)+len(loc.Countries) == 0 && !loc.IncludeUnknown {
			l.find(LintEmptyLocation, nil, "the named location %q has neither ranges nor countries, so nobody is ever there; give it some, or take it out", loc.Name)
		}
	}
	never := map[int]bool{}
	for i := range s.policies {
		p := &s.policies[i]
		if p.State == Disabled {
			continue
		}
		l.unknownNames(p.Policy)
		if why := l.neverApplies(i); why != "" {
			never[i] = true
			l.find(LintNever, p.Policy, "it can never apply: %s", why)
			continue
		}
		l.shape(p.Policy)
		l.strength(p)
	}
	l.unreached(never)
	l.legacyExcluded(never)
	l.administrators()
	return l.findings
}

// meet finds out who is selected by what.
func (l *linter) meet() {
	words := (len(l.policies) + 63) / 64
	l.selects, l.names = make(bitset, words), map[string]bool{}
	include, exclude := make(bitset, words), make(bitset, words)
	for _, u := range l.Users {
		clear(include)
		clear(exclude)
		l.selectUser(u, include, exclude)
		for w := range words {
			l.selects[w] |= include[w] &^ exclude[w]
		}
		all := Users{Users: []string{u.Canonical}, Groups: u.Groups, Roles: u.Roles, Guests: u.Guest}
		for _, key := range all.principals() {
			l.names[key] = true
		}
	}
}

// unknownNames finds names that nothing has: a slip of the pen takes somebody out, or leaves somebody in.
func (l *linter) unknownNames(p *Policy) {
	c := &p.Conditions
	for _, list := range []struct {
		users  Users
		effect string
	}{{c.Users, "it doesn't apply to whom you mean"}, {c.ExcludeUsers, "it applies to whom you mean to exclude"}} {
		if len(l.Users) == 0 {
			break
		}
		for _, kind := range []struct {
			what  string
			names []string
			of    func(string) Users
		}{
			{"is called", list.users.Users, func(n string) Users { return Users{Users: []string{n}} }},
			{"is in the group", list.users.Groups, func(n string) Users { return Users{Groups: []string{n}} }},
			{"has the role", list.users.Roles, func(n string) Users { return Users{Roles: []string{n}} }},
		} {
			unknown := slices.DeleteFunc(slices.Clone(kind.names), func(name string) bool {
				users := kind.of(name)
				return l.names[users.principals()[0]] || len(users.Roles) > 0 && l.KnownRole != nil && l.KnownRole(name)
			})
			if len(unknown) > 0 {
				l.find(LintUnknownName, p, "nobody whom the directories list %s %s; if that is misspelt, %s", kind.what, oneOf(unknown), list.effect)
			}
		}
	}
	for _, name := range slices.Concat(c.Applications, c.ExcludeApplications) {
		if name != All && name != None && !slices.Contains(l.Applications, name) {
			l.find(LintUnknownName, p, "no site has the application %q; `mfa %s` in a site would be one", name, name)
		}
	}
}

// oneOf writes names in quotes: a few of them, and how many more there are.
func oneOf(names []string) string {
	const most = 5
	quoted := make([]string, 0, most)
	for _, name := range names[:min(most, len(names))] {
		quoted = append(quoted, strconv.Quote(name))
	}
	text := strings.Join(quoted, " or ")
	if more := len(names) - most; more > 0 {
		text += " or " + strconv.Itoa(more) + " more"
	}
	return text
}

// neverApplies says why a policy can't apply to anything; empty: it can.
func (l *linter) neverApplies(i int) string {
	p := l.policies[i].Policy
	c := &p.Conditions
	within := func(list, all []string) bool {
		return len(list) > 0 && !slices.ContainsFunc(list, func(s string) bool { return !slices.Contains(all, s) })
	}
	switch {
	case c.Users.None && !c.Users.All && !c.Users.Guests && len(c.Users.Users)+len(c.Users.Groups)+len(c.Users.Roles) == 0:
		return "it selects no users; write for example `users all`"
	case len(l.Users) > 0 && !l.selects.has(i) && !c.Users.Guests:
		return "it selects none of the users that the directories list; look at its groups and roles, and at what it excludes"
	case len(c.UserActions) > 0:
	case slices.Equal(c.Applications, []string{None}):
		return "it guards no application; write for example `applications all`"
	case slices.Contains(c.ExcludeApplications, All), !slices.Contains(c.Applications, All) && within(c.Applications, c.ExcludeApplications):
		return "every application that it guards is excluded; take it out of `exclude_applications`"
	case !slices.Contains(c.Applications, All) && !slices.ContainsFunc(c.Applications, func(name string) bool {
		return slices.Contains(l.Applications, name) && !slices.Contains(c.ExcludeApplications, name)
	}):
		return fmt.Sprintf("no site has an application that it guards; sites have %s", cmp.Or(strings.Join(l.Applications, ", "), "none"))
	}
	platforms := func(list []Platform) []string {
		words := make([]string, len(list))
		for i, p := range list {
			words[i] = string(p)
		}
		return words
	}
	if slices.Contains(c.ExcludePlatforms, AllPlatforms) || within(platforms(c.Platforms), platforms(c.ExcludePlatforms)) {
		return "every platform that it is for is excluded; take it out of `exclude_platforms`"
	}
	trusted := func(name string) bool {
		return slices.ContainsFunc(l.Locations, func(loc NamedLocation) bool { return loc.Name == name && loc.Trusted })
	}
	nowhere := func(name string) bool {
		switch {
		case slices.Contains(c.ExcludeLocations, All), slices.Contains(c.ExcludeLocations, name):
			return true
		case name == AllTrusted:
			return l.trusted == nil
		}
		return slices.Contains(c.ExcludeLocations, AllTrusted) && trusted(name)
	}
	if slices.Contains(c.ExcludeLocations, All) || len(c.Locations) > 0 && !slices.ContainsFunc(c.Locations, func(n string) bool { return !nowhere(n) }) {
		return "every place that it is for is excluded, or is no place: look at `locations`, `exclude_locations`, and which named locations are `trusted`"
	}
	return ""
}

// strength finds a policy that demands what nobody can prove here, so that it blocks everybody whom it concerns.
func (l *linter) strength(p *compiled) {
	g := &p.Grant
	others := g.MFA || g.CompliantDevice || g.DomainJoinedDevice || g.PasswordChange || len(g.Terms) > 0
	if g.Strength == "" || g.Any && others {
		return
	}
	if !p.strength.meets(passwordSet | passSet | passOnceSet | l.newMethods() | l.usable) {
		l.find(LintStrength, p.Policy, "nobody here can prove what the strength %q takes, so that whom the policy concerns is refused; turn on a factor that is among it, or demand another strength", g.Strength)
	}
}

// shape looks at a policy alone.
func (l *linter) shape(p *Policy) {
	c := &p.Conditions
	if slices.Equal(c.ClientApps, []ClientApp{MobileAndDesktop}) {
		l.find(LintRarely, p, "it will rarely apply: who signs in through our pages is a browser; write `client_apps browser mobile_and_desktop`, or leave `client_apps` out")
	}
	legacy := len(c.ClientApps) > 0 && !slices.Contains(c.ClientApps, Browser) && !slices.Contains(c.ClientApps, MobileAndDesktop)
	if p.Grant.Block && c.Users.All && c.ExcludeUsers.Empty() && len(c.UserActions) == 0 && !legacy {
		l.find(LintBlockEverybody, p, "it blocks all users, and excludes none; keep an account for emergencies out of it, as in `exclude_users group:breakglass`")
	}
	if p.Grant.Empty() || legacy {
		return
	}
	const advice = "any client can say that it runs something else; let the policy apply to all platforms, or add one that does and demands no less"
	switch named := len(c.Platforms) > 0 && !slices.Contains(c.Platforms, AllPlatforms); {
	case named:
		l.find(LintPlatform, p, "it applies to clients that say that they run %s: %s", platformWords(c.Platforms), advice)
	case len(c.ExcludePlatforms) > 0:
		l.find(LintPlatform, p, "it does not apply to clients that say that they run %s: %s", platformWords(c.ExcludePlatforms), advice)
	}
}

func platformWords(ps []Platform) string {
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = string(p)
	}
	return strings.Join(words, ", ")
}

// unreached finds the applications that nothing guards. Policies for legacy clients alone leave everybody else to his password.
func (l *linter) unreached(never map[int]bool) {
	if !l.Defaults.Off || l.Set.PerUser.On {
		return
	}
	for _, name := range l.Applications {
		words := (len(l.policies) + 63) / 64
		include, exclude := make(bitset, words), make(bitset, words)
		l.selectTarget(&Facts{Application: name}, include, exclude)
		reached := false
		for i := range l.policies {
			apps := l.policies[i].Conditions.ClientApps
			reached = reached || include.has(i) && !exclude.has(i) && l.enabled.has(i) && !never[i] && (len(apps) == 0 || slices.Contains(apps, Browser))
		}
		if !reached {
			l.find(LintUnreached, nil, "no enabled policy reaches who signs in to the application %q, so a password is enough there; name it in the `applications` of one, or write `applications all`", name)
		}
	}
}

// legacyExcluded looks for policies whose exclusions anybody can find out: a legacy client of whom they concern is refused at once, and
// that of whom they exclude has its password judged.
func (l *linter) legacyExcluded(never map[int]bool) {
	if !l.Defaults.Off {
		return
	}
	var names []string
	for i := range l.policies {
		p := &l.policies[i]
		c := &p.Conditions
		concerned := p.State == Enabled && !never[i] && !p.Grant.Empty() && c.Users.All && !c.ExcludeUsers.Empty() && len(c.Locations)+len(c.ExcludeLocations) == 0
		if concerned && l.tells(i) {
			names = append(names, p.Name)
		}
	}
	if len(names) > 0 {
		l.find(LintLegacyExcluded, nil, "programs that send a password with each request are refused for everybody but whom %s excludes, from everywhere: anybody can find out who that is, and guess at his password; "+
			"add a policy on all users for `client_apps exchange_active_sync other` with `grant block`, and with `exclude_locations` if there are places where it may be so", oneOf(names))
	}
}

// tells says whether there is an application in which a policy refuses some legacy clients, and nothing refuses all of them.
func (l *linter) tells(i int) bool {
	client := l.clients()[0]
	for _, name := range l.Applications {
		for _, client.App = range []ClientApp{OtherClients, ExchangeActiveSync} {
			f := &Facts{Now: l.Now, Application: name, Client: client}
			if _, everybody := l.BlocksEverybody(f); !everybody && l.applies([]int{i}, f) != nil {
				return true
			}
		}
	}
	return false
}

// administrators looks at what those meet who hold a role.
func (l *linter) administrators() {
	var all []*mfa.User
	for _, u := range l.Users {
		if len(u.Roles) > 0 && !u.Disabled {
			all = append(all, u)
		}
	}
	if len(all) == 0 || !l.Defaults.Off {
		return
	}
	if l.Set.PerUser.On && l.Estate.PerUser != nil {
		for _, u := range all {
			l.withoutMFA(u)
		}
	}
	blockers := map[string]bool{}
	device := false
	for _, u := range all {
		if l.getsIn(u, mfa.Device{}, blockers) {
			return
		}
		device = device || l.getsIn(u, mfa.Device{Known: true, Compliant: true, DomainJoined: true}, map[string]bool{})
	}
	names := strings.Join(slices.Sorted(maps.Keys(blockers)), "\", \"")
	const advice = "keep an account for emergencies out of it with `exclude_users`"
	if device {
		l.find(LintLockedOut, nil, "without a device that the organisation knows, no administrator gets into any application (policies \"%s\"); %s", names, advice)
		return
	}
	l.find(LintLockedOut, nil, "no administrator gets into any application, from anywhere, whatever he proves (policies \"%s\"); %s", names, advice)
}

// getsIn says whether a user gets into any application, from any place and with any platform, with everything proven that he could
// prove. Else blockers has the names of the policies that refuse.
func (l *linter) getsIn(u *mfa.User, device mfa.Device, blockers map[string]bool) bool {
	var proofs mfa.Proofs
	for _, m := range append([]mfa.Method{mfa.Password, mfa.TOTP}, l.Registrable...) {
		proofs = proofs.With(mfa.Proof{Method: m, At: l.Now})
	}
	for _, application := range l.applications() {
		for _, client := range l.clients() {
			for _, platform := range append([]Platform{""}, Platforms...) {
				client.Platform, client.Device = platform, device
				d := l.Decide(&Facts{
					Now: l.Now, User: u, Client: client, Application: application, Proofs: proofs, Methods: l.newMethods(), Registered: true,
				})
				if d.Action != Block {
					return true
				}
				if d.Policy != nil {
					blockers[d.Policy.Name] = true
				}
			}
		}
	}
	return false
}

// withoutMFA finds an administrator who gets in with the password alone, though he has a factor.
func (l *linter) withoutMFA(u *mfa.User) {
	proofs := mfa.Proofs{}.With(mfa.Proof{Method: mfa.Password, At: l.Now})
	var open []string
	for _, application := range l.applications() {
		reached := slices.ContainsFunc(l.clients(), func(client mfa.Client) bool {
			d := l.Decide(&Facts{
				Now: l.Now, User: u, Client: client, Application: application, Proofs: proofs, Methods: l.newMethods(), Registered: true,
				PerUser: l.Estate.PerUser(u.ID),
			})
			return d.Action == Allow && !d.MFA && !l.office(client.Address)
		})
		if reached {
			open = append(open, cmp.Or(application, "our own pages"))
		}
	}
	if len(open) > 0 {
		l.find(LintAdministrators, nil, "%s holds the role %s, and gets into %s with the password alone; run `mfa user state %[1]s enabled`, or write a policy for the role",
			u.Name, strings.Join(u.Roles, ", "), strings.Join(open, ", "))
	}
}

// office says whether the per-user setting lets addresses off.
func (l *linter) office(a netip.Addr) bool { return l.offices != nil && l.offices.Contains(a) }

// applications are those of the sites, or our own pages where there are none.
func (l *linter) applications() []string {
	if len(l.Applications) == 0 {
		return []string{""}
	}
	return l.Applications
}

// elsewhere are addresses of which at least one is in no range, as a rule: those that RFC 5737 and RFC 3849 keep for examples.
var elsewhere = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")}

// clients are one at each place, and one elsewhere.
func (l *linter) clients() (clients []mfa.Client) {
	// ZZ is nobody's country (ISO 3166-1 leaves it to users).
	client := mfa.Client{App: Browser, Country: "ZZ", CountryKnown: true}
	var ranges []netip.Prefix
	for _, loc := range l.Locations {
		ranges = append(ranges, loc.Ranges...)
	}
	for _, a := range elsewhere {
		if !slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(a) }) {
			client.Address = a
			clients = append(clients, client)
			break
		}
	}
	for _, loc := range l.Locations {
		at := client
		switch {
		case len(loc.Ranges) > 0:
			at.Address = loc.Ranges[0].Addr()
		case len(loc.Countries) > 0:
			at.Country = loc.Countries[0]
		default:
			at.Country = ""
		}
		clients = append(clients, at)
	}
	return clients
}
