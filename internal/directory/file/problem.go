package file

import (
	"strconv"
	"strings"
)

// MaxProblems is how many mistakes are told in one run.
const MaxProblems = 50

// Problem is one mistake in a users file.
type Problem struct {
	File    string // as it was given to New
	Line    int    // from 1; zero where it isn't in one line
	Field   string // as in users.alice.email; empty where it isn't in one field
	Message string // what is wrong, and what would be right. It quotes no password and no digest.
}

// String writes the problem as "users.yaml:12: users.alice.email: …".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
	}
	b.WriteString(": ")
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is every mistake that was found in one run, in the order of the file, or the first MaxProblems of them with
// a last one that says how many there are. It is an error unless it is empty.
type Problems []Problem

// Error writes one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
