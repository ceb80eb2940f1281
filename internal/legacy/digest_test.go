package legacy

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// exampleDigest is the answer in RFC 7616, section 3.9.1, over MD5.
const exampleDigest = `Digest username="Mufasa",
	realm="http-auth@example.org",
	uri="/dir/index.html",
	algorithm=MD5,
	nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
	nc=00000001,
	cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
	qop=auth,
	response="8ca523f5e9506fed4657c9700eebdbec",
	opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestTheExampleOfRFC7616IsRead(t *testing.T) {
	found := Inspect(&Request{Method: "GET", Asked: "/dir/index.html", Rewritten: "/dir/index.html", Header: http.Header{"Authorization": {oneLine(exampleDigest)}}})
	response, _ := hex.DecodeString("8ca523f5e9506fed4657c9700eebdbec")
	want := &DigestCredential{
		User: "Mufasa", Realm: "http-auth@example.org", Nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", URI: "/dir/index.html",
		CNonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", NC: "00000001", Count: 1, Algorithm: MD5, Response: response,
	}
	if found.Class != Digest || found.User != "Mufasa" || !reflect.DeepEqual(found.Digest, want) {
		t.Fatalf("%+v\n%+v", found, found.Digest)
	}
}

func TestDigestCredentials(t *testing.T) {
	plain := oneLine(exampleDigest)
	with := func(old, new string) string {
		if !strings.Contains(plain, old) {
			t.Fatalf("there is no %q", old)
		}
		return strings.Replace(plain, old, new, 1)
	}
	sha := strings.Repeat("ab", 32)
	for reason, c := range map[string]struct {
		value string
		ok    func(*DigestCredential) bool // nil: it is refused
	}{
		"as it is":                              {plain, func(c *DigestCredential) bool { return c.Count == 1 }},
		"without spaces":                        {strings.ReplaceAll(plain, ", ", ","), func(c *DigestCredential) bool { return c.User == "Mufasa" }},
		"with empty elements and spaces":        {with(", qop=auth", " ,, ,\tqop = auth ,"), func(c *DigestCredential) bool { return c.User == "Mufasa" }},
		"names in capitals":                     {with("username=", "USERNAME="), func(c *DigestCredential) bool { return c.User == "Mufasa" }},
		"tokens in quotes, as old programs do":  {with("nc=00000001", `nc="00000001"`), func(c *DigestCredential) bool { return c.Count == 1 }},
		"a count in capital digits":             {with("nc=00000001", "nc=0000000A"), func(c *DigestCredential) bool { return c.Count == 10 && c.NC == "0000000A" }},
		"no algorithm, which is MD5":            {with("algorithm=MD5, ", ""), func(c *DigestCredential) bool { return c.Algorithm == MD5 }},
		"an algorithm in small letters":         {with("algorithm=MD5", `algorithm="md5"`), func(c *DigestCredential) bool { return c.Algorithm == MD5 }},
		"SHA-256":                               {strings.Replace(with("MD5", "sha-256"), "8ca523f5e9506fed4657c9700eebdbec", sha, 1), func(c *DigestCredential) bool { return c.Algorithm == SHA256 && len(c.Response) == 32 }},
		"a name with a quoted pair":             {with(`"Mufasa"`, `"Mu\"fa\\sa\x"`), func(c *DigestCredential) bool { return c.User == `Mu"fa\sax` }},
		"a comma and an equals sign in quotes":  {with(`"/dir/index.html"`, `"/dir?a=b,qop=x"`), func(c *DigestCredential) bool { return c.URI == "/dir?a=b,qop=x" }},
		"a parameter that nobody knows":         {with("qop=auth", "qop=auth, new=thing"), func(c *DigestCredential) bool { return c.User == "Mufasa" }},
		"userhash that says no":                 {with("qop=auth", "qop=auth, userhash=false"), func(c *DigestCredential) bool { return c.User == "Mufasa" }},
		"no qop, as in RFC 2069":                {with("qop=auth, ", ""), nil},
		"a qop that protects the body":          {with("qop=auth", "qop=auth-int"), nil},
		"two qops":                              {with("qop=auth", `qop="auth,auth-int"`), nil},
		"a session's algorithm":                 {with("algorithm=MD5", "algorithm=MD5-sess"), nil},
		"an algorithm that we don't know":       {with("algorithm=MD5", "algorithm=SHA-512-256"), nil},
		"the response of another algorithm":     {with("algorithm=MD5", "algorithm=SHA-256"), nil},
		"no algorithm, and SHA-256's response":  {strings.Replace(with("algorithm=MD5, ", ""), "8ca523f5e9506fed4657c9700eebdbec", sha, 1), nil},
		"a hashed name":                         {with("qop=auth", "qop=auth, userhash=true"), nil},
		"a hashed name, in capitals":            {with("qop=auth", "qop=auth, userhash=TRUE"), nil},
		"a name in another coding":              {with(`username="Mufasa"`, "username*=UTF-8''J%C3%A4s"), nil},
		"two names":                             {with("qop=auth", "qop=auth, username*=UTF-8''x"), nil},
		"a parameter twice":                     {with("qop=auth", `qop=auth, uri="/other"`), nil},
		"a parameter twice, in capitals":        {with("qop=auth", `qop=auth, URI="/dir/index.html"`), nil},
		"a parameter that nobody knows, twice":  {with("qop=auth", "qop=auth, x=y, x=y"), nil},
		"no name":                               {with(`username="Mufasa", `, ""), nil},
		"an empty name":                         {with(`"Mufasa"`, `""`), nil},
		"no realm":                              {with(`realm="http-auth@example.org", `, ""), nil},
		"no uri":                                {with(`uri="/dir/index.html", `, ""), nil},
		"no nonce":                              {with(`nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", `, ""), nil},
		"no count":                              {with("nc=00000001, ", ""), nil},
		"no cnonce":                             {with(`cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", `, ""), nil},
		"no response":                           {with(`response="8ca523f5e9506fed4657c9700eebdbec", `, ""), nil},
		"a count of nothing":                    {with("nc=00000001", "nc=00000000"), nil},
		"a short count":                         {with("nc=00000001", "nc=1"), nil},
		"a count of other letters":              {with("nc=00000001", "nc=0000000g"), nil},
		"a response of other letters":           {with("8ca5", "8cg5"), nil},
		"a response that is cut":                {with("8ca523", "8ca5"), nil},
		"a quote that isn't closed":             {plain[:len(plain)-1], nil},
		"a backslash at the end":                {plain[:len(plain)-1] + `\`, nil},
		"two values side by side":               {with("qop=auth", "qop=auth auth"), nil},
		"a name without a value":                {with("qop=auth", "qop"), nil},
		"a value that is missing":               {with("qop=auth", "qop="), nil},
		"a value without a name":                {with("qop=auth", `="auth"`), nil},
		"semicolons":                            {strings.ReplaceAll(plain, ", ", "; "), nil},
		"nothing":                               {"Digest", nil},
		"a token":                               {"Digest YWxpY2U6eA==", nil},
		"a name that is too long":               {with("Mufasa", strings.Repeat("x", maxDigestValue+1)), nil},
		"a uri that is too long":                {with("/dir/index.html", "/"+strings.Repeat("x", maxDigestURI)), nil},
		"a uri that is long":                    {with("/dir/index.html", "/"+strings.Repeat("x", 8000)), func(c *DigestCredential) bool { return len(c.URI) == 8001 }},
		"all of it too long":                    {plain + strings.Repeat(" ", maxDigest) + ", x=y", nil},
		"more parameters than anybody sends":    {plain + manyParams(maxDigestParts), nil},
		"a tab in a value":                      {with("Mufasa", "Mu\tfasa"), nil},
		"a control byte":                        {with("Mufasa", "Mu\x01fasa"), nil},
		"a control byte behind a backslash":     {with("Mufasa", "Mu\\\x7ffasa"), nil},
		"letters of another alphabet":           {with("Mufasa", "Mufäsa"), nil},
		"a second credential behind it":         {plain + ", Basic YTpi", nil},
		"a second credential of the same":       {plain + ", " + plain, nil},
		"a scheme as a value outside of quotes": {with("qop=auth", "qop=auth, x=Basic"), func(c *DigestCredential) bool { return true }},
	} {
		t.Run(reason, func(t *testing.T) {
			found := Inspect(&Request{Method: "GET", Asked: "/", Rewritten: "/", Header: http.Header{"Authorization": {c.value}}})
			if (found.Digest != nil) != (c.ok != nil) {
				t.Fatalf("%q is read as %+v", c.value, found.Digest)
			}
			if c.ok != nil && !c.ok(found.Digest) {
				t.Fatalf("%q is read as %+v", c.value, found.Digest)
			}
			if found.Class != Digest && found.Class != Malformed {
				t.Errorf("its class is %q", found.Class)
			}
		})
	}
}

func manyParams(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ", x%d=y", i)
	}
	return b.String()
}

// TestADigestCredentialStandsAlone: which of two an application reads, nobody knows.
func TestADigestCredentialStandsAlone(t *testing.T) {
	digest := oneLine(exampleDigest)
	for reason, h := range map[string]http.Header{
		"twice":         {"Authorization": {digest, digest}},
		"before Basic":  {"Authorization": {digest, "Basic YTpi"}},
		"behind Basic":  {"Authorization": {"Basic YTpi", digest}},
		"before Bearer": {"Authorization": {digest, "Bearer x"}},
		"behind Bearer": {"Authorization": {"Bearer x", digest}},
		"beside X-WSSE": {"Authorization": {digest}, "X-Wsse": {`UsernameToken Username="a"`}},
	} {
		if found := Inspect(&Request{Method: "GET", Asked: "/", Rewritten: "/", Header: h}); found.Digest != nil || found.Basic != nil {
			t.Errorf("%s: %+v", reason, found)
		}
	}
	alone := http.Header{"Authorization": {digest}}
	if found := Inspect(&Request{Method: "GET", Asked: "/ews/../ecp/", Rewritten: "/ews/../ecp/", Header: alone}); found.Class != Malformed || found.Digest != nil {
		t.Errorf("where it climbs: %+v", found)
	}
	if found := Inspect(&Request{Method: "GET", Asked: "/", Rewritten: "/", UserInfo: true, Header: alone}); found.Digest != nil {
		t.Errorf("beside a name in the target: %+v", found)
	}
	found := Inspect(&Request{Method: "POST", Asked: "/token", Rewritten: "/token", Header: alone})
	if found = InspectBody(found, "application/x-www-form-urlencoded", "", []byte("grant_type=password&username=a&password=b"), true); found.Digest != nil || found.Class != ROPC {
		t.Errorf("beside a password grant: %+v", found)
	}
}

// written is a credential as it stands in a header.
func written(c *DigestCredential) string {
	quote := func(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }
	return "username=" + quote(c.User) + ", realm=" + quote(c.Realm) + ", nonce=" + quote(c.Nonce) + ", uri=" + quote(c.URI) + ", cnonce=" + quote(c.CNonce) +
		", nc=" + c.NC + ", algorithm=" + string(c.Algorithm) + ", qop=auth, response=" + hex.EncodeToString(c.Response)
}

func FuzzDigest(f *testing.F) {
	_, params, _ := strings.Cut(oneLine(exampleDigest), " ")
	f.Add(params)
	f.Add(strings.ReplaceAll(params, "Mufasa", `Mu\"fasa\\`))
	f.Add(params + ", x=y,, z=\"\"")
	f.Add(strings.Replace(params, "MD5", "SHA-256", 1))
	f.Add(`username="`)
	f.Fuzz(func(t *testing.T, params string) {
		c, ok := parseDigest(params)
		if !ok {
			if c != nil {
				t.Fatalf("%q is refused, and is %+v", params, c)
			}
			return
		}
		for _, s := range []string{c.User, c.Realm, c.Nonce, c.URI, c.CNonce, c.NC} {
			if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f }) {
				t.Fatalf("%q holds %q", params, s)
			}
		}
		if want := map[DigestAlgorithm]int{MD5: 16, SHA256: 32}[c.Algorithm]; len(c.Response) != want || want == 0 || c.Count == 0 {
			t.Fatalf("%q is %+v", params, c)
		}
		if again, ok := parseDigest(written(c)); !ok || !reflect.DeepEqual(again, c) {
			t.Fatalf("%q is %+v, and written again %+v", params, c, again)
		}
		// A second one of a parameter is never passed over.
		if _, ok := parseDigest(params + ", response=" + hex.EncodeToString(bytes.Repeat([]byte{0}, len(c.Response)))); ok {
			t.Fatalf("%q has two responses", params)
		}
	})
}
