package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mfa/caddy-mfa/internal/clocktest"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

func TestOpenMakesAFileForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "deeper")
	path := filepath.Join(dir, "store")
	s := newStore(t, path)
	if s.Fresh() {
		t.Error("fresh before it was opened")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("New has touched the file: %v", err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Errorf("opening it again: %v", err)
	}
	if !s.Fresh() {
		t.Error("not fresh after it was opened")
	}
	if runtime.GOOS == "windows" {
		return
	}
	for name, want := range map[string]fs.FileMode{dir: 0o700, path: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
	wantNames(t, dir, "store")
}

func TestOpenKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	var last store.Version
	for n := range 5 {
		s := newPatient(path)
		if n > 0 {
			records, err := s.Get(t.Context(), "p", "a")
			if err != nil || string(records[0].Value) != fmt.Sprint(n-1) || records[0].Version != last {
				t.Fatalf("got %+v, %v", records, err)
			}
		}
		v, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{
			{Key: "a", If: last, Value: []byte(fmt.Sprint(n))},
		}})
		if err != nil || v[0] == last {
			t.Fatalf("got %v, %v", v, err)
		}
		last = v[0]
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRemovesWhatAKilledProcessLeft(t *testing.T) {
	dir := t.TempDir()
	old, young, foreign := ".store.unfinished-1", ".store.unfinished-2", ".other.unfinished-3"
	for _, name := range []string{old, young, foreign} {
		write(t, filepath.Join(dir, name), []byte("half a file"))
	}
	past := time.Now().Add(-2 * leftoverAge)
	for _, name := range []string{old, foreign} {
		if err := os.Chtimes(filepath.Join(dir, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	if err := newStore(t, filepath.Join(dir, "store")).Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, foreign, young, "store")
}

// Two processes that begin at once: none may replace the file of the other.
func TestCreateLeavesAFileThatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	write(t, path, []byte("another process was faster"))
	if err := create(path); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "another process was faster" {
		t.Errorf("the file is now %.40q", b)
	}
	wantNames(t, filepath.Dir(path), "store")
}

func TestOpenRefuses(t *testing.T) {
	for _, test := range []struct {
		reason string
		make   func(t *testing.T, path string)
		want   []string // in the error, beside the path
	}{
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"is a directory", "name a file"}},
		{"an empty file", func(t *testing.T, path string) {
			write(t, path, nil)
		}, []string{"is empty", "restore a backup, or remove it"}},
		{"a text", func(t *testing.T, path string) {
			write(t, path, bytes.Repeat([]byte("users:\n"), 10_000))
		}, []string{"no bolt database", "name another file"}},
		{"a short text", func(t *testing.T, path string) {
			write(t, path, []byte("users:\n"))
		}, []string{"no bolt database"}},
		{"zeros", func(t *testing.T, path string) {
			write(t, path, make([]byte, 65536))
		}, []string{"no bolt database"}},
		{"a bolt file of another program", func(t *testing.T, path string) {
			makeBolt(t, path, func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucket([]byte("things"))
				if err != nil {
					return err
				}
				return b.Put([]byte("a"), []byte("1"))
			})
		}, []string{"another program", "name another file"}},
		{"an empty bolt file", func(t *testing.T, path string) {
			makeBolt(t, path, func(tx *bbolt.Tx) error { return nil })
		}, []string{"another program"}},
		{"a bolt file with our buckets, but not our mark", func(t *testing.T, path string) {
			makeBolt(t, path, func(tx *bbolt.Tx) error {
				for _, name := range [][]byte{metaBucket, recordsBucket, expiriesBucket} {
					if _, err := tx.CreateBucket(name); err != nil {
						return err
					}
				}
				return nil
			})
		}, []string{"another program"}},
		{"a file of a newer format, whatever it holds", func(t *testing.T, path string) {
			makeStore(t, path, 10)
			changeStore(t, path, func(tx *bbolt.Tx) error {
				if err := tx.Bucket(metaBucket).Put(formatKey, append(bytes.Clone(formatMagic), formatVersion+1)); err != nil {
					return err
				}
				if err := tx.Bucket(recordsBucket).Put([]byte("?"), []byte("?")); err != nil {
					return err
				}
				return tx.DeleteBucket(expiriesBucket)
			})
		}, []string{"newer version", "its format is 2, this one knows 1", "restore a backup from before the upgrade"}},
		{"a file that was cut off", func(t *testing.T, path string) {
			makeStore(t, path, 1000)
			if err := os.Truncate(path, 40_000); err != nil {
				t.Fatal(err)
			}
		}, []string{"cut off", "has 40000 bytes", "restore a backup"}},
		{"a file that was cut off after its first page", func(t *testing.T, path string) {
			makeStore(t, path, 1000)
			if err := os.Truncate(path, int64(os.Getpagesize())); err != nil {
				t.Fatal(err)
			}
		}, []string{"restore a backup"}},
		{"a record that no store writes", func(t *testing.T, path string) {
			makeStore(t, path, 10)
			changeStore(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket(recordsBucket).Put(recordKey("p", "a"), []byte("short"))
			})
		}, []string{"damaged", `record "a"`, "restore a backup"}},
		{"an expiry without a record", func(t *testing.T, path string) {
			makeStore(t, path, 10)
			changeStore(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket(expiriesBucket).Put(expiryKey(time.Now(), recordKey("p", "a")), nil)
			})
		}, []string{"damaged", "index of expiries"}},
	} {
		t.Run(test.reason, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			test.make(t, path)
			wantRefused(t, path, test.want...)
		})
	}
}

func TestOpenRefusesAFileThatAnotherProcessHasOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	first := newStore(t, path)
	if err := first.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, path, "another process has it open", "stop that process", "Redis")
	if _, err := first.Get(t.Context(), "p", "a"); err != nil {
		t.Errorf("the first one: %v", err)
	}
	second := newStore(t, path)
	second.patience = patience
	elapsed := clocktest.Running(t)
	if _, err := second.Get(t.Context(), "p", "a"); !errors.Is(err, store.ErrUnavailable) || elapsed() > 2*time.Second {
		t.Errorf("got %v after %v", err, elapsed())
	}
	second.patience = time.Minute
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Open(t.Context()); err != nil {
		t.Errorf("after the other has closed it: %v", err)
	}
}

func TestPingTellsOfAFileThatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := newStore(t, path)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	aside := path + ".aside"
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "removed or replaced") {
		t.Errorf("when it was removed: %v", err)
	}
	makeStore(t, path, 1)
	if err := s.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("when it was replaced: %v", err)
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("when it was put back: %v", err)
	}
}

func TestOperationsOpenAFileThatBecameReadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	write(t, path, nil)
	s := newStore(t, path)
	if _, err := s.Get(t.Context(), "p", "a"); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "is empty") {
		t.Fatalf("got %v", err)
	}
	if s.Fresh() {
		t.Error("fresh without a file")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err := s.Get(t.Context(), "p", "a")
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrUnavailable) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// Whatever happens to the bytes of a file: it is opened or refused, never changed by being refused, and never the end of the
// process.
func TestDamageIsNotTheEnd(t *testing.T) {
	dir := t.TempDir()
	sound := filepath.Join(dir, "sound")
	makeStore(t, sound, 3000)
	whole, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	refused := 0
	for n := range 300 {
		b := bytes.Clone(whole)
		for range r.IntN(4) + 1 {
			switch at := r.IntN(len(b)); r.IntN(4) {
			case 0: // a bit
				b[at] ^= 1 << r.IntN(8)
			case 1: // a number in the header of a page, where it hurts most
				at = at / 4096 * 4096
				binary.NativeEndian.PutUint64(b[at+r.IntN(8)*8:], r.Uint64N(1<<r.IntN(64)))
			case 2: // a page
				at = at / 4096 * 4096
				copy(b[at:at+4096], make([]byte, 4096))
			case 3: // a page in the place of another
				from := r.IntN(len(b)) / 4096 * 4096
				copy(b[at/4096*4096:], b[from:from+4096])
			}
		}
		path := filepath.Join(dir, "damaged")
		write(t, path, b)
		s := newPatient(path)
		if err := s.Open(t.Context()); err != nil {
			refused++
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) {
				t.Fatalf("round %d: the file was changed (%v)", n, err)
			}
		} else if _, err := s.List(t.Context(), "p", ""); err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("round %d: %v", n, err)
		} else if _, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{{Key: "a", If: store.Any}}}); err != nil {
			t.Fatalf("round %d: it was opened, and can't be written: %v", n, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if refused < 50 {
		t.Errorf("only %d of 300 were refused", refused)
	}
}

func TestReadingADamagedPageIsAnError(t *testing.T) {
	for name, damage := range map[string]func(f *os.File) error{
		"overwritten": func(f *os.File) error {
			info, err := f.Stat()
			if err != nil {
				return err
			}
			_, err = f.WriteAt(bytes.Repeat([]byte{0xA5}, int(info.Size())-8192), 8192)
			return err
		},
		"cut off": func(f *os.File) error { return f.Truncate(8192) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			makeStore(t, path, 1000)
			s := newStore(t, path)
			if err := s.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := damage(f); err != nil {
				t.Fatal(err)
			}
			if _, err := s.List(t.Context(), "p", ""); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("listing: %v", err)
			}
			if _, err := s.Get(t.Context(), "p", "500"); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("getting: %v", err)
			}
			_, err = s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{{Key: "500", If: store.Any}}})
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("committing: %v", err)
			}
		})
	}
}

// wantRefused opens the file at path, and wants an error that holds the path and what is given, and the file as it was.
func wantRefused(t *testing.T, path string, want ...string) {
	t.Helper()
	before, _ := os.ReadFile(path)
	s := newStore(t, path)
	err := s.Open(t.Context())
	if err == nil {
		t.Fatal("it was opened")
	}
	for _, part := range append(want, path) {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %q, want %q in it", err, part)
		}
	}
	if _, err := s.Get(t.Context(), "p", "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("getting from a refused file: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
	wantNames(t, filepath.Dir(path), filepath.Base(path))
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, want %q", dir, names, want)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// makeStore makes a store with n records of some 100 bytes in the partition "p", every second one with an expiry.
func makeStore(tb testing.TB, path string, n int) {
	tb.Helper()
	s := newPatient(path)
	for begin := 0; begin < n; begin += 1000 {
		c := store.Commit{Partition: "p"}
		for i := begin; i < min(begin+1000, n); i++ {
			ch := store.Change{Key: fmt.Sprint(i), Value: bytes.Repeat([]byte{byte(i)}, 100)}
			if i%2 == 0 {
				ch.Expires = time.Now().Add(time.Hour + time.Duration(i)*time.Second)
			}
			c.Changes = append(c.Changes, ch)
		}
		if _, err := s.Commit(tb.Context(), c); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
}

// makeBolt makes a bolt file that isn't ours.
func makeBolt(t *testing.T, path string, fill func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err == nil {
		err = errors.Join(db.Update(fill), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// changeStore changes a closed store file behind its back.
func changeStore(t *testing.T, path string, change func(*bbolt.Tx) error) {
	t.Helper()
	makeBolt(t, path, change)
}
