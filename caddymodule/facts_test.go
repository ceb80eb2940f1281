package caddymodule

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestAnAddressThatNoProxyVouchesForIsNobodys(t *testing.T) {
	for reason, tc := range map[string]struct {
		lines   []string
		found   string // by Caddy
		trusted bool
		want    string
	}{
		"no proxy":                    {[]string{"10.0.0.1"}, "203.0.113.9", false, "203.0.113.9"},
		"a proxy":                     {[]string{"10.0.0.1, 203.0.113.9"}, "203.0.113.9", true, "203.0.113.9"},
		"two proxies":                 {[]string{"10.0.0.1, 203.0.113.9", "127.0.0.2"}, "203.0.113.9", true, "203.0.113.9"},
		"a port":                      {[]string{"203.0.113.9:4711"}, "203.0.113.9", true, "203.0.113.9"},
		"IPv6 with a port":            {[]string{"[2001:db8::1]:4711"}, "2001:db8::1", true, "2001:db8::1"},
		"IPv4 in IPv6":                {[]string{"::ffff:203.0.113.9"}, "::ffff:203.0.113.9", true, "203.0.113.9"},
		"a zone":                      {[]string{"fe80::1%eth0"}, "fe80::1", true, "fe80::1"},
		"an empty element":            {[]string{"203.0.113.9,", ""}, "203.0.113.9", true, "203.0.113.9"},
		"a proxy without the header":  {nil, "127.0.0.1", true, "127.0.0.1"},
		"a proxy that hides":          {[]string{"10.0.0.1, unknown"}, "10.0.0.1", true, ""},
		"in another line":             {[]string{"10.0.0.1", "unknown"}, "10.0.0.1", true, ""},
		"a proxy that hides everyone": {[]string{"unknown"}, "127.0.0.1", true, ""},
		"brackets without a port":     {[]string{"10.0.0.1, [2001:db8::1]"}, "10.0.0.1", true, ""},
		"nothing that Caddy found":    {nil, "", true, ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["X-Forwarded-For"] = tc.lines
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, &caddyhttp.Server{ClientIPHeaders: []string{"X-Forwarded-For"}})
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, tc.found)
		caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, tc.trusted)
		got := ""
		if a := clientAddress(r); a.IsValid() {
			got = a.String()
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", reason, got, tc.want)
		}
	}
}
