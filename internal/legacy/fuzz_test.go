package legacy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hasLegacy finds a legacy scheme wherever a lenient server could: at the beginning, or behind what may separate the elements of a list,
// and with something behind it.
var hasLegacy = regexp.MustCompile(`(?i)(^|[\s\pZ,;])(basic|digest|ntlm|negotiate)[\s\pZ,;]+[^\s\pZ,;]`)

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

func checkUser(t *testing.T, user string) {
	t.Helper()
	if len(user) > maxName || !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl) {
		t.Fatalf("the user %q can't be shown", user)
	}
}

func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{
		"Basic YTpi", "Basic\tYTpi", "Bearer x", "Bearer x, Basic YTpi", "Negotiate ", "digest", " \t", `Digest username="a", realm="b\"c"`, `Digest username*=UTF-8''a%C3%AB`,
		`Hawk id="a", Basic YTpi`, "Basic YTpi=", "OAuth oauth_token=x", "Basic\u00a0YTpi", "NTLM " + base64.StdEncoding.EncodeToString(authenticate("CORP", "alice", true)),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		inspect := func(agent string, values ...string) Finding {
			return Inspect(&Request{Method: "GET", Asked: "/a", Rewritten: "/a", Header: http.Header{"Authorization": values, "User-Agent": {agent}}})
		}
		found := inspect("git/2", value)
		checkUser(t, found.User)
		if found.Class != found.Scheme {
			t.Fatalf("%q has the class %q and the scheme %q", value, found.Class, found.Scheme)
		}
		if (found.Class == None || found.Class.Reported()) && hasLegacy.MatchString(value) {
			t.Fatalf("%q is %q, and some server finds a legacy scheme in it", value, found.Class)
		}
		if other := inspect("Mozilla/5.0", value); other.Class != found.Class {
			t.Fatalf("%q is %q or %q as the client calls itself", value, found.Class, other.Class)
		}
		name := strings.TrimLeft(value, " \t")
		end := strings.IndexAny(name, " \t")
		if end < 0 {
			end = len(name)
		}
		if other := inspect("", upper(name[:end])+name[end:]); other.Class != found.Class {
			t.Fatalf("%q is %q, and %q in capitals", value, found.Class, other.Class)
		}
		for _, values := range [][]string{{"Bearer x", value}, {value, "Bearer x"}} {
			if other := inspect("", values...); other.Class != found.Class || other.Basic != nil {
				t.Fatalf("%q is %q, and %q beside bearer", value, found.Class, other.Class)
			}
		}
		if b := found.Basic; b != nil {
			_, token, _ := strings.Cut(strings.ReplaceAll(name, "\t", " "), " ")
			if want := base64.StdEncoding.EncodeToString([]byte(b.User + ":" + b.Password)); strings.TrimRight(strings.TrimSpace(token), "=") != strings.TrimRight(want, "=") {
				t.Fatalf("%q is read as %q", value, want)
			}
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/", "/EWS/Exchange.asmx", "/a/../ews", "/%65ws", "/%2565ws", "/rpc/rpcproxy.dll", "/r.git/info/refs", "/xmlrpc.php", "/oauth/token", "/login", "/v2/a/blobs/b",
		`/a\b;c=d//e./`, "/../..", "/ews/..%20./ecp/", "/ews/../oab", "/%", "/%zz%2", "/a/./b/..", "ews", "/-/x.tgz", "/simple/", "/_vti_bin/x",
	} {
		f.Add("GET", s, "service=git-upload-pack&password=x")
		f.Add("POST", s, "")
	}
	f.Fuzz(func(t *testing.T, method, path, query string) {
		inspect := func(path, authorization, agent string) Finding {
			r := &Request{Method: method, Asked: path, Rewritten: "/", Query: query, LoginPaths: []string{"/login", "/auth/*"}, Header: http.Header{"User-Agent": {agent}}}
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			found := Inspect(r)
			r.Asked, r.Rewritten = r.Rewritten, r.Asked
			if other := Inspect(r); other.Class != found.Class {
				t.Fatalf("%q is %q when it is asked for, and %q behind a rewrite", path, found.Class, other.Class)
			}
			return found
		}
		for _, authorization := range []string{"", "Bearer x", "Basic YTpi", "Hawk x"} {
			found := inspect(path, authorization, "SVN/1")
			if found.Class == None && authorization == "Basic YTpi" {
				t.Fatalf("%q: a legacy credential is none", path)
			}
			if other := inspect(path, authorization, ""); other.Class != found.Class || other.Body != found.Body {
				t.Fatalf("%q is %q or %q as the client calls itself", path, found.Class, other.Class)
			}
			if other := inspect(upper(path), authorization, ""); other.Class != found.Class {
				t.Fatalf("%q is %q, and %q in capitals", path, found.Class, other.Class)
			}
			if strings.Contains(path, "%") {
				continue
			}
			var encoded strings.Builder
			for i := range len(path) {
				if path[i] == '/' {
					encoded.WriteByte('/')
				} else {
					fmt.Fprintf(&encoded, "%%%02X", path[i])
				}
			}
			if other := inspect(encoded.String(), authorization, ""); other.Class != found.Class {
				t.Fatalf("%q is %q, and %q encoded", path, found.Class, other.Class)
			}
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{
		"", "grant_type=password", `{"grant_type":"password"}`, `{"a":"\u00`, soap(usernameTokenXML), call("wp.getPosts", "1", "alice", "pw"), "<a b='", "<![CDATA[", "<!-- ", "<?", "</", "<",
		"--b\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nalice\r\n--b--", "\xfe\xff\x00<", "<\x00a\x00", "a\x00=", "\x1f\x8b\x08",
	} {
		f.Add(formType, "", s)
		f.Add(jsonType, "gzip", s)
		f.Add(xmlType, "deflate", s)
		f.Add("multipart/form-data; boundary=b", "br", s)
	}
	f.Fuzz(func(t *testing.T, contentType, coding, body string) {
		for _, r := range []Request{
			{Asked: "/a"}, {Asked: "/login"}, {Asked: "/token"}, {Asked: "/xmlrpc"},
			{Asked: "/a", Header: http.Header{"Authorization": {"Basic YTpi"}}}, {Asked: "/token", Header: http.Header{"Authorization": {"Magic"}}},
		} {
			r.Method, r.LoginPaths = "POST", []string{"/login"}
			head := Inspect(&r)
			b := []byte(body)
			for _, whole := range []bool{true, false} {
				found := InspectBody(head, contentType, coding, b, whole)
				checkUser(t, found.User)
				if found.Body || found.Class == None && head.Class != None || head.Class == Malformed && found.Class != Malformed {
					t.Fatalf("%q: %q before the body, %q behind it", body, head.Class, found.Class)
				}
				if again := InspectBody(head, contentType, coding, b, whole); again.Class != found.Class || again.User != found.User {
					t.Fatalf("%q is %q, and then %q", body, found.Class, again.Class)
				}
			}
			if string(b) != body {
				t.Fatalf("%q has become %q", body, b)
			}
		}
		if len(body) > MaxBody/8 {
			return
		}
		// Nothing that stands before it hides a credential.
		quoted, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		var escaped bytes.Buffer
		if err := xml.EscapeText(&escaped, []byte(body)); err != nil {
			t.Fatal(err)
		}
		head := Inspect(&Request{Method: "POST", Asked: "/a"})
		for hidden, contentType := range map[string]string{
			body + "&grant_type=password":                          formType,
			`{"a":` + string(quoted) + `,"grant_type":"password"}`: jsonType,
			"<a>" + escaped.String() + "<UsernameToken/></a>":      xmlType,
		} {
			if found := InspectBody(head, contentType, "", []byte(hidden), true); found.Class == None {
				t.Fatalf("%q hides its credential", hidden)
			}
		}
	})
}

func FuzzChallenges(f *testing.F) {
	for _, s := range []string{`Basic realm="x"`, `Bearer realm="a, Basic b", NTLM`, "Negotiate", `,, "`, `"\`, "basic=1"} {
		f.Add(s)
	}
	legacy := regexp.MustCompile(`(?i)^[ \t,]*(basic|digest|ntlm|negotiate)([ \t,]|$)`)
	f.Fuzz(func(t *testing.T, value string) {
		h := http.Header{"Www-Authenticate": {value, "Bearer", value}}
		RemoveChallenges(h, nil)
		left := h["Www-Authenticate"]
		if len(left) != 1 && len(left) != 3 || legacy.MatchString(value) && len(left) != 1 {
			t.Fatalf("of %q is left: %q", value, left)
		}
		RemoveChallenges(h, nil)
		if len(h["Www-Authenticate"]) != len(left) {
			t.Fatalf("of %q is left: %q, and then %q", value, left, h["Www-Authenticate"])
		}
	})
}
