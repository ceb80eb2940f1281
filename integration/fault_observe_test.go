package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

// metric is the value of a metric, with its labels as they are written.
func metric(t testing.TB, p *lab.Proxy, name string) float64 {
	t.Helper()
	r := p.Ask("/metrics")
	if r.Err != nil || r.Status != http.StatusOK {
		t.Fatalf("metrics: %s", r)
	}
	text := r.Body
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("there is no metric %s:\n%s", name, text)
	return 0
}

// secrets are what nobody but its owner may read, by what it is.
type secrets map[string]string

func (s secrets) add(what, value string) {
	if value != "" {
		s[value] = what
	}
}

func (s secrets) cookies(b *lab.Browser) {
	for _, c := range b.Cookies() {
		if c.Name != "mfa_language" {
			s.add("cookie "+c.Name, c.Value)
		}
	}
}

// in says which secrets stand in a text. A short number does only where it stands alone: times and sizes hold others.
func (s secrets) in(text string) (found []string) {
	for value, what := range s {
		for rest, before := text, ""; ; {
			at := strings.Index(rest, value)
			if at < 0 {
				break
			}
			before, rest = rest[:at], rest[at+len(value):]
			if len(value) == 6 && (strings.ContainsAny(last(before), "0123456789.") || strings.ContainsAny(first(rest), "0123456789")) {
				continue
			}
			found = append(found, fmt.Sprintf("%s, in: …%s%s%s…", what, tail(before, 120), value, head(rest, 60)))
			break
		}
	}
	return found
}

func head(s string, n int) string { return s[:min(n, len(s))] }
func tail(s string, n int) string { return s[max(0, len(s)-n):] }
func first(s string) string       { return head(s, 1) }
func last(s string) string        { return tail(s, 1) }

func TestSecretsStandNowhere(t *testing.T) {
	t.Parallel()
	up, server := lab.NewUpstream(t, nil), redistest.Start(t)
	dir := lab.TempDir(t)
	all := secrets{}
	secret := "a secret of at least thirty-two bytes, for this test alone"
	for name, text := range map[string]string{"secret": secret, "redis": server.Password()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		all.add(name, text)
	}
	o := lab.Options{
		Dir:     dir,
		Servers: "metrics",
		Store:   fmt.Sprintf("store redis {\naddress %s\npassword {file.%s/redis}\n}\nsecret {file.%s/secret}", server.Addr(), dir, dir),
		Site:    "log\nmfa app\nreverse_proxy {upstream}",
	}
	p := lab.Start(t, up.Address, o)
	all.add("password", lab.Password)
	all.add("wrong password", "another horse battery staple")
	all.add("password that was typed as a name", "my-password-in-the-wrong-field")
	code := func(person *lab.Person) string {
		c := person.CodeFor(t, 30*time.Second)
		all.add("code", c)
		return c
	}

	// Registration, with a wrong code on the way.
	b := lab.NewBrowser(t, p.URL)
	b.Password("/report", "alice", "another horse battery staple").Want("not right")
	b.Password("/report", "my-password-in-the-wrong-field", lab.Password).Want("not right")
	page := b.Password("/report?x=1", "alice", lab.Password)
	all.cookies(b)
	page = page.Submit("begin")
	alice := &lab.Person{Name: "alice", Key: page.Key()}
	all.add("key", alice.Key)
	all.add("key in groups", regexp.MustCompile(`id="key"[^>]*>([^<]*)<`).FindStringSubmatch(page.Body)[1])
	page.Submit("code", "code", "987654")
	all.add("wrong code", "987654")
	page = page.Submit("code", "code", code(alice))
	alice.Codes = page.RecoveryCodes()
	page.Submit("kept").Follow().Want("secret report")
	all.cookies(b)

	// A sign-in with a code, which is then sent again.
	other := lab.NewBrowser(t, p.URL)
	used := code(alice)
	other.Password("/", "alice", lab.Password).Submit("code", "code", used).Follow().Want("secret report")
	all.cookies(other)
	again := lab.NewBrowser(t, p.URL)
	again.Password("/", "alice", lab.Password).Submit("code", "code", used).Want("already used")
	all.cookies(again)

	// A recovery code, and the app that replaces the lost one.
	again.Get("/_mfa/verify?method=recovery_code").Submit("code", "code", alice.Codes[0])
	all.cookies(again)
	page = again.Get("/_mfa/register").Submit("begin")
	replaced := &lab.Person{Name: "alice", Key: page.Key()}
	all.add("key", replaced.Key)
	page = page.Submit("code", "code", code(replaced))
	for _, list := range [][]string{alice.Codes, page.RecoveryCodes()} {
		for _, c := range list {
			all.add("recovery code", c)
			all.add("recovery code", strings.ReplaceAll(c, "-", ""))
		}
	}
	all.cookies(again)
	again.Get("/_mfa/account").Want("Sign out")
	again.Post("/report", url.Values{"body": {"of a form"}}).Want("secret report")

	// A temporary access pass, and one after a reset.
	for _, command := range []string{"pass", "reset"} {
		out := p.Command("user", command, "alice")
		pass := regexp.MustCompile(`pass for alice: (\S+)`).FindStringSubmatch(out)
		if pass == nil {
			t.Fatalf("no pass:\n%s", out)
		}
		all.add("temporary access pass", pass[1])
		all.add("temporary access pass", strings.ReplaceAll(pass[1], "-", ""))
		holder := lab.NewBrowser(t, p.URL)
		holder.Password("/", "alice", lab.Password)
		holder.Get("/_mfa/verify?method=temporary_access_pass").Submit("code", "code", pass[1])
		all.cookies(holder)
	}
	p.Command("user", "sign-out", "alice")
	other.Get("/_mfa/signout")
	server.Stop()
	b.Get("/report")
	health(t, p, "?ready", http.StatusServiceUnavailable)
	server.Restart()

	if len(all) < 30 {
		t.Fatalf("%d secrets were collected", len(all))
	}
	_, config := p.API(http.MethodGet, "/config/", nil)
	_, metrics := p.API(http.MethodGet, "/metrics", nil)
	places := map[string]string{"the log": p.Log(), "/config/": config, "/metrics": metrics, "the application's requests": up.Raw()}
	for place, text := range places {
		for _, found := range all.in(text) {
			t.Errorf("%s holds a %s", place, found)
		}
	}
	for place, text := range map[string]string{"the log": `"event":"factor_registered"`, "/config/": `"prefix"`, "/metrics": "caddy_mfa_requests_total", "the application's requests": "Remote-User: alice"} {
		if place != "/config/" && !strings.Contains(places[place], text) || len(places[place]) < 200 {
			t.Errorf("%s does not hold %q either:\n%s", place, text, places[place])
		}
	}
	// The search does find what is there.
	sessions := p.Events("signed_in")
	if len(sessions) == 0 || len(secrets{sessions[0]["session"].(string): "id of a session"}.in(p.Log())) != 1 {
		t.Error("the search finds nothing")
	}
	for _, event := range []string{"password_accepted", "password_refused", "factor_accepted", "factor_refused", "factor_registered", "temporary_access_pass_made", "factors_reset"} {
		if len(p.Events(event)) == 0 {
			t.Errorf("there is no event %s in the log", event)
		}
	}
	if !strings.Contains(p.Log(), `"logger":"mfa.signin"`) {
		t.Error("there is no sign-in in the log")
	}
}

func TestMetricsSurviveReloadsAndNameNobody(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	o := lab.Options{Servers: "metrics"}
	p := lab.Start(t, up.Address, o)
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	lab.NewBrowser(t, p.URL).Password("/", "nobody-by-this-name", "wrong")
	counters := []string{
		`caddy_mfa_requests_total{application="app",verdict="pass"}`, `caddy_mfa_requests_total{application="app",verdict="sign_in"}`,
		`caddy_mfa_audit_events_total{event="factor_registered"}`, `caddy_mfa_audit_events_total{event="password_refused"}`,
		`caddy_mfa_sign_ins_total{result="success"}`, `caddy_mfa_sign_ins_total{result="failure"}`,
	}
	var before []float64
	for _, name := range counters {
		before = append(before, metric(t, p, name))
		if before[len(before)-1] < 1 {
			t.Errorf("%s is %v", name, before[len(before)-1])
		}
	}
	for n := range 3 {
		if err := p.Load(variant(p, up.Address, o, n)); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range counters {
		if now := metric(t, p, name); now != before[i] {
			t.Errorf("%s was %v, and is %v after reloads", name, before[i], now)
		}
	}
	if !b.SignedIn() || metric(t, p, counters[0]) != before[0]+1 {
		t.Error("what comes after a reload isn't counted")
	}
	for name, want := range map[string]float64{"caddy_mfa_store_fresh": 1, "caddy_mfa_users_file_ok": 1, "caddy_mfa_open_requests": 0} {
		if got := metric(t, p, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	_, text := p.API(http.MethodGet, "/metrics", nil)
	labels := regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "caddy_mfa_") {
			continue
		}
		for _, m := range labels.FindAllStringSubmatch(line, -1) {
			if !slices.Contains([]string{"app", "application", "class", "verdict", "event", "result"}, m[1]) {
				t.Errorf("label %s: %s", m[1], line)
			}
			if !regexp.MustCompile(`^[a-z_]+$`).MatchString(m[2]) || strings.Contains(m[2], "alice") || strings.Contains(m[2], "nobody") {
				t.Errorf("%q names somebody: %s", m[2], line)
			}
		}
	}
	p.Write("users.yaml", "users: [")
	lab.Eventually(t, 5*time.Second, "the metric says that the users file is broken", func() bool { return metric(t, p, "caddy_mfa_users_file_ok") == 0 })
	if !b.SignedIn() {
		t.Error("a broken users file has ended a session")
	}
}
