package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// How the file is watched. Notifications of the kernel don't come from network file systems and some mounts of
// containers, so it is looked at instead. A change is in force after interval and settle at the latest, and the time
// that it takes to read: within the second that is promised for a user who is disabled.
const (
	interval = 500 * time.Millisecond

	// settle is how long the file must have been left alone: a version that is half written can look whole.
	settle = 100 * time.Millisecond

	// maxSettle is how often a file that is written all the time is waited for.
	maxSettle = 20

	// granularity is how far two changes can be apart and still leave one time stamp, on the coarsest of file
	// systems. A file that was younger when it was read is read again.
	granularity = 2 * time.Second

	// maxTorn is how often a file that changes under the reader is read in one go.
	maxTorn = 5
)

// watch is what was seen of the file.
type watch struct {
	seen   stamp // at the last look
	read   stamp // when it was read
	racy   bool  // it may have changed since under the same stamp
	missed int   // looks in a row at which it could not be found or was still being written

	broken    [sha256.Size]byte // the content that was refused last
	hasBroken bool
}

// stamp tells one version of a file from another without reading it.
type stamp struct {
	info   fs.FileInfo
	target string // where symbolic links lead to
}

// is says whether both are of one version. The zero stamp is of none.
func (s stamp) is(other stamp) bool {
	return s.info != nil && other.info != nil && s.target == other.target && sameVersion(s.info, other.info)
}

func sameVersion(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// errTorn says that the file changed while it was read.
var errTorn = errors.New("users file changes while it is being read")

// Load reads the file and puts it in force. The error is Problems, or a fault from reading; then the version that was
// in force stays so, if there is one.
func (d *Directory) Load() error {
	d.mu.Lock()
	hooks, err := d.load(time.Now())
	if err != nil {
		d.fail(err)
	}
	d.mu.Unlock()
	for _, hook := range hooks {
		hook()
	}
	return err
}

// Run reads the file again when it changes, until ctx is done. There is one Run for a Directory.
func (d *Directory) Run(ctx context.Context) {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := interval
		if d.check(time.Now()) {
			next = settle
		}
		timer.Reset(next)
	}
}

// check looks at the file once, and reads it if it is another one. It says whether to look again soon.
func (d *Directory) check(now time.Time) (soon bool) {
	d.mu.Lock()
	hooks, soon := d.look(now)
	d.mu.Unlock()
	for _, hook := range hooks {
		hook()
	}
	return soon
}

// look is called with the lock held, and so is what it calls.
func (d *Directory) look(now time.Time) (hooks []func(), soon bool) {
	w := &d.watch
	s, err := d.stat()
	switch {
	case err != nil && w.missed == 0:
		// An editor may be about to rename the new version to this name.
		w.missed++
		return nil, true
	case err != nil:
		d.tell(err)
		return nil, false
	case s.is(w.read) && !w.racy:
		w.missed = 0
		return nil, false
	case !s.is(w.read) && !s.is(w.seen) && w.missed < maxSettle:
		w.seen = s
		w.missed++
		return nil, true
	}
	w.seen = s
	hooks, err = d.load(now)
	if errors.Is(err, errTorn) && w.missed < maxSettle {
		w.missed++
		return nil, true
	}
	w.missed = 0
	if err != nil {
		d.tell(err)
	}
	return hooks, false
}

func (d *Directory) stat() (stamp, error) {
	target, err := filepath.EvalSymlinks(d.path)
	if err != nil {
		return stamp{}, fmt.Errorf("looking for the users file: %w", err)
	}
	info, err := os.Stat(target)
	if err != nil {
		return stamp{}, fmt.Errorf("looking for the users file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return stamp{}, fmt.Errorf("looking for the users file: %s is not a regular file", d.path)
	}
	return stamp{info, target}, nil
}

// load reads the file and puts it in force. It returns what is to be called when the lock has been given back.
func (d *Directory) load(now time.Time) ([]func(), error) {
	s, data, err := d.readWhole()
	if err != nil {
		return nil, err
	}
	w := &d.watch
	w.read = s
	age := now.Sub(s.info.ModTime())
	w.racy = -granularity < age && age < granularity

	sum, before, last := sha256.Sum256(data), d.current.Load(), d.state.Load()
	switch {
	case before != nil && before.sum == sum:
		w.hasBroken = false
		if last.err != nil {
			d.state.Store(&state{warnings: last.warnings})
			d.log.Info("users file is in force", "users", len(before.users))
		}
		return nil, nil
	case w.hasBroken && w.broken == sum:
		return nil, last.err
	}
	next, warnings, problems := parse(d.name, d.path, data)
	if len(problems) > 0 {
		w.broken, w.hasBroken = sum, true
		return nil, problems
	}
	next.sum = sum
	w.hasBroken = false
	d.current.Store(next)
	d.state.Store(&state{warnings: warnings})
	d.log.Info("users file is in force", "users", len(next.users))
	for _, warning := range warnings {
		d.log.Warn("users file should be better", "line", warning.Line, "problem", warning.Message)
	}
	return d.hooks, nil
}

// fail notes why the newest version is not in force. It says whether that is news.
func (d *Directory) fail(err error) bool {
	if _, isProblems := errors.AsType[Problems](err); !isProblems {
		// When it can be read again it is, whatever it looks like.
		d.watch.read, d.watch.hasBroken = stamp{}, false
	}
	last := d.state.Load()
	d.state.Store(&state{err: err, warnings: last.warnings})
	return last.err == nil || last.err.Error() != err.Error()
}

// tell notes why the newest version is not in force, and logs it once.
func (d *Directory) tell(err error) {
	if !d.fail(err) {
		return
	}
	line, problem, more := 0, err.Error(), 0
	if problems, isProblems := errors.AsType[Problems](err); isProblems {
		first := problems[0]
		line, problem, more = first.Line, first.Message, len(problems)-1
		if first.Field != "" {
			problem = first.Field + ": " + problem
		}
	}
	message := "users file can't be used, its last good version stays in force"
	if d.current.Load() == nil {
		message = "users file can't be used"
	}
	d.log.Error(message, "line", line, "problem", problem, "more", more)
}

// readWhole reads a version that nobody was writing at.
func (d *Directory) readWhole() (s stamp, data []byte, err error) {
	for range maxTorn {
		if s, err = d.stat(); err != nil {
			return stamp{}, nil, err
		}
		if data, err = readVersion(s); !errors.Is(err, errTorn) {
			break
		}
	}
	return s, data, err
}

func readVersion(s stamp) ([]byte, error) {
	f, err := os.Open(s.target)
	if err != nil {
		return nil, fmt.Errorf("opening the users file: %w", err)
	}
	defer f.Close()
	// One byte more than is allowed tells parse that it is too many.
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the users file: %w", err)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at the users file: %w", err)
	}
	if !sameVersion(s.info, after) || len(data) <= MaxSize && int64(len(data)) != after.Size() {
		return nil, errTorn
	}
	return data, nil
}
