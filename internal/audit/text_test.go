package audit

import (
	"strings"
	"testing"
)

func TestPlain(t *testing.T) {
	for reason, tc := range map[string]struct {
		text string
		n    int
		want string
	}{
		"nothing":                         {"", 5, ""},
		"short enough":                    {"alice", 5, "alice"},
		"too long":                        {"alice", 3, "ali"},
		"cut at the border of a letter":   {"añb", 2, "a"},
		"no room":                         {"ñ", 1, ""},
		"what a terminal obeys":           {"a\x1b[2Jb", 9, "a [2Jb"},
		"line breaks":                     {"a\r\nb\u0085c", 9, "a  b c"},
		"what turns the writing round":    {"a\u202eb\u2066c", 9, "a b c"},
		"what isn't UTF-8":                {"a\xff\xfeb", 9, "a  b"},
		"the mark of what wasn't":         {"a\ufffdb", 9, "a b"},
		"letters of every kind and signs": {"Renée 漢 €=+", 99, "Renée 漢 €=+"},
	} {
		if got := Plain(tc.text, tc.n); got != tc.want {
			t.Errorf("%s: %q, want %q", reason, got, tc.want)
		}
	}
	if got := Plain(strings.Repeat("漢", 1000), 64); len(got) != 63 {
		t.Errorf("it has %d bytes", len(got))
	}
}
