// Package htpasswd is the directory in a file of Apache's htpasswd, as legacy applications come with:
//
//	# who works here
//	alice:$2y$12$…
//	bob:$argon2id$v=19$m=19456,t=2,p=1$…
//
// What is behind a second colon is passed over, as Apache and nginx do. Lines with other digests are refused, each with the command
// that replaces it; apr1 and SHA-1 can be accepted until a day, so that people can be moved one by one. Plain text and crypt never
// are. A user's id is the name, in its one spelling.
//
// Groups can stand in a file of Apache's AuthGroupFile:
//
//	staff: alice bob
//	hr: alice
package htpasswd

import (
	"log/slog"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// Settings say what is read, and how.
type Settings struct {
	Name   string // what accounts are kept under
	Path   string // of the htpasswd file
	Groups string // path of the file of groups; empty: nobody is in one

	// WeakUntil is until when passwords are right that are kept as apr1 or SHA-1; zero: such lines are refused.
	WeakUntil time.Time
}

// New makes a directory of an htpasswd file, and opens nothing. A nil log is silent.
func New(s Settings, pool *password.Pool, log *slog.Logger) *watched.Directory {
	format := watched.Format{Name: "htpasswd file", Parse: func(directory string, texts []watched.Text) ([]*watched.Entry, watched.Problems, watched.Problems) {
		return parse(directory, texts, s.WeakUntil)
	}}
	if s.Groups == "" {
		return watched.New(s.Name, format, pool, log, s.Path)
	}
	return watched.New(s.Name, format, pool, log, s.Path, s.Groups)
}
