package password

import (
	"errors"
	"strings"
	"testing"
)

const (
	salt16 = "TYSgT/BQ2oh3pbHH1O4CyA"
	key32  = "yEv2H4BaMHdZQsQduolOIzh+xedW7A7g2Lf6AWTsO4U"
)

func TestParseAccepts(t *testing.T) {
	for reason, tc := range map[string]struct {
		encoded string
		cost    string
	}{
		"argon2id at the least":             {argon2idLeast, "argon2id m=19456,t=2,p=1"},
		"argon2id with a salt of 8 bytes":   {argon2idReference, "argon2id m=65536,t=2,p=1"},
		"argon2id with several lanes":       {"$argon2id$v=19$m=65536,t=3,p=4$" + salt16 + "$" + key32, "argon2id m=65536,t=3,p=4"},
		"argon2id at libsodium's most":      {"$argon2id$v=19$m=1048576,t=4,p=1$" + salt16 + "$" + key32, "argon2id m=1048576,t=4,p=1"},
		"argon2id with the most passes":     {"$argon2id$v=19$m=19456,t=100,p=1$" + salt16 + "$" + key32, "argon2id m=19456,t=100,p=1"},
		"argon2id with a key of 16 bytes":   {"$argon2id$v=19$m=19456,t=2,p=1$" + salt16 + "$" + salt16, "argon2id m=19456,t=2,p=1"},
		"bcrypt 2a":                         {bcrypt2a, "bcrypt cost=5"},
		"bcrypt 2b":                         {bcrypt2b, "bcrypt cost=4"},
		"bcrypt 2y":                         {bcrypt2y, "bcrypt cost=4"},
		"bcrypt at the most":                {"$2b$16$" + bcrypt2b[7:], "bcrypt cost=16"},
		"bcrypt with bits behind its salt":  {"$2b$04$abcdefghijklmnopqrstuv" + bcrypt2b[29:], "bcrypt cost=4"},
		"bcrypt as htpasswd of Apache does": {"$2y$05$XjDawPfAfPDZ.oAPJGo5segwd8Kvm072AZtxEpOwtvJVrYZDFbSFO", "bcrypt cost=5"},
	} {
		t.Run(reason, func(t *testing.T) {
			d, err := Parse(tc.encoded)
			if err != nil {
				t.Fatal(err)
			}
			if d.Encoded() != tc.encoded || d.String() != tc.cost || d.IsZero() {
				t.Fatalf("got %v of %q", d, d.Encoded())
			}
		})
	}
}

func TestParseRefusesByName(t *testing.T) {
	argon2id := func(numbers string) string { return "$argon2id$v=19$" + numbers + "$" + salt16 + "$" + key32 }
	for reason, tc := range map[string]struct{ encoded, want string }{
		"empty":                        {"", "it is empty"},
		"plain text":                   {"correct horse", "plain text"},
		"plain text that is a number":  {"12345678", "plain text"},
		"DES":                          {"rqXexS6ZhobKA", "plain text, or no digest"},
		"argon2i":                      {strings.Replace(argon2idLeast, "id", "i", 1), "it is argon2i,"},
		"argon2d":                      {strings.Replace(argon2idLeast, "id", "d", 1), "it is argon2d,"},
		"argon2 of no kind":            {strings.Replace(argon2idLeast, "id", "x", 1), "unknown kind of argon2"},
		"md5-crypt":                    {"$1$abcdefgh$G//4keteveJp0qb8z2DxG/", "it is md5-crypt"},
		"md5-crypt of Apache":          {"$apr1$abcdefgh$4bGxGJjkC1mbwC4LhBAxu0", "it is Apache's md5-crypt"},
		"sha256-crypt":                 {"$5$abc$JKE0YKrBgMrTJt3DSxMGIU0pJGNkPSrPWzuYrLG1Gj1", "it is sha256-crypt"},
		"sha512-crypt":                 {"$6$abc$dv7vAygfDghQeO8lNAuLv4y4HAQXw9d6a14dcjFGfTijFc0S6MgzM7g53hZv6MaGDXhNpGxhpXakWuTlqHtzn.", "it is sha512-crypt"},
		"scrypt":                       {"$scrypt$ln=16,r=8,p=1$" + salt16 + "$" + key32, "it is scrypt"},
		"yescrypt":                     {"$y$j9T$abcdefgh$0123456789", "it is yescrypt"},
		"PBKDF2":                       {"$pbkdf2-sha512$310000$" + salt16 + "$" + key32, "it is PBKDF2"},
		"PBKDF2 of Django":             {"pbkdf2_sha256$600000$abc$def=", "it is PBKDF2"},
		"phpass":                       {"$P$BabcdefghijklmnopqrstuvwxyzABCDE", "it is phpass"},
		"NT hash":                      {"$3$$8846f7eaee8fb117ad06bdd830b7586c", "it is an NT hash"},
		"SHA of Apache":                {"{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "a SHA-1 digest without salt"},
		"SSHA":                         {"{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "a SHA-1 digest"},
		"MD5 without salt":             {"5f4dcc3b5aa765d61d8327deb882cf99", "without salt"},
		"SHA-256 without salt":         {strings.Repeat("5f4dcc3b", 8), "without salt"},
		"locked in shadow":             {"!" + bcrypt2b, "`disabled: true`"},
		"star of shadow":               {"*", "`disabled: true`"},
		"bcrypt 2x":                    {strings.Replace(bcrypt2b, "2b", "2x", 1), "version 2x"},
		"bcrypt 2":                     {strings.Replace(bcrypt2b, "2b", "2", 1), "version 2,"},
		"bcrypt 2c":                    {strings.Replace(bcrypt2b, "2b", "2c", 1), "unknown version of bcrypt"},
		"bcrypt-sha256":                {"$bcrypt-sha256$v=2,t=2b,r=12$" + bcrypt2b[7:29] + "$" + bcrypt2b[29:], "bcrypt-sha256"},
		"unknown":                      {"$shiny$abc", "not known here"},
		"white space around":           {argon2idLeast + "\n", "white space"},
		"too long":                     {argon2idLeast + strings.Repeat("A", 256), "longer than 256 bytes"},
		"too little memory":            {argon2id("m=19455,t=2,p=1"), "m=19455,t=2,p=1 is guessed too fast; want at least m=19456 (KiB), t=2 and p=1"},
		"too few passes":               {argon2id("m=65536,t=1,p=4"), "at least m=19456 (KiB), t=2 and p=1"},
		"no lane":                      {argon2id("m=19456,t=2,p=0"), "at least m=19456 (KiB), t=2 and p=1"},
		"no memory":                    {argon2id("m=0,t=2,p=1"), "too fast"},
		"too much memory":              {argon2id("m=1048577,t=2,p=1"), "exhaust this machine; want at most m=1048576 (KiB), t=100 and p=64"},
		"too many passes":              {argon2id("m=19456,t=101,p=1"), "exhaust"},
		"too many lanes":               {argon2id("m=19456,t=2,p=65"), "exhaust"},
		"much memory many times":       {argon2id("m=1048576,t=5,p=1"), "m times t at most 4194304"},
		"numbers beyond 32 bits":       {argon2id("m=4294986752,t=2,p=1"), "exhaust"},
		"numbers beyond all bounds":    {argon2id("m=99999999999999999999,t=2,p=1"), "damaged"},
		"leading zero":                 {argon2id("m=019456,t=2,p=1"), "damaged"},
		"another order":                {argon2id("t=2,m=19456,p=1"), "damaged"},
		"a parameter too many":         {argon2id("m=19456,t=2,p=1,k=32"), "damaged"},
		"negative":                     {argon2id("m=-1,t=2,p=1"), "damaged"},
		"old version":                  {strings.Replace(argon2idLeast, "v=19", "v=16", 1), "want v=19"},
		"no version":                   {strings.Replace(argon2idLeast, "$v=19", "", 1), "damaged"},
		"no key":                       {strings.TrimSuffix(argon2idLeast, "$"+key32), "damaged"},
		"padding":                      {argon2idLeast + "=", "damaged"},
		"line break inside":            {argon2idLeast[:60] + "\n" + argon2idLeast[60:], "damaged"},
		"cut":                          {argon2idLeast[:len(argon2idLeast)-2], "damaged"},
		"bits behind the key":          {argon2idLeast[:len(argon2idLeast)-1] + "V", "damaged"},
		"short salt":                   {"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbA$" + key32, "salt has 7 bytes; want 8 to 64"},
		"long salt":                    {"$argon2id$v=19$m=19456,t=2,p=1$" + strings.Repeat("AAAA", 22) + "$" + key32, "salt has 66 bytes"},
		"short key":                    {"$argon2id$v=19$m=19456,t=2,p=1$" + salt16 + "$" + key32[:20], "key has 15 bytes; want 16 to 64"},
		"long key":                     {"$argon2id$v=19$m=19456,t=2,p=1$" + salt16 + "$" + strings.Repeat("AAAA", 22), "key has 66 bytes"},
		"bcrypt that has no such cost": {"$2b$03$" + bcrypt2b[7:], "no cost 3"},
		"bcrypt at cost 0":             {"$2b$00$" + bcrypt2b[7:], "no cost 0"},
		"bcrypt that takes too long":   {"$2b$17$" + bcrypt2b[7:], "cost 17 would let a few sign-ins exhaust this machine; want 10 to 16"},
		"bcrypt with one digit":        {"$2b$4$" + bcrypt2b[7:], "damaged"},
		"bcrypt that is cut":           {bcrypt2b[:59], "damaged"},
		"bcrypt with a foreign letter": {bcrypt2b[:59] + "=", "damaged"},
		"bcrypt, bits behind the key":  {bcrypt2b[:59] + "f", "damaged"},
	} {
		t.Run(reason, func(t *testing.T) {
			d, err := Parse(tc.encoded)
			if !errors.Is(err, ErrDigest) || !d.IsZero() {
				t.Fatalf("got %v, %v", d, err)
			}
			text := err.Error()
			if !strings.Contains(text, tc.want) {
				t.Errorf("the error doesn't say %q: %s", tc.want, text)
			}
			if !strings.Contains(text, "run `caddy-mfa mfa hash-password`") {
				t.Errorf("the error doesn't say what to do: %s", text)
			}
			if len(tc.encoded) > 4 && strings.Contains(text, tc.encoded) {
				t.Errorf("the error quotes what may be a password: %s", text)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, encoded := range []string{argon2idLeast, argon2idReference, bcrypt2a, bcrypt2b, bcrypt2y, "", "secret", "$6$abc$def", "{SSHA}abc"} {
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		d, err := Parse(encoded)
		if err != nil {
			if !errors.Is(err, ErrDigest) || !d.IsZero() {
				t.Fatalf("%q: %v, %v", encoded, d, err)
			}
			return
		}
		c := d.Cost()
		switch c.Algorithm {
		case Argon2id:
			if c.Memory < minMemory || c.Memory > maxMemory || c.Passes < minPasses || c.Lanes < minLanes || uint64(c.Memory)*uint64(c.Passes) > maxWork {
				t.Fatalf("%q costs %v", encoded, c)
			}
		case Bcrypt:
			if c.Exponent < minBcryptCost || c.Exponent > maxBcryptCost {
				t.Fatalf("%q costs %v", encoded, c)
			}
		default:
			t.Fatalf("%q has the algorithm %q", encoded, c.Algorithm)
		}
		again, err := Parse(d.Encoded())
		if err != nil || again.Encoded() != encoded || again.Cost() != c {
			t.Fatalf("%q is read again as %v, %v", encoded, again, err)
		}
	})
}
