package filter

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// token is a part of a rule. A kind that is not named here is the character itself: ( ) [ ] or a comma.
type token struct {
	kind   rune
	text   string // of a word: as it is written, without its hyphen; of a text: what it says
	hyphen bool
	column int
}

const (
	end  rune = -1 - iota // of the rule
	word                  // an attribute, an operator, or a value without quotes
	text                  // in quotes
)

// String is how the token is called in a message.
func (t token) String() string {
	switch {
	case t.kind == end:
		return "the end of the rule"
	case t.kind == text:
		return quote(t.text)
	case t.kind != word:
		return string(t.kind)
	case t.hyphen:
		return "-" + t.text
	}
	return t.text
}

// is says whether the token is this word, with a hyphen or without.
func (t token) is(s string) bool { return t.kind == word && strings.EqualFold(t.text, s) }

// lexer cuts a rule into tokens.
type lexer struct {
	rest   string
	column int // of the first character of rest, from 1
	length int // of what was read, as MaxLength counts
}

// next gives the next token.
func (l *lexer) next() (token, *Problem) {
	for l.rest != "" {
		r, size := utf8.DecodeRuneInString(l.rest)
		if !unicode.IsSpace(r) {
			break
		}
		l.skip(size)
	}
	t := token{kind: end, column: l.column}
	if l.rest == "" {
		return t, nil
	}
	switch r, size := utf8.DecodeRuneInString(l.rest); {
	case strings.ContainsRune("()[],", r):
		t.kind = r
		l.skip(size)
		if r != '(' && r != ')' {
			l.length++
		}
	case r == '"' || r == '\'':
		s, problem := l.quoted(byte(r))
		if problem != nil {
			return t, problem
		}
		t.kind, t.text = text, s
		l.length += 2 + utf8.RuneCountInString(s)
	case r == '-' || r == '–': // Microsoft's pages have both
		t.hyphen = true
		l.skip(size)
		if t.text = l.word(); t.text == "" {
			return t, &Problem{t.column, "a hyphen begins an operator, such as -eq, -and or -not; a text stands in quotes"}
		}
		t.kind = word
		l.length += len(t.text)
	case isWord(r):
		t.kind, t.text = word, l.word()
		l.length += len(t.text)
	case strings.ContainsRune("“”„‘’", r):
		return t, &Problem{t.column, fmt.Sprintf("%c is a typographic quote: texts stand in straight ones, \"…\"", r)}
	case r == '`':
		return t, &Problem{t.column, "a backtick stands before a double quote inside of a text, as in \"the `\"blue`\" one\"; a text begins with a quote"}
	case strings.ContainsRune("=!<>&|", r):
		return t, &Problem{t.column, fmt.Sprintf("%c is no operator: they are words, such as -eq, -ne, -and, -or and -not", r)}
	default:
		return t, &Problem{t.column, fmt.Sprintf("%q can't stand here: an attribute, an operator or a value is expected, and a text stands in quotes", r)}
	}
	if l.length > MaxLength {
		return t, &Problem{t.column, fmt.Sprintf("the rule is longer than %d characters: a list with -in is shorter than many comparisons", MaxLength)}
	}
	return t, nil
}

func (l *lexer) skip(size int) {
	l.column += utf8.RuneCountInString(l.rest[:size])
	l.rest = l.rest[size:]
}

func isWord(r rune) bool {
	return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '.' || r == '_' || r == '$')
}

func (l *lexer) word() string {
	size := strings.IndexFunc(l.rest, func(r rune) bool { return !isWord(r) })
	if size < 0 {
		size = len(l.rest)
	}
	s := l.rest[:size]
	l.skip(size)
	return s
}

// quoted reads a text, from its first quote to its last.
func (l *lexer) quoted(delimiter byte) (string, *Problem) {
	var b strings.Builder
	begin := l.column
	l.skip(1)
	for l.rest != "" {
		switch c := l.rest[0]; {
		case c < ' ' || c == 0x7f:
			return "", &Problem{l.column, "a control character can't be part of a text; is a quote missing before it?"}
		case strings.HasPrefix(l.rest, "`\""):
			b.WriteByte('"')
			l.skip(2)
		case strings.HasPrefix(l.rest, "''"):
			b.WriteByte('\'')
			l.skip(2)
		case c == '\\' && len(l.rest) > 1 && l.rest[1] == delimiter:
			return "", &Problem{l.column, "a backslash before a quote can be read in two ways: write `\" for a double quote and '' for a single one inside of a text"}
		case c == delimiter:
			l.skip(1)
			if l.rest != "" && (l.rest[0] == '"' || l.rest[0] == '\'') {
				return "", &Problem{l.column, "a quote follows a text at once: write `\" for a double quote and '' for a single one inside of a text"}
			}
			return b.String(), nil
		default:
			_, size := utf8.DecodeRuneInString(l.rest)
			b.WriteString(l.rest[:size])
			l.skip(size)
		}
	}
	return "", &Problem{begin, fmt.Sprintf("the text that begins here has no end: %c is missing", delimiter)}
}

// quote writes a text as it stands in a rule.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			b.WriteString("`\"")
		case c == '\'' && (i > 0 && s[i-1] == '\'' || i+1 < len(s) && s[i+1] == '\''):
			b.WriteString("''")
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
