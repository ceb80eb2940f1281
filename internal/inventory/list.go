package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// ErrFilter says that a filter can't be understood, and why.
var ErrFilter = errors.New("not a filter of legacy authentication")

// Filter says which rows are wanted. What is zero doesn't narrow them.
type Filter struct {
	Since, Until time.Time    // last seen from Since on, and before Until
	Application  string       // name
	Class        string       // name
	User         string       // name, in any spelling; also one that no directory knows, and what stands for it in a row
	Client       string       // family
	Path         string       // the folder, or one that it is in
	Addresses    netip.Prefix // holds the row's network, or is in it
	Verdict      string       // one that became of a request at least
	Exception    string       // name of one that covered a request at least
}

// query is a filter that was understood.
type query struct {
	Filter
	users []string // as they may stand in rows
}

func (i *Inventory) query(f Filter) (*query, error) {
	q := &query{Filter: f}
	if f.Verdict != "" && !slices.Contains(verdicts[:], f.Verdict) {
		return nil, fmt.Errorf("%w: there is no verdict %q; want one of %s", ErrFilter, f.Verdict, strings.Join(verdicts[:], ", "))
	}
	if f.Path != "" && f.Path != Other && !strings.HasPrefix(f.Path, "/") {
		return nil, fmt.Errorf("%w: a path begins with a slash, unlike %q", ErrFilter, f.Path)
	}
	if f.User == "" {
		return q, nil
	}
	typed := keyOf(&Sighting{User: f.User}).user
	q.users = append(q.users, typed)
	if i.settings.Mark != nil {
		q.users = append(q.users, i.marks(typed)...)
	}
	if canonical, err := mfa.CanonicalName(f.User); err == nil {
		q.users = append(q.users, canonical)
	}
	return q, nil
}

func (q *query) wants(r *Row) bool {
	is := func(want, got string) bool { return want == "" || strings.EqualFold(want, got) }
	ok := is(q.Application, r.Application) && is(q.Class, r.Class) && is(q.Client, r.Client) &&
		(q.Since.IsZero() || !r.LastSeen.Before(q.Since)) && (q.Until.IsZero() || r.LastSeen.Before(q.Until)) &&
		(q.User == "" || slices.Contains(q.users, r.User)) &&
		(q.Verdict == "" || r.Verdicts[q.Verdict] > 0) && (q.Exception == "" || r.Exceptions[q.Exception] > 0)
	if ok && q.Path != "" {
		folder := strings.TrimSuffix(q.Path, "/")
		ok = r.Path == q.Path || r.Path == folder || strings.HasPrefix(r.Path, folder+"/")
	}
	if ok && q.Addresses.IsValid() {
		ok = r.Addresses.IsValid() && q.Addresses.Overlaps(r.Addresses)
	}
	return ok
}

// List finds rows, the one that was seen last first. The error wraps ErrFilter or store.ErrUnavailable, or is ctx's own.
func (i *Inventory) List(ctx context.Context, f Filter) ([]Row, error) {
	q, err := i.query(f)
	if err != nil {
		return nil, err
	}
	all, err := i.list(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(r *stored) bool { return !q.wants(&r.Row) })
	slices.SortFunc(all, func(a, b *stored) int { return cmp.Or(b.LastSeen.Compare(a.LastSeen), cmp.Compare(a.name, b.name)) })
	rows := make([]Row, len(all))
	for n, r := range all {
		rows[n] = r.Row
	}
	return rows, nil
}
