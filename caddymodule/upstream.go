package caddymodule

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/portal"
)

// upstream signs in to an application that knows nothing but HTTP Basic, with its own credential.
type upstream struct {
	value string // of the header Authorization, the same for everybody; empty: each user has his own
	lines rarely
}

const (
	// upstreamLogInterval is how often it is said in the log that an application refuses what it is sent. The metric counts each time.
	upstreamLogInterval = time.Minute

	// adviceInterval is how often it is said that an application needs a credential.
	adviceInterval = time.Hour
)

// rarely keeps the log from having a line for every request.
type rarely struct{ last atomic.Int64 } // Unix seconds

// due says whether it is time for another line.
func (r *rarely) due(interval time.Duration) bool {
	now, last := time.Now().Unix(), r.last.Load()
	return now-last >= int64(interval/time.Second) && r.last.CompareAndSwap(last, now)
}

// newUpstream resolves the credential; nil: the application has none. The error says nothing of it.
func newUpstream(a *config.Application) (*upstream, error) {
	switch a.UpstreamBasic {
	case "":
		return nil, nil
	case config.PerUser:
		return &upstream{}, nil
	}
	credential, err := caddy.NewReplacer().ReplaceOrErr(a.UpstreamBasic, true, true)
	if err != nil {
		return nil, fmt.Errorf("upstream_basic: %w", err)
	}
	if _, _, err := account.SplitUpstream(credential); err != nil {
		return nil, fmt.Errorf("upstream_basic: what %s holds can't be sent: %w", a.UpstreamBasic, err)
	}
	return &upstream{value: basicValue([]byte(credential))}, nil
}

// basicValue is the value of Authorization for user:password (RFC 7617, section 2).
func basicValue(credential []byte) string {
	const scheme = "Basic "
	value := make([]byte, len(scheme), len(scheme)+base64.StdEncoding.EncodedLen(len(credential)))
	copy(value, scheme)
	return string(base64.StdEncoding.AppendEncode(value, credential))
}

// authorize puts the application's own credential into a request of a user, in place of every other, and says whether there is one.
// Where it has none for this user, or none at all, nothing is left.
func (h *Handler) authorize(rt *runtime, r *http.Request, u *mfa.User, a *account.Account) bool {
	delete(r.Header, "Authorization")
	if h.upstream == nil {
		return false
	}
	value := h.upstream.value
	if value == "" {
		if a == nil {
			return false // a service has no account
		}
		credential, err := rt.signin.Accounts.Upstream(a, h.gated.Name)
		switch {
		case errors.Is(err, account.ErrNoUpstream):
			return false
		case err != nil:
			if h.upstream.lines.due(upstreamLogInterval) {
				h.app.log.Error("the stored credential of a user doesn't open with the configured secrets; store it again with `mfa user upstream-basic`",
					zap.String("application", h.gated.Name), zap.String("user", u.Canonical), zap.Error(err))
			}
			return false
		}
		value = basicValue(credential)
	}
	r.Header["Authorization"] = []string{value}
	return true
}

// withSession does to the credential that came with a session what `with_session` says, and tells how the application's answer is to
// be looked at.
func (h *Handler) withSession(rt *runtime, r *http.Request, f *legacy.Finding, u *mfa.User, a *account.Account) answer {
	scheme := f.Scheme
	switch h.WithSession {
	case config.WithSessionReplace:
		if h.authorize(rt, r, u, a) {
			return answer{refused: func() { h.upstreamRefused(u) }, own: true}
		}
	case config.WithSessionPass:
		if scheme != legacy.None && (!passes(scheme) || len(r.Header["Authorization"]) > 1 || h.holdsKey(f, a)) {
			delete(r.Header, "Authorization")
		}
		return answer{keep: passes}
	default:
		if scheme != legacy.None && !scheme.Reported() {
			// From the application's own challenge, which a browser has answered.
			delete(r.Header, "Authorization")
		}
		if h.upstream == nil {
			return answer{refused: h.askedInVain}
		}
	}
	return answer{}
}

// withEntry does to a request that has come in without a session what belongs to what has let it in, and tells how the application's
// answer is to be looked at.
func (h *Handler) withEntry(rt *runtime, r *http.Request, request *gate.Request, out *gate.Outcome) answer {
	switch out.Entry.By {
	case gate.ByServiceToken:
		if h.upstream == nil || h.upstream.value == "" && out.Account == nil {
			// The token has headers of its own, and Authorization is between the machine and the application.
			if !passes(out.Finding.Scheme) || h.holdsKey(&out.Finding, nil) {
				delete(r.Header, "Authorization")
			}
			return answer{}
		}
		fallthrough
	case gate.ByAppPassword:
		user := out.User
		if h.authorize(rt, r, user, out.Account) { // what was in its place is ours, and not the application's
			return answer{refused: func() { h.upstreamRefused(user) }, own: true}
		}
		return answer{}
	}
	// What it carries, or is about to, is for the application: so are its challenges. The function keeps neither request nor out, which
	// would then be allocated for every request.
	password, emergency := out.Entry.By == gate.ByPassword, rt.gate.Emergency
	address, asked, rewritten, now := request.Client.Address, request.Asked, request.Rewritten, request.Now
	return answer{keep: func(scheme legacy.Class) bool {
		return scheme == legacy.Basic && password || h.gated.Doors.Admits(scheme, address, asked, rewritten, now, emergency)
	}}
}

// takesAppPasswords says whether app passwords open the application for anybody.
func (h *Handler) takesAppPasswords(rt *runtime) bool {
	on := h.gated.Doors.AppPasswords
	return rt.gate.Keys != nil && (on == gate.On || on == gate.Unset && rt.gate.PerUserAppPasswords)
}

// overDigest are the challenges for app passwords over HTTP Digest; nil where they come over Basic alone.
func (h *Handler) overDigest(rt *runtime, out *gate.Outcome, now time.Time) []string {
	if !h.gated.Doors.Digest || !h.takesAppPasswords(rt) {
		return nil
	}
	return rt.gate.Keys.Challenges(h.gated.Name, out.Stale, now)
}

// instead is what a refused program is told to use.
func (h *Handler) instead(rt *runtime) portal.Instead {
	if h.takesAppPasswords(rt) {
		return portal.AppPasswordInstead
	}
	return portal.BrowserInstead
}

// holdsKey says whether a credential is an app password: one of this account over Basic, or whatever answers our challenge over Digest. It is ours,
// and not the application's.
func (h *Handler) holdsKey(f *legacy.Finding, a *account.Account) bool {
	switch {
	case f.Digest != nil:
		return f.Digest.Realm == gate.AppPasswordRealm(h.gated.Name)
	case f.Basic != nil && a != nil:
		id, ok := machinekey.IDOf(f.Basic.Password)
		if ok {
			_, ok = a.AppPassword(id)
		}
		return ok
	}
	return false
}

// passes says whether a credential of this kind may reach the application beside a session. NTLM and Negotiate sign in a connection
// (MS-NTHT, section 1.3), which the next user's request may come over; what is malformed can be anything.
func passes(scheme legacy.Class) bool {
	return scheme == legacy.None || scheme == legacy.Basic || scheme == legacy.Digest || scheme.Reported()
}

// upstreamRefused notes that an application doesn't take its own credential. The user's browser isn't told: it would ask for a password.
func (h *Handler) upstreamRefused(u *mfa.User) {
	h.refusals.Inc()
	if !h.upstream.lines.due(upstreamLogInterval) {
		return
	}
	fields := []zap.Field{zap.String("application", h.gated.Name)}
	if h.upstream.value == "" {
		fields = append(fields, zap.String("user", u.Canonical))
	}
	h.app.log.Warn("the application refuses the credential of `upstream_basic`", fields...)
}

// adviseUpstream says what to do about an application that asks for what nobody will be asked for.
func (h *Handler) adviseUpstream() {
	if h.advice.due(adviceInterval) {
		h.app.log.Warn("the application asks for HTTP Basic, and its challenge is removed, so that its users see an empty page or an error; configure it to take "+
			"the user from a header, or have it signed in to with `upstream_basic`", zap.String("application", h.gated.Name))
	}
}

// answer says how an application's answer is to be looked at.
type answer struct {
	keep    func(legacy.Class) bool // challenges that stay; nil: none
	refused func()                  // what to do when the application asks for a credential; nil: nothing
	own     bool                    // the request carries the application's own credential
}
