package password

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestWeakDigests holds what OpenSSL and Apache's htpasswd have made against passwords.
func TestWeakDigests(t *testing.T) {
	for encoded, tc := range map[string]struct {
		password  string
		algorithm Algorithm
	}{
		"$apr1$abcdefgh$sIQmFnT1CuEXAsyjuXjUX/": {"correct horse", APR1},
		"$apr1$01234567$pYCJts/nbIBnD9.DebaHS1": {"pässword-that-is-quite-long-and-more-than-sixteen", APR1},
		"{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=":     {"correct horse", SHA1},
	} {
		d, err := ParseWeak(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if d.Cost() != (Cost{Algorithm: tc.algorithm}) || d.Encoded() != encoded || d.IsZero() || strings.Contains(d.String(), encoded[6:]) {
			t.Errorf("%s is read as %v", encoded, d)
		}
		if !d.Verify(tc.password) {
			t.Errorf("%s: the right password is wrong", encoded)
		}
		for _, wrong := range []string{"", "Correct horse", tc.password + "x", tc.password[1:], tc.password + "\x00", strings.Repeat("x", MaxLength)} {
			if d.Verify(wrong) {
				t.Errorf("%s: %q is right", encoded, wrong)
			}
		}
		if w := d.Warning(); !strings.HasPrefix(w, string(tc.algorithm)+" is guessed in no time; ") {
			t.Errorf("%s: the warning is %q", encoded, w)
		}
		if _, err := Parse(encoded); !errors.Is(err, ErrDigest) {
			t.Errorf("%s is accepted as if it were no weak one: %v", encoded, err)
		}
	}
}

// TestNoPasswordIsEmpty uses digests of the empty password, which htpasswd makes without a word.
func TestNoPasswordIsEmpty(t *testing.T) {
	for _, encoded := range []string{"$apr1$a$lsAcX0kKaMIVmrCtUuk5b0", "{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk="} {
		d, err := ParseWeak(encoded)
		if err != nil || d.Verify("") {
			t.Errorf("%s: %v", encoded, err)
		}
	}
}

func TestParseWeakRefuses(t *testing.T) {
	for reason, encoded := range map[string]string{
		"nothing":                 "",
		"plain text":              "correct horse",
		"DES":                     "rqXexS6ZhobKA",
		"md5-crypt":               "$1$abcdefgh$G//4keteveJp0qb8z2DxG/",
		"bcrypt":                  bcrypt2b,
		"apr1 without key":        "$apr1$abcdefgh",
		"apr1 with an empty key":  "$apr1$abcdefgh$",
		"apr1 without salt":       "$apr1$$sIQmFnT1CuEXAsyjuXjUX/",
		"apr1 with too much salt": "$apr1$abcdefghi$sIQmFnT1CuEXAsyjuXjUX/",
		"apr1 with a short key":   "$apr1$abcdefgh$sIQmFnT1CuEXAsyjuXjUX",
		"apr1 with bits too many": "$apr1$abcdefgh$sIQmFnT1CuEXAsyjuXjUXz",
		"apr1 with a line break":  "$apr1$abcdefgh$sIQmFnT1CuEXAsyjuXjUX/\n",
		"SHA with nothing":        "{SHA}",
		"SHA that is short":       "{SHA}L55TUjtiq8FBorTWAZ0jy6g1",
		"SHA without padding":     "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A",
		"SHA with bits too many":  "{SHA}L55TUjtiq8FBorTWAZ0jy6g129B=",
		"SHA with a line break":   "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=\n",
		"SHA in lower case":       "{sha}L55TUjtiq8FBorTWAZ0jy6g129A=",
		"SHA with salt":           "{SSHA}L55TUjtiq8FBorTWAZ0jy6g129A=",
	} {
		d, err := ParseWeak(encoded)
		if !errors.Is(err, ErrDigest) || !d.IsZero() || len(encoded) > 8 && strings.Contains(err.Error(), encoded[len(encoded)-8:]) {
			t.Errorf("%s: %v, %v", reason, d, err)
		}
		if err != nil && !strings.HasSuffix(err.Error(), Reason(err)+"; "+remedy) {
			t.Errorf("%s: %q is not the reason of %v", reason, Reason(err), err)
		}
	}
	if got := Reason(ErrLength); got != ErrLength.Error() {
		t.Errorf("the reason of another error is %q", got)
	}
}

func TestWeakCostsAreTheirOwn(t *testing.T) {
	all := []Cost{{Algorithm: SHA1}, DefaultCost, {Algorithm: Bcrypt, Exponent: 10}, {Algorithm: APR1}, {}}
	slices.SortFunc(all, Cost.Compare)
	var names []string
	for _, c := range all {
		names = append(names, c.String())
	}
	if got := strings.Join(names, " | "); got != "no digest | apr1 | argon2id m=19456,t=2,p=1 | bcrypt cost=10 | sha1" {
		t.Error(got)
	}
}
