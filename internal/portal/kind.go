package portal

import (
	"net/http"
	"strings"
)

// Kind is what a client can do with an answer that is not the application's.
type Kind uint8

// The kinds.
const (
	Program        Kind = iota // neither a browser nor a script in one: it gets one line of text
	Navigation                 // somebody follows a link or types an address: he gets a page
	NavigationPost             // somebody has sent a form
	Frame                      // a page shows it in a frame
	Script                     // a script fetches it, or a stream or a WebSocket is opened: it gets JSON
)

// KindOf reads it from what browsers say of their requests (Fetch Metadata), and from Accept for those that don't. The
// User-Agent decides nothing.
func KindOf(r *http.Request) Kind {
	h := r.Header
	mode, dest := h.Get("Sec-Fetch-Mode"), h.Get("Sec-Fetch-Dest")
	switch {
	case dest == "iframe" || dest == "frame" || dest == "embed" || dest == "object" || dest == "fencedframe":
		return Frame
	case websocket(r):
		return Script
	case mode == "navigate":
		return navigation(r)
	case mode != "":
		return Script
	case h.Get("X-Requested-With") != "":
		return Script
	}
	accept := strings.ToLower(h.Get("Accept"))
	switch {
	case strings.Contains(accept, "text/html"):
		if kind := navigation(r); kind != Script {
			return kind
		}
	case strings.Contains(accept, "json"), strings.Contains(accept, "text/event-stream"):
		return Script
	}
	return Program
}

// Terminal says whether a browser that works in a terminal follows a link. Scripts use such browsers, too, and take a page that they are led to
// for the one that they have asked for. It only shapes the answer.
func Terminal(r *http.Request) bool {
	ua := r.UserAgent()
	return (strings.HasPrefix(ua, "Lynx/") || strings.HasPrefix(ua, "w3m/")) && KindOf(r) == Navigation
}

func navigation(r *http.Request) Kind {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return Navigation
	case http.MethodPost:
		return NavigationPost
	}
	return Script
}

func websocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Method == http.MethodConnect
}
