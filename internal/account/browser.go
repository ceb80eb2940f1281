package account

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Browser is one in which the person has proven a second factor, and has asked not to be asked for it again for a time. Whoever holds
// its token and proves the password is taken to be in it.
type Browser struct {
	ID    string        `json:"-"`
	Token mfa.TokenHash `json:"token"`
	Host  string        `json:"host"` // the only one that it is remembered on

	Method   mfa.Method `json:"method"` // that was proven in it
	Added    time.Time  `json:"added"`  // when that was
	LastUsed time.Time  `json:"last_used,omitzero"`
	Expires  time.Time  `json:"expires"`

	Epoch uint64 `json:"epoch"` // of the account when it was added
	Mark  string `json:"mark"`  // User.Mark then

	UserAgent string `json:"user_agent,omitempty"` // what the browser claims, for its owner to recognise it
}

// MaxBrowsers is how many browsers are remembered for one person. The one that was used longest ago is forgotten for a new one.
const MaxBrowsers = 20

const browserPrefix = "browser/"

// Used is when the browser was last of use.
func (b *Browser) Used() time.Time {
	if b.LastUsed.After(b.Added) {
		return b.LastUsed
	}
	return b.Added
}

// Browser finds a remembered browser that counts now. One from before the factors have changed doesn't.
func (a *Account) Browser(id string, now time.Time) (Browser, bool) {
	for _, b := range a.Browsers {
		if b.ID == id {
			return b, b.Epoch == a.State.Epoch && now.Before(b.Expires)
		}
	}
	return Browser{}, false
}

// PutBrowser remembers a browser, or replaces the one with its id.
func (a *Account) PutBrowser(b Browser) {
	a.RemoveBrowser(b.ID)
	for len(a.Browsers) >= MaxBrowsers {
		oldest := slices.MinFunc(a.Browsers, func(x, y Browser) int { return x.Used().Compare(y.Used()) })
		a.RemoveBrowser(oldest.ID)
	}
	a.Browsers = append(a.Browsers, b)
	slices.SortFunc(a.Browsers, func(x, y Browser) int { return strings.Compare(x.ID, y.ID) })
}

// RemoveBrowser forgets a browser.
func (a *Account) RemoveBrowser(id string) {
	a.Browsers = slices.DeleteFunc(slices.Clone(a.Browsers), func(b Browser) bool { return b.ID == id })
}

// ForgetBrowsers forgets every browser, also those that somebody is about to have remembered with what he has read before.
func (a *Account) ForgetBrowsers() {
	a.Browsers = nil
	a.State.Forgotten++
}

// decodeBrowser reads a browser's record.
func decodeBrowser(r store.Record) (b Browser, err error) {
	err = json.Unmarshal(r.Value, &b)
	b.ID = strings.TrimPrefix(r.Key, browserPrefix)
	return b, err
}

// browserChanges lists which browsers must be written and removed, and says whether other processes must know: of all but of when
// one was used.
func (a *Account) browserChanges(put func(key string, value any, expires time.Time) error, remove func(key string)) (notify bool, err error) {
	kept := map[string]bool{}
	for _, b := range a.Browsers {
		kept[b.ID] = true
		before, existed := a.read.browsers[b.ID]
		if existed && before == b {
			continue
		}
		before.LastUsed = b.LastUsed
		notify = notify || before != b
		if err := put(browserPrefix+b.ID, b, b.Expires); err != nil {
			return false, err
		}
	}
	for _, b := range a.read.order {
		if !kept[b] {
			notify = true
			remove(browserPrefix + b)
		}
	}
	return notify, nil
}
