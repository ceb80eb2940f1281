package integration

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// whatIf is what the tests read of `mfa policy what-if --json`.
type whatIf struct {
	Decision struct{ Action, Reason, Policy string }
	Policies []struct {
		DisplayName, AnalysisReasons, Result string
		PolicyApplies                        bool
	}
}

// TestAPolicyIsTriedBeforeItIsEnabled goes the way of docs/policies-try.md: report-only, What If, replay, enforced.
func TestAPolicyIsTriedBeforeItIsEnabled(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	const options = `security_defaults off
		policy "MFA for payroll" {
			state report_only
			users all
			exclude_users bob
			applications payroll
			grant mfa
		}`
	o := lab.Options{Global: options, Site: twoApplications}
	p := lab.Start(t, up.Address, o)
	want(t, p.Command("policy", "list"), "MFA for payroll", "report_only", "all without bob", "payroll", "mfa")

	t.Log("what-if says what will happen, and it does")
	var asked whatIf
	ask := func(args ...string) whatIf {
		return asJSON[whatIf](t, p.Command(append([]string{"policy", "what-if", "--json"}, args...)...))
	}
	if asked = ask("--user", "alice", "--application", "payroll"); asked.Decision.Action != "allow" || asked.Policies[0].Result != "reportOnlyInterrupted" {
		t.Errorf("%+v", asked)
	}
	if asked = ask("--user", "bob", "--application", "payroll"); asked.Decision.Action != "allow" || asked.Policies[0].AnalysisReasons != "users" || asked.Policies[0].Result != "reportOnlyNotApplied" {
		t.Errorf("%+v", asked)
	}
	lab.NewBrowser(t, p.URL).Password("/payroll/", "alice", lab.Password).Submit("later").Follow().Want("secret report")
	lab.NewBrowser(t, p.URL).Password("/payroll/", "bob", lab.Password).Submit("later").Follow().Want("secret report")
	lab.Eventually(t, time.Minute, "two sign-ins are kept", func() bool {
		kept := p.Command("sign-ins")
		return strings.Contains(kept, "alice") && strings.Contains(kept, "bob")
	})

	t.Log("replay says what it would have been, from the server's own policies and from a file")
	type replay struct {
		SignIns, Changed int
		Changes          []struct{ User, Was, Would, Action, Policy string }
	}
	file := filepath.Join(t.TempDir(), "policies.json")
	p.Command("policy", "export", "-o", file)
	for _, args := range [][]string{{"--enforce"}, {"--enforce", file}, {}} {
		r := asJSON[replay](t, p.Command(append([]string{"policy", "replay", "--json"}, args...)...))
		changed := 0
		for _, c := range r.Changes {
			if c.User != "alice" || c.Was != "let_in" || c.Would != "asked" || c.Action != "register" || c.Policy != "MFA for payroll" {
				t.Errorf("%q: %+v", args, c)
			}
			changed++
		}
		if r.SignIns < 2 || changed != r.Changed || (changed > 0) != (len(args) > 0) {
			t.Errorf("%q: %+v", args, r)
		}
	}
	want(t, p.Command("policy", "replay", "--enforce"), "asked for more", "alice", "asked to register a second factor", "MFA for payroll")

	t.Log("lint has something to say of the wiki, and the log has it too")
	if out, err := p.TryCommand("policy", "lint"); err == nil || !strings.Contains(out, `"wiki"`) {
		t.Errorf("%v\n%s", err, out)
	}
	lab.Eventually(t, time.Minute, "the warning is logged", func() bool { return strings.Contains(p.Log(), "application_without_policy") })

	t.Log("enabled, it does what was said")
	o.Global = strings.ReplaceAll(options, "state report_only", "state enabled")
	if err := p.Reload(lab.Caddyfile(p, up.Address, o)); err != nil {
		t.Fatal(err)
	}
	if asked = ask("--user", "alice", "--application", "payroll"); asked.Decision.Action != "register" || asked.Decision.Policy != "MFA for payroll" {
		t.Errorf("%+v", asked)
	}
	up.Forget()
	lab.NewBrowser(t, p.URL).Password("/payroll/", "alice", lab.Password).Want("Set up your second step")
	up.WantNothing(t)
	lab.NewBrowser(t, p.URL).Password("/payroll/", "bob", lab.Password).Submit("later").Follow().Want("secret report")
}
