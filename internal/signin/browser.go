package signin

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

// Browsers makes a browser known to the people who have signed in with it. That lets nobody in. It only keeps
// apart what is counted against them: strangers who guess at a user's password or codes can't lock him out of
// a browser that is his.
type Browsers struct{ sealer *seal.Sealer }

// NewBrowsers seals with keys.
func NewBrowsers(keys *seal.Keyring) *Browsers { return &Browsers{keys.Sealer("known browser")} }

const (
	// KnownFor is how long a browser stays known after a sign-in.
	KnownFor = 180 * 24 * time.Hour

	maxKnown         = 5 // people to one browser
	maxBrowserCookie = 3072
)

// known is one person to whom the browser is known. It ends when his password or his factors change.
type known struct {
	User  mfa.UserID `json:"u"`
	Epoch uint64     `json:"e"`
	Mark  string     `json:"m"`
	ID    string     `json:"i"` // of browser and person together
	Since int64      `json:"s"` // Unix seconds
}

func (b *Browsers) open(cookie string) []known {
	if cookie == "" || len(cookie) > maxBrowserCookie {
		return nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		return nil
	}
	plain, err := b.sealer.Open(sealed)
	if err != nil {
		return nil
	}
	var people []known
	if json.Unmarshal(plain, &people) != nil {
		return nil
	}
	return people
}

// ID gives the id of the browser as one that is known to the person, or nothing.
func (b *Browsers) ID(cookie string, user *mfa.User, a *account.Account, now time.Time) string {
	for _, k := range b.open(cookie) {
		age := now.Sub(time.Unix(k.Since, 0))
		if k.User == user.ID && k.Epoch == a.State.Epoch && k.Mark == user.Mark && age < KnownFor && age > -time.Hour {
			return k.ID
		}
	}
	return ""
}

// Remember gives the cookie value with which the browser is known to the person too.
func (b *Browsers) Remember(cookie string, user *mfa.User, a *account.Account, now time.Time) (string, error) {
	id := b.ID(cookie, user, a, now)
	if id == "" {
		id = account.NewCredentialID()
	}
	people := slices.DeleteFunc(b.open(cookie), func(k known) bool { return k.User == user.ID })
	people = append([]known{{user.ID, a.State.Epoch, user.Mark, id, now.Unix()}}, people...)
	for {
		people = people[:min(len(people), maxKnown)]
		plain, err := json.Marshal(people)
		if err != nil {
			return "", err
		}
		value := base64.RawURLEncoding.EncodeToString(b.sealer.Seal(plain))
		if len(value) <= maxBrowserCookie || len(people) == 1 {
			return value, nil
		}
		people = people[:len(people)-1]
	}
}
