package signin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/passcode"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/sender"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

const (
	alicesPhone = "+31612345678"
	bobsPhone   = "+31687654321"
)

// post is a gateway that keeps what it is told to send.
type post struct {
	mu   sync.Mutex
	sent []mfa.Message
	slow time.Duration
	err  error
}

func (p *post) Send(ctx context.Context, m *mfa.Message) error {
	select {
	case <-time.After(p.slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, *m)
	return p.err
}

func (p *post) count() int { p.mu.Lock(); defer p.mu.Unlock(); return len(p.sent) }

func (p *post) last(t testing.TB) mfa.Message {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sent) == 0 {
		t.Fatal("nothing was sent")
	}
	return p.sent[len(p.sent)-1]
}

// methods that the tests turn on.
var sentMethods = []mfa.Method{mfa.SMS, mfa.Voice, mfa.Email}

// inWithCodes is in, with codes by text message, call and mail, and with policies in the place of security defaults that ask everybody
// for a second factor.
func inWithCodes(t *testing.T, test func(*testing.T, *fixture, *post)) {
	in(t, func(t *testing.T, f *fixture) {
		p := &post{}
		f.sendBy(p, throttle.MessageLimits{User: 100, Number: 100, Prefix: 100, Total: 1000})
		f.defaultsOff(true)
		test(t, f, p)
		time.Sleep(time.Minute)
		synctest.Wait()
	})
}

func (f *fixture) sendBy(p *post, limits throttle.MessageLimits) { f.equip(f.Service, p, limits) }

// equip has a node send codes.
func (f *fixture) equip(s *Service, p *post, limits throttle.MessageLimits) {
	routes := map[mfa.Method][]sender.Route{}
	for _, m := range sentMethods {
		factor := passcode.New(m, nil)
		s.Factors[m] = factor
		s.Registrars = append(s.Registrars, factor)
		routes[m] = []sender.Route{{Name: "post", Sender: p, Timeout: 10 * time.Second}}
	}
	s.Messages = throttle.NewMessages(f.store, limits)
	s.Courier = sender.NewCourier(routes, func(sender.Report) {}, slog.New(slog.DiscardHandler), nil)
	s.Compose = func(m *mfa.Message, host, application string, _ ...string) {
		m.Text = m.Code + " for " + application + " on " + host
	}
}

// defaultsOff turns security defaults off, and has a policy ask for a second factor in their place; or turns them on again.
func (f *fixture) defaultsOff(off bool) {
	f.t.Helper()
	m := policy.Model{
		Defaults:    policy.SecurityDefaults{Off: off, Grace: 14 * 24 * time.Hour},
		Registrable: append([]mfa.Method{mfa.TOTP}, sentMethods...), Sent: sentMethods,
	}
	if off {
		m.Defaults.Grace = 0
		m.Policies = []policy.Policy{everywhere(func(p *policy.Policy) { p.Grant.MFA = true })}
	}
	set, err := policy.New(m)
	if err != nil {
		f.t.Fatal(err)
	}
	*f.rules = *set
}

func (b *browser) send(m mfa.Method, credential string) (mfa.Challenge, error) {
	_, ch, err := b.SendCode(b.ctx, b.client(), b.session(), m, credential)
	return ch, err
}

func (b *browser) beginAt(m mfa.Method, to string) error {
	c, err := b.BeginCodeRegistration(b.ctx, b.client(), b.session(), m, to)
	b.keep(c)
	return err
}

// registerPhone signs somebody in for the first time and registers his phone.
func (b *browser) registerPhone(p *post, user, number string) {
	b.t.Helper()
	b.must(b.password(user, rightPassword))
	b.want(Register)
	if err := b.beginAt(mfa.SMS, number); err != nil {
		b.t.Fatal(err)
	}
	st, codes, err := b.finish(p.last(b.t).Code)
	if err != nil || st.Step != Done || len(codes) != 10 {
		b.t.Fatalf("step %d, %d recovery codes: %v", st.Step, len(codes), err)
	}
}

// another is a code that is certainly not this one.
func another(code string) string {
	if code == "000000" {
		return "000001"
	}
	return "000000"
}

func TestAPhoneIsRegisteredAndUsed(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", "+31 6 1234 5678")
		if m := p.last(t); m.To != alicesPhone || m.Method != mfa.SMS || m.Text != m.Code+" for hr on hr.example.com" {
			t.Errorf("sent %+v", m)
		}
		b := f.browser()
		st := b.must(b.password("alice", rightPassword))
		if st.Step != Verify || !slices.Equal(st.Ways(time.Now()), []mfa.Method{mfa.SMS, mfa.Voice, mfa.RecoveryCode}) {
			t.Fatalf("step %d, ways %v", st.Step, st.Ways(time.Now()))
		}
		if p.count() != 1 {
			t.Fatal("a code was sent before anybody asked for it")
		}
		ch, err := b.send(mfa.SMS, "")
		if err != nil || ch.To != "+31 •••• ••78" || !ch.Again.Equal(time.Now().Add(30*time.Second)) {
			t.Fatalf("%+v, %v", ch, err)
		}
		code := p.last(t).Code
		if _, err := b.verify(mfa.SMS, another(code)); !errors.Is(err, ErrWrong) {
			t.Fatalf("a wrong code: %v", err)
		}
		if st := b.must(b.verify(mfa.SMS, code[:3]+" "+code[3:])); st.Step != Done {
			t.Fatalf("step %d", st.Step)
		}
		t.Log("a phone that takes messages can be called")
		b = f.browser()
		b.must(b.password("alice", rightPassword))
		if _, err := b.send(mfa.Voice, ""); err != nil {
			t.Fatal(err)
		}
		if m := p.last(t); m.Method != mfa.Voice || m.To != alicesPhone {
			t.Errorf("called %+v", m)
		}
		wantErr(t, "the code of a call as that of a message", second(b.verify(mfa.SMS, p.last(t).Code)), ErrExpired)
		if st := b.must(b.verify(mfa.Voice, p.last(t).Code)); st.Step != Done {
			t.Fatalf("step %d", st.Step)
		}
		if f.events.count(audit.CodeSent) != 3 {
			t.Errorf("%d events of codes that were sent", f.events.count(audit.CodeSent))
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestWithSecurityDefaultsAPhoneThatWasRegisteredBeforeIsStillGood(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		set, err := policy.New(policy.Model{
			Defaults: policy.SecurityDefaults{Off: true}, PerUser: policy.PerUserMFA{On: true},
			Registrable: append([]mfa.Method{mfa.TOTP}, sentMethods...), Sent: sentMethods,
		})
		if err != nil {
			t.Fatal(err)
		}
		*f.rules = *set
		if _, err := f.Accounts.Update(f.ctx, f.people.users["alice"].ID, time.Now(), func(a *account.Account) error {
			a.State.PerUser, a.State.PerUserSince = mfa.PerUserEnabled, time.Now()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		f.browser().registerPhone(p, "alice", alicesPhone)

		f.defaultsOff(false)
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		st := b.want(Verify)
		if ways := st.Ways(time.Now()); !slices.Contains(ways, mfa.SMS) {
			t.Fatalf("ways %v", ways)
		}
		if _, err := b.send(mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		st = b.must(b.verify(mfa.SMS, p.last(t).Code))
		if st.Step != Done {
			t.Fatalf("step %d (%s)", st.Step, st.Decision.Reason)
		}
		if methods := f.Registrable(b.client(), st); !slices.Equal(methods, []mfa.Method{mfa.TOTP}) {
			t.Errorf("with security defaults on, she could register %v", methods)
		}
		wantErr(t, "a second phone", b.beginAt(mfa.SMS, bobsPhone), ErrStep)

		t.Log("nor does bob, who comes for the first time")
		c := f.browser()
		c.must(c.password("bob", rightPassword))
		wantErr(t, "a first phone", c.beginAt(mfa.SMS, bobsPhone), ErrStep)
		wantErr(t, "a mail address", c.beginAt(mfa.Email, "bob@example.com"), ErrStep)
		if err := c.begin(); err != nil {
			t.Errorf("an app: %v", err)
		}
	})
}

func TestACodeIsGoodForItsOwnSignInOnly(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", alicesPhone)
		f.browser().registerPhone(p, "bob", bobsPhone)
		alice, mallory, bob := f.browser(), f.browser(), f.browser()
		alice.must(alice.password("alice", rightPassword))
		mallory.must(mallory.password("alice", rightPassword)) // he knows her password
		bob.must(bob.password("bob", rightPassword))
		if _, err := alice.send(mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		code := p.last(t).Code
		wantErr(t, "in another sign-in of hers", second(mallory.verify(mfa.SMS, code)), ErrExpired)
		wantErr(t, "for somebody else", second(bob.verify(mfa.SMS, code)), ErrExpired)
		if _, err := bob.send(mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		if own := p.last(t); own.To != bobsPhone {
			t.Fatalf("bob's code went to %s", own.To)
		} else if own.Code != code {
			wantErr(t, "for somebody else, who has one", second(bob.verify(mfa.SMS, code)), ErrWrong)
		}
		_, _, err := f.Verify(f.ctx, mallory.client(), alice.session(), mfa.SMS, code)
		wantErr(t, "on the page of another session", err, ErrStep)
		if st := alice.must(alice.verify(mfa.SMS, code)); st.Step != Done {
			t.Errorf("step %d", st.Step)
		}
		mallory.want(Verify)
	})
}

func TestACodeIsGoodOnce(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", alicesPhone)
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if _, err := b.send(mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		code, id, client := p.last(t).Code, b.session(), b.client()
		other := f.node()
		f.equip(other, p, throttle.MessageLimits{})
		var right sync.Map
		var wg sync.WaitGroup
		for i := range 50 {
			s := f.Service
			if i%2 == 1 {
				s = other
			}
			wg.Go(func() {
				if _, cookies, err := s.Verify(f.ctx, client, id, mfa.SMS, code); err == nil {
					right.Store(cookies.Session, true)
				}
			})
		}
		wg.Wait()
		n := 0
		right.Range(func(k, _ any) bool { b.cookies.Session = k.(string); n++; return true })
		if n != 1 {
			t.Fatalf("taken %d times", n)
		}
		b.want(Done)
		wantErr(t, "again", second(b.verify(mfa.SMS, code)), ErrExpired)
	})
}

func TestACodeEndsAfterTenMinutesAndWhenTheNextIsSent(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", alicesPhone)
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if _, err := b.send(mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		first := p.last(t).Code
		_, err := b.send(mfa.SMS, "")
		wantWait(t, "asked again at once", err)
		if p.count() != 2 {
			t.Fatalf("%d messages", p.count())
		}
		time.Sleep(30 * time.Second)
		if _, err := b.send(mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		if next := p.last(t).Code; next != first {
			wantErr(t, "the code before", second(b.verify(mfa.SMS, first)), ErrWrong)
		}
		time.Sleep(9*time.Minute + 29*time.Second)
		// The sign-in itself lasts ten minutes.
		st := b.state()
		if st.Step != Password && st.Step != Verify {
			t.Fatalf("step %d", st.Step)
		}
		c := f.browser()
		c.must(c.password("alice", rightPassword))
		if _, err := c.send(mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Minute - time.Second)
		d := f.browser()
		d.must(d.password("alice", rightPassword))
		_, err = d.verify(mfa.SMS, p.last(t).Code)
		wantErr(t, "in a new sign-in", err, ErrExpired)
	})
}

func TestANewCodeKeepsTheCount(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", alicesPhone)
		tries := 0
		for range throttle.CodeTries {
			b := f.browser() // a fresh sign-in each, and a fresh code
			b.must(b.password("alice", rightPassword))
			if _, err := b.send(mfa.SMS, ""); err != nil {
				t.Fatalf("after %d tries: %v", tries, err)
			}
			wantErr(t, "wrong", second(b.verify(mfa.SMS, another(p.last(t).Code))), ErrWrong)
			tries++
			time.Sleep(2 * time.Minute)
		}
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		sent := p.count()
		// Two minutes of the pause are over.
		_, err := b.send(mfa.SMS, "")
		wantWait(t, "a code in the pause", err)
		if p.count() != sent {
			t.Error("a code was sent that would not be judged")
		}
		time.Sleep(throttle.CodePause)
		c := f.browser()
		c.must(c.password("alice", rightPassword))
		if _, err := c.send(mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		if st := c.must(c.verify(mfa.SMS, p.last(t).Code)); st.Step != Done {
			t.Errorf("after the pause: step %d", st.Step)
		}
	})
}

func TestGuessesAtOnceAreCounted(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", alicesPhone)
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if _, err := b.send(mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		code, id, client := p.last(t).Code, b.session(), b.client()
		var mu sync.Mutex
		judged := 0
		var wg sync.WaitGroup
		for range 60 {
			wg.Go(func() {
				if _, _, err := f.Verify(f.ctx, client, id, mfa.SMS, another(code)); errors.Is(err, ErrWrong) {
					mu.Lock()
					judged++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if judged != throttle.CodeTries {
			t.Errorf("%d guesses were judged", judged)
		}
		wantWait(t, "the right one, in the pause", second(b.verify(mfa.SMS, code)))
	})
}

func TestACodeRequestNamesNoNumber(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", alicesPhone)
		f.browser().registerPhone(p, "bob", bobsPhone)
		bobs, err := f.Accounts.Load(f.ctx, f.people.users["bob"].ID)
		if err != nil {
			t.Fatal(err)
		}
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		before := p.count()
		for _, id := range []string{"+31687654321", bobsPhone, bobs.CredentialsOf(mfa.SMS)[0].ID, "directory-phone", "../" + bobs.Credentials[0].ID, "recovery_code"} {
			_, err := b.send(mfa.SMS, id)
			wantErr(t, id, err, ErrStep)
		}
		if _, err := b.send(mfa.Email, ""); !errors.Is(err, ErrStep) {
			t.Errorf("a mail to who has no address: %v", err)
		}
		if p.count() != before {
			t.Errorf("%d messages went out", p.count()-before)
		}
	})
}

func TestNothingIsSentBeforeThePasswordNorToWhoMayNotSignIn(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", alicesPhone)
		before := p.count()
		b := f.browser()
		if _, err := b.password("alice", "wrong"); !errors.Is(err, ErrPassword) {
			t.Fatal(err)
		}
		_, _, err := f.SendCode(f.ctx, b.client(), "", mfa.SMS, "")
		wantErr(t, "with a wrong password", err, ErrStep)

		b.must(b.password("alice", rightPassword))
		if err := f.admin.Block(f.ctx, "alice", "left", time.Now()); err != nil {
			t.Fatal(err)
		}
		id := b.cookies.Session
		_, _, err = f.SendCode(f.ctx, b.client(), id, mfa.SMS, "")
		wantErr(t, "blocked", err, ErrStep)
		if err := f.admin.Unblock(f.ctx, "alice", time.Now()); err != nil {
			t.Fatal(err)
		}

		c := f.browser()
		c.must(c.password("alice", rightPassword))
		f.people.change("alice", func(u *mfa.User) { u.Disabled = true })
		_, _, err = f.SendCode(f.ctx, c.client(), id, mfa.SMS, "")
		wantErr(t, "disabled", err, ErrStep)
		f.people.change("alice", func(u *mfa.User) { u.Disabled = false })
		if p.count() != before {
			t.Errorf("%d messages went out", p.count()-before)
		}
	})
}

func TestWhoIsBlockedWhileTheFirstGatewayHangsIsNotSentACodeByTheSecond(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", alicesPhone)
		slow := &post{slow: 5 * time.Second, err: fmt.Errorf("%w: full", mfa.ErrNotAccepted)}
		f.Courier = sender.NewCourier(map[mfa.Method][]sender.Route{mfa.SMS: {{Name: "slow", Sender: slow, Timeout: 10 * time.Second}, {Name: "post", Sender: p, Timeout: 10 * time.Second}}},
			func(sender.Report) {}, slog.New(slog.DiscardHandler), nil)
		before := p.count()
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		began := time.Now()
		if _, err := b.send(mfa.SMS, ""); err != nil || time.Since(began) > 2*time.Second {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		if err := f.admin.Block(f.ctx, "alice", "left", time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if slow.count() != 1 || p.count() != before {
			t.Errorf("the first gateway was asked %d times, the second %d", slow.count(), p.count()-before)
		}
	})
}

func TestWhatTheGatewayRefusesIsToldAtOnce(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", alicesPhone)
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		p.err = fmt.Errorf("%w: no credit", mfa.ErrNotAccepted)
		_, err := b.send(mfa.SMS, "")
		wantErr(t, "refused", err, sender.ErrFailed)
		if _, ok, err := f.SentCode(f.ctx, b.client(), b.state(), mfa.SMS); ok || err != nil {
			t.Errorf("a code that was not sent can be typed: %v", err)
		}
		if f.events.count(audit.CodeNotSent) != 1 {
			t.Error("no event says so")
		}
		p.err = errors.New("the connection has ended")
		if _, err := b.send(mfa.Voice, ""); err != nil {
			t.Errorf("perhaps accepted: %v", err)
		}
		// It has arrived after all.
		if st := b.must(b.verify(mfa.Voice, p.last(t).Code)); st.Step != Done {
			t.Errorf("step %d", st.Step)
		}
	})
}

func TestMessagesStopWhenTheyAreTooMany(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.Messages = throttle.NewMessages(f.store, throttle.MessageLimits{User: 4, Number: 100, Prefix: 100, Total: 100})
		b := f.browser()
		b.must(b.password("bob", rightPassword))
		sent := 0
		// Somebody who knows bob's password and earns on each call.
		for n := range 20 {
			if b.state().Step == Password {
				b.must(b.password("bob", rightPassword))
			}
			if err := b.beginAt(mfa.Voice, fmt.Sprintf("+8816555%04d", n)); err == nil {
				sent++
			} else {
				wantWait(t, "too many", err)
			}
			time.Sleep(2 * time.Minute)
		}
		if sent != 4 || p.count() != 4 {
			t.Errorf("%d were sent, %d messages", sent, p.count())
		}
		if err := f.Messages.Stop(f.ctx, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(48 * time.Hour)
		c := f.browser()
		c.must(c.password("alice", rightPassword))
		wantErr(t, "stopped", c.beginAt(mfa.SMS, alicesPhone), throttle.ErrStopped)
	})
}

func TestANumberCountsWhenItsCodeWasTyped(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		wantErr(t, "no number", b.beginAt(mfa.SMS, "none of your business"), mfa.ErrAddress)
		wantErr(t, "an extension", b.beginAt(mfa.SMS, alicesPhone+"x1"), mfa.ErrAddress)
		if err := b.beginAt(mfa.SMS, bobsPhone); err != nil { // mistyped
			t.Fatal(err)
		}
		wrong := p.last(t).Code
		if st := b.state(); st.Account.Registered() {
			t.Fatal("it counts already")
		}
		time.Sleep(30 * time.Second)
		if err := b.beginAt(mfa.SMS, alicesPhone); err != nil {
			t.Fatal(err)
		}
		if right := p.last(t).Code; right != wrong {
			_, _, err := b.finish(wrong)
			wantErr(t, "the code of the number before", err, ErrWrong)
		}
		_, err := b.SendAgain(b.ctx, b.client(), b.session())
		wantWait(t, "again at once", err)
		time.Sleep(time.Minute)
		if _, err := b.SendAgain(b.ctx, b.client(), b.session()); err != nil || p.last(t).To != alicesPhone {
			t.Fatalf("again: %v, to %s", err, p.last(t).To)
		}
		other := f.browser()
		other.must(other.password("alice", rightPassword))
		_, _, err = other.finish(p.last(t).Code)
		wantErr(t, "in another sign-in", err, ErrStep)
		st, _, err := b.finish(p.last(t).Code)
		if err != nil || st.Step != Done {
			t.Fatalf("step %d, %v", st.Step, err)
		}
		a, err := f.Accounts.Load(f.ctx, st.User.ID)
		if err != nil || len(a.CredentialsOf(mfa.SMS)) != 1 || a.CredentialsOf(mfa.SMS)[0].Name != "+31 •••• ••78" {
			t.Errorf("%+v, %v", a.Credentials, err)
		}
		for _, c := range a.Credentials {
			if strings.Contains(c.Name, "345678") {
				t.Errorf("the number stands in the open: %s", c.Name)
			}
		}
	})
}

func TestMoreFactorsNeedAFreshProof(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		b := f.browser()
		b.registerPhone(p, "alice", alicesPhone)
		sent := p.count()
		wantErr(t, "a second phone", b.beginAt(mfa.SMS, bobsPhone), ErrNotFresh)
		if p.count() != sent {
			t.Error("and its code was sent")
		}
		time.Sleep(time.Minute)
		prove := func() {
			t.Helper()
			if _, err := b.send(mfa.SMS, ""); err != nil {
				t.Fatal(err)
			}
			b.must(b.verify(mfa.SMS, p.last(t).Code))
			time.Sleep(2 * time.Minute)
		}
		prove()
		wantErr(t, "the number that she has", b.beginAt(mfa.SMS, alicesPhone), ErrKnown)
		if err := b.beginAt(mfa.SMS, bobsPhone); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		// It was mistyped: mending it is the same change.
		if err := b.beginAt(mfa.SMS, "+31611111111"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.finish(p.last(t).Code); err != nil {
			t.Fatal(err)
		}
		prove()
		wantErr(t, "a third phone", b.beginAt(mfa.Voice, "+31622222222"), ErrTooMany)
		if err := b.beginAt(mfa.Email, "alice@example.com"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.finish(p.last(t).Code); err != nil {
			t.Fatal(err)
		}
		st := b.want(Done)
		if ways := st.Ways(time.Now()); !slices.Equal(ways, []mfa.Method{mfa.SMS, mfa.Voice, mfa.Email}) {
			t.Errorf("ways %v", ways)
		}
		overview, err := f.Overview(f.ctx, b.client(), st)
		if err != nil || len(overview.Factors) != 3 || overview.Factors[2].Name != "a••••@example.com" {
			t.Errorf("%+v, %v", overview.Factors, err)
		}
		t.Log("removed, a phone is of no use any more")
		prove()
		c, err := f.RemoveFactor(f.ctx, b.client(), b.session(), overview.Factors[0].ID)
		b.keep(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.send(mfa.SMS, overview.Factors[0].ID); !errors.Is(err, ErrStep) {
			t.Errorf("a code to the phone that was removed: %v", err)
		}
	})
}

func TestAPhoneThatWasCalledTakesMessagesAfterAll(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if err := b.beginAt(mfa.Voice, alicesPhone); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.finish(p.last(t).Code); err != nil {
			t.Fatal(err)
		}
		if ways := b.state().Ways(time.Now()); slices.Contains(ways, mfa.SMS) {
			t.Errorf("a phone that was only called takes messages: %v", ways)
		}
		if _, err := b.send(mfa.Voice, ""); err != nil {
			t.Fatal(err)
		}
		b.must(b.verify(mfa.Voice, p.last(t).Code))
		if err := b.beginAt(mfa.SMS, alicesPhone); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.finish(p.last(t).Code); err != nil {
			t.Fatal(err)
		}
		overview, err := f.Overview(f.ctx, b.client(), b.state())
		if err != nil || len(overview.Factors) != 1 || overview.Factors[0].Method != mfa.SMS {
			t.Errorf("%+v, %v", overview.Factors, err)
		}
	})
}

func TestTheNumberInTheDirectory(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.people.change("alice", func(u *mfa.User) { u.Phone = alicesPhone })
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		b.want(Verify)
		wantErr(t, "her own phone with the password alone", b.beginAt(mfa.SMS, bobsPhone), ErrNotFresh)
		if _, err := b.send(mfa.SMS, account.DirectoryPhone); err != nil || p.last(t).To != alicesPhone {
			t.Fatalf("%v, to %s", err, p.last(t).To)
		}
		b.must(b.verify(mfa.SMS, p.last(t).Code))
		st := b.want(Done)
		_, err := f.RemoveFactor(f.ctx, b.client(), b.session(), account.DirectoryPhone)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := f.Accounts.Load(f.ctx, st.User.ID); err != nil || len(a.CredentialsOf(mfa.SMS)) != 1 {
			t.Fatalf("she has removed what her directory says: %+v, %v", a.Credentials, err)
		}

		t.Log("another number ends what was begun with the old one")
		c := f.browser()
		c.must(c.password("alice", rightPassword))
		if _, err := c.send(mfa.SMS, ""); err != nil {
			t.Fatal(err)
		}
		code := p.last(t).Code
		f.people.change("alice", func(u *mfa.User) { u.Phone = "+31600000099" })
		wantErr(t, "the code to the old number", second(c.verify(mfa.SMS, code)), ErrWrong)
		time.Sleep(2 * time.Minute)
		d := f.browser()
		d.must(d.password("alice", rightPassword))
		b.want(Password)
		if _, err := d.send(mfa.SMS, ""); err != nil || p.last(t).To != "+31600000099" {
			t.Fatalf("%v, to %s", err, p.last(t).To)
		}

		t.Log("no number makes nobody a person without a factor")
		f.people.change("alice", func(u *mfa.User) { u.Phone = "" })
		e := f.browser()
		st = e.must(e.password("alice", rightPassword))
		if st.Step != Verify || !st.Account.Registered() {
			t.Errorf("step %d, registered: %v", st.Step, st.Account.Registered())
		}
		_, err = e.send(mfa.SMS, "")
		wantErr(t, "a code", err, mfa.ErrNotServed)
		wantErr(t, "an app with the password alone", e.begin(), ErrNotFresh)

		t.Log("a reset doesn't bring it back by itself")
		f.people.change("alice", func(u *mfa.User) { u.Phone = alicesPhone })
		if _, err := f.admin.Reset(f.ctx, "alice", time.Now()); err != nil {
			t.Fatal(err)
		}
		g := f.browser()
		st = g.must(g.password("alice", rightPassword))
		if slices.Contains(st.Ways(time.Now()), mfa.SMS) {
			t.Errorf("ways %v", st.Ways(time.Now()))
		}
	})
}

func TestWhatIsLostIsReplacedWithItsPhone(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		if err := b.beginAt(mfa.SMS, alicesPhone); err != nil {
			t.Fatal(err)
		}
		_, codes, err := b.finish(p.last(t).Code)
		if err != nil {
			t.Fatal(err)
		}
		c := f.browser()
		c.must(c.password("alice", rightPassword))
		c.must(c.verify(mfa.RecoveryCode, codes[0]))
		c.want(Register)
		time.Sleep(2 * time.Minute)
		if err := c.beginAt(mfa.SMS, bobsPhone); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.finish(p.last(t).Code); err != nil {
			t.Fatal(err)
		}
		a, err := f.Accounts.Load(f.ctx, f.people.users["alice"].ID)
		if err != nil || len(a.CredentialsOf(mfa.SMS)) != 1 || a.CredentialsOf(mfa.SMS)[0].Name != "+31 •••• ••21" {
			t.Errorf("%+v, %v", a.Credentials, err)
		}
	})
}

func TestAFactorThatIsNotConfiguredAnyMoreLetsNobodyIn(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.browser().registerPhone(p, "alice", alicesPhone)
		for _, m := range sentMethods {
			delete(f.Factors, m)
		}
		f.Registrars = f.Registrars[:1]
		set, err := policy.New(policy.Model{Defaults: policy.SecurityDefaults{Off: true}, Registrable: []mfa.Method{mfa.TOTP}, Policies: []policy.Policy{everywhere(func(p *policy.Policy) { p.Grant.MFA = true })}})
		if err != nil {
			t.Fatal(err)
		}
		*f.rules = *set
		b := f.browser()
		st := b.must(b.password("alice", rightPassword))
		// She has recovery codes; with the password alone she registers nothing.
		if st.Step != Verify || !slices.Equal(st.Ways(time.Now()), []mfa.Method{mfa.RecoveryCode}) {
			t.Errorf("step %d (%s), ways %v", st.Step, st.Decision.Reason, st.Ways(time.Now()))
		}
		wantErr(t, "an app", b.begin(), ErrNotFresh)
	})
}

func TestStrangersDoNotTakeSomebodysCodesFromHisOwnBrowser(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.Messages = throttle.NewMessages(f.store, throttle.MessageLimits{User: 10, Number: 10, Prefix: 100, Total: 100})
		own := f.browser()
		own.registerPhone(p, "alice", alicesPhone)
		own.cookies.Session = ""

		// He knows the password.
		stranger := f.browser()
		for range 20 {
			if stranger.state().Step == Password {
				stranger.must(stranger.password("alice", rightPassword))
			}
			if _, err := stranger.send(mfa.SMS, ""); err != nil {
				wantWait(t, "too many", err)
			}
			time.Sleep(2 * time.Minute)
		}
		own.must(own.password("alice", rightPassword))
		if _, err := own.send(mfa.SMS, ""); err != nil {
			t.Fatalf("in her own browser: %v", err)
		}
		if st := own.must(own.verify(mfa.SMS, p.last(t).Code)); st.Step != Done {
			t.Errorf("step %d", st.Step)
		}
	})
}

// TestAnEventSaysWhatItsUserIsToldOfIt removes a mail address in a browser: whoever reads it learns of that, in which language, and in which browser.
func TestAnEventSaysWhatItsUserIsToldOfIt(t *testing.T) {
	inWithCodes(t, func(t *testing.T, f *fixture, p *post) {
		f.Describe = func(hint, userAgent string) (string, string) { return "Firefox 140", "Linux" }
		b := f.browser()
		b.registerPhone(p, "alice", alicesPhone)
		time.Sleep(time.Minute)
		prove := func() {
			t.Helper()
			if _, err := b.send(mfa.SMS, ""); err != nil {
				t.Fatal(err)
			}
			b.must(b.verify(mfa.SMS, p.last(t).Code))
			time.Sleep(2 * time.Minute)
		}
		prove()
		if err := b.beginAt(mfa.Email, "alice@example.com"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.finish(p.last(t).Code); err != nil {
			t.Fatal(err)
		}
		alice := f.people.users["alice"].ID
		if to, err := f.MailAddresses(f.ctx, alice); err != nil || !slices.Equal(to, []string{"alice@example.com"}) {
			t.Errorf("her addresses: %q, %v", to, err)
		}
		prove()
		a, err := f.Accounts.LoadClosed(f.ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		c := b.client()
		c.Language, c.Wishes = "nl", "en"
		if _, err := f.RemoveFactor(f.ctx, c, b.session(), a.CredentialsOf(mfa.Email)[0].ID); err != nil {
			t.Fatal(err)
		}
		f.events.mu.Lock()
		defer f.events.mu.Unlock()
		e := f.events.events[len(f.events.events)-1]
		if e.Type != audit.FactorRemoved || !slices.Equal(e.Old, []string{"alice@example.com"}) || e.Browser != "Firefox 140, Linux" || e.Language != "nl" {
			t.Errorf("%+v", e)
		}
	})
}
