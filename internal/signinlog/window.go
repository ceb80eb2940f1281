package signinlog

import (
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
)

// class is how much somebody has shown who tries to sign in.
type class uint8

const (
	proven   class = iota // something was right: a password, a passkey
	known                 // nothing was right, and a directory knows the user
	stranger              // nothing was right, for a name that nobody has
	classes
)

// String begins the names of chunks.
func (c class) String() string { return [classes]string{"proven", "known", "stranger"}[c] }

func classOf(r *audit.SignIn) class {
	switch {
	case slices.ContainsFunc(r.Details, func(d audit.Detail) bool { return d.Succeeded }):
		return proven
	case r.UserID != "" || r.UserPrincipalName != "":
		return known
	}
	return stranger
}

// What is kept one by one in a minute, by one process.
const (
	windowLength = time.Minute
	perUser      = 10  // of one user, with one result
	perKnown     = 120 // of all users together who have shown nothing
	perStranger  = 30
)

// kind is what the sign-ins have in common that one record stands for.
type kind struct {
	class class
	user  string // empty: of everybody
	code  int
}

// window counts what comes in a minute.
type window struct {
	ends  time.Time
	kept  map[kind]int
	class [classes]int // kept, by class
	left  map[kind]*audit.SignIn
}

// admit says whether e is kept. What isn't is counted.
func (w *window) admit(e entry, now time.Time) bool {
	if w.kept == nil {
		*w = window{ends: now.Add(windowLength), kept: map[kind]int{}, left: map[kind]*audit.SignIn{}}
	}
	k := kind{e.class, e.signIn.UserPrincipalName, e.signIn.Status.ErrorCode}
	total := [classes]int{proven: w.class[proven] + 1, known: perKnown, stranger: perStranger}[e.class]
	switch {
	case k.user != "" && w.kept[k] >= perUser:
	case w.class[e.class] >= total:
		if w.kept[k] == 0 {
			k.user = "" // whoever floods doesn't choose how many records stand for it
		}
	default:
		w.kept[k]++
		w.class[e.class]++
		return true
	}
	if w.left[k] == nil {
		w.left[k] = summary(e.signIn, k)
	}
	w.left[k].Created = e.signIn.Created
	w.left[k].Suppressed++
	return false
}

// summary begins a record that stands for several.
func summary(r audit.SignIn, k kind) *audit.SignIn {
	id := audit.NewReference()
	s := &audit.SignIn{
		ID: id, CorrelationID: id, Policies: []audit.AppliedPolicy{}, Details: []audit.Detail{},
		ConditionalAccess: audit.AccessNotApplied, RiskLevel: audit.RiskNone, RiskState: audit.RiskNone, Status: r.Status,
	}
	if k.user != "" {
		s.UserPrincipalName, s.UserDisplayName, s.UserID = r.UserPrincipalName, r.UserDisplayName, r.UserID
	}
	return s
}

// roll ends the minute if it is over, and gives the records that stand for what was left out.
func (w *window) roll(now time.Time) []entry {
	if w.kept == nil || now.Before(w.ends) {
		return nil
	}
	return w.close()
}

func (w *window) close() []entry {
	var entries []entry
	for k, s := range w.left {
		entries = append(entries, entry{k.class, *s})
	}
	*w = window{}
	return entries
}
