package integration

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

// soak says whether the tests may take long.
func soak() bool { return os.Getenv("CADDY_MFA_SOAK") == "1" }

// variant is the configuration of o, different from every other with another n.
func variant(p *lab.Proxy, upstream string, o lab.Options, n int) string {
	o.Global += fmt.Sprintf("\nsession {\ncache %dms\n}", 30_000+n)
	return lab.Caddyfile(p, upstream, o)
}

func TestReloadUnderLoadLosesNothing(t *testing.T) {
	for _, store := range []string{"bolt", "memory", "redis"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			up := lab.NewUpstream(t, nil)
			// A reload may wait for requests, however slow the machine is.
			o := lab.Options{
				Servers: "grace_period 30s\nmetrics",
				// What is idle when a configuration ends is closed. What becomes idle later waits for this.
				Site: "mfa app\nreverse_proxy {upstream} {\ntransport http {\nkeepalive 1s\n}\n}",
			}
			var server *redistest.Server
			switch store {
			case "memory":
				o.Store = "store memory"
			case "redis":
				server = redistest.Start(t)
				o.Store = redisStore(server.Addr(), server.Password())
			}
			p := lab.Start(t, up.Address, o)
			reloads := 0
			reload := func() {
				t.Helper()
				reloads++
				if err := p.Load(variant(p, up.Address, o, reloads)); err != nil {
					t.Fatal(err)
				}
			}
			signedIn := lab.NewBrowser(t, p.URL).Patient()
			alice := signedIn.Register("alice")
			begin := metric(t, p, `caddy_mfa_audit_events_total{event="factor_registered"}`)

			// Everything that is made once is there when the first count is taken.
			load := startReloadLoad(signedIn)
			for range 3 {
				reload()
			}
			load.Stop()
			reload()
			before := settled(t, p, server)

			length := 15 * time.Second
			if soak() {
				length = time.Minute
			}
			up.Forget()
			load = startReloadLoad(signedIn)
			first, signIns := reloads, 0
			done := make(chan struct{})
			go func() {
				defer close(done)
				for end := time.Now().Add(length); time.Now().Before(end) || reloads-first < 10 || len(load.Replies()) < 200; {
					next := time.Now()
					reload()
					if soak() {
						next = next.Add(time.Second)
					}
					time.Sleep(time.Until(next))
				}
			}()
			for working := true; working; {
				// The same person with a code, and somebody new.
				b := lab.NewBrowser(t, p.URL).Patient()
				if signIns < 2 {
					b.SignIn("/", alice).Want("secret report")
				} else if b.Password("/", "bob", lab.Password); !b.SignedIn() {
					t.Error("bob is not signed in")
				}
				b.Close()
				signIns++
				select {
				case <-done:
					working = false
				default:
				}
			}
			replies := load.Stop()
			failures := 0
			for _, r := range replies {
				if r.Err != nil || r.Status != http.StatusOK || !strings.Contains(r.Body, "secret report") {
					if failures++; failures <= 5 {
						t.Errorf("lost: %s", r)
					}
				}
			}
			// What a client has sent again had not been begun.
			times := map[string]int{}
			for _, r := range up.Requests() {
				times[r.URI]++
			}
			for _, r := range replies {
				if n := times[r.Request.URL.RequestURI()]; n != 1 {
					t.Errorf("%s has reached the application %d times", r.Request.URL, n)
				}
			}
			t.Logf("%s: %d reloads, %d requests, %d of them lost, %d sign-ins", store, reloads-first, len(replies), failures, signIns)
			if reloads-first < 10 || len(replies) < 200 {
				t.Errorf("%d reloads under %d requests show nothing", reloads-first, len(replies))
			}
			if !signedIn.SignedIn() {
				t.Error("the session is lost")
			}
			if now := metric(t, p, `caddy_mfa_audit_events_total{event="factor_registered"}`); now != begin {
				t.Errorf("a counter went from %v to %v over reloads", begin, now)
			}
			reload()
			var after usage
			for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
				after = settled(t, p, server)
				if after.goroutines <= before.goroutines+3 && after.files <= before.files+3 {
					break
				}
				if time.Now().After(deadline) {
					t.Errorf("after %d reloads there are %d goroutines, %d before, and %d files, %d before:\n%s", reloads-first,
						after.goroutines, before.goroutines, after.files, before.files, after.profile)
					break
				}
			}
			t.Logf("%s: %d goroutines before and %d after, %d files before and %d after", store, before.goroutines, after.goroutines, before.files, after.files)
		})
	}
}

// startReloadLoad asks with the session of a browser, by GET and by POST.
func startReloadLoad(b *lab.Browser) *lab.Load {
	return lab.StartLoad(4, 5*time.Millisecond, func(client, n int) *http.Request {
		if client%2 == 0 {
			return b.Signed(http.MethodGet, fmt.Sprintf("/report?n=%d.%d", client, n), nil)
		}
		req := b.Signed(http.MethodPost, fmt.Sprintf("/report?n=%d.%d", client, n), url.Values{"n": {fmt.Sprint(n)}})
		// A server that stops closes connections on which nothing happens. Clients send again what they may.
		req.Header.Set("Idempotency-Key", fmt.Sprint(client, n))
		return req
	})
}

// usage is what a process holds.
type usage struct {
	goroutines, files int
	profile           string
}

var profileTotal = regexp.MustCompile(`goroutine profile: total (\d+)`)

// settled counts when nothing is asked any more, without the connections to Redis, which are kept for later.
func settled(t testing.TB, p *lab.Proxy, server *redistest.Server) usage {
	t.Helper()
	text := p.Ask("/debug/pprof/goroutine?debug=1").Body
	m := profileTotal.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("there is no profile:\n%s", text)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	u := usage{goroutines: n, files: len(files), profile: text}
	if server != nil {
		// One of them is the one that asks.
		connections := len(strings.Split(strings.TrimSpace(server.Do("CLIENT", "LIST")), "\n")) - 1
		if connections > 30 {
			t.Errorf("%d connections to Redis are open", connections)
		}
		u.files -= connections
	}
	return u
}

func TestOpenConnectionsSurviveReloadUntilTheirSessionEnds(t *testing.T) {
	app := newStreamingApp(t)
	o := lab.Options{Site: "mfa app\nreverse_proxy {upstream} {\nstream_close_delay 1h\n}"}
	p := lab.Start(t, app.Address, o)
	alice, bob := streams(inGrace(t, p, "alice")), streams(inGrace(t, p, "bob"))
	for n := range 2 {
		if err := p.Load(variant(p, app.Address, o, n)); err != nil {
			t.Fatal(err)
		}
		wantFlowing(t, alice)
		wantFlowing(t, bob)
	}
	begin := time.Now()
	p.API(http.MethodPost, "/mfa/users/alice/sign-out", nil)
	wantCut(t, begin, alice)
	wantFlowing(t, bob)

	// A reload that fails leaves everything as it was.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for n := range 5 {
		bad := variant(p, app.Address, o, 100+n) + fmt.Sprintf("\nhttp://localhost:%d {\nbind 127.0.0.1\nmfa other\nrespond hello\n}\n", taken.Addr().(*net.TCPAddr).Port)
		if err := p.Load(bad); err == nil {
			t.Fatal("a port that is in use was accepted")
		}
		if r := p.Ask("/mfa/users"); r.Status != http.StatusOK {
			t.Fatalf("after a reload that failed the commands get %s", r)
		}
		if metric(t, p, "caddy_mfa_store_fresh") != 1 || metric(t, p, "caddy_mfa_open_requests") != 4 {
			t.Fatal("after a reload that failed the metrics are those of no configuration")
		}
	}
	wantFlowing(t, bob)
	begin = time.Now()
	p.API(http.MethodPost, "/mfa/users/bob/sign-out", nil)
	wantCut(t, begin, bob)
}

func TestReloadCutsWebSocketsWithoutADelay(t *testing.T) {
	t.Parallel()
	app := newStreamingApp(t)
	o := lab.Options{}
	p := lab.Start(t, app.Address, o)
	socket, _ := inGrace(t, p, "alice").WebSocket("/socket")
	socket.WantFlowing(t, "the WebSocket")
	begin := time.Now()
	if err := p.Load(variant(p, app.Address, o, 1)); err != nil {
		t.Fatal(err)
	}
	socket.WantCut(t, begin, cutWithin, "the WebSocket")
}

func TestReloadIntoAnotherStoreEndsOpenConnections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reason string
		next   func(p *lab.Proxy, o lab.Options, upstream string) string
	}{
		{"another file", func(p *lab.Proxy, o lab.Options, upstream string) string {
			o.Store = "store bolt " + p.Dir + "/other.db"
			return lab.Caddyfile(p, upstream, o)
		}},
		{"no mfa at all", func(p *lab.Proxy, o lab.Options, upstream string) string {
			text := lab.Caddyfile(p, upstream, o)
			return text[:strings.Index(text, "mfa {")] + "}\n" + fmt.Sprintf("http://localhost:%d {\nrespond hello\n}\n", p.Port)
		}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			app := newStreamingApp(t)
			o := lab.Options{Site: "mfa app\nreverse_proxy {upstream} {\nstream_close_delay 1h\n}"}
			p := lab.Start(t, app.Address, o)
			alice := streams(inGrace(t, p, "alice"))
			wantFlowing(t, alice)
			if err := p.Load(c.next(p, o, app.Address)); err != nil {
				t.Fatal(err)
			}
			// Nobody could say any more when their session ends.
			wantCut(t, time.Now(), alice)
		})
	}
}

func TestReloadWithAWrongRedisPasswordLeavesTheRightOne(t *testing.T) {
	t.Parallel()
	up, server := lab.NewUpstream(t, nil), redistest.Start(t)
	o := lab.Options{Store: redisStore(server.Addr(), server.Password())}
	p := lab.Start(t, up.Address, o)
	b := inGrace(t, p, "alice")
	wrong := o
	wrong.Store = redisStore(server.Addr(), "wrong")
	if err := p.Load(lab.Caddyfile(p, up.Address, wrong)); err == nil {
		t.Fatal("a wrong password was accepted")
	}
	// What is connected stays connected. The password is needed for what comes next.
	server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	lab.Eventually(t, 10*time.Second, "the session is good", b.SignedIn)
	lab.Eventually(t, 10*time.Second, "the store tells of changes", func() bool { return metric(t, p, "caddy_mfa_store_fresh") == 1 })
	if bytes.Contains([]byte(p.Log()), []byte(server.Password())) {
		t.Error("the password stands in the log")
	}

	// And a new one can be set while the server runs.
	server.Do("CONFIG", "SET", "requirepass", "another")
	right := o
	right.Store = redisStore(server.Addr(), "another")
	if err := p.Load(lab.Caddyfile(p, up.Address, right)); err != nil {
		t.Fatal(err)
	}
	// The client of this test knows the old password only.
	if err := p.Load(variant(p, up.Address, right, 1)); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 10*time.Second, "the session is good", b.SignedIn)
}
