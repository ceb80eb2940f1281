package recovery

import (
	"errors"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func TestEachCodeWorksOnce(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	c, codes, err := New(now)
	if err != nil || len(codes) != Count {
		t.Fatalf("New: %d codes, %v", len(codes), err)
	}
	for i, code := range codes {
		used, err := Factor{}.Finish([]mfa.Credential{c}, code, now)
		if err != nil {
			t.Fatalf("code %d: %v", i, err)
		}
		if left, err := Left(used); err != nil || left != Count-i-1 || !used.LastUsed.Equal(now) {
			t.Fatalf("after code %d: %d left, used %v, %v", i, left, used.LastUsed, err)
		}
		if _, err := (Factor{}).Finish([]mfa.Credential{used}, code, now); !errors.Is(err, mfa.ErrWrong) {
			t.Fatalf("code %d again: %v", i, err)
		}
		c = used
	}
}

func TestWhatIsRefused(t *testing.T) {
	c, _, err := New(time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for reason, creds := range map[string][]mfa.Credential{
		"no list":       nil,
		"another code":  {c},
		"an empty list": {{Data: []byte("{}")}},
		"a zero digest": {{Data: []byte(`{"left":[{}]}`)}},
	} {
		for _, answer := range []string{"", "0000-0000-0000"} {
			if _, err := (Factor{}).Finish(creds, answer, time.Unix(0, 0)); !errors.Is(err, mfa.ErrWrong) {
				t.Errorf("%s, %q: %v", reason, answer, err)
			}
		}
	}
	if _, err := (Factor{}).Finish([]mfa.Credential{{Data: []byte("torn")}}, "0000-0000-0000", time.Unix(0, 0)); err == nil || errors.Is(err, mfa.ErrWrong) {
		t.Errorf("a list that can't be read is a fault, not a wrong code: %v", err)
	}
}
