package integration

import (
	"regexp"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

var shownPass = regexp.MustCompile(`(?m)^Temporary access pass for \w+: (\S+)$`)

// newPass has the administrator make a pass.
func newPass(t *testing.T, p *lab.Proxy, user string, flags ...string) string {
	t.Helper()
	out := p.Command(append([]string{"user", "pass", user}, flags...)...)
	m := shownPass.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("`mfa user pass` shows no pass:\n%s", out)
	}
	return m[1]
}

func TestWhoIsInGraceRegistersWithThePassThatIsRequired(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: "registration {\n\t\t\trequire_pass\n\t\t}"})
	pass := newPass(t, p, "alice")
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/reports", "alice", lab.Password).Want("14 more days").Submit("begin")
	page.Want("Temporary access pass")
	page.Submit("code", "code", "wrong").Want("not right")
	page = page.Submit("code", "code", pass).Want("Set up your second step").Submit("begin")
	alice := &lab.Person{Name: "alice", Key: page.Key()}
	page = page.Submit("code", "code", alice.Code(t))
	page.RecoveryCodes()
	page.Submit("kept").Follow().Want("secret report")
	if uri := up.Last(t).URI; uri != "/reports" {
		t.Fatalf("landed at %s", uri)
	}
}

// Ranges bind him who holds a pass, too. He must be told so, and not be asked for the pass again and again.
func TestAPassOutsideOfTheRangesIsRefusedOnce(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: "registration {\n\t\t\tfrom 10.0.0.0/8\n\t\t}"})
	pass := newPass(t, p, "alice", "--many")
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", "alice", lab.Password).Submit("begin").Submit("code", "code", pass).Submit("begin")
	page.WantStatus(403).Want("You can't set up your second step from here.")
}

// What the server says stands alone: nobody needs to be asked whether it runs.
func TestACommandRepeatsWhatTheServerSays(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	_, err := p.TryCommand("user", "pass", "nobody")
	if err == nil || !regexp.MustCompile(`(?s): Error: no directory knows this user\s*$`).MatchString(err.Error()) {
		t.Fatalf("%v", err)
	}
}
