package portal

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// page is what stands on every page.
type page struct {
	speaker
	Name        string // of the page, to come back to
	Query       string // what its address needs to come back to it, besides the token
	Lang, Dir   string
	Title       string
	Prefix      string
	Host        string
	Application string
	User        string // who is signed in, or on the way
	Pending     bool   // he is on the way
	Help        string
	Token       string // where the browser is going, sealed
	Reference   string // shown where something went wrong
	Time        time.Time
	Refresh     string // where the page moves on to by itself
	Reload      int    // seconds after which it is loaded again, where there is no script to ask
	Manifest    string // with which the page can be installed
	Script      string // another script than the one of every page
	Error       *fieldError
	Notice      string
	Languages   []languageChoice

	facts  Facts
	framed bool   // may be shown in a frame
	allows string // what the page may do beside what all may, as in a Content-Security-Policy
	texts  *Texts
	title  string // key
	wishes struct{ menu, browser string }
}

// fieldError is a mistake in a form: in a field, or in no particular one.
type fieldError struct{ Field, Message string }

type languageChoice struct {
	Language
	Current bool
}

func (p *Portal) page(r *http.Request, f Facts, title string) *page {
	pg := &page{Prefix: prefix, Host: f.Host, Application: f.Application, Help: p.Help, Time: f.Now.UTC(), facts: f, texts: p.Texts, title: title}
	pg.wishes.menu = session.CookieValue(r, session.LanguageCookieName, f.HTTPS)
	pg.wishes.browser = r.Header.Get("Accept-Language")
	pg.speakTo("")
	return pg
}

// speakTo chooses the language: what was chosen from the menu, then the user's own, then the browser's.
func (pg *page) speakTo(user string) {
	lang := pg.texts.Choose(pg.wishes.menu, user, pg.wishes.browser)
	pg.speaker, pg.Lang, pg.Dir = pg.texts.speak(lang), lang.Tag, lang.Dir
	if pg.title != "" {
		pg.Title = pg.T(pg.title)
	}
	pg.Languages = nil
	for _, l := range pg.texts.languages {
		pg.Languages = append(pg.Languages, languageChoice{l, l.Tag == lang.Tag})
	}
}

// as says whose page it is.
func (pg *page) as(st signin.State) {
	pg.User, pg.Pending = st.User.Name, st.Current.Session.Pending
	pg.speakTo(st.User.Language)
}

// withReference shows the reference that stands in the log.
func (pg *page) withReference() *page {
	pg.Reference = pg.facts.Reference
	return pg
}

// wrong puts a mistake on the page.
func (pg *page) wrong(field, message string) {
	pg.Error = &fieldError{field, message}
	pg.withReference()
}

// contentSecurityPolicy allows what the pages are made of, and nothing else. Forms go to us alone.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors "

// render writes a page. data embeds pg.
func (p *Portal) render(w http.ResponseWriter, pg *page, status int, name string, data any) {
	var body bytes.Buffer
	if err := p.templates.ExecuteTemplate(&body, name+".html", data); err != nil {
		p.Log.Error("rendering page", "page", name, "error", err)
		p.writeLine(w, http.StatusInternalServerError, "This page can't be shown. Reference: "+pg.facts.Reference)
		return
	}
	h := w.Header()
	noStore(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", pg.Lang)
	h.Set("X-Content-Type-Options", "nosniff")
	// no-referrer would send "Origin: null" with our own forms.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	if pg.framed {
		h.Set("Content-Security-Policy", contentSecurityPolicy+"*")
	} else {
		h.Set("Content-Security-Policy", pg.allows+contentSecurityPolicy+"'none'")
		if pg.facts.Secure {
			h.Set("Cross-Origin-Opener-Policy", "same-origin") // means nothing elsewhere, and browsers complain
		}
		h.Set("X-Frame-Options", "DENY")
	}
	w.WriteHeader(status)
	w.Write(body.Bytes()) // a client that is gone is no fault of ours
}

// messagePage says something, and may offer one way on.
type messagePage struct {
	*page
	Paragraphs     []string
	Link, LinkText string
	Top            bool // the link replaces the whole window
}

// message writes a page that says something. linkText is a key.
func (p *Portal) message(w http.ResponseWriter, pg *page, status int, link, linkText string, paragraphs ...string) {
	m := messagePage{page: pg, Paragraphs: paragraphs, Link: link, Top: pg.framed}
	if linkText != "" {
		m.LinkText = pg.T(linkText)
	}
	if pg.framed {
		pg.Languages = nil
	}
	p.render(w, pg, status, "message", m)
}

// grouped writes a key in groups of four, as people read it.
func grouped(key string) string {
	var b strings.Builder
	for i, c := range key {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}
