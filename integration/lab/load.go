package lab

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Load is clients that go on asking, each over a connection that it keeps. They follow no redirect and keep no cookie.
type Load struct {
	stop    chan struct{}
	clients sync.WaitGroup

	mu      sync.Mutex
	replies []Reply
}

// Reply is what became of one request of a Load.
type Reply struct {
	Request *http.Request

	Sent   time.Time
	Took   time.Duration // until the whole answer was there
	Status int
	Header http.Header
	Body   string
	Err    error // there was no answer, or not all of it
}

func (r Reply) String() string {
	body := r.Body
	if len(body) > 300 {
		body = body[:300] + "…"
	}
	return fmt.Sprintf("sent %s, took %v: status %d, error %v, headers %v\n%s", r.Sent.Format("15:04:05.000"), r.Took, r.Status, r.Err, r.Header, body)
}

// StartLoad starts as many clients. request makes the next request of a client; each is sent when the one before has been
// answered and pause has passed.
func StartLoad(clients int, pause time.Duration, request func(client, n int) *http.Request) *Load {
	l := &Load{stop: make(chan struct{})}
	for client := range clients {
		l.clients.Go(func() {
			transport := loopback()
			transport.MaxConnsPerHost = 1
			defer transport.CloseIdleConnections()
			for n := 0; ; n++ {
				r := send(again{transport}, request(client, n))
				l.mu.Lock()
				l.replies = append(l.replies, r)
				l.mu.Unlock()
				select {
				case <-l.stop:
					return
				case <-time.After(pause):
				}
			}
		})
	}
	return l
}

// Replies are those that have come so far.
func (l *Load) Replies() []Reply {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.replies)
}

// Stop ends the clients when their last requests have been answered, and gives all replies.
func (l *Load) Stop() []Reply {
	close(l.stop)
	l.clients.Wait()
	return l.Replies()
}

func send(transport http.RoundTripper, req *http.Request) Reply {
	ctx, cancel := context.WithTimeout(req.Context(), patience)
	defer cancel()
	r := Reply{Request: req, Sent: time.Now()}
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		r.Err, r.Took = err, time.Since(r.Sent)
		return r
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	r.Took, r.Status, r.Header, r.Body, r.Err = time.Since(r.Sent), resp.StatusCode, resp.Header, string(body), err
	return r
}

// Send sends one request over a connection of its own, without following where it leads.
func Send(req *http.Request) Reply {
	transport := loopback()
	transport.DisableKeepAlives = true
	return send(transport, req)
}

// SendFrom is Send from another address of this machine, as in 127.0.0.2.
func SendFrom(req *http.Request, address string) Reply {
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true, DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(to)
		if err != nil {
			return nil, err
		}
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		return from.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	}}
	return send(transport, req)
}

// again sends a request anew that met a connection which was closed without a byte of an answer, if it says that it may be sent
// twice. net/http does so only on connections that were used before, but a listener that is replaced also drops new ones: those
// that the kernel has accepted for it and it has not.
type again struct{ http.RoundTripper }

func (a again) RoundTrip(req *http.Request) (*http.Response, error) {
	for n := 0; ; n++ {
		resp, err := a.RoundTripper.RoundTrip(req)
		if err == nil || n == 5 || req.Context().Err() != nil || req.Method != http.MethodGet && req.Header.Get("Idempotency-Key") == "" {
			return resp, err
		}
		if req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// CloseIdleConnections is for http.Client.
func (a again) CloseIdleConnections() { a.RoundTripper.(*http.Transport).CloseIdleConnections() }

// Close closes the browser: its connections end.
func (b *Browser) Close() { b.client.CloseIdleConnections() }

// Patient makes a browser send again what met a connection that was closed, forms included.
func (b *Browser) Patient() *Browser {
	b.client.Transport = again{b.client.Transport}
	b.Header.Set("Idempotency-Key", "any")
	return b
}

// loopback is a transport that connects to this machine, whatever the name.
func loopback() *http.Transport {
	return &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	}}
}

// Signed makes a navigation of a browser that another client can send: with the cookies that it has now.
func (b *Browser) Signed(method, ref string, form url.Values) *http.Request {
	b.t.Helper()
	req := b.Request(method, ref, form)
	for name, values := range b.Header {
		req.Header[name] = values
	}
	for _, c := range b.Cookies() {
		req.AddCookie(c)
	}
	return req
}

// NewBrowserTLS opens a browser for a site with TLS, whose certificate roots have signed. It speaks HTTP/2 if the site does.
func NewBrowserTLS(t testing.TB, base string, roots *x509.CertPool) *Browser {
	t.Helper()
	b := NewBrowser(t, base)
	transport := loopback()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	transport.ForceAttemptHTTP2 = true
	t.Cleanup(transport.CloseIdleConnections)
	b.client.Transport = transport
	return b
}

// Present makes a browser of NewBrowserTLS show a client certificate from the next connection on, whoever the server says it trusts.
func (b *Browser) Present(c tls.Certificate) *Browser {
	b.t.Helper()
	transport := b.client.Transport.(*http.Transport)
	transport.CloseIdleConnections()
	transport = transport.Clone()
	transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
	b.t.Cleanup(transport.CloseIdleConnections)
	b.client.Transport = transport
	return b
}

// Stream is an answer, or a tunnel, that is still coming.
type Stream struct {
	Proto string // HTTP/1.1 or HTTP/2.0

	bytes atomic.Int64
	ended chan struct{}
	at    time.Time // when it ended
	err   error
	close func()

	server *stalls
}

// Stream sends a request, and reads the answer for as long as it comes. The status must be 200.
func (b *Browser) Stream(ref string) *Stream {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.t.Cleanup(cancel)
	resp, err := b.client.Transport.RoundTrip(b.Signed(http.MethodGet, ref, nil).WithContext(ctx))
	if err != nil {
		b.t.Fatalf("%s: %v", ref, err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body) // for the message only
		b.t.Fatalf("%s: status %d\n%s", ref, resp.StatusCode, text)
	}
	s := &Stream{Proto: resp.Proto, ended: make(chan struct{}), close: cancel, server: b.stalls()}
	go s.read(resp.Body)
	return s
}

// Upload sends a body for as long as somebody takes it. Its bytes are those that were taken.
func (b *Browser) Upload(ref string) *Stream {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.t.Cleanup(cancel)
	r, w := io.Pipe()
	req := b.Signed(http.MethodPost, ref, nil).WithContext(ctx)
	req.Body = r
	req.Header.Set("Origin", b.base.Scheme+"://"+b.base.Host)
	s := &Stream{ended: make(chan struct{}), close: cancel, server: b.stalls()}
	go func() {
		for chunk := make([]byte, 1<<10); ; time.Sleep(10 * time.Millisecond) {
			n, err := w.Write(chunk)
			s.bytes.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	go func() {
		defer close(s.ended)
		resp, err := b.client.Transport.RoundTrip(req)
		s.at, s.err = time.Now(), err
		if err == nil {
			s.err = fmt.Errorf("it was answered: %s", resp.Status)
			resp.Body.Close()
		}
		r.CloseWithError(io.ErrClosedPipe)
	}()
	return s
}

// WebSocket opens a tunnel to the application with the handshake of RFC 6455. What goes through it is up to both ends.
func (b *Browser) WebSocket(ref string) (*Stream, net.Conn) {
	b.t.Helper()
	req := b.Signed(http.MethodGet, ref, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	req.Header.Set("Sec-Fetch-Mode", "websocket")
	req.Header.Set("Sec-Fetch-Dest", "empty")
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", b.base.Port()))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	if err := req.Write(conn); err != nil {
		b.t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		b.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(resp.Body) // for the message only
		b.t.Fatalf("%s: status %d\n%s", ref, resp.StatusCode, text)
	}
	s := &Stream{Proto: resp.Proto, ended: make(chan struct{}), close: func() { conn.Close() }, server: b.stalls()}
	go s.read(in)
	return s, conn
}

func (s *Stream) read(r io.Reader) {
	defer close(s.ended)
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		s.bytes.Add(int64(n))
		if err != nil {
			s.at, s.err = time.Now(), err
			return
		}
	}
}

// Bytes is how much has come.
func (s *Stream) Bytes() int64 { return s.bytes.Load() }

// Close ends it from this side.
func (s *Stream) Close() { s.close() }

// Open says whether it has not ended.
func (s *Stream) Open() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// WantFlowing fails the test unless more comes.
func (s *Stream) WantFlowing(t testing.TB, what string) {
	t.Helper()
	before := s.Bytes()
	Eventually(t, 10*time.Second, what+" goes on", func() bool {
		if !s.Open() {
			t.Fatalf("%s has ended: %v", what, s.err)
		}
		return s.Bytes() > before
	})
}

// WantCut fails the test unless it ends within a time after a moment, and says how long that took.
func (s *Stream) WantCut(t testing.TB, since time.Time, within time.Duration, what string) time.Duration {
	t.Helper()
	for {
		asked := time.Now()
		if !s.Open() {
			break
		}
		if lost := s.server.lost(since, asked); asked.Sub(since) > within+lost {
			t.Errorf("%s is still open %v later, with %v in which nothing could run", what, within, lost)
			return within
		}
		select {
		case <-s.ended:
		case <-time.After(20 * time.Millisecond):
		}
	}
	took := s.at.Sub(since)
	if lost := s.server.lost(since, s.at); took > within+lost {
		t.Errorf("%s was cut after %v, with %v in which nothing could run, want within %v", what, took, lost, within)
	}
	return took
}

// UsersNamed makes the lines of a users file: people with these names, and Password.
func UsersNamed(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "  %s:\n    password: %s\n", name, passwordHash)
	}
	return b.String()
}

// Load loads a Caddyfile into the running server, as `caddy-mfa reload --force` does, without the cost of a process.
func (p *Proxy) Load(caddyfile string) error {
	p.t.Helper()
	p.Write("Caddyfile", caddyfile)
	req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1/load", strings.NewReader(caddyfile))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/caddyfile")
	req.Header.Set("Cache-Control", "must-revalidate")
	if r := p.ask(req); r.Err != nil || r.Status != http.StatusOK {
		return fmt.Errorf("loading a configuration: %s", r)
	}
	return nil
}

// Ask reads from the server's admin socket, over a connection of its own that doesn't stay.
func (p *Proxy) Ask(path string) Reply {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1"+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.ask(req)
}

func (p *Proxy) ask(req *http.Request) Reply {
	return send(&http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(p.Admin, "unix/"))
	}}, req)
}
