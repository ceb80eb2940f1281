package session

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

const day = 24 * time.Hour

// staying is a manager with which people may stay signed in for so long.
func (f *fixture) staying(length time.Duration) {
	f.Manager = NewManager(f.store, NewView(f.store), NewCodec(f.keys), Settings{Idle: time.Hour, Lifetime: 12 * time.Hour, Cache: 30 * time.Second, Stay: length})
}

// stay begins a session whose owner wants to stay signed in.
func (f *fixture) stay(pending bool) (Current, string) {
	f.t.Helper()
	c, _ := f.begin(alice, true)
	c, cookie, err := f.Elevate(f.ctx, c, time.Now(), func(s *mfa.Session) error {
		s.Stay, s.Pending = 30*day, pending
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return c, cookie
}

func TestWhoStaysSignedInIsSignedInAsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.staying(30 * day)
		_, cookie := f.stay(false)
		if f.wantLive("at first", cookie).Stays {
			t.Error("it lives on because of the wish at once")
		}
		time.Sleep(50 * time.Minute)
		if c := f.wantLive("in the first hour", cookie); c.Stays {
			t.Error("it lives on because of the wish in the first hour")
		} else {
			f.Touch(c, "hr", time.Now())
			synctest.Wait()
		}
		time.Sleep(2 * time.Hour)
		c := f.wantLive("two hours without activity", cookie)
		if !c.Stays {
			t.Error("others would have ended")
		}
		f.Touch(c, "hr", time.Now())
		synctest.Wait()
		if f.wantLive("active again", cookie).Stays {
			t.Error("others that are active would live")
		}
		time.Sleep(12 * time.Hour)
		c = f.wantLive("the next day", cookie)
		f.Touch(c, "hr", time.Now())
		synctest.Wait()
		if !f.wantLive("active on the next day", cookie).Stays {
			t.Error("others would be too old")
		}
		if sessions, err := f.List(f.ctx, alice.ID, time.Now()); err != nil || len(sessions) != 1 {
			t.Errorf("%d sessions are listed, %v", len(sessions), err)
		}
		time.Sleep(29*day - time.Hour)
		again, err := f.Again(f.ctx, f.wantLive("in the last days", cookie), time.Now())
		if err != nil || !again.Stays {
			t.Errorf("an open connection: %v", err)
		}
		time.Sleep(day)
		f.wantEnded("after thirty days", cookie)
		if sessions, err := f.List(f.ctx, alice.ID, time.Now()); err != nil || len(sessions) != 0 {
			t.Errorf("%d sessions are listed, %v", len(sessions), err)
		}
	})
}

func TestAStayIsAsLongAsTheNewestSettingSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.staying(30 * day)
		_, cookie := f.stay(false)
		time.Sleep(8 * day)
		f.wantLive("within thirty days", cookie)
		f.staying(7 * day)
		f.wantEnded("seven days are allowed now", cookie)
		f.staying(0)
		f.wantEnded("nobody may stay now", cookie)
		f.staying(60 * day)
		f.wantLive("sixty days are allowed now", cookie)
		time.Sleep(22 * day)
		f.wantEnded("he was promised thirty", cookie)
	})
}

func TestAnUnfinishedSignInDoesNotStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.staying(30 * day)
		_, cookie := f.stay(true)
		time.Sleep(PendingLifetime)
		f.wantEnded("ten minutes later", cookie)
	})
}

func TestSignOutEverywhereEndsWhoStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.staying(30 * day)
		_, cookie := f.stay(false)
		time.Sleep(2 * day)
		f.wantLive("two days later", cookie)
		if err := f.EndAll(f.ctx, alice.ID); err != nil {
			t.Fatal(err)
		}
		f.wantEnded("signed out everywhere", cookie)
	})
}
