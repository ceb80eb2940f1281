// Package watched is a directory in files that operators write: who stands in them, what passwords are judged by, and how they are
// read again when they change. What the files look like is a Format; each has a package of its own beside this one.
//
// A version that can't be used leaves the last good one in force.
package watched

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/filewatch"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// Format is what files look like.
type Format struct {
	Name string // what messages call the file, or the first of several, as in "users file"

	// Parse reads one version of the files: either there are problems, or everybody who stands in them, with canonical names and
	// ids that are different. It may warn. With nothing to read, Texts are as many as there are files.
	Parse func(directory string, texts []Text) (entries []*Entry, warnings, problems Problems)
}

// Text is one version of a file.
type Text struct {
	Path string // as it was given to New
	Data []byte
}

// Entry is a user and what his password is judged by.
type Entry struct {
	User   *mfa.User // the mark is filled in
	Line   int       // in which the user begins
	Digest password.Digest
	Until  time.Time // from when on the password is wrong for everybody; zero: never
}

// Directory is users in files. Looking somebody up takes no lock and reads nothing. Its methods are safe for concurrent
// use.
type Directory struct {
	name   string
	path   string // of the first file
	format Format
	pool   *password.Pool
	log    *slog.Logger

	current atomic.Pointer[snapshot] // nil until a first version is in force
	state   atomic.Pointer[state]

	mu    sync.Mutex // guards what follows: one reads the files at a time
	files []*source
	hooks []func()

	broken    [sha256.Size]byte // the content that was refused last
	hasBroken bool
}

// source is one of the files.
type source struct {
	file filewatch.File
	data []byte // of the newest version
	err  error  // from reading that
}

// state is how the newest version of the file fared.
type state struct {
	err      error // nil: it is in force
	warnings Problems
}

// New makes a Directory of files in this format, and opens nothing. The name is what accounts are kept under. Until
// Load or Run has read the files, the directory is unavailable. A nil log is silent.
func New(name string, format Format, pool *password.Pool, log *slog.Logger, path string, more ...string) *Directory {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &Directory{name: name, path: path, format: format, pool: pool, log: log.With("directory", name, "file", path)}
	for _, path := range append([]string{path}, more...) {
		d.files = append(d.files, &source{file: watchedFile(path, format.Name)})
	}
	d.state.Store(&state{err: fmt.Errorf("%s has not been read", format.Name)})
	return d
}

// Name is what accounts of this directory are kept under.
func (d *Directory) Name() string { return d.name }

// ByName finds a user. The error is directory.ErrUnknown or directory.ErrUnavailable.
func (d *Directory) ByName(_ context.Context, canonical string) (*mfa.User, error) {
	s := d.current.Load()
	if s == nil {
		return nil, d.unavailable()
	}
	if e := s.byName[canonical]; e != nil {
		return e.User, nil
	}
	return nil, directory.ErrUnknown
}

// ByID finds a user. The error is directory.ErrUnknown or directory.ErrUnavailable.
func (d *Directory) ByID(_ context.Context, id string) (*mfa.User, error) {
	s := d.current.Load()
	if s == nil {
		return nil, d.unavailable()
	}
	if e := s.byID[id]; e != nil {
		return e.User, nil
	}
	return nil, directory.ErrUnknown
}

// Users lists everybody, sorted by canonical name. The error is directory.ErrUnavailable.
func (d *Directory) Users(context.Context) ([]*mfa.User, error) {
	s := d.current.Load()
	if s == nil {
		return nil, d.unavailable()
	}
	return slices.Clone(s.users), nil
}

// Authenticate judges a password. One hash is computed whether the name is known or not, and whether the user is
// disabled or not: for a name that nobody has, one that costs what a user's does, chosen by the name. A password of
// more than password.MaxLength bytes is wrong for everybody and costs none. The error is directory.ErrPassword,
// directory.ErrBusy, directory.ErrUnavailable, or ctx's.
func (d *Directory) Authenticate(ctx context.Context, canonical, pass string) (*mfa.User, error) {
	s := d.current.Load()
	if s == nil {
		return nil, d.unavailable()
	}
	digest, verify := s.standIn(processKey(), canonical), d.pool.VerifyDummy
	e := s.byName[canonical]
	if e != nil {
		digest, verify = e.Digest, d.pool.Verify
	}
	ok, err := verify(ctx, digest, pass)
	switch {
	case errors.Is(err, password.ErrBusy):
		return nil, directory.ErrBusy
	case err != nil:
		return nil, err
	case !ok || e == nil || !e.Until.IsZero() && !time.Now().Before(e.Until):
		return nil, directory.ErrPassword
	}
	// The file may have changed while the password waited for its turn: what it says now counts. The mark is of
	// the id and the digest.
	now := d.current.Load().byName[canonical]
	if now == nil || now.User.Disabled || now.User.Mark != e.User.Mark {
		return nil, directory.ErrPassword
	}
	return now.User, nil
}

// Healthy says whether the newest version of the file is the one in force.
func (d *Directory) Healthy() bool { return d.state.Load().err == nil }

// LastError says why the newest version of the file is not in force: Problems, or a fault from reading it. It is nil
// if it is.
func (d *Directory) LastError() error { return d.state.Load().err }

// Warnings says what should be better in the version in force, and doesn't keep it from being so.
func (d *Directory) Warnings() Problems { return slices.Clone(d.state.Load().warnings) }

// OnChange has hook called after a new version has come into force, the first one included. The file is not looked at
// again before it has returned.
func (d *Directory) OnChange(hook func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hooks = append(d.hooks, hook)
}

func (d *Directory) unavailable() error {
	return fmt.Errorf("%w: no version of the %s %s is in force", directory.ErrUnavailable, d.format.Name, d.path)
}

var _ directory.Directory = (*Directory)(nil)
