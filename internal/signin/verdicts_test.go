package signin

import (
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

func TestAVerdictIsToldOfWhenItChanges(t *testing.T) {
	v := NewVerdicts()
	s := &mfa.Session{ID: "1", Applications: []string{"hr"}}
	allow := policy.Decision{Action: policy.Allow}
	block := policy.Decision{Action: policy.Block, Reason: policy.PolicyBlocks, Policy: &policy.Policy{Name: "one"}}
	other := policy.Decision{Action: policy.Block, Reason: policy.PolicyBlocks, Policy: &policy.Policy{Name: "two"}}
	same := policy.Decision{Action: policy.Block, Reason: policy.PolicyBlocks, Policy: &policy.Policy{Name: "one"}} // of a configuration that was loaded again
	for i, step := range []struct {
		application string
		decision    policy.Decision
		want        bool
	}{
		{"hr", allow, false}, // it has been there before
		{"wiki", allow, true},
		{"wiki", allow, false},
		{"hr", block, true},
		{"hr", block, false},
		{"hr", same, false},
		{"wiki", allow, false},
		{"hr", other, true},
		{"hr", allow, true},
		{"hr", allow, false},
		{"hr", policy.Decision{Action: policy.Verify, Reason: policy.MFARequired}, true},
	} {
		if got := v.Changed(s, step.application, &step.decision); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	if v.Changed(&mfa.Session{ID: "2", Pending: true}, "hr", &block) {
		t.Error("a sign-in that is under way tells of itself when it ends")
	}
}
