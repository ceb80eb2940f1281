package admin

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// TestWhatTakesMailAddressesAwayNamesThem: who has no other can be told there only.
func TestWhatTakesMailAddressesAwayNamesThem(t *testing.T) {
	was := []string{"alice@example.org"}
	for reason, tc := range map[string]struct {
		addresses []string
		err       error
	}{
		"one":                          {was, nil},
		"factors that can't be opened": {nil, errors.New("broken")},
	} {
		for what, take := range map[audit.Type]func(*fixture) error{
			audit.FactorsReset:       func(f *fixture) error { _, err := f.Reset(f.ctx, "alice", f.now); return err },
			audit.ReregisterRequired: func(f *fixture) error { _, err := f.RequireReregistration(f.ctx, "alice", f.now); return err },
		} {
			f := newFixture(t)
			f.update("alice", func(a *account.Account) { a.Put(mfa.Credential{ID: "mail", Method: mfa.Email, Added: f.now}) })
			f.MailAddresses = func(ctx context.Context, id mfa.UserID) ([]string, error) {
				a, err := f.Accounts.LoadClosed(ctx, id)
				if err != nil || len(a.CredentialsOf(mfa.Email)) != 1 {
					t.Errorf("%s, %s: asked too late: %v", reason, what, err)
				}
				return tc.addresses, tc.err
			}
			if err := take(f); err != nil {
				t.Fatalf("%s, %s: %v", reason, what, err)
			}
			if e := f.sink.events[0]; e.Type != what || !slices.Equal(e.Old, tc.addresses) {
				t.Errorf("%s: %+v", reason, e)
			}
		}
	}
}
