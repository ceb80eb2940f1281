package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// everybody is a policy that applies to everybody and everything, changed as a case says.
func everybody(change func(*Policy)) Policy {
	p := Policy{
		Name: "policy", State: Enabled, Grant: Grant{MFA: true},
		Conditions: Conditions{Users: Users{All: true}, Applications: []string{All}},
	}
	if change != nil {
		change(&p)
	}
	return p
}

func named(name string, change func(*Policy)) Policy {
	p := everybody(change)
	p.Name = name
	return p
}

var (
	office  = NamedLocation{Name: "office", Ranges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")}, Trusted: true}
	partner = NamedLocation{Name: "partner", Ranges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
	benelux = NamedLocation{Name: "benelux", Countries: []string{"NL", "BE", "LU"}}
	atSea   = NamedLocation{Name: "at sea", Countries: []string{"NL"}, IncludeUnknown: true}
)

// ca is a model in which policies decide.
func ca(policies ...Policy) Model {
	return Model{
		Defaults: SecurityDefaults{Off: true}, Policies: policies, Locations: []NamedLocation{office, partner, benelux, atSea},
		Terms: []Terms{{"house rules", 3}}, Strengths: []Strength{{Name: "codes", Combinations: []string{"password,softwareOath"}}, {Name: "keys of one model", Combinations: []string{"fido2"}, AAGUIDs: []string{modelA}}},
	}
}

// known is alice of finance, registered, with her password proven, at the office, in hr.
func known(change func(*Facts)) *Facts {
	return facts(func(f *Facts) {
		f.User = &mfa.User{Name: "alice", Canonical: "alice", Groups: []string{"Staff", "Finance"}, Roles: []string{"Helpdesk Administrator"}}
		f.Registered, f.Application = true, "hr"
		f.Client.Platform = Windows
		if change != nil {
			change(f)
		}
	})
}

func TestEachConditionAlone(t *testing.T) {
	devices := func(exclude bool, rule string) func(*Policy) {
		return func(p *Policy) { p.Conditions.Devices = &DeviceFilter{Exclude: exclude, Rule: rule} }
	}
	compliant := func(f *Facts) { f.Client.Device = mfa.Device{Known: true, Compliant: true, ID: "1", Name: "laptop-1"} }
	for reason, tc := range map[string]struct {
		policy func(*Policy)
		facts  func(*Facts)
		unmet  Unmet
	}{
		"all users, all applications": {nil, nil, ""},

		"the user by name":             {func(p *Policy) { p.Conditions.Users = Users{Users: []string{"alice"}} }, nil, ""},
		"another user":                 {func(p *Policy) { p.Conditions.Users = Users{Users: []string{"bob"}} }, nil, UnmetUsers},
		"his group":                    {func(p *Policy) { p.Conditions.Users = Users{Groups: []string{"Finance"}} }, nil, ""},
		"his group in other case":      {func(p *Policy) { p.Conditions.Users = Users{Groups: []string{"FINANCE"}} }, nil, ""},
		"his group, not in ASCII":      {func(p *Policy) { p.Conditions.Users = Users{Groups: []string{"ÉCONOMIE"}} }, func(f *Facts) { f.User.Groups = []string{"économie"} }, ""},
		"another group":                {func(p *Policy) { p.Conditions.Users = Users{Groups: []string{"Finances"}} }, nil, UnmetUsers},
		"a group called like the user": {func(p *Policy) { p.Conditions.Users = Users{Groups: []string{"alice"}} }, nil, UnmetUsers},
		"his role":                     {func(p *Policy) { p.Conditions.Users = Users{Roles: []string{"helpdesk administrator"}} }, nil, ""},
		"another role":                 {func(p *Policy) { p.Conditions.Users = Users{Roles: []string{"Global Administrator"}} }, nil, UnmetUsers},
		"guests, and he is none":       {func(p *Policy) { p.Conditions.Users = Users{Guests: true} }, nil, UnmetUsers},
		"guests, and he is one":        {func(p *Policy) { p.Conditions.Users = Users{Guests: true} }, func(f *Facts) { f.User.Guest = true }, ""},
		"nobody":                       {func(p *Policy) { p.Conditions.Users = Users{None: true} }, nil, UnmetUsers},
		"excluded by name":             {func(p *Policy) { p.Conditions.ExcludeUsers = Users{Users: []string{"alice"}} }, nil, UnmetUsers},
		"excluded by group":            {func(p *Policy) { p.Conditions.ExcludeUsers = Users{Groups: []string{"staff"}} }, nil, UnmetUsers},
		"excluded by role":             {func(p *Policy) { p.Conditions.ExcludeUsers = Users{Roles: []string{"Helpdesk Administrator"}} }, nil, UnmetUsers},
		"guests are excluded":          {func(p *Policy) { p.Conditions.ExcludeUsers = Users{Guests: true} }, nil, ""},
		"included by name, excluded by group": {func(p *Policy) {
			p.Conditions.Users, p.Conditions.ExcludeUsers = Users{Users: []string{"alice"}}, Users{Groups: []string{"Finance"}}
		}, nil, UnmetUsers},

		"the application":                  {func(p *Policy) { p.Conditions.Applications = []string{"hr"} }, nil, ""},
		"another application":              {func(p *Policy) { p.Conditions.Applications = []string{"wiki"} }, nil, UnmetTarget},
		"no application":                   {func(p *Policy) { p.Conditions.Applications = []string{None} }, nil, UnmetTarget},
		"the application is excluded":      {func(p *Policy) { p.Conditions.ExcludeApplications = []string{"hr"} }, nil, UnmetTarget},
		"our own pages are among all":      {nil, func(f *Facts) { f.Application = "" }, ""},
		"our own pages are no application": {func(p *Policy) { p.Conditions.Applications = []string{"hr"} }, func(f *Facts) { f.Application = "" }, UnmetTarget},
		"a user action": {func(p *Policy) {
			p.Conditions.Applications, p.Conditions.UserActions = nil, []UserAction{RegisterSecurityInfo}
		}, nil, UnmetAction},
		"applications, in a user action": {nil, func(f *Facts) { f.UserAction = RegisterSecurityInfo }, UnmetAction},
		"a user action, in this very action": {
			func(p *Policy) {
				p.Conditions.Applications, p.Conditions.UserActions = nil, []UserAction{RegisterSecurityInfo}
			},
			func(f *Facts) { f.UserAction, f.Application = RegisterSecurityInfo, "" }, "",
		},

		"browsers":                 {func(p *Policy) { p.Conditions.ClientApps = []ClientApp{Browser} }, nil, ""},
		"legacy clients":           {func(p *Policy) { p.Conditions.ClientApps = []ClientApp{ExchangeActiveSync, OtherClients} }, nil, UnmetClientApp},
		"a client that is unknown": {func(p *Policy) { p.Conditions.ClientApps = []ClientApp{OtherClients} }, func(f *Facts) { f.Client.App = "" }, NotEnoughInformation},
		"his platform":             {func(p *Policy) { p.Conditions.Platforms = []Platform{Windows, IOS} }, nil, ""},
		"another platform":         {func(p *Policy) { p.Conditions.Platforms = []Platform{Android} }, nil, UnmetPlatform},
		"any platform, unknown":    {func(p *Policy) { p.Conditions.Platforms = []Platform{AllPlatforms} }, func(f *Facts) { f.Client.Platform = "" }, ""},
		"a platform, unknown":      {func(p *Policy) { p.Conditions.Platforms = []Platform{Android} }, func(f *Facts) { f.Client.Platform = "" }, UnmetPlatform},
		"his platform is excluded": {func(p *Policy) {
			p.Conditions.Platforms, p.Conditions.ExcludePlatforms = []Platform{AllPlatforms}, []Platform{Windows}
		}, nil, UnmetPlatform},
		"an unknown platform is not excluded": {
			func(p *Policy) {
				p.Conditions.Platforms, p.Conditions.ExcludePlatforms = []Platform{AllPlatforms}, []Platform{Windows, MacOS, Linux, IOS, Android}
			},
			func(f *Facts) { f.Client.Platform = "" }, "",
		},

		"where he is":                  {func(p *Policy) { p.Conditions.Locations = []string{"office"} }, nil, ""},
		"where he is, as IPv4-in-IPv6": {func(p *Policy) { p.Conditions.Locations = []string{"office"} }, func(f *Facts) { f.Client.Address = netip.MustParseAddr("::ffff:203.0.113.9") }, ""},
		"where he is, with a zone":     {func(p *Policy) { p.Conditions.Locations = []string{"office"} }, func(f *Facts) { f.Client.Address = netip.MustParseAddr("2001:db8::1%eth0") }, ""},
		"somewhere else":               {func(p *Policy) { p.Conditions.Locations = []string{"partner"} }, nil, UnmetLocation},
		"one of two places":            {func(p *Policy) { p.Conditions.Locations = []string{"partner", "office"} }, nil, ""},
		"every place":                  {func(p *Policy) { p.Conditions.Locations = []string{All} }, func(f *Facts) { f.Client.Address = netip.Addr{} }, ""},
		"trusted places":               {func(p *Policy) { p.Conditions.Locations = []string{AllTrusted} }, nil, ""},
		"trusted places, outside":      {func(p *Policy) { p.Conditions.Locations = []string{AllTrusted} }, func(f *Facts) { f.Client.Address = netip.MustParseAddr("198.51.100.1") }, UnmetLocation},
		"trusted places are excluded": {func(p *Policy) {
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{All}, []string{AllTrusted}
		}, nil, UnmetLocation},
		"where he is is excluded":          {func(p *Policy) { p.Conditions.ExcludeLocations = []string{"office"} }, nil, UnmetLocation},
		"a place, and nobody knows where":  {func(p *Policy) { p.Conditions.Locations = []string{"partner"} }, func(f *Facts) { f.Client.Address = netip.Addr{} }, NotEnoughInformation},
		"excluded, and nobody knows where": {func(p *Policy) { p.Conditions.ExcludeLocations = []string{AllTrusted} }, func(f *Facts) { f.Client.Address = netip.Addr{} }, NotEnoughInformation},
		"his country":                      {func(p *Policy) { p.Conditions.Locations = []string{"benelux"} }, func(f *Facts) { f.Client.Country, f.Client.CountryKnown = "LU", true }, ""},
		"another country":                  {func(p *Policy) { p.Conditions.Locations = []string{"benelux"} }, func(f *Facts) { f.Client.Country, f.Client.CountryKnown = "DE", true }, UnmetLocation},
		"no country":                       {func(p *Policy) { p.Conditions.Locations = []string{"benelux"} }, func(f *Facts) { f.Client.CountryKnown = true }, UnmetLocation},
		"no country, and that is included": {func(p *Policy) { p.Conditions.Locations = []string{"at sea"} }, func(f *Facts) { f.Client.CountryKnown = true }, ""},
		"a country without a database":     {func(p *Policy) { p.Conditions.Locations = []string{"benelux"} }, nil, NotEnoughInformation},
		"excluded without a database":      {func(p *Policy) { p.Conditions.ExcludeLocations = []string{"benelux"} }, nil, NotEnoughInformation},

		"devices of this kind, unknown":        {devices(false, `device.isCompliant -eq True`), nil, UnmetDevices},
		"devices of this kind":                 {devices(false, `device.isCompliant -eq True`), compliant, ""},
		"devices of this kind, that have been": {devices(false, `device.isCompliant -eq True`), func(f *Facts) { compliant(f); f.Client.Device.Until = now }, UnmetDevices},
		"all but these, that have been":        {devices(true, `device.isCompliant -eq True`), func(f *Facts) { compliant(f); f.Client.Device.Until = now }, ""},
		"devices of another kind":              {devices(false, `device.trustType -eq "ServerAD"`), compliant, UnmetDevices},
		"all but these, unknown":               {devices(true, `device.isCompliant -eq True -or device.trustType -eq "ServerAD"`), nil, ""},
		"all but these":                        {devices(true, `device.isCompliant -eq True -or device.trustType -eq "ServerAD"`), compliant, UnmetDevices},
		"not of this kind, unknown":            {devices(false, `device.deviceOwnership -ne "Company"`), nil, ""},
		"of the company":                       {devices(false, `device.deviceOwnership -eq "Company" -and device.operatingSystem -eq "Windows"`), compliant, ""},
		"a system that the client claims":      {devices(true, `device.operatingSystem -eq "Windows"`), nil, ""},
		"a device that claims to be in order":  {devices(true, `device.isCompliant -eq True`), func(f *Facts) { f.Client.Device.Compliant = true }, ""},

		"disabled":    {func(p *Policy) { p.State = Disabled }, nil, UnmetState},
		"report-only": {func(p *Policy) { p.State = ReportOnly }, nil, ""},
	} {
		t.Run(reason, func(t *testing.T) {
			set := of(ca(everybody(tc.policy)))
			f := known(tc.facts)
			d, results := set.Explain(f)
			r := results[0]
			applies := tc.unmet == "" || tc.unmet == NotEnoughInformation
			if r.Unmet != tc.unmet || r.Applies != applies {
				t.Fatalf("applies: %v, unmet %q; want %q", r.Applies, r.Unmet, tc.unmet)
			}
			want := Allow
			if applies && r.Policy.State == Enabled && f.UserAction == "" {
				want = Verify
			}
			if f.UserAction == "" && (d.Action != want || set.Decide(f).Action != want) {
				t.Fatalf("%v, want %v", d.Action, want)
			}
		})
	}
}

func TestControls(t *testing.T) {
	withCode := func(f *Facts) { f.Proofs = proofs(mfa.Password, mfa.TOTP) }
	both := func(changes ...func(*Facts)) func(*Facts) {
		return func(f *Facts) {
			for _, c := range changes {
				c(f)
			}
		}
	}
	compliant := func(f *Facts) { f.Client.Device = mfa.Device{Known: true, Compliant: true} }
	joined := func(f *Facts) { f.Client.Device = mfa.Device{Known: true, DomainJoined: true} }
	agreed := func(version int) func(*Facts) {
		return func(f *Facts) { f.Terms = map[string]mfa.Acceptance{"house rules": {Version: version}} }
	}
	old := func(age time.Duration, methods ...mfa.Method) func(*Facts) {
		return func(f *Facts) {
			for _, m := range methods {
				f.Proofs = f.Proofs.With(mfa.Proof{Method: m, At: now.Add(-age)})
			}
		}
	}
	grant := func(g Grant) Policy { return everybody(func(p *Policy) { p.Grant = g }) }
	frequency := func(f SignInFrequency) Policy {
		return everybody(func(p *Policy) { p.Session.SignInFrequency = &f })
	}
	for reason, tc := range map[string]struct {
		policies []Policy
		facts    func(*Facts)
		action   Action
		why      Reason
	}{
		"block":                                            {[]Policy{grant(Grant{Block: true})}, withCode, Block, PolicyBlocks},
		"block beats a grant that is met":                  {[]Policy{grant(Grant{MFA: true}), grant(Grant{Block: true})}, withCode, Block, PolicyBlocks},
		"mfa, proven":                                      {[]Policy{grant(Grant{MFA: true})}, withCode, Allow, MFASatisfied},
		"mfa, with a pass":                                 {[]Policy{grant(Grant{MFA: true})}, func(f *Facts) { f.Proofs = proofs(mfa.Password, mfa.TemporaryAccessPass) }, Allow, MFASatisfied},
		"mfa, with a recovery code":                        {[]Policy{grant(Grant{MFA: true})}, func(f *Facts) { f.Proofs = proofs(mfa.Password, mfa.RecoveryCode) }, Register, RecoveryUsed},
		"mfa, not proven":                                  {[]Policy{grant(Grant{MFA: true})}, nil, Verify, MFARequired},
		"mfa, not registered":                              {[]Policy{grant(Grant{MFA: true})}, func(f *Facts) { f.Registered = false }, Register, RegistrationRequired},
		"mfa, reset":                                       {[]Policy{grant(Grant{MFA: true})}, func(f *Facts) { f.Registered, f.PassRequired = false, true }, Block, RegistrationDenied},
		"mfa, with a pass to register with":                {[]Policy{grant(Grant{MFA: true})}, func(f *Facts) { f.Registered, f.Methods = false, passOnceSet }, Verify, MFARequired},
		"the mfa strength, with a recovery code":           {[]Policy{grant(Grant{Strength: MFAStrength})}, func(f *Facts) { f.Proofs = proofs(mfa.Password, mfa.RecoveryCode) }, Register, RecoveryUsed},
		"the mfa strength":                                 {[]Policy{grant(Grant{Strength: MFAStrength})}, withCode, Allow, MFASatisfied},
		"a strength of his own":                            {[]Policy{grant(Grant{Strength: "codes"})}, nil, Verify, MFARequired},
		"a strength that a pass is too weak for":           {[]Policy{grant(Grant{Strength: "codes"})}, func(f *Facts) { f.Proofs = proofs(mfa.Password, mfa.TemporaryAccessPass) }, Verify, MFARequired},
		"a strength that nobody can register":              {[]Policy{grant(Grant{Strength: PhishingResistantStrength})}, withCode, Block, StrengthUnreachable},
		"two strengths, one of them out of reach":          {[]Policy{grant(Grant{Strength: MFAStrength}), grant(Grant{Strength: PhishingResistantStrength})}, nil, Block, StrengthUnreachable},
		"a compliant device":                               {[]Policy{grant(Grant{CompliantDevice: true})}, compliant, Allow, PolicySatisfied},
		"a device that is not compliant":                   {[]Policy{grant(Grant{CompliantDevice: true})}, joined, Block, DeviceNotCompliant},
		"no device":                                        {[]Policy{grant(Grant{DomainJoinedDevice: true})}, nil, Block, DeviceNotJoined},
		"a joined device":                                  {[]Policy{grant(Grant{DomainJoinedDevice: true})}, joined, Allow, PolicySatisfied},
		"a device whose certificate has ended":             {[]Policy{grant(Grant{CompliantDevice: true})}, both(compliant, func(f *Facts) { f.Client.Device.Until = now }), Block, DeviceNotCompliant},
		"a device whose certificate will end":              {[]Policy{grant(Grant{CompliantDevice: true})}, both(compliant, func(f *Facts) { f.Client.Device.Until = now.Add(1) }), Allow, PolicySatisfied},
		"a device that only claims to be":                  {[]Policy{grant(Grant{CompliantDevice: true})}, func(f *Facts) { f.Client.Device.Compliant = true }, Block, DeviceNotCompliant},
		"terms":                                            {[]Policy{grant(Grant{Terms: []string{"house rules"}})}, nil, AcceptTerms, TermsRequired},
		"terms, an older version accepted":                 {[]Policy{grant(Grant{Terms: []string{"house rules"}})}, agreed(2), AcceptTerms, TermsRequired},
		"terms, accepted":                                  {[]Policy{grant(Grant{Terms: []string{"house rules"}})}, agreed(3), Allow, PolicySatisfied},
		"all of mfa and device: device lacks":              {[]Policy{grant(Grant{MFA: true, CompliantDevice: true})}, withCode, Block, DeviceNotCompliant},
		"all of mfa and device: mfa first":                 {[]Policy{grant(Grant{MFA: true, CompliantDevice: true})}, nil, Verify, MFARequired},
		"all of mfa and device":                            {[]Policy{grant(Grant{MFA: true, CompliantDevice: true})}, both(withCode, compliant), Allow, MFASatisfied},
		"any of mfa and device: device":                    {[]Policy{grant(Grant{Any: true, MFA: true, CompliantDevice: true})}, compliant, Allow, PolicySatisfied},
		"any of mfa and device: neither":                   {[]Policy{grant(Grant{Any: true, MFA: true, CompliantDevice: true})}, nil, Verify, MFARequired},
		"any of strength and terms: strength out of reach": {[]Policy{grant(Grant{Any: true, Strength: PhishingResistantStrength, Terms: []string{"house rules"}})}, nil, AcceptTerms, TermsRequired},
		"any of two devices":                               {[]Policy{grant(Grant{Any: true, CompliantDevice: true, DomainJoinedDevice: true})}, nil, Block, DeviceNotCompliant},
		"each policy by its own operator":                  {[]Policy{grant(Grant{Any: true, MFA: true, CompliantDevice: true}), grant(Grant{Terms: []string{"house rules"}})}, compliant, AcceptTerms, TermsRequired},
		"mfa before terms":                                 {[]Policy{grant(Grant{Terms: []string{"house rules"}}), grant(Grant{MFA: true})}, nil, Verify, MFARequired},
		"no policy applies":                                {[]Policy{everybody(func(p *Policy) { p.Conditions.Applications = []string{"wiki"} })}, nil, Allow, NoPolicyApplies},

		"young enough":                           {[]Policy{frequency(SignInFrequency{Every: time.Hour})}, withCode, Allow, MFASatisfied},
		"the very age":                           {[]Policy{frequency(SignInFrequency{Every: time.Hour})}, old(time.Hour, mfa.Password, mfa.TOTP), Allow, MFASatisfied},
		"too old":                                {[]Policy{frequency(SignInFrequency{Every: time.Hour})}, old(time.Hour+1, mfa.Password, mfa.TOTP), Authenticate, SignInFrequencyOver},
		"the code is too old":                    {[]Policy{frequency(SignInFrequency{Every: time.Hour})}, old(time.Hour+1, mfa.TOTP), Verify, MFARequired},
		"the password is too old, and may be":    {[]Policy{frequency(SignInFrequency{Every: time.Hour, SecondaryOnly: true})}, both(old(2*time.Hour, mfa.Password), old(0, mfa.TOTP)), Allow, MFASatisfied},
		"the shortest frequency wins":            {[]Policy{frequency(SignInFrequency{Every: 8 * time.Hour}), frequency(SignInFrequency{Every: time.Hour})}, old(2*time.Hour, mfa.Password, mfa.TOTP), Authenticate, SignInFrequencyOver},
		"every time, on entry":                   {[]Policy{frequency(SignInFrequency{EveryTime: true})}, old(6*time.Minute, mfa.Password, mfa.TOTP), Authenticate, SignInFrequencyOver},
		"every time, on entry, young":            {[]Policy{frequency(SignInFrequency{EveryTime: true})}, old(4*time.Minute, mfa.Password, mfa.TOTP), Allow, MFASatisfied},
		"every time, inside":                     {[]Policy{frequency(SignInFrequency{EveryTime: true})}, both(old(6*time.Minute, mfa.Password, mfa.TOTP), func(f *Facts) { f.Entered = true }), Allow, MFASatisfied},
		"every time, a step-up begins inside":    {[]Policy{frequency(SignInFrequency{EveryTime: true})}, both(old(6*time.Minute, mfa.Password), func(f *Facts) { f.Entered = true }), Authenticate, SignInFrequencyOver},
		"a frequency without a grant":            {[]Policy{everybody(func(p *Policy) { p.Grant, p.Session.SignInFrequency = Grant{}, &SignInFrequency{Every: time.Hour} })}, old(2*time.Hour, mfa.Password), Authenticate, SignInFrequencyOver},
		"a frequency of a policy that is not on": {[]Policy{everybody(func(p *Policy) { p.State, p.Session.SignInFrequency = ReportOnly, &SignInFrequency{Every: time.Hour} })}, old(2*time.Hour, mfa.Password), Allow, NoPolicyApplies},
	} {
		t.Run(reason, func(t *testing.T) {
			set, f := of(ca(tc.policies...)), known(tc.facts)
			if d := set.Decide(f); d.Action != tc.action || d.Reason != tc.why {
				t.Fatalf("%v (%s), want %v (%s)", d.Action, d.Reason, tc.action, tc.why)
			}
			if d, _ := set.Explain(f); d.Action != tc.action || d.Reason != tc.why {
				t.Fatalf("explained as %v (%s), want %v (%s)", d.Action, d.Reason, tc.action, tc.why)
			}
		})
	}
}

func TestWhatIsAskedFor(t *testing.T) {
	set := of(ca(everybody(func(p *Policy) { p.Grant = Grant{Strength: "codes"} })))
	d := set.Decide(known(func(f *Facts) { f.Methods = totpSet | passSet | recoverySet }))
	if d.Methods != totpSet {
		t.Errorf("a strength asks for %s", d.Methods)
	}
	set = of(ca(everybody(nil), everybody(func(p *Policy) { p.Grant = Grant{Strength: "codes"} })))
	if d := set.Decide(known(func(f *Facts) { f.Methods = totpSet | passSet | recoverySet })); d.Methods != totpSet {
		t.Errorf("mfa and a strength ask for %s", d.Methods)
	}
	for _, grant := range []Grant{{MFA: true}, {Strength: MFAStrength}} {
		set = of(ca(everybody(func(p *Policy) { p.Grant = grant })))
		if d := set.Decide(known(func(f *Facts) { f.Methods = totpSet | passSet | recoverySet })); d.Methods != totpSet|passSet|recoverySet {
			t.Errorf("%+v asks for %s", grant, d.Methods)
		}
	}
}

func TestPersistence(t *testing.T) {
	always := everybody(func(p *Policy) { p.Session.Persistent = AlwaysPersistent })
	never := everybody(func(p *Policy) { p.Session.Persistent = NeverPersistent })
	for reason, tc := range map[string]struct {
		policies []Policy
		want     Persistence
	}{
		"none":                    {[]Policy{everybody(nil)}, ""},
		"always":                  {[]Policy{everybody(nil), always, everybody(nil)}, AlwaysPersistent},
		"the stricter one wins":   {[]Policy{always, never}, NeverPersistent},
		"whichever comes first":   {[]Policy{never, always, everybody(nil)}, NeverPersistent},
		"a policy that is not on": {[]Policy{everybody(func(p *Policy) { p.State, p.Session.Persistent = ReportOnly, AlwaysPersistent })}, ""},
	} {
		if d := of(ca(tc.policies...)).Decide(known(nil)); d.Persistent != tc.want {
			t.Errorf("%s: %q, want %q", reason, d.Persistent, tc.want)
		}
	}
}

func TestRegistrationByPolicy(t *testing.T) {
	action := func(change func(*Policy)) Policy {
		return named("registration", func(p *Policy) {
			p.Conditions.Applications, p.Conditions.UserActions = nil, []UserAction{RegisterSecurityInfo}
			change(p)
		})
	}
	fromOffice := action(func(p *Policy) {
		p.Grant = Grant{Block: true}
		p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{All}, []string{AllTrusted}
	})
	withMFA := action(func(p *Policy) { p.Grant = Grant{MFA: true} })
	onDevice := action(func(p *Policy) { p.Grant = Grant{CompliantDevice: true} })
	newcomer := func(f *Facts) { f.Registered, f.Methods = false, 0 }
	for reason, tc := range map[string]struct {
		action Policy
		facts  func(*Facts)
		want   Action
		needs  Need
	}{
		"from the office":          {fromOffice, newcomer, Register, 0},
		"from elsewhere":           {fromOffice, func(f *Facts) { newcomer(f); f.Client.Address = netip.MustParseAddr("192.0.2.1") }, Block, NeedNetwork},
		"from nobody knows where":  {fromOffice, func(f *Facts) { newcomer(f); f.Client.Address = netip.Addr{} }, Block, NeedNetwork},
		"with mfa, without a pass": {withMFA, newcomer, Block, NeedPass},
		"with mfa, with a pass":    {withMFA, func(f *Facts) { f.Registered, f.Methods = false, passOnceSet }, Verify, 0},
		"on a device, without one": {onDevice, newcomer, Block, NeedDevice},
		"on a device":              {onDevice, func(f *Facts) { newcomer(f); f.Client.Device = mfa.Device{Known: true, Compliant: true} }, Register, 0},
		"recovered from elsewhere": {fromOffice, func(f *Facts) {
			f.Proofs = proofs(mfa.Password, mfa.RecoveryCode)
			f.Client.Address = netip.MustParseAddr("192.0.2.1")
		}, Block, NeedNetwork},
		"recovered at the office":     {fromOffice, func(f *Facts) { f.Proofs = proofs(mfa.Password, mfa.RecoveryCode) }, Register, 0},
		"recovered, and mfa is asked": {withMFA, func(f *Facts) { f.Proofs = proofs(mfa.Password, mfa.RecoveryCode) }, Register, 0},
	} {
		t.Run(reason, func(t *testing.T) {
			d := of(ca(everybody(nil), tc.action)).Decide(known(tc.facts))
			if d.Action != tc.want || d.Needs != tc.needs {
				t.Fatalf("%v (%s), needs %d; want %v, %d", d.Action, d.Reason, d.Needs, tc.want, tc.needs)
			}
		})
	}
	t.Run("one control of several is enough", func(t *testing.T) {
		either := action(func(p *Policy) { p.Grant = Grant{Any: true, MFA: true, CompliantDevice: true} })
		set := of(ca(everybody(nil), either))
		if d := set.Decide(known(newcomer)); d.Action != Block || d.Needs == 0 {
			t.Errorf("without a device: %v, needs %d", d.Action, d.Needs)
		}
		if d := set.Decide(known(func(f *Facts) { newcomer(f); f.Client.Device = mfa.Device{Known: true, Compliant: true} })); d.Action != Register {
			t.Errorf("with a device: %v", d.Action)
		}
	})
	t.Run("a change of factors", func(t *testing.T) {
		set := of(ca(everybody(nil), withMFA))
		if d := set.DecideAction(known(nil), RegisterSecurityInfo); d.Action != Verify {
			t.Errorf("with the password alone: %v", d.Action)
		}
		if d := set.DecideAction(known(func(f *Facts) { f.Proofs = proofs(mfa.Password, mfa.TOTP) }), RegisterSecurityInfo); d.Action != Allow {
			t.Errorf("with a code: %v", d.Action)
		}
	})
}

func TestPerUserMFA(t *testing.T) {
	on := func(policies ...Policy) Model {
		m := ca(policies...)
		m.PerUser = PerUserMFA{On: true, TrustedRanges: office.Ranges, Grace: 14 * day}
		return m
	}
	away := func(state mfa.PerUserState, change func(*Facts)) func(*Facts) {
		return func(f *Facts) {
			f.PerUser, f.Client.Address = state, netip.MustParseAddr("192.0.2.1")
			if change != nil {
				change(f)
			}
		}
	}
	wiki := everybody(func(p *Policy) { p.Conditions.Applications = []string{"wiki"} })
	for reason, tc := range map[string]struct {
		model Model
		facts func(*Facts)
		want  Action
		why   Reason
	}{
		"no state":                                {on(), away("", nil), Allow, DefaultsOff},
		"disabled":                                {on(), away(mfa.PerUserDisabled, nil), Allow, DefaultsOff},
		"enforced":                                {on(), away(mfa.PerUserEnforced, nil), Verify, MFARequired},
		"enforced, at the office":                 {on(), func(f *Facts) { f.PerUser = mfa.PerUserEnforced }, Allow, DefaultsOff},
		"enforced, nobody knows where":            {on(), func(f *Facts) { f.PerUser, f.Client.Address = mfa.PerUserEnforced, netip.Addr{} }, Verify, MFARequired},
		"enabled, not registered":                 {on(), away(mfa.PerUserEnabled, func(f *Facts) { f.Registered, f.Asked = false, now.Add(-day) }), Allow, InGrace},
		"enabled long ago, not registered":        {on(), away(mfa.PerUserEnabled, func(f *Facts) { f.Registered, f.Asked = false, now.Add(-15*day) }), Register, RegistrationRequired},
		"enabled, and a factor is gone":           {on(), away(mfa.PerUserEnabled, func(f *Facts) { f.Registered, f.GraceOver = false, true }), Register, RegistrationRequired},
		"the setting is off for everybody":        {ca(), away(mfa.PerUserEnforced, nil), Allow, DefaultsOff},
		"a policy demands it, also at the office": {on(everybody(nil)), func(f *Facts) { f.PerUser = mfa.PerUserEnforced }, Verify, MFARequired},
		"a policy elsewhere leaves it":            {on(wiki), away(mfa.PerUserEnforced, nil), Verify, MFARequired},
		"a policy elsewhere, at the office":       {on(wiki), func(f *Facts) { f.PerUser = mfa.PerUserEnforced }, Allow, NoPolicyApplies},
		"a policy without mfa leaves it": {on(everybody(func(p *Policy) { p.Grant = Grant{Terms: []string{"house rules"}} })), away(mfa.PerUserEnforced, func(f *Facts) {
			f.Terms = map[string]mfa.Acceptance{"house rules": {Version: 3}}
		}), Verify, MFARequired},
		"security defaults override it": {Model{PerUser: PerUserMFA{On: true, TrustedRanges: office.Ranges}}, func(f *Facts) { f.PerUser = mfa.PerUserEnforced }, Verify, MFARequired},
		"a policy that is report-only":  {on(everybody(func(p *Policy) { p.State = ReportOnly })), func(f *Facts) { f.PerUser = mfa.PerUserEnforced }, Allow, NoPolicyApplies},
	} {
		t.Run(reason, func(t *testing.T) {
			if d := of(tc.model).Decide(known(tc.facts)); d.Action != tc.want || d.Reason != tc.why {
				t.Fatalf("%v (%s), want %v (%s)", d.Action, d.Reason, tc.want, tc.why)
			}
		})
	}
}

func TestWhatAReportOnlyPolicyWouldHaveDone(t *testing.T) {
	for reason, tc := range map[string]struct {
		change         func(*Policy)
		facts          func(*Facts)
		satisfied, ask bool
	}{
		"it would block":              {func(p *Policy) { p.Grant = Grant{Block: true} }, nil, false, false},
		"it would ask for a code":     {nil, nil, false, true},
		"it is satisfied":             {nil, func(f *Facts) { f.Proofs = proofs(mfa.Password, mfa.TOTP) }, true, false},
		"it wants a device":           {func(p *Policy) { p.Grant = Grant{CompliantDevice: true} }, nil, false, false},
		"it wants a device or a code": {func(p *Policy) { p.Grant = Grant{Any: true, MFA: true, CompliantDevice: true} }, nil, false, true},
		"it wants to be asked again":  {func(p *Policy) { p.Session.SignInFrequency = &SignInFrequency{Every: time.Second} }, func(f *Facts) { f.Now = now.Add(time.Minute); f.Proofs = proofs(mfa.Password, mfa.TOTP) }, false, true},
	} {
		t.Run(reason, func(t *testing.T) {
			set := of(ca(everybody(func(p *Policy) {
				p.State = ReportOnly
				if tc.change != nil {
					tc.change(p)
				}
			})))
			d, results := set.Explain(known(tc.facts))
			if d.Action != Allow {
				t.Fatalf("%v (%s)", d.Action, d.Reason)
			}
			if r := results[0]; !r.Applies || r.Satisfied != tc.satisfied || r.Ask != tc.ask {
				t.Fatalf("%+v", r)
			}
		})
	}
}

func TestMistakesInPolicies(t *testing.T) {
	for reason, tc := range map[string]struct {
		change func(*Policy)
		want   string
	}{
		"no state":                       {func(p *Policy) { p.State = "" }, "its state is"},
		"no users":                       {func(p *Policy) { p.Conditions.Users = Users{} }, "no users"},
		"no target":                      {func(p *Policy) { p.Conditions.Applications = nil }, "neither applications nor a user action"},
		"two targets":                    {func(p *Policy) { p.Conditions.UserActions = []UserAction{RegisterSecurityInfo} }, "only one"},
		"a place that there is not":      {func(p *Policy) { p.Conditions.ExcludeLocations = []string{"moon"} }, `"moon"`},
		"a strength that there is not":   {func(p *Policy) { p.Grant = Grant{Strength: "superb"} }, `"superb"`},
		"terms that there are not":       {func(p *Policy) { p.Grant = Grant{Terms: []string{"none"}} }, `"none"`},
		"a rule that isn't one":          {func(p *Policy) { p.Conditions.Devices = &DeviceFilter{Rule: "device.isCompliant"} }, "device filter"},
		"a rule about what nobody knows": {func(p *Policy) { p.Conditions.Devices = &DeviceFilter{Rule: `device.model -eq "X"`} }, "device.model"},
		"risk, which nothing detects":    {func(p *Policy) { p.Conditions.SignInRisk = []Risk{HighRisk} }, "risk"},
		"a password that can't change":   {func(p *Policy) { p.Grant = Grant{PasswordChange: true} }, "password"},
	} {
		t.Run(reason, func(t *testing.T) {
			_, err := New(ca(everybody(tc.change)))
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), `policy "policy"`) {
				t.Fatalf("%v; want something about %q", err, tc.want)
			}
		})
	}
	t.Run("security defaults on", func(t *testing.T) {
		m := ca(everybody(nil))
		m.Defaults.Off = false
		if _, err := New(m); err == nil || !strings.Contains(err.Error(), "security_defaults off") {
			t.Errorf("enabled: %v", err)
		}
		for _, state := range []State{Disabled, ReportOnly} {
			m.Policies = []Policy{everybody(func(p *Policy) { p.State = state })}
			if _, err := New(m); err != nil {
				t.Errorf("%s: %v", state, err)
			}
		}
	})
	t.Run("all at once", func(t *testing.T) {
		_, err := New(ca(everybody(func(p *Policy) { p.State, p.Conditions.Applications = "", nil }), named("second", func(p *Policy) { p.Conditions.Users = Users{} })))
		if err == nil || strings.Count(err.Error(), "\n") != 2 {
			t.Errorf("%v", err)
		}
	})
}

// crowd is a model with many policies, each for a group, an application and a place of 2,000 ranges.
func crowd(n int) Model {
	m := Model{Defaults: SecurityDefaults{Off: true}}
	for i := range n {
		l := NamedLocation{Name: fmt.Sprintf("place %d", i), Trusted: i%2 == 0}
		for j := range 2000 {
			l.Ranges = append(l.Ranges, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(j >> 3), byte(j << 5)}), 27))
		}
		m.Locations = append(m.Locations, l)
		m.Policies = append(m.Policies, named(fmt.Sprintf("policy %d", i), func(p *Policy) {
			p.Conditions.ExcludeUsers = Users{Groups: []string{fmt.Sprintf("group %d", i)}, Roles: []string{"Global Administrator"}}
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{All}, []string{l.Name}
		}))
	}
	return m
}

// BenchmarkDecide is for a user to whom every policy applies: the worst case.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{0, 1, 20, 200} {
		b.Run(fmt.Sprintf("policies=%d", n), func(b *testing.B) {
			set := of(crowd(n))
			f := known(func(f *Facts) { f.Proofs, f.Entered = proofs(mfa.Password, mfa.TOTP), true })
			b.ReportAllocs()
			for b.Loop() {
				if d := set.Decide(f); d.Action != Allow {
					b.Fatal(d.Action, d.Reason)
				}
			}
		})
	}
}

// TestDecidingAllocatesNothing holds for as many policies as are decided about inline.
func TestDecidingAllocatesNothing(t *testing.T) {
	for _, n := range []int{1, 200} {
		m := crowd(n)
		m.Policies[0].Conditions.Devices = &DeviceFilter{Exclude: true, Rule: `device.isCompliant -eq True`}
		set := of(m)
		f := known(func(f *Facts) { f.Proofs, f.Entered = proofs(mfa.Password, mfa.TOTP), true })
		if allocations := testing.AllocsPerRun(100, func() { set.Decide(f) }); allocations != 0 {
			t.Errorf("%d policies: %v allocations", n, allocations)
		}
	}
}

func TestMorePoliciesThanFitInline(t *testing.T) {
	m := crowd(inlinePolicies + 3)
	last := &m.Policies[len(m.Policies)-1]
	last.Grant = Grant{Block: true}
	d, results := of(m).Explain(known(nil))
	if d.Action != Block || d.Policy.Name != last.Name || len(results) != len(m.Policies) || !results[len(results)-1].Applies {
		t.Fatalf("%v by %v", d.Action, d.Policy)
	}
	if !slices.ContainsFunc(results, func(r Result) bool { return r.Ask }) {
		t.Error("no other policy would ask")
	}
}
