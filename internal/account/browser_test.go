package account

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// browser is one that was remembered some time ago.
func browser(id string, age time.Duration) Browser {
	return Browser{ID: id, Host: "hr.example.com", Method: mfa.TOTP, Token: mfa.TokenHash{1}, Added: now.Add(-age), Expires: now.Add(24 * time.Hour), Mark: "m", UserAgent: "x"}
}

func TestRememberedBrowsersComeBackAndGo(t *testing.T) {
	s, memory := fixture(t)
	told := 0
	defer memory.Watch(func(string) { told++ })()
	update := func(change func(*Account)) *Account {
		t.Helper()
		if _, err := s.Update(ctx, alice, now, func(a *Account) error { change(a); return nil }); err != nil {
			t.Fatal(err)
		}
		a, err := s.Load(ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := update(func(a *Account) {
		a.State.Name = "alice"
		a.PutBrowser(browser("one", time.Hour))
		a.PutBrowser(browser("two", 0))
	})
	if got, ok := a.Browser("one", now); !ok || got != browser("one", time.Hour) {
		t.Fatalf("%+v", got)
	}
	if _, ok := a.Browser("one", now.Add(24*time.Hour)); ok {
		t.Error("one whose time is over counts")
	}
	if _, ok := a.Browser("three", now); ok {
		t.Error("one that is not there counts")
	}
	before := told
	a = update(func(a *Account) {
		b, _ := a.Browser("one", now)
		b.LastUsed = now
		a.PutBrowser(b)
	})
	if b, _ := a.Browser("one", now); !b.LastUsed.Equal(now) || told != before {
		t.Errorf("used %v; others were told %d times", b.LastUsed, told-before)
	}
	a = update(func(a *Account) { a.RemoveBrowser("two") })
	if _, ok := a.Browser("two", now); ok || len(a.Browsers) != 1 || told != before+1 {
		t.Errorf("%+v; others were told %d times", a.Browsers, told-before)
	}
	forgotten := a.State.Forgotten
	if a = update(func(a *Account) { a.BeginEpoch("") }); len(a.Browsers) != 0 || a.State.Forgotten == forgotten {
		t.Errorf("after a change of factors: %+v", a.Browsers)
	}
	// One of an epoch before counts for nothing, whoever has written it.
	if a = update(func(a *Account) { a.PutBrowser(browser("old", 0)) }); len(a.Browsers) != 1 {
		t.Fatalf("%+v", a.Browsers)
	}
	if _, ok := a.Browser("old", now); ok {
		t.Error("one of another epoch counts")
	}
}

func TestTheBrowserThatWasUsedLongestAgoIsForgotten(t *testing.T) {
	a := &Account{}
	for i := range MaxBrowsers {
		a.PutBrowser(browser(fmt.Sprint(i), time.Duration(i)*time.Hour))
	}
	oldest, _ := a.Browser(fmt.Sprint(MaxBrowsers-1), now)
	oldest.LastUsed = now
	a.PutBrowser(oldest)
	a.PutBrowser(browser("new", 0))
	if _, ok := a.Browser(oldest.ID, now); !ok || len(a.Browsers) != MaxBrowsers {
		t.Errorf("%d are left, the one that was used among them: %v", len(a.Browsers), ok)
	}
	if _, ok := a.Browser(fmt.Sprint(MaxBrowsers-2), now); ok {
		t.Error("the one that was used longest ago is left")
	}
}
