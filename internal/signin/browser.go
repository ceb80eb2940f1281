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
//
// Apart from that, in a cookie of its own, it keeps the tokens of browsers that stand for a second factor; see remember.go.
type Browsers struct{ sealer, remembered *seal.Sealer }

// NewBrowsers seals with keys.
func NewBrowsers(keys *seal.Keyring) *Browsers {
	return &Browsers{keys.Sealer("known browser"), keys.Sealer("remembered browser")}
}

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

	// Factor says that he has proven a second factor in it.
	Factor bool `json:"f,omitempty"`

	// Method is the second factor that he has chosen last in it. It says which he is asked for first, never which he may use.
	Method mfa.Method `json:"c,omitempty"`

	// Declined says that he has been asked whether he wants to stay signed in, and doesn't.
	Declined bool `json:"d,omitempty"`
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

// find gives what is known of the browser and the person; nothing if it is not known to him.
func (b *Browsers) find(cookie string, user *mfa.User, a *account.Account, now time.Time) known {
	for _, k := range b.open(cookie) {
		age := now.Sub(time.Unix(k.Since, 0))
		if k.User == user.ID && k.Epoch == a.State.Epoch && k.Mark == user.Mark && age < KnownFor && age > -time.Hour {
			return k
		}
	}
	return known{}
}

// ID gives the id of the browser as one that is known to the person, or nothing.
func (b *Browsers) ID(cookie string, user *mfa.User, a *account.Account, now time.Time) string {
	return b.find(cookie, user, a, now).ID
}

// Lane gives the same for what is counted against his codes: only of a browser in which he has proven a second factor. Where
// policy lets the password be enough, whoever knows it makes as many browsers known as he likes, and could guess on in each.
func (b *Browsers) Lane(cookie string, user *mfa.User, a *account.Account, now time.Time) string {
	if k := b.find(cookie, user, a, now); k.Factor {
		return k.ID
	}
	return ""
}

// Remember gives the cookie value with which the browser is known to the person too, who has proven this in it.
func (b *Browsers) Remember(cookie string, user *mfa.User, a *account.Account, proofs mfa.Proofs, now time.Time) (string, error) {
	return b.note(cookie, user, a, now, func(k *known) {
		var last time.Time
		for _, p := range proofs {
			k.Factor = k.Factor || p.Method != mfa.Password && p.Method != mfa.RememberedBrowser
			switch {
			case !account.Lasting(p.Method) || !p.At.After(last):
			case p.Registered:
				k.Method, last = "", p.At // nobody has chosen since: the strongest comes first
			default:
				k.Method, last = p.Method, p.At
			}
		}
	})
}

// note gives the cookie value with which the browser is known to the person, and something more of both.
func (b *Browsers) note(cookie string, user *mfa.User, a *account.Account, now time.Time, change func(*known)) (string, error) {
	k := b.find(cookie, user, a, now)
	if k.ID == "" {
		k = known{User: user.ID, Epoch: a.State.Epoch, Mark: user.Mark, ID: account.NewCredentialID()}
	}
	k.Since = now.Unix()
	change(&k)
	people := slices.DeleteFunc(b.open(cookie), func(old known) bool { return old.User == user.ID })
	people = append([]known{k}, people...)
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
