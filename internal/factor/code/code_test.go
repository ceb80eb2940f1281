package code

import (
	"regexp"
	"strings"
	"testing"
)

func TestNewCodesAreReadableAndDifferent(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{4}-[0-9a-hjkmnp-tv-z]{4}-[0-9a-hjkmnp-tv-z]{4}$`)
	seen := map[string]bool{}
	for range 1000 {
		c := New()
		if !form.MatchString(c) || seen[c] {
			t.Fatalf("New() = %q", c)
		}
		seen[c] = true
	}
}

func TestWhatPeopleTypeIsTaken(t *testing.T) {
	d := Hash("k7md-2qfx-01tw")
	for reason, typed := range map[string]string{
		"as printed":       "k7md-2qfx-01tw",
		"upper case":       "K7MD-2QFX-01TW",
		"no hyphens":       "k7md2qfx01tw",
		"spaces":           " k7md 2qfx\t01tw\n",
		"dashes":           "k7md–2qfx—01tw",
		"full width":       "ｋ７ｍｄ－２ｑｆｘ－０１ｔｗ",
		"look-alikes":      "k7md-2qfx-oltw",
		"zero-width space": "k7md\u200b-2qfx-01tw",
	} {
		if !d.Matches(typed) {
			t.Errorf("%s: %q is refused", reason, typed)
		}
	}
	for reason, typed := range map[string]string{
		"empty":      "",
		"cut":        "k7md-2qfx-01t",
		"longer":     "k7md-2qfx-01tww",
		"other":      "k7md-2qfx-01tx",
		"very long":  strings.Repeat("k7md-2qfx-01tw", 1000),
		"only signs": "----",
	} {
		if d.Matches(typed) {
			t.Errorf("%s: %q is taken", reason, typed)
		}
	}
}

func TestZeroDigestMatchesNothing(t *testing.T) {
	for _, typed := range []string{"", "-", "k7md-2qfx-01tw"} {
		if (Digest{}).Matches(typed) {
			t.Errorf("the zero digest matches %q", typed)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("k7md-2qfx-01tw")
	f.Add("１２３ ４５６")
	f.Fuzz(func(t *testing.T, typed string) {
		if once := Clean(typed); Clean(once) != once {
			t.Fatalf("Clean(%q) = %q, and of that %q", typed, once, Clean(once))
		}
	})
}
