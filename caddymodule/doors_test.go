package caddymodule

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/clocktest"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
)

func TestTheConfigurationKnowsEveryClass(t *testing.T) {
	var classes []string
	for _, c := range legacy.Classes() {
		classes = append(classes, string(c))
		a := config.Application{LegacyExceptions: []config.LegacyException{{Classes: []string{string(c)}, User: "alice", Owner: "A", Reason: "B", Until: config.Date{Time: time.Now()}}}}
		if err := a.Validate().Err(); (err == nil) != c.Verifiable() {
			t.Errorf("an exception for a user of the class %s, which can be verified: %v; %v", c, c.Verifiable(), err)
		}
	}
	if !slices.Equal(classes, config.LegacyClasses) {
		t.Errorf("classes are\n%q\nand in the configuration\n%q", classes, config.LegacyClasses)
	}
}

// legacyRequest is a request of a program, as it comes out of Caddy's server.
func legacyRequest(method, target string, header ...string) *http.Request {
	return legacyRequestFrom("203.0.113.9", method, target, header...)
}

func legacyRequestFrom(address, method, target string, header ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "localhost"
	r.Header.Set("User-Agent", "git/2.50.1")
	r.Header.Set("Accept", "*/*")
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, &caddyhttp.Server{})
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, address)
	return r
}

func basicOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// arrived is what has reached an application.
type arrived struct {
	requests int
	header   http.Header
}

func (a *arrived) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	a.requests++
	a.header = r.Header.Clone()
	w.Header().Add("WWW-Authenticate", `Basic realm="legacy"`)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (a *arrived) send(t testing.TB, h *Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r, a); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestJunkNeverReachesAnApplicationThatDemandsASecondFactor(t *testing.T) {
	for _, mode := range []string{"", "legacy_auth all report", "legacy_auth all allow", "legacy_auth basic digest ntlm kerberos malformed git svn webdav allow", "app_passwords on", "service_tokens on"} {
		h := load(t, "mfa app {\n"+mode+"\n}\nrespond ok")
		var app arrived
		for _, authorization := range []string{
			basicOf("alice", "junk"), basicOf("nobody", "junk"), basicOf("", ""), "Basic", "Basic junk", "basic\t" + basicOf("alice", "junk")[6:], "Bearer junk", "Bearer " + basicOf("alice", alicePassword),
			`Digest username="alice"`, "Digest", "NTLM TlRMTVNTUAABAAAA", "Negotiate YIIC", "DPoP x", "PrivateToken x", "nonsense", "AWS4-HMAC-SHA256 x", `Hawk id="x"`, `OAuth x="y"`, "WSSE x",
		} {
			for _, target := range []string{"/", "/repo.git/info/refs?service=git-upload-pack", "/ews/exchange.asmx", "/Microsoft-Server-ActiveSync", "/x?access_token=y", "/dav/"} {
				for _, method := range []string{"GET", "POST", "PROPFIND", "OPTIONS", "REPORT"} {
					app.send(t, h, legacyRequest(method, target, "Authorization", authorization))
				}
			}
		}
		for _, header := range [][]string{
			{"Authorization", "Bearer x", "Authorization", basicOf("alice", alicePassword)}, {"Authorization", basicOf("alice", alicePassword), "Authorization", "Bearer x"},
			{"Authorization", basicOf("alice", alicePassword), "Authorization", basicOf("alice", alicePassword)}, {"Authorization", "Bearer x, " + basicOf("alice", alicePassword)},
			{"X-Wsse", `UsernameToken Username="alice"`}, {"Mfa-Token-Id", "x", "Mfa-Token-Secret", "y"}, {"Mfa-Token-Id", "x"}, {"Remote-User", "alice"},
			{"Mfa-Token-Id", "x", "Mfa-Token-Id", "y", "Mfa-Token-Secret", "z", "Authorization", basicOf("alice", alicePassword), "Authorization", "Bearer x"},
		} {
			app.send(t, h, legacyRequest("GET", "/", header...))
		}
		app.send(t, h, legacyRequest("GET", "http://alice:"+url.QueryEscape(alicePassword)+"@localhost/"))
		if app.requests != 0 {
			t.Errorf("with %q, %d requests have reached the application; the last one has %v", mode, app.requests, app.header)
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARightPasswordPassesWithItsUserAndUntouched(t *testing.T) {
	h := load(t, "mfa app {\nlegacy_auth basic git report\n}\nrespond ok")
	var app arrived
	before := hashing().Stats().Hashes
	for range 100 {
		w := app.send(t, h, legacyRequest("GET", "/repo.git/info/refs?service=git-upload-pack", "Authorization", basicOf("alice", alicePassword), "Remote-User", "bob", "remote_user", "bob", "Mfa-Token-Id", "x", "mfa_token_secret", "y"))
		if w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	if hashes := hashing().Stats().Hashes - before; hashes != 1 {
		t.Errorf("%d hashes for a hundred requests", hashes)
	}
	if app.header.Get("Remote-User") != "alice" || app.header.Get("Remote-Groups") != "staff,hr" || app.header.Get("Authorization") != basicOf("alice", alicePassword) {
		t.Errorf("the application got %v", app.header)
	}
	for name := range app.header {
		if folded := config.FoldHeader(name); strings.HasPrefix(folded, "mfa-token") || folded == "remote-user" && name != "Remote-User" {
			t.Errorf("the application got %s", name)
		}
	}
	app.header = nil
	if w := app.send(t, h, legacyRequest("GET", "/", "Authorization", basicOf("alice", "junk"))); app.header != nil || w.Code == http.StatusOK {
		t.Errorf("a wrong one: %d, and the application got %v", w.Code, app.header)
	}
	if w := app.send(t, h, legacyRequest("GET", "/", "Authorization", basicOf("alice", alicePassword))); w.Code != http.StatusOK {
		t.Errorf("the right one after it: %d", w.Code)
	}
	if hashes := hashing().Stats().Hashes - before; hashes != 3 {
		t.Errorf("%d hashes, though a wrong one makes the right one be judged again", hashes)
	}
}

// TestWhereEverybodyIsBlockedAThousandGuessesLeaveNothing counts hashes, and the records that throttling would leave.
func TestWhereEverybodyIsBlockedAThousandGuessesLeaveNothing(t *testing.T) {
	for _, options := range []string{"", "legacy_auth basic block"} {
		h := load(t, "mfa app {\n"+options+"\n}\nrespond ok")
		var app arrived
		before, answers := hashing().Stats(), map[string]int{}
		for i := range 1000 {
			name, password := "alice", alicePassword
			if i%2 == 1 {
				name, password = fmt.Sprint("nobody-", i), "junk"
			}
			w := app.send(t, h, legacyRequest("GET", "/", "Authorization", basicOf(name, password)))
			body, _, _ := strings.Cut(w.Body.String(), "Reference:")
			header := w.Header().Clone()
			answers[fmt.Sprint(w.Code, header, body)]++
		}
		if len(answers) != 1 || app.requests != 0 {
			t.Errorf("with %q: answers %v, %d requests have arrived", options, answers, app.requests)
		}
		if after := hashing().Stats(); after.Hashes != before.Hashes || after.Refused != before.Refused {
			t.Errorf("with %q: %d hashes", options, after.Hashes-before.Hashes)
		}
		// A sign-in from there is judged at once, as if nobody had tried.
		signIn(t, h)
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhereNobodySignsInWhatPassesIsUntouched(t *testing.T) {
	if err := start(t, "", "", "http://localhost:0 {\nbind 127.0.0.1\nmfa app {\nlegacy_only\nlegacy_auth basic digest report\nlegacy_auth ntlm block\nbypass /free/*\n}\nrespond ok\n}"); err != nil {
		t.Fatal(err)
	}
	h := active.get().handlers[0]
	var app arrived
	sent := []string{
		"Authorization", basicOf("alice", "junk"), "Remote-User", "carol", "Cookie", "mfa_session=x; a=b", "X-Original-Url", "/y", "Connection", "close, X-A", "Upgrade", "h2c", "Mfa-Token-Id", "x",
	}
	r := legacyRequest("REPORT", "/_mfa/signin?token=1", sent...)
	want := r.Header.Clone()
	w := app.send(t, h, r)
	if w.Code != http.StatusOK || app.requests != 1 || fmt.Sprint(app.header) != fmt.Sprint(want) || w.Header().Get("WWW-Authenticate") == "" || len(w.Header()) != 1 {
		t.Errorf("%d with %v; the application got %v of %v", w.Code, w.Header(), app.header, want)
	}
	for reason, c := range map[string]struct {
		header []string
		path   string
		want   int
	}{
		"nothing":                    {nil, "/", 200},
		"a Bearer token":             {[]string{"Authorization", "Bearer x"}, "/", 200},
		"Digest, reported":           {[]string{"Authorization", `Digest username="x"`}, "/", 200},
		"NTLM, blocked":              {[]string{"Authorization", "NTLM TlRMTVNTUAABAAAA"}, "/", 403},
		"NTLM on a bypassed path":    {[]string{"Authorization", "NTLM TlRMTVNTUAABAAAA"}, "/free/a", 200},
		"malformed, of which nobody": {[]string{"Authorization", "nonsense"}, "/", 403},
	} {
		app.requests = 0
		if w := app.send(t, h, legacyRequest("GET", c.path, c.header...)); w.Code != c.want || (app.requests == 1) != (c.want == 200) {
			t.Errorf("%s: %d, %d requests have arrived", reason, w.Code, app.requests)
		}
	}
}

func TestNoUsersAreNeededWhereNobodySignsIn(t *testing.T) {
	site := func(directives string) string {
		return "{\n\tadmin off\n\tauto_https off\n\tstorage file_system " + t.TempDir() + "\n\tlog {\n\t\tlevel ERROR\n\t}\n\tmfa {\n\t\tstore memory\n\t}\n}\n\nhttp://localhost:0 {\n\tbind 127.0.0.1\n\t" + directives + "\n\trespond ok\n}\n"
	}
	if out := adapt(t, site("mfa app")); !strings.Contains(out, "no directory of users") {
		t.Errorf("an application that people sign in to: %s", out)
	}
	cfg := adapt(t, site("mfa app {\n\t\tlegacy_only\n\t\tlegacy_auth all report\n\t}"))
	if err := caddy.Load([]byte(cfg), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { caddy.Stop() })
	var app arrived
	if app.send(t, active.get().handlers[0], legacyRequest("GET", "/", "Authorization", basicOf("x", "y"))); app.requests != 1 {
		t.Error("nothing has arrived")
	}
	// In JSON nobody has looked at both before.
	broken := strings.Replace(cfg, `"legacy_only": true`, `"legacy_only": false`, 1)
	if err := caddy.Validate(mustConfig(t, broken)); err == nil || !strings.Contains(err.Error(), "no directory of users") {
		t.Errorf("without it: %v", err)
	}
}

func mustConfig(t *testing.T, text string) *caddy.Config {
	t.Helper()
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// TestAConnectionWithoutASessionIsCut holds a request open, and takes away what has let it in.
func TestAConnectionWithoutASessionIsCut(t *testing.T) {
	for reason, c := range map[string]struct {
		site   string
		header []string
		end    func(*testing.T, *App)
	}{
		"the user is blocked": {"legacy_auth basic allow", []string{"Authorization", basicOf("alice", alicePassword)}, func(t *testing.T, a *App) {
			if err := a.runtime.admin.Block(t.Context(), "alice", "test", time.Now()); err != nil {
				t.Fatal(err)
			}
		}},
		"the rule is gone": {"legacy_auth digest allow from 203.0.113.0/24", []string{"Authorization", `Digest username="x"`}, func(t *testing.T, _ *App) {
			load(t, "mfa app\nrespond ok") // the next configuration has none
		}},
	} {
		t.Run(reason, func(t *testing.T) {
			h := load(t, "mfa app {\n"+c.site+"\n}\nrespond ok")
			open, ended := make(chan struct{}), make(chan struct{})
			next := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
				close(open)
				<-r.Context().Done()
				close(ended)
				return nil
			})
			go h.ServeHTTP(httptest.NewRecorder(), legacyRequest("GET", "/", c.header...), next)
			<-open
			c.end(t, active.get())
			if _, ok := clocktest.Await(t, 2*time.Second, ended); !ok {
				t.Fatal("it goes on")
			}
		})
	}
}

func TestWhatIsTold(t *testing.T) {
	for reason, c := range map[string]struct {
		entry gate.Entry
		want  string // verdict and reason
	}{
		"an app password":     {gate.Entry{By: gate.ByAppPassword}, "app_password report"},
		"a service token":     {gate.Entry{By: gate.ByServiceToken}, "service_token report"},
		"an exception":        {gate.Entry{By: gate.ByPassword, Exception: "x"}, "exception exception"},
		"report":              {gate.Entry{By: gate.ByPassword, Mode: gate.Report}, "reported report"},
		"allow":               {gate.Entry{By: gate.ByScope, Mode: gate.Allow}, "allowed allow"},
		"policy":              {gate.Entry{By: gate.ByPassword, Policy: true}, "allowed policy"},
		"an emergency":        {gate.Entry{By: gate.ByPassword, Mode: gate.Report, Emergency: true}, "reported emergency"},
		"counted and nothing": {gate.Entry{By: gate.ByScope}, "reported report"},
	} {
		if got := verdictOf(&c.entry) + " " + reasonOf(&c.entry); got != c.want {
			t.Errorf("%s: %s", reason, got)
		}
	}
}

var anyRange = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}

func TestLintOfDoors(t *testing.T) {
	now := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	ends := func(d time.Duration) config.Date { return config.Date{Time: now.Add(d)} }
	a := &config.Application{
		LegacyAuth: []config.LegacyRule{{Classes: []string{"basic", "digest", "hawk"}, Mode: "report"}, {Classes: []string{"ntlm"}, Mode: "block"}, {Classes: []string{"kerberos"}, Mode: "allow", Paths: []string{"/a"}}},
		LegacyExceptions: []config.LegacyException{
			{Classes: []string{"basic"}, User: "alice", Until: ends(time.Hour)}, {Classes: []string{"git"}, User: "bob", Until: ends(0)},
		},
	}
	got := lintDoors(a, now)
	for _, part := range []string{"legacy_auth digest report", "basic user:alice holds everywhere"} {
		if !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, part) }) {
			t.Errorf("nothing says that %s: %q", part, got)
		}
	}
	if len(got) != 2 {
		t.Errorf("findings: %q", got)
	}
	for reason, c := range map[string]struct {
		a     config.Application
		warns bool
	}{
		"passwords beside Digest":       {config.Application{AppPasswordsDigest: true, LegacyAuth: []config.LegacyRule{{Classes: []string{"all"}, Mode: "report"}}}, true},
		"git's beside Digest":           {config.Application{AppPasswordsDigest: true, LegacyAuth: []config.LegacyRule{{Classes: []string{"git"}, Mode: "allow"}}}, true},
		"somebody's beside Digest":      {config.Application{AppPasswordsDigest: true, LegacyExceptions: []config.LegacyException{{Classes: []string{"git"}, User: "bob", From: anyRange, Until: ends(time.Hour)}}}, true},
		"a machine's beside Digest":     {config.Application{AppPasswordsDigest: true, LegacyExceptions: []config.LegacyException{{Classes: []string{"digest"}, Service: "scanner", Until: ends(time.Hour)}}}, false},
		"the application's own Digest":  {config.Application{AppPasswordsDigest: true, LegacyAuth: []config.LegacyRule{{Classes: []string{"digest"}, Mode: "allow", Paths: []string{"/a"}}}}, false},
		"what is blocked beside Digest": {config.Application{AppPasswordsDigest: true, LegacyAuth: []config.LegacyRule{{Classes: []string{"all"}, Mode: "block"}}}, false},
		"passwords without Digest":      {config.Application{LegacyAuth: []config.LegacyRule{{Classes: []string{"all"}, Mode: "report"}}}, false},
	} {
		got := lintDoors(&c.a, now)
		if warns := slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, "app_passwords on digest") }); warns != c.warns {
			t.Errorf("%s: %q", reason, got)
		}
	}
	if a.LegacyOnly = true; len(lintDoors(a, now)) != 0 {
		t.Errorf("where nobody signs in: %q", lintDoors(a, now))
	}
}
