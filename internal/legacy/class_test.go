package legacy

import (
	"os"
	"strings"
	"testing"
)

func TestClassesAreReadAsTheyAreWritten(t *testing.T) {
	seen := map[Class]bool{}
	for _, c := range Classes() {
		if got, ok := ParseClass(string(c)); !ok || got != c {
			t.Errorf("ParseClass(%q) = %q, %t", c, got, ok)
		}
		if seen[c] {
			t.Errorf("%q is listed twice", c)
		}
		seen[c] = true
		if c.Reported() && c.Verifiable() {
			t.Errorf("%q is only reported, and could be verified", c)
		}
	}
	for _, unknown := range []string{"", "all", "Basic", "imap"} {
		if c, ok := ParseClass(unknown); ok || c != None {
			t.Errorf("ParseClass(%q) = %q, %t", unknown, c, ok)
		}
	}
}

func TestOnlyActiveSyncIsActiveSync(t *testing.T) {
	for _, c := range append(Classes(), None) {
		if c.ActiveSync() != (c == EAS) {
			t.Errorf("%q.ActiveSync() = %t", c, c.ActiveSync())
		}
	}
}

func TestNobodyElsesListChangesTheClasses(t *testing.T) {
	Classes()[0] = None
	if Classes()[0] != Basic {
		t.Fatal("Classes gives its own list away")
	}
}

func TestEveryClassIsInTheGuide(t *testing.T) {
	page, err := os.ReadFile("../../docs/legacy.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Classes() {
		listed := false
		for line := range strings.Lines(string(page)) {
			if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok && strings.HasPrefix(line, "| `") {
				listed = listed || strings.Contains(name, "`"+string(c)+"`")
			}
		}
		if !listed {
			t.Errorf("%q is not in the table", c)
		}
	}
}
