package signin

import (
	"cmp"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

func (s *Service) audit(c Client, e audit.Event) {
	e.Host, e.Application, e.Address, e.Reference = c.Host, cmp.Or(e.Application, c.Application), c.Address, c.Reference
	e.Browser, e.Language = s.browserName(c), cmp.Or(c.Language, c.Wishes)
	s.Sink.Audit(e)
}

// Note tells the sign-in log of a request whose verdict is another than the last one, see Verdicts.
func (s *Service) Note(c Client, out *gate.Outcome) {
	r := s.record(c, out.User, gate.Live(out.Current.Proofs, out.Account, c.Now), statusOf(out.Decision))
	r.IsInteractive = out.Decision.Action != policy.Allow
	s.decided(c, &r, out.User, out.Account, out.Current.Session, out.Current.Proofs)
	s.Sink.SignIn(r)
}

// ended tells the sign-in log of a sign-in or a step-up that has come to an end.
func (s *Service) ended(c Client, st *State, status audit.Status) {
	r := s.record(c, st.User, gate.Live(st.Current.Proofs, st.Account, c.Now), status)
	s.decided(c, &r, st.User, st.Account, st.Current.Session, st.Current.Proofs)
	s.Sink.SignIn(r)
}

// failed tells it of one that failed before anything was decided.
func (s *Service) failed(c Client, user *mfa.User, proofs mfa.Proofs, status audit.Status) {
	s.Sink.SignIn(s.record(c, user, proofs, status))
}

// statusOf is how a decision stands in the log.
func statusOf(d policy.Decision) audit.Status {
	switch d.Action {
	case policy.Allow:
		return audit.Status{ErrorCode: audit.CodeSuccess}
	case policy.Register:
		return audit.Status{ErrorCode: audit.CodeMustRegister, FailureReason: string(d.Reason)}
	case policy.Block:
		return audit.Status{ErrorCode: audit.CodeBlocked, FailureReason: string(d.Reason)}
	}
	return audit.Status{ErrorCode: audit.CodeMFARequired, FailureReason: string(d.Reason)}
}

// decided adds what each policy had to do with it. It is the evaluation that has decided.
func (s *Service) decided(c Client, r *audit.SignIn, user *mfa.User, a *account.Account, ses *mfa.Session, proofs mfa.Proofs) {
	facts := s.facts(c, user, a, ses, proofs)
	d, results := s.Policy.Explain(&facts)
	if !d.MFA || d.Reason == policy.InGrace {
		r.Requirement = audit.SingleFactor // which was enough
	}
	for _, result := range results {
		applied := audit.PolicyResult(result.Applied())
		switch {
		case applied == audit.PolicyFailure:
			r.ConditionalAccess = audit.AccessFailure
		case applied == audit.PolicySuccess && r.ConditionalAccess == audit.AccessNotApplied:
			r.ConditionalAccess = audit.AccessSuccess
		}
		r.Policies = append(r.Policies, audit.AppliedPolicy{
			ID: result.Policy.ID, DisplayName: result.Policy.Name, Result: applied,
			GrantControls: result.Policy.GrantControls(), SessionControls: result.Policy.SessionControls(),
		})
	}
}

// maxUserAgent is how much of a header that strangers choose stands in the log, in bytes.
const maxUserAgent = 256

// clientApps are the words of the log for kinds of clients.
var clientApps = map[mfa.ClientApp]string{
	"": audit.ClientBrowser, policy.Browser: audit.ClientBrowser, policy.MobileAndDesktop: audit.ClientMobileAndDesktop,
	policy.ExchangeActiveSync: audit.ClientExchangeActiveSync, policy.OtherClients: audit.ClientOther,
}

// record begins a record of the sign-in log.
func (s *Service) record(c Client, user *mfa.User, proofs mfa.Proofs, status audit.Status) audit.SignIn {
	r := audit.SignIn{
		ID: c.Reference, CorrelationID: c.Reference, Created: c.Now, UserDisplayName: user.DisplayName, UserPrincipalName: user.Canonical,
		AppDisplayName: c.Application, ClientAppUsed: clientApps[c.Client.App], UserAgent: strings.ToValidUTF8(c.UserAgent[:min(len(c.UserAgent), maxUserAgent)], ""), ConditionalAccess: audit.AccessNotApplied,
		Requirement: audit.MultiFactor, Status: status, IsInteractive: true, Details: []audit.Detail{}, Policies: []audit.AppliedPolicy{},
		Device: audit.DeviceDetail{
			DeviceID: c.Device.ID, DisplayName: c.Device.Name, IsCompliant: c.Device.Compliant, IsManaged: c.Device.Known,
		},
		Location:  audit.Location{CountryOrRegion: c.Country},
		RiskLevel: audit.RiskNone, RiskState: audit.RiskNone,
	}
	if c.Device.DomainJoined {
		r.Device.TrustType = "ServerAD"
	}
	if s.Describe != nil {
		r.Device.Browser, r.Device.OperatingSystem = s.Describe(c.Hint, c.UserAgent)
	}
	if c.Address.IsValid() {
		r.IPAddress = c.Address.String()
		if s.Country != nil && !c.CountryKnown {
			r.Location.CountryOrRegion, _ = s.Country(c.Address)
		}
	}
	if !user.ID.IsZero() {
		r.UserID = user.ID.String()
	}
	for _, p := range proofs {
		d := audit.Detail{Time: p.At, Method: string(p.Method), Succeeded: true, Result: "succeeded"}
		if p.Method == mfa.RememberedBrowser {
			d.Result = audit.ByRememberedBrowser
		}
		r.Details = append(r.Details, d)
	}
	return r
}
