package integration

import (
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

func TestFromThePasswordToTheApplication(t *testing.T) {
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	b := lab.NewBrowser(t, p.URL)
	b.Get("/reports?x=1&y=a%20b").Want("Sign in")
	up.WantNothing(t)
	alice := b.Register("alice")
	if got := up.Last(t).Header["Remote-User"]; len(got) != 1 || got[0] != "alice" {
		t.Fatalf("Remote-User = %q", got)
	}
	other := lab.NewBrowser(t, p.URL)
	page := other.SignIn("/reports?x=1&y=a%20b", alice)
	page.Want("secret report")
	if uri := up.Last(t).URI; uri != "/reports?x=1&y=a%20b" {
		t.Fatalf("landed at %s", uri)
	}
}
