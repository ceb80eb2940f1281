package mfa

import (
	"errors"
	"strings"
	"testing"
)

func TestCanonicalNameIsOnePersonOrRefused(t *testing.T) {
	for reason, tc := range map[string]struct{ in, want string }{
		"plain":                          {"alice", "alice"},
		"case":                           {"ALICE", "alice"},
		"surrounding white space":        {" \talice\r\n", "alice"},
		"no-break space around":          {"\u00a0alice\u00a0", "alice"},
		"full width":                     {"ＡＬＩＣＥ", "alice"},
		"full-width space around":        {"\u3000alice", "alice"},
		"decomposed letters":             {"rene\u0301", "ren\u00e9"},
		"composed letters":               {"ren\u00e9", "ren\u00e9"},
		"kelvin sign":                    {"\u212aelvin", "kelvin"},
		"half-width katakana":            {"ｱｲ", "アイ"},
		"user principal name":            {"Alice@Example.COM", "alice@example.com"},
		"down-level logon name":          {`CORP\Alice`, `corp\alice`},
		"greek final sigma":              {"σίσυφος", "σίσυφοσ"},
		"greek capital sigma at the end": {"ΣΊΣΥΦΟΣ", "σίσυφοσ"},
		// Not "i": that could be another person.
		"turkish dotted capital letter": {"İ", "i\u0307"},
	} {
		t.Run(reason, func(t *testing.T) {
			got, err := CanonicalName(tc.in)
			if err != nil || got != tc.want {
				t.Fatalf("CanonicalName(%q) = %q, %v; want %q", tc.in, got, err, tc.want)
			}
		})
	}
	for reason, in := range map[string]string{
		"empty":                "",
		"only white space":     " \u3000\t",
		"space inside":         "alice example",
		"line break inside":    "alice\nadmin",
		"NUL":                  "alice\x00",
		"zero-width joiner":    "ali\u200dce",
		"zero-width space":     "ali\u200bce",
		"right-to-left marker": "alice\u202e",
		"soft hyphen":          "ali\u00adce",
		"emoji":                "alice😀",
		"invalid UTF-8":        "ali\xffce",
		"too long":             strings.Repeat("a", MaxUserName+1),
	} {
		t.Run("refuses "+reason, func(t *testing.T) {
			if got, err := CanonicalName(in); !errors.Is(err, ErrUserName) {
				t.Fatalf("CanonicalName(%q) = %q, %v; want ErrUserName", in, got, err)
			}
		})
	}
}

func FuzzCanonicalName(f *testing.F) {
	for _, s := range []string{"alice", "ＡＬＩＣＥ", "rene\u0301", "ΣΊΣΥΦΟΣ", "İ", "a\u0345", "\u212a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := CanonicalName(in)
		if err != nil {
			return
		}
		again, err := CanonicalName(got)
		if err != nil || again != got {
			t.Fatalf("CanonicalName(%q) = %q, and of that %q, %v", in, got, again, err)
		}
		if upper, err := CanonicalName(strings.ToUpper(got)); err == nil && isASCII(got) && upper != got {
			t.Fatalf("%q and its upper case have two names", got)
		}
	})
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
