package admin

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/pass"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// people is a directory of users, by canonical name.
type people map[string]*mfa.User

func (people) Name() string { return "file" }

func (p people) ByName(_ context.Context, canonical string) (*mfa.User, error) {
	if u, ok := p[canonical]; ok {
		return u, nil
	}
	return nil, directory.ErrUnknown
}

func (p people) ByID(ctx context.Context, id string) (*mfa.User, error) { return p.ByName(ctx, id) }

func (people) Authenticate(context.Context, string, string) (*mfa.User, error) {
	return nil, directory.ErrPassword
}

func (p people) Users(context.Context) ([]*mfa.User, error) {
	var all []*mfa.User
	for _, u := range p {
		all = append(all, u)
	}
	slices.SortFunc(all, func(x, y *mfa.User) int { return strings.Compare(x.Canonical, y.Canonical) })
	return all, nil
}

// sink remembers the events.
type sink struct {
	mu     sync.Mutex
	events []audit.Event
}

func (s *sink) Audit(e audit.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

func (*sink) SignIn(audit.SignIn) {}

type keeper struct{ text string }

func (k *keeper) Load(context.Context) (string, error)      { return k.text, nil }
func (k *keeper) Save(_ context.Context, text string) error { k.text = text; return nil }

type fixture struct {
	t     testing.TB
	ctx   context.Context
	store *store.Memory
	sink  *sink
	now   time.Time
	*Service
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{1}, seal.MinSecret))
	if err != nil {
		t.Fatal(err)
	}
	s, out := store.NewMemory(), &sink{}
	users := people{}
	for _, name := range []string{"alice", "bob", "carol"} {
		users[name] = &mfa.User{ID: mfa.UserID{Directory: "file", ID: name}, Name: name, Canonical: name, Mark: "m"}
	}
	directories, accounts := directory.Directories{users}, account.NewService(s, account.NewView(s), time.Minute, keys)
	generation := account.NewGeneration(s, &keeper{}, keys)
	machineKeys := machinekey.New(&machinekey.Service{
		Users: directories, Accounts: accounts, Throttle: throttle.NewKeys(s), Generation: generation, Sink: out, Log: slog.New(slog.DiscardHandler),
		Settings:     machinekey.Settings{Lifetime: 90 * 24 * time.Hour, MaxLifetime: 365 * 24 * time.Hour},
		Applications: map[string]machinekey.Application{"hr": {}, "mail": {AppPasswords: gate.On}},
		Tokens:       map[string]machinekey.Token{"backup": {Name: "backup", Expires: time.Now().Add(time.Hour), Applications: []string{"mail"}}},
	}, s, machinekey.NewView(s), keys)
	return &fixture{t: t, ctx: context.Background(), store: s, sink: out, now: time.Now().UTC(), Service: &Service{
		Users: directories, Accounts: accounts, Keys: machineKeys, KeyThrottle: machineKeys.Throttle,
		Sessions:  session.NewManager(s, session.NewView(s), session.NewCodec(keys), session.Settings{Idle: time.Hour, Lifetime: 12 * time.Hour, Cache: time.Minute}),
		Passwords: throttle.NewPasswords(s), Generation: generation, Sink: out,
	}}
}

// register gives a user a factor, as the sign-in pages do.
func (f *fixture) register(name string) {
	f.t.Helper()
	f.update(name, func(a *account.Account) {
		a.State.Registered = f.now
		a.Put(mfa.Credential{ID: "app", Method: mfa.TOTP, Added: f.now, Data: []byte("{}")})
	})
}

func (f *fixture) update(name string, change func(*account.Account)) {
	f.t.Helper()
	if _, err := f.Accounts.Update(f.ctx, mfa.UserID{Directory: "file", ID: name}, f.now, func(a *account.Account) error { change(a); return nil }); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) set(name string, state mfa.PerUserState) *StateChange {
	f.t.Helper()
	made, err := f.SetState(f.ctx, name, state, f.now)
	if err != nil {
		f.t.Fatal(err)
	}
	return made
}

func (f *fixture) show(name string) *Details {
	f.t.Helper()
	d, err := f.Show(f.ctx, name, f.now)
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

const (
	disabled = mfa.PerUserDisabled
	enabled  = mfa.PerUserEnabled
	enforced = mfa.PerUserEnforced
)

func TestTransitionsOfThePerUserSetting(t *testing.T) {
	for _, tc := range []struct {
		before     mfa.PerUserState
		registered bool
		wish, want mfa.PerUserState
	}{
		{"", false, disabled, disabled},
		{"", false, enabled, enabled},
		{"", false, enforced, enforced},
		{"", true, enabled, enforced},
		{"", true, enforced, enforced},
		{disabled, false, enabled, enabled},
		{disabled, true, enabled, enforced},
		{enabled, false, disabled, disabled},
		{enabled, false, enabled, enabled},
		{enabled, false, enforced, enforced},
		{enforced, false, disabled, disabled},
		{enforced, false, enabled, enabled},
		{enforced, true, disabled, disabled},
		{enforced, true, enabled, enforced},
		{enforced, true, enforced, enforced},
	} {
		f := newFixture(t)
		if tc.registered {
			f.register("alice")
		}
		if tc.before != "" {
			f.update("alice", func(a *account.Account) { a.State.PerUser, a.State.PerUserSince = tc.before, f.now.Add(-time.Hour) })
		}
		before := f.show("alice").PerUser
		made := f.set("ALICE", tc.wish)
		if made.User != "alice" || made.State != tc.want || made.Before != before || made.Changed != (before != tc.want) {
			t.Errorf("%+v: %+v", tc, made)
		}
		list, err := f.List(f.ctx)
		if got := f.show("alice").PerUser; err != nil || got != tc.want || list[0].PerUser != tc.want || list[1].PerUser != disabled {
			t.Errorf("%+v: %s is kept, %v", tc, got, err)
		}
		switch events := f.sink.events; {
		case !made.Changed && len(events) == 0:
		case made.Changed && len(events) == 1 && events[0].Type == audit.PerUserChanged && events[0].By == "admin" &&
			events[0].User == "alice" && events[0].UserID.ID == "alice" && events[0].Reason == string(tc.want):
		default:
			t.Errorf("%+v: events %+v", tc, events)
		}
	}
}

func TestNothingIsKeptOfASettingThatChangesNothing(t *testing.T) {
	f := newFixture(t)
	f.set("alice", disabled)
	a, err := f.Accounts.Load(f.ctx, mfa.UserID{Directory: "file", ID: "alice"})
	if err != nil || a.Exists() {
		t.Fatalf("there is an account %+v, %v", a, err)
	}
}

func TestMakingTheSettingAgainGivesNoMoreTime(t *testing.T) {
	f := newFixture(t)
	first := f.now
	for _, state := range []mfa.PerUserState{enabled, enabled, disabled, enabled, enforced, disabled, enforced, enabled} {
		f.set("alice", state)
		since := f.show("alice").PerUserSince
		if state == disabled && !since.IsZero() || state != disabled && !since.Equal(first) {
			t.Fatalf("%s after %v: since %v", state, f.now.Sub(first), since)
		}
		f.now = f.now.Add(24 * time.Hour)
	}
	// Who has registered has no grace any more: for him it is since when the setting holds.
	f.register("alice")
	f.set("alice", disabled)
	f.set("alice", enabled)
	if d := f.show("alice"); d.PerUser != enforced || !d.PerUserSince.Equal(f.now) {
		t.Fatalf("%s since %v", d.PerUser, d.PerUserSince)
	}
}

func TestARefusedSettingChangesNothing(t *testing.T) {
	f := newFixture(t)
	for reason, tc := range map[string]struct {
		name  string
		state mfa.PerUserState
		want  error
	}{
		"unknown user":  {"zoe", enabled, ErrNoUser},
		"no user name":  {"a b", enabled, ErrNoUser},
		"no state":      {"alice", "", ErrState},
		"another state": {"alice", "on", ErrState},
	} {
		if _, err := f.SetState(f.ctx, tc.name, tc.state, f.now); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", reason, err)
		}
	}
	f.store.Close()
	if _, err := f.SetState(f.ctx, "alice", enabled, f.now); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without the store: %v", err)
	}
	if len(f.sink.events) != 0 {
		t.Errorf("events %+v", f.sink.events)
	}
}

// Enabling and registering at the same moment must not leave somebody enabled who has registered.
func TestEnablingWhileTheUserRegisters(t *testing.T) {
	for range 50 {
		f := newFixture(t)
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := f.SetState(f.ctx, "alice", enabled, f.now); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			f.update("alice", func(a *account.Account) {
				a.State.Registered = f.now
				a.Put(mfa.Credential{ID: "app", Method: mfa.TOTP, Added: f.now, Data: []byte("{}")})
				if a.State.PerUser == enabled {
					a.State.PerUser = enforced
				}
			})
		})
		both.Wait()
		if d := f.show("alice"); d.PerUser != enforced || !d.Registered {
			t.Fatalf("%s, registered %v", d.PerUser, d.Registered)
		}
	}
}

// TestASettingIsFeltAtOnce goes from the administrator's change over store, view and register to the connection that is open.
func TestASettingIsFeltAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		rules, err := policy.New(policy.Model{Defaults: policy.SecurityDefaults{Off: true}, PerUser: policy.PerUserMFA{On: true}})
		if err != nil {
			t.Fatal(err)
		}
		g := &gate.Gate{Sessions: f.Sessions, Accounts: f.Accounts, Users: f.Users, Policy: rules}
		register := session.NewConnections()
		defer f.store.Watch(func(partition string) {
			if owner, ok := strings.CutPrefix(partition, "account/"); ok {
				user, err := mfa.ParseUserID(owner)
				if err != nil {
					t.Error(err)
				}
				register.Recheck(user)
			}
		})()
		ctx, stop := context.WithCancel(f.ctx)
		var running sync.WaitGroup
		running.Go(func() {
			register.Run(ctx, []store.Store{f.store}, func(ctx context.Context, c *session.Connection, now time.Time) bool {
				return g.Again(ctx, c.Current, c.Subject.Application, &mfa.Client{App: mfa.Browser, Address: c.Subject.Address}, now).Verdict == gate.Pass
			})
		})
		defer running.Wait()
		defer stop()

		open := map[string]*session.Connection{}
		for _, name := range []string{"alice", "bob"} {
			f.update(name, func(a *account.Account) { a.State.Created, a.State.Name = f.now, name })
			user, err := f.Users.ByName(f.ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			current, _, err := f.Sessions.Begin(f.ctx, session.Beginning{
				User: user, Host: "hr.example.com", Proofs: mfa.Proofs{}.With(mfa.Proof{Method: mfa.Password, At: f.now}),
			}, f.now)
			if err != nil {
				t.Fatal(err)
			}
			open[name] = register.Open(f.ctx, current, session.Subject{Application: "hr"})
			defer open[name].Close()
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if open["alice"].Err() != nil || open["bob"].Err() != nil {
			t.Fatal("a connection has ended without a reason")
		}
		f.set("alice", enforced)
		synctest.Wait() // without a moment of time going by
		if open["alice"].Err() == nil {
			t.Error("alice's connection is still open")
		}
		if open["bob"].Err() != nil {
			t.Error("bob's connection has ended, too")
		}
	})
}

func TestAPassWithAStart(t *testing.T) {
	f := newFixture(t)
	start := f.now.Add(24 * time.Hour)
	made, err := f.NewPass(f.ctx, "alice", start, 8*time.Hour, false, f.now)
	if err != nil || !made.Starts.Equal(start) || !made.Expires.Equal(start.Add(8*time.Hour)) || made.Once {
		t.Fatalf("%+v, %v", made, err)
	}
	c := f.show("alice").Credentials[0]
	if c.Method != mfa.TemporaryAccessPass || !c.Added.Equal(f.now) || !c.Starts.Equal(start) || !c.Expires.Equal(made.Expires) {
		t.Fatalf("shown as %+v", c)
	}
	for after, want := range map[time.Duration]error{0: mfa.ErrWrong, 24*time.Hour - 1: mfa.ErrWrong, 24 * time.Hour: nil, 32*time.Hour - 1: nil, 32 * time.Hour: mfa.ErrWrong} {
		a, err := f.Accounts.Load(f.ctx, mfa.UserID{Directory: "file", ID: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (pass.Factor{}).Finish(a.CredentialsOf(mfa.TemporaryAccessPass), made.Pass, f.now.Add(after)); !errors.Is(err, want) {
			t.Errorf("after %v: %v", after, err)
		}
		// The gate knows the account without its secrets.
		if a, err = f.Accounts.Get(f.ctx, a.ID); err != nil {
			t.Fatal(err)
		}
		facts := gate.Facts(&mfa.User{}, a, nil, mfa.Proofs{}, "hr", gate.Anywhere, f.now.Add(after))
		if usable := facts.Methods.Has(mfa.TemporaryAccessPass); usable != (want == nil) {
			t.Errorf("after %v: usable %v", after, usable)
		}
	}
	// A pass that is good at once takes its place.
	if made, err = f.NewPass(f.ctx, "alice", time.Time{}, time.Hour, true, f.now); err != nil || !made.Starts.IsZero() || !made.Expires.Equal(f.now.Add(time.Hour)) {
		t.Fatalf("%+v, %v", made, err)
	}
	if got := f.show("alice").Credentials; len(got) != 1 || !got[0].Starts.IsZero() {
		t.Fatalf("shown as %+v", got)
	}
}
