package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

// pairOnRedis starts two servers that share a Redis server and nothing else.
func pairOnRedis(t testing.TB, up *lab.Upstream, names ...string) []*lab.Proxy {
	t.Helper()
	redis := redistest.Start(t)
	o := onRedis(redis)
	o.Users = users(names...)
	return []*lab.Proxy{lab.Start(t, up.Address, o), lab.Start(t, up.Address, o)}
}

func TestAttackACodeThatIsNotForThisSignIn(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	alice := lab.NewBrowser(t, p.URL).Register("alice")
	bob := lab.NewBrowser(t, p.URL).Register("bob")
	a, b := halfSignedIn(t, p, "alice"), halfSignedIn(t, p, "bob")
	formA, formB := verifyForm(t, a), verifyForm(t, b)
	up.Forget()

	// Nobody's session: the user and the session that the form names don't count.
	stranger := lab.NewBrowser(t, p.URL)
	for _, form := range []url.Values{{}, formA, {"username": {"alice"}, "user": {"alice"}, "session": formA["session"]}} {
		if page := codeFor(stranger, form, "totp", alice.Unused(t)); signedIn(page) || stranger.Cookie(sessionCookie) != "" {
			t.Errorf("a code without a password: %v", page)
		}
	}
	empty, err := totp.GenerateCode("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	mine := bob.Unused(t)
	foreignForm := url.Values{"session": formB["session"], "t": formB["t"], "username": {"bob"}, "user": {"bob"}, "id": {"x"}, "credential": {"x"}}
	for reason, try := range map[string]func() *lab.Page{
		"another user's code": func() *lab.Page { return codeFor(a, formA, "totp", mine) },
		"another user's code, and his name": func() *lab.Page {
			return codeFor(a, url.Values{"session": formA["session"], "username": {"bob"}}, "totp", mine)
		},
		"another user's form":              func() *lab.Page { return codeFor(a, foreignForm, "totp", mine) },
		"the right code in another's form": func() *lab.Page { return codeFor(a, foreignForm, "totp", alice.Unused(t)) },
		"another user's recovery code":     func() *lab.Page { return codeFor(a, formA, "recovery_code", bob.Codes[0]) },
		"a recovery code as an app's":      func() *lab.Page { return codeFor(a, formA, "totp", alice.Codes[0]) },
		"an app's code as a recovery code": func() *lab.Page { return codeFor(a, formA, "recovery_code", alice.Unused(t)) },
		"a pass that there is none of": func() *lab.Page {
			return codeFor(a, formA, "temporary_access_pass", alice.Unused(t))
		},
		"the password as a second step": func() *lab.Page { return codeFor(a, formA, "password", lab.Password) },
		"a method that is not there":    func() *lab.Page { return codeFor(a, formA, "sms", alice.Unused(t)) },
		"a method without a name":       func() *lab.Page { return codeFor(a, formA, "", alice.Unused(t)) },
		"no session in the form":        func() *lab.Page { return codeFor(a, url.Values{}, "totp", alice.Unused(t)) },
		"no code":                       func() *lab.Page { return codeFor(a, formA, "totp", "") },
		"the code of an empty secret":   func() *lab.Page { return codeFor(a, formA, "totp", empty) },
		"a code from five minutes ago": func() *lab.Page {
			return codeFor(a, formA, "totp", lab.CodeAt(t, alice.Key, time.Now().Add(-5*time.Minute)))
		},
		"a code of five minutes from now": func() *lab.Page {
			return codeFor(a, formA, "totp", lab.CodeAt(t, alice.Key, time.Now().Add(5*time.Minute)))
		},
		"two codes in one": func() *lab.Page {
			return codeFor(a, formA, "totp", wrongCode(t, alice, 1)+alice.Unused(t))
		},
		"a step left out: its second page": func() *lab.Page {
			return a.Post("/_mfa/register", url.Values{"action": {"kept"}, "session": formA["session"]})
		},
		"a step left out: the account": func() *lab.Page {
			return a.Post("/_mfa/account", url.Values{"action": {"recovery"}, "session": formA["session"]})
		},
		"a step left out: the password again": func() *lab.Page {
			return a.Post("/_mfa/signin", url.Values{"username": {"alice"}, "password": {lab.Password}})
		},
	} {
		page := try()
		if signedIn(page) {
			t.Errorf("%s: %v", reason, page)
		}
		if reaches(t, up, p, cookieHeader(a)) || reaches(t, up, p, cookieHeader(b)) {
			t.Fatalf("%s: it opens the application", reason)
		}
		if status, body := p.API(http.MethodPost, "/mfa/users/alice/unlock", nil); status != http.StatusOK {
			t.Fatalf("%d: %s", status, body)
		}
		formA = verifyForm(t, a)
	}
	// All that did no harm: what is right is right.
	if page := codeFor(a, verifyForm(t, a), "totp", alice.Unused(t)); !signedIn(page) {
		t.Errorf("the right code: %v", page)
	}
}

func TestAttackACodeCountsOnce(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	nodes := pairOnRedis(t, up, "alice", "bob", "carol", "dora")
	t.Run("fifty at once on two nodes", func(t *testing.T) {
		alice := lab.NewBrowser(t, nodes[0].URL).Register("alice")
		type sender struct {
			browser *lab.Browser
			form    url.Values
		}
		var senders []sender
		for i := range 10 {
			b := halfSignedIn(t, nodes[i%2], "alice")
			senders = append(senders, sender{b, verifyForm(t, b)})
		}
		code := alice.CodeFor(t, 30*time.Second)
		atOnce(50, func(i int) {
			s := senders[i%len(senders)]
			codeFor(s.browser, s.form, "totp", code)
		})
		// The browser that is let in goes on wherever it sends the form again, and so answers are not what is counted.
		if n := len(nodes[0].Events("factor_accepted")) + len(nodes[1].Events("factor_accepted")); n != 1 {
			t.Errorf("one code was accepted %d times of 50", n)
		}
		open := 0
		for i, s := range senders {
			if reaches(t, up, nodes[i%2], cookieHeader(s.browser)) {
				open++
			}
		}
		if open != 1 {
			t.Errorf("%d sessions are open", open)
		}
	})
	t.Run("again, later, on each node", func(t *testing.T) {
		bob := lab.NewBrowser(t, nodes[0].URL).Register("bob")
		b := halfSignedIn(t, nodes[0], "bob")
		code := bob.CodeFor(t, 30*time.Second)
		if page := codeFor(b, verifyForm(t, b), "totp", code); !signedIn(page) {
			t.Fatalf("%v", page)
		}
		for _, node := range nodes {
			b := halfSignedIn(t, node, "bob")
			codeFor(b, verifyForm(t, b), "totp", code).Want("already used")
		}
	})
	t.Run("an older step after a newer one", func(t *testing.T) {
		carol := lab.NewBrowser(t, nodes[1].URL).Register("carol")
		b := halfSignedIn(t, nodes[0], "carol")
		now := time.Now()
		if page := codeFor(b, verifyForm(t, b), "totp", lab.CodeAt(t, carol.Key, now.Add(30*time.Second))); !signedIn(page) {
			t.Fatalf("%v", page)
		}
		for _, at := range []time.Time{now, now.Add(30 * time.Second)} {
			b := halfSignedIn(t, nodes[1], "carol")
			if page := codeFor(b, verifyForm(t, b), "totp", lab.CodeAt(t, carol.Key, at)); signedIn(page) {
				t.Errorf("the code of %v is taken after a newer one", at)
			}
		}
	})
	t.Run("a recovery code, in parallel and again", func(t *testing.T) {
		dora := lab.NewBrowser(t, nodes[0].URL).Register("dora")
		var browsers []*lab.Browser
		var forms []url.Values
		for i := range 6 {
			b := halfSignedIn(t, nodes[i%2], "dora")
			browsers, forms = append(browsers, b), append(forms, verifyForm(t, b))
		}
		var taken atomic.Int64
		atOnce(24, func(i int) {
			page := codeFor(browsers[i%6], forms[i%6], "recovery_code", dora.Codes[0])
			if page.Status == http.StatusOK && page.Has("You used a recovery code") {
				taken.Add(1)
			}
		})
		// The browser that was let in is shown the same page however often it sends the form.
		elevated := 0
		for _, b := range browsers {
			if b.Get("/_mfa/register").Has("You used a recovery code") {
				elevated++
			}
		}
		if taken.Load() == 0 || elevated != 1 {
			t.Errorf("%d answers, and %d browsers let in with one recovery code", taken.Load(), elevated)
		}
		var shown struct {
			Left int `json:"recovery_codes_left"`
		}
		if err := json.Unmarshal([]byte(show(t, nodes[0], "dora")), &shown); err != nil || shown.Left != 9 {
			t.Errorf("%d recovery codes are left: %v", shown.Left, err)
		}
		nodes[0].Command("user", "unlock", "dora")
		again := halfSignedIn(t, nodes[1], "dora")
		codeFor(again, verifyForm(t, again), "recovery_code", dora.Codes[0]).Want("not right")
		// It opens no application: it only lets its owner replace what he has lost.
		for i, b := range browsers {
			if reaches(t, up, nodes[i%2], cookieHeader(b)) {
				t.Error("a recovery code opens the application")
			}
		}
	})
}

func TestAttackGuessingCodes(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	nodes := pairOnRedis(t, up, "alice", "bob", "carol")
	own := lab.NewBrowser(t, nodes[0].URL)
	alice := own.Register("alice")
	own.Post("/_mfa/signout", url.Values{})

	// Fresh sign-ins, on both nodes, with a right password and a look at the page in between, and one node restarted.
	for n := range 10 {
		b := halfSignedIn(t, nodes[n%2], "alice")
		b.Get("/_mfa/verify?method=recovery_code")
		page := codeFor(b, verifyForm(t, b), "totp", wrongCode(t, alice, 100*n))
		if page.Status != http.StatusUnprocessableEntity {
			t.Fatalf("guess %d: %v", n, page)
		}
		if n == 5 {
			nodes[1].Kill()
			nodes[1].Launch(false)
		}
	}
	for _, node := range nodes {
		b := halfSignedIn(t, node, "alice")
		page := codeFor(b, verifyForm(t, b), "totp", alice.Unused(t))
		page.WantStatus(http.StatusTooManyRequests).Want("15 minutes")
		if after, err := strconv.Atoi(page.Header.Get("Retry-After")); err != nil || after < 14*60 || after > 15*60 {
			t.Errorf("Retry-After: %q", page.Header.Get("Retry-After"))
		}
		if reaches(t, up, node, cookieHeader(b)) {
			t.Error("the right code opens the application in the pause")
		}
	}
	// Her own browser is not locked out, and being let in there clears nothing for the others.
	if page := own.Password("/", "alice", lab.Password).Submit("code", "code", alice.Code(t)); !signedIn(page) {
		t.Errorf("her own browser: %v", page)
	}
	b := halfSignedIn(t, nodes[1], "alice")
	codeFor(b, verifyForm(t, b), "totp", wrongCode(t, alice, 7)).WantStatus(http.StatusTooManyRequests)
	// A known browser is known to its user alone.
	bob := lab.NewBrowser(t, nodes[0].URL).Register("bob")
	for n := range 10 {
		b := halfSignedIn(t, nodes[0], "bob")
		b.SetCookie("mfa_browser", own.Cookie("mfa_browser"))
		codeFor(b, verifyForm(t, b), "totp", wrongCode(t, bob, n)).WantStatus(http.StatusUnprocessableEntity)
	}
	b = halfSignedIn(t, nodes[0], "bob")
	b.SetCookie("mfa_browser", own.Cookie("mfa_browser"))
	codeFor(b, verifyForm(t, b), "totp", wrongCode(t, bob, 50)).WantStatus(http.StatusTooManyRequests)
	// Another method has a count of its own, and the pause is no way to learn whether a code was right.
	codeFor(b, verifyForm(t, b), "recovery_code", "aaaa-bbbb-cccc").WantStatus(http.StatusUnprocessableEntity)

	// Fifty at once are not fifty guesses.
	carol := lab.NewBrowser(t, nodes[0].URL).Register("carol")
	var browsers []*lab.Browser
	var forms []url.Values
	for i := range 4 {
		b := halfSignedIn(t, nodes[i%2], "carol")
		browsers, forms = append(browsers, b), append(forms, verifyForm(t, b))
	}
	var judged, refused atomic.Int64
	atOnce(50, func(i int) {
		switch page := codeFor(browsers[i%4], forms[i%4], "totp", wrongCode(t, carol, 1000*i)); page.Status {
		case http.StatusUnprocessableEntity:
			judged.Add(1)
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			refused.Add(1)
		default:
			t.Errorf("%v", page)
		}
	})
	if judged.Load() > 10 || judged.Load()+refused.Load() != 50 {
		t.Errorf("%d of 50 guesses were judged", judged.Load())
	}
}

func TestAttackGuessingCodesAtEveryDoor(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	alice := lab.NewBrowser(t, p.URL).Register("alice")
	// A thief who has her session but not her browser's own cookie guesses where factors are changed, and where apps are added.
	own := lab.NewBrowser(t, p.URL)
	own.SignIn("/", alice)
	thief := lab.NewBrowser(t, p.URL)
	thief.SetCookie(sessionCookie, own.Cookie(sessionCookie))
	_, form := thief.Get("/_mfa/verify?for=change").Form("code")
	for n := range 6 {
		codeFor(thief, form, "totp", wrongCode(t, alice, n)).WantStatus(http.StatusUnprocessableEntity)
	}
	for n := range 4 {
		b := halfSignedIn(t, p, "alice")
		codeFor(b, verifyForm(t, b), "totp", wrongCode(t, alice, 10+n)).WantStatus(http.StatusUnprocessableEntity)
	}
	codeFor(thief, form, "totp", wrongCode(t, alice, 20)).WantStatus(http.StatusTooManyRequests)

	// The first code of a new app counts too: its key is no secret to who registers it, and the count is the same.
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", "bob", lab.Password).Submit("begin")
	bob := &lab.Person{Name: "bob", Key: page.Key()}
	for n := range 10 {
		page = page.Submit("code", "code", wrongCode(t, bob, n)).WantStatus(http.StatusUnprocessableEntity)
	}
	page.Submit("code", "code", bob.Unused(t)).WantStatus(http.StatusTooManyRequests)
}

// Where the password is enough, whoever knows it makes as many browsers known as he likes.
func TestAttackGuessingCodesWhereThePasswordIsEnough(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: "security_defaults off"})
	b := lab.NewBrowser(t, p.URL)
	b.Password("/", "alice", lab.Password)
	page := b.Get("/_mfa/register").Submit("begin")
	alice := &lab.Person{Name: "alice", Key: page.Key()}
	page.Submit("code", "code", alice.Code(t))
	judged := 0
	for n := range 24 {
		thief := lab.NewBrowser(t, p.URL)
		thief.Password("/", "alice", lab.Password)
		_, form := thief.Get("/_mfa/verify?for=change").Form("code")
		if codeFor(thief, form, "totp", wrongCode(t, alice, n)).Status == http.StatusUnprocessableEntity {
			judged++
		}
	}
	if judged != 10 {
		t.Errorf("%d of 24 guesses were judged, each in a browser of its own", judged)
	}
}

var temporaryPass = regexp.MustCompile(`[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4}`)

func TestAttackATemporaryAccessPassLetsOneInOnce(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: "registration {\n\t\t\trequire_pass\n\t\t}\n\t\tsecurity_defaults {\n\t\t\tregistration_grace 0s\n\t\t}"})
	// Without a pass, the password registers nothing, however it is asked.
	b := lab.NewBrowser(t, p.URL)
	b.Password("/", "alice", lab.Password)
	for _, action := range []string{"begin", "finish", "later", "kept"} {
		session := ""
		if action == "begin" {
			var shown struct {
				Sessions []struct{ ID string }
			}
			if err := json.Unmarshal([]byte(show(t, p, "alice")), &shown); err != nil || len(shown.Sessions) != 1 {
				t.Fatalf("%v: %+v", err, shown)
			}
			session = shown.Sessions[0].ID
		}
		page := b.Post("/_mfa/register", url.Values{"action": {action}, "session": {session}, "code": {"000000"}})
		if strings.Contains(page.Body, "otpauth:") || page.Next() != "" {
			t.Errorf("%s: %v", action, page)
		}
	}
	if b.SignedIn() {
		t.Error("the password is enough")
	}
	pass := temporaryPass.FindString(p.Command("user", "pass", "alice"))
	other := temporaryPass.FindString(p.Command("user", "pass", "bob"))
	if pass == "" || pass == other {
		t.Fatalf("passes: %q, %q", pass, other)
	}
	var browsers []*lab.Browser
	var forms []url.Values
	for range 5 {
		b := halfSignedIn(t, p, "alice")
		browsers, forms = append(browsers, b), append(forms, verifyForm(t, b))
	}
	codeFor(browsers[0], forms[0], "temporary_access_pass", other).WantStatus(http.StatusUnprocessableEntity)
	atOnce(20, func(i int) { codeFor(browsers[i%5], forms[i%5], "temporary_access_pass", pass) })
	open := slices.DeleteFunc(slices.Clone(browsers), func(b *lab.Browser) bool { return !reaches(t, up, p, cookieHeader(b)) })
	if len(open) != 1 {
		t.Errorf("%d browsers are let in with a pass for one", len(open))
	}
	late := lab.NewBrowser(t, p.URL)
	late.Password("/", "alice", lab.Password)
	if page := late.Post("/_mfa/verify", url.Values{"method": {"temporary_access_pass"}, "code": {pass}, "session": forms[1]["session"]}); signedIn(page) {
		t.Errorf("again: %v", page)
	}
	for _, event := range []string{fmt.Sprintf("%q", pass), pass, strings.ReplaceAll(pass, "-", "")} {
		if strings.Contains(p.Log(), event) {
			t.Error("the pass stands in the log")
		}
	}
}
