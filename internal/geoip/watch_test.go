package geoip

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var address = netip.MustParseAddr("192.0.2.7")

// desk is where an operator works on a file of countries.
type desk struct {
	*Countries
	t       testing.TB
	now     time.Time // of the looks; long after the changes
	changed time.Time // time stamp of the last change
	log     bytes.Buffer
}

func newDesk(t testing.TB, data []byte) *desk {
	t.Helper()
	k := &desk{t: t, now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC), changed: time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)}
	path := filepath.Join(t.TempDir(), "countries.mmdb")
	if data != nil {
		k.put(path, data)
	}
	k.Countries = Open(path, slog.New(slog.NewJSONHandler(&k.log, nil)))
	return k
}

// put writes a file with a time stamp of its own.
func (k *desk) put(path string, data []byte) {
	k.t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		k.t.Fatal(err)
	}
	k.changed = k.changed.Add(time.Minute)
	if err := os.Chtimes(path, k.changed, k.changed); err != nil {
		k.t.Fatal(err)
	}
}

// replace renames a new file to the name of the old one.
func (k *desk) replace(data []byte) {
	k.t.Helper()
	k.put(k.path+".new", data)
	if err := os.Rename(k.path+".new", k.path); err != nil {
		k.t.Fatal(err)
	}
}

// settle looks until there is no reason to look again soon. It gives the number of looks.
func (k *desk) settle() int {
	k.t.Helper()
	for n := 1; n < 100; n++ {
		if !k.check(k.now) {
			return n
		}
	}
	k.t.Fatal("it never comes to rest")
	return 0
}

// is complains unless the address is in a country, "?" for one that can't be told.
func (k *desk) is(want string, healthy bool) {
	k.t.Helper()
	code, ok := k.Country(address)
	if !ok {
		code = "?"
	}
	if code != want || k.Healthy() != healthy {
		k.t.Errorf("the address is in %s, and healthy is %v: %v", code, k.Healthy(), k.Err())
	}
}

// logged gives what was logged since the last call, with its levels.
func (k *desk) logged() string {
	k.t.Helper()
	var all []string
	for decoder := json.NewDecoder(&k.log); decoder.More(); {
		var r struct{ Level, Msg, File string }
		if err := decoder.Decode(&r); err != nil {
			k.t.Fatal(err)
		}
		if r.File != k.path {
			k.t.Errorf("%q does not name the file", r.Msg)
		}
		all = append(all, r.Level+" "+r.Msg)
	}
	k.log.Reset()
	return strings.Join(all, "\n")
}

const (
	logRead   = "INFO file of countries is read"
	logForce  = "INFO file of countries is in force"
	logNone   = "ERROR file of countries can't be used: every country is unknown, and what depends on one is decided strictly"
	logKeeps  = "ERROR file of countries can't be used, its last good version stays in force"
	logReturn = logRead + "\n" + logForce
)

func (k *desk) says(want string) {
	k.t.Helper()
	if got := k.logged(); got != want {
		k.t.Errorf("the log says %q, and should say %q", got, want)
	}
}

func TestTheFileIsReplaced(t *testing.T) {
	k := newDesk(t, read(t, "countries.mmdb"))
	k.is("NL", true)
	k.says(logRead)
	if n := k.settle(); n != 1 {
		t.Errorf("it takes %d looks to see that nothing has changed", n)
	}
	k.replace(read(t, "newer.mmdb"))
	k.settle()
	k.is("BE", true)
	k.says(logRead)
	k.put(k.path, read(t, "countries.mmdb"))
	k.settle()
	k.is("NL", true)
	k.says(logRead)
	k.put(k.path, read(t, "countries.mmdb"))
	k.settle()
	k.is("NL", true)
	k.says("") // it says what the last one said
}

func TestAGoodVersionOutlivesWhatFollows(t *testing.T) {
	good := read(t, "countries.mmdb")
	for _, c := range []struct {
		reason string
		spoil  func(k *desk)
	}{
		{"truncated where it is", func(k *desk) { k.put(k.path, good[:len(good)/2]) }},
		{"emptied", func(k *desk) { k.put(k.path, nil) }},
		{"overwritten where it is", func(k *desk) { k.put(k.path, bytes.Repeat([]byte("x"), len(good))) }},
		{"replaced by one without countries", func(k *desk) { k.replace(read(t, "asn.mmdb")) }},
		{"removed", func(k *desk) {
			if err := os.Remove(k.path); err != nil {
				t.Fatal(err)
			}
		}},
		{"a folder", func(k *desk) {
			if err := os.Remove(k.path); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(k.path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			k := newDesk(t, good)
			k.says(logRead)
			c.spoil(k)
			k.is("NL", true) // the memory isn't the file's
			k.settle()
			k.is("NL", false)
			k.says(logKeeps)
			k.settle()
			k.is("NL", false)
			k.says("") // once is enough
			if err := os.RemoveAll(k.path); err != nil {
				t.Fatal(err)
			}
			k.replace(good)
			k.settle()
			k.is("NL", true)
			k.says(logForce)
		})
	}
}

func TestAFileComesLater(t *testing.T) {
	k := newDesk(t, nil)
	k.is("?", false)
	k.says(logNone)
	k.settle()
	k.is("?", false)
	k.says("")
	k.put(k.path, []byte("half of it"))
	k.settle()
	k.is("?", false)
	k.says(logNone) // it is another reason
	k.put(k.path, read(t, "countries.mmdb"))
	k.settle()
	k.is("NL", true)
	k.says(logReturn)
}

func TestRunFindsTheNewFile(t *testing.T) {
	k := newDesk(t, read(t, "countries.mmdb"))
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			k.Run(ctx)
			close(done)
		}()
		k.replace(read(t, "newer.mmdb"))
		<-time.After(interval + settle)
		synctest.Wait()
		k.is("BE", true)
		if err := os.Remove(k.path); err != nil {
			t.Fatal(err)
		}
		<-time.After(interval + settle)
		synctest.Wait()
		k.is("BE", false)
		stop()
		<-done
	})
}

func TestLookupsGoOnWhileTheFileIsReplaced(t *testing.T) {
	k := newDesk(t, read(t, "countries.mmdb"))
	files := [][]byte{read(t, "newer.mmdb"), read(t, "countries.mmdb")}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for {
				if code, ok := k.Country(address); !ok || code != "NL" && code != "BE" {
					t.Errorf("the address is in %q, %v", code, ok)
					return
				}
				k.Healthy()
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 50 {
		switch i % 3 {
		case 0: // a version that is half written comes between
			k.put(k.path, files[i%2][:100])
			k.settle()
			fallthrough
		case 1:
			k.put(k.path, files[i%2])
		case 2:
			k.replace(files[i%2])
		}
		k.settle()
		k.is([]string{"BE", "NL"}[i%2], true)
	}
	close(stop)
	wait.Wait()
}
