package gate

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// people is a directory of some users, which counts what it is asked.
type people struct {
	mu    sync.Mutex
	users map[string]mfa.User
	calls atomic.Int64
	err   error
}

func (p *people) Name() string { return "file" }

func (p *people) find(name string) (*mfa.User, error) {
	p.calls.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	u, ok := p.users[name]
	if !ok {
		return nil, directory.ErrUnknown
	}
	return &u, nil
}

func (p *people) ByName(_ context.Context, name string) (*mfa.User, error) { return p.find(name) }
func (p *people) ByID(_ context.Context, id string) (*mfa.User, error)     { return p.find(id) }
func (p *people) Users(context.Context) ([]*mfa.User, error)               { return nil, nil }
func (p *people) Authenticate(_ context.Context, name, password string) (*mfa.User, error) {
	u, err := p.find(name)
	if err != nil || u.Disabled || password != "pw-"+name {
		return nil, directory.ErrPassword
	}
	return u, nil
}

func (p *people) change(name string, change func(*mfa.User)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.users[name]
	change(&u)
	p.users[name] = u
}

// judge stands in for the service that verifies passwords: it counts them, and lets nobody try a sixth wrong one from a place.
type judge struct {
	f      *doorsFixture
	hashes atomic.Int64
	mu     sync.Mutex
	wrong  map[string]int
}

func (j *judge) Basic(ctx context.Context, try Try) (*mfa.User, *account.Account, error) {
	client, name, password := try.Client, try.Name, try.Password
	if client.App != policy.OtherClients && client.App != policy.ExchangeActiveSync {
		j.f.t.Errorf("verified as a client of the kind %q", client.App)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	place := name + " " + throttle.Place(client.Address)
	if j.wrong[place] >= 5 {
		return nil, nil, &throttle.WaitError{Until: try.Now.Add(time.Minute), Scope: "user and address"}
	}
	j.wrong[place]++
	j.hashes.Add(1)
	u, err := j.f.people.Authenticate(ctx, name, password)
	if err != nil {
		return nil, nil, err
	}
	a, err := j.f.accounts.Get(ctx, u.ID)
	if err != nil {
		return nil, nil, err
	}
	if a.State.Blocked != nil {
		return nil, nil, directory.ErrPassword
	}
	delete(j.wrong, place)
	return u, a, nil
}

// keys are app passwords by name, application and secret, and one service token.
type keys struct {
	f       *doorsFixture
	calls   atomic.Int64
	revoked atomic.Bool
	err     error
}

func (k *keys) AppPassword(ctx context.Context, name, secret string, use Use) (Holder, error) {
	k.calls.Add(1)
	if k.err != nil {
		return Holder{}, k.err
	}
	u, err := k.f.people.ByName(ctx, name)
	if err != nil || secret != "key-"+name+"-"+use.Application || k.revoked.Load() || use.AppPasswords == Off {
		return Holder{}, ErrWrongKey
	}
	a, err := k.f.accounts.Get(ctx, u.ID)
	return Holder{User: u, Account: a, Key: "k1", Name: "mail"}, err
}

// AppPasswordOverDigest takes the realm's own: a response whose first byte says what becomes of it.
func (k *keys) AppPasswordOverDigest(ctx context.Context, name string, c *legacy.DigestCredential, use Use) (Holder, error) {
	k.calls.Add(1)
	switch {
	case k.err != nil:
		return Holder{}, k.err
	case use.Line != (Line{Method: "GET", Target: "/a?b", Host: "hr.example.com"}):
		k.f.t.Errorf("the request line is %+v", use.Line)
	case c.Response[0] == 1:
		return Holder{}, ErrStale
	case c.Response[0] != 0 || k.revoked.Load():
		return Holder{}, ErrWrongKey
	}
	u, err := k.f.people.ByName(ctx, name)
	if err != nil {
		return Holder{}, ErrWrongKey
	}
	a, err := k.f.accounts.Get(ctx, u.ID)
	return Holder{User: u, Account: a, Key: "k1", Name: "mail"}, err
}

func (k *keys) Challenges(string, bool, time.Time) []string { return nil }

func (k *keys) ServiceToken(_ context.Context, id, secret string, use Use) (Holder, error) {
	k.calls.Add(1)
	switch {
	case k.err != nil:
		return Holder{}, k.err
	case id != "backup" || secret != "s3cret" || k.revoked.Load():
		return Holder{}, ErrWrongKey
	}
	return Holder{User: serviceUser("backup"), Key: "backup", Name: "backup"}, nil
}

func (k *keys) Again(context.Context, Holder, Use) error {
	if k.revoked.Load() {
		return ErrWrongKey
	}
	return k.err
}

type doorsFixture struct {
	*fixture
	people *people
	judge  *judge
	keys   *keys
	app    *Application
}

func newDoors(t testing.TB, m policy.Model, doors Doors) *doorsFixture {
	t.Helper()
	f := &doorsFixture{fixture: newFixture(t), people: &people{users: map[string]mfa.User{}}}
	for _, name := range []string{"alice", "bob", "breakglass"} {
		f.people.users[name] = mfa.User{ID: mfa.UserID{Directory: "file", ID: name}, Name: name, Canonical: name, Mark: "m"}
	}
	set, err := policy.New(m)
	if err != nil {
		t.Fatal(err)
	}
	f.judge, f.keys = &judge{f: f, wrong: map[string]int{}}, &keys{f: f}
	f.Gate.Users, f.Gate.Policy, f.Gate.Passwords, f.Gate.Verified, f.Gate.Keys = directory.Directories{f.people}, set, f.judge, NewVerified(), f.keys
	t.Cleanup(f.Gate.Verified.Close)
	f.app = &Application{Name: "hr", Bypass: NewPaths([]string{"/public/*"}), Doors: doors}
	return f
}

// as is a program's request with these values of Authorization.
func (f *doorsFixture) as(values ...string) *Request {
	r := f.request("")
	r.Application, r.Method, r.Program = f.app, "GET", true
	if len(values) > 0 {
		r.carry("Authorization", values...)
	}
	return r
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

var (
	defaultsOn  = policy.Model{}
	defaultsOff = policy.Model{Defaults: policy.SecurityDefaults{Off: true}}

	office = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	abroad = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
)

// policies is a model with one policy on all users and applications.
func policies(change func(*policy.Policy)) policy.Model {
	p := policy.Policy{Name: "one", State: policy.Enabled, Conditions: policy.Conditions{Users: policy.Users{All: true}, Applications: []string{policy.All}}}
	change(&p)
	m := defaultsOff
	m.Policies = []policy.Policy{p}
	return m
}

func mfaButBreakglass(p *policy.Policy) {
	p.Grant.MFA, p.Conditions.ExcludeUsers.Users = true, []string{"breakglass"}
}

func copying(path, destination string) func(*doorsFixture, *Request) {
	return func(_ *doorsFixture, r *Request) {
		r.Method, r.Asked, r.Rewritten, r.Destinations = "COPY", path, path, []string{destination}
	}
}

func blockAll(p *policy.Policy) { p.Grant.Block = true }

func blockButBreakglass(p *policy.Policy) {
	p.Grant.Block, p.Conditions.ExcludeUsers.Users = true, []string{"breakglass"}
}

const (
	digest = `Digest username="alice", realm="x", nonce="n", uri="/", response="00000000000000000000000000000000"`
	ntlm   = "NTLM TlRMTVNTUAABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	bearer = "Bearer abc"
)

func one(mode Mode, scope Scope, classes ...legacy.Class) Doors {
	return Doors{Rules: []Rule{{Classes: classes, Mode: mode, Scope: scope}}}
}

// byDigest takes app passwords over Digest too, and digestScope also lets the application's own Digest through from the office.
var (
	byDigest    = Doors{AppPasswords: On, Digest: true}
	digestScope = Doors{AppPasswords: On, Digest: true, Rules: []Rule{{Mode: Allow, Classes: []legacy.Class{legacy.Digest}, Scope: Scope{From: office}}}}
)

// digestOf is a Digest credential whose response begins so.
func digestOf(user, response string) string {
	return `Digest username="` + user + `", realm="hr: app password", nonce="n", uri="/a?b", qop=auth, nc=00000001, cnonce="c", algorithm=MD5, response="` + response + strings.Repeat("7", 30) + `"`
}

// asked is the request line that digestOf is for.
func asked(_ *doorsFixture, r *Request) {
	r.Line = Line{Method: "GET", Target: "/a?b", Host: "hr.example.com"}
}

func TestDoors(t *testing.T) {
	from := func(ranges []netip.Prefix) Scope { return Scope{From: ranges} }
	below := func(paths ...string) Scope { return Scope{Paths: NewPaths(paths)} }
	ends := time.Now().Add(time.Hour)
	forAlice := Doors{Exceptions: []Exception{{Name: "x", User: "alice", Classes: []legacy.Class{legacy.Basic}, Until: ends, Scope: Scope{From: office}}}}
	forScanner := Doors{Exceptions: []Exception{{Name: "y", Service: "scanner", Classes: []legacy.Class{legacy.Digest}, Until: ends, Scope: Scope{From: office}}}}
	for reason, tc := range map[string]struct {
		model     policy.Model
		doors     Doors
		emergency bool
		request   []string // values of Authorization
		change    func(*doorsFixture, *Request)
		want      Verdict
		by        By
		user      string
		invite    bool
		hashes    int64
	}{
		// Nobody has said anything.
		"security defaults block a right password":               {model: defaultsOn, request: []string{basic("alice", "pw-alice")}, want: Legacy},
		"without them it is enough":                              {model: defaultsOff, request: []string{basic("alice", "pw-alice")}, want: Admit, by: ByPassword, user: "alice", hashes: 1},
		"a wrong one isn't":                                      {model: defaultsOff, request: []string{basic("alice", "junk")}, want: Legacy, invite: true, hashes: 1},
		"nor is one of nobody":                                   {model: defaultsOff, request: []string{basic("mallory", "pw-mallory")}, want: Legacy},
		"nor what nobody can be called":                          {model: defaultsOff, request: []string{basic("a b\u202e", "x")}, want: Legacy},
		"an excluded user may":                                   {model: policies(mfaButBreakglass), request: []string{basic("breakglass", "pw-breakglass")}, want: Admit, by: ByPassword, user: "breakglass", hashes: 1},
		"others are refused without a hash":                      {model: policies(mfaButBreakglass), request: []string{basic("alice", "pw-alice")}, want: Legacy},
		"also those whom nobody knows":                           {model: policies(mfaButBreakglass), request: []string{basic("mallory", "x")}, want: Legacy},
		"a disabled user with a right password":                  {model: defaultsOff, request: []string{basic("alice", "pw-alice")}, change: disable, want: Legacy},
		"a blocked user with a right password":                   {model: defaultsOff, request: []string{basic("alice", "pw-alice")}, change: block, want: Legacy},
		"Digest can't be verified":                               {model: defaultsOff, request: []string{digest}, want: Legacy},
		"nor NTLM":                                               {model: defaultsOff, request: []string{ntlm}, want: Legacy},
		"nor what is malformed":                                  {model: defaultsOff, request: []string{"Basic"}, want: Legacy},
		"a Bearer token is no legacy, and opens nothing":         {model: defaultsOff, request: []string{bearer}, want: SignIn},
		"a Basic beside a Bearer is refused":                     {model: defaultsOff, request: []string{bearer, basic("alice", "pw-alice")}, want: Legacy},
		"two Basics are refused":                                 {model: defaultsOff, request: []string{basic("alice", "pw-alice"), basic("bob", "x")}, want: Legacy},
		"a signed request is counted, and one like any other":    {model: defaultsOn, request: []string{`Hawk id="x", mac="y"`}, want: SignIn},
		"Basic, and the directory is down":                       {model: defaultsOff, request: []string{basic("alice", "pw-alice")}, change: func(f *doorsFixture, _ *Request) { f.people.err = directory.ErrUnavailable }, want: Unavailable},
		"Basic, and the directory is down where nobody is asked": {model: defaultsOn, request: []string{basic("alice", "pw-alice")}, change: func(f *doorsFixture, _ *Request) { f.people.err = directory.ErrUnavailable }, want: Legacy},
		"ActiveSync is the other kind of client": {model: policies(func(p *policy.Policy) {
			p.Grant.Block, p.Conditions.ClientApps = true, []policy.ClientApp{policy.ExchangeActiveSync}
		}), request: []string{basic("alice", "pw-alice")}, change: to("/Microsoft-Server-ActiveSync"), want: Legacy},
		"a policy for it blocks no other": {model: policies(func(p *policy.Policy) {
			p.Grant.Block, p.Conditions.ClientApps = true, []policy.ClientApp{policy.ExchangeActiveSync}
		}), request: []string{basic("alice", "pw-alice")}, want: Admit, by: ByPassword, user: "alice", hashes: 1},
		"Basic on a bypassed path is nobody's business": {model: defaultsOn, request: []string{basic("alice", "junk")}, change: to("/public/a"), want: Bypass},

		// Modes.
		"allowed, a right password passes with its user": {model: defaultsOn, doors: one(Allow, Scope{}, legacy.Basic), request: []string{basic("alice", "pw-alice")}, want: Admit, by: ByPassword, user: "alice", hashes: 1},
		"allowed, a wrong one is refused":                {model: defaultsOn, doors: one(Allow, Scope{}, legacy.Basic), request: []string{basic("alice", "junk")}, want: Legacy, invite: true, hashes: 1},
		"allowed, nobody's is judged at the same cost":   {model: defaultsOn, doors: one(Allow, Scope{}, legacy.Basic), request: []string{basic("mallory", "junk")}, want: Legacy, invite: true, hashes: 1},
		"allowed, a disabled user's is a wrong one":      {model: defaultsOn, doors: one(Allow, Scope{}, legacy.Basic), request: []string{basic("alice", "pw-alice")}, change: disable, want: Legacy, invite: true, hashes: 1},
		"allowed, a blocked user's too":                  {model: defaultsOn, doors: one(Allow, Scope{}, legacy.Basic), request: []string{basic("alice", "pw-alice")}, change: block, want: Legacy, invite: true, hashes: 1},
		"reported is as allowed":                         {model: defaultsOn, doors: one(Report, Scope{}, legacy.Basic), request: []string{basic("alice", "pw-alice")}, want: Admit, by: ByPassword, user: "alice", hashes: 1},
		"reported, junk is refused":                      {model: defaultsOn, doors: one(Report, Scope{}), request: []string{basic("alice", "junk")}, want: Legacy, invite: true, hashes: 1},
		"reported, a junk Digest is refused":             {model: defaultsOn, doors: one(Report, Scope{}), request: []string{digest}, want: Legacy},
		"allowed, a junk Digest is refused":              {model: defaultsOn, doors: one(Allow, Scope{}, legacy.Digest), request: []string{digest}, want: Legacy},
		"allowed, a junk Bearer needs a session":         {model: defaultsOn, doors: one(Allow, Scope{}), request: []string{bearer}, want: SignIn},
		"allowed, junk behind Basic is refused":          {model: defaultsOn, doors: one(Allow, Scope{}), request: []string{"Basic junk"}, want: Legacy},
		"allowed, a Basic beside a Bearer is refused":    {model: defaultsOn, doors: one(Allow, Scope{}), request: []string{bearer, basic("alice", "pw-alice")}, want: Legacy},
		"also inside of a scope":                         {model: defaultsOn, doors: one(Allow, from(office)), request: []string{bearer, basic("alice", "pw-alice")}, want: Legacy},
		"two Basics inside of a scope":                   {model: defaultsOn, doors: one(Allow, from(office)), request: []string{basic("alice", "pw-alice"), basic("alice", "pw-alice")}, want: Legacy},
		"blocked, where policy has nothing against it":   {model: defaultsOff, doors: one(Block, Scope{}, legacy.Basic), request: []string{basic("alice", "pw-alice")}, want: Legacy},
		"blocked, a signed request is refused":           {model: defaultsOff, doors: one(Block, Scope{}, legacy.Hawk), request: []string{`Hawk id="x", mac="y"`}, want: Legacy},
		"a rule for another class":                       {model: defaultsOn, doors: one(Allow, Scope{}, legacy.Digest), request: []string{basic("alice", "pw-alice")}, want: Legacy},
		"an unverified class inside of its scope":        {model: defaultsOn, doors: one(Allow, from(office), legacy.Digest), request: []string{digest}, want: Admit, by: ByScope},
		"and outside":                                        {model: defaultsOn, doors: one(Allow, from(abroad), legacy.Digest), request: []string{digest}, want: Legacy},
		"and from an address that nobody knows":              {model: defaultsOn, doors: one(Allow, from(office), legacy.Digest), request: []string{digest}, change: at(""), want: Legacy},
		"and from IPv4 in the dress of IPv6":                 {model: defaultsOn, doors: one(Allow, from(office), legacy.Digest), request: []string{digest}, change: at("::ffff:203.0.113.9"), want: Admit, by: ByScope},
		"a path inside":                                      {model: defaultsOn, doors: one(Allow, below("/scan/*"), legacy.Digest), request: []string{digest}, change: to("/scan/1"), want: Admit, by: ByScope},
		"a copy that leaves it":                              {model: defaultsOn, doors: one(Allow, below("/scan/*"), legacy.Digest), request: []string{digest}, change: copying("/scan/1", "/report"), want: Legacy},
		"a copy inside of it":                                {model: defaultsOn, doors: one(Allow, below("/scan/*"), legacy.Digest), request: []string{digest}, change: copying("/scan/1", "/scan/2"), want: Admit, by: ByScope},
		"a copy into what is shut":                           {model: defaultsOff, doors: one(Block, below("/scan/*"), legacy.Basic), request: []string{basic("alice", "pw-alice")}, change: copying("/report", "/scan/2"), want: Legacy},
		"a copy out of a bypassed path":                      {model: defaultsOn, change: copying("/public/a", "/report"), want: SignIn},
		"a copy inside of a bypassed path":                   {model: defaultsOn, change: copying("/public/a", "/public/b"), want: Bypass},
		"a path that climbs out":                             {model: defaultsOn, doors: one(Allow, below("/scan/*"), legacy.Digest), request: []string{digest}, change: to("/scan/../report"), want: Legacy},
		"a path that climbs out for some":                    {model: defaultsOn, doors: one(Allow, below("/scan/*"), legacy.Digest), request: []string{digest}, change: to("/scan/..;/report"), want: Legacy},
		"a path that was rewritten into the scope":           {model: defaultsOn, doors: one(Allow, below("/scan/*"), legacy.Digest), request: []string{digest}, change: func(_ *doorsFixture, r *Request) { r.Rewritten = "/scan/1" }, want: Legacy},
		"a path that was rewritten out of it":                {model: defaultsOn, doors: one(Allow, below("/scan/*"), legacy.Digest), request: []string{digest}, change: func(_ *doorsFixture, r *Request) { r.Asked = "/scan/1" }, want: Legacy},
		"Basic outside of the rule's scope":                  {model: defaultsOn, doors: one(Allow, from(abroad), legacy.Basic), request: []string{basic("alice", "pw-alice")}, want: Legacy},
		"a Basic inside of a scope is verified all the same": {model: defaultsOn, doors: one(Allow, from(office)), request: []string{basic("alice", "junk")}, want: Legacy, invite: true, hashes: 1},

		"NTLM inside of its scope, over shared connections": {model: defaultsOn, doors: one(Allow, from(office), legacy.NTLM), request: []string{ntlm}, want: Legacy},
		"and beside another credential":                     {model: defaultsOn, doors: one(Allow, from(office)), request: []string{digest, ntlm}, want: Legacy},
		"and where it is malformed":                         {model: defaultsOn, doors: one(Allow, from(office)), request: []string{"x, NTLM TlRMTVNTUAABAAAA"}, want: Legacy},
		"and where a service is excepted":                   {model: defaultsOn, doors: Doors{Exceptions: []Exception{{Name: "z", Service: "scanner", Classes: []legacy.Class{legacy.NTLM}, Until: ends, Scope: Scope{From: office}}}}, request: []string{ntlm}, want: Legacy},
		"NTLM over a connection for each client":            {model: defaultsOn, doors: Doors{Rules: one(Allow, from(office), legacy.NTLM).Rules, Unshared: true}, request: []string{ntlm}, want: Admit, by: ByScope},

		// A policy that blocks whatever the client is above all that.
		"allowed, but a policy blocks everybody whatever he uses":     {model: policies(blockAll), doors: one(Allow, Scope{}), request: []string{basic("alice", "pw-alice")}, want: Legacy},
		"an app password does not help there":                         {model: policies(blockAll), doors: Doors{AppPasswords: On}, request: []string{basic("alice", "key-alice-hr")}, want: Legacy},
		"a service token neither":                                     {model: policies(blockAll), doors: Doors{ServiceTokens: true}, change: tokened("s3cret"), want: Legacy, user: "service:backup"},
		"nor a scope":                                                 {model: policies(blockAll), doors: one(Allow, from(office), legacy.Digest), request: []string{digest}, want: Legacy},
		"nor an exception":                                            {model: policies(blockAll), doors: forAlice, request: []string{basic("alice", "pw-alice")}, want: Legacy},
		"who is excluded can't be tested with wrong passwords: alice": {model: policies(blockButBreakglass), doors: one(Allow, Scope{}), request: []string{basic("alice", "junk")}, want: Legacy, invite: true, hashes: 1},
		"who is excluded can't be tested with wrong passwords: he":    {model: policies(blockButBreakglass), doors: one(Allow, Scope{}), request: []string{basic("breakglass", "junk")}, want: Legacy, invite: true, hashes: 1},
		"with a right one she learns it":                              {model: policies(blockButBreakglass), doors: one(Allow, Scope{}), request: []string{basic("alice", "pw-alice")}, want: Legacy, user: "alice", hashes: 1},
		"and he gets in":                                              {model: policies(blockButBreakglass), doors: one(Allow, Scope{}), request: []string{basic("breakglass", "pw-breakglass")}, want: Admit, by: ByPassword, user: "breakglass", hashes: 1},
		"an app password of hers":                                     {model: policies(blockButBreakglass), doors: Doors{AppPasswords: On}, request: []string{basic("alice", "key-alice-hr")}, want: Legacy, user: "alice"},

		// Keys.
		"an app password":                                     {model: defaultsOn, doors: Doors{AppPasswords: On}, request: []string{basic("alice", "key-alice-hr")}, want: Admit, by: ByAppPassword, user: "alice"},
		"one of another application":                          {model: defaultsOn, doors: Doors{AppPasswords: On}, request: []string{basic("alice", "key-alice-wiki")}, want: Legacy, invite: true},
		"one of another user":                                 {model: defaultsOn, doors: Doors{AppPasswords: On}, request: []string{basic("bob", "key-alice-hr")}, want: Legacy, invite: true},
		"one that was revoked":                                {model: defaultsOn, doors: Doors{AppPasswords: On}, request: []string{basic("alice", "key-alice-hr")}, change: func(f *doorsFixture, _ *Request) { f.keys.revoked.Store(true) }, want: Legacy, invite: true},
		"one where they are off":                              {model: defaultsOn, doors: Doors{AppPasswords: Off}, request: []string{basic("alice", "key-alice-hr")}, change: func(f *doorsFixture, _ *Request) { f.PerUserAppPasswords = true }, want: Legacy},
		"one where nothing is said of them":                   {model: defaultsOn, request: []string{basic("alice", "key-alice-hr")}, want: Legacy},
		"one where the user's own setting has them":           {model: defaultsOn, request: []string{basic("alice", "key-alice-hr")}, change: func(f *doorsFixture, _ *Request) { f.PerUserAppPasswords = true }, want: Admit, by: ByAppPassword, user: "alice"},
		"one beside a Bearer":                                 {model: defaultsOn, doors: Doors{AppPasswords: On}, request: []string{bearer, basic("alice", "key-alice-hr")}, want: Legacy},
		"one after too many that were wrong":                  {model: defaultsOn, doors: Doors{AppPasswords: On}, request: []string{basic("alice", "key-alice-hr")}, change: func(f *doorsFixture, _ *Request) { f.keys.err = &throttle.WaitError{} }, want: Legacy},
		"one, and the store is down":                          {model: defaultsOn, doors: Doors{AppPasswords: On}, request: []string{basic("alice", "key-alice-hr")}, change: func(f *doorsFixture, _ *Request) { f.keys.err = errors.New("down") }, want: Unavailable},
		"one where Basic is blocked":                          {model: defaultsOn, doors: Doors{AppPasswords: On, Rules: []Rule{{Mode: Block}}}, request: []string{basic("alice", "key-alice-hr")}, want: Admit, by: ByAppPassword, user: "alice"},
		"the password itself where app passwords are on":      {model: defaultsOn, doors: Doors{AppPasswords: On}, request: []string{basic("alice", "pw-alice")}, want: Legacy, invite: true},
		"the password itself where they are on beside report": {model: defaultsOn, doors: Doors{AppPasswords: On, Rules: []Rule{{Mode: Report}}}, request: []string{basic("alice", "pw-alice")}, want: Admit, by: ByPassword, user: "alice", hashes: 1},
		"an app password beside report":                       {model: defaultsOn, doors: Doors{AppPasswords: On, Rules: []Rule{{Mode: Report}}}, request: []string{basic("alice", "key-alice-hr")}, want: Admit, by: ByAppPassword, user: "alice"},
		"one over Digest":                                     {model: defaultsOn, doors: byDigest, request: []string{digestOf("alice", "00")}, change: asked, want: Admit, by: ByAppPassword, user: "alice"},
		"one over Digest, in capitals":                        {model: defaultsOn, doors: byDigest, request: []string{digestOf("ALICE", "00")}, change: asked, want: Admit, by: ByAppPassword, user: "alice"},
		"a wrong one over Digest":                             {model: defaultsOn, doors: byDigest, request: []string{digestOf("alice", "02")}, change: asked, want: Legacy, invite: true},
		"one over Digest of nobody":                           {model: defaultsOn, doors: byDigest, request: []string{digestOf("zoe", "00")}, change: asked, want: Legacy, invite: true},
		"one over Digest with an old nonce":                   {model: defaultsOn, doors: byDigest, request: []string{digestOf("alice", "01")}, change: asked, want: Legacy, invite: true},
		"one over Digest after too many wrong ones":           {model: defaultsOn, doors: byDigest, request: []string{digestOf("alice", "00")}, change: func(f *doorsFixture, r *Request) { f.keys.err = &throttle.WaitError{} }, want: Legacy},
		"one over Digest, and the store is down":              {model: defaultsOn, doors: byDigest, request: []string{digestOf("alice", "00")}, change: func(f *doorsFixture, r *Request) { f.keys.err = errors.New("down") }, want: Unavailable},
		"one over Digest where they come over Basic alone":    {model: defaultsOn, doors: Doors{AppPasswords: On}, request: []string{digestOf("alice", "00")}, change: asked, want: Legacy},
		"one over Digest where there are none":                {model: defaultsOn, doors: Doors{Digest: true}, request: []string{digestOf("alice", "00")}, change: asked, want: Legacy},
		"one over Digest where the user's setting decides":    {model: defaultsOn, doors: Doors{Digest: true}, request: []string{digestOf("alice", "00")}, change: func(f *doorsFixture, _ *Request) { f.PerUserAppPasswords = true }, want: Legacy},
		"one over Digest, twice":                              {model: defaultsOn, doors: byDigest, request: []string{digestOf("alice", "00"), digestOf("alice", "00")}, change: asked, want: Legacy},
		"one over Digest beside Basic":                        {model: defaultsOn, doors: byDigest, request: []string{digestOf("alice", "00"), basic("alice", "key-alice-hr")}, change: asked, want: Legacy},
		"Digest that can't be judged, where it is on":         {model: defaultsOn, doors: byDigest, request: []string{digest}, change: asked, want: Legacy},
		"Digest for the application's own realm":              {model: defaultsOn, doors: byDigest, request: []string{strings.Replace(digestOf("alice", "00"), "hr: app password", "hr", 1)}, change: asked, want: Legacy},
		"that in its scope":                                   {model: defaultsOn, doors: digestScope, request: []string{strings.Replace(digestOf("alice", "00"), "hr: app password", "hr", 1)}, change: asked, want: Admit, by: ByScope},
		"one over Digest in that scope":                       {model: defaultsOn, doors: digestScope, request: []string{digestOf("alice", "00")}, change: asked, want: Admit, by: ByAppPassword, user: "alice"},
		"a wrong one over Digest in that scope":               {model: defaultsOn, doors: digestScope, request: []string{digestOf("alice", "02")}, change: asked, want: Legacy, invite: true},
		"one over Digest of who is blocked":                   {model: policies(blockButBreakglass), doors: byDigest, request: []string{digestOf("alice", "00")}, change: asked, want: Legacy, user: "alice"},
		"a service token":                                     {model: defaultsOn, doors: Doors{ServiceTokens: true}, change: tokened("s3cret"), want: Admit, by: ByServiceToken, user: "service:backup"},
		"one beside the application's own Basic":              {model: defaultsOn, doors: Doors{ServiceTokens: true}, request: []string{basic("svc", "x")}, change: tokened("s3cret"), want: Admit, by: ByServiceToken, user: "service:backup"},
		"a wrong one":                                         {model: defaultsOn, doors: Doors{ServiceTokens: true}, change: tokened("x"), want: Legacy},
		"one where they are off, and nothing else":            {model: defaultsOn, change: tokened("s3cret"), want: SignIn},

		// Exceptions.
		"an exception for alice":                   {model: defaultsOn, doors: forAlice, request: []string{basic("alice", "pw-alice")}, want: Admit, by: ByPassword, user: "alice", hashes: 1},
		"her wrong password":                       {model: defaultsOn, doors: forAlice, request: []string{basic("alice", "junk")}, want: Legacy, invite: true, hashes: 1},
		"it is not for bob":                        {model: defaultsOn, doors: forAlice, request: []string{basic("bob", "pw-bob")}, want: Legacy},
		"nor for another class":                    {model: defaultsOn, doors: forAlice, request: []string{digest}, want: Legacy},
		"nor for another place":                    {model: defaultsOn, doors: forAlice, request: []string{basic("alice", "pw-alice")}, change: at("198.51.100.1"), want: Legacy},
		"nor for ever":                             {model: defaultsOn, doors: forAlice, request: []string{basic("alice", "pw-alice")}, change: func(f *doorsFixture, r *Request) { r.Now = ends }, want: Legacy},
		"it is above the mode":                     {model: defaultsOn, doors: Doors{Exceptions: forAlice.Exceptions, Rules: []Rule{{Mode: Block}}}, request: []string{basic("alice", "pw-alice")}, want: Admit, by: ByPassword, user: "alice", hashes: 1},
		"an exception for a machine":               {model: defaultsOn, doors: forScanner, request: []string{digest}, want: Admit, by: ByScope},
		"and its handshake":                        {model: defaultsOn, doors: forScanner, want: Admit, by: ByHandshake},
		"but no Bearer token":                      {model: defaultsOn, doors: forScanner, request: []string{bearer}, want: SignIn},
		"a policy on all users is on services too": {model: policies(blockButBreakglass), doors: forScanner, request: []string{digest}, want: Legacy},

		// Emergency.
		"an emergency: a right password passes":                        {model: defaultsOn, emergency: true, request: []string{basic("alice", "pw-alice")}, want: Admit, by: ByPassword, user: "alice", hashes: 1},
		"an emergency: also where it is blocked":                       {model: defaultsOn, emergency: true, doors: one(Block, Scope{}), request: []string{basic("alice", "pw-alice")}, want: Admit, by: ByPassword, user: "alice", hashes: 1},
		"an emergency: a wrong one doesn't":                            {model: defaultsOn, emergency: true, request: []string{basic("alice", "junk")}, want: Legacy, invite: true, hashes: 1},
		"an emergency: Digest has no scope":                            {model: defaultsOn, emergency: true, request: []string{digest}, want: Legacy},
		"an emergency: Digest inside of one":                           {model: defaultsOn, emergency: true, doors: one(Report, from(office), legacy.Digest), request: []string{digest}, want: Admit, by: ByScope},
		"an emergency: the scope of a block opens certainly inside it": {model: defaultsOn, emergency: true, doors: one(Block, from(office), legacy.Digest), request: []string{digest}, change: at(""), want: Legacy},
		"an emergency: policy still blocks whatever the client":        {model: policies(blockAll), emergency: true, request: []string{basic("alice", "pw-alice")}, want: Legacy},
		"an emergency: a browser still signs in":                       {model: defaultsOn, emergency: true, change: func(_ *doorsFixture, r *Request) { r.Program = false }, want: SignIn},

		// What a program without a credential gets.
		"nothing could pass":                            {model: defaultsOn, want: SignIn},
		"an app password could":                         {model: defaultsOn, doors: Doors{AppPasswords: On}, want: SignIn, invite: true},
		"a password could, says policy":                 {model: defaultsOff, want: SignIn, invite: true},
		"somebody's could":                              {model: policies(mfaButBreakglass), want: SignIn, invite: true},
		"a password could, says a rule":                 {model: defaultsOn, doors: one(Report, Scope{}, legacy.Git), want: SignIn, invite: true},
		"a password could, elsewhere":                   {model: defaultsOn, doors: one(Report, from(abroad), legacy.Basic), want: SignIn},
		"none could, says a rule":                       {model: defaultsOff, doors: one(Block, Scope{}, legacy.Basic), want: SignIn},
		"alice's could":                                 {model: defaultsOn, doors: forAlice, want: SignIn, invite: true},
		"a browser is not asked":                        {model: defaultsOff, change: func(_ *doorsFixture, r *Request) { r.Program = false }, want: SignIn},
		"a policy blocks everybody":                     {model: policies(blockAll), doors: Doors{AppPasswords: On}, want: SignIn},
		"Digest needs its handshake":                    {model: defaultsOn, doors: one(Allow, from(office), legacy.Digest), want: Admit, by: ByHandshake},
		"outside there is none":                         {model: defaultsOn, doors: one(Allow, from(abroad), legacy.Digest), want: SignIn},
		"a navigation has none":                         {model: defaultsOn, doors: one(Allow, from(office), legacy.Digest), change: func(_ *doorsFixture, r *Request) { r.Program = false }, want: SignIn},
		"a Basic needs no challenge of the application": {model: defaultsOn, doors: one(Allow, from(office), legacy.Basic), want: SignIn, invite: true},

		// Applications where nobody signs in.
		"nobody signs in, and nothing is there":                 {model: defaultsOn, doors: Doors{Only: true}, want: Open},
		"nobody signs in, and a Bearer passes":                  {model: defaultsOn, doors: Doors{Only: true}, request: []string{bearer}, want: Open},
		"nobody signs in, and Basic is blocked":                 {model: defaultsOff, doors: Doors{Only: true}, request: []string{basic("alice", "pw-alice")}, want: Legacy},
		"nobody signs in, and Basic is reported":                {model: defaultsOn, doors: Doors{Only: true, Rules: []Rule{{Mode: Report}}}, request: []string{basic("alice", "junk")}, want: Open, by: ByScope},
		"nobody signs in, and Digest is allowed":                {model: defaultsOn, doors: Doors{Only: true, Rules: []Rule{{Mode: Allow, Classes: []legacy.Class{legacy.Digest}}}}, request: []string{digest}, want: Open, by: ByScope},
		"nobody signs in, and junk is malformed":                {model: defaultsOn, doors: Doors{Only: true, Rules: []Rule{{Mode: Report, Classes: []legacy.Class{legacy.Basic}}}}, request: []string{"nonsense"}, want: Legacy},
		"nobody signs in, and a signed request is only counted": {model: defaultsOn, doors: Doors{Only: true}, request: []string{`Hawk id="x", mac="y"`}, want: Open, by: ByScope},
		"nobody signs in, in an emergency":                      {model: defaultsOn, emergency: true, doors: Doors{Only: true, Rules: []Rule{{Mode: Block}}}, request: []string{digest}, want: Open, by: ByScope},
	} {
		t.Run(reason, func(t *testing.T) {
			f := newDoors(t, tc.model, tc.doors)
			f.Gate.Emergency = tc.emergency
			r := f.as(tc.request...)
			if tc.change != nil {
				tc.change(f, r)
			}
			if len(tc.request) > 0 {
				r.carry("Authorization", tc.request...)
			}
			out := f.Check(f.ctx, r)
			by, user := Nothing, ""
			if out.Entry != nil {
				by = out.Entry.By
			}
			if out.User != nil {
				user = out.User.Canonical
			}
			if out.Verdict != tc.want || by != tc.by || user != tc.user || out.Invite != tc.invite {
				t.Errorf("verdict %d by %d as %q, invite %v (%v); want %d by %d as %q, invite %v", out.Verdict, by, user, out.Invite, out.Err, tc.want, tc.by, tc.user, tc.invite)
			}
			if n := f.judge.hashes.Load(); n != tc.hashes {
				t.Errorf("%d passwords were judged, want %d", n, tc.hashes)
			}
			if (out.Err != nil) != (tc.want == Unavailable) {
				t.Errorf("error %v", out.Err)
			}
			if out.Entry != nil && out.Entry.finding.Basic != nil && *out.Entry.finding.Basic != (legacy.Credential{}) {
				t.Error("what stays of a request holds its password")
			}
		})
	}
}

func disable(f *doorsFixture, _ *Request) {
	f.people.change("alice", func(u *mfa.User) { u.Disabled = true })
}

func block(f *doorsFixture, _ *Request) {
	f.change(func(a *account.Account) { a.State.Blocked = &account.Block{At: f.now} })
}

func to(path string) func(*doorsFixture, *Request) {
	return func(_ *doorsFixture, r *Request) { r.Asked, r.Rewritten = path, path }
}

func at(address string) func(*doorsFixture, *Request) {
	return func(_ *doorsFixture, r *Request) {
		r.Client.Address = netip.Addr{}
		if address != "" {
			r.Client.Address = netip.MustParseAddr(address)
		}
	}
}

func tokened(secret string) func(*doorsFixture, *Request) {
	return func(_ *doorsFixture, r *Request) { r.TokenID, r.TokenSecret = "backup", secret }
}

// Where everybody is blocked, nobody is looked up and nothing is judged, whoever is named.
func TestWhereEverybodyIsBlockedNobodyIsAsked(t *testing.T) {
	for reason, c := range map[string]struct {
		model policy.Model
		doors Doors
	}{
		"security defaults":            {defaultsOn, Doors{}},
		"a policy without exclusion":   {policies(func(p *policy.Policy) { p.Grant.MFA = true }), Doors{}},
		"a rule":                       {defaultsOff, one(Block, Scope{}, legacy.Basic)},
		"a rule above its exceptions":  {defaultsOff, Doors{Rules: []Rule{{Mode: Block}}, Exceptions: []Exception{{User: "alice", Classes: []legacy.Class{legacy.Basic}}}}},
		"a policy, in spite of a rule": {policies(blockAll), one(Allow, Scope{})},
	} {
		t.Run(reason, func(t *testing.T) {
			f := newDoors(t, c.model, c.doors)
			var first Outcome
			for i := range 1000 {
				name := [...]string{"alice", "nobody-" + fmt.Sprint(i), "breakglass", "a b\u202e"}[i%4]
				out := f.Check(f.ctx, f.as(basic(name, "pw-"+name)))
				out.Finding.User, out.Finding.Basic = "", nil
				if i == 0 {
					first = out
				}
				if out.Verdict != Legacy || fmt.Sprintf("%+v", out) != fmt.Sprintf("%+v", first) {
					t.Fatalf("%s: %+v, and before %+v", name, out, first)
				}
			}
			if d, h, k := f.people.calls.Load(), f.judge.hashes.Load(), f.keys.calls.Load(); d+h+k != 0 {
				t.Errorf("%d questions to the directory, %d passwords judged, %d keys", d, h, k)
			}
		})
	}
}

func TestAVerifiedPasswordIsRememberedUntilAnythingChanges(t *testing.T) {
	for reason, c := range map[string]struct {
		change func(*doorsFixture)
		want   Verdict
		hashes int64 // in all
	}{
		"nothing":                          {func(*doorsFixture) {}, Admit, 1},
		"four minutes":                     {func(f *doorsFixture) { f.now = f.now.Add(4 * time.Minute) }, Admit, 1},
		"five minutes":                     {func(f *doorsFixture) { f.now = f.now.Add(5 * time.Minute) }, Admit, 2},
		"the password":                     {func(f *doorsFixture) { f.people.change("alice", func(u *mfa.User) { u.Mark = "n" }) }, Admit, 2},
		"she is disabled":                  {func(f *doorsFixture) { disable(f, nil) }, Legacy, 2},
		"she is blocked":                   {func(f *doorsFixture) { block(f, nil) }, Legacy, 2},
		"her factors":                      {func(f *doorsFixture) { f.change(func(a *account.Account) { a.BeginEpoch("") }) }, Admit, 2},
		"she is gone":                      {func(f *doorsFixture) { delete(f.people.users, "alice") }, Legacy, 2},
		"the name is another's now":        {func(f *doorsFixture) { f.people.change("alice", func(u *mfa.User) { u.ID.ID = "bob" }) }, Admit, 2},
		"somebody has guessed from there":  {func(f *doorsFixture) { f.Check(f.ctx, f.as(basic("alice", "junk"))) }, Admit, 3},
		"somebody has guessed at another":  {func(f *doorsFixture) { f.Check(f.ctx, f.as(basic("bob", "junk"))) }, Admit, 2},
		"somebody has guessed from abroad": {func(f *doorsFixture) { r := f.as(basic("alice", "junk")); at("198.51.100.1")(f, r); f.Check(f.ctx, r) }, Admit, 2},
	} {
		t.Run(reason, func(t *testing.T) {
			f := newDoors(t, defaultsOn, one(Allow, Scope{}))
			if out := f.Check(f.ctx, f.as(basic("alice", "pw-alice"))); out.Verdict != Admit || !out.Fresh {
				t.Fatalf("%+v", out)
			}
			c.change(f)
			out := f.Check(f.ctx, f.as(basic("alice", "pw-alice")))
			if out.Verdict != c.want || f.judge.hashes.Load() != c.hashes {
				t.Errorf("verdict %d after %d hashes; want %d after %d", out.Verdict, f.judge.hashes.Load(), c.want, c.hashes)
			}
			if again := f.judge.hashes.Load() > 1 && c.want == Admit; out.Fresh != (again && reason != "somebody has guessed at another" && reason != "somebody has guessed from abroad") {
				t.Errorf("fresh: %v", out.Fresh)
			}
		})
	}
}

// Who has used up his attempts learns nothing from what is remembered of its owner, at the same address or at another.
func TestWhatIsRememberedHelpsNobodyWhoGuesses(t *testing.T) {
	f := newDoors(t, defaultsOn, one(Allow, Scope{}))
	alice := func(password string) Outcome { return f.Check(f.ctx, f.as(basic("alice", password))) }
	if out := alice("pw-alice"); out.Verdict != Admit {
		t.Fatal(out.Verdict)
	}
	for i := range 1000 {
		if out := alice(fmt.Sprint("guess ", i)); out.Verdict != Legacy || !out.Wrong {
			t.Fatalf("guess %d: verdict %d", i, out.Verdict)
		}
	}
	if n := f.judge.hashes.Load(); n != 6 {
		t.Errorf("%d passwords were judged", n)
	}
	if out := alice("pw-alice"); out.Verdict != Legacy || out.Invite {
		t.Errorf("the right one, when nothing is judged any more: verdict %d, invite %v", out.Verdict, out.Invite)
	}
	r := f.as(basic("alice", "pw-alice"))
	at("198.51.100.1")(f, r)
	for i := range 10 {
		guess := f.as(basic("alice", fmt.Sprint("guess ", i)))
		guess.Client.Address = r.Client.Address
		f.Check(f.ctx, guess)
	}
	if out := f.Check(f.ctx, r); out.Verdict != Legacy {
		t.Errorf("the right one from another address that has guessed: verdict %d", out.Verdict)
	}
}

func TestAnEntryEndsWithWhatItRestsOn(t *testing.T) {
	ends := time.Now().Add(time.Hour)
	type change struct {
		reason string
		do     func(*doorsFixture)
	}
	nothing := change{"nothing", nil}
	user := []change{
		nothing, {"the password", func(f *doorsFixture) { f.people.change("alice", func(u *mfa.User) { u.Mark = "n" }) }},
		{"disabled", func(f *doorsFixture) { disable(f, nil) }}, {"blocked", func(f *doorsFixture) { block(f, nil) }},
		{"factors", func(f *doorsFixture) { f.change(func(a *account.Account) { a.BeginEpoch("") }) }},
		{"gone", func(f *doorsFixture) { delete(f.people.users, "alice") }},
		{"policy", func(f *doorsFixture) { f.Gate.Policy, _ = policy.New(policies(blockButBreakglass)) }},
		{"the directory is down", func(f *doorsFixture) { f.people.err = directory.ErrUnavailable }},
	}
	ruled := []change{{"the rule", func(f *doorsFixture) { f.app.Doors = Doors{} }}, {"a rule that blocks", func(f *doorsFixture) { f.app.Doors = one(Block, Scope{}) }}}
	for reason, c := range map[string]struct {
		model   policy.Model
		doors   Doors
		request func(*doorsFixture) *Request
		changes []change
	}{
		"a password, allowed":   {defaultsOn, one(Allow, Scope{}), func(f *doorsFixture) *Request { return f.as(basic("alice", "pw-alice")) }, append(ruled, user...)},
		"a password, by policy": {defaultsOff, Doors{}, func(f *doorsFixture) *Request { return f.as(basic("alice", "pw-alice")) }, append([]change{{"policy asks for a factor", func(f *doorsFixture) { f.Gate.Policy, _ = policy.New(policies(mfaButBreakglass)) }}}, user...)},
		"an exception": {defaultsOn, Doors{Exceptions: []Exception{{User: "alice", Classes: []legacy.Class{legacy.Basic}, Until: ends}}}, func(f *doorsFixture) *Request { return f.as(basic("alice", "pw-alice")) },
			append([]change{{"its end", func(f *doorsFixture) { f.now = ends }}}, user...)},
		"an app password": {defaultsOn, Doors{AppPasswords: On}, func(f *doorsFixture) *Request { return f.as(basic("alice", "key-alice-hr")) }, []change{
			nothing, {"revoked", func(f *doorsFixture) { f.keys.revoked.Store(true) }}, {"blocked", func(f *doorsFixture) { block(f, nil) }}, {"disabled", func(f *doorsFixture) { disable(f, nil) }},
			{"the store is down", func(f *doorsFixture) { f.keys.err = errors.New("down") }},
		}},
		"a service token": {defaultsOn, Doors{ServiceTokens: true}, func(f *doorsFixture) *Request { r := f.as(); tokened("s3cret")(f, r); return r }, []change{
			nothing, {"revoked", func(f *doorsFixture) { f.keys.revoked.Store(true) }}, {"off", func(f *doorsFixture) { f.app.Doors.ServiceTokens = false }},
			{"policy", func(f *doorsFixture) { f.Gate.Policy, _ = policy.New(policies(blockButBreakglass)) }},
		}},
		"a scope":     {defaultsOn, one(Allow, Scope{From: office}, legacy.Digest), func(f *doorsFixture) *Request { return f.as(digest) }, append([]change{nothing}, ruled...)},
		"a handshake": {defaultsOn, one(Allow, Scope{From: office}, legacy.Digest), func(f *doorsFixture) *Request { return f.as() }, append([]change{nothing}, ruled...)},
	} {
		for _, change := range c.changes {
			t.Run(reason+"; "+change.reason, func(t *testing.T) {
				f := newDoors(t, c.model, c.doors)
				r := c.request(f)
				out := f.Check(f.ctx, r)
				if out.Verdict != Admit {
					t.Fatalf("verdict %d, %v", out.Verdict, out.Err)
				}
				if change.do != nil {
					change.do(f)
				}
				if ok, err := f.StillAdmits(f.ctx, out.Entry, f.app, &r.Client, f.now); ok != (change.do == nil) || ok && err != nil {
					t.Errorf("it goes on: %v, %v", ok, err)
				}
			})
		}
	}
	var zero Entry
	f := newDoors(t, defaultsOff, Doors{})
	if ok, _ := f.StillAdmits(f.ctx, &zero, f.app, &mfa.Client{}, f.now); ok {
		t.Error("the zero entry admits")
	}
}

// What a body holds is looked at when it can change anything, and not before.
func TestABodyIsReadWhenItMatters(t *testing.T) {
	for reason, c := range map[string]struct {
		doors Doors
		session,
		basic bool
		found legacy.Class
		want  Verdict
		read  bool
	}{
		"nobody, and nothing in it":     {want: SignIn, read: true},
		"nobody, and a credential":      {found: legacy.ROPC, want: Legacy, read: true},
		"somebody who is signed in":     {session: true, found: legacy.ROPC, want: Pass},
		"an app password":               {doors: Doors{AppPasswords: On}, basic: true, found: legacy.XMLRPC, want: Admit},
		"nobody signs in, and blocked":  {doors: Doors{Only: true}, found: legacy.XMLRPC, want: Legacy, read: true},
		"nobody signs in, and reported": {doors: Doors{Only: true, Rules: []Rule{{Mode: Report}}}, found: legacy.XMLRPC, want: Open, read: true},
	} {
		t.Run(reason, func(t *testing.T) {
			f := newDoors(t, defaultsOn, c.doors)
			r := f.as()
			if c.basic {
				r.carry("Authorization", basic("alice", "key-alice-hr"))
			}
			if c.session {
				_, r.Cookie = f.begin(mfa.Password, mfa.TOTP)
			}
			r.Program = false
			r.Finding.Body = true
			read := 0
			r.Body = func(finding legacy.Finding) legacy.Finding {
				read++
				finding.Class, finding.Body = c.found, false
				return finding
			}
			if out := f.Check(f.ctx, r); out.Verdict != c.want || (read == 1) != c.read || read > 1 {
				t.Errorf("verdict %d, read %d times", out.Verdict, read)
			}
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	f := newDoors(t, defaultsOn, Doors{AppPasswords: On, Rules: []Rule{{Mode: Report}}})
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for n := range 50 {
				name := [...]string{"alice", "bob"}[(i+n)%2]
				right := f.as(basic(name, [...]string{"pw-" + name, "key-" + name + "-hr"}[n%2]))
				right.Client.Address = netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
				out := f.Check(f.ctx, right)
				if out.Verdict != Admit || out.User.Canonical != name {
					t.Errorf("%s: verdict %d as %v", name, out.Verdict, out.User)
				}
				f.StillAdmits(f.ctx, out.Entry, f.app, &right.Client, f.now)
			}
		})
	}
	all.Wait()
}

func TestWhichRuleHolds(t *testing.T) {
	scoped := func(mode Mode, scope Scope, classes ...legacy.Class) Rule { return Rule{classes, mode, scope} }
	here, there := Scope{From: office}, Scope{From: abroad}
	git := legacy.Finding{Class: legacy.Git, Scheme: legacy.Basic}
	for reason, c := range map[string]struct {
		rules   []Rule
		finding legacy.Finding
		path    string
		address string
		want    Mode
	}{
		"none":                                {nil, git, "/", "203.0.113.9", NoMode},
		"the class before the scheme":         {[]Rule{scoped(Block, Scope{}, legacy.Basic), scoped(Allow, Scope{}, legacy.Git)}, git, "/", "203.0.113.9", Allow},
		"the scheme before all":               {[]Rule{scoped(Allow, Scope{}), scoped(Block, Scope{}, legacy.Basic)}, git, "/", "203.0.113.9", Block},
		"all, for what nobody names":          {[]Rule{scoped(Report, Scope{}), scoped(Block, Scope{}, legacy.Digest)}, git, "/", "203.0.113.9", Report},
		"the narrower before everywhere":      {[]Rule{scoped(Block, Scope{}, legacy.Git), scoped(Allow, here, legacy.Git)}, git, "/", "203.0.113.9", Allow},
		"everywhere, where that isn't":        {[]Rule{scoped(Block, Scope{}, legacy.Git), scoped(Allow, there, legacy.Git)}, git, "/", "203.0.113.9", Block},
		"the first of two that are narrow":    {[]Rule{scoped(Report, here, legacy.Git), scoped(Allow, here, legacy.Git)}, git, "/", "203.0.113.9", Report},
		"the scheme, where the class isn't":   {[]Rule{scoped(Allow, there, legacy.Git), scoped(Block, here, legacy.Basic)}, git, "/", "203.0.113.9", Block},
		"a scope of all before none":          {[]Rule{scoped(Report, here)}, git, "/", "203.0.113.9", Report},
		"an unknown address is not let in":    {[]Rule{scoped(Allow, here, legacy.Git)}, git, "/", "", NoMode},
		"an unknown address is shut out":      {[]Rule{scoped(Allow, Scope{}, legacy.Git), scoped(Block, here, legacy.Git)}, git, "/", "", Block},
		"a path that some read as shut":       {[]Rule{scoped(Allow, Scope{}, legacy.Git), scoped(Block, Scope{Paths: NewPaths([]string{"/admin/*"})}, legacy.Git)}, git, "/x/..;/admin/", "203.0.113.9", Block},
		"a path that is shut in another case": {[]Rule{scoped(Allow, Scope{}, legacy.Git), scoped(Block, Scope{Paths: NewPaths([]string{"/admin/*"})}, legacy.Git)}, git, "/ADMIN/x", "203.0.113.9", Block},
		"a path that is open":                 {[]Rule{scoped(Allow, Scope{}, legacy.Git), scoped(Block, Scope{Paths: NewPaths([]string{"/admin/*"})}, legacy.Git)}, git, "/repo", "203.0.113.9", Allow},
		"mapped addresses":                    {[]Rule{scoped(Allow, here, legacy.Git)}, git, "/", "::ffff:203.0.113.9", Allow},
		"a zone is no other address":          {[]Rule{scoped(Allow, Scope{From: []netip.Prefix{netip.MustParsePrefix("fe80::/10")}}, legacy.Git)}, git, "/", "fe80::1%eth0", Allow},
	} {
		t.Run(reason, func(t *testing.T) {
			d := Doors{Rules: c.rules}
			where := spot{asked: c.path, rewritten: c.path}
			if c.address != "" {
				where.address = netip.MustParseAddr(c.address)
			}
			got := NoMode
			if r := d.rule(&c.finding, &where, false); r != nil {
				got = r.Mode
			}
			if got != c.want {
				t.Errorf("mode %d, want %d", got, c.want)
			}
		})
	}
}

func BenchmarkBasicFromMemory(b *testing.B) {
	f := newDoors(b, defaultsOn, one(Allow, Scope{}))
	r := f.as(basic("alice", "pw-alice"))
	b.ReportAllocs()
	for b.Loop() {
		if out := f.Check(f.ctx, r); out.Verdict != Admit {
			b.Fatal(out.Verdict)
		}
	}
}

func BenchmarkBasicBlocked(b *testing.B) {
	f := newDoors(b, defaultsOn, Doors{})
	r := f.as(basic("alice", "pw-alice"))
	b.ReportAllocs()
	for b.Loop() {
		if out := f.Check(f.ctx, r); out.Verdict != Legacy {
			b.Fatal(out.Verdict)
		}
	}
}
