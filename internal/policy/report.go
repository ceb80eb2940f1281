package policy

// What a policy came to, in the words of Graph's enumeration appliedConditionalAccessPolicyResult (resource types
// appliedConditionalAccessPolicy and signIn).
const (
	AppliedSuccess               = "success"               // it applies, and what it demands is met
	AppliedFailure               = "failure"               // it applies, and blocks or demands what is not met yet
	AppliedNotApplied            = "notApplied"            // somebody doesn't meet its conditions
	AppliedNotEnabled            = "notEnabled"            // its state is disabled
	AppliedReportOnlySuccess     = "reportOnlySuccess"     // it would have been met
	AppliedReportOnlyFailure     = "reportOnlyFailure"     // it would have refused
	AppliedReportOnlyInterrupted = "reportOnlyInterrupted" // it would have asked
	AppliedReportOnlyNotApplied  = "reportOnlyNotApplied"  // as notApplied
)

// Applied says what the policy came to, in Graph's words: one of the constants above.
func (r Result) Applied() string {
	state := State("")
	if r.Policy != nil {
		state = r.Policy.State
	}
	switch {
	case state == Disabled:
		return AppliedNotEnabled
	case state == ReportOnly && !r.Applies:
		return AppliedReportOnlyNotApplied
	case state == ReportOnly && r.Satisfied:
		return AppliedReportOnlySuccess
	case state == ReportOnly && r.Ask:
		return AppliedReportOnlyInterrupted
	case state == ReportOnly:
		return AppliedReportOnlyFailure
	case !r.Applies:
		return AppliedNotApplied
	case r.Satisfied:
		return AppliedSuccess
	}
	return AppliedFailure
}

// What a policy demands, as sign-in logs of Entra have it in appliedConditionalAccessPolicy.enforcedGrantControls. Graph documents
// these as free text; the words are those that its answers hold.
const (
	GrantBlock              = "Block"
	GrantMFA                = "Mfa"
	GrantCompliantDevice    = "RequireCompliantDevice"
	GrantDomainJoinedDevice = "RequireDomainJoinedDevice"
	GrantPasswordChange     = "RequirePasswordChange"
	GrantTerms              = "TermsOfUse"

	// GrantStrength comes before the name of the strength. Entra's sign-in logs show it so.
	GrantStrength = "Require authentication strength - "
)

// And what stands in enforcedSessionControls.
const (
	SessionSignInFrequency = "SignInFrequency"
	SessionPersistence     = "PersistentBrowserSessionMode"
)

// GrantControls are a policy's grant controls in the order in which they are asked for, as constants above; never nil. A disabled
// policy enforces none, as in Entra's logs.
func (p *Policy) GrantControls() []string {
	controls := []string{}
	if p.State == Disabled {
		return controls
	}
	g := &p.Grant
	for _, c := range []struct {
		demanded bool
		word     string
	}{
		{g.Block, GrantBlock}, {g.MFA, GrantMFA}, {g.Strength != "", GrantStrength + g.Strength}, {g.CompliantDevice, GrantCompliantDevice},
		{g.DomainJoinedDevice, GrantDomainJoinedDevice}, {g.PasswordChange, GrantPasswordChange}, {len(g.Terms) > 0, GrantTerms},
	} {
		if c.demanded {
			controls = append(controls, c.word)
		}
	}
	return controls
}

// SessionControls are a policy's session controls, as constants above; never nil. A disabled policy enforces none.
func (p *Policy) SessionControls() []string {
	controls := []string{}
	if p.State == Disabled {
		return controls
	}
	if p.Session.SignInFrequency != nil {
		controls = append(controls, SessionSignInFrequency)
	}
	if p.Session.Persistent != "" {
		controls = append(controls, SessionPersistence)
	}
	return controls
}
