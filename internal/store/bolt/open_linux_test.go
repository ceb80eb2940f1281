package bolt

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestOpenRefusesWhatItMayNotRead(t *testing.T) {
	path := filepath.Join(publicDir(t), "store")
	makeStore(t, path, 1)
	for name, mode := range map[string]os.FileMode{"neither read nor write": 0, "read only": 0o444} {
		t.Run(name, func(t *testing.T) {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			asNobody(t, func() {
				_, _, err := openFile(path)
				if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "chmod 0600") {
					t.Errorf("got %v", err)
				}
			})
		})
	}
	t.Run("a directory that can't be written", func(t *testing.T) {
		dir := publicDir(t)
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		asNobody(t, func() {
			_, _, err := openFile(filepath.Join(dir, "store"))
			if err == nil || !strings.Contains(err.Error(), "write to "+dir) {
				t.Errorf("got %v", err)
			}
		})
		wantNames(t, dir)
	})
}

// publicDir is a directory that others reach.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// asNobody calls do with the rights of nobody on files, since root may do everything. It concerns this thread alone.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	if os.Getuid() == 0 {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := syscall.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer syscall.Setfsuid(0)
	}
	do()
}
