package caddymodule

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/policy/graph"
)

const somePolicies = `security_defaults off
device_rule compliant "certificate.issuer -eq 'CN=Example Devices CA'"
named_location office {
	ranges 203.0.113.0/24
	trusted
}
strength codes {
	combinations password,softwareOath
}
policy "Code away from the office" {
	state enabled
	users all
	exclude_users bob
	applications all
	locations all
	exclude_locations office
	grant strength:codes
	sign_in_frequency 4h
}
policy "Windows later" {
	state report_only
	users group:Finance
	applications app wiki
	platforms windows
	grant any_of mfa compliant_device
}
policy Registration {
	state disabled
	users all
	user_action register_security_info
	grant block
}`

// policy runs a command of `mfa policy`.
func (c *console) policy(args ...string) (string, error) {
	command := policyCommand()
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&out)
	command.SetArgs(append(args, "--address", c.address))
	err := command.Execute()
	return out.String(), err
}

func (c *console) mustPolicy(args ...string) string {
	c.t.Helper()
	out, err := c.policy(args...)
	if err != nil {
		c.t.Fatalf("mfa policy %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func TestWhatIfOnTheCommandLine(t *testing.T) {
	c := newConsole(t, somePolicies)
	c.want(c.mustPolicy("what-if", "--user", "alice", "--application", "app", "--ip", "192.0.2.1"), `alice is asked to register a second factor: totp (policy "Code away from the office"). The password counts for 4h. A second factor counts for 4h.

Policies that apply:
  NAME                       STATE    CONTROLS                           RESULT         NOTE
  Code away from the office  enabled  strength:codes, sign_in_frequency  not satisfied  -

Policies that don't apply:
  NAME           STATE        WHY
  Windows later  report_only  alice is not among its users
  Registration   disabled     it is disabled
`)
	out := c.mustPolicy("what-if", "--user", "bob", "--application", "wiki")
	if !strings.HasPrefix(out, "bob gets into wiki on the password alone: nothing asks for more.") || !strings.Contains(out, `Note: no site has the application "wiki": sites have app.`) ||
		!strings.Contains(out, "Policies that apply:\n  none\n") {
		t.Error(out)
	}
	out = c.mustPolicy("what-if", "--user", "alice", "--application", "app")
	if !strings.Contains(out, "applies because something that it looks at is not known") {
		t.Error(out)
	}
	var answer admin.WhatIf
	if err := json.Unmarshal([]byte(c.mustPolicy("what-if", "--user", "alice", "--application", "app", "--ip", "203.0.113.9", "--json")), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Decision.Action != policy.Allow || len(answer.Policies) != 3 || answer.Policies[0].Reason != string(policy.UnmetLocation) {
		t.Errorf("%+v", answer)
	}
	for part, args := range map[string][]string{
		"no directory knows this user": {"--user", "nobody"},
		"--user alice":                 {},
		`"firefox"`:                    {"--user", "alice", "--client-app", "firefox"},
	} {
		if out, err := c.policy(append([]string{"what-if"}, args...)...); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
}

func TestPoliciesAreListedInTheWordsOfTheCaddyfile(t *testing.T) {
	c := newConsole(t, somePolicies)
	out := c.mustPolicy("list")
	for _, part := range []string{
		"NAME ", "all without bob", "locations all without office", "strength:codes; sign_in_frequency 4h", "report_only", "group:Finance", "app, wiki", "platforms windows",
		"any_of mfa compliant_device", "user_action register_security_info", "block",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("it does not say %q:\n%s", part, out)
		}
	}
	var list []config.Policy
	if err := json.Unmarshal([]byte(c.mustPolicy("list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	if want := appOf(t, "{\nmfa {\nusers file users.yaml\n"+somePolicies+"\n}\n}\n").Policies; !reflect.DeepEqual(list, want) {
		t.Errorf("%+v, want\n%+v", list, want)
	}
	if out := newConsole(t, "").mustPolicy("list"); out != "There are no policies.\n" {
		t.Error(out)
	}
}

func TestWhatIsExportedIsImportedAsItWas(t *testing.T) {
	c := newConsole(t, somePolicies)
	file := filepath.Join(t.TempDir(), "policies.json")
	c.mustPolicy("export", "-o", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out := c.mustPolicy("export"); out != string(data) {
		t.Errorf("printed\n%s\nwritten\n%s", out, data)
	}
	again := graph.Import([]graph.File{{Name: file, Data: data}}, nil, graph.Options{})
	if want := policiesOf(appOf(t, "{\nmfa {\nusers file users.yaml\n"+somePolicies+"\n}\n}\n")); len(again.Errors) > 0 || !reflect.DeepEqual(again.Policies, want) {
		t.Errorf("%v\n%+v, want\n%+v", again.Errors, again.Policies, want)
	}
	if len(again.Strengths) != 1 || again.Strengths[0].Name != "codes" {
		t.Errorf("strengths: %+v", again.Strengths)
	}
}

func TestLintIsPrintedAndIsTheStatus(t *testing.T) {
	c := newConsole(t, somePolicies)
	out, err := c.policy("lint", "--json")
	if err == nil || err.Error() != "3 findings" {
		t.Errorf("%v\n%s", err, out)
	}
	var found []policy.Finding
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&found); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	kinds := map[policy.Kind]int{}
	for _, f := range found {
		kinds[f.Kind]++
	}
	// Nobody is in Finance, so that the policy for it selects nobody, and no site has the wiki. Nothing is said of what is disabled.
	if want := (map[policy.Kind]int{policy.LintUnknownName: 2, policy.LintNever: 1}); !maps.Equal(kinds, want) {
		t.Errorf("%v, want %v\n%s", kinds, want, out)
	}
	if out, _ := c.policy("lint"); !strings.Contains(out, `policy "Windows later": it can never apply: `) || !strings.Contains(out, "(policy_never_applies)") {
		t.Error(out)
	}
	if out, err := newConsole(t, "").policy("lint"); err != nil || out != "Nothing was found.\n" {
		t.Errorf("%v\n%s", err, out)
	}
}
