package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

var (
	older = bytes.Repeat([]byte{1}, MinSecret)
	newer = bytes.Repeat([]byte{2}, MinSecret)
)

func keyring(t testing.TB, secrets ...[]byte) *Keyring {
	t.Helper()
	k, err := NewKeyring(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOpensOnlyForItsPurposeAndOwner(t *testing.T) {
	k := keyring(t, newer)
	sealed := k.Sealer("totp").Seal([]byte("secret"), "alice", "credential")
	if got, err := k.Sealer("totp").Open(sealed, "alice", "credential"); err != nil || string(got) != "secret" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	for reason, open := range map[string]func() ([]byte, error){
		"another purpose":          func() ([]byte, error) { return k.Sealer("cookie").Open(sealed, "alice", "credential") },
		"another owner":            func() ([]byte, error) { return k.Sealer("totp").Open(sealed, "bob", "credential") },
		"owner cut differently":    func() ([]byte, error) { return k.Sealer("totp").Open(sealed, "alicecredential") },
		"owner moved over the cut": func() ([]byte, error) { return k.Sealer("totp").Open(sealed, "alic", "ecredential") },
		"no owner":                 func() ([]byte, error) { return k.Sealer("totp").Open(sealed) },
		"one owner more":           func() ([]byte, error) { return k.Sealer("totp").Open(sealed, "alice", "credential", "") },
		"another secret": func() ([]byte, error) {
			return keyring(t, older).Sealer("totp").Open(sealed, "alice", "credential")
		},
		"nothing": func() ([]byte, error) { return k.Sealer("totp").Open(nil, "alice", "credential") },
	} {
		if got, err := open(); !errors.Is(err, ErrOpen) || got != nil {
			t.Errorf("%s: Open = %q, %v; want ErrOpen", reason, got, err)
		}
	}
}

func TestEveryBitCounts(t *testing.T) {
	s := keyring(t, newer, older).Sealer("test")
	sealed := s.Seal([]byte("secret"), "alice")
	for i := range sealed {
		for bit := range 8 {
			altered := bytes.Clone(sealed)
			altered[i] ^= 1 << bit
			if _, err := s.Open(altered, "alice"); !errors.Is(err, ErrOpen) {
				t.Fatalf("opens with bit %d of byte %d flipped", bit, i)
			}
		}
		if _, err := s.Open(sealed[:i], "alice"); !errors.Is(err, ErrOpen) {
			t.Fatalf("opens when cut to %d bytes", i)
		}
	}
}

func TestRotationOpensWhatTheOlderSecretSealed(t *testing.T) {
	before := keyring(t, older).Sealer("test").Seal([]byte("then"), "alice")
	rotated := keyring(t, newer, older)
	if got, err := rotated.Sealer("test").Open(before, "alice"); err != nil || string(got) != "then" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	after := rotated.Sealer("test").Seal([]byte("now"), "alice")
	if got, err := keyring(t, newer).Sealer("test").Open(after, "alice"); err != nil || string(got) != "now" {
		t.Fatalf("what was sealed after the rotation needs the older secret: %q, %v", got, err)
	}
	if _, err := keyring(t, newer).Sealer("test").Open(before, "alice"); !errors.Is(err, ErrOpen) {
		t.Fatal("opens without the secret that sealed it")
	}
}

func TestKeysDifferByUseAndSecret(t *testing.T) {
	k := keyring(t, newer, older)
	seen := map[string]string{}
	for _, purpose := range []string{"cookie hash", "cookie block", "return"} {
		for i, key := range k.Keys(purpose, 32) {
			if other := seen[string(key)]; other != "" || len(key) != 32 {
				t.Fatalf("key %d for %q is that for %q, or has %d bytes", i, purpose, other, len(key))
			}
			seen[string(key)] = purpose
		}
	}
}

func TestSecretsThatAreRefused(t *testing.T) {
	for want, secrets := range map[string][][]byte{
		"no secret":                    nil,
		"secret 1 has 31 bytes":        {newer[:31]},
		"secret 2 has 0 bytes":         {newer, {}},
		"secrets 1 and 2 are the same": {newer, newer},
	} {
		if _, err := NewKeyring(secrets...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one that says %q", err, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s := keyring(f, newer, older).Sealer("test")
	f.Add([]byte{})
	f.Add(s.Seal([]byte("x"), "alice"))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if got, err := s.Open(sealed, "bob"); err == nil {
			t.Fatalf("opened %x to %x", sealed, got)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	s := keyring(b, newer).Sealer("test")
	text := bytes.Repeat([]byte("x"), 100)
	b.ReportAllocs()
	for b.Loop() {
		s.Seal(text, "alice")
	}
}
