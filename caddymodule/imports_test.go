package caddymodule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// exported is a policy as Entra writes it, with a strength of its own.
func exported(name, state, combinations string) string {
	return `{"displayName": "` + name + `", "state": "` + state + `", "conditions": {"users": {"includeUsers": ["All"]}, "applications": {"includeApplications": ["All"]}},
		"grantControls": {"operator": "OR", "authenticationStrength": {"id": "2f0a5ab4-5a4b-4a4e-9f47-6f7f0a9e2b11", "displayName": "Codes", "policyType": "custom", "allowedCombinations": [` + combinations + `]}}}`
}

// imported gives what becomes of files, one import each.
func imported(t *testing.T, defaultsOff bool, files ...string) error {
	t.Helper()
	a := &App{log: caddy.Log()}
	for _, text := range files {
		path := filepath.Join(t.TempDir(), "policy.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a.PolicyImports = append(a.PolicyImports, config.PolicyImport{Files: []string{path}})
	}
	m := policy.Model{Defaults: policy.SecurityDefaults{Off: defaultsOff}}
	if err := a.importPolicies(&m); err != nil {
		return err
	}
	_, err := policy.New(m)
	return err
}

func TestImports(t *testing.T) {
	const totp = `"password,softwareOath"`
	for reason, tc := range map[string]struct {
		defaultsOff bool
		files       []string
		want        string // in the error; empty: none
	}{
		"one strength in two imports":                  {true, []string{exported("one", "enabled", totp), exported("two", "enabled", totp)}, ""},
		"two strengths of one name in two imports":     {true, []string{exported("one", "enabled", totp), exported("two", "enabled", `"fido2"`)}, `two authentication strengths "Codes"`},
		"enabled beside security defaults":             {false, []string{exported("one", "enabled", totp)}, "security defaults are on"},
		"report-only beside security defaults":         {false, []string{exported("one", "enabledForReportingButNotEnforced", totp)}, ""},
		"disabled, and its strength can't be enforced": {true, []string{exported("one", "disabled", `"carrierPigeon"`)}, "can't be enforced here"},
	} {
		t.Run(reason, func(t *testing.T) {
			err := imported(t, tc.defaultsOff, tc.files...)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestFoldersWithLinks is about what a link leads to: nothing is read twice, and nothing is passed over in silence.
func TestFoldersWithLinks(t *testing.T) {
	dir := t.TempDir()
	write := func(path string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, path string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	// A volume as Kubernetes mounts it.
	write("volume/..2026_11_25/a.json")
	link("..2026_11_25", "volume/..data")
	link("..data/a.json", "volume/a.json")
	write("backup/sub/b.JSON")
	link("sub", "backup/linked")
	link("volume", "here")
	for path, want := range map[string]string{
		"volume": "volume/a.json", "here": "here/a.json", "backup": "backup/sub/b.JSON", "volume/..2026_11_25": "volume/..2026_11_25/a.json",
	} {
		f := policyFiles([]string{filepath.Join(dir, path)})
		if len(f.files) != 1 || f.files[0].Name != filepath.Join(dir, want) || !f.inFolder[f.files[0].Name] {
			t.Errorf("%s: %+v", path, f.files)
		}
		if path != "backup" && len(f.errs) != 0 || path == "backup" && (len(f.errs) != 1 || !strings.Contains(f.errs[0].Error(), "backup/linked: a link to a folder")) {
			t.Errorf("%s: %v", path, f.errs)
		}
	}
}
