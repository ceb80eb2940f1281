package bolt

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// What verify accepts, bbolt reads and writes without a complaint. The fuzzer writes patch over a sound file, at offset.
func FuzzVerify(f *testing.F) {
	path := filepath.Join(f.TempDir(), "store")
	makeStore(f, path, 300)
	sound, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	m, err := readMeta(bytes.NewReader(sound))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(0), []byte{})
	f.Add(m.root*uint64(m.pageSize), []byte{3})
	for id := uint64(0); id < m.end; id++ {
		f.Add(id*uint64(m.pageSize), make([]byte, 16))
		f.Add(id*uint64(m.pageSize)+8, []byte{0xff, 0xff, 0xff, 0xff, 1})
		f.Add(id*uint64(m.pageSize)+16, []byte{1, 0, 0, 0, 32})
	}
	path = filepath.Join(f.TempDir(), "patched")
	f.Fuzz(func(t *testing.T, offset uint64, patch []byte) {
		b := bytes.Clone(sound)
		copy(b[offset%uint64(len(b)):], patch)
		// The headers of the two meta pages are read by Check alone, and may be torn after a power failure.
		for page := range 2 {
			copy(b[page*m.pageSize:][:pageHeaderLen], sound[page*m.pageSize:])
		}
		if verify(bytes.NewReader(b), int64(len(b))) != nil {
			return
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := lock(path, false)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		err = safely(func() error {
			return db.Update(func(tx *bbolt.Tx) error {
				for err := range tx.Check() {
					if !strings.Contains(err.Error(), "unreachable unfreed") { // a page that is lost does no harm
						t.Error(err)
					}
				}
				records := tx.Bucket(recordsBucket)
				err := records.ForEach(func(k, v []byte) error {
					_, err := store.Unmarshal(string(k), v)
					return err
				})
				return errors.Join(err, records.Put([]byte("p\x00new"), make([]byte, 10_000)))
			})
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestVerifyAcceptsWhatTheStoreWrites(t *testing.T) {
	for name, fill := range map[string]func(s *Store){
		"nothing":       func(s *Store) {},
		"large records": func(s *Store) { fill(t, s, 20, store.MaxValue, time.Time{}) },
		"many records":  func(s *Store) { fill(t, s, 5000, 200, time.Now().Add(time.Hour)) },
		"free pages, more than a page of them": func(s *Store) {
			fill(t, s, 20_000, 200, time.Now().Add(-time.Hour))
			fill(t, s, 10, 1, time.Time{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			s := newPatient(path)
			fill(s)
			if err := errors.Join(s.Open(t.Context()), s.Close(), verifyFile(path)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// fill puts n records of the given size, a hundred in a commit.
func fill(tb testing.TB, s *Store, n, size int, expires time.Time) {
	tb.Helper()
	value := make([]byte, size)
	for begin := 0; begin < n; begin += 100 {
		c := store.Commit{Partition: time.Duration(begin).String()}
		for i := begin; i < min(begin+100, n); i++ {
			c.Changes = append(c.Changes, store.Change{Key: time.Duration(i).String(), If: store.Any, Value: value, Expires: expires})
		}
		if _, err := s.Commit(tb.Context(), c); err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkOpen says what verify costs, compared with the check that bbolt has.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "store")
	s := newPatient(path)
	fill(b, s, 110_000, 300, time.Now().Add(time.Hour))
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d MB", info.Size()>>20)
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if err := verifyFile(path); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Check of bbolt", func(b *testing.B) {
		for b.Loop() {
			db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true})
			if err != nil {
				b.Fatal(err)
			}
			err = db.View(func(tx *bbolt.Tx) error {
				for err := range tx.Check() {
					b.Error(err)
				}
				return nil
			})
			if err := errors.Join(err, db.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Open", func(b *testing.B) {
		for b.Loop() {
			s := newPatient(path)
			if err := errors.Join(s.Open(b.Context()), s.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
