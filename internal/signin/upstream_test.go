package signin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// stored is what an application would be sent for a user.
func (f *fixture) stored(user, application string) string {
	f.t.Helper()
	a, err := f.Accounts.Get(f.ctx, mfa.UserID{Directory: "file", ID: user})
	if err != nil {
		f.t.Fatal(err)
	}
	credential, err := f.Accounts.Upstream(a, application)
	if err != nil && credential != nil {
		f.t.Fatalf("%q with %v", credential, err)
	}
	return string(credential)
}

func TestAnUpstreamCredentialIsStoredWithAFreshProof(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.Upstreams = []string{"hr", "wiki"}
		b, other := f.browser(), f.browser()
		phone := b.register("alice")
		other.must(other.password("alice", rightPassword))
		other.must(other.verify(mfa.TOTP, phone.code()))
		other.must(other.verify(mfa.TOTP, phone.code()))
		store := func(application, user, password string) error {
			c, err := b.StoreUpstream(f.ctx, b.client(), b.session(), application, user, password)
			b.keep(c)
			return err
		}
		// The proof of the registration has been spent on it.
		wantErr(t, "without a fresh proof", store("hr", "alice.e", "hunter2"), ErrNotFresh)
		b.must(b.verify(mfa.TOTP, phone.code()))
		for reason, c := range map[string][3]string{
			"a colon in the name": {"hr", "a:b", "hunter2"}, "no name": {"hr", "", "hunter2"}, "no password": {"hr", "alice", ""}, "a line break": {"hr", "alice", "a\r\nX: y"},
		} {
			wantErr(t, reason, store(c[0], c[1], c[2]), ErrCredential)
		}
		wantErr(t, "an application that wants none", store("mail", "alice", "hunter2"), ErrStep)
		_, err := b.StoreUpstream(f.ctx, b.client(), other.session(), "hr", "alice", "hunter2")
		wantErr(t, "a form of another session", err, ErrStep)
		if f.stored("alice", "hr") != "" {
			t.Fatal("what was refused is stored")
		}
		// What was refused has spent nothing.
		if err := store("hr", "alice.e", "hunter2"); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "a second change with one proof", store("wiki", "alice", "hunter3"), ErrNotFresh)
		if got := f.stored("alice", "hr"); got != "alice.e:hunter2" {
			t.Fatalf("stored is %q", got)
		}
		if f.stored("alice", "wiki")+f.stored("bob", "hr") != "" {
			t.Fatal("it is stored elsewhere too")
		}
		// It is no change of factors: nobody else's session ends.
		other.want(Done)
		list := f.UpstreamApplications(b.want(Done))
		if len(list) != 2 || list[0].Name != "hr" || !list[0].Stored.Equal(time.Now()) || !list[0].Wanted || list[1] != (UpstreamApplication{Name: "wiki", Wanted: true}) {
			t.Fatalf("%+v", list)
		}
		// The application doesn't want it any more, and its owner can still remove it.
		f.Upstreams = []string{"wiki"}
		list = f.UpstreamApplications(b.want(Done))
		if len(list) != 2 || list[0].Name != "hr" || list[0].Wanted {
			t.Fatalf("%+v", list)
		}
		_, err = b.RemoveUpstream(f.ctx, b.client(), b.session(), "hr")
		wantErr(t, "removing without a fresh proof", err, ErrNotFresh)
		b.must(b.verify(mfa.TOTP, phone.code()))
		c, err := b.RemoveUpstream(f.ctx, b.client(), b.session(), "hr")
		b.keep(c)
		if err != nil || f.stored("alice", "hr") != "" {
			t.Fatalf("%v, stored is %q", err, f.stored("alice", "hr"))
		}
		if f.events.count(audit.UpstreamStored) != 1 || f.events.count(audit.UpstreamRemoved) != 1 {
			t.Fatalf("events: %+v", f.events.events)
		}
		for _, e := range f.events.events {
			if e.Type == audit.UpstreamStored && (e.Application != "hr" || e.User != "alice") {
				t.Errorf("%+v", e)
			}
			if text := fmt.Sprint(e); len(text) == 0 || strings.Contains(text, "hunter2") || strings.Contains(text, "alice.e") {
				t.Errorf("the credential stands in %+v", e)
			}
		}
	})
}

func TestAnUpstreamCredentialNeedsASecondFactor(t *testing.T) {
	in(t, func(t *testing.T, f *fixture) {
		f.Upstreams = []string{"hr"}
		b := f.browser()
		b.must(b.password("alice", rightPassword)) // in his grace period
		_, err := b.StoreUpstream(f.ctx, b.client(), b.session(), "hr", "alice", "hunter2")
		wantErr(t, "with the password alone", err, ErrStep)
		_, err = b.StoreUpstream(f.ctx, f.browser().client(), "", "hr", "alice", "hunter2")
		wantErr(t, "by nobody", err, ErrStep)
		f.browser().register("bob")
		half := f.browser()
		half.must(half.password("bob", rightPassword))
		_, err = half.StoreUpstream(f.ctx, half.client(), half.session(), "hr", "bob", "hunter2")
		wantErr(t, "before the second step", err, ErrStep)
		if f.stored("alice", "hr")+f.stored("bob", "hr") != "" {
			t.Fatal("it is stored all the same")
		}
	})
}
