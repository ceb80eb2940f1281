package integration

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

type keptAppPassword struct {
	ID, Name, Application string
	From, Methods, Paths  []string
	By                    string
	Made, Expires         time.Time
}

const keyedSite = "mfa hr {\napp_passwords on\nservice_tokens on\n}\nreverse_proxy {upstream}"

var keyedOptions = lab.Options{Site: keyedSite, Global: "service_token backup {\nexpires 2099-01-01\napplications hr\n}\nservice_token ended {\nexpires 2020-01-01\napplications hr\n}"}

var appPasswordLine = regexp.MustCompile(`App password of (\S+) for (\S+): (\S+)\n`)

func TestCommandsAboutAppPasswords(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, keyedOptions)

	out := p.Command("app-password", "add", "Alice", "--application", "hr", "--name", "Laptop", "--from", "10.0.0.0/8", "--from", "192.0.2.7", "--method", "get", "--path", "/dav/*", "--expires", "30d")
	m := appPasswordLine.FindStringSubmatch(out)
	if m == nil || m[1] != "alice" || m[2] != "hr" || !appPasswordShape.MatchString(m[3]) {
		t.Fatal(out)
	}
	secret := m[3]
	kept := asJSON[[]keptAppPassword](t, p.Command("app-password", "list", "alice", "--json"))
	if len(kept) != 1 || kept[0].Name != "Laptop" || kept[0].By != "admin" || strings.Join(kept[0].From, " ") != "10.0.0.0/8 192.0.2.7/32" ||
		strings.Join(kept[0].Methods, " ") != "GET" || strings.Join(kept[0].Paths, " ") != "/dav/*" || !strings.HasPrefix(strings.ReplaceAll(secret, "-", ""), kept[0].ID) {
		t.Fatalf("%+v", kept)
	}
	if left := time.Until(kept[0].Expires); left < 29*24*time.Hour || left > 30*24*time.Hour {
		t.Errorf("it lasts %v", left)
	}
	id := kept[0].ID
	want(t, p.Command("app-password", "list", "alice"), id, "hr", "Laptop", "by admin", "GET /dav/* from 10.0.0.0/8 from 192.0.2.7")
	shown := p.Command("user", "show", "alice") + p.Command("user", "show", "alice", "--json")
	want(t, shown, "App passwords:", id, `"app_passwords"`)
	_, configuration := p.API("GET", "/config/", nil)
	bare := strings.ReplaceAll(secret, "-", "")
	for _, text := range []string{shown, p.Command("app-password", "list", "alice", "--json"), configuration, p.Log()} {
		if strings.Contains(text, secret) || strings.Contains(text, bare[8:]) {
			t.Errorf("the secret stands in\n%s", text)
		}
	}
	made := asJSON[struct {
		User, Secret, ID string
		Expires          time.Time
	}](t, p.Command("app-password", "add", "alice", "--application", "hr", "--name", "Tablet", "--json"))
	if left := time.Until(made.Expires); made.User != "alice" || !appPasswordShape.MatchString(made.Secret) || left < 89*24*time.Hour || left > 90*24*time.Hour {
		t.Errorf("%+v", made)
	}

	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"nobody":                  {[]string{"add", "zoe", "--application", "hr", "--name", "n"}, "no directory knows this user"},
		"a user who is disabled":  {[]string{"add", "dora", "--application", "hr", "--name", "n"}, "disabled or blocked"},
		"another application":     {[]string{"add", "alice", "--application", "wiki", "--name", "n"}, `"wiki"; these do: hr`},
		"no application":          {[]string{"add", "alice", "--name", "n"}, `"application" not set`},
		"no name":                 {[]string{"add", "alice", "--application", "hr"}, `"name" not set`},
		"an empty name":           {[]string{"add", "alice", "--application", "hr", "--name", " "}, "one line of 1 to 64 bytes"},
		"an end that is too late": {[]string{"add", "alice", "--application", "hr", "--name", "n", "--expires", "366d"}, "a minute from now at the earliest"},
		"an end in the past":      {[]string{"add", "alice", "--application", "hr", "--name", "n", "--expires", "2020-01-01"}, "a minute from now at the earliest"},
		"no end":                  {[]string{"add", "alice", "--application", "hr", "--name", "n", "--expires", "never"}, "write for example 90d"},
		"no address":              {[]string{"add", "alice", "--application", "hr", "--name", "n", "--from", "here"}, `"here" is no address`},
		"an address in a range":   {[]string{"add", "alice", "--application", "hr", "--name", "n", "--from", "10.1.2.3/8"}, "did you mean 10.0.0.0/8"},
		"a path that climbs":      {[]string{"add", "alice", "--application", "hr", "--name", "n", "--path", "/a/../b"}, "not a clean path"},
		"no method":               {[]string{"add", "alice", "--application", "hr", "--name", "n", "--method", "G T"}, "is no method"},
		"a revocation of nothing": {[]string{"revoke", "alice"}, "or --all"},
		"one that isn't there":    {[]string{"revoke", "alice", "00000000"}, `alice has no app password "00000000"`},
		"of one who has none":     {[]string{"revoke", "bob", "--all"}, "bob has no app passwords"},
	} {
		if out, err := p.TryCommand(append([]string{"app-password"}, c.args...)...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %q, want %q", name, err, out, c.says)
		}
	}
	want(t, p.Command("app-password", "revoke", "alice", strings.ToUpper(id)), id+" has ended.")
	want(t, p.Command("app-password", "revoke", "alice", "--all"), made.ID+" has ended.")
	if kept := asJSON[[]keptAppPassword](t, p.Command("app-password", "list", "alice", "--json")); len(kept) != 0 {
		t.Errorf("%+v", kept)
	}
	if events := p.Events("app_password_made"); len(events) != 2 || events[0]["by"] != "admin" || events[0]["credential"] != id {
		t.Errorf("%v", events)
	}
}

func TestCommandsAboutServiceTokens(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, keyedOptions)
	want(t, p.Command("service-token", "list"), "backup", "hr", "2099-01-01", "ended")
	out := p.Command("service-token", "add", "backup")
	m := regexp.MustCompile(`^Mfa-Token-Id: ([0-9a-z]{8})\nMfa-Token-Secret: ([0-9a-z]{40})\n`).FindStringSubmatch(out)
	if m == nil {
		t.Fatal(out)
	}
	type listed struct {
		Name, User string
		Configured bool
		Secrets    []struct{ ID string }
	}
	list := p.Command("service-token", "list", "--json")
	tokens := asJSON[[]listed](t, list)
	if len(tokens) != 2 || tokens[0].User != "service:backup" || len(tokens[0].Secrets) != 1 || tokens[0].Secrets[0].ID != m[1] {
		t.Fatalf("%+v", tokens)
	}
	_, configuration := p.API("GET", "/config/", nil)
	for _, text := range []string{list, configuration, p.Log()} {
		if strings.Contains(text, m[2]) {
			t.Errorf("the secret stands in\n%s", text)
		}
	}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"one that isn't configured": {[]string{"add", "other"}, "write `service_token other { … }`"},
		"one that has ended":        {[]string{"add", "ended"}, "give it a later `expires` first"},
		"a secret that isn't there": {[]string{"revoke", "backup", "00000000"}, "there is no such key"},
		"a revocation of nothing":   {[]string{"revoke", "backup"}, "or --all"},
	} {
		if out, err := p.TryCommand(append([]string{"service-token"}, c.args...)...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %q, want %q", name, err, out, c.says)
		}
	}
	// What is not configured any more can still be seen, and ended.
	options := keyedOptions
	options.Global = ""
	if err := p.Reload(lab.Caddyfile(p, up.Address, options)); err != nil {
		t.Fatal(err)
	}
	want(t, p.Command("service-token", "list"), "backup", "not configured", m[1])
	want(t, p.Command("service-token", "revoke", "backup", "--all"), m[1]+" has ended.")
}

// A person without a script makes an app password; nothing of his other sessions ends.
func TestAnAppPasswordIsMadeWithoutAScript(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, keyedOptions)
	b := lab.NewBrowser(t, p.URL)
	if page := b.Password("/", "alice", lab.Password).Submit("later"); page.Status >= 400 {
		t.Fatal(page)
	}
	if page := b.Get("/_mfa/account"); page.Has("App passwords") {
		t.Errorf("somebody without a second step is offered app passwords:\n%s", page)
	}
	alice := lab.NewBrowser(t, p.URL)
	person := alice.Register("alice")
	other := lab.NewBrowser(t, p.URL)
	other.SignIn("/", person)
	page := other.Get("/_mfa/app-password").Want("How long it works") // paid with the sign-in of just now
	session := regexp.MustCompile(`name="session" value="([^"]*)"`).FindStringSubmatch(page.Body)[1]
	for name, form := range map[string]url.Values{
		"no name":             {"session": {session}, "application": {"hr"}, "name": {""}},
		"another application": {"session": {session}, "application": {"payroll"}, "name": {"n"}},
	} {
		other.Post("/_mfa/app-password", form).WantStatus(422)
		if !other.Get("/_mfa/app-password").Has("How long it works") {
			t.Errorf("%s: the proof is spent", name)
		}
	}
	if got := other.Post("/_mfa/app-password", url.Values{"session": {"another"}, "application": {"hr"}, "name": {"n"}}); got.Has("It is shown only now") {
		t.Errorf("made on the page of another session:\n%s", got)
	}
	page = other.Post("/_mfa/app-password", url.Values{"session": {session}, "application": {"hr"}, "name": {`<b>"x"`}, "lifetime": {"99999999999"}}).Want("It is shown only now")
	if !regexp.MustCompile(`>([0-9a-z]{4}-){6}[0-9a-z]{4}<`).MatchString(page.Body) || strings.Contains(page.Body, "<b>\"x\"") {
		t.Errorf("%s", page.Body)
	}
	if page.Header.Get("Cache-Control") != "no-store" {
		t.Error("the page with the secret may be kept")
	}
	kept := asJSON[[]keptAppPassword](t, p.Command("app-password", "list", "alice", "--json"))
	if left := time.Until(kept[0].Expires); len(kept) != 1 || left > 90*24*time.Hour || kept[0].By != "" {
		t.Errorf("a length of time that isn't offered was taken: %+v", kept)
	}
	other.Get("/_mfa/app-password").Want("confirm once more")
	if !alice.SignedIn() || !other.SignedIn() {
		t.Error("a session has ended")
	}
	foreign := other.Request("POST", "/_mfa/app-password", url.Values{"session": {session}, "application": {"hr"}, "name": {"n"}})
	foreign.Header.Set("Origin", "https://evil.example")
	foreign.Header.Set("Sec-Fetch-Site", "cross-site")
	other.Do(foreign).WantStatus(403)
	// It signs nobody in.
	lab.NewBrowser(t, p.URL).Password("/", "alice", regexp.MustCompile(`([0-9a-z]{4}-){6}[0-9a-z]{4}`).FindString(page.Body)).Want("is not right")
	if kept := asJSON[[]keptAppPassword](t, p.Command("app-password", "list", "alice", "--json")); len(kept) != 1 {
		t.Errorf("%+v", kept)
	}
}
