package caddymodule

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/inventory"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

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
		Keep: 90 * 24 * time.Hour, Mark: nameMarks(keys), Log: a.slog, Dropped: func(n int) { legacyDropped.Add(float64(n)) },
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
