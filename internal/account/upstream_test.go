package account

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

func setUpstream(t testing.TB, s *Service, id mfa.UserID, application, credential string) *Account {
	t.Helper()
	a, err := s.Update(ctx, id, now, func(a *Account) error {
		a.State.Created = now
		user, password, err := SplitUpstream(credential)
		if err != nil {
			return err
		}
		return s.SetUpstream(a, application, user, password, now)
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func opened(t testing.TB, s *Service, id mfa.UserID, application string) string {
	t.Helper()
	a, err := s.Get(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	credential, err := s.Upstream(a, application)
	if errors.Is(err, ErrNoUpstream) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(credential)
}

func TestUpstreamCredentialsComeBackForTheirUserAndApplicationAlone(t *testing.T) {
	s, _ := fixture(t)
	if got := opened(t, s, alice, "hr"); got != "" { // the view has read the account before
		t.Fatalf("there is %q already", got)
	}
	setUpstream(t, s, alice, "hr", "alice.e:one")
	setUpstream(t, s, alice, "wiki", "alice:two")
	setUpstream(t, s, bob, "hr", "bob:three")
	for _, c := range []struct {
		id                mfa.UserID
		application, want string
	}{{alice, "hr", "alice.e:one"}, {alice, "wiki", "alice:two"}, {bob, "hr", "bob:three"}, {bob, "wiki", ""}, {alice, "HR", ""}} {
		if got := opened(t, s, c.id, c.application); got != c.want {
			t.Errorf("%v, %s: %q, not %q", c.id, c.application, got, c.want)
		}
	}
	setUpstream(t, s, alice, "hr", "alice.e:new")
	if got := opened(t, s, alice, "hr"); got != "alice.e:new" {
		t.Fatalf("replaced, it is %q", got)
	}
	a, err := s.Update(ctx, alice, now, func(a *Account) error { return a.RemoveUpstream("hr") })
	if err != nil || len(a.Upstreams()) != 1 || a.Upstreams()[0] != (Upstream{"wiki", now}) {
		t.Fatalf("%v, %v", a, err)
	}
	if got := opened(t, s, alice, "hr"); got != "" {
		t.Fatalf("removed, it is %q", got)
	}
	if _, err := s.Update(ctx, alice, now, func(a *Account) error { return a.RemoveUpstream("hr") }); !errors.Is(err, ErrNoUpstream) {
		t.Fatal(err)
	}
}

func TestAMovedUpstreamCredentialDoesNotOpen(t *testing.T) {
	s, st := fixture(t)
	setUpstream(t, s, alice, "hr", "alice:hunter2")
	records, err := st.List(ctx, partition(alice), upstreamPrefix)
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	if bytes.Contains(records[0].Value, []byte("hunter2")) {
		t.Fatalf("it is kept in clear: %s", records[0].Value)
	}
	for where, to := range map[string]struct {
		id          mfa.UserID
		application string
	}{"another user": {bob, "hr"}, "another application": {alice, "wiki"}} {
		if _, err := st.Commit(ctx, store.Commit{Partition: partition(to.id), Notify: true, Changes: []store.Change{{Key: upstreamPrefix + to.application, Value: records[0].Value}}}); err != nil {
			t.Fatal(err)
		}
		a, err := s.Load(ctx, to.id)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Upstream(a, to.application); !errors.Is(err, seal.ErrOpen) || len(got) > 0 {
			t.Errorf("%s: %q, %v", where, got, err)
		}
	}
}

func TestUpstreamCredentialsAreSealedWithTheNewestSecret(t *testing.T) {
	s, st := fixture(t)
	setUpstream(t, s, alice, "hr", "alice:hunter2")
	rotated := NewService(st, NewView(st), 0, keyring(t, 2, 1))
	if got := opened(t, rotated, alice, "hr"); got != "alice:hunter2" {
		t.Fatalf("%q", got)
	}
	if _, err := rotated.Update(ctx, alice, now, func(*Account) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := opened(t, NewService(st, NewView(st), 0, keyring(t, 2)), alice, "hr"); got != "alice:hunter2" {
		t.Fatalf("without the old secret: %q", got)
	}
	// With neither secret it is lost, and what else is kept is not.
	lost := NewService(st, NewView(st), 0, keyring(t, 3))
	a, err := lost.UpdateClosed(ctx, alice, now, func(a *Account) error { a.State.PassRequired = true; return nil })
	if err != nil || len(a.Upstreams()) != 1 {
		t.Fatal(a, err)
	}
	if _, err := lost.Upstream(a, "hr"); !errors.Is(err, seal.ErrOpen) {
		t.Fatal(err)
	}
}

func TestUpstreamCredentialsAreBounded(t *testing.T) {
	s, _ := fixture(t)
	_, err := s.Update(ctx, alice, now, func(a *Account) error {
		for i := range MaxUpstreams {
			if err := s.SetUpstream(a, fmt.Sprint("app", i), "alice", "hunter2", now); err != nil {
				return err
			}
		}
		if err := s.SetUpstream(a, "app0", "alice", "hunter3", now); err != nil {
			t.Errorf("one that is there can't be replaced: %v", err)
		}
		return s.SetUpstream(a, "one-more", "alice", "hunter2", now)
	})
	if !errors.Is(err, ErrTooManyUpstreams) {
		t.Fatal(err)
	}
}

func TestADamagedUpstreamCredentialIsNotAMissingOne(t *testing.T) {
	for _, value := range []string{"", "{}", `{"sealed":7}`, "no JSON"} {
		s, st := fixture(t)
		if _, err := st.Commit(ctx, store.Commit{Partition: partition(alice), Changes: []store.Change{{Key: upstreamPrefix + "hr", Value: []byte(value)}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(ctx, alice); err == nil {
			t.Errorf("%q is read", value)
		}
	}
}

func TestCredentialsThatBasicCanSend(t *testing.T) {
	user, password, err := SplitUpstream("svc-hr:a:b c")
	if user != "svc-hr" || password != "a:b c" || err != nil {
		t.Fatalf("%q %q %v", user, password, err)
	}
	for reason, text := range map[string]string{
		"no colon": "hunter2", "no user": ":hunter2", "no password": "svc:", "a line break": "svc:hunter2\nX: y", "a zero byte": "svc\x00:hunter2",
		"no UTF-8": "svc:hunter2\xff", "too long": "svc:hunter2" + strings.Repeat("x", MaxUpstream), "nothing": "",
	} {
		if _, _, err := SplitUpstream(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", reason, err)
		}
	}
	if err := CheckUpstream("a:b", "c"); err == nil {
		t.Error("a user name with a colon is accepted")
	}
}
