package portal

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode"

	"golang.org/x/net/html"

	accounts "github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/push"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// machineTexts is a catalogue of marked texts in two languages more: a pseudo-locale that is longer than English, and
// one that is written from right to left.
func machineTexts(t testing.TB) *Texts {
	t.Helper()
	raw, err := fs.ReadFile(textFiles, "text/en.json")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{"text/en.json": &fstest.MapFile{Data: raw}}
	for lang, letters := range map[string]string{"en-XA": "åéîöüñ ", "he": "אבגדהו "} {
		texts := map[string]any{}
		for key, forms := range catalogue(t, "text/en.json") {
			if text, ok := forms[""]; ok {
				texts[key] = marked(text, letters)
				continue
			}
			all := map[string]string{}
			for _, form := range []string{"zero", "one", "two", "few", "many", "other"} {
				all[form] = marked(forms["other"], letters)
			}
			texts[key] = all
		}
		raw, err := json.Marshal(texts)
		if err != nil {
			t.Fatal(err)
		}
		files["text/"+lang+".json"] = &fstest.MapFile{Data: raw}
	}
	texts, err := newTexts(files)
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// marked is a text of about the same words in other letters, in brackets and half as long again; placeholders are kept.
func marked(text, letters string) string {
	alphabet := []rune(letters)
	var b strings.Builder
	rest := text
	for rest != "" {
		at := placeholder.FindStringIndex(rest)
		if at == nil {
			at = []int{len(rest), len(rest)}
		}
		for i, r := range []rune(rest[:at[0]]) {
			if unicode.IsLetter(r) {
				r = alphabet[i%(len(alphabet)-1)]
			}
			b.WriteRune(r)
		}
		b.WriteString(rest[at[0]:at[1]])
		rest = rest[at[1]:]
	}
	return "⟦" + b.String() + strings.Repeat(letters, len(text)/2/len(alphabet)) + "⟧"
}

func testPortal(t testing.TB, texts *Texts) *Portal {
	t.Helper()
	p, err := New(Portal{Returns: returns(t, 1), Texts: texts, Help: "⟦help⟧", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// everyPage renders every template with everything that it can hold. value stands wherever something comes from outside.
func everyPage(t testing.TB, p *Portal, lang, value string) map[string]*httptest.ResponseRecorder {
	t.Helper()
	p.Help = value
	r := httptest.NewRequest(http.MethodGet, "/_mfa/signin", nil)
	r.Header.Set("Accept-Language", lang)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f := Facts{Host: value, Origin: "https://hr.example.com", HTTPS: true, Secure: true, Application: value, Target: "/_mfa/signin?" + value, Reference: value, Now: now}
	newPage := func(title string) *page {
		pg := p.page(r, f, title)
		pg.Name, pg.Query, pg.User, pg.Token, pg.Notice = value, value, value, value, value
		pg.wrong("code", value)
		return pg
	}
	qr, err := qrCode("otpauth://totp/"+url.PathEscape(value), value)
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]*httptest.ResponseRecorder{}
	render := func(template string, data any, pg *page) {
		w := httptest.NewRecorder()
		p.render(w, pg, http.StatusOK, template, data)
		pages[template] = w
	}
	signIn := newPage("signin.title")
	invitation := signin.Invitation{Options: value, Token: value, Browser: value}
	render("signin", signInPage{signIn, value, invitation, value}, signIn)
	offer := newPage("offer.title")
	render("offer", offerPage{offer, value}, offer)
	verify := newPage("verify.title")
	render("verify", verifyPage{
		page: verify, Session: value, Method: mfa.Method(value), Purpose: value, Why: value, Lead: "verify.totp.lead", Label: "verify.totp.label", Numeric: true,
		Boxes: boxes{30, 1, true, false}, Others: []way{{prefix + "verify?" + url.Values{"t": {value}}.Encode(), "verify.recovery_code.way"}}, Back: true,
	}, verify)
	for name, options := range map[string]string{"verify-passkey": "", "verify-asked": value} {
		verify := newPage("verify.title")
		w := httptest.NewRecorder()
		p.render(w, verify, http.StatusOK, "verify", verifyPage{page: verify, Session: value, Method: mfa.Passkey, Purpose: value, Lead: "verify.passkey.lead", Label: "verify.passkey.label", Passkey: true, Options: options, Boxes: boxes{1, 30, false, true}})
		pages[name] = w
	}
	for _, method := range []mfa.Method{mfa.SMS, mfa.Voice, mfa.Email} {
		name := string(method)
		renderAs := func(as, template string, data any, pg *page) {
			w := httptest.NewRecorder()
			p.render(w, pg, http.StatusOK, template, data)
			pages[as] = w
		}
		for state, part := range map[string]sentPart{
			"asks":   {Sends: true, Destinations: []mfa.Credential{{ID: value, Name: value}, {ID: value, Name: value}}},
			"sent":   {Sends: true, Sent: value, Destinations: []mfa.Credential{{ID: value, Name: value}}},
			"nobody": {Sends: true},
		} {
			verify := newPage("verify.title")
			renderAs("verify-"+name+"-"+state, "verify", verifyPage{page: verify, Session: value, Method: method, Purpose: value, Lead: "verify." + name + ".lead", Label: "verify." + name + ".label", Numeric: true, sentPart: part}, verify)
		}
		where := newPage("address.title_phone")
		where.wrong("to", value)
		renderAs("address-"+name, "address", addressPage{where, value, method, "address." + name, value}, where)
		typed := newPage("sent.title")
		renderAs("sent-"+name, "sent", sentPage{typed, value, method, value}, typed)
	}
	for state, part := range map[string]pushPart{"asks": {}, "waits": {Number: value, Asked: signin.Wishes{Stay: true, Remember: true}}, "answered": {Answered: true}} {
		verify := newPage("verify.title")
		verify.Script, verify.allows, verify.Reload = pushScript, allowsFetch, 5
		w := httptest.NewRecorder()
		p.render(w, verify, http.StatusOK, "verify", verifyPage{page: verify, Session: value, Method: mfa.Push, Purpose: value, Lead: "verify.push.lead", Label: "verify.push.label", pushPart: part})
		pages["verify-push-"+state] = w
	}
	for _, state := range []string{pairingOpen, pairingPaired, pairingConfirmed} {
		pair := newPage("pair.title")
		pair.Script, pair.allows = pushScript, allowsFetch
		w := httptest.NewRecorder()
		p.render(w, pair, http.StatusOK, "pair", pairingPage{pair, value, state, qr, value, value, push.Pairing{Name: value, Number: value}})
		pages["pair-"+state] = w
	}
	phone := newPage("phone.title")
	phone.Script, phone.allows = pushScript, allowsPhone
	render("phone", phonePage{phone, value, now.UnixMilli()}, phone)
	register := newPage("register.title")
	render("register", registerPage{page: register, Session: value, Lead: "register.lead", Days: 3, Postpone: true, Found: true, Back: true, Enough: true, Passkey: true, Push: true, App: true, Sent: []mfa.Method{mfa.SMS, mfa.Voice, mfa.Email}}, register)
	app := newPage("app.title")
	render("app", appPage{page: app, Session: value, QR: qr, URI: "otpauth://totp/x", Key: value}, app)
	passkey := newPage("passkey.title")
	render("passkey", passkeyPage{page: passkey, Session: value, Options: value}, passkey)
	codes := newPage("codes.title")
	render("codes", codesPage{codes, value, "codes.lead", []string{value, value}, true}, codes)
	account := newPage("account.title")
	render("account", accountPage{
		page: account, Session: value, Accepted: value, Unknown: value, Removable: true, Needed: map[string]string{"needed": value}, MayAdd: true, CodesLeft: 2, FewCodes: true,
		Factors:   []mfa.Credential{{ID: value, Added: now}, {ID: value, Method: mfa.Passkey, Name: value, Added: now, LastUsed: now}, {ID: "directory", Method: mfa.SMS, Name: value, Added: now}, {ID: value, Method: mfa.Voice, Name: value, Added: now}, {ID: value, Method: mfa.Email, Name: value, Added: now}, {ID: value, Method: mfa.Push, Name: value, Added: now}, {ID: "needed", Method: mfa.Push, Added: now}},
		Fixed:     "directory",
		Upstreams: []signin.UpstreamApplication{{Name: value, Wanted: true}, {Name: value, Wanted: true, Stored: now}, {Name: value, Stored: now}},
		Sessions: []sessionRow{
			{ID: value, Browser: value, Address: value, Applications: value, Created: now, Seen: now, This: true},
			{ID: value, Browser: browserName(account, value), Address: value, Applications: value, Created: now, Seen: now, Until: now},
		},
		Browsers: []browserRow{
			{ID: value, Browser: value, Host: value, Added: now, LastUsed: now, Until: now, This: true}, {ID: value, Browser: browserName(account, value), Host: value, Added: now, Until: now},
		},
		Activity: []activityRow{
			{ID: value, Application: value, Browser: value, Place: value, Result: "account.activity_success", Remembered: true, At: now},
			{ID: value, Browser: value, Result: "account.activity_refused", At: now},
		},
		ShowAppPasswords: true, MayMake: true,
		AppPasswords: []appPasswordRow{
			{accounts.AppPassword{ID: value, Name: value, Application: value, Expires: now, LastUsed: now}, value},
			{accounts.AppPassword{ID: value, Name: value, Application: value, By: "admin", Expires: now}, value},
		},
	}, account)
	confirm := newPage("confirm.codes_title")
	render("confirm", confirmPage{confirm, value, value, value, value, value, value, "account.remove"}, confirm)
	upstream := newPage("")
	upstream.Title = upstream.T("upstream.title", "Application", value)
	render("upstream", upstreamPage{upstream, value, value}, upstream)
	appPassword := newPage("apppassword.title")
	form := appPasswordPage{page: appPassword, Session: value, Applications: []string{value}, Lifetimes: []lifetimeChoice{{Seconds: 60, Text: value, Chosen: true}}}
	form.Wish.Application, form.Wish.Name = value, value
	render("apppassword", form, appPassword)
	made := newPage("apppassword.made_title")
	render("apppassword_made", appPasswordMadePage{made, value, value, value, now}, made)
	stay := newPage("stay.title")
	render("stay", stayPage{stay, value, boxes{Stay: 30}}, stay)
	terms := newPage("terms.title")
	text, err := NewTerms(policy.Terms{Name: value, Version: 3}, []byte("# ⟦Heading⟧\n\n"+value))
	if err != nil {
		t.Fatal(err)
	}
	render("terms", termsPage{terms, value, text}, terms)
	signOut := newPage("signout.title")
	render("signout", signOut, signOut)
	message := newPage("continue.title")
	message.Refresh = Return{Target: "/" + value}.URL()
	w := httptest.NewRecorder()
	p.message(w, message, http.StatusOK, message.Refresh, "continue.link", value, message.T("refused.text", "User", value))
	pages["message"] = w

	templates, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil || len(pages) != len(templates)-4+2+5*3+4 {
		t.Fatalf("%d pages of %d templates, of which one is the layout, one holds parts of the account page, one makes two more, three are for phones that approve and make seven, and two are for codes that are sent: %v", len(pages), len(templates), err)
	}
	for name, w := range pages {
		if w.Code != http.StatusOK || strings.Contains(w.Body.String(), "ZgotmplZ") || !strings.HasSuffix(strings.TrimSpace(w.Body.String()), "</html>") {
			t.Fatalf("%s: status %d\n%s", name, w.Code, w.Body)
		}
	}
	return pages
}

func parse(t testing.TB, body string) *html.Node {
	t.Helper()
	doc, err := html.ParseWithOptions(strings.NewReader(body), html.ParseOptionEnableScripting(false))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

var brackets = regexp.MustCompile(`⟦[^⟦⟧]*⟧`)

// unmarked is what is left of a text without what stands in brackets, one inside the other too.
func unmarked(text string) string {
	for {
		rest := brackets.ReplaceAllString(text, "")
		if rest == text {
			return strings.TrimSpace(rest)
		}
		text = rest
	}
}

func TestEveryWordOfAPageCanBeTranslated(t *testing.T) {
	p := testPortal(t, machineTexts(t))
	for lang, dir := range map[string]string{"en-XA": "ltr", "he": "rtl"} {
		for name, w := range everyPage(t, p, lang, "⟦value⟧") {
			if got := w.Header().Get("Content-Language"); got != lang {
				t.Errorf("%s: Content-Language: %s, want %s", name, got, lang)
			}
			for n := range parse(t, w.Body.String()).Descendants() {
				text := ""
				switch {
				case n.Type == html.ElementNode && n.Data == "html":
					if attribute(n, "lang") != lang || attribute(n, "dir") != dir {
						t.Errorf("%s: lang %s, dir %s, want %s, %s", name, attribute(n, "lang"), attribute(n, "dir"), lang, dir)
					}
				case n.Type == html.ElementNode:
					for _, a := range []string{"aria-label", "title", "placeholder", "alt", "data-show", "data-hide", "data-copy", "data-done", "data-download", "data-print"} {
						text += attribute(n, a)
					}
				case n.Type == html.TextNode && n.Parent.Data != "time" && attribute(n.Parent, "name") != "language":
					text = n.Data
				}
				if rest := unmarked(text); strings.ContainsFunc(rest, unicode.IsLetter) {
					t.Errorf("%s in %s: %q is in no catalogue", name, lang, rest)
				}
			}
		}
	}
}

func TestNothingThatComesFromOutsideBecomesMarkup(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	p := testPortal(t, texts)
	for _, value := range []string{
		`"'><script>alert(1)</script><img src=x onerror=alert(1)>`,
		`' onfocus=alert(1) autofocus x='`,
		`{{.Session}}</title></textarea><svg onload=alert(1)>`,
		`javascript:alert(1)//<!--`,
		"`; url=//evil.example\u2028\x00\xff<b>",
	} {
		plain := everyPage(t, p, "nl", "x")
		for name, w := range everyPage(t, p, "nl", value) {
			shape := func(body string) (s []string) {
				for n := range parse(t, body).Descendants() {
					if n.Type != html.ElementNode || n.Data == "path" {
						continue
					}
					keys := []string{n.Data}
					for _, a := range n.Attr {
						keys = append(keys, a.Key)
					}
					s = append(s, strings.Join(keys, " "))
				}
				return s
			}
			if got, want := shape(w.Body.String()), shape(plain[name].Body.String()); !slices.Equal(got, want) {
				t.Errorf("%s with %q has other elements:\n%q\n%q", name, value, got, want)
			}
			for n := range parse(t, w.Body.String()).Descendants() {
				for _, a := range n.Attr {
					if (a.Key == "href" || a.Key == "action" || a.Key == "src") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#") && a.Val != "data:," && a.Val != "otpauth://totp/x" {
						t.Errorf("%s with %q: %s leads to %q", name, value, a.Key, a.Val)
					}
				}
			}
		}
	}
}

var inlined = regexp.MustCompile(`(?i)<style|\sstyle\s*=|\son[a-z]+\s*=|<script(?:>| [^>]*[^/]>[^<])|javascript:|https?://`)

func TestPagesKeepToTheirPolicy(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range everyPage(t, testPortal(t, texts), "en", "x") {
		if found := inlined.FindString(strings.ReplaceAll(w.Body.String(), `xmlns="http://www.w3.org/2000/svg"`, "")); found != "" {
			t.Errorf("%s holds %q", name, found)
		}
		h := w.Header()
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "style-src 'self'", "script-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
			if !slices.Contains(strings.Split(policy, "; "), want) {
				t.Errorf("%s: %q lacks %s", name, policy, want)
			}
		}
		for header, want := range map[string]string{
			"Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff",
			"Cross-Origin-Opener-Policy": "same-origin", "X-Frame-Options": "DENY", "Content-Type": "text/html; charset=utf-8",
		} {
			if got := h.Get(header); got != want {
				t.Errorf("%s: %s: %s, want %s", name, header, got, want)
			}
		}
	}
	if len(styleSheet) > 8<<10 {
		t.Errorf("the style sheet has %d bytes", len(styleSheet))
	}
	if bytes.Contains(styleSheet, []byte("url(")) || bytes.Contains(styleSheet, []byte("@import")) {
		t.Error("the style sheet asks for more")
	}
}

func TestAPageThatMayBeFramedHoldsNothingToPress(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	p := testPortal(t, texts)
	r := httptest.NewRequest(http.MethodGet, "/part", nil)
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "iframe")
	w := httptest.NewRecorder()
	p.Challenge(w, r, Facts{Host: "hr.example.com", Origin: "https://hr.example.com", HTTPS: true, Secure: true, Target: "/part", Now: time.Now()}, "")
	if w.Code != http.StatusUnauthorized || !strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors *") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	var links int
	for n := range parse(t, w.Body.String()).Descendants() {
		switch n.Data {
		case "form", "input", "button":
			t.Errorf("a %s in a page that may be framed", n.Data)
		case "a":
			links++
			if attribute(n, "target") != "_top" {
				t.Errorf("the link stays in the frame: %v", n.Attr)
			}
			if slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "autofocus" }) {
				t.Error("the link takes the focus, which browsers refuse in a frame")
			}
		}
	}
	if links != 1 {
		t.Errorf("%d links", links)
	}
}

// The way that somebody is on is kept when he chooses a language, and nobody can add to it.
func TestLanguageIsChosenOnTheWay(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	p := testPortal(t, texts)
	f := Facts{Host: "hr.example.com", Origin: "https://hr.example.com", HTTPS: true, Secure: true, Target: prefix + "language", Now: time.Now()}
	token := p.Returns.Seal(Return{"/reports", "hr"}, f.Host, f.Now)
	for reason, tc := range map[string]struct {
		form   url.Values
		path   string
		query  url.Values // besides the token
		cookie string
	}{
		"a page":                     {url.Values{"language": {"nl"}, "page": {"signin"}}, "/_mfa/signin", url.Values{}, "nl"},
		"a way of verifying":         {url.Values{"language": {"nl"}, "page": {"verify"}, "query": {"for=change&method=totp"}}, "/_mfa/verify", url.Values{"for": {"change"}, "method": {"totp"}}, "nl"},
		"what no page asks for":      {url.Values{"language": {"nl"}, "page": {"verify"}, "query": {"x=1&t=mine&method=totp&method=b"}}, "/_mfa/verify", url.Values{"method": {"totp"}}, "nl"},
		"a change to confirm":        {url.Values{"language": {"nl"}, "page": {"confirm"}, "query": {"change=remove&id=a"}}, "/_mfa/confirm", url.Values{"change": {"remove"}, "id": {"a"}}, "nl"},
		"a query that can't be read": {url.Values{"language": {"nl"}, "page": {"verify"}, "query": {"method=%zz"}}, "/_mfa/verify", url.Values{}, "nl"},
		"another site":               {url.Values{"language": {"nl"}, "page": {"//evil.example/"}, "query": {"\r\nx"}}, "/_mfa/signin", url.Values{}, "nl"},
		"no page":                    {url.Values{"language": {"nl"}}, "/_mfa/signin", url.Values{}, "nl"},
		"the menu itself":            {url.Values{"language": {"nl"}, "page": {"language"}}, "/_mfa/signin", url.Values{}, "nl"},
		"a language that isn't":      {url.Values{"language": {"tlh"}, "page": {"signin"}}, "/_mfa/signin", url.Values{}, ""},
	} {
		tc.form.Set("t", token)
		r := httptest.NewRequest(http.MethodPost, prefix+"language", strings.NewReader(tc.form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r, f)
		to, err := url.Parse(w.Header().Get("Location"))
		if err != nil || w.Code != http.StatusSeeOther || to.Host != "" || to.Path != tc.path {
			t.Errorf("%s: %d to %v: %v", reason, w.Code, to, err)
			continue
		}
		query := to.Query()
		if got := p.Returns.Open(query.Get("t"), f.Host, f.Now); got != (Return{"/reports", "hr"}) {
			t.Errorf("%s: the way is lost: %+v", reason, got)
		}
		query.Del("t")
		if query.Encode() != tc.query.Encode() {
			t.Errorf("%s: asks for %s, want %s", reason, query.Encode(), tc.query.Encode())
		}
		cookie := ""
		for _, c := range w.Result().Cookies() {
			cookie = c.Value
		}
		if cookie != tc.cookie {
			t.Errorf("%s: remembers %q, want %q", reason, cookie, tc.cookie)
		}
	}
}

func TestLanguageOfAPage(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	for reason, tc := range map[string]struct{ menu, user, browser, want string }{
		"nobody wishes anything":          {"", "", "", "en"},
		"the browser's":                   {"", "", "nl-BE,fr;q=0.5", "nl"},
		"the user's before the browser's": {"", "nl", "en", "nl"},
		"the menu before the user's":      {"en", "nl", "nl", "en"},
		"a user's that we don't speak":    {"", "pt-BR", "nl", "nl"},
	} {
		t.Run(reason, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/_mfa/account", nil)
			r.Header.Set("Accept-Language", tc.browser)
			if tc.menu != "" {
				r.AddCookie(session.NewCookie(session.LanguageCookieName, tc.menu, true, 0))
			}
			pg := testPortal(t, texts).page(r, Facts{HTTPS: true}, "account.title")
			pg.as(signin.State{User: &mfa.User{Name: "alice", Language: tc.user}, Current: session.Current{Session: &mfa.Session{}}})
			title := map[string]string{"en": "Your account", "nl": "Uw account"}[tc.want]
			current := slices.IndexFunc(pg.Languages, func(l languageChoice) bool { return l.Current })
			if pg.Lang != tc.want || pg.Title != title || current < 0 || pg.Languages[current].Tag != tc.want || len(pg.Languages) != 2 {
				t.Errorf("it speaks %s, its title is %q, the menu %v", pg.Lang, pg.Title, pg.Languages)
			}
		})
	}
}

// TestPagesWaitForATextMessageWhereOneHasBeenSent: a browser that waits elsewhere would ask its user about a message that is not for the page.
func TestPagesWaitForATextMessageWhereOneHasBeenSent(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	var waiting []string
	for name, w := range everyPage(t, testPortal(t, texts), "en", "value") {
		if strings.Contains(w.Body.String(), "data-otp") {
			waiting = append(waiting, name)
		}
	}
	if slices.Sort(waiting); !slices.Equal(waiting, []string{"sent-sms", "verify-sms-sent"}) {
		t.Errorf("these wait: %q", waiting)
	}
}
