package caddymodule

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

func TestReplayOnTheCommandLine(t *testing.T) {
	c := newConsole(t, somePolicies)
	c.want(c.mustPolicy("replay"), "There are no sign-ins to replay.\n")
	c.want(c.mustPolicy("replay", "--enforce", "--since", "7d", "--user", "alice"), "There are no sign-ins to replay.\n")
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "policy.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const begin = `{"displayName": "Away", "state": "enabled", "conditions": {"users": {"includeUsers": ["All"]}, "applications": {"includeApplications": ["All"]}`
	file := write(begin + `, "locations": {"includeLocations": ["All"], "excludeLocations": ["1a2b3c4d-0000-4000-8000-000000000000"]}}, "grantControls": {"operator": "OR", "builtInControls": ["block"]}}`)
	if _, err := c.policy("replay", file); err == nil || !strings.Contains(err.Error(), `policy "Away": an id has no name`) {
		t.Errorf("without names: %v", err)
	}
	names := write(`1a2b3c4d-0000-4000-8000-000000000000: location:office`)
	c.want(c.mustPolicy("replay", file, "--names", names), "There are no sign-ins to replay.\n")
	names = write(`1a2b3c4d-0000-4000-8000-000000000000: location:moon`)
	if _, err := c.policy("replay", file, "--names", names); err == nil || !strings.Contains(err.Error(), `there is no named location "moon"`) {
		t.Errorf("a place that the server doesn't have: %v", err)
	}
	for part, args := range map[string][]string{
		"is no moment":            {"--since", "yesterday"},
		"no such file":            {filepath.Join(t.TempDir(), "none.json")},
		"can't be enforced here:": {write(begin + `}, "grantControls": {"operator": "OR", "builtInControls": ["compliantApplication"]}}`)},
	} {
		if out, err := c.policy(append([]string{"replay"}, args...)...); err == nil || !strings.Contains(out+err.Error(), part) {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
	var answer admin.Replay
	if err := json.Unmarshal([]byte(c.mustPolicy("replay", "--json")), &answer); err != nil || answer.Changes == nil {
		t.Errorf("%+v, %v", answer, err)
	}
	if _, err := newConsole(t, "sign_in_log off").policy("replay"); err == nil || !strings.Contains(err.Error(), "sign_in_log off") {
		t.Errorf("without a log: %v", err)
	}
}

func TestWhatReplayPrints(t *testing.T) {
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.Local)
	zone := at.Format("MST")
	var out bytes.Buffer
	printReplay(&out, &admin.Replay{
		From: at, Until: at.Add(time.Hour), SignIns: 3, Failed: 1, Unknown: 2, Changed: 3,
		Was: map[admin.Outcome]int{admin.LetIn: 3}, Would: map[admin.Outcome]int{admin.Blocked: 1, admin.Asked: 2},
		Users:        []admin.Tally{{Name: "alice", SignIns: 3, Blocked: 1, Asked: 2, Changed: 3}},
		Applications: []admin.Tally{{SignIns: 3, Blocked: 1, Asked: 2, Changed: 3}},
		Changes: []admin.Change{
			{Reference: "abcd", Time: at, User: "alice", Application: "hr", Address: "192.0.2.1", Was: admin.LetIn, Would: admin.Asked, Action: policy.Verify, Policy: "MFA\x1b[31m"},
			{Reference: "efgh", Time: at, User: "alice", Was: admin.LetIn, Would: admin.Blocked, Action: policy.Block, Policy: "Away"},
		},
	})
	parts := []string{
		"3 sign-ins, from 2026-06-01 12:00 " + zone + " to 2026-06-01 13:00 " + zone + ": 3 would have come to something else.\n", "WOULD HAVE BEEN\n", "let in, and not asked for one  3    0\n",
		"USER   SIGN-INS  BLOCKED  ASKED  DIFFERENT\nalice  3         1        2      3\n", "asked for a second factor", `MFA\x1b[31m`, "and 1 more\n",
		"Left out: 1 sign-in in which a proof was wrong or missing.\n", "Left out: 2 sign-ins of users whom no directory knows any more.\n",
	}
	for _, part := range parts {
		if !strings.Contains(out.String(), part) {
			t.Errorf("it does not say %q:\n%s", part, out.String())
		}
	}
}
