// Package filewatch tells when a file has another version, and reads a version that nobody is writing at. What the bytes
// mean, and what comes of a version that is no good, its caller knows.
//
// The file is looked at, since notifications of the kernel don't come from network file systems and some mounts of
// containers. A change is read after Interval and Settle at the latest, unless it goes on.
package filewatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// maxSettle is how often a file that is written all the time is waited for.
	maxSettle = 20

	// granularity is how far two changes can be apart and still leave one time stamp, on the coarsest of file
	// systems. A file that was younger when it was read is read again.
	granularity = 2 * time.Second
)

// File is a file that is watched. Its caller sets the fields, all but the advice, reads it once with Read, and then has
// Run call Look:
//
//	file.Run(ctx, func(now time.Time) (soon bool) {
//		mu.Lock()
//		defer mu.Unlock()
//		return file.Look(now, take)
//	})
//
// Read and Look are not safe for concurrent use.
type File struct {
	Path string

	Interval time.Duration // from look to look
	Settle   time.Duration // how long it must have been left alone: a version that is half written can look whole
	Tries    int           // how often it is read in one go while it changes under the reader
	Limit    int64         // how many bytes it may have; they are read into memory

	Name    string // what errors call it, as in "the users file"
	Subject string // what errors call it that begin with it

	// Advice is what errors add: what is to be done when there is no file, when it is a folder or a device, and when
	// it can't be opened.
	AdviceMissing, AdviceIrregular, AdviceClosed string

	seen   stamp // at the last look
	read   stamp // when it was read
	racy   bool  // it may have changed since under the same stamp
	missed int   // looks in a row at which it could not be found or was still being written
}

// TooLarge is the error of a file with so many bytes, more than Limit.
type TooLarge int64

func (n TooLarge) Error() string {
	return fmt.Sprintf("the file has %d bytes, which are too many", int64(n))
}

// errTorn says that the file changed while it was read.
var errTorn = errors.New("changes while it is being read")

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

// Run has the file looked at until ctx is done. What look gives is what Look gave.
func (f *File) Run(ctx context.Context, look func(now time.Time) (soon bool)) {
	timer := time.NewTimer(f.Interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := f.Interval
		if look(time.Now()) {
			next = f.Settle
		}
		timer.Reset(next)
	}
}

// Look looks at the file once. If there is another version, and it has come to rest, take is called with what Read gives
// for it. The same bytes may come again: of a file that was touched, or that was young when it was read. Look says whether
// to look again soon.
func (f *File) Look(now time.Time, take func(data []byte, err error)) (soon bool) {
	s, err := f.stat()
	switch {
	case err != nil && f.missed == 0:
		// An editor may be about to rename the new version to this name.
		f.missed++
		return true
	case err != nil:
		f.read = stamp{}
		take(nil, err)
		return false
	case s.is(f.read) && !f.racy:
		f.missed = 0
		return false
	case !s.is(f.read) && !s.is(f.seen) && f.missed < maxSettle:
		f.seen = s
		f.missed++
		return true
	}
	f.seen = s
	data, err := f.Read(now)
	if errors.Is(err, errTorn) && f.missed < maxSettle {
		f.missed++
		return true
	}
	f.missed = 0
	take(data, err)
	return false
}

// Read reads the file now, whether it has come to rest or not. The error is TooLarge, or a fault that may pass: then Look
// takes the file for another version as soon as it can be read, whatever it looks like.
func (f *File) Read(now time.Time) (data []byte, err error) {
	var s stamp
	for try := 1; ; try++ {
		if s, err = f.stat(); err == nil {
			data, err = f.readVersion(s)
		}
		if try >= f.Tries || !errors.Is(err, errTorn) {
			break
		}
	}
	if _, tooLarge := errors.AsType[TooLarge](err); err != nil && !tooLarge {
		f.read = stamp{}
		return nil, err
	}
	age := now.Sub(s.info.ModTime())
	f.read, f.racy = s, -granularity < age && age < granularity
	return data, err
}

func (f *File) stat() (stamp, error) {
	target, err := filepath.EvalSymlinks(f.Path)
	if err != nil {
		return stamp{}, fmt.Errorf("looking for %s: %w%s", f.Name, err, more(f.AdviceMissing))
	}
	info, err := os.Stat(target)
	if err != nil {
		return stamp{}, fmt.Errorf("looking for %s: %w", f.Name, err)
	}
	if !info.Mode().IsRegular() {
		return stamp{}, fmt.Errorf("looking for %s: %s is not a regular file%s", f.Name, f.Path, more(f.AdviceIrregular))
	}
	return stamp{info, target}, nil
}

// readVersion reads the version of a stamp, and no other.
func (f *File) readVersion(s stamp) ([]byte, error) {
	size := s.info.Size()
	if size > f.Limit {
		return nil, TooLarge(size)
	}
	file, err := os.Open(s.target)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w%s", f.Name, err, more(f.AdviceClosed))
	}
	defer file.Close()
	data := make([]byte, size+1) // one byte more tells that it has grown
	n, err := io.ReadFull(file, data)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("reading %s: %w", f.Name, err)
	}
	after, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", f.Name, err)
	}
	if int64(n) != size || !sameVersion(s.info, after) {
		return nil, fmt.Errorf("%s %w", f.Subject, errTorn)
	}
	return data[:n], nil
}

func more(advice string) string {
	if advice == "" {
		return ""
	}
	return "; " + advice
}
