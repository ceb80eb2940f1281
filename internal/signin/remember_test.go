package signin

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

const day = 24 * time.Hour

// remembering runs a test in which browsers may be remembered for 30 days, and people stay signed in for 60.
func remembering(t *testing.T, test func(*testing.T, *fixture)) {
	in(t, func(t *testing.T, f *fixture) {
		f.rules.Remember = policy.Remembering{Session: 60 * day, Browser: 30 * day}
		f.Service = f.node()
		test(t, f)
	})
}

// remembered is a browser of somebody that is remembered for him, and his phone.
func (f *fixture) remembered(user string) (*browser, *phone) {
	f.t.Helper()
	phone := f.browser().register(user)
	b := f.browser()
	b.must(b.password(user, rightPassword))
	b.asks.Remember = true
	if st := b.must(b.verify(mfa.TOTP, phone.code())); st.Step != Done || b.cookies.Remembered == "" {
		f.t.Fatalf("step %d, and the browser is not remembered", st.Step)
	}
	b.asks = Wishes{}
	return b, phone
}

// anew is the browser after it was closed, or the session has ended: it comes with what it still has.
func (b *browser) anew() *browser {
	c := *b
	c.cookies.Session = ""
	return &c
}

func (b *browser) wantAsked(what string, asked bool) {
	b.t.Helper()
	st := b.must(b.password("alice", rightPassword))
	if asked != (st.Step == Verify) || !asked && (st.Step != Done || st.Decision.Reason != policy.BrowserRemembered) {
		b.t.Errorf("%s: step %d (%s); asked for the second step: want %v", what, st.Step, st.Decision.Reason, asked)
	}
}

func TestARememberedBrowserIsNotAskedForTheSecondStep(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		b, _ := f.remembered("alice")
		b.anew().wantAsked("the same browser", false)
		time.Sleep(29 * day)
		again := b.anew()
		again.wantAsked("in the last days", false)
		last := f.events.ins[len(f.events.ins)-1]
		if last.Requirement != audit.MultiFactor || !slices.ContainsFunc(last.Details, func(d audit.Detail) bool {
			return d.Method == string(mfa.RememberedBrowser) && d.Result == audit.ByRememberedBrowser && time.Since(d.Time) > 28*day
		}) {
			t.Errorf("the log says %s, %+v", last.Requirement, last.Details)
		}
		if again.state().HasFresh(time.Now()) {
			t.Error("it pays for a change of factors")
		}
		time.Sleep(day)
		if st := again.state(); st.Step == Done {
			t.Error("a session rests on it after its time")
		}
		b.anew().wantAsked("after thirty days", true)
		f.browser().wantAsked("another browser", true)
		if f.events.count(audit.BrowserRemembered) != 1 {
			t.Error("it is not in the audit log once")
		}
	})
}

func TestNobodyIsRememberedUnasked(t *testing.T) {
	for reason, tc := range map[string]struct {
		prepare func(f *fixture, b *browser)
		method  mfa.Method
		asks    Wishes
	}{
		"the box is not ticked":          {method: mfa.TOTP},
		"only the other box is ticked":   {method: mfa.TOTP, asks: Wishes{Stay: true}},
		"browsers may not be remembered": {prepare: func(f *fixture, _ *browser) { f.rules.Remember.Browser = 0 }, method: mfa.TOTP, asks: Wishes{Remember: true}},
		"an administrator": {prepare: func(f *fixture, _ *browser) {
			f.people.change("alice", func(u *mfa.User) { u.Roles = []string{"Auditor"} })
		}, method: mfa.TOTP, asks: Wishes{Stay: true, Remember: true}},
		"a recovery code, which leads to register": {method: mfa.RecoveryCode, asks: Wishes{Stay: true, Remember: true}},
	} {
		t.Run(reason, func(t *testing.T) {
			remembering(t, func(t *testing.T, f *fixture) {
				phone := f.browser().register("alice")
				b := f.browser()
				if tc.prepare != nil {
					tc.prepare(f, b)
				}
				st := b.must(b.password("alice", rightPassword))
				if o := st.Offers(tc.method); o.Remember != 0 && tc.asks.Remember {
					t.Errorf("the page has a box for %v", o.Remember)
				}
				b.asks = tc.asks
				answer := phone.codes[0]
				if tc.method == mfa.TOTP {
					answer = phone.code()
				}
				b.must(b.verify(tc.method, answer))
				if b.cookies.Remembered != "" {
					t.Error("it is remembered")
				}
				a, err := f.Accounts.Load(f.ctx, mfa.UserID{Directory: "file", ID: "alice"})
				if err != nil || len(a.Browsers) != 0 {
					t.Errorf("%d browsers are remembered, %v", len(a.Browsers), err)
				}
			})
		})
	}
}

// Whoever registers, or confirms a change, is offered nothing, and a box that he ticks all the same does nothing.
func TestRegistrationAndChangesRememberNothing(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.asks = Wishes{Stay: true, Remember: true}
		phone := b.register("alice")
		if b.cookies.Remembered != "" || b.state().Current.Session.Stay != 0 {
			t.Error("with the registration")
		}
		if o := b.state().Offers(mfa.TOTP); o != (Offer{}) {
			t.Errorf("a signed-in person is offered %+v", o)
		}
		b.must(b.verify(mfa.TOTP, phone.code()))
		if b.cookies.Remembered != "" || b.state().Current.Session.Stay != 0 {
			t.Error("with the proof for a change")
		}
	})
}

func TestARememberedBrowserChangesNoFactors(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		b, _ := f.remembered("alice")
		thief := b.anew() // within five minutes of the proof that it stands for
		thief.wantAsked("the same browser", false)
		wantErr(t, "registering another app", thief.begin(), ErrNotFresh)
		a, err := f.Accounts.Load(f.ctx, mfa.UserID{Directory: "file", ID: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = thief.RemoveFactor(f.ctx, thief.client(), thief.session(), a.CredentialsOf(mfa.TOTP)[0].ID)
		wantErr(t, "removing the app", err, ErrNotFresh)
		_, _, err = thief.NewRecoveryCodes(f.ctx, thief.client(), thief.session())
		wantErr(t, "new recovery codes", err, ErrNotFresh)
		_, _, err = thief.Stay(f.ctx, thief.client(), thief.session())
		if err != nil {
			t.Errorf("the password was just proven: %v", err)
		}
	})
}

func TestWhatTheCookieOfARememberedBrowserIsNotGoodFor(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		b, _ := f.remembered("alice")
		bobs, _ := f.remembered("bob")
		value := b.cookies.Remembered
		foreign, err := seal.NewKeyring(bytes.Repeat([]byte{9}, 32))
		if err != nil {
			t.Fatal(err)
		}
		entry := b.Browsers.openRemembered(value, "hr.example.com")[0]
		other := entry
		other.Token = bytes.Repeat([]byte{1}, mfa.TokenSize)
		short := entry
		short.Token = nil
		stolen := b.Browsers.openRemembered(bobs.cookies.Remembered, "hr.example.com")[0]
		stolen.User = entry.User
		forge := func(keys *Browsers, host string, r remembered) string {
			text, err := keys.sealRemembered("", host, r)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		flipped := []byte(value)
		flipped[len(flipped)/2] ^= 1
		for reason, cookie := range map[string]string{
			"another user's":            bobs.cookies.Remembered,
			"truncated":                 value[:len(value)-1],
			"a bit is flipped":          string(flipped),
			"doubled":                   value + value,
			"of a foreign key":          forge(NewBrowsers(foreign), "hr.example.com", entry),
			"of another host":           forge(b.Browsers, "wiki.example.com", entry),
			"another token":             forge(b.Browsers, "hr.example.com", other),
			"no token":                  forge(b.Browsers, "hr.example.com", short),
			"another user's record":     forge(b.Browsers, "hr.example.com", stolen),
			"the known browser's":       b.cookies.Browser,
			"the session's":             b.cookies.Session,
			"longer than anything ours": string(bytes.Repeat([]byte{'A'}, 10_000)),
		} {
			thief := f.browser()
			thief.cookies.Remembered = cookie
			thief.wantAsked(reason, true)
		}
		copied := f.browser()
		copied.cookies.Remembered = value
		st, _, err := copied.Password(f.ctx, func() Client { c := copied.client(); c.Host = "wiki.example.com"; return c }(), "alice", rightPassword)
		if err != nil || st.Step != Verify {
			t.Errorf("copied to another host: step %d, %v", st.Step, err)
		}
		if _, err := copied.password("alice", "wrong"); err == nil {
			t.Error("it stands for the password")
		}
		copied.wantAsked("copied, with the password: documented", false)
	})
}

func TestWhatEndsARememberedBrowser(t *testing.T) {
	for reason, end := range map[string]func(f *fixture, b *browser, p *phone) error{
		"sign-out everywhere": func(f *fixture, b *browser, _ *phone) error { return b.SignOutEverywhere(f.ctx, b.client()) },
		"an administrator's sign-out": func(f *fixture, _ *browser, _ *phone) error {
			return f.admin.SignOut(f.ctx, "alice", time.Now())
		},
		"a block that was taken back": func(f *fixture, _ *browser, _ *phone) error {
			if err := f.admin.Block(f.ctx, "alice", "", time.Now()); err != nil {
				return err
			}
			return f.admin.Unblock(f.ctx, "alice", time.Now())
		},
		"a new password": func(f *fixture, _ *browser, _ *phone) error {
			f.people.change("alice", func(u *mfa.User) { u.Mark = "m2" })
			return nil
		},
		"another factor": func(_ *fixture, b *browser, p *phone) error {
			b.must(b.verify(mfa.TOTP, p.code()))
			b.registerApp()
			return nil
		},
		"new recovery codes": func(f *fixture, b *browser, p *phone) error {
			b.must(b.verify(mfa.TOTP, p.code()))
			c, _, err := b.NewRecoveryCodes(f.ctx, b.client(), b.session())
			b.keep(c)
			return err
		},
		"a factor removed": func(f *fixture, b *browser, p *phone) error {
			b.must(b.verify(mfa.TOTP, p.code()))
			second := b.registerApp()
			b.must(b.verify(mfa.TOTP, second.code()))
			b.asks.Remember = true
			a, err := f.Accounts.Load(f.ctx, mfa.UserID{Directory: "file", ID: "alice"})
			if err != nil {
				return err
			}
			c, err := b.RemoveFactor(f.ctx, b.client(), b.session(), a.CredentialsOf(mfa.TOTP)[0].ID)
			b.keep(c)
			return err
		},
		"his own setting, changed": func(f *fixture, _ *browser, _ *phone) error {
			_, err := f.admin.SetState(f.ctx, "alice", mfa.PerUserEnforced, time.Now())
			return err
		},
		"forgotten, that one": func(f *fixture, b *browser, _ *phone) error {
			o, err := b.Overview(f.ctx, b.client(), b.state())
			if err != nil || len(o.Browsers) != 1 || !o.Browsers[0].This {
				f.t.Fatalf("%+v, %v", o.Browsers, err)
			}
			return b.ForgetBrowser(f.ctx, b.client(), o.Browsers[0].ID)
		},
		"forgotten, all of them": func(f *fixture, b *browser, _ *phone) error { return b.ForgetBrowser(f.ctx, b.client(), "") },
		"the setting taken out": func(f *fixture, _ *browser, _ *phone) error {
			f.rules.Remember.Browser = 0
			return nil
		},
		"a shorter time": func(f *fixture, _ *browser, _ *phone) error {
			time.Sleep(day)
			f.rules.Remember.Browser = day
			return nil
		},
		"a role": func(f *fixture, _ *browser, _ *phone) error {
			f.people.change("alice", func(u *mfa.User) { u.Roles = []string{"Global Administrator"} })
			return nil
		},
	} {
		t.Run(reason, func(t *testing.T) {
			remembering(t, func(t *testing.T, f *fixture) {
				b, phone := f.remembered("alice")
				node := f.node() // another machine, which has read the account before
				resting := b.anew()
				resting.fixture = &fixture{t: t, ctx: f.ctx, store: f.store, people: f.people, events: f.events, rules: f.rules, Service: node}
				resting.wantAsked("before", false)
				if err := end(f, b, phone); err != nil {
					t.Fatal(err)
				}
				if st := resting.state(); st.Step == Done {
					t.Errorf("a session that rests on it goes on, on another machine: %s", st.Decision.Reason)
				}
				copied := f.browser()
				copied.cookies.Remembered = b.cookies.Remembered
				copied.wantAsked("afterwards", true)
				elsewhere := *copied
				elsewhere.fixture = resting.fixture
				elsewhere.cookies.Session = ""
				elsewhere.wantAsked("afterwards, on another machine", true)
			})
		})
	}
}

func TestForgettingOneBrowserLeavesTheOthers(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		one, phone := f.remembered("alice")
		two := f.browser()
		two.must(two.password("alice", rightPassword))
		two.asks.Remember = true
		two.must(two.verify(mfa.TOTP, phone.code()))
		o, err := one.Overview(f.ctx, one.client(), one.state())
		if err != nil || len(o.Browsers) != 2 {
			t.Fatalf("%+v, %v", o.Browsers, err)
		}
		for _, b := range o.Browsers {
			if !b.This {
				if err := one.ForgetBrowser(f.ctx, one.client(), b.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		two.anew().wantAsked("the one that was forgotten", true)
		one.anew().wantAsked("the other", false)
		half := f.browser()
		half.must(half.password("alice", rightPassword))
		wantErr(t, "by somebody who has proven a password alone", half.ForgetBrowser(f.ctx, half.client(), ""), ErrStep)
	})
}

func TestARememberedBrowserMeetsWhatPoliciesAllow(t *testing.T) {
	everybody := policy.Conditions{Users: policy.Users{All: true}, Applications: []string{policy.All}}
	for reason, tc := range map[string]struct {
		policy policy.Policy
		asked  bool
	}{
		"a second factor": {policy.Policy{Grant: policy.Grant{MFA: true}}, false},
		"a strength":      {policy.Policy{Grant: policy.Grant{Strength: policy.MFAStrength}}, true},
		"every time":      {policy.Policy{Grant: policy.Grant{MFA: true}, Session: policy.SessionControls{SignInFrequency: &policy.SignInFrequency{EveryTime: true}}}, true},
		"no persistence":  {policy.Policy{Grant: policy.Grant{MFA: true}, Session: policy.SessionControls{Persistent: policy.NeverPersistent}}, true},
	} {
		t.Run(reason, func(t *testing.T) {
			remembering(t, func(t *testing.T, f *fixture) {
				b, phone := f.remembered("alice")
				p := tc.policy
				p.Name, p.State, p.Conditions = "policy", policy.Enabled, everybody
				set, err := policy.New(policy.Model{Defaults: policy.SecurityDefaults{Off: true}, Policies: []policy.Policy{p}, Remember: f.rules.Remember})
				if err != nil {
					t.Fatal(err)
				}
				f.Service.Policy, f.Service.Gate.Policy = set, set
				again := b.anew()
				again.wantAsked("with the policy", tc.asked)
				if !tc.asked {
					return
				}
				if o := again.state().Offers(mfa.TOTP); o.Remember != 0 {
					t.Errorf("it is offered: %+v", o)
				}
				again.asks, again.cookies.Remembered = Wishes{Remember: true}, ""
				again.must(again.verify(mfa.TOTP, phone.code()))
				if again.cookies.Remembered != "" {
					t.Error("a box that is not there was ticked, and counts")
				}
			})
		})
	}
}

// Whoever has read his session before everything was ended is too late.
func TestABrowserThatIsBeingRememberedIsForgottenToo(t *testing.T) {
	for range 25 {
		f := newFixture(t)
		f.rules.Remember = policy.Remembering{Browser: 30 * day}
		f.Service = f.node()
		var b *browser
		var code string
		synctest.Test(t, func(t *testing.T) {
			f.t = t
			phone := f.browser().register("alice")
			b = f.browser()
			b.must(b.password("alice", rightPassword))
			b.asks.Remember = true
			code = phone.code()
			form := b.session()
			var wg sync.WaitGroup
			wg.Go(func() {
				// What it comes to depends on which is faster.
				if _, c, err := b.Verify(context.Background(), b.client(), form, mfa.TOTP, code); err == nil {
					b.keep(c)
				}
			})
			wg.Go(func() {
				if err := f.admin.SignOut(context.Background(), "alice", time.Now()); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			again := f.browser()
			again.cookies.Remembered = b.cookies.Remembered
			again.wantAsked("afterwards", true)
		})
	}
}

func TestARememberedBrowserSignsInManyTimesAtOnce(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		b, _ := f.remembered("alice")
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				again := b.anew()
				if st, c, err := again.Password(f.ctx, again.client(), "alice", rightPassword); err != nil || st.Step != Done || c.Session == "" {
					t.Errorf("step %d, %v", st.Step, err)
				}
			})
		}
		wg.Wait()
		a, err := f.Accounts.Load(f.ctx, mfa.UserID{Directory: "file", ID: "alice"})
		if err != nil || len(a.Browsers) != 1 || a.Browsers[0].LastUsed.IsZero() {
			t.Errorf("%+v, %v", a.Browsers, err)
		}
	})
}

func TestOneBrowserIsRememberedForSeveralPeople(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		b, _ := f.remembered("alice")
		bobs := f.browser().register("bob")
		b.cookies.Session = ""
		b.must(b.password("bob", rightPassword))
		b.asks.Remember = true
		b.must(b.verify(mfa.TOTP, bobs.code()))
		b.asks = Wishes{}
		b.anew().wantAsked("alice", false)
		again := b.anew()
		if st := again.must(again.password("bob", rightPassword)); st.Step != Done {
			t.Errorf("bob: step %d", st.Step)
		}
	})
}

func TestRememberingAgainReplacesTheOldOne(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		b, phone := f.remembered("alice")
		old := b.cookies.Remembered
		time.Sleep(29 * day)
		f.people.change("alice", func(u *mfa.User) { u.Roles = []string{"Auditor"} })
		b.cookies.Session = ""
		b.wantAsked("an administrator for a day", true)
		f.people.change("alice", func(u *mfa.User) { u.Roles = nil })
		again := f.browser()
		again.must(again.password("alice", rightPassword))
		again.cookies.Remembered, again.asks.Remember = old, true
		again.must(again.verify(mfa.TOTP, phone.code()))
		thief := f.browser()
		thief.cookies.Remembered = old
		thief.wantAsked("a copy from before", true)
		a, err := f.Accounts.Load(f.ctx, mfa.UserID{Directory: "file", ID: "alice"})
		if err != nil || len(a.Browsers) != 1 {
			t.Errorf("%d are remembered, %v", len(a.Browsers), err)
		}
	})
}

func TestOnlySoManyBrowsersAreRemembered(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		first, phone := f.remembered("alice")
		for range account.MaxBrowsers - 1 {
			b := f.browser()
			b.must(b.password("alice", rightPassword))
			b.asks.Remember = true
			b.must(b.verify(mfa.TOTP, phone.code()))
		}
		first.anew().wantAsked("as many as there can be", false) // and the one that was used last
		for range 3 {
			b := f.browser()
			b.must(b.password("alice", rightPassword))
			b.asks.Remember = true
			b.must(b.verify(mfa.TOTP, phone.code()))
		}
		first.anew().wantAsked("used lately", false)
		a, err := f.Accounts.Load(f.ctx, mfa.UserID{Directory: "file", ID: "alice"})
		if err != nil || len(a.Browsers) != account.MaxBrowsers {
			t.Errorf("%d are remembered, %v", len(a.Browsers), err)
		}
	})
}

func TestWhoStaysSignedIn(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		phone := f.browser().register("alice")
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.asks.Stay = true
		st, c, err := b.Verify(f.ctx, b.client(), b.session(), mfa.TOTP, phone.code())
		b.keep(c)
		if err != nil || st.Step != Done || c.Persist != 60*day || c.Remembered != "" {
			t.Fatalf("step %d, kept for %v, %v", st.Step, c.Persist, err)
		}
		time.Sleep(40 * day)
		b.want(Done)
		f.people.change("alice", func(u *mfa.User) { u.Roles = []string{"Auditor"} })
		b.want(Password)
		f.people.change("alice", func(u *mfa.User) { u.Roles = nil })
		b.want(Done)
		f.rules.Remember.Session = 0
		b.want(Password)
		f.rules.Remember.Session = 60 * day
		if err := b.SignOutEverywhere(f.ctx, b.client()); err != nil {
			t.Fatal(err)
		}
		b.want(Password)
	})
}

func TestWhoSignsInWithoutASecondPageIsAskedToStay(t *testing.T) {
	remembering(t, func(t *testing.T, f *fixture) {
		b, _ := f.remembered("alice")
		again := b.anew()
		again.wantAsked("remembered", false)
		asks := func(b *browser) bool { return b.AsksToStay(b.client(), b.state()) }
		if !asks(again) {
			t.Fatal("he is not asked")
		}
		_, _, err := again.Stay(f.ctx, again.client(), "another session")
		wantErr(t, "a page of another session", err, ErrStep)
		st, c, err := again.Stay(f.ctx, again.client(), again.session())
		again.keep(c)
		if err != nil || st.Current.Session.Stay != 0 || c.Session != "" {
			t.Fatalf("without the box he stays for %v, %v", st.Current.Session.Stay, err)
		}
		if asks(again) {
			t.Error("he is asked again")
		}
		later := again.anew()
		later.wantAsked("later", false)
		if asks(later) {
			t.Error("he is asked again at the next sign-in")
		}
		other := b.anew() // has not answered
		other.wantAsked("elsewhere", false)
		time.Sleep(Fresh + time.Second)
		if asks(other) {
			t.Error("he is asked long after his sign-in")
		}
		other.asks.Stay = true
		_, _, err = other.Stay(f.ctx, other.client(), other.session())
		wantErr(t, "long after his sign-in", err, ErrStep)
		other = b.anew()
		other.wantAsked("once more", false)
		other.asks.Stay = true
		st, c, err = other.Stay(f.ctx, other.client(), other.session())
		other.keep(c)
		if err != nil || st.Current.Session.Stay != 60*day || c.Persist <= 59*day {
			t.Fatalf("stays for %v, kept for %v, %v", st.Current.Session.Stay, c.Persist, err)
		}
		f.people.change("alice", func(u *mfa.User) { u.Roles = []string{"Auditor"} })
		admin := f.browser()
		admin.must(admin.password("alice", rightPassword))
		if asks(admin) {
			t.Error("an administrator is asked")
		}
	})
}

func TestTheLastChoiceComesFirst(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		phone := f.browser().register("alice")
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.must(b.verify(mfa.TOTP, phone.code()))
		st := b.state()
		both := []mfa.Method{mfa.Passkey, mfa.TOTP, mfa.RecoveryCode}
		if got := b.First(b.client(), st, both); got != mfa.TOTP {
			t.Errorf("the browser in which he has chosen the app: %s", got)
		}
		if got := b.First(b.client(), st, []mfa.Method{mfa.Passkey, mfa.RecoveryCode}); got != mfa.Passkey {
			t.Errorf("the app is not allowed, and yet: %s", got)
		}
		if got := b.First(b.client(), st, []mfa.Method{mfa.TemporaryAccessPass, mfa.TOTP}); got != mfa.TemporaryAccessPass {
			t.Errorf("a pass was made for him: %s", got)
		}
		other := f.browser()
		if got := other.First(other.client(), st, both); got != mfa.Passkey {
			t.Errorf("another browser: %s", got)
		}
		again := b.anew()
		again.must(again.password("alice", rightPassword))
		again.must(again.verify(mfa.RecoveryCode, phone.codes[0]))
		if got := again.First(again.client(), st, both); got == mfa.RecoveryCode {
			t.Error("a recovery code comes first")
		}
	})
}

func FuzzOpenRemembered(f *testing.F) {
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{3}, 32))
	if err != nil {
		f.Fatal(err)
	}
	b := NewBrowsers(keys)
	own, err := b.sealRemembered("", "hr.example.com", remembered{mfa.UserID{Directory: "file", ID: "alice"}, "0123456789abcdef", bytes.Repeat([]byte{1}, mfa.TokenSize)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own, "hr.example.com")
	f.Add(own, "wiki.example.com")
	f.Add(own[:len(own)-2], "hr.example.com")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, cookie, host string) {
		if people := b.openRemembered(cookie, host); people != nil && (cookie != own || host != "hr.example.com") {
			t.Fatalf("%q opens on %q: %+v", cookie, host, people)
		}
	})
}
