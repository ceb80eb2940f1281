package caddymodule

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/inventory"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

var errLegacyReportOff = errors.New("the report of legacy authentication is off; take `legacy_report off` out of the configuration")

var (
	legacyTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_mfa_legacy_total", Help: "Requests with legacy authentication, by application, class and what became of them.",
	}, []string{"app", "class", "verdict"})
	legacyDropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caddy_mfa_legacy_report_dropped_total", Help: "Requests with legacy authentication that the report could not count.",
	})
)

// sighted counts a request with legacy authentication, and has the inventory keep what is kept of it. It does not block.
func (a *App) sighted(s inventory.Sighting) {
	legacyTotal.WithLabelValues(s.Application, s.Class, s.Verdict).Inc()
	if a.inventory != nil {
		a.inventory.Add(s)
	}
}

// newInventory is the inventory as it is configured.
func (a *App) newInventory(keys *seal.Keyring, users directory.Directories) *inventory.Inventory {
	return inventory.New(a.accounts.Store(), inventory.Settings{
		Keep: time.Duration(a.LegacyReport.Keep), ShowUnknown: a.LegacyReport.ShowUnknownNames, Mark: nameMarks(keys),
		Exceptions: slices.Collect(maps.Keys(a.legacyExceptions())),
		Log:        a.slog, Dropped: func(n int) { legacyDropped.Add(float64(n)) },
		Known: func(ctx context.Context, typed string) (string, bool) {
			canonical, err := mfa.CanonicalName(typed)
			if err != nil {
				return "", false
			}
			// A directory that is down knows nobody now: who asks is refused anyway.
			_, err = users.ByName(ctx, canonical)
			return canonical, err == nil
		},
	})
}

// markLength is how many characters stand for a name that no directory knows: enough to tell names apart, and not enough to be
// sure which it is.
const markLength = 8

// nameMarks gives what stands for a name. Without the keys nobody can try names until one fits.
func nameMarks(keys *seal.Keyring) func(name string) []string {
	secrets := keys.Keys("names in the inventory of legacy authentication", sha256.Size)
	return func(name string) []string {
		marks := make([]string, len(secrets))
		for i, secret := range secrets {
			h := hmac.New(sha256.New, secret)
			h.Write([]byte(name))
			marks[i] = strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)))[:markLength]
		}
		return marks
	}
}

// legacyExceptions are those of every application. The sites must have been checked.
func (a *App) legacyExceptions() map[inventory.ExceptionName]config.LegacyException {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[inventory.ExceptionName]config.LegacyException{}
	for _, h := range a.handlers {
		if !h.PagesOnly {
			for _, e := range h.LegacyExceptions {
				all[inventory.NameException(h.gated.Name, e.Name())] = e
			}
		}
	}
	return all
}

// legacyException is an exception in the report.
type legacyException struct {
	inventory.Use
	Classes []string         `json:"classes"`
	User    string           `json:"user,omitempty"`
	Service string           `json:"service,omitempty"`
	From    []netip.Prefix   `json:"from,omitempty"`
	Paths   []string         `json:"paths,omitempty"`
	Until   config.Date      `json:"until"`
	Owner   string           `json:"owner"`
	Reason  string           `json:"reason"`
	Notes   []inventory.Note `json:"notes,omitempty"`
}

// usedExceptions tells of each configured exception how it is used, in the order of applications and names.
func (a *App) usedExceptions(ctx context.Context, now time.Time) ([]legacyException, error) {
	uses, err := a.inventory.Uses(ctx)
	if err != nil {
		return nil, err
	}
	all := []legacyException{}
	for name, e := range a.legacyExceptions() {
		use, known := uses[name]
		if !known {
			use = inventory.Use{ExceptionName: name}
		}
		all = append(all, legacyException{
			Use: use, Classes: e.Classes, User: e.User, Service: e.Service, From: e.From, Paths: e.Paths, Until: e.Until, Owner: e.Owner, Reason: e.Reason,
			Notes: use.Notes(e.Until.Time, now),
		})
	}
	slices.SortFunc(all, func(x, y legacyException) int {
		return strings.Compare(x.Application+"\x00"+x.Exception, y.Application+"\x00"+y.Exception)
	})
	return all, nil
}

var noteTexts = map[inventory.Note]string{
	inventory.Ended: "it has ended", inventory.Ends: "it ends soon", inventory.IsUnused: "nobody has used it for 30 days",
}

// exceptionsInterval is how often exceptions are looked at.
const exceptionsInterval = 24 * time.Hour

// watchExceptions warns of exceptions that should be looked at, now and then.
func (a *App) watchExceptions(ctx context.Context) {
	tick := time.NewTicker(exceptionsInterval)
	defer tick.Stop()
	for {
		all, err := a.usedExceptions(ctx, time.Now())
		if err != nil && ctx.Err() == nil {
			a.log.Warn("how legacy exceptions are used can't be found out now", zap.Error(err))
		}
		for _, e := range all {
			for _, note := range e.Notes {
				a.log.Warn("legacy exception: "+noteTexts[note], zap.String("application", e.Application), zap.String("exception", e.Exception),
					zap.String("until", e.Until.String()), zap.String("owner", e.Owner))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// legacyReport is the answer of the endpoint.
type legacyReport struct {
	Rows       []inventory.Row   `json:"rows"`
	Exceptions []legacyException `json:"exceptions"`
}

func legacyEndpoint(mux *http.ServeMux, a *App) {
	adminHandle(mux)("GET /mfa/legacy", func(r *http.Request) (any, error) {
		if a.inventory == nil {
			return nil, errLegacyReportOff
		}
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return nil, badInput{fmt.Errorf("reading parameters: %w", err)}
		}
		now := time.Now()
		filter, err := parseLegacyFilter(query, now)
		if err != nil {
			return nil, err
		}
		report := legacyReport{}
		if report.Rows, err = a.inventory.List(r.Context(), filter); err != nil {
			return nil, err
		}
		report.Exceptions, err = a.usedExceptions(r.Context(), now)
		return report, err
	})
}

// legacyParameters read the parameters of the endpoint into a filter.
var legacyParameters = map[string]func(f *inventory.Filter, text string, now time.Time) error{
	"application": func(f *inventory.Filter, text string, _ time.Time) error { f.Application = text; return nil },
	"user":        func(f *inventory.Filter, text string, _ time.Time) error { f.User = text; return nil },
	"client":      func(f *inventory.Filter, text string, _ time.Time) error { f.Client = text; return nil },
	"path":        func(f *inventory.Filter, text string, _ time.Time) error { f.Path = text; return nil },
	"verdict":     func(f *inventory.Filter, text string, _ time.Time) error { f.Verdict = text; return nil },
	"exception":   func(f *inventory.Filter, text string, _ time.Time) error { f.Exception = text; return nil },
	"class": func(f *inventory.Filter, text string, _ time.Time) error {
		classes := append(slices.Clone(config.LegacyClasses), tokenClass)
		if f.Class = text; !slices.Contains(classes, strings.ToLower(text)) {
			return fmt.Errorf("there is no class %q; want one of %s", text, strings.Join(classes, ", "))
		}
		return nil
	},
	"address": func(f *inventory.Filter, text string, _ time.Time) (err error) {
		f.Addresses, err = parseRange(text)
		return err
	},
	"since": func(f *inventory.Filter, text string, now time.Time) (err error) {
		f.Since, err = parseWhen(text, now)
		return err
	},
	"until": func(f *inventory.Filter, text string, now time.Time) (err error) {
		f.Until, err = parseWhen(text, now)
		return err
	},
}

func parseLegacyFilter(query url.Values, now time.Time) (f inventory.Filter, err error) {
	err = parseParameters(&f, query, legacyParameters, now)
	return f, err
}
