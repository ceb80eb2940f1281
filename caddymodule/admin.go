package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/pass"
	"github.com/caddy-mfa/caddy-mfa/internal/inventory"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/signinlog"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

func init() { caddy.RegisterModule(new(AdminAPI)) }

// AdminAPI is what the commands talk to: admin.api.mfa, below /mfa/ of Caddy's admin endpoint.
//
// That endpoint knows no users. What is served here can let somebody in or lock somebody out, so it is served on a unix socket
// only, whose file says who may open it.
type AdminAPI struct{}

// CaddyModule returns the Caddy module information.
func (*AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.mfa", New: func() caddy.Module { return new(AdminAPI) }}
}

// Routes are the endpoints.
func (a *AdminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: "/mfa/", Handler: caddy.AdminHandlerFunc(a.serve)}}
}

// maxAdminBody is the size of the largest request, in bytes.
const maxAdminBody = 1 << 20

func (*AdminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); !ok || local.Network() != "unix" {
		return apiError(http.StatusForbidden, "this is served on a unix socket only, because Caddy's admin endpoint has no users; write `admin unix//run/caddy-mfa/admin.sock` into the global options")
	}
	app := active.get()
	if app == nil {
		return apiError(http.StatusServiceUnavailable, "no configuration with the app `mfa` is running")
	}
	rt, err := app.ready()
	if err != nil {
		return apiError(http.StatusServiceUnavailable, "caddy-mfa has not started: %v", err)
	}
	mux := adminMux(rt.admin, app.signIns)
	legacyEndpoint(mux, app)
	r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
	w.Header().Set("Cache-Control", "no-store")
	mux.ServeHTTP(w, r)
	return nil
}

// adminMux serves the endpoints. Answers are JSON; mistakes too, in the form of Caddy's own. Without a log, signIns is nil.
func adminMux(s *admin.Service, signIns *signinlog.Log) *http.ServeMux {
	mux := http.NewServeMux()
	handle := adminHandle(mux)
	done := func(err error) (any, error) { return map[string]string{"status": "done"}, err }

	handle("GET /mfa/users", func(r *http.Request) (any, error) { return s.List(r.Context()) })
	handle("GET /mfa/users/{name}", func(r *http.Request) (any, error) {
		return s.Show(r.Context(), r.PathValue("name"), time.Now())
	})
	handle("POST /mfa/users/{name}/pass", func(r *http.Request) (any, error) {
		lifetime, once := pass.DefaultLifetime, true
		if text := r.FormValue("lifetime"); text != "" {
			d, err := config.ParseDuration(text)
			if err != nil {
				return nil, badInput{err}
			}
			lifetime = time.Duration(d)
		}
		if text := r.FormValue("one_time"); text != "" {
			var err error
			if once, err = strconv.ParseBool(text); err != nil {
				return nil, badInput{fmt.Errorf("one_time is true or false, not %q", text)}
			}
		}
		if lifetime < pass.MinLifetime || lifetime > pass.MaxLifetime {
			return nil, badInput{fmt.Errorf("a temporary access pass lasts from %v to %v, not %v", config.Duration(pass.MinLifetime), config.Duration(pass.MaxLifetime), config.Duration(lifetime))}
		}
		now := time.Now()
		start, err := passStart(r.FormValue("start"), now)
		if err != nil {
			return nil, badInput{err}
		}
		return s.NewPass(r.Context(), r.PathValue("name"), start, lifetime, once, now)
	})
	handle("POST /mfa/users/{name}/state", func(r *http.Request) (any, error) {
		state, err := admin.ParseState(r.FormValue("state"))
		if err != nil {
			return nil, badInput{err}
		}
		return s.SetState(r.Context(), r.PathValue("name"), state, time.Now())
	})
	handle("POST /mfa/users/{name}/reset", func(r *http.Request) (any, error) {
		return s.Reset(r.Context(), r.PathValue("name"), time.Now())
	})
	handle("POST /mfa/users/{name}/re-register", func(r *http.Request) (any, error) {
		return s.RequireReregistration(r.Context(), r.PathValue("name"), time.Now())
	})
	handle("POST /mfa/users/{name}/block", func(r *http.Request) (any, error) {
		return done(s.Block(r.Context(), r.PathValue("name"), r.FormValue("reason"), time.Now()))
	})
	handle("POST /mfa/users/{name}/unblock", func(r *http.Request) (any, error) {
		return done(s.Unblock(r.Context(), r.PathValue("name"), time.Now()))
	})
	handle("POST /mfa/users/{name}/unlock", func(r *http.Request) (any, error) {
		return done(s.Unlock(r.Context(), r.PathValue("name"), time.Now()))
	})
	handle("POST /mfa/users/{name}/sign-out", func(r *http.Request) (any, error) {
		return done(s.SignOut(r.Context(), r.PathValue("name"), time.Now()))
	})
	handle("PUT /mfa/users/{name}/upstream-basic/{application}", func(r *http.Request) (any, error) {
		// From the body alone: Caddy logs the URLs of its admin endpoint.
		return done(s.SetUpstream(r.Context(), r.PathValue("name"), r.PathValue("application"), r.PostFormValue("credential"), time.Now()))
	})
	handle("DELETE /mfa/users/{name}/upstream-basic/{application}", func(r *http.Request) (any, error) {
		return done(s.RemoveUpstream(r.Context(), r.PathValue("name"), r.PathValue("application"), time.Now()))
	})
	handle("POST /mfa/accounts/init", func(r *http.Request) (any, error) { return done(s.AcceptAccounts(r.Context())) })
	keyEndpoints(handle, s)
	handle("GET /mfa/messages", func(r *http.Request) (any, error) { return s.MessagesSent(r.Context(), time.Now()) })
	handle("POST /mfa/messages/stop", func(r *http.Request) (any, error) { return done(s.StopMessages(r.Context(), true)) })
	handle("POST /mfa/messages/start", func(r *http.Request) (any, error) { return done(s.StopMessages(r.Context(), false)) })
	policyEndpoints(handle, s, signIns)
	handle("GET /mfa/sign-ins", func(r *http.Request) (any, error) { return listSignIns(r, signIns, time.Now()) })
	handle("/mfa/", func(r *http.Request) (any, error) {
		_, err := io.Copy(io.Discard, r.Body)
		return nil, errors.Join(errNoEndpoint, err)
	})
	return mux
}

// adminHandle gives what adds an endpoint to mux.
func adminHandle(mux *http.ServeMux) func(pattern string, serve func(r *http.Request) (any, error)) {
	return func(pattern string, serve func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := serve(r)
			status := http.StatusOK
			if err != nil {
				status, answer = adminStatus(err), map[string]string{"error": err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				caddy.Log().Named("admin.api.mfa").Debug("writing answer: " + err.Error())
			}
		})
	}
}

// passStart reads when a pass begins to be good: zero for at once.
func passStart(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	start, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("start is a time as in 2026-12-01T09:00:00+01:00, not %q", text)
	case start.Before(now.Add(-time.Minute)): // who writes this very minute means now
		return time.Time{}, fmt.Errorf("start is in the past: %s; leave it out for a pass that is good at once", text)
	case start.After(now.Add(pass.MaxAhead)):
		return time.Time{}, fmt.Errorf("a temporary access pass starts at most %v ahead, not at %s", config.Duration(pass.MaxAhead), text)
	}
	return start.UTC(), nil
}

var errNoEndpoint = errors.New("there is no such endpoint")

// badInput is a mistake of the caller.
type badInput struct{ error }

func (b badInput) Unwrap() error { return b.error }

func adminStatus(err error) int {
	switch {
	case errors.As(err, &badInput{}), errors.Is(err, signinlog.ErrFilter), errors.Is(err, inventory.ErrFilter), errors.Is(err, admin.ErrUpstream):
		return http.StatusBadRequest
	case errors.Is(err, admin.ErrNoUser), errors.Is(err, admin.ErrNoUpstream), errors.Is(err, errNoEndpoint), errors.Is(err, errSignInLogOff), errors.Is(err, errLegacyReportOff),
		errors.Is(err, machinekey.ErrNoKey), errors.Is(err, machinekey.ErrNoToken):
		return http.StatusNotFound
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, directory.ErrUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(err, account.ErrReplaced):
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

func apiError(status int, format string, args ...any) error {
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
}

// Interface guards
var _ caddy.AdminRouter = (*AdminAPI)(nil)
