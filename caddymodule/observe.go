package caddymodule

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/notice"
	"github.com/caddy-mfa/caddy-mfa/internal/signinlog"
)

// sink writes what happened to the logs mfa.audit and mfa.signin, counts it, and has the sign-ins kept.
type sink struct {
	audit, signIn *zap.Logger
	kept          *signinlog.Log // nil: nothing is kept
	notices       *notice.Teller // nil: nobody is told
}

func newSink(log *zap.Logger, kept *signinlog.Log) *sink {
	return &sink{audit: log.Named("audit"), signIn: log.Named("signin"), kept: kept}
}

// Audit writes one event, and has its user told of it.
func (s *sink) Audit(e audit.Event) {
	s.write(e)
	if s.notices != nil {
		s.notices.Audit(e)
	}
}

func (s *sink) write(e audit.Event) {
	eventsTotal.WithLabelValues(string(e.Type)).Inc()
	fields := make([]zap.Field, 0, 15)
	text := func(key, value string) {
		if value != "" {
			fields = append(fields, zap.String(key, value))
		}
	}
	text("event", string(e.Type))
	text("user", e.User)
	if !e.UserID.IsZero() {
		text("user_id", e.UserID.String())
	}
	text("session", e.Session)
	text("application", e.Application)
	text("host", e.Host)
	if e.Address.IsValid() {
		text("address", e.Address.String())
	}
	text("method", string(e.Method))
	text("credential", e.Credential)
	text("reason", e.Reason)
	text("class", e.Class)
	text("exception", e.Exception)
	text("by", e.By)
	text("reference", e.Reference)
	s.audit.Info("audit event", fields...)
}

// SignIn writes one sign-in.
func (s *sink) SignIn(r audit.SignIn) {
	if s.kept != nil {
		s.kept.Add(r)
	}
	result := "success"
	if r.Status.ErrorCode != audit.CodeSuccess {
		result = "failure"
	}
	signInsTotal.WithLabelValues(result).Inc()
	for _, p := range r.Policies {
		if p.Result != audit.PolicyNotEnabled {
			policyResultsTotal.WithLabelValues(p.DisplayName, string(p.Result)).Inc()
		}
	}
	s.signIn.Info("sign-in",
		zap.String("id", r.ID), zap.String("createdDateTime", r.Created.UTC().Format(time.RFC3339Nano)), zap.String("userPrincipalName", r.UserPrincipalName),
		zap.String("userDisplayName", r.UserDisplayName), zap.String("userId", r.UserID), zap.String("appDisplayName", r.AppDisplayName),
		zap.String("ipAddress", r.IPAddress), zap.String("clientAppUsed", r.ClientAppUsed), zap.String("userAgent", r.UserAgent),
		zap.String("correlationId", r.CorrelationID), zap.Bool("isInteractive", r.IsInteractive),
		zap.String("conditionalAccessStatus", r.ConditionalAccess), zap.Any("appliedConditionalAccessPolicies", r.Policies),
		zap.String("authenticationRequirement", r.Requirement), zap.Any("authenticationDetails", r.Details),
		zap.Any("deviceDetail", r.Device), zap.Any("location", r.Location),
		zap.String("riskLevelDuringSignIn", r.RiskLevel), zap.String("riskState", r.RiskState), zap.Any("status", r.Status),
	)
}

// The metrics count for the whole process, whatever configurations come and go; each configuration's registry shows them.
// No label holds a user, an address or a token.
var (
	requestsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_mfa_requests_total", Help: "Requests to applications, by what became of them.",
	}, []string{"application", "verdict"})
	eventsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_mfa_audit_events_total", Help: "Audit events, by type.",
	}, []string{"event"})
	policyResultsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_mfa_policy_results_total", Help: "What policies had to do with sign-ins, step-ups and changes of verdict.",
	}, []string{"policy", "result"})
	signInsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_mfa_sign_ins_total", Help: "Sign-ins that came to an end, by result.",
	}, []string{"result"})
	upstreamRefusedTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_mfa_upstream_refused_total", Help: "Answers of applications that refuse the credential of upstream_basic.",
	}, []string{"application"})
	messagesTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_mfa_messages_total", Help: "Attempts to send a code, by method, sender and result.",
	}, []string{"method", "sender", "result"})
	signInsDropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caddy_mfa_sign_in_log_dropped_total", Help: "Sign-ins that could not be kept in the sign-in log.",
	})
)

var verdictNames = map[gate.Verdict]string{
	gate.Refuse: "refuse", gate.Pass: "pass", gate.Bypass: "bypass", gate.SignIn: "sign_in", gate.StepUp: "step_up",
	gate.Legacy: "legacy", gate.Admit: "admit", gate.Open: "open", gate.Unavailable: "unavailable",
}

// requestCounters are the counters of one application, by verdict.
type requestCounters [gate.Unavailable + 1]prometheus.Counter

func newRequestCounters(application string) (c requestCounters) {
	for verdict, name := range verdictNames {
		c[verdict] = requestsTotal.WithLabelValues(application, name)
	}
	return c
}

// gauges are read when they are asked for, from the configuration that is in force.
func gauges() []prometheus.Collector {
	read := func(name, help string, value func(*App) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if a := active.get(); a != nil {
				return value(a)
			}
			return 0
		})
	}
	yes := func(ok bool) float64 {
		if ok {
			return 1
		}
		return 0
	}
	return []prometheus.Collector{
		read("caddy_mfa_store_fresh", "Whether the stores tell of every change at the moment (1) or not (0).", func(a *App) float64 {
			return yes(a.sessions.Store().Fresh() && a.accounts.Store().Fresh())
		}),
		read("caddy_mfa_users_file_ok", "Whether every users file is in force as it is now (1), or an older version of one is (0).", func(a *App) float64 {
			for _, d := range a.directories {
				if !d.Healthy() {
					return 0
				}
			}
			return 1
		}),
		read("caddy_mfa_geoip_ok", "Whether the file of countries is in force as it is now (1, also where none is configured), or countries are not known or old (0).", func(a *App) float64 {
			return yes(a.countries == nil || a.countries.Healthy())
		}),
		read("caddy_mfa_open_requests", "Requests in flight behind a session, WebSockets included.", func(a *App) float64 {
			return float64(a.live.connections.Len())
		}),
		read("caddy_mfa_session_cache_hits", "Sessions that were found in memory.", func(a *App) float64 {
			hits, _ := a.live.sessions.Counts()
			return float64(hits)
		}),
		read("caddy_mfa_session_cache_misses", "Sessions that had to be read from the store.", func(a *App) float64 {
			_, misses := a.live.sessions.Counts()
			return float64(misses)
		}),
		read("caddy_mfa_password_checks_running", "Passwords that are being checked.", func(*App) float64 { return float64(hashing().Stats().Running) }),
		read("caddy_mfa_password_checks_waiting", "Passwords that wait to be checked.", func(*App) float64 { return float64(hashing().Stats().Waiting) }),
	}
}

// registerMetrics shows the metrics in a configuration's registry.
func registerMetrics(r *prometheus.Registry) error {
	if r == nil {
		return nil
	}
	for _, c := range append([]prometheus.Collector{requestsTotal, eventsTotal, signInsTotal, policyResultsTotal, signInsDropped, legacyTotal, legacyDropped, upstreamRefusedTotal, messagesTotal}, gauges()...) {
		if err := r.Register(c); err != nil && !errors.As(err, &prometheus.AlreadyRegisteredError{}) {
			return err
		}
	}
	return nil
}

// activeApp is the app of the configuration that is in force, for what Caddy provides no way to: metrics, admin endpoints.
//
// A reload starts the next configuration before it stops the one before, and stops the next one again if it fails half-way. So
// those that have started and not stopped are kept, the newest last.
type activeApp struct {
	app     atomic.Pointer[App]
	mu      sync.Mutex
	started []*App
}

var active activeApp

func (c *activeApp) get() *App { return c.app.Load() }

func (c *activeApp) set(a *App) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = append(c.started, a)
	c.app.Store(a)
}

// unset forgets a. What has started before it is in force again, unless something newer is.
func (c *activeApp) unset(a *App) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = slices.DeleteFunc(c.started, func(other *App) bool { return other == a })
	if len(c.started) == 0 {
		c.app.Store(nil)
		return
	}
	c.app.Store(c.started[len(c.started)-1])
}

// unavailable logs what doesn't answer, at most once a second.
func (rt *runtime) unavailable(a *App, err error) {
	if errors.Is(err, context.Canceled) {
		return // the client has gone
	}
	now := time.Now().Unix()
	if last := rt.lastUnavailable.Load(); now == last || !rt.lastUnavailable.CompareAndSwap(last, now) {
		return
	}
	a.log.Error("a dependency is unavailable: requests are answered with 503", zap.Error(err))
}
