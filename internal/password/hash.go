package password

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"sync"

	"github.com/go-crypt/crypt/algorithm/argon2"
)

// Salt and key of the digests that Hash makes, in bytes: RFC 9106, section 4.
const (
	saltLength = 16
	keyLength  = 32
)

// DefaultCost is what Hash makes: the first choice of OWASP's Password Storage Cheat Sheet. With one lane a hash keeps
// one processor busy, so that the number of a Pool's workers is the number of processors that sign-ins can take.
var DefaultCost = Cost{Algorithm: Argon2id, Memory: minMemory, Passes: minPasses, Lanes: minLanes}

// Hash makes the digest of a password, with a new salt. The error is ErrLength, or a fault.
func Hash(password string) (string, error) {
	if password == "" || len(password) > MaxLength {
		return "", ErrLength
	}
	hasher, err := argon2.New(
		argon2.WithVariantID(),
		argon2.WithM(minMemory), argon2.WithT(minPasses), argon2.WithP(minLanes),
		argon2.WithS(saltLength), argon2.WithK(keyLength),
	)
	if err != nil {
		return "", fmt.Errorf("preparing argon2id: %w", err)
	}
	digest, err := hasher.Hash(password)
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	return digest.Encode(), nil
}

// dummy is a digest at DefaultCost of a password that nobody knows.
var dummy = sync.OnceValue(func() Digest {
	var random [saltLength + keyLength]byte
	rand.Read(random[:]) // never fails
	d, err := Parse(fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", DefaultCost.Memory, DefaultCost.Passes, DefaultCost.Lanes,
		base64.RawStdEncoding.EncodeToString(random[:saltLength]), base64.RawStdEncoding.EncodeToString(random[saltLength:])))
	if err != nil {
		panic(err) // the text above is wrong
	}
	return d
})
