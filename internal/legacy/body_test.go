package legacy

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf16"
)

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
	xmlType  = "text/xml; charset=utf-8"
	soapType = "application/soap+xml"
)

// call is a method call of XML-RPC with strings for parameters.
func call(method string, params ...string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0"?><methodCall><methodName>` + method + `</methodName><params>`)
	for _, p := range params {
		b.WriteString("<param><value><string>" + p + "</string></value></param>")
	}
	b.WriteString("</params></methodCall>")
	return b.String()
}

func soap(header string) string {
	return `<?xml version="1.0"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header>` + header + `</s:Header><s:Body><GetUsers/></s:Body></s:Envelope>`
}

const usernameTokenXML = `<wsse:Security><wsse:UsernameToken wsu:Id="a"><wsse:Username>alice</wsse:Username><wsse:Password Type="x#PasswordDigest">pw</wsse:Password></wsse:UsernameToken></wsse:Security>`

func utf16BE(s string, mark bool) string {
	var b []byte
	if mark {
		b = append(b, 0xfe, 0xff)
	}
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.BigEndian.AppendUint16(b, u)
	}
	return string(b)
}

func utf16LE(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

func TestCredentialsInBodies(t *testing.T) {
	const grant = "grant_type=password&username=alice&password=pw"
	padding := strings.Repeat("x", MaxBody)
	parts := func(fields ...string) string {
		var b strings.Builder
		for i := 0; i+1 < len(fields); i += 2 {
			b.WriteString("--b\r\nContent-Disposition: form-data; name=\"" + fields[i] + "\"\r\n\r\n" + fields[i+1] + "\r\n")
		}
		return b.String() + "--b--\r\n"
	}
	for reason, tc := range map[string]struct {
		path, contentType, body string
		class                   Class
		user                    string
	}{
		// OAuth's password grant.
		"a password grant":                    {"/a", formType, grant, ROPC, "alice"},
		"one by its type with parameters":     {"/a", formType + "; charset=UTF-8", grant, ROPC, "alice"},
		"one without a type":                  {"/a", "", grant, ROPC, "alice"},
		"one that claims to be text":          {"/a", "text/plain", grant, ROPC, "alice"},
		"one that is encoded":                 {"/a", formType, "%67rant%5Ftype=p%61ssword&username=al+ice%40example.org", ROPC, "al ice@example.org"},
		"one with a name that PHP mends":      {"/a", formType, "grant.type=password&username=alice", ROPC, "alice"},
		"one in another order":                {"/a", formType, "username=alice&password=x&scope=a%20b&grant_type=password", ROPC, "alice"},
		"one in capitals":                     {"/a", formType, "GRANT_TYPE=Password&USERNAME=alice", ROPC, "alice"},
		"one that is an extension":            {"/a", formType, "grant_type=http%3A%2F%2Fauth0.com%2Foauth%2Fgrant-type%2Fpassword-realm&username=alice", ROPC, "alice"},
		"one behind the first of its name":    {"/a", formType, "grant_type=refresh_token&grant_type=password&username=alice", ROPC, "alice"},
		"one that begins like XML":            {"/a", formType, "<=1&" + grant, ROPC, "alice"},
		"a code grant":                        {"/oauth/token", formType, "grant_type=authorization_code&code=x", None, ""},
		"a client's own grant":                {"/oauth/token", formType, "grant_type=client_credentials&client_id=a", None, ""},
		"a value that mentions it":            {"/a", formType, "q=grant_type%3Dpassword", None, ""},
		"a password grant in JSON":            {"/a", jsonType, `{"grant_type":"password","username":"alice","password":"pw"}`, ROPC, "alice"},
		"one with escapes":                    {"/a", jsonType, `{"grant\u005ftype" : "p\u0061ssword", "username":"zo\u00eb"}`, ROPC, "zoë"},
		"one deep inside":                     {"/a", jsonType, `{"a":[{"b":{"grant_type":"password","username":"alice"}}]}`, ROPC, "alice"},
		"one with much white space":           {"/a", jsonType, `{"grant_type"` + strings.Repeat(" ", 200) + `:"password"}`, ROPC, ""},
		"one in what is no JSON":              {"/a", jsonType, `{'grant_type':'password', 'username':'alice',}`, ROPC, "alice"},
		"one behind a byte order mark":        {"/a", jsonType, "\xef\xbb\xbf" + `{"grant_type":"password"}`, ROPC, ""},
		"one in UTF-16":                       {"/a", jsonType, utf16LE(`{"grant_type":"password"}`), ROPC, ""},
		"a string that mentions it":           {"/a", jsonType, `{"q":"\"grant_type\":\"password\""}`, None, ""},
		"another grant in JSON":               {"/a", jsonType, `{"grant_type":"refresh_token","hint":"password"}`, None, ""},
		"a key that is called password":       {"/a", jsonType, `{"grant_type":null,"password":"x"}`, None, ""},
		"a password grant in parts":           {"/oauth/token", "multipart/form-data; boundary=b", parts("grant_type", "password", "username", "alice"), ROPC, "alice"},
		"another grant in parts":              {"/oauth/token", "multipart/form-data; boundary=b", parts("grant_type", "refresh_token"), None, ""},
		"parts that are cut off":              {"/oauth/token", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"a", ROPC, ""},
		"parts without a boundary":            {"/oauth/token", "multipart/form-data", parts("grant_type", "password"), ROPC, ""},
		"a grant behind too much":             {"/oauth/token", formType, "a=" + padding + "&" + grant, ROPC, ""},
		"too much where nobody gives tokens":  {"/a", formType, "a=" + padding + "&" + grant, None, ""},
		"a sign-in form is no password grant": {"/a", formType, "username=alice&password=pw", None, ""},
		"nothing":                             {"/a", formType, "", None, ""},

		// UsernameToken.
		"a UsernameToken":                 {"/a", xmlType, soap(usernameTokenXML), WSSecurity, "alice"},
		"one in SOAP 1.2":                 {"/a", soapType, soap(usernameTokenXML), WSSecurity, "alice"},
		"one without prefixes":            {"/a", xmlType, soap("<UsernameToken><Username>alice</Username></UsernameToken>"), WSSecurity, "alice"},
		"one that claims to be text ":     {"/a", "text/plain", soap(usernameTokenXML), WSSecurity, "alice"},
		"one that claims to be a form":    {"/a", formType, soap(usernameTokenXML), WSSecurity, "alice"},
		"one in UTF-16 with a mark":       {"/a", xmlType, utf16BE(soap(usernameTokenXML), true), WSSecurity, "alice"},
		"one in UTF-16 without":           {"/a", xmlType, utf16BE(soap(usernameTokenXML), false), WSSecurity, "alice"},
		"one with references":             {"/a", xmlType, soap("<UsernameToken><Username>a&#108;ice&amp;co</Username></UsernameToken>"), WSSecurity, "alice&co"},
		"one with a comment in the name":  {"/a", xmlType, soap("<UsernameToken><Username>al<!-- <x> -->ice</Username></UsernameToken>"), WSSecurity, "alice"},
		"one with the name in CDATA":      {"/a", xmlType, soap("<UsernameToken><Username><![CDATA[a&lt;]]></Username></UsernameToken>"), WSSecurity, "a&lt;"},
		"one with white space":            {"/a", xmlType, soap("<UsernameToken\n a='>'>\n<Username>\n alice </Username></UsernameToken>"), WSSecurity, "alice"},
		"one in an entity":                {"/a", xmlType, `<!DOCTYPE a [<!ENTITY t "<UsernameToken><Username>alice</Username></UsernameToken>">]><a>&t;</a>`, WSSecurity, "alice"},
		"one with an attachment":          {"/a", `multipart/related; type="application/xop+xml"; boundary=b`, "--b\r\nContent-Type: application/xop+xml\r\n\r\n" + soap(usernameTokenXML) + "\r\n--b\r\n\r\n<!-- \r\n--b--", WSSecurity, "alice"},
		"one that claims to be in parts":  {"/a", "multipart/related; boundary=b", soap(usernameTokenXML), WSSecurity, "alice"},
		"an empty one":                    {"/a", xmlType, soap("<UsernameToken/>"), WSSecurity, ""},
		"one in a comment":                {"/a", xmlType, soap("<!-- " + usernameTokenXML + " -->"), None, ""},
		"SOAP without one":                {"/a", xmlType, soap("<Username>alice</Username>"), None, ""},
		"a text that mentions it":         {"/a", xmlType, soap("<a>&lt;UsernameToken&gt;</a>"), None, ""},
		"one behind too much":             {"/a", xmlType, "<a>" + padding + "</a>" + usernameTokenXML, None, ""},
		"one that is cut off in its name": {"/a", xmlType, soap("<UsernameToken><Username>ali")[:100], None, ""},

		// Method calls.
		"WordPress":                         {"/a", xmlType, call("wp.getUsersBlogs", "alice", "pw"), XMLRPC, "alice"},
		"WordPress, reading":                {"/a", xmlType, call("wp.getPosts", "1", "alice", "pw"), XMLRPC, "alice"},
		"WordPress, a number before":        {"/a", xmlType, strings.Replace(call("wp.getPosts", "1", "alice", "pw"), "<string>1</string>", "<int>1</int>", 1), XMLRPC, "alice"},
		"WordPress, values without a type":  {"/a", xmlType, strings.NewReplacer("<string>", "", "</string>", "").Replace(call("wp.getPosts", "1", "alice", "pw")), XMLRPC, "alice"},
		"MetaWeblog":                        {"/a", xmlType, call("metaWeblog.newPost", "1", "alice", "pw"), XMLRPC, "alice"},
		"Blogger":                           {"/a", xmlType, call("blogger.newPost", "key", "1", "alice", "pw"), XMLRPC, "alice"},
		"DokuWiki":                          {"/a", xmlType, call("dokuwiki.login", "alice", "pw"), XMLRPC, "alice"},
		"another sign-in names nobody":      {"/a", xmlType, call("x.login", "alice", "pw"), XMLRPC, ""},
		"a password among members":          {"/a", xmlType, `<methodCall><methodName>User.get</methodName><params><param><value><struct><member><name>login</name><value><string>alice</string></value></member><member><name>password</name><value>pw</value></member></struct></value></param></params></methodCall>`, XMLRPC, "alice"},
		"many calls in one":                 {"/a", xmlType, `<methodCall><methodName>system.multicall</methodName><params><param><value><array><data><value><struct><member><name>methodName</name><value>wp.getPosts</value></member></struct></value></data></array></value></param></params></methodCall>`, XMLRPC, ""},
		"a call without a credential":       {"/a", xmlType, call("examples.getStateName", "41"), None, ""},
		"one at a known path":               {"/xmlrpc.php", xmlType, call("examples.getStateName", "41"), XMLRPC, ""},
		"a known path and something else":   {"/xmlrpc.php", "text/plain", "x", XMLRPC, ""},
		"no call, but its method":           {"/a", xmlType, "<a><methodName>wp.getPosts</methodName></a>", None, ""},
		"a struct before the name":          {"/a", xmlType, strings.Replace(call("wp.getPosts", "1", "alice", "pw"), "<string>1</string>", "<struct><member><name>a</name><value>b</value></member></struct>", 1), XMLRPC, "alice"},
		"a call at a known path, as a form": {"/xmlrpc.php", formType, call("wp.getPosts", "1", "alice", "pw"), XMLRPC, "alice"},

		// Sign-in forms.
		"a form's user":                {"/login", formType, "csrf=x&user=alice&password=pw", FormLogin, "alice"},
		"by another name":              {"/login", formType, "log=alice&pwd=pw", FormLogin, "alice"},
		"in brackets":                  {"/login", formType, "user%5Blogin%5D=alice&user%5Bpassword%5D=pw", FormLogin, "alice"},
		"in JSON":                      {"/login", jsonType, `{"email":"alice@example.org","password":"pw"}`, FormLogin, "alice@example.org"},
		"in parts":                     {"/login", "multipart/form-data; boundary=b", parts("username", "alice", "password", "pw"), FormLogin, "alice"},
		"by a name that nobody knows":  {"/login", formType, "wer=alice&was=pw", FormLogin, ""},
		"a password grant at the form": {"/login", formType, grant, ROPC, "alice"},
		"a name that can't be one":     {"/login", formType, "user=al%00ice", FormLogin, ""},
	} {
		t.Run(reason, func(t *testing.T) {
			r := Request{Method: "POST", Asked: tc.path, Rewritten: tc.path, LoginPaths: []string{"/login"}, Header: http.Header{"User-Agent": {"curl/8"}}}
			if tc.contentType != "" {
				r.Header.Set("Content-Type", tc.contentType)
			}
			f := Inspect(&r)
			if !f.Body {
				t.Fatal("the body is not asked for")
			}
			for coding, body := range codings(t, tc.body) {
				before := bytes.Clone(body)
				got := InspectBody(f, tc.contentType, coding, body, true)
				if got.Class != tc.class || got.User != tc.user {
					t.Errorf("in %q: class %q, user %q; want %q, %q", coding, got.Class, got.User, tc.class, tc.user)
				}
				if got.Body || got.Client == "curl" != (tc.class != None) {
					t.Errorf("in %q: body %t, client %q", coding, got.Body, got.Client)
				}
				if !bytes.Equal(body, before) {
					t.Fatalf("in %q: the body has changed", coding)
				}
			}
		})
	}
}

// codings gives a body in all that are known.
func codings(t *testing.T, body string) map[string][]byte {
	t.Helper()
	write := func(open func(io.Writer) io.WriteCloser) []byte {
		var b bytes.Buffer
		w := open(&b)
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	gz := func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }
	bare := func(w io.Writer) io.WriteCloser {
		f, err := flate.NewWriter(w, flate.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	zl := func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }
	all := map[string][]byte{"": []byte(body), "identity": []byte(body), "gzip": write(gz), " X-GZIP ": write(gz), "deflate": write(zl), "identity, Deflate": write(bare)}
	body = string(write(zl))
	all["deflate, gzip"] = write(gz)
	return all
}

func TestBodiesThatCantBeRead(t *testing.T) {
	const grant = "grant_type=password&username=alice"
	zipped := codings(t, grant)["gzip"]
	bomb := codings(t, strings.Repeat("a", 4<<20))["gzip"]
	for reason, tc := range map[string]struct {
		path, coding string
		body         []byte
		whole        bool
		class        Class
	}{
		"an unknown coding":                       {"/a", "br", []byte("\x0b\x02\x80"), true, Malformed},
		"one that lies":                           {"/a", "br", []byte(grant), true, ROPC},
		"gzip that lies":                          {"/a", "gzip", []byte(grant), true, ROPC},
		"no gzip":                                 {"/a", "gzip", []byte("x"), true, Malformed},
		"a third time compressed":                 {"/a", "gzip, gzip, gzip", zipped, true, Malformed},
		"an unknown coding where tokens are":      {"/oauth/token", "br", []byte("\x0b\x02\x80"), true, ROPC},
		"an unknown coding of a sign-in form":     {"/login", "br", []byte("\x0b\x02\x80"), true, FormLogin},
		"an unknown coding of XML-RPC":            {"/xmlrpc", "br", []byte("\x0b\x02\x80"), true, XMLRPC},
		"an empty body in an unknown coding":      {"/a", "br", nil, true, None},
		"gzip that is cut off":                    {"/a", "gzip", zipped[:len(zipped)-9], false, ROPC},
		"gzip of too much":                        {"/a", "gzip", bomb, true, None},
		"gzip of too much where tokens are":       {"/oauth/token", "gzip", bomb, true, ROPC},
		"what is cut off where tokens are":        {"/oauth/token", "", []byte("grant_type=refre"), false, ROPC},
		"what is cut off where none are":          {"/a", "", []byte("grant_type=refre"), false, None},
		"more than is looked at":                  {"/oauth/token", "", bytes.Repeat([]byte("a"), MaxBody+1), true, ROPC},
		"as much as is looked at, and no grant":   {"/oauth/token", "", bytes.Repeat([]byte("a"), MaxBody), true, None},
		"a grant at the end of what is looked at": {"/a", "", append(bytes.Repeat([]byte("a"), MaxBody-len(grant)-1), "&"+grant...), false, ROPC},
	} {
		t.Run(reason, func(t *testing.T) {
			f := Inspect(&Request{Method: "POST", Asked: tc.path, Rewritten: tc.path, LoginPaths: []string{"/login"}})
			if got := InspectBody(f, "", tc.coding, tc.body, tc.whole); got.Class != tc.class {
				t.Errorf("class %q, want %q", got.Class, tc.class)
			}
		})
	}
}

func TestABodyBesideACredentialInTheHead(t *testing.T) {
	basic := func(path string) Finding {
		return Inspect(&Request{Method: "POST", Asked: path, Rewritten: path, Header: http.Header{"Authorization": {"Basic Ym9iOnB3"}}})
	}
	f := InspectBody(basic("/oauth/token"), formType, "", []byte("grant_type=password&username=alice&password=x"), true)
	if f.Class != ROPC || f.Scheme != None || f.User != "alice" || f.Basic != nil {
		t.Errorf("a password grant names a program in its head, and that is no user: %+v", f)
	}
	f = InspectBody(basic("/a"), formType, "", []byte("grant_type=password&username=alice&password=x"), true)
	if f.Class != ROPC || f.Scheme != Basic || f.User != "alice" || f.Basic != nil {
		t.Errorf("where no tokens are given, the head may name a user: %+v", f)
	}
	f = InspectBody(basic("/oauth/token"), formType, "", []byte("grant_type=refresh_token"), true)
	if f.Class != Basic || f.User != "bob" || f.Basic == nil {
		t.Errorf("another grant leaves the head as it is: %+v", f)
	}
	f = InspectBody(basic("/xmlrpc.php"), xmlType, "", []byte(call("wp.getPosts", "1", "alice", "x")), true)
	if f.Class != XMLRPC || f.Scheme != Basic || f.User != "bob" || f.Basic == nil {
		t.Errorf("a method call leaves the user of the head: %+v", f)
	}
	bearer := Inspect(&Request{Method: "POST", Asked: "/xmlrpc.php", Header: http.Header{"Authorization": {"Bearer x"}}})
	if bearer.Class != None || !bearer.Body {
		t.Errorf("bearer is modern until the body says something else: %+v", bearer)
	}
	if f = InspectBody(bearer, xmlType, "", []byte(call("wp.getPosts", "1", "alice", "x")), true); f.Class != XMLRPC {
		t.Errorf("a password beside bearer is one: %+v", f)
	}
	malformed := Inspect(&Request{Method: "POST", Asked: "/xmlrpc.php", Header: http.Header{"Authorization": {"Magic x"}}})
	if malformed.Body {
		t.Error("the body of what is malformed is not asked for")
	}
	if f = InspectBody(malformed, xmlType, "", []byte(call("wp.getPosts", "1", "alice", "x")), true); f.Class != Malformed {
		t.Errorf("what is malformed stays so: %+v", f)
	}
}

func BenchmarkInspectBody(b *testing.B) {
	f := Inspect(&Request{Method: "POST", Asked: "/a", Header: http.Header{"Content-Type": {formType}}})
	for _, of := range []struct{ name, contentType, body string }{
		{"form", formType, "csrf=0123456789&title=hello+world&text=" + strings.Repeat("a+", 500)},
		{"json", jsonType, `{"a":[` + strings.Repeat(`{"b":"c","d":1},`, 4000) + `{}]}`},
		{"xml", xmlType, soap(strings.Repeat("<a b='c'>d</a>", 4000))},
		{"quotes", jsonType, strings.Repeat(`"`, MaxBody)},
		{"open tags", xmlType, strings.Repeat("<", MaxBody)},
		{"open comments", xmlType, strings.Repeat("<!--", MaxBody/4)},
	} {
		b.Run(of.name, func(b *testing.B) {
			body := []byte(of.body)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				InspectBody(f, of.contentType, "", body, false)
			}
		})
	}
}
