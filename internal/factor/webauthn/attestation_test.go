package webauthn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

var (
	modelA = []byte{0xcb, 0x69, 0x48, 0x1e, 0x8f, 0xf7, 0x40, 0x39, 0x93, 0xec, 0x0a, 0x27, 0x29, 0xa1, 0x54, 0xa8}
	modelB = []byte{0xee, 0x88, 0x28, 0x79, 0x72, 0x1c, 0x49, 0x13, 0x97, 0x75, 0x3d, 0xfc, 0xce, 0x97, 0x07, 0x2a}
)

const modelAText = "cb69481e-8ff7-4039-93ec-0a2729a154a8"

// maker makes security keys: a certificate, and the key that signs with it.
type maker struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (m *maker) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(m.cert)
	return pool
}

// newMaker gives one that vouches for itself (by is nil), or whom another vouches for.
func newMaker(t testing.TB, name string, by *maker, change func(*x509.Certificate)) *maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: now.AddDate(-10, 0, 0), NotAfter: now.AddDate(100, 0, 0), BasicConstraintsValid: true, IsCA: true,
		Subject: pkix.Name{Country: []string{"SE"}, Organization: []string{"Example Keys"}, OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: name},
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &maker{cert, key}
}

// batch makes the certificate of a batch of keys; model is what it says they are, nil: nothing.
func (m *maker) batch(t testing.TB, model []byte) *maker {
	t.Helper()
	return newMaker(t, "batch", m, func(c *x509.Certificate) {
		c.IsCA = false
		if model != nil {
			value, err := asn1.Marshal(model)
			if err != nil {
				t.Fatal(err)
			}
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, Value: value}}
		}
	})
}

// attests has a token come with certificates, and sign its registration with this key.
func (k *token) attests(by *maker, more ...*maker) {
	k.attested, k.signer = "packed", by.key
	for _, m := range append([]*maker{by}, more...) {
		k.x5c = append(k.x5c, m.cert.Raw)
	}
}

func signed(t testing.TB, key *ecdsa.PrivateKey, auth, client []byte) []byte {
	t.Helper()
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(append([]byte(nil), auth...), hash[:]...))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// WebAuthn Level 3, section 7.1, steps 22 to 24: what is believed of the maker. Who is not believed is registered as if nothing was said.
func TestOnlyAMakerWhoIsBelievedSaysWhatAKeyIs(t *testing.T) {
	root, other := newMaker(t, "root", nil, nil), newMaker(t, "other", nil, nil)
	between := newMaker(t, "between", root, nil)
	for reason, tc := range map[string]struct {
		change func(*token)
		model  string
	}{
		"its maker, at once":                     {func(k *token) { k.attests(root.batch(t, modelA)) }, modelAText},
		"its maker, and what stands between":     {func(k *token) { k.attests(between.batch(t, modelA), between) }, modelAText},
		"its maker, with the root in the answer": {func(k *token) { k.attests(root.batch(t, modelA), root) }, modelAText},
		"a certificate for several models":       {func(k *token) { k.attests(root.batch(t, nil)) }, modelAText},
		"nobody":                                 {func(*token) {}, ""},
		"the passkey itself":                     {func(k *token) { k.attested = "packed" }, ""},
		"another maker":                          {func(k *token) { k.attests(other.batch(t, modelA)) }, ""},
		"another maker, with the root beside":    {func(k *token) { k.attests(other.batch(t, modelA), root) }, ""},
		"what stands between is missing":         {func(k *token) { k.attests(between.batch(t, modelA)) }, ""},
		"its maker, of a key that is no model":   {func(k *token) { k.aaguid = make([]byte, 16); k.attests(root.batch(t, nil)) }, ""},
	} {
		t.Run(reason, func(t *testing.T) {
			f := Factor{Roots: root.pool()}
			ch := begin(t, f)
			k := newToken(t)
			if q := k.read(ch.Options); q.Attestation != "direct" {
				t.Fatalf("browsers are asked for %q", q.Attestation)
			}
			k.aaguid = modelA
			tc.change(k)
			answer := k.create(ch.Options)
			c, err := f.FinishRegistration(ch.State, nil, answer, now)
			if err != nil || c.Model != tc.model {
				t.Fatalf("it is a %q, want %q: %v", c.Model, tc.model, err)
			}
			// Where nobody is believed, nobody is.
			if c, err := (Factor{}).FinishRegistration(ch.State, nil, answer, now); err != nil || c.Model != "" {
				t.Fatalf("it is a %q: %v", c.Model, err)
			}
			// What it is stays as it was.
			q := ask(t, f, c)
			c.Model = "as it was"
			if next, err := f.FinishVerification(q.State, []mfa.Credential{c}, k.get(q.Options), now); err != nil || next.Model != "as it was" {
				t.Fatalf("%+v %v", next, err)
			}
		})
	}
	for reason, change := range map[string]func(*token){
		"a certificate for another model": func(k *token) { k.attests(root.batch(t, modelB)) },
		"a certificate that has ended": func(k *token) {
			k.attests(newMaker(t, "batch", root, func(c *x509.Certificate) { c.IsCA, c.NotAfter = false, now.AddDate(-5, 0, 0) }))
		},
		"signed by somebody else":                     func(k *token) { k.attests(root.batch(t, modelA)); k.signer = other.key },
		"signed by the passkey, with the certificate": func(k *token) { k.attests(root.batch(t, modelA)); k.signer = k.key },
		"another model since it was signed":           func(k *token) { k.attests(root.batch(t, nil)); k.swapped = modelB },
		"the certificate of an authority":             func(k *token) { k.attests(between) },
		"a certificate that is none":                  func(k *token) { k.attests(root.batch(t, modelA)); k.x5c[0] = []byte("x") },
		"a certificate of something else than keys": func(k *token) {
			k.attests(newMaker(t, "batch", root, func(c *x509.Certificate) { c.IsCA, c.Subject.OrganizationalUnit = false, []string{"Web"} }))
		},
	} {
		t.Run("refused: "+reason, func(t *testing.T) {
			f := Factor{Roots: root.pool()}
			ch := begin(t, f)
			k := newToken(t)
			k.aaguid = modelA
			change(k)
			_, err := f.FinishRegistration(ch.State, nil, k.create(ch.Options), now)
			wantWrong(t, err, "")
		})
	}
}
