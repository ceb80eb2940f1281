// Package code makes and recognises the codes that people type: from an app, from a printed list, from an administrator.
package code

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// alphabet is Crockford's base 32: no letter in it is taken for a digit or for another letter.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

const (
	groups    = 3
	groupSize = 4
)

// Bits is the entropy of a code that New makes.
const Bits = groups * groupSize * 5

// New makes a code of Bits random bits, in groups that can be read aloud: k7md-2qfx-9rtw.
func New() string {
	var random [groups * groupSize]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	var b strings.Builder
	for i, r := range random {
		if i > 0 && i%groupSize == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(alphabet[r%32])
	}
	return b.String()
}

// MaxInput is how many bytes of what somebody typed are looked at.
const MaxInput = 128

// Clean takes away what people add to a code or write differently: white space, hyphens, dots, full-width forms, case.
func Clean(typed string) string {
	if len(typed) > MaxInput {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) || r == '.' || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, width.Fold.String(typed))
}

// Canonical is the one spelling of a code that New made, as it is hashed: Clean, and the letters that are missing from
// the alphabet read as what they look like.
func Canonical(typed string) string {
	return lookAlikes.Replace(Clean(typed))
}

var lookAlikes = strings.NewReplacer("o", "0", "i", "1", "l", "1")

// Digest is what is kept of a code: a salted SHA-256. A code has Bits random bits, and the digest is sealed where it is
// kept, so a fast hash is enough.
type Digest struct {
	Salt []byte `json:"salt"`
	Hash []byte `json:"hash"`
}

// Hash hashes a code with a new salt.
func Hash(code string) Digest {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails, see crypto/rand
	return Digest{salt, sum(salt, Canonical(code))}
}

// Matches compares what was typed in constant time. The zero Digest matches nothing.
func (d Digest) Matches(typed string) bool {
	return len(d.Salt) > 0 && subtle.ConstantTimeCompare(d.Hash, sum(d.Salt, Canonical(typed))) == 1
}

func sum(salt []byte, code string) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(code))
	return h.Sum(nil)
}
