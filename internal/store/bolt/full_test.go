//go:build linux || darwin

package bolt

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

func TestFullDisk(t *testing.T) {
	if !alone(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "store")
	s := newStore(t, path)
	var told int
	defer s.Watch(func(string) { told++ })()
	commit(t, s, put("a", 0))
	restore := limitFileSize(t, 1<<20)
	value := make([]byte, 50_000)
	last, failed := 0, error(nil)
	for n := 1; failed == nil; n++ {
		if n > 100 {
			t.Fatal("the disk is never full")
		}
		_, failed = s.Commit(t.Context(), store.Commit{Partition: "p", Notify: true, Changes: []store.Change{
			{Key: strconv.Itoa(n), Value: value}, {Key: "last", If: store.Any, Value: []byte(strconv.Itoa(n))},
		}})
		if failed == nil {
			last = n
		}
	}
	if !errors.Is(failed, store.ErrUnavailable) {
		t.Errorf("got %v", failed)
	}
	if told != last+1 {
		t.Errorf("told %d times, for %d commits and one that may have happened", told, last)
	}
	records, err := s.Get(t.Context(), "p", "a", "last", strconv.Itoa(last), strconv.Itoa(last+1))
	if err != nil || records[0].Version == 0 || string(records[1].Value) != strconv.Itoa(last) || records[2].Version == 0 || records[3].Version != 0 {
		t.Errorf("reading from a full disk: %v, last %q of %d", err, records[1].Value, last)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Errorf("a full disk is no reason not to start: %v", err)
	}
	restore()
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	commit(t, s, store.Change{Key: strconv.Itoa(last + 1), Value: value})
	if err := errors.Join(s.Close(), verifyFile(path)); err != nil {
		t.Error(err)
	}
}

func TestDiskThatIsFullBeforeTheFileIsMade(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := t.TempDir()
	restore := limitFileSize(t, 5000)
	s := newStore(t, filepath.Join(dir, "store"))
	if err := s.Open(t.Context()); err == nil {
		t.Error("it was opened")
	}
	wantNames(t, dir)
	restore()
	if err := s.Open(t.Context()); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// A disk that can't be written after a transaction could be seen: what is only in memory is not read.
func TestReadersRefuseWhatCantBePutOnDisk(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newStore(t, filepath.Join(t.TempDir(), "store"))
	w := opened(t, s).writer
	commit(t, s, put("a", 0))
	restore := limitFileSize(t, 0)
	w.durable.Add(-1)
	if _, err := s.Get(t.Context(), "p", "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("ping: %v", err)
	}
	restore()
	if _, err := s.Get(t.Context(), "p", "a"); err != nil {
		t.Error(err)
	}
}

// alone runs the rest of a test in a process of its own, because what the process writes for go test must not be limited. It says
// whether this is that process.
func alone(t *testing.T) bool {
	t.Helper()
	const mark = "CADDY_MFA_TEST_ALONE"
	if os.Getenv(mark) != "" {
		return true
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), mark+"=1")
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// limitFileSize makes writes beyond size fail in this process, as on a full disk.
func limitFileSize(t *testing.T, size uint64) (restore func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = size
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	restore = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(restore)
	return restore
}
