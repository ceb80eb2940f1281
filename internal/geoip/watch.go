package geoip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// How the file is watched: it is looked at, since notifications of the kernel don't come from network file systems and some
// mounts of containers. These files change once in days.
const (
	interval = 5 * time.Second

	// settle is how long the file must have been left alone: a version that is half written is not read.
	settle = time.Second

	// maxSettle is how often a file that is written all the time is waited for.
	maxSettle = 20

	// granularity is how far two changes can be apart and still leave one time stamp, on the coarsest of file
	// systems. A file that was younger when it was read is read again.
	granularity = 2 * time.Second
)

// maxSize is how many bytes a file may have. They are kept in memory.
const maxSize = 1 << 30

// maxTries is how many networks of a file are looked at for a first country. Those that are made to break a reader have more
// networks than could ever be looked at.
const maxTries = 1 << 20

// watch is what was seen of the file.
type watch struct {
	seen   stamp // at the last look
	read   stamp // when it was read
	racy   bool  // it may have changed since under the same stamp
	missed int   // looks in a row at which it could not be found or was still being written
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
var errTorn = errors.New("the file of countries changes while it is being read")

// start reads the file for the first time.
func (c *Countries) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(c.load(time.Now()))
}

// Run reads the file again when it changes, until ctx is done. There is one Run for Countries.
func (c *Countries) Run(ctx context.Context) {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := interval
		if c.check(time.Now()) {
			next = settle
		}
		timer.Reset(next)
	}
}

// check looks at the file once, and reads it if it is another one. It says whether to look again soon.
func (c *Countries) check(now time.Time) (soon bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &c.watch
	s, err := c.stat()
	switch {
	case err != nil && w.missed == 0:
		// Somebody may be about to rename the new version to this name.
		w.missed++
		return true
	case err != nil:
		c.tell(err)
		return false
	case s.is(w.read) && !w.racy:
		w.missed = 0
		return false
	case !s.is(w.read) && !s.is(w.seen) && w.missed < maxSettle:
		w.seen = s
		w.missed++
		return true
	}
	w.seen = s
	err = c.load(now)
	if errors.Is(err, errTorn) && w.missed < maxSettle {
		w.missed++
		return true
	}
	w.missed = 0
	c.tell(err)
	return false
}

// broken is the error of a file that was read, and that reading again won't mend.
type broken struct{ error }

// tell notes how the newest version fared, and logs it if that is news.
func (c *Countries) tell(err error) {
	last := c.Err()
	if err == nil {
		c.err.Store(nil)
		if last != nil {
			c.log.Info("file of countries is in force")
		}
		return
	}
	if _, isBroken := errors.AsType[broken](err); !isBroken {
		// When it can be read again it is, whatever it looks like.
		c.watch.read = stamp{}
	}
	c.err.Store(&err)
	if last != nil && last.Error() == err.Error() {
		return
	}
	if c.current.Load() == nil {
		c.log.Error("file of countries can't be used: every country is unknown, and what depends on one is decided strictly", "problem", err.Error())
	} else {
		c.log.Error("file of countries can't be used, its last good version stays in force", "problem", err.Error())
	}
}

func (c *Countries) stat() (stamp, error) {
	target, err := filepath.EvalSymlinks(c.path)
	if err != nil {
		return stamp{}, fmt.Errorf("looking for the file of countries: %w; download a Country or City database to this path, or correct it", err)
	}
	info, err := os.Stat(target)
	if err != nil {
		return stamp{}, fmt.Errorf("looking for the file of countries: %w", err)
	}
	if !info.Mode().IsRegular() {
		return stamp{}, fmt.Errorf("looking for the file of countries: %s is not a regular file; give the path of an .mmdb file", c.path)
	}
	return stamp{info, target}, nil
}

// load reads the file and puts it in force.
func (c *Countries) load(now time.Time) error {
	s, err := c.stat()
	if err != nil {
		return err
	}
	if s.info.Size() > maxSize {
		c.watch.read = s
		return broken{fmt.Errorf("the file of countries %s has %d bytes, and may have %d: take a Country database, which is the smallest", c.path, s.info.Size(), maxSize)}
	}
	data, err := readVersion(s)
	if err != nil {
		return err
	}
	age := now.Sub(s.info.ModTime())
	c.watch.read, c.watch.racy = s, -granularity < age && age < granularity

	if before := c.current.Load(); before != nil && bytes.Equal(before.data, data) {
		return nil
	}
	db, err := parse(c.path, data)
	if err != nil {
		return broken{err}
	}
	c.current.Store(db)
	c.log.Info("file of countries is read", "type", db.reader.Metadata.DatabaseType, "built", db.reader.Metadata.BuildTime().UTC())
	return nil
}

// readVersion reads a version that nobody is writing at.
func readVersion(s stamp) ([]byte, error) {
	f, err := os.Open(s.target)
	if err != nil {
		return nil, fmt.Errorf("opening the file of countries: %w; let the server's user read it", err)
	}
	defer f.Close()
	data := make([]byte, s.info.Size())
	if _, err := io.ReadFull(f, data); err == io.EOF && len(data) > 0 || err == io.ErrUnexpectedEOF {
		return nil, errTorn
	} else if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading the file of countries: %w", err)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at the file of countries: %w", err)
	}
	if !sameVersion(s.info, after) {
		return nil, errTorn
	}
	return data, nil
}

// parse makes a database of what was read.
func parse(path string, data []byte) (*database, error) {
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("the file of countries %s is broken or in another format (%w): give a whole .mmdb file, unpacked", path, err)
	}
	// A file of networks or of anonymous addresses would put everybody in an unknown country.
	tries := 0
	for found := range reader.Networks(maxminddb.IncludeNetworksWithoutData()) {
		if tries++; tries > maxTries {
			break
		}
		if code, err := countryOf(found); err == nil && code != "" {
			return &database{data, reader}, nil
		}
	}
	return nil, fmt.Errorf("the file of countries %s holds none: it is of the type %q, and has no country.iso_code; give a Country or City database", path, reader.Metadata.DatabaseType)
}
