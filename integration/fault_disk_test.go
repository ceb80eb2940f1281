package integration

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// limitFiles keeps the server from writing to a file beyond a size, as a full disk does.
func limitFiles(t testing.TB, p *lab.Proxy, size string) {
	t.Helper()
	if out, err := exec.Command("prlimit", "--pid", strconv.Itoa(p.Pid()), "--fsize="+size+":unlimited").CombinedOutput(); err != nil {
		t.Fatalf("prlimit: %v\n%s", err, out)
	}
}

func TestFullDisk(t *testing.T) {
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	newcomer := lab.NewBrowser(t, p.URL)
	registration := newcomer.Password("/", "bob", lab.Password).Submit("begin")
	bob := &lab.Person{Name: "bob", Key: registration.Key()}
	half := lab.NewBrowser(t, p.URL)
	verify := half.Password("/", "alice", lab.Password)
	aliceCode, bobCode := alice.CodeFor(t, time.Minute), bob.CodeFor(t, 45*time.Second)
	loginPage := lab.NewBrowser(t, p.URL).Get("/")

	limitFiles(t, p, "8192") // no more than bolt's two pages about itself
	up.Forget()
	begin := time.Now()
	for what, page := range map[string]*lab.Page{
		"a password":       loginPage.Submit("password", "username", "alice", "password", lab.Password),
		"a wrong password": loginPage.Submit("password", "username", "alice", "password", "wrong"),
		"a code":           verify.Submit("code", "code", aliceCode),
		"a wrong code":     verify.Submit("code", "code", "000000"),
		"a registration":   registration.Submit("code", "code", bobCode),
		"a sign-out":       b.Post("/_mfa/signout", nil),
	} {
		if page.Status != http.StatusServiceUnavailable || page.Header.Get("Retry-After") == "" || page.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s that can't be kept is answered with %s, headers %v", what, page, page.Header)
		}
	}
	if took := time.Since(begin); took > p.Allowed(begin, 6*time.Second) {
		t.Errorf("six answers took %v", took)
	}
	health(t, p, "?ready", http.StatusServiceUnavailable)
	if out, err := p.TryCommand("user", "block", "alice"); err == nil {
		t.Errorf("a block that can't be kept is said to be in force: %s", out)
	}
	up.WantNothing(t)
	for range 20 {
		if page := b.Get("/"); page.Status != http.StatusOK && page.Status != http.StatusServiceUnavailable {
			t.Fatalf("somebody who is signed in gets %s", page)
		}
	}

	limitFiles(t, p, "unlimited")
	lab.Eventually(t, 5*time.Second, "it is ready again", func() bool {
		return lab.Send(b.Request(http.MethodGet, "/_mfa/health?ready", nil)).Status == http.StatusOK
	})
	verify.Submit("code", "code", aliceCode).Follow().Want("secret report")
	bob.Codes = registration.Submit("code", "code", bobCode).RecoveryCodes()
	if !b.SignedIn() {
		t.Error("a session is lost")
	}
	p.Kill()
	p.Launch(false)
	lab.NewBrowser(t, p.URL).SignIn("/", bob).Want("secret report")
	if !half.SignedIn() {
		t.Error("a session is lost")
	}
}

func TestStoreFileThatIsRefused(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	whole := func() []byte {
		p := lab.Start(t, up.Address, lab.Options{})
		lab.NewBrowser(t, p.URL).Register("alice")
		p.Stop()
		return []byte(readFile(t, filepath.Join(p.Dir, "store.db")))
	}()
	for _, c := range []struct {
		reason, says string
		content      []byte
	}{
		{"another program's file", "name another file", append([]byte("SQLite format 3\x00"), make([]byte, 32<<10)...)},
		{"empty", "restore a backup", nil},
		{"cut off", "restore a backup", whole[:3*4096+100]},
		{"overwritten in the middle", "restore a backup", append(append(bytes.Clone(whole[:8192]), bytes.Repeat([]byte("damaged "), (len(whole)-8192)/16)...), whole[8192+(len(whole)-8192)/16*8:]...)},
	} {
		t.Run(c.reason, func(t *testing.T) {
			dir := lab.TempDir(t)
			path := filepath.Join(dir, "store.db")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			p := lab.Start(t, up.Address, lab.Options{Dir: dir, MayFail: true})
			// Caddy may have begun to serve before it finds out.
			lab.Eventually(t, 20*time.Second, "the server ends", func() bool { return !p.Running() })
			for _, text := range []string{path, "left as it is", c.says} {
				if !strings.Contains(p.Log(), text) {
					t.Errorf("the log doesn't say %q:\n%s", text, p.Log())
				}
			}
			if !bytes.Equal([]byte(readFile(t, path)), c.content) {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("a reload into another program's file", func(t *testing.T) {
		p := lab.Start(t, up.Address, lab.Options{})
		b := lab.NewBrowser(t, p.URL)
		b.Register("alice")
		path := filepath.Join(p.Dir, "foreign.db")
		if err := os.WriteFile(path, append([]byte("SQLite format 3\x00"), make([]byte, 32<<10)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.Load(lab.Caddyfile(p, up.Address, lab.Options{Store: "store bolt " + path})); err == nil || !strings.Contains(err.Error(), "name another file") {
			t.Errorf("reloading: %v", err)
		}
		if !b.SignedIn() {
			t.Error("the configuration in force has lost a session")
		}
		p.Command("user", "list")
	})
}
