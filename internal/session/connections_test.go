package session

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// guard runs a register over a manager, as the app does.
func guard(t *testing.T, f *fixture) (*Connections, func()) {
	c := NewConnections()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		c.Run(ctx, []store.Store{f.store}, func(ctx context.Context, conn *Connection, now time.Time) bool {
			_, err := f.Again(ctx, conn.Current, now)
			return err == nil
		})
	})
	return c, func() { stop(); wg.Wait() }
}

func TestOpenConnectionsEndWithTheirSession(t *testing.T) {
	for reason, tc := range map[string]struct {
		end    func(f *fixture, c Current)
		within time.Duration
	}{
		"sign-out, told at once": {func(f *fixture, c Current) {
			if err := f.End(f.ctx, alice.ID, c.Session.ID); err != nil {
				f.t.Error(err)
			}
		}, time.Second + freshInterval},
		"absolute end":  {func(*fixture, Current) { time.Sleep(12 * time.Hour) }, time.Second + freshInterval},
		"no activity":   {func(*fixture, Current) { time.Sleep(time.Hour) }, time.Second + freshInterval},
		"store cut off": {func(f *fixture, _ Current) { f.store.down.Store(true); f.store.stale.Store(true) }, 2 * freshInterval},
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				register, stop := guard(t, f)
				defer stop()
				current, _ := f.begin(alice, false)
				others, _ := f.begin(bob, false)
				ctx := register.Open(f.ctx, current, Subject{})
				defer ctx.Close()
				bobs := register.Open(f.ctx, others, Subject{})
				defer bobs.Close()
				time.Sleep(10 * time.Second)
				if ctx.Err() != nil {
					t.Fatal("ended without a reason")
				}
				tc.end(f, current)
				time.Sleep(tc.within)
				synctest.Wait()
				if !errors.Is(context.Cause(ctx), ErrEnded) {
					t.Fatalf("still open after %v: %v", tc.within, context.Cause(ctx))
				}
				if reason == "sign-out, told at once" && bobs.Err() != nil {
					t.Fatal("another user's connection has ended too")
				}
			})
		})
	}
}

func TestRecheckDoesNotWaitForTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		register, stop := guard(t, f)
		defer stop()
		current, _ := f.begin(alice, false)
		ctx := register.Open(f.ctx, current, Subject{})
		defer ctx.Close()
		if err := f.End(f.ctx, alice.ID, current.Session.ID); err != nil {
			t.Fatal(err)
		}
		register.Recheck(alice.ID)
		synctest.Wait() // without a moment of time going by
		if ctx.Err() == nil {
			t.Fatal("still open")
		}
	})
}

// A store that is frozen gives no error: every question to it hangs until patience is at an end.
func TestAFrozenStoreEndsEveryConnectionHoweverManyThereAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		register, stop := guard(t, f)
		defer stop()
		var open []*Connection
		for range 100 {
			current, _ := f.begin(alice, false)
			open = append(open, register.Open(f.ctx, current, Subject{}))
		}
		time.Sleep(10 * time.Second)
		f.store.frozen.Store(true)
		f.store.stale.Store(true)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for i, conn := range open {
			if !errors.Is(context.Cause(conn), ErrEnded) {
				t.Errorf("connection %d is still open", i)
			}
			conn.Close()
		}
	})
}

func TestAStoreThatTellsNothingButAnswersKeepsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		register, stop := guard(t, f)
		defer stop()
		current, _ := f.begin(alice, false)
		ctx := register.Open(f.ctx, current, Subject{})
		defer ctx.Close()
		f.store.stale.Store(true)
		time.Sleep(time.Minute)
		if ctx.Err() != nil {
			t.Fatal("ended although the store answers")
		}
		if err := f.End(f.ctx, alice.ID, current.Session.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if ctx.Err() == nil {
			t.Fatal("still open after sign-out")
		}
	})
}

func TestClosedConnectionsAreForgotten(t *testing.T) {
	register := NewConnections()
	f := newFixture(t)
	current, _ := f.begin(alice, false)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			conn := register.Open(f.ctx, current, Subject{})
			register.Recheck(mfa.UserID{})
			conn.Close()
		})
	}
	wg.Wait()
	if n := register.Len(); n != 0 {
		t.Fatalf("%d are left", n)
	}
}

func BenchmarkOpenClose(b *testing.B) {
	register := NewConnections()
	f := newFixture(b)
	current, _ := f.begin(alice, false)
	b.ReportAllocs()
	for b.Loop() {
		conn := register.Open(f.ctx, current, Subject{})
		conn.Close()
	}
}

func TestEndAllEndsConnectionsThatNobodyWillJudge(t *testing.T) {
	f := newFixture(t)
	register := NewConnections()
	var open []*Connection
	for _, user := range []*mfa.User{alice, bob} {
		current, _ := f.begin(user, false)
		open = append(open, register.Open(f.ctx, current, Subject{}))
	}
	// While everything ends, requests are still being let in.
	var wg sync.WaitGroup
	late := make([]*Connection, 50)
	for i := range late {
		wg.Go(func() { late[i] = register.Open(f.ctx, open[0].Current, Subject{}) })
	}
	register.EndAll()
	wg.Wait()
	for _, conn := range append(open, late...) {
		if !errors.Is(context.Cause(conn), ErrEnded) {
			t.Fatalf("still open: %v", context.Cause(conn))
		}
		conn.Close()
	}
	if n := register.Len(); n != 0 {
		t.Errorf("%d connections are registered", n)
	}
}
