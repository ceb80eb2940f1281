package legacy

import (
	"net/http"
	"slices"
	"testing"
)

func TestChallengesThatInviteLegacyAreRemoved(t *testing.T) {
	for reason, tc := range map[string]struct{ in, want []string }{
		"basic":                            {[]string{`Basic realm="x"`}, nil},
		"basic in any case":                {[]string{`BASIC realm="x"`}, nil},
		"basic without parameters":         {[]string{"Basic"}, nil},
		"digest, ntlm, negotiate":          {[]string{`Digest realm="x", nonce="y"`, "NTLM", "Negotiate"}, nil},
		"bearer stays":                     {[]string{`Bearer realm="x"`}, []string{`Bearer realm="x"`}},
		"bearer beside basic":              {[]string{`Bearer realm="x"`, `Basic realm="x"`}, []string{`Bearer realm="x"`}},
		"two challenges in one value":      {[]string{`Bearer realm="x", Basic realm="y"`}, nil},
		"two challenges without a space":   {[]string{`Bearer realm="x",Basic realm="y"`}, nil},
		"a realm that is called basic":     {[]string{`Bearer realm="a, Basic b"`}, []string{`Bearer realm="a, Basic b"`}},
		"a realm with a quoted quote":      {[]string{`Bearer realm="a\", Basic b"`}, []string{`Bearer realm="a\", Basic b"`}},
		"a parameter that is called basic": {[]string{`Bearer realm="x", basic=1`}, []string{`Bearer realm="x", basic=1`}},
		"empty elements before basic":      {[]string{`, , Basic realm="x"`}, nil},
	} {
		t.Run(reason, func(t *testing.T) {
			h := http.Header{"Www-Authenticate": tc.in}
			RemoveChallenges(h, nil)
			if got := h["Www-Authenticate"]; !slices.Equal(got, tc.want) {
				t.Fatalf("left: %q, want %q", got, tc.want)
			}
		})
	}
}

func TestChallengesThatAreWantedStay(t *testing.T) {
	only := func(wanted Class) func(Class) bool { return func(c Class) bool { return c == wanted } }
	for reason, tc := range map[string]struct {
		in   []string
		keep func(Class) bool
		want []string
	}{
		"basic":                            {[]string{`Basic realm="x"`, `Digest realm="x"`}, only(Basic), []string{`Basic realm="x"`}},
		"negotiate for kerberos":           {[]string{"Negotiate", "NTLM"}, only(Kerberos), []string{"Negotiate"}},
		"negotiate for ntlm":               {[]string{"Negotiate", "NTLM"}, only(NTLM), []string{"Negotiate", "NTLM"}},
		"one beside an unwanted one":       {[]string{`Basic realm="x", Digest realm="y"`}, only(Basic), nil},
		"two wanted ones in a value":       {[]string{`Basic realm="x", Basic realm="y"`}, only(Basic), []string{`Basic realm="x", Basic realm="y"`}},
		"what nobody asks about":           {[]string{`Bearer realm="x"`, "Magic"}, only(Basic), []string{`Bearer realm="x"`, "Magic"}},
		"none is wanted, and nobody asked": {[]string{`Basic realm="x"`}, nil, nil},
	} {
		t.Run(reason, func(t *testing.T) {
			h := http.Header{"Www-Authenticate": tc.in}
			RemoveChallenges(h, tc.keep)
			if got := h["Www-Authenticate"]; !slices.Equal(got, tc.want) {
				t.Fatalf("left: %q, want %q", got, tc.want)
			}
		})
	}
}
