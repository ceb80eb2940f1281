package caddymodule

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/config"
)

func TestDevice(t *testing.T) {
	rules, err := newDeviceRules(config.DeviceRules{
		Compliant: `certificate.issuer -eq 'CN=Example Devices CA'`, DomainJoined: `certificate.san -endsWith '.corp.example.com'`,
	})
	if err != nil {
		t.Fatal(err)
	}
	ends := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	certificate := func(name string, after time.Duration) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(0x1f), Subject: pkix.Name{CommonName: name}, Issuer: pkix.Name{CommonName: "Example Devices CA"}, NotAfter: ends.Add(after),
		}
	}
	leaf, root := certificate("laptop-7", time.Hour), certificate("Example Devices CA", 2*time.Hour)
	short, shorter := certificate("old", 0), certificate("older", -time.Hour)
	for reason, tc := range map[string]struct {
		tls   *tls.ConnectionState
		known bool
		until time.Time
	}{
		"plain http":             {nil, false, time.Time{}},
		"no certificate":         {&tls.ConnectionState{ServerName: "hr.example.com"}, false, time.Time{}},
		"one that was only sent": {&tls.ConnectionState{ServerName: "hr.example.com", PeerCertificates: []*x509.Certificate{leaf}}, false, time.Time{}},
		"shown to another site": {
			&tls.ConnectionState{ServerName: "wiki.example.com", PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, root}}}, false, time.Time{},
		},
		"shown to no site in particular": {
			&tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, root}}}, false, time.Time{},
		},
		"verified": {
			&tls.ConnectionState{ServerName: "HR.example.com", PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, root}}},
			true, leaf.NotAfter,
		},
		"verified in two ways": {
			&tls.ConnectionState{ServerName: "hr.example.com", PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, shorter}, {leaf, short}}},
			true, short.NotAfter,
		},
	} {
		t.Run(reason, func(t *testing.T) {
			d := rules.device(tc.tls, "hr.example.com")
			if d.Known != tc.known || d.Compliant != tc.known || d.DomainJoined || !d.Until.Equal(tc.until) {
				t.Fatalf("%+v", d)
			}
			if d.Known && (d.ID != "1f" || d.Name != "laptop-7") {
				t.Fatalf("%+v", d)
			}
		})
	}
}
