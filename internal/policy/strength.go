package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Methods is a set of authentication methods. The zero Methods is empty. Above Graph's modes there is a bit for each strength that
// names models of security keys: a passkey that is of one of these.
type Methods uint64

// MaxModelStrengths is how many strengths can name models.
const MaxModelStrengths = 32

// modelSets are the bits for models.
const modelSets = Methods(1<<MaxModelStrengths-1) << 32

// modes are Graph's authenticationMethodModes, and, last, what is no method there: recovery codes and remembered browsers. The place in this list is
// the bit in a set.
var modes = []string{
	"password", "softwareOath", "temporaryAccessPassOneTime", "temporaryAccessPassMultiUse", "fido2", "sms", "voice", "email",
	"microsoftAuthenticatorPush", "deviceBasedPush", "hardwareOath", "windowsHelloForBusiness", "x509CertificateSingleFactor",
	"x509CertificateMultiFactor", "federatedSingleFactor", "federatedMultiFactor", "qrCodePin", recoveryMode, rememberedMode,
}

// Words of our own.
const (
	recoveryMode   = "recoveryCode"
	rememberedMode = "rememberedBrowser"
)

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

	// rememberedSet is not proven, and is none of anybody's methods: see Set.remembered.
	rememberedSet = methodSet(rememberedMode)

	// pushSet is what an approval on a phone counts as: Entra's second step behind a password, and its phone sign-in, since the number is
	// always matched.
	pushSet = methodSet("microsoftAuthenticatorPush") | methodSet("deviceBasedPush")

	// sentSet are the methods whose codes are sent.
	sentSet = methodSet("sms") | methodSet("voice") | methodSet("email")
)

// Modes lists the words that a combination is made of.
func Modes() []string {
	return slices.DeleteFunc(slices.Clone(modes), func(m string) bool { return m == recoveryMode || m == rememberedMode })
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
	if m == mfa.Passkey {
		of |= modelSets
	}
	return ms&of != 0
}

// OfModels says whether passkeys are in the set, and only those of some models.
func (ms Methods) OfModels() bool { return ms&modelSets != 0 && ms&passkeySet == 0 }

// Serves says whether a passkey of this model (empty: nobody has vouched for any) is in a set that these policies ask for.
func (s *Set) Serves(ms Methods, model string) bool { return ms&(passkeySet|s.modelBits(model)) != 0 }

// modelBits are those of the strengths that name a model.
func (s *Set) modelBits(model string) (ms Methods) {
	if model == "" {
		return 0
	}
	for i, models := range s.models {
		if models[model] {
			ms |= 1 << (32 + i)
		}
	}
	return ms
}

// String writes Graph's words, separated by commas.
func (ms Methods) String() string {
	var words []string
	if ms.OfModels() {
		ms |= passkeySet
	}
	for i, mode := range modes {
		if ms&(1<<i) != 0 {
			words = append(words, mode)
		}
	}
	return strings.Join(words, ",")
}

// proven gives what was proven at password or later, and second factors at second or later.
func (s *Set) proven(ps mfa.Proofs, password, second time.Time) (ms Methods) {
	for _, p := range ps {
		since := second
		if p.Method == mfa.Password {
			since = password
		}
		if !p.At.Before(since) {
			ms |= MethodsOf(p.Method, p.Reusable) | s.modelBits(p.Model)
		}
	}
	return ms
}

// begun says whether something that begins a sign-in was proven at since or later: a password, or a passkey, which is two factors in
// one and stands in its place.
func begun(ps mfa.Proofs, since time.Time) bool {
	for _, p := range ps {
		if (p.Method == mfa.Password || p.Method == mfa.Passkey) && !p.At.Before(since) {
			return true
		}
	}
	return false
}

// secondFactors are all methods but the password. A remembered browser stands for one and is none.
var secondFactors = ^(passwordSet | rememberedSet)

// Strength is an authentication strength: combinations of methods, each of which is enough.
type Strength struct {
	Name         string
	Combinations []string // Graph's words joined by commas: password,softwareOath

	// AAGUIDs are the models of security keys that count as fido2, in lower case. Empty: every passkey does.
	AAGUIDs []string
}

// The built-in strengths. Each contains the next.
const (
	MFAStrength               = "Multifactor authentication"
	PasswordlessStrength      = "Passwordless MFA"
	PhishingResistantStrength = "Phishing-resistant MFA"
)

// BuiltInStrengths are those that nobody has to define. Source: Entra's list of built-in authentication strengths.
var BuiltInStrengths = []Strength{
	{Name: MFAStrength, Combinations: []string{
		"windowsHelloForBusiness", "fido2", "x509CertificateMultiFactor", "deviceBasedPush", "temporaryAccessPassOneTime", "temporaryAccessPassMultiUse",
		"password,microsoftAuthenticatorPush", "password,softwareOath", "password,hardwareOath", "password,sms", "password,voice",
		"federatedMultiFactor", "microsoftAuthenticatorPush,federatedSingleFactor", "softwareOath,federatedSingleFactor",
		"hardwareOath,federatedSingleFactor", "sms,federatedSingleFactor", "voice,federatedSingleFactor",
	}},
	{Name: PasswordlessStrength, Combinations: []string{"windowsHelloForBusiness", "fido2", "x509CertificateMultiFactor", "deviceBasedPush"}},
	{Name: PhishingResistantStrength, Combinations: []string{"windowsHelloForBusiness", "fido2", "x509CertificateMultiFactor"}},
}

// combinations are the sets of a strength.
type combinations []Methods

// compileStrength gives the sets. ok is false if a combination holds a word that is none of Graph's.
func compileStrength(s Strength) (sets combinations, ok bool) {
	for _, text := range s.Combinations {
		var set Methods
		for word := range strings.SplitSeq(text, ",") {
			bit := methodSet(strings.TrimSpace(word))
			if bit == 0 || bit == recoverySet || bit == rememberedSet {
				return nil, false
			}
			set |= bit
		}
		sets = append(sets, set)
	}
	return sets, len(sets) > 0
}

// withModels has a passkey count only if it is of the models that stand for a bit.
func (cs combinations) withModels(bit Methods) combinations {
	out := slices.Clone(cs)
	for i, c := range out {
		if c&passkeySet != 0 {
			out[i] = c&^passkeySet | bit
		}
	}
	return out
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

// mfaCombinations is what the control "mfa" takes: the strength of that name, and what is not among its combinations in Entra: recovery
// codes, mail codes, and the claim that a remembered browser makes.
var mfaCombinations = func() combinations {
	sets, _ := compileStrength(BuiltInStrengths[0])
	return append(sets, passwordSet|recoverySet, passwordSet|methodSet("email"), passwordSet|rememberedSet)
}()
