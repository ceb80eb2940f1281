// Package file is the directory in a YAML file:
//
//	users:
//	  alice:
//	    display_name: Alice Example
//	    email: alice@example.com
//	    phone: "+31612345678"
//	    language: en
//	    password: $argon2id$v=19$m=19456,t=2,p=1$…
//	    id: 7f1c…
//	    groups: [staff, hr]
//	    roles: [Global Administrator]
//	    guest: false
//	    disabled: false
//
// Only the name and the password are required. Every scalar is the text that was written: a user may be called no, or
// 007. The file is read again when it changes; one that can't be used leaves the last good version in force.
package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/filewatch"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// Directory is a users file. Looking somebody up takes no lock and reads nothing. Its methods are safe for concurrent
// use.
type Directory struct {
	name string
	path string
	pool *password.Pool
	log  *slog.Logger

	current atomic.Pointer[snapshot] // nil until a first version is in force
	state   atomic.Pointer[state]

	mu    sync.Mutex // guards what follows: one reads the file at a time
	file  filewatch.File
	hooks []func()

	broken    [sha256.Size]byte // the content that was refused last
	hasBroken bool
}

// state is how the newest version of the file fared.
type state struct {
	err      error // nil: it is in force
	warnings Problems
}

var errNotRead = errors.New("users file has not been read")

// New makes a Directory of the file at this path, and opens nothing. The name is what accounts are kept under. Until
// Load or Run has read the file, the directory is unavailable. A nil log is silent.
func New(name, path string, pool *password.Pool, log *slog.Logger) *Directory {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &Directory{name: name, path: path, pool: pool, log: log.With("directory", name, "file", path), file: watched(path)}
	d.state.Store(&state{err: errNotRead})
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
		return e.user, nil
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
		return e.user, nil
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
		digest, verify = e.digest, d.pool.Verify
	}
	ok, err := verify(ctx, digest, pass)
	switch {
	case errors.Is(err, password.ErrBusy):
		return nil, directory.ErrBusy
	case err != nil:
		return nil, err
	case !ok || e == nil:
		return nil, directory.ErrPassword
	}
	// The file may have changed while the password waited for its turn: what it says now counts. The mark is of
	// the id and the digest.
	now := d.current.Load().byName[canonical]
	if now == nil || now.user.Disabled || now.user.Mark != e.user.Mark {
		return nil, directory.ErrPassword
	}
	return now.user, nil
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
	return fmt.Errorf("%w: no version of the users file %s is in force", directory.ErrUnavailable, d.path)
}

var _ directory.Directory = (*Directory)(nil)
