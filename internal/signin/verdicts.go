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
	refused *otter.Cache[place, told]
}

type place struct{ session, application string }

type verdict struct {
	action policy.Action
	reason policy.Reason
	policy string
}

// told is a verdict that the log has told of, and with which reference.
type told struct {
	verdict
	reference string
}

const (
	maxVerdicts = 50_000
	verdictAge  = 12 * time.Hour
)

// NewVerdicts makes one that knows of none.
func NewVerdicts() *Verdicts {
	return &Verdicts{
		entered: otter.Must(&otter.Options[place, struct{}]{
			MaximumSize: maxVerdicts, ExpiryCalculator: otter.ExpiryWriting[place, struct{}](verdictAge), Clock: tickless{},
		}),
		refused: otter.Must(&otter.Options[place, told]{
			MaximumSize: maxVerdicts, ExpiryCalculator: otter.ExpiryWriting[place, told](verdictAge), Clock: tickless{},
		}),
	}
}

// tickless makes a cache drop what is too old while it is used, and needs no goroutine for it that would have to be ended.
type tickless struct{}

func (tickless) NowNano() int64                      { return time.Now().UnixNano() }
func (tickless) Tick(time.Duration) <-chan time.Time { return nil }

// Changed says whether the decision about a session in an application is another than the last one: it has entered for the first
// time, is refused or asked for more, or is let in again after that. A sign-in that has not come to its end tells of itself.
//
// A page that refuses shows the reference that this gives: the one with which the log has told of it, or reference if it is to
// tell of it now.
func (v *Verdicts) Changed(s *mfa.Session, application string, d *policy.Decision, reference string) (of string, changed bool) {
	if s.Pending && d.Action != policy.Allow && d.Action != policy.Block {
		return reference, false
	}
	at := place{s.ID, application}
	if d.Action != policy.Allow {
		is := told{verdict{action: d.Action, reason: d.Reason}, reference}
		if d.Policy != nil {
			is.policy = d.Policy.Name
		}
		return v.refuse(at, is)
	}
	again := false
	if v.refused.EstimatedSize() > 0 {
		_, again = v.refused.Invalidate(at)
	}
	if slices.Contains(s.Applications, application) {
		return reference, again
	}
	_, first := v.entered.SetIfAbsent(at, struct{}{})
	return reference, first || again
}

// refuse is a function of its own for the closure's sake, which would cost every request an allocation.
func (v *Verdicts) refuse(at place, is told) (reference string, changed bool) {
	now, _ := v.refused.Compute(at, func(was told, found bool) (told, otter.ComputeOp) {
		if changed = !found || was.verdict != is.verdict; changed {
			return is, otter.WriteOp
		}
		return was, otter.CancelOp
	})
	return now.reference, changed
}
