package caddymodule

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/inventory"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/portal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
)

// The words of the Caddyfile, and what package gate calls the same.
var (
	legacyModes = map[string]gate.Mode{config.LegacyBlock: gate.Block, config.LegacyReport: gate.Report, config.LegacyAllow: gate.Allow}
	switches    = map[string]gate.Switch{"": gate.Unset, config.On: gate.On, config.Off: gate.Off}
)

// doorsOf gives what an application says of legacy authentication, as package gate knows it. The configuration must be valid.
func doorsOf(a *config.Application) gate.Doors {
	d := gate.Doors{AppPasswords: switches[a.AppPasswords], ServiceTokens: a.ServiceTokens, Digest: a.AppPasswordsDigest, Only: a.LegacyOnly}
	for _, r := range a.LegacyAuth {
		rule := gate.Rule{Mode: legacyModes[r.Mode], Scope: gate.Scope{From: r.From, Paths: gate.NewPaths(r.Paths)}}
		if !slices.Equal(r.Classes, []string{"all"}) {
			rule.Classes = classesOf(r.Classes)
		}
		d.Rules = append(d.Rules, rule)
	}
	for i := range a.LegacyExceptions {
		e := &a.LegacyExceptions[i]
		exception := gate.Exception{
			Name: e.Name(), Classes: classesOf(e.Classes), Service: e.Service, Until: e.Until.Time, Scope: gate.Scope{From: e.From, Paths: gate.NewPaths(e.Paths)},
		}
		if canonical, err := mfa.CanonicalName(e.User); err == nil {
			exception.User = canonical
		}
		d.Exceptions = append(d.Exceptions, exception)
	}
	return d
}

func classesOf(words []string) []legacy.Class {
	classes := make([]legacy.Class, len(words))
	for i, word := range words {
		classes[i], _ = legacy.ParseClass(word) // Validate has refused what is none
	}
	return classes
}

// token is what stands in the headers of a service token.
type token struct{ id, secret string }

func tokenOf(h http.Header) token {
	return token{strings.Join(h[tokenIDHeader], ", "), strings.Join(h[tokenSecretHeader], ", ")}
}

// passedTokenKey is where passBy keeps a service token.
type passedTokenKey struct{}

// tokenIn is the service token of a request, also where a handler of ours that it has come through has taken the headers out of it.
func tokenIn(r *http.Request) token {
	if passed, ok := r.Context().Value(passedTokenKey{}).(token); ok {
		return passed
	}
	return tokenOf(r.Header)
}

// inspect looks for legacy authentication in a request's head.
func (h *Handler) inspect(r *http.Request, asked asked, g *gate.Request) legacy.Finding {
	return legacy.Inspect(&legacy.Request{
		Method: r.Method, Asked: g.Asked, Rewritten: g.Rewritten, Query: asked.url.RawQuery, Header: r.Header,
		UserInfo: asked.url.User != nil, LoginPaths: h.LoginPaths,
	})
}

// admit lets a request on that has no session, by what else has let it in.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, rt *runtime, subject *session.Subject, request *gate.Request, out *gate.Outcome) error {
	conn := rt.connections.OpenWithout(r.Context(), out.Entry, *subject)
	defer conn.Close()
	r = r.WithContext(conn)
	look := h.withEntry(rt, r, request, out)
	if out.User != nil {
		h.tell(r, newIdentity(out.User, ""))
	}
	if r.ContentLength != 0 {
		defer endUpload(conn, w)()
	}
	return letPass(w, r, next, look)
}

// only looks at a request to an application where nobody signs in: there is nothing of ours in what passes.
func (h *Handler) only(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, rt *runtime, asked asked, now time.Time) error {
	subject := h.subject(r)
	request := gate.Request{
		Application: h.gated, Now: now, Host: subject.Host, Client: mfa.Client{Address: subject.Address}, Asked: asked.path(), Rewritten: r.URL.EscapedPath(),
		Destinations: r.Header["Destination"], Method: r.Method, UserAgent: subject.UserAgent,
	}
	request.Finding = h.inspect(r, asked, &request)
	if request.Finding.Body {
		request.Body = bodyOf(r)
	}
	out := rt.gate.Check(r.Context(), &request)
	h.requests[out.Verdict].Inc()
	if out.Finding.Class != legacy.None {
		h.notice(rt, &subject, &request, &out)
	}
	if out.Verdict == gate.Open || out.Verdict == gate.Bypass {
		if h.besides && !portal.Owns(asked.path()) {
			return letPassBesides(w, r, next)
		}
		return next.ServeHTTP(w, r)
	}
	leaveUnread(w, r)
	facts := h.facts(r, asked, now, &subject)
	facts.Dialect = request.Finding.Dialect
	rt.refusedLegacy(facts, &out)
	rt.portal.RefuseLegacy(w, facts, out.Finding.Class, portal.NothingInstead)
	return nil
}

// letPassBesides calls an application where nobody signs in. Browsers send it the session of what people sign in to on the same host,
// which is not for it to see or to set.
func letPassBesides(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if cookie := sessionCookie(r, hostOf(r), overHTTPS(r)); cookie != "" { // a guard may come behind this one
		r = r.WithContext(context.WithValue(r.Context(), passedCookieKey{}, cookie))
	}
	return letPass(w, r, next, answer{keep: func(legacy.Class) bool { return true }})
}

// refusedLegacy notes that a legacy credential was refused.
func (rt *runtime) refusedLegacy(facts portal.Facts, out *gate.Outcome) {
	e := audit.Event{
		Type: audit.LegacyRefused, Application: facts.Application, Host: facts.Host, Address: facts.Client.Address,
		Class: string(out.Finding.Class), Reason: string(out.Decision.Reason), Reference: facts.Reference,
	}
	if out.User != nil {
		e.User, e.UserID = out.User.Canonical, out.User.ID
	}
	rt.sink.Audit(e)
}

// tokenClass stands in the inventory for a service token that came without a legacy credential.
const tokenClass = "service-token"

// notice tells inventory, audit and sign-in log of a request with legacy authentication, or with a key.
func (h *Handler) notice(rt *runtime, subject *session.Subject, request *gate.Request, out *gate.Outcome) {
	s := inventory.Sighting{
		At: request.Now, Class: string(out.Finding.Class), Application: h.gated.Name, Path: request.Asked, User: out.Finding.User, Client: out.Finding.Client,
		Address: subject.Address, Verdict: inventory.Blocked, Would: inventory.Blocked,
	}
	if out.User != nil {
		s.User = out.User.Canonical
	}
	if out.Fresh {
		rt.signin.NoteBasic(clientOf(subject, request, ""), out)
	}
	switch e := out.Entry; {
	case e != nil:
		if e.By == gate.ByHandshake {
			return
		}
		s.Verdict, s.Exception = verdictOf(e), e.Exception
		if e.Would {
			s.Would = inventory.Allowed
		}
		if e.By == gate.ByServiceToken && s.Class == "" {
			s.Class = tokenClass
		}
		// A password is told of when it was judged, and keys tell of themselves; what was not verified, and each use of an exception,
		// always.
		if e.Exception != "" || e.By == gate.ByScope && out.Verdict == gate.Admit || out.Fresh {
			h.allowed(rt, subject, out)
		}
	case out.Verdict == gate.Legacy || out.Verdict == gate.Unavailable:
	case out.Finding.Class.Reported():
		s.Verdict, s.Would = inventory.Reported, inventory.Allowed
	default:
		return // from a browser that is signed in
	}
	h.app.sighted(s)
}

// verdictOf is what the inventory calls what has let a request in.
func verdictOf(e *gate.Entry) string {
	switch {
	case e.By == gate.ByAppPassword:
		return inventory.AppPassword
	case e.By == gate.ByServiceToken:
		return inventory.ServiceToken
	case e.Exception != "":
		return inventory.Exception
	case e.Mode == gate.Report || e.Mode == gate.NoMode && !e.Policy:
		return inventory.Reported
	}
	return inventory.Allowed
}

// allowed notes that legacy authentication was let through.
func (h *Handler) allowed(rt *runtime, subject *session.Subject, out *gate.Outcome) {
	e := audit.Event{
		Type: audit.LegacyAllowed, Application: h.gated.Name, Host: subject.Host, Address: subject.Address, Class: string(out.Finding.Class),
		Exception: out.Entry.Exception, Reason: reasonOf(out.Entry),
	}
	if out.User != nil {
		e.User, e.UserID = out.User.Canonical, out.User.ID
	}
	rt.sink.Audit(e)
}

// reasonOf is what the log says of what has let a request in.
func reasonOf(e *gate.Entry) string {
	switch {
	case e.Exception != "":
		return "exception"
	case e.Emergency:
		return "emergency"
	case e.Policy:
		return "policy"
	case e.Mode == gate.Allow:
		return "allow"
	}
	return "report"
}

// stillAdmits says whether one of the applications of that name would let a request in as it was.
func (a *App) stillAdmits(ctx context.Context, g *gate.Gate, e *gate.Entry, application string, client *mfa.Client, now time.Time) bool {
	for _, app := range a.gated[application] {
		if ok, err := g.StillAdmits(ctx, e, app, client, now); err == nil && ok {
			return true
		}
	}
	return false
}

// warnOfLegacy says at the start what of the doors for legacy clients may not be meant.
func (a *App) warnOfLegacy(now time.Time) {
	if a.LegacyEmergency {
		a.log.Warn("`legacy_emergency` is on: legacy authentication is reported and not blocked, in every application; take it out as soon as you can")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.handlers {
		findings := lintDoors(&h.Application, now)
		if opensTo(&h.Application, string(legacy.NTLM)) && !h.gated.Doors.Unshared {
			findings = append(findings, "NTLM is refused all the same: it signs in a connection, and the connections to this application serve several clients; "+
				"give `reverse_proxy` a transport that has one for each client, or `transport http` with `keepalive off`")
		}
		if opensTo(&h.Application, string(legacy.Kerberos)) && !h.gated.Doors.Unshared {
			findings = append(findings, "IIS, for one, can take the first user who has signed in with Kerberos for everybody whose requests come over the same connection "+
				"(`authPersistNonNTLM`), and the connections to this application serve several clients; give `reverse_proxy` `transport http` with `keepalive off`, or see to it there")
		}
		for _, finding := range findings {
			a.log.Warn("legacy authentication: this may not be meant", zap.String("application", h.gated.Name), zap.String("finding", finding))
		}
	}
}

// opensTo says whether a rule or an exception for a class opens something.
func opensTo(a *config.Application, class string) bool {
	return slices.ContainsFunc(a.LegacyAuth, func(r config.LegacyRule) bool {
		return r.Mode != config.LegacyBlock && slices.Contains(r.Classes, class)
	}) ||
		slices.ContainsFunc(a.LegacyExceptions, func(e config.LegacyException) bool { return slices.Contains(e.Classes, class) })
}

// verifiesPasswords says whether a rule or an exception lets users' own passwords through.
func verifiesPasswords(a *config.Application) bool {
	return slices.ContainsFunc(a.LegacyAuth, func(r config.LegacyRule) bool {
		return r.Mode != config.LegacyBlock && slices.ContainsFunc(r.Classes, func(word string) bool {
			class, ok := legacy.ParseClass(word)
			return word == "all" || ok && class.Verifiable()
		})
	}) ||
		slices.ContainsFunc(a.LegacyExceptions, func(e config.LegacyException) bool { return e.User != "" })
}

// lintDoors says what of an application's doors may not be meant. Of exceptions that have ended, the inventory tells.
func lintDoors(a *config.Application, now time.Time) (findings []string) {
	for _, r := range a.LegacyAuth {
		if r.Mode == config.LegacyBlock || a.LegacyOnly || len(r.From)+len(r.Paths) > 0 {
			continue
		}
		var words []string
		for _, word := range r.Classes {
			if class, ok := legacy.ParseClass(word); ok && !class.Verifiable() && !class.Reported() {
				words = append(words, word)
			}
		}
		if len(words) > 0 {
			findings = append(findings, "`legacy_auth "+strings.Join(words, " ")+" "+r.Mode+"` lets nothing through: what can't be verified passes only `from` addresses or below a `path` that the rule names")
		}
	}
	if a.AppPasswordsDigest && verifiesPasswords(a) {
		findings = append(findings, "`app_passwords on digest` has programs such as git choose Digest, over which the user's own password is never right, though a rule or an exception lets it "+
			"through over Basic; write `app_passwords on` as long as programs use it")
	}
	for i := range a.LegacyExceptions {
		e := &a.LegacyExceptions[i]
		if now.Before(e.Until.Time) && e.User != "" && len(e.From) == 0 && !a.LegacyOnly {
			findings = append(findings, "the exception for "+e.Name()+" holds everywhere, and the answer to a wrong password tells that there is one; add `from` with the user's addresses")
		}
	}
	return findings
}
