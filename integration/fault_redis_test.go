package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

// trustedFor is how long a node may go on with what it knows when Redis has fallen silent.
const trustedFor = 2 * time.Second

// durable makes a Redis server keep its data when it is killed.
var durable = []string{"--appendonly", "yes", "--appendfsync", "always"}

// cable is what lies between a node and Redis. It can be cut without either end being told.
type cable struct {
	listener net.Listener
	to       string
	mu       sync.RWMutex // held for writing while the cable is cut
}

func newCable(t testing.TB, to string) *cable {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c := &cable{listener: l, to: to}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.carry(conn)
		}
	}()
	return c
}

func (c *cable) carry(a net.Conn) {
	defer a.Close()
	b, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer b.Close()
	go c.copy(a, b)
	c.copy(b, a)
}

func (c *cable) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		c.mu.RLock() // waits while the cable is cut
		if n > 0 {
			if _, writeErr := to.Write(buf[:n]); writeErr != nil {
				err = io.EOF
			}
		}
		c.mu.RUnlock()
		if err != nil {
			return
		}
	}
}

func TestRedisFailsUnderLoad(t *testing.T) {
	for _, c := range []struct {
		reason      string
		fail, mend  func(*redistest.Server, *cable)
		throughWire bool
	}{
		{reason: "stopped", fail: func(s *redistest.Server, _ *cable) { s.Stop() }, mend: func(s *redistest.Server, _ *cable) { s.Restart() }},
		{reason: "frozen", fail: func(s *redistest.Server, _ *cable) { s.Freeze() }, mend: func(s *redistest.Server, _ *cable) { s.Thaw() }},
		{
			reason: "black-holed", throughWire: true,
			fail: func(_ *redistest.Server, c *cable) { c.mu.Lock() }, mend: func(_ *redistest.Server, c *cable) { c.mu.Unlock() },
		},
	} {
		t.Run(c.reason, func(t *testing.T) {
			up, server := lab.NewUpstream(t, nil), redistest.Start(t, durable...)
			wire := newCable(t, server.Addr())
			address := server.Addr()
			if c.throughWire {
				address = wire.listener.Addr().String()
			}
			p := lab.Start(t, up.Address, lab.Options{Store: redisStore(address, server.Password())})
			pid := p.Pid()
			b := lab.NewBrowser(t, p.URL)
			alice := b.Register("alice")
			half := lab.NewBrowser(t, p.URL)
			verify := half.Password("/", "alice", lab.Password)
			loginPage := lab.NewBrowser(t, p.URL).Get("/")
			health(t, p, "", http.StatusOK)
			health(t, p, "?ready", http.StatusOK)

			load := lab.StartLoad(6, 10*time.Millisecond, func(client, n int) *http.Request {
				req := b.Signed(http.MethodGet, "/report", nil)
				if client == 0 { // a script
					req.Header.Set("Sec-Fetch-Mode", "cors")
					req.Header.Set("Sec-Fetch-Dest", "empty")
					req.Header.Set("Accept", "application/json")
				}
				return req
			})
			lab.Eventually(t, 10*time.Second, "there is load", func() bool { return len(load.Replies()) > 50 })
			failed := time.Now()
			c.fail(server, wire)
			gone := time.Now()
			time.Sleep(time.Until(gone.Add(trustedFor)))
			up.Forget()

			// Who is in the middle of a sign-in is told that it doesn't work, and not that he must begin anew.
			for what, send := range map[string]func() *lab.Page{
				"the password": func() *lab.Page { return loginPage.Submit("password", "username", "alice", "password", lab.Password) },
				"the code":     func() *lab.Page { return verify.Submit("code", "code", "000000") },
				"the account":  func() *lab.Page { return b.Get("/_mfa/account") },
				"signing out":  func() *lab.Page { return b.Post("/_mfa/signout", nil) },
			} {
				begin := time.Now()
				page := send()
				if took := time.Since(begin); took > p.Allowed(begin, answersWithin) {
					t.Errorf("%s is answered after %v", what, took)
				}
				if page.Status != http.StatusServiceUnavailable || page.Header.Get("Retry-After") == "" || page.Header.Get("Set-Cookie") != "" {
					t.Errorf("%s is answered with %d, headers %v", what, page.Status, page.Header)
				}
			}
			health(t, p, "", http.StatusOK)
			health(t, p, "?ready", http.StatusServiceUnavailable)
			if metric(t, p, "caddy_mfa_store_fresh") != 0 {
				t.Error("the metric says that the store tells of changes")
			}
			time.Sleep(time.Until(gone.Add(2 * trustedFor)))
			up.WantNothing(t)

			mended := time.Now()
			c.mend(server, wire)
			lab.Eventually(t, 10*time.Second, "the session is good again", b.SignedIn)
			recovered := time.Now()
			lab.Eventually(t, 10*time.Second, "it is ready again", func() bool {
				return lab.Send(b.Request(http.MethodGet, "/_mfa/health?ready", nil)).Status == http.StatusOK
			})
			// More load, which must be answered well.
			answered := len(load.Replies())
			lab.Eventually(t, 10*time.Second, "there is load", func() bool { return len(load.Replies()) > answered+50 })
			replies := load.Stop()
			if p.Pid() != pid || !p.Running() {
				t.Error("the server has ended")
			}
			var slowest time.Duration
			var refused, late, tooLate int
			for _, r := range replies {
				slowest = max(slowest, r.Took)
				if answered := r.Sent.Add(r.Took); r.Took > answersWithin {
					late++
					if r.Took > p.AllowedUntil(r.Sent, answered, answersWithin) {
						tooLate++
					}
				}
				switch {
				case r.Err != nil, r.Status != http.StatusOK && r.Status != http.StatusServiceUnavailable:
					t.Fatalf("neither served nor unavailable: %s", r)
				case r.Header.Get("Set-Cookie") != "":
					t.Fatalf("a cookie is set: %s", r)
				case r.Status == http.StatusServiceUnavailable && (r.Sent.Before(failed.Add(-time.Second)) || r.Sent.After(recovered.Add(time.Second))) && !stalled(p, r):
					t.Fatalf("refused while Redis works: %s", r)
				case r.Status == http.StatusServiceUnavailable && r.Header.Get("Retry-After") == "":
					t.Fatalf("no Retry-After: %s", r)
				case r.Status == http.StatusOK && r.Sent.After(gone.Add(trustedFor)) && r.Sent.Add(r.Took).Before(mended):
					t.Fatalf("passed %v after Redis was %s: %s", r.Sent.Sub(failed), c.reason, r)
				}
				if r.Status == http.StatusServiceUnavailable {
					refused++
				}
			}
			if refused < 10 {
				t.Errorf("%d requests met the failure", refused)
			}
			if tooLate > 0 {
				t.Errorf("%d of %d answers took longer than a second and what the machine added, the slowest %v", tooLate, len(replies), slowest)
			}
			t.Logf("%s: %d answers, %d of them 503, the slowest after %v, %d after more than a second; recovered within %v",
				c.reason, len(replies), refused, slowest.Round(time.Millisecond), late, recovered.Sub(mended).Round(time.Millisecond))
			// What was counted and kept before is there, and the code that was wrong didn't use up anything.
			lab.NewBrowser(t, p.URL).SignIn("/", alice).Want("secret report")
		})
	}
}

// stalled says whether nothing could run for so long while a request was answered that the second was over which the store has.
func stalled(p *lab.Proxy, r lab.Reply) bool {
	return p.AllowedUntil(r.Sent, r.Sent.Add(r.Took), 0) > time.Second
}

// answersWithin is how long an answer takes at most, whatever the store does.
const answersWithin = time.Second

// health asks for the server's health, and fails the test if the answer is another or late.
func health(t testing.TB, p *lab.Proxy, query string, want int) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, p.URL+"/_mfa/health"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	// What the stores have answered is passed on for a second.
	p.Within(t, time.Now(), 3*time.Second, fmt.Sprintf("health%s answers %d", query, want), func() bool {
		r := lab.Send(req)
		if r.Err != nil || r.Took > p.Allowed(r.Sent, answersWithin) {
			t.Errorf("health%s: %s", query, r)
		}
		return r.Status == want
	})
}

func TestRedisFlushed(t *testing.T) {
	t.Parallel()
	up, server := lab.NewUpstream(t, nil), redistest.Start(t)
	p := lab.Start(t, up.Address, lab.Options{Store: redisStore(server.Addr(), server.Password()), Global: "session {\ncache 1s\n}"})
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	server.Flush()
	p.Within(t, time.Now(), 3*time.Second, "the session is gone", func() bool { return !b.SignedIn() })
	up.Forget()
	// Registrations that vanished don't become a grace period, for nobody.
	for _, user := range []string{"alice", "bob"} {
		stranger := lab.NewBrowser(t, p.URL)
		stranger.Password("/", user, lab.Password).WantStatus(http.StatusServiceUnavailable)
		if stranger.Cookie("mfa_session") != "" || stranger.SignedIn() {
			t.Errorf("%s is signed in", user)
		}
	}
	health(t, p, "?ready", http.StatusServiceUnavailable)
	// Not after a restart either.
	p.Stop()
	p.Launch(false)
	lab.NewBrowser(t, p.URL).Password("/", "alice", lab.Password).WantStatus(http.StatusServiceUnavailable)
	up.WantNothing(t)
	p.Command("accounts", "init")
	lab.NewBrowser(t, p.URL).Register("alice")
	health(t, p, "?ready", http.StatusOK)
}

func TestRedisFull(t *testing.T) {
	t.Parallel()
	up, server := lab.NewUpstream(t, nil), redistest.Start(t, "--maxmemory-policy", "noeviction")
	p := lab.Start(t, up.Address, lab.Options{Store: redisStore(server.Addr(), server.Password())})
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	half := lab.NewBrowser(t, p.URL)
	verify := half.Password("/", "alice", lab.Password)
	code := alice.CodeFor(t, time.Minute)
	server.Do("CONFIG", "SET", "maxmemory", "1")
	for range 20 {
		if page := b.Get("/"); page.Status != http.StatusOK && page.Status != http.StatusServiceUnavailable {
			t.Fatalf("somebody who is signed in gets %s", page)
		}
	}
	up.Forget()
	// A code that can't be marked as used isn't accepted.
	verify.Submit("code", "code", code).WantStatus(http.StatusServiceUnavailable)
	// A wrong one that can't be counted isn't judged.
	if page := verify.Submit("code", "code", "000000"); page.Status != http.StatusServiceUnavailable || page.Has("not right") {
		t.Errorf("a code was judged that could not be counted: %s", page)
	}
	for _, password := range []string{lab.Password, "wrong"} {
		if page := lab.NewBrowser(t, p.URL).Password("/", "bob", password); page.Status != http.StatusServiceUnavailable {
			t.Errorf("a password was judged that could not be counted: %s", page)
		}
	}
	health(t, p, "?ready", http.StatusServiceUnavailable)
	up.WantNothing(t)
	server.Do("CONFIG", "SET", "maxmemory", "0")
	verify.Submit("code", "code", code).Follow().Want("secret report")
	health(t, p, "?ready", http.StatusOK)
}

// twoNodes starts two servers that share Redis, and a users file.
func twoNodes(t testing.TB, upstream string) [2]*lab.Proxy {
	server := redistest.Start(t)
	o := lab.Options{Store: redisStore(server.Addr(), server.Password())}
	first := lab.Start(t, upstream, o)
	second := lab.Start(t, upstream, o)
	path := filepath.Join(second.Dir, "users.yaml")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(first.Dir, "users.yaml"), path); err != nil {
		t.Fatal(err)
	}
	return [2]*lab.Proxy{first, second}
}

// on opens a browser at a node, with the cookies of another.
func on(t testing.TB, node *lab.Proxy, b *lab.Browser) *lab.Browser {
	t.Helper()
	other := lab.NewBrowser(t, node.URL)
	for _, c := range b.Cookies() {
		other.SetCookie(c.Name, c.Value)
	}
	return other
}

func TestOneCodeOnTwoNodesIsAcceptedOnce(t *testing.T) {
	up := lab.NewUpstream(t, nil)
	nodes := twoNodes(t, up.Address)
	alice := lab.NewBrowser(t, nodes[0].URL).Register("alice")
	accepted := func() int { return len(nodes[0].Events("factor_accepted")) + len(nodes[1].Events("factor_accepted")) }

	// race sends a code in several sessions, several times in each, to both nodes, and gives what let somebody on.
	race := func(sessions, times int, method string, code func() string) {
		t.Helper()
		before := accepted()
		var browsers []*lab.Browser
		var actions []string
		var forms []url.Values
		for n := range sessions {
			b := lab.NewBrowser(t, nodes[n%2].URL)
			b.Password("/", "alice", lab.Password)
			action, form := b.Get("/_mfa/verify?method=" + method).Form("code")
			browsers, actions, forms = append(browsers, b), append(actions, action), append(forms, form)
		}
		// When everybody is there: a code doesn't keep.
		typed := code()
		var requests []*http.Request
		for n, b := range browsers {
			forms[n].Set("code", typed)
			for range times {
				requests = append(requests, b.Signed(http.MethodPost, actions[n], forms[n]))
			}
		}
		replies := make([]lab.Reply, len(requests))
		var ready, done sync.WaitGroup
		start := make(chan struct{})
		for i, req := range requests {
			ready.Add(1)
			done.Go(func() {
				ready.Done()
				<-start
				replies[i] = lab.Send(req)
			})
		}
		ready.Wait()
		close(start)
		done.Wait()
		won, unavailable := 0, 0
		for i, r := range replies {
			// The store has a second. If nothing could run for part of it, who has not been judged may hear so.
			if r.Status == http.StatusServiceUnavailable && stalled(nodes[i/times%2], r) {
				unavailable++
			} else if r.Err != nil || r.Status >= 500 {
				t.Fatalf("%s", r)
			}
			for _, cookie := range (&http.Response{Header: r.Header}).Cookies() {
				// A browser that has won has a new session cookie, which must be worth something.
				if cookie.Name == "mfa_session" && cookie.MaxAge >= 0 {
					won++
					browsers[i/times].SetCookie(cookie.Name, cookie.Value)
				}
			}
		}
		signedIn := 0
		for _, b := range browsers {
			if b.SignedIn() {
				signedIn++
			}
		}
		want := 1
		if method == "recovery_code" {
			want = 0 // it leads to the registration of another factor
		}
		got := accepted() - before
		if got == 0 && won == 0 && signedIn == 0 && unavailable > 0 {
			t.Logf("nobody was judged in time: %d are told to come again", unavailable)
			return
		}
		if got != 1 || won != 1 || signedIn != want {
			t.Errorf("%s sent %d times was accepted %d times, gave %d new cookies, and let %d on", method, len(requests), got, won, signedIn)
		}
	}
	app := func() string { return alice.Code(t) }
	recovery := func(n int) func() string { return func() string { return alice.Codes[n] } }
	race(2, 1, "totp", app)
	race(10, 5, "totp", app)
	rounds := 4
	if soak() {
		rounds = 9
	}
	for n := range rounds {
		race(2, 1, "recovery_code", recovery(n))
	}
	race(10, 5, "recovery_code", recovery(9))
}

func TestWhatEndsSessionsOnOneNodeEndsThemOnTheOther(t *testing.T) {
	app := newStreamingApp(t)
	nodes := twoNodes(t, app.Address)
	for _, c := range []struct {
		reason, user string
		within       time.Duration
		end          func(b *lab.Browser)
	}{
		{"signed out", "alice", time.Second, func(b *lab.Browser) { b.Get("/_mfa/signout").Submit("Sign out") }},
		{"blocked", "bob", time.Second, func(*lab.Browser) { nodes[0].API(http.MethodPost, "/mfa/users/bob/block", nil) }},
		// The file is looked at twice a second, on each node.
		{"another password", "carol", time.Second + 500*time.Millisecond, func(*lab.Browser) {
			text := readFile(t, filepath.Join(nodes[0].Dir, "users.yaml"))
			at := strings.Index(text, "  carol:\n")
			nodes[0].Write("users.yaml", text[:at]+strings.Replace(text[at:], "$argon2id$v=19$m=19456,t=2,p=1$", "$argon2id$v=19$m=19456,t=2,p=1$AAAA", 1))
		}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			here := inGrace(t, nodes[0], c.user)
			there := on(t, nodes[1], here)
			if !there.SignedIn() {
				t.Fatal("the session is not good on the other node")
			}
			all := streams(there)
			wantFlowing(t, all)
			c.end(here)
			begin := time.Now()
			nodes[1].Within(t, begin, c.within, "the session has ended on the other node", func() bool { return !there.SignedIn() })
			t.Logf("ended on the other node after %v", time.Since(begin).Round(time.Millisecond))
			wantCut(t, begin, all)
			nodes[0].Within(t, begin, c.within, "the session has ended here", func() bool { return !here.SignedIn() })
		})
	}
	var applications []string
	for _, r := range app.Requests() {
		applications = append(applications, fmt.Sprint(r.Header["Remote-User"]))
	}
	if slices.Contains(applications, "[]") {
		t.Error("somebody without a name has reached the application")
	}
}
