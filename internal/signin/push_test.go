package signin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/push"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

const origin = "https://hr.example.com"

// notices is a Notifier that remembers.
type notices struct {
	mu   sync.Mutex
	sent []string // endpoints
	gone func()
}

func (*notices) Key() string                   { return "key" }
func (*notices) Check(push.Subscription) error { return nil }
func (n *notices) Notify(to push.Subscription, _ []byte, gone func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent, n.gone = append(n.sent, to.Endpoint), gone
}

// withPush adds phones that approve to a node.
func (f *fixture) withPush(s *Service) *Service {
	factor := push.Factor{}
	s.Registrars = append([]mfa.Registrar{factor}, s.Registrars...)
	s.Factors[mfa.Push] = factor
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{3}, 32))
	if err != nil {
		f.t.Fatal(err)
	}
	s.Phones = NewPhones(f.store, keys)
	s.Phones.Notice = func(...string) []byte { return []byte("look") }
	return s
}

func inWithPush(t *testing.T, test func(*testing.T, *fixture)) {
	in(t, func(t *testing.T, f *fixture) {
		m := f.rules.Model
		m.Registrable, m.Sent = []mfa.Method{mfa.Push, mfa.TOTP}, []mfa.Method{mfa.Push}
		rules, err := policy.New(m)
		if err != nil {
			t.Fatal(err)
		}
		*f.rules = *rules
		f.withPush(f.Service)
		test(t, f)
	})
}

// handset is a phone that approves: what its page does.
type handset struct {
	*fixture
	key    *ecdsa.PrivateKey
	handle string
}

func (f *fixture) handset() *handset {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	return &handset{fixture: f, key: key}
}

func (h *handset) client() Client {
	return Client{Host: "hr.example.com", Origin: origin, Now: time.Now()}
}

func (h *handset) sign(kind string, parts ...string) []byte {
	h.t.Helper()
	digest := sha256.Sum256(push.Statement(kind, origin, parts...))
	r, s, err := ecdsa.Sign(rand.Reader, h.key, digest[:])
	if err != nil {
		h.t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

func (h *handset) public() []byte {
	h.t.Helper()
	raw, err := h.key.PublicKey.Bytes()
	if err != nil {
		h.t.Fatal(err)
	}
	return raw
}

func (h *handset) pair(link string) error {
	paired, err := h.Pair(h.ctx, h.client(), link, h.public(), h.sign("pair", link))
	if err == nil {
		h.handle = paired.Handle
	}
	return err
}

func (h *handset) confirm(link, number string) error {
	return h.ConfirmPairing(h.ctx, h.client(), link, number, h.sign("confirm", link, number))
}

func (h *handset) prompts() ([]PhonePrompt, error) {
	at := time.Now().Unix()
	prompts, _, err := h.PhonePrompts(h.ctx, h.client(), Said{h.handle, at, h.sign("poll", strconv.FormatInt(at, 10))})
	return prompts, err
}

// asked is the only prompt that the phone is shown.
func (h *handset) asked() PhonePrompt {
	h.t.Helper()
	prompts, err := h.prompts()
	if err != nil || len(prompts) != 1 {
		h.t.Fatalf("the phone is asked %v, %v", prompts, err)
	}
	return prompts[0]
}

func inner(prompt string) string { return prompt[len(prompt)-32:] }

func (h *handset) answer(prompt, decision, number string) error {
	return h.AnswerPrompt(h.ctx, h.client(), Said{Handle: h.handle, Signature: h.sign("answer", inner(prompt), decision, number)}, prompt, decision, number)
}

func (b *browser) link() (string, push.Pairing) {
	b.t.Helper()
	st, ch, err := b.Registration(b.ctx, b.client())
	if err != nil {
		b.t.Fatal(err)
	}
	link, err := b.PairingLink(st, ch)
	if err != nil {
		b.t.Fatal(err)
	}
	p, err := push.PairingOf(ch.State)
	if err != nil {
		b.t.Fatal(err)
	}
	return link, p
}

func (b *browser) beginPhone() string {
	b.t.Helper()
	c := b.client()
	c.Origin = origin
	cookies, err := b.BeginRegistration(b.ctx, c, b.session(), mfa.Push)
	b.keep(cookies)
	if err != nil {
		b.t.Fatal(err)
	}
	link, _ := b.link()
	return link
}

// connect registers a phone as the next factor.
func (b *browser) connect() *handset {
	b.t.Helper()
	h := b.handset()
	link := b.beginPhone()
	if err := h.pair(link); err != nil {
		b.t.Fatal(err)
	}
	_, p := b.link()
	if err := h.confirm(link, p.Number); err != nil {
		b.t.Fatal(err)
	}
	if _, _, err := b.finish(""); err != nil {
		b.t.Fatal(err)
	}
	return h
}

// connected is somebody's phone, and a browser that has his password.
func connected(t *testing.T, f *fixture, user string) (*handset, *browser) {
	t.Helper()
	b := f.browser()
	b.must(b.password(user, rightPassword))
	h := b.connect()
	b.want(Done)
	again := f.browser()
	again.must(again.password(user, rightPassword))
	again.want(Verify)
	return h, again
}

func (b *browser) askPhones() error {
	_, err := b.AskPhones(b.ctx, b.client(), b.session())
	return err
}

func (b *browser) number() string {
	b.t.Helper()
	p, ok, err := b.Prompt(b.ctx, b.client(), b.state())
	if err != nil || !ok {
		b.t.Fatalf("there is no prompt: %v", err)
	}
	return p.Number
}

func (b *browser) fetch() (State, error) {
	st, c, err := b.FinishPush(b.ctx, b.client(), b.session())
	b.keep(c)
	return st, err
}

func other(number string) string {
	if number == "42" {
		return "43"
	}
	return "42"
}

func ask(t *testing.T, b *browser) {
	t.Helper()
	if err := b.askPhones(); err != nil {
		t.Fatal(err)
	}
}

func TestAPhoneApprovesASignIn(t *testing.T) {
	inWithPush(t, func(t *testing.T, f *fixture) {
		h, b := connected(t, f, "alice")
		if ways := b.state().Ways(time.Now()); ways[0] != mfa.Push {
			t.Fatal(ways)
		}
		if prompts, err := h.prompts(); err != nil || len(prompts) != 0 {
			t.Fatalf("asked before a button was pressed: %v, %v", prompts, err)
		}
		if _, err := b.fetch(); !errors.Is(err, ErrExpired) {
			t.Fatalf("nobody was asked: %v", err)
		}
		ask(t, b)
		p := h.asked()
		if p.Application != "hr" || p.Address != "203.0.113.9" || p.Host != "hr.example.com" {
			t.Errorf("the phone shows %+v", p)
		}
		if _, err := b.fetch(); !errors.Is(err, ErrWaiting) {
			t.Fatalf("nobody has answered: %v", err)
		}
		b.want(Verify)
		if err := h.answer(p.ID, push.Approve, b.number()); err != nil {
			t.Fatal(err)
		}
		b.want(Verify) // until its own browser asks
		if st := b.must(b.fetch()); st.Step != Done || !st.Current.Proofs.Has(mfa.Push) {
			t.Fatalf("step %d", st.Step)
		}
		if _, err := b.fetch(); err == nil {
			t.Error("an answer counts twice")
		}
		if n := f.events.count(audit.PushAsked); n != 1 {
			t.Errorf("%d prompts in the log", n)
		}
	})
}

func TestWhatAPhoneSaysThatIsRefused(t *testing.T) {
	for name, attack := range map[string]func(*testing.T, *fixture, *handset, *browser) error{
		"a wrong number": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			return h.answer(h.asked().ID, push.Approve, other(b.number()))
		},
		"no number": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			return h.answer(h.asked().ID, push.Approve, "")
		},
		"the right number behind a wrong one": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p, right := h.asked(), b.number()
			wantErr(t, "wrong number", h.answer(p.ID, push.Approve, other(right)), ErrWrong)
			return h.answer(p.ID, push.Approve, right)
		},
		"a denial, and then the right number": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p, right := h.asked(), b.number()
			if err := h.answer(p.ID, push.Deny, ""); err != nil {
				t.Fatal(err)
			}
			return h.answer(p.ID, push.Approve, right)
		},
		"too late": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p, right := h.asked(), b.number()
			time.Sleep(push.Lifetime)
			return h.answer(p.ID, push.Approve, right)
		},
		"much too late": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p, right := h.asked(), b.number()
			time.Sleep(push.Lifetime + fetched)
			return h.answer(p.ID, push.Approve, right)
		},
		"the number of the prompt before": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p, before := h.asked(), b.number()
			if ask(t, b); b.number() == before {
				before = other(before) // the new one is the same by chance
			}
			return h.answer(p.ID, push.Approve, before)
		},
		"another transaction's signature": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			thief := f.browser()
			thief.must(thief.password("alice", rightPassword))
			said := Said{Handle: h.handle, Signature: h.sign("answer", inner(h.asked().ID), push.Approve, b.number())}
			ask(t, thief)
			prompts, err := h.prompts()
			if err != nil || len(prompts) != 2 {
				t.Fatal(prompts, err)
			}
			i := slices.IndexFunc(prompts, func(p PhonePrompt) bool { return p.ID[:32] == thief.session() })
			return f.AnswerPrompt(f.ctx, h.client(), said, prompts[i].ID, push.Approve, b.number())
		},
		"a denial's signature for an approval": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p := h.asked()
			return f.AnswerPrompt(f.ctx, h.client(), Said{Handle: h.handle, Signature: h.sign("answer", inner(p.ID), push.Deny, b.number())}, p.ID, push.Approve, b.number())
		},
		"another person's phone": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p := h.asked()
			stranger, _ := connected(t, f, "bob")
			return stranger.answer(p.ID, push.Approve, b.number())
		},
		"another person's phone with the handle of this one": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p := h.asked()
			stranger, _ := connected(t, f, "bob")
			stranger.handle = h.handle
			return stranger.answer(p.ID, push.Approve, b.number())
		},
		"a key that nobody has registered": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p, unknown := h.asked(), f.handset()
			return unknown.answer(p.ID, push.Approve, b.number())
		},
		"a page on another origin": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			c := h.client()
			c.Origin = "https://crm.example.com"
			p := h.asked()
			return f.AnswerPrompt(f.ctx, c, Said{Handle: h.handle, Signature: h.sign("answer", inner(p.ID), push.Approve, b.number())}, p.ID, push.Approve, b.number())
		},
		"a sign-in whose session has ended": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p, right := h.asked(), b.number()
			if err := f.SignOut(f.ctx, b.client()); err != nil {
				t.Fatal(err)
			}
			err := h.answer(p.ID, push.Approve, right)
			if prompts, listErr := h.prompts(); listErr != nil || len(prompts) > 0 {
				t.Errorf("the phone asks once more: %v, %v", prompts, listErr)
			}
			return err
		},
		"a person who was blocked": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p, right := h.asked(), b.number()
			if err := f.admin.Block(f.ctx, "alice", "left", time.Now()); err != nil {
				t.Fatal(err)
			}
			return h.answer(p.ID, push.Approve, right)
		},
		"a phone that was taken away": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p, right := h.asked(), b.number()
			_, err := f.Accounts.Update(f.ctx, b.state().User.ID, time.Now(), func(a *account.Account) error {
				a.Remove(a.CredentialsOf(mfa.Push)[0].ID)
				a.BeginEpoch("")
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return h.answer(p.ID, push.Approve, right)
		},
		"the same answer again": func(t *testing.T, f *fixture, h *handset, b *browser) error {
			p, right := h.asked(), b.number()
			if err := h.answer(p.ID, push.Approve, right); err != nil {
				t.Fatal(err)
			}
			b.must(b.fetch())
			again := f.browser()
			again.must(again.password("alice", rightPassword))
			ask(t, again)
			err := h.answer(p.ID, push.Approve, right)
			if st, _ := again.fetch(); st.Step == Done {
				t.Error("it lets another browser in")
			}
			b.cookies = again.cookies
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWithPush(t, func(t *testing.T, f *fixture) {
				h, b := connected(t, f, "alice")
				ask(t, b)
				if err := attack(t, f, h, b); err == nil {
					t.Error("it is accepted")
				}
				if b.state().User == nil {
					return // its session has ended
				}
				if st, err := b.fetch(); err == nil || st.Step == Done {
					t.Errorf("and lets the browser in: step %d, %v", st.Step, err)
				}
			})
		})
	}
}

func TestWhoDeniesReportsIt(t *testing.T) {
	inWithPush(t, func(t *testing.T, f *fixture) {
		h, b := connected(t, f, "alice")
		ask(t, b)
		if err := h.answer(h.asked().ID, push.Deny, ""); err != nil {
			t.Fatal(err)
		}
		_, err := b.fetch()
		wantErr(t, "denied", err, ErrReported)
		if f.events.count(audit.SuspiciousReported) != 1 {
			t.Error("the log does not tell of it")
		}
	})
}

func TestPromptsComeToACoolDownOverAllNodes(t *testing.T) {
	inWithPush(t, func(t *testing.T, f *fixture) {
		h, _ := connected(t, f, "alice")
		second := f.withPush(f.node())
		asks := func(n int) error {
			// Each with a sign-in of its own, in turns on two machines.
			b := f.browser()
			b.must(b.password("alice", rightPassword))
			if n%2 == 1 {
				_, err := second.AskPhones(b.ctx, b.client(), b.session())
				return err
			}
			return b.askPhones()
		}
		for n := range 3 {
			if err := asks(n); err != nil {
				t.Fatalf("prompt %d: %v", n+1, err)
			}
			time.Sleep(time.Minute)
		}
		wantWait(t, "a fourth prompt", asks(3))
		wantWait(t, "and on the first machine", asks(4))
		if prompts, err := h.prompts(); err != nil || len(prompts) != 0 {
			t.Errorf("the phone is asked all the same: %v, %v", prompts, err)
		}
		time.Sleep(15 * time.Minute)
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		ask(t, b)
		if err := h.answer(h.asked().ID, push.Approve, b.number()); err != nil {
			t.Fatal(err)
		}
		b.must(b.fetch())
		// The approval takes back what was counted.
		for n := range 3 {
			if err := asks(n); err != nil {
				t.Fatalf("prompt %d after an approval: %v", n+1, err)
			}
		}
		wantWait(t, "one too many", asks(3))

		// Strangers have used up what they share; his own browser is still asked for.
		own := f.browser()
		own.cookies.Browser = b.cookies.Browser
		own.must(own.password("alice", rightPassword))
		if err := own.askPhones(); err != nil {
			t.Errorf("from a browser that is known to be his: %v", err)
		}
	})
}

func TestOfManyAnswersAtOnceOneCounts(t *testing.T) {
	inWithPush(t, func(t *testing.T, f *fixture) {
		h, b := connected(t, f, "alice")
		ask(t, b)
		p, right := h.asked(), b.number()
		var answered, fetched atomic.Int64
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if h.answer(p.ID, push.Approve, right) == nil {
					answered.Add(1)
				}
			})
		}
		wg.Wait()
		id, client := b.session(), b.client()
		for range 20 {
			wg.Go(func() {
				if _, _, err := f.FinishPush(f.ctx, client, id); err == nil {
					fetched.Add(1)
				}
			})
		}
		wg.Wait()
		if answered.Load() != 1 || fetched.Load() != 1 {
			t.Errorf("%d answers, %d proofs", answered.Load(), fetched.Load())
		}
	})
}

func TestAnAnswerIsForItsOwnSessionAlone(t *testing.T) {
	inWithPush(t, func(t *testing.T, f *fixture) {
		h, b := connected(t, f, "alice")
		thief := f.browser()
		thief.must(thief.password("alice", rightPassword))
		ask(t, b)
		if err := h.answer(h.asked().ID, push.Approve, b.number()); err != nil {
			t.Fatal(err)
		}
		if _, err := thief.fetch(); !errors.Is(err, ErrExpired) {
			t.Errorf("another session of the same person: %v", err)
		}
		if _, _, err := thief.FinishPush(f.ctx, thief.client(), b.session()); !errors.Is(err, ErrStep) {
			t.Errorf("with the id of the other one: %v", err)
		}
		thief.want(Verify)
		time.Sleep(push.Lifetime + fetched)
		if _, err := b.fetch(); !errors.Is(err, ErrExpired) {
			t.Errorf("fetched late: %v", err)
		}
		b.want(Verify)
	})
}

func TestWhatConnectsNoPhone(t *testing.T) {
	for name, attack := range map[string]func(*testing.T, *fixture, *browser, string) error{
		"a link that is used twice": func(t *testing.T, f *fixture, b *browser, link string) error {
			if err := f.handset().pair(link); err != nil {
				t.Fatal(err)
			}
			return f.handset().pair(link)
		},
		"a link that is too old": func(t *testing.T, f *fixture, b *browser, link string) error {
			time.Sleep(push.PairingLifetime)
			return f.handset().pair(link)
		},
		"a link of which there is a newer one": func(t *testing.T, f *fixture, b *browser, link string) error {
			b.beginPhone()
			return f.handset().pair(link)
		},
		"a link whose session has ended": func(t *testing.T, f *fixture, b *browser, link string) error {
			if err := f.SignOut(f.ctx, b.client()); err != nil {
				t.Fatal(err)
			}
			return f.handset().pair(link)
		},
		"a link that somebody made up": func(t *testing.T, f *fixture, b *browser, link string) error {
			return f.handset().pair(link[:len(link)-4] + "AAAA")
		},
		"a key that has not signed": func(t *testing.T, f *fixture, b *browser, link string) error {
			h := f.handset()
			_, err := f.Pair(f.ctx, h.client(), link, f.handset().public(), h.sign("pair", link))
			return err
		},
		"a key that is none": func(t *testing.T, f *fixture, b *browser, link string) error {
			h := f.handset()
			_, err := f.Pair(f.ctx, h.client(), link, make([]byte, 65), h.sign("pair", link))
			return err
		},
		"a page on another origin": func(t *testing.T, f *fixture, b *browser, link string) error {
			h := f.handset()
			c := h.client()
			c.Origin = "https://crm.example.com"
			_, err := f.Pair(f.ctx, c, link, h.public(), h.sign("pair", link))
			return err
		},
		"a wrong number, and then the right one": func(t *testing.T, f *fixture, b *browser, link string) error {
			h := f.handset()
			if err := h.pair(link); err != nil {
				t.Fatal(err)
			}
			_, p := b.link()
			wantErr(t, "wrong number", h.confirm(link, other(p.Number)), ErrWrong)
			return h.confirm(link, p.Number)
		},
		"a phone other than the one that opened the link": func(t *testing.T, f *fixture, b *browser, link string) error {
			if err := f.handset().pair(link); err != nil {
				t.Fatal(err)
			}
			_, p := b.link()
			return f.handset().confirm(link, p.Number)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWithPush(t, func(t *testing.T, f *fixture) {
				b := f.browser()
				b.must(b.password("alice", rightPassword))
				link := b.beginPhone()
				if err := attack(t, f, b, link); err == nil {
					t.Error("it is connected")
				}
				if b.state().User != nil {
					if _, _, err := b.finish(""); err == nil {
						t.Error("and registered")
					}
				}
				a, err := f.Accounts.Load(f.ctx, mfa.UserID{Directory: "file", ID: "alice"})
				if err != nil || a.Registered() {
					t.Errorf("the account has a factor: %v", err)
				}
			})
		})
	}
}

func TestAPhoneThatIsNotConfirmedIsNone(t *testing.T) {
	inWithPush(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		link, h := b.beginPhone(), f.handset()
		if err := h.pair(link); err != nil {
			t.Fatal(err)
		}
		if _, err := h.prompts(); !errors.Is(err, ErrPhone) {
			t.Errorf("it is asked: %v", err)
		}
		// Another session of the same person can't finish what this one has begun.
		second := f.browser()
		second.must(second.password("alice", rightPassword))
		if _, _, err := second.finish(""); !errors.Is(err, ErrStep) {
			t.Errorf("another session finishes: %v", err)
		}
		_, p := b.link()
		if err := h.confirm(link, p.Number); err != nil {
			t.Fatal(err)
		}
		if _, err := h.prompts(); !errors.Is(err, ErrPhone) {
			t.Errorf("confirmed, and not registered: %v", err)
		}
		if _, _, err := b.finish(""); err != nil {
			t.Fatal(err)
		}
		if _, err := h.prompts(); err != nil {
			t.Error(err)
		}
	})
}

func TestThereAreAtMostFivePhones(t *testing.T) {
	inWithPush(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.must(b.password("alice", rightPassword))
		phones := []*handset{b.connect()}
		renew := func() {
			// Each change needs a fresh proof.
			ask(t, b)
			if err := phones[0].answer(phones[0].asked().ID, push.Approve, b.number()); err != nil {
				t.Fatal(err)
			}
			b.must(b.fetch())
		}
		for len(phones) < MaxPushDevices {
			renew()
			phones = append(phones, b.connect())
		}
		renew()
		c := b.client()
		c.Origin = origin
		_, err := b.BeginRegistration(b.ctx, c, b.session(), mfa.Push)
		wantErr(t, "a sixth phone", err, ErrTooMany)
		for i, h := range phones {
			if _, err := h.prompts(); err != nil {
				t.Errorf("phone %d: %v", i+1, err)
			}
		}
	})
}

func TestPhonesAreToldWhereTheyWantToBe(t *testing.T) {
	inWithPush(t, func(t *testing.T, f *fixture) {
		n := &notices{}
		f.Phones.Notifier = n
		h, b := connected(t, f, "alice")
		subscribe := func(h *handset, endpoint string, at time.Time) error {
			return f.Subscribe(f.ctx, h.client(), Said{h.handle, at.Unix(), h.sign("subscribe", strconv.FormatInt(at.Unix(), 10), endpoint)}, &push.Subscription{Endpoint: endpoint})
		}
		stranger, _ := connected(t, f, "bob")
		stranger.handle = h.handle
		wantErr(t, "another phone subscribes in its place", subscribe(stranger, "https://evil.example/", time.Now()), ErrPhone)
		wantErr(t, "said long ago", subscribe(h, "https://push.example.net/a", time.Now().Add(-3*time.Minute)), ErrPhone)
		if err := subscribe(h, "https://push.example.net/a", time.Now()); err != nil {
			t.Fatal(err)
		}
		if ask(t, b); !slices.Equal(n.sent, []string{"https://push.example.net/a"}) {
			t.Fatalf("notified: %q", n.sent)
		}
		n.gone()
		if ask(t, b); len(n.sent) != 1 {
			t.Errorf("notified where nobody listens: %q", n.sent)
		}
		h.asked() // by the page all the same
	})
}

func TestWhoApprovesOnAPhoneIsRememberedAndStaysIfHeWished(t *testing.T) {
	for reason, tc := range map[string]struct {
		asks  Wishes // when the phone was asked
		later Wishes // when its answer was fetched
	}{
		"both":                        {asks: Wishes{Stay: true, Remember: true}},
		"to stay":                     {asks: Wishes{Stay: true}},
		"to be remembered":            {asks: Wishes{Remember: true}},
		"nothing":                     {},
		"only after it was asked for": {later: Wishes{Stay: true, Remember: true}},
	} {
		t.Run(reason, func(t *testing.T) {
			inWithPush(t, func(t *testing.T, f *fixture) {
				f.rules.Remember = policy.Remembering{Session: 60 * day, Browser: 30 * day}
				f.Service = f.withPush(f.node())
				h, b := connected(t, f, "alice")
				if o := b.state().Offers(mfa.Push); o.Stay != 60*day || o.Remember != 30*day {
					t.Fatalf("offered %+v", o)
				}
				b.asks = tc.asks
				ask(t, b)
				if err := h.answer(h.asked().ID, push.Approve, b.number()); err != nil {
					t.Fatal(err)
				}
				b.asks = tc.later
				st, cookies, err := b.FinishPush(b.ctx, b.client(), b.session())
				b.keep(cookies)
				if b.must(st, err); st.Step != Done {
					t.Fatalf("step %d", st.Step)
				}
				if stays := cookies.Persist > 0; stays != tc.asks.Stay {
					t.Errorf("he stays signed in: %v", stays)
				}
				if remembered := cookies.Remembered != ""; remembered != tc.asks.Remember {
					t.Errorf("the browser is remembered: %v", remembered)
				}
				b.asks = Wishes{}
				b.anew().wantAsked(reason, !tc.asks.Remember)
			})
		})
	}
}
