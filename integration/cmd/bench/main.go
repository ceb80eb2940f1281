// Bench measures what caddy-mfa costs: the same binary with and without the directive, in front of the same application, in
// rounds that alternate, so that a machine that gets slower gets slower for both. What sends the requests and what answers them
// runs on the same processors, and is a part of the throughput: load.go keeps its part small. The CPU per request is the server's
// alone; while others use the machine, only its ratio says something. Caddy's own redirect is what a redirect costs at the least.
//
//	go run ./cmd/bench [-rounds 5] [-connections 16] [-only redis]
//
// Run it in the folder integration. It needs redis-server.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	rounds      = flag.Int("rounds", 5, "rounds for each kind")
	connections = flag.Int("connections", 16, "connections at once")
	only        = flag.String("only", "", "measure only the kinds whose name contains this")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const redisPassword = "bench"

// kind is a server that is measured.
type kind struct {
	name    string
	binary  string
	port    int
	pid     int
	config  string
	request []byte // that is sent again and again
	want    []byte // that every answer begins with

	cookieFor string // the request's head, which a cookie of alice's is added to
	redis     bool

	// By round: requests per second, and the ratio to plain Caddy; the server's CPU per request, its ratio to plain Caddy's, and Redis'
	// CPU per request; and the median latency that is added. Times are in microseconds.
	perSecond, ratio, cpu, cpuRatio, redisCPU, p50 []float64
}

func run() (err error) {
	dir, err := os.MkdirTemp("", "mfabench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	mfa, throwaway := filepath.Join(dir, "caddy-mfa"), filepath.Join(dir, "throwaway")
	for binary, pkg := range map[string]string{mfa: "../cmd/caddy-mfa", throwaway: "./cmd/throwaway"} {
		build := exec.Command("go", "build", "-o", binary, ".")
		build.Dir = pkg
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
		}
	}
	stop, upstream, err := application()
	if err != nil {
		return err
	}
	defer stop()

	processes := &processes{dir: dir}
	defer processes.stop()
	redisPort := freePort()
	redisPid, err := processes.start("redis-server", "--port", strconv.Itoa(redisPort), "--bind", "127.0.0.1", "--requirepass", redisPassword, "--appendonly", "yes", "--dir", dir)
	if err != nil {
		return err
	}
	if err := waitFor(redisPort); err != nil {
		return err
	}
	redisAddress := fmt.Sprintf("127.0.0.1:%d", redisPort)
	if err := redisSet(redisAddress, "throwaway:abc", "alice"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "users.yaml"), []byte(users), 0o600); err != nil {
		return err
	}

	proxy := "reverse_proxy " + upstream
	app := func(store string) string {
		return fmt.Sprintf("mfa {\n%s\nusers file %s/users.yaml\n}", store, dir)
	}
	redisStore := fmt.Sprintf("store redis {\naddress %s\npassword %s\n}\nsecret %s", redisAddress, redisPassword, strings.Repeat("s", 32))
	// What Firefox sends when a link is clicked.
	get := "GET /report HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Connection: keep-alive\r\nReferer: http://localhost/\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n" +
		"Sec-Fetch-Site: same-origin\r\nSec-Fetch-User: ?1\r\nPriority: u=0, i\r\n"
	// What the application gets besides, set by Caddy itself: what is left to us is below that.
	identity := "request_header Remote-User alice\nrequest_header Remote-Name \"Alice Example\"\nrequest_header Remote-Email alice@example.com\nrequest_header Remote-Groups staff,hr\n"
	plain := &kind{name: "plain Caddy", binary: mfa, config: site("", proxy), want: ok}
	withCookie := []byte(get + "Cookie: a=1; throwaway=abc\r\n\r\n")
	kinds := []*kind{
		plain,
		{name: "mfa, memory", binary: mfa, config: site(app("store memory"), "mfa app\n"+proxy), cookieFor: get, want: ok},
		{name: "mfa, bolt", binary: mfa, config: site(app("store bolt "+dir+"/store.db"), "mfa app\n"+proxy), cookieFor: get, want: ok},
		{name: "mfa, redis", binary: mfa, config: site(app(redisStore), "mfa app\n"+proxy), cookieFor: get, want: ok, redis: true},
		{name: "plain, the same headers", binary: mfa, config: site("", identity+proxy), request: []byte(get + "Cookie: a=1\r\n\r\n"), want: ok},
		{name: "mfa, redis, no cache", binary: mfa, config: site(app(redisStore+"\nsession {\ncache 1ms\n}"), "mfa app\n"+proxy), cookieFor: get, want: ok, redis: true},
		{name: "Caddy's own redirect", binary: mfa, config: site("", "redir * /_mfa/signin 303"), request: []byte(get + "\r\n"), want: []byte("HTTP/1.1 303 ")},
		{name: "mfa, redirect to sign-in", binary: mfa, config: site(app("store memory"), "mfa app\n"+proxy), request: []byte(get + "\r\n"), want: []byte("HTTP/1.1 303 ")},
		{name: "throwaway, cookie", binary: throwaway, config: site("", "throwaway\n"+proxy), request: withCookie, want: ok},
		{name: "throwaway, cookie and GET", binary: throwaway, config: site("", fmt.Sprintf("throwaway %s %s\n", redisAddress, redisPassword)+proxy), request: withCookie, want: ok, redis: true},
	}
	if *only != "" {
		kinds = slices.DeleteFunc(kinds, func(k *kind) bool { return k != plain && !strings.Contains(k.name, *only) })
	}
	fmt.Printf("%d CPUs, %d connections, %d rounds of %d slots of %v, each round with new processes\n\n", runtime.NumCPU(), *connections, *rounds, slots, slot)
	fmt.Printf("%-26s %9s %8s %22s %8s %12s %14s %10s\n", "", "requests/s", "ratio", "(min–max by round)", "CPU µs", "CPU ratio", "Redis' CPU", "p50 added")
	for _, k := range kinds[1:] {
		for range *rounds {
			if err := pair(processes, dir, redisPid, plain, k); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
		}
		fmt.Printf("%-26s %9.0f %8.3f %12.3f–%.3f %10.1f %12.3f %14.1f %8.0fµs\n", k.name, median(k.perSecond), median(k.ratio), slices.Min(k.ratio), slices.Max(k.ratio),
			median(k.cpu), median(k.cpuRatio), median(k.redisCPU), median(k.p50))
	}
	fmt.Printf("%-26s %9.0f %8.3f %22s %10.1f %12.3f\n", plain.name, median(plain.perSecond), 1.0, "", median(plain.cpu), 1.0)
	for _, k := range kinds {
		if strings.HasPrefix(k.name, "mfa, ") && !strings.Contains(k.name, "redirect") && !strings.Contains(k.name, "no cache") {
			if err := k.start(processes, dir); err != nil {
				return err
			}
		}
	}
	return signIns(kinds)
}

var ok = []byte("HTTP/1.1 200 ")

// start starts the kind's server, and signs in where that is needed.
func (k *kind) start(p *processes, dir string) (err error) {
	k.port = freePort()
	home := filepath.Join(dir, strings.ReplaceAll(k.name, " ", "_"))
	config := home + ".Caddyfile"
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(k.config, "{port}", strconv.Itoa(k.port))), 0o600); err != nil {
		return err
	}
	// A store in memory is another one each time, and would be refused as such.
	if strings.Contains(k.config, "store memory") {
		if err := os.RemoveAll(home); err != nil {
			return err
		}
	}
	if k.pid, err = p.start("env", "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home, k.binary, "run", "--config", config, "--adapter", "caddyfile"); err != nil {
		return err
	}
	if err := waitFor(k.port); err != nil {
		return err
	}
	if k.cookieFor != "" {
		cookie, err := signIn(k.port)
		if err != nil {
			return err
		}
		k.request = []byte(k.cookieFor + "Cookie: a=1; " + cookie + "\r\n\r\n")
	}
	return nil
}

func site(global, body string) string {
	return "{\nadmin off\npersist_config off\nauto_https off\nlog {\nlevel ERROR\n}\n" + global + "\n}\nhttp://localhost:{port} {\nbind 127.0.0.1\n" + body + "\n}\n"
}

// A round alternates between both kinds in short slots, because the machine's speed changes from one second to the next; and
// begins with new processes, because two of the same binary can differ for as long as they live.
const (
	slots  = 24
	slot   = 250 * time.Millisecond
	warmUp = 1500 * time.Millisecond // memory that was never used is slow at first
)

// sample is what was seen in the slots of one kind.
type sample struct {
	requests      float64
	length        time.Duration
	cpu, redisCPU float64 // seconds
	latencies     []float64
}

// pair measures one round of a kind beside plain Caddy, which gets the same requests, cookies and all.
func pair(p *processes, dir string, redisPid int, plain, k *kind) error {
	var samples [2]sample
	kinds := [2]*kind{plain, k}
	for _, k := range kinds {
		if err := k.start(p, dir); err != nil {
			return err
		}
		defer p.end(k.pid)
	}
	plain.request = k.request
	for _, k := range kinds {
		if err := k.measure(redisPid, warmUp, &sample{}); err != nil {
			return err
		}
	}
	for n := range slots {
		which := (n + n/2) % 2 // A B B A A B B A …
		if err := kinds[which].measure(redisPid, slot, &samples[which]); err != nil {
			return err
		}
	}
	a, b := samples[0], samples[1]
	rate := func(s sample) float64 { return s.requests / s.length.Seconds() }
	plain.perSecond = append(plain.perSecond, rate(a))
	k.perSecond = append(k.perSecond, rate(b))
	k.ratio = append(k.ratio, rate(b)/rate(a))
	perRequest := func(s sample) float64 { return s.cpu / s.requests * 1e6 }
	plain.cpu, k.cpu = append(plain.cpu, perRequest(a)), append(k.cpu, perRequest(b))
	k.cpuRatio = append(k.cpuRatio, perRequest(a)/perRequest(b))
	if k.redis {
		k.redisCPU = append(k.redisCPU, b.redisCPU/b.requests*1e6)
	}
	k.p50 = append(k.p50, median(b.latencies)-median(a.latencies))
	return nil
}

// measure sends the request over and over for a time, and adds what it sees to s.
func (k *kind) measure(redisPid int, length time.Duration, s *sample) error {
	cpu, redisCPU := cpuOf(k.pid), cpuOf(redisPid)
	begin := time.Now()
	if err := k.load(begin.Add(length), s); err != nil {
		return err
	}
	s.length += time.Since(begin)
	s.cpu += cpuOf(k.pid) - cpu
	s.redisCPU += cpuOf(redisPid) - redisCPU
	return nil
}

// signIns measures password checks: one after another, and two at a time.
func signIns(kinds []*kind) error {
	fmt.Println()
	for _, k := range kinds {
		if !strings.HasPrefix(k.name, "mfa, ") || strings.Contains(k.name, "redirect") || strings.Contains(k.name, "no cache") {
			continue
		}
		var perSecond [2]float64
		var cpu float64
		for i, workers := range []int{1, 2} {
			var done atomic.Int64
			before, begin := cpuOf(k.pid), time.Now()
			errs := make(chan error, workers)
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for time.Since(begin) < 4*time.Second {
						if _, err := signIn(k.port); err != nil {
							errs <- err
							return
						}
						done.Add(1)
					}
				})
			}
			wg.Wait()
			select {
			case err := <-errs:
				return fmt.Errorf("%s: signing in: %w", k.name, err)
			default:
			}
			perSecond[i] = float64(done.Load()) / time.Since(begin).Seconds()
			if workers == 1 {
				cpu = (cpuOf(k.pid) - before) * 1e3 / float64(done.Load())
			}
		}
		fmt.Printf("%-26s %.1f sign-ins/s one after another (%.1f ms CPU each), %.1f/s two at a time: %.2f times as many\n", k.name, perSecond[0], cpu, perSecond[1], perSecond[1]/perSecond[0])
	}
	return nil
}

var token = regexp.MustCompile(`name="t" value="([^"]*)"`)

// signIn signs alice in with her password, in the grace period, and gives her cookie.
func signIn(port int) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	}
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	client := &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	base := fmt.Sprintf("http://localhost:%d", port)
	resp, err := client.Get(base + "/_mfa/signin")
	if err != nil {
		return "", err
	}
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return "", err
	}
	m := token.FindSubmatch(page)
	if m == nil {
		return "", fmt.Errorf("no form on the sign-in page:\n%s", page)
	}
	resp, err = client.PostForm(base+"/_mfa/signin", url.Values{"t": {string(m[1])}, "username": {"alice"}, "password": {"correct horse battery staple"}})
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Name == "mfa_session" {
			return c.Name + "=" + c.Value, nil
		}
	}
	return "", fmt.Errorf("no session after sign-in: %s", resp.Status)
}

const users = `users:
  alice:
    display_name: Alice Example
    email: alice@example.com
    groups: [staff, hr]
    password: $argon2id$v=19$m=19456,t=2,p=1$kP/8J1y6KSPsvWs9dCpZMg$L6MpYjMrzkJHP4/WVNyiHr+AFPgfNaeUc3eN9B17Rvo
`

// application answers every request with the same page, at the least cost.
func application() (stop func(), address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	body := strings.Repeat("<p>report</p>\n", 64)
	page := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReaderSize(conn, 16<<10)
				for {
					for {
						line, err := r.ReadSlice('\n')
						if err != nil {
							return
						}
						if len(line) <= 2 {
							break
						}
					}
					if _, err := conn.Write(page); err != nil {
						return
					}
				}
			}()
		}
	}()
	return func() { l.Close() }, l.Addr().String(), nil
}

type processes struct {
	dir     string
	running []*exec.Cmd
}

func (p *processes) start(name string, args ...string) (pid int, err error) {
	log, err := os.Create(filepath.Join(p.dir, fmt.Sprintf("%d.log", len(p.running))))
	if err != nil {
		return 0, err
	}
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return 0, err
	}
	p.running = append(p.running, c)
	return c.Process.Pid, nil
}

func (p *processes) stop() {
	for _, c := range p.running {
		c.Process.Kill()
		c.Wait()
	}
}

func (p *processes) end(pid int) {
	p.running = slices.DeleteFunc(p.running, func(c *exec.Cmd) bool {
		if c.Process.Pid != pid {
			return false
		}
		c.Process.Kill()
		c.Wait()
		return true
	})
}

// cpuOf is the CPU time of a process in seconds.
func cpuOf(pid int) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)   // utime, in ticks
	system, _ := strconv.ParseFloat(fields[12], 64) // stime
	return (user + system) / 100
}

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func waitFor(port int) error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return conn.Close()
		}
	}
	return errors.New("the server does not listen")
}

func redisSet(address, key, value string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\nSET %s %s\r\n", redisPassword, key, value); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	for range 2 {
		if line, err := r.ReadString('\n'); err != nil || line != "+OK\r\n" {
			return fmt.Errorf("redis says %q: %w", line, err)
		}
	}
	return nil
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
