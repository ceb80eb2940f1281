package lab

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Upstream is an application that counts every byte that reaches it, and answers with what it got.
type Upstream struct {
	Address string // host:port

	bytes    atomic.Int64
	mu       sync.Mutex
	requests []*Request
	raw      bytes.Buffer
	handler  http.HandlerFunc
}

// Request is what the application got.
type Request struct {
	Method, URI, Host string
	Header            http.Header
	Trailer           http.Header
	Body              string
}

// NewUpstream starts an application. handler may be nil; then it answers with the request as text.
func NewUpstream(t testing.TB, handler http.HandlerFunc) *Upstream {
	t.Helper()
	u := &Upstream{handler: handler}
	s := httptest.NewUnstartedServer(http.HandlerFunc(u.serve))
	s.Listener = countingListener{s.Listener, u}
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	u.Address = s.Listener.Addr().String()
	return u
}

func (u *Upstream) serve(w http.ResponseWriter, r *http.Request) {
	if u.handler != nil {
		u.record(&Request{Method: r.Method, URI: r.RequestURI, Host: r.Host, Header: r.Header.Clone()})
		u.handler(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	u.record(&Request{Method: r.Method, URI: r.RequestURI, Host: r.Host, Header: r.Header.Clone(), Trailer: r.Trailer.Clone(), Body: string(body)})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!doctype html><title>Application</title><h1>Application</h1><p>secret report</p><p>Remote-User=[%s]</p><pre>%s %s\n",
		strings.Join(r.Header.Values("Remote-User"), "|"), r.Method, r.RequestURI)
	r.Header.Write(w)
	io.WriteString(w, "</pre>")
}

func (u *Upstream) record(r *Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.requests = append(u.requests, r)
}

// Bytes is how many bytes have reached the application.
func (u *Upstream) Bytes() int64 { return u.bytes.Load() }

// Raw is what has reached the application, byte for byte.
func (u *Upstream) Raw() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.raw.String()
}

// Requests are those that have reached the application since the last Forget.
func (u *Upstream) Requests() []*Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*Request(nil), u.requests...)
}

// Last is the newest request.
func (u *Upstream) Last(t testing.TB) *Request {
	t.Helper()
	all := u.Requests()
	if len(all) == 0 {
		t.Fatal("no request has reached the application")
	}
	return all[len(all)-1]
}

// Forget forgets what has reached the application so far.
func (u *Upstream) Forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.requests = nil
	u.raw.Reset()
	u.bytes.Store(0)
}

// WantNothing fails the test if a byte has reached the application.
func (u *Upstream) WantNothing(t testing.TB) {
	t.Helper()
	if n := u.Bytes(); n != 0 {
		t.Fatalf("%d bytes have reached the application:\n%s", n, u.Raw())
	}
}

type countingListener struct {
	net.Listener
	upstream *Upstream
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{c, l.upstream}, nil
}

type countingConn struct {
	net.Conn
	upstream *Upstream
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.upstream.bytes.Add(int64(n))
		c.upstream.mu.Lock()
		if c.upstream.raw.Len() < 1<<20 {
			c.upstream.raw.Write(p[:n])
		}
		c.upstream.mu.Unlock()
	}
	return n, err
}
