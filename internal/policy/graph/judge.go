package graph

import (
	"slices"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// judge reads one policy, and keeps what it finds on the way.
type judge struct {
	names *Names
	opts  Options

	p        policy.Policy
	strength *Strength

	refused []part
	strange bool     // one of the refused parts is nothing that is known
	foreign []string // why the policy can't match anybody here
	ids     []ID
	errors  []error

	demands bool // something is demanded, or was before it was refused
}

// refuse says that a part is known and can't be enforced. Without a value, all that stands there is meant.
func (j *judge) refuse(path, value string) { j.refuseAs(path, path, value) }

// refuseAs is refuse for a part that stands under another name in the table.
func (j *judge) refuseAs(name, path, value string) {
	j.refused = append(j.refused, part{path, value, known[name]})
}

// refuseUnknown says that a part is nothing that is known, or that Entra would not take it. It may mean anything, so it is never left
// out.
func (j *judge) refuseUnknown(path, value string) {
	j.refused = append(j.refused, part{path, value, never})
	j.strange = true
}

// unknown says whether there is a part of which nobody knows what it does. It might make a policy apply that otherwise couldn't.
func (j *judge) unknown() bool { return j.strange }

// name gives the name of an id, empty if it has none.
func (j *judge) name(kind Kind, path, id string) string {
	name, ok, err := j.names.resolve(path, kind, id)
	if err != nil {
		j.errors = append(j.errors, err)
	}
	if ok {
		return name
	}
	if !slices.ContainsFunc(j.ids, func(other ID) bool { return other.Kind == kind && strings.EqualFold(other.ID, id) }) {
		j.ids = append(j.ids, ID{id, kind})
	}
	return ""
}

// mapped says whether the mapping has an id, for whatever kind.
func (j *judge) mapped(id string) (entry, bool) {
	if j.names == nil {
		return entry{}, false
	}
	e, ok := j.names.entries[strings.ToLower(id)]
	return e, ok
}

func (j *judge) named(kind Kind, path string, ids []string) []string {
	var names []string
	for _, id := range ids {
		if name := j.name(kind, path, id); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// policy reads it all. What can't be read or enforced is among j.refused.
func (j *judge) policy(v *value) {
	o := j.object("", v)
	o.take("templateId", "createdDateTime", "modifiedDateTime", "deletedDateTime", "createdBy", "modifiedBy", "description")
	j.p.ID = o.text("id")
	if j.p.Name = o.text("displayName"); strings.TrimSpace(j.p.Name) == "" {
		j.refuseUnknown("displayName", "missing")
	}
	state := o.text("state")
	j.p.State = fold([]policy.State{policy.Enabled, policy.Disabled, policy.ReportOnly}, state)
	if j.p.State == "" {
		j.refuseUnknown("state", or(state, "missing"))
	}
	j.conditions(o.object("conditions"))
	j.grant(o.object("grantControls"))
	j.session(o.object("sessionControls"))
	o.rest()
	if !j.demands && j.foreign == nil {
		j.refuseUnknown("grantControls", "nothing is demanded")
	}
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
