package watched

import (
	"crypto/sha256"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// Snapshot is one version of the files, for tests.
type Snapshot = snapshot

// NewSnapshot is what comes into force of these entries.
var NewSnapshot = newSnapshot

// ProcessKey is what unknown names are charged by.
var ProcessKey = processKey

// Mark makes mfa.User.Mark.
func Mark(id mfa.UserID, d password.Digest) string { return mark(id, d) }

// Current is the version in force.
func (d *Directory) Current() *Snapshot { return d.current.Load() }

// Path is where the first file is.
func (d *Directory) Path() string { return d.path }

// Check looks at the files once.
func (d *Directory) Check(now time.Time) bool { return d.check(now) }

// StandIn is whose cost a name is charged that nobody has.
func (s *snapshot) StandIn(key [sha256.Size]byte, canonical string) password.Digest {
	return s.standIn(key, canonical)
}

// ByName finds an entry.
func (s *snapshot) ByName(canonical string) *Entry { return s.byName[canonical] }

// Classes says how many users have digests of which cost.
func (s *snapshot) Classes() map[password.Cost]int {
	classes := map[password.Cost]int{}
	for _, c := range s.classes {
		classes[c.cost] = int(c.count)
	}
	return classes
}
