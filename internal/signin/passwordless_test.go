package signin

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// invited opens a sign-in page.
func (b *browser) invited() Invitation {
	b.t.Helper()
	i, err := b.Invite(b.client(), State{})
	if err != nil || i.Token == "" {
		b.t.Fatalf("%+v %v", i, err)
	}
	b.binding = i.Browser
	return i
}

// passkey answers an invitation with a passkey.
func (b *browser) passkey(i Invitation, publicID string) (State, string, error) {
	st, c, unknown, err := b.Passkey(b.ctx, b.client(), i.Token, publicID+"|"+i.Options)
	b.keep(c)
	return st, unknown, err
}

func keyring(t testing.TB) *seal.Keyring {
	t.Helper()
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{3}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// strict has policies decide.
func (f *fixture) strict(t *testing.T, policies ...policy.Policy) {
	t.Helper()
	rules, err := policy.New(policy.Model{
		Defaults: policy.SecurityDefaults{Off: true}, Registrable: []mfa.Method{mfa.Passkey, mfa.TOTP}, Policies: policies,
		Strengths: []policy.Strength{{Name: "codes", Combinations: []string{"password,softwareOath"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Policy, f.Gate.Policy = rules, rules
}

// withPasskey registers one and gives its public id.
func (f *fixture) withPasskey(user string) (publicID string) {
	f.t.Helper()
	f.people.mu.Lock()
	f.people.users[user] = &mfa.User{ID: mfa.UserID{Directory: "file", ID: user}, Name: user, Canonical: user, Mark: "m"}
	f.people.mu.Unlock()
	b := f.browser()
	b.must(b.password(user, rightPassword))
	b.registerKey()
	a, err := f.Accounts.Load(f.ctx, b.state().User.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(a.CredentialsOf(mfa.Passkey)[0].Data)
}

func TestSignInWithAPasskeyAlone(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		id := f.withPasskey("alice")
		b := f.browser()
		st, unknown, err := b.passkey(b.invited(), id)
		if err != nil || unknown != "" || st.Step != Done || st.User.Canonical != "alice" || st.Current.Session.Pending || st.Current.Proofs.Has(mfa.Password) || !st.Current.Proofs.Has(mfa.Passkey) {
			t.Fatalf("step %d, %+v, %q, %v", st.Step, st.Current.Proofs, unknown, err)
		}
		if b.cookies.Browser == "" {
			t.Error("the browser is not known now")
		}
		if !st.HasFresh(time.Now()) {
			t.Error("it pays for no change of factors")
		}
		if !slices.ContainsFunc(f.events.events, func(e audit.Event) bool {
			return e.Type == audit.FactorAccepted && e.Reason == "passwordless" && e.User == "alice" && e.Session == st.Current.Session.ID
		}) {
			t.Error("the log does not tell of it")
		}
		// The same session goes on: a proof is renewed, and no second one begins.
		before := st.Current.Session.ID
		time.Sleep(time.Minute)
		if st, _, err := b.passkey(b.invited(), id); err != nil || st.Current.Session.ID != before {
			t.Fatalf("%v %v", st.Current.Session, err)
		}
		// Another person's ends it.
		other := f.withPasskey("bob")
		if st, _, err := b.passkey(b.invited(), other); err != nil || st.User.Canonical != "bob" {
			t.Fatal(err)
		}
		if _, err := f.Sessions.Load(f.ctx, b.cookies.Session, "hr.example.com", time.Now()); err != nil {
			t.Fatal(err)
		}
		if left, err := f.Sessions.List(f.ctx, st.User.ID, time.Now()); err != nil || slices.ContainsFunc(left, func(s *mfa.Session) bool { return s.ID == before }) {
			t.Fatalf("alice's goes on: %v", err)
		}
	})
}

func TestAnInvitationIsForOneBrowserOnceAndNotLong(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, k *keys) {
		id := f.withPasskey("alice")
		b := f.browser()
		i := b.invited()
		judged := k.judged.Load()
		wantStep := func(reason string, c Client, token string) {
			t.Helper()
			st, cookies, unknown, err := f.Passkey(f.ctx, c, token, id+"|"+i.Options)
			wantErr(t, reason, err, ErrStep)
			if st.User != nil || cookies != (Cookies{}) || unknown != "" {
				t.Errorf("%s: %+v %+v %q", reason, st, cookies, unknown)
			}
		}
		thief := f.browser()
		thief.invited()
		wantStep("another browser", thief.client(), i.Token)
		bare := b.client()
		bare.Binding = ""
		wantStep("a browser without the cookie", bare, i.Token)
		bare.Binding = "x"
		wantStep("a cookie that is none", bare, i.Token)
		elsewhere := b.client()
		elsewhere.Host = "wiki.example.com"
		wantStep("another host", elsewhere, i.Token)
		wantStep("no invitation", b.client(), "")
		wantStep("half of one", b.client(), i.Token[:len(i.Token)/2])
		wantStep("one byte too many", b.client(), i.Token+"A")
		none := b.client()
		none.Host = "203.0.113.1"
		wantStep("a host without passkeys", none, i.Token)
		if got := k.judged.Load(); got != judged {
			t.Errorf("%d answers were judged", got-judged)
		}

		late := b.client()
		late.Now = late.Now.Add(5 * time.Minute) // as the fake says
		wantStep("too late", late, i.Token)
		if _, _, err := b.passkey(i, id); err != nil {
			t.Fatal(err)
		}
		wantStep("answered before", b.client(), i.Token)
		b.cookies = Cookies{}
		wantStep("answered before, and signed out since", b.client(), i.Token)

		// Two tabs of one browser are each asked for themselves.
		first, second := b.invited(), b.invited()
		if first.Browser != second.Browser || first.Token == second.Token {
			t.Fatal("two tabs are in each other's way")
		}
		if _, _, err := b.passkey(first, id); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.passkey(second, id); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOfAnswersToAnInvitationAtOnceOneCounts(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, k *keys) {
		id := f.withPasskey("alice")
		node := f.node()
		node.Gate.Passkeys, node.Factors[mfa.Passkey], node.Registrars = k, k, f.Registrars
		nodes := []*Service{f.Service, node}
		b := f.browser()
		i := b.invited()
		client := b.client()
		var won atomic.Int64
		var wg sync.WaitGroup
		for n := range 16 {
			wg.Go(func() {
				switch _, _, _, err := nodes[n%2].Passkey(f.ctx, client, i.Token, id+"|"+i.Options); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrStep):
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d got in", won.Load())
		}
	})
}

// Whatever is wrong, strangers get one answer.
func TestAPasskeyThatIsNotAcceptedIsRefusedInOneWay(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		id, bobs, gone := f.withPasskey("alice"), f.withPasskey("bob"), f.withPasskey("alice-two")
		update := func(user string, change func(*account.Account)) {
			t.Helper()
			if _, err := f.Accounts.Update(f.ctx, mfa.UserID{Directory: "file", ID: user}, time.Now(), func(a *account.Account) error { change(a); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		removed := id
		update("alice", func(a *account.Account) { a.Remove(a.CredentialsOf(mfa.Passkey)[0].ID) })
		foreign := f.withPasskey("carol")
		update("carol", func(a *account.Account) {
			c := a.CredentialsOf(mfa.Passkey)[0]
			c.RP = "wiki.example.com"
			a.Put(c)
		})
		disabled, blocked := f.withPasskey("erin"), f.withPasskey("frank")
		f.people.change("erin", func(u *mfa.User) { u.Disabled = true })
		update("frank", func(a *account.Account) { a.State.Blocked = &account.Block{At: time.Now()} })
		f.people.mu.Lock()
		delete(f.people.users, "alice-two")
		f.people.mu.Unlock()

		for reason, tc := range map[string]struct {
			id, answer string
			unknown    bool
			log        string
		}{
			"nobody's":               {"nobody's", "", false, "unknown"},
			"no id at all":           {"", "", false, "unknown"},
			"removed":                {removed, "", true, "wrong"},
			"of another site":        {foreign, "", false, "wrong"},
			"a wrong answer":         {bobs, "wrong", false, "wrong"},
			"a copy":                 {bobs, "copy", false, "cloned"},
			"of a disabled user":     {disabled, "", false, "disabled"},
			"of a blocked user":      {blocked, "", false, "blocked"},
			"of a user who has left": {gone, "", false, "unknown"},
		} {
			b := f.browser()
			i := b.invited()
			answer := i.Options
			if tc.answer != "" {
				answer = tc.answer
			}
			st, cookies, unknown, err := f.Passkey(f.ctx, b.client(), i.Token, tc.id+"|"+answer)
			if !errors.Is(err, ErrPasskey) || err.Error() != ErrPasskey.Error() || st.User != nil || cookies != (Cookies{}) {
				t.Errorf("%s: %v, %+v, %+v", reason, err, st, cookies)
			}
			if (unknown != "") != tc.unknown {
				t.Errorf("%s: the browser is to forget %q", reason, unknown)
			}
			f.events.mu.Lock()
			last := f.events.events[len(f.events.events)-1]
			f.events.mu.Unlock()
			if last.Type != audit.FactorRefused || last.Reason != tc.log {
				t.Errorf("%s: the log says %+v", reason, last)
			}
		}
	})
}

func TestWhoeverTriesPasskeysIsThrottledByAddress(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		id := f.withPasskey("alice")
		owner := f.browser()
		if _, _, err := owner.passkey(owner.invited(), id); err != nil {
			t.Fatal(err)
		}
		thief := f.browser()
		thief.address = netip.MustParseAddr("198.51.100.7")
		i := thief.invited()
		var wait *throttle.WaitError
		n := 0
		for ; n < 1000; n++ {
			if _, _, err := thief.passkey(i, "nobody's"); errors.As(err, &wait) {
				break
			} else if !errors.Is(err, ErrPasskey) {
				t.Fatal(err)
			}
		}
		if n != 100 || wait.Scope != "address" {
			t.Fatalf("after %d: %v", n, wait)
		}
		// The owner is elsewhere, and, in his own browser, also there.
		other := f.browser()
		if _, _, err := other.passkey(other.invited(), id); err != nil {
			t.Fatal(err)
		}
		owner.address = thief.address
		owner.cookies.Session = ""
		if _, _, err := owner.passkey(owner.invited(), id); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAFloodOfPasskeysLeavesPlacesToThoseWhoAreKnown(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		id, other := f.withPasskey("alice"), f.withPasskey("bob")
		owner := f.browser()
		if _, _, err := owner.passkey(owner.invited(), id); err != nil {
			t.Fatal(err)
		}
		f.Strangers = throttle.NewAtOnce(0)
		stranger := f.browser()
		_, _, err := stranger.passkey(stranger.invited(), id)
		wantErr(t, "a stranger", err, directory.ErrBusy)
		_, _, err = owner.passkey(owner.invited(), other)
		wantErr(t, "somebody else's in alice's browser", err, directory.ErrBusy)
		if _, _, err := owner.passkey(owner.invited(), id); err != nil {
			t.Fatal(err)
		}
	})
}

// Who knows the id of a passkey, and can't use it, is counted against it; the answer says nothing of that.
func TestWrongAnswersOfAPasskeyAreCountedWithItsOwner(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, k *keys) {
		id := f.withPasskey("alice")
		for n := range throttle.CodeTries + 3 {
			thief := f.browser()
			thief.address = netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
			i := thief.invited()
			judged := k.judged.Load()
			_, _, _, err := f.Passkey(f.ctx, thief.client(), i.Token, id+"|wrong")
			wantErr(t, "wrong", err, ErrPasskey)
			if got := k.judged.Load() != judged; got != (n < throttle.CodeTries) {
				t.Fatalf("try %d was judged: %v", n+1, got)
			}
		}
		time.Sleep(throttle.CodePause)
		b := f.browser()
		if _, _, err := b.passkey(b.invited(), id); err != nil {
			t.Fatal(err)
		}
	})
}

// counting is a store that counts what is written.
type counting struct {
	store.Store
	commits atomic.Int64
}

func (c *counting) Commit(ctx context.Context, commit store.Commit) ([]store.Version, error) {
	c.commits.Add(1)
	return c.Store.Commit(ctx, commit)
}

func TestPagesThatAreOnlyLookedAtCostNoKey(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		written := &counting{Store: f.store}
		f.Invitations.store, f.Owners.store = written, written
		for range 1000 {
			b := f.browser()
			i := b.invited()
			_, _, _, err := f.Passkey(f.ctx, b.client(), i.Token[:20], "x")
			wantErr(t, "what is no invitation", err, ErrStep)
		}
		if n := written.commits.Load(); n != 0 {
			t.Fatalf("%d commits", n)
		}
	})
}

func TestAPasskeyOfSomebodyElseIsNotRegistered(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		id := f.withPasskey("alice")
		b := f.browser()
		b.must(b.password("bob", rightPassword))
		if _, err := b.BeginRegistration(b.ctx, b.client(), b.session(), mfa.Passkey); err != nil {
			t.Fatal(err)
		}
		_, _, err := b.finish(id + "|anything")
		wantErr(t, "alice's", err, ErrWrong)
		if !errors.Is(err, errOwned) {
			t.Fatal(err)
		}
	})
}

// A passkey of before there was an index finds its owner after it was used once beside the password.
func TestAnOlderPasskeyIsFoundOnceItWasUsed(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		id := f.withPasskey("alice")
		if _, err := f.store.Commit(f.ctx, store.Commit{Partition: ownerPartition(id), Changes: []store.Change{{Key: ownerKey, Op: store.Delete, If: store.Any}}}); err != nil {
			t.Fatal(err)
		}
		b := f.browser()
		_, unknown, err := b.passkey(b.invited(), id)
		wantErr(t, "not in the index", err, ErrPasskey)
		if unknown != "" {
			t.Fatal("the browser is told to forget a passkey that is good")
		}
		b.must(b.password("alice", rightPassword))
		b.must(b.verify(mfa.Passkey, b.ask()))
		again := f.browser()
		if _, _, err := again.passkey(again.invited(), id); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAnotherAccountStoreMakesNobodyForgetHisPasskeys(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		id := f.withPasskey("alice")
		f.kept.text = "another\n"
		f.Generation = account.NewGeneration(f.store, f.kept, keyring(t))
		b := f.browser()
		_, unknown, err := b.passkey(b.invited(), id)
		if !errors.Is(err, account.ErrReplaced) || unknown != "" {
			t.Fatalf("%q %v", unknown, err)
		}
	})
}

func TestAPasskeyWhereThePasswordIsAskedForAgain(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		id := f.withPasskey("alice")
		f.strict(t, policy.Policy{
			Name: "young", State: policy.Enabled, Conditions: policy.Conditions{Users: policy.Users{All: true}, Applications: []string{policy.All}},
			Session: policy.SessionControls{SignInFrequency: &policy.SignInFrequency{Every: time.Hour}},
		})
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		time.Sleep(59 * time.Minute)
		f.Sessions.Touch(b.state().Current, "hr", time.Now())
		synctest.Wait()
		time.Sleep(2 * time.Minute)
		st := b.state()
		if st.Step != Password || st.User == nil {
			t.Fatalf("step %d", st.Step)
		}
		before := st.Current.Session.ID
		i, err := b.Invite(b.client(), st)
		if err != nil || i.Token == "" {
			t.Fatal("no passkey is asked for")
		}
		b.binding = i.Browser
		if st, _, err := b.passkey(i, id); err != nil || st.Step != Done || st.Current.Session.ID != before {
			t.Fatalf("step %d, %v", st.Step, err)
		}
	})
}

func TestWherePolicyNamesThePasswordAPasskeyIsNotInvited(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		id := f.withPasskey("alice")
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.must(b.verify(mfa.Passkey, b.ask()))
		phone := b.registerApp()
		f.strict(t, policy.Policy{
			Name: "codes", State: policy.Enabled, Grant: policy.Grant{Strength: "codes"},
			Conditions: policy.Conditions{Users: policy.Users{All: true}, Applications: []string{policy.All}},
		})
		again := f.browser()
		st, _, err := again.passkey(again.invited(), id)
		if err != nil || st.Step != Verify || !slices.Equal(st.Ways(time.Now()), []mfa.Method{mfa.TOTP}) {
			t.Fatalf("step %d, %v, %v", st.Step, st.Ways(time.Now()), err)
		}
		if st = again.must(again.verify(mfa.TOTP, phone.code())); st.Step != Password {
			t.Fatalf("step %d (%s)", st.Step, st.Decision.Reason)
		}
		if i, err := again.Invite(again.client(), st); err != nil || i.Token != "" {
			t.Fatalf("%+v %v", i, err)
		}
		if st = again.must(again.password("alice", rightPassword)); st.Step != Done {
			t.Fatalf("step %d (%s)", st.Step, st.Decision.Reason)
		}
	})
}

func TestNamesOfFactors(t *testing.T) {
	for in, want := range map[string]string{
		"  Work   laptop\n": "Work laptop", "": "", "\u202eevil": "evil", "a\x00b\tc": "a b c", "\xff": "",
		string(make([]rune, 70)): "", "é": "é", "0123456789012345678901234567890123456789012345678901234567890123456789": "0123456789012345678901234567890123456789012345678901234567890123",
	} {
		if got := nameOf(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.registerKey()
		id := b.state().Account.CredentialsOf(mfa.Passkey)[0].ID
		name := func() string {
			a, err := f.Accounts.Load(f.ctx, b.state().User.ID)
			if err != nil {
				t.Fatal(err)
			}
			c, _ := a.Credential(id)
			return c.Name
		}
		other := f.browser()
		other.must(other.password("alice", rightPassword))
		wantErr(t, "with the password alone", f.RenameFactor(f.ctx, other.client(), other.session(), id, "mine now"), ErrStep)
		wantErr(t, "on the page of another session", f.RenameFactor(f.ctx, b.client(), other.session(), id, "mine now"), ErrStep)
		for _, given := range []string{"Work laptop", "", "\n"} {
			if err := f.RenameFactor(f.ctx, b.client(), b.session(), id, given); err != nil || name() != "Work laptop" {
				t.Fatalf("%q: it is called %q, %v", given, name(), err)
			}
		}
		if err := f.RenameFactor(f.ctx, b.client(), b.session(), string(mfa.RecoveryCode), "codes"); err != nil {
			t.Fatal(err)
		}
		if n := f.events.count(audit.FactorRenamed); n != 1 {
			t.Fatalf("%d events", n)
		}
		if _, err := f.Sessions.Load(f.ctx, other.cookies.Session, "hr.example.com", time.Now()); errors.Is(err, session.ErrEnded) {
			t.Fatal("a name has ended other sessions")
		}
	})
}

func TestAPasskeyIsOfferedToWhoCouldRegisterOneAtOnce(t *testing.T) {
	inWithKeys(t, func(t *testing.T, f *fixture, _ *keys) {
		b := f.browser()
		b.must(b.password("bob", rightPassword))
		if f.Offers(b.client(), b.state()) {
			t.Fatal("to somebody without a factor, who is asked to register anyway")
		}
		phone := b.registerApp()
		b = f.browser()
		b.must(b.password("bob", rightPassword))
		if f.Offers(b.client(), b.state()) {
			t.Fatal("in the middle")
		}
		b.must(b.verify(mfa.TOTP, phone.code()))
		if !f.Offers(b.client(), b.state()) {
			t.Fatal("it is not offered after the sign-in")
		}
		elsewhere := b.client()
		elsewhere.Host = "203.0.113.1"
		if f.Offers(elsewhere, b.state()) {
			t.Fatal("on a host without passkeys")
		}
		time.Sleep(Fresh + time.Second)
		if f.Offers(b.client(), b.state()) {
			t.Fatal("when he would have to prove himself again")
		}
		time.Sleep(time.Minute)
		b.must(b.verify(mfa.TOTP, phone.code()))
		b.registerKey()
		if f.Offers(b.client(), b.state()) {
			t.Fatal("to somebody who has one")
		}
	})
}

func TestAKeyOfAModelThatPolicyNames(t *testing.T) {
	const model = "cb69481e-8ff7-4039-93ec-0a2729a154a8"
	inWithKeys(t, func(t *testing.T, f *fixture, k *keys) {
		id := f.withPasskey("alice")
		rules, err := policy.New(policy.Model{
			Defaults: policy.SecurityDefaults{Off: true}, Registrable: []mfa.Method{mfa.Passkey, mfa.TOTP},
			Strengths: []policy.Strength{{Name: "keys", Combinations: []string{"fido2"}, AAGUIDs: []string{model}}},
			Policies: []policy.Policy{{
				Name: "keys", State: policy.Enabled, Grant: policy.Grant{Strength: "keys"},
				Conditions: policy.Conditions{Users: policy.Users{All: true}, Applications: []string{"hr"}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		f.Policy, f.Gate.Policy = rules, rules
		b := f.browser()
		st, _, err := b.passkey(b.invited(), id)
		if err != nil || st.Step != Register || !st.Decision.Methods.OfModels() {
			t.Fatalf("step %d (%s), %v", st.Step, st.Decision.Reason, err)
		}
		// One of another model is registered, and is not enough.
		k.model = "ee882879-721c-4913-9775-3dfcce97072a"
		if st, _ := b.registerKey(); st.Step != Register {
			t.Fatalf("step %d (%s)", st.Step, st.Decision.Reason)
		}
		time.Sleep(time.Minute)
		if st, _, err = b.passkey(b.invited(), id); err != nil || st.Step != Register {
			t.Fatalf("step %d, %v", st.Step, err)
		}
		k.model = model
		st, _ = b.registerKey()
		if st.Step != Done {
			t.Fatalf("step %d (%s)", st.Step, st.Decision.Reason)
		}
		if p, _ := st.Current.Proofs.Latest(mfa.Passkey); p.Model != model {
			t.Fatalf("%+v", p)
		}
		// After the password, those that would do are asked for, of the three that he has.
		again := f.browser()
		if st := again.must(again.password("alice", rightPassword)); st.Step != Verify {
			t.Fatalf("step %d", st.Step)
		}
		again.ask()
		if k.listed != 1 {
			t.Fatalf("%d passkeys are asked for", k.listed)
		}
	})
}
