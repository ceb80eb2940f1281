package caddymodule

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// machineKeys makes what judges app passwords and service tokens. The sites must have been checked.
func (a *App) machineKeys(dirs directory.Directories, accounts *account.Service, generation *account.Generation, keys *seal.Keyring) *machinekey.Service {
	tokens := make(map[string]machinekey.Token, len(a.ServiceTokens))
	for _, t := range a.ServiceTokens {
		tokens[t.Name] = machinekey.Token{Name: t.Name, Expires: t.Expires.Time, Applications: t.Applications}
	}
	return machinekey.New(&machinekey.Service{
		Users: dirs, Accounts: accounts, Throttle: throttle.NewKeys(a.accounts.Store()), Generation: generation, Sink: a.sink, Log: a.slog,
		Settings: machinekey.Settings{
			Lifetime: time.Duration(a.AppPasswords.Lifetime), MaxLifetime: time.Duration(a.AppPasswords.MaxLifetime),
			OutlivePassword:  slices.Contains(a.AppPasswords.Outlive, config.OutlivePasswordChange),
			OutliveDisabling: slices.Contains(a.AppPasswords.Outlive, config.OutliveDisabling),
		},
		Applications: a.keyedApplications(), PerUser: a.PerUserMFA != nil && a.PerUserMFA.AppPasswords == config.On, Tokens: tokens, Counts: a.live.counts,
	}, a.accounts.Store(), a.live.tokens, keys)
}

// keyedApplications says what every application that a site has says of keys. One that several sites have takes what one of them takes.
func (a *App) keyedApplications() map[string]machinekey.Application {
	a.mu.Lock()
	defer a.mu.Unlock()
	applications := map[string]machinekey.Application{}
	for _, h := range a.handlers {
		if h.PagesOnly || h.LegacyOnly {
			continue
		}
		app, said := switches[h.AppPasswords], applications[h.gated.Name]
		if before, ok := applications[h.gated.Name]; ok && (before.AppPasswords == gate.On || before.AppPasswords == gate.Unset && app == gate.Off) {
			app = before.AppPasswords
		}
		applications[h.gated.Name] = machinekey.Application{AppPasswords: app, ServiceTokens: h.ServiceTokens || said.ServiceTokens, Digest: h.AppPasswordsDigest || said.Digest}
	}
	return applications
}

// endOfDisabled takes away the app passwords of users who are disabled, whenever a directory has changed.
func (a *App) endOfDisabled(ctx context.Context, keys *machinekey.Service, changed <-chan struct{}) {
	for {
		if err := keys.EndOfDisabled(ctx, time.Now()); err != nil && ctx.Err() == nil {
			// While they are disabled, none is good all the same.
			a.log.Warn("ending app passwords", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
