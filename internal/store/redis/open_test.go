package redis

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

func TestOpenReportsWhatIsWrong(t *testing.T) {
	server := redistest.Start(t)
	replica := redistest.Start(t, "--replicaof", "127.0.0.1 1")
	node := redistest.Start(t, "--cluster-enabled", "yes")
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	secureWeb := httptest.NewUnstartedServer(http.NotFoundHandler())
	secureWeb.Config.ErrorLog = log.New(io.Discard, "", 0)
	secureWeb.StartTLS()
	defer secureWeb.Close()
	for _, test := range []struct {
		reason string
		change func(c *Config)
		want   []string
	}{
		{"no address", func(c *Config) { c.Addresses = nil }, []string{"no address"}},
		{"several addresses", func(c *Config) { c.Addresses = []string{"a", "b"} }, []string{"give one"}},
		{"a prefix with a brace", func(c *Config) { c.Prefix = "{mfa}:" }, []string{"brace"}},
		{"a negative database", func(c *Config) { c.Database = -1 }, []string{"no database -1"}},
		{"a wrong password", func(c *Config) { c.Password = "S3cret-and-wrong" }, []string{"WRONGPASS", "check user name and password"}},
		{"a wrong user", func(c *Config) { c.Username = "nobody" }, []string{"WRONGPASS", "check user name and password"}},
		{"a user without a password", func(c *Config) { c.Username, c.Password = "app", "" }, []string{"set both"}},
		{"no password", func(c *Config) { c.Password = "" }, []string{"NOAUTH", "set the password"}},
		{"a database that it hasn't", func(c *Config) { c.Database = 99 }, []string{"out of range", "choose a database"}},
		{"a replica", func(c *Config) { use(c, replica) }, []string{"is a replica", "address of the primary"}},
		{"a node of a cluster", func(c *Config) { use(c, node) }, []string{"Cluster"}},
		{"a web server", func(c *Config) { c.Addresses = []string{web.Listener.Addr().String()} }, []string{"not Redis", "HTTP/1.1 400"}},
		{"a server that speaks TLS", func(c *Config) { c.Addresses = []string{secureWeb.Listener.Addr().String()} }, []string{"turn on TLS"}},
		{"a server that doesn't speak TLS", func(c *Config) { c.TLS = &tls.Config{ServerName: "localhost"} }, []string{"turn off TLS"}},
		{"an old server", func(c *Config) { c.Addresses = fake(t, "redis", "6.0.16", "standalone", "master") }, []string{"6.0.16", "6.2 or newer"}},
		{"a sentinel", func(c *Config) { c.Addresses = fake(t, "redis", "7.0.0", "sentinel", "") }, []string{"Sentinel", "primary that it watches"}},
	} {
		t.Run(test.reason, func(t *testing.T) {
			c := config(server)
			test.change(&c)
			s := newStore(t, c)
			err := s.Open(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want %q in it", err, part)
				}
			}
			_, errGet := s.Get(t.Context(), "p", "a")
			if !errors.Is(errGet, store.ErrUnavailable) {
				t.Errorf("getting: %v", errGet)
			}
			for _, text := range []string{err.Error(), errGet.Error()} {
				if c.Password != "" && strings.Contains(text, c.Password) {
					t.Errorf("it tells the password: %s", text)
				}
			}
			if s.Fresh() {
				t.Error("fresh")
			}
		})
	}
}

func TestOpenTriesANewPassword(t *testing.T) {
	server := redistest.Start(t)
	c := Config{Addresses: []string{server.Addr()}, Password: server.Password()}
	s := New(c)
	defer s.Close()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The connections that there are don't need it.
	c.Password = "wrong"
	s.Reconfigure(c)
	if err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "check user name and password") {
		t.Fatalf("with a wrong password: %v", err)
	}
}

func TestOpenWaitsForNobody(t *testing.T) {
	frozen := redistest.Start(t)
	frozen.Freeze()
	stopped := redistest.Start(t)
	stopped.Stop()
	for reason, addr := range map[string]string{
		"a server that is stopped":            stopped.Addr(),
		"a server that is frozen":             frozen.Addr(),
		"a server that says nothing":          serve(t, func(c net.Conn) { io.Copy(io.Discard, c) }),
		"a server that hangs up":              serve(t, func(net.Conn) {}),
		"a server that has enough clients":    serve(t, func(c net.Conn) { io.WriteString(c, "-ERR max number of clients reached\r\n") }),
		"a server that is loading":            serve(t, answerAll("-LOADING Redis is loading the dataset in memory\r\n")),
		"a name that isn't known yet":         "redis.invalid:6379",
		"a path on which nobody has listened": filepath.Join(t.TempDir(), "socket"),
	} {
		t.Run(reason, func(t *testing.T) {
			s := newImpatientStore(t, Config{Addresses: []string{addr}, Password: "secret"})
			withinASecond(t, "opening", func() {
				if err := s.Open(t.Context()); err != nil {
					t.Errorf("opening: %v", err)
				}
			})
			withinASecond(t, "getting", func() {
				if _, err := s.Get(t.Context(), "p", "a"); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("getting: %v", err)
				}
			})
		})
	}
	frozen.Thaw()
}

// withinASecond fails the test if do always takes longer. One time that it doesn't is enough, since the machine may be busy.
func withinASecond(t *testing.T, what string, do func()) {
	t.Helper()
	for n := 0; ; n++ {
		begin := time.Now()
		do()
		took := time.Since(begin)
		if took <= time.Second {
			return
		}
		if n == 10 {
			t.Errorf("%s takes %v", what, took)
			return
		}
	}
}

func TestOpenFindsTheServerLater(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	s := newStore(t, config(server))
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	awaitFresh(t, s)
	if err := s.Open(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNewAndWatchConnectToNothing(t *testing.T) {
	connected := make(chan struct{}, 1)
	addr := serve(t, func(net.Conn) { connected <- struct{}{} })
	s := newStore(t, Config{Addresses: []string{addr}})
	defer s.Watch(func(string) {})()
	s.Reconfigure(Config{Password: "secret"})
	if s.Fresh() {
		t.Error("fresh before it was used")
	}
	select {
	case <-connected:
		t.Error("it has connected")
	case <-time.After(100 * time.Millisecond):
	}
}

func TestTLS(t *testing.T) {
	cert, key, pool := certificate(t)
	server := redistest.Start(t, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	for _, test := range []struct {
		reason string
		tls    *tls.Config
		want   string
	}{
		{"the right CA", &tls.Config{RootCAs: pool}, ""},
		{"no CA", &tls.Config{}, "name the CA"},
		{"another name", &tls.Config{RootCAs: pool, ServerName: "other.example"}, "a name in it"},
		{"no TLS", nil, "turn on TLS"},
	} {
		t.Run(test.reason, func(t *testing.T) {
			c := config(server)
			c.TLS = test.tls
			s := newStore(t, c)
			err := s.Open(t.Context())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if err == nil {
				awaitFresh(t, s)
				commit(t, s, put("a", 0))
				return
			}
			s.Reconfigure(Config{Password: c.Password, TLS: &tls.Config{RootCAs: pool}})
			await(t, "it works with other settings", func() bool { return s.Ping(t.Context()) == nil })
		})
	}
	required := redistest.Start(t, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert)
	t.Run("no certificate where one is required", func(t *testing.T) {
		c := config(required)
		c.TLS = &tls.Config{RootCAs: pool}
		if err := newStore(t, c).Open(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("got %v", err)
		}
	})
}

func TestUnixSocket(t *testing.T) {
	server := redistest.Start(t)
	for _, addr := range []string{server.Socket(), "unix/" + server.Socket()} {
		s := newStore(t, Config{Addresses: []string{addr}, Password: server.Password()})
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for address, want := range map[string]string{
		"redis":            "tcp redis:6379",
		"redis:7000":       "tcp redis:7000",
		"10.0.0.1":         "tcp 10.0.0.1:6379",
		"::1":              "tcp [::1]:6379",
		"[::1]":            "tcp [::1]:6379",
		"[::1]:7000":       "tcp [::1]:7000",
		"/run/redis.sock":  "unix /run/redis.sock",
		"unix//run/r.sock": "unix /run/r.sock",
	} {
		if network, addr := endpoint(address); network+" "+addr != want {
			t.Errorf("%s: got %s %s, want %s", address, network, addr, want)
		}
	}
}

func TestErrorsDontTellThePassword(t *testing.T) {
	const password = "hunter2hunter2"
	// An old server repeats what it was sent.
	addr := serve(t, func(c net.Conn) {
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			if strings.Contains(lines.Text(), password) {
				fmt.Fprintf(c, "-ERR unknown command `HELLO`, with args beginning with: `%s`\r\n", password)
			}
		}
	})
	s := newStore(t, Config{Addresses: []string{addr}, Password: password})
	_, err := s.Get(t.Context(), "p", "a")
	if !errors.Is(err, store.ErrUnavailable) || strings.Contains(err.Error(), password) || !strings.Contains(err.Error(), "(password)") {
		t.Errorf("got %v", err)
	}
}

func use(c *Config, server *redistest.Server) {
	c.Addresses, c.Password = []string{server.Addr()}, server.Password()
}

// serve accepts connections and closes each when handle returns.
func serve(t *testing.T, handle func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return l.Addr().String()
}

// answerAll gives the same answer to every command.
func answerAll(reply string) func(net.Conn) {
	return func(c net.Conn) {
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "*") {
				io.WriteString(c, reply)
			}
		}
	}
}

// fake is the address of a server that says to be something.
func fake(t *testing.T, server, version, mode, role string) []string {
	hello := []string{"server", server, "version", version, "mode", mode}
	if role != "" {
		hello = append(hello, "role", role)
	}
	reply := fmt.Sprintf("*%d\r\n", len(hello))
	for _, word := range hello {
		reply += fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
	}
	return []string{serve(t, func(c net.Conn) {
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			switch strings.ToLower(lines.Text()) {
			case "ping":
				io.WriteString(c, "+PONG\r\n")
			case "hello":
				io.WriteString(c, reply)
			}
		}
	})}
}

// certificate makes one for the loopback address, which is its own CA.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der},
		keyFile:  {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(cert)
	return certFile, keyFile, pool
}
