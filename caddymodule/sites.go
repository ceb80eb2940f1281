package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/inventory"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
)

// checkSites looks at what can only be seen when app and sites are there: that every application has a name, that its pages can
// be reached where it can, and that addresses are what they seem wherever policy looks at them.
func (a *App) checkSites() error {
	value, err := a.ctx.AppIfConfigured("http")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil // then no site uses it
	}
	if err != nil {
		return err
	}
	servers := value.(*caddyhttp.App).Servers
	found := map[*Handler]bool{}
	names := map[string]bool{} // hosts of the sites that people sign in to
	related := false           // browsers find the related origins
	var guarded, unguarded []place
	var mistakes []error
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		w := &walker{server: servers[name]}
		w.walk(w.server.Routes, nil)
		unshared := !w.shares
		for _, p := range w.places {
			found[p.handler] = true
			p.handler.gated.Doors.Unshared = unshared
			if p.handler.LegacyOnly {
				unguarded = append(unguarded, p)
			} else {
				guarded = append(guarded, p)
			}
			for _, host := range p.hosts() {
				if !p.handler.LegacyOnly {
					names[host] = true
					related = related || a.answersRelated(strings.ToLower(host)) && w.answers(http.MethodGet, host, relatedOriginsPath, p, nil) == nil
				}
			}
			if err := w.check(p); err != nil {
				mistakes = append(mistakes, err)
			}
		}
		if len(w.places) > 0 && w.server.TrustedProxiesStrict == 0 && trustsProxies(w.server) {
			const advice = "the client's address is the leftmost in X-Forwarded-For, which the client writes; add `trusted_proxies_strict` beside `trusted_proxies`"
			if what := cmp.Or(looksAtAddresses(&a.Config, a.rules.Inputs()), w.looksAtAddresses()); what != "" {
				mistakes = append(mistakes, fmt.Errorf("server %s: %s looks at addresses, but %s", name, what, advice))
			} else {
				a.log.Warn("addresses in the logs and in what is counted against guessing can be forged", zap.String("server", name), zap.String("advice", advice))
			}
		}
	}
	for _, p := range unguarded {
		p.handler.besides = p.handler.besides || slices.ContainsFunc(guarded, p.mayShareHost)
	}
	mistakes = append(mistakes, a.checkPasskeys(names)...)
	if factor := a.passkeys(); len(factor.RelatedOrigins) > 0 && !related {
		list, err := json.Marshal(map[string][]string{"origins": factor.RelatedOrigins})
		if err != nil { // strings are always written
			panic(err)
		}
		a.log.Warn("browsers ask the domain itself which origins are related to it, and no site with `mfa` here answers for it; have it answer with this JSON",
			zap.String("url", "https://"+factor.RPID+relatedOriginsPath), zap.ByteString("json", list))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gated = map[string][]*gate.Application{}
	for _, h := range a.handlers {
		h.requests = newRequestCounters(h.gated.Name) // the name is known now
		if !h.PagesOnly {
			a.gated[h.gated.Name] = append(a.gated[h.gated.Name], h.gated)
			legacyTotal.WithLabelValues(h.gated.Name, string(legacy.Basic), inventory.Blocked) // a counter that isn't there can't rise
		}
		h.refusals = upstreamRefusedTotal.WithLabelValues(h.gated.Name)
		if !found[h] && !h.PagesOnly {
			mistakes = append(mistakes, fmt.Errorf("mfa %s: it stands where it would judge answers and not requests (`handle_errors`, `handle_response`); put it into the site, before what it is to guard", h.gated.Name))
		}
	}
	return errors.Join(mistakes...)
}

// looksAtAddresses names what of the applications depends on where a client is, or nothing.
func (w *walker) looksAtAddresses() string {
	for _, p := range w.places {
		for _, r := range p.handler.LegacyAuth {
			if len(r.From) > 0 {
				return "`legacy_auth` of " + p.handler.gated.Name
			}
		}
		for _, e := range p.handler.LegacyExceptions {
			if len(e.From) > 0 {
				return "`legacy_exception` of " + p.handler.gated.Name
			}
		}
	}
	return ""
}

// checkPasskeys finds hosts that passkeys are not good for.
func (a *App) checkPasskeys(names map[string]bool) (mistakes []error) {
	factor := a.passkeys()
	var hosts []string
	for _, host := range slices.Sorted(maps.Keys(names)) {
		plain := strings.TrimSuffix(strings.ToLower(host), ".")
		if _, err := netip.ParseAddr(strings.Trim(plain, "[]")); err == nil || strings.Contains(plain, "{") {
			continue // an address has no passkeys, and what a placeholder stands for is not known yet
		}
		plain = strings.ReplaceAll(plain, "*", "any")
		hosts = append(hosts, host)
		if factor.RPID != "" && factor.RP(plain) == "" {
			mistakes = append(mistakes, fmt.Errorf("factor webauthn: the site %s is not %s, nor below it, so that browsers would refuse passkeys there; write an `rp_id` that all sites share, name the site's origin in `related_origins`, or take `rp_id` out",
				host, factor.RPID))
		}
	}
	if factor.RPID == "" && (len(hosts) > 1 || len(hosts) == 1 && strings.Contains(hosts[0], "*")) {
		a.log.Warn("a passkey is good only for the host that it was registered on; with `factor webauthn { rp_id <domain> }` it is good for every host below a domain, "+
			"and must be set before people register", zap.Strings("hosts", hosts))
	}
	return mistakes
}

// trustsProxies says whether a server has trusted_proxies. Caddy keeps that to itself; should it keep it elsewhere one day, we
// assume that it does.
func trustsProxies(s *caddyhttp.Server) bool {
	field := reflect.ValueOf(s).Elem().FieldByName("trustedProxies")
	return !field.IsValid() || field.Kind() != reflect.Interface || !field.IsNil()
}

// walker finds the handlers `mfa` in the routes of a server.
type walker struct {
	server *caddyhttp.Server
	places []place
	depth  int
	kind   func(*Handler) bool // that is looked for; nil: any
	shares bool                // some application's connections serve several clients
}

// place is where a handler stands: below these routes, the outermost first.
type place struct {
	handler *Handler
	routes  []*caddyhttp.Route
}

// maxDepth ends routes that invoke each other.
const maxDepth = 32

func (w *walker) walk(routes caddyhttp.RouteList, above []*caddyhttp.Route) {
	if w.depth++; w.depth > maxDepth {
		w.depth--
		return
	}
	for i := range routes {
		route := &routes[i]
		below := append(slices.Clone(above), route)
		for _, h := range route.Handlers {
			if ours, ok := h.(*Handler); ok {
				w.places = append(w.places, place{ours, below})
			}
			w.shares = w.shares || sharesConnections(h)
			w.walk(w.inner(h), below)
		}
	}
	w.depth--
}

// sharesConnections says whether a handler sends requests of several clients over one connection, as reverse_proxy does unless its
// transport has keepalive off. Of a transport that isn't Caddy's own we take it that it was chosen because it doesn't.
func sharesConnections(h caddyhttp.MiddlewareHandler) bool {
	proxy, ok := h.(*reverseproxy.Handler)
	if !ok {
		return false
	}
	transport, ok := proxy.Transport.(*reverseproxy.HTTPTransport)
	return ok && (transport.KeepAlive == nil || transport.KeepAlive.Enabled == nil || *transport.KeepAlive.Enabled)
}

// inner gives the routes within a handler that requests go through.
func (w *walker) inner(h caddyhttp.MiddlewareHandler) caddyhttp.RouteList {
	switch h := h.(type) {
	case *caddyhttp.Subroute:
		return h.Routes
	case *caddyhttp.Invoke:
		if route, ok := w.server.NamedRoutes[h.Name]; ok {
			return caddyhttp.RouteList{*route}
		}
	}
	return nil
}

// check names the application at a place, and makes sure that its pages can be reached.
func (w *walker) check(p place) error {
	hosts := p.hosts()
	if p.handler.PagesOnly {
		return nil
	}
	if p.handler.Application.Application == "" {
		if len(hosts) != 1 || strings.ContainsAny(hosts[0], "*{") {
			return fmt.Errorf("mfa: the application has no name, and %s to take one from; write for example `mfa hr`", hostsText(hosts))
		}
		if name := p.handler.gated.Name; name != "" && name != hosts[0] {
			return fmt.Errorf("mfa: the application has no name, and the sites %s and %s share it; write for example `mfa hr`", name, hosts[0])
		}
		p.handler.gated.Name = hosts[0]
	}
	if p.handler.LegacyOnly {
		return nil // it has no pages
	}
	if len(hosts) == 0 {
		hosts = []string{"example.com"}
	}
	for _, host := range hosts {
		host = strings.ReplaceAll(host, "*", "any")
		for _, path := range []string{passkeyEndpointsPath, changePasswordPath} {
			if !p.handler.WellKnown {
				break
			}
			switch err := w.answers(http.MethodGet, host, path, p, func(h *Handler) bool { return h.WellKnown }); {
			case errors.Is(err, errNotReached):
				return fmt.Errorf("mfa %s: it has `well_known`, and a request for %s on %s would not reach it, because `mfa` stands inside a `handle` or `route` that matches other paths only; "+
					"put `mfa` into the site itself, or take `well_known` out", p.handler.gated.Name, path, host)
			case err != nil:
				return err
			}
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			switch err := w.answers(method, host, "/_mfa/signin", p, nil); {
			case err != nil && !errors.Is(err, errNotReached):
				return err
			case err != nil:
				return fmt.Errorf("mfa %s: a browser that is sent to the sign-in page at /_mfa/ on %s would not reach it, because `mfa` stands inside a `handle` or `route` that matches other paths only; "+
					"put `mfa` into the site itself, with a matcher if need be (`mfa /app/* %s`), or add `handle /_mfa/* {` `mfa %s` `}`", p.handler.gated.Name, host, p.handler.gated.Name, p.handler.gated.Name)
			}
		}
	}
	return nil
}

var errNotReached = errors.New("no handler `mfa` is reached")

// answers says whether a request comes to a handler `mfa` of this kind (nil: any), for a client that comes to the one at p. The error is
// errNotReached, or a fault.
func (w *walker) answers(method, host, path string, p place, kind func(*Handler) bool) error {
	request, err := http.NewRequest(method, path, nil)
	if err != nil {
		return err
	}
	request.Host, request.RequestURI = host, path
	request = caddyhttp.PrepareRequest(request, caddy.NewReplacer(), nil, w.server)
	w.kind = kind
	if !w.reaches(w.server.Routes, request, p) {
		return errNotReached
	}
	return nil
}

func hostsText(hosts []string) string {
	switch {
	case len(hosts) == 0:
		return "its site has no host"
	case len(hosts) == 1:
		return "its site has a host with a wildcard or a placeholder"
	}
	return "its site has several hosts"
}

// hosts are those of the innermost host matcher above the handler.
func (p place) hosts() []string {
	for _, route := range slices.Backward(p.routes) {
		var hosts []string
		for _, set := range route.MatcherSets {
			for _, m := range set {
				if h, ok := m.(*caddyhttp.MatchHost); ok {
					hosts = append(hosts, *h...)
				}
				if h, ok := m.(caddyhttp.MatchHost); ok {
					hosts = append(hosts, h...)
				}
			}
		}
		if len(hosts) > 0 {
			return hosts
		}
	}
	return nil
}

// mayShareHost says whether one host may belong to both places. Browsers send their cookies to every port of a host.
func (p place) mayShareHost(other place) bool {
	ours, others := p.hosts(), other.hosts()
	if len(ours) == 0 || len(others) == 0 {
		return true
	}
	return slices.ContainsFunc(ours, func(a string) bool {
		return slices.ContainsFunc(others, func(b string) bool { return strings.EqualFold(a, b) || strings.ContainsAny(a+b, "*{") })
	})
}

// reaches says whether a request comes to a handler `mfa`, for a client that comes to the one at p.
func (w *walker) reaches(routes caddyhttp.RouteList, r *http.Request, p place) bool {
	if w.depth++; w.depth > maxDepth {
		w.depth--
		return false
	}
	defer func() { w.depth-- }()
	groups := map[string]bool{}
	for i := range routes {
		route := &routes[i]
		if route.Group != "" && groups[route.Group] || !matches(route, r, p) {
			continue
		}
		groups[route.Group] = true
		for _, h := range route.Handlers {
			if ours, ok := h.(*Handler); ok && (w.kind == nil || w.kind(ours)) {
				return true
			}
			if inner := w.inner(h); len(inner) > 0 && w.reaches(inner, r, p) {
				return true
			}
		}
		if route.Terminal {
			return false
		}
	}
	return false
}

// matches says whether a route matches. What depends on the client and not on what it asks for is taken to match where it
// does so for the handler at p, and nowhere else.
func matches(route *caddyhttp.Route, r *http.Request, p place) bool {
	if len(route.MatcherSets) == 0 {
		return true
	}
	return slices.ContainsFunc(route.MatcherSets, func(set caddyhttp.MatcherSet) bool {
		for _, m := range set {
			if dependsOnClient(m) {
				if !slices.Contains(p.routes, route) {
					return false
				}
				continue
			}
			matcher, ok := m.(caddyhttp.RequestMatcherWithError)
			if !ok {
				return false
			}
			if match, err := matcher.MatchWithError(r); err != nil || !match {
				return false
			}
		}
		return true
	})
}

func dependsOnClient(m any) bool {
	module, ok := m.(caddy.Module)
	if !ok {
		return false
	}
	switch module.CaddyModule().ID.Name() {
	case "remote_ip", "client_ip", "protocol", "tls", "header", "header_regexp", "vars", "vars_regexp":
		return true
	}
	return false
}
