package signin

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

var (
	inside  = netip.MustParseAddr("203.0.113.9")
	outside = netip.MustParseAddr("192.0.2.1")
)

// decideBy puts policies in the place of security defaults.
func (f *fixture) decideBy(policies ...policy.Policy) {
	f.t.Helper()
	set, err := policy.New(policy.Model{
		Defaults:  policy.SecurityDefaults{Off: true},
		Locations: []policy.NamedLocation{{Name: "office", Ranges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Trusted: true}},
		Terms:     []policy.Terms{{Name: "house rules", Version: 3}},
		Policies:  policies,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	*f.rules = *set
}

// everywhere is a policy for everybody and every application.
func everywhere(change func(*policy.Policy)) policy.Policy {
	p := policy.Policy{
		Name: "policy", State: policy.Enabled,
		Conditions: policy.Conditions{Users: policy.Users{All: true}, Applications: []string{policy.All}},
	}
	change(&p)
	return p
}

var blockedOutside = everywhere(func(p *policy.Policy) {
	p.Conditions.ExcludeLocations, p.Grant.Block = []string{"office"}, true
})

func TestWhoIsBlockedRegistersNothing(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.decideBy(blockedOutside)
		b := f.browser()
		b.address = outside
		b.must(b.password("alice", rightPassword))
		b.want(Blocked)
		wantErr(t, "a first factor", b.begin(), ErrStep)

		t.Log("nor does who is registered, with a session that was taken elsewhere")
		b.address = inside
		app := b.register("alice")
		b.must(b.verify(mfa.TOTP, app.code()))
		b.address = outside
		b.want(Blocked)
		wantErr(t, "another factor", b.begin(), ErrStep)

		t.Log("nor is finished there what was begun inside")
		b.address = inside
		if err := b.begin(); err != nil {
			t.Fatal(err)
		}
		_, challenge, err := b.Registration(b.ctx, b.client())
		if err != nil {
			t.Fatal(err)
		}
		second := &phone{t: t, key: challenge.Key}
		b.address = outside
		_, _, err = b.finish(second.code())
		wantErr(t, "what was begun inside", err, ErrStep)
		b.address = inside
		if n := len(b.state().Account.CredentialsOf(mfa.TOTP)); n != 1 {
			t.Fatalf("%d apps", n)
		}
	})
}

func TestTermsComeBeforeARegistrationThatIsOnlyOffered(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.decideBy(everywhere(func(p *policy.Policy) { p.Grant.Terms = []string{"house rules"} }))
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.want(Terms)
		wantErr(t, "a first factor", b.begin(), ErrStep)
	})
}

func TestAPasswordThatIsTooOldChangesNoFactor(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.decideBy(everywhere(func(p *policy.Policy) {
			p.Grant.MFA, p.Session.SignInFrequency = true, &policy.SignInFrequency{Every: time.Hour}
		}))
		b := f.browser()
		phone := b.register("alice")
		time.Sleep(40 * time.Minute)
		b.want(Done)
		b.Sessions.Touch(b.state().Current, "hr", time.Now())
		time.Sleep(25 * time.Minute)
		b.want(Password)
		_, err := b.verify(mfa.TOTP, phone.code())
		wantErr(t, "a code before the password", err, ErrStep)
		wantErr(t, "another factor", b.begin(), ErrStep)
	})
}

func TestARecoveryCodeIsNoSecondFactorForTheNextTimeEither(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.decideBy(everywhere(func(p *policy.Policy) {
			p.Grant.MFA, p.Session.SignInFrequency = true, &policy.SignInFrequency{Every: time.Hour, SecondaryOnly: true}
		}))
		b := f.browser()
		phone := b.register("alice")
		time.Sleep(40 * time.Minute)
		b.Sessions.Touch(b.want(Done).Current, "hr", time.Now())
		time.Sleep(40 * time.Minute)
		b.want(Verify)
		t.Log("it is for getting in, and not for who is in")
		other := f.browser()
		other.must(other.password("alice", rightPassword))
		other.must(other.verify(mfa.TOTP, phone.code()))
		_, err := other.verify(mfa.RecoveryCode, phone.codes[0])
		wantErr(t, "a recovery code of who is in", err, ErrStep)

		if st := b.must(b.verify(mfa.RecoveryCode, phone.codes[0])); st.Step != Register || st.Decision.Reason != policy.RecoveryUsed {
			t.Fatalf("step %d (%s), want to register", st.Step, st.Decision.Reason)
		}
		t.Log("who finds his app after all goes on")
		if st := b.must(b.verify(mfa.TOTP, phone.code())); st.Step != Done {
			t.Fatalf("step %d (%s)", st.Step, st.Decision.Reason)
		}
	})
}

func TestASignInThatTookTooLongBeginsAnewWithThePassword(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		phone := b.register("alice")
		f.decideBy(everywhere(func(p *policy.Policy) {
			p.Grant.MFA, p.Session.SignInFrequency = true, &policy.SignInFrequency{EveryTime: true}
		}))
		b = f.browser()
		b.must(b.password("alice", rightPassword))
		b.want(Verify)
		time.Sleep(6 * time.Minute)
		_, err := b.verify(mfa.TOTP, phone.code())
		wantErr(t, "a code before the password", err, ErrStep)
		b.must(b.password("alice", rightPassword))
		st := b.must(b.verify(mfa.TOTP, phone.code()))
		if st.Step != Done || st.Current.Session.Pending {
			t.Fatalf("step %d, pending %v", st.Step, st.Current.Session.Pending)
		}
		time.Sleep(4 * time.Minute)
		b.want(Done)
	})
}

func TestALineOfTheSignInLogIsBounded(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		c := f.browser().client()
		c.UserAgent = strings.Repeat("ë", 1<<19)
		_, _, err := f.Password(f.ctx, c, "nobody", "wrong")
		wantErr(t, "a stranger", err, ErrPassword)
		if n := len(f.events.ins); n != 1 {
			t.Fatalf("%d sign-ins", n)
		}
		if in := f.events.ins[0]; len(in.UserAgent) > maxUserAgent || in.UserPrincipalName != "" {
			t.Fatalf("%d bytes of User-Agent, for %q", len(in.UserAgent), in.UserPrincipalName)
		}
	})
}
