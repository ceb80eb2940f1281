package watched

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// MaxProblems is how many mistakes are told in one run.
const MaxProblems = 50

// Problem is one mistake in a file.
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

// maxNoted is how many mistakes are kept until they are sorted.
const maxNoted = 4096

// Notes gathers the problems of a file. The zero Notes has none.
type Notes struct {
	File string

	noted []noted
	more  int // mistakes beyond maxNoted
}

type noted struct {
	Problem
	column int
}

// Add notes a problem.
func (n *Notes) Add(line, column int, field, format string, args ...any) {
	if len(n.noted) >= maxNoted {
		n.more++
		return
	}
	n.noted = append(n.noted, noted{Problem{n.File, line, field, fmt.Sprintf(format, args...)}, column})
}

// Empty says whether there are none.
func (n *Notes) Empty() bool { return len(n.noted) == 0 }

// Problems gives those of the beginning of the file.
func (n *Notes) Problems() Problems {
	slices.SortStableFunc(n.noted, func(a, b noted) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.column, b.column))
	})
	all := make(Problems, 0, MaxProblems+1)
	for _, p := range n.noted[:min(len(n.noted), MaxProblems)] {
		all = append(all, p.Problem)
	}
	if more := len(n.noted) + n.more - len(all); more > 0 {
		all = append(all, Problem{File: n.File, Message: fmt.Sprintf("… and %d more", more)})
	}
	return all
}

// maxID is the length of the longest id as it is written in keys and cookies (mfa.UserID.String), in bytes.
const maxID = 400

// SetName gives a user the name that was written, and its canonical name for an id. It says what is wrong with it, or nothing.
//
// Not here, a name would be compared and counted under one text and sent to applications as another.
func SetName(u *mfa.User, name string) (problem string) {
	u.Name = name
	canonical, err := mfa.CanonicalName(name)
	switch {
	case err != nil:
		return fmt.Sprintf("%s is %v", Quote(name), err)
	case strings.TrimSpace(name) != name:
		return fmt.Sprintf("there is white space around the name %s; take it out", Quote(name))
	case len(name) > mfa.MaxUserName:
		return fmt.Sprintf("the name %s is longer than %d bytes", Quote(name), mfa.MaxUserName)
	case strings.HasPrefix(canonical, mfa.ServicePrefix):
		return fmt.Sprintf("the name %s is one of a service token; call the user something that doesn't begin with %q", Quote(name), mfa.ServicePrefix)
	}
	u.Canonical, u.ID.ID = canonical, canonical
	return ""
}

// CheckID says what is wrong with an id, or nothing.
func CheckID(id mfa.UserID) (problem string) {
	if n := len(id.String()); n > maxID {
		return fmt.Sprintf("its id is too long: %d bytes when written with percent signs, and at most %d can be kept", n, maxID)
	}
	return ""
}

// Short keeps a text that may be anything from filling a message, or driving a terminal.
func Short(s string) string {
	const most = 40
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
	if len(s) <= most {
		return s
	}
	end := most
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// Quote is Short in quotes.
func Quote(s string) string { return strconv.Quote(Short(s)) }
