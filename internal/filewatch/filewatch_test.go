package filewatch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// desk is where somebody works on a file.
type desk struct {
	File
	t       testing.TB
	now     time.Time // of the looks; long after the changes
	changed time.Time // time stamp of the last change
	data    string    // that was taken last
	err     error     // that was taken last
	taken   int       // how often something was
}

func newDesk(t testing.TB, text string) *desk {
	t.Helper()
	k := &desk{t: t, now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC), changed: time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)}
	k.File = File{
		Path: filepath.Join(t.TempDir(), "list"), Interval: 5 * time.Second, Settle: time.Second, Tries: 2, Limit: 100,
		Name: "the list", Subject: "a list", AdviceMissing: "write one", AdviceIrregular: "choose another", AdviceClosed: "unlock it",
	}
	k.put(k.Path, text)
	k.take(k.Read(k.now))
	k.is(text, 1)
	return k
}

// put writes a file with a time stamp of its own.
func (k *desk) put(path, text string) {
	k.t.Helper()
	k.changed = k.changed.Add(time.Minute)
	k.putUnseen(path, text)
}

// putUnseen writes a file with the time stamp of the last change.
func (k *desk) putUnseen(path, text string) {
	k.t.Helper()
	k.do(os.WriteFile(path, []byte(text), 0o600))
	k.do(os.Chtimes(path, k.changed, k.changed))
}

func (k *desk) do(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *desk) take(data []byte, err error) {
	k.taken++
	if k.err = err; err == nil {
		k.data = string(data)
	}
}

func (k *desk) look() (soon bool) { return k.Look(k.now, k.take) }

// settle looks until there is no reason to look again soon.
func (k *desk) settle() {
	k.t.Helper()
	for range 100 {
		if !k.look() {
			return
		}
	}
	k.t.Fatal("it never comes to rest")
}

// is complains unless this was read last, without an error, and something was taken so many times.
func (k *desk) is(want string, taken int) {
	k.t.Helper()
	if k.data != want || k.err != nil || k.taken != taken {
		k.t.Fatalf("%q was taken last, with %v, after %d times; it should be %q after %d", k.data, k.err, k.taken, want, taken)
	}
}

func TestAnotherVersionIsReadWhenItHasComeToRest(t *testing.T) {
	k := newDesk(t, "one")
	if k.look() {
		t.Error("nothing has changed, and it is looked at again soon")
	}
	for i, part := range []string{"", "t", "tw"} {
		k.put(k.Path, part)
		if !k.look() {
			t.Errorf("after part %d it isn't waited for more", i)
		}
		k.is("one", 1)
	}
	k.put(k.Path, "two")
	k.settle()
	k.is("two", 2)
	k.settle()
	k.is("two", 2)
	k.put(k.Path, "")
	k.settle()
	k.is("", 3)
}

func TestFileThatIsWrittenAllTheTimeIsReadInTheEnd(t *testing.T) {
	k := newDesk(t, "one")
	for range maxSettle {
		k.put(k.Path, "two")
		if !k.look() {
			t.Fatal("it isn't waited for")
		}
		k.is("one", 1)
	}
	k.put(k.Path, "three")
	k.settle()
	k.is("three", 2)
	k.put(k.Path, "four")
	if !k.look() {
		t.Error("later changes aren't waited for any more")
	}
}

func TestFileThatVanishesForAMoment(t *testing.T) {
	k := newDesk(t, "one")
	k.do(os.Remove(k.Path))
	if !k.look() {
		t.Error("it isn't waited for")
	}
	k.is("one", 1)
	k.put(k.Path, "two")
	k.settle()
	k.is("two", 2)
}

func TestFileThatStaysAwayIsReadWhenItComesBack(t *testing.T) {
	k := newDesk(t, "one")
	k.do(os.Rename(k.Path, k.Path+"~"))
	k.settle()
	k.settle()
	if k.taken != 3 || !errors.Is(k.err, fs.ErrNotExist) {
		t.Errorf("after two looks: %d, %v", k.taken, k.err)
	}
	k.do(os.Rename(k.Path+"~", k.Path)) // the very same
	k.settle()
	k.is("one", 4)
}

func TestRenamedFileIsSeenThoughItLooksTheSame(t *testing.T) {
	k := newDesk(t, "one")
	k.putUnseen(k.Path+".new", "two")
	k.do(os.Rename(k.Path+".new", k.Path))
	k.settle()
	k.is("two", 2)
}

func TestKubernetesSwapsASymbolicLink(t *testing.T) {
	k := newDesk(t, "one")
	volume := t.TempDir()
	// A ConfigMap is mounted as list -> ..data/list, and ..data -> ..1. It may give every version one time stamp.
	version := func(name, text string) {
		k.do(os.Mkdir(filepath.Join(volume, name), 0o700))
		k.putUnseen(filepath.Join(volume, name, "list"), text)
		k.do(os.Symlink(name, filepath.Join(volume, "..tmp")))
		k.do(os.Rename(filepath.Join(volume, "..tmp"), filepath.Join(volume, "..data")))
	}
	version("..1", "two")
	k.do(os.Symlink(filepath.Join("..data", "list"), filepath.Join(volume, "list")))
	k.Path = filepath.Join(volume, "list")
	k.settle()
	k.is("two", 2)
	version("..2", "six")
	k.do(os.RemoveAll(filepath.Join(volume, "..1")))
	k.settle()
	k.is("six", 3)
	// One file under another name.
	k.do(os.Rename(filepath.Join(volume, "..2"), filepath.Join(volume, "..3")))
	k.do(os.Remove(filepath.Join(volume, "..data")))
	k.do(os.Symlink("..3", filepath.Join(volume, "..data")))
	k.settle()
	k.is("six", 4)
}

func TestSecondChangeUnderOneTimeStampIsSeen(t *testing.T) {
	for name, age := range map[string]time.Duration{"a clock that agrees": granularity / 2, "a clock that is behind": -granularity / 2} {
		t.Run(name, func(t *testing.T) {
			k := newDesk(t, "one")
			k.put(k.Path, "two")
			k.now = k.changed.Add(age)
			k.settle()
			k.is("two", 2)
			k.putUnseen(k.Path, "six")
			k.settle()
			k.is("six", 3)
			k.now = k.changed.Add(granularity)
			k.settle()
			k.is("six", 4)
			k.settle()
			k.is("six", 4) // it isn't read again and again
		})
	}
}

func TestWhatCanNotBeRead(t *testing.T) {
	for _, c := range []struct {
		reason string
		spoil  func(k *desk)
		want   string // with the path for PATH
	}{
		{"no file", func(*desk) {}, "looking for the list: lstat PATH: no such file or directory; write one"},
		{"a link to itself", func(k *desk) { k.do(os.Symlink(k.Path, k.Path)) }, "looking for the list: EvalSymlinks: too many links; write one"},
		{"a folder", func(k *desk) { k.do(os.Mkdir(k.Path, 0o700)) }, "looking for the list: PATH is not a regular file; choose another"},
		{"no file, and no advice", func(k *desk) { k.AdviceMissing = "" }, "looking for the list: lstat PATH: no such file or directory"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			k := newDesk(t, "one")
			k.do(os.Remove(k.Path))
			c.spoil(k)
			want := strings.ReplaceAll(c.want, "PATH", k.Path)
			if data, err := k.Read(k.now); data != nil || err == nil || err.Error() != want {
				t.Errorf("%q, %v", data, err)
			}
			k.settle()
			if k.taken != 2 || k.err == nil || k.err.Error() != want {
				t.Errorf("a look takes %v", k.err)
			}
		})
	}
}

func TestFileThatIsTooLargeIsNotRead(t *testing.T) {
	k := newDesk(t, "one")
	k.do(os.Truncate(k.Path, 1<<40))
	k.do(os.Chtimes(k.Path, k.changed, k.changed))
	k.settle()
	k.settle()
	if size, ok := errors.AsType[TooLarge](k.err); !ok || size != 1<<40 || k.taken != 2 {
		t.Errorf("taken were %d, and %v", k.taken, k.err)
	}
	k.put(k.Path, strings.Repeat("a", 100))
	k.settle()
	k.is(strings.Repeat("a", 100), 3)
}

func TestVersionIsReadOrNone(t *testing.T) {
	for _, c := range []struct {
		reason string
		change func(k *desk, s *stamp)
		want   string
	}{
		{"it becomes shorter", func(k *desk, _ *stamp) { k.putUnseen(k.Path, "tw") }, "a list changes while it is being read"},
		{"it becomes longer", func(k *desk, _ *stamp) { k.putUnseen(k.Path, "three") }, "a list changes while it is being read"},
		{"it becomes another as long", func(k *desk, _ *stamp) { k.put(k.Path, "two") }, "a list changes while it is being read"},
		{"it becomes another file", func(k *desk, _ *stamp) {
			k.putUnseen(k.Path+".new", "two")
			k.do(os.Rename(k.Path+".new", k.Path))
		}, "a list changes while it is being read"},
		{"it goes", func(k *desk, s *stamp) { k.do(os.Remove(k.Path)) }, "opening the list: open PATH: no such file or directory; unlock it"},
		{"it becomes a folder", func(k *desk, s *stamp) { s.target = filepath.Dir(s.target) }, "reading the list: read FOLDER: is a directory"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			k := newDesk(t, "one")
			s, err := k.stat()
			k.do(err)
			c.change(k, &s)
			want := strings.NewReplacer("PATH", k.Path, "FOLDER", filepath.Dir(k.Path)).Replace(c.want)
			if data, err := k.readVersion(s); data != nil || err == nil || err.Error() != want {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
}

func TestRunLooksSoonWhenThereIsReason(t *testing.T) {
	k := newDesk(t, "one")
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		start, looks := time.Now(), make(chan time.Duration)
		go func() {
			k.Run(ctx, func(now time.Time) (soon bool) {
				soon = k.Look(now, k.take)
				looks <- now.Sub(start)
				return soon
			})
			close(done)
		}()
		k.put(k.Path, "two")
		for _, want := range []time.Duration{5 * time.Second, 6 * time.Second, 11 * time.Second, 16 * time.Second} {
			if got := <-looks; got != want {
				t.Errorf("it is looked at after %v, and should be after %v", got, want)
			}
		}
		stop()
		<-done
	})
	if k.data != "two" {
		t.Errorf("%q was taken", k.data)
	}
}
