package throttle

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

var plenty = MessageLimits{User: 1000, Number: 1000, Prefix: 1000, Total: 1000}

func person(n int) mfa.UserID { return mfa.UserID{Directory: "file", ID: fmt.Sprint("user", n)} }

func TestAnotherMessageMayBeAskedForAfterAPauseThatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMessages(store.NewMemory(), plenty)
		ask := func() time.Duration {
			_, err := m.Charge(t.Context(), person(1), mfa.SMS, "+31612345678", "", time.Now())
			return waits(t, err)
		}
		for i, pause := range []time.Duration{30 * time.Second, 60 * time.Second, 120 * time.Second, 120 * time.Second} {
			if wait := ask(); wait != 0 {
				t.Fatalf("message %d waits for %v", i+1, wait)
			}
			if wait := ask(); wait != pause {
				t.Fatalf("after message %d: wait %v, want %v", i+1, wait, pause)
			}
			time.Sleep(pause - 1)
			if wait := ask(); wait != 1 {
				t.Fatalf("after message %d, a moment too early: wait %v", i+1, wait)
			}
			time.Sleep(time.Nanosecond)
		}
		if again, err := m.Charge(t.Context(), person(1), mfa.Voice, "+31612345678", "", time.Now()); err != nil || time.Until(again) != 30*time.Second {
			t.Errorf("a call in place of the message: again at %v, %v", again, err)
		}
		if again, err := m.Charge(t.Context(), person(2), mfa.SMS, "+31612345678", "", time.Now()); err != nil || time.Until(again) != 30*time.Second {
			t.Errorf("somebody else: again at %v, %v", again, err)
		}
		ask()
		if err := m.Arrived(t.Context(), person(1), mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		if wait := ask(); wait != 0 {
			t.Errorf("after a right code he waits for %v", wait)
		}
	})
}

func TestMessagesAreCapped(t *testing.T) {
	for name, test := range map[string]struct {
		limits MessageLimits
		user   func(n int) mfa.UserID
		to     func(n int) string
		want   int
		scope  string
	}{
		"to a user": {
			MessageLimits{User: 3, Number: 9, Prefix: 9, Total: 9}, func(int) mfa.UserID { return person(1) },
			func(n int) string { return fmt.Sprintf("+3161234%04d", n) }, 3, "messages to the user",
		},
		"to a number, whoever asks": {
			MessageLimits{User: 9, Number: 3, Prefix: 9, Total: 9}, person, func(int) string { return "+31612345678" }, 3, "messages to the number",
		},
		"to numbers that begin alike": {
			MessageLimits{User: 9, Number: 9, Prefix: 3, Total: 9}, person, func(n int) string { return fmt.Sprintf("+8816%07d", n) }, 3, "messages to the prefix",
		},
		"to mail addresses, which have no prefix": {
			MessageLimits{User: 9, Number: 9, Prefix: 3, Total: 5}, person, func(n int) string { return fmt.Sprintf("user%d@example.com", n) }, 5, "messages in total",
		},
		"in total": {
			MessageLimits{User: 9, Number: 9, Prefix: 9, Total: 3}, person, func(n int) string { return fmt.Sprintf("+%d0612345678", 31+n%3) }, 3, "messages in total",
		},
		"without limits nothing is sent": {
			MessageLimits{}, person, func(n int) string { return "+31612345678" }, 0, "messages to the user",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := store.NewMemory()
				m := NewMessages(s, test.limits)
				began := time.Now()
				round := func(first int) (sent int) {
					for n := range 8 {
						_, err := m.Charge(t.Context(), test.user(first+n), mfa.SMS, test.to(n), "", time.Now())
						var wait *WaitError
						switch {
						case err == nil:
							sent++
						case !errors.As(err, &wait) || wait.Scope != test.scope:
							t.Fatalf("message %d: %v, want %q", n+1, err, test.scope)
						case test.want > 0 && !wait.Until.Equal(began.Add(24*time.Hour)):
							t.Fatalf("message %d waits until %v", n+1, wait.Until)
						}
						time.Sleep(2 * time.Minute)
					}
					return sent
				}
				if sent := round(0); sent != test.want {
					t.Errorf("%d were sent, want %d", sent, test.want)
				}
				time.Sleep(23 * time.Hour)
				if sent := round(0); sent != 0 {
					t.Errorf("%d more were sent within the day", sent)
				}
				time.Sleep(time.Hour)
				began = time.Now()
				if sent := round(8); sent != test.want {
					t.Errorf("%d were sent the day after, want %d", sent, test.want)
				}
			})
		})
	}
}

func TestOfManyWhoAskAtOnceOneGetsThrough(t *testing.T) {
	m, now := NewMessages(store.NewMemory(), plenty), time.Now()
	var sent atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			var wait *WaitError
			switch _, err := m.Charge(t.Context(), person(1), mfa.SMS, "+31612345678", "", now); {
			case err == nil:
				sent.Add(1)
			case !errors.As(err, &wait) || wait.Scope != ScopePace:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if sent.Load() != 1 {
		t.Errorf("%d messages were sent", sent.Load())
	}
}

func TestTheTotalHoldsForManyAtOnce(t *testing.T) {
	m, now := NewMessages(store.NewMemory(), MessageLimits{User: 9, Number: 9, Prefix: 99, Total: 20}), time.Now()
	var sent atomic.Int64
	var wg sync.WaitGroup
	for n := range 60 {
		wg.Go(func() {
			if _, err := m.Charge(t.Context(), person(n), mfa.SMS, fmt.Sprintf("+3161234%04d", n), "", now); err == nil {
				sent.Add(1)
			}
		})
	}
	wg.Wait()
	if sent.Load() != 20 {
		t.Errorf("%d messages were sent, of at most 20", sent.Load())
	}
}

func TestStopIsForEverybodyAndTakesNothing(t *testing.T) {
	s, now := store.NewMemory(), time.Now()
	m, other := NewMessages(s, plenty), NewMessages(s, MessageLimits{User: 1, Number: 1, Prefix: 1, Total: 1})
	if err := m.Stop(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Charge(t.Context(), person(1), mfa.SMS, "+31612345678", "", now); !errors.Is(err, ErrStopped) {
		t.Fatalf("stopped, and sends: %v", err)
	}
	if err := m.Stop(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Charge(t.Context(), person(1), mfa.SMS, "+31612345678", "", now); err != nil {
		t.Errorf("not stopped any more: %v", err)
	}
}

func TestNumbersDoNotStandInKeys(t *testing.T) {
	m := NewMessages(store.NewMemory(), plenty)
	for _, q := range m.shared("+31612345678", "") {
		if strings.Contains(q.partition, "12345678") {
			t.Errorf("the key %s holds the number", q.partition)
		}
	}
}

func TestForgetIsForOnePerson(t *testing.T) {
	m, now := NewMessages(store.NewMemory(), MessageLimits{User: 1, Number: 9, Prefix: 9, Total: 9}), time.Now()
	for n := range 2 {
		if _, err := m.Charge(t.Context(), person(n), mfa.SMS, "+31612345678", "", now); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Forget(t.Context(), person(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Charge(t.Context(), person(0), mfa.SMS, "+31612345678", "", now); err != nil {
		t.Errorf("forgotten, and %v", err)
	}
	if _, err := m.Charge(t.Context(), person(1), mfa.SMS, "+31612345678", "", now); err == nil {
		t.Error("somebody else's was forgotten too")
	}
	if use, err := m.Use(t.Context(), now.Add(time.Hour)); err != nil || use.Sent != 3 || use.Total != 9 || !use.Since.Equal(now) || use.Stopped {
		t.Errorf("%+v, %v", use, err)
	}
	if err := m.Stop(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if use, err := m.Use(t.Context(), now.Add(25*time.Hour)); err != nil || use.Sent != 0 || !use.Since.IsZero() || !use.Stopped {
		t.Errorf("the day after: %+v, %v", use, err)
	}
}

func TestStrangersDoNotUseUpWhatIsKeptForAKnownBrowser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const number = "+31612345678"
		for name, limits := range map[string]MessageLimits{"user": {User: 10, Number: 99, Prefix: 99, Total: 99}, "number": {User: 99, Number: 10, Prefix: 99, Total: 99}} {
			m := NewMessages(store.NewMemory(), limits)
			ask := func(lane string) error {
				_, err := m.Charge(t.Context(), person(1), mfa.SMS, number, lane, time.Now())
				return err
			}
			sent := 0
			for range 20 {
				if ask("") == nil {
					sent++
				}
				time.Sleep(2 * time.Minute)
			}
			if sent != 8 {
				t.Errorf("%s: strangers had %d sent", name, sent)
			}
			for range 2 {
				if err := ask("known"); err != nil {
					t.Errorf("%s: in a known browser: %v", name, err)
				}
				time.Sleep(2 * time.Minute)
			}
			if waits(t, ask("known")) == 0 {
				t.Errorf("%s: there is no end in a known browser", name)
			}
		}
	})
}

// TestMailsAboutChangesAreCountedApart has both kinds of messages run into their limits: neither takes anything from the other.
func TestMailsAboutChangesAreCountedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMessages(store.NewMemory(), MessageLimits{User: 2, Number: 3, Prefix: 1, Total: 4})
		tell := func(n int, to string) (int, string) {
			left, err := m.ChargeNotice(t.Context(), person(n), to, time.Now())
			var wait *WaitError
			switch {
			case errors.As(err, &wait):
				return left, wait.Scope
			case errors.Is(err, ErrStopped):
				return left, "stopped"
			case err != nil:
				t.Fatal(err)
			}
			return left, ""
		}
		for i, want := range []struct {
			user  int
			to    string
			left  int
			scope string
		}{
			{1, "a@example.com", 1, ""}, {1, "a@example.com", 0, ""}, {1, "a@example.com", 0, "messages to the user"},
			{2, "a@example.com", 1, ""}, {2, "a@example.com", 0, "messages to the number"},
			{3, "b@example.com", 1, ""}, {4, "b@example.com", 0, "messages in total"},
		} {
			if left, scope := tell(want.user, want.to); left != want.left || scope != want.scope {
				t.Errorf("mail %d: %d left, %q, want %d and %q", i+1, left, scope, want.left, want.scope)
			}
		}
		if _, err := m.Charge(t.Context(), person(1), mfa.Email, "a@example.com", "known", time.Now()); err != nil {
			t.Errorf("a code after all these: %v", err)
		}
		if use, err := m.Use(t.Context(), time.Now()); err != nil || use.Sent != 1 {
			t.Errorf("they count among codes: %+v, %v", use, err)
		}
		time.Sleep(24 * time.Hour)
		if left, scope := tell(1, "a@example.com"); left != 1 || scope != "" {
			t.Errorf("the day after: %d left, %q", left, scope)
		}
		tell(1, "a@example.com")
		if err := m.Forget(t.Context(), person(1)); err != nil {
			t.Fatal(err)
		}
		if left, scope := tell(1, "b@example.com"); left != 1 || scope != "" {
			t.Errorf("after unlocking: %d left, %q", left, scope)
		}
		if err := m.Stop(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if _, scope := tell(5, "c@example.com"); scope != "stopped" {
			t.Errorf("stopped: %q", scope)
		}
	})
}
