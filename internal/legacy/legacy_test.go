package legacy

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestClassify(t *testing.T) {
	for reason, tc := range map[string]struct {
		values []string
		want   Class
	}{
		"no header":                      {nil, None},
		"basic":                          {[]string{"Basic " + b64("alice:pw")}, Basic},
		"basic in any case":              {[]string{"bAsIc " + b64("alice:pw")}, Basic},
		"basic behind a tab":             {[]string{"Basic\t" + b64("alice:pw")}, Basic},
		"basic behind many spaces":       {[]string{"  Basic   " + b64("alice:pw") + " "}, Basic},
		"basic with an empty password":   {[]string{"Basic " + b64("alice:")}, Basic},
		"digest":                         {[]string{`Digest username="alice", realm="x"`}, Digest},
		"ntlm":                           {[]string{"NTLM TlRMTVNTUAAB"}, NTLM},
		"negotiate with ntlm inside":     {[]string{"Negotiate " + b64("NTLMSSP\x00\x01")}, NTLM},
		"negotiate with kerberos inside": {[]string{"Negotiate " + b64("`\x82")}, Kerberos},
		"negotiate with nothing":         {[]string{"Negotiate"}, Kerberos},
		"bearer":                         {[]string{"Bearer abc.def-ghi_jkl~+/="}, None},
		"dpop":                           {[]string{"DPoP abc"}, None},
		"private token":                  {[]string{`PrivateToken token="abc"`}, None},
		"aws signature":                  {[]string{"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c"}, None},
		"bearer, then basic":             {[]string{"Bearer x", "Basic " + b64("a:b")}, Basic},
		"basic, then bearer":             {[]string{"Basic " + b64("a:b"), "Bearer x"}, Basic},
		"bearer and basic in one value":  {[]string{"Bearer x, Basic " + b64("a:b")}, Malformed},
		"bearer and basic behind a tab":  {[]string{"Bearer x\tBasic " + b64("a:b")}, Malformed},
		"bearer with nothing":            {[]string{"Bearer"}, Malformed},
		"empty value":                    {[]string{""}, Malformed},
		"only spaces":                    {[]string{"   "}, Malformed},
		"no scheme":                      {[]string{b64("alice:pw")}, Malformed},
		"no space":                       {[]string{"Basic" + b64("alice:pw")}, Malformed},
		"bad base64":                     {[]string{"Basic !!!!"}, Malformed},
		"base64 cut":                     {[]string{"Basic YWxpY2U6c"}, Malformed},
		"no colon":                       {[]string{"Basic " + b64("alice")}, Malformed},
		"unknown scheme":                 {[]string{"Magic abc"}, Malformed},
		"control byte":                   {[]string{"Bearer a\x01b"}, Malformed},
		"byte outside of ASCII":          {[]string{"Bearer \xc3\xa9"}, Malformed},
		"no-break space behind basic":    {[]string{"Basic\u00a0" + b64("a:b")}, Malformed},
		"scheme with a colon":            {[]string{"Basic: " + b64("a:b")}, Malformed},
		"quoted scheme":                  {[]string{`"Basic" ` + b64("a:b")}, Malformed},
	} {
		t.Run(reason, func(t *testing.T) {
			if got := Classify(tc.values); got != tc.want {
				t.Fatalf("Classify(%q) = %q, want %q", tc.values, got, tc.want)
			}
		})
	}
}

func FuzzClassify(f *testing.F) {
	for _, s := range []string{"Basic YTpi", "Bearer x", "Negotiate ", "digest", " \t", "Basic\tYTpi"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		class := Classify([]string{value})
		// What a lenient server takes for Basic must not pass as nothing.
		scheme := strings.ToLower(strings.TrimLeft(value, " \t"))
		for _, legacy := range []string{"basic", "digest", "ntlm", "negotiate"} {
			if rest, ok := strings.CutPrefix(scheme, legacy); ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t') && class == None {
				t.Fatalf("%q passes", value)
			}
		}
	})
}

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

func BenchmarkClassifyNothing(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if Classify(nil) != None {
			b.Fatal("something")
		}
	}
}
