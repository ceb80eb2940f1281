package mfa

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// MaxUserName is the length of the longest user name, in bytes.
const MaxUserName = 256

// ServicePrefix is what the names of services begin with. Nobody in a directory may be called so.
const ServicePrefix = "service:"

// ErrUserName says that a text can't be a user name.
var ErrUserName = errors.New("not a user name")

// canonical is UsernameCaseMapped of RFC 8265, section 3.3, without its rule for mixed directions: full-width and
// half-width forms are folded, letters are lower case, and the result is in normalization form C. White space inside,
// control characters and symbols outside of ASCII are refused.
var canonical = precis.NewIdentifier(precis.FoldWidth, precis.LowerCase(), precis.Norm(norm.NFC))

// CanonicalName gives the one spelling under which a user name is looked up, counted and compared. Two spellings
// that a person could take for the same name (case, surrounding white space, composed or decomposed letters,
// full-width letters) have one canonical name, or none: then the error is ErrUserName.
func CanonicalName(name string) (string, error) {
	// Capital sigma has two lower-case forms, and only one of them comes out of mapping a capital.
	name = strings.ReplaceAll(strings.TrimSpace(name), "ς", "σ")
	if name == "" {
		return "", fmt.Errorf("%w: it is empty", ErrUserName)
	}
	if len(name) > MaxUserName {
		return "", fmt.Errorf("%w: it is longer than %d bytes", ErrUserName, MaxUserName)
	}
	// Some strings change again when the profile is applied to its own result (RFC 8264, section 7). What doesn't
	// come to rest could be two people.
	for range 3 {
		next, err := canonical.String(name)
		if err != nil {
			return "", fmt.Errorf("%w: %v", ErrUserName, err)
		}
		if next == name {
			if len(name) > MaxUserName {
				return "", fmt.Errorf("%w: it is longer than %d bytes", ErrUserName, MaxUserName)
			}
			return name, nil
		}
		name = next
	}
	return "", fmt.Errorf("%w: it has no stable form", ErrUserName)
}
