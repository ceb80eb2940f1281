package watched_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/directory/file"
	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// desk is where an operator works on a users file.
type desk struct {
	*watched.Directory
	t       testing.TB
	now     time.Time // of the looks; long after the changes
	changed time.Time // time stamp of the last change
	log     bytes.Buffer
	hooks   int
}

func newDesk(t testing.TB, text string) *desk {
	t.Helper()
	k := &desk{t: t, now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC), changed: time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)}
	log := slog.New(slog.NewJSONHandler(&k.log, nil))
	k.Directory = file.New("file", filepath.Join(t.TempDir(), "users.yaml"), password.NewPool(2, -1, 0), log)
	k.OnChange(func() { k.hooks++ })
	k.write(text)
	if err := k.Load(); err != nil {
		t.Fatal(err)
	}
	k.Check(k.now) // finds that the time stamp is old enough
	k.logged()
	k.hooks = 0
	return k
}

// write changes the file where it is.
func (k *desk) write(text string) {
	k.t.Helper()
	k.put(k.Path(), text)
}

// put writes a file with a time stamp of its own.
func (k *desk) put(path, text string) {
	k.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	k.changed = k.changed.Add(time.Minute)
	k.stamp(path)
}

func (k *desk) stamp(path string) {
	k.t.Helper()
	if err := os.Chtimes(path, k.changed, k.changed); err != nil {
		k.t.Fatal(err)
	}
}

// settle looks until there is no reason to look again soon. It gives the number of looks.
func (k *desk) settle() int {
	k.t.Helper()
	for n := 1; n < 100; n++ {
		if !k.Check(k.now) {
			return n
		}
	}
	k.t.Fatal("it never comes to rest")
	return 0
}

func (k *desk) names() string {
	k.t.Helper()
	users, err := k.Users(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	var names []string
	for _, u := range users {
		names = append(names, u.Canonical)
	}
	return strings.Join(names, " ")
}

type record struct {
	Level     string
	Msg       string
	Directory string
	File      string
	Line      int
	Problem   string
	More      int
}

// logged gives what was logged since the last call.
func (k *desk) logged() []record {
	k.t.Helper()
	var all []record
	for decoder := json.NewDecoder(&k.log); decoder.More(); {
		var r record
		if err := decoder.Decode(&r); err != nil {
			k.t.Fatal(err)
		}
		all = append(all, r)
	}
	k.log.Reset()
	return all
}

func (k *desk) errorsLogged() []record {
	return slices.DeleteFunc(k.logged(), func(r record) bool { return r.Level != "ERROR" })
}

func people(names ...string) string {
	var b strings.Builder
	b.WriteString("users:\n")
	for _, name := range names {
		b.WriteString("  " + name + ":\n    password: " + cheaper + "\n")
	}
	return b.String()
}

func TestChangeComesIntoForce(t *testing.T) {
	k := newDesk(t, people("alice"))
	inForce := ""
	k.OnChange(func() { inForce = k.names() })
	k.write(people("alice", "bob"))
	if !k.Check(k.now) {
		t.Error("it isn't waited whether more is to come")
	}
	if k.names() != "alice" || k.hooks != 0 {
		t.Error("it is in force before it has come to rest")
	}
	if k.Check(k.now) || k.names() != "alice bob" || k.hooks != 1 || inForce != "alice bob" {
		t.Errorf("in force is %s, and was %s when the hook was called (%d times)", k.names(), inForce, k.hooks)
	}
	if got := k.logged(); len(got) != 2 || got[0].Msg != "users file is in force" || got[0].File != k.Path() || got[0].Directory != "file" ||
		got[1].Level != "WARN" || got[1].Line != 3 || !strings.Contains(got[1].Problem, "cost 5 ") {
		t.Errorf("logged was %+v", got)
	}
	k.settle()
	if k.hooks != 1 || len(k.logged()) != 0 {
		t.Error("it is read again though nothing has changed")
	}
}

func TestLoadTellsEveryMistake(t *testing.T) {
	k := newDesk(t, people("alice"))
	k.write("users:\n  alice: {guest: 1}\n  bob:\n")
	err := k.Load()
	problems, ok := errors.AsType[watched.Problems](err)
	if !ok || len(problems) != 3 || problems[2].File != k.Path() || problems[2].Line != 3 {
		t.Fatal(err)
	}
	if k.Healthy() || k.LastError() == nil || k.names() != "alice" {
		t.Errorf("healthy: %v, in force: %s", k.Healthy(), k.names())
	}
	k.settle()
	if got := k.logged(); len(got) != 0 {
		t.Errorf("what was returned is logged too: %+v", got)
	}
}

func TestFileThatIsRepairedAfterTheStartComesIntoForce(t *testing.T) {
	k := newDesk(t, people("alice"))
	d := file.New("file", k.Path(), password.NewPool(1, 0, 0), nil)
	k.write("users: nobody\n")
	if err := d.Load(); err == nil {
		t.Fatal("it is accepted")
	}
	if _, err := d.ByName(t.Context(), "alice"); !errors.Is(err, directory.ErrUnavailable) {
		t.Fatal(err)
	}
	k.write(people("alice"))
	for d.Check(k.now) {
	}
	if _, err := d.ByName(t.Context(), "alice"); err != nil || !d.Healthy() {
		t.Fatal(err)
	}
}

func TestBrokenFileKeepsTheLastGoodOne(t *testing.T) {
	k := newDesk(t, people("alice"))
	before, _ := k.ByName(t.Context(), "alice")
	k.write(people("alice", "bob") + "  eve:\n    password: hunter2\n  dave:\n")
	k.settle()
	if after, err := k.ByName(t.Context(), "alice"); after != before || err != nil || k.names() != "alice" || k.hooks != 0 {
		t.Fatalf("in force is %s, %v", k.names(), err)
	}
	if problems, ok := errors.AsType[watched.Problems](k.LastError()); k.Healthy() || !ok || len(problems) != 2 {
		t.Errorf("healthy: %v, %v", k.Healthy(), k.LastError())
	}
	got := k.logged()
	if len(got) != 1 || got[0].Level != "ERROR" || got[0].Msg != "users file can't be used, its last good version stays in force" ||
		got[0].File != k.Path() || got[0].Line != 7 || !strings.HasPrefix(got[0].Problem, "users.eve.password: ") || got[0].More != 1 {
		t.Errorf("logged was %+v", got)
	}
	if strings.Contains(got[0].Problem, "hunter2") {
		t.Error("a password is logged")
	}

	k.settle()
	k.stamp(k.Path())
	k.settle()
	if got := k.logged(); len(got) != 0 || k.Healthy() {
		t.Errorf("the same is told again: %+v", got)
	}

	k.write("users: []\n")
	k.settle()
	if got := k.errorsLogged(); len(got) != 1 || got[0].Line != 1 {
		t.Errorf("another mistake is told as %+v", got)
	}

	k.write(people("alice", "bob"))
	k.settle()
	if !k.Healthy() || k.LastError() != nil || k.names() != "alice bob" || k.hooks != 1 {
		t.Errorf("after repair: %s, %v", k.names(), k.LastError())
	}
}

func TestTakingAMistakeBackIsHealthyAgain(t *testing.T) {
	k := newDesk(t, people("alice"))
	k.write("users: []\n")
	k.settle()
	k.write(people("alice"))
	k.settle()
	if !k.Healthy() || k.hooks != 0 {
		t.Errorf("healthy: %v, %d hooks", k.Healthy(), k.hooks)
	}
	if k.write("users: []\n"); k.settle() == 0 || k.Healthy() {
		t.Error("the same mistake a second time is healthy")
	}
}

func TestEmptiedFileEndsNobodysSession(t *testing.T) {
	for _, text := range []string{"", "\n", "users:\n", "users:\n  alice:\n", "use"} {
		k := newDesk(t, people("alice"))
		k.write(text)
		k.settle()
		if k.names() != "alice" || k.Healthy() {
			t.Errorf("%q: in force is %s, healthy: %v", text, k.names(), k.Healthy())
		}
	}
}

func TestHalfWrittenFileIsNotInForce(t *testing.T) {
	k := newDesk(t, people("alice", "bob", "carol"))
	whole := people("alice", "bob", "carol", "dave")
	for i := 1; i < len(whole)/20; i++ {
		// Several of these prefixes are files that could be meant.
		k.write(whole[:20*i])
		k.Check(k.now)
		if k.names() != "alice bob carol" || !k.Healthy() {
			t.Fatalf("after %d bytes in force is %s, %v", 20*i, k.names(), k.LastError())
		}
		if i > 10 { // there is an end to waiting
			break
		}
	}
	k.write(whole)
	k.settle()
	if k.names() != "alice bob carol dave" || k.hooks != 1 {
		t.Errorf("in force is %s, after %d hooks", k.names(), k.hooks)
	}
}

func TestFileThatStaysAwayKeepsTheLastGoodOne(t *testing.T) {
	k := newDesk(t, people("alice"))
	aside := k.Path() + "~"
	if err := os.Rename(k.Path(), aside); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		k.settle()
	}
	if k.Healthy() || !errors.Is(k.LastError(), fs.ErrNotExist) || k.names() != "alice" {
		t.Fatalf("in force is %s, %v", k.names(), k.LastError())
	}
	if got := k.logged(); len(got) != 1 || got[0].Level != "ERROR" || !strings.Contains(got[0].Problem, "users.yaml") {
		t.Errorf("logged was %+v", got)
	}
	// The very same file comes back.
	if err := os.Rename(aside, k.Path()); err != nil {
		t.Fatal(err)
	}
	k.settle()
	if !k.Healthy() || k.hooks != 0 || k.names() != "alice" {
		t.Errorf("%v, %d hooks", k.LastError(), k.hooks)
	}
}

func TestTouchingTheFileChangesNothing(t *testing.T) {
	k := newDesk(t, people("alice"))
	before := k.Current()
	k.changed = k.changed.Add(time.Hour)
	k.stamp(k.Path())
	k.settle()
	if k.Current() != before || k.hooks != 0 || len(k.logged()) != 0 {
		t.Error("it counts as a change")
	}
}

func TestWhatIsNoFileIsAFault(t *testing.T) {
	k := newDesk(t, people("alice"))
	if err := os.Remove(k.Path()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(k.Path(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.Load(); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Fatal(err)
	}
	if k.names() != "alice" || k.Healthy() {
		t.Error("it is healthy")
	}
	if err := os.Remove(k.Path()); err != nil {
		t.Fatal(err)
	}
	if err := k.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.Symlink(k.Path(), k.Path()); err != nil {
		t.Fatal(err)
	}
	if err := k.Load(); err == nil {
		t.Fatal("a link to itself is a file")
	}
}

func TestFileThatIsTooLargeIsNotReadWhole(t *testing.T) {
	k := newDesk(t, people("alice"))
	if err := os.Truncate(k.Path(), 1<<40); err != nil {
		t.Fatal(err)
	}
	k.settle()
	if k.Healthy() || !strings.Contains(k.LastError().Error(), "larger than 16 MiB") || k.names() != "alice" {
		t.Errorf("in force is %s, %v", k.names(), k.LastError())
	}
}

func TestMistakeIsToldAgainAfterAFileThatIsTooLarge(t *testing.T) {
	k := newDesk(t, people("alice"))
	k.write("users: []\n")
	k.settle()
	want := k.LastError().Error()
	if err := os.Truncate(k.Path(), watched.MaxSize+1); err != nil {
		t.Fatal(err)
	}
	k.settle()
	if _, ok := errors.AsType[watched.Problems](k.LastError()); !ok || k.LastError().Error() == want {
		t.Fatal(k.LastError())
	}
	k.write("users: []\n")
	k.settle()
	if got := k.LastError().Error(); got != want {
		t.Errorf("after it, the mistake is %q", got)
	}
}

// TestRunKeepsThePromisedSecond disables a user and waits as long as is promised by the clock of the bubble.
func TestRunKeepsThePromisedSecond(t *testing.T) {
	k := newDesk(t, people("alice"))
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			k.Run(ctx)
			close(done)
		}()
		for range 5 {
			<-time.After(3 * time.Second)
			for _, disabled := range []string{"true", "false"} {
				k.write(people("alice") + "    disabled: " + disabled + "\n")
				<-time.After(time.Second)
				synctest.Wait()
				if u, err := k.ByName(t.Context(), "alice"); err != nil || u.Disabled != (disabled == "true") {
					t.Fatalf("disabled: %s, and yet %+v, %v", disabled, u, err)
				}
			}
		}
		if err := os.Remove(k.Path()); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if k.Healthy() || k.names() != "alice" {
			t.Error("a file that is gone is healthy")
		}
		stop()
		<-done
	})
}

func TestReadersDuringReloads(t *testing.T) {
	k := newDesk(t, people("alice"))
	// The id tells the version, and every version has one user.
	versions := []string{
		"users:\n  alice: {id: a, display_name: a, password: '" + cheap + "'}\n",
		"users:\n  alice: {id: b, display_name: b, password: '" + cheap + "', groups: [staff]}\n",
	}
	k.write(versions[0])
	k.settle()
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				u, err := k.ByName(t.Context(), "alice")
				if err != nil || u.ID.ID != u.DisplayName || (u.ID.ID == "b") != (len(u.Groups) == 1) {
					t.Errorf("%+v, %v", u, err)
					return
				}
				if _, err := k.ByID(t.Context(), u.ID.ID); err != nil && err != directory.ErrUnknown {
					t.Error(err)
				}
				if users, err := k.Users(t.Context()); err != nil || len(users) != 1 {
					t.Error(users, err)
				}
				if _, err := k.Authenticate(t.Context(), "alice", "correct horse"); err != nil && err != directory.ErrPassword && err != directory.ErrBusy {
					t.Error(err)
				}
				k.Healthy()
				k.LastError()
				k.Warnings()
			}
		})
	}
	for i := range 40 {
		switch {
		case i%5 == 4:
			k.write("users: []\n")
		default:
			k.write(versions[i%2])
		}
		k.settle()
	}
	stop()
	readers.Wait()
}
