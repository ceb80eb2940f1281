package portal

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestKindOf(t *testing.T) {
	const html = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for reason, tc := range map[string]struct {
		method  string
		headers []string // "Name: value"
		want    Kind
	}{
		"a browser follows a link":               {"GET", []string{"Accept: " + html, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, Navigation},
		"a browser asks for headers":             {"HEAD", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, Navigation},
		"a browser sends a form":                 {"POST", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, NavigationPost},
		"an old browser follows a link":          {"GET", []string{"Accept: " + html}, Navigation},
		"an old browser sends a form":            {"POST", []string{"Accept: " + html}, NavigationPost},
		"an old script":                          {"GET", []string{"Accept: " + html, "X-Requested-With: XMLHttpRequest"}, Script},
		"a frame":                                {"GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, Frame},
		"an embedded object":                     {"GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: object"}, Frame},
		"fetch":                                  {"GET", []string{"Accept: */*", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"}, Script},
		"fetch that asks for html":               {"GET", []string{"Accept: " + html, "Sec-Fetch-Mode: same-origin", "Sec-Fetch-Dest: empty"}, Script},
		"an image":                               {"GET", []string{"Accept: image/*", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}, Script},
		"an event stream":                        {"GET", []string{"Accept: text/event-stream"}, Script},
		"a program that asks for json":           {"GET", []string{"Accept: application/json"}, Script},
		"a program that asks for a json dialect": {"POST", []string{"Accept: application/vnd.api+json"}, Script},
		"a WebSocket":                            {"GET", []string{"Connection: Upgrade", "Upgrade: websocket"}, Script},
		"a WebSocket of a browser":               {"GET", []string{"Upgrade: WebSocket", "Sec-Fetch-Mode: websocket", "Sec-Fetch-Dest: websocket"}, Script},
		"curl":                                   {"GET", []string{"Accept: */*"}, Program},
		"git":                                    {"GET", []string{"Accept: */*", "User-Agent: git/2.39.5"}, Program},
		"nothing at all":                         {"GET", nil, Program},
		"a WebDAV client":                        {"PROPFIND", []string{"Depth: 1"}, Program},
		"a WebDAV client that asks for html":     {"PROPFIND", []string{"Accept: text/html"}, Program},
		"a preflight":                            {"OPTIONS", []string{"Sec-Fetch-Mode: cors", "Access-Control-Request-Method: POST"}, Script},
		"an old preflight":                       {"OPTIONS", []string{"Accept: */*", "Access-Control-Request-Method: POST"}, Program},
		"a browser's name alone":                 {"GET", []string{"User-Agent: Mozilla/5.0", "Accept: */*"}, Program},
	} {
		t.Run(reason, func(t *testing.T) {
			r := httptest.NewRequest(tc.method, "/", nil)
			r.Header = http.Header{}
			for _, h := range tc.headers {
				name, value, _ := strings.Cut(h, ": ")
				r.Header.Add(name, value)
			}
			if got := KindOf(r); got != tc.want {
				t.Fatalf("kind %d, want %d", got, tc.want)
			}
		})
	}
}

func TestTerminal(t *testing.T) {
	for _, tc := range []struct {
		method, agent, accept string
		want                  bool
	}{
		{"GET", "Lynx/2.9.0dev.12 libwww-FM/2.14", "text/html, */*;q=0.01", true},
		{"GET", "w3m/0.5.3", "text/html", true},
		{"HEAD", "w3m/0.5.3", "text/html", true},
		{"POST", "w3m/0.5.3", "text/html", false},
		{"GET", "w3m/0.5.3", "*/*", false},
		{"GET", "Mozilla/5.0 (like Lynx/2.9)", "text/html", false},
	} {
		r := httptest.NewRequest(tc.method, "/", nil)
		r.Header.Set("User-Agent", tc.agent)
		r.Header.Set("Accept", tc.accept)
		if got := Terminal(r); got != tc.want {
			t.Errorf("%s by %s: %v", tc.method, tc.agent, got)
		}
	}
}
