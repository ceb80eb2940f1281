package portal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// problem is the answer to scripts (RFC 9457).
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	SignIn    string `json:"signin,omitempty"` // where a person signs in
	Reference string `json:"reference,omitempty"`
}

// Types of problems.
const (
	typeSignIn      = "urn:caddy-mfa:problem:sign-in"
	typeRefused     = "urn:caddy-mfa:problem:refused"
	typeUnavailable = "urn:caddy-mfa:problem:unavailable"
	typeInsecure    = "urn:caddy-mfa:problem:insecure"
)

func (p *Portal) writeProblem(w http.ResponseWriter, pr problem) {
	body, err := json.Marshal(pr)
	if err != nil { // strings and numbers are always written
		panic(err)
	}
	h := w.Header()
	noStore(h)
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(pr.Status)
	w.Write(append(body, '\n')) // a client that is gone is no fault of ours
}

func noStore(h http.Header) { h.Set("Cache-Control", "no-store") }

// writeLine answers programs with one line of text.
func (p *Portal) writeLine(w http.ResponseWriter, status int, line string) {
	h := w.Header()
	noStore(h)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(line)+1))
	w.WriteHeader(status)
	fmt.Fprintln(w, line) // a client that is gone is no fault of ours
}

// Challenge asks a client for what is missing before it may reach the application: the sign-in page for who can see
// one, an answer that can't be taken for the application's for who can't. user is who is signed in, and has to do more; empty: nobody.
func (p *Portal) Challenge(w http.ResponseWriter, r *http.Request, f Facts, user string) {
	// The address differs from one client to the next in what is read here.
	w.Header().Add("Vary", "Accept, Cookie, Sec-Fetch-Dest, Sec-Fetch-Mode")
	kind := f.kind(r)
	if !f.Secure {
		p.insecure(w, r, f, kind)
		return
	}
	if kind == Navigation && strings.HasPrefix(r.UserAgent(), "Lynx/") { // it tells a script of a status, as others in a terminal don't
		p.inTerminal(w, r, f, http.StatusForbidden)
		return
	}
	switch kind {
	case Navigation:
		noStore(w.Header())
		w.Header().Set("Location", p.signInURL(f, f.Target))
		w.WriteHeader(http.StatusSeeOther)
	case NavigationPost:
		p.challengeHeader(w, f)
		title, text, link := "ended.title", "ended.text", "message.sign_in"
		if user != "" {
			title, text, link = "more.title", "more.text", "continue.link"
		}
		pg := p.page(r, f, title)
		pg.User = user
		pg.Token = p.Returns.Seal(Return{refererTarget(r, f), f.Application}, f.Host, f.Now)
		p.message(w, pg, http.StatusUnauthorized, prefix+"signin?t="+pg.Token, link, pg.T(text))
	case Frame:
		p.challengeHeader(w, f)
		title, text, link := "framed.title", "framed.text", "message.sign_in"
		if user != "" {
			title, text, link = "more.title", "more.framed", "continue.link"
		}
		pg := p.page(r, f, title)
		pg.framed = true
		p.message(w, pg, http.StatusUnauthorized, p.signInURL(f, refererTarget(r, f)), link, pg.T(text))
	case Script:
		p.challengeHeader(w, f)
		title := "Nobody is signed in"
		if user != "" {
			title = "More must be proven or accepted"
		}
		p.writeProblem(w, problem{Type: typeSignIn, Title: title, Status: http.StatusUnauthorized, SignIn: f.origin() + prefix + "signin"})
	default:
		p.offerSignIn(w, f)
		p.writeProgram(w, f, http.StatusForbidden, "This needs a sign-in with a second step, in a web browser.")
	}
}

// inTerminal leads to the sign-in page by a link, and not by itself.
func (p *Portal) inTerminal(w http.ResponseWriter, r *http.Request, f Facts, status int) {
	pg := p.page(r, f, "framed.title")
	p.message(w, pg, status, p.signInURL(f, f.Target), "message.sign_in", pg.T("terminal.text"))
}

// challengeHeader makes a 401 what RFC 9110, section 15.5.2, asks of it, with a scheme that no client takes for one it knows.
func (p *Portal) challengeHeader(w http.ResponseWriter, f Facts) {
	w.Header().Set("WWW-Authenticate", `MFA signin="`+f.origin()+prefix+`signin"`)
}

func (p *Portal) signInURL(f Facts, target string) string {
	return prefix + "signin?t=" + p.Returns.Seal(Return{target, f.Application}, f.Host, f.Now)
}

// refererTarget is the page that a form or a frame stands on, if it is on this host.
func refererTarget(r *http.Request, f Facts) string {
	u, err := url.Parse(r.Header.Get("Referer"))
	if err != nil || u.Host != r.Host || u.Host == "" {
		return ""
	}
	return u.RequestURI()
}

// Refuse says that policy does.
func (p *Portal) Refuse(w http.ResponseWriter, r *http.Request, f Facts, user string, d policy.Decision) {
	switch f.kind(r) {
	case Navigation, NavigationPost, Frame:
		pg := p.page(r, f, "")
		pg.User, pg.framed = user, f.kind(r) == Frame
		p.refused(w, pg, d)
	case Script:
		p.writeProblem(w, problem{Type: typeRefused, Title: "Policy refuses", Status: http.StatusForbidden, Detail: string(d.Reason), Reference: f.Reference})
	default:
		p.writeProgram(w, f, http.StatusForbidden, "Policy refuses this. Reference: "+f.Reference)
	}
}

// refusals are the texts that say what somebody could do about a refusal.
var refusals = map[policy.Reason]string{
	policy.DeviceNotCompliant: "refused.device", policy.DeviceNotJoined: "refused.device", policy.StrengthUnreachable: "refused.strength",
}

func (p *Portal) refused(w http.ResponseWriter, pg *page, d policy.Decision) {
	pg.Title = pg.T("refused.title_here")
	switch {
	case pg.Application == "":
	case d.Reason == policy.StrengthUnreachable:
		pg.Title = pg.T("refused.title_way", "Application", pg.Application) // from elsewhere he can't either
	default:
		pg.Title = pg.T("refused.title", "Application", pg.Application)
	}
	text := pg.T("refused.text", "User", pg.User)
	if key := refusals[d.Reason]; key != "" {
		text = pg.T(key)
	}
	if d.Reason == policy.RegistrationDenied {
		text = pg.T("refused.register") + " " + pg.T(needs[d.Needs])
	}
	pg.withReference()
	p.message(w, pg, http.StatusForbidden, "", "", text)
}

// Unavailable answers when something that must be asked doesn't answer. It never says that nobody is signed in.
func (p *Portal) Unavailable(w http.ResponseWriter, r *http.Request, f Facts, err error) {
	w.Header().Set("Retry-After", "5")
	switch f.kind(r) {
	case Navigation, NavigationPost, Frame:
		pg := p.page(r, f, "unavailable.title")
		pg.framed = f.kind(r) == Frame
		pg.withReference()
		text := "unavailable.text"
		if errors.Is(err, account.ErrReplaced) {
			text = "replaced.text"
		}
		p.message(w, pg, http.StatusServiceUnavailable, "", "", pg.T(text))
	case Script:
		p.writeProblem(w, problem{Type: typeUnavailable, Title: "Temporarily unavailable", Status: http.StatusServiceUnavailable, Reference: f.Reference})
	default:
		p.writeProgram(w, f, http.StatusServiceUnavailable, "This does not work at the moment. Try again later. Reference: "+f.Reference)
	}
}

// insecure answers who comes over plain http to another machine: nothing that is typed or remembered would be safe.
func (p *Portal) insecure(w http.ResponseWriter, r *http.Request, f Facts, kind Kind) {
	switch kind {
	case Navigation, NavigationPost, Frame:
		pg := p.page(r, f, "insecure.title")
		pg.framed = kind == Frame
		p.message(w, pg, http.StatusForbidden, "", "", pg.T("insecure.text"))
	case Script:
		p.writeProblem(w, problem{Type: typeInsecure, Title: "Sign-in needs https", Status: http.StatusForbidden})
	default:
		p.writeProgram(w, f, http.StatusForbidden, "This needs https.")
	}
}

// Method answers a method that is not passed on, or an upgrade.
func (p *Portal) Method(w http.ResponseWriter) {
	p.writeLine(w, http.StatusNotImplemented, "This method is not supported here.")
}

// retryAfter says when it may be tried again.
func retryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(d/time.Second))))
}
