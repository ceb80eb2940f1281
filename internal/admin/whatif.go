package admin

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// Query describes a sign-in that nobody has begun. What is zero is not known, as it can be in a real one.
type Query struct {
	User        string            // name, in any spelling
	Application string            // that is entered; empty: our own pages
	UserAction  policy.UserAction // what is begun in place of entering an application

	Client mfa.Client // a country that is known counts more than the one that the address is in

	SignInRisk, UserRisk policy.Risk

	Proofs []mfa.Method // what was just proven; none: the password
}

// WhatIf is what would become of a sign-in. Policies have the words of Graph's resource type whatIfAnalysisResult.
type WhatIf struct {
	User        string            `json:"user"`
	Application string            `json:"application,omitempty"`
	UserAction  policy.UserAction `json:"userAction,omitempty"`
	Address     string            `json:"ipAddress,omitempty"`
	Country     string            `json:"country,omitempty"` // of the address, where it is known
	Proofs      []mfa.Method      `json:"proofs"`

	Decision Decided          `json:"decision"`
	Policies []AnalyzedPolicy `json:"policies"` // in the order of the configuration

	// Warnings say what of the question may not be meant: an application that no site has, a proof that the user can't give.
	Warnings []string `json:"warnings"`
}

// Decided is what would happen next.
type Decided struct {
	Action policy.Action `json:"action"`
	Reason policy.Reason `json:"reason"`
	Policy string        `json:"policy,omitempty"` // the one that decides; empty: none does

	Requirement string       `json:"authenticationRequirement"` // as in Graph's signIn
	DemandedBy  string       `json:"demandedBy,omitempty"`      // what demands a second factor: one of the constants below
	Methods     []mfa.Method `json:"methods"`                   // of which one would have to be proven, with verify, or registered, with register
	Terms       []string     `json:"terms"`                     // that would have to be accepted, with accept_terms
	Offer       bool         `json:"registrationOffered"`       // a factor could be registered, and need not be
	GraceEnds   time.Time    `json:"graceEnds,omitzero"`        // when one must be
	Needs       string       `json:"needs,omitempty"`           // what would let the user register: see policy.Need

	// How old a proof may be, in seconds; zero: as old as the session.
	PasswordAge int64 `json:"maxPasswordAge"`
	SecondAge   int64 `json:"maxSecondFactorAge"`

	Persistent policy.Persistence `json:"persistentBrowser,omitempty"`

	// For how long, in seconds, the browser can be remembered in place of a second factor that is asked for, and the user can choose to
	// stay signed in; zero: not at all.
	RememberBrowser int64 `json:"rememberBrowser"`
	StaySignedIn    int64 `json:"staySignedIn"`
}

// AnalyzedPolicy is what one policy has to do with it.
type AnalyzedPolicy struct {
	ID          string       `json:"id"`
	DisplayName string       `json:"displayName"`
	State       policy.State `json:"state"`
	Applies     bool         `json:"policyApplies"`

	// Reason is the first condition that isn't met, in the words of Graph's whatIfAnalysisReasons; notSet where the policy applies;
	// notEnoughInformation where it applies because something isn't known.
	Reason string `json:"analysisReasons"`

	GrantControls   []string `json:"grantControls"`
	SessionControls []string `json:"sessionControls"`
	Result          string   `json:"result"` // as in the sign-in log: see policy.Result.Applied
}

// The values of Decided.Requirement.
const (
	singleFactor = "singleFactorAuthentication"
	multiFactor  = "multiFactorAuthentication"
)

// The values of Decided.DemandedBy.
const (
	BySecurityDefaults = "security_defaults"
	ByPolicy           = "policy"
	ByOwnSetting       = "per_user_mfa"
)

// notSet is Graph's word for no reason.
const notSet = "notSet"

// WhatIf says what would become of a sign-in now. It asks what decides about real ones, and changes nothing. The error is ErrNoUser, or
// wraps directory.ErrUnavailable or store.ErrUnavailable.
func (s *Service) WhatIf(ctx context.Context, q Query, now time.Time) (*WhatIf, error) {
	user, err := s.find(ctx, q.User)
	if err != nil {
		return nil, err
	}
	a, err := s.Accounts.LoadClosed(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	out := &WhatIf{User: user.Name, Application: q.Application, UserAction: q.UserAction, Proofs: q.Proofs, Warnings: []string{}}
	if len(out.Proofs) == 0 {
		out.Proofs = []mfa.Method{mfa.Password}
	}
	var proofs mfa.Proofs
	for _, method := range out.Proofs {
		p := mfa.Proof{Method: method, At: now}
		if method == mfa.RememberedBrowser {
			p = rememberedProof(a, now)
		}
		proofs = proofs.With(p)
	}
	facts := gate.Facts(user, a, nil, proofs, q.Application, gate.Anywhere, now)
	facts.Client, facts.SignInRisk, facts.UserRisk = q.Client, q.SignInRisk, q.UserRisk
	if c := &facts.Client; !c.CountryKnown && c.Address.IsValid() && s.Country != nil {
		c.Country, c.CountryKnown = s.Country(c.Address)
	}
	if facts.Client.Address.IsValid() {
		out.Address = facts.Client.Address.String()
	}
	out.Country = facts.Client.Country

	var d policy.Decision
	var results []policy.Result
	if q.UserAction != "" {
		d, results = s.Policy.ExplainAction(&facts, q.UserAction)
		if d.Action == policy.Allow && q.UserAction == policy.RegisterSecurityInfo && !facts.Registered && !s.Policy.MayRegister(&facts) {
			d.Action, d.Reason, d.Needs = policy.Block, policy.RegistrationDenied, s.Policy.Needs(&facts)
		}
	} else {
		d, results = s.Policy.Explain(&facts)
	}
	out.Decision = decided(d, s.Policy, now)
	out.Policies = make([]AnalyzedPolicy, len(results))
	for i, r := range results {
		out.Policies[i] = analyzed(r)
	}
	out.warn(&facts, s.Applications)
	return out, nil
}

// rememberedProof is what the browser of a user stands for that was remembered last; if there is none, one that was remembered just now.
func rememberedProof(a *account.Account, now time.Time) mfa.Proof {
	p := mfa.Proof{Method: mfa.RememberedBrowser, At: now, Of: mfa.TOTP}
	var last time.Time
	for _, b := range a.Browsers {
		if _, ok := a.Browser(b.ID, now); ok && b.Added.After(last) {
			last, p.At, p.Of, p.Credential = b.Added, b.Added, b.Method, b.ID
		}
	}
	return p
}

func decided(d policy.Decision, rules *policy.Set, now time.Time) Decided {
	out := Decided{
		Action: d.Action, Reason: d.Reason, Requirement: singleFactor, Methods: []mfa.Method{}, Terms: []string{},
		Offer: d.Offer, GraceEnds: d.GraceEnds, Needs: d.Needs.String(), Persistent: d.Persistent,
	}
	if d.Policy != nil {
		out.Policy = d.Policy.Name
	}
	if d.MFA {
		out.Requirement, out.DemandedBy = multiFactor, ByPolicy
		switch {
		case !rules.Defaults.Off && d.Policy == nil:
			out.DemandedBy = BySecurityDefaults
		case d.Policy == nil:
			out.DemandedBy = ByOwnSetting
		}
	}
	for _, m := range []mfa.Method{mfa.Password, mfa.Passkey, mfa.Push, mfa.TOTP, mfa.SMS, mfa.Voice, mfa.Email, mfa.TemporaryAccessPass, mfa.RecoveryCode} {
		if d.Methods.Has(m) {
			out.Methods = append(out.Methods, m)
		}
	}
	for _, t := range d.Terms {
		out.Terms = append(out.Terms, t.Name)
	}
	age := func(since time.Time) int64 {
		if since.IsZero() {
			return 0
		}
		return int64(now.Sub(since) / time.Second)
	}
	if d.Action == policy.Block {
		out.Persistent = "" // there is no session
		return out
	}
	out.RememberBrowser, out.StaySignedIn = int64(d.RememberBrowser/time.Second), int64(d.Offers()/time.Second)
	out.PasswordAge, out.SecondAge = age(d.PasswordSince), age(d.SecondSince)
	return out
}

func analyzed(r policy.Result) AnalyzedPolicy {
	out := AnalyzedPolicy{
		ID: r.Policy.ID, DisplayName: r.Policy.Name, State: r.Policy.State, Applies: r.Applies, Reason: string(r.Unmet),
		GrantControls: r.Policy.GrantControls(), SessionControls: r.Policy.SessionControls(), Result: r.Applied(),
	}
	if out.Reason == "" {
		out.Reason = notSet
	}
	return out
}

func (w *WhatIf) warn(f *policy.Facts, applications []string) {
	warn := func(format string, args ...any) { w.Warnings = append(w.Warnings, fmt.Sprintf(format, args...)) }
	if w.Application != "" && !slices.Contains(applications, w.Application) {
		sites := "no site has an application"
		if len(applications) > 0 {
			sites = "sites have " + strings.Join(applications, ", ")
		}
		warn("no site has the application %q: %s", w.Application, sites)
	}
	for _, m := range w.Proofs {
		if m == mfa.RememberedBrowser {
			if p, _ := f.Proofs.Latest(m); p.Credential == "" { // also where there is none
				warn("no browser of %s is remembered; it is taken that one was just now", w.User)
			}
			continue
		}
		if m != mfa.Password && !f.Methods.Has(m) {
			warn("%s could not prove %s: nothing of that kind is registered, or it can't be used now", w.User, m)
		}
	}
	if (f.User.Disabled || f.Blocked) && len(w.Policies) > 0 {
		warn("no policy is asked about a user who is disabled or blocked")
	}
}

// CountryOf says which country an address is in (ISO 3166-1 alpha-2, empty if in none), and whether anybody knows.
type CountryOf func(netip.Addr) (country string, known bool)
