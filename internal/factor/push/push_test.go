package push

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

const origin = "https://hr.example.com"

func phone(t testing.TB) (Device, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return Device{Key: public, Origin: origin}, key
}

func sign(t testing.TB, key *ecdsa.PrivateKey, kind string, parts ...string) []byte {
	t.Helper()
	digest := sha256.Sum256(Statement(kind, origin, parts...))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

func TestASignatureIsForWhatWasSaidAlone(t *testing.T) {
	d, key := phone(t)
	good := sign(t, key, "answer", "id", Approve, "42")
	if err := d.Signed(good, "answer", origin, "id", Approve, "42"); err != nil {
		t.Fatal(err)
	}
	other, _ := phone(t)
	for reason, err := range map[string]error{
		"another kind":          d.Signed(good, "poll", origin, "id", Approve, "42"),
		"another origin":        d.Signed(good, "answer", "https://crm.example.com", "id", Approve, "42"),
		"another prompt":        d.Signed(good, "answer", origin, "other", Approve, "42"),
		"another decision":      d.Signed(good, "answer", origin, "id", Deny, "42"),
		"another number":        d.Signed(good, "answer", origin, "id", Approve, "43"),
		"cut differently":       d.Signed(good, "answer", origin, "id\n"+Approve, "42"),
		"one part less":         d.Signed(good, "answer", origin, "id", Approve),
		"another phone":         other.Signed(good, "answer", origin, "id", Approve, "42"),
		"no signature":          d.Signed(nil, "answer", origin, "id", Approve, "42"),
		"zeros":                 d.Signed(make([]byte, 64), "answer", origin, "id", Approve, "42"),
		"one byte more":         d.Signed(append(good, 0), "answer", origin, "id", Approve, "42"),
		"a phone without a key": Device{Origin: origin}.Signed(good, "answer", origin, "id", Approve, "42"),
		"the zero phone":        Device{}.Signed(good, "answer", "", "id", Approve, "42"),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

func TestNothingThatIsTypedProvesAPhone(t *testing.T) {
	d, _ := phone(t)
	c := mfa.Credential{ID: "1", Method: mfa.Push}
	if err := d.Write(&c); err != nil {
		t.Fatal(err)
	}
	for _, typed := range []string{"", "42", string(c.Data)} {
		if _, err := (Factor{}).Finish([]mfa.Credential{c}, typed, time.Now()); !errors.Is(err, mfa.ErrWrong) {
			t.Errorf("%q: %v", typed, err)
		}
	}
}

func TestTheZeroPromptIsApprovedByNoNumber(t *testing.T) {
	d, key := phone(t)
	var p Prompt
	now := time.Now()
	p.Made = now
	if err := p.Answer(d, "1", origin, Approve, "", sign(t, key, "answer", "", Approve, ""), now); err != nil || p.Outcome != Mistyped {
		t.Errorf("%v, %v", p.Outcome, err)
	}
}

func TestNumbersHaveTwoDigits(t *testing.T) {
	seen := map[string]bool{}
	for range 5000 {
		n := NewPrompt(Prompt{}, time.Now()).Number
		if len(n) != 2 || n[0] < '1' || n[0] > '9' || n[1] < '0' || n[1] > '9' {
			t.Fatalf("%q", n)
		}
		seen[n] = true
	}
	if len(seen) < 85 {
		t.Errorf("only %d different numbers in 5000", len(seen))
	}
}

func FuzzWhatAPhoneSends(f *testing.F) {
	d, key := phone(f)
	challenge, err := Factor{}.BeginRegistration(nil, mfa.Site{Origin: origin}, nil, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	begun, err := PairingOf(challenge.State)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(begun.Nonce, "link", origin, d.Key, make([]byte, 64), "42")
	f.Add("", "", "", []byte{}, []byte{}, "")
	f.Add(begun.Nonce, "li\nnk", origin, append([]byte{4}, make([]byte, 64)...), make([]byte, 64), "４２")
	f.Fuzz(func(t *testing.T, nonce, link, at string, public, signature []byte, typed string) {
		if state, err := Pair(challenge.State, nonce, link, "1", "phone", at, public, signature); err == nil || state != nil {
			t.Fatalf("connected without the phone's key: %s", state)
		}
		paired, err := Pair(challenge.State, begun.Nonce, "link", "1", "phone", origin, d.Key, sign(t, key, "pair", "link"))
		if err != nil {
			t.Fatal(err)
		}
		if state, err := Confirm(paired, nonce, link, typed, at, signature); err == nil || state != nil {
			t.Fatalf("confirmed without the phone's key: %s", state)
		}
		p := NewPrompt(Prompt{}, time.Now())
		if err := p.Answer(d, "1", at, link, typed, signature, time.Now()); err == nil || p.Outcome != "" {
			t.Fatalf("answered without the phone's key: %v", p.Outcome)
		}
	})
}
