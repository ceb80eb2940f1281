package lab

import (
	"os"
	"sync"
	"syscall"
	"testing"
)

// TempDir makes a directory that goes with the test. Unlike a test's own, its path leaves room for a unix socket, whose path has about a
// hundred bytes. It is in memory where there is some: a store refuses what the disk takes more than a second to write, and the disk
// may be busy with something else.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(memory(), "mfa")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// memory is a directory in memory with room for the files of a few servers and browsers, from where programs may be run, or nothing.
var memory = sync.OnceValue(func() string {
	const dir, room, noexec = "/dev/shm", 1 << 30, 8 // ST_NOEXEC, see statfs(2)
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) != nil || fs.Bavail*uint64(fs.Bsize) < room || fs.Flags&noexec != 0 || syscall.Access(dir, 7) != nil {
		return ""
	}
	return dir
})
