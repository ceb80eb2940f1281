package integration

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

// noGrace asks everybody for a second factor from the first sign-in on.
const noGrace = "security_defaults {\n\t\t\tregistration_grace 0s\n\t\t}"

// begun opens a browser in which somebody has begun to register an app, and gives its key.
func begun(t testing.TB, p *lab.Proxy, user string) (*lab.Browser, *lab.Page, string) {
	t.Helper()
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", user, lab.Password).Submit("begin")
	return b, page, page.Key()
}

func TestAttackTheKeyOfARegistrationIsForItsSessionAlone(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: noGrace})
	b, page, key := begun(t, p, "bob")
	if got := page.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("the page with the key has Cache-Control %q", got)
	}
	_, form := page.Form("code")
	another := halfOfBob(t, p)
	carol := lab.NewBrowser(t, p.URL)
	carol.Password("/", "carol", lab.Password)
	for who, other := range map[string]*lab.Browser{"the same user in another browser": another, "another user": carol, "nobody": lab.NewBrowser(t, p.URL)} {
		for _, path := range []string{"register", "register?page=choose", "register?session=" + form.Get("session"), "verify", "account", "register?t=" + form.Get("t")} {
			if got := other.Get("/_mfa/" + path); shows(got, key) || strings.Contains(got.Body, "otpauth:") {
				t.Errorf("%s sees the key at %s", who, path)
			}
		}
		// Nor can he finish what he has not begun, whatever session the form names.
		sent := url.Values{"action": {"finish"}, "session": form["session"], "code": {lab.CodeAt(t, key, time.Now())}}
		if got := other.Post("/_mfa/register", sent); strings.Contains(got.Body, `id="codes"`) || got.Next() != "" {
			t.Errorf("%s finishes it: %v", who, got)
		}
	}
	// The form counts for whom the session is, with the key that the server made.
	own := "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	for reason, extra := range map[string]url.Values{
		"a key of his own":     {"code": {lab.CodeAt(t, own, time.Now())}, "key": {own}, "secret": {own}, "uri": {"otpauth://totp/x?secret=" + own}, "state": {own}},
		"a code without a key": {"code": {""}},
		"another method":       {"code": {lab.CodeAt(t, own, time.Now())}, "method": {"recovery_code"}},
	} {
		sent := url.Values{"action": {"finish"}, "session": form["session"], "t": form["t"]}
		for name, values := range extra {
			sent[name] = values
		}
		if got := b.Post("/_mfa/register", sent); strings.Contains(got.Body, `id="codes"`) {
			t.Errorf("%s is taken: %v", reason, got)
		}
	}
	// Until a code was right, the app does not count: neither its codes, nor for what policy asks.
	another.Get("/_mfa/verify")
	if got := another.Post("/_mfa/verify", url.Values{"method": {"totp"}, "session": {"x"}, "code": {lab.CodeAt(t, key, time.Now())}}); signedIn(got) {
		t.Errorf("an app that was not confirmed signs in: %v", got)
	}
	if strings.Contains(show(t, p, "bob"), `"totp"`) || another.SignedIn() || b.SignedIn() {
		t.Error("an app counts that was not confirmed")
	}
	sent := url.Values{"action": {"finish"}, "session": form["session"], "t": form["t"], "code": {lab.CodeAt(t, key, time.Now())}, "username": {"carol"}, "user": {"carol"}, "id": {"file/carol"}}
	b.Post("/_mfa/register", sent).Want("Keep your recovery codes")
	if strings.Contains(show(t, p, "carol"), `"totp"`) || !strings.Contains(show(t, p, "bob"), `"totp"`) {
		t.Error("the app was registered for whom the form names")
	}
	// The key and the codes are shown once.
	for _, path := range []string{"register", "register?page=choose", "account"} {
		if got := b.Get("/_mfa/" + path); shows(got, key) || strings.Contains(got.Body, "otpauth:") || strings.Contains(got.Body, `id="codes"`) {
			t.Errorf("%s shows them again", path)
		}
	}
	if another.SignedIn() {
		t.Error("a session from before the registration lives on")
	}
	if strings.Contains(p.Log(), key) {
		t.Error("the key stands in the log")
	}
}

// shows says whether a key stands on a page, in groups or not.
func shows(p *lab.Page, key string) bool {
	return strings.Contains(strings.ReplaceAll(p.Body, " ", ""), key)
}

func halfOfBob(t testing.TB, p *lab.Proxy) *lab.Browser {
	t.Helper()
	b := lab.NewBrowser(t, p.URL)
	b.Password("/", "bob", lab.Password).Want("Set up your second step")
	return b
}

// A proof leads on to what it was asked for, and changes nothing; neither does a link, nor does one lead anywhere else.
func TestAttackAProofChangesNothingByItself(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	factors := func() string {
		_, rest, _ := strings.Cut(show(t, p, "alice"), `"credentials"`)
		list, _, _ := strings.Cut(rest, "]")
		return list
	}
	account := b.Get("/_mfa/account")
	_, form := account.Form("recovery")
	session, factor := form.Get("session"), regexp.MustCompile(`for="name-([^"]+)"`).FindStringSubmatch(account.Body)
	if factor == nil {
		t.Fatalf("no app on the account page:\n%s", account.Body)
	}
	before := factors()
	used := regexp.MustCompile(`"last_used": *"[^"]*"`)
	for _, c := range []struct {
		question, action string
		done             string // when its button is pressed
	}{
		{"Remove this second step?", "remove", "This is your only second step"},
		{"Make new recovery codes?", "recovery", "Keep your recovery codes"},
	} {
		_, form := b.Post("/_mfa/account", url.Values{"action": {c.action}, "session": {session}, "id": {factor[1]}}).Want("confirm once more").Form("code")
		if page := codeFor(b, form, "totp", "000000").Want("confirm once more"); page.Has(c.question) {
			t.Errorf("a wrong code leads on: %v", page)
		}
		page := codeFor(b, form, "totp", alice.Code(t)).Want(c.question)
		b.Get(page.URL.RequestURI()).Want(c.question)
		b.Get("/_mfa/account?action=" + c.action + "&id=" + factor[1] + "&session=" + session)
		if got := factors(); page.URL.Path != "/_mfa/confirm" || used.ReplaceAllString(got, "") != used.ReplaceAllString(before, "") {
			t.Errorf("%v has done it:\n%s\nbefore\n%s", page, got, before)
		}
		page.Submit(c.action).Want(c.done)
	}
	for reason, query := range map[string]string{
		"what isn't his": "change=remove&id=x", "recovery codes as a factor": "change=remove&id=recovery_code", "an application that stores nothing": "change=forget-upstream&id=x",
		"what isn't a change": "change=everywhere", "nothing": "",
	} {
		if page := b.Get("/_mfa/confirm?" + query).Want("Where you are signed in"); page.URL.Path != "/_mfa/account" {
			t.Errorf("%s: %v", reason, page)
		}
	}
}

func TestAttackFactorsChangeWithAFreshProofOnly(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	elsewhere := lab.NewBrowser(t, p.URL)
	elsewhere.SignIn("/", alice)
	_, form := b.Get("/_mfa/account").Form("recovery")
	session := form.Get("session")
	changes := map[string]func(*lab.Browser) *lab.Page{
		"new recovery codes": func(b *lab.Browser) *lab.Page {
			return b.Post("/_mfa/account", url.Values{"action": {"recovery"}, "session": {session}})
		},
		"another app": func(b *lab.Browser) *lab.Page {
			return b.Post("/_mfa/register", url.Values{"action": {"begin"}, "session": {session}})
		},
		"one app less": func(b *lab.Browser) *lab.Page {
			return b.Post("/_mfa/account", url.Values{"action": {"remove"}, "session": {session}, "id": {"x"}})
		},
	}
	// The proof with which the app was registered has paid for that.
	refused := func(when string) {
		t.Helper()
		for what, change := range changes {
			if page := change(b); strings.Contains(page.Body, `id="codes"`) || strings.Contains(page.Body, "otpauth:") || !page.Has("confirm once more that it is you") {
				t.Errorf("%s, %s: %v", when, what, page)
			}
		}
	}
	refused("after registration")
	confirm := func() {
		t.Helper()
		_, form := b.Get("/_mfa/verify?for=change").Form("code")
		codeFor(b, form, "totp", alice.Code(t)).Want("Your account")
	}
	// A recovery code is for getting in.
	_, verify := b.Get("/_mfa/verify?for=change").Form("code")
	if page := codeFor(b, verify, "recovery_code", alice.Codes[1]); page.Has("You can make one change") {
		refused("after a recovery code")
	}
	confirm()
	// One proof, ten changes at once: one.
	var made atomic.Int64
	atOnce(10, func(int) {
		if page := changes["new recovery codes"](b); strings.Contains(page.Body, `id="codes"`) {
			made.Add(1)
		}
	})
	if made.Load() != 1 {
		t.Errorf("%d changes with one proof", made.Load())
	}
	refused("after the proof was spent")
	// Who was signed in elsewhere may be whom the change is meant to keep out.
	if elsewhere.SignedIn() || !b.SignedIn() {
		t.Errorf("after the change, the other session lives: %v, this one: %v", elsewhere.SignedIn(), b.SignedIn())
	}

	// A state is never changed by following a link.
	before := show(t, p, "alice")
	for _, ref := range []string{
		"/_mfa/account?action=recovery&session=" + session, "/_mfa/account?action=everywhere&session=" + session, "/_mfa/register?action=begin&session=" + session,
		"/_mfa/signout?action=x", "/_mfa/signout", "/_mfa/register?action=kept", "/_mfa/verify?method=totp&code=000000&session=" + session, "/_mfa/language?language=nl",
		"/_mfa/signin?username=bob&password=" + url.QueryEscape(lab.Password), "/_mfa/account?action=end&id=x&session=" + session,
	} {
		b.Get(ref)
		head := b.Request(http.MethodHead, ref, nil)
		b.Do(head)
	}
	if after := show(t, p, "alice"); withoutTimes(after) != withoutTimes(before) {
		t.Errorf("following links has changed\n%s\nto\n%s", before, after)
	}
	if !b.SignedIn() {
		t.Error("following a link signs out")
	}
}

var (
	seenTime     = regexp.MustCompile(`"(seen|last_used)":"[^"]*"`)
	credentialID = regexp.MustCompile(`"id":"([^"]*)","method":"([a-z_]*)"`)
)

// withoutTimes leaves out of a user's description what moves by itself.
func withoutTimes(text string) string {
	_, factors, _ := strings.Cut(text, `"credentials"`)
	return seenTime.ReplaceAllString(factors, "")
}

func TestAttackARegistrationIsFinishedOnce(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Users: users(numbered("alice", 5)...)})
	for _, name := range numbered("alice", 5) {
		b, page, key := begun(t, p, name)
		_, form := page.Form("code")
		form.Set("code", lab.CodeAt(t, key, time.Now()))
		var lists atomic.Int64
		atOnce(20, func(int) {
			if page := b.Post("/_mfa/register", form); strings.Contains(page.Body, `id="codes"`) {
				lists.Add(1)
			}
		})
		if n := strings.Count(withoutTimes(show(t, p, name)), `"method":"totp"`); n != 1 || lists.Load() != 1 {
			t.Errorf("one registration gives %d apps, and %d lists of recovery codes", n, lists.Load())
		}
	}
}

func TestAttackTheLastFactorStaysWhenTwoAreRemovedAtOnce(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	prove := func(p *lab.Person) {
		t.Helper()
		_, form := b.Get("/_mfa/verify?for=change").Form("code")
		codeFor(b, form, "totp", p.Code(t)).Want("Your account")
	}
	prove(alice)
	page := b.Get("/_mfa/register?page=choose").Submit("begin")
	second := &lab.Person{Name: "alice", Key: page.Key()}
	page.Submit("code", "code", second.Code(t))
	prove(alice)
	var ids []string
	_, rest, _ := strings.Cut(show(t, p, "alice"), `"credentials"`)
	for _, m := range credentialID.FindAllStringSubmatch(rest, -1) {
		if m[2] == "totp" {
			ids = append(ids, m[1])
		}
	}
	if len(ids) != 2 {
		t.Fatalf("%d apps: %s", len(ids), rest)
	}
	_, form := b.Get("/_mfa/account").Form("recovery")
	atOnce(20, func(i int) {
		b.Post("/_mfa/account", url.Values{"action": {"remove"}, "id": {ids[i%2]}, "session": form["session"]})
	})
	if n := strings.Count(withoutTimes(show(t, p, "alice")), `"method":"totp"`); n != 1 {
		t.Errorf("%d apps are left: %s", n, show(t, p, "alice"))
	}
}

func TestAttackRegistrationFromOutside(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{
		Global:  "registration {\n\t\t\tfrom 203.0.113.0/24 or require_pass\n\t\t}",
		Servers: "servers {\n\t\ttrusted_proxies static 127.0.0.1\n\t\ttrusted_proxies_strict\n\t}",
	})
	outside := func() *lab.Browser {
		b := lab.NewBrowser(t, p.URL)
		b.Header["X-Forwarded-For"] = []string{"203.0.113.9, 198.51.100.7"}
		return b
	}
	// In grace he is let in, and still registers nothing from there. Nor does it help to begin inside and go on outside.
	b := outside()
	b.Password("/", "bob", lab.Password)
	if !b.SignedIn() {
		t.Fatal("grace lets nobody in")
	}
	account := b.Get("/_mfa/account")
	_, form := account.Form("everywhere")
	if page := b.Post("/_mfa/register", url.Values{"action": {"begin"}, "session": form["session"]}); strings.Contains(page.Body, "otpauth:") || page.Status != http.StatusForbidden {
		t.Errorf("from outside: %v", page)
	}
	inside := lab.NewBrowser(t, p.URL)
	inside.Header["X-Forwarded-For"] = []string{"203.0.113.9"}
	if page := inside.Password("/", "carol", lab.Password).Submit("begin"); page.Key() == "" {
		t.Error("from inside there is no key")
	}
}

func TestAttackADormantAccountWhenGraceIsOver(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: "registration {\n\t\t\trequire_pass\n\t\t}\n\t\tsecurity_defaults {\n\t\t\tregistration_grace 14d until " + time.Now().UTC().Format(time.DateOnly) + "\n\t\t}"})
	// He has never signed in. Whoever knows his old password gets neither in nor a factor.
	b := lab.NewBrowser(t, p.URL)
	b.Password("/", "bob", lab.Password)
	if b.SignedIn() || strings.Contains(show(t, p, "bob"), `"totp"`) {
		t.Error("the password alone is enough")
	}
	up.WantNothing(t)
	// A reset gives no new grace.
	pass := temporaryPass.FindString(p.Command("user", "reset", "carol"))
	c := lab.NewBrowser(t, p.URL)
	c.Password("/", "carol", lab.Password).Want("Temporary access pass")
	if c.SignedIn() {
		t.Error("after a reset the password is enough")
	}
	if page := c.Get("/_mfa/verify").Submit("code", "code", pass); !page.Has("Set up your second step") {
		t.Errorf("with the pass: %v", page)
	}
}

func TestAttackAnEmptiedAccountStore(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	check := func(t *testing.T, p *lab.Proxy, empty func()) {
		b := lab.NewBrowser(t, p.URL)
		alice := b.Register("alice")
		cookie := cookieHeader(b)
		empty()
		up.Forget()
		// Registrations that vanished don't become grace.
		for _, user := range []string{"alice", "bob"} {
			thief := lab.NewBrowser(t, p.URL)
			page := thief.Password("/", user, lab.Password)
			if page.Status != http.StatusServiceUnavailable || page.Header.Get("Retry-After") == "" {
				t.Errorf("%s: %v", user, page)
			}
			if thief.SignedIn() || strings.Contains(thief.Get("/_mfa/register").Body, "otpauth:") || thief.Cookie(sessionCookie) != "" {
				t.Errorf("%s: the password is enough", user)
			}
		}
		thief := lab.NewBrowser(t, p.URL)
		thief.Password("/", "alice", "wrong").WantStatus(http.StatusUnprocessableEntity)
		if out, err := p.TryCommand("user", "pass", "alice"); err == nil {
			t.Errorf("a pass is made for an account that was lost: %s", out)
		}
		up.WantNothing(t)
		p.Command("accounts", "init")
		if reaches(t, up, p, cookie) {
			t.Error("the session from before lives in the new store")
		}
		after := lab.NewBrowser(t, p.URL)
		if page := after.Password("/", "alice", lab.Password); page.Status != http.StatusOK {
			t.Errorf("after it was accepted: %v", page)
		}
		if page := codeFor(after, url.Values{}, "totp", alice.Code(t)); signedIn(page) {
			t.Error("the old app signs in")
		}
	}
	t.Run("bolt", func(t *testing.T) {
		p := lab.Start(t, up.Address, lab.Options{})
		check(t, p, func() {
			p.Stop()
			if err := os.Remove(filepath.Join(p.Dir, "store.db")); err != nil {
				t.Fatal(err)
			}
			p.Launch(false)
		})
	})
	t.Run("Redis", func(t *testing.T) {
		r := redistest.Start(t)
		p := lab.Start(t, up.Address, onRedis(r))
		check(t, p, func() {
			p.Stop()
			r.Flush()
			p.Launch(false)
		})
	})
	t.Run("Redis, while it runs", func(t *testing.T) {
		r := redistest.Start(t)
		p := lab.Start(t, up.Address, onRedis(r))
		lab.NewBrowser(t, p.URL).Register("alice")
		r.Flush()
		thief := lab.NewBrowser(t, p.URL)
		thief.Password("/", "alice", lab.Password).WantStatus(http.StatusServiceUnavailable)
		if thief.SignedIn() {
			t.Error("the password is enough")
		}
	})
}

func TestAttackUsersWhoAreGone(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	b, a := lab.NewBrowser(t, p.URL), lab.NewBrowser(t, p.URL)
	alice := a.Register("alice")
	bob := b.Register("bob")
	cookie := cookieHeader(b)
	write := func(text string) { p.Write("users.yaml", "users:\n"+text) }

	write(users("alice"))
	lab.Eventually(t, 10*time.Second, "bob's session ends when he leaves", func() bool { return !reaches(t, up, p, cookie) })
	gone := lab.NewBrowser(t, p.URL)
	gone.Password("/", "bob", lab.Password).WantStatus(http.StatusUnprocessableEntity)
	// Somebody else gets his name, with an id of his own: nothing that was the first one's is his.
	write(users("alice") + "  bob:\n    id: another-bob\n" + strings.TrimPrefix(users("bob"), "  bob:\n"))
	lab.Eventually(t, 10*time.Second, "the new bob is there", func() bool {
		return lab.NewBrowser(t, p.URL).Password("/", "bob", lab.Password).Status == http.StatusOK
	})
	if reaches(t, up, p, cookie) {
		t.Error("the first bob's session is the second one's")
	}
	if strings.Contains(show(t, p, "bob"), `"totp"`) {
		t.Error("the first bob's app is the second one's")
	}
	c := lab.NewBrowser(t, p.URL)
	c.Password("/", "bob", lab.Password)
	if page := codeFor(c, url.Values{}, "totp", bob.Unused(t)); signedIn(page) {
		t.Error("the first bob's code signs in")
	}
	// A new password ends what was begun with the old one.
	if !a.SignedIn() {
		t.Fatal("alice was signed out by what concerns bob")
	}
	const hash = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
	write("  alice:\n    password: " + hash + "\n")
	lab.Eventually(t, 10*time.Second, "alice's session ends with her password", func() bool { return !a.SignedIn() })
	if page := lab.NewBrowser(t, p.URL).Password("/", alice.Name, lab.Password); page.Status != http.StatusUnprocessableEntity {
		t.Errorf("the old password: %v", page)
	}
}
