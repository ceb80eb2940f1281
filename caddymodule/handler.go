package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/portal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
)

func init() { caddy.RegisterModule(new(Handler)) }

// Handler is http.handlers.mfa: it lets a request on to the application behind it if its sender has proven what policy asks,
// and serves the pages below /_mfa/ on which he can.
type Handler struct {
	config.Application

	// Serves the pages below /_mfa/ and guards nothing: every other request passes, without our cookies and what a client may
	// not send. The Caddyfile adds such a handler to the whole site where the directive has a matcher. Default: false.
	PagesOnly bool `json:"pages_only,omitempty"`

	app             *App
	gated           *gate.Application
	hygiene         *hygiene
	identityHeaders [4]string // canonical names: user, groups, name, email
	requests        requestCounters
	upstream        *upstream // nil: the application has no credential of its own
	refusals        prometheus.Counter
	advice          rarely
	askedInVain     func() // adviseUpstream, made once
	besides         bool   // with LegacyOnly: people sign in to something else on one of its hosts
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.mfa", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the app and prepares what is looked at on every request.
func (h *Handler) Provision(ctx caddy.Context) error {
	app, err := ctx.AppIfConfigured("mfa")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return errors.New("the app `mfa` is not configured; add the global option `mfa` with at least a directory of users")
	}
	if err != nil {
		return err
	}
	problems := append(h.Application.Validate(), checkUserNames(&h.Application)...)
	h.app = app.(*App)
	if !h.LegacyOnly && !h.PagesOnly && len(h.app.Users) == 0 {
		problems = append(problems, config.Problem{Field: "users", Message: config.NoUsers})
	}
	if err := problems.Err(); err != nil {
		return err
	}
	h.Application.SetDefaults()
	id := h.Application.Identity
	h.hygiene = newHygiene(id)
	if h.upstream, err = newUpstream(&h.Application); err != nil {
		return err
	}
	h.askedInVain = h.adviseUpstream
	for i, name := range [4]string{id.User, id.Groups, id.Name, id.Email} {
		h.identityHeaders[i] = http.CanonicalHeaderKey(name)
	}
	h.gated = &gate.Application{Name: h.Application.Application, Bypass: gate.NewPaths(h.Bypass), NoIdle: gate.NewPaths(h.NoIdle), Doors: doorsOf(&h.Application)}
	h.app.register(h)
	return nil
}

// ServeHTTP goes the request's way: hygiene, our own pages, facts, the gate, the answer.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	asked := askedOf(r)
	wellKnown := h.wellKnown(r, asked.path())
	ours := portal.Owns(asked.path()) || wellKnown != nil
	if h.PagesOnly && !ours {
		return h.passBy(w, r, next)
	}
	rt, err := h.app.ready()
	if err != nil {
		leaveUnread(w, r)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Retry-After", "5")
		http.Error(w, "This does not work at the moment.", http.StatusServiceUnavailable)
		return nil
	}
	now := time.Now()
	if h.LegacyOnly {
		return h.only(w, r, next, rt, asked, now)
	}
	token := tokenIn(r)
	h.hygiene.clean(r.Header)
	subject := h.subject(r)
	if wellKnown != nil {
		wellKnown(rt.portal, w, asked.request(r), h.facts(r, asked, now, &subject))
		return nil
	}
	if ours {
		rt.portal.ServeHTTP(w, asked.request(r), h.facts(r, asked, now, &subject))
		return nil
	}
	if !allowedMethod(r) || asked.method != r.Method && !methods[asked.method] {
		leaveUnread(w, r)
		rt.portal.Method(w)
		return nil
	}
	normalizeUpgrade(r.Header)

	request := h.request(r, asked, now, &subject)
	request.TokenID, request.TokenSecret = token.id, token.secret
	if request.Finding.Body {
		request.Body = bodyOf(r)
	}
	out := rt.gate.Check(r.Context(), &request)
	h.requests[out.Verdict].Inc()
	reference := ""
	if (out.Finding.Class != legacy.None || out.Entry != nil) && !out.Stale {
		h.notice(rt, &subject, &request, &out)
	}
	if out.Current.Session != nil {
		if out.Verdict != gate.Pass {
			reference = audit.NewReference()
		}
		var changed bool
		if reference, changed = h.app.live.verdicts.Changed(out.Current.Session, h.gated.Name, &out.Decision, reference); changed {
			rt.signin.Note(clientOf(&subject, &request, reference), &out)
		}
	}
	switch out.Verdict {
	case gate.Bypass:
		return letPass(w, r, next, answer{})
	case gate.Pass:
		subject.Cookie = request.Cookie
		conn := rt.connections.Open(r.Context(), out.Current, subject)
		defer conn.Close()
		r = r.WithContext(conn)
		look := h.withSession(rt, r, &out.Finding, out.User, out.Account)
		h.identify(r, out.User, out.Current)
		if r.ContentLength != 0 { // Caddy wraps every body, also one that is not there
			defer endUpload(conn, w)()
		}
		return letPass(w, r, next, look)
	case gate.Admit:
		subject.Cookie = request.Cookie
		return h.admit(w, r, next, rt, &subject, &request, &out)
	}

	leaveUnread(w, r)
	facts := h.facts(r, asked, now, &subject)
	facts.Reference = cmp.Or(reference, facts.Reference)
	facts.Dialect = request.Finding.Dialect
	switch out.Verdict {
	case gate.SignIn, gate.StepUp:
		if out.Invite {
			rt.portal.Invite(w, r, facts, h.takesAppPasswords(rt), h.overDigest(rt, &out, now))
			return nil
		}
		user := ""
		if out.User != nil && !out.Current.Session.Pending {
			user = out.User.Name
		}
		rt.portal.Challenge(w, r, facts, user)
	case gate.Legacy:
		if !out.Stale { // its sender has the right one, and goes on with another nonce
			rt.refusedLegacy(facts, &out)
		}
		switch {
		case out.Invite:
			rt.portal.Invite(w, r, facts, h.takesAppPasswords(rt), h.overDigest(rt, &out, now))
		case out.Wrong:
			rt.portal.RefuseWrong(w, facts)
		default:
			rt.portal.RefuseLegacy(w, facts, out.Finding.Class, h.instead(rt))
		}
	case gate.Unavailable:
		rt.unavailable(h.app, out.Err)
		rt.portal.Unavailable(w, r, facts, out.Err)
	default:
		rt.sink.Audit(audit.Event{
			Type: audit.AccessRefused, Application: facts.Application, Host: facts.Host, Address: facts.Client.Address,
			User: out.User.Canonical, UserID: out.User.ID, Session: out.Current.Session.ID, Reason: string(out.Decision.Reason), Reference: facts.Reference,
		})
		rt.portal.Refuse(w, r, facts, out.User.Name, out.Decision)
	}
	return nil
}

// passBy lets a request on in the part of a site that is not guarded. The application behind it is the one that trusts our
// headers in the other part, and a connection that it upgrades there leads past the guard.
func (h *Handler) passBy(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if _, guarded := session.FromContext(r.Context()); guarded {
		return next.ServeHTTP(w, r) // with what the guard has written
	}
	// A guard may come behind this one.
	if token := tokenIn(r); token.id != "" {
		r = r.WithContext(context.WithValue(r.Context(), passedTokenKey{}, token))
	}
	h.hygiene.clean(r.Header)
	normalizeUpgrade(r.Header)
	if cookie := sessionCookie(r, hostOf(r), overHTTPS(r)); cookie != "" {
		r = r.WithContext(context.WithValue(r.Context(), passedCookieKey{}, cookie))
	}
	return letPass(w, r, next, answer{})
}

// endUpload has the server read no more of a request's body when ctx ends. Otherwise whoever closes the body would first read on
// for a while, as slowly as it comes. The function that it returns must be called before the handler returns.
func endUpload(ctx context.Context, w http.ResponseWriter) (stop func()) {
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // where there are none, it is read
	})
	return func() {
		if !cancel() {
			<-done
		}
	}
}

// letPass calls the application, without our cookies in the request, and without cookies in our names and invitations to legacy
// authentication in its answer, but for those that look keeps.
func letPass(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, look answer) error {
	if r.Trailer != nil {
		// Trailers arrive after the headers were looked at, and some backends read them as headers. The server fills
		// those of the request that it has made, and the application gets a copy without any.
		r = r.WithContext(r.Context())
		r.Trailer = nil
	}
	session.RemoveCookies(r.Header)
	err := next.ServeHTTP(&responseWriter{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, look: look}, r)
	if look.own {
		delete(r.Header, "Authorization") // whoever writes the page about an error (`handle_errors`) may be somebody else
	}
	return err
}

// responseWriter takes out of an application's answer what would meddle with ours.
type responseWriter struct {
	caddyhttp.ResponseWriterWrapper
	look    answer
	cleaned bool
}

// clean must come before the headers go out, whichever call sends them.
func (w *responseWriter) clean() {
	h := w.Header()
	session.RemoveSetCookies(h)
	legacy.RemoveChallenges(h, w.look.keep)
}

// WriteHeader also sees informational answers: their headers reach the browser too.
func (w *responseWriter) WriteHeader(status int) {
	if w.look.refused != nil && status == http.StatusUnauthorized && !w.cleaned {
		challenges := len(w.Header()["Www-Authenticate"])
		if w.clean(); len(w.Header()["Www-Authenticate"]) < challenges {
			w.look.refused()
		}
	}
	w.clean()
	w.cleaned = w.cleaned || status >= 200 || status == http.StatusSwitchingProtocols
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write sends the headers if nothing else has.
func (w *responseWriter) Write(p []byte) (int, error) {
	w.cleanOnce()
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom is Write for what is copied without a buffer.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	w.cleanOnce()
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError is for http.ResponseController.
func (w *responseWriter) FlushError() error {
	w.cleanOnce()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *responseWriter) cleanOnce() {
	if !w.cleaned {
		w.clean()
		w.cleaned = true
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
