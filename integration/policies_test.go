package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// publishedPolicies are sets that people publish. They lie beside a checkout of ours and not in it: without them there is nothing to judge,
// and the test passes.
const publishedPolicies = "../../shared/data/entra"

// lookAlikes are small files as backup tools write them: with a byte order mark, in UTF-16, with the groups beside the policies.
const lookAlikes = "testdata/entra/backup"

type verdict struct {
	File, DisplayName, Verdict string
	Parts                      []string
	IDs                        []struct{ ID, Kind string }
}

// policyImport runs the command. It has no server.
func policyImport(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	c := exec.Command(lab.Binary(t), append([]string{"mfa", "policy", "import"}, args...)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func verdicts(t *testing.T, args ...string) []verdict {
	t.Helper()
	out, _, _ := policyImport(t, append(args, "--json")...)
	return asJSON[[]verdict](t, out)
}

// mapping writes a mapping file with a name for every id.
func mapping(t *testing.T, all []verdict) string {
	t.Helper()
	lines := map[string]string{}
	for _, v := range all {
		for _, id := range v.IDs {
			lines[strings.ToLower(id.ID)] = fmt.Sprintf("%q: %q\n", id.ID, id.Kind+":the "+id.Kind+" "+strings.Trim(id.ID, "<>"))
		}
	}
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(line)
	}
	path := filepath.Join(t.TempDir(), "names.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPublishedPoliciesGetTheVerdictsThatWeWouldGive(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(publishedPolicies); os.IsNotExist(err) {
		t.Logf("there are no published policies beside this checkout")
		return
	}
	before := verdicts(t, publishedPolicies)
	names := mapping(t, before)
	out := filepath.Join(t.TempDir(), "resolved.json")
	after := verdicts(t, publishedPolicies, "--names", names, "-o", out)
	var table strings.Builder
	for i, v := range after {
		fmt.Fprintf(&table, "%-13s  %s\n", v.Verdict, filepath.Base(v.File))
		for _, part := range v.Parts {
			fmt.Fprintf(&table, "%-13s    %s\n", "", part)
		}
		want := v.Verdict
		if want == "enforced" && len(before[i].IDs) > 0 {
			want = "unresolved"
		}
		if before[i].Verdict != want || len(v.IDs) != 0 || !slices.Equal(before[i].Parts, v.Parts) {
			t.Errorf("%s: %+v without names, %+v with them", v.File, before[i], v)
		}
	}
	const golden = "testdata/entra/published.txt"
	if want := readPage(t, golden); table.String() != want {
		t.Errorf("other verdicts than in %s:\n%s", golden, difference(want, table.String()))
	}
	// What was resolved needs no names any more, and nothing of it is lost.
	enforced := 0
	for _, v := range after {
		if v.Verdict == "enforced" {
			enforced++
		}
	}
	again := verdicts(t, out)
	for _, v := range again {
		if v.Verdict != "enforced" {
			t.Errorf("resolved, and %+v", v)
		}
	}
	if len(again) != enforced {
		t.Errorf("%d are written, %d enforced", len(again), enforced)
	}
	second := filepath.Join(t.TempDir(), "again.json")
	verdicts(t, out, "-o", second)
	if readPage(t, out) != readPage(t, second) {
		t.Error("what is written and read is written differently")
	}
}

// difference gives the lines that only one of two texts has.
func difference(want, got string) string {
	var text strings.Builder
	for line := range strings.Lines(want) {
		if !strings.Contains(got, line) {
			text.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(got) {
		if !strings.Contains(want, line) {
			text.WriteString("+ " + line)
		}
	}
	return text.String()
}

func TestImportOfABackup(t *testing.T) {
	t.Parallel()
	out, errs, status := policyImport(t, lookAlikes)
	want(t, out,
		"VERDICT", "POLICY", "PARTS",
		"unresolved      CA001 Require MFA",
		"refused         CA002 Block risky sign-ins         conditions.signInRiskLevels: high",
		"not applicable  CA003 Block device codes           conditions.authenticationFlows: deviceCodeFlow",
		"enforced        CA004 Block legacy",
		"\"8e75af29-0000-4372-a718-724b8a4620dc\": \"group:\" # Staff\n",
		"\"<BreakGlass>\": \"group:\"\n",
		"\"Office365\": \"application:\" # the applications of Office 365\n",
		"\"185c993e-0000-44fa-98d1-230c8f72f497\": \"location:\" # Allowed countries\n",
		"4 policies: 1 enforced, 1 not applicable, 1 refused, 1 unresolved.\n",
	)
	want(t, errs, "Groups/Staff.json is passed over: it is no policy\n", "NamedLocations/Allowed countries.json is passed over: it is no policy\n", "Error: 1 policy refused, 1 policy unresolved\n")
	if status != 1 || strings.Contains(errs, "Usage") {
		t.Errorf("status %d:\n%s", status, errs)
	}

	all := verdicts(t, lookAlikes)
	text, _, _ := policyImport(t, lookAlikes, "--json")
	for _, v := range asJSON[[]map[string]json.RawMessage](t, text) {
		if len(v) != 5 || v["parts"][0] != '[' || v["ids"][0] != '[' {
			t.Errorf("a verdict is %s", v)
		}
	}
	dir := t.TempDir()
	resolved := filepath.Join(dir, "resolved.json")
	out, _, status = policyImport(t, lookAlikes, "--names", mapping(t, all), "--allow-partial", "-o", resolved)
	want(t, out, "refused, loaded in part  CA002", "4 policies: 2 enforced, 1 not applicable, 1 refused, 0 unresolved.\n1 of the refused can be loaded", "resolved.json: 3 policies written.\n")
	if status != 1 {
		t.Errorf("status %d, with a refused policy", status)
	}
	out, errs, status = policyImport(t, resolved)
	want(t, out, "3 policies: 3 enforced")
	if status != 0 || errs != "" {
		t.Errorf("status %d, %s", status, errs)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("something is left over: %v %v", entries, err)
	}
}

func TestImportTellsEveryMistake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := filepath.Join(lookAlikes, "ConditionalAccess", "CA004.json")
	broken := write("broken.json", "{\n  \"state\": on\n}")
	group := write("group.json", `{"id": "1", "displayName": "Staff"}`)

	out, errs, status := policyImport(t, "--json", broken, good, group, filepath.Join(dir, "none.json"))
	if all := asJSON[[]verdict](t, out); len(all) != 1 || all[0].Verdict != "enforced" || status != 1 {
		t.Errorf("status %d, %+v", status, all)
	}
	want(t, errs, broken+":2:12: not JSON: invalid character 'o'", group+": no Conditional Access policy", "none.json: no such file or directory", "Error: 3 errors above")

	long := write("long.json", `{"displayName": "`+strings.Repeat("L", 5000)+`", "conditions": {}}`)
	if out, _, _ := policyImport(t, good, long); strings.Contains(out, strings.Repeat("L", 200)) || strings.Contains(out, strings.Repeat(" ", 200)) {
		t.Errorf("a long name makes every line long:\n%.2000s", out)
	}

	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"a mapping with mistakes": {[]string{good, "--names", write("names.yaml", "a: Staff\nb: \"group:\"\n")}, "line 2: b: no name follows"},
		"a mapping that is gone":  {[]string{good, "--names", filepath.Join(dir, "gone.yaml")}, "reading names: open "},
		"nothing to judge":        {nil, "requires at least 1 arg"},
		"an empty folder":         {[]string{t.TempDir()}, "there is no *.json in this folder"},
		"a list of nothing":       {[]string{write("list.json", "[]")}, "there is no policy"},
		"a device":                {[]string{"/dev/zero"}, "/dev/zero: not a file"},
		"nowhere to write":        {[]string{good, "-o", filepath.Join(dir, "no", "where.json")}, "writing policies: "},
	} {
		if _, errs, status := policyImport(t, test.args...); status != 1 || !strings.Contains(errs, test.want) {
			t.Errorf("%s: status %d, %s", name, status, errs)
		}
	}
	if out, _, _ := policyImport(t, write("empty.json", "[]"), "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("no verdicts are %s", out)
	}
	// A policy in an envelope is none of the files that a backup has beside its policies.
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "a.json"), []byte(`{"ExportDate": "x", "PolicyConfig": {"displayName": "x", "state": "enabled", "conditions": {"users": {"includeUsers": ["All"]}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, status := policyImport(t, folder, good); status != 1 || !strings.Contains(errs, "a.json: PolicyConfig is a policy, but it is not as Graph has it") {
		t.Errorf("status %d, %s", status, errs)
	}
	// A name may not drive the terminal of who reads it.
	if out, _, _ := policyImport(t, write("escape.json", `{"displayName": "\u001b]0;x\u0007", "conditions": {}}`)); strings.ContainsAny(out, "\x1b\x07") {
		t.Errorf("%q", out)
	}
}

// TestPolicyTemplatesAreSound loads all of them, as they are and enabled, where there is whom they name.
func TestPolicyTemplatesAreSound(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(lab.Binary(t), "mfa", "policy", "template", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, template := range asJSON[[]struct{ Caddyfile string }](t, string(out)) {
		all.WriteString(template.Caddyfile)
	}
	users := strings.NewReplacer("bob:", "break-glass:\n    roles: [Global Administrator]", "[staff, hr]", "[finance]", "carol:", "carol:\n    roles: [global administrator]").Replace(lab.Users)
	for name, options := range map[string]string{
		"report-only": all.String(),
		"enabled":     "security_defaults off\n" + strings.ReplaceAll(all.String(), "state report_only", "state enabled"),
	} {
		p := lab.Start(t, lab.NewUpstream(t, nil).Address, lab.Options{Global: options, Users: users, Site: "mfa hr\nreverse_proxy {upstream}"})
		if found, err := p.TryCommand("policy", "lint"); err != nil || found != "Nothing was found.\n" {
			t.Errorf("%s: %v\n%s", name, err, found)
		}
	}
}

func TestPolicyTemplates(t *testing.T) {
	t.Parallel()
	run := func(args ...string) (string, error) {
		out, err := exec.Command(lab.Binary(t), append([]string{"mfa", "policy", "template"}, args...)...).CombinedOutput()
		return string(out), err
	}
	text, err := run("--json")
	if err != nil {
		t.Fatal(err)
	}
	all := asJSON[[]struct{ Name, Does, Caddyfile string }](t, text)
	if len(all) < 5 {
		t.Errorf("%d templates", len(all))
	}
	list, err := run()
	if err != nil {
		t.Fatal(err)
	}
	for _, template := range all {
		want(t, list, template.Name, template.Does)
		one, err := run(template.Name)
		if err != nil || one != template.Caddyfile {
			t.Errorf("%s: %v\n%s", template.Name, err, one)
		}
		if !strings.HasPrefix(one, "# ") || strings.Count(one, "\tstate report_only\n") != strings.Count(one, "policy \"") || strings.Contains(one, "\nsecurity_defaults") {
			t.Errorf("it can be felt before it was tried:\n%s", one)
		}
	}
	if out, err := run("nonsense"); err == nil || !strings.Contains(out, `there is no template "nonsense"`) {
		t.Errorf("%v %s", err, out)
	}
}
