package integration

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

// onRedis are the options of one of several nodes on a Redis server.
func onRedis(r *redistest.Server) lab.Options {
	return lab.Options{
		Store:  fmt.Sprintf("store redis {\n\t\t\taddress %s\n\t\t\tpassword %s\n\t\t}", r.Addr(), r.Password()),
		Global: `secret "one secret for all nodes, long enough"`,
	}
}

// reaches sends a request with a cookie over a connection of its own, and says whether it arrives.
func reaches(t testing.TB, up *lab.Upstream, p *lab.Proxy, cookie string) bool {
	t.Helper()
	up.Forget()
	p.Raw(t, "GET /mine HTTP/1.1\r\nHost: "+strings.TrimPrefix(p.URL, "http://")+"\r\n"+cookie+"Connection: close\r\n\r\n")
	return up.Bytes() > 0
}

// everyWay are the ways in which programs and browsers ask an application for something.
var everyWay = map[string]string{
	"a navigation":         "GET /x HTTP/1.1\r\nHost: HOST\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
	"a form":               "POST /x HTTP/1.1\r\nHost: HOST\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\nContent-Length: 0\r\n",
	"a frame":              "GET /x HTTP/1.1\r\nHost: HOST\r\nAccept: text/html\r\nSec-Fetch-Dest: iframe\r\n",
	"a script":             "GET /api HTTP/1.1\r\nHost: HOST\r\nAccept: application/json\r\nSec-Fetch-Mode: cors\r\n",
	"an XMLHttpRequest":    "POST /api HTTP/1.1\r\nHost: HOST\r\nX-Requested-With: XMLHttpRequest\r\nContent-Length: 0\r\n",
	"an event stream":      "GET /events HTTP/1.1\r\nHost: HOST\r\nAccept: text/event-stream\r\n",
	"a WebSocket":          "GET /ws HTTP/1.1\r\nHost: HOST\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
	"a preflight":          "OPTIONS /api HTTP/1.1\r\nHost: HOST\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: PUT\r\n",
	"an ACME challenge":    "GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: HOST\r\n",
	"a service worker":     "GET /sw.js HTTP/1.1\r\nHost: HOST\r\nService-Worker: script\r\nSec-Fetch-Dest: serviceworker\r\n",
	"a program":            "GET /x HTTP/1.1\r\nHost: HOST\r\n",
	"a program with token": "GET /x HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer x\r\n",
	"HEAD":                 "HEAD /x HTTP/1.1\r\nHost: HOST\r\n",
	"PROPFIND":             "PROPFIND /dav HTTP/1.1\r\nHost: HOST\r\nDepth: 1\r\n",
	"a crawler":            "GET /x HTTP/1.1\r\nHost: HOST\r\nUser-Agent: Mozilla/5.0 (compatible; Googlebot/2.1)\r\n",
	"a health check":       "GET /x HTTP/1.1\r\nHost: HOST\r\nUser-Agent: ELB-HealthChecker/2.0\r\n",
	"a big upload":         "PUT /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 100000000\r\n",
	"a range":              "GET /x HTTP/1.1\r\nHost: HOST\r\nRange: bytes=0-1\r\nIf-None-Match: \"x\"\r\n",
	"a prefetch":           "GET /x HTTP/1.1\r\nHost: HOST\r\nSec-Purpose: prefetch\r\n",
}

func TestAttackThePasswordAloneOpensNothing(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	host := strings.TrimPrefix(p.URL, "http://")
	own := lab.NewBrowser(t, p.URL)
	alice := own.Register("alice")
	half := halfSignedIn(t, p, "alice")
	up.Forget()
	for sender, cookie := range map[string]string{"nobody": "", "who knows the password": cookieHeader(half)} {
		for reason, request := range everyWay {
			a := p.Raw(t, strings.ReplaceAll(request, "HOST", host)+cookie+"Connection: close, Upgrade\r\n\r\n")
			if up.Bytes() != 0 {
				t.Errorf("%s, %s: it reaches the application:\n%s", sender, reason, up.Raw())
				up.Forget()
			}
			head, _, _ := strings.Cut(string(a), "\r\n\r\n")
			if codes := a.Statuses(); len(codes) != 1 || codes[0] < 300 {
				t.Errorf("%s, %s: the answer is %v", sender, reason, codes)
			}
			if !strings.Contains(head, "\r\nCache-Control: no-store") {
				t.Errorf("%s, %s: the denial may be kept in a cache:\n%s", sender, reason, head)
			}
			if strings.Contains(head, "\r\nAccess-Control-") {
				t.Errorf("%s, %s: the denial lets other origins read it:\n%s", sender, reason, head)
			}
		}
	}

	// Nor anything on our own pages: no key, no code, no change, no session of the owner's.
	session := verifyForm(t, half).Get("session")
	factors := func() string {
		_, rest, _ := strings.Cut(show(t, p, "alice"), `"credentials"`)
		list, _, _ := strings.Cut(rest, "]")
		return list
	}
	before := factors()
	for _, path := range []string{"", "account", "register", "register?page=choose", "verify?for=change", "account?confirmed", "confirm?change=recovery", "signin", "language"} {
		page := half.Get("/_mfa/" + path)
		for _, secret := range append([]string{alice.Key, "otpauth:", "<svg", `id="codes"`, "Sign out everywhere"}, alice.Codes...) {
			if strings.Contains(page.Body, secret) {
				t.Errorf("/_mfa/%s shows %q", path, secret)
			}
		}
	}
	for _, action := range []string{"begin", "finish", "later", "kept", ""} {
		page := half.Post("/_mfa/register", url.Values{"action": {action}, "session": {session}, "code": {"000000"}})
		if strings.Contains(page.Body, "otpauth:") || page.Next() != "" {
			t.Errorf("register, %q: %v", action, page)
		}
	}
	for _, form := range []url.Values{{"action": {"remove"}, "id": {"x"}}, {"action": {"recovery"}}, {"action": {"end"}, "id": {"x"}}} {
		form.Set("session", session)
		if page := half.Post("/_mfa/account", form); strings.Contains(page.Body, `id="codes"`) || page.Next() != "" {
			t.Errorf("account, %v: %v", form, page)
		}
	}
	if after := factors(); after != before {
		t.Errorf("factors have changed from %s to %s", before, after)
	}
	if !own.SignedIn() {
		t.Error("the owner was signed out")
	}
	if half.SignedIn() {
		t.Error("the password alone is enough now")
	}
}

func TestAttackCookiesThatAreNotOurs(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	foreign := lab.Start(t, up.Address, lab.Options{})
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	elsewhere := lab.NewBrowser(t, foreign.URL)
	elsewhere.Register("alice")
	own := b.Cookie(sessionCookie)
	if !reaches(t, up, p, "Cookie: "+sessionCookie+"="+own+"\r\n") {
		t.Fatal("the cookie as it is does not open the application")
	}
	half := halfSignedIn(t, p, "alice")
	_, form := half.Get("/_mfa/verify").Form("code")
	bad := map[string]string{
		"of another server":        elsewhere.Cookie(sessionCookie),
		"empty":                    "",
		"a made-up token":          strings.Repeat("A", len(own)),
		"twice":                    own + "; " + sessionCookie + "=" + own,
		"behind a made-up one":     "x; " + sessionCookie + "=" + own,
		"before a made-up one":     own + "; " + sessionCookie + "=x",
		"with itself behind":       own + own,
		"huge":                     strings.Repeat(own, 100),
		"with a comma":             own + ",x",
		"with padding":             own + "=",
		"percent-encoded":          url.QueryEscape("%" + own),
		"another letter case":      strings.ToUpper(own),
		"the token of a return":    form.Get("t"),
		"a session's id":           form.Get("session"),
		"the known browser's":      b.Cookie("mfa_browser"),
		"of the prefixed name":     "; __Host-" + sessionCookie + "=" + own,
		"under another name":       "; mfa_session2=" + own,
		"under our name, in caps":  "; MFA_SESSION=" + own,
		"the password-only one":    half.Cookie(sessionCookie),
		"in the other standard":    "; $Version=1; \"" + sessionCookie + "\"=" + own,
		"with a line break inside": own[:20] + "\r\n " + own[20:],
	}
	for i := 0; i < len(own)-1; i += max(1, len(own)/60) {
		flipped := []byte(own)
		flipped[i] ^= 1
		bad[fmt.Sprintf("flipped at %d", i)] = string(flipped)
		bad[fmt.Sprintf("cut at %d", i)] = own[:i]
		bad[fmt.Sprintf("begun at %d", i+1)] = own[i+1:]
	}
	bad["cut by one"] = own[:len(own)-1]
	for reason, value := range bad {
		if reaches(t, up, p, "Cookie: "+sessionCookie+"="+value+"\r\n") {
			t.Errorf("%s: it reaches the application", reason)
		}
	}
	if reaches(t, up, p, "Cookie: "+sessionCookie+"="+own+"\r\nCookie: "+sessionCookie+"="+own+"\r\n") {
		t.Error("in two lines: it reaches the application")
	}
}

func TestAttackAPlantedSessionIsWorthNothing(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	alice := lab.NewBrowser(t, p.URL).Register("alice")

	// The attacker knows her password, and puts his half of a sign-in into her browser. She completes it.
	attacker := halfSignedIn(t, p, "alice")
	planted := attacker.Cookie(sessionCookie)
	victim := lab.NewBrowser(t, p.URL)
	page := victim.Get("/")
	victim.SetCookie(sessionCookie, planted)
	page.Submit("password", "username", "alice", "password", lab.Password).Submit("code", "code", alice.Code(t))
	if !victim.SignedIn() {
		t.Fatal("she is not signed in")
	}
	if victim.Cookie(sessionCookie) == planted {
		t.Error("the cookie is the planted one")
	}
	if reaches(t, up, p, "Cookie: "+sessionCookie+"="+planted+"\r\n") {
		t.Error("the planted cookie has come to something")
	}
	if attacker.SignedIn() {
		t.Error("the attacker is signed in")
	}
	// Each step has a token of its own.
	b := lab.NewBrowser(t, p.URL)
	b.SetCookie(sessionCookie, "made-up-by-an-attacker")
	form := b.Password("/", "alice", lab.Password)
	first := b.Cookie(sessionCookie)
	if first == "made-up-by-an-attacker" {
		t.Error("a made-up token is taken over")
	}
	form.Submit("code", "code", alice.Code(t))
	if b.Cookie(sessionCookie) == first {
		t.Error("the second step changes no token")
	}
	if reaches(t, up, p, "Cookie: "+sessionCookie+"="+first+"\r\n") {
		t.Error("the token from before the second step is as good as the one behind it")
	}
}

func TestAttackASessionAfterItsEndOnEveryNode(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, secretReport+"\n")
		if r.URL.Path == "/stream" {
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})
	redis := redistest.Start(t)
	one, two := lab.Start(t, up.Address, onRedis(redis)), lab.Start(t, up.Address, onRedis(redis))
	a := lab.NewBrowser(t, one.URL)
	alice := a.Register("alice")
	replay := func(p *lab.Proxy, cookie string) bool {
		return reaches(t, up, p, "Cookie: "+sessionCookie+"="+cookie+"\r\n")
	}
	cookie := a.Cookie(sessionCookie)
	if !replay(one, cookie) || !replay(two, cookie) {
		t.Fatal("the session is not good on both nodes")
	}

	// A response that runs on the other node ends with the session.
	stream, err := http.NewRequest(http.MethodGet, two.URL+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	stream.Header.Set("Cookie", sessionCookie+"="+cookie)
	resp, err := http.DefaultClient.Do(stream)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, secretReport) {
		t.Fatalf("%q, %v", line, err)
	}
	ended := make(chan struct{})
	go func() { io.Copy(io.Discard, in); close(ended) }()

	a.Post("/_mfa/signout", url.Values{}).Want("You are signed out")
	signedOut := time.Now()
	two.Within(t, signedOut, 2*time.Second, "the response on the other node ends", func() bool { return closed(ended) })
	two.Within(t, signedOut, time.Second, "the session ends on the other node", func() bool { return !replay(two, cookie) })
	if replay(one, cookie) {
		t.Error("signed out: the cookie is still good where it was signed out")
	}

	// Signed out from somewhere else, and by the administrator.
	b := lab.NewBrowser(t, two.URL)
	b.SignIn("/", alice)
	second := b.Cookie(sessionCookie)
	one.Command("user", "sign-out", "alice")
	two.Within(t, time.Now(), time.Second, "the administrator's word reaches the other node", func() bool { return !replay(two, second) })

	// Neither reload nor restart brings them back.
	config := lab.Caddyfile(two, up.Address, onRedis(redis))
	if err := two.Reload(config); err != nil {
		t.Fatal(err)
	}
	two.Kill()
	two.Launch(false)
	for i, old := range []string{cookie, second} {
		if replay(one, old) || replay(two, old) {
			t.Errorf("session %d is back", i)
		}
	}
}

func TestAttackASessionOfOneHostOnAnother(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Address: "http://localhost:{port}, http://127.0.0.1:{port}, http://[::1]:{port}"})
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	for host, want := range map[string]bool{"localhost": true, "LOCALHOST": true, "127.0.0.1": false, "[::1]": false, "localhost.": false, "": false} {
		up.Forget()
		p.Raw(t, fmt.Sprintf("GET /mine HTTP/1.1\r\nHost: %s:%d\r\n%sConnection: close\r\n\r\n", host, p.Port, cookieHeader(b)))
		if got := up.Bytes() > 0; got != want {
			t.Errorf("on %q the session of localhost is good: %v", host, got)
		}
	}
	// Where a browser was going on one host says nothing on another.
	anon := lab.NewBrowser(t, p.URL).NoRedirects().Get("/private?for=localhost")
	location, err := url.Parse(anon.Header.Get("Location"))
	if err != nil || location.Query().Get("t") == "" {
		t.Fatalf("%v: %q", err, anon.Header.Get("Location"))
	}
	other := lab.NewBrowser(t, fmt.Sprintf("http://127.0.0.1:%d", p.Port))
	next := other.Get("/_mfa/signin?t="+url.QueryEscape(location.Query().Get("t"))).Submit("password", "username", "bob", "password", lab.Password).Submit("later").Next()
	if next != "/" {
		t.Errorf("the other host leads to %q", next)
	}
}

func TestAttackPollingDoesNotKeepASessionForEver(t *testing.T) {
	t.Parallel()
	var streams atomic.Int64
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "<p>"+secretReport+"</p>")
		if r.URL.Path == "/stream" {
			http.NewResponseController(w).Flush()
			streams.Add(1)
			<-r.Context().Done()
			streams.Add(-1)
		}
	})
	p := lab.Start(t, up.Address, lab.Options{
		Global: "session {\n\t\t\tidle 5s\n\t\t\tlifetime 12s\n\t\t}",
		Site:   "mfa app {\n\t\tno_idle /poll\n\t}\n\treverse_proxy {upstream}",
	})
	host := strings.TrimPrefix(p.URL, "http://")
	ask := func(cookie, path string) bool {
		return strings.Contains(string(p.Raw(t, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n"+cookie+"Connection: close\r\n\r\n")), secretReport)
	}
	// lasts asks again and again until the answer is no, and says for how long it was yes.
	lasts := func(cookie, path string) time.Duration {
		begin := time.Now()
		for ask(cookie, path) && time.Since(begin) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		return time.Since(begin)
	}
	idler, worker := lab.NewBrowser(t, p.URL), lab.NewBrowser(t, p.URL)
	begin := time.Now()
	worker.Register("alice")
	idler.Register("bob")
	idle := time.Now()
	conn := p.Dial(t)
	defer conn.Close()
	fmt.Fprintf(conn, "GET /stream HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, cookieHeader(worker))
	var wg sync.WaitGroup
	wg.Go(func() {
		lasts(cookieHeader(idler), "/poll")
		if d := time.Since(idle); d < 4*time.Second || d > p.Allowed(idle, 7*time.Second) {
			t.Errorf("a session that only polls lasts %v, want about 5s", d)
		}
	})
	wg.Go(func() {
		lasts(cookieHeader(worker), "/work")
		if d := time.Since(begin); d < 11*time.Second || d > p.Allowed(begin, 15*time.Second) {
			t.Errorf("a session in full use lasts %v, want about 12s", d)
		}
		p.Within(t, time.Now(), 2*time.Second, "the response that was running ends with it", func() bool { return streams.Load() == 0 })
	})
	wg.Wait()
	for _, cookie := range []string{cookieHeader(idler), cookieHeader(worker)} {
		if ask(cookie, "/work") {
			t.Error("activity after the end brings a session back")
		}
	}
}

func TestAttackAHundredRequestsWhileTheTokenChanges(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	old := cookieHeader(b)
	host := strings.TrimPrefix(p.URL, "http://")
	_, form := b.Get("/_mfa/verify?for=change").Form("code")
	form.Set("code", alice.Code(t))
	var page *lab.Page
	atOnce(101, func(i int) {
		if i == 50 {
			page = b.Post("/_mfa/verify", form)
			return
		}
		if codes := p.Raw(t, "GET /mine HTTP/1.1\r\nHost: "+host+"\r\n"+old+"Connection: close\r\n\r\n").Statuses(); !slices.Equal(codes, []int{200}) {
			t.Errorf("a request with the token before: %v", codes)
		}
	})
	page.Want("Your account")
	if cookieHeader(b) == old {
		t.Fatal("the token has not changed")
	}
	for _, r := range up.Requests() {
		if got := identities(r); !slices.Equal(got, []string{"Remote-User: alice"}) {
			t.Fatalf("the application sees %v", got)
		}
	}
	// The old one has not come to know of the new proof: it changes nothing.
	thief := lab.NewBrowser(t, p.URL)
	thief.SetCookie(sessionCookie, strings.TrimSuffix(strings.TrimPrefix(old, "Cookie: "+sessionCookie+"="), "\r\n"))
	if page := thief.Post("/_mfa/account", url.Values{"action": {"recovery"}, "session": {form.Get("session")}}); strings.Contains(page.Body, `id="codes"`) {
		t.Error("the token before pays with a proof that it does not know of")
	}
}

func TestAttackAnApplicationThatSetsOurCookies(t *testing.T) {
	t.Parallel()
	spellings := []string{
		sessionCookie + "=planted", sessionCookie + " =planted; Path=/", " " + sessionCookie + "=planted", "\t" + sessionCookie + "=planted",
		"=" + sessionCookie + "=planted", "==" + sessionCookie + "=planted", sessionCookie + "=; Max-Age=0; X=planted", "__Host-" + sessionCookie + "=planted; Secure; Path=/",
		"mfa_browser=planted; Path=/_mfa/", "mfa_language=planted; Domain=localhost", "__Host-mfa_browser=planted; Secure; Path=/",
	}
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		set := func() {
			for _, s := range spellings {
				w.Header().Add("Set-Cookie", s)
			}
			w.Header().Add("Set-Cookie", "own=kept; Path=/")
		}
		switch r.URL.Path {
		case "/hint":
			set()
			w.WriteHeader(http.StatusEarlyHints)
		case "/error":
			set()
			w.WriteHeader(http.StatusInternalServerError)
		case "/redirect":
			set()
			http.Redirect(w, r, "/", http.StatusFound)
			return
		case "/flush":
			set()
			http.NewResponseController(w).Flush()
		case "/upgrade":
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
			for _, s := range spellings {
				rw.WriteString("Set-Cookie: " + s + "\r\n")
			}
			rw.WriteString("Set-Cookie: own=kept\r\n\r\n")
			rw.Flush()
			conn.Close()
			return
		default:
			set()
		}
		io.WriteString(w, secretReport)
	})
	p := lab.Start(t, up.Address, lab.Options{Site: bypassSite})
	host := strings.TrimPrefix(p.URL, "http://")
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	for _, path := range []string{"/plain", "/hint", "/error", "/redirect", "/flush", "/upgrade", "/public/x"} {
		extra := "Connection: close\r\n"
		if path == "/upgrade" {
			extra = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		}
		answer := string(p.Raw(t, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n"+cookieHeader(b)+extra+"\r\n"))
		if strings.Contains(answer, "planted") {
			t.Errorf("%s: the application sets our cookies:\n%s", path, answer)
		}
		if !strings.Contains(answer, "own=kept") {
			t.Errorf("%s: the application's own cookie is lost:\n%s", path, answer)
		}
	}
	if !b.SignedIn() {
		t.Error("the session is gone")
	}
}
