package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// lockPatience is how long to wait for another process to let go of the file, as it does when one replaces the other.
	lockPatience = 900 * time.Millisecond

	// leftoverAge is when a file that create should have removed must come from a process that was killed.
	leftoverAge = time.Minute
)

// openFile opens the store file at path, and makes it if there is none. A file that it refuses stays as it is: it may be all
// that is left of somebody's registrations.
func openFile(path string) (db *bbolt.DB, info os.FileInfo, err error) {
	refuse := func(problem error, remedy string) error {
		return fmt.Errorf("opening the store file %s: %w; the file was left as it is: %s", path, problem, remedy)
	}
	removeLeftovers(path)
	info, err = os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, nil, fmt.Errorf("creating the store file %s: %w: let the user that runs this program write to %s, on a disk that is not full", path, err, filepath.Dir(path))
		}
		info, err = os.Stat(path)
	}
	switch {
	case err != nil:
		return nil, nil, refuse(err, "let the user that runs this program reach it")
	case info.IsDir():
		return nil, nil, refuse(errors.New("it is a directory"), "name a file in it")
	case !info.Mode().IsRegular():
		return nil, nil, refuse(errors.New("it is no regular file"), "name a file on a local disk")
	case info.Size() == 0:
		return nil, nil, refuse(errors.New("it is empty"), "restore a backup, or remove it to begin with an empty store")
	}
	// bbolt writes to a file as soon as it has opened it for writing, so this begins with reading, under a lock.
	reading, err := lock(path, true)
	if err == nil {
		err = verifyFile(path)
		reading.Close()
	}
	if err == nil {
		db, err = lock(path, false)
	}
	switch {
	case err == nil:
		return db, info, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, nil, refuse(errors.New("another process has it open"), "stop that process, or keep state that several processes share in Redis")
	case errors.Is(err, fs.ErrPermission):
		return nil, nil, refuse(err, "let the user that runs this program read and write it (chown, chmod 0600)")
	}
	// Without a lock bbolt may have complained about something that verify can put better.
	if better := verifyFile(path); better != nil {
		err = better
	}
	switch {
	case errors.Is(err, errNewer):
		return nil, nil, refuse(err, "run that version, or restore a backup from before the upgrade")
	case errors.Is(err, errNotOurs), errors.Is(err, errNotBolt):
		return nil, nil, refuse(err, "name another file, or move this one away")
	}
	return nil, nil, refuse(err, "restore a backup")
}

// lock opens a file with bbolt. What makes bbolt panic, or read outside of its map, becomes an error.
func lock(path string, readOnly bool) (db *bbolt.DB, err error) {
	var opened *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, damaged("%v", p)
			if opened != nil {
				opened.Close() // and with it the lock
			}
		}
	}()
	db, err = bbolt.Open(path, 0, &bbolt.Options{
		Timeout:  lockPatience,
		ReadOnly: readOnly,
		OpenFile: func(name string, flag int, _ os.FileMode) (*os.File, error) {
			// A file that has vanished in between is not to be made here, without its mark.
			f, err := os.OpenFile(name, flag&^os.O_CREATE, 0)
			opened = f
			return f, err
		},
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
	})
	if err != nil || readOnly {
		return db, err
	}
	// What an earlier process has written may be in the page cache only, and is about to be read as if it were on disk.
	if err := db.Sync(); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

func verifyFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return verify(f, info.Size())
}

// create makes an empty store file. It gets its name when it is complete and on disk: a process that is killed on the way leaves
// no file of that name. Where another process was faster, its file stays.
func create(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, leftoverPrefix(path)+"*") // with mode 0600
	if err != nil {
		return err
	}
	unfinished := f.Name()
	defer os.Remove(unfinished)
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(unfinished, 0o600, &bbolt.Options{Timeout: lockPatience, NoStatistics: true})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{recordsBucket, expiriesBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		about, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		return about.Put(formatKey, append(formatMagic[:len(formatMagic):len(formatMagic)], formatVersion))
	})
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := publish(unfinished, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// publish gives a finished file its name, unless there is one of that name.
func publish(unfinished, path string) error {
	linkErr := os.Link(unfinished, path)
	if linkErr == nil || errors.Is(linkErr, fs.ErrExist) {
		return nil
	}
	// Some file systems have no links.
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return linkErr
	}
	return os.Rename(unfinished, path)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some file systems don't sync directories, and say so. They keep the name anyway, as well as they can.
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

func leftoverPrefix(path string) string {
	return "." + filepath.Base(path) + ".unfinished-"
}

// removeLeftovers removes what create left when it was killed. It is only tidy, so errors don't matter.
func removeLeftovers(path string) {
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), leftoverPrefix(path)) {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > leftoverAge {
			os.Remove(filepath.Join(filepath.Dir(path), entry.Name()))
		}
	}
}
