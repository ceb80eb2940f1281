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
		{"news", block, true},
		{"news", allow, true}, // for the first time, too
		{"news", allow, false},
	} {
		if _, got := v.Changed(s, step.application, &step.decision, ""); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	pending := &mfa.Session{ID: "2", Pending: true}
	if _, told := v.Changed(pending, "hr", &policy.Decision{Action: policy.Verify, Reason: policy.MFARequired}, ""); told {
		t.Error("a sign-in that is under way tells of itself when it ends")
	}
	if _, told := v.Changed(pending, "hr", &block, ""); !told {
		t.Error("a sign-in that was refused has come to its end")
	}
}

// Who is refused again and again reads the reference of the one record that stands in the log.
func TestARefusalHasTheReferenceThatTheLogHas(t *testing.T) {
	v := NewVerdicts()
	s := &mfa.Session{ID: "1"}
	block := policy.Decision{Action: policy.Block, Reason: policy.PolicyBlocks, Policy: &policy.Policy{Name: "one"}}
	other := policy.Decision{Action: policy.Block, Reason: policy.DeviceNotCompliant, Policy: &policy.Policy{Name: "one"}}
	allow := policy.Decision{Action: policy.Allow}
	for i, step := range []struct {
		decision        policy.Decision
		reference, want string
	}{
		{block, "a", "a"}, {block, "b", "a"}, {block, "c", "a"}, {other, "d", "d"}, {other, "e", "d"}, {allow, "f", "f"}, {block, "g", "g"},
	} {
		if got, _ := v.Changed(s, "hr", &step.decision, step.reference); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
}
