package admin

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func named(names ...string) []Summary {
	var users []Summary
	for _, name := range names {
		users = append(users, Summary{Name: name, PerUser: disabled})
	}
	return users
}

func TestReadStates(t *testing.T) {
	users := named("Alice", "bob", "carol@example.com", "'=dora", "=erin", "'fay")
	for reason, tc := range map[string]struct {
		text string
		want []StateLine
	}{
		"Microsoft's template":             {"Username, MFA Status\ncarol@example.com, Enabled\nbob, Disabled\n", []StateLine{{2, "carol@example.com", enabled}, {3, "bob", disabled}}},
		"our own":                          {"user,state\nalice,enforced\n", []StateLine{{2, "alice", enforced}}},
		"from a spreadsheet on Windows":    {"\ufeffUSERNAME,MFA STATUS\r\nALICE,ENABLED\r\n\r\n,\r\n", []StateLine{{2, "alice", enabled}}},
		"where the comma is a decimal one": {"Username;MFA Status\nalice;Enabled\n", []StateLine{{2, "alice", enabled}}},
		"no line break at the end":         {"user,state\nbob,enabled", []StateLine{{2, "bob", enabled}}},
		"quoted, over two lines":           {"user,\"state\"\n\"bob\",\"\nenabled\"\nalice,disabled\n", []StateLine{{2, "bob", enabled}, {4, "alice", disabled}}},
		"nobody":                           {"Username,MFA Status\n", nil},
		"a name that looks like a formula": {"user,state\n=erin,enabled\n", []StateLine{{2, "=erin", enabled}}},
		"the same, made harmless":          {"user,state\n'=erin,enabled\n''=dora,enabled\n", []StateLine{{2, "=erin", enabled}, {3, "'=dora", enabled}}},
		"an apostrophe that is a name's":   {"user,state\n'fay,enabled\n", []StateLine{{2, "'fay", enabled}}},
	} {
		got, err := ReadStates(strings.NewReader(tc.text), users)
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, %v", reason, got, err)
		}
	}
}

func TestEveryMistakeInAFileIsNamed(t *testing.T) {
	users := named("alice", "bob", "carol")
	for reason, tc := range map[string]struct {
		text string
		want []string
	}{
		"many": {
			"user,state\nalice,on\nzoe,enabled\nbob\nbob,enabled\nBOB,disabled\na b,enabled\nyves,\n,enabled\nca\"rol,enabled\ncarol,enabled,x\n",
			[]string{
				`line 2: the state is disabled, enabled or enforced, not "on"`,
				`line 3: no directory knows the user "zoe"`,
				`line 4: there are 1 fields; want the user's name and the state`,
				`line 6: "bob" stands in line 5 already`,
				`line 7: "a b" is not a user name`,
				`line 8: the state is disabled, enabled or enforced, not ""`,
				`line 8: no directory knows the user "yves"`,
				`line 9: "" is not a user name: it is empty`,
				`line 10: the quotation marks are wrong`,
				`line 11: there are 3 fields`,
			},
		},
		"empty":                   {"", []string{"line 1: the file is empty; want `Username,MFA Status`, or `user,state`"}},
		"no names of columns":     {"alice,enabled\nzoe,on\n", []string{"line 1: the first line doesn't name the columns; want `Username,MFA Status`"}},
		"other columns":           {"user,state,why\n", []string{"line 1: the first line doesn't name the columns"}},
		"columns the wrong way":   {"state,user\n", []string{"line 1: the first line doesn't name the columns"}},
		"UTF-16":                  {"\xff\xfeu\x00s\x00e\x00r\x00", []string{"line 1: the file is in UTF-16"}},
		"no text":                 {"user,state\n\xff\xfe,enabled\n", []string{`line 2: "\xff\xfe" is not a user name`}},
		"a quotation mark opened": {"user,state\n\"alice,enabled\nbob,on\n", []string{"line 2: the quotation marks are wrong"}},
	} {
		got, err := ReadStates(strings.NewReader(tc.text), users)
		if err == nil || got != nil {
			t.Errorf("%s: %v, %v", reason, got, err)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(tc.want) {
			t.Errorf("%s: %d mistakes, want %d:\n%v", reason, len(lines), len(tc.want), err)
			continue
		}
		for i, want := range tc.want {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("%s: %q, want %q", reason, lines[i], want)
			}
		}
	}
}

// wild are names that a spreadsheet could take for something else.
var wild = []string{"alice", "=cmd|'/c'!a1", "+1", "-1", "@sum(a1)", "'=1", "''=1", "'", "'alice", `a"b`, "a,b", "a;=1+1", ";=1", `"=1`, "＝1x", "rené", "\\.", "#1"}

func TestAnExportComesBackAsItWas(t *testing.T) {
	users := named(append(slices.Clone(wild), "="+strings.Repeat("x", mfa.MaxUserName-1))...)
	states := []mfa.PerUserState{disabled, enabled, enforced}
	var want []StateLine
	for i := range users {
		users[i].PerUser = states[i%3]
		name, err := mfa.CanonicalName(users[i].Name)
		if err != nil {
			t.Fatalf("%q: %v", users[i].Name, err)
		}
		want = append(want, StateLine{i + 2, name, users[i].PerUser})
	}
	var b strings.Builder
	if err := WriteStates(&b, users); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "Username,MFA Status\nalice,Disabled\n") {
		t.Errorf("it begins otherwise than Microsoft's file:\n%s", b.String())
	}
	got, err := ReadStates(strings.NewReader(b.String()), users)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v\ngot  %v\nwant %v", err, got, want)
	}
}

func TestNoCellOfAnExportIsAFormula(t *testing.T) {
	var b strings.Builder
	if err := WriteStates(&b, named(wild...)); err != nil {
		t.Fatal(err)
	}
	for _, comma := range []rune{',', ';'} {
		cells := spreadsheet(b.String(), comma)
		if len(cells) < len(wild)+1 {
			t.Fatalf("%d cells", len(cells))
		}
		for _, cell := range cells {
			if strings.IndexAny(cell, "=+-@") == 0 {
				t.Errorf("separated by %q, a cell is %q", comma, cell)
			}
		}
	}
	if cells := spreadsheet("\"a\"\"b\",=1\nx", ','); !slices.Equal(cells, []string{`a"b`, "=1", "x"}) {
		t.Errorf("a spreadsheet would read %q", cells)
	}
}

// spreadsheet gives the cells that a spreadsheet makes of a text: it forgives wrong quotation marks.
func spreadsheet(text string, comma rune) (cells []string) {
	var cell strings.Builder
	begun, quoted := false, false
	for _, r := range text {
		switch {
		case r == '"' && (quoted || !begun):
			begun, quoted = true, !quoted
		case !quoted && (r == comma || r == '\n'):
			cells = append(cells, cell.String())
			cell.Reset()
			begun = false
		case r == '"':
			cell.WriteRune(r) // the second of two
			quoted = true
		default:
			cell.WriteRune(r)
			begun = true
		}
	}
	return append(cells, cell.String())
}

func FuzzReadStates(f *testing.F) {
	for _, text := range []string{
		"Username, MFA Status\nalice, Enabled\n", "user;state\r\n'=x;disabled\r\n", "\ufeffuser,state\n\"a\"\"b\",enforced\n", "user,state\n\"alice,enabled\n", "\xff\xfe", "user,state\n''',enabled",
	} {
		f.Add(text)
	}
	users := named(append(slices.Clone(wild), "bob", "x")...)
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := ReadStates(strings.NewReader(text), users)
		if err != nil {
			if lines != nil {
				t.Fatal("lines beside an error")
			}
			return
		}
		var read []Summary
		for _, l := range lines {
			read = append(read, Summary{Name: l.User, PerUser: l.State})
		}
		var b strings.Builder
		if err := WriteStates(&b, read); err != nil {
			t.Fatal(err)
		}
		again, err := ReadStates(strings.NewReader(b.String()), users)
		if err != nil || len(again) != len(lines) {
			t.Fatalf("%v of\n%s", err, b.String())
		}
		for i, l := range lines {
			if again[i] != (StateLine{i + 2, l.User, l.State}) {
				t.Fatalf("%+v comes back as %+v", l, again[i])
			}
		}
	})
}
