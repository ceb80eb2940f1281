// Package graph reads and writes Conditional Access policies in the form that Microsoft Graph has for them, the resource
// conditionalAccessPolicy, as it comes from Entra and from the tools that back it up.
//
// Reading is a judgement, and not a conversion. A policy that is loaded means here what it means in Entra, in every assignment and
// every control; what can't mean the same is refused by name, and so is everything that this package has never heard of. What is
// silently left out of a policy would be a hole that nobody sees.
//
// Entra's ids say nothing here. Names take their place, from a mapping file of the operator's; what has none is listed.
package graph

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// File is what Import reads.
type File struct {
	Name string
	Data []byte
}

// Options say how policies are judged.
type Options struct {
	// AllowPartial loads a refused policy without the parts that can't be enforced, where it then applies to more
	// sign-ins or demands more. The verdict stays what it was.
	AllowPartial bool

	RiskDetected   bool // there is a detection that raises the risk of sign-ins and users
	PasswordChange bool // there is a directory in which a password can be changed
}

// Judgement is what becomes of a policy.
type Judgement string

// The judgements.
const (
	Enforced      Judgement = "enforced"
	NotApplicable Judgement = "notApplicable" // it selects only sign-ins that can't exist in front of web applications
	Refused       Judgement = "refused"       // it holds a part that can't be enforced, or that nobody here knows
	Unresolved    Judgement = "unresolved"    // it holds an id without a name
)

// Verdict is what Import says of one policy.
type Verdict struct {
	File        string    `json:"file"`
	DisplayName string    `json:"displayName"`
	Verdict     Judgement `json:"verdict"`

	// Parts names what can't be enforced, or what can't exist here, by its path in the policy. Never nil.
	Parts []string `json:"parts"`

	// IDs are what has no name, each once. Never nil. A refused policy has them too: one mapping file is enough for all.
	IDs []ID `json:"ids"`

	// Loaded says whether the policy is among Result.Policies.
	Loaded bool `json:"-"`
}

// ID is something of Entra's that has no name.
type ID struct {
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
}

// Result is what Import gives.
type Result struct {
	Verdicts  []Verdict       // one a policy, in the order of the files
	Policies  []policy.Policy // what is loaded
	Strengths []Strength      // what the loaded policies bring along
	Errors    []*FileError    // what could not be judged, and names that are used for something else than they are mapped to

	// Others are the display names of what is no policy, by id in lower case: backup tools keep the groups and named locations
	// beside the policies that use them. They tell an operator what an id was.
	Others map[string]string
}

// FileError says what is wrong with a file.
type FileError struct {
	File         string
	Line, Column int // from one; zero where the whole file is meant
	Err          error
}

func (e *FileError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d:%d: %v", e.File, e.Line, e.Column, e.Err)
}

func (e *FileError) Unwrap() error { return e.Err }

// ErrNoPolicy is the error of a file that is JSON and evidently not about policies. Folders of backup tools hold groups, named
// locations and tables beside them.
var ErrNoPolicy = errors.New("no Conditional Access policy: it has neither conditions nor controls")

// ErrWrapped is the error of a file that has a policy in another shape than Graph's: inside of something, or with its conditions side by
// side. Nobody may take it for a group.
var ErrWrapped = errors.New("it is not as Graph has it: a file holds one policy, a list of them, or Graph's answer")

// ErrMorePages is the error of a list that says itself that it goes on elsewhere. The policies that it has are judged.
var ErrMorePages = errors.New("the list goes on at its @odata.nextLink: these are not all policies")

// Import judges policies. A file holds one policy, a list of them, or Graph's answer to a request for all of them. Names may be
// nil.
func Import(files []File, names *Names, opts Options) *Result {
	r := &Result{Others: map[string]string{}}
	for _, f := range files {
		found, err := policies(f.Data)
		if err != nil {
			r.fail(f.Name, err)
		}
		for _, v := range found {
			switch {
			case isPolicy(v):
				r.judge(f.Name, v, names, opts)
				continue
			case err == nil || !errors.Is(err, ErrNoPolicy): // else it has been said of the whole list
				r.fail(f.Name, &FileError{Err: noPolicy(v)})
			}
			if id, name := v.get("id"), v.get("displayName"); !id.empty() && !name.empty() {
				r.Others[strings.ToLower(id.text)] = name.text
			}
		}
	}
	return r
}

func (r *Result) fail(file string, err *FileError) {
	err.File = file
	r.Errors = append(r.Errors, err)
}

// policies finds the policies of a file. With an error there may still be some.
func policies(data []byte) ([]*value, *FileError) {
	v, err := parse(data)
	switch {
	case err != nil:
		return nil, err
	case v.kind == list:
		return someOf(v.list)
	case v.kind == structure && !isPolicy(v) && v.get("value") != nil && v.get("value").kind == list:
		if len(v.twice) > 0 {
			return nil, &FileError{Err: fmt.Errorf("%q stands twice, and what the list is depends on who reads it", v.twice[0])}
		}
		found, err := someOf(v.get("value").list)
		if err == nil && !v.get("@odata.nextLink").empty() {
			err = &FileError{Err: ErrMorePages}
		}
		for _, m := range v.members {
			if err == nil && !strings.EqualFold(m.key, "value") && !annotation(m.key) && !m.value.empty() {
				err = &FileError{Err: fmt.Errorf("%q stands beside the list, and nobody here knows it", m.key)}
			}
		}
		return found, err
	}
	return []*value{v}, nil
}

// someOf refuses a list as a whole where nothing in it is a policy, so that a folder's list of groups is one line. What is in it comes
// along: it has names.
func someOf(items []*value) ([]*value, *FileError) {
	if len(items) > 0 && !slices.ContainsFunc(items, isPolicy) {
		err := &FileError{Err: noPolicy(&value{kind: list, list: items})}
		if !errors.Is(err, ErrNoPolicy) {
			items = nil
		}
		return items, err
	}
	return items, nil
}

// noPolicy says what is wrong with a file in which no policy stands where one is looked for.
func noPolicy(v *value) error {
	if path, found := wrapped(v, ""); found {
		if path == "" {
			return fmt.Errorf("a policy, but %w", ErrWrapped)
		}
		return fmt.Errorf("%s is a policy, but %w", path, ErrWrapped)
	}
	return ErrNoPolicy
}

// wrapped finds what somebody who knows Entra would call a policy.
func wrapped(v *value, path string) (where string, found bool) {
	if v.get("displayName") != nil && v.get("builtInControls") != nil {
		return path, true
	}
	if c := v.get("conditions"); c != nil && (c.get("users") != nil || c.get("applications") != nil) {
		return path, true
	}
	for _, m := range v.members {
		if where, found = wrapped(m.value, strings.TrimPrefix(path+"."+m.key, ".")); found {
			return where, true
		}
	}
	for i, item := range v.list {
		if where, found = wrapped(item, fmt.Sprintf("%s[%d]", path, i)); found {
			return where, true
		}
	}
	return "", false
}

func isPolicy(v *value) bool {
	if v.kind != structure {
		return false
	}
	if t := v.get("@odata.type"); t != nil && t.text == "#microsoft.graph.conditionalAccessPolicy" {
		return true
	}
	return slices.ContainsFunc([]string{"conditions", "grantControls", "sessionControls"}, func(key string) bool { return v.get(key) != nil })
}

func (r *Result) judge(file string, v *value, names *Names, opts Options) {
	j := &judge{names: names, opts: opts}
	j.policy(v)
	j.conflict(r.Strengths)
	for _, err := range j.errors {
		r.fail(file, &FileError{Err: fmt.Errorf("policy %q: %w", j.p.Name, err)})
	}
	verdict := Verdict{File: file, DisplayName: j.p.Name, Verdict: Enforced, Parts: []string{}, IDs: []ID{}}
	for _, p := range j.refused {
		verdict.Parts = append(verdict.Parts, p.String())
	}
	switch {
	case j.foreign != nil && !j.unknown():
		verdict.Verdict, verdict.Parts = NotApplicable, j.foreign
	case j.refused != nil:
		verdict.Verdict = Refused
		verdict.IDs = append(verdict.IDs, j.ids...)
		verdict.Loaded = opts.AllowPartial && j.partial() && j.ids == nil
	case j.ids != nil:
		verdict.Verdict, verdict.IDs = Unresolved, j.ids
	default:
		verdict.Loaded = true
	}
	if verdict.Loaded {
		r.Policies = append(r.Policies, j.p)
		if s := j.strength; s != nil && !slices.ContainsFunc(r.Strengths, s.equal) {
			r.Strengths = append(r.Strengths, *s)
		}
	}
	r.Verdicts = append(r.Verdicts, verdict)
}
