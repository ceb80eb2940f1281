package gate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// ErrWrongKey says that an app password or a service token opens nothing: there is none like it, it has ended, or it is for something
// else. The client is told no more.
var ErrWrongKey = errors.New("no such key")

// ErrNotHere is an ErrWrongKey whose secret is right: who has sent it holds the key, and it isn't good for this request.
var ErrNotHere = fmt.Errorf("%w that is good for this", ErrWrongKey)

// Switch is what an application says of app passwords.
type Switch uint8

// The switches. Without one, the user's own setting decides.
const (
	Unset Switch = iota
	On
	Off
)

// Use is what a key is used for.
type Use struct {
	Application  string
	AppPasswords Switch
	Method       string
	Overrides    []string // see Request
	Asked        string   // path as the client sent it, escaped
	Rewritten    string   // path as the application will get it, escaped
	Destinations []string // see Request
	Address      netip.Addr
	Now          time.Time
}

// Holder is who has a key that is good.
type Holder struct {
	User    *mfa.User
	Account *account.Account // nil for a service
	Key     string           // id, no secret
	Name    string           // of the key
	Expires time.Time
}

// Keys judges the keys that programs send in place of a person who signs in. The error is ErrWrongKey, *throttle.WaitError, or wraps
// store.ErrUnavailable or directory.ErrUnavailable.
type Keys interface {
	AppPassword(ctx context.Context, canonicalName, secret string, use Use) (Holder, error)
	ServiceToken(ctx context.Context, id, secret string, use Use) (Holder, error)

	// Again says whether a key that was good before still is. It asks no secret.
	Again(ctx context.Context, h Holder, use Use) error
}
