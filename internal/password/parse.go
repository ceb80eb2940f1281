package password

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
)

// Bounds of what is accepted. Whoever writes a digest decides what each guess at it costs: an attacker who has stolen
// it, and this process at every sign-in.
const (
	// The least of argon2id that OWASP's Password Storage Cheat Sheet names first, and that we promise.
	minMemory = 19 << 10 // KiB
	minPasses = 2
	minLanes  = 1

	maxMemory = 1 << 20 // KiB: 1 GiB
	maxPasses = 100
	maxLanes  = 64
	// Memory times passes is what takes the time. This is libsodium's most expensive setting, of some seconds.
	maxWork = 4 << 20 // KiB

	// RFC 9106, section 4: a salt of 128 bits, or of 64 where room is short; a tag of 128 bits is enough.
	minSalt, maxSalt = 8, 64 // bytes
	minKey, maxKey   = 16, 64

	// Below 4 bcrypt is not defined; 16 takes some seconds.
	minBcryptCost, goodBcryptCost, maxBcryptCost = 4, 10, 16

	// No digest within these bounds is longer.
	maxEncoded = 256
)

const remedy = "run `caddy-mfa mfa hash-password` and write down what it prints"

// argon2idForm is a PHC string as the reference implementation writes it.
var argon2idForm = regexp.MustCompile(`^\$argon2id\$v=([0-9]{1,10})\$m=([0-9]{1,10}),t=([0-9]{1,10}),p=([0-9]{1,10})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$`)

// bcryptForm is version, cost, 16 bytes of salt, and 23 of key.
var bcryptForm = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$([./A-Za-z0-9]{22})([./A-Za-z0-9]{31})$`)

// bcryptBase64 has an alphabet of its own.
var bcryptBase64 = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding).Strict()

// foreign are formats that are known and refused, by how they begin.
var foreign = []struct{ prefix, name string }{
	{"$argon2i$", "argon2i, which takes less work to attack than argon2id"},
	{"$argon2d$", "argon2d, which gives passwords away to who shares the machine"},
	{"$argon2", "an unknown kind of argon2"},
	{"$2x$", "bcrypt in the version 2x, which hashes some passwords wrongly"},
	{"$2$", "bcrypt in the version 2, which hashes long passwords wrongly"},
	{"$bcrypt-sha256$", "bcrypt-sha256"},
	{"$2", "an unknown version of bcrypt"},
	{"$1$", "md5-crypt"},
	{"$apr1$", "Apache's md5-crypt"},
	{"$md5", "Sun's md5-crypt"},
	{"$3$", "an NT hash"},
	{"$5$", "sha256-crypt"},
	{"$6$", "sha512-crypt"},
	{"$7$", "scrypt"},
	{"$s0$", "scrypt"},
	{"$scrypt$", "scrypt"},
	{"$y$", "yescrypt"},
	{"$gy$", "gost-yescrypt"},
	{"$sha1$", "sha1-crypt"},
	{"$pbkdf2", "PBKDF2"},
	{"pbkdf2", "PBKDF2"},
	{"$P$", "phpass"},
	{"$H$", "phpass"},
	{"$", "a kind of digest that is not known here"},
	{"{SHA}", "a SHA-1 digest without salt"},
	{"{SSHA}", "a SHA-1 digest"},
	{"{", "a digest with the prefix of an LDAP server"},
	{"!", "the mark of a locked account in a shadow file; `disabled: true` locks one here"},
	{"*", "the mark of a locked account in a shadow file; `disabled: true` locks one here"},
}

// bareDigest is what md5sum and its family print.
var bareDigest = regexp.MustCompile(`^(?:[0-9A-Fa-f]{32}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{56}|[0-9A-Fa-f]{64}|[0-9A-Fa-f]{96}|[0-9A-Fa-f]{128})$`)

// Parse reads a digest:
//
//	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<key>     at least these numbers; both in base64 without padding
//	$2a$12$<salt and key>                           also $2b$ and $2y$; a cost of 4 to 16, of 10 or more without Warning
//
// The error is ErrDigest; it says what is wrong and what would be right, and quotes nothing.
func Parse(encoded string) (Digest, error) {
	switch {
	case encoded == "":
		return Digest{}, refuse("it is empty")
	case len(encoded) > maxEncoded:
		return Digest{}, refuse("it is longer than %d bytes", maxEncoded)
	case strings.TrimSpace(encoded) != encoded:
		return Digest{}, refuse("there is white space around it")
	case strings.HasPrefix(encoded, "$argon2id$"):
		return parseArgon2id(encoded)
	case strings.HasPrefix(encoded, "$2a$"), strings.HasPrefix(encoded, "$2b$"), strings.HasPrefix(encoded, "$2y$"):
		return parseBcrypt(encoded)
	case bareDigest.MatchString(encoded):
		return Digest{}, refuse("it looks like a digest without salt")
	}
	for _, f := range foreign {
		if strings.HasPrefix(encoded, f.prefix) {
			return Digest{}, refuse("it is %s", f.name)
		}
	}
	return Digest{}, refuse("it is plain text, or no digest that is known here")
}

func parseArgon2id(encoded string) (Digest, error) {
	parts := argon2idForm.FindStringSubmatch(encoded)
	if parts == nil {
		return Digest{}, refuse("it is a damaged argon2id digest; want $argon2id$v=19$m=…,t=…,p=…$<salt>$<key>, with salt and key in base64 without padding")
	}
	if parts[1] != strconv.Itoa(0x13) {
		return Digest{}, refuse("it is argon2id in a version that RFC 9106 replaced; want v=19")
	}
	var numbers [3]uint64
	for i := range numbers {
		// Ten digits fit into 64 bits.
		numbers[i], _ = strconv.ParseUint(parts[2+i], 10, 64)
	}
	m, t, p := numbers[0], numbers[1], numbers[2]
	switch {
	case m < minMemory || t < minPasses || p < minLanes:
		return Digest{}, refuse("argon2id with m=%d,t=%d,p=%d is guessed too fast; want at least m=%d (KiB), t=%d and p=%d", m, t, p, minMemory, minPasses, minLanes)
	case m > maxMemory || t > maxPasses || p > maxLanes || m*t > maxWork:
		return Digest{}, refuse("argon2id with m=%d,t=%d,p=%d would let a few sign-ins exhaust this machine; want at most m=%d (KiB), t=%d and p=%d, and m times t at most %d", m, t, p, maxMemory, maxPasses, maxLanes, maxWork)
	}
	d, err := argon2.DecodeVariant(argon2.VariantID)(encoded)
	// What isn't written back as it was read holds leading zeros, or bits that belong to nothing.
	if err != nil || d.Encode() != encoded {
		return Digest{}, refuse("it is a damaged argon2id digest")
	}
	if n := len(d.Salt()); n < minSalt || n > maxSalt {
		return Digest{}, refuse("its salt has %d bytes; want %d to %d, best 16", n, minSalt, maxSalt)
	}
	if n := len(d.Key()); n < minKey || n > maxKey {
		return Digest{}, refuse("its key has %d bytes; want %d to %d, best 32", n, minKey, maxKey)
	}
	return Digest{encoded, Cost{Algorithm: Argon2id, Memory: uint32(m), Passes: uint32(t), Lanes: uint32(p)}, d}, nil
}

func parseBcrypt(encoded string) (Digest, error) {
	parts := bcryptForm.FindStringSubmatch(encoded)
	if parts == nil {
		return Digest{}, refuse("it is a damaged bcrypt digest; want $2b$, two digits of cost, $, and 53 characters")
	}
	cost, _ := strconv.Atoi(parts[1]) // two digits
	switch {
	case cost < minBcryptCost:
		return Digest{}, refuse("bcrypt has no cost %d; want %d to %d", cost, goodBcryptCost, maxBcryptCost)
	case cost > maxBcryptCost:
		return Digest{}, refuse("bcrypt at cost %d would let a few sign-ins exhaust this machine; want %d to %d", cost, goodBcryptCost, maxBcryptCost)
	}
	// A key with bits behind its end is no password's. The same in a salt comes from an old library, and works.
	if _, err := bcryptBase64.DecodeString(parts[3]); err != nil {
		return Digest{}, refuse("it is a damaged bcrypt digest: its last character can't be there")
	}
	d, err := bcrypt.DecodeVariant(bcrypt.VariantStandard)(encoded)
	if err != nil {
		return Digest{}, refuse("it is a damaged bcrypt digest")
	}
	return Digest{encoded, Cost{Algorithm: Bcrypt, Exponent: uint32(cost)}, d}, nil
}

// refusal is why a digest is not accepted.
type refusal struct{ reason string }

func (r *refusal) Error() string { return ErrDigest.Error() + ": " + r.reason + "; " + remedy }
func (r *refusal) Unwrap() error { return ErrDigest }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// Reason says why a digest is not accepted, without what is to be done about it: an error of Parse or ParseWeak tells both.
func Reason(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.reason
	}
	return err.Error()
}
