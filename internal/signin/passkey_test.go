package signin

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// keys is a factor that asks something else each time, and is right when it is told what it asked. Package webauthn has tests of its
// own; here it is about what is made of its judgements.
type keys struct {
	asked  atomic.Int64
	judged atomic.Int64
	model  string // of what is registered next
	listed int    // credentials of the last question
}

func (*keys) Method() mfa.Method { return mfa.Passkey }

func (*keys) RP(host string) string {
	if host == "203.0.113.1" {
		return ""
	}
	return host
}

func (k *keys) ask(site mfa.Site, now time.Time) (mfa.Challenge, error) {
	question := fmt.Sprintf("%s %d", site.Host, k.asked.Add(1))
	return mfa.Challenge{Method: mfa.Passkey, State: []byte(question), Options: []byte(question), Expires: now.Add(5 * time.Minute)}, nil
}

func (k *keys) BeginRegistration(_ *mfa.User, site mfa.Site, _ []mfa.Credential, now time.Time) (mfa.Challenge, error) {
	return k.ask(site, now)
}

func (k *keys) FinishRegistration(state []byte, has []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	k.judged.Add(1)
	if answer != string(state) {
		return mfa.Credential{}, mfa.ErrWrong
	}
	return mfa.Credential{Method: mfa.Passkey, Added: now, RP: "hr.example.com", Model: k.model, Data: state}, nil
}

func (*keys) Finish([]mfa.Credential, string, time.Time) (mfa.Credential, error) {
	return mfa.Credential{}, mfa.ErrWrong
}

func (k *keys) BeginVerification(_ *mfa.User, site mfa.Site, credentials []mfa.Credential, now time.Time) (mfa.Challenge, error) {
	k.listed = len(credentials)
	return k.ask(site, now)
}

func (k *keys) FinishVerification(state []byte, credentials []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	k.judged.Add(1)
	switch answer {
	case string(state):
		c := credentials[0]
		c.LastUsed = now
		return c, nil
	case "copy":
		return mfa.Credential{}, fmt.Errorf("%w: said the test", mfa.ErrCloned)
	}
	return mfa.Credential{}, mfa.ErrWrong
}

// What the fake answers to an invitation is "publicID owner question"; a passkey's public id is the question that it was registered with.

func (k *keys) BeginDiscovery(site mfa.Site, now time.Time) (mfa.Challenge, error) {
	return k.ask(site, now)
}

func (*keys) Discovered(answer string) string { id, _, _ := strings.Cut(answer, "|"); return id }

func (k *keys) FinishDiscovery(state []byte, credentials []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	k.judged.Add(1)
	id, question, _ := strings.Cut(answer, "|")
	for _, c := range credentials {
		if string(c.Data) != id || c.RP != "hr.example.com" {
			continue
		}
		if question == "copy" {
			return mfa.Credential{}, fmt.Errorf("%w: said the test", mfa.ErrCloned)
		}
		if question == string(state) {
			c.LastUsed = now
			return c, nil
		}
	}
	return mfa.Credential{}, mfa.ErrWrong
}

func (*keys) PublicID(c mfa.Credential) string { return string(c.Data) }

func (*keys) Maker(mfa.Credential) string { return "" }

func (*keys) Accepted(credentials []mfa.Credential, rp string) (a mfa.Accepted) {
	for _, c := range credentials {
		if c.Method == mfa.Passkey && c.RP == rp {
			a.RP, a.User, a.IDs = rp, "handle", append(a.IDs, string(c.Data))
		}
	}
	return a
}

// inWithKeys is in, with passkeys.
func inWithKeys(t *testing.T, test func(*testing.T, *fixture, *keys)) {
	in(t, func(t *testing.T, f *fixture) {
		k := &keys{}
		f.rules.Registrable = []mfa.Method{mfa.Passkey, mfa.TOTP}
		f.Gate.Passkeys = k
		f.Registrars = append([]mfa.Registrar{k}, f.Registrars...)
		f.Factors[mfa.Passkey] = k
		test(t, f, k)
	})
}

// registerKey registers a passkey as the next factor.
func (b *browser) registerKey() (State, []string) {
	b.t.Helper()
	c, err := b.BeginRegistration(b.ctx, b.client(), b.session(), mfa.Passkey)
	b.keep(c)
	if err != nil {
		b.t.Fatal(err)
	}
	_, challenge, err := b.Registration(b.ctx, b.client())
	if err != nil {
		b.t.Fatal(err)
	}
	st, codes, err := b.finish(string(challenge.Options))
	if err != nil {
		b.t.Fatal(err)
	}
	return st, codes
}

func (b *browser) ask() string {
	b.t.Helper()
	_, challenge, err := b.BeginVerification(b.ctx, b.client(), b.session(), mfa.Passkey)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(challenge.Options)
}

func TestAPasskeyIsRegisteredAndAskedForFirst(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		f.Describe = func(string, string) (string, string) { return "Firefox 140", "Linux" }
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if ways := f.Registrable(b.client(), b.state()); !slices.Equal(ways, []mfa.Method{mfa.Passkey, mfa.TOTP}) {
			t.Fatal(ways)
		}
		st, codes := b.registerKey()
		if st.Step != Done || len(codes) != 10 || !st.Account.Registered() {
			t.Fatalf("step %d, %d codes", st.Step, len(codes))
		}
		if c := st.Account.CredentialsOf(mfa.Passkey)[0]; c.Name != "Firefox 140, Linux" || c.RP != "hr.example.com" {
			t.Fatalf("%+v", c)
		}

		again := f.browser()
		st = again.must(again.password("alice", rightPassword))
		if ways := st.Ways(time.Now()); st.Step != Verify || !slices.Equal(ways, []mfa.Method{mfa.Passkey, mfa.RecoveryCode}) {
			t.Fatalf("step %d, %v", st.Step, ways)
		}
		if st := again.must(again.verify(mfa.Passkey, again.ask())); st.Step != Done || !st.Current.Proofs.Has(mfa.Passkey) {
			t.Fatalf("step %d", st.Step)
		}
		time.Sleep(time.Minute)
		again.must(again.verify(mfa.Passkey, again.ask()))
		again.registerApp()
		third := f.browser()
		st = third.must(third.password("alice", rightPassword))
		if ways := st.Ways(time.Now()); !slices.Equal(ways, []mfa.Method{mfa.Passkey, mfa.TOTP, mfa.RecoveryCode}) {
			t.Fatal(ways)
		}
	})
}

// TestARegistrationIsNoChoice: what somebody has registered last is not asked for before what is stronger; what he used last is.
func TestARegistrationIsNoChoice(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		all := []mfa.Method{mfa.Passkey, mfa.TOTP, mfa.RecoveryCode}
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.registerKey()
		time.Sleep(time.Minute)
		b.must(b.verify(mfa.Passkey, b.ask()))
		phone := b.registerApp()
		if got := b.First(b.client(), b.state(), all); got != mfa.Passkey {
			t.Errorf("the app was registered last, and now comes first: %s", got)
		}
		time.Sleep(time.Minute)
		again := b.anew()
		again.must(again.password("alice", rightPassword))
		again.must(again.verify(mfa.TOTP, phone.code()))
		if got := again.First(again.client(), again.state(), all); got != mfa.TOTP {
			t.Errorf("the app was used last, and comes first: %s", got)
		}
	})
}

func TestAPasskeyIsOnlyForItsHost(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.registerKey()
		for _, host := range []string{"wiki.example.com", "203.0.113.1"} {
			c := Client{Host: host, Client: mfa.Client{App: mfa.Browser, Address: netip.MustParseAddr("203.0.113.9")}, Now: time.Now()}
			st, cookies, err := f.Password(f.ctx, c, "alice", rightPassword)
			c.Session = cookies.Session
			if err != nil || st.Step != Verify || !slices.Equal(st.Ways(time.Now()), []mfa.Method{mfa.RecoveryCode}) {
				t.Fatalf("%s: step %d, %v, %v", host, st.Step, st.Ways(time.Now()), err)
			}
			_, _, err = f.BeginVerification(f.ctx, c, st.Current.Session.ID, mfa.Passkey)
			wantErr(t, host, err, ErrStep)
		}
		if got := f.Registrable(Client{Host: "203.0.113.1"}, State{}); !slices.Equal(got, []mfa.Method{mfa.TOTP}) {
			t.Fatal(got)
		}
	})
}

func TestAQuestionIsAnsweredOnce(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, k *keys) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.registerKey()

		again := f.browser()
		again.must(again.password("alice", rightPassword))
		_, err := again.verify(mfa.Passkey, "hr.example.com 1")
		wantErr(t, "nothing was asked", err, ErrStep)

		old := again.ask()
		newer := again.ask()
		_, err = again.verify(mfa.Passkey, old)
		wantErr(t, "the answer to an older question", err, ErrWrong)
		_, err = again.verify(mfa.Passkey, newer)
		wantErr(t, "a question that was answered wrongly", err, ErrStep)

		question := again.ask()
		time.Sleep(5 * time.Minute)
		_, err = again.verify(mfa.Passkey, question)
		wantErr(t, "too late", err, ErrStep)

		question = again.ask()
		other := f.browser()
		other.must(other.password("alice", rightPassword))
		_, err = other.verify(mfa.Passkey, question)
		wantErr(t, "the question of another session", err, ErrStep)
		again.must(again.verify(mfa.Passkey, question))
		_, err = again.verify(mfa.Passkey, question)
		wantErr(t, "a question that was answered rightly", err, ErrStep)
		_, _, err = again.BeginVerification(again.ctx, again.client(), again.session(), mfa.TOTP)
		wantErr(t, "an app asks nothing", err, ErrStep)
		if n := k.judged.Load(); n != 3 { // one registration, one wrong, one right
			t.Fatalf("%d were judged", n)
		}
	})
}

func TestOfAnswersAtOnceOneIsJudged(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, k *keys) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.registerKey()
		again := f.browser()
		again.must(again.password("alice", rightPassword))
		node := f.node()
		node.Gate.Passkeys, node.Factors[mfa.Passkey] = k, k
		nodes := []*Service{f.Service, node}
		question, client, id := again.ask(), again.client(), again.session()
		before := k.judged.Load()
		var won atomic.Int64
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				switch _, _, err := nodes[i%2].Verify(f.ctx, client, id, mfa.Passkey, question); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrStep):
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || k.judged.Load() != before+1 {
			t.Fatalf("%d got in, %d were judged", won.Load(), k.judged.Load()-before)
		}
	})
}

func TestWrongAnswersAreCountedLikeCodes(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.registerKey()
		thief := f.browser()
		thief.must(thief.password("alice", rightPassword))
		thief.ask()
		_, err := thief.verify(mfa.Passkey, "copy")
		wantErr(t, "a copy", err, ErrCloned)
		if !slices.ContainsFunc(f.events.events, func(e audit.Event) bool {
			return e.Type == audit.FactorRefused && e.Method == mfa.Passkey && e.Reason == "cloned"
		}) {
			t.Fatal("nobody is told of the copy")
		}
		var wait *throttle.WaitError
		for range throttle.CodeLimit + 1 {
			thief.ask()
			if _, err = thief.verify(mfa.Passkey, "wrong"); errors.As(err, &wait) {
				break
			}
		}
		wantWait(t, "one more", err)
	})
}

func TestARegistrationOfAPasskeyIsJudgedOnce(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if _, err := b.BeginRegistration(b.ctx, b.client(), b.session(), mfa.Passkey); err != nil {
			t.Fatal(err)
		}
		_, challenge, err := b.Registration(b.ctx, b.client())
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = b.finish("wrong")
		wantErr(t, "a wrong answer", err, ErrWrong)
		_, _, err = b.finish(string(challenge.Options))
		wantErr(t, "the right one after it", err, ErrStep)
		if b.state().Account.Registered() {
			t.Fatal("it counts")
		}
		_, err = b.BeginRegistration(b.ctx, b.client(), b.session(), mfa.RecoveryCode)
		wantErr(t, "what nobody registers", err, ErrStep)
	})
}

func TestReplacingWithAPasskeyRemovesWhatWasLost(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		b := f.browser()
		lost := b.register("alice")
		b.must(b.verify(mfa.TOTP, lost.code()))
		b.registerKey()

		owner := f.browser()
		owner.must(owner.password("alice", rightPassword))
		if st := owner.must(owner.verify(mfa.RecoveryCode, lost.codes[0])); st.Step != Register {
			t.Fatalf("step %d", st.Step)
		}
		st, codes := owner.registerKey()
		if len(codes) != 10 || len(st.Account.CredentialsOf(mfa.TOTP)) != 0 || len(st.Account.CredentialsOf(mfa.Passkey)) != 1 {
			t.Fatalf("%d codes, %+v", len(codes), st.Account.Credentials)
		}
		if n := f.events.count(audit.FactorRemoved); n != 3 { // app, passkey, codes
			t.Fatalf("%d are removed", n)
		}
	})
}

func TestLimitOfPasskeysAndRemoval(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.registerKey()
		a, err := f.Accounts.Update(f.ctx, b.state().User.ID, time.Now(), func(a *account.Account) error {
			for i := range MaxPasskeys - 1 {
				a.Put(mfa.Credential{ID: fmt.Sprint("key", i), Method: mfa.Passkey, RP: "hr.example.com", Data: []byte("{}")})
			}
			return nil
		})
		if err != nil || len(a.CredentialsOf(mfa.Passkey)) != MaxPasskeys {
			t.Fatal(err)
		}
		b.must(b.verify(mfa.Passkey, b.ask()))
		_, err = b.BeginRegistration(b.ctx, b.client(), b.session(), mfa.Passkey)
		wantErr(t, "one more", err, ErrTooMany)
		c, err := b.RemoveFactor(b.ctx, b.client(), b.session(), "key0")
		b.keep(c)
		if err != nil || len(b.state().Account.CredentialsOf(mfa.Passkey)) != MaxPasskeys-1 {
			t.Fatal(err)
		}
	})
}

// The step-up of somebody who has an app to an application that takes passkeys alone.
func TestWhoHasAnAppIsSteppedUpToAPasskey(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, k *keys) {
		b := f.browser()
		phone := b.register("alice")
		rules, err := policy.New(policy.Model{
			Defaults: policy.SecurityDefaults{Off: true}, Registrable: []mfa.Method{mfa.Passkey, mfa.TOTP},
			Policies: []policy.Policy{{
				Name: "strict", State: policy.Enabled, Grant: policy.Grant{Strength: policy.PhishingResistantStrength},
				Conditions: policy.Conditions{Users: policy.Users{All: true}, Applications: []string{"hr"}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		f.Policy, f.Gate.Policy = rules, rules

		b = f.browser()
		st := b.must(b.password("alice", rightPassword))
		if st.Step != Verify || slices.Contains(st.Ways(time.Now()), mfa.Passkey) {
			t.Fatalf("step %d, %v", st.Step, st.Ways(time.Now()))
		}
		st = b.must(b.verify(mfa.TOTP, phone.code()))
		if st.Step != Register || !slices.Equal(f.Registrable(b.client(), st), []mfa.Method{mfa.Passkey}) {
			t.Fatalf("step %d (%s), %v", st.Step, st.Decision.Reason, f.Registrable(b.client(), st))
		}
		_, err = b.BeginRegistration(b.ctx, b.client(), b.session(), mfa.TOTP)
		wantErr(t, "another app, which would not do", err, ErrStep)
		// Without a proof that is fresh, nobody adds a factor.
		time.Sleep(Fresh + time.Second)
		_, err = b.BeginRegistration(b.ctx, b.client(), b.session(), mfa.Passkey)
		wantErr(t, "with a code of long ago", err, ErrNotFresh)
		b.must(b.verify(mfa.TOTP, phone.code()))
		if st, codes := b.registerKey(); st.Step != Done || len(codes) != 0 {
			t.Fatalf("step %d (%s), %d codes", st.Step, st.Decision.Reason, len(codes))
		}

		b = f.browser()
		st = b.must(b.password("alice", rightPassword))
		if ways := st.Ways(time.Now()); st.Step != Verify || !slices.Equal(ways, []mfa.Method{mfa.Passkey}) {
			t.Fatalf("step %d, %v", st.Step, ways)
		}
		if st := b.must(b.verify(mfa.Passkey, b.ask())); st.Step != Done {
			t.Fatalf("step %d", st.Step)
		}

		// It stays while nothing else would do, and goes when there is another.
		f.Applications = []string{"hr", "mail"}
		key := b.state().Account.CredentialsOf(mfa.Passkey)[0].ID
		remove := func(id string) error {
			c, err := f.RemoveFactor(f.ctx, b.client(), b.session(), id)
			b.keep(c)
			return err
		}
		o, err := f.Overview(f.ctx, b.client(), b.state())
		if err != nil || len(o.Factors) != 2 || len(o.Needed) != 1 || o.Needed[key] != "hr" {
			t.Fatalf("%v: %v", o.Needed, err)
		}
		wantErr(t, "removing what hr asks for", remove(key), ErrNeeded)
		b.must(b.verify(mfa.Passkey, b.ask()))
		b.registerKey()
		b.must(b.verify(mfa.Passkey, b.ask()))
		if o, err = f.Overview(f.ctx, b.client(), b.state()); err != nil || len(o.Needed) != 0 {
			t.Fatalf("%v: %v", o.Needed, err)
		}
		if err := remove(key); err != nil {
			t.Fatal(err)
		}
	})
}
