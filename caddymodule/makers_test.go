package caddymodule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/config"
)

func TestMakersOfSecurityKeys(t *testing.T) {
	cert, err := os.ReadFile("testdata/makers.pem")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("good/a.pem", string(cert))
	write("good/b.CRT", string(cert)+"\n"+string(cert))
	write("good/README", "not a certificate")
	write("bad/a.pem", string(cert))
	write("bad/b.pem", "not a certificate")
	write("empty/README", "nothing")
	for reason, tc := range map[string]struct{ path, says string }{
		"a file":                {"testdata/makers.pem", ""},
		"a folder":              {filepath.Join(dir, "good"), ""},
		"nothing there":         {filepath.Join(dir, "nowhere"), "no such file"},
		"a folder of nothing":   {filepath.Join(dir, "empty"), "there is no certificate"},
		"a file that is none":   {filepath.Join(dir, "bad"), "b.pem: it holds no certificate in PEM"},
		"a key":                 {write("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "should hold certificates alone"},
		"half of a certificate": {write("half.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"), "half.pem"},
	} {
		t.Run(reason, func(t *testing.T) {
			a := &App{}
			a.Factor.WebAuthn = &config.WebAuthn{AttestationRoots: tc.path}
			pool, err := a.readMakers()
			if tc.says == "" {
				if err != nil || pool == nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("%v, want %q", err, tc.says)
			}
		})
	}
	if pool, err := (&App{}).readMakers(); pool != nil || err != nil {
		t.Fatalf("without a setting: %v %v", pool, err)
	}
}
