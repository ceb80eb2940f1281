package inventory

import (
	"context"
	"strings"
	"time"
)

// rows are those that there are, in the store and on their way to it, as far as this process knows.
type rows struct {
	all      map[key]bool
	unknown  map[place]int // by class and application
	ofUser   map[place]int // by class, application and user
	unknowns int           // together
	known    int           // together
}

// place is where rows share room.
type place struct{ class, application, user string }

func (r *rows) has(k key) bool { return r.all[k] }

func (r *rows) add(k key) {
	if r.all == nil {
		*r = rows{all: map[key]bool{}, unknown: map[place]int{}, ofUser: map[place]int{}}
	}
	if r.all[k] {
		return
	}
	r.all[k] = true
	switch {
	case k.known:
		r.known++
		r.ofUser[place{k.class, k.application, k.user}]++
	case !k.isOther():
		r.unknowns++
		r.unknown[place{class: k.class, application: k.application}]++
	}
}

// room gives the row that counts for k: its own, or a wider one where there is no room for it.
func (r *rows) room(k key) key {
	switch {
	case r.has(k) || k.isOther():
		return k
	case !k.known:
		if r.unknown[place{class: k.class, application: k.application}] >= MaxUnknown || r.unknowns >= maxUnknowns {
			return k.other()
		}
		return k
	}
	if r.ofUser[place{k.class, k.application, k.user}] < MaxOfUser && r.known < maxDetailed {
		return k
	}
	if short := k.short(); r.has(short) || r.known < MaxRows-maxUnknowns {
		return short
	}
	return k.other()
}

// fold looks up the names of what has come, and counts it in the rows that there is room for.
func (i *Inventory) fold(ctx context.Context) {
	now := time.Now()
	i.mu.Lock()
	incoming, uses := i.incoming, i.uses
	i.incoming, i.uses = map[key]*tally{}, map[ExceptionName]*tally{}
	if now.Sub(i.forgotten) >= knownInterval {
		clear(i.known)
		i.forgotten = now
	}
	i.mu.Unlock()

	for name, t := range uses {
		if i.dirtyUses[name] == nil {
			i.dirtyUses[name] = &tally{}
		}
		i.dirtyUses[name].merge(t)
	}
	names := map[string]key{} // of which only user and known count
	for k, t := range incoming {
		if !k.isOther() && !k.known && k.user != "" {
			named, done := names[k.user]
			if !done {
				named = i.name(ctx, k.user)
				names[k.user] = named
			}
			k.user, k.known = named.user, named.known
		}
		if !i.rows.has(k) && now.Sub(i.looked) >= lookInterval {
			i.look(ctx, now)
		}
		k = i.rows.room(k)
		i.rows.add(k)
		if i.dirty[k] == nil {
			i.dirty[k] = &tally{}
		}
		i.dirty[k].merge(t)
	}
}

// name says what is kept of a name that was typed.
func (i *Inventory) name(ctx context.Context, typed string) key {
	canonical, known := i.settings.Known(ctx, typed)
	if _, account, qualified := strings.Cut(typed, `\`); !known && qualified {
		canonical, known = i.settings.Known(ctx, account) // as Windows writes it: DOMAIN\name
	}
	switch {
	case known:
		i.mu.Lock()
		if len(i.known) < maxKnown {
			i.known[typed] = true
		}
		i.mu.Unlock()
		return key{user: canonical, known: true}
	case i.settings.ShowUnknown:
		return key{user: typed}
	}
	return key{user: i.marks(typed)[0]}
}

// unknown stands for a name that no directory knows, where there is no key to tell it from another.
const unknown = "(unknown)"

// marks gives what may stand in rows for a name that no directory knows, what is written now first.
func (i *Inventory) marks(typed string) []string {
	if i.settings.Mark == nil {
		return []string{unknown}
	}
	marks := i.settings.Mark(typed)
	for n, mark := range marks {
		marks[n] = "(unknown " + mark + ")"
	}
	return marks
}
