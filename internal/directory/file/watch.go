package file

import (
	"context"
	"crypto/sha256"
	"errors"
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

func watched(path string) filewatch.File {
	return filewatch.File{
		Path: path, Interval: interval, Settle: settle, Tries: maxTorn, Limit: MaxSize,
		Name: "the users file", Subject: "users file",
	}
}

// Load reads the file and puts it in force. The error is Problems, or a fault from reading; then the version that was
// in force stays so, if there is one.
func (d *Directory) Load() error {
	d.mu.Lock()
	hooks, err := d.use(d.file.Read(time.Now()))
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
func (d *Directory) Run(ctx context.Context) { d.file.Run(ctx, d.check) }

// check looks at the file once, and reads it if it is another one. It says whether to look again soon.
func (d *Directory) check(now time.Time) (soon bool) {
	var hooks []func()
	d.mu.Lock()
	soon = d.file.Look(now, func(data []byte, err error) {
		if hooks, err = d.use(data, err); err != nil {
			d.tell(err)
		}
	})
	d.mu.Unlock()
	for _, hook := range hooks {
		hook()
	}
	return soon
}

// use puts a version in force. It is called with the lock held, and so is what it calls; it returns what is to be called
// when the lock has been given back.
func (d *Directory) use(data []byte, err error) ([]func(), error) {
	if _, isTooLarge := errors.AsType[filewatch.TooLarge](err); isTooLarge {
		d.hasBroken = false
		return nil, Problems{{File: d.path, Message: tooLarge}}
	}
	if err != nil {
		return nil, err
	}
	sum, before, last := sha256.Sum256(data), d.current.Load(), d.state.Load()
	switch {
	case before != nil && before.sum == sum:
		d.hasBroken = false
		if last.err != nil {
			d.state.Store(&state{warnings: last.warnings})
			d.log.Info("users file is in force", "users", len(before.users))
		}
		return nil, nil
	case d.hasBroken && d.broken == sum:
		return nil, last.err
	}
	next, warnings, problems := parse(d.name, d.path, data)
	if len(problems) > 0 {
		d.broken, d.hasBroken = sum, true
		return nil, problems
	}
	next.sum = sum
	d.hasBroken = false
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
	message := "users file can't be used, its last good version stays in force"
	if d.current.Load() == nil {
		message = "users file can't be used"
	}
	d.log.Error(message, "line", line, "problem", problem, "more", more)
}
