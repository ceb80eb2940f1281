// Package portal is the pages that people see: sign-in, registration, their account, and every answer that stands in for the
// application's. It calls the services and keeps nothing itself.
package portal

import (
	"context"
	"embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// prefix is where the pages are, on every host.
const prefix = "/_mfa/"

// Owns says whether a path, as the client sent it, is one of ours. No other spelling is: it goes the way of every other path.
func Owns(escaped string) bool {
	return strings.HasPrefix(escaped, prefix) || escaped == prefix[:len(prefix)-1]
}

var (
	//go:embed templates/*.html
	templateFiles embed.FS

	//go:embed assets/style.css
	styleSheet []byte

	//go:embed assets/script.js
	script []byte
)

// maxForm is the size of the largest form that is read, in bytes.
const maxForm = 64 << 10

// Portal serves the pages. Its fields are set once; it is safe for concurrent use.
type Portal struct {
	Service *signin.Service
	Returns *Returns
	Texts   *Texts
	Help    string // whom to ask, shown on every page
	Terms   []Terms
	Health  func(ctx context.Context) error
	Log     *slog.Logger

	templates *template.Template
	foreign   *http.CrossOriginProtection
	readiness *readiness
}

// New completes a portal whose fields have been set.
func New(p Portal) (*Portal, error) {
	var err error
	if p.templates, err = template.ParseFS(templateFiles, "templates/*.html"); err != nil {
		return nil, fmt.Errorf("reading page templates: %w", err)
	}
	p.foreign = http.NewCrossOriginProtection()
	p.readiness = &readiness{check: p.Health}
	return &p, nil
}

// Facts is what is known of a request to a page, or to an application that it may not reach.
type Facts struct {
	Host        string // lower case, without port
	Origin      string // scheme, host and port as the browser sees them
	HTTPS       bool   // the browser talks https to this host
	Secure      bool   // HTTPS, or this machine talks to itself
	Client      mfa.Client
	Application string // the one that the route leads to; empty: none in particular
	Target      string // path and query, as the client sent them
	Reference   string // of this answer
	Dialect     legacy.Dialect
	Now         time.Time
}

func (f Facts) origin() string { return f.Origin }

// ServeHTTP serves a path that Owns says is ours.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request, f Facts) {
	path, _, _ := strings.Cut(f.Target, "?")
	name := strings.TrimPrefix(path, prefix)
	if r.Header.Get("Service-Worker") != "" && !(name == pushWorker && p.Service.Phones != nil) {
		// Nothing of ours is to stand between a browser and our pages, whoever asks for it.
		p.writeLine(w, http.StatusForbidden, "This is no service worker.")
		return
	}
	switch name {
	case "health":
		p.health(w, r)
		return
	case "style.css":
		p.asset(w, r, "text/css; charset=utf-8", styleSheet)
		return
	case "script.js":
		p.asset(w, r, "text/javascript; charset=utf-8", script)
		return
	}
	if !f.Secure {
		p.insecure(w, r, f, KindOf(r))
		return
	}
	if ours, found := strings.CutPrefix(name, pushPages); found && p.Service.Phones != nil && p.servePush(w, r, f, ours) {
		return
	}
	if name+"/" == pushPages && p.Service.Phones != nil && r.Method == http.MethodGet {
		noStore(w.Header())
		http.Redirect(w, r, prefix+pushPages, http.StatusSeeOther)
		return
	}
	switch dest := r.Header.Get("Sec-Fetch-Dest"); dest {
	case "", "document":
	default:
		// A page of ours in a frame, an image or a script, or fetched by one, is somebody's trick.
		p.writeLine(w, http.StatusForbidden, "This page can't be shown inside another.")
		return
	}
	serve, ok := routes()[name]
	if !ok {
		pg := p.page(r, f, "notfound.title")
		p.message(w, pg, http.StatusNotFound, "", "", pg.T("notfound.text"))
		return
	}
	v := &visit{Portal: p, w: w, r: r, f: f}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		v.open(r.URL.Query().Get("t"))
		serve.get(v)
	case http.MethodPost:
		if err := p.foreign.Check(r); err != nil || serve.post == nil {
			pg := p.page(r, f, "foreign.title")
			p.message(w, pg, http.StatusForbidden, "", "", pg.T("foreign.text"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			p.writeLine(w, http.StatusBadRequest, "The form could not be read.")
			return
		}
		v.open(r.PostForm.Get("t"))
		serve.post(v)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		p.writeLine(w, http.StatusMethodNotAllowed, "This page can't be used that way.")
	}
}

type route struct{ get, post func(*visit) }

func routes() map[string]route {
	return map[string]route{
		"":             {get: func(v *visit) { v.redirect(prefix + "account") }},
		"signin":       {(*visit).getSignIn, (*visit).postSignIn},
		"verify":       {(*visit).getVerify, (*visit).postVerify},
		"register":     {(*visit).getRegister, (*visit).postRegister},
		"stay":         {(*visit).getStay, (*visit).postStay},
		"terms":        {(*visit).getTerms, (*visit).postTerms},
		"confirm":      {get: (*visit).getConfirm},
		"account":      {(*visit).getAccount, (*visit).postAccount},
		"app-password": {(*visit).getAppPassword, (*visit).postAppPassword},
		"upstream":     {(*visit).getUpstream, (*visit).postUpstream},
		"program":      {get: (*visit).getProgram},
		"signout":      {(*visit).getSignOut, (*visit).postSignOut},
		"language":     {get: func(v *visit) { v.redirect(prefix + "account") }, post: (*visit).postLanguage},
	}
}

// visit is one request to a page.
type visit struct {
	*Portal
	w      http.ResponseWriter
	r      *http.Request
	f      Facts
	client signin.Client
	to     Return // where the browser is going
	token  string // the same, sealed again

	stands  signin.State // where the person stands, for a sign-in page; zero: nobody knows
	unknown string       // id of a passkey that the browser may forget
}

// open reads where the browser is going, and who it is.
func (v *visit) open(token string) {
	v.to = v.Returns.Open(token, v.f.Host, v.f.Now)
	if v.to.Application == "" {
		v.to.Application = v.f.Application
	}
	v.token = v.Returns.Seal(v.to, v.f.Host, v.f.Now)
	v.client = signin.Client{
		Host: v.f.Host, Origin: v.f.Origin, Application: v.to.Application, Client: v.f.Client, UserAgent: v.r.UserAgent(), Hint: v.r.Header.Get("Sec-Ch-Ua-Platform"),
		Session:    session.CookieValue(v.r, session.CookieName, v.f.HTTPS),
		Browser:    session.CookieValue(v.r, session.BrowserCookieName, v.f.HTTPS),
		Binding:    session.CookieValue(v.r, session.BindingCookieName, v.f.HTTPS),
		Asks:       v.wishes(),
		Remembered: session.CookieValue(v.r, session.RememberedCookieName, v.f.HTTPS),
		Reference:  v.f.Reference, Now: v.f.Now,
		Language: session.CookieValue(v.r, session.LanguageCookieName, v.f.HTTPS), Wishes: v.r.Header.Get("Accept-Language"),
	}
}

// page begins a page, with what stands on every one.
func (v *visit) page(title string) *page {
	pg := v.Portal.page(v.r, v.f, title)
	pg.Token, pg.Application = v.token, v.to.Application
	return pg
}

// form gives a field of the form that was sent.
func (v *visit) form(name string) string { return v.r.PostForm.Get(name) }

func (v *visit) redirect(to string) {
	noStore(v.w.Header())
	v.w.Header().Set("Location", to)
	v.w.WriteHeader(http.StatusSeeOther)
}

// to another page of ours, with the way on.
func (v *visit) next(page string) { v.redirect(prefix + page + "?t=" + v.token) }

func (v *visit) setCookies(c signin.Cookies) {
	if c.Session != "" {
		http.SetCookie(v.w, session.NewCookie(session.CookieName, c.Session, v.f.HTTPS, int(c.Persist/time.Second)))
	}
	if c.Browser != "" {
		http.SetCookie(v.w, session.NewCookie(session.BrowserCookieName, c.Browser, v.f.HTTPS, int(signin.KnownFor/time.Second)))
	}
	if c.Remembered != "" {
		http.SetCookie(v.w, session.NewCookie(session.RememberedCookieName, c.Remembered, v.f.HTTPS, int(c.Remember/time.Second)))
	}
}

// failed answers a fault, and says whether there was one. What a page handles itself must be handled before.
func (v *visit) failed(err error) bool {
	if err == nil {
		return false
	}
	if !signin.Unavailable(err) && v.r.Context().Err() == nil {
		page, _, _ := strings.Cut(v.f.Target, "?") // a query may hold what is nobody's business
		v.Log.Error("serving page", "page", page, "reference", v.f.Reference, "error", err)
	} else {
		v.Log.Warn("serving page: a dependency is unavailable", "reference", v.f.Reference, "error", err)
	}
	v.Unavailable(v.w, v.r, v.f, err)
	return true
}

func (p *Portal) asset(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	h := w.Header()
	noStore(h)
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	w.Write(body) // a client that is gone is no fault of ours
}
