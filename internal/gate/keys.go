package gate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// ErrWrongKey says that an app password or a service token opens nothing: there is none like it, it has ended, or it is for something
// else. The client is told no more.
var ErrWrongKey = errors.New("no such key")

// ErrNotHere is an ErrWrongKey whose secret is right: who has sent it holds the key, and it isn't good for this request.
var ErrNotHere = fmt.Errorf("%w that is good for this", ErrWrongKey)

// ErrStale says that a Digest credential is right, and its nonce was too old or was used with this count before. A client that is given
// another nonce tries again by itself (RFC 7616, section 3.3).
var ErrStale = errors.New("the nonce is used up")

// AppPasswordRealm is what clients are told that an app password is asked for. What is kept for HTTP Digest depends on it.
func AppPasswordRealm(application string) string { return application + ": app password" }

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

	Line Line // for a Digest credential
}

// Line is a request line as the client sent it, before anything was rewritten.
type Line struct {
	Method string
	Target string // path and query, or an absolute URI (RFC 9112, section 3.2)
	Host   string // of the header; of the target, if that has one
}

// Is says whether a URI is the request's own target: letter by letter, but that one may name the host and the other not.
func (l *Line) Is(uri string) bool {
	if uri == l.Target {
		return true
	}
	target, _ := l.local(l.Target) // empty if it is none, and no path equals that
	local, ok := l.local(uri)
	return ok && local == target && strings.HasPrefix(local, "/")
}

// local cuts scheme and host from an absolute URI, if it is this host.
func (l *Line) local(uri string) (string, bool) {
	if strings.HasPrefix(uri, "/") {
		return uri, true
	}
	scheme, rest, ok := strings.Cut(uri, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") || !strings.EqualFold(rest[:end], l.Host) {
		return "", false
	}
	if rest = rest[end:]; !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	return rest, true
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

	// AppPasswordOverDigest judges an app password that has come over HTTP Digest. The error can be ErrStale, too.
	AppPasswordOverDigest(ctx context.Context, canonicalName string, c *legacy.DigestCredential, use Use) (Holder, error)

	// Challenges ask for that: values of WWW-Authenticate, in the order in which they are sent. stale tells the client to try again with what it has.
	Challenges(application string, stale bool, now time.Time) []string

	// Again says whether a key that was good before still is. It asks no secret.
	Again(ctx context.Context, h Holder, use Use) error
}
