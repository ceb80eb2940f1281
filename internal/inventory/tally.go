package inventory

import (
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
)

const (
	maxExceptions = 8    // that a row names
	maxException  = 1024 // bytes in the name of one
)

// tally counts sightings.
type tally struct {
	first, last time.Time
	count       uint64
	verdicts    [len(verdicts)]uint64
	would       [len(woulds)]uint64
	exceptions  map[string]uint64
}

// add counts one sighting.
func (t *tally) add(s *Sighting, at time.Time) {
	t.see(at, at)
	t.count++
	if i := slices.Index(verdicts[:], s.Verdict); i >= 0 {
		t.verdicts[i]++
	}
	if i := slices.Index(woulds[:], s.Would); i >= 0 {
		t.would[i]++
	}
	if s.Exception != "" {
		t.except(audit.Plain(s.Exception, maxException), 1)
	}
}

func (t *tally) see(first, last time.Time) {
	if t.first.IsZero() || first.Before(t.first) {
		t.first = first
	}
	if last.After(t.last) {
		t.last = last
	}
}

func (t *tally) except(name string, n uint64) {
	if t.exceptions == nil {
		t.exceptions = map[string]uint64{}
	}
	if _, there := t.exceptions[name]; there || len(t.exceptions) < maxExceptions {
		t.exceptions[name] += n
	}
}

// merge counts what another has counted.
func (t *tally) merge(other *tally) {
	t.see(other.first, other.last)
	t.count += other.count
	for i, n := range other.verdicts {
		t.verdicts[i] += n
	}
	for i, n := range other.would {
		t.would[i] += n
	}
	for name, n := range other.exceptions {
		t.except(name, n)
	}
}
