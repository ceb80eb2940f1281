package filewatch

import (
	"errors"
	"testing"
)

// TestFileThatAlwaysChangesIsAFaultInTheEnd reads a file of the kernel's, which never has the size that it says it has.
func TestFileThatAlwaysChangesIsAFaultInTheEnd(t *testing.T) {
	k := newDesk(t, "one")
	k.Path = "/proc/version"
	if data, err := k.Read(k.now); data != nil || err == nil || err.Error() != "a list changes while it is being read" {
		t.Fatalf("%q, %v", data, err)
	}
	for i := range maxSettle {
		if !k.look() {
			t.Fatalf("it isn't waited for after look %d", i)
		}
	}
	k.settle()
	if !errors.Is(k.err, errTorn) || k.taken != 2 {
		t.Errorf("taken were %d, and %v", k.taken, k.err)
	}
}
