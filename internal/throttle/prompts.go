package throttle

import "time"

// Limits for prompts on a phone, per user and lane: who presses the button again and again must not wear down the person whose phone it is.
const (
	PromptTries = 3                // consecutive prompts that are not approved before a cool-down
	PromptPause = 15 * time.Minute // the cool-down
)

// ChargePrompt is Charge for a prompt: it counts one more as unanswered, before it goes out. The error is a *WaitError; then none may.
func (c Codes) ChargePrompt(now time.Time) (Codes, error) {
	if c.Failures >= CodeLimit {
		return c, &WaitError{Scope: "locked"}
	}
	if now.Before(c.Until) {
		return c, &WaitError{Until: c.Until, Scope: "factor"}
	}
	c.Failures++
	if c.Failures%PromptTries == 0 {
		// This one goes out, and takes the cool-down back if it is approved.
		c.Until = now.Add(PromptPause)
	}
	return c, nil
}
