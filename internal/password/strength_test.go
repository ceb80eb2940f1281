package password

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWeakPasswordsAreCalledWeak(t *testing.T) {
	for reason, tc := range map[string]struct {
		password string
		inputs   []string
		weak     bool
	}{
		"empty":                       {"", nil, true},
		"on every list":               {"password", nil, true},
		"on every list, with marks":   {"pässwörd", nil, true},
		"on every list, with signs":   {"p@ssw0rd", nil, true},
		"along the keyboard":          {"qwertyuiop", nil, true},
		"one letter, long":            {strings.Repeat("a", 60), nil, true},
		"one character, longer still": {strings.Repeat("\u4e00", 600), nil, true},
		"a date":                      {"12/12/2012", nil, true},
		"the person's name":           {"AliceExample", []string{"Alice Example"}, true},
		"the person's address":        {"alice@example.com", []string{"alice@example.com"}, true},
		"a word of the address":       {"wonderlandish", []string{"alice@wonderlandish.example"}, true},
		"the name with marks":         {"Zoë-Ünique", []string{"zoe unique"}, true},
		"random":                      {"k7#Qw-z92Lpx!v", nil, false},
		"several words":               {"correct horse battery staple", nil, false},
		"hidden behind 64 characters": {strings.Repeat("a", 64) + "k7#Qw-z92Lpx!v", nil, true},
	} {
		t.Run(reason, func(t *testing.T) {
			e := Strength(tc.password, tc.inputs...)
			if e.Weak() != tc.weak {
				t.Errorf("score %d, %s", e.Score, e.CrackTime)
			}
			if s := e.Sentence(); strings.Contains(s, "weak") != tc.weak || !strings.Contains(s, e.CrackTime) || !strings.HasSuffix(s, ".") {
				t.Errorf("the sentence is %q", s)
			}
		})
	}
}

func TestZeroEstimateIsWeak(t *testing.T) {
	var zero Estimate
	if !zero.Weak() || !strings.Contains(zero.Sentence(), "weak") || !strings.Contains(zero.Sentence(), "less than a second") {
		t.Fatal(zero.Sentence())
	}
}

func TestCrackTimeInWords(t *testing.T) {
	const hour, day, year = 3600, 86400, 365 * 86400
	for want, seconds := range map[string]float64{
		"less than a second": 0.4,
		"2 seconds":          1,
		"91 seconds":         90,
		"60 minutes":         59.5 * 60,
		"47 hours":           46.2 * hour,
		"31 days":            30.5 * day,
		"5 months":           4.5 * 31 * day,
		"51 years":           50.5 * year,
		"centuries":          200 * year,
	} {
		if got := inWords(seconds); got != want {
			t.Errorf("%v seconds are %q, want %q", seconds, got, want)
		}
	}
	for _, seconds := range []float64{math.Inf(1), math.NaN()} {
		if got := inWords(seconds); got != "centuries" {
			t.Errorf("%v seconds are %q", seconds, got)
		}
	}
}

func TestEstimateIsBounded(t *testing.T) {
	// What is handed to the estimator is what it takes time for.
	for _, s := range []string{strings.Repeat("4@8({[<369!|1075$+%2", 1000), "a" + strings.Repeat("\u0301", 10000), strings.Repeat("\ufdfa", 1000), strings.Repeat("\xff", 1000)} {
		folded := fold(s, maxEstimated)
		if len(folded) > maxEstimated || !utf8.ValidString(folded) || strings.ContainsFunc(folded, func(r rune) bool { return r >= utf8.RuneSelf }) {
			t.Errorf("%.20q… is folded to %q", s, folded)
		}
	}
	short := "4@8({[<369!|1075$+%2"
	long := strings.Repeat(short, 3)
	few := testing.AllocsPerRun(1, func() { Strength(short) })
	if many := testing.AllocsPerRun(1, func() { Strength(long) }); many > few {
		t.Errorf("%d characters take %.0f allocations, %d take %.0f", len(short), few, len(long), many)
	}
	var inputs []string
	for range 1000 {
		inputs = append(inputs, strings.Repeat("word ", 1000))
	}
	if n := len(known(inputs)); n > maxUserInputs {
		t.Errorf("%d user inputs are looked for", n)
	}
}

func FuzzStrength(f *testing.F) {
	for _, password := range []string{"", "password", "p@ssw0rd", "pässwörd", "4@8({[<369!|1075$+%2", "12/12/2012", "\xff\u0130\u212a", "aaaa\u0301", "qwerty|||777"} {
		f.Add(password, "alice@example.com")
	}
	f.Fuzz(func(t *testing.T, password, input string) {
		e := Strength(password, input)
		if e.Score < 0 || e.Score > 4 || e.CrackTime == "" || e.Sentence() == "" {
			t.Fatalf("%+v", e)
		}
	})
}
