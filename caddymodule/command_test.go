package caddymodule

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The sentence is upstream's. An update that words it differently must be noticed: the operator would be asked whether a server runs
// that has just answered.
func TestRefusalOfAServer(t *testing.T) {
	for reason, tc := range map[string]struct {
		err  error
		want string
		ok   bool
	}{
		"it says why":            {errors.New(`caddy responded with error: HTTP 404: {"error":"no directory knows this user"}` + "\n"), "no directory knows this user", true},
		"it answers with a page": {errors.New("caddy responded with error: HTTP 502: <html>"), "the server answered with status 502", true},
		"it can't be reached":    {errors.New("performing request: dial unix: no such file or directory"), "", false},
		"nothing is wrong":       {nil, "", false},
	} {
		if got, ok := refusalOf(tc.err); got != tc.want || ok != tc.ok {
			t.Errorf("%s: %q, %v", reason, got, ok)
		}
	}
}

func TestFileNamesDoNotDriveTheTerminal(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"\x1b[2Jgroup.json": `{"id": "1", "displayName": "Staff"}`, "\x1b]0;x\abroken.json": "{"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	c := policyImportCommand()
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs([]string{dir})
	if err := c.Execute(); err == nil {
		t.Error("there is no mistake")
	}
	if text := out.String(); strings.ContainsAny(text, "\x1b\a") || !strings.Contains(text, "group.json is passed over") || !strings.Contains(text, "broken.json:1:2: not JSON") {
		t.Errorf("%q", text)
	}
}
