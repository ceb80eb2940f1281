package caddymodule

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/config"
)

// hygiene takes out of a request what a client may not send, or sends to us and not to the application: headers that an application could take for the identity that
// we write, in whatever spelling, and headers that tell some applications that the request is for another URL.
type hygiene struct {
	byLength [][]string // folded names
}

// overrides are headers that some applications read in place of the request's own line, and Proxy, which CGI turns into the
// variable HTTP_PROXY.
var overrides = []string{
	"X-Original-URL", "X-Original-URI", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Forwarded-Method", "Proxy",
}

// standardIdentity are the names that are never a client's, also where an application has been given others.
var standardIdentity = []string{"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email"}

// The headers of a service token. No application sees them.
const (
	tokenIDHeader     = "Mfa-Token-Id"
	tokenSecretHeader = "Mfa-Token-Secret"
)

func newHygiene(identity config.Identity) *hygiene {
	h := &hygiene{}
	for _, name := range slices.Concat(overrides, standardIdentity, []string{tokenIDHeader, tokenSecretHeader, identity.User, identity.Groups, identity.Name, identity.Email}) {
		folded := config.FoldHeader(name)
		for len(h.byLength) <= len(folded) {
			h.byLength = append(h.byLength, nil)
		}
		if !slices.Contains(h.byLength[len(folded)], folded) {
			h.byLength[len(folded)] = append(h.byLength[len(folded)], folded)
		}
	}
	return h
}

func (h *hygiene) clean(header http.Header) {
	for name := range header {
		if len(name) < len(h.byLength) {
			for _, forbidden := range h.byLength[len(name)] {
				if foldsTo(name, forbidden) {
					delete(header, name)
					break
				}
			}
		}
	}
	cleanConnection(header)
}

// foldsTo compares without making a string. The names are equally long.
func foldsTo(name, folded string) bool {
	for i := range len(folded) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		default:
			c = '-'
		}
		if c != folded[i] {
			return false
		}
	}
	return true
}

// overriding gives the methods that stand in headers which many applications read in place of the request's own, in whatever spelling.
func overriding(header http.Header) (methods []string) {
	for name, values := range header {
		switch config.FoldHeader(name) {
		case "x-http-method-override", "x-http-method", "x-method-override":
			methods = append(methods, values...)
		}
	}
	return methods
}

// cleanConnection leaves in Connection only what it is needed for. Every other name in it tells the proxy to drop a
// header of that name (RFC 9110, section 7.6.1), which could be one that we have written.
func cleanConnection(header http.Header) {
	values := header["Connection"]
	if len(values) == 0 {
		return
	}
	if len(values) == 1 && (values[0] == "keep-alive" || values[0] == "Upgrade" || values[0] == "close") {
		return
	}
	var kept []string
	for _, v := range values {
		for token := range strings.SplitSeq(v, ",") {
			token = strings.TrimSpace(token)
			switch strings.ToLower(token) {
			case "close", "keep-alive", "upgrade", "te":
				kept = append(kept, token)
			}
		}
	}
	if len(kept) == 0 {
		delete(header, "Connection")
		return
	}
	header["Connection"] = []string{strings.Join(kept, ", ")}
}

// normalizeUpgrade leaves only upgrades to WebSocket. A server may ignore any other (RFC 9110, section 7.8); passed on, it
// would open a second protocol inside the connection, whose requests nobody judges.
func normalizeUpgrade(header http.Header) {
	values := header["Upgrade"]
	if len(values) == 0 || len(values) == 1 && strings.EqualFold(values[0], "websocket") {
		return
	}
	delete(header, "Upgrade")
	delete(header, "Http2-Settings")
	var kept []string
	for _, v := range header["Connection"] {
		for token := range strings.SplitSeq(v, ",") {
			if token = strings.TrimSpace(token); token != "" && !strings.EqualFold(token, "upgrade") {
				kept = append(kept, token)
			}
		}
	}
	if len(kept) == 0 {
		delete(header, "Connection")
		return
	}
	header["Connection"] = []string{strings.Join(kept, ", ")}
}

// methods are those of IANA's HTTP Method Registry, without TRACE, CONNECT and the pseudo-method PRI. WebDAV, CalDAV and
// Subversion need many of them.
var methods = map[string]bool{
	"ACL": true, "BASELINE-CONTROL": true, "BIND": true, "CHECKIN": true, "CHECKOUT": true, "COPY": true, "DELETE": true,
	"GET": true, "HEAD": true, "LABEL": true, "LINK": true, "LOCK": true, "MERGE": true, "MKACTIVITY": true, "MKCALENDAR": true,
	"MKCOL": true, "MKREDIRECTREF": true, "MKWORKSPACE": true, "MOVE": true, "OPTIONS": true, "ORDERPATCH": true, "PATCH": true,
	"POST": true, "PROPFIND": true, "PROPPATCH": true, "PUT": true, "QUERY": true, "REBIND": true, "REPORT": true, "SEARCH": true,
	"UNBIND": true, "UNCHECKOUT": true, "UNLINK": true, "UNLOCK": true, "UPDATE": true, "UPDATEREDIRECTREF": true, "VERSION-CONTROL": true,
}

// allowedMethod says whether a request's method is passed on: registered ones, and CONNECT to open a WebSocket over HTTP/2
// or HTTP/3 (RFC 8441, RFC 9220).
func allowedMethod(r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return methods[r.Method]
	}
	return r.ProtoMajor == 2 && r.Header.Get(":protocol") == "websocket" || r.ProtoMajor == 3 && r.Proto == "websocket"
}
