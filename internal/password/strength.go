package password

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go"
	"github.com/ccojocar/zxcvbn-go/match"
	"github.com/ccojocar/zxcvbn-go/matching"
	"golang.org/x/text/unicode/norm"
)

// Bounds of the work that an estimate takes: it grows with the third power of the length, and where digits and signs
// are tried as letters, exponentially with how many kinds of them there are.
const (
	maxEstimated = 64 // characters; what follows is taken as worth nothing
	maxL33t      = 20 // characters up to which digits and signs are tried as letters

	maxUserInputs  = 32
	maxUserInput   = 64 // characters
	shortUserInput = 3  // characters below which a part of a user input is no hint
)

// Estimate says how well a password stands up to somebody who has its digest and guesses. The zero Estimate is weak.
type Estimate struct {
	// Score is zxcvbn's, from 0 (guessed at once) to 4 (out of reach).
	Score int

	// CrackTime is how long guessing takes at ten thousand guesses a second, in words: "3 hours", "centuries".
	CrackTime string
}

// Weak says whether the password shouldn't be used: it has a score below 3.
func (e Estimate) Weak() bool { return e.Score < 3 }

// Sentence tells the operator what the estimate means.
func (e Estimate) Sentence() string {
	crackTime := e.CrackTime
	if crackTime == "" {
		crackTime = crackTimes[0].words
	}
	switch {
	case e.Weak():
		return fmt.Sprintf("This password is weak: who gets hold of the users file guesses it in %s; take a longer one, of words that have nothing to do with each other or with you.", crackTime)
	case e.Score == 3:
		return fmt.Sprintf("This password is fair: who gets hold of the users file guesses it in %s.", crackTime)
	}
	return fmt.Sprintf("This password is strong: who gets hold of the users file guesses it in %s.", crackTime)
}

// Strength estimates a password (Wheeler, zxcvbn: Low-Budget Password Strength Estimation, USENIX Security 2016). User
// inputs are what a guesser knows of the person: his names and addresses, the name of the organization; they and the
// words in them count as guessed.
//
// It looks at the first 64 characters, so that it takes some hundredths of a second at most; letters with marks count
// as those without. It is a help for who chooses a password, and never judges one that exists.
func Strength(password string, userInputs ...string) Estimate {
	folded := fold(password, maxEstimated)
	var filters []func(match.Matcher) bool
	if len(folded) > maxL33t {
		filters = append(filters, matching.FilterL33tMatcher)
	}
	result := zxcvbn.PasswordStrength(folded, known(userInputs), filters...)
	return Estimate{Score: result.Score, CrackTime: inWords(result.CrackTime)}
}

// known takes user inputs apart into what a guesser would try.
func known(userInputs []string) []string {
	var all []string
	for _, input := range userInputs {
		whole := fold(input, maxUserInput)
		for _, part := range append([]string{whole}, strings.FieldsFunc(whole, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })...) {
			if len(part) >= shortUserInput && len(all) < maxUserInputs {
				all = append(all, part)
			}
		}
	}
	return all
}

// fold writes the first so many characters of s with one byte each, because the estimator mixes up bytes and
// characters, and goes out of bounds where they differ. Letters lose their marks. What is not ASCII even so becomes a
// control character, which the estimator takes for a sign: the same one for the same character.
func fold(s string, limit int) string {
	// Three code points a character are enough to decide about it, whatever somebody piles up on it.
	end := 0
	for range 3 * limit {
		_, size := utf8.DecodeRuneInString(s[end:])
		end += size
	}
	folded := make([]byte, 0, limit)
	for _, r := range norm.NFKD.String(s[:end]) {
		switch {
		case len(folded) == limit:
			return string(folded)
		case unicode.Is(unicode.Mn, r):
		case r < utf8.RuneSelf:
			folded = append(folded, byte(r))
		default:
			folded = append(folded, byte(0x0e+r%18))
		}
	}
	return string(folded)
}

var crackTimes = []struct {
	seconds float64 // below it
	unit    float64
	words   string
}{
	{1, 0, "less than a second"},
	{2 * 60, 1, "%.0f seconds"},
	{2 * 3600, 60, "%.0f minutes"},
	{2 * 86400, 3600, "%.0f hours"},
	{2 * 31 * 86400, 86400, "%.0f days"},
	{2 * 365 * 86400, 31 * 86400, "%.0f months"},
	{100 * 365 * 86400, 365 * 86400, "%.0f years"},
	{math.Inf(1), 0, "centuries"},
}

// inWords writes a number of seconds. (The estimator's own words say two years for anything from one to a hundred.)
func inWords(seconds float64) string {
	for _, c := range crackTimes {
		switch {
		case !(seconds < c.seconds):
		case c.unit == 0:
			return c.words
		default:
			return fmt.Sprintf(c.words, math.Floor(seconds/c.unit)+1)
		}
	}
	return "centuries"
}
