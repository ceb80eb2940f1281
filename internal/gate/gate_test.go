package gate

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// oneUser is a directory that knows alice, or fails.
type oneUser struct {
	user mfa.User
	err  error
}

func (d *oneUser) Name() string { return "file" }
func (d *oneUser) ByName(_ context.Context, name string) (*mfa.User, error) {
	if d.err != nil || name != d.user.Canonical {
		return nil, errors.Join(directory.ErrUnknown, d.err)
	}
	return &d.user, nil
}
func (d *oneUser) ByID(_ context.Context, id string) (*mfa.User, error) {
	switch {
	case d.err != nil:
		return nil, d.err
	case id != d.user.ID.ID:
		return nil, directory.ErrUnknown
	}
	return &d.user, nil
}
func (d *oneUser) Authenticate(context.Context, string, string) (*mfa.User, error) {
	return nil, directory.ErrPassword
}
func (d *oneUser) Users(context.Context) ([]*mfa.User, error) { return []*mfa.User{&d.user}, nil }

type fixture struct {
	t        testing.TB
	ctx      context.Context
	store    *store.Memory
	people   *oneUser
	accounts *account.Service
	sessions *session.Manager
	now      time.Time
	*Gate
}

func newFixture(t testing.TB) *fixture {
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{1}, seal.MinSecret))
	if err != nil {
		t.Fatal(err)
	}
	s := store.NewMemory()
	f := &fixture{t: t, ctx: context.Background(), store: s, now: time.Now()}
	f.people = &oneUser{user: mfa.User{ID: mfa.UserID{Directory: "file", ID: "alice"}, Name: "alice", Canonical: "alice", Mark: "m"}}
	f.accounts = account.NewService(s, account.NewView(s), time.Minute, keys)
	f.sessions = session.NewManager(s, session.NewView(s), session.NewCodec(keys), session.Settings{Idle: time.Hour, Lifetime: 12 * time.Hour, Cache: time.Minute})
	f.Gate = &Gate{Sessions: f.sessions, Accounts: f.accounts, Users: directory.Directories{f.people}, Policy: &policy.Set{}}
	f.change(func(a *account.Account) {
		a.State.Created, a.State.Name = f.now, "alice"
		a.Put(mfa.Credential{ID: "app", Method: mfa.TOTP, Data: []byte("{}")})
	})
	return f
}

func (f *fixture) change(change func(*account.Account)) {
	f.t.Helper()
	if _, err := f.accounts.Update(f.ctx, f.people.user.ID, f.now, func(a *account.Account) error { change(a); return nil }); err != nil {
		f.t.Fatal(err)
	}
}

// begin signs alice in with these methods, and gives her cookie.
func (f *fixture) begin(methods ...mfa.Method) (session.Current, string) {
	f.t.Helper()
	var proofs mfa.Proofs
	for _, m := range methods {
		proofs = proofs.With(mfa.Proof{Method: m, At: f.now})
	}
	a, err := f.accounts.Load(f.ctx, f.people.user.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	current, cookie, err := f.sessions.Begin(f.ctx, session.Beginning{User: &f.people.user, Host: "hr.example.com", Proofs: proofs, CredentialEpoch: a.State.Epoch}, f.now)
	if err != nil {
		f.t.Fatal(err)
	}
	return current, cookie
}

func (f *fixture) request(cookie string) *Request {
	return &Request{
		Application: &Application{Name: "hr", Bypass: NewPaths([]string{"/public/*"})}, Now: f.now, Host: "hr.example.com",
		Client: mfa.Client{App: mfa.Browser, Address: netip.MustParseAddr("203.0.113.9")}, Cookie: cookie, Asked: "/report", Rewritten: "/report",
	}
}

// carry gives the request a header, and looks at it.
func (r *Request) carry(name string, values ...string) {
	h := http.Header{name: values}
	r.Authorized = len(h["Authorization"]) > 0
	r.Finding = legacy.Inspect(&legacy.Request{Method: "GET", Asked: r.Asked, Rewritten: r.Rewritten, Header: h})
}

func TestVerdicts(t *testing.T) {
	basic := func(r *Request) { r.carry("Authorization", "Basic YWxpY2U6cA==") }
	for reason, tc := range map[string]struct {
		proven  []mfa.Method // none: no session
		request func(*Request)
		change  func(*fixture)
		want    Verdict
		class   legacy.Class
	}{
		"nobody":                           {want: SignIn},
		"a cookie that is no cookie":       {request: func(r *Request) { r.Cookie = "x" }, want: SignIn},
		"signed in":                        {proven: []mfa.Method{mfa.Password, mfa.TOTP}, want: Pass},
		"the second step is missing":       {proven: []mfa.Method{mfa.Password}, want: StepUp},
		"the first step is missing":        {proven: []mfa.Method{mfa.TOTP}, want: Refuse},
		"nothing was proven":               {proven: []mfa.Method{""}, want: Refuse},
		"a bypassed path":                  {request: func(r *Request) { r.Asked, r.Rewritten = "/public/a", "/public/a" }, want: Bypass},
		"a path rewritten into the bypass": {request: func(r *Request) { r.Rewritten = "/public/a" }, want: SignIn},
		"a path rewritten out of it":       {request: func(r *Request) { r.Asked = "/public/a" }, want: SignIn},
		"another host's session": {
			proven: []mfa.Method{mfa.Password, mfa.TOTP}, request: func(r *Request) { r.Host = "wiki.example.com" }, want: SignIn,
		},
		"Basic from nobody":                       {request: basic, want: Legacy, class: legacy.Basic},
		"Basic beside a password-only session":    {proven: []mfa.Method{mfa.Password}, request: basic, want: Legacy, class: legacy.Basic},
		"Basic beside a session":                  {proven: []mfa.Method{mfa.Password, mfa.TOTP}, request: basic, want: Pass, class: legacy.Basic},
		"a user name in the target":               {request: func(r *Request) { r.Finding = legacy.Finding{Class: legacy.UserInfo} }, want: Legacy, class: legacy.UserInfo},
		"Basic to a bypassed path is not ours":    {request: func(r *Request) { r.Asked, r.Rewritten = "/public/a", "/public/a"; basic(r) }, want: Bypass},
		"the user is disabled":                    {proven: []mfa.Method{mfa.Password, mfa.TOTP}, change: func(f *fixture) { f.people.user.Disabled = true }, want: SignIn},
		"the user is gone":                        {proven: []mfa.Method{mfa.Password, mfa.TOTP}, change: func(f *fixture) { f.people.user.ID.ID = "bob" }, want: SignIn},
		"the password was changed":                {proven: []mfa.Method{mfa.Password, mfa.TOTP}, change: func(f *fixture) { f.people.user.Mark = "n" }, want: SignIn},
		"the directory is down":                   {proven: []mfa.Method{mfa.Password, mfa.TOTP}, change: func(f *fixture) { f.people.err = directory.ErrUnavailable }, want: Unavailable},
		"the directory is down, but nobody asked": {change: func(f *fixture) { f.people.err = directory.ErrUnavailable }, want: SignIn},
		"the store is down":                       {proven: []mfa.Method{mfa.Password, mfa.TOTP}, change: func(f *fixture) { f.store.Close() }, want: Unavailable},
		"the store is down, and it is Basic":      {proven: []mfa.Method{mfa.Password, mfa.TOTP}, request: basic, change: func(f *fixture) { f.store.Close() }, want: Unavailable, class: legacy.Basic},
		"blocked": {
			proven: []mfa.Method{mfa.Password, mfa.TOTP}, want: SignIn,
			change: func(f *fixture) { f.change(func(a *account.Account) { a.State.Blocked = &account.Block{At: f.now} }) },
		},
		"factors were changed elsewhere": {
			proven: []mfa.Method{mfa.Password, mfa.TOTP}, want: SignIn,
			change: func(f *fixture) { f.change(func(a *account.Account) { a.BeginEpoch("another session") }) },
		},
		"the account has vanished": {
			proven: []mfa.Method{mfa.Password, mfa.TOTP}, want: SignIn,
			change: func(f *fixture) {
				records, err := f.store.List(f.ctx, "account/file/alice", "")
				if err != nil || len(records) == 0 {
					f.t.Fatalf("%d records, %v", len(records), err)
				}
				var deletions []store.Change
				for _, r := range records {
					deletions = append(deletions, store.Change{Key: r.Key, Op: store.Delete, If: store.Any})
				}
				if _, err := f.store.Commit(f.ctx, store.Commit{Partition: "account/file/alice", Changes: deletions, Notify: true}); err != nil {
					f.t.Fatal(err)
				}
			},
		},
	} {
		t.Run(reason, func(t *testing.T) {
			f := newFixture(t)
			r := f.request("")
			if tc.proven != nil {
				_, r.Cookie = f.begin(tc.proven...)
				// What is remembered of a cookie after its first request must keep nobody in.
				first := f.request(r.Cookie)
				first.Application.NoIdle = NewPaths([]string{first.Asked})
				if out := f.Check(f.ctx, first); out.Current.Session == nil {
					t.Fatalf("at first: verdict %d, %v", out.Verdict, out.Err)
				}
			}
			if tc.request != nil {
				tc.request(r)
			}
			if tc.change != nil {
				tc.change(f)
			}
			out := f.Check(f.ctx, r)
			if out.Verdict != tc.want || out.Finding.Class != tc.class {
				t.Fatalf("verdict %d, class %q (%v); want %d, %q", out.Verdict, out.Finding.Class, out.Err, tc.want, tc.class)
			}
			if (out.Err != nil) != (tc.want == Unavailable) {
				t.Errorf("error %v", out.Err)
			}
			if tc.want == Pass && (out.User == nil || out.User.Name != "alice") {
				t.Errorf("let in as %v", out.User)
			}
		})
	}
	if Verdict(0) != Refuse {
		t.Error("the zero verdict does not refuse")
	}
}

// A cookie is remembered, and so is what was looked up by it. The next configuration has other places for that.
func TestAnotherGateLooksUpAnew(t *testing.T) {
	f := newFixture(t)
	_, cookie := f.begin(mfa.Password, mfa.TOTP)
	first := f.Check(f.ctx, f.request(cookie))
	if first.Verdict != Pass {
		t.Fatalf("verdict %d, %v", first.Verdict, first.Err)
	}
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{1}, seal.MinSecret))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := store.NewMemory()
	next := *f.Gate
	next.Accounts = account.NewService(elsewhere, account.NewView(elsewhere), time.Minute, keys) // where alice has no account
	client := mfa.Client{App: mfa.Browser}
	for _, g := range []struct {
		*Gate
		want Verdict
	}{{&next, SignIn}, {f.Gate, Pass}, {&next, SignIn}} {
		if out := g.Check(f.ctx, f.request(cookie)); out.Verdict != g.want {
			t.Errorf("a request: verdict %d, want %d (%v)", out.Verdict, g.want, out.Err)
		}
		if out := g.Again(f.ctx, first.Current, "hr", &client, f.now); out.Verdict != g.want {
			t.Errorf("an open connection: verdict %d, want %d (%v)", out.Verdict, g.want, out.Err)
		}
	}
}

// The news of an account may come after that of a session that was issued with it.
func TestASessionThatIsNewerThanTheAccountInMemory(t *testing.T) {
	f := newFixture(t)
	stale := *f.Gate
	silent := silentStore{f.store}
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{1}, seal.MinSecret))
	if err != nil {
		t.Fatal(err)
	}
	stale.Accounts = account.NewService(silent, account.NewView(silent), time.Minute, keys)
	if _, err := stale.Accounts.Get(f.ctx, f.people.user.ID); err != nil {
		t.Fatal(err)
	}
	f.change(func(a *account.Account) { a.BeginEpoch("") })
	_, cookie := f.begin(mfa.Password, mfa.TOTP)
	if out := stale.Check(f.ctx, f.request(cookie)); out.Verdict != Pass {
		t.Fatalf("verdict %d, %v", out.Verdict, out.Err)
	}
}

// silentStore tells nobody of changes.
type silentStore struct{ store.Store }

func (silentStore) Watch(func(string)) func() { return func() {} }

func TestAnOpenConnectionIsJudgedByWhatHolds(t *testing.T) {
	f := newFixture(t)
	current, _ := f.begin(mfa.Password, mfa.TOTP)
	half, _ := f.begin(mfa.Password)
	client := mfa.Client{App: mfa.Browser, Address: netip.MustParseAddr("203.0.113.9")}
	again := func(c session.Current) Verdict { return f.Again(f.ctx, c, "hr", &client, f.now).Verdict }
	if v := again(current); v != Pass {
		t.Fatalf("verdict %d", v)
	}
	if v := again(half); v != StepUp {
		t.Fatalf("with half of what is needed: verdict %d", v)
	}
	// A new token doesn't end what the old one has opened.
	elevated, _, err := f.sessions.Elevate(f.ctx, current, f.now, func(*mfa.Session) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(time.Minute)
	if v := again(current); v != Pass {
		t.Fatalf("after a new token: verdict %d", v)
	}
	if err := f.sessions.End(f.ctx, elevated.Session.User, elevated.Session.ID); err != nil {
		t.Fatal(err)
	}
	if v := again(current); v != SignIn {
		t.Fatalf("after sign-out: verdict %d", v)
	}
	f.store.Close()
	if v := again(half); v != Unavailable {
		t.Fatalf("without the store: verdict %d", v)
	}
}

func BenchmarkCheck(b *testing.B) {
	f := newFixture(b)
	_, cookie := f.begin(mfa.Password, mfa.TOTP)
	r := f.request(cookie)
	r.Application.NoIdle = NewPaths([]string{"/report"}) // activity is written once a minute, and not measured here
	b.ReportAllocs()
	for b.Loop() {
		if out := f.Check(f.ctx, r); out.Verdict != Pass {
			b.Fatal(out.Verdict, out.Err)
		}
	}
}
