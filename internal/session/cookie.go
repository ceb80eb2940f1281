package session

import (
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/gorilla/securecookie"
	"github.com/maypok86/otter/v2"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// ErrCookie says that a cookie's value is not one that we have made.
var ErrCookie = errors.New("not a session cookie")

// Names of our cookies, as they are over plain http on this machine. Everywhere else they have the prefix __Host-,
// which keeps a browser from taking them from another host, or from plain http (RFC 6265bis, section 4.1.3.2).
const (
	CookieName         = "mfa_session"
	BrowserCookieName  = "mfa_browser"
	LanguageCookieName = "mfa_language"
	BindingCookieName  = "mfa_signin" // ties what a passkey answers to the browser that was asked
	LaterCookieName    = "mfa_later"  // no passkey is offered in this browser

	// RememberedCookieName is of the cookie that stands for a second factor.
	RememberedCookieName = "mfa_remembered"

	hostPrefix = "__Host-"
)

// CookieNames lists every name that our cookies can have: what an application neither sees nor sets.
var CookieNames = []string{
	hostPrefix + CookieName, hostPrefix + BrowserCookieName, hostPrefix + LanguageCookieName,
	CookieName, BrowserCookieName, LanguageCookieName,
	hostPrefix + BindingCookieName, hostPrefix + LaterCookieName, BindingCookieName, LaterCookieName,
	hostPrefix + RememberedCookieName, RememberedCookieName,
}

// NewCookie makes one of our cookies. secure says that the browser talks https to this host. A maxAge of zero, in
// seconds, lets it end with the browser; a negative one removes it.
func NewCookie(name, value string, secure bool, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName(name, secure), Value: value, Path: "/", MaxAge: maxAge,
		Secure: secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

func cookieName(name string, secure bool) string {
	if secure {
		return hostPrefix + name
	}
	return name
}

// CookieValue finds one of our cookies in a request. A cookie that is there twice counts as missing: one of the two
// was put there by somebody else.
func CookieValue(r *http.Request, name string, secure bool) string {
	name = cookieName(name, secure)
	value, found := "", false
	for _, line := range r.Header["Cookie"] {
		for n, v := range cookies(line) {
			if n != name {
				continue
			}
			if found {
				return ""
			}
			value, found = v, true
		}
	}
	return value
}

// Key is what a session cookie holds. It is not copied: what is looked up by it stays beside it.
type Key struct {
	User  mfa.UserID
	ID    string // of the session
	Token [mfa.TokenSize]byte

	partition string        // of the user's sessions
	hash      mfa.TokenHash // of Token

	place  atomic.Pointer[store.Place[*kept]] // of the session, in its manager's view; nil until it is looked for
	beside atomic.Value                       // see Current.BesideKey
}

// newKey completes a key with what is looked up by it on every request.
func newKey(user mfa.UserID, id string, token [mfa.TokenSize]byte) *Key {
	return &Key{User: user, ID: id, Token: token, partition: Partition(user), hash: mfa.HashToken(token)}
}

const idSize = 16

// Codec seals keys into cookie values and opens them. It remembers the values that it has opened: a browser sends the same
// one with every request.
type Codec struct {
	codecs []securecookie.Codec
	opened *otter.Cache[string, *Key]
}

// maxOpened is how many opened values are remembered.
const maxOpened = 100_000

// maxCookie is how long a cookie's value may be, in bytes. User ids are at most about 400 bytes in it.
const maxCookie = 2048

// NewCodec makes a codec with keys derived from the operator's secrets. It opens what any of them has sealed.
func NewCodec(keys *seal.Keyring) *Codec {
	hash, block := keys.Keys("session cookie hash", 32), keys.Keys("session cookie block", 32)
	c := &Codec{opened: otter.Must(&otter.Options[string, *Key]{MaximumSize: maxOpened})}
	for i := range hash {
		sc := securecookie.New(hash[i], block[i])
		// How old a cookie may be, the store says: it knows when the session ends.
		sc.MaxAge(0)
		sc.MaxLength(maxCookie)
		sc.SetSerializer(securecookie.NopEncoder{})
		c.codecs = append(c.codecs, sc)
	}
	return c
}

const cookieFormat = 1

// Encode seals a key.
func (c *Codec) Encode(k *Key) (string, error) {
	id, err := hex.DecodeString(k.ID)
	if err != nil || len(id) != idSize {
		return "", errors.New("session id is not 16 bytes in hex")
	}
	plain := append([]byte{cookieFormat}, id...)
	plain = append(plain, k.Token[:]...)
	plain = append(plain, k.User.String()...)
	return c.codecs[0].Encode(CookieName, plain)
}

// Decode opens what Encode made. The error is ErrCookie.
func (c *Codec) Decode(value string) (*Key, error) {
	if value == "" || len(value) > maxCookie {
		return nil, ErrCookie
	}
	// What was opened once stays open: a key says nothing about whether its session still lives.
	if key, ok := c.opened.GetIfPresent(value); ok {
		return key, nil
	}
	key, err := c.open(value)
	if err == nil {
		c.opened.Set(strings.Clone(value), key)
	}
	return key, err
}

func (c *Codec) open(value string) (*Key, error) {
	for _, codec := range c.codecs {
		var plain []byte
		if codec.Decode(CookieName, value, &plain) != nil {
			continue
		}
		if len(plain) < 1+idSize+mfa.TokenSize || plain[0] != cookieFormat {
			return nil, ErrCookie
		}
		user, err := mfa.ParseUserID(string(plain[1+idSize+mfa.TokenSize:]))
		if err != nil {
			return nil, ErrCookie
		}
		return newKey(user, hex.EncodeToString(plain[1:1+idSize]), [mfa.TokenSize]byte(plain[1+idSize:])), nil
	}
	return nil, ErrCookie
}
