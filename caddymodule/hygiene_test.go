package caddymodule

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/config"
)

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = append(h[pairs[i]], pairs[i+1])
	}
	return h
}

func TestNoSpellingOfAnIdentitySurvives(t *testing.T) {
	h := newHygiene(config.Identity{User: "X-Webauth-User", Groups: "Remote-Groups", Name: "Remote-Name", Email: "Remote-Email"})
	in := http.Header{}
	for _, name := range []string{"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email", "X-Webauth-User", "X-Original-Url", "X-Original-Uri",
		"X-Rewrite-Url", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Forwarded-Method", "Mfa-Token-Id", "Mfa-Token-Secret"} {
		for _, separator := range []string{"-", "_", ".", "~", "!", "+", "*", "^", "|", "`", "'", "&", "%", "$", "#"} {
			spelled := strings.ReplaceAll(name, "-", separator)
			for _, cased := range []string{spelled, strings.ToLower(spelled), strings.ToUpper(spelled)} {
				in[cased] = []string{"admin", "root"}
			}
		}
	}
	in["Proxy"], in["PROXY"] = []string{"http://evil.example"}, []string{"x"}
	keep := headers("Accept", "*/*", "Remote-Users", "a", "X-Remote-User", "a", "Remoteuser", "a", "X-Forwarded-For", "a", "X-Forwarded-Host", "a", "X-Http-Method-Override", "PUT", "Proxy-Status", "a")
	maps.Copy(in, keep)
	h.clean(in)
	if !maps.EqualFunc(in, keep, slices.Equal) {
		for name := range keep {
			delete(in, name)
		}
		t.Fatalf("left or lost: %v", in)
	}
}

func TestAServiceTokenIsReadFromItsOwnHeadersOnly(t *testing.T) {
	for name, c := range map[string]struct {
		in   http.Header
		want token
	}{
		"none":             {headers("Accept", "*/*"), token{}},
		"one":              {headers("Mfa-Token-Id", "i", "Mfa-Token-Secret", "s"), token{"i", "s"}},
		"another spelling": {headers("Mfa_token_id", "i", "MFA-TOKEN-SECRET", "s"), token{}},
		"two of each":      {headers("Mfa-Token-Id", "i", "Mfa-Token-Id", "j", "Mfa-Token-Secret", "s", "Mfa-Token-Secret", "t"), token{"i, j", "s, t"}}, // which is none
	} {
		if got := tokenOf(c.in); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestNoLengthOfAnIdentityIsTooLong(t *testing.T) {
	name := "X-" + strings.Repeat("Long-", 20) + "User"
	h := newHygiene(config.Identity{User: name})
	in := headers(name, "root", strings.ReplaceAll(name, "-", "_"), "root", name+"s", "kept", "X-"+strings.Repeat("A", 300), "kept")
	if h.clean(in); len(in) != 2 {
		t.Fatalf("left or lost: %v", in)
	}
}

func TestConnectionNamesOnlyWhatItIsNeededFor(t *testing.T) {
	for in, want := range map[string]string{
		"close": "close", "keep-alive": "keep-alive", "Upgrade": "Upgrade", "keep-alive, Upgrade": "keep-alive, Upgrade", "TE, close": "TE, close",
		"close, Remote-User": "close", "Remote-User": "", "Remote-User,upgrade": "upgrade", "x-forwarded-for, Cookie": "", "": "", ",,close,": "close", "close;Remote-User": "",
	} {
		h := headers("Connection", in)
		cleanConnection(h)
		if got := h.Get("Connection"); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	h := headers("Connection", "close", "Connection", "Remote-User, upgrade")
	cleanConnection(h)
	if got := h["Connection"]; len(got) != 1 || got[0] != "close, upgrade" {
		t.Errorf("two lines become %q", got)
	}
}

func TestOnlyWebSocketUpgradesPass(t *testing.T) {
	for in, want := range map[string]bool{"websocket": true, "WebSocket": true, "h2c": false, "websocket, h2c": false, "TLS/1.0": false} {
		h := headers("Upgrade", in, "Connection", "Upgrade, HTTP2-Settings, keep-alive", "Http2-Settings", "AAMAAABkAAQ")
		normalizeUpgrade(h)
		if _, ok := h["Upgrade"]; ok != want {
			t.Errorf("%s: Upgrade is there: %v", in, ok)
		}
		if strings.Contains(strings.ToLower(h.Get("Connection")), "upgrade") != want {
			t.Errorf("%s: Connection is %q", in, h.Get("Connection"))
		}
	}
	h := headers("Upgrade", "websocket", "Upgrade", "h2c", "Connection", "Upgrade")
	normalizeUpgrade(h)
	if len(h) != 0 {
		t.Errorf("two lines: %v", h)
	}
}

func TestMethods(t *testing.T) {
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "MKCALENDAR", "LOCK", "MERGE", "CHECKOUT", "QUERY"} {
		if !allowedMethod(&http.Request{Method: m}) {
			t.Errorf("%s is refused", m)
		}
	}
	for _, m := range []string{"TRACE", "TRACK", "DEBUG", "get", "PRI", "RPC_IN_DATA", "FOO", ""} {
		if allowedMethod(&http.Request{Method: m}) {
			t.Errorf("%s is passed on", m)
		}
	}
	for reason, tc := range map[string]struct {
		r    http.Request
		want bool
	}{
		"HTTP/1.1":                        {http.Request{ProtoMajor: 1}, false},
		"HTTP/2 to open a tunnel":         {http.Request{ProtoMajor: 2}, false},
		"HTTP/2 to open a WebSocket":      {http.Request{ProtoMajor: 2, Header: headers(":protocol", "websocket")}, true},
		"HTTP/2 to open something else":   {http.Request{ProtoMajor: 2, Header: headers(":protocol", "connect-udp")}, false},
		"HTTP/3 to open a WebSocket":      {http.Request{ProtoMajor: 3, Proto: "websocket"}, true},
		"HTTP/3 to open something else":   {http.Request{ProtoMajor: 3, Proto: "connect-ip"}, false},
		"HTTP/1.1 that claims a protocol": {http.Request{ProtoMajor: 1, Header: headers(":protocol", "websocket")}, false},
	} {
		tc.r.Method = "CONNECT"
		if got := allowedMethod(&tc.r); got != tc.want {
			t.Errorf("CONNECT over %s: %v", reason, got)
		}
	}
}

func TestGroupsAreWrittenSoThatTheyCanBeReadAgain(t *testing.T) {
	for reason, tc := range map[string]struct {
		in   []string
		want string
	}{
		"none":            {nil, ""},
		"some":            {[]string{"staff", "hr"}, "staff,hr"},
		"a comma":         {[]string{"Smith, Jones", "x"}, "Smith%2C Jones,x"},
		"a percent sign":  {[]string{"100%2C"}, "100%252C"},
		"a line break":    {[]string{"a\r\nRemote-User: root"}, "a%0D%0ARemote-User: root"},
		"other languages": {[]string{"Größe"}, "Größe"},
	} {
		if got := joinGroups(tc.in); got != tc.want {
			t.Errorf("%s: %q, want %q", reason, got, tc.want)
		}
	}
}

func FuzzFoldsTo(f *testing.F) {
	f.Add("Remote_User", "remote-user")
	f.Fuzz(func(t *testing.T, a, b string) {
		b = config.FoldHeader(b)
		if len(a) == len(b) && isASCII(a) && foldsTo(a, b) != (config.FoldHeader(a) == b) {
			t.Fatalf("%q and %q", a, b)
		}
	})
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f }) }

func BenchmarkHygiene(b *testing.B) {
	h := newHygiene(config.Identity{User: "Remote-User", Groups: "Remote-Groups", Name: "Remote-Name", Email: "Remote-Email"})
	header := headers("Accept", "*/*", "Accept-Encoding", "gzip", "Accept-Language", "en", "User-Agent", "x", "Cookie", "a=1", "Sec-Fetch-Mode", "navigate",
		"Sec-Fetch-Dest", "document", "Sec-Fetch-Site", "none", "Referer", "x", "Upgrade-Insecure-Requests", "1", "Cache-Control", "max-age=0", "Connection", "keep-alive")
	b.ReportAllocs()
	for b.Loop() {
		h.clean(header)
	}
}
