package integration

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

func asJSON[T any](t *testing.T, text string) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

func want(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("it does not say %q:\n%s", part, text)
		}
	}
}

var passText = regexp.MustCompile(`Temporary access pass for (\S+): (\S+)\n`)

func passFor(t *testing.T, text, user string) string {
	t.Helper()
	m := passText.FindStringSubmatch(text)
	if m == nil || m[1] != user {
		t.Fatalf("no pass for %s:\n%s", user, text)
	}
	return m[2]
}

func TestCommandsAboutAUser(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})

	want(t, p.Command("user", "list"), "NAME", "alice", "Alice Example", "not registered", "dora", "disabled")
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	want(t, p.Command("user", "list"), "registered", "totp")
	type summary struct {
		Name, ID   string
		Registered bool
		Disabled   bool
		Methods    []string
	}
	byName := map[string]summary{}
	for _, u := range asJSON[[]summary](t, p.Command("user", "list", "--json")) {
		byName[u.Name] = u
	}
	if u := byName["alice"]; len(byName) != 4 || !u.Registered || u.ID != "file/alice" || len(u.Methods) != 2 || !byName["dora"].Disabled {
		t.Errorf("user list --json gives %v", byName)
	}

	shown := p.Command("user", "show", "ALICE")
	want(t, shown, "alice@example.com", "staff, hr", "totp", "recovery_code", "Recovery codes left:  10", "Sessions:", "127.0.0.1")
	details := p.Command("user", "show", "alice", "--json")
	for _, secret := range append(alice.Codes, alice.Key, lab.Password, "$argon2id$", b.Cookie("mfa_session")) {
		if strings.Contains(shown+details, secret) {
			t.Errorf("user show tells the secret %q", secret)
		}
	}

	// sign-out ends what is open, and nothing else.
	p.Command("user", "sign-out", "alice")
	if b.SignedIn() {
		t.Error("signed in after `user sign-out`")
	}
	b.SignIn("/", alice).Want("secret report")

	// block refuses the right password with the words of a wrong one, until unblock.
	want(t, p.Command("user", "block", "alice", "--reason", "left the company"), "blocked")
	if b.SignedIn() {
		t.Error("signed in after `user block`")
	}
	b.Password("/", "alice", lab.Password).Want("Your user name or password is not right.")
	want(t, p.Command("user", "show", "alice"), "blocked", "left the company")
	p.Command("user", "unblock", "alice")
	b.SignIn("/", alice).Want("secret report")

	// reset takes every factor, and a new one needs the pass.
	pass := passFor(t, p.Command("user", "reset", "alice"), "alice")
	if b.SignedIn() {
		t.Error("signed in after `user reset`")
	}
	page := b.Password("/", "alice", lab.Password)
	if page.Has("Set up") && !page.Has("pass") {
		t.Fatalf("after a reset the password is enough to register:\n%s", page)
	}
	page = page.Submit("code", "code", pass).Submit("begin")
	again := &lab.Person{Name: "alice", Key: page.Key()}
	if again.Key == alice.Key {
		t.Error("the new app has the old key")
	}
	page.Submit("code", "code", again.Code(t)).Submit("kept").Follow().Want("secret report")
	if other := lab.NewBrowser(t, p.URL).Password("/", "alice", lab.Password).Submit("code", "code", alice.Code(t)); other.Status != 422 {
		t.Errorf("the code of the old app: %s", other)
	}

	// unlock forgets wrong codes.
	stranger := lab.NewBrowser(t, p.URL)
	page = stranger.Password("/", "alice", lab.Password)
	for range 10 {
		page = page.Submit("code", "code", "000000")
	}
	page.WantStatus(429)
	p.Command("user", "unlock", "alice")
	lab.NewBrowser(t, p.URL).SignIn("/", again).Want("secret report")

	// re-register takes the app, and asks for no pass.
	want(t, p.Command("user", "re-register", "alice"), "Removed from alice: totp.")
	page = lab.NewBrowser(t, p.URL).Password("/", "alice", lab.Password).Want("Set up your second step")
	if page.Has("Not now") || page.Has("administrator") {
		t.Errorf("who must register again may do it later, or needs a pass:\n%s", page)
	}
	page = page.Submit("begin")
	anew := &lab.Person{Name: "alice", Key: page.Key()}
	page.Submit("code", "code", anew.Code(t)).Want("Keep your recovery codes").Submit("kept").Follow().Want("secret report")
	want(t, p.Command("user", "re-register", "bob"), "bob has registered nothing")

	for _, event := range []string{"re_registration_required", "sessions_ended", "user_blocked", "user_unblocked", "factors_reset", "user_unlocked"} {
		if events := p.Events(event); len(events) != 1 || events[0]["by"] != "admin" || events[0]["user"] != "alice" {
			t.Errorf("audit events %s: %v", event, events)
		}
	}
}

func TestTemporaryAccessPass(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: "registration {\nrequire_pass\n}\nsecurity_defaults {\nregistration_grace 0s\n}"})
	bob := passFor(t, p.Command("user", "pass", "bob", "--lifetime", "5m"), "bob")
	b := lab.NewBrowser(t, p.URL)
	b.Password("/", "bob", lab.Password).Submit("code", "code", "wrong-pass").WantStatus(422)
	up.WantNothing(t)
	// However it is typed.
	page := b.Get("/").Submit("code", "code", " "+strings.ToUpper(strings.ReplaceAll(bob, "-", " "))+" ")
	page.Submit("begin").Key()
	// It was one-time: whoever knows the password has nothing left to register with.
	if page := lab.NewBrowser(t, p.URL).Password("/", "bob", lab.Password); page.Has(`value="begin"`) || page.Has(`name="code"`) {
		t.Errorf("after the pass was used: %s", page)
	}

	type pass struct {
		User    string
		Pass    string
		OneTime bool `json:"one_time"`
	}
	made := asJSON[pass](t, p.Command("user", "pass", "carol", "--many", "--json"))
	if made.OneTime || made.User != "carol" || made.Pass == "" {
		t.Fatalf("user pass --many --json gives %+v", made)
	}
	for range 2 {
		lab.NewBrowser(t, p.URL).Password("/", "carol", lab.Password).Submit("code", "code", made.Pass).WantStatus(200).Submit("begin").Key()
	}
	newer := asJSON[pass](t, p.Command("user", "pass", "carol", "--json"))
	lab.NewBrowser(t, p.URL).Password("/", "carol", lab.Password).Submit("code", "code", made.Pass).WantStatus(422)
	lab.NewBrowser(t, p.URL).Password("/", "carol", lab.Password).Submit("code", "code", newer.Pass).WantStatus(200)
	up.WantNothing(t)
	if strings.Contains(p.Log(), bob) || strings.Contains(p.Log(), made.Pass) {
		t.Error("a pass stands in the log")
	}
}

func TestSignInLog(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: "sign_in_log {\nkeep 7d\nmax 1000\n}"})
	type signIn struct {
		ID, UserPrincipalName, UserID, AppDisplayName, IPAddress, CorrelationID string
		Status                                                                  struct{ ErrorCode int }
		AuthenticationDetails                                                   []struct{ AuthenticationMethod string }
	}
	read := func(args ...string) []signIn {
		t.Helper()
		return asJSON[[]signIn](t, p.Command(append([]string{"sign-ins", "--json"}, args...)...))
	}
	lab.NewBrowser(t, p.URL).Password("/", "nobody", "wrong")
	lab.NewBrowser(t, p.URL).Password("/", "bob", "wrong")
	alice := lab.NewBrowser(t, p.URL).Register("alice")
	lab.NewBrowser(t, p.URL).SignIn("/", alice).Want("secret report")
	lab.Eventually(t, time.Minute, "the sign-ins are kept", func() bool { return len(read("--user", "Alice", "--result", "success")) > 0 })

	last := read("--user", "alice", "--limit", "1")
	if len(last) != 1 || last[0].UserPrincipalName != "alice" || last[0].UserID != "file/alice" || last[0].IPAddress != "127.0.0.1" || last[0].Status.ErrorCode != 0 {
		t.Fatalf("the last sign-in of alice: %+v", last)
	}
	if d := last[0].AuthenticationDetails; len(d) != 2 || d[0].AuthenticationMethod != "password" || d[1].AuthenticationMethod != "totp" {
		t.Errorf("her proofs: %+v", d)
	}
	if same := read("--reference", last[0].CorrelationID); len(same) != 1 || same[0].ID != last[0].ID {
		t.Errorf("by its reference: %+v", same)
	}
	failed := read("--result", "failure", "--since", "1h", "--ip", "127.0.0.0/8")
	if len(failed) != 2 || failed[0].UserPrincipalName != "bob" || failed[1].UserPrincipalName != "" {
		t.Errorf("what failed: %+v", failed)
	}
	for _, nothing := range [][]string{{"--ip", "192.0.2.0/24"}, {"--until", "1h"}, {"--application", "other"}, {"--policy", "none"}, {"--user", "carol"}} {
		if found := read(nothing...); len(found) != 0 {
			t.Errorf("%q: %+v", nothing, found)
		}
	}
	want(t, p.Command("sign-ins"), "TIME", "REFERENCE", "alice", "signed in", "wrong user name or password", "multifactor")
	if strings.Contains(p.Command("sign-ins", "--json"), "nobody") {
		t.Error("a name that nobody has is kept: it may be a password")
	}

	// What is told just before the end is written at the end.
	lab.NewBrowser(t, p.URL).Password("/", "carol", "wrong")
	p.Stop()
	p.Launch(false)
	if found := read("--user", "carol"); len(found) != 1 {
		t.Errorf("after a restart: %+v", found)
	}
	if all := read("--limit", "0"); len(all) < 5 {
		t.Errorf("after a restart %d sign-ins are left", len(all))
	}
	if err := p.Reload(lab.Caddyfile(p, up.Address, lab.Options{Global: "sign_in_log off"})); err != nil {
		t.Fatal(err)
	}
	if out, err := p.TryCommand("sign-ins"); err == nil || !strings.Contains(err.Error(), "the sign-in log is off") {
		t.Errorf("a log that is off: %s, %v", out, err)
	}
}

func TestCommandsThatAreWrong(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	for _, c := range []struct{ reason, args, says string }{
		{"unknown user", "user show nobody", "no directory knows this user"},
		{"unknown user, changed", "user block nobody", "no directory knows this user"},
		{"a name that can't be", "user show a\u202eb", "no directory knows this user"},
		{"a path in a name", "user show ../../config", "no directory knows this user"},
		{"pass too long", "user pass alice --lifetime 31d", "lasts from 1m to 30d"},
		{"pass too short", "user pass alice --lifetime 1s", "lasts from 1m to 30d"},
		{"no duration", "user pass alice --lifetime soon", "soon"},
		{"nobody named", "user reset", "accepts 1 arg"},
		{"two named", "user reset alice bob", "accepts 1 arg"},
		{"a moment that is none", "sign-ins --since soon", `"soon" is no moment`},
		{"an address that is none", "sign-ins --ip localhost", `"localhost" is no address`},
		{"a result that is none", "sign-ins --result perhaps", `there is no result "perhaps"`},
		{"fewer than none", "sign-ins --limit -1", "no number of sign-ins"},
		{"nobody knows the command", "user delete alice", "there is no command `caddy-mfa mfa user delete`"},
	} {
		out, err := p.TryCommand(strings.Split(c.args, " ")...)
		if err == nil {
			t.Errorf("%s: `mfa %s` succeeds: %s", c.reason, c.args, out)
			continue
		}
		want(t, err.Error(), c.says)
	}
	out, err := exec.Command(lab.Binary(t), "mfa", "user", "list", "--address", "unix/"+p.Dir+"/nowhere.sock").CombinedOutput()
	if err == nil {
		t.Error("a command succeeds without a server")
	}
	want(t, string(out), "Is the server running", "--address")
	if events := p.Events(""); len(events) != 0 {
		t.Errorf("commands that failed were noted: %v", events)
	}
}

// TestAdministrationNeedsAUnixSocket: the admin endpoint has no users, and every process of the machine reaches a port.
func TestAdministrationNeedsAUnixSocket(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	port := lab.FreePort(t)
	overTCP := strings.Replace(lab.Caddyfile(p, up.Address, lab.Options{}), "admin unix/"+p.Dir+"/admin.sock", "admin 127.0.0.1:"+strconv.Itoa(port), 1)
	if err := p.Reload(overTCP); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"user", "list"}, {"user", "show", "alice"}, {"user", "pass", "alice"}, {"user", "reset", "alice"}, {"user", "re-register", "alice"}, {"user", "unlock", "alice"},
		{"user", "block", "alice"}, {"user", "unblock", "alice"}, {"user", "sign-out", "alice"}, {"user", "state", "alice", "disabled"}, {"user", "state", "--export"}, {"accounts", "init"}, {"sign-ins"},
	} {
		out, err := exec.Command(lab.Binary(t), append(append([]string{"mfa"}, args...), "--address", "127.0.0.1:"+strconv.Itoa(port))...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "unix socket only") {
			t.Errorf("`mfa %s` over TCP: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if events := p.Events(""); len(events) != 0 {
		t.Errorf("something was done over TCP: %v", events)
	}
}

func TestHashPassword(t *testing.T) {
	t.Parallel()
	hash := func(password string, args ...string) (line, said string, err error) {
		c := exec.Command(lab.Binary(t), append([]string{"mfa", "hash-password"}, args...)...)
		c.Stdin = strings.NewReader(password)
		var out, errs strings.Builder
		c.Stdout, c.Stderr = &out, &errs
		err = c.Run()
		return out.String(), errs.String(), err
	}
	line, said, err := hash("seven purple ducks walk home\n")
	if err != nil || !strings.HasPrefix(line, "password: $argon2id$v=19$m=") {
		t.Fatalf("%v: %s%s", err, line, said)
	}
	if strings.Contains(strings.ToLower(said), "weak") {
		t.Errorf("a long passphrase: %s", said)
	}
	for _, weak := range []string{"password1", "alice2026"} {
		if _, said, err := hash(weak, "alice"); err != nil || !strings.Contains(strings.ToLower(said), "weak") {
			t.Errorf("%s: %v %s", weak, err, said)
		}
	}
	if out, _, err := hash(""); err == nil {
		t.Errorf("no password: %s", out)
	}

	// What it prints signs in.
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Users: "  alice:\n    " + line})
	lab.NewBrowser(t, p.URL).Password("/", "alice", "seven purple ducks walk home").Want("Set up")
}
