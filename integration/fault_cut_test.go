package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

// cutWithin is how long an open connection may outlive its session.
const cutWithin = 5 * time.Second

// streamingApp is an application whose answers don't end by themselves.
type streamingApp struct {
	*lab.Upstream
	uploaded atomic.Int64 // bytes of bodies
	open     atomic.Int64 // requests that it works on
}

func newStreamingApp(t testing.TB) *streamingApp {
	a := &streamingApp{}
	a.Upstream = lab.NewUpstream(t, a.serve)
	return a
}

func (a *streamingApp) serve(w http.ResponseWriter, r *http.Request) {
	a.open.Add(1)
	defer a.open.Add(-1)
	flow := func(contentType string, chunk []byte) {
		w.Header().Set("Content-Type", contentType)
		c := http.NewResponseController(w)
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
			if err := c.Flush(); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	switch r.URL.Path {
	case "/events":
		flow("text/event-stream", []byte("data: tick\n\n"))
	case "/download":
		w.Header().Set("Content-Length", fmt.Sprint(1<<40))
		flow("application/octet-stream", make([]byte, 8<<10))
	case "/upload":
		buf := make([]byte, 4<<10)
		for {
			n, err := r.Body.Read(buf)
			a.uploaded.Add(int64(n))
			if err != nil {
				return
			}
		}
	case "/socket":
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		go func() {
			for {
				if _, err := io.WriteString(conn, "tick\n"); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		io.Copy(io.Discard, rw)
	default:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!doctype html><title>Application</title><p>secret report</p><p>%s", r.Header.Get("Remote-User"))
	}
}

// streams are the kinds of connections that stay open.
func streams(b *lab.Browser) map[string]*lab.Stream {
	socket, _ := b.WebSocket("/socket")
	return map[string]*lab.Stream{
		"the event stream": b.Stream("/events"), "the download": b.Stream("/download"), "the upload": b.Upload("/upload"), "the WebSocket": socket,
	}
}

func wantFlowing(t testing.TB, all map[string]*lab.Stream) {
	t.Helper()
	for name, s := range all {
		s.WantFlowing(t, name)
	}
}

func wantCut(t testing.TB, since time.Time, all map[string]*lab.Stream) {
	t.Helper()
	var took []string
	for name, s := range all {
		took = append(took, fmt.Sprintf("%s after %v", name, s.WantCut(t, since, cutWithin, name).Round(time.Millisecond)))
	}
	t.Log("cut: " + strings.Join(took, ", "))
}

// inGrace signs somebody in who has not registered a factor yet, and need not.
func inGrace(t testing.TB, p *lab.Proxy, user string) *lab.Browser {
	t.Helper()
	b := lab.NewBrowser(t, p.URL)
	b.Password("/", user, lab.Password)
	if !b.SignedIn() {
		t.Fatalf("%s is not signed in", user)
	}
	return b
}

func TestOpenConnectionsEndWithTheirSession(t *testing.T) {
	app := newStreamingApp(t)
	ends := []struct {
		reason string
		end    func(p *lab.Proxy, b *lab.Browser, user string)
	}{
		{"signed out in this browser", func(p *lab.Proxy, b *lab.Browser, _ string) { b.Get("/_mfa/signout").Submit("Sign out") }},
		{"signed out everywhere from another browser", func(p *lab.Proxy, _ *lab.Browser, user string) {
			inGrace(t, p, user).Get("/_mfa/account").Submit("everywhere")
		}},
		{"ended from another browser's list of sessions", func(p *lab.Proxy, _ *lab.Browser, user string) {
			inGrace(t, p, user).Get("/_mfa/account").Submit("end")
		}},
		{"a factor registered in another browser", func(p *lab.Proxy, _ *lab.Browser, user string) { lab.NewBrowser(t, p.URL).Register(user) }},
		{"signed out by an administrator", func(p *lab.Proxy, _ *lab.Browser, user string) { p.Command("user", "sign-out", user) }},
		{"blocked by an administrator", func(p *lab.Proxy, _ *lab.Browser, user string) { p.Command("user", "block", user) }},
		{"factors reset by an administrator", func(p *lab.Proxy, _ *lab.Browser, user string) { p.Command("user", "reset", user) }},
		{"disabled in the users file", func(p *lab.Proxy, _ *lab.Browser, user string) {
			p.Write("users.yaml", strings.Replace(readFile(t, filepath.Join(p.Dir, "users.yaml")), user+":\n", user+":\n    disabled: true\n", 1))
		}},
		{"removed from the users file", func(p *lab.Proxy, _ *lab.Browser, user string) {
			text := readFile(t, filepath.Join(p.Dir, "users.yaml"))
			at := strings.Index(text, "  "+user+":\n")
			p.Write("users.yaml", text[:at]+strings.SplitN(text[at:], "\n", 3)[2])
		}},
		{"another password in the users file", func(p *lab.Proxy, _ *lab.Browser, user string) {
			text := readFile(t, filepath.Join(p.Dir, "users.yaml"))
			at := strings.Index(text, "  "+user+":\n")
			p.Write("users.yaml", text[:at]+strings.Replace(text[at:], "$argon2id$v=19$m=19456,t=2,p=1$", "$argon2id$v=19$m=19456,t=2,p=1$AAAA", 1))
		}},
	}
	names := []string{"bystander"}
	for i := range ends {
		names = append(names, fmt.Sprintf("alice%dx", i))
	}
	p := lab.Start(t, app.Address, lab.Options{Users: lab.UsersNamed(names...)})
	others := streams(inGrace(t, p, "bystander"))
	for i, c := range ends {
		t.Run(c.reason, func(t *testing.T) {
			b := inGrace(t, p, names[i+1])
			all := streams(b)
			wantFlowing(t, all)
			begin := time.Now()
			c.end(p, b, names[i+1])
			if time.Since(begin) > time.Second {
				begin = time.Now() // what ends it is the last step of what was done
			}
			wantCut(t, begin, all)
			if b.SignedIn() {
				t.Error("the session is still good")
			}
			wantFlowing(t, others)
		})
	}
	for _, s := range others {
		s.Close()
	}
	// Neither side keeps a connection whose other end has gone.
	lab.Eventually(t, 10*time.Second, "the application has no request left", func() bool { return app.open.Load() == 0 })
	lab.Eventually(t, 10*time.Second, "the server has no request left", func() bool { return metric(t, p, "caddy_mfa_open_requests") == 0 })
}

func TestOpenConnectionsEndWhenTheSessionIsTooOld(t *testing.T) {
	for _, c := range []struct {
		reason, settings string
		lasts            time.Duration
	}{
		{"idle", "session {\nidle 5s\n}", 5 * time.Second},
		{"absolute end", "session {\nidle 8s\nlifetime 8s\n}", 8 * time.Second},
	} {
		t.Run(c.reason, func(t *testing.T) {
			t.Parallel()
			app := newStreamingApp(t)
			p := lab.Start(t, app.Address, lab.Options{Global: c.settings})
			b := inGrace(t, p, "alice")
			begin := time.Now()
			all := streams(b)
			wantFlowing(t, all)
			if c.reason == "absolute end" {
				// Requests keep the session awake, and don't make it live longer.
				for time.Since(begin) < c.lasts-2*time.Second {
					b.SignedIn()
				}
			}
			wantCut(t, begin.Add(c.lasts), all)
			if b.SignedIn() {
				t.Error("the session is still good")
			}
		})
	}
}

func TestOpenConnectionsEndWhenRedisIsGone(t *testing.T) {
	for _, c := range []struct {
		reason string
		fail   func(*redistest.Server)
	}{
		{"stopped", (*redistest.Server).Stop},
		{"frozen", (*redistest.Server).Freeze},
	} {
		t.Run(c.reason, func(t *testing.T) {
			app, server := newStreamingApp(t), redistest.Start(t)
			p := lab.Start(t, app.Address, lab.Options{Store: redisStore(server.Addr(), server.Password())})
			all := streams(inGrace(t, p, "alice"))
			wantFlowing(t, all)
			begin := time.Now()
			c.fail(server)
			wantCut(t, begin, all)
		})
	}
}

// redisStore is the block `store` of a proxy, and the secret that it then needs.
func redisStore(address, password string) string {
	return fmt.Sprintf("store redis {\naddress %s\npassword %s\n}\nsecret 0123456789abcdef0123456789abcdef", address, password)
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestOpenConnectionsOverHTTP2EndWithTheirSession(t *testing.T) {
	app := newStreamingApp(t)
	dir := t.TempDir()
	roots := makeCertificate(t, dir)
	p := lab.Start(t, app.Address, lab.Options{
		Address: "https://localhost:{port}",
		Site:    fmt.Sprintf("tls %[1]s/cert.pem %[1]s/key.pem\nmfa app\nreverse_proxy {upstream}", dir),
	})
	b := lab.NewBrowserTLS(t, fmt.Sprintf("https://localhost:%d", p.Port), roots)
	b.Password("/", "alice", lab.Password)
	all := map[string]*lab.Stream{"the event stream": b.Stream("/events"), "the download": b.Stream("/download"), "the upload": b.Upload("/upload")}
	if proto := all["the download"].Proto; proto != "HTTP/2.0" {
		t.Fatalf("the download comes over %s", proto)
	}
	wantFlowing(t, all)
	begin := time.Now()
	p.API(http.MethodPost, "/mfa/users/alice/sign-out", nil)
	wantCut(t, begin, all)
}

// makeCertificate writes cert.pem and key.pem for localhost, and gives what trusts them.
func makeCertificate(t testing.TB, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return roots
}
