package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// certifier signs certificates.
type certifier struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCertifier(t *testing.T, name string) *certifier {
	t.Helper()
	a := &certifier{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	})
	return a
}

func (a *certifier) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// device is a client's certificate that ends at a time.
func (a *certifier) device(name string, ends time.Time) *tls.Certificate {
	a.t.Helper()
	cert, key := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: ends, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// write writes the authority's own certificate, or what it has signed with its key, as PEM.
func write(t *testing.T, path string, cert *x509.Certificate, key *ecdsa.PrivateKey) string {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// machine is a device with a browser: it signs alice in, and asks for pages over connections that stay open.
type machine struct {
	t      *testing.T
	client *http.Client
}

// newMachine makes one that shows a certificate (nil: none) to the site sni, whatever it asks for.
func newMachine(t *testing.T, p *lab.Proxy, cert *tls.Certificate, sni string) *machine {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: sni, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert == nil {
				return &tls.Certificate{}, nil
			}
			return cert, nil // also one of a CA that nobody has asked for
		}},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", p.Port))
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &machine{t, &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// opens says whether the application answers, on the connection that is there.
func (m *machine) opens(base string) bool {
	m.t.Helper()
	r, err := m.client.Get(base + "/")
	if err != nil {
		return false
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return err == nil && r.StatusCode == http.StatusOK && strings.Contains(string(body), "secret report")
}

func (m *machine) signIn(base string) {
	m.t.Helper()
	r, err := m.client.PostForm(base+"/_mfa/signin", url.Values{"username": {"alice"}, "password": {lab.Password}})
	if err != nil {
		return // the handshake is refused
	}
	r.Body.Close()
}

func TestAttackDeviceCertificates(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	dir := t.TempDir()
	devices, partner, stranger := newCertifier(t, "Example Devices CA"), newCertifier(t, "Partner CA"), newCertifier(t, "Example Devices CA")
	cert, key := devices.sign(&x509.Certificate{DNSNames: []string{"hr.localhost", "wiki.localhost", "shop.localhost"}, NotAfter: time.Now().Add(time.Hour)})
	server := write(t, filepath.Join(dir, "server.pem"), cert, key)
	trusted := write(t, filepath.Join(dir, "devices.pem"), devices.cert, nil)
	partners := write(t, filepath.Join(dir, "partner.pem"), partner.cert, nil)
	site := func(mode string) string {
		return "tls " + server + " " + server + " {\n\t\tclient_auth {\n\t\t\t" + mode + "\n\t\t}\n\t}\n\tmfa hr\n\treverse_proxy {upstream}"
	}
	p := lab.Start(t, up.Address, lab.Options{
		Servers: "servers {\n\t\tstrict_sni_host insecure_off\n\t}",
		Global: `security_defaults off
		device_rule compliant "certificate.subject -eq 'CN=laptop-7'"
		policy "Our machines" {
			state enabled
			users all
			applications all
			grant compliant_device
		}`,
		Address: "https://hr.localhost:{port}",
		Site: site("mode verify_if_given\n\t\t\ttrust_pool file "+trusted) + "\n}\nhttps://wiki.localhost:{port} {\n\t" + site("mode verify_if_given\n\t\t\ttrust_pool file "+partners) +
			"\n}\nhttps://shop.localhost:{port} {\n\t" + site("mode request"),
	})
	base := func(host string) string { return fmt.Sprintf("https://%s.localhost:%d", host, p.Port) }
	later := time.Now().Add(time.Hour)
	for reason, tc := range map[string]struct {
		cert *tls.Certificate
		sni  string
		host string
		want bool
	}{
		"a device's":                            {devices.device("laptop-7", later), "hr.localhost", "hr", true},
		"none":                                  {nil, "hr.localhost", "hr", false},
		"of another device":                     {devices.device("laptop-8", later), "hr.localhost", "hr", false},
		"one that has ended":                    {devices.device("laptop-7", time.Now().Add(-time.Minute)), "hr.localhost", "hr", false},
		"of a CA of the same name":              {stranger.device("laptop-7", later), "hr.localhost", "hr", false},
		"of another site's CA":                  {partner.device("laptop-7", later), "hr.localhost", "hr", false},
		"of another site's CA, and shown to it": {partner.device("laptop-7", later), "wiki.localhost", "hr", false},
		"one that nobody has verified":          {devices.device("laptop-7", later), "shop.localhost", "shop", false},
		"one of nobody's that nobody verified":  {stranger.device("laptop-7", later), "shop.localhost", "shop", false},
	} {
		t.Run(reason, func(t *testing.T) {
			m := newMachine(t, p, tc.cert, tc.sni)
			m.signIn(base(tc.host))
			if got := m.opens(base(tc.host)); got != tc.want {
				t.Errorf("it opens the application: %v, want %v", got, tc.want)
			}
		})
	}
	t.Run("one that ends while the connection is open", func(t *testing.T) {
		// Another tells how long signing in takes here.
		begin := time.Now()
		newMachine(t, p, devices.device("laptop-7", later), "hr.localhost").signIn(base("hr"))
		ends := time.Now().Add(3*time.Since(begin) + 3*time.Second).Truncate(time.Second)
		m := newMachine(t, p, devices.device("laptop-7", ends), "hr.localhost")
		m.signIn(base("hr"))
		if !m.opens(base("hr")) {
			t.Fatal("it doesn't open the application while it is good")
		}
		time.Sleep(time.Until(ends.Add(time.Second)))
		if m.opens(base("hr")) {
			t.Error("it opens the application after it has ended")
		}
	})
}
