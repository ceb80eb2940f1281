// Package directory is where users come from. Each kind of source has a package of its own below this one.
package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

var (
	// ErrUnknown says that the directory answered, and knows nobody of that name or id.
	ErrUnknown = errors.New("user is not known to the directory")

	// ErrPassword says that the name and the password don't belong together: the name is unknown, the
	// password is wrong, or the user is disabled. It doesn't say which, and takes the same time for each.
	ErrPassword = errors.New("user name or password is not right")

	// ErrUnavailable says that the directory can't answer now. It is never a reason to ask the next one.
	ErrUnavailable = errors.New("directory is unavailable")

	// ErrBusy says that too many passwords are being checked already. Nothing was judged.
	ErrBusy = errors.New("too many passwords are being checked")
)

// Directory is one source of users. Its methods are safe for concurrent use. Names are canonical
// (mfa.CanonicalName), ids are those of mfa.UserID within this directory.
type Directory interface {
	// Name is what accounts of this directory are kept under: mfa.UserID.Directory.
	Name() string

	// ByName finds a user, disabled ones included. The error is ErrUnknown or ErrUnavailable.
	ByName(ctx context.Context, canonical string) (*mfa.User, error)

	// ByID finds a user, disabled ones included. The error is ErrUnknown or ErrUnavailable. It is asked at
	// every request of a signed-in user, and must cost no input or output as a rule.
	ByID(ctx context.Context, id string) (*mfa.User, error)

	// Authenticate judges a password. It may be asked about a name that the directory doesn't know, and
	// takes as long as for one that it does. The error is ErrPassword, ErrBusy, ErrUnavailable, or ctx's.
	Authenticate(ctx context.Context, canonical, password string) (*mfa.User, error)

	// Users lists everybody, sorted by canonical name. The error is ErrUnavailable.
	Users(ctx context.Context) ([]*mfa.User, error)
}

// Directories are asked in order: the first that knows a name decides about it. That a directory is down is
// never a reason to ask the next.
type Directories []Directory

// ByName finds a user in the first directory that knows the name. Nobody has the name of a service.
func (ds Directories) ByName(ctx context.Context, canonical string) (*mfa.User, error) {
	if strings.HasPrefix(canonical, mfa.ServicePrefix) {
		return nil, ErrUnknown
	}
	for _, d := range ds {
		if u, err := d.ByName(ctx, canonical); !errors.Is(err, ErrUnknown) {
			return u, err
		}
	}
	return nil, ErrUnknown
}

// ByID finds the user with this id.
func (ds Directories) ByID(ctx context.Context, id mfa.UserID) (*mfa.User, error) {
	for _, d := range ds {
		if d.Name() == id.Directory {
			return d.ByID(ctx, id.ID)
		}
	}
	return nil, fmt.Errorf("%w: no directory %q", ErrUnknown, id.Directory)
}

// Authenticate asks the first directory that knows the name, and the first of all where none does, so that a
// name that nobody knows costs what a known one does.
func (ds Directories) Authenticate(ctx context.Context, canonical, password string) (*mfa.User, error) {
	u, err := ds.authenticate(ctx, canonical, password)
	if err == nil && strings.HasPrefix(u.Canonical, mfa.ServicePrefix) {
		return nil, ErrPassword
	}
	return u, err
}

func (ds Directories) authenticate(ctx context.Context, canonical, password string) (*mfa.User, error) {
	for _, d := range ds {
		if _, err := d.ByName(ctx, canonical); errors.Is(err, ErrUnknown) {
			continue
		} else if err != nil {
			return nil, err
		}
		return d.Authenticate(ctx, canonical, password)
	}
	if len(ds) == 0 {
		return nil, ErrUnavailable
	}
	return ds[0].Authenticate(ctx, canonical, password)
}

// Users lists everybody who can sign in: whom an earlier directory's name hides is left out.
func (ds Directories) Users(ctx context.Context) ([]*mfa.User, error) {
	var all []*mfa.User
	seen := map[string]bool{}
	for _, d := range ds {
		users, err := d.Users(ctx)
		if err != nil {
			return nil, err
		}
		for _, u := range users {
			if !seen[u.Canonical] && !strings.HasPrefix(u.Canonical, mfa.ServicePrefix) {
				seen[u.Canonical] = true
				all = append(all, u)
			}
		}
	}
	return all, nil
}
