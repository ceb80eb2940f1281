package legacy

import (
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestSchemes(t *testing.T) {
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
		"unpadded":                       {[]string{"Basic YTpiYg"}, Basic},
		"padded":                         {[]string{"Basic YTpiYg=="}, Basic},
		"half padded":                    {[]string{"Basic YTpiYg="}, Malformed},
		"padded too much":                {[]string{"Basic YTpi===="}, Malformed},
		"base64 of URLs":                 {[]string{"Basic YTr_-w=="}, Malformed},
		"bits behind the last byte":      {[]string{"Basic YTpiYh=="}, Malformed},
		"two tokens in one":              {[]string{"Basic YTpi=YTpj"}, Malformed},
		"two tokens":                     {[]string{"Basic YTpi YTpj"}, Malformed},
		"basic with nothing":             {[]string{"Basic"}, Malformed},
		"a NUL in the name":              {[]string{"Basic " + b64("alice\x00x:pw")}, Malformed},
		"a line break in the password":   {[]string{"Basic " + b64("alice:p\nw")}, Malformed},
		"a password in Latin-1":          {[]string{"Basic " + b64("alice:\xe9")}, Basic},
		"a colon in the password":        {[]string{"Basic " + b64("alice:p:w")}, Basic},
		"negotiate with bad base64":      {[]string{"Negotiate %%%"}, Malformed},
		"kerberos by its name":           {[]string{"Kerberos " + b64("`\x82")}, Kerberos},
		"dpop and basic in one value":    {[]string{"DPoP x, Basic " + b64("a:b")}, Malformed},
		"basic among parameters":         {[]string{`Hawk id="a", Basic ` + b64("a:b")}, Malformed},
		"basic in a quoted parameter":    {[]string{`Hawk id="a, Basic YTpi"`}, Malformed},
		"basic behind a semicolon":       {[]string{`PrivateToken token="a"; basic YTpi`}, Malformed},
		"basic behind digest":            {[]string{`Digest username="a", Basic YTpi`}, Malformed},
		"a realm that is called basic":   {[]string{`Digest username="a", realm="x, Basic y"`}, Digest},
		"a realm in OAuth 1":             {[]string{`OAuth realm="basic", oauth_consumer_key="a"`}, OAuth1},
		"basic beside digest":            {[]string{"Basic " + b64("a:b"), `Digest username="a"`}, Malformed},
		"digest beside basic":            {[]string{`Digest username="a"`, "Basic " + b64("a:b")}, Malformed},
		"digest beside kerberos":         {[]string{`Digest username="a"`, "Negotiate"}, Malformed},
		"basic twice":                    {[]string{"Basic " + b64("a:b"), "Basic " + b64("a:c")}, Basic},
		"a signature beside digest":      {[]string{`Hawk id="a"`, `Digest username="a"`}, Digest},
		"malformed beside basic":         {[]string{"Basic " + b64("a:b"), "Magic"}, Malformed},
		"signed beside basic":            {[]string{`Hawk id="a"`, "Basic " + b64("a:b")}, Basic},
		"empty beside bearer":            {[]string{"Bearer x", ""}, Malformed},
		"scram":                          {[]string{"SCRAM-SHA-256 data=biwsbj1hbGljZQ=="}, Malformed},
		"a scheme of great length":       {[]string{"Basicbasicbasicbasicbasicbasic x"}, Malformed},
		"aws signature":                  {[]string{"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c"}, AWSSigV4},
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
			if got := Inspect(&Request{Header: http.Header{"Authorization": tc.values}}).Class; got != tc.want {
				t.Fatalf("%q is %q, want %q", tc.values, got, tc.want)
			}
		})
	}
}

// authenticate is NTLM's third message.
func authenticate(domain, user string, unicode bool) []byte {
	encode := func(s string) []byte {
		if !unicode {
			return []byte(s)
		}
		var b []byte
		for _, u := range utf16.Encode([]rune(s)) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		return b
	}
	payload := slices.Concat(encode(domain), encode(user))
	m := make([]byte, 64)
	copy(m, "NTLMSSP\x00")
	m[8] = 3
	field := func(at, length, offset int) {
		binary.LittleEndian.PutUint16(m[at:], uint16(length))
		binary.LittleEndian.PutUint16(m[at+2:], uint16(length))
		binary.LittleEndian.PutUint32(m[at+4:], uint32(offset))
	}
	field(28, len(encode(domain)), 64)
	field(36, len(encode(user)), 64+len(encode(domain)))
	if unicode {
		m[60] = 1
	}
	return append(m, payload...)
}

func TestWhoIsNamed(t *testing.T) {
	ntlm := func(m []byte) string { return base64.StdEncoding.EncodeToString(m) }
	far := authenticate("CORP", "alice", true)
	binary.LittleEndian.PutUint32(far[40:], 0xffffffff)
	for reason, tc := range map[string]struct {
		values []string
		scheme Class
		user   string
		basic  *Credential
	}{
		"basic":                              {[]string{"Basic " + b64("alice:pw")}, Basic, "alice", &Credential{"alice", "pw"}},
		"basic with a colon in the password": {[]string{"Basic " + b64("alice:p:w")}, Basic, "alice", &Credential{"alice", "p:w"}},
		"basic in UTF-8":                     {[]string{"Basic " + b64("zoë:pw")}, Basic, "zoë", &Credential{"zoë", "pw"}},
		"a name in Latin-1 is not shown":     {[]string{"Basic " + b64("zo\xeb:pw")}, Basic, "", &Credential{"zo\xeb", "pw"}},
		"a token instead of a name":          {[]string{"Basic " + b64("ghp_0123456789:")}, Basic, "", &Credential{"ghp_0123456789", ""}},
		"a token beside GitHub's word":       {[]string{"Basic " + b64("ghp_0123456789:x-oauth-basic")}, Basic, "", &Credential{"ghp_0123456789", "x-oauth-basic"}},
		"a name of great length":             {[]string{"Basic " + b64(strings.Repeat("a", 300)+":pw")}, Basic, "", &Credential{strings.Repeat("a", 300), "pw"}},
		"two can't be verified":              {[]string{"Basic " + b64("alice:pw"), "Basic " + b64("bob:pw")}, Basic, "alice", nil},
		"nor one beside bearer":              {[]string{"Bearer x", "Basic " + b64("alice:pw")}, Basic, "alice", nil},
		"digest":                             {[]string{`Digest realm="a, username=b", username="alice", nonce="x"`}, Digest, "alice", nil},
		"digest with an escaped quote":       {[]string{`Digest username="al\"ice"`}, Digest, `al"ice`, nil},
		"digest without quotes":              {[]string{`Digest username=alice, qop=auth`}, Digest, "alice", nil},
		"digest in any case":                 {[]string{`DIGEST Username = "alice"`}, Digest, "alice", nil},
		"digest with an extended name":       {[]string{`Digest username*=UTF-8''zo%C3%AB, qop=auth`}, Digest, "zoë", nil},
		"digest with a hashed name":          {[]string{`Digest username="79beef", userhash=true`}, Digest, "", nil},
		"digest that is cut off":             {[]string{`Digest username="ali`}, Digest, "ali", nil},
		"digest without a name":              {[]string{`Digest nonce`}, Digest, "", nil},
		"ntlm, first message":                {[]string{"NTLM " + ntlm([]byte("NTLMSSP\x00\x01\x00\x00\x00"))}, NTLM, "", nil},
		"ntlm, third message":                {[]string{"NTLM " + ntlm(authenticate("CORP", "zoë", true))}, NTLM, "zoë", nil},
		"ntlm of old":                        {[]string{"NTLM " + ntlm(authenticate("CORP", "alice", false))}, NTLM, "alice", nil},
		"ntlm inside negotiate":              {[]string{"Negotiate " + ntlm(append([]byte("`\x30"), authenticate("CORP", "alice", true)...))}, NTLM, "alice", nil},
		"ntlm with an offset outside":        {[]string{"NTLM " + ntlm(far)}, NTLM, "", nil},
		"ntlm that is cut off":               {[]string{"NTLM " + ntlm(authenticate("CORP", "alice", true)[:70])}, NTLM, "", nil},
		"wsse":                               {[]string{`WSSE profile="UsernameToken", Username="alice"`}, WSSE, "alice", nil},
		"oauth 1":                            {[]string{`OAuth oauth_consumer_key="a"`}, OAuth1, "", nil},
		"hawk":                               {[]string{`Hawk id="a", mac="b"`}, Hawk, "", nil},
		"aws":                                {[]string{"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c"}, AWSSigV4, "", nil},
		"azure":                              {[]string{"SharedKey account:c2ln"}, HMAC, "", nil},
		"bearer":                             {[]string{"Bearer x"}, None, "", nil},
	} {
		t.Run(reason, func(t *testing.T) {
			f := Inspect(&Request{Method: "GET", Asked: "/", Rewritten: "/", Header: http.Header{"Authorization": tc.values}})
			if f.Scheme != tc.scheme || f.Class != tc.scheme || f.User != tc.user {
				t.Errorf("class %q, scheme %q, user %q, want %q of %q", f.Class, f.Scheme, f.User, tc.scheme, tc.user)
			}
			if (f.Basic == nil) != (tc.basic == nil) || f.Basic != nil && *f.Basic != *tc.basic {
				t.Errorf("to be verified: %t, want %t", f.Basic != nil, tc.basic != nil)
			}
		})
	}
}
