package signin

import (
	"slices"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// Verdicts knows what became of sessions in applications, so that the sign-in log tells when that changes and not of every request.
// It is safe for concurrent use, and forgets what is old: then a verdict is told of once more.
type Verdicts struct {
	entered *otter.Cache[place, struct{}]
	refused *otter.Cache[place, verdict]
}

type place struct{ session, application string }

type verdict struct {
	action policy.Action
	reason policy.Reason
	policy string
}

const (
	maxVerdicts = 50_000
	verdictAge  = 12 * time.Hour
)

// NewVerdicts makes one that knows of none.
func NewVerdicts() *Verdicts {
	return &Verdicts{
		entered: otter.Must(&otter.Options[place, struct{}]{MaximumSize: maxVerdicts, ExpiryCalculator: otter.ExpiryWriting[place, struct{}](verdictAge)}),
		refused: otter.Must(&otter.Options[place, verdict]{MaximumSize: maxVerdicts, ExpiryCalculator: otter.ExpiryWriting[place, verdict](verdictAge)}),
	}
}

// Changed says whether the decision about a session in an application is another than the last one: it has entered for the first
// time, is refused or asked for more, or is let in again after that. A sign-in that has not come to its end tells of itself.
func (v *Verdicts) Changed(s *mfa.Session, application string, d *policy.Decision) bool {
	if s.Pending {
		return false
	}
	at := place{s.ID, application}
	if d.Action != policy.Allow {
		is := verdict{action: d.Action, reason: d.Reason}
		if d.Policy != nil {
			is.policy = d.Policy.Name
		}
		was, first := v.refused.Set(at, is)
		return first || was != is
	}
	if v.refused.EstimatedSize() > 0 {
		if _, was := v.refused.Invalidate(at); was {
			return true
		}
	}
	if slices.Contains(s.Applications, application) {
		return false
	}
	_, first := v.entered.SetIfAbsent(at, struct{}{})
	return first
}
