package caddymodule

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/caddy-mfa/caddy-mfa/internal/clocktest"
	"github.com/caddy-mfa/caddy-mfa/internal/porttest"
)

// uploads is an application that says what has reached it of a body.
type uploads struct {
	host    string // name and port of the site
	clients map[string]*http.Client

	mu      sync.Mutex
	streams map[string]chan []byte // by path: what arrives, as it arrives
	aborted chan error             // how bodies that are read to their end in vain have ended
}

// newUploads runs Caddy before such an application, over TLS, with this block of the directive.
func newUploads(t *testing.T, block string) *uploads {
	t.Helper()
	u := &uploads{streams: map[string]chan []byte{}, aborted: make(chan error, 10)}
	up := httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(up.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := porttest.Free(t)
	u.host = fmt.Sprintf("localhost:%d", port)
	site := fmt.Sprintf("https://%s {\nbind 127.0.0.1\ntls %s/cert.pem %[2]s/key.pem\nmfa app {\n%s\n}\nreverse_proxy %s {\nflush_interval -1\n}\n}", u.host, dir, block, up.Listener.Addr())
	if err := start(t, "", "", site); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(certificate)
	trust := &tls.Config{RootCAs: roots}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", port))
	}
	var one, two http.Protocols
	one.SetHTTP1(true)
	two.SetHTTP2(true)
	h1 := &http.Transport{TLSClientConfig: trust.Clone(), Protocols: &one, DialContext: dial, ExpectContinueTimeout: time.Minute, DisableCompression: true}
	h2 := &http.Transport{TLSClientConfig: trust.Clone(), Protocols: &two, DialContext: dial, DisableCompression: true}
	h3 := &http3.Transport{TLSClientConfig: trust.Clone(), DisableCompression: true}
	t.Cleanup(func() {
		h1.CloseIdleConnections()
		h2.CloseIdleConnections()
		h3.Close()
	})
	u.clients = map[string]*http.Client{"HTTP/1.1": {Transport: h1}, "HTTP/2.0": {Transport: h2}, "HTTP/3.0": {Transport: h3}}
	return u
}

func (u *uploads) serve(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	stream := u.streams[r.URL.Path]
	u.mu.Unlock()
	sum, n := sha256.New(), int64(0)
	for buf := make([]byte, 64<<10); ; {
		got, err := r.Body.Read(buf)
		sum.Write(buf[:got])
		if n += int64(got); stream != nil && got > 0 {
			stream <- bytes.Clone(buf[:got])
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			u.aborted <- err
			return
		}
	}
	fmt.Fprintf(w, "%s %d announced %d, %s", hex.EncodeToString(sum.Sum(nil)), n, r.ContentLength, r.Header.Get("Content-Encoding"))
}

func (u *uploads) follow(path string) chan []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.streams[path] = make(chan []byte, 1000)
	return u.streams[path]
}

// hidden has a length that its reader doesn't tell.
type hidden struct{ io.Reader }

// TestABodyReachesTheApplicationAsItWasSent compares what the application gets with what was sent, whether it is looked at or not.
func TestABodyReachesTheApplicationAsItWasSent(t *testing.T) {
	u := newUploads(t, "legacy_only\nlegacy_auth all report")
	random := make([]byte, 300_000)
	rand.Read(random)
	xmlrpc := []byte(`<?xml version="1.0"?><methodCall><methodName>wiki.getPage</methodName><params><param><value>alice</value></param><param><value>hunter2</value></param></params></methodCall>`)
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	z.Write(bytes.Repeat(xmlrpc, 5000))
	z.Close()
	for what, body := range map[string][]byte{
		"nothing": {}, "one byte": {'x'}, "a method call": xmlrpc, "zero bytes": make([]byte, 100_000), "random": random, "compressed": compressed.Bytes(),
		"a byte less than is looked at": random[:64<<10-1], "what is looked at": random[:64<<10], "a byte more": random[:64<<10+1],
		"a form": []byte("grant_type=password&username=alice&password=hunter2"), "CRLF": bytes.Repeat([]byte("\r\n"), 40_000),
	} {
		sum := sha256.Sum256(body)
		for proto, client := range u.clients {
			for _, mediaType := range []string{"text/xml", "application/x-www-form-urlencoded", "application/octet-stream", ""} {
				for _, length := range []string{"announced", "chunked"} {
					reader, announced := io.Reader(bytes.NewReader(body)), int64(len(body))
					if length == "chunked" {
						reader, announced = hidden{reader}, -1
					}
					r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+u.host+"/upload", reader)
					if err != nil {
						t.Fatal(err)
					}
					if mediaType != "" {
						r.Header.Set("Content-Type", mediaType)
					}
					encoding := ""
					if what == "compressed" {
						encoding = "gzip"
						r.Header.Set("Content-Encoding", encoding)
					}
					resp, err := client.Do(r)
					if err != nil {
						t.Fatalf("%s, %s, %s, %s: %v", what, proto, mediaType, length, err)
					}
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					want := fmt.Sprintf("%s %d announced %d, %s", hex.EncodeToString(sum[:]), len(body), announced, encoding)
					if len(body) == 0 { // whether that is announced depends on the protocol
						want = strings.Replace(want, "announced -1", "announced 0", 1)
						got = bytes.Replace(got, []byte("announced -1"), []byte("announced 0"), 1)
					}
					if err != nil || resp.Proto != proto || string(got) != want {
						t.Errorf("%s, %s, %s, %s: %s %s, %v; want %s", what, proto, mediaType, length, resp.Proto, got, err, want)
					}
				}
			}
		}
	}
}

// zeros is a body of n zero bytes.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), z.n)]
	clear(p)
	z.n -= int64(len(p))
	return len(p), nil
}

func TestAGigabytePassesThrough(t *testing.T) {
	u := newUploads(t, "legacy_only\nlegacy_auth all report")
	for proto, size := range map[string]int64{"HTTP/1.1": 1 << 30, "HTTP/2.0": 100 << 20, "HTTP/3.0": 30 << 20} {
		sum := sha256.New()
		if _, err := io.Copy(sum, &zeros{size}); err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+u.host+"/upload", &zeros{size})
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "text/xml") // the beginning is looked at
		r.ContentLength = size
		resp, err := u.clients[proto].Do(r)
		if err != nil {
			t.Fatalf("%s: %v", proto, err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprintf("%x %d announced %d, ", sum.Sum(nil), size, size); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", proto, got, err, want)
		}
	}
}

// TestWhatIsNotLookedAtStreams sends the second half of a body when the application has the first.
func TestWhatIsNotLookedAtStreams(t *testing.T) {
	u := newUploads(t, "legacy_only\nlegacy_auth all report")
	for proto, client := range u.clients {
		for reason, c := range map[string]struct {
			mediaType string
			first     int
		}{"not looked at": {"application/octet-stream", 10}, "looked at, and longer than that": {"text/xml", 70_000}} {
			path := "/" + strings.ReplaceAll(proto+reason, " ", "-")
			arrives := u.follow(path)
			in, out := io.Pipe()
			r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+u.host+path, in)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", c.mediaType)
			done := make(chan error, 1)
			go func() {
				resp, err := client.Do(r)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				done <- err
			}()
			if _, err := out.Write(bytes.Repeat([]byte("1"), c.first)); err != nil {
				t.Fatal(err)
			}
			timeout := time.After(time.Minute)
			for n := 0; n < c.first; {
				select {
				case piece := <-arrives:
					n += len(piece)
				case <-timeout:
					t.Fatalf("%s, %s: after %d bytes nothing more arrives", proto, reason, n)
				}
			}
			out.Write([]byte("2"))
			out.Close()
			if err := <-done; err != nil {
				t.Errorf("%s, %s: %v", proto, reason, err)
			}
		}
	}
}

// TestAnAbortedBodyIsAborted: what breaks off never looks whole to the application.
func TestAnAbortedBodyIsAborted(t *testing.T) {
	u := newUploads(t, "legacy_only\nlegacy_auth all report")
	for proto, client := range u.clients {
		for _, mediaType := range []string{"text/xml", "application/octet-stream"} {
			for _, size := range []int{10, 70_000} {
				in, out := io.Pipe()
				r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+u.host+"/upload", in)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", mediaType)
				go func() {
					out.Write(bytes.Repeat([]byte("x"), size))
					out.CloseWithError(errors.New("the client has gone"))
				}()
				if resp, err := client.Do(r); err == nil {
					body, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode == http.StatusOK && len(body) > 0 {
						t.Errorf("%s, %s, %d bytes: the application takes it for whole: %s", proto, mediaType, size, body)
					}
				}
			}
		}
	}
	// Those that reached the application have ended with an error there.
	for {
		select {
		case err := <-u.aborted:
			if err == nil || err == io.EOF {
				t.Errorf("a body has ended with %v", err)
			}
			continue
		default:
		}
		break
	}
}

// TestLeaveToSendIsGivenWhenItIsNeeded is about Expect: 100-continue.
func TestLeaveToSendIsGivenWhenItIsNeeded(t *testing.T) {
	u := newUploads(t, "legacy_only\nlegacy_auth all report")
	for _, mediaType := range []string{"text/xml", "application/octet-stream"} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+u.host+"/upload", strings.NewReader("12345"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", mediaType)
		r.Header.Set("Expect", "100-continue")
		elapsed := clocktest.Running(t)
		resp, err := u.clients["HTTP/1.1"].Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		sum := sha256.Sum256([]byte("12345"))
		if took := elapsed(); err != nil || !strings.HasPrefix(string(got), hex.EncodeToString(sum[:])) || took > 5*time.Second {
			t.Errorf("%s: %s, %v, after %v", mediaType, got, err, took)
		}
	}
}

// counting counts what is read.
type counting struct {
	io.Reader
	n *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// TestARefusalIsShortOverEveryProtocol: HEAD has no body, and what is sent in vain is neither read nor in the way of the next request.
func TestARefusalIsShortOverEveryProtocol(t *testing.T) {
	u := newUploads(t, "")
	const size = 200 << 20
	for proto, client := range u.clients {
		send := func(method string, body io.Reader, length int64) (*http.Response, string, error) {
			r, err := http.NewRequestWithContext(t.Context(), method, "https://"+u.host+"/upload", body)
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = length
			r.Header.Set("Authorization", basicOf("alice", "junk"))
			r.Header.Set("Content-Type", "application/octet-stream")
			resp, err := client.Do(r)
			if err != nil {
				return nil, "", err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			return resp, string(text), err
		}
		if resp, text, err := send("HEAD", nil, 0); err != nil || resp.StatusCode != http.StatusForbidden || text != "" || resp.Header.Get("Content-Length") == "0" {
			t.Errorf("%s, HEAD: %v, %q, %v", proto, resp, text, err)
		}
		for range 3 {
			var taken atomic.Int64 // a transport may still write when the answer is there
			resp, text, err := send("PUT", &counting{&zeros{size}, &taken}, size)
			// Over HTTP/1.1 the connection may be reset under the hands of a client that only writes.
			if err == nil && (resp.StatusCode != http.StatusForbidden || !strings.HasPrefix(text, "Legacy authentication (basic)")) || err != nil && proto != "HTTP/1.1" {
				t.Errorf("%s, PUT: %v, %q, %v", proto, resp, text, err)
			}
			if n := taken.Load(); n > 32<<20 {
				t.Errorf("%s, PUT: %d bytes were taken", proto, n)
			}
		}
		if resp, text, err := send("POST", strings.NewReader("12345"), 5); err != nil || resp.StatusCode != http.StatusForbidden || text == "" {
			t.Errorf("%s, the next request: %v, %q, %v", proto, resp, text, err)
		}
	}
}
