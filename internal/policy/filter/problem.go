package filter

import (
	"fmt"
	"strings"
)

// Problem is a mistake in a rule.
type Problem struct {
	Column  int    // of the character where it is, from 1
	Message string // what is wrong, and what would be right
}

func (p *Problem) Error() string { return fmt.Sprintf("column %d: %s", p.Column, p.Message) }

// UnknownAttribute is an attribute that Entra has and that nobody can know in front of a web application, so that a rule with
// it can't be enforced. A name that Entra doesn't have either is a Problem.
type UnknownAttribute struct {
	Name   string // as Entra writes it
	Column int    // of its first character, from 1
}

func (u *UnknownAttribute) Error() string {
	return fmt.Sprintf("column %d: %s is known to Entra only: a proxy can't tell it, so a rule that uses it can't be enforced", u.Column, u.Name)
}

// Problems is every mistake that was found in a rule, in its order: each is a *Problem or an *UnknownAttribute.
type Problems []error

// Error writes one mistake a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a mistake.
func (ps Problems) Unwrap() []error { return ps }
