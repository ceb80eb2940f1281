package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

const (
	rememberedCookie = "mfa_remembered"
	remembers        = "session {\n\t\t\tremember 60d\n\t\t\tremember_browser 30d\n\t\t}"
	ownCode          = "Enter the code that your authenticator app shows now."
	rememberBox      = "Don't ask for the second step on this browser for 30 days"
	stayBox          = "Stay signed in for 60 days"
)

// remember signs somebody in with a browser that is remembered from then on.
func remember(t testing.TB, p *lab.Proxy, who *lab.Person) *lab.Browser {
	t.Helper()
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", who.Name, lab.Password).Want(rememberBox).Want(stayBox)
	if _, form := page.Form("code"); form.Has("remember") || form.Has("stay") {
		t.Fatalf("a box is ticked: %s", page)
	}
	page.Submit("code", "code", who.Code(t), "remember", "yes").Follow().Want(secretReport)
	if b.Cookie(rememberedCookie) == "" {
		t.Fatal("the browser is not remembered")
	}
	return b
}

// comesBack opens another browser with a copied cookie, types the password, and gives the page that follows.
func comesBack(t testing.TB, p *lab.Proxy, user, cookie string) (*lab.Browser, *lab.Page) {
	t.Helper()
	b := lab.NewBrowser(t, p.URL)
	if cookie != "" {
		b.SetCookie(rememberedCookie, cookie)
	}
	return b, b.Password("/", user, lab.Password)
}

func TestAttackARememberedBrowserOnTwoNodes(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	redis := redistest.Start(t)
	options := onRedis(redis)
	options.Global += "\n\t\t" + remembers
	one, two := lab.Start(t, up.Address, options), lab.Start(t, up.Address, options)
	alice := lab.NewBrowser(t, one.URL).Register("alice")
	bob := lab.NewBrowser(t, one.URL).Register("bob")
	b := remember(t, one, alice)
	cookie := b.Cookie(rememberedCookie)

	good := func(what string, want bool) *lab.Browser {
		t.Helper()
		var last *lab.Browser
		for name, node := range map[string]*lab.Proxy{"one": one, "two": two} {
			up.Forget()
			other, page := comesBack(t, node, "alice", cookie)
			if asked := page.Has(ownCode); asked == want {
				t.Errorf("%s, on node %s: asked for a code: %v\n%s", what, name, asked, page)
			}
			if !want && up.Bytes() > 0 {
				t.Errorf("%s, on node %s: the application was reached", what, name)
			}
			last = other
		}
		return last
	}
	resting := good("remembered", true)

	t.Log("what it is not good for")
	for reason, value := range map[string]string{
		"another user's": remember(t, two, bob).Cookie(rememberedCookie), "truncated": cookie[:len(cookie)-1], "flipped": flip(cookie), "doubled": cookie + cookie,
		"the known browser's": b.Cookie("mfa_browser"), "the session's": b.Cookie(sessionCookie), "junk": strings.Repeat("A", 4000),
	} {
		if _, page := comesBack(t, two, "alice", value); !page.Has(ownCode) {
			t.Errorf("%s: %s", reason, page)
		}
	}
	if _, page := comesBack(t, two, "bob", cookie); !page.Has(ownCode) {
		t.Errorf("for another user: %s", page)
	}
	if reaches(t, up, two, "Cookie: "+rememberedCookie+"="+cookie+"\r\n") {
		t.Error("the cookie alone opens the application")
	}
	if page := resting.Get("/_mfa/register?page=choose").Submit("begin"); !page.Has("confirm once more") {
		t.Errorf("it pays for another factor: %s", page)
	}
	if page := resting.Get("/_mfa/account").Submit("recovery"); !page.Has("confirm once more") {
		t.Errorf("it pays for recovery codes: %s", page)
	}

	t.Log("sign-out leaves it, and sign-out everywhere doesn't")
	b.Post("/_mfa/signout", url.Values{})
	good("signed out", true)
	resting.Get("/_mfa/account").Submit("everywhere").Want("on every other device")
	two.Within(t, time.Now(), time.Second, "every session ends", func() bool { return !resting.SignedIn() })
	good("signed out everywhere", false)

	t.Log("one that is forgotten ends what rests on it, on the other node too")
	b = remember(t, one, alice)
	cookie = b.Cookie(rememberedCookie)
	resting, _ = comesBack(t, two, "alice", cookie)
	if !resting.SignedIn() {
		t.Fatal("it does not get in")
	}
	b.Get("/_mfa/account").Submit("forget").Want("asked for the second step again")
	two.Within(t, time.Now(), time.Second, "the session is asked for a code", func() bool { return !resting.SignedIn() })
	good("forgotten", false)

	t.Log("a block, a reset, the administrator's sign-out, the state, another factor")
	for _, command := range [][]string{
		{"user", "sign-out", "alice"}, {"user", "state", "alice", "enforced"}, {"user", "block", "alice"}, {"user", "reset", "alice"},
	} {
		b = remember(t, two, alice)
		cookie = b.Cookie(rememberedCookie)
		want(t, one.Command("user", "show", "alice"), "Remembered browsers:")
		one.Command(command...)
		if command[1] == "block" {
			one.Command("user", "unblock", "alice")
		}
		if command[1] == "reset" {
			_, page := comesBack(t, two, "alice", cookie)
			page.Want("Temporary access pass")
			break
		}
		good(strings.Join(command, " "), false)
	}
	if len(two.Events("browser_remembered")) == 0 || len(one.Events("browser_forgotten")) == 0 {
		t.Error("the audit log does not tell")
	}
}

// flip changes a character in the middle of a value.
func flip(value string) string {
	b := []byte(value)
	if i := len(b) / 2; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

func TestAttackABoxThatIsNotThere(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	roles := strings.Replace(lab.Users, "  bob:\n", "  bob:\n    roles: [Global Administrator]\n", 1)
	p := lab.Start(t, up.Address, lab.Options{Global: remembers, Users: roles})
	off := lab.Start(t, up.Address, lab.Options{})
	strict := lab.Start(t, up.Address, lab.Options{Site: "mfa app\nreverse_proxy {upstream}", Global: remembers + `
		security_defaults off
		policy "Strong" {
			state enabled
			users all
			applications all
			grant strength:mfa
			persistent_browser never
		}`})
	for reason, tc := range map[string]struct {
		p    *lab.Proxy
		user string
	}{"not configured": {off, "alice"}, "an administrator": {p, "bob"}, "a strength, and no persistence": {strict, "alice"}} {
		b := lab.NewBrowser(t, tc.p.URL)
		page := b.Password("/", tc.user, lab.Password)
		who := &lab.Person{Name: tc.user}
		if page.Has(`name="stay"`) || page.Has(`name="remember"`) {
			t.Errorf("%s: a box at registration: %s", reason, page)
		}
		page = page.Submit("begin")
		who.Key = page.Key()
		page = page.Submit("code", "code", who.Code(t), "stay", "yes", "remember", "yes")
		page.Submit("kept", "stay", "yes", "remember", "yes").Follow().Want(secretReport)
		if b.Cookie(rememberedCookie) != "" {
			t.Errorf("%s: remembered at registration", reason)
		}

		b = lab.NewBrowser(t, tc.p.URL)
		page = b.Password("/", tc.user, lab.Password)
		if page.Has(`name="stay"`) || page.Has(`name="remember"`) {
			t.Errorf("%s: there is a box: %s", reason, page)
		}
		action, form := page.Form("code")
		form.Set("code", who.Code(t))
		form.Set("stay", "yes")
		form.Set("remember", "yes")
		answer := b.NoRedirects().Do(b.Request(http.MethodPost, action, form))
		for _, c := range answer.Header["Set-Cookie"] {
			if strings.HasPrefix(c, rememberedCookie) || strings.HasPrefix(c, sessionCookie) && strings.Contains(c, "Max-Age") {
				t.Errorf("%s: Set-Cookie: %s", reason, c)
			}
		}
		form.Del("code")
		b.Post("/_mfa/stay", form)
		if page := b.Get("/_mfa/account"); page.Has("You stay signed in until") || page.Has("not asked for the second step") {
			t.Errorf("%s: %s", reason, page)
		}
	}
}

func TestWithoutASecondPageOneIsAskedToStayOnce(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: remembers})
	alice := lab.NewBrowser(t, p.URL).Register("alice")
	b := remember(t, p, alice)
	b.Post("/_mfa/signout", url.Values{})
	page := b.Password("/", "alice", lab.Password).Want("Stay signed in?").Want(stayBox)
	if page.Has(rememberBox) {
		t.Errorf("it asks for the other: %s", page)
	}
	page.Submit("session").Follow().Want(secretReport)
	b.Post("/_mfa/signout", url.Values{})
	b.Password("/", "alice", lab.Password).Follow().Want(secretReport)

	other, page := comesBack(t, p, "alice", b.Cookie(rememberedCookie))
	page.Want("Stay signed in?").Submit("session", "stay", "yes").Follow().Want(secretReport)
	other.Get("/_mfa/account").Want("You stay signed in until")
	want(t, p.Command("policy", "what-if", "--user", "alice", "--application", "app", "--proof", "password,remembered_browser"), "the browser is remembered, which is enough", "can stay signed in for 60d")
	want(t, p.Command("policy", "what-if", "--user", "alice", "--application", "app"), "The browser can be remembered for 30d.")
	lab.Eventually(t, 10*time.Second, "the sign-in log says so", func() bool {
		for _, r := range asJSON[[]audit.SignIn](t, p.Command("sign-ins", "--json", "--user", "alice")) {
			for _, d := range r.Details {
				if d.Method == "remembered_browser" && d.Result == audit.ByRememberedBrowser && r.Requirement == audit.MultiFactor {
					return true
				}
			}
		}
		return false
	})
}

func TestTheSettingOfAUserRemembersBrowsers(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: strings.Replace(ownSetting, "registration_grace", "remember_browser 7d\n\t\t\tregistration_grace", 1)})
	p.Command("user", "state", "alice", "enabled")
	alice := lab.NewBrowser(t, p.URL).Register("alice")
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", "alice", lab.Password).Want("on this browser for 7 days")
	if page.Has("Stay signed in") {
		t.Errorf("the other box is there: %s", page)
	}
	page.Submit("code", "code", alice.Code(t), "remember", "yes").Follow().Want(secretReport)
	cookie := b.Cookie(rememberedCookie)
	_, page = comesBack(t, p, "alice", cookie)
	page.Follow().Want(secretReport)
	p.Command("user", "state", "alice", "disabled")
	p.Command("user", "state", "alice", "enabled")
	_, page = comesBack(t, p, "alice", cookie)
	page.Want(ownCode)
}

func TestAccountNamesAndActivity(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: remembers})
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	bob := lab.NewBrowser(t, p.URL).Register("bob")
	b.Get("/_mfa/account").Submit("rename", "name", "  My phone <b>  ").Want("The name was changed.").Want("My phone <b>")
	for _, name := range []struct{ typed, kept string }{
		{"\xff", "My phone <b>"}, {"two\nlines", "two lines"}, {"overridden\u202edirection", "overridden direction"}, {strings.Repeat("x", 65), strings.Repeat("x", 64) + "\""}, {"My phone", "My phone"},
	} {
		if page := b.Get("/_mfa/account").Submit("rename", "name", name.typed); page.Status != http.StatusOK || !page.Has(name.kept) {
			t.Errorf("%q: %s", name.typed, page)
		}
	}
	if page := lab.NewBrowser(t, p.URL).SignIn("/_mfa/account", bob); page.Has("My phone") {
		t.Errorf("bob sees it: %s", page)
	}

	lab.NewBrowser(t, p.URL).Password("/", "alice", "wrong")
	lab.Eventually(t, 5*time.Second, "her sign-ins are there", func() bool {
		page := b.Get("/_mfa/account")
		return page.Has("Wrong password") && page.Has("Signed in")
	})
	page := b.Get("/_mfa/account")
	if strings.Count(page.Body, "This wasn&#39;t me")+strings.Count(page.Body, "This wasn't me") < 2 {
		t.Errorf("%s", page)
	}
	remembered := remember(t, p, alice)
	_, form := page.Form("report")
	form.Set("id", "nothing-of-hers")
	b.Post("/_mfa/account", form)
	if !b.SignedIn() || len(p.Events("suspicious_activity_reported")) != 0 {
		t.Fatal("what is not hers was reported")
	}
	b.Get("/_mfa/account").Submit("report").Want("Now change your password")
	p.Within(t, time.Now(), time.Second, "every session has ended", func() bool { return !b.SignedIn() && !remembered.SignedIn() })
	if _, page := comesBack(t, p, "alice", remembered.Cookie(rememberedCookie)); !page.Has(ownCode) {
		t.Errorf("a remembered browser is left: %s", page)
	}
	if e := p.Events("suspicious_activity_reported"); len(e) != 1 || e[0]["user"] != "alice" || e[0]["reference"] == "" {
		t.Errorf("%v", e)
	}
}
