package password

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-crypt/crypt/algorithm"
)

// Digests of "correct horse", unless they say otherwise. Those of bcrypt were made by libxcrypt, those of argon2id are
// from the reference implementation's tests or of the least cost.
const (
	argon2idLeast     = "$argon2id$v=19$m=19456,t=2,p=1$TYSgT/BQ2oh3pbHH1O4CyA$yEv2H4BaMHdZQsQduolOIzh+xedW7A7g2Lf6AWTsO4U"
	argon2idReference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc" // "password"
	bcrypt2a          = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"                           // "U*U"
	bcrypt2b          = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
	bcrypt2y          = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
	bcrypt10          = "$2b$10$abcdefghijklmnopqrstuu23JPZtHcGhwXSF41f93o/7vBdDut3Xu"
	bcryptLongest     = "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i" // 72 times x
	bcryptShort       = "$2b$04$abcdefghijklmnopqrstuuMFdJu9yVgmagVAIC24fOZkaFqd3s9JC" // "a"
	bcryptEmpty       = "$2b$04$abcdefghijklmnopqrstuubyCG3zY1GIXMyxfivm.ClDiInHzxjiq" // ""
	bcryptUTF8        = "$2a$05$abcdefghijklmnopqrstuucZGbUxuMlEqps0qcu2pjhO7vaatQZIC" // "pässword"
)

func mustParse(t testing.TB, encoded string) Digest {
	t.Helper()
	d, err := Parse(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestVerify(t *testing.T) {
	for reason, tc := range map[string]struct {
		encoded, password string
		want              bool
	}{
		"argon2id, right":                       {argon2idLeast, "correct horse", true},
		"argon2id, wrong":                       {argon2idLeast, "Correct horse", false},
		"argon2id of the reference, right":      {argon2idReference, "password", true},
		"argon2id, empty":                       {argon2idLeast, "", false},
		"bcrypt 2a, right":                      {bcrypt2a, "U*U", true},
		"bcrypt 2a, wrong":                      {bcrypt2a, "U*U*", false},
		"bcrypt 2b, right":                      {bcrypt2b, "correct horse", true},
		"bcrypt 2y, right":                      {bcrypt2y, "correct horse", true},
		"bcrypt, space behind":                  {bcrypt2b, "correct horse ", false},
		"bcrypt, 72 bytes":                      {bcryptLongest, strings.Repeat("x", 72), true},
		"bcrypt, 73 bytes, of which 72 right":   {bcryptLongest, strings.Repeat("x", 73), false},
		"bcrypt, 1024 bytes, of which 72 right": {bcryptLongest, strings.Repeat("x", 1024), false},
		"bcrypt, repeated with NUL between":     {bcryptShort, "a\x00a", false},
		"bcrypt, NUL behind":                    {bcryptShort, "a\x00", false},
		"bcrypt, one letter":                    {bcryptShort, "a", true},
		"bcrypt, empty password of a digest":    {bcryptEmpty, "", false},
		"bcrypt, not ASCII":                     {bcryptUTF8, "p\u00e4ssword", true},
		"bcrypt, not ASCII, decomposed":         {bcryptUTF8, "pa\u0308ssword", false},
	} {
		t.Run(reason, func(t *testing.T) {
			if got := mustParse(t, tc.encoded).Verify(tc.password); got != tc.want {
				t.Fatalf("Verify says %v", got)
			}
		})
	}
}

// counter counts how often a password is hashed. Every password is right.
type counter struct {
	algorithm.Digest
	hashed int
}

func (c *counter) Match(string) bool { c.hashed++; return true }

func TestPasswordThatCanNotBeRightIsHashedAllTheSame(t *testing.T) {
	for reason, tc := range map[string]struct {
		algorithm Algorithm
		password  string
	}{
		"bcrypt, empty":   {Bcrypt, ""},
		"bcrypt, NUL":     {Bcrypt, "a\x00a"},
		"bcrypt, long":    {Bcrypt, strings.Repeat("x", 73)},
		"bcrypt, longest": {Bcrypt, strings.Repeat("x", MaxLength)},
		"argon2id, empty": {Argon2id, ""},
	} {
		t.Run(reason, func(t *testing.T) {
			var c counter
			if (Digest{cost: Cost{Algorithm: tc.algorithm}, digest: &c}).Verify(tc.password) || c.hashed != 1 {
				t.Fatalf("it is right, or was hashed %d times", c.hashed)
			}
		})
	}
}

func TestZeroDigestBelongsToNoPassword(t *testing.T) {
	var zero Digest
	for _, password := range []string{"", "a", strings.Repeat("a", MaxLength+1)} {
		if zero.Verify(password) {
			t.Fatalf("it belongs to %.10q", password)
		}
	}
	if !zero.IsZero() || zero.Cost() != (Cost{}) || zero.String() != "no digest" {
		t.Fatal("it is something")
	}
}

func TestDigestStaysOutOfLogs(t *testing.T) {
	for _, encoded := range []string{argon2idLeast, bcrypt2b} {
		d := mustParse(t, encoded)
		if d.Encoded() != encoded {
			t.Fatalf("Encoded gives %q", d.Encoded())
		}
		asJSON, err := json.Marshal(struct{ Digest any }{d})
		if err != nil {
			t.Fatal(err)
		}
		key := encoded[len(encoded)-20:]
		for _, text := range []string{fmt.Sprint(d), fmt.Sprintf("%+v", d), fmt.Sprintf("%#v", d), fmt.Sprintf("%v", &d), string(asJSON)} {
			if strings.Contains(text, key) {
				t.Fatalf("the digest stands in %s", text)
			}
		}
	}
}

func TestCheapBcryptIsAcceptedWithAWarning(t *testing.T) {
	if w := mustParse(t, bcrypt2b).Warning(); !strings.Contains(w, "cost 4 ") || !strings.Contains(w, "10") || !strings.Contains(w, "hash-password") {
		t.Errorf("the warning at cost 4 is %q", w)
	}
	for _, encoded := range []string{bcrypt10, argon2idLeast} {
		if w := mustParse(t, encoded).Warning(); w != "" {
			t.Errorf("%v has the warning %q", mustParse(t, encoded), w)
		}
	}
}

func TestHashIsParsedAndVerified(t *testing.T) {
	first, err := Hash("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	d := mustParse(t, first)
	if d.Cost() != DefaultCost {
		t.Errorf("it costs %v", d.Cost())
	}
	if !d.Verify("correct horse") || d.Verify("correct horse ") {
		t.Error("it is not of its password alone")
	}
	second, err := Hash("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("two digests have one salt")
	}
}

func TestHashRefusesWhatVerifyRefuses(t *testing.T) {
	for _, password := range []string{"", strings.Repeat("a", MaxLength+1)} {
		if got, err := Hash(password); err != ErrLength {
			t.Errorf("Hash of %d bytes: %q, %v", len(password), got, err)
		}
	}
}
