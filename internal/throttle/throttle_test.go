package throttle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

func TestTenWrongCodesPauseAHundredLock(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	var c Codes
	var err error
	for round := range CodeLimit / CodeTries {
		for n := range CodeTries {
			if c, err = c.Charge(now); err != nil {
				t.Fatalf("attempt %d of round %d: %v", n+1, round+1, err)
			}
		}
		var wait *WaitError
		if _, err = c.Charge(now.Add(CodePause - 1)); !errors.As(err, &wait) {
			t.Fatalf("round %d: judged in the pause", round+1)
		}
		if round < CodeLimit/CodeTries-1 && !wait.Until.Equal(now.Add(CodePause)) {
			t.Fatalf("round %d: until %v", round+1, wait.Until)
		}
		now = now.Add(CodePause)
	}
	var wait *WaitError
	if _, err = c.Charge(now.Add(100 * 365 * 24 * time.Hour)); !errors.As(err, &wait) || !wait.Until.IsZero() || !c.Locked() {
		t.Fatalf("after %d failures: %v", CodeLimit, err)
	}
}

var (
	home   = netip.MustParseAddr("203.0.113.9")
	office = netip.MustParseAddr("198.51.100.7")
)

func fixture() (*Passwords, *store.Memory, context.Context) {
	s := store.NewMemory()
	return NewPasswords(s), s, context.Background()
}

func waits(t *testing.T, err error) time.Duration {
	t.Helper()
	var wait *WaitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wait):
		return time.Until(wait.Until)
	}
	t.Fatal(err)
	return 0
}

func TestWrongPasswordsOfAUserFromAnAddressAreDelayedMoreAndMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, ctx := fixture()
		a := Attempt{User: "alice", Address: home}
		for n := range freeTries {
			if d := waits(t, p.Charge(ctx, a, time.Now())); d != 0 {
				t.Fatalf("attempt %d waits %v", n+1, d)
			}
		}
		for _, want := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900} {
			want *= time.Second
			if d := waits(t, p.Charge(ctx, a, time.Now())); d != want {
				t.Fatalf("waits %v, want %v", d, want)
			}
			// Trying in vain doesn't make it longer.
			if d := waits(t, p.Charge(ctx, a, time.Now())); d != want {
				t.Fatalf("waits %v the second time, want %v", d, want)
			}
			time.Sleep(want)
			if d := waits(t, p.Charge(ctx, a, time.Now())); d != 0 {
				t.Fatalf("waits %v after waiting", d)
			}
		}
	})
}

func TestADelayHoldsForTheAddressAndTheUserOnly(t *testing.T) {
	p, _, ctx := fixture()
	now := time.Now()
	for range freeTries + 1 {
		p.Charge(ctx, Attempt{User: "alice", Address: home}, now) // the last is refused
	}
	if waits(t, p.Charge(ctx, Attempt{User: "alice", Address: home}, now)) == 0 {
		t.Fatal("no delay")
	}
	if d := waits(t, p.Charge(ctx, Attempt{User: "alice", Address: office}, now)); d != 0 {
		t.Fatalf("from another address: %v", d)
	}
	if d := waits(t, p.Charge(ctx, Attempt{User: "bob", Address: home}, now)); d != 0 {
		t.Fatalf("another user: %v", d)
	}
}

func TestAnIPv6NetworkIsOneAddress(t *testing.T) {
	p, _, ctx := fixture()
	now := time.Now()
	var d time.Duration
	for n := range freeTries + 1 {
		d = waits(t, p.Charge(ctx, Attempt{User: "alice", Address: netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", n+1))}, now))
	}
	if d == 0 {
		t.Fatal("each address of a /64 is counted for itself")
	}
	if d := waits(t, p.Charge(ctx, Attempt{User: "alice", Address: netip.MustParseAddr("2001:db8:0:1::1")}, now)); d != 0 {
		t.Fatalf("another /64 waits %v", d)
	}
}

func TestMappedIPv4IsTheSameAddress(t *testing.T) {
	if addressText(netip.MustParseAddr("::ffff:203.0.113.9")) != addressText(home) {
		t.Fatal("::ffff:203.0.113.9 is another address than 203.0.113.9")
	}
}

func TestGuessingFromEverywhereUsesUpTheUsersBudgetAndItFillsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, ctx := fixture()
		from := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
		for n := range int(userLimit.size) {
			if d := waits(t, p.Charge(ctx, Attempt{User: "alice", Address: from(n)}, time.Now())); d != 0 {
				t.Fatalf("attempt %d waits %v", n+1, d)
			}
		}
		d := waits(t, p.Charge(ctx, Attempt{User: "alice", Address: from(999)}, time.Now()))
		if d <= 0 || d > 3*time.Minute {
			t.Fatalf("over the budget: waits %v", d)
		}
		// Never for good, and never from a browser that is his.
		if d := waits(t, p.Charge(ctx, Attempt{User: "alice", Address: from(999), Browser: "b1"}, time.Now())); d != 0 {
			t.Fatalf("the user's own browser waits %v", d)
		}
		time.Sleep(d)
		if d := waits(t, p.Charge(ctx, Attempt{User: "alice", Address: from(999)}, time.Now())); d != 0 {
			t.Fatalf("after waiting: %v", d)
		}
	})
}

func TestSprayingFromOneAddressUsesUpItsBudget(t *testing.T) {
	p, s, ctx := fixture()
	now := time.Now()
	for n := range int(addressLimit.size) {
		if d := waits(t, p.Charge(ctx, Attempt{User: fmt.Sprint("user", n), Address: home}, now)); d != 0 {
			t.Fatalf("attempt %d waits %v", n+1, d)
		}
	}
	over := Attempt{User: "one-more", Address: home}
	if waits(t, p.Charge(ctx, over, now)) == 0 {
		t.Fatal("no bound for an address")
	}
	if records, err := s.List(ctx, p.user(over), ""); err != nil || len(records) != 0 {
		t.Fatalf("a name that was not judged is kept: %v, %v", records, err)
	}
	if d := waits(t, p.Charge(ctx, Attempt{User: "one-more", Address: office}, now)); d != 0 {
		t.Fatalf("another address waits %v", d)
	}
}

func TestARightPasswordTakesItsAttemptBack(t *testing.T) {
	p, _, ctx := fixture()
	now := time.Now()
	a := Attempt{User: "alice", Address: home}
	for range 10 * int(addressLimit.size) {
		if err := p.Charge(ctx, a, now); err != nil {
			t.Fatal(err)
		}
		if err := p.Refund(ctx, a, now); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnAttemptThatWasNotJudgedTakesBackOnlyItself(t *testing.T) {
	for reason, a := range map[string]Attempt{"a new browser": {User: "alice", Address: home}, "a known browser": {User: "alice", Browser: "b"}} {
		p, _, ctx := fixture()
		now := time.Now()
		for range freeTries - 1 {
			if err := p.Charge(ctx, a, now); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 * int(addressLimit.size) { // the server is busy all the time
			if err := errors.Join(p.Charge(ctx, a, now), p.Withdraw(ctx, a, now)); err != nil {
				t.Fatalf("%s: %v", reason, err)
			}
		}
		if err := p.Charge(ctx, a, now); err != nil {
			t.Fatal(err)
		}
		if waits(t, p.Charge(ctx, a, now)) == 0 {
			t.Errorf("%s: the wrong passwords before are forgotten", reason)
		}
	}
}

func TestARightPasswordDoesNotTakeBackWhatStrangersSpent(t *testing.T) {
	p, _, ctx := fixture()
	now := time.Now()
	for n := range int(userLimit.size) - 1 {
		if err := p.Charge(ctx, Attempt{User: "alice", Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})}, now); err != nil {
			t.Fatal(err)
		}
	}
	a := Attempt{User: "alice", Address: home}
	if err := errors.Join(p.Charge(ctx, a, now), p.Refund(ctx, a, now), p.Charge(ctx, a, now)); err != nil {
		t.Fatal(err)
	}
	if waits(t, p.Charge(ctx, Attempt{User: "alice", Address: office}, now)) == 0 {
		t.Fatal("the budget was cleared")
	}
}

func TestManyAtOnceAreCountedOneByOneOverProcesses(t *testing.T) {
	s := store.NewMemory()
	now := time.Now()
	var judged atomic.Int64
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			p := NewPasswords(s) // each its own process
			if waits(t, p.Charge(context.Background(), Attempt{User: "alice", Address: netip.AddrFrom4([4]byte{10, 1, 0, byte(n)})}, now)) == 0 {
				judged.Add(1)
			}
		})
	}
	wg.Wait()
	if judged.Load() != int64(userLimit.size) {
		t.Fatalf("%d attempts are judged, the budget has %v", judged.Load(), userLimit.size)
	}
}

func TestUnlockForgetsEverything(t *testing.T) {
	p, s, ctx := fixture()
	now := time.Now()
	for n := range 40 {
		p.Charge(ctx, Attempt{User: "alice", Address: netip.AddrFrom4([4]byte{10, 0, byte(n / 8), 1})}, now) // some are refused
	}
	p.Charge(ctx, Attempt{User: "alice", Browser: "b1"}, now)
	if err := p.Unlock(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	if records, err := s.List(ctx, p.user(Attempt{User: "alice"}), ""); err != nil || len(records) != 0 {
		t.Fatalf("%v, %v", records, err)
	}
	if err := p.Unlock(ctx, "nobody"); err != nil {
		t.Fatal(err)
	}
}

func TestAnUnavailableStoreIsNoPermission(t *testing.T) {
	p, s, ctx := fixture()
	s.Close()
	for _, a := range []Attempt{{User: "alice", Address: home}, {User: "alice", Browser: "b1"}} {
		if err := p.Charge(ctx, a, time.Now()); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("%+v: %v", a, err)
		}
	}
}

func TestNamesAreNotKept(t *testing.T) {
	if p := NewPasswords(store.NewMemory()).user(Attempt{User: "hunter2-typed-into-the-wrong-field"}); len(p) != len("throttle/user/")+32 {
		t.Fatal(p)
	}
}

func TestRetryAfterIsAtLeastASecond(t *testing.T) {
	now := time.Unix(1000, 0)
	for reason, tc := range map[string]struct {
		until time.Time
		want  int
	}{
		"a moment":       {now.Add(time.Millisecond), 1},
		"past":           {now.Add(-time.Hour), 1},
		"a bit over":     {now.Add(2*time.Second + 1), 3},
		"until unlocked": {time.Time{}, 900},
	} {
		if got := (&WaitError{Until: tc.until}).RetryAfter(now); got != tc.want {
			t.Errorf("%s: %d, want %d", reason, got, tc.want)
		}
	}
}

// farStore is at the other end of a network.
type farStore struct{ store.Store }

func (s farStore) Get(ctx context.Context, partition string, keys ...string) ([]store.Record, error) {
	time.Sleep(time.Millisecond)
	return s.Store.Get(ctx, partition, keys...)
}

func TestAnAddressThatIsUsedUpTakesNothingFromEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ctx, now := NewPasswords(farStore{store.NewMemory()}), t.Context(), time.Now()
		var judged, refused atomic.Int64
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := range 300 {
					var wait *WaitError
					switch err := p.Charge(ctx, Attempt{User: fmt.Sprint("x", worker, "-", i), Address: home}, now); {
					case err == nil:
						judged.Add(1)
					case errors.As(err, &wait) && wait.Scope == "address":
						refused.Add(1)
					default:
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if judged.Load() != int64(addressLimit.size) {
			t.Errorf("%d are judged, %d refused", judged.Load(), refused.Load())
		}
		records, err := p.store.Get(ctx, "throttle/total", budgetKey)
		if err != nil {
			t.Fatal(err)
		}
		var total budget
		if err := decode(records[0], &total); err != nil || int(total.Spent+0.5) != int(addressLimit.size) {
			t.Errorf("%v of the total are spent, %v", total.Spent, err)
		}
	})
}

func TestWrongKeysUseUpNothingOfThePasswords(t *testing.T) {
	s := store.NewMemory()
	keys, passwords := NewKeys(s), NewPasswords(s)
	a := Attempt{User: "alice", Address: netip.MustParseAddr("192.0.2.1")}
	var wait *WaitError
	for range 10 {
		if err := keys.Charge(context.Background(), a, time.Now()); err != nil && !errors.As(err, &wait) {
			t.Fatal(err)
		}
	}
	if wait == nil {
		t.Fatal("ten wrong keys are not throttled")
	}
	if err := passwords.Charge(context.Background(), a, time.Now()); err != nil {
		t.Fatalf("a mail program has locked its owner out: %v", err)
	}
	if err := keys.Unlock(context.Background(), "alice"); err != nil {
		t.Fatal(err)
	}
	if err := keys.Charge(context.Background(), a, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestStrangersCannotKeepAKeyThatTheyDoNotKnowFromBeingJudged(t *testing.T) {
	keys := NewKeys(store.NewMemory())
	a := Attempt{User: "alice", Address: netip.MustParseAddr("192.0.2.1")}
	var wait *WaitError
	for range 10 {
		if err := keys.Charge(context.Background(), a, time.Now()); err != nil && !errors.As(err, &wait) {
			t.Fatal(err)
		}
	}
	a.Key = "k1"
	for range freeTries {
		if err := keys.Charge(context.Background(), a, time.Now()); err != nil {
			t.Fatalf("%v, after %v", err, wait)
		}
	}
	if err := keys.Charge(context.Background(), a, time.Now()); !errors.As(err, &wait) {
		t.Fatalf("guesses at the secret of one key are not throttled: %v", err)
	}
	a.Address = netip.MustParseAddr("192.0.2.2")
	if err := keys.Charge(context.Background(), a, time.Now()); err != nil {
		t.Fatalf("who guesses elsewhere has locked the key here: %v", err)
	}
}
