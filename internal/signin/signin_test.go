package signin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/pass"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/recovery"
	apptotp "github.com/caddy-mfa/caddy-mfa/internal/factor/totp"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

const rightPassword = "correct horse"

// people is a directory in which everybody has the same password.
type people struct {
	mu     sync.Mutex
	users  map[string]*mfa.User
	judged atomic.Int64
	err    error
}

func (p *people) Name() string { return "file" }

func (p *people) ByName(_ context.Context, canonical string) (*mfa.User, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	if u, ok := p.users[canonical]; ok {
		return u, nil
	}
	return nil, directory.ErrUnknown
}

func (p *people) ByID(ctx context.Context, id string) (*mfa.User, error) { return p.ByName(ctx, id) }

func (p *people) Authenticate(ctx context.Context, canonical, password string) (*mfa.User, error) {
	p.judged.Add(1)
	u, err := p.ByName(ctx, canonical)
	if errors.Is(err, directory.ErrUnknown) || err == nil && (u.Disabled || password != rightPassword) {
		return nil, directory.ErrPassword
	}
	return u, err
}

func (p *people) Users(context.Context) ([]*mfa.User, error) { return nil, nil }

func (p *people) change(name string, change func(*mfa.User)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := *p.users[name]
	change(&u)
	p.users[name] = &u
}

// events is a sink that remembers.
type events struct {
	mu     sync.Mutex
	events []audit.Event
	ins    []audit.SignIn
}

func (e *events) Audit(ev audit.Event) { e.mu.Lock(); e.events = append(e.events, ev); e.mu.Unlock() }

func (e *events) SignIn(r audit.SignIn) { e.mu.Lock(); e.ins = append(e.ins, r); e.mu.Unlock() }

func (e *events) count(t audit.Type) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.events {
		if ev.Type == t {
			n++
		}
	}
	return n
}

type keeper struct{ text string }

func (k *keeper) Load(context.Context) (string, error)      { return k.text, nil }
func (k *keeper) Save(_ context.Context, text string) error { k.text = text; return nil }

type fixture struct {
	t      testing.TB
	ctx    context.Context
	store  *store.Memory
	people *people
	events *events
	kept   *keeper
	rules  *policy.Set
	admin  *admin.Service
	*Service
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{
		t: t, ctx: context.Background(), store: store.NewMemory(), events: &events{}, kept: &keeper{},
		people: &people{users: map[string]*mfa.User{}},
		rules:  &policy.Set{Model: policy.Model{Defaults: policy.SecurityDefaults{Grace: 14 * 24 * time.Hour}}},
	}
	for _, name := range []string{"alice", "bob", "dora"} {
		f.people.users[name] = &mfa.User{ID: mfa.UserID{Directory: "file", ID: name}, Name: name, Canonical: name, Mark: "m", Disabled: name == "dora"}
	}
	f.Service = f.node()
	return f
}

// node is another process that shares the store.
func (f *fixture) node() *Service {
	f.t.Helper()
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{3}, 32))
	if err != nil {
		f.t.Fatal(err)
	}
	users := directory.Directories{f.people}
	accounts := account.NewService(f.store, account.NewView(f.store), 30*time.Second, keys)
	sessions := session.NewManager(f.store, session.NewView(f.store), session.NewCodec(keys), session.Settings{Idle: time.Hour, Lifetime: 12 * time.Hour, Cache: 30 * time.Second, Stay: f.rules.Remember.Session})
	app := apptotp.Factor{Issuer: "Example"}
	generation := account.NewGeneration(f.store, f.kept, keys)
	passwords := throttle.NewPasswords(f.store)
	machineKeys := machinekey.New(&machinekey.Service{
		Users: users, Accounts: accounts, Throttle: throttle.NewKeys(f.store), Generation: generation, Sink: f.events, Log: slog.New(slog.DiscardHandler),
		Settings:     machinekey.Settings{Lifetime: 90 * 24 * time.Hour, MaxLifetime: 365 * 24 * time.Hour},
		Applications: map[string]machinekey.Application{"hr": {}, "mail": {AppPasswords: gate.On}},
	}, f.store, machinekey.NewView(f.store), keys)
	f.admin = &admin.Service{
		Users: users, Accounts: accounts, Sessions: sessions, Passwords: passwords, Generation: generation, Sink: f.events, Keys: machineKeys, KeyThrottle: machineKeys.Throttle,
	}
	return &Service{
		Gate:  &gate.Gate{Sessions: sessions, Accounts: accounts, Users: users, Policy: f.rules},
		Users: users, Accounts: accounts, Sessions: sessions, Pending: NewPending(f.store, keys), Passwords: passwords, Strangers: throttle.NewAtOnce(100), Policy: f.rules,
		Generation: generation, Browsers: NewBrowsers(keys), Registrars: []mfa.Registrar{app},
		Factors:     map[mfa.Method]mfa.Factor{mfa.TOTP: app, mfa.RecoveryCode: recovery.Factor{}, mfa.TemporaryAccessPass: pass.Factor{}},
		Invitations: NewInvitations(f.store, keys), Owners: NewOwners(f.store),
		Keys: machineKeys, Sink: f.events, Verdicts: NewVerdicts(), Log: slog.New(slog.DiscardHandler),
	}
}

// browser is somebody's browser: it keeps what it is given.
type browser struct {
	*fixture
	cookies Cookies
	address netip.Addr
	binding string // cookie
	asks    Wishes
}

func (f *fixture) browser() *browser {
	return &browser{fixture: f, address: netip.MustParseAddr("203.0.113.9")}
}

func (b *browser) client() Client {
	return Client{Host: "hr.example.com", Application: "hr", Client: mfa.Client{App: mfa.Browser, Address: b.address}, Session: b.cookies.Session, Browser: b.cookies.Browser, Binding: b.binding, Asks: b.asks, Remembered: b.cookies.Remembered, Reference: "ref", Now: time.Now()}
}

func (b *browser) keep(c Cookies) {
	if c.Session != "" {
		b.cookies.Session = c.Session
	}
	if c.Browser != "" {
		b.cookies.Browser = c.Browser
	}
	if c.Remembered != "" {
		b.cookies.Remembered = c.Remembered
	}
}

func (b *browser) password(user, password string) (State, error) {
	st, c, err := b.Password(b.ctx, b.client(), user, password)
	b.keep(c)
	return st, err
}

func (b *browser) state() State {
	b.t.Helper()
	st, err := b.State(b.ctx, b.client())
	if err != nil {
		b.t.Fatal(err)
	}
	return st
}

func (b *browser) session() string { return b.state().Current.Session.ID }

func (b *browser) verify(m mfa.Method, answer string) (State, error) {
	st, c, err := b.Verify(b.ctx, b.client(), b.session(), m, answer)
	b.keep(c)
	return st, err
}

func (b *browser) begin() error {
	c, err := b.BeginRegistration(b.ctx, b.client(), b.session(), mfa.TOTP)
	b.keep(c)
	return err
}

func (b *browser) finish(answer string) (State, []string, error) {
	st, c, codes, err := b.FinishRegistration(b.ctx, b.client(), b.session(), answer)
	b.keep(c)
	return st, codes, err
}

func (b *browser) must(st State, err error) State {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	return st
}

func (b *browser) want(step Step) State {
	b.t.Helper()
	st := b.state()
	if st.Step != step {
		b.t.Fatalf("step %d (%v), want %d", st.Step, st.Decision.Reason, step)
	}
	return st
}

// phone is an authenticator app and the list of recovery codes.
type phone struct {
	t     testing.TB
	key   string
	codes []string
}

// code shows a code, and goes to sleep until the next one: it is never shown twice.
func (p *phone) code() string {
	time.Sleep(30 * time.Second)
	return p.now()
}

func (p *phone) now() string {
	p.t.Helper()
	code, err := totp.GenerateCode(p.key, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

// register signs somebody in for the first time and registers an app.
func (b *browser) register(user string) *phone {
	b.t.Helper()
	b.must(b.password(user, rightPassword))
	return b.registerApp()
}

func (b *browser) registerApp() *phone {
	b.t.Helper()
	if err := b.begin(); err != nil {
		b.t.Fatal(err)
	}
	_, challenge, err := b.Registration(b.ctx, b.client())
	if err != nil {
		b.t.Fatal(err)
	}
	p := &phone{t: b.t, key: challenge.Key}
	st, codes, err := b.finish(p.code())
	if err != nil || st.Step != Done {
		b.t.Fatalf("step %d: %v", st.Step, err)
	}
	p.codes = codes
	return p
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func wantWait(t testing.TB, what string, err error) {
	t.Helper()
	if wait := (*throttle.WaitError)(nil); !errors.As(err, &wait) {
		t.Fatalf("%s: %v, want to be told to wait", what, err)
	}
}

// in runs a test in a bubble, where waiting for the next code costs nothing.
func in(t *testing.T, test func(*testing.T, *fixture)) {
	synctest.Test(t, func(t *testing.T) { test(t, newFixture(t)) })
}

func TestFirstSignInRegistersAndTheNextAsksForACode(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		st := b.must(b.password("alice", rightPassword))
		if st.Step != Done || !st.Decision.Offer || st.Decision.GraceEnds.IsZero() {
			t.Fatalf("%+v", st.Decision)
		}
		phone := b.registerApp()
		if len(phone.codes) != recovery.Count {
			t.Fatalf("%d recovery codes", len(phone.codes))
		}
		b.want(Done)

		again := f.browser()
		if st := again.must(again.password("alice", rightPassword)); st.Step != Verify {
			t.Fatalf("step %d", st.Step)
		}
		if st := again.must(again.verify(mfa.TOTP, phone.code())); st.Step != Done {
			t.Fatalf("step %d", st.Step)
		}
		if n := f.events.count(audit.SignedIn); n != 2 {
			t.Fatalf("%d sign-ins in the log", n)
		}
	})
}

func TestUnknownWrongDisabledAndBlockedAreAnsweredAlike(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.browser().password("bob", rightPassword) // makes his account
		if err := f.admin.Block(f.ctx, "bob", "left", time.Now()); err != nil {
			t.Fatal(err)
		}
		for reason, tc := range map[string][2]string{
			"unknown": {"nobody", rightPassword}, "wrong": {"alice", "wrong"}, "disabled": {"dora", rightPassword}, "blocked": {"bob", rightPassword},
			"not a name": {"al ice", rightPassword}, "empty name": {" ", rightPassword}, "huge name": {string(bytes.Repeat([]byte("a"), 5000)), rightPassword},
		} {
			judged := f.people.judged.Load()
			st, err := f.browser().password(tc[0], tc[1])
			wantErr(t, reason, err, ErrPassword)
			if st.User != nil || st.Account != nil {
				t.Errorf("%s: %+v", reason, st)
			}
			if n := f.people.judged.Load() - judged; n != 1 {
				t.Errorf("%s: %d passwords judged", reason, n)
			}
		}
		if n := f.events.count(audit.PasswordRefused); n != 7 {
			t.Errorf("%d refusals in the log", n)
		}
		for _, e := range f.events.events {
			if e.Type == audit.PasswordRefused && e.User != "" && !slices.Contains([]string{"alice", "bob", "dora"}, e.User) {
				t.Errorf("the log holds what a stranger typed: %q", e.User)
			}
		}
	})
}

func TestNothingIsKeptOfSomebodyWhoDoesNotKnowThePassword(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.browser().password("alice", "wrong")
		for _, partition := range []string{"account/file/alice", "session/file/alice"} {
			if records, err := f.store.List(f.ctx, partition, ""); err != nil || len(records) != 0 {
				t.Fatalf("%s: %v, %v", partition, records, err)
			}
		}
	})
}

func TestACodeCountsOnceHoweverManySendIt(t *testing.T) {
	// Fifty at once, each in a sign-in of its own, on two nodes.
	f := newFixture(t)
	first := f.browser()
	first.must(first.password("alice", rightPassword))
	if err := first.begin(); err != nil {
		t.Fatal(err)
	}
	_, challenge, err := first.Registration(f.ctx, first.client())
	if err != nil {
		t.Fatal(err)
	}
	// Registered with the code of the step before, so that the present one is still good.
	earlier, err := totp.GenerateCode(challenge.Key, time.Now().Add(-30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := first.finish(earlier); err != nil {
		t.Fatal(err)
	}
	code, err := totp.GenerateCode(challenge.Key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	nodes := []*Service{f.Service, f.node()}
	var accepted, replayed atomic.Int64
	var wg sync.WaitGroup
	for i := range throttle.CodeTries - 1 { // more would be told to wait
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		id := b.session()
		wg.Go(func() {
			switch _, _, err := nodes[i%2].Verify(f.ctx, b.client(), id, mfa.TOTP, code); {
			case err == nil:
				accepted.Add(1)
			case errors.Is(err, ErrReplayed):
				replayed.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if accepted.Load() != 1 || replayed.Load() != throttle.CodeTries-2 {
		t.Fatalf("accepted %d times, refused %d times", accepted.Load(), replayed.Load())
	}
}

func TestFiftyCodesAtOnceAreNotFiftyGuesses(t *testing.T) {
	f := newFixture(t)
	b := f.browser()
	b.must(b.password("alice", rightPassword))
	if _, err := f.Accounts.Update(f.ctx, f.people.users["alice"].ID, time.Now(), func(a *account.Account) error {
		a.Put(mfa.Credential{ID: "app", Method: mfa.TOTP, Added: time.Now(), Data: []byte(`{"key":"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP","step":0}`)})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	id := b.session()
	var judged atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, _, err := f.Verify(f.ctx, b.client(), id, mfa.TOTP, "000000"); errors.Is(err, ErrWrong) {
				judged.Add(1)
			}
		})
	}
	wg.Wait()
	if judged.Load() != throttle.CodeTries {
		t.Fatalf("%d were judged, want %d", judged.Load(), throttle.CodeTries)
	}
}

func TestGuessesAreCountedOverSignInsAndARightPasswordClearsNone(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		phone := f.browser().register("alice")
		for n := range throttle.CodeTries {
			b := f.browser()
			b.must(b.password("alice", rightPassword))
			_, err := b.verify(mfa.TOTP, "000000")
			wantErr(t, "guess", err, ErrWrong)
			if n < throttle.CodeTries-1 {
				continue
			}
			_, err = b.verify(mfa.TOTP, phone.code())
			wantWait(t, "the right code after ten wrong ones", err)
			time.Sleep(throttle.CodePause)
			b = f.browser()
			b.must(b.password("alice", rightPassword))
			b.must(b.verify(mfa.TOTP, phone.code()))
		}
	})
}

func TestStrangersDoNotLockAUserOutOfHisOwnBrowser(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		own := f.browser()
		phone := own.register("alice")
		if err := f.SignOut(f.ctx, own.client()); err != nil {
			t.Fatal(err)
		}
		stranger := f.browser()
		stranger.address = netip.MustParseAddr("198.51.100.1")
		for range throttle.CodeLimit { // until the method is locked for everybody else
			stranger.must(stranger.password("alice", rightPassword))
			for {
				if _, err := stranger.verify(mfa.TOTP, "000000"); !errors.Is(err, ErrWrong) {
					break
				}
			}
			time.Sleep(throttle.CodePause)
		}
		for range 100 {
			stranger.password("alice", "wrong")
		}
		_, err := stranger.password("alice", rightPassword)
		wantWait(t, "a stranger with the right password", err)
		own.must(own.password("alice", rightPassword))
		if st := own.must(own.verify(mfa.TOTP, phone.code())); st.Step != Done {
			t.Fatalf("step %d", st.Step)
		}
		// Another new browser of his has to wait for the administrator.
		if err := f.admin.Unlock(f.ctx, "alice", time.Now()); err != nil {
			t.Fatal(err)
		}
		other := f.browser()
		other.must(other.password("alice", rightPassword))
		other.must(other.verify(mfa.TOTP, phone.code()))
	})
}

func TestAPasswordAloneOpensNoLaneToGuessCodesIn(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		own := f.browser()
		phone := own.register("alice")
		f.rules.Defaults.Off = true // the password is enough, and changing a factor still takes one
		guesses := 0
		for range 5 {
			b := f.browser()
			if st := b.must(b.password("alice", rightPassword)); st.Step != Done {
				t.Fatalf("step %d", st.Step)
			}
			for range throttle.CodeTries {
				if _, err := b.verify(mfa.TOTP, "000000"); errors.Is(err, ErrWrong) {
					guesses++
				}
			}
		}
		if guesses != throttle.CodeTries {
			t.Fatalf("%d guesses are judged", guesses)
		}
		// The lane of a browser in which a second factor was proven is still his.
		own.must(own.password("alice", rightPassword))
		own.must(own.verify(mfa.TOTP, phone.code()))
	})
}

func TestAKnownBrowserIsKnownToItsUserOnlyAndUntilHisFactorsChange(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.register("alice")
		alice, bob := f.people.users["alice"], f.people.users["bob"]
		load := func(u *mfa.User) *account.Account {
			a, err := f.Accounts.Load(f.ctx, u.ID)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		known := func(u *mfa.User) bool { return f.Browsers.ID(b.cookies.Browser, u, load(u), time.Now()) != "" }
		if !known(alice) || known(bob) {
			t.Fatalf("known to alice: %v, to bob: %v", known(alice), known(bob))
		}
		changed := *alice
		changed.Mark = "another"
		if known(&changed) {
			t.Fatal("known after a new password")
		}
		if _, err := f.Accounts.Update(f.ctx, alice.ID, time.Now(), func(a *account.Account) error { a.State.Epoch++; return nil }); err != nil {
			t.Fatal(err)
		}
		if known(alice) {
			t.Fatal("known after a change of factors")
		}
		for reason, cookie := range map[string]string{"forged": "AAAA", "empty": "", "huge": string(bytes.Repeat([]byte("A"), 1<<16)), "a session cookie": b.cookies.Session} {
			if f.Browsers.ID(cookie, alice, load(alice), time.Now()) != "" {
				t.Errorf("%s is taken", reason)
			}
		}
	})
}

func TestManyPeopleShareABrowser(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		a := &account.Account{}
		cookie := ""
		for n := range 20 {
			u := &mfa.User{ID: mfa.UserID{Directory: "file", ID: string(bytes.Repeat([]byte{byte('a' + n)}, 300))}}
			var err error
			if cookie, err = f.Browsers.Remember(cookie, u, a, nil, time.Now()); err != nil || len(cookie) > maxBrowserCookie {
				t.Fatalf("%d bytes, %v", len(cookie), err)
			}
			first := f.Browsers.ID(cookie, u, a, time.Now())
			if cookie, err = f.Browsers.Remember(cookie, u, a, nil, time.Now()); err != nil || f.Browsers.ID(cookie, u, a, time.Now()) != first || first == "" {
				t.Fatalf("%q is not the browser any more: %v", first, err)
			}
		}
	})
}

func TestRecoveryCodeLetsItsOwnerInOnlyToReplaceTheApp(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		lost := f.browser().register("alice")
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		st := b.must(b.verify(mfa.RecoveryCode, lost.codes[0]))
		if st.Step != Register || st.Decision.Reason != policy.RecoveryUsed {
			t.Fatalf("step %d, %v", st.Step, st.Decision.Reason)
		}
		if _, _, err := f.NewRecoveryCodes(f.ctx, b.client(), b.session()); !errors.Is(err, ErrStep) {
			t.Fatalf("new recovery codes: %v", err)
		}
		if _, err := f.Postpone(f.ctx, b.client()); err != nil || b.state().Step != Register {
			t.Fatalf("postponed: %v", err)
		}
		found := b.registerApp()
		if len(found.codes) != recovery.Count || slices.Contains(found.codes, lost.codes[1]) {
			t.Fatalf("new codes %v", found.codes)
		}
		b.want(Done)

		finder := f.browser()
		finder.must(finder.password("alice", rightPassword))
		for what, answer := range map[string]func() error{
			"the lost app":        func() error { _, err := finder.verify(mfa.TOTP, lost.code()); return err },
			"an old code":         func() error { _, err := finder.verify(mfa.RecoveryCode, lost.codes[2]); return err },
			"the used code again": func() error { _, err := finder.verify(mfa.RecoveryCode, lost.codes[0]); return err },
		} {
			wantErr(t, what, answer(), ErrWrong)
		}
		finder.must(finder.verify(mfa.TOTP, found.code()))
	})
}

func TestARecoveryCodeWorksOnceInParallel(t *testing.T) {
	for range 20 {
		f := newFixture(t)
		list, codes, err := recovery.New(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		list.ID = "recovery_code"
		if _, err := f.Accounts.Update(f.ctx, f.people.users["alice"].ID, time.Now(), func(a *account.Account) error {
			a.Put(list)
			a.Put(mfa.Credential{ID: "app", Method: mfa.TOTP, Data: []byte(`{"key":"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}`)})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		var accepted atomic.Int64
		var wg sync.WaitGroup
		for range 5 {
			b := f.browser()
			b.must(b.password("alice", rightPassword))
			id := b.session()
			wg.Go(func() {
				if _, _, err := f.Verify(f.ctx, b.client(), id, mfa.RecoveryCode, codes[0]); err == nil {
					accepted.Add(1)
				}
			})
		}
		wg.Wait()
		if accepted.Load() != 1 {
			t.Fatalf("accepted %d times", accepted.Load())
		}
	}
}

func TestWhoFindsHisAppAfterARecoveryCodeGoesOn(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		phone := f.browser().register("alice")
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.must(b.verify(mfa.RecoveryCode, phone.codes[0]))
		if st := b.must(b.verify(mfa.TOTP, phone.code())); st.Step != Done {
			t.Fatalf("step %d", st.Step)
		}
	})
}

func TestAPasswordAloneReadsAndChangesNoFactor(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.browser().register("alice")
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		app := b.state().Account.CredentialsOf(mfa.TOTP)[0].ID
		id := b.session()
		wantErr(t, "another app", b.begin(), ErrNotFresh)
		_, _, err := f.Registration(f.ctx, b.client())
		wantErr(t, "reading a key", err, ErrStep)
		_, err = f.RemoveFactor(f.ctx, b.client(), id, app)
		wantErr(t, "removing", err, ErrStep)
		_, _, err = f.NewRecoveryCodes(f.ctx, b.client(), id)
		wantErr(t, "recovery codes", err, ErrStep)
		wantErr(t, "ending a session", f.EndSession(f.ctx, b.client(), id), ErrStep)
	})
}

func TestAFreshProofPaysForOneChange(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		phone := b.register("alice")
		id := b.session()
		// The proof of the registration has been spent on it.
		wantErr(t, "after registration", b.begin(), ErrNotFresh)
		b.must(b.verify(mfa.TOTP, phone.code()))
		c, codes, err := f.NewRecoveryCodes(f.ctx, b.client(), id)
		b.keep(c)
		if err != nil || len(codes) != recovery.Count {
			t.Fatalf("%d codes, %v", len(codes), err)
		}
		_, _, err = f.NewRecoveryCodes(f.ctx, b.client(), id)
		wantErr(t, "a second change", err, ErrNotFresh)
		b.must(b.verify(mfa.TOTP, phone.code()))
		time.Sleep(Fresh + time.Second)
		_, _, err = f.NewRecoveryCodes(f.ctx, b.client(), id)
		wantErr(t, "a proof that is too old", err, ErrNotFresh)
	})
}

func TestOtherTabsStaySignedInThroughAChangeOfFactors(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		phone := b.register("alice")
		b.must(b.verify(mfa.TOTP, phone.code()))
		before := b.client()
		c, _, err := f.NewRecoveryCodes(f.ctx, b.client(), b.session())
		if err != nil {
			t.Fatal(err)
		}
		b.keep(c)
		for tab, client := range map[string]Client{"this": b.client(), "another": before} {
			if st, err := f.State(f.ctx, client); err != nil || st.Step != Done {
				t.Errorf("%s tab: step %d, %v", tab, st.Step, err)
			}
		}
	})
}

func TestTwoChangesAtOnceWithOneProof(t *testing.T) {
	for range 20 {
		f := newFixture(t)
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		// A session with a fresh proof, and an account with two apps.
		if _, err := f.Accounts.Update(f.ctx, f.people.users["alice"].ID, time.Now(), func(a *account.Account) error {
			for _, id := range []string{"one", "two", "three"} {
				a.Put(mfa.Credential{ID: id, Method: mfa.TOTP, Data: []byte(`{}`)})
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		st := b.state()
		_, cookie, err := f.Sessions.Elevate(f.ctx, st.Current, time.Now(), func(s *mfa.Session) error {
			s.Proofs = s.Proofs.With(mfa.Proof{Method: mfa.TOTP, At: time.Now()})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		b.keep(Cookies{Session: cookie})
		var done atomic.Int64
		var wg sync.WaitGroup
		for _, app := range []string{"one", "two"} {
			id, client := b.session(), b.client()
			wg.Go(func() {
				if _, err := f.RemoveFactor(f.ctx, client, id, app); err == nil {
					done.Add(1)
				}
			})
		}
		wg.Wait()
		if done.Load() > 1 {
			t.Fatal("one proof paid for two changes")
		}
	}
}

// The account is written before the session: other tabs ask in between, and the server may stop there.
func TestASessionOutlivesItsOwnChangeOfFactorsAtEveryMoment(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		phone := b.register("alice")
		other := f.browser()
		other.must(other.password("alice", rightPassword))
		other.must(other.verify(mfa.TOTP, phone.code()))
		id := b.session()
		if _, err := f.Accounts.Update(f.ctx, f.people.users["alice"].ID, time.Now(), func(a *account.Account) error {
			a.BeginEpoch(id)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if st := b.state(); st.Step != Done {
			t.Fatalf("in between: step %d", st.Step)
		}
		if st := other.state(); st.User != nil {
			t.Fatal("another session goes on")
		}
		b.must(b.verify(mfa.TOTP, phone.code()))
		if s := b.state(); s.Current.Session.CredentialEpoch != s.Account.State.Epoch {
			t.Fatal("the session stays behind")
		}
	})
}

func TestAChangeOfFactorsEndsEveryOtherSession(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		phone := b.register("alice")
		other := f.browser()
		other.must(other.password("alice", rightPassword))
		other.must(other.verify(mfa.TOTP, phone.code()))
		pending := f.browser()
		pending.must(pending.password("alice", rightPassword))
		b.must(b.verify(mfa.TOTP, phone.code()))
		second := b.registerApp()
		if len(second.codes) != 0 {
			t.Fatal("a second app makes new recovery codes")
		}
		b.want(Done)
		other.want(Password)
		pending.want(Password)
	})
}

func TestTheLastFactorStays(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		phone := b.register("alice")
		b.must(b.verify(mfa.TOTP, phone.code()))
		app := b.state().Account.CredentialsOf(mfa.TOTP)[0].ID
		c, err := f.RemoveFactor(f.ctx, b.client(), b.session(), app)
		b.keep(c)
		wantErr(t, "removing the last", err, ErrLastFactor)
		b.want(Done)
		b.must(b.verify(mfa.TOTP, phone.code()))
		b.registerApp()
		b.must(b.verify(mfa.TOTP, phone.code()))
		c, err = f.RemoveFactor(f.ctx, b.client(), b.session(), app)
		b.keep(c)
		if err != nil || len(b.want(Done).Account.CredentialsOf(mfa.TOTP)) != 1 {
			t.Fatal(err)
		}
	})
}

func TestNoMoreAppsThanThereCanBe(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		phone := b.register("alice")
		for range MaxApps - 1 {
			b.must(b.verify(mfa.TOTP, phone.code()))
			b.registerApp()
		}
		b.must(b.verify(mfa.TOTP, phone.code()))
		wantErr(t, "one more", b.begin(), ErrTooMany)
	})
}

func TestASecondFactorCountsForItsOwnSignInOnly(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		alices, bobs := f.browser().register("alice"), f.browser().register("bob")
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		page := b.session() // the page was made for this sign-in
		_, err := b.verify(mfa.TOTP, bobs.code())
		wantErr(t, "another user's code", err, ErrWrong)
		b.must(b.password("bob", rightPassword)) // in another tab
		_, _, err = f.Verify(f.ctx, b.client(), page, mfa.TOTP, alices.code())
		wantErr(t, "typed into the page of the first", err, ErrStep)
		b.want(Verify)
		_, err = b.verify(mfa.RecoveryCode, alices.codes[0])
		wantErr(t, "another user's recovery code", err, ErrWrong)
		_, err = b.verify(mfa.TemporaryAccessPass, "0000-0000-0000")
		wantErr(t, "a method that he doesn't have", err, ErrStep)
		_, err = b.verify("", bobs.code())
		wantErr(t, "no method", err, ErrStep)
	})
}

func TestSigningInAsSomebodyElseEndsTheFirstSession(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.register("alice")
		before := *b
		b.must(b.password("bob", rightPassword))
		before.want(Password)
		if b.state().User.Name != "bob" {
			t.Fatal("not bob")
		}
	})
}

func TestTheSamePersonInAnotherTabKeepsWhatHeHasProven(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.register("alice")
		id := b.session()
		if st := b.must(b.password("alice", rightPassword)); st.Step != Done || st.Current.Session.ID != id {
			t.Fatalf("step %d in session %s, was %s", st.Step, st.Current.Session.ID, id)
		}
	})
}

func TestAPlantedSessionIsWorthNothingAfterSignIn(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		phone := f.browser().register("alice")
		attacker := f.browser() // knows the password
		attacker.must(attacker.password("alice", rightPassword))
		victim := f.browser()
		victim.cookies = attacker.cookies // planted
		victim.must(victim.password("alice", rightPassword))
		victim.must(victim.verify(mfa.TOTP, phone.code()))
		victim.want(Done)
		if st := attacker.state(); st.Step == Done {
			t.Fatal("the attacker's cookie is signed in")
		}
	})
}

func TestGraceRunsFromTheFirstSignInAndOnce(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		first := b.must(b.password("alice", rightPassword)).Decision.GraceEnds
		time.Sleep(10 * 24 * time.Hour)
		f.rules.Defaults.Off = true
		b.must(b.password("alice", rightPassword))
		f.rules.Defaults.Off = false
		b = f.browser()
		if st := b.must(b.password("alice", rightPassword)); !st.Decision.GraceEnds.Equal(first) {
			t.Fatalf("ends %v, was %v", st.Decision.GraceEnds, first)
		}
		if _, err := f.Postpone(f.ctx, b.client()); err != nil || b.want(Done).Current.Session.Postponed.IsZero() {
			t.Fatal(err)
		}
		time.Sleep(4 * 24 * time.Hour)
		b = f.browser()
		if st := b.must(b.password("alice", rightPassword)); st.Step != Register {
			t.Fatalf("step %d after the period", st.Step)
		}
		if st, err := f.Postpone(f.ctx, b.client()); err != nil || st.Step != Register {
			t.Fatalf("postponed after the period: step %d, %v", st.Step, err)
		}
		b.registerApp()
	})
}

func TestGraceIsOverOnceAFactorWasRegistered(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.browser().register("alice")
		made, err := f.admin.Reset(f.ctx, "alice", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		b := f.browser()
		if st := b.must(b.password("alice", rightPassword)); st.Step != Verify {
			t.Fatalf("step %d with the password alone", st.Step)
		}
		wantErr(t, "registering with the password alone", b.begin(), ErrDenied)
		_, err = b.verify(mfa.TemporaryAccessPass, "0000-0000-0000")
		wantErr(t, "a wrong pass", err, ErrWrong)
		if st := b.must(b.verify(mfa.TemporaryAccessPass, made.Pass)); st.Step != Done || !st.Decision.Offer {
			t.Fatalf("step %d", st.Step)
		}
		again := f.browser()
		again.must(again.password("alice", rightPassword))
		if ways := again.state().Ways(time.Now()); len(ways) != 0 {
			t.Fatalf("a one-time pass is offered again: %v", ways)
		}
		b.registerApp()
	})
}

func TestAResetWhosePassHasExpiredStaysShut(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.browser().register("alice")
		if _, err := f.admin.Reset(f.ctx, "alice", time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pass.DefaultLifetime)
		b := f.browser()
		if st := b.must(b.password("alice", rightPassword)); st.Step != Blocked {
			t.Fatalf("step %d", st.Step)
		}
	})
}

func TestRegistrationFromTheOfficeOrWithAPass(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.rules.Defaults.Grace = 0
		f.rules.Registration = policy.Registration{From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, RequirePass: true}
		outside := f.browser()
		if st := outside.must(outside.password("alice", rightPassword)); st.Step != Blocked {
			t.Fatalf("outside: step %d", st.Step)
		}
		wantErr(t, "outside", outside.begin(), ErrDenied)
		made, err := f.admin.NewPass(f.ctx, "alice", time.Time{}, time.Hour, true, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		outside.must(outside.verify(mfa.TemporaryAccessPass, made.Pass))
		outside.registerApp()

		inside := f.browser()
		inside.address = netip.MustParseAddr("10.1.2.3")
		inside.register("bob")
	})
}

func TestARegistrationBelongsToItsSession(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if err := b.begin(); err != nil {
			t.Fatal(err)
		}
		_, mine, err := f.Registration(f.ctx, b.client())
		if err != nil {
			t.Fatal(err)
		}
		_, again, err := f.Registration(f.ctx, b.client())
		if err != nil || again.Key != mine.Key {
			t.Fatalf("a reload shows another key: %v", err)
		}
		other := f.browser() // the same person, in another browser
		other.must(other.password("alice", rightPassword))
		_, _, err = f.Registration(f.ctx, other.client())
		wantErr(t, "from another session", err, ErrStep)
		_, _, err = other.finish((&phone{t: t, key: mine.Key}).now())
		wantErr(t, "finished in another session", err, ErrStep)
		if _, _, err := b.finish("000000"); !errors.Is(err, ErrWrong) || b.state().Account.Registered() {
			t.Fatalf("registered without the code: %v", err)
		}
		time.Sleep(session.PendingLifetime)
		_, _, err = b.finish((&phone{t: t, key: mine.Key}).now())
		wantErr(t, "after ten minutes", err, ErrStep)
	})
}

// meeting is the authenticator app, at which the first two who finish a registration wait for each other.
type meeting struct {
	mfa.Registrar
	calls atomic.Int64
	both  sync.WaitGroup
}

func (m *meeting) FinishRegistration(state []byte, has []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	if m.calls.Add(1) <= 2 {
		m.both.Done()
		m.both.Wait()
	}
	return m.Registrar.FinishRegistration(state, has, answer, now)
}

func TestARegistrationThatIsSentTwiceIsFinishedOnce(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if err := b.begin(); err != nil {
			t.Fatal(err)
		}
		_, challenge, err := b.Registration(b.ctx, b.client())
		if err != nil {
			t.Fatal(err)
		}
		m := &meeting{Registrar: f.Registrars[0]}
		m.both.Add(2)
		f.Registrars = []mfa.Registrar{m}
		code, client, id := (&phone{t: t, key: challenge.Key}).now(), b.client(), b.session()
		var finished atomic.Int64
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, _, _, err := f.FinishRegistration(f.ctx, client, id, code); err == nil {
					finished.Add(1)
				} else if !errors.Is(err, ErrStep) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		a, err := f.Accounts.Load(f.ctx, f.people.users["alice"].ID)
		if err != nil || finished.Load() != 1 || len(a.CredentialsOf(mfa.TOTP)) != 1 {
			t.Fatalf("%d are finished, %d apps, %v", finished.Load(), len(a.CredentialsOf(mfa.TOTP)), err)
		}
	})
}

func TestOfTwoRegistrationsAtOnceTheFirstCounts(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		owner, thief := f.browser(), f.browser()
		for _, b := range []*browser{owner, thief} {
			b.must(b.password("alice", rightPassword))
			if err := b.begin(); err != nil {
				t.Fatal(err)
			}
		}
		_, thiefs, err := f.Registration(f.ctx, thief.client())
		if err != nil {
			t.Fatal(err)
		}
		id, client := thief.session(), thief.client()
		owner.registerApp()
		_, _, _, err = f.FinishRegistration(f.ctx, client, id, (&phone{t: t, key: thiefs.Key}).now())
		wantErr(t, "the second", err, ErrStep)
		if n := len(owner.state().Account.CredentialsOf(mfa.TOTP)); n != 1 {
			t.Fatalf("%d apps", n)
		}
	})
}

func TestPasswordChangeDisablingAndBlockingEndSessions(t *testing.T) {
	for reason, end := range map[string]func(*fixture){
		"new password": func(f *fixture) { f.people.change("alice", func(u *mfa.User) { u.Mark = "new" }) },
		"disabled":     func(f *fixture) { f.people.change("alice", func(u *mfa.User) { u.Disabled = true }) },
		"removed": func(f *fixture) {
			f.people.mu.Lock()
			delete(f.people.users, "alice")
			f.people.mu.Unlock()
		},
		"blocked": func(f *fixture) {
			if err := f.admin.Block(f.ctx, "alice", "", time.Now()); err != nil {
				f.t.Fatal(err)
			}
		},
		"reset": func(f *fixture) {
			if _, err := f.admin.Reset(f.ctx, "alice", time.Now()); err != nil {
				f.t.Fatal(err)
			}
		},
		"signed out by the administrator": func(f *fixture) {
			if err := f.admin.SignOut(f.ctx, "alice", time.Now()); err != nil {
				f.t.Fatal(err)
			}
		},
		"signed out everywhere": func(f *fixture) {
			if err := f.Sessions.EndAll(f.ctx, f.people.users["alice"].ID); err != nil {
				f.t.Fatal(err)
			}
		},
		"account store emptied": func(f *fixture) {
			records, err := f.store.List(f.ctx, "account/file/alice", "")
			if err != nil {
				f.t.Fatal(err)
			}
			for _, r := range records {
				if _, err := f.store.Commit(f.ctx, store.Commit{Partition: "account/file/alice", Notify: true, Changes: []store.Change{{Key: r.Key, Op: store.Delete, If: store.Any}}}); err != nil {
					f.t.Fatal(err)
				}
			}
		},
	} {
		t.Run(reason, func(t *testing.T) {
			in(t, func(t *testing.T, f *fixture) {
				b := f.browser()
				b.register("alice")
				b.want(Done)
				end(f)
				b.want(Password)
			})
		})
	}
}

func TestAnEmptiedAccountStoreRefusesSignIns(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.browser().register("alice")
		f.store = store.NewMemory() // as after a disk was replaced
		f.Service = f.node()
		b := f.browser()
		_, err := b.password("alice", rightPassword)
		wantErr(t, "sign-in", err, account.ErrReplaced)
		_, err = b.password("alice", "wrong")
		wantErr(t, "a wrong password learns nothing", err, ErrPassword)
		_, err = f.admin.NewPass(f.ctx, "alice", time.Time{}, time.Hour, true, time.Now())
		wantErr(t, "a pass", err, account.ErrReplaced)
		if err := f.admin.AcceptAccounts(f.ctx); err != nil {
			t.Fatal(err)
		}
		b.must(b.password("alice", rightPassword))
	})
}

func TestAStoreOrDirectoryThatIsDownIsNeverNobodySignedIn(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		phone := b.register("alice")
		f.people.err = directory.ErrUnavailable
		_, err := f.State(f.ctx, b.client())
		wantErr(t, "directory down", err, directory.ErrUnavailable)
		_, err = b.password("alice", rightPassword)
		wantErr(t, "password, directory down", err, directory.ErrUnavailable)
		f.people.err = nil
		id := b.session()
		time.Sleep(time.Minute)
		f.store.Close()
		_, err = f.State(f.ctx, b.client())
		wantErr(t, "store down", err, store.ErrUnavailable)
		_, err = b.password("alice", rightPassword)
		wantErr(t, "password, store down", err, store.ErrUnavailable)
		_, _, err = f.Verify(f.ctx, b.client(), id, mfa.TOTP, phone.now())
		wantErr(t, "code, store down", err, store.ErrUnavailable)
	})
}

func TestPostponingIsNoted(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if _, err := f.Postpone(f.ctx, b.client()); err != nil || f.events.count(audit.RegistrationLater) != 1 {
			t.Fatal(err)
		}
	})
}

func TestAFloodOfStrangersLeavesRoomForWhoIsKnown(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		own := f.browser()
		own.must(own.password("alice", rightPassword)) // from now on it is known
		f.Strangers = throttle.NewAtOnce(0)            // as when the flood holds every place
		before, err := f.store.List(f.ctx, "throttle/total", "")
		if err != nil || len(before) != 1 {
			t.Fatalf("%d records, %v", len(before), err)
		}
		judged := f.people.judged.Load()
		for range 3 {
			if _, err := f.browser().password("alice", rightPassword); !errors.Is(err, directory.ErrBusy) {
				t.Fatalf("a stranger: %v", err)
			}
		}
		after, err := f.store.List(f.ctx, "throttle/total", "")
		if err != nil || after[0].Version != before[0].Version || f.people.judged.Load() != judged {
			t.Fatalf("the flood has reached the store or the directory: %v, %v", after, err)
		}
		own.must(own.password("alice", rightPassword))
	})
}

func TestSignOutEverywhereNeedsBothSteps(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		own := f.browser()
		phone := own.register("alice")
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		wantErr(t, "with the password alone", f.SignOutEverywhere(f.ctx, b.client()), ErrStep)
		own.want(Done)
		b.must(b.verify(mfa.TOTP, phone.code()))
		if err := f.SignOutEverywhere(f.ctx, b.client()); err != nil {
			t.Fatal(err)
		}
		own.want(Password)
		b.want(Password)
	})
}

// farStore is at the other end of a network.
type farStore struct{ store.Store }

func (s farStore) List(ctx context.Context, partition, prefix string) ([]store.Record, error) {
	records, err := s.Store.List(ctx, partition, prefix)
	time.Sleep(time.Millisecond)
	return records, err
}

func (s farStore) Commit(ctx context.Context, c store.Commit) ([]store.Version, error) {
	time.Sleep(time.Millisecond)
	return s.Store.Commit(ctx, c)
}

// Every guess that was read before the first wrong one was counted must still compete with it: also the right one.
func TestTheRightCodeAmongManyGuessesAtOnceIsOneOfTen(t *testing.T) {
	const bursts, guesses = 20, 300
	won := 0
	for range bursts {
		in(t, func(t *testing.T, f *fixture) {
			phone := f.browser().register("alice")
			b := f.browser()
			b.must(b.password("alice", rightPassword))
			keys, err := seal.NewKeyring(bytes.Repeat([]byte{3}, 32))
			if err != nil {
				t.Fatal(err)
			}
			f.Service.Accounts = account.NewService(farStore{f.store}, account.NewView(f.store), 30*time.Second, keys)
			time.Sleep(30 * time.Second)
			right, id := phone.now(), b.session()
			var wg sync.WaitGroup
			var accepted, judged atomic.Int64
			for i := range guesses {
				code := fmt.Sprintf("%06d", i)
				if i == guesses*2/3 {
					code = right
				}
				wg.Go(func() {
					switch _, _, err := f.Verify(f.ctx, b.client(), id, mfa.TOTP, code); {
					case err == nil:
						accepted.Add(1)
						judged.Add(1)
					case errors.Is(err, ErrWrong):
						judged.Add(1)
					}
				})
			}
			wg.Wait()
			if accepted.Load() > 0 {
				won++
			} else if judged.Load() > throttle.CodeTries {
				t.Errorf("%d guesses were judged", judged.Load())
			}
		})
	}
	// By chance it is one in thirty: three or more of twenty are not chance.
	if won > 4 {
		t.Errorf("the right code got in %d times of %d", won, bursts)
	}
}

func TestWhatWasAllowedWithoutAFactorIsNotWithOne(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if err := b.begin(); err != nil {
			t.Fatal(err)
		}
		// Another tab has been let through at the same time, and saves its challenge when the first has finished.
		before := b.state()
		late, err := f.Registrars[0].BeginRegistration(before.User, mfa.Site{Host: "hr.example.com"}, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		late.Epoch = before.Account.State.Epoch
		_, first, err := b.Registration(b.ctx, b.client())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.finish((&phone{t: t, key: first.Key}).code()); err != nil {
			t.Fatal(err)
		}
		if err := f.Pending.Save(b.ctx, before.Current.Session, late, time.Now()); err != nil {
			t.Fatal(err)
		}
		_, _, err = b.finish((&phone{t: t, key: late.Key}).code())
		wantErr(t, "a second app without a proof", err, ErrStep)
		if n := len(b.state().Account.CredentialsOf(mfa.TOTP)); n != 1 {
			t.Errorf("%d apps", n)
		}
	})
}

func TestWrongCodesOfStrangersDoNotShutTheWayOutByRecoveryCode(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		lost := f.browser().register("alice")
		for range throttle.CodeTries {
			thief := f.browser()
			thief.must(thief.password("alice", rightPassword))
			if _, err := thief.verify(mfa.TOTP, "000000"); err == nil {
				t.Fatal("the code is right")
			}
		}
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if _, err := b.verify(mfa.TOTP, lost.now()); err == nil {
			t.Fatal("nothing is paused")
		}
		b.must(b.verify(mfa.RecoveryCode, lost.codes[0]))
		if err := b.begin(); err != nil {
			t.Fatal(err)
		}
		_, challenge, err := b.Registration(b.ctx, b.client())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.finish((&phone{t: t, key: challenge.Key}).code()); err != nil {
			t.Fatal(err)
		}
		b.want(Done)
	})
}

// readOnly is a store that fails whenever something is written.
type readOnly struct{ store.Store }

func (readOnly) Commit(context.Context, store.Commit) ([]store.Version, error) {
	return nil, store.ErrUnavailable
}

func TestANewTokenReachesTheBrowserAlsoWithAnError(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		phone := b.register("alice")
		b.must(b.verify(mfa.TOTP, phone.code()))
		keys, err := seal.NewKeyring(bytes.Repeat([]byte{3}, 32))
		if err != nil {
			t.Fatal(err)
		}
		f.Pending = NewPending(readOnly{f.store}, keys)
		c, err := f.BeginRegistration(b.ctx, b.client(), b.session(), mfa.TOTP)
		wantErr(t, "saving the challenge", err, store.ErrUnavailable)
		b.keep(c)
		time.Sleep(time.Minute)
		b.want(Done)
	})
}

func TestAnAccountThatDoesNotOpenTellsNothingToStrangers(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.browser().register("alice")
		keys, err := seal.NewKeyring(bytes.Repeat([]byte{9}, 32))
		if err != nil {
			t.Fatal(err)
		}
		f.Service.Accounts = account.NewService(f.store, account.NewView(f.store), 30*time.Second, keys)
		for _, name := range []string{"alice", "bob", "nobody"} {
			_, err := f.browser().password(name, "wrong")
			wantErr(t, name, err, ErrPassword)
		}
	})
}
