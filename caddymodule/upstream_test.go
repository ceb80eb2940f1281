package caddymodule

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/porttest"
)

// application is one behind caddy-mfa that is reached over a real connection.
type application struct {
	url  string
	seen chan http.Header // of the last request

	answer atomic.Pointer[http.HandlerFunc]
}

// newApplication runs Caddy with this block of the directive in front of an application.
func newApplication(t testing.TB, block string) *application {
	t.Helper()
	a := &application{seen: make(chan http.Header, 1)}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.seen <- r.Header.Clone()
		if f := a.answer.Load(); f != nil {
			(*f)(w, r)
		}
	}))
	t.Cleanup(up.Close)
	port := porttest.Free(t)
	a.url = fmt.Sprintf("http://localhost:%d", port)
	if err := start(t, "", "", a.url+" {\nbind 127.0.0.1\nmfa app {\n"+block+"\n}\nreverse_proxy "+up.Listener.Addr().String()+"\n}"); err != nil {
		t.Fatal(err)
	}
	return a
}

// get sends a request, and gives what the application got and the answer; nil: nothing reached it.
func (a *application) get(t testing.TB, path string, cookies []*http.Cookie, header http.Header) (http.Header, *http.Response) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", a.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	select {
	case h := <-a.seen:
		return h, resp
	default:
		return nil, resp
	}
}

func basic(credential string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(credential))
}

// storeUpstream stores a user's credential as the command does.
func storeUpstream(t testing.TB, user, application, credential string) {
	t.Helper()
	rt, err := active.get().ready()
	if err != nil {
		t.Fatal(err)
	}
	name, password, err := account.SplitUpstream(credential)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.signin.Accounts.Update(context.Background(), mfa.UserID{Directory: "file", ID: user}, time.Now(), func(a *account.Account) error {
		return rt.signin.Accounts.SetUpstream(a, application, name, password, time.Now())
	}); err != nil {
		t.Fatal(err)
	}
}

func secretFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hr")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatBecomesOfACredentialBesideASession(t *testing.T) {
	own := basic("svc-hr:hunter2")
	file := secretFile(t, "svc-hr:hunter2\n")
	const digest, ntlm, negotiate = `Digest username="alice", realm="x", nonce="y", uri="/", response="z"`, "NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw==", "Negotiate YIIFzQYGKwYBBQUCoIIFwTCCBb2g"
	const aws = "AWS4-HMAC-SHA256 Credential=a/20260101/x/s3/aws4_request, SignedHeaders=host, Signature=c"
	sent := map[string][]string{
		"none": nil, "Basic": {basic("alice:secret")}, "Digest": {digest}, "NTLM": {ntlm}, "Negotiate": {negotiate}, "malformed": {"Foo bar"}, "Bearer": {"Bearer x"},
		"signed": {aws}, "two": {basic("alice:secret"), "Bearer x"}, "Basic and NTLM": {basic("alice:secret"), ntlm},
	}
	for block, want := range map[string]map[string][]string{
		"":                   {"Bearer": {"Bearer x"}, "signed": {aws}},
		"with_session strip": {"Bearer": {"Bearer x"}, "signed": {aws}},
		"with_session pass":  {"Basic": {basic("alice:secret")}, "Digest": {digest}, "Bearer": {"Bearer x"}, "signed": {aws}},
		"upstream_basic {file." + file + "}": {
			"none": {own}, "Basic": {own}, "Digest": {own}, "NTLM": {own}, "Negotiate": {own}, "malformed": {own}, "Bearer": {own}, "signed": {own}, "two": {own}, "Basic and NTLM": {own},
		},
		"upstream_basic {file." + file + "}\nwith_session strip": {"Bearer": {"Bearer x"}, "signed": {aws}},
		"upstream_basic per_user":                                {}, // nothing is stored
	} {
		t.Run(block, func(t *testing.T) {
			a := newApplication(t, block)
			cookies := signIn(t, active.get().handlers[0])
			for what, values := range sent {
				header := http.Header{}
				if values != nil {
					header["Authorization"] = values
				}
				for _, connection := range []string{"", "Authorization", "close, authorization, Remote-User"} {
					if header.Del("Connection"); connection != "" {
						header.Set("Connection", connection)
					}
					got, _ := a.get(t, "/x", cookies, header)
					if got == nil {
						t.Fatalf("%s: it doesn't reach the application", what)
					}
					if !slices.Equal(got["Authorization"], want[what]) {
						t.Errorf("%s, Connection: %q: the application gets %q, not %q", what, connection, got["Authorization"], want[what])
					}
					if user := got.Get("Remote-User"); user != "alice" {
						t.Errorf("%s: the user is %q", what, user)
					}
				}
			}
		})
	}
}

// TestAnAppPasswordBesideASessionIsNotTheApplications: a program that keeps cookies sends both.
func TestAnAppPasswordBesideASessionIsNotTheApplications(t *testing.T) {
	a := newApplication(t, "with_session pass\napp_passwords on digest")
	rt, err := active.get().ready()
	if err != nil {
		t.Fatal(err)
	}
	key, err := rt.admin.AddAppPassword(t.Context(), "alice", machinekey.Wish{Application: "app", Name: "laptop"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cookies := signIn(t, active.get().handlers[0])
	digest := func(realm string) string {
		return `Digest username="alice", realm="` + realm + `", nonce="n", uri="/x", qop=auth, nc=00000001, cnonce="c", algorithm=MD5, response="00000000000000000000000000000000"`
	}
	looksLikeOne := strings.Repeat("7", 28)
	for reason, c := range map[string]struct {
		value string
		stays bool
	}{
		"one of hers":              {basic("alice:" + key.Secret), false},
		"one in capitals":          {basic("alice:" + strings.ToUpper(key.Secret)), false},
		"an answer for us":         {digest("app: app password"), false},
		"one for the application":  {digest("app"), true},
		"her password there":       {basic("alice:secret"), true},
		"one that looks like ours": {basic("alice:" + looksLikeOne), true},
	} {
		got, _ := a.get(t, "/x", cookies, http.Header{"Authorization": {c.value}})
		if got == nil || (got.Get("Authorization") == c.value) != c.stays || !c.stays && got["Authorization"] != nil {
			t.Errorf("%s: the application gets %q", reason, got["Authorization"])
		}
	}
}

func TestAUsersCredentialGoesToHisApplicationForHimAlone(t *testing.T) {
	a := newApplication(t, "upstream_basic per_user\nbypass /public/*")
	h := active.get().handlers[0]
	cookies := signIn(t, h)
	storeUpstream(t, "bob", "app", "bob:hunter3")
	storeUpstream(t, "alice", "other", "alice:hunter4")
	if got, _ := a.get(t, "/x", cookies, http.Header{"Authorization": {basic("bob:guess")}}); got["Authorization"] != nil {
		t.Fatalf("somebody else's, or the client's: %q", got["Authorization"])
	}
	storeUpstream(t, "alice", "app", "alice.e:hunter2")
	if got, _ := a.get(t, "/x", cookies, nil); !slices.Equal(got["Authorization"], []string{basic("alice.e:hunter2")}) {
		t.Fatalf("alice's own: %q", got["Authorization"])
	}
	if got, _ := a.get(t, "/public/x", cookies, nil); got == nil || got["Authorization"] != nil {
		t.Errorf("in a bypass: %q", got["Authorization"])
	}
	if got, resp := a.get(t, "/x", nil, nil); got != nil {
		t.Errorf("without a session it reaches the application: %d", resp.StatusCode)
	}
	if got, resp := a.get(t, "/x", nil, http.Header{"Authorization": {basic("alice.e:hunter2")}}); got != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("the application's credential opens this door: %d", resp.StatusCode)
	}
	if _, err := active.get().runtime.signin.Accounts.Update(t.Context(), mfa.UserID{Directory: "file", ID: "alice"}, time.Now(), func(acc *account.Account) error { return acc.RemoveUpstream("app") }); err != nil {
		t.Fatal(err)
	}
	if got, _ := a.get(t, "/x", cookies, nil); got["Authorization"] != nil {
		t.Errorf("removed: %q", got["Authorization"])
	}
}

// counted is a counter that can be read.
type counted struct {
	prometheus.Counter
	n atomic.Int64
}

func (c *counted) Inc() { c.n.Add(1) }

func TestAnApplicationThatRefusesItsCredentialMakesNoBrowserAsk(t *testing.T) {
	a := newApplication(t, "upstream_basic {file."+secretFile(t, "svc:wrong")+"}")
	h := active.get().handlers[0]
	cookies := signIn(t, h)
	refused := &counted{}
	h.refusals = refused
	for reason, c := range map[string]struct {
		status     int
		challenges []string
		kept       []string
		counts     int64
	}{
		"Basic":                     {401, []string{`Basic realm="old"`}, nil, 1},
		"Basic beside another":      {401, []string{`Basic realm="old"`, `Bearer realm="x"`}, []string{`Bearer realm="x"`}, 1},
		"a form of its own":         {401, nil, nil, 0},
		"Bearer":                    {401, []string{`Bearer realm="x"`}, []string{`Bearer realm="x"`}, 0},
		"a challenge without a 401": {200, []string{`Basic realm="old"`}, nil, 0},
	} {
		answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Www-Authenticate"] = c.challenges
			w.WriteHeader(c.status)
			io.WriteString(w, "no")
		})
		a.answer.Store(&answer)
		before := refused.n.Load()
		_, resp := a.get(t, "/x", cookies, nil)
		if resp.StatusCode != c.status || !slices.Equal(resp.Header["Www-Authenticate"], c.kept) || refused.n.Load()-before != c.counts {
			t.Errorf("%s: %d, %q, counted %d", reason, resp.StatusCode, resp.Header["Www-Authenticate"], refused.n.Load()-before)
		}
	}
	var lines rarely
	if !lines.due(time.Minute) || lines.due(time.Minute) {
		t.Error("the log gets a line for every request")
	}
}

func TestChallengesStayWhereTheirAnswersPass(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Www-Authenticate"] = []string{`Basic realm="x"`, `Digest realm="x", nonce="y"`, "NTLM", "Negotiate", "Bearer"}
		w.WriteHeader(http.StatusUnauthorized)
	})
	for block, want := range map[string][]string{
		"with_session pass": {`Basic realm="x"`, `Digest realm="x", nonce="y"`, "Bearer"}, "with_session strip": {"Bearer"},
		"with_session pass\nupstream_basic per_user": {`Basic realm="x"`, `Digest realm="x", nonce="y"`, "Bearer"}, "upstream_basic per_user": {"Bearer"},
	} {
		t.Run(block, func(t *testing.T) {
			a := newApplication(t, block+"\nbypass /public/*")
			a.answer.Store(&answer)
			cookies := signIn(t, active.get().handlers[0])
			if _, resp := a.get(t, "/x", cookies, nil); !slices.Equal(resp.Header["Www-Authenticate"], want) {
				t.Errorf("signed in: %q", resp.Header["Www-Authenticate"])
			}
			if _, resp := a.get(t, "/public/x", cookies, nil); !slices.Equal(resp.Header["Www-Authenticate"], []string{"Bearer"}) {
				t.Errorf("in a bypass: %q", resp.Header["Www-Authenticate"])
			}
		})
	}
}

func TestTheConfigurationShowsTheReferenceAndNotTheSecret(t *testing.T) {
	path := secretFile(t, "svc-hr:hunter2")
	h := load(t, "mfa app {\nupstream_basic {file."+path+"}\n}\nrespond ok")
	if h.upstream.value != basic("svc-hr:hunter2") {
		t.Fatal("it is not resolved")
	}
	raw, err := json.Marshal(h)
	if err != nil || !strings.Contains(string(raw), "{file."+path+"}") || strings.Contains(string(raw), "hunter2") || strings.Contains(string(raw), basic("svc-hr:hunter2")[6:]) {
		t.Fatalf("%s, %v", raw, err)
	}
}

func TestAReferenceThatHoldsNoCredentialIsRefused(t *testing.T) {
	for reason, text := range map[string]string{
		"no file": "", "an empty one": "EMPTY", "no colon": "hunter2", "a line break": "svc:hunter2\nsecond", "no password": "svc:", "a zero byte": "svc:hun\x00ter2",
	} {
		path := filepath.Join(t.TempDir(), "none")
		if text == "EMPTY" {
			path = secretFile(t, "")
		} else if text != "" {
			path = secretFile(t, text)
		}
		err := start(t, "", "", "http://localhost:0 {\nmfa app {\nupstream_basic {file."+path+"}\n}\nrespond ok\n}")
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

func BenchmarkSignedInWithUpstreamCredential(b *testing.B) {
	for _, block := range []string{"upstream_basic {file." + secretFile(b, "svc-hr:hunter2") + "}", "upstream_basic per_user"} {
		b.Run(block[:20], func(b *testing.B) {
			h := load(b, "mfa app {\n"+block+"\n}\nrespond ok")
			cookies := signIn(b, h)
			storeUpstream(b, "alice", "app", "alice.e:hunter2")
			r := navigation("GET", "/reports/2026?x=1", nil)
			for _, c := range cookies {
				r.AddCookie(c)
			}
			header, w := r.Header, discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				r.Header = header.Clone()
				if err := h.ServeHTTP(w, r, nobody); err != nil || r.Header["Authorization"] == nil {
					b.Fatal("no credential", err)
				}
			}
		})
	}
}

// TestKeysAreNotShownToTheApplication: an app password and a service token open the door, and what the application gets is its own.
func TestKeysAreNotShownToTheApplication(t *testing.T) {
	const tokens = "service_token robot {\nexpires 2099-01-31\napplications app\n}"
	own := basic("svc-hr:hunter2")
	file := secretFile(t, "svc-hr:hunter2")
	const ntlm = "NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw=="
	for block, c := range map[string]struct {
		appPassword, token, tokenBeside []string // what the application gets; the last with a Basic credential of the machine's
	}{
		"":                                   {nil, nil, []string{basic("machine:own")}},
		"upstream_basic {file." + file + "}": {[]string{own}, []string{own}, []string{own}},
		"upstream_basic {file." + file + "}\nwith_session strip": {[]string{own}, []string{own}, []string{own}},
		"upstream_basic per_user":                                {[]string{basic("alice.e:hunter3")}, nil, []string{basic("machine:own")}},
	} {
		if err := start(t, tokens, "", "http://localhost:0 {\nbind 127.0.0.1\nmfa app {\napp_passwords on\nservice_tokens on\n"+block+"\n}\nrespond ok\n}"); err != nil {
			t.Fatal(err)
		}
		app := active.get()
		h := app.handlers[0]
		rt, err := app.ready()
		if err != nil {
			t.Fatal(err)
		}
		storeUpstream(t, "alice", "app", "alice.e:hunter3")
		key, err := rt.admin.AddAppPassword(t.Context(), "alice", machinekey.Wish{Application: "app", Name: "laptop"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		token, err := rt.admin.AddServiceToken(t.Context(), "robot", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var got arrived
		want := func(what, user string, authorization []string, header ...string) {
			t.Helper()
			got.header = nil
			w := got.send(t, h, legacyRequest("GET", "/", header...))
			if w.Code != http.StatusOK || got.header == nil || !slices.Equal(got.header["Authorization"], authorization) || got.header.Get("Remote-User") != user {
				t.Errorf("%q, %s: %d, the application gets %v, and not %q for %s", block, what, w.Code, got.header, authorization, user)
			}
			if challenge := w.Header().Get("WWW-Authenticate"); challenge != "" {
				t.Errorf("%q, %s: the client gets %q", block, what, challenge)
			}
			for name, values := range got.header {
				if strings.HasPrefix(name, "Mfa-") || strings.Contains(strings.Join(values, " "), key.Secret) || strings.Contains(strings.Join(values, " "), basicOf("alice", key.Secret)[6:]) {
					t.Errorf("%q, %s: the key reaches the application in %s", block, what, name)
				}
			}
		}
		want("an app password", "alice", c.appPassword, "Authorization", basicOf("alice", key.Secret))
		want("a token", "service:robot", c.token, "Mfa-Token-Id", token.ID, "Mfa-Token-Secret", token.Secret)
		want("a token beside Basic", "service:robot", c.tokenBeside, "Mfa-Token-Id", token.ID, "Mfa-Token-Secret", token.Secret, "Authorization", basic("machine:own"))
		want("a token beside NTLM", "service:robot", c.token, "Mfa-Token-Id", token.ID, "Mfa-Token-Secret", token.Secret, "Authorization", ntlm)
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChallengesReachThoseWhoMayAnswerThem is about requests without a session.
func TestChallengesReachThoseWhoMayAnswerThem(t *testing.T) {
	challenges := []string{`Basic realm="x"`, `Digest realm="x", nonce="y"`, "NTLM", "Negotiate", "Bearer"}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header()["Www-Authenticate"] = slices.Clone(challenges)
		w.WriteHeader(http.StatusUnauthorized)
		return nil
	})
	for _, c := range []struct {
		block  string
		header []string
		want   []string // nil: it doesn't reach the application
	}{
		{"legacy_auth basic report", []string{"Authorization", basicOf("alice", alicePassword)}, []string{challenges[0], "Bearer"}},
		{"legacy_auth digest report from 203.0.113.0/24", []string{"Authorization", `Digest username="alice"`}, []string{challenges[1], "Bearer"}},
		{"legacy_auth digest report from 203.0.113.0/24", nil, []string{challenges[1], "Bearer"}}, // the handshake
		{"legacy_auth digest report from 192.0.2.0/24", nil, nil},
		{"legacy_auth basic report\nlegacy_auth digest allow path /dav/*", []string{"Authorization", basicOf("alice", alicePassword)}, []string{challenges[0], "Bearer"}},
	} {
		h := load(t, "mfa app {\n"+c.block+"\n}\nrespond ok")
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, legacyRequest("GET", "/x", c.header...), next); err != nil {
			t.Fatal(err)
		}
		if c.want == nil {
			if w.Code != http.StatusForbidden || w.Header().Get("WWW-Authenticate") != "" {
				t.Errorf("%s: %d, %v", c.block, w.Code, w.Header())
			}
		} else if got := w.Header()["Www-Authenticate"]; !slices.Equal(got, c.want) {
			t.Errorf("%s, %v: %d, %q, not %q", c.block, c.header, w.Code, got, c.want)
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWhoIsInvited: a password is asked for only where one could open something.
func TestWhoIsInvited(t *testing.T) {
	for _, c := range []struct {
		block, kind string
		r           *http.Request
		status      int
		challenge   string
	}{
		{"", "a program", legacyRequest("GET", "/"), 403, ""},
		{"app_passwords on", "a program", legacyRequest("GET", "/"), 401, `Basic realm="app: app password"`},
		{"app_passwords on", "svn", legacyRequest("OPTIONS", "/", "User-Agent", "SVN/1.14.2"), 401, `Basic realm="app: app password"`},
		{"app_passwords on", "a wrong one", legacyRequest("GET", "/", "Authorization", basicOf("alice", "junk")), 401, `Basic realm="app: app password"`},
		{"app_passwords on", "a wrong one of nobody", legacyRequest("GET", "/", "Authorization", basicOf("nobody", "junk")), 401, `Basic realm="app: app password"`},
		{"app_passwords on", "a browser", navigation("GET", "/", nil), 303, ""},
		{"app_passwords on", "Digest", legacyRequest("GET", "/", "Authorization", `Digest username="alice"`), 403, ""},
		{"app_passwords on", "Bearer", legacyRequest("GET", "/", "Authorization", "Bearer x"), 403, ""},
		{"legacy_auth basic report", "a program", legacyRequest("GET", "/"), 401, `Basic realm="app"`},
		{"legacy_auth basic report", "a wrong password", legacyRequest("GET", "/", "Authorization", basicOf("alice", "junk")), 401, `Basic realm="app"`},
		{"legacy_auth basic block", "a program", legacyRequest("GET", "/"), 403, ""},
		{"service_tokens on", "a wrong token", legacyRequest("GET", "/", "Mfa-Token-Id", "x", "Mfa-Token-Secret", "y"), 403, ""},
	} {
		h := load(t, "mfa app {\n"+c.block+"\n}\nrespond ok")
		var app arrived
		w := app.send(t, h, c.r)
		if w.Code != c.status || w.Header().Get("WWW-Authenticate") != c.challenge || app.requests != 0 {
			t.Errorf("%q, %s: %d, %v, %s", c.block, c.kind, w.Code, w.Header(), w.Body)
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}
