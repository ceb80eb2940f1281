package admin

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
)

func (f *fixture) good(secret string) bool {
	f.t.Helper()
	_, err := f.Keys.AppPassword(f.ctx, "alice", secret, gate.Use{Application: "mail", AppPasswords: gate.On, Method: "GET", Asked: "/", Rewritten: "/", Now: f.now})
	if err != nil && !errors.Is(err, gate.ErrWrongKey) {
		f.t.Fatal(err)
	}
	return err == nil
}

func (f *fixture) happened(t audit.Type) (n int) {
	for _, e := range f.sink.events {
		if e.Type == t && e.By == "admin" {
			n++
		}
	}
	return n
}

var phone = machinekey.Wish{Name: "phone", Application: "mail"}

func TestAnAppPasswordForAUserIsShownOnce(t *testing.T) {
	f := newFixture(t)
	made, err := f.AddAppPassword(f.ctx, "Alice", phone, f.now)
	if err != nil {
		t.Fatal(err)
	}
	if !f.good(made.Secret) || made.User != "alice" || made.By != "admin" || f.happened(audit.AppPasswordMade) != 1 {
		t.Fatalf("%+v", made)
	}
	listed, err := f.AppPasswords(f.ctx, "alice", f.now)
	if err != nil || len(listed) != 1 || listed[0].ID != made.ID {
		t.Fatalf("%+v, %v", listed, err)
	}
	text, err := json.Marshal([]any{listed, f.show("alice")})
	if err != nil {
		t.Fatal(err)
	}
	bare := strings.ReplaceAll(made.Secret, "-", "")
	if !strings.Contains(string(text), made.ID) || strings.Contains(string(text), bare[8:]) || strings.Contains(string(text), made.Secret) || strings.Contains(string(text), "digest") {
		t.Fatalf("%s", text)
	}
}

func TestAResetAndABlockEndAppPasswords(t *testing.T) {
	for name, end := range map[string]func(*fixture) error{
		"reset": func(f *fixture) error { _, err := f.Reset(f.ctx, "alice", f.now); return err },
		"blocked": func(f *fixture) error {
			return errors.Join(f.Block(f.ctx, "alice", "left", f.now), f.Unblock(f.ctx, "alice", f.now))
		},
	} {
		f := newFixture(t)
		f.Keys.Settings.OutlivePassword, f.Keys.Settings.OutliveDisabling = true, true
		made, err := f.AddAppPassword(f.ctx, "alice", phone, f.now)
		if err != nil || !f.good(made.Secret) {
			t.Fatal(err)
		}
		if err := end(f); err != nil {
			t.Fatal(err)
		}
		if f.good(made.Secret) {
			t.Errorf("%s: it is still good", name)
		}
		if f.happened(audit.AppPasswordsEnded) != 1 {
			t.Errorf("%s: the log doesn't say that they have ended", name)
		}
	}
}

func TestAppPasswordsAreRevoked(t *testing.T) {
	f := newFixture(t)
	var made []*NewAppPassword
	for range 3 {
		p, err := f.AddAppPassword(f.ctx, "alice", phone, f.now)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, p)
	}
	if ids, err := f.RevokeAppPasswords(f.ctx, "alice", made[0].ID, f.now); err != nil || !slices.Equal(ids, []string{made[0].ID}) {
		t.Fatalf("%v, %v", ids, err)
	}
	if f.good(made[0].Secret) || !f.good(made[1].Secret) {
		t.Fatal("not the one that was named has ended")
	}
	if _, err := f.RevokeAppPasswords(f.ctx, "alice", made[0].ID, f.now); !errors.Is(err, machinekey.ErrNoKey) {
		t.Fatalf("a second time: %v", err)
	}
	if ids, err := f.RevokeAppPasswords(f.ctx, "alice", "", f.now); err != nil || len(ids) != 2 {
		t.Fatalf("%v, %v", ids, err)
	}
	if _, err := f.RevokeAppPasswords(f.ctx, "bob", "", f.now); !errors.Is(err, machinekey.ErrNoKey) {
		t.Fatalf("of one who has none: %v", err)
	}
	if f.happened(audit.AppPasswordRevoked) != 3 {
		t.Fatal("the log doesn't name each")
	}
}

func TestWhoIsBlockedGetsNoAppPassword(t *testing.T) {
	f := newFixture(t)
	if err := f.Block(f.ctx, "alice", "left", f.now); err != nil {
		t.Fatal(err)
	}
	if _, err := f.AddAppPassword(f.ctx, "alice", phone, f.now); !errors.Is(err, ErrUserRefused) {
		t.Fatalf("%v", err)
	}
	if _, err := f.AddAppPassword(f.ctx, "zoe", phone, f.now); !errors.Is(err, ErrNoUser) {
		t.Fatalf("%v", err)
	}
}

func TestUnlockForgetsWhatWasTriedAgainstAppPasswords(t *testing.T) {
	f := newFixture(t)
	for range 10 {
		f.Keys.AppPassword(f.ctx, "alice", "wrong", gate.Use{Application: "mail", AppPasswords: gate.On, Now: f.now}) // some are refused
	}
	if err := f.Unlock(f.ctx, "alice", f.now); err != nil {
		t.Fatal(err)
	}
	// What the process remembers holds for some seconds more.
	_, err := f.Keys.AppPassword(f.ctx, "alice", "wrong", gate.Use{Application: "mail", AppPasswords: gate.On, Now: f.now.Add(20 * time.Second)})
	if !errors.Is(err, gate.ErrWrongKey) {
		t.Fatalf("%v", err)
	}
}

func TestServiceTokensAreListedAlsoWhenTheyAreNotConfiguredAnyMore(t *testing.T) {
	f := newFixture(t)
	made, err := f.AddServiceToken(f.ctx, "backup", f.now)
	if err != nil {
		t.Fatal(err)
	}
	list := func() []ServiceToken {
		t.Helper()
		tokens, err := f.ServiceTokens(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return tokens
	}
	if got := list(); len(got) != 1 || !got[0].Configured || got[0].User != "service:backup" || len(got[0].Secrets) != 1 || got[0].Secrets[0].ID != made.ID {
		t.Fatalf("%+v", got)
	}
	f.Keys.Tokens = nil
	if got := list(); len(got) != 1 || got[0].Configured || len(got[0].Secrets) != 1 {
		t.Fatalf("%+v", got)
	}
	if ids, err := f.RevokeServiceToken(f.ctx, "backup", ""); err != nil || !slices.Equal(ids, []string{made.ID}) {
		t.Fatalf("%v, %v", ids, err)
	}
	if got := list(); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
}
