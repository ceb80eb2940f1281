package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// ask asks for a path as it stands there, and says what answers.
func askRaw(t *testing.T, p *lab.Proxy, method, path string) (status int, header http.Header, body string) {
	t.Helper()
	b := lab.NewBrowser(t, p.URL).NoRedirects()
	req := b.Request(method, "/", nil)
	req.URL.Opaque = "//" + req.URL.Host + path
	page := b.Do(req)
	return page.Status, page.Header, page.Body
}

func TestWellKnownPaths(t *testing.T) {
	t.Parallel()
	const (
		change    = "/.well-known/change-password"
		endpoints = "/.well-known/passkey-endpoints"
		related   = "/.well-known/webauthn"
	)
	type answer int
	const (
		ours answer = iota
		gate        // asks for a sign-in first
		application
	)
	for reason, tc := range map[string]struct {
		site, global string
		want         map[string]answer
	}{
		"as nobody says anything": {"mfa app\nreverse_proxy {upstream}", "", map[string]answer{change: gate, endpoints: gate, related: gate}},
		"where the site says so": {"mfa app {\nwell_known\n}\nreverse_proxy {upstream}", "", map[string]answer{
			change: ours, endpoints: ours, related: gate,
			change + "/": gate, change + "/x": gate, "/x" + change: gate, "/.Well-Known/change-password": gate, "//.well-known/change-password": gate,
			"/.well-known/change%2dpassword": gate, "/.well-known/./change-password": gate, change + ";x": gate, change + "?x=1": ours,
		}},
		"beside a matcher":                   {"mfa /app/* app {\nwell_known\n}\nreverse_proxy {upstream}", "", map[string]answer{change: ours, endpoints: ours, related: application}},
		"beside a matcher, and nobody asks":  {"mfa /app/* app\nreverse_proxy {upstream}", "", map[string]answer{change: application, endpoints: application, related: application}},
		"inside handle":                      {"handle {\nmfa app {\nwell_known\n}\nreverse_proxy {upstream}\n}", "", map[string]answer{change: ours, endpoints: ours}},
		"behind a rewrite":                   {"rewrite * /index.php\nmfa app {\nwell_known\n}\nreverse_proxy {upstream}", "", map[string]answer{change: ours, endpoints: ours}},
		"related origins":                    {"mfa app\nreverse_proxy {upstream}", "factor webauthn {\nrp_id localhost\nrelated_origins https://hr.example.net\n}", map[string]answer{related: ours, change: gate, endpoints: gate}},
		"related origins, beside a matcher":  {"mfa /app/* app\nreverse_proxy {upstream}", "factor webauthn {\nrp_id localhost\nrelated_origins https://hr.example.net\n}", map[string]answer{related: ours, change: application}},
		"a domain without related origins":   {"mfa app\nreverse_proxy {upstream}", "factor webauthn {\nrp_id localhost\n}", map[string]answer{related: gate}},
		"a bypass of the whole .well-known":  {"mfa app {\nbypass /.well-known/*\nwell_known\n}\nreverse_proxy {upstream}", "", map[string]answer{change: ours, related: application}},
		"a bypass, and nobody asks for ours": {"mfa app {\nbypass /.well-known/*\n}\nreverse_proxy {upstream}", "", map[string]answer{change: application, endpoints: application}},
	} {
		t.Run(reason, func(t *testing.T) {
			up := lab.NewUpstream(t, nil)
			p := lab.Start(t, up.Address, lab.Options{Site: tc.site, Global: tc.global})
			for path, want := range tc.want {
				up.Forget()
				status, header, body := askRaw(t, p, http.MethodGet, path)
				reached := len(up.Requests()) > 0
				if reached != (want == application) {
					t.Errorf("%s: the application is reached: %v", path, reached)
				}
				switch want {
				case gate:
					if status != http.StatusSeeOther || !strings.HasPrefix(header.Get("Location"), "/_mfa/signin?") {
						t.Errorf("%s: %d %s", path, status, header.Get("Location"))
					}
					continue
				case application:
					continue
				}
				got := fmt.Sprint(status, " ", header.Get("Location"), header.Get("Content-Type"), " ", body)
				wanted := map[string]string{
					change:    "303 /_mfa/account ",
					endpoints: `200 application/json {"enroll":"` + p.URL + `/_mfa/register?page=choose","manage":"` + p.URL + `/_mfa/account"}`,
					related:   `200 application/json {"origins":["https://hr.example.net"]}`,
				}[strings.TrimSuffix(path, "?x=1")]
				if got != wanted || header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %s, want %s", path, got, wanted)
				}
				if status, _, _ := askRaw(t, p, http.MethodDelete, path); status != http.StatusMethodNotAllowed {
					t.Errorf("DELETE %s: %d", path, status)
				}
			}
		})
	}
}
