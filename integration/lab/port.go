package lab

import (
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/porttest"
)

// FreePort finds a port that nobody listens on. It gives none twice.
func FreePort(t testing.TB) int {
	t.Helper()
	return porttest.Free(t)
}
