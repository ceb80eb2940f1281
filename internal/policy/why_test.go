package policy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func TestWhy(t *testing.T) {
	away := func(change func(*Facts)) func(*Facts) {
		return func(f *Facts) {
			f.Client.Address = netip.MustParseAddr("192.0.2.1")
			if change != nil {
				change(f)
			}
		}
	}
	old := func(age time.Duration, methods ...mfa.Method) func(*Facts) {
		return func(f *Facts) {
			f.Proofs = proofs(mfa.Password)
			for _, m := range methods {
				f.Proofs = f.Proofs.With(mfa.Proof{Method: m, At: now.Add(-age)})
			}
		}
	}
	except := func(names ...string) func(*Policy) {
		return func(p *Policy) { p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{All}, names }
	}
	in := func(names ...string) func(*Policy) {
		return func(p *Policy) { p.Conditions.Locations = names }
	}
	admins := func(p *Policy) { p.Conditions.Users = Users{Roles: []string{"helpdesk administrator"}} }
	frequency := func(c SignInFrequency) func(*Policy) {
		return func(p *Policy) { p.Session.SignInFrequency = &c }
	}
	own := func(ranges ...netip.Prefix) Model {
		m := ca()
		m.PerUser = PerUserMFA{On: true, TrustedRanges: ranges}
		return m
	}
	phishing := func(p *Policy) { p.Grant = Grant{Strength: PhishingResistantStrength} }
	keys := func(f *Facts) { f.Methods = totpSet | passkeySet; f.Proofs = proofs(mfa.Password, mfa.TOTP) }
	for reason, tc := range map[string]struct {
		model  Model
		facts  func(*Facts)
		action Action
		want   Because
	}{
		"security defaults":                   {Model{}, nil, Verify, Because{}},
		"security defaults, an administrator": {Model{}, func(f *Facts) { f.User.Roles = []string{"Global Administrator"} }, Verify, Because{}},
		"everybody, everywhere":               {ca(everybody(nil)), nil, Verify, Because{}},
		"nobody is asked":                     {ca(), nil, Allow, Because{}},
		"refused":                             {ca(everybody(func(p *Policy) { p.Grant = Grant{Block: true} })), nil, Block, Because{}},
		"disabled":                            {ca(everybody(except(AllTrusted))), away(func(f *Facts) { f.User.Disabled = true }), Block, Because{}},
		"to register":                         {ca(everybody(except(AllTrusted))), away(func(f *Facts) { f.Registered, f.Methods = false, 0 }), Register, Because{}},

		"outside all that is trusted":        {ca(everybody(except(AllTrusted))), away(nil), Verify, Because{Cause: CauseOutside}},
		"outside the office":                 {ca(everybody(except("office"))), away(nil), Verify, Because{Cause: CauseOutside}},
		"at the office":                      {ca(everybody(except("office"))), nil, Allow, Because{}},
		"outside a list that isn't trusted":  {ca(everybody(except("partner"))), away(nil), Verify, Because{Cause: CauseElsewhere}},
		"outside the office and a partner's": {ca(everybody(except("office", "partner"))), away(nil), Verify, Because{Cause: CauseElsewhere}},
		"in a country":                       {ca(everybody(in("benelux"))), func(f *Facts) { f.Client.Country, f.Client.CountryKnown = "NL", true }, Verify, Because{Cause: CauseElsewhere}},
		"in all places, the list says":       {ca(everybody(in("benelux", All))), away(nil), Verify, Because{}},
		"nobody knows in which country":      {ca(everybody(in("benelux"))), away(nil), Verify, Because{}},
		"nobody knows the address":           {ca(everybody(except("office"))), func(f *Facts) { f.Client.Address = netip.Addr{} }, Verify, Because{}},
		"an administrator":                   {ca(everybody(admins)), nil, Verify, Because{}},
		"an administrator, named himself":    {ca(everybody(func(p *Policy) { admins(p); p.Conditions.Users.Users = []string{"Alice"} })), nil, Verify, Because{}},
		"an administrator of a group":        {ca(everybody(func(p *Policy) { admins(p); p.Conditions.Users.Groups = []string{"finance"} })), nil, Verify, Because{}},
		"an administrator who is a guest":    {ca(everybody(func(p *Policy) { admins(p); p.Conditions.Users.Guests = true })), func(f *Facts) { f.User.Guest = true }, Verify, Because{}},
		"an administrator, all are asked":    {ca(everybody(func(p *Policy) { admins(p); p.Conditions.Users.All = true })), nil, Verify, Because{}},
		"a group":                            {ca(everybody(func(p *Policy) { p.Conditions.Users = Users{Groups: []string{"staff"}} })), nil, Verify, Because{}},
		"an administrator outside":           {ca(everybody(func(p *Policy) { admins(p); except("office")(p) })), away(nil), Verify, Because{Cause: CauseOutside}},
		"a device that nobody vouches for":   {ca(everybody(func(p *Policy) { p.Grant = Grant{Any: true, MFA: true, CompliantDevice: true} })), nil, Verify, Because{Cause: CauseDevice}},
		"a device that isn't compliant":      {ca(everybody(func(p *Policy) { p.Grant = Grant{Any: true, MFA: true, CompliantDevice: true} })), func(f *Facts) { f.Client.Device.Known = true }, Verify, Because{}},
		"a device that a rule would leave out": {ca(everybody(func(p *Policy) {
			p.Conditions.Devices = &DeviceFilter{Exclude: true, Rule: `device.isCompliant -eq True`}
		})), nil, Verify, Because{Cause: CauseDevice}},
		"a device that a rule takes in": {ca(everybody(func(p *Policy) { p.Conditions.Devices = &DeviceFilter{Rule: `device.isCompliant -ne True`} })), nil, Verify, Because{}},

		"two that ask for the same reason":        {ca(named("a", except(AllTrusted)), named("b", except("office"))), away(nil), Verify, Because{Cause: CauseOutside}},
		"two that ask for two reasons":            {ca(named("a", except(AllTrusted)), named("b", admins)), away(nil), Verify, Because{}},
		"one that asks everybody, too":            {ca(named("a", except(AllTrusted)), named("b", nil)), away(nil), Verify, Because{}},
		"one that asks everybody in report-only":  {ca(named("a", except(AllTrusted)), named("b", func(p *Policy) { p.State = ReportOnly })), away(nil), Verify, Because{Cause: CauseOutside}},
		"one that asks everybody for another app": {ca(named("a", except(AllTrusted)), named("b", func(p *Policy) { p.Conditions.Applications = []string{"wiki"} })), away(nil), Verify, Because{Cause: CauseOutside}},
		"one that demands nothing":                {ca(named("a", except(AllTrusted)), named("b", func(p *Policy) { p.Grant, p.Session.Persistent = Grant{}, NeverPersistent })), away(nil), Verify, Because{Cause: CauseOutside}},

		"a step that is too old":              {ca(everybody(frequency(SignInFrequency{Every: 4 * time.Hour}))), old(5*time.Hour, mfa.TOTP), Verify, Because{CauseTooOld, 4 * time.Hour}},
		"one that is too old, and outside":    {ca(everybody(func(p *Policy) { except("office")(p); frequency(SignInFrequency{Every: 4 * time.Hour})(p) })), away(old(5*time.Hour, mfa.TOTP)), Verify, Because{CauseTooOld, 4 * time.Hour}},
		"the shortest of two":                 {ca(named("a", frequency(SignInFrequency{Every: 4 * time.Hour})), named("b", frequency(SignInFrequency{Every: time.Hour}))), old(5*time.Hour, mfa.TOTP), Verify, Because{CauseTooOld, time.Hour}},
		"none was proven, nothing is old":     {ca(everybody(func(p *Policy) { except("office")(p); frequency(SignInFrequency{Every: 4 * time.Hour})(p) })), away(nil), Verify, Because{Cause: CauseOutside}},
		"a password that is too old":          {ca(everybody(frequency(SignInFrequency{Every: 2 * day}))), func(f *Facts) { f.Proofs = mfa.Proofs{{Method: mfa.Password, At: now.Add(-3 * day)}} }, Authenticate, Because{CauseTooOld, 2 * day}},
		"every time":                          {ca(everybody(frequency(SignInFrequency{EveryTime: true}))), old(10*time.Minute, mfa.TOTP), Verify, Because{Cause: CauseEveryTime}},
		"every time, with a password":         {ca(everybody(frequency(SignInFrequency{EveryTime: true}))), func(f *Facts) { f.Proofs = mfa.Proofs{{Method: mfa.Password, At: now.Add(-time.Hour)}} }, Authenticate, Because{Cause: CauseEveryTime}},
		"every time, when a step-up begins":   {ca(named("a", frequency(SignInFrequency{EveryTime: true})), named("b", phishing)), func(f *Facts) { keys(f); f.Entered = true; old(10*time.Minute, mfa.TOTP)(f) }, Verify, Because{}},
		"a browser that is remembered":        {remembering(ca(everybody(frequency(SignInFrequency{Every: 4 * time.Hour, SecondaryOnly: true})))), func(f *Facts) { f.User.Roles = nil; f.Proofs = f.Proofs.With(inBrowser(day)) }, Verify, Because{CauseTooOld, 4 * time.Hour}},
		"not strong enough":                   {ca(everybody(phishing)), keys, Verify, Because{Cause: CauseTooWeak}},
		"a strength, and none was proven":     {ca(everybody(phishing)), func(f *Facts) { f.Methods = totpSet | passkeySet }, Verify, Because{}},
		"a strength outside":                  {ca(everybody(func(p *Policy) { phishing(p); except("office")(p) })), away(func(f *Facts) { f.Methods = totpSet | passkeySet }), Verify, Because{Cause: CauseOutside}},
		"his own setting":                     {own(), func(f *Facts) { f.PerUser = mfa.PerUserEnforced }, Verify, Because{}},
		"his own setting, outside":            {own(office.Ranges...), away(func(f *Facts) { f.PerUser = mfa.PerUserEnforced }), Verify, Because{Cause: CauseOutside}},
		"his own setting, nobody knows where": {own(office.Ranges...), func(f *Facts) { f.PerUser, f.Client.Address = mfa.PerUserEnforced, netip.Addr{} }, Verify, Because{}},
	} {
		t.Run(reason, func(t *testing.T) {
			set, f := of(tc.model), known(tc.facts)
			if d := set.Decide(f); d.Action != tc.action {
				t.Fatalf("%v (%s), want %v", d.Action, d.Reason, tc.action)
			}
			if got := set.Why(f); got != tc.want {
				t.Errorf("because of %v %v, want %v %v", got.Cause, got.Age, tc.want.Cause, tc.want.Age)
			}
		})
	}
}
