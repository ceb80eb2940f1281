package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
)

// behindProxies trusts proxies on this machine to say where clients are.
const behindProxies = "servers {\n\t\ttrusted_proxies static 127.0.0.1\n\t\ttrusted_proxies_strict\n\t}"

func TestPoliciesSeeWhereTheClientIsBehindAProxy(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Servers: behindProxies, Site: guarded("wiki", "payroll"), Global: `security_defaults off
		named_location office {
			ranges 192.0.2.0/24 2001:db8::/32
			trusted
		}
		policy "Payroll in the office" {
			state enabled
			users all
			applications payroll
			exclude_locations trusted
			grant block
		}
		policy "MFA outside" {
			state report_only
			users all
			applications all
			exclude_locations office
			grant mfa
		}`})
	b := lab.NewBrowser(t, p.URL)
	b.Header.Set("X-Forwarded-For", "192.0.2.7")
	b.Password("/payroll/", "alice", lab.Password).Submit("later").Follow().Want("secret report")
	for _, c := range []struct {
		reason, forwarded string
		status            int
	}{
		{"in the office", "192.0.2.200", http.StatusOK},
		{"in the office, over IPv6", "2001:db8:7::9", http.StatusOK},
		{"in the office, over IPv4 as IPv6 writes it", "::ffff:192.0.2.9", http.StatusOK},
		{"somewhere else", "198.51.100.7", http.StatusForbidden},
		{"somewhere else, who says that he forwards for the office", "192.0.2.7, 198.51.100.7", http.StatusForbidden},
		{"in the office, behind another proxy of ours", "198.51.100.7, 192.0.2.7, 127.0.0.1", http.StatusOK},
		{"nobody knows where", "unknown", http.StatusForbidden},
		{"nobody knows where, though he says so", "192.0.2.7, unknown", http.StatusForbidden},
		{"on the proxy itself", "", http.StatusForbidden},
	} {
		b.Header.Set("X-Forwarded-For", c.forwarded)
		if page := b.Get("/payroll/"); page.Status != c.status {
			t.Errorf("%s: %s", c.reason, page)
		}
	}

	all := signInsOf(t, p, "alice", 4) // each time the verdict is another one
	wantRecord(t, all[0], "in the office", "payroll", 0, single, notApplied, "Payroll in the office", "notApplied", "MFA outside", "reportOnlyNotApplied")
	wantRecord(t, all[1], "somewhere else", "payroll", audit.CodeBlocked, single, unmet, "Payroll in the office", "failure", "MFA outside", "reportOnlyInterrupted")
	if all[0].IPAddress != "192.0.2.7" || all[1].IPAddress != "198.51.100.7" {
		t.Errorf("addresses: %s, %s", all[0].IPAddress, all[1].IPAddress)
	}
}

// The page of the second step says which application asks, and why; and neither what a policy is called nor what a place is.
func TestTheSecondStepSaysWhyItIsAskedFor(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{
		Servers: behindProxies, Site: guarded("wiki", "payroll", "vault"),
		Users: strings.Replace(lab.Users, "    display_name: Alice Example\n", "    display_name: Alice Example\n    roles: [Auditor]\n", 1),
		Global: `security_defaults off
		named_location headquarters {
			ranges 192.0.2.0/24
			trusted
		}
		policy "Secret name one" {
			state enabled
			users all
			applications payroll
			exclude_locations headquarters
			grant mfa
		}
		policy "Secret name two" {
			state enabled
			users role:auditor
			applications vault
			grant mfa
		}
		policy "Secret name three" {
			state enabled
			users group:staff bob
			applications wiki
			grant mfa
		}`,
	})
	at := func(address, language string) *lab.Browser {
		b := lab.NewBrowser(t, p.URL)
		b.Header.Set("X-Forwarded-For", address)
		b.Header.Set("Accept-Language", language)
		return b
	}
	const inside, outside = "192.0.2.7", "198.51.100.7"
	for user, path := range map[string]string{"alice": "/payroll/", "bob": "/wiki/"} {
		page := at(outside, "en").Password(path, user, lab.Password).Submit("begin")
		person := &lab.Person{Name: user, Key: page.Key()}
		page.Submit("code", "code", person.Code(t)).Submit("kept").Follow().Want("secret report")
	}
	for _, c := range []struct{ reason, address, language, user, path, says string }{
		{"outside", outside, "en", "alice", "/payroll/", "payroll asks for a second step because you are outside the networks that your organisation trusts."},
		{"outside, in Dutch", outside, "nl", "alice", "/payroll/", "payroll vraagt om een tweede stap omdat u buiten de netwerken bent die uw organisatie vertrouwt."},
		{"an administrator", inside, "en", "alice", "/vault/", "vault asks for a second step."},
		{"a user by his name", inside, "en", "bob", "/wiki/", "wiki asks for a second step."},
	} {
		b := at(c.address, c.language)
		page := b.Password(c.path, c.user, lab.Password).Want(c.says)
		for _, secret := range []string{"Secret name", "headquarters", "staff"} {
			if page.Has(secret) {
				t.Errorf("%s: the page says %q:\n%s", c.reason, secret, page.Body)
			}
		}
		page.Submit("code", "code", "000000").Want(c.says) // also beside a mistake
	}
	if page := at(inside, "en").Password("/payroll/", "alice", lab.Password); page.Has("second step because") {
		t.Errorf("inside she is asked:\n%s", page.Body)
	}
}

func TestPoliciesSeeTheCountryAsTheFileHasItNow(t *testing.T) {
	t.Parallel()
	app := newStreamingApp(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "countries.mmdb")
	replace := func(countries map[string]string) {
		t.Helper()
		data, err := lab.CountryFile{Type: "GeoLite2-Country", IPVersion: 6, Countries: countries}.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	options := lab.Options{Servers: behindProxies, Global: `security_defaults off
		geoip ` + file + `
		named_location benelux {
			countries BE NL LU
		}
		policy "Within the benelux" {
			state enabled
			users all
			exclude_users bob
			applications all
			exclude_locations benelux
			grant block
		}`}
	p := lab.Start(t, app.Address, options)
	at := func(user, address string) *lab.Browser {
		t.Helper()
		b := lab.NewBrowser(t, p.URL)
		b.Header.Set("X-Forwarded-For", address)
		b.Password("/", user, lab.Password)
		return b
	}
	status := func(b *lab.Browser) int { t.Helper(); return b.Get("/").Status }

	t.Log("there is no file: every country is unknown, and the policy is strict")
	dutch, german := at("alice", "192.0.2.7"), at("alice", "198.51.100.7")
	if a, b := status(dutch), status(german); a != http.StatusForbidden || b != http.StatusForbidden {
		t.Errorf("status %d and %d", a, b)
	}
	if ok := metric(t, p, "caddy_mfa_geoip_ok"); ok != 0 {
		t.Errorf("the metric says %v", ok)
	}
	app.WantNothing(t)

	t.Log("the file comes")
	replace(map[string]string{"192.0.2.0/24": "NL", "198.51.100.0/24": "DE"})
	lab.Eventually(t, 30*time.Second, "the file is in force", func() bool { return metric(t, p, "caddy_mfa_geoip_ok") == 1 })
	if a, b := status(dutch), status(german); a != http.StatusOK || b != http.StatusForbidden {
		t.Errorf("in the Netherlands %d, in Germany %d", a, b)
	}
	all := signInsOf(t, p, "alice", 3)
	if all[2].Location.CountryOrRegion != "NL" || all[2].Status.ErrorCode != 0 {
		t.Errorf("the log says %+v", all[2])
	}

	t.Log("the file is replaced, and what is open is judged by the new one")
	open, others := streams(dutch), streams(at("bob", "192.0.2.7"))
	wantFlowing(t, open)
	wantFlowing(t, others)
	replace(map[string]string{"192.0.2.0/24": "US", "198.51.100.0/24": "LU"})
	lab.Eventually(t, 30*time.Second, "the new file is in force", func() bool { return status(german) == http.StatusOK })
	wantCut(t, time.Now(), open)
	if got := status(dutch); got != http.StatusForbidden {
		t.Errorf("status %d", got)
	}
	wantFlowing(t, others)

	t.Log("the file goes: the last good one stays in force, and the metric tells")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 30*time.Second, "the metric tells", func() bool { return metric(t, p, "caddy_mfa_geoip_ok") == 0 })
	if a, b := status(dutch), status(german); a != http.StatusForbidden || b != http.StatusOK {
		t.Errorf("status %d and %d", a, b)
	}
}

// What is open when the first policy with countries comes was let in by a configuration that didn't ask where anybody is.
func TestOpenConnectionsAreJudgedByWhatTheNextConfigurationAsks(t *testing.T) {
	t.Parallel()
	app := newStreamingApp(t)
	file := filepath.Join(t.TempDir(), "countries.mmdb")
	data, err := lab.CountryFiles["countries.mmdb"].Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	options := lab.Options{Servers: behindProxies, Global: "security_defaults off", Site: "mfa app\nreverse_proxy {upstream} {\nstream_close_delay 1h\n}"}
	p := lab.Start(t, app.Address, options)
	at := func(user, address string) map[string]*lab.Stream {
		t.Helper()
		b := lab.NewBrowser(t, p.URL)
		b.Header.Set("X-Forwarded-For", address)
		b.Password("/", user, lab.Password)
		return streams(b)
	}
	dutch, german := at("alice", "192.0.2.7"), at("bob", "198.51.100.7")
	wantFlowing(t, dutch)
	wantFlowing(t, german)
	options.Global = `security_defaults off
		geoip ` + file + `
		named_location netherlands {
			countries NL
		}
		policy "Within the Netherlands" {
			state enabled
			users all
			applications all
			exclude_locations netherlands
			grant block
		}
		policy "No telephones" {
			state enabled
			users all
			applications all
			platforms android ios
			grant block
		}`
	if err := p.Load(lab.Caddyfile(p, app.Address, options)); err != nil {
		t.Fatal(err)
	}
	wantCut(t, time.Now(), german)
	wantFlowing(t, dutch)
}

func TestOpenConnectionsEndWhenPolicyNoLongerAllowsThem(t *testing.T) {
	t.Parallel()
	app := newStreamingApp(t)
	const rules = `security_defaults off
		per_user_mfa {
			trusted_ranges 10.0.0.0/8
		}
		named_location here {
			ranges %s
		}
		policy "Not from here" {
			state %s
			users carol
			applications all
			locations here
			grant block
		}`
	options := lab.Options{Global: fmt.Sprintf(rules, "192.0.2.0/24", "report_only"), Site: "mfa app\nreverse_proxy {upstream} {\nstream_close_delay 1h\n}"}
	p := lab.Start(t, app.Address, options)
	open := map[string]map[string]*lab.Stream{}
	for _, user := range []string{"alice", "bob", "carol"} {
		open[user] = streams(inGrace(t, p, user))
		wantFlowing(t, open[user])
	}
	load := func(ranges, state string) {
		t.Helper()
		options.Global = fmt.Sprintf(rules, ranges, state)
		if err := p.Load(lab.Caddyfile(p, app.Address, options)); err != nil {
			t.Fatal(err)
		}
	}

	t.Log("the state of a user")
	begin := time.Now()
	if status, text := p.API(http.MethodPost, "/mfa/users/alice/state?state=enabled", nil); status != http.StatusOK {
		t.Fatalf("status %d: %s", status, text)
	}
	wantCut(t, begin, open["alice"])

	t.Log("a policy that is only reported, then one that is enabled and looks elsewhere, are not felt")
	load("127.0.0.0/8", "report_only")
	wantFlowing(t, open["carol"])
	load("192.0.2.0/24", "enabled")
	wantFlowing(t, open["carol"])
	t.Log("the named location changes")
	load("127.0.0.0/8", "enabled")
	wantCut(t, time.Now(), open["carol"])
	wantFlowing(t, open["bob"])
}

// authority is who signs the certificates of devices.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name, file string) *authority {
	t.Helper()
	a := &authority{}
	c := a.sign(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.certificate, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// sign makes a key and a certificate for it. An authority without a certificate of its own lets the certificate sign itself.
func (a *authority) sign(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// device gives a certificate of a device.
func (a *authority) device(t testing.TB, serial int64, name string) tls.Certificate {
	t.Helper()
	return a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".corp.example.com"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func TestOnlyAVerifiedCertificateMakesADevice(t *testing.T) {
	t.Parallel()
	app := newStreamingApp(t)
	dir := t.TempDir()
	roots := makeCertificate(t, dir)
	devices := newAuthority(t, "Example Devices CA", filepath.Join(dir, "devices.pem"))
	others := newAuthority(t, "Example Guests CA", filepath.Join(dir, "guests.pem"))
	pair, err := os.ReadFile(filepath.Join(dir, "devices.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "both.pem"), append(pair, readFile(t, filepath.Join(dir, "guests.pem"))...), 0o600); err != nil {
		t.Fatal(err)
	}
	lax := lab.FreePort(t)
	site := fmt.Sprintf(`tls %[1]s/cert.pem %[1]s/key.pem {
		client_auth {
			mode verify_if_given
			trust_pool file %[1]s/both.pem
		}
	}
	mfa hr
	reverse_proxy {upstream}
}

https://localhost:%[2]d {
	tls %[1]s/cert.pem %[1]s/key.pem {
		client_auth {
			mode request
		}
	}
	mfa hr
	reverse_proxy {upstream}`, dir, lax)
	const rules = `security_defaults off
		device_rule compliant "certificate.issuer -eq 'CN=Example Devices CA' -and certificate.san -endsWith '.corp.example.com'"
		policy "Our machines" {
			state %s
			users all
			exclude_users bob
			applications hr
			grant compliant_device
		}
		policy "Strange machines" {
			state report_only
			users all
			applications all
			devices exclude "device.isCompliant -eq True"
			grant block
		}`
	options := lab.Options{Address: "https://localhost:{port}", Site: site, Global: fmt.Sprintf(rules, "enabled")}
	p := lab.Start(t, app.Address, options)
	strict, laxURL := fmt.Sprintf("https://localhost:%d", p.Port), fmt.Sprintf("https://localhost:%d", lax)
	laptop := devices.device(t, 0x7f, "laptop-7")

	b := lab.NewBrowserTLS(t, strict, roots).Present(laptop)
	b.Password("/", "alice", lab.Password).Submit("later").Follow().Want("secret report")
	r := signInsOf(t, p, "alice", 1)[0]
	wantRecord(t, r, "our machine", "hr", 0, single, satisfied, "Our machines", "success", "Strange machines", "reportOnlyNotApplied")
	if d := r.Device; !d.IsCompliant || !d.IsManaged || d.DeviceID != "7f" || d.DisplayName != "laptop-7" || d.OperatingSystem != "Linux" || !strings.HasPrefix(d.Browser, "Firefox") {
		t.Errorf("the device is %+v", d)
	}

	self := (&authority{}).device(t, 0x7f, "laptop-7")
	fake := newAuthority(t, "Example Devices CA", filepath.Join(dir, "fake.pem")).device(t, 0x7f, "laptop-7")
	app.Forget()
	for reason, shown := range map[string]struct {
		url         string
		certificate *tls.Certificate
	}{
		"none":                                      {strict, nil},
		"of another authority":                      {strict, new(others.device(t, 8, "laptop-8"))},
		"one of ours, where nobody verifies":        {laxURL, &laptop},
		"signed by itself, where nobody verifies":   {laxURL, &self},
		"by one who calls himself as our authority": {laxURL, &fake},
	} {
		b := lab.NewBrowserTLS(t, shown.url, roots)
		if shown.certificate != nil {
			b.Present(*shown.certificate)
		}
		page := b.Password("/", "carol", lab.Password)
		page.WantStatus(http.StatusForbidden).Want("You can't open hr from here").Want("This is only open to devices that your organisation manages.")
		if b.Get("/").Status != http.StatusForbidden {
			t.Errorf("a certificate %s lets carol in", reason)
		}
	}
	for reason, c := range map[string]tls.Certificate{"signed by itself": self, "by one who calls himself as our authority": fake} {
		b := lab.NewBrowserTLS(t, strict, roots).Present(c)
		if page, err := b.Try(b.Request(http.MethodGet, "/", nil)); err == nil {
			t.Errorf("a certificate %s is taken: %s", reason, page)
		}
	}
	app.WantNothing(t)
	for _, r := range signInsOf(t, p, "carol", 5) {
		wantRecord(t, r, "a strange machine", "hr", audit.CodeBlocked, single, unmet, "Our machines", "failure", "Strange machines", "reportOnlyFailure")
		if d := r.Device; d.IsCompliant || d.DeviceID != "" && d.DeviceID != "8" {
			t.Errorf("the device is %+v", d)
		}
	}

	t.Log("what is open is judged by its certificate, also when nobody had asked for one")
	options.Global = fmt.Sprintf(rules, "disabled")
	options.Global = options.Global[:strings.Index(options.Global, `policy "Strange`)]
	if err := p.Load(lab.Caddyfile(p, app.Address, options)); err != nil {
		t.Fatal(err)
	}
	ours := openTLS(b)
	stranger := lab.NewBrowserTLS(t, strict, roots)
	stranger.Password("/", "carol", lab.Password)
	theirs := openTLS(stranger)
	wantFlowing(t, ours)
	wantFlowing(t, theirs)
	options.Global = fmt.Sprintf(rules, "enabled")
	if err := p.Load(lab.Caddyfile(p, app.Address, options)); err != nil {
		t.Fatal(err)
	}
	wantCut(t, time.Now(), theirs)
	wantFlowing(t, ours)
}

// openTLS are the streams that go over TLS.
func openTLS(b *lab.Browser) map[string]*lab.Stream {
	return map[string]*lab.Stream{"the event stream": b.Stream("/events"), "the download": b.Stream("/download")}
}
