package caddymodule

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy/filter"
)

// deviceRules say of a client certificate what device it stands for.
type deviceRules struct{ compliant, joined *filter.Rule }

func newDeviceRules(c config.DeviceRules) (rules deviceRules, err error) {
	for _, r := range []struct {
		kind, text string
		rule       **filter.Rule
	}{{"compliant", c.Compliant, &rules.compliant}, {"domain_joined", c.DomainJoined, &rules.joined}} {
		if r.text == "" {
			continue
		}
		if *r.rule, err = filter.Parse(r.text, filter.CertificateAttributes); err != nil {
			return rules, fmt.Errorf("device_rule %s: %w", r.kind, err)
		}
	}
	return rules, nil
}

// device is what a connection's client certificate says, if Caddy has verified one. One that was only sent proves nothing, nor does one
// that was shown to another site: it is the site in the TLS handshake that says which certificates are asked for and who vouches for
// them. Caddy lets nobody use such a connection for this site (host), unless `strict_sni_host insecure_off` says so.
func (d deviceRules) device(c *tls.ConnectionState, host string) mfa.Device {
	if c == nil || len(c.VerifiedChains) == 0 || len(c.PeerCertificates) == 0 || !strings.EqualFold(c.ServerName, host) {
		return mfa.Device{}
	}
	leaf := c.PeerCertificates[0]
	value := certificateValues(leaf)
	return mfa.Device{
		Known: true, ID: leaf.SerialNumber.Text(16), Name: leaf.Subject.CommonName, Until: endOf(c.VerifiedChains),
		Compliant:    d.compliant != nil && d.compliant.Match(value),
		DomainJoined: d.joined != nil && d.joined.Match(value),
	}
}

// endOf is when the last of the chains is not valid any more.
func endOf(chains [][]*x509.Certificate) (end time.Time) {
	for _, chain := range chains {
		first := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
		if first.After(end) {
			end = first
		}
	}
	return end
}

func certificateValues(c *x509.Certificate) func(attribute string) filter.Value {
	return func(attribute string) filter.Value {
		switch attribute {
		case "certificate.subject":
			return filter.TextValue(c.Subject.String())
		case "certificate.issuer":
			return filter.TextValue(c.Issuer.String())
		case "certificate.serialNumber":
			return filter.TextValue(c.SerialNumber.Text(16))
		case "certificate.fingerprint":
			sum := sha256.Sum256(c.Raw)
			return filter.TextValue(hex.EncodeToString(sum[:]))
		case "certificate.san":
			var names []string
			names = append(append(names, c.DNSNames...), c.EmailAddresses...)
			for _, u := range c.URIs {
				names = append(names, u.String())
			}
			for _, a := range c.IPAddresses {
				names = append(names, a.String())
			}
			return filter.MultipleValue(names)
		}
		return filter.Value{}
	}
}
