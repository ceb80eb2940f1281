package legacy

import (
	"encoding/json"
	"strings"
)

// json takes the fields of objects at any depth. It reads what is cut off, and what only lenient parsers take for JSON: a check of the
// syntax would let through what an application doesn't check.
func (l *look) json(s string) {
	key, valued := "", false // a key was read, and its value has not come yet
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case '"', '\'':
			text, end := jsonString(s, i)
			i = end
			rest := strings.TrimLeft(s[i:], " \t\r\n")
			switch {
			case strings.HasPrefix(rest, ":"):
				key, valued = text, true
			case valued:
				l.field(key, text)
			}
		case ',', '{', '}':
			valued = false
			i++
		default:
			i++
		}
	}
}

// jsonString reads the string that begins with the quote at an index, and says where it ends.
func jsonString(s string, begin int) (text string, end int) {
	quote := s[begin]
	escaped := false
	for end = begin + 1; end < len(s) && s[end] != quote; end++ {
		if s[end] == '\\' {
			escaped = true
			end++
		}
	}
	end = min(end, len(s))
	text = s[begin+1 : end]
	if len(text) > maxField {
		text = ""
	}
	if escaped {
		var plain string
		if json.Unmarshal([]byte(`"`+text+`"`), &plain) == nil {
			text = plain
		}
	}
	return text, min(end+1, len(s))
}
