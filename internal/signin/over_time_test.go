package signin

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// governed is a fixture in which policies decide.
func governed(t testing.TB, policies ...policy.Policy) *fixture {
	t.Helper()
	rules, err := policy.New(policy.Model{
		Defaults: policy.SecurityDefaults{Off: true}, PerUser: policy.PerUserMFA{On: true}, Policies: policies, Terms: []policy.Terms{{Name: "house rules", Version: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	f.rules = rules
	f.Service = f.node()
	return f
}

func everybody(grant policy.Grant, session policy.SessionControls) policy.Policy {
	return policy.Policy{
		Name: "policy", State: policy.Enabled, Grant: grant, Session: session,
		Conditions: policy.Conditions{Users: policy.Users{All: true}, Applications: []string{policy.All}},
	}
}

// seen lets time pass in which the session is used.
func (b *browser) seen(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(10*time.Minute, time.Until(end)))
		b.Sessions.Touch(b.state().Current, "hr", time.Now())
		synctest.Wait()
	}
}

func TestASignInFrequencyAsksAgainForEverythingThatIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := governed(t, everybody(policy.Grant{MFA: true}, policy.SessionControls{SignInFrequency: &policy.SignInFrequency{Every: 4 * time.Hour}}))
		b := f.browser()
		p := b.register("alice")
		b.want(Done)
		b.seen(3 * time.Hour)
		b.want(Done)
		b.seen(2 * time.Hour)
		before := len(f.events.ins)
		if st := b.want(Password); st.User == nil || st.Decision.Reason != policy.SignInFrequencyOver {
			t.Fatalf("%v: %v", st.User, st.Decision.Reason)
		}
		if _, err := b.verify(mfa.TOTP, p.code()); !errors.Is(err, ErrStep) {
			t.Fatalf("a code in place of the password: %v", err)
		}
		if _, err := b.password("alice", "wrong"); !errors.Is(err, ErrPassword) {
			t.Fatal(err)
		}
		id := b.session()
		b.must(b.password("alice", rightPassword))
		b.want(Verify)
		b.must(b.verify(mfa.TOTP, p.code()))
		b.want(Done)
		if b.session() != id {
			t.Error("it is another session now")
		}
		last := f.events.ins[len(f.events.ins)-1]
		if len(f.events.ins) != before+2 || last.Status.ErrorCode != audit.CodeSuccess || last.Policies[0].Result != audit.PolicySuccess || last.Requirement != audit.MultiFactor {
			t.Errorf("%d records, the last %+v", len(f.events.ins)-before, last)
		}
	})
}

func TestEveryTimeMeansOnEntryAndNotAtEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := governed(t, everybody(policy.Grant{}, policy.SessionControls{SignInFrequency: &policy.SignInFrequency{EveryTime: true}}))
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.want(Done)
		time.Sleep(6 * time.Minute)
		b.want(Password) // hr has not been entered yet
		b.must(b.password("alice", rightPassword))
		b.Sessions.Touch(b.want(Done).Current, "hr", time.Now())
		synctest.Wait()
		time.Sleep(6 * time.Minute)
		b.want(Done)
	})
}

func TestTermsOfUseAreAcceptedAsTheyWereShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := governed(t, everybody(policy.Grant{Terms: []string{"house rules"}}, policy.SessionControls{}))
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.want(Terms)
		accept := func(session string, shown policy.Terms) error {
			_, c, err := b.AcceptTerms(b.ctx, b.client(), session, shown)
			b.keep(c)
			return err
		}
		for reason, shown := range map[string]policy.Terms{"an older version": {Name: "house rules", Version: 1}, "a newer version": {Name: "house rules", Version: 3}, "other terms": {Name: "others", Version: 2}} {
			if err := accept(b.session(), shown); !errors.Is(err, ErrStep) {
				t.Errorf("%s: %v", reason, err)
			}
		}
		if err := accept("another", policy.Terms{Name: "house rules", Version: 2}); !errors.Is(err, ErrStep) {
			t.Errorf("for another session: %v", err)
		}
		b.want(Terms)
		if err := accept(b.session(), policy.Terms{Name: "house rules", Version: 2}); err != nil {
			t.Fatal(err)
		}
		b.want(Done)
		other := f.browser()
		other.must(other.password("alice", rightPassword))
		other.want(Done)
		if n := f.events.count(audit.TermsAccepted); n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

func TestRegistrationEnforcesAPersonsOwnSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := governed(t)
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.want(Done)
		if _, err := f.admin.SetState(f.ctx, "alice", mfa.PerUserEnabled, time.Now()); err != nil {
			t.Fatal(err)
		}
		b.want(Register)
		b.register("alice")
		b.want(Done)
		a, err := f.Accounts.LoadClosed(f.ctx, mfa.UserID{Directory: "file", ID: "alice"})
		if err != nil || a.State.PerUser != mfa.PerUserEnforced {
			t.Fatalf("%q, %v", a.State.PerUser, err)
		}
		next := f.browser()
		next.must(next.password("alice", rightPassword))
		next.want(Verify)
	})
}

func TestAPolicyOnRegistrationBindsWhoChangesHisFactorsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onDevice := everybody(policy.Grant{CompliantDevice: true}, policy.SessionControls{})
		onDevice.Conditions.Applications, onDevice.Conditions.UserActions = nil, []policy.UserAction{policy.RegisterSecurityInfo}
		f := governed(t, onDevice)
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if err := b.begin(); !errors.Is(err, ErrDenied) {
			t.Fatalf("a first factor: %v", err)
		}
		if _, err := f.Accounts.Update(f.ctx, mfa.UserID{Directory: "file", ID: "alice"}, time.Now(), func(a *account.Account) error {
			a.Put(mfa.Credential{ID: "app", Method: mfa.TOTP, Data: []byte("{}")})
			a.Put(mfa.Credential{ID: "other", Method: mfa.TOTP, Data: []byte("{}")})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := b.begin(); !errors.Is(err, ErrDenied) {
			t.Fatalf("another factor: %v", err)
		}
		if _, err := b.RemoveFactor(b.ctx, b.client(), b.session(), "app"); !errors.Is(err, ErrDenied) {
			t.Fatalf("the removal of a factor: %v", err)
		}
	})
}
