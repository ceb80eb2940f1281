package account

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

var (
	alice = mfa.UserID{Directory: "file", ID: "alice"}
	bob   = mfa.UserID{Directory: "file", ID: "bob"}
	now   = time.Now().UTC().Truncate(time.Second)
	ctx   = context.Background()
)

func keyring(t testing.TB, secrets ...byte) *seal.Keyring {
	t.Helper()
	var all [][]byte
	for _, s := range secrets {
		all = append(all, bytes.Repeat([]byte{s}, seal.MinSecret))
	}
	keys, err := seal.NewKeyring(all...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func fixture(t testing.TB) (*Service, *store.Memory) {
	s := store.NewMemory()
	return NewService(s, NewView(s), 30*time.Second, keyring(t, 1)), s
}

func app(id string) mfa.Credential {
	return mfa.Credential{ID: id, Method: mfa.TOTP, Added: now, Data: []byte(`{"key":"JBSWY3DPEHPK3PXP"}`)}
}

func TestWhatIsPutComesBack(t *testing.T) {
	s, _ := fixture(t)
	want := app("one")
	want.Name, want.LastUsed, want.Starts, want.Expires = "phone", now.Add(time.Minute), now.Add(time.Hour), now.Add(2*time.Hour)
	if _, err := s.Update(ctx, alice, now, func(a *Account) error {
		if a.Exists() {
			t.Error("the account is there before it was made")
		}
		a.State = State{Name: "alice", Created: now, GraceStarted: now, Blocked: &Block{now, "left the company"}}
		a.Put(want)
		a.SetCodes(mfa.TOTP, "", throttle.Codes{Failures: 3})
		a.SetCodes(mfa.TOTP, "browser", throttle.Codes{Failures: 4, Until: now.Add(time.Hour)})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	a, err := s.Load(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := a.Credential("one")
	if !a.Exists() || !ok || !same(got, want) || a.State.Name != "alice" || a.State.Blocked.Reason != "left the company" || !a.Registered() {
		t.Fatalf("%+v %+v", a.State, got)
	}
	if a.Codes(mfa.TOTP, "").Failures != 3 || a.Codes(mfa.TOTP, "browser").Failures != 4 || a.Codes(mfa.RecoveryCode, "").Failures != 0 {
		t.Fatal("counts differ")
	}
	if b, err := s.Load(ctx, bob); err != nil || b.Exists() || len(b.Credentials) != 0 {
		t.Fatalf("bob has %+v, %v", b, err)
	}
}

func TestNothingChangedWritesNothing(t *testing.T) {
	s, mem := fixture(t)
	put := func(a *Account) error { a.State.Name = "alice"; a.Put(app("one")); return nil }
	if _, err := s.Update(ctx, alice, now, put); err != nil {
		t.Fatal(err)
	}
	before, err := mem.List(ctx, partition(alice), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(ctx, alice, now, put); err != nil {
		t.Fatal(err)
	}
	after, err := mem.List(ctx, partition(alice), "")
	if err != nil || len(before) != len(after) || len(before) != 2 {
		t.Fatalf("%d records before, %d after, %v", len(before), len(after), err)
	}
	for i := range before {
		if before[i].Version != after[i].Version {
			t.Errorf("%s was written again", before[i].Key)
		}
	}
}

func TestAnErrorOfTheChangeWritesNothing(t *testing.T) {
	s, mem := fixture(t)
	mistake := errors.New("mistake")
	if _, err := s.Update(ctx, alice, now, func(a *Account) error { a.Put(app("one")); return mistake }); err != mistake {
		t.Fatal(err)
	}
	if records, err := mem.List(ctx, partition(alice), ""); err != nil || len(records) != 0 {
		t.Fatalf("%v, %v", records, err)
	}
}

func TestParallelUpdatesLoseNothing(t *testing.T) {
	s, _ := fixture(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := s.Update(ctx, alice, now, func(a *Account) error {
				c := a.Codes(mfa.TOTP, "")
				c.Failures++
				a.SetCodes(mfa.TOTP, "", c)
				a.State.Epoch++
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if a, err := s.Load(ctx, alice); err != nil || a.State.Epoch != 50 || a.Codes(mfa.TOTP, "").Failures != 50 {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestADecisionAboutTheStateHoldsUntilItIsWritten(t *testing.T) {
	// Blocked in the middle of a change that was decided while he wasn't.
	s, _ := fixture(t)
	var tries atomic.Int64
	refused := errors.New("blocked")
	_, err := s.Update(ctx, alice, now, func(a *Account) error {
		if a.State.Blocked != nil {
			return refused
		}
		if tries.Add(1) == 1 {
			if _, err := s.Update(ctx, alice, now, func(a *Account) error { a.State.Blocked = &Block{At: now}; return nil }); err != nil {
				t.Error(err)
			}
		}
		a.Put(app("one")) // doesn't touch the state itself
		return nil
	})
	if err != refused {
		t.Fatalf("registered although blocked: %v", err)
	}
}

func TestASwappedSecretDoesNotOpen(t *testing.T) {
	s, mem := fixture(t)
	for _, id := range []mfa.UserID{alice, bob} {
		if _, err := s.Update(ctx, id, now, func(a *Account) error { a.Put(app("one")); a.Put(app("two")); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	take := func(id mfa.UserID, key string) store.Record {
		records, err := mem.Get(ctx, partition(id), credentialPrefix+key)
		if err != nil {
			t.Fatal(err)
		}
		return records[0]
	}
	for reason, from := range map[string]store.Record{"another user's": take(alice, "one"), "another credential's": take(bob, "two")} {
		if _, err := mem.Commit(ctx, store.Commit{Partition: partition(bob), Changes: []store.Change{{Key: credentialPrefix + "one", If: store.Any, Value: from.Value}}}); err != nil {
			t.Fatal(err)
		}
		if a, err := s.Load(ctx, bob); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s opens: %+v, %v", reason, a, err)
		}
	}
}

func TestSecretsAreSealed(t *testing.T) {
	s, mem := fixture(t)
	if _, err := s.Update(ctx, alice, now, func(a *Account) error { a.Put(app("one")); return nil }); err != nil {
		t.Fatal(err)
	}
	records, err := mem.List(ctx, partition(alice), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if strings.Contains(string(r.Value), "JBSWY3DPEHPK3PXP") {
			t.Fatalf("%s holds the key: %s", r.Key, r.Value)
		}
	}
}

func TestADamagedFactorIsNotAMissingOne(t *testing.T) {
	s, mem := fixture(t)
	for key, value := range map[string]string{credentialPrefix + "one": "torn", stateKey: "{", codesPrefix + "totp": "[", "foreign": "{}"} {
		mem.Commit(ctx, store.Commit{Partition: partition(alice), Changes: []store.Change{{Key: key, If: store.Any, Value: []byte(value)}}})
		if a, err := s.Load(ctx, alice); err == nil {
			t.Errorf("%s: %+v", key, a)
		}
		if a, err := s.Get(ctx, alice); err == nil {
			t.Errorf("%s: from memory: %+v", key, a)
		}
		mem.Commit(ctx, store.Commit{Partition: partition(alice), Changes: []store.Change{{Key: key, Op: store.Delete, If: store.Any}}})
	}
}

func TestGetSeesEveryChangeThatMatters(t *testing.T) {
	s, mem := fixture(t)
	elsewhere := NewService(mem, NewView(mem), 30*time.Second, keyring(t, 1))
	for _, change := range []func(*Account) error{
		func(a *Account) error { a.State.Name = "alice"; return nil },
		func(a *Account) error { a.Put(app("one")); return nil },
		func(a *Account) error { a.State.Blocked = &Block{At: now}; return nil },
		func(a *Account) error { a.Remove("one"); return nil },
	} {
		if _, err := s.Get(ctx, alice); err != nil { // is in memory now
			t.Fatal(err)
		}
		want, err := elsewhere.Update(ctx, alice, now, change)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Get(ctx, alice)
		if err != nil || got.State.Name != want.State.Name || (got.State.Blocked == nil) != (want.State.Blocked == nil) || len(got.Credentials) != len(want.Credentials) {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
	}
	if got, err := s.Get(ctx, alice); err != nil || len(got.CredentialsOf(mfa.TOTP)) != 0 {
		t.Fatal(err)
	}
}

func TestGetHoldsNoSecret(t *testing.T) {
	s, _ := fixture(t)
	if _, err := s.Update(ctx, alice, now, func(a *Account) error { a.Put(app("one")); return nil }); err != nil {
		t.Fatal(err)
	}
	a, err := s.Get(ctx, alice)
	if err != nil || len(a.Credentials) != 1 || a.Credentials[0].Data != nil || !a.Registered() {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestExpiredPassIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fixture(t)
		if _, err := s.Update(ctx, alice, time.Now(), func(a *Account) error {
			a.Put(mfa.Credential{ID: "pass", Method: mfa.TemporaryAccessPass, Expires: time.Now().Add(time.Hour), Data: []byte("{}")})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if a, err := s.Load(ctx, alice); err != nil || len(a.Credentials) != 0 || a.Registered() {
			t.Fatalf("%+v, %v", a, err)
		}
	})
}

func TestRecoveryCodesAndPassesAreNoFactor(t *testing.T) {
	a := &Account{}
	a.Put(mfa.Credential{ID: "a", Method: mfa.RecoveryCode})
	a.Put(mfa.Credential{ID: "b", Method: mfa.TemporaryAccessPass})
	if a.Registered() {
		t.Fatal("registered without a factor that lasts")
	}
}

func TestLockedMethodsAreListed(t *testing.T) {
	s, _ := fixture(t)
	a, err := s.Update(ctx, alice, now, func(a *Account) error {
		a.SetCodes(mfa.TOTP, "", throttle.Codes{Failures: throttle.CodeLimit})
		a.SetCodes(mfa.TOTP, "browser", throttle.Codes{Failures: throttle.CodeLimit})
		a.SetCodes(mfa.RecoveryCode, "", throttle.Codes{Failures: 1})
		return nil
	})
	if err != nil || len(a.Locked()) != 1 || a.Locked()[0] != mfa.TOTP {
		t.Fatalf("%v, %v", a.Locked(), err)
	}
	if a, err = s.Update(ctx, alice, now, func(a *Account) error { a.ForgetCodes(); return nil }); err != nil || len(a.Locked()) != 0 {
		t.Fatalf("%v, %v", a.Locked(), err)
	}
	if a, err = s.Load(ctx, alice); err != nil || len(a.Locked()) != 0 || a.Codes(mfa.RecoveryCode, "").Failures != 0 {
		t.Fatalf("%v, %v", a.Locked(), err)
	}
}

// keeper is Caddy's storage.
type keeper struct {
	mu   sync.Mutex
	text string
	err  error
}

func (k *keeper) Load(context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text, k.err
}

func (k *keeper) Save(_ context.Context, text string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.text = text
	}
	return k.err
}

func TestAnEmptiedOrOtherAccountStoreIsRefusedUntilItIsAccepted(t *testing.T) {
	kept, first := &keeper{}, store.NewMemory()
	g := NewGeneration(first, kept, keyring(t, 1))
	for range 2 {
		if err := g.Check(ctx); err != nil {
			t.Fatalf("first use: %v", err)
		}
	}
	if err := NewGeneration(first, kept, keyring(t, 1)).Check(ctx); err != nil {
		t.Fatalf("after a restart: %v", err)
	}
	if err := NewGeneration(first, &keeper{}, keyring(t, 1)).Check(ctx); err != nil {
		t.Fatalf("another machine, for the first time: %v", err)
	}

	emptied := store.NewMemory()
	g = NewGeneration(emptied, kept, keyring(t, 1))
	for range 2 {
		if err := g.Check(ctx); !errors.Is(err, ErrReplaced) {
			t.Fatalf("emptied: %v", err)
		}
	}
	another := store.NewMemory()
	if err := NewGeneration(another, &keeper{}, keyring(t, 1)).Check(ctx); err != nil {
		t.Fatal(err)
	}
	if err := NewGeneration(another, kept, keyring(t, 1)).Check(ctx); !errors.Is(err, ErrReplaced) {
		t.Fatalf("another store: %v", err)
	}
	if err := errors.Join(g.Accept(ctx), g.Check(ctx)); err != nil {
		t.Fatalf("accepted: %v", err)
	}
	if err := NewGeneration(first, kept, keyring(t, 1)).Check(ctx); !errors.Is(err, ErrReplaced) {
		t.Fatalf("the old store, after another was accepted: %v", err)
	}
}

func TestASecretThatWasLostIsNoticed(t *testing.T) {
	kept, s := &keeper{}, store.NewMemory()
	for _, step := range []struct {
		reason  string
		secrets []byte
		refused bool
	}{
		{"the first", []byte{1}, false},
		{"lost, and another made", []byte{2}, true},
		{"given back beside it", []byte{2, 1}, false},
		{"a node that has not heard of the new one", []byte{1}, false},
		{"the old one dropped", []byte{2}, false},
		{"a third", []byte{3}, true},
	} {
		g := NewGeneration(s, kept, keyring(t, step.secrets...))
		for range 2 {
			if err := g.Check(ctx); errors.Is(err, ErrReplaced) != step.refused || err != nil && !step.refused {
				t.Fatalf("%s: %v", step.reason, err)
			}
		}
		if step.refused && !strings.Contains(g.Check(ctx).Error(), "another secret") {
			t.Errorf("%s: %v", step.reason, g.Check(ctx))
		}
	}
	g := NewGeneration(s, kept, keyring(t, 3))
	if err := errors.Join(g.Accept(ctx), g.Check(ctx)); err != nil {
		t.Fatalf("accepted: %v", err)
	}
}

func TestAStoreThatIsFlushedWhileWeRunIsNoticed(t *testing.T) {
	kept, s := &keeper{}, store.NewMemory()
	g := NewGeneration(s, kept, keyring(t, 1))
	if err := g.Check(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, store.Commit{Partition: generationPartition, Changes: []store.Change{{Key: generationKey, Op: store.Delete, If: store.Any}}}); err != nil {
		t.Fatal(err)
	}
	if err := g.Check(ctx); !errors.Is(err, ErrReplaced) {
		t.Fatal(err)
	}
}

func TestNodesThatStartAtOnceAgreeOnOneName(t *testing.T) {
	s := store.NewMemory()
	var wg sync.WaitGroup
	keepers := make([]*keeper, 20)
	for i := range keepers {
		keepers[i] = &keeper{}
		wg.Go(func() {
			if err := NewGeneration(s, keepers[i], keyring(t, 1)).Check(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keepers {
		if k.text == "" || k.text != keepers[0].text {
			t.Fatalf("%q and %q", k.text, keepers[0].text)
		}
	}
}

func TestAnAcceptedStoreIsNoticedByTheOtherNodes(t *testing.T) {
	kept, emptied := &keeper{text: "before"}, store.NewMemory()
	here, there := NewGeneration(emptied, kept, keyring(t, 1)), NewGeneration(emptied, kept, keyring(t, 1))
	if err := there.Check(ctx); !errors.Is(err, ErrReplaced) {
		t.Fatal(err)
	}
	if err := errors.Join(here.Accept(ctx), there.Check(ctx)); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCantBeReadIsUnavailable(t *testing.T) {
	kept, s := &keeper{err: errors.New("disk")}, store.NewMemory()
	if err := NewGeneration(s, kept, keyring(t, 1)).Check(ctx); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("storage fails: %v", err)
	}
	s.Close()
	if err := NewGeneration(s, &keeper{}, keyring(t, 1)).Check(ctx); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("store fails: %v", err)
	}
}

func TestAnEpochEndsEverySessionButTheOneThatBeganIt(t *testing.T) {
	a := &Account{State: State{Epoch: 4}}
	own, other := &mfa.Session{ID: "own", CredentialEpoch: 4}, &mfa.Session{ID: "other", CredentialEpoch: 4}
	if !a.Honors(own) || !a.Honors(other) {
		t.Error("sessions of the epoch are not honored")
	}
	a.BeginEpoch("own")
	if !a.Honors(own) || a.Honors(other) {
		t.Error("after a change in the session own, that one alone goes on")
	}
	for reason, s := range map[string]*mfa.Session{
		"older than the change":              {ID: "own", CredentialEpoch: 3},
		"from an epoch that has not come":    {ID: "own", CredentialEpoch: 6},
		"another's of the epoch before":      {ID: "ow", CredentialEpoch: 4},
		"without an id, of the epoch before": {CredentialEpoch: 4},
	} {
		if a.Honors(s) {
			t.Error(reason)
		}
	}
	own.CredentialEpoch = 5
	a.BeginEpoch("")
	if a.Honors(own) || a.Honors(&mfa.Session{CredentialEpoch: 5}) {
		t.Error("an administrator's change ends every session")
	}
}

func TestANewSecretIsUsedForEverythingAtTheNextChange(t *testing.T) {
	s, mem := fixture(t)
	if _, err := s.Update(ctx, alice, now, func(a *Account) error { a.Put(app("one")); a.Put(app("two")); return nil }); err != nil {
		t.Fatal(err)
	}
	node := func(secrets ...byte) *Service {
		return NewService(mem, NewView(mem), 30*time.Second, keyring(t, secrets...))
	}
	if _, err := node(2).Load(ctx, alice); !errors.Is(err, seal.ErrOpen) {
		t.Fatalf("another secret: %v", err)
	}
	// Whatever is changed, nothing stays behind under the old secret.
	if _, err := node(2, 1).Update(ctx, alice, now, func(a *Account) error { a.State.Name = "alice"; return nil }); err != nil {
		t.Fatal(err)
	}
	a, err := node(2).Load(ctx, alice)
	if err != nil || len(a.Credentials) != 2 || !same(a.Credentials[0], app("one")) {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestAnAccountThatDoesNotOpenCanBeReset(t *testing.T) {
	s, mem := fixture(t)
	if _, err := s.Update(ctx, alice, now, func(a *Account) error { a.Put(app("one")); return nil }); err != nil {
		t.Fatal(err)
	}
	other := NewService(mem, NewView(mem), 30*time.Second, keyring(t, 2))
	closed, err := other.LoadClosed(ctx, alice)
	if err != nil || !closed.Registered() || closed.Credentials[0].Data != nil {
		t.Fatalf("%+v, %v", closed, err)
	}
	if _, err := other.UpdateClosed(ctx, alice, now, func(a *Account) error {
		a.Remove("one")
		a.Put(app("two"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	a, err := other.Load(ctx, alice)
	if err != nil || len(a.Credentials) != 1 || !same(a.Credentials[0], app("two")) {
		t.Fatalf("%+v, %v", a, err)
	}
}

// What a maker vouched for can't be given to another passkey by whoever can write the store.
func TestAModelBelongsToItsPasskey(t *testing.T) {
	s, kept := fixture(t)
	if _, err := s.Update(ctx, alice, now, func(a *Account) error {
		a.Put(mfa.Credential{ID: "key", Method: mfa.Passkey, RP: "hr.example.com", Model: "model", Data: []byte("{}")})
		a.Put(mfa.Credential{ID: "plain", Method: mfa.Passkey, RP: "hr.example.com", Data: []byte("{}")})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	a, err := s.Load(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := a.Credential("key"); c.Model != "model" {
		t.Fatalf("%+v", c)
	}
	records, err := kept.Get(ctx, partition(alice), credentialPrefix+"plain")
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Replace(records[0].Value, []byte(`"rp"`), []byte(`"model":"model","rp"`), 1)
	if _, err := kept.Commit(ctx, store.Commit{Partition: partition(alice), Changes: []store.Change{{Key: credentialPrefix + "plain", If: store.Any, Value: forged}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx, alice); err == nil {
		t.Fatal("a passkey has become one of a model")
	}
}
