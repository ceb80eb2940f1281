package audit

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Plain is s as it may be kept and shown: cut to n bytes at the border of a character, and a space for everything that a terminal
// would obey or that isn't UTF-8.
func Plain(s string, n int) string {
	bad := func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == utf8.RuneError
	}
	if len(s) > n {
		end := n
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, bad) {
		s = strings.Map(func(r rune) rune {
			if bad(r) {
				return ' '
			}
			return r
		}, s)
	}
	return s
}
