package password

import (
	"cmp"
	"fmt"
)

// Algorithm is a way of hashing passwords.
type Algorithm string

// The algorithms that are accepted.
const (
	Argon2id Algorithm = "argon2id" // RFC 9106
	Bcrypt   Algorithm = "bcrypt"   // $2a$, $2b$ and $2y$
)

// The algorithms that are accepted for a time, see ParseWeak.
const (
	APR1 Algorithm = "apr1" // Apache's md5-crypt
	SHA1 Algorithm = "sha1" // without salt
)

// Cost is what hashing a password takes. Two digests of one Cost can't be told apart by time. The zero Cost stands for
// no digest.
type Cost struct {
	Algorithm Algorithm

	// Of argon2id, as in RFC 9106, section 3.1.
	Memory uint32 // m, in KiB
	Passes uint32 // t
	Lanes  uint32 // p

	// Of bcrypt: the base-2 logarithm of the number of rounds, which is what is called its cost.
	Exponent uint32
}

// String writes the cost as it stands in a digest: "argon2id m=19456,t=2,p=1", "bcrypt cost=12".
func (c Cost) String() string {
	switch c.Algorithm {
	case Argon2id:
		return fmt.Sprintf("argon2id m=%d,t=%d,p=%d", c.Memory, c.Passes, c.Lanes)
	case APR1, SHA1:
		return string(c.Algorithm)
	case Bcrypt:
		return fmt.Sprintf("bcrypt cost=%d", c.Exponent)
	}
	return "no digest"
}

// weak says whether ParseWeak has read the digest.
func (c Cost) weak() bool { return c.Algorithm == APR1 || c.Algorithm == SHA1 }

// Compare orders costs, by algorithm and then by their numbers.
func (c Cost) Compare(other Cost) int {
	return cmp.Or(
		cmp.Compare(c.Algorithm, other.Algorithm),
		cmp.Compare(c.Memory, other.Memory),
		cmp.Compare(c.Passes, other.Passes),
		cmp.Compare(c.Lanes, other.Lanes),
		cmp.Compare(c.Exponent, other.Exponent),
	)
}
