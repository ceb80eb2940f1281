package config

import (
	"fmt"
	"slices"
	"time"
)

// AppPasswords says for how long app passwords last, and what they outlive. Which applications take them, is said there.
type AppPasswords struct {
	// How long one lasts for which nobody says another time. Default: 90d, or max_lifetime if that is shorter.
	Lifetime Duration `json:"lifetime,omitzero"`

	// How long one can last, from 1d to 3650d. Default: 365d.
	MaxLifetime Duration `json:"max_lifetime,omitzero"`

	// What a user's app passwords outlive: password_change, that he gets another password; disabling, that he is disabled for a while,
	// during which none is good. A reset and a block end them always. Default: neither.
	Outlive []string `json:"outlive,omitempty"`
}

// What app passwords can outlive.
const (
	OutlivePasswordChange = "password_change"
	OutliveDisabling      = "disabling"
)

// Defaults and bounds of AppPasswords.
const (
	DefaultAppPasswordLifetime    = 90 * 24 * time.Hour
	DefaultAppPasswordMaxLifetime = 365 * 24 * time.Hour
	MinAppPasswordMaxLifetime     = Duration(24 * time.Hour)
	MaxAppPasswordMaxLifetime     = Duration(3650 * 24 * time.Hour)
)

// SetDefaults fills in what was not said.
func (a *AppPasswords) SetDefaults() {
	setDefault(&a.MaxLifetime, Duration(DefaultAppPasswordMaxLifetime))
	setDefault(&a.Lifetime, min(Duration(DefaultAppPasswordLifetime), a.MaxLifetime))
}

func (a AppPasswords) validate(ps *Problems) {
	longest := orDefault(a.MaxLifetime, DefaultAppPasswordMaxLifetime)
	if longest < MinAppPasswordMaxLifetime || longest > MaxAppPasswordMaxLifetime {
		ps.add("app_passwords.max_lifetime", "an app password can last at most from %v to %v, not %v", MinAppPasswordMaxLifetime, MaxAppPasswordMaxLifetime, longest)
	} else if a.Lifetime > longest {
		ps.add("app_passwords.lifetime", "app passwords last longer (%v) than they can (%v); write a longer `max_lifetime`, too", a.Lifetime, longest)
	}
	if a.Lifetime != 0 && a.Lifetime < Duration(time.Hour) {
		ps.add("app_passwords.lifetime", "an app password lasts at least 1h, not %v", a.Lifetime)
	}
	for i, word := range a.Outlive {
		field := fmt.Sprintf("app_passwords.outlive[%d]", i)
		switch {
		case word != OutlivePasswordChange && word != OutliveDisabling:
			ps.add(field, "app passwords don't outlive %q; want `%s` or `%s`", word, OutlivePasswordChange, OutliveDisabling)
		case slices.Contains(a.Outlive[:i], word):
			ps.add(field, "`%s` stands here twice; write it once", word)
		}
	}
}
