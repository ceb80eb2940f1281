package integration

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

var commandCalls = regexp.MustCompile(`(?m)^cmdstat_([a-z|_-]+):calls=([0-9]+)`)

// commands counts what Redis was asked, but for what goes on whether anybody comes or not.
func commands(t testing.TB, r *redistest.Server) map[string]int {
	t.Helper()
	calls := map[string]int{}
	for _, m := range commandCalls.FindAllStringSubmatch(r.Do("INFO", "commandstats"), -1) {
		switch name, _, _ := strings.Cut(m[1], "|"); name {
		case "ping", "info", "auth", "hello", "client", "dbsize", "subscribe", "ssubscribe", "publish":
		default:
			n, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			calls[m[1]] = n
		}
	}
	return calls
}

func TestAttackAnonymousRequestsCostNothing(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	r := redistest.Start(t)
	p := lab.Start(t, up.Address, onRedis(r))
	host := strings.TrimPrefix(p.URL, "http://")
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	own := b.Cookie(sessionCookie)
	// Her sign-in is written to the log a moment later.
	lab.Eventually(t, time.Minute, "her sign-in is kept", func() bool { return strings.Contains(p.Command("sign-ins"), "alice") })
	lab.Eventually(t, time.Minute, "nothing more is written", func() bool {
		before := commands(t, r)
		time.Sleep(300 * time.Millisecond)
		return maps.Equal(before, commands(t, r))
	})
	var requests []string
	for _, request := range everyWay {
		requests = append(requests, strings.ReplaceAll(request, "HOST", host))
	}
	for _, page := range []string{"signin", "verify", "register", "account", "signout", "nothing", "health", "style.css"} {
		requests = append(requests, "GET /_mfa/"+page+" HTTP/1.1\r\nHost: "+host+"\r\n")
	}
	for _, page := range []string{"verify", "register", "account", "signout", "language"} {
		requests = append(requests, "POST /_mfa/"+page+" HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 0\r\n")
	}
	for _, line := range legacyLines {
		requests = append(requests, "GET /x HTTP/1.1\r\nHost: "+host+"\r\n"+line)
	}
	forged := []string{"", "x", own[:len(own)/2], strings.Repeat("A", len(own)), strings.Repeat("A", 4000), own + own}
	up.Forget()
	before, keys := commands(t, r), r.Do("DBSIZE")
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := int(next.Add(1)); i < 6*len(requests); i = int(next.Add(1)) {
				cookie := "Cookie: " + sessionCookie + "=" + forged[i%6] + "; mfa_browser=" + forged[(i+1)%6] + "\r\n"
				p.Raw(t, requests[i/6]+cookie+fmt.Sprintf("X-Forwarded-For: 198.51.100.%d\r\nConnection: close\r\n\r\n", i%250))
			}
		})
	}
	wg.Wait()
	up.WantNothing(t)
	if after := r.Do("DBSIZE"); after != keys {
		t.Errorf("%s keys have become %s", keys, after)
	}
	for name, n := range commands(t, r) {
		if n != before[name] {
			t.Errorf("%s was called %d times", name, n-before[name])
		}
	}
	// And the counting counts: somebody with a session that this process has not in memory is looked up.
	p.Kill()
	p.Launch(false)
	before = commands(t, r)
	if !b.SignedIn() {
		t.Fatal("alice is signed out")
	}
	if after := commands(t, r); fmt.Sprint(after) == fmt.Sprint(before) {
		t.Errorf("nothing is counted: %v", after)
	}
}

func TestAttackAFloodOfSignIns(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Servers: "servers {\n\t\ttrusted_proxies static 127.0.0.1\n\t\ttrusted_proxies_strict\n\t}"})
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 400}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	stop, done := make(chan struct{}), make(chan struct{})
	var slowest time.Duration
	served, tooSlow := 0, 0
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			begin := time.Now()
			if !b.SignedIn() {
				t.Error("a signed-in request is not served")
				return
			}
			took := time.Since(begin)
			if slowest = max(slowest, took); took > p.Allowed(begin, 5*time.Second) {
				tooSlow++
			}
			served++
		}
	}()
	var refused, judged atomic.Int64
	atOnce(400, func(i int) {
		form := url.Values{"username": {fmt.Sprintf("user%d", i)}, "password": {"x"}}
		req, err := http.NewRequest(http.MethodPost, strings.Replace(p.URL, "localhost", "127.0.0.1", 1)+"/_mfa/signin", strings.NewReader(form.Encode()))
		if err != nil {
			t.Error(err)
			return
		}
		req.Host = strings.TrimPrefix(p.URL, "http://")
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.%d.%d", i/200, 1+i%200))
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		switch resp.StatusCode {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable: // there is a limit, or no room in the queue for longer than two seconds
			refused.Add(1)
			if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || after < 1 {
				t.Errorf("Retry-After: %q", resp.Header.Get("Retry-After"))
			}
		case http.StatusUnprocessableEntity:
			judged.Add(1)
		default:
			t.Errorf("status %d", resp.StatusCode)
		}
	})
	close(stop)
	<-done
	if refused.Load() == 0 || judged.Load() == 0 {
		t.Errorf("%d are refused, %d judged", refused.Load(), judged.Load())
	}
	if served < 10 || tooSlow > 0 {
		t.Errorf("%d signed-in requests were served, the slowest in %v, %d of them too slowly", served, slowest, tooSlow)
	}
	// Whom the flood refused can come again: nothing was counted against them that was not judged.
	lab.NewBrowser(t, p.URL).Password("/", "bob", lab.Password).WantStatus(http.StatusOK)
}

func TestAttackSlowAndHugeForms(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	host := strings.TrimPrefix(p.URL, "http://")
	for i := range 200 {
		c := p.Dial(t)
		defer c.Close()
		page := []string{"signin", "verify", "register", "account"}[i%4]
		if _, err := fmt.Fprintf(c, "POST /_mfa/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\nusername=alice&password=", page, host); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	if d := time.Since(begin); d > p.Allowed(begin, 10*time.Second) {
		t.Errorf("while others send slowly, signing in takes %v", d)
	}
	up.Forget()
	for reason, body := range map[string]string{
		"a huge password": "username=alice&password=" + strings.Repeat("x", 10<<20),
		"a huge name":     "password=x&username=" + strings.Repeat("x", 1<<20),
		"a huge token":    "username=alice&password=x&t=" + strings.Repeat("A", 1<<20),
		"many fields":     "username=alice&password=x" + strings.Repeat("&a=b", 1<<20),
		"many semicolons": "username=alice&password=x" + strings.Repeat(";", 1<<20),
	} {
		for _, page := range []string{"signin", "verify", "register", "account", "signout"} {
			a := p.Raw(t, fmt.Sprintf("POST /_mfa/%s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", page, host, cookieHeader(b), len(body), body))
			if codes := a.Statuses(); len(codes) > 0 && codes[0] < 400 {
				t.Errorf("%s to %s: %v", reason, page, codes)
			}
		}
	}
	for reason, request := range map[string]string{
		"a huge header":   "GET / HTTP/1.1\r\nHost: " + host + "\r\nX-A: " + strings.Repeat("x", 4<<20) + "\r\n",
		"a huge cookie":   "GET / HTTP/1.1\r\nHost: " + host + "\r\nCookie: " + sessionCookie + "=" + strings.Repeat("x", 500_000) + "\r\n",
		"many cookies":    "GET / HTTP/1.1\r\nHost: " + host + "\r\nCookie: " + strings.Repeat(sessionCookie+"=x; ", 10_000) + "\r\n",
		"many headers":    "GET / HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Repeat("Remote_User: x\r\n", 10_000),
		"a huge path":     "GET /" + strings.Repeat("../", 100_000) + " HTTP/1.1\r\nHost: " + host + "\r\n",
		"a huge language": "GET /_mfa/signin HTTP/1.1\r\nHost: " + host + "\r\nAccept-Language: " + strings.Repeat("en-", 100_000) + "\r\n",
	} {
		begin := time.Now()
		p.Raw(t, request+"Connection: close\r\n\r\n")
		if d := time.Since(begin); d > p.Allowed(begin, 5*time.Second) {
			t.Errorf("%s takes %v", reason, d)
		}
	}
	up.WantNothing(t)
	if !b.SignedIn() {
		t.Error("alice is signed out")
	}
}
