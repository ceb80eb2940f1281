package machinekey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// people is a directory.
type people struct {
	mu    sync.Mutex
	users map[string]*mfa.User
	err   error
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

func (p *people) Authenticate(context.Context, string, string) (*mfa.User, error) {
	panic("a key is never judged as a password")
}

func (p *people) Users(context.Context) (all []*mfa.User, _ error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.users {
		all = append(all, u)
	}
	return all, p.err
}

func (p *people) change(name string, change func(*mfa.User)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := *p.users[name]
	change(&u)
	p.users[name] = &u
}

type events struct {
	mu     sync.Mutex
	events []audit.Event
}

func (e *events) Audit(ev audit.Event) { e.mu.Lock(); e.events = append(e.events, ev); e.mu.Unlock() }
func (e *events) SignIn(audit.SignIn)  {}
func (e *events) all() []audit.Event   { e.mu.Lock(); defer e.mu.Unlock(); return slices.Clone(e.events) }
func (e *events) reasons(t audit.Type) (r []string) {
	for _, ev := range e.all() {
		if ev.Type == t {
			r = append(r, ev.Reason)
		}
	}
	return r
}

type keeper struct{ text string }

func (k *keeper) Load(context.Context) (string, error)      { return k.text, nil }
func (k *keeper) Save(_ context.Context, text string) error { k.text = text; return nil }

// counted is a store that counts what is asked of it.
type counted struct {
	*store.Memory
	gets, lists, commits atomic.Int64
	deaf                 atomic.Bool // nobody is told of changes
}

func (c *counted) Get(ctx context.Context, p string, keys ...string) ([]store.Record, error) {
	c.gets.Add(1)
	return c.Memory.Get(ctx, p, keys...)
}

func (c *counted) List(ctx context.Context, p, prefix string) ([]store.Record, error) {
	c.lists.Add(1)
	return c.Memory.List(ctx, p, prefix)
}

func (c *counted) Commit(ctx context.Context, commit store.Commit) ([]store.Version, error) {
	c.commits.Add(1)
	commit.Notify = commit.Notify && !c.deaf.Load()
	return c.Memory.Commit(ctx, commit)
}

func (c *counted) asked() int64 { return c.gets.Load() + c.lists.Load() + c.commits.Load() }

var (
	home   = netip.MustParseAddr("192.0.2.1")
	office = netip.MustParseAddr("10.1.2.3")
	ctx    = context.Background()
	start  = time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
)

type fixture struct {
	t      testing.TB
	store  *counted
	people *people
	events *events
	kept   *keeper
	log    bytes.Buffer
	*Service
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{t: t, store: &counted{Memory: store.NewMemory()}, events: &events{}, kept: &keeper{}, people: &people{users: map[string]*mfa.User{}}}
	for _, name := range []string{"alice", "bob"} {
		f.people.users[name] = &mfa.User{ID: mfa.UserID{Directory: "file", ID: name}, Name: name, Canonical: name, Mark: "m"}
	}
	f.Service = f.node(3)
	return f
}

// node is another process that shares the store, with these secrets.
func (f *fixture) node(secrets ...byte) *Service {
	f.t.Helper()
	var all [][]byte
	for _, s := range secrets {
		all = append(all, bytes.Repeat([]byte{s}, seal.MinSecret))
	}
	keys, err := seal.NewKeyring(all...)
	if err != nil {
		f.t.Fatal(err)
	}
	return New(&Service{
		Users: directory.Directories{f.people}, Accounts: account.NewService(f.store, account.NewView(f.store), 30*time.Second, keys),
		Throttle: throttle.NewKeys(f.store), Generation: account.NewGeneration(f.store, f.kept, keys), Sink: f.events,
		Log:      slog.New(slog.NewTextHandler(&f.log, nil)),
		Settings: Settings{Lifetime: 90 * 24 * time.Hour, MaxLifetime: 365 * 24 * time.Hour},
		Applications: map[string]Application{
			"mail": {AppPasswords: gate.On, ServiceTokens: true}, "hr": {AppPasswords: gate.On}, "wiki": {}, "bank": {AppPasswords: gate.Off},
		},
		Tokens: map[string]Token{
			"backup": {"backup", start.Add(30 * 24 * time.Hour), []string{"mail", "hr"}},
			"scan":   {"scan", start.Add(30 * 24 * time.Hour), []string{"mail"}},
		},
	}, f.store, NewView(f.store), keys)
}

// add makes an app password.
func (f *fixture) add(user string, w Wish, now time.Time) (*account.AppPassword, string) {
	f.t.Helper()
	p, secret, err := f.try(f.Service, user, w, now)
	if err != nil {
		f.t.Fatal(err)
	}
	return p, secret
}

func (f *fixture) try(s *Service, user string, w Wish, now time.Time) (p *account.AppPassword, secret string, err error) {
	u, err := s.Users.ByName(ctx, user)
	if err != nil {
		return nil, "", err
	}
	_, err = s.Accounts.UpdateClosed(ctx, u.ID, now, func(a *account.Account) (err error) {
		if a.State.Created.IsZero() {
			a.State.Created = now
		}
		p, secret, err = s.Put(a, u, w, now)
		return err
	})
	return p, secret, err
}

var mail = Wish{Name: "phone", Application: "mail"}

func use(change func(*gate.Use)) gate.Use {
	u := gate.Use{Application: "mail", AppPasswords: gate.On, Method: "GET", Asked: "/dav/x", Rewritten: "/dav/x", Address: home, Now: start}
	if change != nil {
		change(&u)
	}
	return u
}

func waits(err error) bool {
	var wait *throttle.WaitError
	return errors.As(err, &wait)
}

func TestAnAppPasswordLetsItsOwnerIn(t *testing.T) {
	f := newFixture(t)
	p, secret := f.add("alice", mail, start)
	if groups := strings.Split(secret, "-"); len(groups) != 7 || len(secret) != 34 || !strings.HasPrefix(strings.ReplaceAll(secret, "-", ""), p.ID) {
		t.Fatalf("%q can't be read in groups, or doesn't begin with its id %q", secret, p.ID)
	}
	if p.Expires != start.Add(90*24*time.Hour) {
		t.Fatalf("it ends at %v", p.Expires)
	}
	for name, typed := range map[string]string{
		"as it was shown": secret, "without groups": strings.ReplaceAll(secret, "-", ""), "with spaces": strings.ReplaceAll(secret, "-", " "),
		"in capitals": strings.ToUpper(secret), "with the letter o for a zero": strings.ReplaceAll(secret, "0", "O"),
	} {
		h, err := f.AppPassword(ctx, "alice", typed, use(nil))
		if err != nil || h.User.Name != "alice" || h.Account.ID != h.User.ID || h.Key != p.ID || h.Name != "phone" || !h.Expires.Equal(p.Expires) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		if err := f.Again(ctx, h, use(nil)); err != nil {
			t.Errorf("%s: again: %v", name, err)
		}
	}
}

func TestAnAppPasswordIsGoodForNothingElse(t *testing.T) {
	prefix := netip.MustParsePrefix
	for name, c := range map[string]struct {
		wish   Wish
		use    func(*gate.Use)
		user   string
		reason string
	}{
		"another application":                     {mail, func(u *gate.Use) { u.Application = "hr" }, "alice", "application"},
		"an application that takes none any more": {mail, func(u *gate.Use) { u.AppPasswords = gate.Off }, "alice", "off"},
		"a user without a setting of his own":     {mail, func(u *gate.Use) { u.AppPasswords = gate.Unset }, "alice", "off"},
		"another address":                         {Wish{Name: "n", Application: "mail", From: []netip.Prefix{prefix("10.0.0.0/8")}}, nil, "alice", "address"},
		"an address that nobody knows":            {Wish{Name: "n", Application: "mail", From: []netip.Prefix{prefix("192.0.2.0/24")}}, func(u *gate.Use) { u.Address = netip.Addr{} }, "alice", "address"},
		"another method":                          {Wish{Name: "n", Application: "mail", Methods: []string{"get", "HEAD"}}, func(u *gate.Use) { u.Method = "PUT" }, "alice", "method"},
		"a method in other letters":               {Wish{Name: "n", Application: "mail", Methods: []string{"GET"}}, func(u *gate.Use) { u.Method = "get" }, "alice", "method"},
		"another path that is asked for":          {Wish{Name: "n", Application: "mail", Paths: []string{"/dav/*"}}, func(u *gate.Use) { u.Asked = "/admin" }, "alice", "path"},
		"another path after a rewrite":            {Wish{Name: "n", Application: "mail", Paths: []string{"/dav/*"}}, func(u *gate.Use) { u.Rewritten = "/admin" }, "alice", "path"},
		"a path that climbs":                      {Wish{Name: "n", Application: "mail", Paths: []string{"/dav/*"}}, func(u *gate.Use) { u.Asked = "/dav/../admin" }, "alice", "path"},
		"a path that climbs in disguise":          {Wish{Name: "n", Application: "mail", Paths: []string{"/dav/*"}}, func(u *gate.Use) { u.Asked = "/dav/..;/admin" }, "alice", "path"},
		"another path that is moved to":           {Wish{Name: "n", Application: "mail", Paths: []string{"/dav/*"}}, func(u *gate.Use) { u.Method, u.Destinations = "MOVE", []string{"https://mail.example.com/admin/x"} }, "alice", "path"},
		"another path beside a right one":         {Wish{Name: "n", Application: "mail", Paths: []string{"/dav/*"}}, func(u *gate.Use) { u.Method, u.Destinations = "COPY", []string{"/dav/y", "/admin/x"} }, "alice", "path"},
		"another method in a header":              {Wish{Name: "n", Application: "mail", Methods: []string{"GET", "HEAD"}}, func(u *gate.Use) { u.Overrides = []string{"head", "DELETE"} }, "alice", "method"},
		"after its end":                           {Wish{Name: "n", Application: "mail", Expires: start.Add(time.Hour)}, func(u *gate.Use) { u.Now = start.Add(time.Hour) }, "alice", "expired"},
		"another user":                            {mail, nil, "bob", "wrong"},
		"a user whom nobody knows":                {mail, nil, "zoe", "wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p, secret := f.add("alice", c.wish, start)
			h, err := f.AppPassword(ctx, c.user, secret, use(c.use))
			if !errors.Is(err, gate.ErrWrongKey) || !reflect.DeepEqual(h, gate.Holder{}) {
				t.Fatalf("%+v, %v", h, err)
			}
			if here := errors.Is(err, gate.ErrNotHere); here != (c.reason != "wrong") {
				t.Errorf("ErrNotHere: %v", here)
			}
			if reasons := f.events.reasons(audit.KeyRefused); !slices.Equal(reasons, []string{c.reason}) {
				t.Errorf("the log says %q", reasons)
			}
			if c.user != "alice" {
				return
			}
			// Also of a connection that was opened before.
			user, _ := f.people.ByName(ctx, "alice")
			if err := f.Again(ctx, gate.Holder{User: user, Account: &account.Account{}, Key: p.ID}, use(c.use)); !errors.Is(err, gate.ErrWrongKey) {
				t.Errorf("again: %v", err)
			}
			// It is not counted as a guess: where it is good, it still is.
			in := use(func(u *gate.Use) { u.Address = office })
			if len(c.wish.From) == 0 || c.wish.From[0].Contains(office) {
				if _, err := f.AppPassword(ctx, "alice", secret, in); err != nil {
					t.Errorf("where it is good: %v", err)
				}
			}
		})
	}
}

func TestAnAppPasswordEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end      func(*fixture, *account.AppPassword)
		settings func(*Settings)
		good     bool
	}{
		"when it is revoked": {end: func(f *fixture, p *account.AppPassword) {
			f.update("alice", func(a *account.Account) {
				a.RemoveAppPasswords(func(q *account.AppPassword) bool { return q.ID == p.ID })
			})
		}},
		"when the password changes": {end: func(f *fixture, _ *account.AppPassword) {
			f.people.change("alice", func(u *mfa.User) { u.Mark = "other" })
		}},
		"not when the password changes, where it outlives that": {end: func(f *fixture, _ *account.AppPassword) {
			f.people.change("alice", func(u *mfa.User) { u.Mark = "other" })
		}, settings: func(s *Settings) { s.OutlivePassword = true }, good: true},
		"when the user is disabled": {end: func(f *fixture, _ *account.AppPassword) {
			f.people.change("alice", func(u *mfa.User) { u.Disabled = true })
		}},
		"when the user is disabled, also where it outlives that": {end: func(f *fixture, _ *account.AppPassword) {
			f.people.change("alice", func(u *mfa.User) { u.Disabled = true })
		}, settings: func(s *Settings) { s.OutliveDisabling = true }},
		"for good when the user was disabled": {end: func(f *fixture, _ *account.AppPassword) { f.disabledForAWhile() }},
		"not when the user was disabled, where it outlives that": {
			end: func(f *fixture, _ *account.AppPassword) { f.disabledForAWhile() }, settings: func(s *Settings) { s.OutliveDisabling = true }, good: true,
		},
		"when the user is blocked": {end: func(f *fixture, _ *account.AppPassword) {
			f.update("alice", func(a *account.Account) { a.State.Blocked = &account.Block{At: start} })
		}},
		"when the user is gone": {end: func(f *fixture, _ *account.AppPassword) {
			f.people.mu.Lock()
			delete(f.people.users, "alice")
			f.people.mu.Unlock()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if c.settings != nil {
				c.settings(&f.Settings)
			}
			other := f.node(3)
			other.Settings = f.Settings
			p, secret := f.add("alice", mail, start)
			h, err := other.AppPassword(ctx, "alice", secret, use(nil))
			if err != nil {
				t.Fatal(err)
			}
			c.end(f, p)
			// At once, and in every process, whatever it remembers.
			for _, s := range []*Service{f.Service, other} {
				_, err := s.AppPassword(ctx, "alice", secret, use(nil))
				again := s.Again(ctx, h, use(nil))
				if c.good && (err != nil || again != nil) {
					t.Errorf("%v, %v", err, again)
				}
				if !c.good && (!errors.Is(err, gate.ErrWrongKey) || !errors.Is(again, gate.ErrWrongKey)) {
					t.Errorf("%v, %v", err, again)
				}
			}
		})
	}
}

func (f *fixture) disabledForAWhile() {
	f.t.Helper()
	f.people.change("alice", func(u *mfa.User) { u.Disabled = true })
	if err := f.EndOfDisabled(ctx, start); err != nil {
		f.t.Fatal(err)
	}
	f.people.change("alice", func(u *mfa.User) { u.Disabled = false })
}

func (f *fixture) update(user string, change func(*account.Account)) {
	f.t.Helper()
	if _, err := f.Accounts.UpdateClosed(ctx, mfa.UserID{Directory: "file", ID: user}, start, func(a *account.Account) error { change(a); return nil }); err != nil {
		f.t.Fatal(err)
	}
}

func TestTheUsersOwnSettingGivesAppPasswordsWhereNothingIsSaid(t *testing.T) {
	f := newFixture(t)
	f.PerUser = true
	wiki := Wish{Name: "n", Application: "wiki"}
	at := func(s gate.Switch) gate.Use {
		return use(func(u *gate.Use) { u.Application, u.AppPasswords = "wiki", s })
	}
	if _, _, err := f.try(f.Service, "alice", wiki, start); !errors.Is(err, ErrApplication) {
		t.Fatalf("without a setting: %v", err)
	}
	for _, state := range []mfa.PerUserState{mfa.PerUserEnabled, mfa.PerUserEnforced} {
		f.update("alice", func(a *account.Account) { a.State.PerUser = state })
		_, secret := f.add("alice", wiki, start)
		if _, err := f.AppPassword(ctx, "alice", secret, at(gate.Unset)); err != nil {
			t.Fatalf("%s: %v", state, err)
		}
		if _, err := f.AppPassword(ctx, "alice", secret, at(gate.Off)); !errors.Is(err, gate.ErrWrongKey) {
			t.Fatalf("%s, in an application that takes none: %v", state, err)
		}
		f.update("alice", func(a *account.Account) { a.State.PerUser = mfa.PerUserDisabled })
		if _, err := f.AppPassword(ctx, "alice", secret, at(gate.Unset)); !errors.Is(err, gate.ErrWrongKey) {
			t.Fatalf("%s, taken back: %v", state, err)
		}
	}
	f.update("alice", func(a *account.Account) { a.State.PerUser = mfa.PerUserEnforced })
	a, err := f.Accounts.Get(ctx, mfa.UserID{Directory: "file", ID: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Takers(a); !slices.Equal(got, []string{"hr", "mail", "wiki"}) {
		t.Fatalf("%v take app passwords", got)
	}
	if _, _, err := f.try(f.Service, "alice", Wish{Name: "n", Application: "bank"}, start); !errors.Is(err, ErrApplication) {
		t.Fatalf("an application that says off: %v", err)
	}
}

func TestAWishIsChecked(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		wish Wish
		want error
	}{
		"no name":                         {Wish{Application: "mail"}, ErrName},
		"a name of two lines":             {Wish{Name: "a\nb", Application: "mail"}, ErrName},
		"a name that hides":               {Wish{Name: "a\u202eb", Application: "mail"}, ErrName},
		"a name that is too long":         {Wish{Name: strings.Repeat("a", 65), Application: "mail"}, ErrName},
		"an application that isn't there": {Wish{Name: "n", Application: "nothing"}, ErrApplication},
		"an end in the past":              {Wish{Name: "n", Application: "mail", Expires: start.Add(-time.Hour)}, ErrExpires},
		"an end that is too late":         {Wish{Name: "n", Application: "mail", Expires: start.Add(366 * 24 * time.Hour)}, ErrExpires},
		"every address":                   {Wish{Name: "n", Application: "mail", From: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, ErrScope},
		"no address":                      {Wish{Name: "n", Application: "mail", From: []netip.Prefix{{}}}, ErrScope},
		"a method that is none":           {Wish{Name: "n", Application: "mail", Methods: []string{"G T"}}, ErrScope},
		"too many paths":                  {Wish{Name: "n", Application: "mail", Paths: slices.Repeat([]string{"/a"}, 17)}, ErrScope},
	} {
		if _, _, err := f.try(f.Service, "alice", c.wish, start); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if records, _ := f.store.List(ctx, "account/file/alice", ""); len(records) != 0 {
		t.Errorf("a wish that was refused has left %v", records)
	}
}

func TestNobodyHasMoreThanForty(t *testing.T) {
	f := newFixture(t)
	nodes := []*Service{f.Service, f.node(3)}
	var group sync.WaitGroup
	var made, refused atomic.Int64
	for i := range 60 {
		group.Go(func() {
			switch _, _, err := f.try(nodes[i%2], "alice", mail, start); {
			case err == nil:
				made.Add(1)
			case errors.Is(err, ErrTooMany):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if made.Load() != MaxAppPasswords || refused.Load() != 60-MaxAppPasswords {
		t.Fatalf("%d made, %d refused", made.Load(), refused.Load())
	}
	// What has ended makes room.
	f.people.change("alice", func(u *mfa.User) { u.Mark = "other" })
	f.add("alice", mail, start)
	a, err := f.Accounts.LoadClosed(ctx, mfa.UserID{Directory: "file", ID: "alice"})
	if err != nil || len(a.AppPasswords) != 1 {
		t.Fatalf("%d, %v", len(a.AppPasswords), err)
	}
}

func TestAKeyIsGoodEverywhereFromTheFirstMoment(t *testing.T) {
	f := newFixture(t)
	deaf := f.node(3)
	// It has read what there was, and hears of no change.
	if _, err := deaf.AppPassword(ctx, "alice", strings.Repeat("7", idLen+secretLen), use(nil)); !errors.Is(err, gate.ErrWrongKey) {
		t.Fatal(err)
	}
	if _, err := deaf.ServiceToken(ctx, "77777777", "x", use(nil)); !errors.Is(err, gate.ErrWrongKey) {
		t.Fatal(err)
	}
	f.store.deaf.Store(true)
	_, secret := f.add("alice", mail, start)
	s, token, err := f.NewSecret(ctx, "backup", start)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deaf.AppPassword(ctx, "alice", secret, use(nil)); err != nil {
		t.Errorf("an app password: %v", err)
	}
	if _, err := deaf.ServiceToken(ctx, s.ID, token, use(nil)); err != nil {
		t.Errorf("a service token: %v", err)
	}
}

func TestARecordThatWasMovedOrAlteredOpensNothing(t *testing.T) {
	for name, c := range map[string]struct {
		user  string
		alter func(*account.AppPassword)
	}{
		"moved to another user": {"bob", func(*account.AppPassword) {}},
		"another application":   {"alice", func(p *account.AppPassword) { p.Application = "hr" }},
		"a later end":           {"alice", func(p *account.AppPassword) { p.Expires = p.Expires.Add(time.Hour) }},
		"every address":         {"alice", func(p *account.AppPassword) { p.From = nil }},
		"every method":          {"alice", func(p *account.AppPassword) { p.Methods = nil }},
		"every path":            {"alice", func(p *account.AppPassword) { p.Paths = nil }},
		"the paths as methods":  {"alice", func(p *account.AppPassword) { p.Methods, p.Paths = append(p.Methods, p.Paths...), nil }},
		"another password":      {"alice", func(p *account.AppPassword) { p.Mark = "" }},
		"no digest":             {"alice", func(p *account.AppPassword) { p.Digest = nil }},
	} {
		f := newFixture(t)
		wish := mail
		wish.From, wish.Methods, wish.Paths = []netip.Prefix{netip.PrefixFrom(home, 32)}, []string{"GET"}, []string{"/dav/*"}
		p, secret := f.add("alice", wish, start)
		altered := *p
		c.alter(&altered)
		f.update("alice", func(a *account.Account) { a.AppPasswords = nil })
		f.update(c.user, func(a *account.Account) { a.AddAppPassword(&altered) })
		f.people.change("alice", func(u *mfa.User) { u.Mark = altered.Mark })
		in := use(func(u *gate.Use) { u.Application = altered.Application })
		if _, err := f.AppPassword(ctx, c.user, secret, in); !errors.Is(err, gate.ErrWrongKey) || errors.Is(err, gate.ErrNotHere) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGuessesAreCountedBeforeTheyAreJudgedOverProcesses(t *testing.T) {
	f := newFixture(t)
	other := f.node(3)
	p, secret := f.add("alice", mail, start)
	for name, guess := range map[string]func(int) string{
		"the secret of a known id": func(i int) string { return p.ID + fmt.Sprintf("%020d", i) },
		"an id that isn't there":   func(i int) string { return fmt.Sprintf("%028d", i) },
		"something else":           func(i int) string { return fmt.Sprint("password", i) },
	} {
		t.Run(name, func(t *testing.T) {
			from := netip.AddrFrom4([4]byte{198, 51, 100, byte(len(name))})
			in := use(func(u *gate.Use) { u.Address = from })
			throttled := 0
			for i := range 20 {
				s := []*Service{f.Service, other}[i%2]
				switch _, err := s.AppPassword(ctx, "alice", guess(i), in); {
				case waits(err):
					throttled++
				case !errors.Is(err, gate.ErrWrongKey):
					t.Fatal(err)
				}
			}
			if throttled != 15 {
				t.Fatalf("%d of 20 guesses were not judged", throttled)
			}
			// From then on also the right secret is not judged, from that place and for that id; elsewhere it is.
			_, err := f.AppPassword(ctx, "alice", secret, in)
			if known := name == "the secret of a known id"; known != waits(err) {
				t.Fatalf("the right one: %v", err)
			}
			if _, err := f.AppPassword(ctx, "alice", secret, use(nil)); err != nil {
				t.Fatalf("elsewhere: %v", err)
			}
		})
	}
	if got := f.events.reasons(audit.KeyThrottled); len(got) == 0 {
		t.Error("the log says nothing of it")
	}
}

func TestManyGuessesAtOnceAreCountedOneByOne(t *testing.T) {
	f := newFixture(t)
	nodes := []*Service{f.Service, f.node(3)}
	p, _ := f.add("alice", mail, start)
	var judged atomic.Int64
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			if _, err := nodes[i%2].AppPassword(ctx, "alice", p.ID+fmt.Sprintf("%020d", i), use(nil)); errors.Is(err, gate.ErrWrongKey) {
				judged.Add(1)
			}
		})
	}
	group.Wait()
	if judged.Load() != 5 {
		t.Fatalf("%d of 100 guesses were judged", judged.Load())
	}
}

func TestManyConnectionsOfAProgramAreOneAttempt(t *testing.T) {
	f := newFixture(t)
	_, secret := f.add("alice", mail, start)
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			if _, err := f.AppPassword(ctx, "alice", secret, use(nil)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestAKnownAndAnUnknownUserCostTheSame(t *testing.T) {
	f := newFixture(t)
	f.add("alice", mail, start)
	if err := f.Generation.Check(ctx); err != nil {
		t.Fatal(err)
	}
	cost := func(name, secret string, address byte) [3]int64 {
		g, l, c := f.store.gets.Load(), f.store.lists.Load(), f.store.commits.Load()
		in := use(func(u *gate.Use) { u.Address = netip.AddrFrom4([4]byte{203, 0, 113, address}) })
		if _, err := f.AppPassword(ctx, name, secret, in); !errors.Is(err, gate.ErrWrongKey) {
			t.Fatal(err)
		}
		return [3]int64{f.store.gets.Load() - g, f.store.lists.Load() - l, f.store.commits.Load() - c}
	}
	shaped := strings.Repeat("7", idLen+secretLen)
	for i, secret := range []string{shaped, "a password"} {
		f.Accounts.Get(ctx, mfa.UserID{Directory: "file", ID: "nobody-else"}) // another account is read in between
		alice, bob, zoe := cost("alice", secret, byte(10+i)), cost("bob", secret, byte(20+i)), cost("zoe"+fmt.Sprint(i), secret, byte(30+i))
		alice[1], bob[1], zoe[1] = 0, 0, 0 // whether an account is in memory says when it was last asked for
		if alice != bob || bob != zoe {
			t.Errorf("%q: the store is asked %v for one who has app passwords, %v for one who hasn't, %v for nobody", secret, alice, bob, zoe)
		}
	}
	if got := f.events.all(); slices.ContainsFunc(got, func(e audit.Event) bool { return strings.HasPrefix(e.User, "zoe") || e.UserID.Directory == "nobody" }) {
		t.Errorf("what strangers typed is in the log: %+v", got)
	}
}

func TestAKeyInUseAsksTheStoreOnceInSomeMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		now := time.Now()
		in := use(func(u *gate.Use) { u.Now = now })
		p, secret := f.add("alice", mail, now)
		step := func(after time.Duration) {
			t.Helper()
			time.Sleep(after)
			in.Now = time.Now()
			if _, err := f.AppPassword(ctx, "alice", secret, in); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		step(0)
		before := f.store.asked()
		for range 20 {
			step(time.Second)
		}
		if asked := f.store.asked() - before; asked != 0 {
			t.Errorf("20 requests have asked the store %d times", asked)
		}
		first, err := f.Accounts.LoadClosed(ctx, mfa.UserID{Directory: "file", ID: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := first.AppPassword(p.ID); !got.LastUsed.Equal(now) {
			t.Errorf("last used %v, want %v", got.LastUsed, now)
		}
		commits := f.store.commits.Load()
		for range 60 {
			step(10 * time.Second)
		}
		if n := f.store.commits.Load() - commits; n > 12 {
			t.Errorf("ten minutes of use have written %d times", n)
		}
		last, err := f.Accounts.LoadClosed(ctx, mfa.UserID{Directory: "file", ID: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := last.AppPassword(p.ID); time.Since(got.LastUsed) > noteEvery+time.Minute {
			t.Errorf("last used %v ago", time.Since(got.LastUsed))
		}
	})
}

func TestADigestOfAnOlderSecretIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		now := time.Now()
		f.Service.Tokens["backup"] = Token{"backup", now.Add(time.Hour), []string{"mail"}}
		p, secret := f.add("alice", mail, now)
		made, token, err := f.NewSecret(ctx, "backup", now)
		if err != nil {
			t.Fatal(err)
		}
		in := use(func(u *gate.Use) { u.Now = now })
		rotated, only := f.node(4, 3), f.node(4)
		rotated.Tokens, only.Tokens = f.Service.Tokens, f.Service.Tokens
		if _, err := rotated.AppPassword(ctx, "alice", secret, in); err != nil {
			t.Fatal(err)
		}
		if _, err := rotated.ServiceToken(ctx, made.ID, token, in); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := only.AppPassword(ctx, "alice", secret, in); err != nil {
			t.Errorf("without the old secret: %v", err)
		}
		if _, err := only.ServiceToken(ctx, made.ID, token, in); err != nil {
			t.Errorf("the token without the old secret: %v", err)
		}
		if _, err := f.node(5).AppPassword(ctx, "alice", secret, in); err == nil {
			t.Errorf("%s opens with a foreign secret", p.ID)
		}
	})
}

func TestAStoreThatIsRefusedLetsNoKeyIn(t *testing.T) {
	f := newFixture(t)
	_, secret := f.add("alice", mail, start)
	f.kept.text = "another"
	// However often it is tried: what is refused for that is no guess.
	for range 10 {
		if _, err := f.AppPassword(ctx, "alice", secret, use(nil)); !errors.Is(err, account.ErrReplaced) {
			t.Fatalf("%v", err)
		}
	}
}

func TestADependencyThatIsDownIsNoWrongKey(t *testing.T) {
	f := newFixture(t)
	_, secret := f.add("alice", mail, start)
	f.people.err = directory.ErrUnavailable
	if _, err := f.AppPassword(ctx, "alice", secret, use(nil)); !errors.Is(err, directory.ErrUnavailable) || errors.Is(err, gate.ErrWrongKey) {
		t.Fatalf("%v", err)
	}
	f.people.err = nil
	f.store.Close()
	if _, err := f.AppPassword(ctx, "alice", secret, use(nil)); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, gate.ErrWrongKey) {
		t.Fatalf("%v", err)
	}
}

func TestNoSecretIsKeptOrTold(t *testing.T) {
	f := newFixture(t)
	p, secret := f.add("alice", mail, start)
	s, token, err := f.NewSecret(ctx, "backup", start)
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		f.AppPassword(ctx, "alice", secret, use(nil))                                        // the outcome is not what this is about
		f.AppPassword(ctx, "alice", secret, use(func(u *gate.Use) { u.Application = "hr" })) // nor here
		f.AppPassword(ctx, "alice", "Hunter2-of-her-account", use(nil))
		f.ServiceToken(ctx, s.ID, token, use(nil))
		f.ServiceToken(ctx, s.ID, "Hunter2-of-her-account", use(nil))
	}
	var all bytes.Buffer
	fmt.Fprintf(&all, "%+v\n%s\n", f.events.all(), f.log.String())
	for _, partition := range []string{"account/file/alice", tokenPartition} {
		records, err := f.store.List(ctx, partition, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			fmt.Fprintf(&all, "%s %s\n", r.Key, r.Value)
		}
	}
	bare := strings.ReplaceAll(secret, "-", "")
	for _, hidden := range []string{secret, bare, bare[idLen:], token, "Hunter2"} {
		if strings.Contains(all.String(), hidden) {
			t.Errorf("%q is in\n%s", hidden, all.String())
		}
	}
	if !strings.Contains(all.String(), p.ID) {
		t.Error("nothing tells which key it was")
	}
}

func TestAServiceTokenIsAUserOfItsOwn(t *testing.T) {
	f := newFixture(t)
	s, token, err := f.NewSecret(ctx, "backup", start)
	if err != nil {
		t.Fatal(err)
	}
	h, err := f.ServiceToken(ctx, s.ID, token, use(nil))
	if err != nil || h.User.Name != "service:backup" || h.User.Canonical != "service:backup" || h.Account != nil || h.Key != s.ID || h.Name != "backup" || !h.Expires.Equal(f.Tokens["backup"].Expires) {
		t.Fatalf("%+v, %v", h, err)
	}
	if err := f.Again(ctx, h, use(nil)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		id, secret string
		use        func(*gate.Use)
	}{
		"a wrong secret":        {s.ID, random(tokenLen), nil},
		"no secret":             {s.ID, "", nil},
		"no id":                 {"", token, nil},
		"another id":            {random(idLen), token, nil},
		"the name for the id":   {"backup", token, nil},
		"another application":   {s.ID, token, func(u *gate.Use) { u.Application = "wiki" }},
		"after its end":         {s.ID, token, func(u *gate.Use) { u.Now = f.Tokens["backup"].Expires }},
		"an address as counted": {s.ID, token + "0", nil},
	} {
		if h, err := f.ServiceToken(ctx, c.id, c.secret, use(c.use)); !errors.Is(err, gate.ErrWrongKey) || h.User != nil {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	for name, change := range map[string]func(){
		"a connection after the end": func() { f.Tokens = map[string]Token{"backup": {"backup", start, []string{"mail"}}} },
		"when it isn't configured":   func() { f.Tokens = map[string]Token{} },
	} {
		before := f.Tokens
		change()
		if err := f.Again(ctx, h, use(nil)); !errors.Is(err, gate.ErrWrongKey) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := f.ServiceToken(ctx, s.ID, token, use(nil)); !errors.Is(err, gate.ErrWrongKey) {
			t.Errorf("%s: %v", name, err)
		}
		f.Tokens = before
	}
}

func TestTheSecretsOfATokenAreRotatedAndRevoked(t *testing.T) {
	f := newFixture(t)
	other := f.node(3)
	in := use(func(u *gate.Use) { u.Now = start })
	first, one, err := f.NewSecret(ctx, "backup", start)
	if err != nil {
		t.Fatal(err)
	}
	second, two, err := f.NewSecret(ctx, "backup", start.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	good := func(s *Secret, text string) bool {
		t.Helper()
		_, err := other.ServiceToken(ctx, s.ID, text, in)
		if err != nil && !errors.Is(err, gate.ErrWrongKey) {
			t.Fatal(err)
		}
		return err == nil
	}
	if !good(first, one) || !good(second, two) {
		t.Fatal("while both are there, both must be good")
	}
	if got, err := f.RevokeSecrets(ctx, "backup", first.ID); err != nil || !slices.Equal(got, []string{first.ID}) {
		t.Fatalf("%v, %v", got, err)
	}
	if good(first, one) || !good(second, two) {
		t.Fatal("the one that is revoked must end, and the other stay")
	}
	if _, err := f.RevokeSecrets(ctx, "scan", second.ID); !errors.Is(err, ErrNoKey) {
		t.Fatalf("revoked under another name: %v", err)
	}
	if _, err := f.RevokeSecrets(ctx, "backup", ""); err != nil || good(second, two) {
		t.Fatalf("%v", err)
	}
	if _, err := f.RevokeSecrets(ctx, "backup", ""); !errors.Is(err, ErrNoKey) {
		t.Fatal(err)
	}
	for range MaxSecrets {
		if _, _, err := f.NewSecret(ctx, "backup", start); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		token string
		now   time.Time
		want  error
	}{
		"too many":       {"backup", start, ErrTooManySecrets},
		"not configured": {"nothing", start, ErrNoToken},
		"ended":          {"scan", f.Tokens["scan"].Expires, ErrTokenEnded},
	} {
		if _, _, err := f.NewSecret(ctx, c.token, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, err := f.Secrets(ctx); err != nil || len(all) != MaxSecrets {
		t.Fatalf("%v, %v", all, err)
	}
}

func TestGuessesAtTokensAreThrottled(t *testing.T) {
	f := newFixture(t)
	s, token, err := f.NewSecret(ctx, "backup", start)
	if err != nil {
		t.Fatal(err)
	}
	throttled := 0
	for range 20 {
		if _, err := f.ServiceToken(ctx, random(idLen), random(tokenLen), use(nil)); waits(err) {
			throttled++
		}
	}
	if throttled == 0 {
		t.Fatal("guesses at ids are not throttled")
	}
	if _, err := f.ServiceToken(ctx, s.ID, token, use(nil)); err != nil {
		t.Fatalf("who guesses at others has locked this one: %v", err)
	}
	throttled = 0
	for range 20 {
		if _, err := f.ServiceToken(ctx, s.ID, random(tokenLen), use(func(u *gate.Use) { u.Address = office })); waits(err) {
			throttled++
		}
	}
	if throttled != 15 {
		t.Fatalf("%d of 20 guesses at a secret were not judged", throttled)
	}
}

func TestGuessesThatMustWaitAskTheStoreNothing(t *testing.T) {
	f := newFixture(t)
	for what, guess := range map[string]func() error{
		"app passwords":  func() error { _, err := f.AppPassword(ctx, "alice", random(idLen+secretLen), use(nil)); return err },
		"service tokens": func() error { _, err := f.ServiceToken(ctx, random(idLen), random(tokenLen), use(nil)); return err },
	} {
		for n := 0; !waits(guess()); n++ {
			if n > 1000 {
				t.Fatalf("%s: nobody has to wait", what)
			}
		}
		asked := func() int64 { return f.store.gets.Load() + f.store.lists.Load() + f.store.commits.Load() }
		before := asked()
		for range 1000 {
			if err := guess(); !waits(err) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if n := asked() - before; n != 0 {
			t.Errorf("a thousand guesses at %s ask the store %d times", what, n)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var m memory[int]
	for i := range memoryShards * memorySize * 2 {
		key := [32]byte{byte(i), byte(i >> 8), byte(i >> 16)}
		m.put(key, i, start.Add(time.Hour), start)
	}
	n := 0
	for i := range m.shards {
		n += len(m.shards[i].kept)
	}
	if n > memoryShards*memorySize {
		t.Fatalf("%d values are kept", n)
	}
	key := memoryKey("x")
	m.put(key, 1, start.Add(time.Minute), start)
	if v, ok := m.get(key, start); !ok || v != 1 {
		t.Fatal("it is gone")
	}
	if _, ok := m.get(key, start.Add(time.Minute)); ok {
		t.Fatal("it is there after its time")
	}
	m.forget(key)
	if _, ok := m.get(key, start); ok {
		t.Fatal("it was not forgotten")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "k7md-2qfx-9rtw-k7md-2qfx-9rtw-k7md", strings.Repeat("O", 28), strings.Repeat("-", 200), "p\u00e4ssword", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, secret string) {
		got := parse(secret)
		if got.id == "" {
			if got.text != secret {
				t.Fatalf("%q became %q", secret, got.text)
			}
			return
		}
		if len(got.id) != idLen || len(got.text) != idLen+secretLen || strings.Trim(got.text, alphabet) != "" {
			t.Fatalf("%q was read as %+v", secret, got)
		}
		if again := parse(grouped(got.text)); again != got {
			t.Fatalf("%+v was read back as %+v", got, again)
		}
	})
}

func BenchmarkAppPassword(b *testing.B) {
	f := newFixture(b)
	wish := mail
	wish.From, wish.Methods, wish.Paths = []netip.Prefix{netip.PrefixFrom(home, 32)}, []string{"GET"}, []string{"/dav/*"}
	for range MaxAppPasswords - 1 {
		f.add("alice", mail, start)
	}
	_, secret := f.add("alice", wish, start)
	in := use(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.AppPassword(ctx, "alice", secret, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkServiceToken(b *testing.B) {
	f := newFixture(b)
	s, token, err := f.NewSecret(ctx, "backup", start)
	if err != nil {
		b.Fatal(err)
	}
	in := use(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.ServiceToken(ctx, s.ID, token, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAgain(b *testing.B) {
	f := newFixture(b)
	_, secret := f.add("alice", mail, start)
	h, err := f.AppPassword(ctx, "alice", secret, use(nil))
	if err != nil {
		b.Fatal(err)
	}
	in := use(nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Again(ctx, h, in); err != nil {
			b.Fatal(err)
		}
	}
}
