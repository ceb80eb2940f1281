package integration

import (
	"crypto/sha1"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// TestUsersOfAnHtpasswdFile signs in somebody who was moved from Basic with a weak digest, and takes the line out.
func TestUsersOfAnHtpasswdFile(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+"~", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sum := sha1.Sum([]byte(lab.Password))
	line := "erin:{SHA}" + base64.StdEncoding.EncodeToString(sum[:]) + "\n"
	users, groups := write("htpasswd", line), write("groups", "wiki: erin\n")
	p := lab.Start(t, up.Address, lab.Options{
		Global: "users htpasswd " + users + " {\nname wiki\ngroups " + groups + "\nweak_hashes until 2100-01-01\n}",
	})
	want(t, p.Log(), "htpasswd file should be better", "sha1 is guessed in no time", "(1 users have such a digest, this is the first)")
	want(t, p.Command("user", "list"), "file/alice", "wiki/erin")

	erin := lab.NewBrowser(t, p.URL)
	erin.Register("erin")
	if !erin.SignedIn() {
		t.Fatal("she has registered, and is not signed in")
	}
	want(t, p.Command("user", "show", "erin"), "Groups:", "wiki", "wiki/erin")

	write("htpasswd", "# nobody\n")
	lab.Eventually(t, 10*time.Second, "the session of somebody whose line is gone has ended", func() bool { return !erin.SignedIn() })

	write("htpasswd", "erin:"+lab.Password+"\n")
	lab.Eventually(t, 10*time.Second, "a plain password is refused", func() bool { return metric(t, p, "caddy_mfa_users_file_ok") == 0 })
	want(t, p.Log(), "htpasswd file can't be used, its last good version stays in force", "htpasswd -B -C 12 ")
}
