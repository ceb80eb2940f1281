// Package lab is what the integration tests are made with: the real binary in front of an application that counts what
// reaches it, and a browser made of net/http.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A program with the race detector waits for a second when it ends, in case that a race is just being told of. Hundreds of programs are
// started and ended here.
func init() { os.Setenv("GORACE", "halt_on_error=1 exitcode=66 atexit_sleep_ms=20") }

var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("CADDY_MFA_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "caddy-mfa-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "caddy-mfa")
	build := exec.Command("go", "build", "-race", "-o", path, "./cmd/caddy-mfa")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building caddy-mfa: %w\n%s", err, out)
	}
	return path, nil
})

// Binary is the path of caddy-mfa, built with the race detector unless CADDY_MFA_BINARY names another.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Password is the password of every user in Users.
const Password = "correct horse battery staple"

// passwordHash is Password with the cheapest cost that is accepted.
const passwordHash = "$argon2id$v=19$m=19456,t=2,p=1$kP/8J1y6KSPsvWs9dCpZMg$L6MpYjMrzkJHP4/WVNyiHr+AFPgfNaeUc3eN9B17Rvo"

// Proxy is a running caddy-mfa.
type Proxy struct {
	URL    string // of the site, without a slash at the end
	Port   int
	Dir    string // everything that it keeps
	Admin  string // address of its admin endpoint, for commands
	Config string // path of its Caddyfile

	t      testing.TB
	cmd    *exec.Cmd
	done   chan struct{}
	log    string // path of what the server has written since it was started last
	stalls *stalls
}

// Options change what Start starts.
type Options struct {
	// Global are options in the block `mfa` besides the store and the users.
	Global string
	// Store is the store's line or block. Default: bolt, in the proxy's directory.
	Store string
	// Users are the lines below `users:` of users.yaml. Default: Users.
	Users string
	// Site is what stands in the site. {upstream} is the application's address. Default: the directive and a reverse proxy.
	Site string
	// Servers are more global options of Caddy.
	Servers string
	// Address of the site. {port} is its port. Default: http://localhost:{port}
	Address string
	// Dir is where it keeps things. Default: a new directory.
	Dir string
	// Port of the site. Default: a free one.
	Port int
	// MayFail: Start returns with the server not serving, if it ends by itself.
	MayFail bool
}

// Users are alice, bob and carol, who have no second factor yet, and dora, who is disabled. All have Password.
var Users = strings.ReplaceAll(`
  alice:
    display_name: Alice Example
    email: alice@example.com
    groups: [staff, hr]
    password: HASH
  bob:
    password: HASH
  carol:
    password: HASH
  dora:
    disabled: true
    password: HASH
`, "HASH", passwordHash)

// Start starts caddy-mfa in front of the upstream and waits until it serves. It ends with the test.
func Start(t testing.TB, upstream string, o Options) *Proxy {
	t.Helper()
	p := &Proxy{t: t, Port: o.Port, Dir: o.Dir, stalls: &stalls{}}
	if p.Port == 0 {
		p.Port = FreePort(t)
	}
	if p.Dir == "" {
		p.Dir = TempDir(t)
	}
	p.URL = fmt.Sprintf("http://localhost:%d", p.Port)
	p.Admin = "unix/" + filepath.Join(p.Dir, "admin.sock")
	p.Config = filepath.Join(p.Dir, "Caddyfile")
	p.Write("users.yaml", "users:\n"+or(o.Users, Users))
	p.Write("Caddyfile", Caddyfile(p, upstream, o))
	p.Launch(o.MayFail)
	t.Cleanup(p.Stop)
	return p
}

// Caddyfile is what Start runs with.
func Caddyfile(p *Proxy, upstream string, o Options) string {
	text := fmt.Sprintf(`{
	admin unix/%[1]s/admin.sock
	persist_config off
	auto_https off
	skip_install_trust
	storage file_system %[1]s/storage
	log {
		level DEBUG
		exclude http.stdlib
	}
	grace_period 1s
	%[2]s
	mfa {
		%[3]s
		users file %[1]s/users.yaml
		%[4]s
	}
}

%[5]s {
	%[6]s
}
`, p.Dir, o.Servers, or(o.Store, "store bolt "+p.Dir+"/store.db"), o.Global,
		or(o.Address, "http://localhost:{port}"), or(o.Site, "mfa app\nreverse_proxy {upstream}"))
	return strings.NewReplacer("{port}", fmt.Sprint(p.Port), "{upstream}", upstream).Replace(text)
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// Write writes a file in the proxy's directory, in one step.
func (p *Proxy) Write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.Dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		p.t.Fatal(err)
	}
}

// Launch starts the server again after Kill or Stop.
func (p *Proxy) Launch(mayFail bool) {
	p.t.Helper()
	// The server writes to the file itself, so that what it had written before it answered is there when the answer is. The file is no
	// part of what it keeps.
	log, err := os.Create(filepath.Join(p.t.TempDir(), "log"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.log = log.Name()
	p.cmd = exec.Command(Binary(p.t), "run", "--config", p.Config)
	p.cmd.Env = append(os.Environ(), "HOME="+p.Dir, "XDG_DATA_HOME="+p.Dir+"/data", "XDG_CONFIG_HOME="+p.Dir+"/config")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	p.done = done
	cmd := p.cmd
	go func() {
		cmd.Wait() // how it ended is seen in ProcessState
		close(done)
	}()
	p.stalls.mu.Lock()
	p.stalls.pid = p.cmd.Process.Pid
	p.stalls.mu.Unlock()
	watched.Store(fmt.Sprint(p.Port), p.stalls)
	go p.stalls.measure(done)
	deadline := time.Now().Add(patience)
	for {
		select {
		case <-p.done:
			if mayFail {
				return
			}
			p.t.Fatalf("caddy-mfa ended at start:\n%s", p.Log())
		default:
		}
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.Port)); err == nil {
			conn.Close()
			if p.loaded() {
				return
			}
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("caddy-mfa does not serve:\n%s", p.Log())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// loaded waits until the whole configuration runs. Caddy listens before all of its apps have started, and a TLS handshake in between is a
// data race of Caddy's own. While it loads, what asks for the configuration waits.
func (p *Proxy) loaded() bool {
	socket := filepath.Join(p.Dir, "admin.sock")
	if _, err := os.Stat(socket); err != nil {
		return true // its endpoint is somewhere else
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", socket)
	}}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get("http://127.0.0.1/config/")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}

// Running says whether the server's process is there.
func (p *Proxy) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Pid is the process of the server.
func (p *Proxy) Pid() int { return p.cmd.Process.Pid }

// Log is what the server has written.
func (p *Proxy) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// Kill ends the server with SIGKILL.
func (p *Proxy) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Stop ends the server in good order, and fails the test if it saw a data race or a panic.
func (p *Proxy) Stop() {
	if p.Running() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(patience):
			p.cmd.Process.Signal(syscall.SIGQUIT)
			<-p.done
			p.t.Errorf("caddy-mfa does not stop:\n%s", tail(p.Log(), 20_000))
		}
	}
	for _, bad := range []string{"DATA RACE", "panic:", "\"level\":\"panic\"", "aborting with incomplete response: panic"} {
		if strings.Contains(p.Log(), bad) {
			p.t.Errorf("the server's log holds %q:\n%s", bad, p.Log())
		}
	}
	if p.t.Failed() {
		p.t.Logf("log of the server:\n%s", tail(p.Log(), 20_000))
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// Reload loads a Caddyfile into the running server.
func (p *Proxy) Reload(caddyfile string) error {
	p.t.Helper()
	p.Write("Caddyfile", caddyfile)
	_, err := p.run("reload", "--config", p.Config, "--address", p.Admin, "--force")
	return err
}

// Command runs `caddy-mfa mfa …` against the server and gives what it prints.
func (p *Proxy) Command(args ...string) string {
	p.t.Helper()
	out, err := p.TryCommand(args...)
	if err != nil {
		p.t.Fatalf("caddy-mfa mfa %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// TryCommand is Command for what may fail.
func (p *Proxy) TryCommand(args ...string) (string, error) {
	return p.run(append(append([]string{"mfa"}, args...), "--address", p.Admin)...)
}

func (p *Proxy) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, Binary(p.t), args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, errs.String())
	}
	return out.String(), nil
}

// API sends a request to the server's admin socket.
func (p *Proxy) API(method, path string, body io.Reader) (int, string) {
	p.t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(p.Dir, "admin.sock"))
	}}}
	req, err := http.NewRequest(method, "http://127.0.0.1"+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Events gives the audit events of a type, oldest first.
func (p *Proxy) Events(event string) []map[string]any {
	var events []map[string]any
	for line := range strings.Lines(p.Log()) {
		var e map[string]any
		if json.Unmarshal([]byte(line), &e) == nil && e["logger"] == "mfa.audit" && (event == "" || e["event"] == event) {
			events = append(events, e)
		}
	}
	return events
}
