// Package password judges passwords: which digests of them are good enough to rely on, whether a password belongs to
// one, how strong a new one is, and how many may be judged at the same time.
//
// A password is the bytes that were typed, as UTF-8. It is neither trimmed nor normalized: digests that were made
// elsewhere must go on working, and they were made of those bytes.
package password

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// MaxLength is the length of the longest password, in bytes. A longer one is wrong for everybody, known or
	// not, and is never hashed: how long that takes is the sender's choice, and tells him nothing.
	MaxLength = 1024

	// MaxBcryptLength is the length of the longest password that a bcrypt digest can be of, in bytes. The
	// algorithm doesn't look at what follows, so that a longer one is refused instead.
	MaxBcryptLength = 72
)

var (
	// ErrDigest says that a text is no digest that a password may be judged by. What is wrong and what would be
	// right follows in the error's text, and never a part of the digest.
	ErrDigest = errors.New("not an accepted password digest")

	// ErrLength says that a password can't be hashed because it is empty or longer than MaxLength.
	ErrLength = fmt.Errorf("a password has 1 to %d bytes", MaxLength)
)

// Digest is what is kept of a password. Its text in logs and error messages is the algorithm and its cost: the digest
// itself only comes out of Encoded. The zero Digest belongs to no password.
type Digest struct {
	encoded string
	cost    Cost
	digest  matcher
}

// matcher is a digest as a library has read it.
type matcher interface{ Match(password string) bool }

// Encoded gives the text that Parse read. It is a secret: guesses can be tried against it.
func (d Digest) Encoded() string { return d.encoded }

// Cost says what judging a password by this digest takes.
func (d Digest) Cost() Cost { return d.cost }

// IsZero says whether d is the zero Digest.
func (d Digest) IsZero() bool { return d.digest == nil }

// String names the algorithm and its cost.
func (d Digest) String() string { return d.cost.String() }

// GoString is String: the digest stays out of %#v too.
func (d Digest) GoString() string { return d.cost.String() }

// Warning says in one sentence why the digest should be replaced although it is accepted. It is empty if it is fine.
func (d Digest) Warning() string {
	if d.cost.weak() {
		return fmt.Sprintf("%s is guessed in no time; %s", d.cost, remedy)
	}
	if d.cost.Algorithm == Bcrypt && d.cost.Exponent < goodBcryptCost {
		return fmt.Sprintf("bcrypt at cost %d is guessed too fast, and should be at %d or more; %s", d.cost.Exponent, goodBcryptCost, remedy)
	}
	return ""
}

// Verify says whether the digest is of this password. It takes the time of one hash, whatever the password (one that
// is longer than MaxLength aside), and compares in constant time. The empty password is always wrong.
//
// Servers call it through a Pool.
func (d Digest) Verify(password string) bool {
	if d.digest == nil || len(password) > MaxLength {
		return false
	}
	possible := password != ""
	if d.cost.Algorithm == Bcrypt {
		// bcrypt repeats the password with a NUL behind it up to 72 bytes, so that "a" and "a\x00a" are one.
		if strings.IndexByte(password, 0) >= 0 {
			possible = false
		}
		if len(password) > MaxBcryptLength {
			possible, password = false, password[:MaxBcryptLength]
		}
	}
	// In this order: what can't be right costs a hash too.
	return d.digest.Match(password) && possible
}
