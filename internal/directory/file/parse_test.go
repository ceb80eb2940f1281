package file

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// Digests of "correct horse", the cheapest of each kind: those of bcrypt were made by libxcrypt.
const (
	cheap   = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
	cheapY  = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
	cheaper = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"
	longest = "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i" // of 72 times x
	other   = "$2b$04$0123456789abcdefghijkuhA04ioPU96b9ruCg2V0LgTVKEz8/.WS" // of "battery staple"
	least   = "$argon2id$v=19$m=19456,t=2,p=1$TYSgT/BQ2oh3pbHH1O4CyA$yEv2H4BaMHdZQsQduolOIzh+xedW7A7g2Lf6AWTsO4U"
)

const good = `# Who works here.
users:
  alice:
    display_name: Alice Example
    email: alice@example.com
    phone: "+31612345678"
    language: en-us
    password: ` + least + `
    id: 7f1c
    groups: [staff, hr]
    roles: [Global Administrator]
    guest: false
    disabled: false
  Bob:
    password: ` + cheap + `
    guest: true
    disabled: true
`

// reading parses a file of that name.
func reading(path, text string) (entries []*watched.Entry, warnings, problems watched.Problems) {
	return parse("file", []watched.Text{{Path: path, Data: []byte(text)}})
}

// population is who stands in a file, sorted by canonical name.
type population struct {
	entries []*watched.Entry
	users   []*mfa.User
}

func mustRead(t testing.TB, text string) (*population, watched.Problems) {
	t.Helper()
	entries, warnings, problems := reading("users.yaml", text)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	slices.SortFunc(entries, func(a, b *watched.Entry) int { return strings.Compare(a.User.Canonical, b.User.Canonical) })
	s := &population{entries: entries}
	for _, e := range entries {
		s.users = append(s.users, e.User)
	}
	return s, warnings
}

func TestEveryFieldArrives(t *testing.T) {
	s, warnings := mustRead(t, good)
	if len(s.users) != 2 {
		t.Fatalf("%d users", len(s.users))
	}
	alice, bob := *s.users[0], *s.users[1]
	if got, want := fmt.Sprintf("%+v", alice), fmt.Sprintf("%+v", mfa.User{
		ID: mfa.UserID{Directory: "file", ID: "7f1c"}, Name: "alice", Canonical: "alice", DisplayName: "Alice Example",
		Email: "alice@example.com", Phone: "+31612345678", Language: "en-US",
		Groups: []string{"staff", "hr"}, Roles: []string{"Global Administrator"},
	}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := fmt.Sprintf("%+v", bob), fmt.Sprintf("%+v", mfa.User{
		ID: mfa.UserID{Directory: "file", ID: "bob"}, Name: "Bob", Canonical: "bob", Guest: true, Disabled: true,
	}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(warnings) != 1 || warnings[0].Line != 15 || !strings.Contains(warnings[0].Message, "cost 4 ") {
		t.Errorf("the warnings are %v", warnings)
	}
}

// with gives a file of one user with these further lines.
func with(lines ...string) string {
	return "users:\n  alice:\n    password: " + cheap + "\n    " + strings.Join(lines, "\n    ") + "\n"
}

func TestScalarsAreTheTextThatWasWritten(t *testing.T) {
	for _, name := range []string{"no", "007", "1e3", "null", "true", "0x1f", "2026-01-02", "~", "+31612345678", ".inf", `"123"`, "'yes'"} {
		want := strings.Trim(name, `"'`)
		t.Run("user "+name, func(t *testing.T) {
			s, _ := mustRead(t, "users:\n  "+name+": {password: "+quoteYAML(cheap)+"}\n")
			if u := s.users[0]; u.Name != want || u.ID.ID != want {
				t.Errorf("the name is %q, the id %q", u.Name, u.ID.ID)
			}
		})
		t.Run("values "+name, func(t *testing.T) {
			s, _ := mustRead(t, with("display_name: "+name, "id: "+name, "groups: ["+name+"]", "roles:", "- "+name))
			u := s.users[0]
			if u.DisplayName != want || u.ID.ID != want || !slices.Equal(u.Groups, []string{want}) || !slices.Equal(u.Roles, []string{want}) {
				t.Errorf("%+v", u)
			}
		})
	}
	t.Run("phone without quotes", func(t *testing.T) {
		s, _ := mustRead(t, with("phone: +31612345678"))
		if u := s.users[0]; u.Phone != "+31612345678" {
			t.Errorf("the phone is %q", u.Phone)
		}
	})
	t.Run("language no", func(t *testing.T) {
		s, _ := mustRead(t, with("language: no"))
		if u := s.users[0]; u.Language != "no" {
			t.Errorf("the language is %q", u.Language)
		}
	})
}

func quoteYAML(s string) string { return "'" + s + "'" }

func TestFilesThatAreAccepted(t *testing.T) {
	for reason, tc := range map[string]struct {
		text  string
		users int
	}{
		"no users":                        {"users: {}\n", 0},
		"comments, marks around, no end":  {"# a\n---\nusers: {} # b\n...\n# c", 0},
		"byte-order mark":                 {"\ufeff" + good, 2},
		"line ends of Windows":            {strings.ReplaceAll(good, "\n", "\r\n"), 2},
		"JSON":                            {`{"users": {"alice": {"password": "` + cheap + `", "disabled": false}}}`, 1},
		"a digest in a folded block":      {"users:\n  alice:\n    password: >-\n      " + cheap + "\n", 1},
		"values that are left out":        {with("display_name:", "email:", "phone: ''", "language:", "groups:", "roles: []"), 1},
		"names that differ":               {"users:\n  alice: {password: '" + cheap + "'}\n  alicia: {password: '" + cheap + "'}\n", 2},
		"ids that differ in case":         {"users:\n  a: {id: X, password: '" + cheap + "'}\n  b: {id: x, password: '" + cheap + "'}\n", 2},
		"one digest for two":              {"users:\n  a: {password: '" + cheap + "'}\n  b: {password: '" + cheap + "'}\n", 2},
		"a name that looks like a merge":  {"users:\n  '<<': {password: '" + cheap + "'}\n", 1},
		"address that is not ASCII":       {with("email: zo\u00eb@example.com"), 1},
		"address with a plus":             {with("email: alice+mfa@mail.example.com"), 1},
		"shortest phone":                  {with("phone: +6834000"), 1},
		"longest phone":                   {with("phone: +123456789012345"), 1},
		"longest group":                   {with("groups: [" + strings.Repeat("g", 256) + "]"), 1},
		"group with comma and colon":      {with(`groups: ["a, b: c"]`), 1},
		"groups that differ in case":      {with("groups: [HR, hr]"), 1},
		"display name in another script":  {with("display_name: \u0622\u0644\u06cc\u0633"), 1},
		"name with an at sign":            {"users:\n  Alice@Example.COM: {password: '" + cheap + "'}\n", 1},
		"name with letters beyond ASCII":  {"users:\n  Ren\u00e9e: {password: '" + cheap + "'}\n", 1},
		"name in full width, with its id": {"users:\n  \uff21lice: {password: '" + cheap + "', id: a1}\n", 1},
	} {
		t.Run(reason, func(t *testing.T) {
			s, _ := mustRead(t, tc.text)
			names, ids := map[string]bool{}, map[string]bool{}
			for _, u := range s.users {
				names[u.Canonical], ids[u.ID.ID] = true, true
			}
			if len(s.users) != tc.users || len(names) != tc.users || len(ids) != tc.users {
				t.Fatalf("%d users, %d names, %d ids", len(s.users), len(names), len(ids))
			}
		})
	}
}

func TestEmptyListIsWarnedOf(t *testing.T) {
	_, warnings := mustRead(t, "# nobody yet\nusers: {}\n")
	if len(warnings) != 1 || warnings[0].String() != "users.yaml:2: users: nobody can sign in: the list of users is empty" {
		t.Fatal(warnings)
	}
}

func TestMistakesAreToldWithTheirLine(t *testing.T) {
	type problem struct {
		line    int
		field   string
		message string // a part of it
	}
	user := "password: '" + cheap + "'"
	for reason, tc := range map[string]struct {
		text string
		want []problem
	}{
		"empty file":              {"", []problem{{1, "", "the file is empty; a file without users holds `users: {}`"}}},
		"white space":             {" \n\n", []problem{{1, "", "the file is empty"}}},
		"comments only":           {"# users:\n", []problem{{1, "", "the file is empty"}}},
		"marks only":              {"---\n...\n", []problem{{2, "", "must begin with `users:`"}}},
		"cut behind users":        {"# x\nusers:\n", []problem{{2, "users", "nothing follows `users:`; a file without users holds `users: {}`"}}},
		"users is a list":         {"users:\n- alice\n- bob\n", []problem{{2, "users", "there is a list; want the users' names with their settings below"}}},
		"users is a text":         {"users: alice\n", []problem{{1, "users", "want the users' names with their settings below"}}},
		"users is null":           {"users: null\n", []problem{{1, "users", "want the users' names"}}},
		"top is a list":           {"- users\n", []problem{{1, "", "must begin with `users:`"}}},
		"top is a text":           {"alice\n", []problem{{1, "", "must begin with `users:`"}}},
		"users are missing":       {"{}\n", []problem{{1, "", "the key `users` is missing"}}},
		"unknown key at the top":  {"users: {}\nuser: {}\n", []problem{{2, "", `unknown key "user"; want ` + "`users`"}}},
		"users twice":             {"users: {}\nusers: {}\n", []problem{{2, "", `"users" is here a second time; it was in line 1 before`}}},
		"not UTF-8":               {"users:\n  alice:\n    display_name: Zo\xeb\n", []problem{{3, "", "the text is not UTF-8"}}},
		"UTF-16":                  {"\xff\xfeu\x00s\x00", []problem{{1, "", "not UTF-8"}}},
		"NUL":                     {"users: {}\n\x00\n", []problem{{2, "", "control character (U+0000)"}}},
		"line ends of old Macs":   {"users: {}\r# a\r", []problem{{1, "", "control character (U+000D)"}}},
		"line separator":          {"users: {}\n# a\u2028b\n", []problem{{2, "", "control character (U+2028)"}}},
		"next line":               {"users: {}\n# a\u0085b\n", []problem{{2, "", "control character (U+0085)"}}},
		"tab for indentation":     {"users:\n\talice: {}\n", []problem{{2, "", "not YAML around here"}}},
		"bracket left open":       {with("groups: [staff"), []problem{{3, "", "not YAML around here"}}},
		"quote left open":         {with(`display_name: "Alice`), []problem{{4, "", "not YAML around here"}}},
		"no space behind a colon": {"users:\n  alice:\n    password:" + cheap + "\n    guest: true\n", []problem{{4, "", "not YAML around here"}}},
		"two documents":           {good + "---\nusers: {}\n", []problem{{18, "", "a second document begins here"}}},
		"broken second document":  {"users: {}\n---\n[\n", []problem{{3, "", "not YAML"}}},
		"anchor":                  {"users:\n  alice: &a\n    " + user + "\n", []problem{{2, "", "anchors (&), aliases (*)"}}},
		"alias":                   {"users:\n  alice: &a\n    " + user + "\n  bob: *a\n", []problem{{2, "", "anchors"}, {4, "", "aliases (*)"}}},
		"alias of nothing":        {"users:\n  alice:\n    " + user + "\n  bob: *a\n", []problem{{4, "", "aliases (*)"}}},
		"alias for a group":       {with("display_name: &n Alice", "groups: [*n]"), []problem{{4, "", "anchors"}, {5, "", "aliases"}}},
		"alias for a key":         {with("display_name: &n email", "*n : alice@example.com"), []problem{{4, "", "anchors"}, {5, "", "aliases"}}},
		"merge key":               {"users:\n  alice:\n    <<: {guest: true}\n    " + user + "\n", []problem{{3, "", "merge keys (<<)"}}},
		"tag":                     {with("display_name: !!str Alice", "guest: !!bool true", "groups: !set [a]"), []problem{{4, "", `YAML tags ("!!str")`}, {5, "", "YAML tags"}, {6, "", "YAML tags"}}},
		"binary":                  {with("display_name: !!binary QWxpY2U="), []problem{{4, "", "YAML tags"}}},

		"two spellings of one person":      {"users:\n  alice: {" + user + "}\n  Alice: {" + user + ", id: x}\n", []problem{{3, "users", `"Alice" is the same person as "alice" in line 2`}}},
		"full width is one more spelling":  {"users:\n  alice: {" + user + "}\n  \uff21lice: {" + user + ", id: x}\n", []problem{{3, "users", `is the same person as "alice" in line 2`}}},
		"decomposed is one more spelling":  {"users:\n  ren\u00e9: {" + user + "}\n  rene\u0301: {" + user + ", id: x}\n", []problem{{3, "users", "is the same person as"}}},
		"one person twice":                 {"users:\n  alice: {" + user + "}\n  alice: {" + user + "}\n", []problem{{3, "users", `"alice" is here a second time; it was in line 2 before`}}},
		"one person twice, in quotes":      {"users:\n  alice: {" + user + "}\n  \"alice\": {" + user + "}\n", []problem{{3, "users", `"alice" is here a second time`}}},
		"empty name":                       {"users:\n  '': {" + user + "}\n", []problem{{2, "users", `"" is not a user name: it is empty`}}},
		"name of white space":              {"users:\n  '  ': {" + user + "}\n", []problem{{2, "users", "it is empty"}}},
		"name with a space":                {"users:\n  alice example: {" + user + "}\n", []problem{{2, "users", "is not a user name"}}},
		"name with white space around":     {"users:\n  ' alice': {" + user + "}\n", []problem{{2, "users", "white space around the name"}}},
		"name with a line break behind":    {"users:\n  \"alice\\r\\nX: y\": {" + user + "}\n", []problem{{2, "users", "is not a user name"}}},
		"name that ends in a line break":   {"users:\n  \"alice\\n\": {" + user + "}\n", []problem{{2, "users", "white space around the name"}}},
		"name that nobody sees":            {"users:\n  \"ali\\u200bce\": {" + user + "}\n", []problem{{2, "users", "is not a user name"}}},
		"name of a service token":          {"users:\n  Service:backup: {" + user + "}\n", []problem{{2, "users", `"Service:backup" is one of a service token`}}},
		"name that is too long":            {"users:\n  ? " + strings.Repeat("a", 257) + "\n  : {" + user + "}\n", []problem{{2, "users", "longer than 256 bytes"}}},
		"name that is a list":              {"users:\n  ? [a]\n  : {" + user + "}\n", []problem{{2, "users", "a key must be a text"}}},
		"one id for two":                   {"users:\n  alice: {" + user + ", id: x}\n  bob:\n    " + user + "\n    id: x\n", []problem{{5, "users.bob", `the id "x" is that of "alice" in line 2`}}},
		"an id that is another's name":     {"users:\n  alice: {" + user + "}\n  bob:\n    " + user + "\n    id: alice\n", []problem{{5, "users.bob", `the id "alice" is that of "alice" in line 2`}}},
		"a name that is another's id":      {"users:\n  bob: {" + user + ", id: alice}\n  alice: {" + user + "}\n", []problem{{3, "users.alice", `the id "alice" is that of "bob" in line 2`}}},
		"empty id":                         {with("id: ''"), []problem{{4, "users.alice.id", "the id is empty; leave the line out"}}},
		"id that is left out":              {with("id:"), []problem{{4, "users.alice.id", "the id is empty"}}},
		"id with a line break":             {with(`id: "a\nb"`), []problem{{4, "users.alice.id", "line break"}}},
		"id that is too long":              {with("id: " + strings.Repeat("a", 257)), []problem{{4, "users.alice.id", "longer than 256 bytes"}}},
		"id that is a list":                {with("id: [a]"), []problem{{4, "users.alice.id", "there is a list; want a text"}}},
		"no password":                      {"users:\n  alice:\n    email: alice@example.com\n", []problem{{2, "users.alice", "there is no password; run `caddy-mfa mfa hash-password`"}}},
		"nothing at all":                   {"users:\n  alice:\n", []problem{{2, "users.alice", "there is no password; run `caddy-mfa mfa hash-password`"}}},
		"disabled, and no password":        {"users:\n  alice: {disabled: true}\n", []problem{{2, "users.alice", "there is no password"}}},
		"empty password":                   {"users:\n  alice:\n    password:\n", []problem{{3, "users.alice.password", "it is empty; run `caddy-mfa mfa hash-password`"}}},
		"plain password":                   {"users:\n  alice:\n    password: hunter2\n", []problem{{3, "users.alice.password", "it is plain text"}}},
		"md5-crypt":                        {"users:\n  alice:\n    password: $1$abcdefgh$G//4keteveJp0qb8z2DxG/\n", []problem{{3, "users.alice.password", "it is md5-crypt; run `caddy-mfa mfa hash-password`"}}},
		"weak argon2id":                    {"users:\n  alice:\n    password: " + strings.Replace(least, "19456", "8192", 1) + "\n", []problem{{3, "users.alice.password", "want at least m=19456 (KiB), t=2 and p=1"}}},
		"argon2id that eats the machine":   {"users:\n  alice:\n    password: " + strings.Replace(least, "19456", "4194304", 1) + "\n", []problem{{3, "users.alice.password", "exhaust this machine"}}},
		"digest in a block with its break": {"users:\n  alice:\n    password: |\n      " + cheap + "\n", []problem{{3, "users.alice.password", "white space around"}}},
		"password that is a list":          {"users:\n  alice:\n    password: [hunter2]\n", []problem{{3, "users.alice.password", "there is a list; want a digest"}}},
		"password that has keys":           {"users:\n  alice:\n    password: {bcrypt: hunter2}\n", []problem{{3, "users.alice.password", "there are keys with values; want a digest"}}},
		"user that is a text":              {"users:\n  alice: hunter2\n", []problem{{2, "users.alice", "want the user's settings below the name"}}},
		"user that is a list":              {"users:\n  alice: [hunter2]\n", []problem{{2, "users.alice", "there is a list; want the user's settings"}}},
		"unknown key":                      {with("pasword: hunter2"), []problem{{4, "users.alice", `unknown key "pasword"; want one of display_name, email, phone, language, password, id, groups, roles, guest, disabled`}}},
		"key in another case":              {with("Email: alice@example.com"), []problem{{4, "users.alice", `unknown key "Email"`}}},
		"key twice":                        {with("email: alice@example.com", "email: eve@example.com"), []problem{{5, "users.alice", `"email" is here a second time; it was in line 4 before`}}},
		"password twice":                   {with("password: " + cheap), []problem{{4, "users.alice", `"password" is here a second time; it was in line 3 before`}}},
		"address with a name":              {with("email: Alice <alice@example.com>"), []problem{{4, "users.alice.email", "is not an e-mail address; want it alone, as in alice@example.com"}}},
		"address in angle brackets":        {with("email: <alice@example.com>"), []problem{{4, "users.alice.email", "is not an e-mail address"}}},
		"address with a comment":           {with("email: alice@example.com (Alice)"), []problem{{4, "users.alice.email", "is not an e-mail address"}}},
		"two addresses":                    {with("email: alice@example.com, eve@example.com"), []problem{{4, "users.alice.email", "is not an e-mail address"}}},
		"address without host":             {with("email: alice"), []problem{{4, "users.alice.email", "is not an e-mail address"}}},
		"address with a line break":        {with(`email: "alice@example.com\r\nBcc: eve@example.com"`), []problem{{4, "users.alice.email", "line break"}}},
		"address that is null":             {with("email: null"), []problem{{4, "users.alice.email", `"null" is not an e-mail address`}}},
		"address that is a list":           {with("email: [alice@example.com]"), []problem{{4, "users.alice.email", "there is a list; want a text"}}},
		"address that is too long":         {with("email: " + strings.Repeat("a", 250) + "@b.cd"), []problem{{4, "users.alice.email", "is not an e-mail address"}}},
		"phone with spaces":                {with("phone: +31 6 12345678"), []problem{{4, "users.alice.phone", "is not a number as in E.164"}}},
		"phone without country":            {with("phone: 0612345678"), []problem{{4, "users.alice.phone", `"0612345678" is not a number as in E.164`}}},
		"phone with two zeros":             {with("phone: '0031612345678'"), []problem{{4, "users.alice.phone", "E.164"}}},
		"phone with full-width digits":     {with("phone: +\uff13\uff11612345678"), []problem{{4, "users.alice.phone", "E.164"}}},
		"phone of 16 digits":               {with("phone: +1234567890123456"), []problem{{4, "users.alice.phone", "E.164"}}},
		"no language":                      {with("language: Klingonese"), []problem{{4, "users.alice.language", `"Klingonese" is not a language; want its tag, as in en, nl or pt-BR`}}},
		"undetermined language":            {with("language: und"), []problem{{4, "users.alice.language", "is not a language"}}},
		"display name of two lines":        {with("display_name: |", "  Alice", "  Example"), []problem{{4, "users.alice.display_name", "line break"}}},
		"display name with escape":         {with(`display_name: "Alice\e[2J"`), []problem{{4, "users.alice.display_name", "control character"}}},
		"display name that is too long":    {with("display_name: " + strings.Repeat("a", 257)), []problem{{4, "users.alice.display_name", "longer than 256 bytes"}}},
		"display name that has keys":       {with("display_name: {first: Alice}"), []problem{{4, "users.alice.display_name", "there are keys with values; want a text"}}},
		"groups that are a text":           {with("groups: staff"), []problem{{4, "users.alice.groups", "want a list, as in [staff, hr]"}}},
		"groups that have keys":            {with("groups: {staff: true}"), []problem{{4, "users.alice.groups", "there are keys with values; want a list"}}},
		"group that is empty":              {with("groups: [staff, '']"), []problem{{4, "users.alice.groups", "a name is empty"}}},
		"group that is left out":           {with("groups:", "- staff", "-"), []problem{{6, "users.alice.groups", "a name is empty"}}},
		"group with a line break":          {with(`groups: ["staff\nadmins"]`), []problem{{4, "users.alice.groups", "line break"}}},
		"group with white space around":    {with("groups: [' staff']"), []problem{{4, "users.alice.groups", "white space around"}}},
		"group with a separator of lines":  {with(`roles: ["a\u2028b"]`), []problem{{4, "users.alice.roles", "line break"}}},
		"group that is too long":           {with("groups: [" + strings.Repeat("g", 257) + "]"), []problem{{4, "users.alice.groups", "longer than 256 bytes"}}},
		"group that is a list":             {with("groups: [[staff]]"), []problem{{4, "users.alice.groups", "there is a list; want a name"}}},
		"group twice":                      {with("groups: [staff, hr, staff]"), []problem{{4, "users.alice.groups", `"staff" is in the list twice`}}},
		"boolean in words":                 {with("disabled: yes"), []problem{{4, "users.alice.disabled", "want true or false, without quotes"}}},
		"boolean in capitals":              {with("disabled: TRUE"), []problem{{4, "users.alice.disabled", "want true or false"}}},
		"boolean in quotes":                {with(`disabled: "true"`), []problem{{4, "users.alice.disabled", "want true or false"}}},
		"boolean as a number":              {with("guest: 1"), []problem{{4, "users.alice.guest", "want true or false"}}},
		"boolean that is left out":         {with("disabled:"), []problem{{4, "users.alice.disabled", "want true or false"}}},
		"boolean that is a list":           {with("disabled: [true]"), []problem{{4, "users.alice.disabled", "there is a list; want true or false"}}},

		"everything at once, in the order of the file": {
			"users:\n  alice:\n    disabled: maybe\n    password: hunter2\n    email: nobody\n  al ice:\n    phone: 1\n  bob: {}\nother: 1\n",
			[]problem{
				{3, "users.alice.disabled", "true or false"}, {4, "users.alice.password", "plain text"}, {5, "users.alice.email", "e-mail"},
				{6, "users", "not a user name"}, {6, "users.al ice", "no password"}, {7, "users.al ice.phone", "E.164"},
				{8, "users.bob", "no password"}, {9, "", "unknown key"},
			},
		},
	} {
		t.Run(reason, func(t *testing.T) {
			s, _, problems := reading("users.yaml", tc.text)
			if s != nil {
				t.Fatalf("the file is accepted, with %d users", len(s))
			}
			for i, p := range problems {
				if p.File != "users.yaml" || strings.Contains(p.String(), "hunter2") {
					t.Errorf("a problem is told as %s", p)
				}
				if i < len(tc.want) && (p.Line != tc.want[i].line || p.Field != tc.want[i].field || !strings.Contains(p.Message, tc.want[i].message)) {
					t.Errorf("got  %s\nwant %+v", p, tc.want[i])
				}
			}
			if len(problems) != len(tc.want) {
				t.Errorf("want %d problems, got:\n%v", len(tc.want), problems)
			}
		})
	}
}

func TestTwoSpellingsOfOnePersonAreRefused(t *testing.T) {
	spellings := []string{"alice", "ALICE", "\uff21\uff2c\uff29\uff23\uff25"}
	for i, a := range spellings {
		for _, b := range spellings[i+1:] {
			text := fmt.Sprintf("users:\n  %s: {password: '%s', id: a}\n  %s: {password: '%s', id: b}\n", a, cheap, b, cheap)
			if _, _, problems := reading("users.yaml", text); len(problems) != 1 || problems[0].Line != 3 {
				t.Errorf("%s and %s: %v", a, b, problems)
			}
		}
	}
}

func TestYAMLAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("users:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 200; i++ {
		fmt.Fprintf(&b, "  a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9))
	}
	_, _, problems := reading("users.yaml", b.String())
	if len(problems) != watched.MaxProblems+1 || !strings.Contains(problems[0].Message, "write the value out") {
		t.Fatal(problems)
	}
	// An alias inside of what it stands for is one more way to never come to an end.
	if _, _, problems := reading("users.yaml", "users: &u\n  alice: *u\n"); len(problems) != 2 {
		t.Error(problems)
	}
}

func TestHugeFilesAreRefusedBeforeTheyTakeMemory(t *testing.T) {
	var before, after runtime.MemStats
	for reason, tc := range map[string]struct{ text, want string }{
		"too large":              {"users: {}\n#" + strings.Repeat("a", watched.MaxSize), "larger than 16 MiB"},
		"too many values":        {"users: [" + strings.Repeat("a,", maxSeparators) + "]", "too many values"},
		"too many empty values":  {"users: [" + strings.Repeat("[],", maxSeparators) + "]", "too many values"},
		"too many lines":         {"users:\n" + strings.Repeat(" a\n", maxSeparators), "too many values"},
		"too deep, in brackets":  {"users: " + strings.Repeat("[", 100_000), "depth"},
		"too deep, in braces":    {"users: " + strings.Repeat("{a: ", 100_000), "depth"},
		"too deep, in dashes":    {"users: \n" + strings.Repeat("- ", 100_000), "depth"},
		"too deep, in questions": {strings.Repeat("? ", 100_000), "depth"},
	} {
		t.Run(reason, func(t *testing.T) {
			runtime.ReadMemStats(&before)
			_, _, problems := reading("users.yaml", tc.text)
			runtime.ReadMemStats(&after)
			if len(problems) != 1 || !strings.Contains(problems[0].Message, tc.want) {
				t.Fatal(problems)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
				t.Errorf("it took %d MiB", took>>20)
			}
		})
	}
}

func TestManyMistakesAreCounted(t *testing.T) {
	for _, n := range []int{watched.MaxProblems, watched.MaxProblems + 1, 3 * 4096} {
		var b strings.Builder
		b.WriteString("users:\n")
		for i := range n {
			fmt.Fprintf(&b, "  u%d:\n", i)
		}
		_, _, problems := reading("users.yaml", b.String())
		if n == watched.MaxProblems {
			if len(problems) != watched.MaxProblems {
				t.Errorf("%d of %d are told", len(problems), n)
			}
			continue
		}
		last := problems[len(problems)-1]
		if len(problems) != watched.MaxProblems+1 || problems[watched.MaxProblems-1].Line != watched.MaxProblems+1 || last.String() != fmt.Sprintf("users.yaml: … and %d more", n-watched.MaxProblems) {
			t.Errorf("%d of %d are told, at last %s", len(problems), n, last)
		}
	}
}

func TestProblemsAreAnErrorOfLines(t *testing.T) {
	_, _, problems := reading("/etc/users.yaml", "users:\n  alice: {guest: 1}\n  bob:\n")
	err := error(problems)
	want := "/etc/users.yaml:2: users.alice: there is no password; " + hashPassword + "\n" +
		"/etc/users.yaml:2: users.alice.guest: want true or false, without quotes\n" +
		"/etc/users.yaml:3: users.bob: there is no password; " + hashPassword
	if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if _, ok := errors.AsType[watched.Problems](fmt.Errorf("loading users: %w", err)); !ok {
		t.Error("it is no error to look for")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	for _, seed := range []string{
		"users: {}", "users:\n  alice: &a {}\n  bob: *a\n", "users:\n  no: {password: '" + cheap + "'}\n  NO: {password: '" + cheap + "'}\n",
		"users:\n  ? [a]\n  : b\n", "---\nusers: {}\n---\n", "users:\n  <<: {}\n", "# a\nusers: # b\n  # c\n  alice: # d\n    # e\n",
		"users:\n  alice:\n    password: >-\n      " + cheap + "\n", `{"users":{"a":{"password":"` + cheap + `","groups":["x","y"],"guest":true}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, _, problems := reading("users.yaml", text)
		if len(s) > 0 && len(problems) > 0 {
			t.Fatalf("entries %v, problems %v", s, problems)
		}
		lines := 1 + strings.Count(text, "\n")
		for i, p := range problems {
			if p.Line < 0 || p.Line > lines+1 || p.Message == "" || strings.ContainsAny(p.String(), "\n\r\x00\x1b") {
				t.Fatalf("%q is told as %q", text, p)
			}
			if i > 0 && i < watched.MaxProblems && p.Line < problems[i-1].Line {
				t.Fatalf("%q is told in another order: %v", text, problems)
			}
			if strings.Contains(p.Message, "gave up") {
				t.Fatalf("the YAML parser panics at %q", text)
			}
		}
		names, ids := map[string]bool{}, map[string]bool{}
		for _, e := range s {
			u := e.User
			canonical, err := mfa.CanonicalName(u.Name)
			if err != nil || canonical != u.Canonical || names[canonical] || ids[u.ID.ID] || u.ID.ID == "" || u.ID.Directory != "file" {
				t.Fatalf("%q holds %+v", text, u)
			}
			names[canonical], ids[u.ID.ID] = true, true
			if again, err := password.Parse(e.Digest.Encoded()); err != nil || again.IsZero() {
				t.Fatalf("%q has the digest %v of %+v", text, e.Digest, u)
			}
			for _, value := range append(append([]string{u.Name, u.DisplayName, u.Email, u.Phone, u.Language}, u.Groups...), u.Roles...) {
				if strings.ContainsAny(value, "\r\n\x00\u2028") {
					t.Fatalf("%q holds %+v", text, u)
				}
			}
		}
	})
}

func TestAnIDThatNoStoreCanKeepIsRefused(t *testing.T) {
	id := strings.Repeat("ж", 90) // six bytes each with percent signs
	for _, text := range []string{
		"users:\n  alice:\n    id: " + id + "\n    password: " + cheap + "\n",
		"users:\n  " + id + ":\n    password: " + cheap + "\n",
	} {
		if _, _, problems := reading("users.yaml", text); len(problems) != 1 || !strings.Contains(problems.Error(), "give the user a shorter `id`") {
			t.Errorf("%v", problems)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	var all strings.Builder
	all.WriteString("users:\n")
	for i := range 10_000 {
		fmt.Fprintf(&all, "  user%d: {password: '%s'}\n", i, cheap)
	}
	text := all.String()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		reading("users.yaml", text)
	}
}
