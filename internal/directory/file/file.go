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
// 007.
package file

import (
	"log/slog"

	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// New makes a directory of the users file at this path, and opens nothing. The name is what accounts are kept under. A nil log is
// silent.
func New(name, path string, pool *password.Pool, log *slog.Logger) *watched.Directory {
	return watched.New(name, watched.Format{Name: "users file", Parse: parse}, pool, log, path)
}
