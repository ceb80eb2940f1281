package caddymodule

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
)

const (
	alicePassword = "correct horse battery staple"
	aliceDigest   = "$argon2id$v=19$m=19456,t=2,p=1$kP/8J1y6KSPsvWs9dCpZMg$L6MpYjMrzkJHP4/WVNyiHr+AFPgfNaeUc3eN9B17Rvo"
)

// start runs Caddy in this process, with these options in the block `mfa` and beside it, and these sites.
func start(t testing.TB, options, servers, sites string) error {
	t.Helper()
	dir := t.TempDir()
	users := `users:
  alice:
    display_name: Alice Example
    email: alice@example.com
    groups: [staff, hr]
    password: ` + aliceDigest + `
  bob:
    password: ` + aliceDigest + "\n"
	if err := os.WriteFile(filepath.Join(dir, "users.yaml"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	caddyfile := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %[1]s
	log {
		level ERROR
	}
	%[3]s
	mfa {
		store memory
		users file %[1]s/users.yaml
		%[2]s
	}
}
%[4]s
`, dir, options, servers, sites)
	cfg, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	if err := caddy.Load(cfg, true); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return nil
}

// load runs Caddy in this process, with one site that has the directive, and gives the handler.
func load(t testing.TB, site string) *Handler {
	t.Helper()
	if err := start(t, "", "", "http://localhost:0 {\nbind 127.0.0.1\n"+site+"\n}"); err != nil {
		t.Fatal(err)
	}
	return active.get().handlers[0]
}

// navigation is a request as it comes out of Caddy's server.
func navigation(method, target string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, target, body)
	r.Host = "localhost"
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	r.Header.Set("Accept-Language", "en")
	r.Header.Set("Accept-Encoding", "gzip")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, &caddyhttp.Server{})
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "203.0.113.9")
	return r
}

var (
	nobody    = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	formToken = regexp.MustCompile(`name="t" value="([^"]*)"`)
)

// passwordStep is alice's form with her password, and what is to record the answer.
func passwordStep(t testing.TB, h *Handler) (*httptest.ResponseRecorder, *http.Request) {
	t.Helper()
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, navigation("GET", "/_mfa/signin", nil), nobody); err != nil {
		t.Fatal(err)
	}
	m := formToken.FindStringSubmatch(w.Body.String())
	if m == nil {
		t.Fatalf("no form:\n%s", w.Body)
	}
	form := url.Values{"t": {m[1]}, "username": {"alice"}, "password": {alicePassword}}
	r := navigation("POST", "/_mfa/signin", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return httptest.NewRecorder(), r
}

// signIn gives the cookies of alice, who is in her grace period.
func signIn(t testing.TB, h *Handler) []*http.Cookie {
	t.Helper()
	w, r := passwordStep(t, h)
	if err := h.ServeHTTP(w, r, nobody); err != nil {
		t.Fatal(err)
	}
	cookies := w.Result().Cookies()
	if len(cookies) == 0 {
		t.Fatalf("not signed in:\n%s", w.Body)
	}
	return cookies
}

func TestIdentityIsNeitherSharedNorOld(t *testing.T) {
	h := load(t, "mfa app\nrespond ok")
	cookies := signIn(t, h)
	var current session.Current
	next := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		conn, ok := session.FromContext(r.Context())
		if name := r.Header.Get("Remote-User"); !ok || name != "alice" {
			t.Errorf("application gets %q", name)
		}
		current = conn.Current
		r.Header["Remote-User"][0] = "changed in place" // as request_header does
		return nil
	})
	for range 2 {
		r := navigation("GET", "/", nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		if err := h.ServeHTTP(httptest.NewRecorder(), r, next); err != nil {
			t.Fatal(err)
		}
	}
	// The users file was read again, and the session is still the same in memory.
	r := navigation("GET", "/", nil)
	h.identify(r, &mfa.User{Name: "alice", DisplayName: "Alice the Second"}, current)
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if header, placeholder := r.Header.Get("Remote-Name"), repl.ReplaceAll("{http.auth.user.name}", ""); header != "Alice the Second" || placeholder != header {
		t.Fatalf("header %q, placeholder %q", header, placeholder)
	}
}

// discard is a ResponseWriter that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header       { return d.header }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func BenchmarkSignedIn(b *testing.B) {
	h := load(b, "mfa app\nrespond ok")
	cookies := signIn(b, h)
	r := navigation("GET", "/reports/2026?x=1", nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	header := r.Header
	reached := false
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		reached = r.Header.Get("Remote-User") == "alice"
		w.WriteHeader(http.StatusOK)
		return nil
	})
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		r.Header = header.Clone() // counts as ours: about 1 µs
		if err := h.ServeHTTP(w, r, next); err != nil || !reached {
			b.Fatal("not let in", err)
		}
		reached = false
	}
}

func BenchmarkHeaderClone(b *testing.B) {
	r := navigation("GET", "/reports/2026?x=1", nil)
	r.AddCookie(&http.Cookie{Name: "mfa_session", Value: strings.Repeat("x", 192)})
	b.ReportAllocs()
	for b.Loop() {
		r.Header.Clone()
	}
}

func BenchmarkRedirectToSignIn(b *testing.B) {
	h := load(b, "mfa app\nrespond ok")
	r := navigation("GET", "/reports/2026?x=1", nil)
	b.ReportAllocs()
	for b.Loop() {
		w := discard{http.Header{}}
		if err := h.ServeHTTP(w, r, nobody); err != nil || w.header.Get("Location") == "" {
			b.Fatal("no redirect", err)
		}
	}
}

// BenchmarkSignInBesideItsHash says what a whole step with the right password costs beside the hash alone, one after the other.
func BenchmarkSignInBesideItsHash(b *testing.B) {
	digest, err := password.Parse(aliceDigest)
	if err != nil {
		b.Fatal(err)
	}
	h := load(b, "mfa app\nrespond ok")
	var took, cpu [2][]time.Duration // of the step, of the hash
	for n := 0; b.Loop(); n++ {
		w, r := passwordStep(b, h)
		for i := range 2 {
			which := (i + n) % 2 // either goes first as often: it leaves the other memory to collect
			begin, beginCPU := time.Now(), processCPU(b)
			if which == 1 {
				if !digest.Verify(alicePassword) {
					b.Fatal("wrong password")
				}
			} else if err := h.ServeHTTP(w, r, nobody); err != nil || len(w.Result().Cookies()) == 0 {
				b.Fatal("not signed in", err)
			}
			took[which], cpu[which] = append(took[which], time.Since(begin)), append(cpu[which], processCPU(b)-beginCPU)
		}
	}
	ratio := func(x, y []time.Duration) float64 { // of the medians: other programs disturb a few
		slices.Sort(x)
		slices.Sort(y)
		return float64(x[len(x)/2]) / float64(y[len(y)/2])
	}
	b.ReportMetric(ratio(took[0], took[1]), "time/hash")
	b.ReportMetric(ratio(cpu[0], cpu[1]), "CPU/hash")
}

// processCPU is the CPU time that this process has used.
func processCPU(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
