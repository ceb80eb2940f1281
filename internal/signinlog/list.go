package signinlog

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// How many sign-ins one List gives.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// ErrFilter says that a filter can't be understood, and why.
var ErrFilter = errors.New("not a filter of sign-ins")

// Filter says which sign-ins are wanted. What is zero doesn't narrow them.
type Filter struct {
	Since, Until time.Time    // from Since on, and before Until
	User         string       // user name, in any spelling
	Application  string       // name
	Addresses    netip.Prefix // of the client
	Status       Status
	Policy       string             // display name or id of a policy that had something to say
	Result       audit.PolicyResult // what that policy came to, or any policy if none is named; also that it didn't apply
	Reference    string             // what stood on a person's page; id or correlation id

	Limit int    // DefaultLimit if zero, at most MaxLimit
	After string // Page.Next of the page before, with the same filter
}

// Status is how a sign-in ended.
type Status string

// How a sign-in ended.
const (
	Success Status = "success"
	Failure Status = "failure"
)

// Page is a part of the log, the newest sign-in first.
type Page struct {
	SignIns []audit.SignIn
	Next    string // where the next page begins; empty: there is none
}

// found is a sign-in, and what tells it from every other.
type found struct {
	signIn audit.SignIn
	mark   mark
}

// mark is the place of a sign-in in the order of the log: the newest first.
type mark struct {
	At    int64  `json:"t"` // Unix nanoseconds
	ID    string `json:"i"`
	Place string `json:"p"` // chunk/batch/number
}

func (m mark) compare(other mark) int {
	return cmp.Or(-cmp.Compare(m.At, other.At), -strings.Compare(m.ID, other.ID), -strings.Compare(m.Place, other.Place))
}

func (m mark) String() string { return base64.RawURLEncoding.EncodeToString(marshal(m)) }

// parseMark reads what String wrote.
func parseMark(s string) (m mark, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil || m.Place == "" {
		return mark{}, fmt.Errorf("%w: %q doesn't come from the page before", ErrFilter, s)
	}
	return m, nil
}

// query is a filter that was understood.
type query struct {
	Filter
	user     string // canonical
	from, to int64  // Unix nanoseconds, to exclusive
	after    *mark
	decoder  decoder
}

func (l *Log) query(f Filter, now time.Time) (*query, error) {
	q := &query{Filter: f, from: now.Add(-l.settings.Keep).UnixNano(), to: math.MaxInt64}
	if q.Limit = cmp.Or(f.Limit, DefaultLimit); q.Limit < 1 || q.Limit > MaxLimit {
		return nil, fmt.Errorf("%w: from 1 to %d sign-ins can be asked for, not %d", ErrFilter, MaxLimit, f.Limit)
	}
	if f.Status != "" && f.Status != Success && f.Status != Failure {
		return nil, fmt.Errorf("%w: a sign-in ends in success or failure, not in %q", ErrFilter, f.Status)
	}
	if f.Result != "" && !slices.Contains(audit.PolicyResults(), f.Result) {
		return nil, fmt.Errorf("%w: there is no result %q; want one of %v", ErrFilter, f.Result, audit.PolicyResults())
	}
	if f.User != "" {
		var err error
		if q.user, err = mfa.CanonicalName(f.User); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFilter, err)
		}
	}
	if !f.Since.IsZero() {
		q.from = max(q.from, nanos(f.Since))
	}
	if !f.Until.IsZero() {
		q.to = nanos(f.Until)
	}
	if f.After != "" {
		m, err := parseMark(f.After)
		if err != nil {
			return nil, err
		}
		q.after = &m
	}
	return q, nil
}

// nanos is t in Unix nanoseconds, or the nearest moment that can be said so.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// reaches says whether a chunk may hold what is asked for.
func (q *query) reaches(c *chunk) bool {
	return c.To >= q.from && c.From < q.to && (q.after == nil || c.From <= q.after.At) && (q.user == "" || c.mayHold(q.user))
}

func (q *query) wants(f *found) bool {
	r := &f.signIn
	ok := f.mark.At >= q.from && f.mark.At < q.to && (q.after == nil || f.mark.compare(*q.after) > 0) &&
		(q.user == "" || r.UserPrincipalName == q.user) &&
		(q.Application == "" || strings.EqualFold(r.AppDisplayName, q.Application)) &&
		(q.Reference == "" || r.ID == q.Reference || r.CorrelationID == q.Reference)
	if ok && q.Status != "" {
		ok = (q.Status == Success) == (r.Status.ErrorCode == audit.CodeSuccess)
	}
	if ok && q.Addresses.IsValid() {
		a, err := netip.ParseAddr(r.IPAddress)
		ok = err == nil && q.Addresses.Contains(a.Unmap().WithZone(""))
	}
	if ok && (q.Policy != "" || q.Result != "") {
		ok = slices.ContainsFunc(r.Policies, func(p audit.AppliedPolicy) bool {
			named := q.Policy == "" || strings.EqualFold(p.DisplayName, q.Policy) || p.ID == q.Policy
			return named && (p.Result == q.Result || q.Result == "" && p.Result.Applied())
		})
	}
	return ok
}

// List finds sign-ins, the newest first. It reads the index, and those chunks that may hold what is asked for, until there is
// enough. The error wraps ErrFilter or store.ErrUnavailable, or is ctx's own.
func (l *Log) List(ctx context.Context, f Filter) (Page, error) {
	q, err := l.query(f, time.Now())
	if err != nil {
		return Page{}, err
	}
	chunks, err := l.index(ctx, "")
	if err != nil {
		return Page{}, err
	}
	chunks = slices.DeleteFunc(chunks, func(c *chunk) bool { return !q.reaches(c) })
	slices.SortFunc(chunks, func(a, b *chunk) int { return cmp.Compare(b.To, a.To) })

	page := Page{SignIns: []audit.SignIn{}}
	var waiting []found // read, and in order
	var last mark
	for {
		// Chunks overlap: what the next one holds may be newer.
		for len(chunks) > 0 && (len(waiting) == 0 || chunks[0].To >= waiting[0].mark.At) {
			more, err := l.read(ctx, q, chunks[0])
			if err != nil {
				return Page{}, err
			}
			chunks = chunks[1:]
			if len(more) > 0 {
				waiting = append(waiting, more...)
				slices.SortFunc(waiting, func(a, b found) int { return a.mark.compare(b.mark) })
			}
		}
		if len(waiting) == 0 {
			return page, nil
		}
		if len(page.SignIns) == q.Limit {
			page.Next = last.String()
			return page, nil
		}
		page.SignIns, last, waiting = append(page.SignIns, waiting[0].signIn), waiting[0].mark, waiting[1:]
	}
}

// read gives what is wanted of a chunk.
func (l *Log) read(ctx context.Context, q *query, c *chunk) ([]found, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	records, err := l.store.List(ctx, partition(c.key), "")
	if err != nil {
		return nil, err
	}
	var all []found
	for _, r := range records {
		signIns, err := q.decoder.decode(r.Value)
		if err != nil {
			l.settings.Log.Warn("a part of the sign-in log can't be read", "chunk", c.key, "batch", r.Key, "error", err)
			continue
		}
		for i, s := range signIns {
			f := found{s, mark{s.Created.UnixNano(), s.ID, fmt.Sprintf("%s/%s/%04d", c.key, r.Key, i)}}
			if q.wants(&f) {
				all = append(all, f)
			}
		}
	}
	return all, nil
}
