// Package throttle bounds guessing. Every attempt is counted before it is judged, over all processes that share a
// store, and is taken back only when it turned out to be right.
package throttle

import (
	"fmt"
	"time"
)

// WaitError says that an attempt was not judged, because there were too many before it.
type WaitError struct {
	Until time.Time // from then on the next attempt is judged; zero: not before somebody unlocks
	Scope string    // what was used up: user, address, browser, total, factor, locked. For the log, never for the person
}

func (e *WaitError) Error() string {
	if e.Until.IsZero() {
		return "too many attempts: locked until an administrator unlocks it"
	}
	return fmt.Sprintf("too many attempts (%s): wait until %s", e.Scope, e.Until.UTC().Format(time.RFC3339))
}

// RetryAfter is the value of a Retry-After header: whole seconds, at least one (RFC 9110, section 10.2.3).
func (e *WaitError) RetryAfter(now time.Time) int {
	if e.Until.IsZero() {
		return int(CodePause / time.Second)
	}
	return max(1, int((e.Until.Sub(now)+time.Second-1)/time.Second))
}

// Limits for codes of a second factor, per user, method and lane (see Lane).
const (
	CodeTries = 10               // consecutive failures before a pause
	CodePause = 15 * time.Minute // the pause
	CodeLimit = 100              // consecutive failures before the method is locked until it is unlocked or reset
)

// Codes counts consecutive failures of one method of one user. It is kept with the factor that it protects, so that the
// count and the factor's next state are written together.
type Codes struct {
	Failures int       `json:"failures"`
	Until    time.Time `json:"until,omitzero"` // nothing is judged before
}

// Charge counts one more attempt as a failure, before it is judged. The error is a *WaitError; then nothing may
// be judged.
func (c Codes) Charge(now time.Time) (Codes, error) {
	if c.Failures >= CodeLimit {
		return c, &WaitError{Scope: "locked"}
	}
	if now.Before(c.Until) {
		return c, &WaitError{Until: c.Until, Scope: "factor"}
	}
	c.Failures++
	if c.Failures%CodeTries == 0 {
		// This attempt is still judged, and takes the pause back if it is right.
		c.Until = now.Add(CodePause)
	}
	return c, nil
}

// Locked says whether only an administrator helps.
func (c Codes) Locked() bool { return c.Failures >= CodeLimit }

// Delays between wrong passwords for one user from one address, or from one browser that is known to be his.
const (
	freeTries  = 5               // wrong passwords without delay
	firstDelay = 2 * time.Second // after these, doubled with each more,
	maxDelay   = 15 * time.Minute
	forget     = time.Hour // until nothing was tried for so long
)

// delay counts consecutive wrong passwords.
type delay struct {
	Failures int       `json:"failures"`
	Until    time.Time `json:"until,omitzero"`
}

func (d delay) charge(now time.Time) (delay, error) {
	if now.Before(d.Until) {
		return d, &WaitError{Until: d.Until, Scope: "user and address"}
	}
	d.Failures++
	if over := d.Failures - freeTries; over >= 0 {
		pause := maxDelay
		if over < 20 {
			pause = min(maxDelay, firstDelay<<over)
		}
		d.Until = now.Add(pause)
	}
	return d, nil
}

// withdraw takes back the last charge. It was only made because no delay was running.
func (d delay) withdraw() delay { return delay{Failures: max(0, d.Failures-1)} }

// budget is a bucket of attempts that fills again evenly (a token bucket).
type budget struct {
	Spent float64   `json:"spent"` // at At
	At    time.Time `json:"at"`
}

// limit is the size of a budget, and how long it takes to fill again from empty.
type limit struct {
	scope string
	size  float64
	per   time.Duration
}

// Budgets for wrong passwords, whoever the user is and wherever they come from.
var (
	userLimit    = limit{"user", 30, time.Hour}
	addressLimit = limit{"address", 100, time.Hour}
	totalLimit   = limit{"total", 1000, time.Minute}
)

func (b budget) at(now time.Time, l limit) float64 {
	refilled := now.Sub(b.At).Seconds() / l.per.Seconds() * l.size
	return max(0, min(l.size, b.Spent-max(0, refilled)))
}

func (b budget) charge(now time.Time, l limit) (budget, error) {
	spent := b.at(now, l)
	if spent+1 > l.size {
		missing := (spent + 1 - l.size) / l.size
		return b, &WaitError{Until: now.Add(time.Duration(missing * float64(l.per))), Scope: l.scope}
	}
	return budget{spent + 1, now}, nil
}

func (b budget) refund(now time.Time, l limit) budget {
	return budget{max(0, b.at(now, l)-1), now}
}
