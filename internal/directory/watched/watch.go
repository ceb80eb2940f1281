package watched

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/filewatch"
)

// How the file is watched. A change is in force after interval and settle at the latest, and the time that it takes to
// read: within the second that is promised for a user who is disabled.
const (
	interval = 500 * time.Millisecond
	settle   = 100 * time.Millisecond

	// maxTorn is how often a file that changes under the reader is read in one go: Load has one go only.
	maxTorn = 5
)

// MaxSize is the size of the largest file, in bytes.
const MaxSize = 16 << 20

// TooLarge is what is said of a larger one.
var TooLarge = fmt.Sprintf("the file is larger than %d MiB", MaxSize>>20)

func watchedFile(path, name string) filewatch.File {
	return filewatch.File{
		Path: path, Interval: interval, Settle: settle, Tries: maxTorn, Limit: MaxSize,
		Name: "the " + name, Subject: name,
	}
}

// take notes what was read.
func (s *source) take(data []byte, err error) { s.data, s.err = data, err }

// Load reads the files and puts them in force. The error is Problems, or a fault from reading; then the version that was
// in force stays so, if there is one.
func (d *Directory) Load() error {
	d.mu.Lock()
	now := time.Now()
	for _, s := range d.files {
		s.take(s.file.Read(now))
	}
	hooks, err := d.use()
	if err != nil {
		d.fail(err)
	}
	d.mu.Unlock()
	for _, hook := range hooks {
		hook()
	}
	return err
}

// Run reads the files again when they change, until ctx is done. There is one Run for a Directory.
func (d *Directory) Run(ctx context.Context) { d.files[0].file.Run(ctx, d.check) }

// check looks at the files once, and reads those that are others. It says whether to look again soon.
func (d *Directory) check(now time.Time) (soon bool) {
	var hooks []func()
	d.mu.Lock()
	changed := false
	for _, s := range d.files {
		again := s.file.Look(now, func(data []byte, err error) {
			changed = true
			s.take(data, err)
		})
		soon = soon || again
	}
	if changed {
		var err error
		if hooks, err = d.use(); err != nil {
			d.tell(err)
		}
	}
	d.mu.Unlock()
	for _, hook := range hooks {
		hook()
	}
	return soon
}

// use puts what was read last in force. It is called with the lock held, and so is what it calls; it returns what is to be
// called when the lock has been given back.
func (d *Directory) use() ([]func(), error) {
	sum := sha256.New()
	texts := make([]Text, len(d.files))
	for i, s := range d.files {
		if _, isTooLarge := errors.AsType[filewatch.TooLarge](s.err); isTooLarge {
			d.hasBroken = false
			return nil, Problems{{File: s.file.Path, Message: TooLarge}}
		}
		if s.err != nil {
			return nil, s.err
		}
		texts[i] = Text{s.file.Path, s.data}
		fmt.Fprintf(sum, "%d:", len(s.data))
		sum.Write(s.data)
	}
	if len(d.files) == 1 {
		d.files[0].data = nil // it is not needed beside another one's next version
	}
	return d.useVersion([sha256.Size]byte(sum.Sum(nil)), texts)
}

func (d *Directory) useVersion(sum [sha256.Size]byte, texts []Text) ([]func(), error) {
	before, last := d.current.Load(), d.state.Load()
	switch {
	case before != nil && before.sum == sum:
		d.hasBroken = false
		if last.err != nil {
			d.state.Store(&state{warnings: last.warnings})
			d.log.Info(d.format.Name+" is in force", "users", len(before.users))
		}
		return nil, nil
	case d.hasBroken && d.broken == sum:
		return nil, last.err
	}
	entries, warnings, problems := d.format.Parse(d.name, texts)
	if len(problems) > 0 {
		d.broken, d.hasBroken = sum, true
		return nil, problems
	}
	next := newSnapshot(entries)
	next.sum = sum
	d.hasBroken = false
	d.current.Store(next)
	d.state.Store(&state{warnings: warnings})
	d.log.Info(d.format.Name+" is in force", "users", len(next.users))
	for _, warning := range warnings {
		d.log.Warn(d.format.Name+" should be better", "line", warning.Line, "problem", warning.Message)
	}
	return d.hooks, nil
}

// fail notes why the newest version is not in force. It says whether that is news.
func (d *Directory) fail(err error) bool {
	if _, isProblems := errors.AsType[Problems](err); !isProblems {
		// When it can be read again it is, whatever it looks like.
		d.hasBroken = false
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
	message := d.format.Name + " can't be used, its last good version stays in force"
	if d.current.Load() == nil {
		message = d.format.Name + " can't be used"
	}
	d.log.Error(message, "line", line, "problem", problem, "more", more)
}
