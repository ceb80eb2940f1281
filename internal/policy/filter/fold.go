package filter

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// fold makes characters equal that differ only in case. No other character becomes an ASCII one: the Kelvin sign is no k and
// the long s no s, or who may choose a name could choose one that is taken for another.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	if folded := unicode.ToLower(unicode.ToUpper(r)); folded >= utf8.RuneSelf {
		return folded
	}
	return r
}

func foldText(s string) string { return strings.Map(fold, s) }

// next gives the first character of a text, folded. A byte that is no UTF-8 equals nothing.
func next(s string) (rune, int) {
	if c := s[0]; c < utf8.RuneSelf {
		return fold(rune(c)), 1
	}
	r, size := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && size == 1 {
		return -1, 1
	}
	return fold(r), size
}

// cutPrefix cuts a folded prefix off a text.
func cutPrefix(s, prefix string) (rest string, ok bool) {
	for _, want := range prefix {
		if s == "" {
			return "", false
		}
		r, size := next(s)
		if r != want {
			return "", false
		}
		s = s[size:]
	}
	return s, true
}

func hasSuffix(s, suffix string) bool {
	for suffix != "" {
		if s == "" {
			return false
		}
		want, wantSize := utf8.DecodeLastRuneInString(suffix)
		r, size := utf8.DecodeLastRuneInString(s)
		if r == utf8.RuneError && size == 1 || fold(r) != want {
			return false
		}
		s, suffix = s[:len(s)-size], suffix[:len(suffix)-wantSize]
	}
	return true
}

func hasPart(s, part string) bool {
	for s != "" {
		if _, ok := cutPrefix(s, part); ok {
			return true
		}
		_, size := next(s)
		s = s[size:]
	}
	return part == ""
}
