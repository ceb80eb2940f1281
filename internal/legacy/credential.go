package legacy

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Credential is what a Basic credential holds, byte for byte. Nothing prints it: some programs put their secret where the
// user's name belongs.
type Credential struct{ User, Password string }

const hidden = "[hidden]"

// Format is for fmt, whatever the verb.
func (Credential) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// String is for whoever doesn't use fmt.
func (Credential) String() string { return hidden }

// GoString is for whoever doesn't use fmt.
func (Credential) GoString() string { return hidden }

// MarshalText is for encoders: JSON, XML, log/slog.
func (Credential) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// parseBasic reads what follows the scheme (RFC 7617, section 2). Padding may be missing, since that leaves one reading. What
// is not base64 to everybody, or holds what may not stand in a name or a password, is refused.
func parseBasic(token string) (*Credential, bool) {
	decoded, ok := decodeToken(token)
	if !ok {
		return nil, false
	}
	for i := range len(decoded) {
		if c := decoded[i]; c < 0x20 || c == 0x7f {
			return nil, false
		}
	}
	user, password, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return nil, false
	}
	return &Credential{user, password}, true
}

// decodeToken decodes base64, padded or not.
func decodeToken(token string) ([]byte, bool) {
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(token, "=") {
		encoding = base64.StdEncoding
	}
	decoded, err := encoding.Strict().DecodeString(token)
	return decoded, err == nil
}

// name is the user whom a Basic credential names. Programs that sign in by a token alone have it stand for the user, with
// no password or a fixed word beside it: a secret is nobody's name.
func (c *Credential) name() string {
	switch c.Password {
	case "", "x-oauth-basic", "api_token":
		return ""
	}
	return plainName(c.User)
}

// maxName is how many bytes a user's name may have.
const maxName = 256

// plainName is the name, or nothing if it can't be one.
func plainName(s string) string {
	if len(s) > maxName || !utf8.ValidString(s) {
		return ""
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return ""
		}
	}
	return strings.Clone(strings.TrimSpace(s))
}
