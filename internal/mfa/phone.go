package mfa

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/text/width"
)

// ErrPhone says that a text is no phone number that a code could be sent to.
var ErrPhone = errors.New("not a phone number")

// MaxPhoneInput is how many bytes of a typed phone number are looked at.
const MaxPhoneInput = 64

// e164 is a number as in ITU-T E.164: a plus sign and at most 15 digits, of which the first ones are the country's.
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// ParsePhone reads a phone number as people type it, with the country: +31 (0)6 1234-5678, 0031 6 12345678. The result is as in
// E.164: +31612345678. The error is ErrPhone.
//
// What a number could be taken apart at is refused, not left out: an extension, a second number, letters, digits of other scripts.
// What is shown to a person, counted and dialled must be one and the same number.
func ParsePhone(typed string) (string, error) {
	if len(typed) > MaxPhoneInput {
		return "", fmt.Errorf("%w: it is longer than %d bytes", ErrPhone, MaxPhoneInput)
	}
	number := strings.TrimSpace(width.Narrow.String(typed))
	if after, ok := strings.CutPrefix(number, "00"); ok {
		number = "+" + after
	}
	// The zero in brackets is dialled only within the country.
	number = strings.Replace(number, "(0)", "", 1)
	var b strings.Builder
	for i, r := range number {
		switch {
		case r >= '0' && r <= '9', r == '+' && i == 0:
			b.WriteRune(r)
		case strings.ContainsRune(" -./()\u00a0\u2010\u2011\u2013", r):
		default:
			return "", fmt.Errorf("%w: %q is none of its signs", ErrPhone, r)
		}
	}
	if !e164.MatchString(b.String()) {
		return "", fmt.Errorf("%w: want a plus sign, the country, and the rest, 7 to 15 digits together", ErrPhone)
	}
	if number = b.String(); CallingCode(number) == "" {
		return "", fmt.Errorf("%w: no country has that calling code", ErrPhone)
	}
	return number, nil
}

// zones are the calling codes of two digits (ITU-T E.164, list of assigned country codes). 1 and 7 stand alone, all others have three.
var zones = []string{
	"20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48", "49", "51", "52", "53", "54",
	"55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82", "84", "86", "90", "91", "92", "93", "94", "95", "98",
}

// CallingCode is the beginning of a number in E.164 that says which country it belongs to: +31, +1, +352. Empty: it is no such number.
func CallingCode(number string) string {
	if !e164.MatchString(number) {
		return ""
	}
	switch {
	case number[1] == '1', number[1] == '7':
		return number[:2]
	case slices.Contains(zones, number[1:3]):
		return number[:3]
	}
	return number[:4]
}

// PhonePrefix is what numbers have in common that are often abused together: the calling code and the first three digits behind it,
// as with +1 876 or +881 6.
func PhonePrefix(number string) string {
	code := CallingCode(number)
	return number[:min(len(number), len(code)+3)]
}

// MaskPhone shows a number in E.164 to somebody who knows it, and to nobody else: +31 •••• ••78.
func MaskPhone(number string) string {
	code := CallingCode(number)
	if code == "" {
		return "••••"
	}
	return code + " •••• ••" + number[len(number)-2:]
}

// MaskMail does the same for a mail address: a••••@example.com.
func MaskMail(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 1 {
		return "••••"
	}
	first := []rune(address[:at])[0]
	return string(first) + "••••" + address[at:]
}
