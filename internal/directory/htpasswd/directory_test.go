package htpasswd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// office is where the files are.
type office struct {
	t             *testing.T
	users, groups string
}

func newOffice(t *testing.T, users, groups string) *office {
	dir := t.TempDir()
	o := &office{t, filepath.Join(dir, "htpasswd"), filepath.Join(dir, "groups")}
	o.write(o.users, users)
	o.write(o.groups, groups)
	return o
}

// write puts a new version in the place of the old one.
func (o *office) write(path, text string) {
	o.t.Helper()
	if err := os.WriteFile(path+"~", []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		o.t.Fatal(err)
	}
}

// open loads the directory.
func (o *office) open(weakUntil time.Time) (*watched.Directory, *password.Pool) {
	o.t.Helper()
	pool := password.NewPool(2, -1, 0)
	d := New(Settings{Name: "legacy", Path: o.users, Groups: o.groups, WeakUntil: weakUntil}, pool, nil)
	if err := d.Load(); err != nil {
		o.t.Fatal(err)
	}
	return d, pool
}

func TestAWeakDigestIsWrongFromItsDayOn(t *testing.T) {
	o := newOffice(t, "alice:"+cheap+"\nbob:"+apr1+"\ncarol:"+sha+"\n", "")
	synctest.Test(t, func(t *testing.T) {
		d, pool := o.open(time.Now().Add(24 * time.Hour))
		var costs []string
		pool.Observe(func(c password.Cost, _ time.Duration) { costs = append(costs, c.String()) })
		try := func(name, pass string, want error) {
			t.Helper()
			if u, err := d.Authenticate(t.Context(), name, pass); err != want || (u != nil) != (err == nil) {
				t.Errorf("%s, %q: %+v, %v, want %v", name, pass, u, err, want)
			}
		}
		for _, name := range []string{"alice", "bob", "carol"} {
			try(name, "correct horse", nil)
			try(name, "wrong", directory.ErrPassword)
		}
		time.Sleep(24 * time.Hour)
		costs = nil
		try("alice", "correct horse", nil)
		try("bob", "correct horse", directory.ErrPassword)
		try("carol", "correct horse", directory.ErrPassword)
		if want := []string{"bcrypt cost=5", "apr1", "sha1"}; !slices.Equal(costs, want) {
			t.Errorf("it costs %q, want %q", costs, want)
		}
		if u, err := d.ByName(t.Context(), "bob"); err != nil || u.Disabled {
			t.Errorf("whoever signed in before: %+v, %v", u, err)
		}
	})
}

func TestUnknownNamesCostWhatUsersDo(t *testing.T) {
	o := newOffice(t, "alice:"+cheap+"\nbob:"+apr1+"\n", "")
	d, pool := o.open(time.Now().Add(time.Hour))
	seen := map[string]int{}
	pool.Observe(func(c password.Cost, _ time.Duration) { seen[c.String()]++ })
	for i := range 40 {
		if _, err := d.Authenticate(t.Context(), "nobody"+strings.Repeat("x", i), "correct horse"); err != directory.ErrPassword {
			t.Fatal(err)
		}
	}
	if len(seen) != 2 || seen["apr1"]+seen["bcrypt cost=5"] != 40 {
		t.Errorf("unknown names cost %v", seen)
	}
}

func TestBothFilesAreReadAgain(t *testing.T) {
	o := newOffice(t, "alice:"+cheap+"\n", "staff: alice bob\n")
	d, _ := o.open(time.Time{})
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		changes := 0
		d.OnChange(func() { changes++ })
		go func() {
			d.Run(ctx)
			close(done)
		}()
		want := func(reason, name string, groups ...string) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			u, err := d.ByName(t.Context(), name)
			if err != nil || !slices.Equal(u.Groups, groups) {
				t.Errorf("%s: %+v, %v, want %q", reason, u, err, groups)
			}
		}
		want("at first", "alice", "staff")
		o.write(o.groups, "staff: bob\nhr: alice bob\n")
		want("another file of groups", "alice", "hr")
		o.write(o.users, "alice:"+cheap+"\nbob:"+argon2+"\n")
		want("another file of users", "bob", "staff", "hr")
		before := changes

		o.write(o.groups, "hr alice\n")
		want("a broken file of groups", "alice", "hr")
		if problems, ok := errors.AsType[watched.Problems](d.LastError()); d.Healthy() || !ok || problems[0].File != o.groups {
			t.Errorf("a broken file of groups: %v", d.LastError())
		}
		o.write(o.users, "bob:"+argon2+"\n")
		want("another file of users beside it", "alice", "hr")
		o.write(o.groups, "hr: bob\n")
		want("everything repaired", "bob", "hr")
		if _, err := d.ByName(t.Context(), "alice"); err != directory.ErrUnknown || !d.Healthy() {
			t.Errorf("who was taken out: %v, %v", err, d.LastError())
		}

		o.write(o.users, "bob:hunter2\n")
		want("a plain password", "bob", "hr")
		if d.Healthy() || strings.Contains(d.LastError().Error(), "hunter2") {
			t.Errorf("a plain password: %v", d.LastError())
		}
		if err := os.Remove(o.groups); err != nil {
			t.Fatal(err)
		}
		want("a file that is gone", "bob", "hr")
		o.write(o.users, "bob:"+argon2+"\n")
		o.write(o.groups, "hr: bob\n")
		want("both are back", "bob", "hr")
		if !d.Healthy() || changes != before+1 {
			t.Errorf("%v, after %d changes", d.LastError(), changes-before)
		}
		stop()
		<-done
	})
}

func TestMarkFollowsTheDigest(t *testing.T) {
	o := newOffice(t, "alice:"+cheap+"\n", "staff: alice\n")
	mark := func() string {
		d, _ := o.open(time.Time{})
		u, err := d.ByName(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		return u.Mark
	}
	first := mark()
	o.write(o.groups, "hr: alice\n")
	if again := mark(); again != first || first == "" {
		t.Errorf("another group gives the mark %q, before it was %q", again, first)
	}
	o.write(o.users, "alice:"+argon2+"\n")
	if again := mark(); again == first {
		t.Error("another password gives the same mark")
	}
}
