package account

import (
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

func appPassword(id string) *AppPassword {
	return &AppPassword{
		ID: id, Name: "phone", Application: "mail", From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Methods: []string{"GET"}, Paths: []string{"/dav/*"},
		Made: now, By: "admin", Expires: now.Add(time.Hour), Mark: "m", Digest: []byte("digest"), HTTPDigest: []byte("sealed"), LastUsed: now,
	}
}

func TestAnAppPasswordComesBackAsItWasPut(t *testing.T) {
	s, _ := fixture(t)
	want := appPassword("one")
	if _, err := s.Update(ctx, alice, now, func(a *Account) error {
		a.AddAppPassword(want)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// Also from memory, and without the factors' data.
	a, err := s.Get(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := a.AppPassword("one"); !ok || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v", got)
	}
	if _, ok := a.AppPassword("two"); ok {
		t.Fatal("there is another")
	}
	if len(a.Credentials) != 0 || a.Registered() {
		t.Fatal("an app password counts as a factor")
	}
}

func TestAppPasswordsThatAreMadeAtOnceKnowOfEachOther(t *testing.T) {
	s, _ := fixture(t)
	const most = 3
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if _, err := s.Update(ctx, alice, now, func(a *Account) error {
				if len(a.AppPasswords) < most {
					a.AddAppPassword(appPassword(string(rune('a' + i))))
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if a, err := s.Load(ctx, alice); err != nil || len(a.AppPasswords) != most {
		t.Fatalf("%d, %v", len(a.AppPasswords), err)
	}
}

func TestOthersHearOfAnAppPasswordThatEndsAndNotOfItsUse(t *testing.T) {
	s, memory := fixture(t)
	told := 0
	defer memory.Watch(func(string) { told++ })()
	p := appPassword("one")
	update := func(change func(*Account)) {
		t.Helper()
		if _, err := s.UpdateClosed(ctx, alice, now, func(a *Account) error { change(a); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	update(func(a *Account) { a.AddAppPassword(p) })
	if told != 1 {
		t.Fatalf("told %d times of a new one", told)
	}
	later := now.Add(10 * time.Minute)
	if err := s.UseAppPassword(ctx, alice, p, later, Renewed{}); err != nil {
		t.Fatal(err)
	}
	a, err := s.Load(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := a.AppPassword("one"); told != 1 || !got.LastUsed.Equal(later) || string(got.Digest) != "digest" {
		t.Fatalf("told %d times, %+v", told, got)
	}
	update(func(a *Account) { a.RemoveAppPasswords(func(p *AppPassword) bool { return p.ID == "one" }) })
	if told != 2 {
		t.Fatalf("told %d times of the end", told)
	}
	// Who uses it at that moment doesn't bring it back.
	if err := s.UseAppPassword(ctx, alice, p, later, Renewed{}); err != nil {
		t.Fatal(err)
	}
	if records, err := memory.List(ctx, partition(alice), appPasswordPrefix); err != nil || len(records) != 0 {
		t.Fatalf("%v, %v", records, err)
	}
}

func TestAUseOfAnOlderAppPasswordDoesNotTouchOneWithItsID(t *testing.T) {
	s, memory := fixture(t)
	old, replaced := appPassword("one"), appPassword("one")
	replaced.Digest = []byte("another")
	if _, err := s.Update(ctx, alice, now, func(a *Account) error { a.AddAppPassword(replaced); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.UseAppPassword(ctx, alice, old, now.Add(time.Hour), Renewed{Digest: []byte("forged"), HTTPDigest: []byte("forged")}); err != nil {
		t.Fatal(err)
	}
	records, err := memory.List(ctx, partition(alice), appPasswordPrefix)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeAppPassword(records[0].Key, records[0].Value); err != nil || !reflect.DeepEqual(got, replaced) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestAnAppPasswordThatHasExpiredLeavesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		s := NewService(memory, NewView(memory), time.Second, keyring(t, 1))
		p := appPassword("one")
		p.Expires = time.Now().Add(time.Hour)
		if _, err := s.Update(ctx, alice, time.Now(), func(a *Account) error { a.AddAppPassword(p); return nil }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if a, err := s.Load(ctx, alice); err != nil || len(a.AppPasswords) != 0 {
			t.Fatalf("%v, %v", a.AppPasswords, err)
		}
	})
}
