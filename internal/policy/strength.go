package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Methods is a set of authentication methods. The zero Methods is empty.
type Methods uint32

// modes are Graph's authenticationMethodModes, and, last, recovery codes, which Entra has none of. The place in this list is
// the bit in a set.
var modes = []string{
	"password", "softwareOath", "temporaryAccessPassOneTime", "temporaryAccessPassMultiUse", "fido2", "sms", "voice", "email",
	"microsoftAuthenticatorPush", "deviceBasedPush", "hardwareOath", "windowsHelloForBusiness", "x509CertificateSingleFactor",
	"x509CertificateMultiFactor", "federatedSingleFactor", "federatedMultiFactor", "qrCodePin", recoveryMode,
}

const recoveryMode = "recoveryCode"

// The sets of one method that can be proven here.
const (
	passwordSet Methods = 1 << iota
	totpSet
	passOnceSet
	passSet
)

var (
	passkeySet  = methodSet("fido2")
	recoverySet = methodSet(recoveryMode)

	// pushSet is what an approval on a phone counts as: Entra's second step behind a password, and its phone sign-in, since the number is
	// always matched.
	pushSet = methodSet("microsoftAuthenticatorPush") | methodSet("deviceBasedPush")

	// sentSet are the methods whose codes are sent.
	sentSet = methodSet("sms") | methodSet("voice") | methodSet("email")
)

// Modes lists the words that a combination is made of.
func Modes() []string {
	return slices.DeleteFunc(slices.Clone(modes), func(m string) bool { return m == recoveryMode })
}

func methodSet(mode string) Methods {
	if i := slices.Index(modes, mode); i >= 0 {
		return 1 << i
	}
	return 0
}

// MethodsOf is what a proof by this method counts as. A pass that is good for one sign-in only is more than one that can be
// used again and again.
func MethodsOf(m mfa.Method, reusable bool) Methods {
	switch m {
	case mfa.Password:
		return passwordSet
	case mfa.TOTP:
		return totpSet
	case mfa.Passkey:
		return passkeySet // user verification is required of every one
	case mfa.Push:
		return pushSet
	case mfa.SMS:
		return methodSet("sms")
	case mfa.Voice:
		return methodSet("voice")
	case mfa.Email:
		return methodSet("email")
	case mfa.TemporaryAccessPass:
		if reusable {
			return passSet
		}
		return passOnceSet
	case mfa.RecoveryCode:
		return recoverySet
	}
	return 0
}

// Has says whether the method is in the set.
func (ms Methods) Has(m mfa.Method) bool {
	of := MethodsOf(m, false) | MethodsOf(m, true)
	return ms&of != 0
}

// String writes Graph's words, separated by commas.
func (ms Methods) String() string {
	var words []string
	for i, mode := range modes {
		if ms&(1<<i) != 0 {
			words = append(words, mode)
		}
	}
	return strings.Join(words, ",")
}

// proven gives what was proven at password or later, and second factors at second or later.
func proven(ps mfa.Proofs, password, second time.Time) (ms Methods) {
	for _, p := range ps {
		since := second
		if p.Method == mfa.Password {
			since = password
		}
		if !p.At.Before(since) {
			ms |= MethodsOf(p.Method, p.Reusable)
		}
	}
	return ms
}

// secondFactors are all methods but the password.
const secondFactors = ^passwordSet

// Strength is an authentication strength: combinations of methods, each of which is enough.
type Strength struct {
	Name         string
	Combinations []string // Graph's words joined by commas: password,softwareOath
}

// The built-in strengths. Each contains the next.
const (
	MFAStrength               = "Multifactor authentication"
	PasswordlessStrength      = "Passwordless MFA"
	PhishingResistantStrength = "Phishing-resistant MFA"
)

// BuiltInStrengths are those that nobody has to define. Source: Entra's list of built-in authentication strengths.
var BuiltInStrengths = []Strength{
	{MFAStrength, []string{
		"windowsHelloForBusiness", "fido2", "x509CertificateMultiFactor", "deviceBasedPush", "temporaryAccessPassOneTime", "temporaryAccessPassMultiUse",
		"password,microsoftAuthenticatorPush", "password,softwareOath", "password,hardwareOath", "password,sms", "password,voice",
		"federatedMultiFactor", "microsoftAuthenticatorPush,federatedSingleFactor", "softwareOath,federatedSingleFactor",
		"hardwareOath,federatedSingleFactor", "sms,federatedSingleFactor", "voice,federatedSingleFactor",
	}},
	{PasswordlessStrength, []string{"windowsHelloForBusiness", "fido2", "x509CertificateMultiFactor", "deviceBasedPush"}},
	{PhishingResistantStrength, []string{"windowsHelloForBusiness", "fido2", "x509CertificateMultiFactor"}},
}

// combinations are the sets of a strength.
type combinations []Methods

// compileStrength gives the sets. ok is false if a combination holds a word that is none of Graph's.
func compileStrength(s Strength) (sets combinations, ok bool) {
	for _, text := range s.Combinations {
		var set Methods
		for word := range strings.SplitSeq(text, ",") {
			bit := methodSet(strings.TrimSpace(word))
			if bit == 0 || bit == recoverySet {
				return nil, false
			}
			set |= bit
		}
		sets = append(sets, set)
	}
	return sets, len(sets) > 0
}

// meets says whether what was proven holds one of the combinations.
func (cs combinations) meets(proven Methods) bool {
	for _, c := range cs {
		if c&^proven == 0 {
			return true
		}
	}
	return false
}

// missing gives the methods that would complete a combination out of what could be proven.
func (cs combinations) missing(proven, could Methods) (ms Methods) {
	for _, c := range cs {
		if c&^(proven|could) == 0 {
			ms |= c &^ proven
		}
	}
	return ms
}

// mfaCombinations is what the control "mfa" takes: the strength of that name, and recovery codes and mail codes, which are not among its
// combinations in Entra.
var mfaCombinations = func() combinations {
	sets, _ := compileStrength(BuiltInStrengths[0])
	return append(sets, passwordSet|recoverySet, passwordSet|methodSet("email"))
}()
