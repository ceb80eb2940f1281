package integration

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// overrides are headers from which some applications take the URL or the method of a request.
var overrides = []string{
	"X-Original-URL", "X-Original-URI", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Forwarded-Method", "Proxy",
}

// spellings writes a header's name in the ways that CGI and its descendants can't tell apart.
func spellings(name string) []string {
	var all []string
	for _, separator := range []string{"-", "_", ".", "~", "!", "+", "*", "'", "|", "`", "^", "#", "$", "%", "&"} {
		spelled := strings.ReplaceAll(name, "-", separator)
		all = append(all, spelled, strings.ToLower(spelled), strings.ToUpper(spelled))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestAttackOverrideHeadersAreNeitherReadNorForwarded(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: bypassSite})
	host := strings.TrimPrefix(p.URL, "http://")
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	for _, name := range append(slices.Clone(overrides), "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Forwarded-Path", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Server", "X-Host") {
		for _, value := range []string{"/public/x", "GET", "OPTIONS", "localhost", "http://" + host + "/public/x"} {
			up.Forget()
			p.Raw(t, "POST /admin HTTP/1.1\r\nHost: "+host+"\r\n"+name+": "+value+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			if up.Bytes() != 0 {
				t.Errorf("%s: %s is read", name, value)
			}
		}
	}
	for _, name := range overrides {
		for _, spelled := range spellings(name) {
			for where, request := range map[string]string{
				"signed in":   "GET /mine HTTP/1.1\r\nHost: " + host + "\r\n" + cookieHeader(b),
				"by a bypass": "GET /public/x HTTP/1.1\r\nHost: " + host + "\r\n",
			} {
				up.Forget()
				p.Raw(t, request+spelled+": /admin-marker\r\nConnection: close\r\n\r\n")
				up.Last(t)
				if strings.Contains(up.Raw(), "admin-marker") {
					t.Errorf("%s: %s reaches the application:\n%s", where, spelled, up.Raw())
				}
			}
		}
	}
	// A header of the application's own arrives: something does reach it.
	up.Forget()
	p.Raw(t, "GET /public/x HTTP/1.1\r\nHost: "+host+"\r\nX-Original: yes\r\nConnection: close\r\n\r\n")
	if up.Last(t).Header.Get("X-Original") != "yes" {
		t.Error("a header that means nothing is lost")
	}
}

// identityUsers have what can be had in the way of names.
var identityUsers = lab.Users + `
  "eve":
    display_name: "Eve {env.HOME} {http.request.host} Example"
    groups: ["Smith, Jones", "100%2C"]
` + strings.TrimPrefix(users("eve"), "  eve:\n")

func TestAttackNobodyElseWritesTheIdentity(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Users: identityUsers, Site: `
	mfa app {
		bypass /public/*
		identity {
			email X-Webauth-An-Address-With-A-Name-That-Is-Longer-Than-Any-Reasonable-Table
		}
	}
	reverse_proxy {upstream}`})
	host := strings.TrimPrefix(p.URL, "http://")
	const email = "X-Webauth-An-Address-With-A-Name-That-Is-Longer-Than-Any-Reasonable-Table"
	b := lab.NewBrowser(t, p.URL)
	b.Register("bob") // without groups, display name and e-mail: what he lacks can't be lent to him
	for where, request := range map[string]string{
		"signed in":   "GET /mine HTTP/1.1\r\nHost: " + host + "\r\n" + cookieHeader(b),
		"by a bypass": "GET /public/x HTTP/1.1\r\nHost: " + host + "\r\n",
	} {
		for _, name := range []string{"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email", email} {
			for _, spelled := range spellings(name) {
				up.Forget()
				p.Raw(t, request+spelled+": spoofed-marker\r\n"+spelled+": spoofed-marker, again\r\nConnection: close\r\n\r\n")
				up.Last(t)
				if strings.Contains(up.Raw(), "spoofed-marker") {
					t.Errorf("%s: %s reaches the application:\n%s", where, spelled, up.Raw())
				}
			}
		}
		for reason, lines := range map[string]string{
			"a connection header that names it":        "Connection: close, Remote-User\r\n",
			"a connection header in capitals":          "Connection: REMOTE-USER, close\r\n",
			"two connection headers":                   "Connection: close\r\nConnection: Remote-User, Remote-Groups\r\n",
			"a connection header behind a tab":         "Connection: close,\tRemote-User\r\n",
			"a connection header that names cookies":   "Connection: close, Cookie, X-Forwarded-For\r\n",
			"an old connection header":                 "Proxy-Connection: Remote-User\r\nConnection: close\r\n",
			"a keep-alive header":                      "Keep-Alive: Remote-User\r\nConnection: close\r\n",
			"TE":                                       "TE: trailers, Remote-User\r\nConnection: close, TE\r\n",
			"a list of trailers":                       "Trailer: Remote-User\r\nConnection: close\r\n",
			"a trailer":                                "Transfer-Encoding: chunked\r\nTrailer: Remote-User, Remote-Email, X-Original-URL\r\nConnection: close\r\n\r\n3\r\na=b\r\n0\r\nRemote-User: spoofed-marker\r\nRemote-Email: spoofed-marker\r\nX-Original-URL: spoofed-marker\r\n",
			"a trailer that nobody has told of":        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\na=b\r\n0\r\nRemote-User: spoofed-marker\r\n",
			"a folded header":                          "X-A: b\r\n Remote-User: spoofed-marker\r\nConnection: close\r\n",
			"a carriage return in a header":            "X-A: b\rRemote-User: spoofed-marker\r\nConnection: close\r\n",
			"a header named with a space before colon": "Remote-User : spoofed-marker\r\nConnection: close\r\n",
			"a content header of the same name":        "Content-Type: text/plain; Remote-User=x\r\nConnection: close\r\n",
		} {
			up.Forget()
			a := p.Raw(t, request+lines+"\r\n")
			got := up.Requests()
			if codes := a.Statuses(); len(got) == 0 {
				if len(codes) == 0 || codes[0] != http.StatusBadRequest {
					t.Errorf("%s, %s: nothing arrives, and the answer is %v", where, reason, codes)
				}
				continue
			}
			for _, r := range got {
				want := []string(nil)
				if where == "signed in" {
					want = []string{"Remote-User: bob"}
				}
				if who := identities(r); !slices.Equal(who, want) {
					t.Errorf("%s, %s: the application sees %v, want %v", where, reason, who, want)
				}
				for name, values := range r.Trailer {
					t.Errorf("%s, %s: the trailer %s arrives: %q", where, reason, name, values)
				}
				// Within another header's value it is text.
				if r.Header.Get("Remote-Email")+r.Header.Get("X-Original-Url") != "" {
					t.Errorf("%s, %s: %v", where, reason, r.Header)
				}
			}
		}
	}

	eve := lab.NewBrowser(t, p.URL)
	eve.Register("eve")
	h := up.Last(t).Header
	for name, want := range map[string]string{
		"Remote-User": "eve", "Remote-Groups": "Smith%2C Jones,100%252C",
		"Remote-Name": "Eve {env.HOME} {http.request.host} Example", // what users are called is never a placeholder
	} {
		if got := h[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// A group with a line break can't be brought in.
	p.Write("users.yaml", "users:\n"+strings.ReplaceAll(identityUsers, `"100%2C"`, `"a\r\nRemote-User: root"`))
	lab.Eventually(t, 10*time.Second, "the new users file is in force or refused", func() bool { return strings.Count(p.Log(), "users file") > 0 })
	up.Forget()
	eve.Get("/again")
	if got := identities(up.Last(t)); !slices.Equal(got, []string{"Remote-User: eve"}) {
		t.Errorf("the application sees %v", got)
	}
}

// A directive with a matcher guards a part of the site. What clients may not send, and what is ours, is the same in the rest: the
// application behind is one.
func TestAttackOnThePartOfASiteThatIsNotGuarded(t *testing.T) {
	t.Parallel()
	for name, site := range map[string]string{
		"in order":         "mfa /admin/* app {\n\t\tidentity {\n\t\t\tuser X-Webauth-User\n\t\t}\n\t}\n\treverse_proxy {upstream}",
		"as it is written": "route {\n\t\tmfa /admin/* app {\n\t\t\tidentity {\n\t\t\t\tuser X-Webauth-User\n\t\t\t}\n\t\t}\n\t\tmfa /payroll/* payroll {\n\t\t\tidentity {\n\t\t\t\tuser X-Webauth-User\n\t\t\t}\n\t\t}\n\t\treverse_proxy {upstream}\n\t}",
	} {
		t.Run(name, func(t *testing.T) {
			up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/sets" {
					w.Header().Add("Set-Cookie", sessionCookie+"=planted; Path=/")
				}
				io.WriteString(w, secretReport)
			})
			p := lab.Start(t, up.Address, lab.Options{Site: site})
			b := lab.NewBrowser(t, p.URL)
			page := b.Password("/admin/x", "alice", lab.Password).Submit("begin")
			person := &lab.Person{Name: "alice", Key: page.Key()}
			page.Submit("code", "code", person.Code(t)).Submit("kept").Follow().Want(secretReport)
			cookie := b.Cookie(sessionCookie)
			host := strings.TrimPrefix(p.URL, "http://")
			for _, path := range []string{"/login", "/admin/x", "/payroll/x"} {
				up.Forget()
				p.Raw(t, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nCookie: a=1; "+sessionCookie+"="+cookie+"; b=2\r\nX-Webauth-User: spoofed-marker\r\nRemote_User: spoofed-marker\r\nX-Original-URL: spoofed-marker\r\nUpgrade: h2c\r\nConnection: close, X-Webauth-User, Upgrade\r\n\r\n")
				r := up.Last(t)
				if r.Header.Get("Upgrade") != "" {
					t.Errorf("%s: an upgrade to a protocol whose requests nobody judges reaches the application", path)
				}
				if strings.Contains(up.Raw(), "spoofed-marker") {
					t.Errorf("%s: a spoofed header reaches the application:\n%s", path, up.Raw())
				}
				if strings.Contains(up.Raw(), cookie) {
					t.Errorf("%s: our cookie reaches the application:\n%s", path, up.Raw())
				}
				if r.Header.Get("Cookie") != "a=1; b=2" {
					t.Errorf("%s: the application's own cookies are %q", path, r.Header.Get("Cookie"))
				}
				guarded := path == "/admin/x" || path == "/payroll/x" && strings.Contains(site, "/payroll/")
				want := ""
				if guarded {
					want = "alice"
				}
				if got := r.Header.Get("X-Webauth-User"); got != want {
					t.Errorf("%s: the application takes %q for the user", path, got)
				}
			}
			b.Get("/sets")
			if got := b.Cookie(sessionCookie); got != cookie {
				t.Errorf("the application has replaced our cookie by %q", got)
			}
			up.Forget()
			p.Raw(t, "GET /admin/x HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			p.Raw(t, "GET /admin/../admin/x HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			p.Raw(t, "GET /x/../admin/x HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			p.Raw(t, "GET /%61dmin/x HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			p.Raw(t, "GET //admin/x HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			up.WantNothing(t)
		})
	}
}

func TestAttackAddressesAndSchemesThatClientsClaim(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	const from = "registration {\n\t\t\tfrom 203.0.113.0/24\n\t\t}\n\t\tsecurity_defaults {\n\t\t\tregistration_grace 0s\n\t\t}"
	const trusting = "servers {\n\t\ttrusted_proxies static 127.0.0.1\n\t\ttrusted_proxies_strict\n\t}"
	// Whom the proxy in front saw stands at the right end. Everything to the left of it is the client's own text.
	register := func(t *testing.T, p *lab.Proxy, forwarded ...string) bool {
		t.Helper()
		b := lab.NewBrowser(t, p.URL)
		b.Header["X-Forwarded-For"] = forwarded
		page := b.Password("/", "bob", lab.Password)
		return page.Has("Set up your second step") && page.Status == http.StatusOK
	}
	t.Run("behind a proxy that is trusted", func(t *testing.T) {
		p := lab.Start(t, up.Address, lab.Options{Global: from, Servers: trusting})
		for reason, forwarded := range map[string][]string{
			"outside":                        {"198.51.100.7"},
			"the client's own text":          {"203.0.113.9, 198.51.100.7"},
			"in a line of its own":           {"203.0.113.9", "198.51.100.7"},
			"junk":                           {"203.0.113.9, junk"},
			"junk alone":                     {"junk"},
			"IPv4 in IPv6, outside":          {"::ffff:198.51.100.7"},
			"nothing":                        nil,
			"another trusted one":            {"203.0.113.9, 198.51.100.7, 127.0.0.1"},
			"a port":                         {"203.0.113.9, 198.51.100.7:80"},
			"a range":                        {"203.0.113.0/24"},
			"a long list":                    {strings.Repeat("203.0.113.9, ", 500) + "198.51.100.7"},
			"an address of nobody":           {"0.0.0.0"},
			"a zone that is only written so": {"fe80::203.0.113.9%eth0"},
		} {
			if register(t, p, forwarded...) {
				t.Errorf("%s: %.60q may register", reason, forwarded)
			}
		}
		for reason, forwarded := range map[string][]string{"inside": {"203.0.113.9"}, "IPv4 in IPv6": {"::ffff:203.0.113.9"}, "behind two": {"203.0.113.9, 127.0.0.1"}} {
			if !register(t, p, forwarded...) {
				t.Errorf("%s: %q may not register", reason, forwarded)
			}
		}
	})
	t.Run("without one", func(t *testing.T) {
		p := lab.Start(t, up.Address, lab.Options{Global: from})
		for _, forwarded := range [][]string{{"203.0.113.9"}, {"203.0.113.9, 203.0.113.9"}} {
			if register(t, p, forwarded...) {
				t.Errorf("%q may register", forwarded)
			}
		}
	})
	t.Run("a proxy that is trusted, and a client that is believed", func(t *testing.T) {
		p := lab.Start(t, up.Address, lab.Options{Global: from, Servers: "servers {\n\t\ttrusted_proxies static 127.0.0.1\n\t}", MayFail: true})
		lab.Eventually(t, 20*time.Second, "it refuses to run", func() bool { return !p.Running() })
		if !strings.Contains(p.Log(), "trusted_proxies_strict") {
			t.Errorf("it does not say what is missing:\n%s", p.Log())
		}
	})
	up.WantNothing(t)
}

func TestAttackHTTPSAtAProxy(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	get := func(p *lab.Proxy, lines string) lab.Answer {
		return p.Raw(t, fmt.Sprintf("GET /_mfa/signin HTTP/1.1\r\nHost: hr.example.com:%d\r\nAccept: text/html\r\n%sConnection: close\r\n\r\n", p.Port, lines))
	}
	const address = "http://hr.example.com:{port}"
	trusting := lab.Start(t, up.Address, lab.Options{Address: address, Servers: "servers {\n\t\ttrusted_proxies static 127.0.0.1\n\t\ttrusted_proxies_strict\n\t}"})
	other := lab.Start(t, up.Address, lab.Options{Address: address})
	for reason, tc := range map[string]struct {
		proxy  *lab.Proxy
		lines  string
		status int
	}{
		"https at the proxy":                {trusting, "X-Forwarded-Proto: https\r\n", 200},
		"https in capitals":                 {trusting, "X-Forwarded-Proto: HTTPS\r\n", 200},
		"https through two":                 {trusting, "X-Forwarded-Proto: https, https\r\n", 200},
		"http at the first of two":          {trusting, "X-Forwarded-Proto: http, https\r\n", 403},
		"http at the second of two":         {trusting, "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n", 403},
		"http at the proxy":                 {trusting, "X-Forwarded-Proto: http\r\n", 403},
		"nothing said":                      {trusting, "", 403},
		"something that is no scheme":       {trusting, "X-Forwarded-Proto: httpsx\r\n", 403},
		"another header":                    {trusting, "X-Forwarded-Scheme: https\r\nX-Forwarded-Ssl: on\r\nForwarded: proto=https\r\n", 403},
		"a client that claims it":           {other, "X-Forwarded-Proto: https\r\n", 403},
		"a client that claims to be a host": {other, "X-Forwarded-Proto: https\r\nX-Forwarded-Host: localhost\r\n", 403},
		"a client that says nothing":        {other, "", 403},
	} {
		a := get(tc.proxy, tc.lines)
		if codes := a.Statuses(); len(codes) != 1 || codes[0] != tc.status {
			t.Errorf("%s: %v, want %d", reason, codes, tc.status)
		}
		if form := strings.Contains(string(a), `type="password"`); form != (tc.status == 200) {
			t.Errorf("%s: the page asks for a password: %v", reason, form)
		}
	}
	// What the browser gets there is for https alone, and what it has over plain http counts for nothing.
	form := "username=alice&password=" + strings.ReplaceAll(lab.Password, " ", "+")
	a := trusting.Raw(t, fmt.Sprintf("POST /_mfa/signin HTTP/1.1\r\nHost: hr.example.com\r\nX-Forwarded-Proto: https\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(form), form))
	var cookie string
	for _, line := range strings.Split(string(a), "\r\n") {
		if value, ok := strings.CutPrefix(line, "Set-Cookie: __Host-mfa_session="); ok {
			if !strings.Contains(value, "; Secure") || !strings.Contains(value, "; HttpOnly") || !strings.Contains(value, "; SameSite=Lax") || !strings.Contains(value, "; Path=/") || strings.Contains(value, "Domain") {
				t.Errorf("the cookie has other attributes: %s", line)
			}
			cookie, _, _ = strings.Cut(value, ";")
		} else if strings.HasPrefix(line, "Set-Cookie: ") && !strings.HasPrefix(line, "Set-Cookie: __Host-mfa_") {
			t.Errorf("a cookie without prefix: %s", line)
		}
	}
	if cookie == "" {
		t.Fatalf("no cookie:\n%s", a)
	}
	up.Forget()
	for reason, lines := range map[string]string{
		"over plain http":         "Cookie: __Host-mfa_session=" + cookie + "\r\n",
		"the name of plain http":  "X-Forwarded-Proto: https\r\nCookie: mfa_session=" + cookie + "\r\n",
		"twice":                   "X-Forwarded-Proto: https\r\nCookie: __Host-mfa_session=" + cookie + "; __Host-mfa_session=" + cookie + "\r\n",
		"in another name's case":  "X-Forwarded-Proto: https\r\nCookie: __host-mfa_session=" + cookie + "\r\n",
		"at the other instance":   "X-Forwarded-Proto: https\r\nCookie: __Host-mfa_session=" + cookie + "x\r\n",
		"in quotes":               "X-Forwarded-Proto: https\r\nCookie: __Host-mfa_session=\"" + cookie + "\"\r\n",
		"behind a comma":          "X-Forwarded-Proto: https\r\nCookie: a=1, __Host-mfa_session=" + cookie + "\r\n",
		"as a plain http browser": "X-Forwarded-Proto: http\r\nCookie: mfa_session=" + cookie + "\r\n",
	} {
		trusting.Raw(t, "GET / HTTP/1.1\r\nHost: hr.example.com\r\n"+lines+"Connection: close\r\n\r\n")
		if up.Bytes() != 0 {
			t.Errorf("%s: it reaches the application", reason)
			up.Forget()
		}
	}
	// It is good for what it is for: alice is in grace.
	trusting.Raw(t, "GET / HTTP/1.1\r\nHost: hr.example.com\r\nX-Forwarded-Proto: https\r\nCookie: __Host-mfa_session="+cookie+"\r\nConnection: close\r\n\r\n")
	up.Last(t)
}

func TestAttackMethodsOfASignedInBrowser(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	host := strings.TrimPrefix(p.URL, "http://")
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	send := func(method, cookie string) []int {
		return p.Raw(t, method+" /dav/x HTTP/1.1\r\nHost: "+host+"\r\n"+cookie+"Content-Length: 3\r\nConnection: close\r\n\r\na=b").Statuses()
	}
	for _, method := range strings.Fields("GET POST PUT PATCH DELETE OPTIONS QUERY SEARCH " + // HTTP
		"PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK ACL BIND UNBIND REBIND ORDERPATCH " + // WebDAV
		"REPORT MKCALENDAR " + // CalDAV
		"CHECKOUT MERGE MKACTIVITY MKWORKSPACE VERSION-CONTROL UNCHECKOUT UPDATE LABEL BASELINE-CONTROL CHECKIN") { // Subversion
		up.Forget()
		if send(method, ""); up.Bytes() != 0 {
			t.Errorf("%s reaches the application without a session", method)
		}
		up.Forget()
		send(method, cookieHeader(b))
		if got := up.Requests(); len(got) != 1 || got[0].Method != method || got[0].Body != "a=b" {
			t.Errorf("%s does not arrive as it was sent: %+v", method, got)
		}
	}
	for _, method := range strings.Fields("TRACE TRACK DEBUG CONNECT get Post FOO RPC_IN_DATA PRI") {
		up.Forget()
		if codes := send(method, cookieHeader(b)); up.Bytes() != 0 || len(codes) > 0 && codes[0] < 400 {
			t.Errorf("%s: %v, and %d bytes reach the application", method, codes, up.Bytes())
		}
	}
}
