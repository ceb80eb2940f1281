package webauthn

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
)

// attested gives the AAGUID of a new passkey, if its maker vouches for it: by an attestation that leads to one of the roots. Nothing for
// every other: without attestation, or with one that the passkey has signed itself, an AAGUID is whatever somebody writes.
//
// The format must be packed (WebAuthn Level 3, section 8.2), with certificates. That the signature is over this AAGUID, and that the
// certificate names no other, has been verified before.
func (f Factor) attested(o *protocol.AttestationObject, now time.Time) string {
	chain, _ := o.AttStatement["x5c"].([]any) // empty if it is no list
	if f.Roots == nil || o.Format != string(protocol.AttestationFormatPacked) || len(chain) == 0 {
		return ""
	}
	var leaf *x509.Certificate
	between := x509.NewCertPool()
	for i, link := range chain {
		raw, ok := link.([]byte)
		if !ok {
			return ""
		}
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			return ""
		}
		if i == 0 {
			leaf = cert
			continue
		}
		between.AddCert(cert)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: f.Roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return ""
	}
	return aaguidText(o.AuthData.AttData.AAGUID)
}

// aaguidText writes an AAGUID as it is usually written; nothing for what is none, and for zeros.
func aaguidText(b []byte) string {
	if len(b) != 16 || [16]byte(b) == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
