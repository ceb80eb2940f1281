package policy

import (
	"net/netip"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// PerUserMFA holds the service settings of the per-user setting.
type PerUserMFA struct {
	On            bool
	TrustedRanges []netip.Prefix // from there nobody is asked
	Methods       []mfa.Method   // that count; empty: all
	Grace         time.Duration  // for how long registration may be put off, from when the setting was made

	// RememberBrowser is for how long a browser may stand for the second factor that this setting demands. Zero: as for everybody.
	RememberBrowser time.Duration
}

// hasOwn says whether the user has a setting of his own that could demand a second factor.
func (s *Set) hasOwn(f *Facts) bool {
	return s.PerUser.On && (f.PerUser == mfa.PerUserEnabled || f.PerUser == mfa.PerUserEnforced)
}

// perUser says whether the user's own setting demands a second factor, and until when he may put off registering one.
func (s *Set) perUser(f *Facts) (demanded bool, graceEnds time.Time) {
	if !s.hasOwn(f) {
		return false, time.Time{}
	}
	if s.offices != nil {
		if a := compared(f.Client.Address); a.IsValid() && s.offices.Contains(a) {
			return false, time.Time{}
		}
	}
	if f.PerUser != mfa.PerUserEnabled || f.Asked.IsZero() {
		return true, time.Time{}
	}
	return true, graceFrom(f, f.Asked, s.PerUser.Grace)
}

// perUserCombinations are those of which the setting accepts one.
func (s *Set) perUserCombinations() combinations {
	if s.allowed == nil {
		return mfaCombinations
	}
	return s.allowed
}
