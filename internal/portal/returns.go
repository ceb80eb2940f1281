package portal

import (
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

// Returns seals where a browser was going when it was sent to sign in. A bare URL would let anybody write links that
// sign people in and then take them elsewhere; and it would tell what they were looking for.
type Returns struct{ sealer *seal.Sealer }

// NewReturns seals with keys.
func NewReturns(keys *seal.Keyring) *Returns { return &Returns{keys.Sealer("return")} }

const (
	// returnLifetime is how long the way back is kept.
	returnLifetime = 10 * time.Minute

	// maxTarget is the length of the longest path and query that is kept, in bytes.
	maxTarget = 4096
)

// Return is where a browser was going.
type Return struct {
	Target      string // path and query, as the client sent them; empty: the front page
	Application string // that the path belongs to
}

// Seal makes the token for a destination on a host.
func (rs *Returns) Seal(r Return, host string, now time.Time) string {
	if len(r.Target) > maxTarget {
		r.Target = ""
	}
	plain := make([]byte, 0, 2*binary.MaxVarintLen64+len(r.Application)+len(r.Target))
	plain = binary.AppendVarint(plain, now.Add(returnLifetime).Unix())
	plain = binary.AppendUvarint(plain, uint64(len(r.Application)))
	plain = append(plain, r.Application...)
	plain = append(plain, r.Target...)
	return base64.RawURLEncoding.EncodeToString(rs.sealer.Seal(plain, host))
}

// Open gives the destination that a token was made for on this host, and the zero Return for any other text, also when
// the token is too old: then the browser lands on the front page.
func (rs *Returns) Open(token, host string, now time.Time) Return {
	if token == "" || len(token) > 3*maxTarget {
		return Return{}
	}
	sealed, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return Return{}
	}
	plain, err := rs.sealer.Open(sealed, host)
	if err != nil {
		return Return{}
	}
	// Only we have sealed it, but an older or a newer version of us may have.
	expires, n := binary.Varint(plain)
	if n <= 0 || now.Unix() >= expires {
		return Return{}
	}
	plain = plain[n:]
	size, n := binary.Uvarint(plain)
	if n <= 0 || size > uint64(len(plain)-n) {
		return Return{}
	}
	application, target := plain[n:n+int(size)], plain[n+int(size):]
	return Return{string(target), string(application)}
}

// URL is the destination as a reference that leads nowhere but to this host.
func (r Return) URL() string {
	t := r.Target
	switch {
	case t == "", t[0] != '/', strings.ContainsFunc(t, func(c rune) bool { return c < 0x20 || c == 0x7f }):
		return "/"
	case strings.ContainsAny(t, `\`):
		// Browsers read a backslash as a slash.
		t = strings.ReplaceAll(t, `\`, "%5C")
	}
	if strings.HasPrefix(t, "//") {
		// A reference that begins with two slashes names a host. The dot segment goes when it is resolved (RFC 3986,
		// section 5.2.4), and the path is what it was.
		t = "/." + t
	}
	if u, err := url.Parse(t); err != nil || u.Host != "" || u.Scheme != "" {
		return "/"
	}
	return t
}
