package htpasswd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// Digests of "correct horse", as Apache's htpasswd and `mfa hash-password` write them.
const (
	cheap  = "$2y$05$uHZIKbce6c2Vo4ypuXFyQuMn0y/dYL4tbcvpj2edJKhwXg9.5DfrK"
	argon2 = "$argon2id$v=19$m=19456,t=2,p=1$TYSgT/BQ2oh3pbHH1O4CyA$yEv2H4BaMHdZQsQduolOIzh+xedW7A7g2Lf6AWTsO4U"
	apr1   = "$apr1$3SepBDb0$HtN08BE4dg1EYxdu.MyKg."
	sha    = "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A="
	crypt  = "ahk6T6RyhAihg"
	sha256 = "$5$/VdqDXchrWRiaKyJ$Kg2yvGjQepLIYo2IIYJjT5k2NT/0Gfm7qiSJqvKOW0D"
)

var spring = time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)

func read(text string, weakUntil time.Time, groups ...string) (entries []*watched.Entry, warnings, problems watched.Problems) {
	texts := []watched.Text{{Path: "/etc/htpasswd", Data: []byte(text)}}
	for _, g := range groups {
		texts = append(texts, watched.Text{Path: "/etc/groups", Data: []byte(g)})
	}
	return parse("htpasswd", texts, weakUntil)
}

func names(entries []*watched.Entry) string {
	var all []string
	for _, e := range entries {
		all = append(all, e.User.Name)
	}
	return strings.Join(all, " ")
}

func TestFilesThatAreAccepted(t *testing.T) {
	for reason, tc := range map[string]struct{ text, want string }{
		"as htpasswd -B writes it":      {"alice:" + cheap + "\nbob:" + cheap + "\n", "alice bob"},
		"argon2id":                      {"alice:" + argon2, "alice"},
		"comments and empty lines":      {"# staff\n\nalice:" + cheap + "\n  # more\n\t\n", "alice"},
		"comments alone":                {"# nobody", ""},
		"line ends of Windows":          {"alice:" + cheap + "\r\nbob:" + cheap + "\r\n", "alice bob"},
		"white space around a line":     {" alice:" + cheap + " \t\n", "alice"},
		"byte-order mark":               {"\ufeffalice:" + cheap, "alice"},
		"more fields":                   {"alice:" + cheap + ":Alice Example:1\n", "alice"},
		"names that differ":             {"alice:" + cheap + "\nalicia:" + cheap, "alice alicia"},
		"a name with capitals":          {"Alice:" + cheap, "Alice"},
		"a name that is an address":     {"alice@example.com:" + cheap, "alice@example.com"},
		"a name beyond ASCII":           {"Renée:" + cheap, "Renée"},
		"a name that begins like a tag": {"-B:" + cheap, "-B"},
	} {
		t.Run(reason, func(t *testing.T) {
			entries, _, problems := read(tc.text, time.Time{})
			if len(problems) > 0 || names(entries) != tc.want {
				t.Fatalf("%q, %v", names(entries), problems)
			}
			for _, e := range entries {
				want := mfa.User{ID: mfa.UserID{Directory: "htpasswd", ID: e.User.Canonical}, Name: e.User.Name, Canonical: e.User.Canonical}
				if got := fmt.Sprintf("%+v", *e.User); got != fmt.Sprintf("%+v", want) || e.Digest.IsZero() || !e.Until.IsZero() || e.Line == 0 {
					t.Errorf("%s, %+v", got, e)
				}
			}
		})
	}
}

func TestMistakesAreToldWithTheirLine(t *testing.T) {
	const run = "run `htpasswd -B -C 12 /etc/htpasswd alice`, or put what `caddy-mfa mfa hash-password --htpasswd alice` prints in place of the line"
	long := strings.Repeat("ж", 90)
	for reason, tc := range map[string]struct {
		text string
		want []string // where and what, a part of it
	}{
		"an empty file":                   {"", []string{"1: the file is empty; a file without users holds a comment"}},
		"white space":                     {" \n\n", []string{"1: the file is empty"}},
		"apr1":                            {"# x\nalice:" + apr1, []string{"2: alice: it is Apache's md5-crypt, which is guessed in no time; " + run + "; `weak_hashes until <day>`"}},
		"SHA-1":                           {"alice:" + sha, []string{"1: alice: it is a SHA-1 digest without salt, which is guessed in no time; " + run}},
		"crypt":                           {"alice:" + crypt, []string{"1: alice: it is crypt, or plain text; " + run}},
		"sha256-crypt":                    {"alice:" + sha256, []string{"1: alice: it is sha256-crypt; " + run}},
		"plain text":                      {"alice:hunter2", []string{"1: alice: it is plain text, or no digest that is known here; " + run}},
		"plain text with a colon":         {"alice:hunter2:x", []string{"1: alice: it is plain text"}},
		"no digest":                       {"alice:", []string{"1: alice: it is empty; " + run}},
		"white space before the digest":   {"alice: " + cheap, []string{"1: alice: there is white space around it"}},
		"half a digest":                   {"alice:" + cheap[:30], []string{"1: alice: it is a damaged bcrypt digest"}},
		"weak argon2id":                   {"alice:" + strings.Replace(argon2, "19456", "8192", 1), []string{"1: alice: argon2id with m=8192,t=2,p=1 is guessed too fast"}},
		"a locked account":                {"alice:!" + cheap, []string{"1: alice: it is the mark of a locked account; take the line out"}},
		"a line of htdigest":              {"alice:Private:0123456789abcdef0123456789abcdef", []string{"1: alice: it is a line of htdigest"}},
		"no colon":                        {"hunter2", []string{"1: there is no colon; want a line as in alice:$2y$12$…"}},
		"no name":                         {":" + cheap, []string{`1: "" is not a user name: it is empty`}},
		"a name with a space":             {"alice example:" + cheap, []string{`1: "alice example" is not a user name`}},
		"white space behind the name":     {"alice :" + cheap, []string{`1: there is white space around the name "alice "`}},
		"one person twice":                {"alice:" + cheap + "\nbob:" + cheap + "\nALICE:" + cheap, []string{`3: "ALICE" is the same person as "alice" in line 1`}},
		"full width is one more spelling": {"alice:" + cheap + "\nａlice:" + cheap, []string{"2: ", "is the same person as"}},
		"a name that no store can keep":   {long + ":" + cheap, []string{"1: ", "give the user a shorter name"}},
		"a name that a shell would run":   {"$(reboot):" + apr1, []string{"1: $(reboot): ", "htpasswd -B -C 12 /etc/htpasswd <user>`"}},
		"a name that is an option":        {"-x:" + apr1, []string{"1: -x: ", "/etc/htpasswd <user>`"}},
		"not UTF-8":                       {"alice:" + cheap + "\nren\xe9e:" + cheap, []string{"2: the text is not UTF-8"}},
		"NUL":                             {"alice:" + cheap + "\x00", []string{"1: there is a control character (U+0000)"}},
		"line ends of old Macs":           {"alice:" + cheap + "\rbob:" + cheap, []string{"1: there is a control character (U+000D)"}},
		"a line separator":                {"alice:" + cheap + "\u2028", []string{"1: there is a control character (U+2028)"}},
		"a line that doesn't end":         {strings.Repeat("x", maxLine+1), []string{"1: the line is longer than"}},
		"everything at once":              {"alice:hunter2\nal ice:x\n\nbob:" + crypt + "\n", []string{"1: alice: ", "2: \"al ice\"", "2: al ice: ", "4: bob: it is crypt"}},
	} {
		t.Run(reason, func(t *testing.T) {
			entries, _, problems := read(tc.text, time.Time{})
			if entries != nil || len(problems) == 0 {
				t.Fatalf("the file is accepted: %q", names(entries))
			}
			told := problems.Error()
			for _, want := range tc.want {
				if !strings.Contains(strings.ReplaceAll(told, "/etc/htpasswd:", "\n"), want) {
					t.Errorf("want %q, got\n%s", want, told)
				}
			}
			if strings.Contains(told, "hunter2") || strings.Contains(told, cheap[10:]) {
				t.Errorf("a secret is told: %s", told)
			}
		})
	}
}

func TestWeakHashesForATime(t *testing.T) {
	text := "alice:" + cheap + "\nbob:" + apr1 + "\ncarol:" + sha + "\ndora:" + argon2 + "\n"
	entries, warnings, problems := read(text, spring)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for i, weak := range []bool{false, true, true, false} {
		if e := entries[i]; e.Until.Equal(spring) != weak || e.Until.IsZero() == weak || !e.Digest.Verify("correct horse") || e.Digest.Verify("wrong") {
			t.Errorf("%s: %+v", e.User.Name, e)
		}
	}
	if len(warnings) != 2 || warnings[0].Line != 2 || !strings.HasPrefix(warnings[0].Message, "apr1 is guessed in no time, and is wrong for everybody from 2027-03-01 on; run `htpasswd") ||
		!strings.HasSuffix(warnings[0].Message, "(2 users have such a digest, this is the first)") || warnings[1].Line != 1 || !strings.Contains(warnings[1].Message, "bcrypt cost=5 is guessed too fast") {
		t.Errorf("the warnings are %v", warnings)
	}
	for reason, line := range map[string]string{
		"plain text": "hunter2", "crypt": crypt, "sha256-crypt": sha256, "md5-crypt": "$1$abcdefgh$G//4keteveJp0qb8z2DxG/", "SHA-1 with salt": "{SSHA}L55TUjtiq8FBorTWAZ0jy6g129A=",
		"damaged apr1": apr1[:20], "damaged SHA-1": sha[:20], "nothing": "",
	} {
		if entries, _, problems := read("alice:"+line, spring); len(problems) != 1 || entries != nil {
			t.Errorf("%s is accepted for a time: %v", reason, problems)
		}
	}
}

func TestGroups(t *testing.T) {
	users := "alice:" + cheap + "\nBob:" + cheap + "\ncarol:" + cheap + "\n"
	of := func(entries []*watched.Entry, name string) []string {
		i := slices.IndexFunc(entries, func(e *watched.Entry) bool { return e.User.Canonical == name })
		return entries[i].User.Groups
	}
	entries, warnings, problems := read(users, time.Time{}, "# who is where\nstaff: alice  bob\n\nDomain Admins:alice\r\nstaff:carol alice\nempty:\n")
	if len(problems)+len(warnings) > 1 { // the cheap digests
		t.Fatal(problems, warnings)
	}
	if a, b, c := of(entries, "alice"), of(entries, "bob"), of(entries, "carol"); !slices.Equal(a, []string{"staff", "Domain Admins"}) || !slices.Equal(b, []string{"staff"}) || !slices.Equal(c, []string{"staff"}) {
		t.Errorf("%q %q %q", a, b, c)
	}
	_, warnings, problems = read(users, time.Time{}, "hr: alice\nstaff: alice zoe yara\n")
	if len(problems) > 0 || warnings[len(warnings)-1].String() != `/etc/groups:2: there is no user "zoe", who is in the group "staff" (and 1 more that there are not)` {
		t.Error(problems, warnings)
	}
	if entries, _, problems := read(users, time.Time{}, ""); len(problems) > 0 || of(entries, "alice") != nil {
		t.Errorf("an empty file of groups: %v", problems)
	}
	for text, want := range map[string]string{
		"staff alice":                        "1: there is no colon",
		"# x\n: alice":                       "2: the group has no name",
		"staff: alice \\\nbob":               "1: staff: it goes on in the next line",
		"staff: \"alice\"":                   "1: staff: there are quotes",
		"staff: alice\x1b[2J":                "1: there is a control character (U+001B)",
		"st\xffaff: alice":                   "1: the text is not UTF-8",
		strings.Repeat("g", 257) + ": alice": "1: the name of the group is longer",
	} {
		if entries, _, problems := read(users, time.Time{}, text); entries != nil || len(problems) == 0 || !strings.HasPrefix(problems[0].String(), "/etc/groups:"+want) {
			t.Errorf("%q: %v", text, problems)
		}
	}
}

func TestManyMistakesAreCounted(t *testing.T) {
	_, _, problems := read(strings.Repeat("alice\n", 3*watched.MaxProblems), time.Time{}, strings.Repeat("staff\n", 3))
	if len(problems) != watched.MaxProblems+1+3 || !strings.Contains(problems[watched.MaxProblems].Message, "and 100 more") || problems[len(problems)-1].File != "/etc/groups" {
		t.Errorf("%d problems: %v", len(problems), problems)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"alice:" + cheap + "\nbob:" + argon2 + "\n", "alice:" + apr1 + "\r\n", "# x\n\nalice:" + sha + ":x:y\n", "alice:r:0123456789abcdef0123456789abcdef", "\ufeffa:!\n", "a\rb:c\n",
		"ａlice:" + cheap + "\nalice:" + cheap, ":", "a:" + crypt,
	} {
		f.Add(seed, "staff: alice bob\nhr:alice\n", true)
		f.Add(seed, "\\", false)
	}
	f.Fuzz(func(t *testing.T, text, groups string, weak bool) {
		until := time.Time{}
		if weak {
			until = spring
		}
		entries, warnings, problems := read(text, until, groups)
		if len(entries) > 0 && len(problems) > 0 {
			t.Fatalf("entries and problems: %q, %v", names(entries), problems)
		}
		most := 1 + max(strings.Count(text, "\n"), strings.Count(groups, "\n"))
		for _, p := range append(slices.Clone(problems), warnings...) {
			if p.Line < 0 || p.Line > most || p.Message == "" || strings.ContainsAny(p.String(), "\n\r\x00\x1b") {
				t.Fatalf("%q is told as %q", text, p)
			}
		}
		seen := map[string]bool{}
		for _, e := range entries {
			u := e.User
			canonical, err := mfa.CanonicalName(u.Name)
			if err != nil || canonical != u.Canonical || seen[canonical] || u.ID != (mfa.UserID{Directory: "htpasswd", ID: canonical}) || e.Digest.IsZero() {
				t.Fatalf("%q holds %+v", text, u)
			}
			seen[canonical] = true
			algorithm := e.Digest.Cost().Algorithm
			isWeak := algorithm != password.Argon2id && algorithm != password.Bcrypt
			if isWeak != (!e.Until.IsZero()) || isWeak && !weak || !strings.Contains(text, u.Name+":"+e.Digest.Encoded()) {
				t.Fatalf("%q has the digest %v until %v", text, e.Digest, e.Until)
			}
			for _, g := range u.Groups {
				if g == "" || strings.TrimSpace(g) != g || strings.ContainsAny(g, ":\r\n\x00") || len(g) > maxGroup {
					t.Fatalf("%q puts %s into %q", groups, u.Name, g)
				}
			}
			// What is read from what was read is the same.
			again, _, problems := read(u.Name+":"+e.Digest.Encoded()+"\n", until)
			if len(problems) > 0 || len(again) != 1 || again[0].User.Canonical != u.Canonical || again[0].Digest.Encoded() != e.Digest.Encoded() {
				t.Fatalf("%+v is not read again: %v", u, problems)
			}
		}
	})
}
