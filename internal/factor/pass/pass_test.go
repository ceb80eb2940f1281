package pass

import (
	"errors"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func TestPass(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	once, pass, err := New(now, time.Time{}, time.Hour, true)
	if err != nil {
		t.Fatal(err)
	}
	used, err := Factor{}.Finish([]mfa.Credential{once}, pass, now)
	if err != nil || !used.LastUsed.Equal(now) {
		t.Fatalf("Finish: %v", err)
	}
	many, manyPass, err := New(now, time.Time{}, time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	manyUsed, err := Factor{}.Finish([]mfa.Credential{many}, manyPass, now)
	if err != nil {
		t.Fatal(err)
	}

	later, laterPass, err := New(now, now.Add(24*time.Hour), time.Hour, true)
	if err != nil || !later.Added.Equal(now) {
		t.Fatalf("added %v, %v", later.Added, err)
	}

	for reason, tc := range map[string]struct {
		c    mfa.Credential
		pass string
		at   time.Duration
		want error
	}{
		"in its last moment":           {once, pass, time.Hour - 1, nil},
		"at its end":                   {once, pass, time.Hour, mfa.ErrWrong},
		"before it was made":           {once, pass, -1, mfa.ErrWrong},
		"one-time pass again":          {used, pass, 0, mfa.ErrWrong},
		"pass for many sign-ins again": {manyUsed, manyPass, 0, nil},
		"when it was made, not begun":  {later, laterPass, 0, mfa.ErrWrong},
		"just before it begins":        {later, laterPass, 24*time.Hour - 1, mfa.ErrWrong},
		"when it begins":               {later, laterPass, 24 * time.Hour, nil},
		"at the end of what has begun": {later, laterPass, 25*time.Hour - 1, nil},
		"after what had begun":         {later, laterPass, 25 * time.Hour, mfa.ErrWrong},
		"another pass":                 {once, manyPass, 0, mfa.ErrWrong},
		"empty":                        {once, "", 0, mfa.ErrWrong},
		"zero data":                    {mfa.Credential{Method: mfa.TemporaryAccessPass, Data: []byte("{}"), Expires: now.Add(time.Hour)}, "", 0, mfa.ErrWrong},
	} {
		if _, err := (Factor{}).Finish([]mfa.Credential{tc.c}, tc.pass, now.Add(tc.at)); !errors.Is(err, tc.want) {
			t.Errorf("%s: err = %v, want %v", reason, err, tc.want)
		}
		if usable := Usable(tc.c, now.Add(tc.at)); tc.want == nil && !usable || usable && tc.pass == laterPass && tc.want != nil {
			t.Errorf("%s: usable %v", reason, usable)
		}
	}
}

func TestLifetimeIsBounded(t *testing.T) {
	for _, lifetime := range []time.Duration{0, -time.Hour, MinLifetime - 1, MaxLifetime + 1} {
		if _, _, err := New(time.Unix(0, 0), time.Time{}, lifetime, true); err == nil {
			t.Errorf("a pass for %v", lifetime)
		}
	}
}

func TestTheStartIsBounded(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	if _, _, err := New(now, now.Add(MaxAhead+1), time.Hour, true); err == nil {
		t.Error("a pass that begins too far ahead")
	}
	for reason, start := range map[string]time.Time{"none": {}, "now": now, "in the past": now.Add(-time.Hour)} {
		if c, _, err := New(now, start, time.Hour, true); err != nil || !c.Starts.IsZero() || !c.Expires.Equal(now.Add(time.Hour)) {
			t.Errorf("%s: from %v to %v, %v", reason, c.Starts, c.Expires, err)
		}
	}
	if c, _, err := New(now, now.Add(MaxAhead), MaxLifetime, true); err != nil || !c.Expires.Equal(now.Add(MaxAhead+MaxLifetime)) {
		t.Errorf("as far and as long as can be: to %v, %v", c.Expires, err)
	}
}
