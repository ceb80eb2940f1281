package totp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/hotp"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// rfcKey is the key of the test vectors in RFC 4226, appendix D, and RFC 6238, appendix B (for SHA-1).
const rfcKey = "12345678901234567890"

func credential(t testing.TB, key string, step int64) mfa.Credential {
	t.Helper()
	d, err := json.Marshal(data{encoding.EncodeToString([]byte(key)), step})
	if err != nil {
		t.Fatal(err)
	}
	return mfa.Credential{ID: "app", Method: mfa.TOTP, Data: d}
}

func finish(t testing.TB, c mfa.Credential, answer string, unix int64) (mfa.Credential, error) {
	t.Helper()
	return Factor{}.Finish([]mfa.Credential{c}, answer, time.Unix(unix, 0))
}

func TestRFC4226AppendixD(t *testing.T) {
	for count, code := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		if _, err := finish(t, credential(t, rfcKey, -1), code, int64(count)*30); err != nil {
			t.Errorf("count %d: %s is refused: %v", count, code, err)
		}
	}
}

func TestRFC6238AppendixB(t *testing.T) {
	// The vectors have eight digits; six digits are the same number modulo 10^6 (RFC 4226, section 5.3).
	for unix, eight := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		next, err := finish(t, credential(t, rfcKey, 0), eight[2:], unix)
		if err != nil {
			t.Errorf("at %d: %s is refused: %v", unix, eight[2:], err)
			continue
		}
		var d data
		if err := json.Unmarshal(next.Data, &d); err != nil || d.Step != unix/30 {
			t.Errorf("at %d: step %d is kept, want %d (%v)", unix, d.Step, unix/30, err)
		}
	}
}

func TestEachStepIsAcceptedOnceAndNoOlderOneAfterIt(t *testing.T) {
	const now = 30 * 1000
	for reason, tc := range map[string]struct {
		kept, step int64
		want       error
	}{
		"the present step":                       {0, 1000, nil},
		"one step late":                          {0, 999, nil},
		"one step early":                         {0, 1001, nil},
		"two steps late":                         {0, 998, mfa.ErrWrong},
		"two steps early":                        {0, 1002, mfa.ErrWrong},
		"the same step again":                    {1000, 1000, mfa.ErrReplayed},
		"an older step after a newer":            {1001, 1000, mfa.ErrReplayed},
		"a newer step after an older":            {999, 1000, nil},
		"the clock was set back after a sign-in": {5000, 1000, mfa.ErrReplayed},
	} {
		t.Run(reason, func(t *testing.T) {
			code := codeAt(t, rfcKey, tc.step)
			if _, err := finish(t, credential(t, rfcKey, tc.kept), code, now); !errors.Is(err, tc.want) {
				t.Fatalf("err = %v, want %v", err, tc.want)
			}
		})
	}
}

// codeAt computes the code of a step; the vectors of the RFCs hold the same computation to account.
func codeAt(t testing.TB, key string, step int64) string {
	t.Helper()
	code, err := hotp.GenerateCode(encoding.EncodeToString([]byte(key)), uint64(step))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestCodeOfAnEmptyOrShortSecretIsRefused(t *testing.T) {
	for _, key := range []string{"", "x", strings.Repeat("x", minKeySize-1)} {
		for n := range 2000 { // the code of the empty key at step 0 and 1 is among them
			if _, err := finish(t, credential(t, key, -10), fmt.Sprintf("%06d", n), 0); !errors.Is(err, mfa.ErrWrong) {
				t.Fatalf("key of %d bytes verifies %06d", len(key), n)
			}
		}
	}
	// 328482 is HOTP of the empty key at count 0, as anybody can compute it.
	if _, err := finish(t, credential(t, "", -10), "328482", 0); !errors.Is(err, mfa.ErrWrong) {
		t.Fatal("the empty key verifies its code")
	}
}

func TestWhatPeopleTypeIsTaken(t *testing.T) {
	for _, typed := range []string{"755224", " 755 224 ", "755-224", "７５５２２４", "755\u00a0224\n"} {
		if _, err := finish(t, credential(t, rfcKey, -1), typed, 0); err != nil {
			t.Errorf("%q: %v", typed, err)
		}
	}
	for _, typed := range []string{"", "75522", "7552245", "75522a", "٧٥٥٢٢٤", "755224755224", "+75522", "755224\x00"} {
		if _, err := finish(t, credential(t, rfcKey, -1), typed, 0); !errors.Is(err, mfa.ErrWrong) {
			t.Errorf("%q is taken", typed)
		}
	}
}

func TestTheRightOneOfSeveralApps(t *testing.T) {
	other := credential(t, "another key of 20 by", -1)
	other.ID = "other"
	got, err := Factor{}.Finish([]mfa.Credential{other, credential(t, rfcKey, -1)}, "755224", time.Unix(0, 0))
	if err != nil || got.ID != "app" {
		t.Fatalf("Finish = %q, %v", got.ID, err)
	}
	if _, err := (Factor{}).Finish(nil, "755224", time.Unix(0, 0)); !errors.Is(err, mfa.ErrWrong) {
		t.Fatalf("without a credential: %v", err)
	}
}

func TestRegistration(t *testing.T) {
	user := &mfa.User{Name: "alice+x@example.com"}
	now := time.Unix(1_700_000_000, 0)
	ch, err := Factor{Issuer: "Example & Söhne"}.BeginRegistration(user, mfa.Site{Host: "hr.example.com"}, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(ch.URI)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Example & Söhne:alice+x@example.com" {
		t.Fatalf("URI %s: %v", ch.URI, err)
	}
	if q := u.Query(); q.Get("secret") != ch.Key || q.Get("issuer") != "Example & Söhne" || strings.Contains(ch.URI, "+") {
		t.Fatalf("URI %s", ch.URI)
	}
	raw, err := encoding.DecodeString(ch.Key)
	if err != nil || len(raw) != KeySize {
		t.Fatalf("key %q: %v", ch.Key, err)
	}
	if _, err := (Factor{}).FinishRegistration(ch.State, nil, "12345", now); !errors.Is(err, mfa.ErrWrong) {
		t.Fatalf("registered without a code: %v", err)
	}
	code := codeAt(t, string(raw), now.Unix()/30)
	c, err := Factor{}.FinishRegistration(ch.State, nil, code, now)
	if err != nil {
		t.Fatal(err)
	}
	// The code that confirmed the registration is used up by it.
	if _, err := (Factor{}).Finish([]mfa.Credential{c}, code, now); !errors.Is(err, mfa.ErrReplayed) {
		t.Fatalf("the code of the registration again: %v", err)
	}

	if ch, err := (Factor{}).BeginRegistration(user, mfa.Site{Host: "hr.example.com"}, nil, now); err != nil || !strings.Contains(ch.URI, "issuer=hr.example.com") {
		t.Fatalf("without an issuer the host stands for it: %s, %v", ch.URI, err)
	}
}

func FuzzFinish(f *testing.F) {
	f.Add("755224", `{"key":"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ","step":0}`, int64(59))
	f.Add("", `{}`, int64(0))
	f.Fuzz(func(t *testing.T, answer, stored string, unix int64) {
		next, err := Factor{}.Finish([]mfa.Credential{{Data: []byte(stored)}}, answer, time.Unix(unix, 0))
		if err != nil {
			return
		}
		if _, err := (Factor{}).Finish([]mfa.Credential{next}, answer, time.Unix(unix, 0)); err == nil {
			t.Fatal("the same code twice")
		}
	})
}

func BenchmarkFinish(b *testing.B) {
	c := credential(b, rfcKey, -1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := finish(b, c, "755224", 0); err != nil {
			b.Fatal(err)
		}
	}
}
