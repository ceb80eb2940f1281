package password

import (
	"encoding/base64"
	"regexp"
	"strings"

	"github.com/tg123/go-htpasswd"
)

// apr1Form is what Apache's htpasswd writes: a salt of at most 8 characters, and 128 bits in an alphabet of its own. The last
// character has two bits of them.
var apr1Form = regexp.MustCompile(`^\$apr1\$[./0-9A-Za-z]{1,8}\$[./0-9A-Za-z]{21}[./01]$`)

// weak makes what go-htpasswd has read into what a Digest needs. That library quotes digests in its errors, and accepts forms that no
// password has: it sees only what is checked before.
type weak struct{ encoded htpasswd.EncodedPasswd }

func (w weak) Match(password string) bool { return w.encoded.MatchesPassword(password) }

// ParseWeak reads a digest that is guessed in no time by whoever gets hold of it, and that Parse refuses for that:
//
//	$apr1$<salt>$<key>     Apache's md5-crypt
//	{SHA}<base64>          SHA-1 without salt
//
// It is for a time in which people get better ones. The error is ErrDigest.
func ParseWeak(encoded string) (Digest, error) {
	var read htpasswd.EncodedPasswd
	var err error
	cost := Cost{}
	sum, isSHA := strings.CutPrefix(encoded, "{SHA}")
	switch {
	case apr1Form.MatchString(encoded):
		cost.Algorithm = APR1
		read, err = htpasswd.AcceptMd5(encoded)
	case strings.HasPrefix(encoded, "$apr1$"):
		return Digest{}, refuse("it is a damaged digest of Apache's md5-crypt")
	case isSHA:
		if key, err := base64.StdEncoding.Strict().DecodeString(sum); err != nil || len(key) != 20 || strings.ContainsAny(sum, "\r\n") {
			return Digest{}, refuse("it is a damaged SHA-1 digest")
		}
		cost.Algorithm = SHA1
		read, err = htpasswd.AcceptSha(encoded)
	default:
		return Digest{}, refuse("it is neither Apache's md5-crypt nor SHA-1")
	}
	if err != nil || read == nil {
		return Digest{}, refuse("it is a damaged digest")
	}
	return Digest{encoded, cost, weak{read}}, nil
}
