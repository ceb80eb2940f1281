package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// TestPagesBehindARewrite: `rewrite` and `method` run before `mfa`, and are meant for the application, not for our pages.
func TestPagesBehindARewrite(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: "method GET\nrewrite * /index.php?_url={path}\nmfa app\nreverse_proxy {upstream}"})
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/reports?x=1", "alice", lab.Password).Submit("begin")
	alice := &lab.Person{Name: "alice", Key: page.Key()}
	page = page.Submit("code", "code", alice.Code(t)).Submit("kept")
	if next := page.Next(); !strings.HasSuffix(next, "/reports?x=1") {
		t.Errorf("after sign-in it goes to %q", next)
	}
	page.Follow().Want("secret report")
	if uri := up.Last(t).URI; uri != "/index.php?_url=%2Freports" {
		t.Errorf("the application is asked for %s", uri)
	}
	// Confirming a change carries its purpose in the query.
	b.Get("/_mfa/verify?for=change").Want("one-time-code").Submit("code", "code", alice.Code(t)).WantStatus(http.StatusOK)
	// Also without a session everything is ours.
	stranger := lab.NewBrowser(t, p.URL)
	stranger.Get("/_mfa/signin?t=x").Want("Sign in")
	up.Forget()
	if page := stranger.Get("/_mfa/health?ready"); page.Status != http.StatusOK {
		t.Errorf("health: %s", page)
	}
	up.WantNothing(t)
}
