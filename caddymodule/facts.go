package caddymodule

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/portal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// asked is a request as the client sent it, before directives like rewrite and uri have changed it.
type asked struct {
	method string
	uri    string // as it stands in the request line
	url    *url.URL
}

func askedOf(r *http.Request) asked {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return asked{original.Method, original.RequestURI, original.URL}
	}
	return asked{r.Method, r.RequestURI, r.URL}
}

// path is the path as it stands in the request line, escaped. Go parses an absolute-form target (RFC 9112, section 3.2.2)
// into the URL.
func (a asked) path() string {
	if strings.HasPrefix(a.uri, "/") {
		path, _, _ := strings.Cut(a.uri, "?")
		return path
	}
	return a.url.EscapedPath()
}

// target is path and query as they stand in the request line.
func (a asked) target() string {
	if strings.HasPrefix(a.uri, "/") {
		return a.uri
	}
	return a.url.RequestURI()
}

// request is r as it was asked for. Our own pages are not what a rewrite is for.
func (a asked) request(r *http.Request) *http.Request {
	original := r.WithContext(r.Context())
	original.Method, original.RequestURI, original.URL = a.method, a.uri, a.url
	return original
}

// clientAddress is the address that Caddy has found, behind the proxies that it trusts. It is the zero Addr if nobody knows.
func clientAddress(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	address, err := netip.ParseAddr(text)
	if err != nil || !vouched(r, address) {
		return netip.Addr{}
	}
	return address.Unmap()
}

// vouched says whether a trusted proxy wrote the address. Caddy passes over what is none, such as the word "unknown" of a proxy
// that hides its clients (RFC 7239, section 6.2): what stands to the left of that is the client's own text.
func vouched(r *http.Request, address netip.Addr) bool {
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); !trusted {
		return true
	}
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return false
	}
	for _, name := range server.ClientIPHeaders {
		for _, value := range slices.Backward(r.Header.Values(name)) {
			for _, part := range slices.Backward(strings.Split(value, ",")) {
				if part = strings.TrimSpace(part); part == "" {
					continue
				}
				if host, _, err := net.SplitHostPort(part); err == nil {
					part = host
				}
				part, _, _ = strings.Cut(part, "%")
				if a, err := netip.ParseAddr(part); err != nil || a == address {
					return err == nil
				}
			}
		}
	}
	return true
}

// overHTTPS says whether the browser talks https: to us, or to a proxy that Caddy trusts and that says so, as every proxy
// in the chain does.
func overHTTPS(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); !trusted {
		return false
	}
	values := r.Header["X-Forwarded-Proto"]
	for _, v := range values {
		for proto := range strings.SplitSeq(v, ",") {
			if !strings.EqualFold(strings.TrimSpace(proto), "https") {
				return false
			}
		}
	}
	return len(values) > 0
}

// localHosts are the names of this machine, to which plain http is safe.
var localHosts = map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true}

// hostOf is the host that a request is for: lower case, without port, brackets and trailing dot.
func hostOf(r *http.Request) string {
	host := r.Host
	if strings.HasPrefix(host, "[") {
		host, _, _ = strings.Cut(host[1:], "]")
	} else if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// platformHint is the header in which a browser says what it runs on.
const platformHint = "Sec-Ch-Ua-Platform"

// subject is what a request says of its sender. It is kept while the request is in flight: the next configuration may ask for more.
func (h *Handler) subject(r *http.Request) session.Subject {
	return session.Subject{Application: h.gated.Name, Host: hostOf(r), Address: clientAddress(r), Hint: r.Header.Get(platformHint), UserAgent: r.UserAgent(), TLS: r.TLS}
}

// client is what policy looks at. What no policy asks for is not found out.
func (a *App) client(s *session.Subject) mfa.Client {
	c := mfa.Client{App: mfa.Browser, Address: s.Address}
	needs := a.rules.Inputs()
	if needs.Platform {
		c.Platform = mfa.Platform(a.live.platforms.Parse(s.Hint, s.UserAgent).Platform)
	}
	if needs.Country {
		c.Country, c.CountryKnown = a.country(c.Address)
	}
	if needs.Device {
		c.Device = a.devices.device(s.TLS, s.Host)
	}
	return c
}

// request is what the gate looks at.
func (h *Handler) request(r *http.Request, asked asked, now time.Time, subject *session.Subject) gate.Request {
	host, https := subject.Host, overHTTPS(r)
	g := gate.Request{
		Application: h.gated, Now: now, Host: host, Client: h.app.client(subject),
		Asked: asked.path(), Rewritten: r.URL.EscapedPath(),
		Destinations: r.Header["Destination"],
		Method:       r.Method, UserAgent: subject.UserAgent, Hint: subject.Hint, Authorized: len(r.Header["Authorization"]) > 0,
	}
	g.Finding = h.inspect(r, asked, &g)
	if g.Finding.Basic != nil || g.Finding.Digest != nil {
		g.Overrides = overriding(r.Header)
		g.Line = gate.Line{Method: asked.method, Target: asked.uri, Host: r.Host}
	}
	g.Cookie = sessionCookie(r, host, https)
	if g.Cookie == "" {
		g.Program, g.Terminal = portal.KindOf(r) == portal.Program, portal.Terminal(r)
	}
	return g
}

// passedCookieKey is where passBy keeps the value of the session cookie.
type passedCookieKey struct{}

// sessionCookie is the value of the session cookie, also where a handler of ours that the request has come through has taken the
// cookie out of it.
func sessionCookie(r *http.Request, host string, https bool) string {
	if https || localHosts[host] {
		if cookie := session.CookieValue(r, session.CookieName, https); cookie != "" {
			return cookie
		}
	}
	if conn, ok := session.FromContext(r.Context()); ok {
		return conn.Subject.Cookie
	}
	cookie, _ := r.Context().Value(passedCookieKey{}).(string)
	return cookie
}

// clientOf is who has sent a request, as the sign-in log knows him.
func clientOf(s *session.Subject, g *gate.Request, reference string) signin.Client {
	return signin.Client{
		Host: g.Host, Application: s.Application, Client: g.Client, UserAgent: s.UserAgent, Hint: s.Hint, Reference: cmp.Or(reference, audit.NewReference()), Now: g.Now,
	}
}

// facts is what our own pages and answers need to know.
func (h *Handler) facts(r *http.Request, asked asked, now time.Time, subject *session.Subject) portal.Facts {
	host, https := subject.Host, overHTTPS(r)
	scheme := "http"
	if https {
		scheme = "https"
	}
	return portal.Facts{
		Host: host, Origin: scheme + "://" + r.Host, HTTPS: https, Secure: https || localHosts[host],
		Client: h.app.client(subject), Application: h.gated.Name, Target: asked.target(),
		Reference: audit.NewReference(), Now: now,
	}
}

// identify tells the application who is signed in: by headers, which hygiene has cleared of everything a client could have sent in
// their place, and by placeholders.
func (h *Handler) identify(r *http.Request, u *mfa.User, current session.Current) {
	beside := current.Beside()
	id, ok := beside.Load().(*identity)
	if !ok || id.user != u {
		id = newIdentity(u, current.Session.ID)
		beside.Store(id)
	}
	h.tell(r, id)
}

// tell writes headers and placeholders.
func (h *Handler) tell(r *http.Request, id *identity) {
	values := id.headers // a copy: directives change headers in place
	for i, name := range h.identityHeaders {
		if values[i] != "" {
			r.Header[name] = values[i : i+1 : i+1]
		}
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(id.placeholder)
	}
}

// identity is what applications are told of a user in a session.
type identity struct {
	user        *mfa.User
	headers     [4]string // values, as Handler.identityHeaders names them; empty: none
	placeholder caddy.ReplacerFunc
}

func newIdentity(u *mfa.User, session string) *identity {
	groups := joinGroups(u.Groups)
	return &identity{
		user:    u,
		headers: [4]string{headerText(u.Name), groups, headerText(u.DisplayName), headerText(u.Email)},
		placeholder: func(key string) (any, bool) {
			name, ok := strings.CutPrefix(key, "http.auth.user.")
			if !ok {
				return nil, false
			}
			switch name {
			case "id":
				return u.Name, true
			case "groups":
				return groups, true
			case "name":
				return u.DisplayName, true
			case "email":
				return u.Email, true
			case "account":
				return u.ID.String(), true
			case "session":
				return session, true
			}
			return nil, false
		},
	}
}

// joinGroups writes names separated by commas. Percent signs and commas in them are percent-encoded, and control characters,
// which no header can hold.
func joinGroups(groups []string) string {
	size := len(groups)
	for _, g := range groups {
		size += len(g)
	}
	var b strings.Builder
	b.Grow(size)
	for i, g := range groups {
		if i > 0 {
			b.WriteByte(',')
		}
		for j := range len(g) {
			if c := g[j]; c == '%' || c == ',' || c < 0x20 || c == 0x7f {
				const hex = "0123456789ABCDEF"
				b.WriteByte('%')
				b.WriteByte(hex[c>>4])
				b.WriteByte(hex[c&15])
			} else {
				b.WriteByte(c)
			}
		}
	}
	return b.String()
}

// headerText leaves out what no header can hold.
func headerText(s string) string {
	if !strings.ContainsFunc(s, control) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if control(r) {
			return -1
		}
		return r
	}, s)
}

func control(r rune) bool { return r < 0x20 || r == 0x7f }
