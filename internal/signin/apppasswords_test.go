package signin

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

var forThePhone = machinekey.Wish{Name: "phone", Application: "mail"}

func (b *browser) make(w machinekey.Wish) (string, error) {
	b.t.Helper()
	c, _, secret, err := b.MakeAppPassword(b.ctx, b.client(), b.session(), w)
	b.keep(c)
	return secret, err
}

// opens says whether an app password of alice's opens an application.
func (f *fixture) opens(secret string) bool {
	f.t.Helper()
	_, err := f.Keys.AppPassword(f.ctx, "alice", secret, gate.Use{Application: "mail", AppPasswords: gate.On, Now: time.Now()})
	if err != nil && !errors.Is(err, gate.ErrWrongKey) {
		f.t.Fatal(err)
	}
	return err == nil
}

func TestAFreshProofPaysForOneAppPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		b := f.browser()
		phone := b.register("alice")
		_, err := b.make(forThePhone)
		wantErr(t, "with the proof that the registration was paid with", err, ErrNotFresh)
		b.must(b.verify(mfa.TOTP, phone.code()))
		_, err = b.make(machinekey.Wish{Name: "phone", Application: "hr"})
		wantErr(t, "for an application that takes none", err, machinekey.ErrApplication)
		other := f.browser()
		other.must(other.password("alice", rightPassword))
		other.must(other.verify(mfa.TOTP, phone.code()))
		secret, err := b.make(forThePhone)
		if err != nil || !f.opens(secret) {
			t.Fatalf("a wish that could not be met has cost the proof: %v", err)
		}
		_, err = b.make(forThePhone)
		wantErr(t, "a second one with the same proof", err, ErrNotFresh)
		_, _, err = b.NewRecoveryCodes(f.ctx, b.client(), b.session())
		wantErr(t, "another change with the same proof", err, ErrNotFresh)
		b.want(Done)
		other.want(Done) // nothing has changed about how anybody signs in
		if n := f.events.count(audit.AppPasswordMade); n != 1 {
			t.Errorf("%d events", n)
		}
		for _, e := range f.events.events {
			if e.Type == audit.AppPasswordMade && e.Application != "mail" {
				t.Errorf("the event names %s, where it was made, and not what it opens", e.Application)
			}
		}
		time.Sleep(Fresh + time.Second)
		_, err = other.make(forThePhone)
		wantErr(t, "with a proof that is too old", err, ErrNotFresh)
	})
}

func TestAPasswordAloneMakesNoAppPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.want(Done) // in his time to register
		_, err := b.make(forThePhone)
		wantErr(t, "without a factor", err, ErrStep)
		phone := f.browser().register("alice")
		half := f.browser()
		half.must(half.password("alice", rightPassword))
		half.want(Verify)
		_, err = half.make(forThePhone)
		wantErr(t, "half signed in", err, ErrStep)
		half.must(half.verify(mfa.RecoveryCode, phone.codes[0]))
		_, err = half.make(forThePhone)
		wantErr(t, "with a recovery code", err, ErrStep)
		full := f.browser()
		full.must(full.password("alice", rightPassword))
		full.must(full.verify(mfa.TOTP, phone.code()))
		_, _, _, err = full.MakeAppPassword(f.ctx, full.client(), "another", forThePhone)
		wantErr(t, "on a page of another session", err, ErrStep)
		if n := f.events.count(audit.AppPasswordMade); n != 0 {
			t.Errorf("%d were made", n)
		}
	})
}

func TestPolicyOnChangesOfFactorsHoldsForAppPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		b := f.browser()
		phone := b.register("alice")
		f.decideBy(everywhere(func(p *policy.Policy) {
			p.Conditions.Applications, p.Conditions.UserActions, p.Grant.Block = nil, []policy.UserAction{policy.RegisterSecurityInfo}, true
		}))
		b.must(b.verify(mfa.TOTP, phone.code()))
		_, err := b.make(forThePhone)
		wantErr(t, "where policy blocks changes", err, ErrDenied)
	})
}

func TestAnAppPasswordSignsNobodyInAndIsNoSecondFactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		b := f.browser()
		phone := b.register("alice")
		b.must(b.verify(mfa.TOTP, phone.code()))
		secret, err := b.make(forThePhone)
		if err != nil {
			t.Fatal(err)
		}
		thief := f.browser()
		_, err = thief.password("alice", secret)
		wantErr(t, "at the sign-in page", err, ErrPassword)
		thief.must(thief.password("alice", rightPassword))
		for _, m := range []mfa.Method{mfa.TOTP, mfa.RecoveryCode} {
			_, err = thief.verify(m, secret)
			wantErr(t, "as "+string(m), err, ErrWrong)
		}
		thief.want(Verify)
		if !f.opens(secret) {
			t.Error("it doesn't open what it is for")
		}
	})
}

func TestTheOwnerRevokesAnAppPasswordWithoutAFreshProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		b := f.browser()
		phone := b.register("alice")
		b.must(b.verify(mfa.TOTP, phone.code()))
		secret, err := b.make(forThePhone)
		if err != nil {
			t.Fatal(err)
		}
		overview, err := b.Overview(f.ctx, b.client(), b.state())
		if err != nil || len(overview.AppPasswords) != 1 || len(overview.Takers) != 1 || overview.Takers[0] != "mail" {
			t.Fatalf("%+v, %v", overview, err)
		}
		id := overview.AppPasswords[0].ID
		mallory := f.browser()
		mallory.register("bob")
		if err := mallory.RevokeAppPassword(f.ctx, mallory.client(), id); err != nil || !f.opens(secret) {
			t.Fatalf("somebody else has revoked it: %v", err)
		}
		half := f.browser()
		half.must(half.password("alice", rightPassword))
		wantErr(t, "half signed in", half.RevokeAppPassword(f.ctx, half.client(), id), ErrStep)
		for range 2 {
			if err := b.RevokeAppPassword(f.ctx, b.client(), id); err != nil {
				t.Fatal(err)
			}
		}
		if f.opens(secret) || f.events.count(audit.AppPasswordRevoked) != 1 {
			t.Error("it is good still, or noted twice")
		}
	})
}
