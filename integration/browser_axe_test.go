package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// gallery looks at pages in every variant.
type gallery struct {
	t    *testing.T
	tab  *lab.Tab
	lang string
	text map[string]string // by what it is for
}

// another looks with a browser that nobody has used.
func (g *gallery) another(c *lab.Chromium) *gallery {
	return &gallery{g.t, c.Profile(g.t, g.lang), g.lang, g.text}
}

// say gives a text in the gallery's language.
func (g *gallery) say(key string) string {
	g.t.Helper()
	if g.text[key] == "" {
		g.t.Fatalf("no text for %s in %s", key, g.lang)
	}
	return g.text[key]
}

// look judges the page that the tab shows, in light and dark, small and large.
func (g *gallery) look(name, want string) {
	g.t.Helper()
	g.tab.Want(want)
	if lang := lab.Eval[string](g.tab, `document.documentElement.lang`); lang != g.lang {
		g.t.Errorf("%s: the page is in %s, want %s", name, lang, g.lang)
	}
	g.judge(name, g.tab.Axe)
}

func (g *gallery) judge(name string, axe func() []string) {
	g.t.Helper()
	for _, size := range [][2]int{{320, 640}, {1280, 800}} {
		g.tab.Viewport(size[0], size[1])
		for _, scheme := range []string{"light", "dark"} {
			g.tab.Scheme(scheme)
			variant := fmt.Sprintf("%s-%s-%s-%d", name, g.lang, scheme, size[0])
			g.tab.Screenshot(variant)
			if g.lang != "en" && variant != name+"-"+g.lang+"-light-320" {
				continue // colours are the same in every language, and longer words make trouble where there is little room
			}
			for _, broken := range axe() {
				g.t.Errorf("%s: %s", variant, broken)
			}
		}
		if wide := lab.Eval[int](g.tab, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
			g.t.Errorf("%s: at %d pixels one has to scroll %d more to the side", name, size[0], wide)
		}
	}
}

// Every page, as everybody may need to read it. The order is the one in which a person meets them.
func TestEveryPageCanBeUsedByEverybody(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		switch r.URL.Path {
		case "/nothing": // leaves the browser on the page that it is on
			w.WriteHeader(http.StatusNoContent)
		case "/form":
			fmt.Fprint(w, `<!doctype html><title>Application</title><p>write here<form method="post" action="/save"><button>Save</button></form>`)
		default:
			fmt.Fprint(w, `<!doctype html><title>Application</title><p>secret report`)
		}
	})
	options := lab.Options{Address: "http://:{port}", Site: "mfa Payroll\nreverse_proxy {upstream}", Global: `help "Service desk, room 12, phone 1234"`}
	p := lab.Start(t, up.Address, options)
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>Intranet</title><h1>Intranet</h1><iframe src="%s/part" style="border:0;width:100%%;height:30rem"></iframe>`, p.URL)
	}))
	defer outside.Close()
	// The same site as the application, whose port does not count.
	frames := strings.Replace(outside.URL, "127.0.0.1", "localhost", 1)

	chromium := lab.NewChromium(t)
	text := map[string]map[string]string{
		"en": {
			"signin": "User name", "signin-submit": "Sign in", "wrong": "is not right", "begin": "Set up", "later": "Not now", "app": "Scan this code", "cant": "Can't scan it?",
			"confirm": "Confirm", "codes": "Keep your recovery codes", "kept": "I have kept them", "continue": "Continue", "verify": "authenticator app shows now",
			"submit": "Continue", "way": "Use a recovery code", "recovery": "one of your recovery codes", "replace": "You used a recovery code", "account": "Where you are signed in",
			"fresh": "confirm once more", "new": "Make new recovery codes", "codes-new": "The old ones no longer work", "signout": "will be signed out", "signout-submit": "Sign out",
			"signedout": "You are signed out", "ended": "What you typed was not sent", "framed": "You are not signed in", "refused": "set up your second step first", "pass": "Temporary access pass",
			"unavailable": "Nobody can sign in until", "insecure": "safe connection", "notfound": "There is nothing here",
		},
		"nl": {
			"signin": "Gebruikersnaam", "signin-submit": "Aanmelden", "wrong": "klopt niet", "begin": "Instellen", "later": "Nu niet", "app": "Scan deze code", "cant": "Lukt scannen niet?",
			"confirm": "Bevestigen", "codes": "Bewaar uw herstelcodes", "kept": "Ik heb ze bewaard", "continue": "Doorgaan", "verify": "authenticator-app nu toont",
			"submit": "Doorgaan", "way": "Een herstelcode gebruiken", "recovery": "een van uw herstelcodes", "replace": "U hebt een herstelcode gebruikt", "account": "Waar u bent aangemeld",
			"fresh": "Bevestig nog één keer", "new": "Nieuwe herstelcodes maken", "codes-new": "De oude werken niet meer", "signout": "in deze browser afgemeld", "signout-submit": "Afmelden",
			"signedout": "U bent afgemeld", "ended": "Wat u hebt getypt is niet verstuurd", "framed": "U bent niet aangemeld", "refused": "moet eerst uw tweede stap instellen", "pass": "Tijdelijke toegangscode",
			"unavailable": "Niemand kan zich aanmelden totdat", "insecure": "veilige verbinding", "notfound": "Hier is niets",
		},
	}
	var galleries []*gallery
	for user, lang := range map[string]string{"alice": "en", "bob": "nl"} {
		g := &gallery{t: t, tab: chromium.Profile(t, lang), lang: lang, text: text[lang]}
		galleries = append(galleries, g)
		tab, say := g.tab, g.say
		tab.Open(p.URL + "/nothing")
		g.look("signin", say("signin"))
		tab.Fill("username", user).Fill("password", "not "+lab.Password).Click(say("signin-submit"))
		g.look("signin-wrong", say("wrong"))
		tab.Fill("password", lab.Password).Click(say("signin-submit"))
		g.look("register", say("begin"))
		tab.Click(say("begin")).Want(say("app")).Click(say("cant"))
		g.look("app", say("app"))
		person := &lab.Person{Name: user, Key: key(tab)}
		tab.Fill("code", "000000").Click(say("confirm"))
		g.look("app-wrong", say("wrong"))
		tab.Fill("code", person.Code(t)).Click(say("confirm"))
		g.look("codes", say("codes"))
		tab.Click(say("kept"))
		g.look("continue", say("continue"))
		tab.Open(p.URL + "/_mfa/account")
		g.look("account", say("account"))
		tab.Click(say("new"))
		g.look("verify-fresh", say("fresh"))
		tab.Fill("code", person.Code(t)).Click(say("submit"))
		g.look("confirm-codes", say("new")+"?")
		tab.Click(say("new"))
		g.look("codes-new", say("codes-new"))
		newCodes := codes(tab)
		tab.Open(p.URL + "/_mfa/signout")
		g.look("signout", say("signout"))
		tab.Click(say("signout-submit"))
		g.look("signedout", say("signedout"))
		tab.Open(p.URL + "/_mfa/nothing")
		g.look("notfound", say("notfound"))

		tab.Open(p.URL+"/nothing").Fill("username", user).Fill("password", lab.Password).Click(say("signin-submit"))
		g.look("verify", say("verify"))
		tab.Fill("code", "000000").Click(say("submit"))
		g.look("verify-wrong", say("wrong"))
		tab.Click(say("way"))
		g.look("verify-recovery", say("recovery"))
		tab.Fill("code", "AAAA-AAAA-AAAA").Click(say("submit"))
		g.look("verify-recovery-wrong", say("wrong"))
		tab.Fill("code", newCodes[0]).Click(say("submit"))
		g.look("register-replace", say("replace"))

		carol := g.another(chromium)
		carol.tab.Open(p.URL+"/form").Fill("username", "carol").Fill("password", lab.Password).Click(say("signin-submit")).Want(say("later")).Click(say("later")).Want("write here")
		carol.tab.ForgetCookies()
		carol.tab.Accept("/favicon.ico") // of the application
		carol.tab.Click("Save")
		carol.look("ended", say("ended"))
		carol.tab.Open(frames).Want("Intranet")
		carol.judge("framed", carol.tab.AxeInFrame)
		carol.tab.Open(strings.Replace(p.URL, "localhost", "hr.example.com", 1))
		carol.look("insecure", say("insecure"))
	}

	options.Global += "\nregistration {\nrequire_pass\n}\nsecurity_defaults {\nregistration_grace 0s\n}"
	if err := p.Reload(lab.Caddyfile(p, up.Address, options)); err != nil {
		t.Fatal(err)
	}
	for _, g := range galleries {
		visitor := g.another(chromium)
		visitor.tab.Open(p.URL+"/nothing").Fill("username", "carol").Fill("password", lab.Password).Click(g.say("signin-submit"))
		visitor.look("refused", g.say("refused"))
	}
	pass := passFor(t, p.Command("user", "pass", "carol", "--many"), "carol")
	for _, g := range galleries {
		visitor := g.another(chromium)
		visitor.tab.Open(p.URL+"/nothing").Fill("username", "carol").Fill("password", lab.Password).Click(g.say("signin-submit"))
		visitor.look("verify-pass", g.say("pass"))
		visitor.tab.Fill("code", pass).Click(g.say("submit")).Want(g.say("begin"))
	}
	p.Stop()
	if err := os.Remove(filepath.Join(p.Dir, "store.db")); err != nil {
		t.Fatal(err)
	}
	p.Launch(false)
	for _, g := range galleries {
		visitor := g.another(chromium)
		visitor.tab.Open(p.URL+"/nothing").Fill("username", "carol").Fill("password", lab.Password).Click(g.say("signin-submit"))
		visitor.look("unavailable", g.say("unavailable"))
	}
}

func key(tab *lab.Tab) string {
	return strings.ReplaceAll(lab.Eval[string](tab, `document.getElementById("key").textContent`), " ", "")
}

func codes(tab *lab.Tab) []string {
	return strings.Fields(lab.Eval[string](tab, `document.getElementById("codes").textContent`))
}
