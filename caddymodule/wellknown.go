package caddymodule

import (
	"net/http"

	"github.com/caddy-mfa/caddy-mfa/internal/portal"
)

// Paths that browsers and password managers look for at the root of a host (RFC 8615).
const (
	relatedOriginsPath   = "/.well-known/webauthn"
	passkeyEndpointsPath = "/.well-known/passkey-endpoints"
	changePasswordPath   = "/.well-known/change-password"
)

// wellKnown gives what answers such a path; nil: it is the application's, like every other spelling of it. Related origins are answered
// where browsers look for them, on the host that is the relying party itself; the others where the site says so.
func (h *Handler) wellKnown(r *http.Request, path string) func(*portal.Portal, http.ResponseWriter, *http.Request, portal.Facts) {
	switch {
	case path == relatedOriginsPath && h.app.answersRelated(hostOf(r)):
		origins := h.app.Factor.WebAuthn.RelatedOrigins
		return func(p *portal.Portal, w http.ResponseWriter, r *http.Request, f portal.Facts) {
			p.RelatedOrigins(w, r, f, origins)
		}
	case path == passkeyEndpointsPath && h.WellKnown:
		return (*portal.Portal).PasskeyEndpoints
	case path == changePasswordPath && h.WellKnown:
		return (*portal.Portal).ChangePassword
	}
	return nil
}

// answersRelated says whether a host is the relying party and has related origins.
func (a *App) answersRelated(host string) bool {
	w := a.Factor.WebAuthn
	return w != nil && len(w.RelatedOrigins) > 0 && host == w.RPID
}
