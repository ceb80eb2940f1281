package caddymodule

import (
	"slices"

	"github.com/caddy-mfa/caddy-mfa/internal/factor/push"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/notify"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/portal"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// modelPush says that phones can approve, if they can. They stand between passkeys and the authenticator app, as at Microsoft.
func (a *App) modelPush(m *policy.Model) {
	if a.Factor.Push == nil {
		return
	}
	m.Sent = append(m.Sent, mfa.Push)
	m.Registrable = slices.Insert(m.Registrable, slices.Index(m.Registrable, mfa.Passkey)+1, mfa.Push)
}

// push has phones approve, if that is configured. Nothing is asked of a push service before somebody signs in.
func (a *App) push(service *signin.Service, sessions store.Store, keys *seal.Keyring, texts *portal.Texts, stop <-chan struct{}) error {
	p := a.Factor.Push
	if p == nil {
		return nil
	}
	factor := push.Factor{}
	at := slices.IndexFunc(service.Registrars, func(r mfa.Registrar) bool { return r.Method() == mfa.Passkey }) + 1
	service.Registrars = slices.Insert(service.Registrars, at, mfa.Registrar(factor))
	service.Factors[mfa.Push] = factor
	service.Phones = signin.NewPhones(sessions, keys)
	service.Phones.Notice = texts.PushNotice
	if p.Contact == "" {
		return nil
	}
	notifier, err := notify.NewWebPush(keys, p.Contact, p.Allow, stop, a.slog)
	if err != nil {
		return err
	}
	service.Phones.Notifier = notifier
	return nil
}
