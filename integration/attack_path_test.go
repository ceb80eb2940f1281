package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// bypassSite lets everybody reach what is below /public/, and rewrites in front of the guard.
const bypassSite = `
	rewrite /public/leave /admin
	uri strip_prefix /strip
	mfa app {
		bypass /public/* /healthz
	}
	reverse_proxy {upstream}`

// hidden are request targets of which some program or other makes a path that is not below /public/ and not /healthz.
var hidden = map[string]string{
	"climbs":                            "/public/../admin",
	"climbs at the end":                 "/public/..",
	"climbs and comes back":             "/public/../public/../admin",
	"a dot segment":                     "/public/./../admin",
	"climbs with a parameter":           "/public/..;/admin",
	"climbs with a parameter value":     "/public/..;a=b/admin",
	"a parameter":                       "/public/;/../admin",
	"encoded dots":                      "/public/%2e%2e/admin",
	"one encoded dot":                   "/public/.%2e/admin",
	"encoded dots in capitals":          "/public/%2E%2E/admin",
	"encoded dots with a parameter":     "/public/%2e%2e;/admin",
	"an encoded parameter":              "/public/..%3b/admin",
	"a backslash":                       `/public/..\admin`,
	"an encoded backslash":              "/public/..%5cadmin",
	"encoded dots, encoded backslash":   "/public/%2e%2e%5cadmin",
	"an encoded slash":                  "/public/..%2fadmin",
	"everything encoded":                "/public/%2e%2e%2fadmin",
	"encoded twice":                     "/public/%252e%252e/admin",
	"a slash encoded twice":             "/public/..%252fadmin",
	"encoded three times":               "/public/%25252e%25252e/admin",
	"an overlong dot":                   "/public/%c0%ae%c0%ae/admin",
	"an overlong slash":                 "/public/..%c0%afadmin",
	"dots of full width":                "/public/%ef%bc%8e%ef%bc%8e/admin",
	"a slash of full width":             "/public/..%ef%bc%8fadmin",
	"dots with a space behind":          "/public/..%20/admin",
	"dots with spaces behind":           "/public/.%20.%20/../admin",
	"a dot with a space behind":         "/public/.%20/admin",
	"three dots":                        "/public/.../admin",
	"an empty segment":                  "/public//admin",
	"two slashes in front":              "//public/x",
	"two slashes in front of the other": "//admin",
	"a host in the path":                "//localhost/public/../admin",
	"only the prefix":                   "/public",
	"a longer name":                     "/publicity",
	"another case":                      "/PUBLIC/x",
	"a null byte":                       "/public/%00/../admin",
	"a null byte at the end":            "/admin%00/public/",
	"a tab":                             "/public/..%09/admin",
	"a line break":                      "/public/%0d%0aX-Injected:%201",
	"a delete character":                "/public/%7f",
	"an escape that is none":            "/public/%zz",
	"an escape that is cut off":         "/public/%",
	"an escape that is cut short":       "/public/%2",
	"an escape of a wide character":     "/public/%u002e%u002e/admin",
	"the path in the query":             "/admin?x=/public/",
	"the path behind a query":           "/admin?/public/../public/x",
	"the path in a fragment":            "/admin#/public/",
	"a fragment in the path":            "/public#/../admin",
	"a fragment in the bypass":          "/public/x#/../../admin",
	"an encoded question mark":          "/public/%3f/../admin",
	"an encoded fragment":               "/public/%23/../admin",
	"a suffix":                          "/admin/public/",
	"an exact path and more":            "/healthz/admin",
	"an exact path and a slash":         "/healthz/",
	"an exact path with a parameter":    "/healthz;/admin",
	"an exact path with a suffix":       "/healthz.json",
	"rewritten out of the bypass":       "/public/leave",
	"rewritten into the bypass":         "/strip/public/x",
	"the portal's prefix":               "/_mfa/../admin",
	"the portal's prefix, encoded":      "/_mfa/%2e%2e/admin",
	"the portal's prefix, parameter":    "/_mfa/..;/admin",
	"the portal's prefix, backslash":    `/_mfa/..\admin`,
	"the portal's prefix, enc. slash":   "/_mfa/..%2fadmin",
	"the portal's prefix, twice":        "/_mfa//admin",
	"the portal's prefix, a parameter":  "/_mfa;/admin",
	"the portal's prefix, capitals":     "/_MFA/signin",
	"the portal's prefix, escaped":      "/%5fmfa/signin",
	"the portal's prefix behind dots":   "/./_mfa/signin",
	"the portal's prefix, two slashes":  "//_mfa/signin",
	"the portal's prefix in a query":    "/admin?/_mfa/",
	"the portal's prefix as a name":     "/_mfaadmin",
	"the portal's health and more":      "/_mfa/health/../../admin",
	"the bypass and then the portal":    "/public/../_mfa/../admin",
	"the front page":                    "/",
	"the star":                          "*",
	"no slash":                          "admin",
	"nothing":                           "",
}

func TestAttackNoSpellingOfAPathGetsAroundTheGuard(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: bypassSite, Address: "http://localhost:{port}, http://wiki.example.com:{port}"})
	lab.NewBrowser(t, p.URL).Register("alice")
	half := halfSignedIn(t, p, "alice")
	up.Forget()

	host := strings.TrimPrefix(p.URL, "http://")
	senders := map[string]string{"nobody": "", "who knows the password": cookieHeader(half)}
	for sender, cookie := range senders {
		for reason, target := range hidden {
			for _, form := range []string{target, p.URL + target, "http://wiki.example.com" + target} {
				if strings.HasPrefix(form, "http") && !strings.HasPrefix(target, "/") {
					continue
				}
				a := p.Raw(t, "GET "+form+" HTTP/1.1\r\nHost: "+host+"\r\n"+cookie+"Connection: close\r\n\r\n")
				if up.Bytes() != 0 {
					t.Errorf("%s, %s: %q reaches the application:\n%s", sender, reason, form, up.Raw())
					up.Forget()
				}
				if len(a.Statuses()) != 1 {
					t.Errorf("%s, %s: %q gets the answers %v", sender, reason, form, a.Statuses())
				}
			}
		}
	}

	// And it is the guard that refuses: what is let pass arrives.
	for _, target := range []string{"/public/x", "/public/", "/healthz", "/healthz?x=/admin", "/public/a%20b", "/public/%c3%a9", p.URL + "/public/x"} {
		up.Forget()
		p.Raw(t, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		if got := up.Requests(); len(got) != 1 {
			t.Errorf("%q: %d requests have reached the application, want 1", target, len(got))
		}
	}
}

func TestAttackRequestLinesThatAreNone(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: bypassSite})
	host := strings.TrimPrefix(p.URL, "http://")
	for reason, request := range map[string]string{
		"no version":                            "GET /admin\r\nHost: HOST\r\n\r\n",
		"HTTP/0.9":                              "GET /admin\r\n",
		"HTTP/1.0 without a host":               "GET /admin HTTP/1.0\r\n\r\n",
		"HTTP/1.0 with one":                     "GET /admin HTTP/1.0\r\nHost: HOST\r\n\r\n",
		"an unknown version":                    "GET /admin HTTP/9.9\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"two hosts":                             "GET /admin HTTP/1.1\r\nHost: HOST\r\nHost: wiki.example.com\r\nConnection: close\r\n\r\n",
		"no host":                               "GET /admin HTTP/1.1\r\nConnection: close\r\n\r\n",
		"an unknown host":                       "GET /admin HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
		"an unknown host and a bypass":          "GET /public/x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
		"a host with a user":                    "GET /admin HTTP/1.1\r\nHost: alice@HOST\r\nConnection: close\r\n\r\n",
		"a host in capitals":                    "GET /admin HTTP/1.1\r\nHost: LOCALHOST:PORT\r\nConnection: close\r\n\r\n",
		"a host with a dot behind":              "GET /admin HTTP/1.1\r\nHost: localhost.:PORT\r\nConnection: close\r\n\r\n",
		"a host with another port":              "GET /admin HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n",
		"a host with a path":                    "GET /admin HTTP/1.1\r\nHost: localhost/public/x\r\nConnection: close\r\n\r\n",
		"a host with two ports":                 "GET /admin HTTP/1.1\r\nHost: localhost:1:PORT\r\nConnection: close\r\n\r\n",
		"absolute-form of another host":         "GET http://evil.example/admin HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"absolute-form of another scheme":       "GET ftp://HOST/admin HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"absolute-form without a path":          "GET http://HOST HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"absolute-form with a password":         "GET http://alice:secret@HOST/admin HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"opaque form":                           "GET localhost:/admin HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"CONNECT":                               "CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n",
		"CONNECT elsewhere":                     "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
		"CONNECT with a path":                   "CONNECT /admin HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"CONNECT with a bypassed path":          "CONNECT /public/x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"CONNECT that claims a protocol":        "CONNECT /public/x HTTP/1.1\r\nHost: HOST\r\n:protocol: websocket\r\nConnection: close\r\n\r\n",
		"TRACE":                                 "TRACE /admin HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"TRACE of a bypassed path":              "TRACE /public/x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"TRACK of a bypassed path":              "TRACK /public/x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"a method that nobody has heard of":     "FOO /public/x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"a method in small letters":             "get /public/x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"the preface of HTTP/2":                 "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"OPTIONS of everything":                 "OPTIONS * HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"a space in the path":                   "GET /public/ /../admin HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"two spaces":                            "GET  /admin HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"a tab for a space":                     "GET\t/admin\tHTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"a bare line feed and a second request": "GET /admin HTTP/1.1\nHost: HOST\nConnection: close\n\n",
		"a control byte in the path":            "GET /public/\x01/../admin HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"a null byte in the path":               "GET /public/\x00 HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"bytes of no character set":             "GET /public/\xff\xfe/x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"a folded header":                       "GET /admin HTTP/1.1\r\nHost: HOST\r\nX-A: b\r\n Remote-User: alice\r\nConnection: close\r\n\r\n",
		"a space before the colon":              "GET /public/x HTTP/1.1\r\nHost: HOST\r\nRemote-User : alice\r\nConnection: close\r\n\r\n",
		"a header without a colon":              "GET /public/x HTTP/1.1\r\nHost: HOST\r\nRemote-User\r\nConnection: close\r\n\r\n",
		"a header that begins with a space":     "GET /public/x HTTP/1.1\r\n Remote-User: alice\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"a line feed in a header":               "GET /admin HTTP/1.1\r\nHost: HOST\r\nX-A: b\nRemote-User: alice\r\nConnection: close\r\n\r\n",
	} {
		p.Raw(t, strings.NewReplacer("HOST", host, "PORT", fmt.Sprint(p.Port)).Replace(request))
		if up.Bytes() != 0 {
			t.Errorf("%s: it reaches the application:\n%s", reason, up.Raw())
			up.Forget()
		}
	}
}

func TestAttackPipelinedAndSmuggledRequestsAreJudgedAlone(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: bypassSite})
	host := strings.TrimPrefix(p.URL, "http://")
	alice := lab.NewBrowser(t, p.URL)
	alice.Register("alice")
	cookie := cookieHeader(alice)
	const hiddenRequest = "GET /admin HTTP/1.1\r\nHost: HOST\r\nX-Smuggled: yes\r\nConnection: close\r\n\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(strings.ReplaceAll(hiddenRequest, "HOST", host)), hiddenRequest)
	for reason, request := range map[string]string{
		"behind a bypass":                                "GET /public/x HTTP/1.1\r\nHost: HOST\r\n\r\n" + hiddenRequest,
		"behind a signed-in request":                     "GET /mine HTTP/1.1\r\nHost: HOST\r\n" + cookie + "\r\n" + hiddenRequest,
		"behind a page of ours":                          "GET /_mfa/signin HTTP/1.1\r\nHost: HOST\r\n\r\n" + hiddenRequest,
		"behind a form of ours":                          "POST /_mfa/signin HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b" + hiddenRequest,
		"behind a refusal":                               "POST /admin HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\na=b" + hiddenRequest,
		"two lengths":                                    "POST /public/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n" + hiddenRequest,
		"two lengths in one line":                        "POST /public/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0, 5\r\n\r\n" + hiddenRequest,
		"a length with a sign":                           "POST /public/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: +0\r\n\r\n" + hiddenRequest,
		"a length below zero":                            "POST /public/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n" + hiddenRequest,
		"a length in hex":                                "POST /public/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0x0\r\n\r\n" + hiddenRequest,
		"length and chunks":                              "POST /public/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hiddenRequest,
		"chunks that hold it":                            "POST /public/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunk,
		"chunks, in a coding that is none":               "POST /public/x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hiddenRequest,
		"chunks, coded twice":                            "POST /public/x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + hiddenRequest,
		"chunks, in two lines":                           "POST /public/x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hiddenRequest,
		"chunks, with a tab":                             "POST /public/x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding:\tchunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + hiddenRequest,
		"chunks, with a vertical tab":                    "POST /public/x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hiddenRequest,
		"chunks, with a space before a colon":            "POST /public/x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hiddenRequest,
		"a chunk that ends in a line feed":               "POST /public/x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n1;\n\r\nA\r\n0\r\n\r\n" + hiddenRequest,
		"a chunk of a size that is too big":              "POST /public/x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff1\r\n" + hiddenRequest,
		"a body that nobody expects":                     "GET /public/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\na=b" + hiddenRequest,
		"an upgrade to HTTP/2":                           "GET /public/x HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + hiddenRequest,
		"an upgrade to TLS":                              "GET /public/x HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2\r\n\r\n" + hiddenRequest,
		"a WebSocket that the application does not open": "GET /public/x HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n\r\n" + hiddenRequest,
		"expectation of a 100":                           "POST /admin HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\na=b" + hiddenRequest,
	} {
		up.Forget()
		p.Raw(t, strings.ReplaceAll(request, "HOST", host))
		for _, r := range up.Requests() {
			if r.URI == "/admin" || r.Header.Get("X-Smuggled") != "" {
				t.Errorf("%s: %s %s reaches the application:\n%s", reason, r.Method, r.URI, up.Raw())
			}
			if len(r.Header.Values("Upgrade")) > 0 && r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Http2-Settings") != "" {
				t.Errorf("%s: the upgrade reaches the application: %v", reason, r.Header)
			}
		}
		// A body may hold the words of a request; as a request of its own, the application never sees it.
		for _, line := range strings.Split(up.Raw(), "\r\n\r\n") {
			if strings.HasPrefix(line, "GET /admin") {
				t.Errorf("%s: the application can read a second request:\n%s", reason, up.Raw())
			}
		}
	}
}

// speakHTTP2 opens a connection and sends the header fields of one request as they are.
func speakHTTP2(t *testing.T, p *lab.Proxy, fields ...string) (status string) {
	t.Helper()
	c := p.Dial(t)
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(c, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		if err := encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "closed: " + err.Error()
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return "reset"
		case *http2.GoAwayFrame:
			return "gone away"
		}
	}
}

func TestAttackOverHTTP2InTheClear(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: bypassSite, Servers: "servers {\n\t\tprotocols h1 h2c\n\t}"})
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	cookie := b.Cookie(sessionCookie)
	host := strings.TrimPrefix(p.URL, "http://")
	base := []string{":method", "GET", ":scheme", "http", ":authority", host, ":path", "/admin"}
	with := func(fields ...string) []string {
		all := slices.Clone(base)
		for i := 0; i < len(fields); i += 2 {
			if strings.HasPrefix(fields[i], ":") {
				if j := slices.Index(all, fields[i]); j >= 0 {
					all[j+1] = fields[i+1]
					continue
				}
				all = slices.Insert(all, 0, fields[i], fields[i+1])
				continue
			}
			all = append(all, fields[i], fields[i+1])
		}
		return all
	}
	for reason, fields := range map[string][]string{
		"nobody":                          base,
		"a spoofed identity":              with("remote-user", "alice"),
		"a path that climbs":              with(":path", "/public/../admin"),
		"a path that climbs, encoded":     with(":path", "/public/%2e%2e/admin"),
		"an absolute path":                with(":path", "http://"+host+"/public/x"),
		"a path with a space":             with(":path", "/public/x HTTP/1.1\r\nHost: x"),
		"a path with a fragment":          with(":path", "/public/x#/../../admin"),
		"an empty path":                   with(":path", ""),
		"another scheme":                  with(":scheme", "https"),
		"a scheme with a path":            with(":scheme", "http://"+host+"/public/x?"),
		"another host":                    with(":authority", "evil.example"),
		"a host with a path":              with(":authority", host+"/public/x"),
		"a method with a request in it":   with(":method", "GET /public/x HTTP/1.1\r\nHost: x\r\n\r\nGET"),
		"CONNECT":                         {":method", "CONNECT", ":authority", host},
		"CONNECT to open a tunnel":        {":method", "CONNECT", ":authority", "127.0.0.1:22"},
		"CONNECT for something else":      with(":method", "CONNECT", ":protocol", "connect-udp", ":path", "/public/x"),
		"CONNECT for a WebSocket":         with(":method", "CONNECT", ":protocol", "websocket"),
		"a method of somebody's making":   with(":method", "FOO", ":path", "/public/x"),
		"TRACE":                           with(":method", "TRACE", ":path", "/public/x"),
		"a header in capitals":            with("Remote-User", "alice"),
		"a header with a line break":      with("x-a", "b\r\nremote-user: alice"),
		"a connection header":             with("connection", "close, remote-user"),
		"a transfer encoding":             with("transfer-encoding", "chunked"),
		"an upgrade":                      with("upgrade", "h2c"),
		"a pseudo-header behind the rest": append(slices.Clone(base), "x-a", "b", ":path", "/public/x"),
		"two paths":                       append([]string{":path", "/public/x"}, base...),
		"half a cookie":                   with("cookie", sessionCookie+"="+cookie[:len(cookie)/2]),
		"a cookie twice":                  with("cookie", sessionCookie+"="+cookie, "cookie", sessionCookie+"="+cookie),
		"Basic":                           with("authorization", "Basic YWxpY2U6c2VjcmV0"),
	} {
		up.Forget()
		status := speakHTTP2(t, p, fields...)
		// To a host that no site has, Caddy answers with an empty 200.
		elsewhere := slices.Contains(fields, "evil.example") || slices.Contains(fields, "127.0.0.1:22")
		if up.Bytes() != 0 || status == "200" && !elsewhere {
			t.Errorf("%s: status %s, and %d bytes have reached the application:\n%s", reason, status, up.Bytes(), up.Raw())
		}
	}
	for reason, fields := range map[string][]string{
		"a cookie":                        with("cookie", sessionCookie+"="+cookie),
		"a cookie among crumbs":           with("cookie", "a=1", "cookie", sessionCookie+"="+cookie, "cookie", "b=2"),
		"a cookie and a spoofed identity": with("cookie", sessionCookie+"="+cookie, "remote-user", "root", "remote_user", "root"),
	} {
		up.Forget()
		if status := speakHTTP2(t, p, fields...); status != "200" {
			t.Errorf("%s: status %s", reason, status)
			continue
		}
		r := up.Last(t)
		if got := identities(r); !slices.Equal(got, []string{"Remote-User: alice"}) {
			t.Errorf("%s: the application sees %v", reason, got)
		}
		if strings.Contains(up.Raw(), cookie) {
			t.Errorf("%s: the application sees our cookie:\n%s", reason, up.Raw())
		}
	}
}

// identities lists every header that an application could take for that with the user's name, as it was spelled.
func identities(r *lab.Request) []string {
	var found []string
	for name, values := range r.Header {
		folded := strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
				return c
			}
			return '-'
		}, strings.ToLower(name))
		if folded == "remote-user" {
			for _, v := range values {
				found = append(found, http.CanonicalHeaderKey(name)+": "+v)
			}
		}
	}
	return found
}
