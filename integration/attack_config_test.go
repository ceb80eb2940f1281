package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

func TestAttackErrorPagesThatProxy(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	dead := fmt.Sprintf("127.0.0.1:%d", lab.FreePort(t))
	p := lab.Start(t, up.Address, lab.Options{Site: `
	mfa app
	reverse_proxy ` + dead + `
	handle_errors {
		reverse_proxy {upstream}
	}`})
	host := strings.TrimPrefix(p.URL, "http://")
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", "alice", lab.Password).Submit("begin")
	alice := &lab.Person{Name: "alice", Key: page.Key()}
	page.Submit("code", "code", alice.Code(t)).Submit("kept")
	half := halfSignedIn(t, p, "alice")
	up.Forget()
	for sender, cookie := range map[string]string{"nobody": "", "who knows the password": cookieHeader(half)} {
		for reason, request := range everyWay {
			p.Raw(t, strings.ReplaceAll(request, "HOST", host)+cookie+"Connection: close, Upgrade\r\n\r\n")
			if up.Bytes() != 0 {
				t.Errorf("%s, %s: it reaches the application of the error page:\n%s", sender, reason, up.Raw())
				up.Forget()
			}
		}
		for reason, request := range map[string]string{
			"a page that is not there":    "GET /_mfa/nothing HTTP/1.1\r\nHost: HOST\r\n",
			"a method that is not passed": "TRACE /x HTTP/1.1\r\nHost: HOST\r\n",
			"a page in a wrong way":       "PUT /_mfa/signin HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n",
			"a form from elsewhere":       "POST /_mfa/signin HTTP/1.1\r\nHost: HOST\r\nOrigin: null\r\nContent-Length: 0\r\n",
			"a form that can't be read":   "POST /_mfa/signin HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\n%zz",
			"an expectation of nobody":    "GET /x HTTP/1.1\r\nHost: HOST\r\nExpect: the-impossible\r\n",
			"a path that is none":         "GET /%zz HTTP/1.1\r\nHost: HOST\r\n",
			"a password":                  "GET /x HTTP/1.1\r\nHost: HOST\r\nAuthorization: Basic YTpi\r\n",
		} {
			p.Raw(t, strings.ReplaceAll(request, "HOST", host)+cookie+"Connection: close\r\n\r\n")
			if up.Bytes() != 0 {
				t.Errorf("%s, %s: it reaches the application of the error page:\n%s", sender, reason, up.Raw())
				up.Forget()
			}
		}
	}
	// The route is there: for who is signed in, an error of the application leads to it, with his name and without our cookie.
	p.Raw(t, "GET /x HTTP/1.1\r\nHost: "+host+"\r\n"+cookieHeader(b)+"Remote-User: root\r\nConnection: close\r\n\r\n")
	r := up.Last(t)
	if got := r.Header.Values("Remote-User"); len(got) != 1 || got[0] != "alice" || strings.Contains(up.Raw(), sessionCookie) {
		t.Errorf("the error page sees %q:\n%s", got, up.Raw())
	}
}

func TestAttackTheDirectiveInOtherPlaces(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	for reason, site := range map[string]string{
		"in a handle that its pages are outside of": "handle /app/* {\n\t\tmfa app\n\t\treverse_proxy {upstream}\n\t}",
		"where it would judge answers":              "reverse_proxy {upstream}\n\thandle_errors {\n\t\tmfa app\n\t\treverse_proxy {upstream}\n\t}",
		"behind what rewrites its pages away":       "handle_path /app/* {\n\t\tmfa app\n\t\treverse_proxy {upstream}\n\t}",
	} {
		p := lab.Start(t, up.Address, lab.Options{Site: site, MayFail: true})
		lab.Eventually(t, 20*time.Second, "it refuses to run "+reason, func() bool { return !p.Running() })
		if !strings.Contains(p.Log(), "mfa app") {
			t.Errorf("%s: the log does not say which:\n%s", reason, p.Log())
		}
	}
	up.WantNothing(t)
	for reason, site := range map[string]string{
		"in a handle, and one for its pages": "handle /app/* {\n\t\tmfa app\n\t\treverse_proxy {upstream}\n\t}\n\thandle /_mfa/* {\n\t\tmfa app\n\t}",
		"with a matcher":                     "@app path /app/*\n\tmfa @app app\n\treverse_proxy /app/* {upstream}",
		"with a path":                        "mfa /app/* app\n\treverse_proxy /app/* {upstream}",
		"in a route, behind a rewrite":       "route {\n\t\turi strip_prefix /outer\n\t\tmfa app\n\t\treverse_proxy {upstream}\n\t}",
		"with a handle_path behind it":       "mfa app\n\thandle_path /outer/* {\n\t\treverse_proxy {upstream}\n\t}\n\thandle {\n\t\treverse_proxy {upstream}\n\t}",
		"twice":                              "mfa app\n\troute {\n\t\tmfa inner\n\t\treverse_proxy {upstream}\n\t}",
	} {
		t.Run(reason, func(t *testing.T) {
			up := lab.NewUpstream(t, nil)
			p := lab.Start(t, up.Address, lab.Options{Site: site})
			host := strings.TrimPrefix(p.URL, "http://")
			for _, path := range []string{"/app/x", "/app/../app/x", "/APP/x", "/%61pp/x", "//app/x", "/app//x", "/app/x;y", "/x/../app/x", "/outer/app/x", "/outer/_mfa/../app/x", "/outer/_mfa/signin", "/_mfa/../app/x"} {
				p.Raw(t, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
				if up.Bytes() != 0 {
					t.Errorf("%s reaches the application:\n%s", path, up.Raw())
					up.Forget()
				}
			}
			b := lab.NewBrowser(t, p.URL)
			page := b.Password("/app/x", "alice", lab.Password).Submit("begin")
			alice := &lab.Person{Name: "alice", Key: page.Key()}
			page.Submit("code", "code", alice.Code(t)).Submit("kept").Follow().Want(secretReport)
			r := up.Last(t)
			if got := r.Header.Values("Remote-User"); len(got) != 1 || got[0] != "alice" || strings.Contains(up.Raw(), sessionCookie) {
				t.Errorf("the application sees %q:\n%s", got, up.Raw())
			}
		})
	}
}

func TestAttackSecretsInConfigurationAndLogs(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	file := filepath.Join(t.TempDir(), "secret")
	const secret = "the-operators-secret-of-more-than-32-bytes"
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := lab.Start(t, up.Address, lab.Options{Global: "secret {file." + file + "}", Site: "log\n\tmetrics /metrics\n\tmfa app\n\treverse_proxy {upstream}"})
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	half := halfSignedIn(t, p, "alice")
	code := alice.Code(t)
	codeFor(half, verifyForm(t, half), "totp", code)
	lab.NewBrowser(t, p.URL).Password("/?password="+"hunter22", "alice", "a-wrong-password")
	lab.NewBrowser(t, p.URL).Password("/", "a-password-in-the-wrong-field", "x")
	status, config := p.API(http.MethodGet, "/config/", nil)
	if status != http.StatusOK || !strings.Contains(config, "users.yaml") {
		t.Fatalf("%d: %s", status, config)
	}
	_, metrics := p.API(http.MethodGet, "/metrics", nil)
	if !strings.Contains(metrics, "caddy_mfa_requests_total") {
		t.Fatalf("no metrics: %.300s", metrics)
	}
	for what, hidden := range map[string]string{
		"the secret": secret, "a key": alice.Key, "a code": `"` + code + `"`, "a recovery code": alice.Codes[0], "a password": lab.Password, "a wrong password": "a-wrong-password",
		"a password in the wrong field": "a-password-in-the-wrong-field", "a session": b.Cookie(sessionCookie), "a known browser": b.Cookie("mfa_browser"), "another session": half.Cookie(sessionCookie), "a hash": "$argon2id$",
	} {
		for where, text := range map[string]string{"the configuration": config, "the log": p.Log(), "the metrics": metrics, "what an administrator sees": show(t, p, "alice"), "what the application has got": up.Raw()} {
			if hidden == "" || strings.Contains(text, hidden) {
				t.Errorf("%s stands in %s", what, where)
			}
		}
	}
	for _, label := range []string{"alice", "127.0.0.1\""} {
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, "caddy_mfa_") && strings.Contains(line, label) {
				t.Errorf("a metric tells of %s: %s", label, line)
			}
		}
	}
	// What is kept is for its owner's eyes: nobody else on the machine opens it, and nothing in it is readable.
	err := filepath.Walk(p.Dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		name := filepath.Base(path)
		if (name == "store.db" || name == "admin.sock" || name == "secret") && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		if name != "store.db" {
			return nil
		}
		raw, err := os.ReadFile(path)
		for what, hidden := range map[string]string{"a key": alice.Key, "a recovery code": alice.Codes[0], "a recovery code without hyphens": strings.ReplaceAll(alice.Codes[1], "-", ""), "a session": b.Cookie(sessionCookie), "a password": lab.Password} {
			if strings.Contains(string(raw), hidden) {
				t.Errorf("%s stands in the store", what)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAttackBombsInTheUsersFile(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	var aliases strings.Builder
	aliases.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&aliases, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	for reason, text := range map[string]string{
		"aliases of aliases":          aliases.String() + "users:\n  alice: *a11\n",
		"an alias of itself":          "users: &u\n  alice: *u\n",
		"a merge":                     "x: &x\n  password: y\nusers:\n  alice:\n    <<: *x\n",
		"depth":                       "users: " + strings.Repeat("[", 200_000),
		"width":                       "users:\n  alice:\n    groups: [" + strings.Repeat("x,", 4<<20) + "]\n",
		"size":                        "users:\n  alice:\n    display_name: \"" + strings.Repeat("x", 20<<20) + "\"\n",
		"a tag":                       "users: !!python/object/apply:os.system ['x']\n",
		"no users at all":             "users: {}\nadmin: true\n",
		"a password in the clear":     "users:\n  alice:\n    password: secret\n",
		"an empty password":           "users:\n  alice:\n    password: \"\"\n",
		"a hash that costs too much":  "users:\n  alice:\n    password: $argon2id$v=19$m=4194304,t=1000,p=1$kP/8J1y6KSPsvWs9dCpZMg$L6MpYjMrzkJHP4/WVNyiHr+AFPgfNaeUc3eN9B17Rvo\n",
		"two users of one name":       users("alice") + users("Alice"),
		"half a file":                 ("users:\n" + lab.Users)[:100],
		"bytes of no character set":   "users:\n  alice:\n    display_name: \"\xff\xfe\"\n",
		"a file that is another kind": "\x7fELF\x00\x00\x00",
	} {
		before := strings.Count(p.Log(), "last good version stays") + strings.Count(p.Log(), `"level":"error"`)
		p.Write("users.yaml", text)
		lab.Eventually(t, 30*time.Second, reason+": the log says that it is refused", func() bool {
			return strings.Count(p.Log(), "last good version stays")+strings.Count(p.Log(), `"level":"error"`) > before
		})
		if !b.SignedIn() {
			t.Fatalf("%s: alice is signed out", reason)
		}
	}
	// And it is still the last good one that is in force.
	lab.NewBrowser(t, p.URL).Password("/", "bob", lab.Password).WantStatus(http.StatusOK)
}

// adminCalls are the endpoints of the administrator.
var adminCalls = []struct{ method, path string }{
	{"GET", "/mfa/users"}, {"GET", "/mfa/users/alice"}, {"POST", "/mfa/users/alice/pass"}, {"POST", "/mfa/users/alice/reset"}, {"POST", "/mfa/users/alice/block"},
	{"POST", "/mfa/users/alice/unblock"}, {"POST", "/mfa/users/alice/unlock"}, {"POST", "/mfa/users/alice/sign-out"}, {"POST", "/mfa/users/alice/state"}, {"POST", "/mfa/accounts/init"}, {"POST", "/mfa/"}, {"GET", "/mfa/nothing"},
	{"POST", "//mfa/users/alice/pass"}, {"POST", "/mfa//users/alice/pass"}, {"POST", "/x/../mfa/users/alice/pass"}, {"POST", "/mfa/users/%61lice/pass"},
}

func TestAttackTheAdministratorsEndpoints(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	lab.Eventually(t, 10*time.Second, "where alice has been is noted", func() bool { return strings.Contains(show(t, p, "alice"), `"applications":["app"]`) })
	before := withoutTimes(show(t, p, "alice"))
	events := len(p.Events(""))
	// On the site there is no such thing, for nobody.
	for _, c := range adminCalls {
		for _, path := range []string{"/" + strings.TrimLeft(c.path, "/"), "/_mfa" + c.path, "/_mfa/admin" + c.path, "/config/", "/_mfa/console"} {
			anon := lab.NewBrowser(t, p.URL).NoRedirects()
			if page := anon.Do(anon.Request(c.method, path, nil)); page.Status == http.StatusOK {
				t.Errorf("%s %s: %v", c.method, path, page)
			}
			if page := b.Do(b.Request(c.method, path, nil)); page.Has("temporary access pass") || page.Has(`"methods"`) {
				t.Errorf("signed in, %s %s: %v", c.method, path, page)
			}
		}
	}
	// A link changes nothing on the socket either.
	for _, c := range adminCalls {
		if c.method == http.MethodPost && strings.HasPrefix(c.path, "/mfa/users/alice/") {
			if status, body := p.API(http.MethodGet, c.path, nil); status == http.StatusOK {
				t.Errorf("GET %s: %s", c.path, body)
			}
		}
	}
	// An admin endpoint on TCP has no users: none of it is there.
	port := lab.FreePort(t)
	config := strings.Replace(lab.Caddyfile(p, up.Address, lab.Options{}), "admin unix/"+p.Dir+"/admin.sock", fmt.Sprintf("admin 127.0.0.1:%d", port), 1)
	if err := p.Reload(config); err != nil {
		t.Fatal(err)
	}
	ask := func(method, path string) (int, string) {
		req, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	lab.Eventually(t, 10*time.Second, "the endpoint listens on TCP", func() bool {
		_, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/config/", port))
		return err == nil
	})
	for _, c := range adminCalls {
		status, body := ask(c.method, c.path)
		if status < 300 || strings.Contains(body, `"pass"`) || strings.Contains(body, "alice@example.com") {
			t.Errorf("on TCP, %s %s: %d %s", c.method, c.path, status, body)
		}
		if strings.HasPrefix(c.path, "/mfa/users") && status != http.StatusForbidden {
			t.Errorf("on TCP, %s %s: %d", c.method, c.path, status)
		}
	}
	if err := func() error {
		req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/load", port), strings.NewReader(lab.Caddyfile(p, up.Address, lab.Options{})))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "text/caddyfile")
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}(); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 10*time.Second, "the endpoint is on its socket again", func() bool {
		_, err := os.Stat(filepath.Join(p.Dir, "admin.sock"))
		return err == nil
	})
	if after := withoutTimes(show(t, p, "alice")); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
	if n := len(p.Events("")) - events; n != 0 && (len(p.Events("temporary_access_pass_made")) > 0 || len(p.Events("factors_reset")) > 0 || len(p.Events("user_blocked")) > 0 || len(p.Events("sessions_ended")) > 0) {
		t.Errorf("%d events", n)
	}
	if !b.SignedIn() {
		t.Error("alice is signed out")
	}
}
