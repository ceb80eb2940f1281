package signin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// basic sends a password as a legacy client does.
func (f *fixture) basic(address, name, password string) (*mfa.User, *account.Account, error) {
	client := mfa.Client{App: policy.OtherClients, Address: netip.MustParseAddr(address)}
	return f.Basic(f.ctx, gate.Try{Name: name, Password: password, Application: "hr", Host: "hr.example.com", Client: client, UserAgent: "git/2.50", Now: time.Now()})
}

// update changes somebody's account.
func (f *fixture) update(name string, change func(*account.Account)) {
	f.t.Helper()
	if _, err := f.Accounts.Update(f.ctx, mfa.UserID{Directory: "file", ID: name}, time.Now(), func(a *account.Account) error { change(a); return nil }); err != nil {
		f.t.Fatal(err)
	}
}

// records counts what is in a partition.
func (f *fixture) records(partition string) int {
	f.t.Helper()
	records, err := f.store.List(f.ctx, partition, "")
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		f.t.Fatal(err)
	}
	return len(records)
}

// blocksMeanwhile is a directory that takes so long that its user is blocked before it has answered.
type blocksMeanwhile struct {
	*people
	f *fixture
}

func (d *blocksMeanwhile) Authenticate(ctx context.Context, name, password string) (*mfa.User, error) {
	d.f.update(name, func(a *account.Account) { a.State.Blocked = &account.Block{At: time.Now()} })
	return d.people.Authenticate(ctx, name, password)
}

func TestALegacyPasswordIsJudgedLikeASignIn(t *testing.T) {
	for reason, c := range map[string]struct {
		name, password string
		change         func(*fixture)
		want           error
	}{
		"right":                    {"alice", rightPassword, nil, nil},
		"wrong":                    {"alice", "junk", nil, ErrPassword},
		"of nobody":                {"mallory", rightPassword, nil, ErrPassword},
		"of what nobody is called": {"\u202e", rightPassword, nil, ErrPassword},
		"of a disabled user":       {"dora", rightPassword, nil, ErrPassword},
		"of a blocked user": {"alice", rightPassword, func(f *fixture) {
			f.update("alice", func(a *account.Account) { a.State.Blocked = &account.Block{At: time.Now()} })
		}, ErrPassword},
		"of one who was blocked meanwhile": {"alice", rightPassword, func(f *fixture) {
			f.Users = directory.Directories{&blocksMeanwhile{f.people, f}}
		}, ErrPassword},
		"the account store has vanished": {"alice", rightPassword, func(f *fixture) { f.kept.text = "another"; f.Service = f.node() }, account.ErrReplaced},
		"the store is down":              {"alice", rightPassword, func(f *fixture) { f.store.Close() }, store.ErrUnavailable},
	} {
		t.Run(reason, func(t *testing.T) {
			f := newFixture(t)
			f.update("alice", func(a *account.Account) { a.State.Created = time.Now() })
			if err := f.Generation.Check(f.ctx); err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(f)
			}
			judged := f.people.judged.Load()
			user, a, err := f.basic("203.0.113.9", c.name, c.password)
			if !errors.Is(err, c.want) || (err == nil) != (user != nil && a != nil) {
				t.Fatalf("%v, %v; want %v", user, err, c.want)
			}
			if n := f.people.judged.Load() - judged; n != 1 && !errors.Is(c.want, store.ErrUnavailable) {
				t.Errorf("%d passwords were judged", n)
			}
			if sessions := f.records("session/file/alice"); sessions != 0 {
				t.Errorf("it has begun a session: %d records", sessions)
			}
		})
	}
}

func TestALegacyPasswordWritesNothingForItsUser(t *testing.T) {
	f := newFixture(t)
	if err := f.Generation.Check(f.ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.basic("203.0.113.9", "alice", rightPassword); err != nil {
		t.Fatal(err)
	}
	for _, partition := range []string{"account/file/alice", "session/file/alice"} {
		if n := f.records(partition); n != 0 {
			t.Errorf("%s has %d records", partition, n)
		}
	}
}

func TestLegacyPasswordsShareTheThrottleWithThePages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var wait *throttle.WaitError
		refused := 0
		for i := range 1000 {
			if _, _, err := f.basic("203.0.113.9", "alice", fmt.Sprint("guess ", i)); errors.As(err, &wait) {
				refused++
			}
		}
		if judged := f.people.judged.Load(); judged > 6 || refused < 990 {
			t.Errorf("%d guesses were judged, %d refused", judged, refused)
		}
		if _, _, err := f.basic("203.0.113.9", "alice", rightPassword); !errors.As(err, &wait) {
			t.Errorf("the right one, too soon: %v", err)
		}
		if _, err := f.browser().password("alice", rightPassword); !errors.As(err, &wait) {
			t.Errorf("the same place on the page: %v", err)
		}
		if f.events.count(audit.PasswordThrottled) == 0 {
			t.Error("nothing was told of it")
		}
		time.Sleep(20 * time.Minute)
		if _, _, err := f.basic("203.0.113.9", "alice", rightPassword); err != nil {
			t.Errorf("after the pause: %v", err)
		}
	})
}

func TestASignInOfALegacyClientIsToldOnce(t *testing.T) {
	for class, want := range map[legacy.Class]string{legacy.Basic: audit.ClientOther, legacy.EAS: audit.ClientExchangeActiveSync} {
		f := newFixture(t)
		user, a, err := f.basic("203.0.113.9", "alice", rightPassword)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.events.ins) != 0 {
			t.Fatalf("before anybody has decided: %+v", f.events.ins)
		}
		c := f.browser().client()
		for _, out := range []gate.Outcome{
			{Verdict: gate.Admit, User: user, Account: a, Finding: legacy.Finding{Class: class}, Decision: policy.Decision{Action: policy.Block, Reason: policy.LegacyAuth}},
			{Verdict: gate.Legacy, User: user, Account: a, Finding: legacy.Finding{Class: class}, Decision: policy.Decision{Action: policy.Block, Reason: policy.PolicyBlocks}},
		} {
			f.events.ins = nil
			f.NoteBasic(c, &out)
			if len(f.events.ins) != 1 {
				t.Fatalf("%d records", len(f.events.ins))
			}
			r := f.events.ins[0]
			if r.ClientAppUsed != want || r.IsInteractive || r.UserPrincipalName != "alice" || (r.Status.ErrorCode == audit.CodeSuccess) != (out.Verdict == gate.Admit) {
				t.Errorf("%s: %+v", class, r)
			}
			if len(r.Details) != 1 || r.Details[0].Method != string(mfa.Password) {
				t.Errorf("proofs: %+v", r.Details)
			}
		}
	}
	f := newFixture(t)
	if _, _, err := f.basic("203.0.113.9", "alice", "junk"); !errors.Is(err, ErrPassword) {
		t.Fatal(err)
	}
	if len(f.events.ins) != 1 || f.events.ins[0].ClientAppUsed != audit.ClientOther || f.events.ins[0].Status.ErrorCode != audit.CodeInvalidPassword {
		t.Errorf("a wrong one: %+v", f.events.ins)
	}
}

func TestAFloodOfLegacyPasswordsIsTurnedAway(t *testing.T) {
	f := newFixture(t)
	f.Strangers = throttle.NewAtOnce(0)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, _, err := f.basic("203.0.113.9", "alice", rightPassword); err == nil {
				t.Error("judged, though nobody may be")
			}
		})
	}
	all.Wait()
	if n := f.people.judged.Load(); n != 0 {
		t.Errorf("%d passwords were judged", n)
	}
}
