package session

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

var (
	alice = &mfa.User{ID: mfa.UserID{Directory: "file", ID: "7f1c"}, Name: "Alice", Canonical: "alice", Mark: "m1"}
	bob   = &mfa.User{ID: mfa.UserID{Directory: "file", ID: "bob"}, Name: "bob", Canonical: "bob", Mark: "m2"}
)

const host = "hr.example.com"

// countingStore counts the operations on a store, and can be frozen in whether it tells of changes.
type countingStore struct {
	store.Store
	reads, writes atomic.Int64
	stale         atomic.Bool
	down          atomic.Bool
	frozen        atomic.Bool
}

func (s *countingStore) Get(ctx context.Context, p string, keys ...string) ([]store.Record, error) {
	s.reads.Add(1)
	if err := s.fault(ctx); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, p, keys...)
}

func (s *countingStore) List(ctx context.Context, p, prefix string) ([]store.Record, error) {
	s.reads.Add(1)
	if err := s.fault(ctx); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, p, prefix)
}

func (s *countingStore) Commit(ctx context.Context, c store.Commit) ([]store.Version, error) {
	if err := s.fault(ctx); err != nil {
		return nil, err
	}
	versions, err := s.Store.Commit(ctx, c)
	if err == nil {
		s.writes.Add(1)
	}
	return versions, err
}

// fault is how the store fails at the moment.
func (s *countingStore) fault(ctx context.Context) error {
	if s.frozen.Load() {
		select {
		case <-ctx.Done():
		case <-time.After(800 * time.Millisecond):
		}
		return store.ErrUnavailable
	}
	if s.down.Load() {
		return store.ErrUnavailable
	}
	return nil
}

func (s *countingStore) Fresh() bool { return !s.stale.Load() && s.Store.Fresh() }

func (s *countingStore) Ping(ctx context.Context) error {
	if err := s.fault(ctx); err != nil {
		return err
	}
	return s.Store.Ping(ctx)
}

type fixture struct {
	t     testing.TB
	ctx   context.Context
	store *countingStore
	keys  *seal.Keyring
	*Manager
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	s := &countingStore{Store: store.NewMemory()}
	f := &fixture{t: t, ctx: context.Background(), store: s, keys: keys}
	f.Manager = f.node()
	return f
}

// node is another process that shares the store.
func (f *fixture) node() *Manager {
	return NewManager(f.store, NewView(f.store), NewCodec(f.keys), Settings{Idle: time.Hour, Lifetime: 12 * time.Hour, Cache: 30 * time.Second})
}

func (f *fixture) begin(u *mfa.User, pending bool) (Current, string) {
	f.t.Helper()
	now := time.Now()
	c, cookie, err := f.Begin(f.ctx, Beginning{
		User: u, Host: host, Proofs: mfa.Proofs{{Method: mfa.Password, At: now}}, Pending: pending,
		Address: netip.MustParseAddr("203.0.113.9"), UserAgent: "Firefox",
	}, now)
	if err != nil {
		f.t.Fatal(err)
	}
	return c, cookie
}

func (f *fixture) load(cookie string) (Current, error) {
	return f.Load(f.ctx, cookie, host, time.Now())
}

func (f *fixture) wantEnded(what, cookie string) {
	f.t.Helper()
	if _, err := f.load(cookie); !errors.Is(err, ErrEnded) {
		f.t.Fatalf("%s: %v, want ErrEnded", what, err)
	}
}

func (f *fixture) wantLive(what, cookie string) Current {
	f.t.Helper()
	c, err := f.load(cookie)
	if err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
	return c
}

func addCode(s *mfa.Session) error {
	s.Proofs = s.Proofs.With(mfa.Proof{Method: mfa.TOTP, At: time.Now()})
	s.Pending = false
	return nil
}

func TestSessionIsLoadedAsItWasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, cookie := f.begin(alice, false)
		s := f.wantLive("just begun", cookie).Session
		if s.User != alice.ID || s.Name != "alice" || s.Host != host || s.Mark != "m1" || !s.Proofs.Has(mfa.Password) || s.UserAgent != "Firefox" {
			t.Fatalf("%+v", s)
		}
	})
}

func TestPendingSignInLastsTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, cookie := f.begin(alice, true)
		time.Sleep(10*time.Minute - time.Second)
		f.wantLive("before ten minutes", cookie)
		time.Sleep(time.Second)
		f.wantEnded("after ten minutes", cookie)
	})
}

func TestElevationGivesAFullLifeAndANewToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		before, old := f.begin(alice, true)
		_, fresh, err := f.Elevate(f.ctx, before, time.Now(), addCode)
		if err != nil {
			t.Fatal(err)
		}
		if c := f.wantLive("new token", fresh); !c.Proofs.Has(mfa.TOTP) || !c.Latest() {
			t.Fatalf("new token: %+v", c.Proofs)
		}
		// The old token is good for what it was good for, and for that only.
		if c := f.wantLive("old token", old); c.Proofs.Has(mfa.TOTP) || c.Latest() {
			t.Fatalf("old token: %+v", c.Proofs)
		}
		time.Sleep(10 * time.Second)
		f.wantEnded("old token after ten seconds", old)
		time.Sleep(30 * time.Minute)
		f.wantLive("after a pending sign-in would have ended", fresh)
	})
}

func TestOnlyTheNewestTokenIsElevated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		before, _ := f.begin(alice, true)
		if _, _, err := f.Elevate(f.ctx, before, time.Now(), addCode); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Elevate(f.ctx, before, time.Now(), addCode); !errors.Is(err, ErrEnded) {
			t.Fatalf("an old token is elevated: %v", err)
		}
	})
}

func TestParallelElevationsGiveOneToken(t *testing.T) {
	f := newFixture(t)
	before, _ := f.begin(alice, true)
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			switch _, _, err := f.Elevate(f.ctx, before, time.Now(), addCode); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, ErrEnded):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d elevations with one token", won.Load())
	}
}

func TestIdleAndAbsoluteEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, cookie := f.begin(alice, false)
		for range 11 {
			time.Sleep(59 * time.Minute)
			f.Touch(f.wantLive("within idle time", cookie), "hr", time.Now())
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		f.wantEnded("an hour without activity", cookie)

		_, cookie = f.begin(alice, false)
		for range 14 {
			time.Sleep(50 * time.Minute)
			f.Touch(f.wantLive("used every 50 minutes", cookie), "hr", time.Now())
			synctest.Wait()
		}
		time.Sleep(20 * time.Minute)
		f.wantEnded("twelve hours after sign-in, in full use", cookie)
	})
}

// Somebody was refused where he was, goes where he is let in, and works on. He must not be signed out ten minutes after the refusal.
func TestWhoIsLetInAfterAllStaysAsLongAsOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, refused := f.begin(alice, true)
		_, forgotten := f.begin(alice, true)
		time.Sleep(5 * time.Minute)
		f.Touch(f.wantLive("still refused", refused), "hr", time.Now())
		synctest.Wait()
		if s := f.wantLive("let in", refused).Session; s.Pending || !s.Expires.Equal(s.Created.Add(12*time.Hour)) {
			t.Fatalf("pending %v, ends %v after it began", s.Pending, s.Expires.Sub(s.Created))
		}
		time.Sleep(50 * time.Minute)
		f.wantLive("an hour later", refused)
		f.wantEnded("never let in", forgotten)
	})
}

func TestActivityIsWrittenOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, cookie := f.begin(alice, false)
		f.Touch(f.wantLive("", cookie), "hr", time.Now()) // enters the application
		synctest.Wait()
		writes := f.store.writes.Load()
		for range 600 { // ten minutes, a request each second
			time.Sleep(time.Second)
			f.Touch(f.wantLive("", cookie), "hr", time.Now())
			synctest.Wait()
		}
		if n := f.store.writes.Load() - writes; n < 9 || n > 10 {
			t.Fatalf("%d writes in ten minutes", n)
		}
	})
}

func TestParallelRequestsWriteActivityOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, cookie := f.begin(alice, false)
		time.Sleep(2 * time.Minute)
		writes := f.store.writes.Load()
		for range 100 {
			go func() { f.Touch(f.wantLive("", cookie), "hr", time.Now()) }()
		}
		synctest.Wait()
		if n := f.store.writes.Load() - writes; n != 1 {
			t.Fatalf("%d writes", n)
		}
	})
}

func TestActivityOnAnotherNodeCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		other := f.node()
		_, cookie := f.begin(alice, false)
		f.wantLive("kept in memory here", cookie)
		for range 3 {
			time.Sleep(40 * time.Minute)
			c, err := other.Load(f.ctx, cookie, host, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			other.Touch(c, "hr", time.Now())
			synctest.Wait()
		}
		f.wantLive("used on the other node", cookie)
	})
}

func TestSignOutEndsTheSessionOnEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		other := f.node()
		c, cookie := f.begin(alice, false)
		if _, err := other.Load(f.ctx, cookie, host, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := f.End(f.ctx, alice.ID, c.Session.ID); err != nil {
			t.Fatal(err)
		}
		f.wantEnded("signed out", cookie)
		if _, err := other.Load(f.ctx, cookie, host, time.Now()); !errors.Is(err, ErrEnded) {
			t.Fatalf("on the other node: %v", err)
		}
		// Nothing brings it back: neither late activity nor a late elevation.
		f.Touch(c, "hr", time.Now())
		synctest.Wait()
		if _, _, err := f.Elevate(f.ctx, c, time.Now(), addCode); !errors.Is(err, ErrEnded) {
			t.Fatalf("elevated after sign-out: %v", err)
		}
		f.wantEnded("signed out, with late activity", cookie)
	})
}

func TestEndAllEndsEverySessionAndNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, one := f.begin(alice, false)
		_, another := f.begin(alice, false)
		_, pending := f.begin(alice, true)
		_, bobs := f.begin(bob, false)
		if err := f.EndAll(f.ctx, alice.ID); err != nil {
			t.Fatal(err)
		}
		f.wantEnded("one session", one)
		f.wantEnded("another session", another)
		f.wantEnded("a pending sign-in", pending)
		f.wantLive("another user's", bobs)
		_, again := f.begin(alice, false)
		f.wantLive("begun afterwards", again)
	})
}

func TestEndAllEndsASessionThatIsBeingBegun(t *testing.T) {
	// Whichever of the two comes first, no session from before survives.
	for range 200 {
		f := newFixture(t)
		var cookie string
		var began, ended sync.WaitGroup
		began.Go(func() { _, cookie = f.begin(alice, false) })
		ended.Go(func() {
			if err := f.EndAll(f.ctx, alice.ID); err != nil {
				t.Error(err)
			}
		})
		began.Wait()
		ended.Wait()
		c, err := f.load(cookie)
		if err == nil && c.Session.Epoch == 0 {
			t.Fatal("a session of the epoch before lives")
		}
	}
}

func TestSessionOfOneHostOnAnother(t *testing.T) {
	f := newFixture(t)
	_, cookie := f.begin(alice, false)
	if _, err := f.Load(f.ctx, cookie, "wiki.example.com", time.Now()); !errors.Is(err, ErrEnded) {
		t.Fatalf("%v", err)
	}
}

func TestForgedCookieCostsNoStoreCommand(t *testing.T) {
	f := newFixture(t)
	_, cookie := f.begin(alice, false)
	foreign, err := seal.NewKeyring(bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	fromElsewhere, err := NewCodec(foreign).Encode(newKey(alice.ID, newID(), newToken()))
	if err != nil {
		t.Fatal(err)
	}
	reads := f.store.reads.Load()
	forged := []string{"", "x", fromElsewhere, cookie[:len(cookie)-1], cookie + "A", cookie + cookie, string(bytes.Repeat([]byte{'A'}, 10_000))}
	for i := range cookie {
		flipped := []byte(cookie)
		flipped[i] ^= 1
		forged = append(forged, string(flipped))
	}
	for _, value := range forged {
		if _, err := f.load(value); !errors.Is(err, ErrCookie) {
			t.Errorf("%.40q: %v", value, err)
		}
	}
	if n := f.store.reads.Load() - reads; n != 0 {
		t.Fatalf("%d reads", n)
	}
}

func TestRotationOpensOldCookies(t *testing.T) {
	f := newFixture(t)
	_, cookie := f.begin(alice, false)
	rotated, err := seal.NewKeyring(bytes.Repeat([]byte{9}, 32), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	f.Manager = NewManager(f.store, NewView(f.store), NewCodec(rotated), f.settings)
	f.wantLive("after rotation", cookie)
}

func TestSignedInRequestsReadNothingWhileTheStoreTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, cookie := f.begin(alice, false)
		f.wantLive("first", cookie)
		reads := f.store.reads.Load()
		for range 1000 {
			f.wantLive("again", cookie)
		}
		if n := f.store.reads.Load() - reads; n != 0 {
			t.Fatalf("%d reads", n)
		}
		time.Sleep(30 * time.Second)
		f.wantLive("after the bound", cookie)
		if n := f.store.reads.Load() - reads; n != 1 {
			t.Fatalf("%d reads after the bound", n)
		}
		f.store.stale.Store(true)
		for range 10 {
			f.wantLive("without news", cookie)
		}
		if n := f.store.reads.Load() - reads; n != 11 {
			t.Fatalf("%d reads without news", n)
		}
		f.store.down.Store(true)
		if _, err := f.load(cookie); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("store down: %v", err)
		}
	})
}

func TestTooManySessionsEndTheOldestAndUnfinishedOnesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, first := f.begin(alice, false)
		time.Sleep(time.Second)
		_, second := f.begin(alice, false)
		// Whoever knows the password begins sign-ins that he can't finish.
		for range 3 * MaxPerUser {
			time.Sleep(time.Second / 10)
			f.begin(alice, true)
		}
		f.wantLive("a session of the user", first)
		sessions, err := f.List(f.ctx, alice.ID, time.Now())
		if err != nil || len(sessions) != MaxPerUser {
			t.Fatalf("%d sessions, %v", len(sessions), err)
		}
		for range MaxPerUser - 1 {
			time.Sleep(time.Second)
			f.begin(alice, false)
		}
		f.wantEnded("the one that was used longest ago", first)
		f.wantLive("the next", second)
	})
}

func TestListShowsWhatLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.begin(alice, true)
		time.Sleep(11 * time.Minute)
		f.begin(alice, false)
		time.Sleep(time.Minute)
		newest, _ := f.begin(alice, false)
		sessions, err := f.List(f.ctx, alice.ID, time.Now())
		if err != nil || len(sessions) != 2 || sessions[0].ID != newest.Session.ID {
			t.Fatalf("%d sessions, %v", len(sessions), err)
		}
		time.Sleep(time.Hour)
		if sessions, err := f.List(f.ctx, alice.ID, time.Now()); err != nil || len(sessions) != 0 {
			t.Fatalf("%d idle sessions, %v", len(sessions), err)
		}
	})
}

func TestOpenConnectionSurvivesARotationAndEndsWithItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		before, _ := f.begin(alice, false)
		opened := before
		current := before
		for range 3 {
			var err error
			if current, _, err = f.Elevate(f.ctx, current, time.Now(), addCode); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		again, err := f.Again(f.ctx, opened, time.Now())
		if err != nil || again.Proofs.Has(mfa.TOTP) {
			t.Fatalf("%v, %v: want what its own token was good for", again.Proofs, err)
		}
		if err := f.End(f.ctx, alice.ID, opened.Session.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Again(f.ctx, opened, time.Now()); !errors.Is(err, ErrEnded) {
			t.Fatalf("after sign-out: %v", err)
		}
	})
}

func TestPostponeIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c, cookie := f.begin(alice, false)
		if err := f.Postpone(f.ctx, c, time.Now()); err != nil {
			t.Fatal(err)
		}
		if s := f.wantLive("postponed", cookie).Session; !s.Postponed.Equal(time.Now()) {
			t.Fatalf("postponed at %v", s.Postponed)
		}
	})
}

func TestZeroTokenOpensNothing(t *testing.T) {
	var s mfa.Session
	if _, known := s.KnownTo(mfa.TokenHash{}, time.Now()); known {
		t.Fatal("the zero token is known to the zero session")
	}
	s.PreviousUntil = time.Now().Add(time.Hour)
	if _, known := s.KnownTo(mfa.TokenHash{}, time.Now()); known {
		t.Fatal("the zero token is the one before")
	}
}

func FuzzDecodeCookie(f *testing.F) {
	fx := newFixture(f)
	_, cookie := fx.begin(alice, false)
	f.Add(cookie)
	f.Add("MTc5NTM5")
	f.Fuzz(func(t *testing.T, value string) {
		if key, err := fx.codec.Decode(value); err == nil && value != cookie {
			t.Fatalf("%q opens %+v", value, key)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	f := newFixture(b)
	_, cookie := f.begin(alice, false)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Load(f.ctx, cookie, host, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeCookie(b *testing.B) {
	f := newFixture(b)
	_, cookie := f.begin(alice, false)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.codec.Decode(cookie); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWhatTheOldTokenOpensLivesOnWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		before, cookie := f.begin(alice, false)
		if _, _, err := f.Elevate(f.ctx, before, time.Now(), addCode); err != nil {
			t.Fatal(err)
		}
		during, err := f.Load(f.ctx, cookie, before.Session.Host, time.Now()) // opened with the old token, in the overlap
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(tokenOverlap + time.Minute)
		for when, c := range map[string]Current{"before": before, "during": during} {
			if _, err := f.Again(f.ctx, c, time.Now()); err != nil {
				t.Errorf("opened %s the new token: %v", when, err)
			}
		}
		if err := f.End(f.ctx, alice.ID, before.Session.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Again(f.ctx, during, time.Now()); !errors.Is(err, ErrEnded) {
			t.Errorf("after sign-out: %v", err)
		}
	})
}
