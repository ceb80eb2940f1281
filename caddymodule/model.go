package caddymodule

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/geoip"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/portal"
)

// provisionPolicy makes what was said about policy ready to decide.
func (a *App) provisionPolicy() error {
	texts, err := readTerms(&a.Config)
	if err != nil {
		return err
	}
	m := a.model()
	if err := a.importPolicies(&m); err != nil {
		return err
	}
	if a.makers, err = a.readMakers(); err != nil {
		return err
	}
	for _, s := range m.Strengths {
		if len(s.AAGUIDs) > 0 && a.makers == nil {
			return fmt.Errorf("authentication strength %q: %s", s.Name, config.NeedsRoots) // it was imported
		}
	}
	for _, t := range m.Terms {
		terms, err := portal.NewTerms(t, []byte(texts[t.Name]))
		if err != nil {
			return err
		}
		a.terms = append(a.terms, terms)
	}
	if a.GeoIP != "" {
		a.countries = geoip.Open(a.GeoIP, a.slog)
	}
	if a.devices, err = newDeviceRules(a.DeviceRules); err != nil {
		return err
	}
	if a.rules, err = policy.New(m); err != nil {
		return fmt.Errorf("policy:\n%w", err)
	}
	return nil
}

// model is everything that the configuration says about policy.
func (a *App) model() policy.Model {
	m := policy.Model{
		Defaults: policy.SecurityDefaults{
			Off: a.SecurityDefaults.Off, Grace: time.Duration(*a.SecurityDefaults.RegistrationGrace), Until: a.SecurityDefaults.Until.Time,
		},
		Policies:    a.policies(),
		Registrable: append([]mfa.Method{mfa.Passkey, mfa.TOTP}, a.sentMethods()...),
		Sent:        a.sentMethods(),
	}
	a.modelPush(&m)
	if r := a.Registration; r != nil {
		m.Registration = policy.Registration{From: r.From, RequirePass: r.RequirePass}
	}
	m.Remember = policy.Remembering{Session: time.Duration(a.Session.Remember), Browser: time.Duration(a.Session.RememberBrowser)}
	if p := a.PerUserMFA; p != nil {
		m.PerUser = policy.PerUserMFA{
			On: true, TrustedRanges: p.TrustedRanges, Grace: time.Duration(p.RegistrationGrace), RememberBrowser: time.Duration(p.RememberBrowser),
		}
		for _, method := range p.Methods {
			m.PerUser.Methods = append(m.PerUser.Methods, perUserMethods[method])
		}
	}
	for _, l := range a.NamedLocations {
		m.Locations = append(m.Locations, policy.NamedLocation{
			Name: l.Name, Ranges: l.Ranges, Trusted: l.Trusted, Countries: l.Countries, IncludeUnknown: l.IncludeUnknown,
		})
	}
	for _, s := range a.Strengths {
		m.Strengths = append(m.Strengths, policy.Strength{Name: s.Name, Combinations: s.Combinations, AAGUIDs: s.AAGUIDs})
	}
	for _, t := range a.Terms {
		m.Terms = append(m.Terms, policy.Terms{Name: t.Name, Version: t.Version})
	}
	return m
}

// perUserNoEffect says why the per-user setting has no effect with these rules; empty: it has.
func perUserNoEffect(rules *policy.Set) string {
	switch {
	case !rules.Defaults.Off:
		return "security defaults are on, and ask everybody for a second factor"
	case !rules.PerUser.On:
		return "`per_user_mfa` is not configured"
	}
	return ""
}

// country is where an address is, as far as anybody knows.
func (a *App) country(address netip.Addr) (code string, ok bool) {
	if a.countries == nil || !address.IsValid() {
		return "", false
	}
	return a.countries.Country(address)
}

// describe names browser and operating system, as a client claims them.
func (a *App) describe(hint, userAgent string) (browser, system string) {
	c := a.live.platforms.Parse(hint, userAgent)
	return c.Browser(), c.System
}
