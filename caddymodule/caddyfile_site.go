package caddymodule

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-mfa/caddy-mfa/config"
)

// parseDirective reads the directive. Syntax:
//
//	mfa [<matcher>] [<application>] {
//		bypass  <path>…
//		no_idle <path>…
//		well_known
//		with_session   strip | pass | replace
//		upstream_basic <reference> | per_user
//		identity {
//			user   <header>
//			groups <header>
//			name   <header>
//			email  <header>
//		}
//		…                          # see legacyOptions
//	}
//
// With a matcher, the pages below /_mfa/ are served for the whole site all the same, and what clients may not send is removed in
// all of it.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	if h.Option("mfa") == nil {
		return nil, fmt.Errorf("%s: the directive `mfa` needs the global option `mfa`, with at least a directory of users:\n{\n\tmfa {\n\t\tusers file users.yaml\n\t}\n}", position(h.Dispenser))
	}
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	h.Next()
	p, handler := newParser(), &Handler{}
	p.at[""] = position(h.Dispenser)
	a := &handler.Application
	if args, ok := p.args(h.Dispenser, 0, 1, "mfa hr"); ok && len(args) == 1 {
		a.Application = args[0]
	}
	options := map[string]option{
		"bypass":         p.texts(&a.Bypass, "bypass /healthz /assets/*"),
		"no_idle":        p.texts(&a.NoIdle, "no_idle /api/poll"),
		"with_session":   p.text(&a.WithSession, "with_session strip"),
		"upstream_basic": p.text(&a.UpstreamBasic, "upstream_basic {file./run/secrets/hr}"),
		"well_known":     p.flag(&a.WellKnown),
		"identity": func(d *caddyfile.Dispenser) {
			p.args(d, 0, 0, "identity {")
			p.block(d, "application.identity", map[string]option{
				"user":   p.text(&a.Identity.User, "user Remote-User"),
				"groups": p.text(&a.Identity.Groups, "groups Remote-Groups"),
				"name":   p.text(&a.Identity.Name, "name Remote-Name"),
				"email":  p.text(&a.Identity.Email, "email Remote-Email"),
			})
		},
	}
	maps.Copy(options, p.legacyOptions(a))
	p.block(h.Dispenser, "application", options)
	problems := append(a.Validate(), checkUserNames(a)...)
	if !a.LegacyOnly && !hasUsers(h.Option("mfa")) {
		problems = append(problems, config.Problem{Message: config.NoUsers})
	}
	if err := p.err("mfa", problems); err != nil {
		return nil, err
	}
	routes := h.NewRoute(matcher, handler)
	if matcher != nil && !a.LegacyOnly {
		pages := &Handler{PagesOnly: true}
		pages.Identity, pages.WellKnown = a.Identity, a.WellKnown
		routes = append(routes, h.NewRoute(nil, pages)...)
	}
	return routes, nil
}

// hasUsers says whether the global option names a directory of users.
func hasUsers(option any) bool {
	app, ok := option.(httpcaddyfile.App)
	var c struct {
		Users []json.RawMessage `json:"users"`
	}
	return ok && json.Unmarshal(app.Value, &c) == nil && len(c.Users) > 0
}

func parsePortalDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	return nil, fmt.Errorf("%s: `mfa_portal` is not available in this version of caddy-mfa; the pages are below /_mfa/ on each host", position(h.Dispenser))
}
