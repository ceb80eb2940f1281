package legacy

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// DigestAlgorithm is one of the hash functions of HTTP Digest that are judged, as it is written in the header.
type DigestAlgorithm string

// The algorithms. Those ending in -sess are refused: nobody needs them, and each more is one more to choose the worst of.
const (
	MD5    DigestAlgorithm = "MD5"
	SHA256 DigestAlgorithm = "SHA-256"
)

// DigestCredential is a Digest credential (RFC 7616, section 3.4) with qop=auth, in a form that leaves one reading. Each value is as it goes
// into the hash, without quotes. It holds no secret, but whoever has it can send it again.
type DigestCredential struct {
	User, Realm, Nonce, URI, CNonce string

	NC        string // as it was sent: eight hexadecimal digits
	Count     uint32 // the same as a number; never 0
	Algorithm DigestAlgorithm
	Response  []byte // of the algorithm's length
}

const (
	maxDigest      = 16 << 10 // bytes of a Digest credential
	maxDigestURI   = 12 << 10
	maxDigestValue = 256 // bytes of every other value
	maxDigestParts = 32
)

// parseDigest reads what follows the scheme. What has no qop (RFC 2069), hashes its user's name, or names a parameter twice, is refused:
// it proves less, or proves one thing to us and could prove another to somebody else.
func parseDigest(params string) (*DigestCredential, bool) {
	if len(params) > maxDigest {
		return nil, false
	}
	values, ok := authParams(params)
	if !ok {
		return nil, false
	}
	c := &DigestCredential{
		User: values["username"], Realm: values["realm"], Nonce: values["nonce"], URI: values["uri"], CNonce: values["cnonce"], NC: values["nc"], Algorithm: MD5,
	}
	for name, value := range values {
		if len(value) > maxDigestURI || len(value) > maxDigestValue && name != "uri" {
			return nil, false
		}
	}
	if algorithm, named := values["algorithm"]; named {
		c.Algorithm = DigestAlgorithm(strings.ToUpper(algorithm))
	}
	size := map[DigestAlgorithm]int{MD5: 16, SHA256: 32}[c.Algorithm]
	_, other := values["username*"]
	hashed, says := values["userhash"]
	switch {
	case size == 0, values["qop"] != "auth", other, says && hashed != "false":
		return nil, false
	case c.User == "", c.Realm == "", c.Nonce == "", c.URI == "", c.CNonce == "":
		return nil, false
	}
	if c.Response, ok = hexOf(values["response"], size); !ok {
		return nil, false
	}
	count, ok := hexOf(c.NC, 4)
	if !ok {
		return nil, false
	}
	if c.Count = binary.BigEndian.Uint32(count); c.Count == 0 {
		return nil, false
	}
	return c, true
}

// hexOf reads so many bytes in hexadecimal digits.
func hexOf(text string, size int) ([]byte, bool) {
	if len(text) != 2*size {
		return nil, false
	}
	b, err := hex.DecodeString(text)
	return b, err == nil
}

// authParams reads a list of auth-params (RFC 9110, section 11.2), all of it: names in lower case, values without quotes. It refuses names
// that stand there twice, and whatever else is no such list.
func authParams(s string) (map[string]string, bool) {
	values := map[string]string{}
	for {
		s = strings.TrimLeft(s, " \t,")
		if s == "" {
			return values, len(values) > 0
		}
		n := tokenLen(s)
		name := string(appendLower(nil, s[:n]))
		if _, twice := values[name]; n == 0 || twice || len(values) == maxDigestParts {
			return nil, false
		}
		s = strings.TrimLeft(s[n:], " \t")
		if s == "" || s[0] != '=' {
			return nil, false
		}
		s = strings.TrimLeft(s[1:], " \t")
		var value string
		if s != "" && s[0] == '"' {
			var ok bool
			if value, s, ok = wholeQuotedString(s[1:]); !ok {
				return nil, false
			}
		} else {
			n := tokenLen(s)
			if n == 0 {
				return nil, false
			}
			value, s = s[:n], s[n:]
		}
		values[name] = value
		if s = strings.TrimLeft(s, " \t"); s != "" && s[0] != ',' {
			return nil, false
		}
	}
}

// tokenLen is how many bytes at the beginning are a token (RFC 9110, section 5.6.2).
func tokenLen(s string) int {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return i
		}
	}
	return len(s)
}

// wholeQuotedString reads up to the closing quote, which must be there, and refuses what is no printable ASCII.
func wholeQuotedString(s string) (value, rest string, ok bool) {
	var b []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"':
			return string(b), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			i++
			c = s[i]
		}
		if c < 0x20 || c >= 0x7f {
			return "", "", false
		}
		b = append(b, c)
	}
	return "", "", false
}
