package admin

import (
	"errors"
	"slices"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func TestWhoMustRegisterAgain(t *testing.T) {
	codes := string(mfa.RecoveryCode)
	for reason, tc := range map[string]struct {
		has           map[string]mfa.Method // by id
		removed, kept []mfa.Method
		left          []string // ids
	}{
		"what was registered goes, and recovery codes with it": {
			map[string]mfa.Method{"app": mfa.TOTP, "phone": mfa.SMS, "push": mfa.Push, "mail": mfa.Email, codes: mfa.RecoveryCode}, []mfa.Method{mfa.Push, mfa.TOTP, mfa.SMS, mfa.Email}, []mfa.Method{}, nil,
		},
		"passkeys stay, and the codes of who has one": {
			map[string]mfa.Method{"app": mfa.TOTP, "key": mfa.Passkey, codes: mfa.RecoveryCode}, []mfa.Method{mfa.TOTP}, []mfa.Method{mfa.Passkey}, []string{"key", codes},
		},
		"the number of the directory stays": {
			map[string]mfa.Method{"app": mfa.TOTP, account.DirectoryPhone: mfa.SMS}, []mfa.Method{mfa.TOTP}, []mfa.Method{mfa.SMS}, []string{account.DirectoryPhone},
		},
		"a pass is no factor": {
			map[string]mfa.Method{"app": mfa.TOTP, "temporary_access_pass": mfa.TemporaryAccessPass}, []mfa.Method{mfa.TOTP}, []mfa.Method{}, []string{"temporary_access_pass"},
		},
		"nothing was registered":         {nil, []mfa.Method{}, []mfa.Method{}, nil},
		"nothing but what stays was, so": {map[string]mfa.Method{"key": mfa.Passkey, codes: mfa.RecoveryCode}, []mfa.Method{}, []mfa.Method{mfa.Passkey}, []string{"key", codes}},
	} {
		f := newFixture(t)
		f.update("alice", func(a *account.Account) {
			a.State.Registered = f.now
			for id, method := range tc.has {
				a.Put(mfa.Credential{ID: id, Method: method, Added: f.now, Data: []byte("{}")})
			}
		})
		alice := mfa.UserID{Directory: "file", ID: "alice"}
		before, err := f.Accounts.LoadClosed(f.ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		made, err := f.RequireReregistration(f.ctx, "ALICE", f.now)
		if err != nil || made.User != "alice" || !slices.Equal(made.Removed, tc.removed) || !slices.Equal(made.Kept, tc.kept) {
			t.Errorf("%s: %+v, %v", reason, made, err)
			continue
		}
		after, err := f.Accounts.LoadClosed(f.ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, c := range after.Credentials {
			left = append(left, c.ID)
		}
		slices.Sort(tc.left)
		if changed := len(tc.removed) > 0; !slices.Equal(left, tc.left) || (after.State.Epoch != before.State.Epoch) != changed || after.State.PassRequired || !after.State.Registered.Equal(before.State.Registered) {
			t.Errorf("%s: left are %q, %+v, before %+v", reason, left, after.State, before.State)
		} else if n := len(f.sink.events); changed && (n != 1 || f.sink.events[0].Type != audit.ReregisterRequired || f.sink.events[0].By != "admin") || !changed && n != 0 {
			t.Errorf("%s: events %+v", reason, f.sink.events)
		}
	}
	if _, err := newFixture(t).RequireReregistration(t.Context(), "zoe", newFixture(t).now); !errors.Is(err, ErrNoUser) {
		t.Errorf("nobody of that name: %v", err)
	}
}
