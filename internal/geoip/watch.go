package geoip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/caddy-mfa/caddy-mfa/internal/filewatch"
)

// How the file is watched. These files change once in days.
const (
	interval = 5 * time.Second
	settle   = time.Second
)

// maxSize is how many bytes a file may have. They are kept in memory.
const maxSize = 1 << 30

// maxTries is how many networks of a file are looked at for a first country. Those that are made to break a reader have more
// networks than could ever be looked at.
const maxTries = 1 << 20

func watched(path string) filewatch.File {
	return filewatch.File{
		Path: path, Interval: interval, Settle: settle, Tries: 1, Limit: maxSize,
		Name: "the file of countries", Subject: "the file of countries",
		AdviceMissing:   "download a Country or City database to this path, or correct it",
		AdviceIrregular: "give the path of an .mmdb file",
		AdviceClosed:    "let the server's user read it",
	}
}

// start reads the file for the first time.
func (c *Countries) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(c.file.Read(time.Now()))
}

// Run reads the file again when it changes, until ctx is done. There is one Run for Countries.
func (c *Countries) Run(ctx context.Context) { c.file.Run(ctx, c.check) }

// check looks at the file once, and reads it if it is another one. It says whether to look again soon.
func (c *Countries) check(now time.Time) (soon bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file.Look(now, c.take)
}

// take puts a version in force, notes how it fared, and logs that if it is news.
func (c *Countries) take(data []byte, err error) {
	if err = c.use(data, err); err == nil {
		if last := c.err.Swap(nil); last != nil {
			c.log.Info("file of countries is in force")
		}
		return
	}
	last := c.err.Swap(&err)
	if last != nil && (*last).Error() == err.Error() {
		return
	}
	if c.current.Load() == nil {
		c.log.Error("file of countries can't be used: every country is unknown, and what depends on one is decided strictly", "problem", err.Error())
	} else {
		c.log.Error("file of countries can't be used, its last good version stays in force", "problem", err.Error())
	}
}

// use puts a version in force.
func (c *Countries) use(data []byte, err error) error {
	if size, tooLarge := errors.AsType[filewatch.TooLarge](err); tooLarge {
		return fmt.Errorf("the file of countries %s has %d bytes, and may have %d: take a Country database, which is the smallest", c.path, size, maxSize)
	}
	if err != nil {
		return err
	}
	if before := c.current.Load(); before != nil && bytes.Equal(before.data, data) {
		return nil
	}
	db, err := parse(c.path, data)
	if err != nil {
		return err
	}
	c.current.Store(db)
	c.log.Info("file of countries is read", "type", db.reader.Metadata.DatabaseType, "built", db.reader.Metadata.BuildTime().UTC())
	return nil
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
