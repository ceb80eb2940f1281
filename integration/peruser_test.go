package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

const ownSetting = "security_defaults off\n\t\tper_user_mfa {\n\t\t\tregistration_grace 14d\n\t\t}"

func TestTheSettingOfAUserIsEnforcedWhenHeHasRegistered(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: ownSetting})
	state := func(user string) string {
		t.Helper()
		return asJSON[struct {
			State string `json:"per_user_mfa"`
		}](t, p.Command("user", "show", user, "--json")).State
	}

	t.Log("alice is asked to register, puts it off, and registers at her next sign-in")
	want(t, p.Command("user", "state", "alice", "enabled"), "alice: enabled, was disabled\n")
	lab.NewBrowser(t, p.URL).Password("/", "alice", lab.Password).Want("Set up your second step").Submit("later").Follow().Want("secret report")
	alice := lab.NewBrowser(t, p.URL).Register("alice")
	if s := state("alice"); s != "enforced" {
		t.Fatalf("after registration it is %s", s)
	}
	up.Forget()
	page := lab.NewBrowser(t, p.URL).Password("/", "alice", lab.Password).Want("Enter the code that your authenticator app shows now.")
	up.WantNothing(t)
	page.Submit("code", "code", alice.Code(t)).Follow().Want("secret report")

	t.Log("disabled, the password is enough for her; enabled again, it is enforced at once")
	p.Command("user", "state", "alice", "disabled")
	b := lab.NewBrowser(t, p.URL)
	b.Password("/", "alice", lab.Password).Follow().Want("secret report")
	want(t, p.Command("user", "state", "alice", "enabled"), "alice: enforced, was disabled; enabling enforces, for who has registered\n")
	up.Forget()
	b.Get("/").Want("Enter the code that your authenticator app shows now.")
	up.WantNothing(t)

	var by []string
	for _, e := range p.Events("per_user_mfa_changed") {
		who, _ := e["by"].(string)
		reason, _ := e["reason"].(string)
		by = append(by, strings.TrimSpace(who+" "+reason))
	}
	if got := strings.Join(by, ", "); got != "admin enabled, enforced, admin disabled, admin enforced" {
		t.Errorf("audit events: %s", got)
	}
}

func TestTheSettingOfManyUsersFromAFile(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: ownSetting})
	file := filepath.Join(p.Dir, "states.csv")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("Username, MFA Status\r\nbob, Enabled\r\nzoe, Enabled\r\nalice, On\r\n")
	if out, err := p.TryCommand("user", "state", "--csv", file); err == nil {
		t.Errorf("a file with mistakes is taken: %s", out)
	} else {
		want(t, err.Error(), "nothing is changed", "line 3: no directory knows the user \"zoe\"\n", "line 4: the state is disabled, enabled or enforced, not \"On\"")
	}
	if events := p.Events("per_user_mfa_changed"); len(events) != 0 {
		t.Errorf("a file with mistakes has changed something: %v", events)
	}
	write("Username, MFA Status\r\nbob, Enabled\r\nalice, Enforced\r\n")
	want(t, p.Command("user", "state", "--csv", file), "bob: enabled, was disabled\nalice: enforced, was disabled\n2 changed, 0 as before.\n")
	write(p.Command("user", "state", "--export"))
	want(t, p.Command("user", "state", "--csv", file), "alice: enforced, as before\n", "bob: enabled, as before\n", "dora: disabled, as before\n0 changed, 4 as before.\n")
}

func TestAPassIsRefusedBeforeItStarts(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: "registration {\nrequire_pass\n}\nsecurity_defaults {\nregistration_grace 0s\n}"})
	start := time.Now().Add(48 * time.Hour)
	p.Command("user", "pass", "bob", "--start", start.Format(time.RFC3339), "--many")
	b := lab.NewBrowser(t, p.URL)
	if page := b.Password("/", "bob", lab.Password); page.Has(`name="code"`) || page.Has(`value="begin"`) {
		t.Errorf("bob is asked for a pass that hasn't begun, or may register: %s", page)
	}
	// Carol's page was made for a pass that is good, which one that starts later has replaced.
	p.Command("user", "pass", "carol")
	c := lab.NewBrowser(t, p.URL)
	page := c.Password("/", "carol", lab.Password)
	later := passFor(t, p.Command("user", "pass", "carol", "--start", start.Format(time.RFC3339), "--many"), "carol")
	if page := page.Submit("code", "code", later); page.Has(`value="begin"`) || c.SignedIn() {
		t.Errorf("carol is let in before her pass has begun: %s", page)
	}
	up.WantNothing(t)
	want(t, p.Command("user", "show", "carol"), "good from "+start.Local().Format("2006-01-02 15:04"))
}
