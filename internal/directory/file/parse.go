package file

import (
	"bytes"
	"fmt"
	"io"
	"net/mail"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"golang.org/x/text/language"

	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// Bounds of a users file.
const (
	// maxSeparators bounds how many values a file can hold, because each takes much more memory than its text:
	// so many take half a gigabyte while they are read. A large file of real users has half as many.
	maxSeparators = 2 << 20

	// maxText is the length of the longest name, id or group, in bytes.
	maxText = 256

	// maxEmail is the length of the longest address, in bytes: RFC 5321, section 4.5.3.1.3, without the brackets.
	maxEmail = 254
)

const hashPassword = "run `caddy-mfa mfa hash-password` and write down what it prints"

// phone is a number as in E.164: at most 15 digits, of which the first ones are the country's.
var phone = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// fields of a user, in the order in which they are told.
var fields = []string{"display_name", "email", "phone", "language", "password", "id", "groups", "roles", "guest", "disabled"}

// parser reads one version of a users file.
type parser struct {
	directory string
	file      string
	data      []byte
	notes     watched.Notes

	entries []*watched.Entry
	names   map[string]*watched.Entry // by canonical name
	ids     map[string]*watched.Entry

	cheap     int // digests with a warning
	cheapLine int // of the first one
	warning   string
}

// parse reads a users file. Either there are problems or entries; with the entries there may be warnings.
func parse(directory string, texts []watched.Text) (entries []*watched.Entry, warnings, problems watched.Problems) {
	file := texts[0].Path
	p := &parser{
		directory: directory, file: file, data: texts[0].Data, notes: watched.Notes{File: file},
		names: map[string]*watched.Entry{}, ids: map[string]*watched.Entry{},
	}
	emptyLine := p.document()
	if !p.notes.Empty() {
		return nil, nil, p.notes.Problems()
	}
	if len(p.entries) == 0 {
		warnings = append(warnings, watched.Problem{File: file, Line: emptyLine, Field: "users", Message: "nobody can sign in: the list of users is empty"})
	}
	if p.cheap > 0 {
		message := fmt.Sprintf("%s (%d users have such a digest, this is the first)", p.warning, p.cheap)
		warnings = append(warnings, watched.Problem{File: file, Line: p.cheapLine, Field: "password", Message: message})
	}
	return p.entries, warnings, nil
}

func (p *parser) at(n *yaml.Node, field, format string, args ...any) {
	p.notes.Add(n.Line, n.Column, field, format, args...)
}

// document reads everything. It returns the line of `users`.
func (p *parser) document() int {
	if !p.readable() {
		return 0
	}
	root, ok := p.decode()
	if !ok {
		return 0
	}
	p.plain(root)
	if root.Kind != yaml.MappingNode {
		p.at(root, "", "the file must begin with `users:`, and hold the users below it")
		return 0
	}
	var users *yaml.Node
	p.pairs(root, "", func(key string, k, v *yaml.Node) {
		if key != "users" {
			p.at(k, "", "unknown key %s; want `users`", watched.Quote(key))
			return
		}
		users = v
	})
	switch {
	case users == nil:
		if p.notes.Empty() {
			p.at(root, "", "the key `users` is missing; a file without users holds `users: {}`")
		}
		return 0
	case absent(users):
		// A file that is being written may end here: it must not end everybody's session.
		p.at(users, "users", "nothing follows `users:`; a file without users holds `users: {}`")
	case users.Kind != yaml.MappingNode:
		p.wrongKind(users, "users", "want the users' names with their settings below, as in `users:`, `  alice:`, `    password: …`")
	default:
		p.pairs(users, "users", p.user)
	}
	return users.Line
}

// readable refuses what no YAML parser should see.
func (p *parser) readable() bool {
	if len(bytes.TrimSpace(p.data)) == 0 {
		// A file that is being written begins like this: it must not end everybody's session.
		p.notes.Add(1, 1, "", "the file is empty; a file without users holds `users: {}`")
		return false
	}
	if len(p.data) > watched.MaxSize {
		p.notes.Add(0, 0, "", "%s", watched.TooLarge)
		return false
	}
	separators, line := 0, 1
	for rest := p.data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			p.notes.Add(line, 1, "", "the text is not UTF-8")
			return false
		case r == '\n':
			line++
			separators++
		case r == ',' || r == ':' || r == '[' || r == '{' || r == '-' || r == '?':
			separators++
		case r == '\r' && bytes.HasPrefix(rest, []byte("\r\n")):
		case unicode.IsControl(r) && r != '\t', r == '\u2028', r == '\u2029':
			// YAML takes some of them for line breaks, and editors others: then lines have two numbers.
			p.notes.Add(line, 1, "", "there is a control character (%U); take it out", r)
			return false
		}
		rest = rest[size:]
	}
	if separators > maxSeparators {
		p.notes.Add(0, 0, "", "the file holds too many values; split it into several directories")
		return false
	}
	return true
}

var syntaxError = regexp.MustCompile(`(?s)^yaml: (?:line ([0-9]+): )?(.*)$`)

// decode makes nodes of the file, which has to be one document.
func (p *parser) decode() (root *yaml.Node, ok bool) {
	defer func() {
		// The parser panics where it finds itself wrong. The process holds the sessions of everybody, and this
		// is about a file that may have been written halfway.
		if r := recover(); r != nil {
			p.notes.Add(0, 0, "", "the YAML parser gave up; write the file in a simpler way")
			root, ok = nil, false
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(p.data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case err == io.EOF || err == nil && len(document.Content) == 0:
		p.notes.Add(1, 1, "", "the file is empty; a file without users holds `users: {}`")
		return nil, false
	case err != nil:
		p.syntax(err)
		return nil, false
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		p.at(&second, "", "a second document begins here; want one, without `---` between users")
		return nil, false
	case err != io.EOF:
		p.syntax(err)
		return nil, false
	}
	return document.Content[0], true
}

func (p *parser) syntax(err error) {
	parts := syntaxError.FindStringSubmatch(err.Error())
	if parts == nil {
		p.notes.Add(0, 0, "", "the file is not YAML")
		return
	}
	if anchor, found := strings.CutPrefix(parts[2], "unknown anchor '"); found {
		anchor, _, _ = strings.Cut(anchor, "'")
		before, _, _ := bytes.Cut(p.data, []byte("*"+anchor))
		p.notes.Add(1+bytes.Count(before, []byte("\n")), 1, "", "%s", noAliases)
		return
	}
	line, _ := strconv.Atoi(parts[1])
	p.notes.Add(max(line, 1), 1, "", "the file is not YAML around here: %s", parts[2])
}

const noAliases = "YAML anchors (&), aliases (*) and merge keys (<<) are not understood here; write the value out"

// plain refuses what makes one text of a file stand for another, wherever it is.
func (p *parser) plain(n *yaml.Node) {
	switch {
	case n.Kind == yaml.AliasNode, n.Anchor != "", n.Tag == "!!merge":
		p.at(n, "", noAliases)
	case n.Style&yaml.TaggedStyle != 0:
		p.at(n, "", "YAML tags (%s) are not understood here; take it out", watched.Quote(n.Tag))
	}
	if n.Kind != yaml.AliasNode {
		for _, child := range n.Content {
			p.plain(child)
		}
	}
}

// pairs calls f for the keys of a mapping, each once.
func (p *parser) pairs(n *yaml.Node, field string, f func(key string, k, v *yaml.Node)) {
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind == yaml.AliasNode || k.Tag == "!!merge":
		case k.Kind != yaml.ScalarNode:
			p.at(k, field, "a key must be a text")
		case lines[k.Value] != 0:
			p.at(k, field, "%s is here a second time; it was in line %d before", watched.Quote(k.Value), lines[k.Value])
		default:
			lines[k.Value] = k.Line
			f(k.Value, k, v)
		}
	}
}

func (p *parser) user(name string, k, v *yaml.Node) {
	field := "users." + watched.Short(name)
	e := &watched.Entry{Line: k.Line, User: &mfa.User{ID: mfa.UserID{Directory: p.directory}}}
	u := e.User
	if problem := watched.SetName(u, name); problem != "" {
		p.at(k, "users", "%s", problem)
	} else if other := p.names[u.Canonical]; other != nil {
		p.at(k, "users", "%s is the same person as %s in line %d; leave one of them", watched.Quote(name), watched.Quote(other.User.Name), other.Line)
	} else {
		p.names[u.Canonical] = e
	}

	idNode, hasPassword := k, false
	switch {
	case v.Kind == yaml.AliasNode:
		return
	case absent(v):
	case v.Kind != yaml.MappingNode:
		p.wrongKind(v, field, "want the user's settings below the name, as in `password: …`")
		return
	default:
		p.pairs(v, field, func(key string, k, v *yaml.Node) {
			field := field + "." + key
			switch key {
			case "display_name":
				u.DisplayName = p.text(v, field)
			case "email":
				u.Email = p.email(v, field)
			case "phone":
				if u.Phone = p.text(v, field); u.Phone != "" && !phone.MatchString(u.Phone) {
					p.at(v, field, "%s is not a number as in E.164; want a plus, the country's code and the rest without spaces, as in +31612345678", watched.Quote(u.Phone))
				}
			case "language":
				u.Language = p.language(v, field)
			case "password":
				hasPassword = true
				p.password(e, v, field)
			case "id":
				idNode = v
				u.ID.ID = p.text(v, field)
				if v.Kind == yaml.ScalarNode && v.Value == "" {
					p.at(v, field, "the id is empty; leave the line out to take the name for it")
				}
			case "groups":
				u.Groups = p.list(v, field)
			case "roles":
				u.Roles = p.list(v, field)
			case "guest":
				u.Guest = p.boolean(v, field)
			case "disabled":
				u.Disabled = p.boolean(v, field)
			default:
				p.at(k, "users."+watched.Short(name), "unknown key %s; want one of %s", watched.Quote(key), strings.Join(fields, ", "))
			}
		})
	}
	if !hasPassword {
		p.at(k, field, "there is no password; %s", hashPassword)
	}
	if problem := watched.CheckID(u.ID); problem != "" {
		p.at(idNode, field, "%s; give the user a shorter `id`", problem)
	}
	if id := u.ID.ID; id != "" {
		if other := p.ids[id]; other != nil {
			p.at(idNode, field, "the id %s is that of %s in line %d; an id belongs to one person for ever", watched.Quote(id), watched.Quote(other.User.Name), other.Line)
		} else {
			p.ids[id] = e
		}
	}
	p.entries = append(p.entries, e)
}

// absent says whether a value is left out behind its key.
func absent(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style == 0 && n.Value == ""
}

// text takes a scalar as it was written: a user may be called no, or 007.
func (p *parser) text(n *yaml.Node, field string) string {
	if n.Kind != yaml.ScalarNode {
		p.wrongKind(n, field, "want a text")
		return ""
	}
	if !p.clean(n, field) {
		return ""
	}
	return n.Value
}

// clean says whether a text can be written into a header, a log and a page, and complains if it can't.
func (p *parser) clean(n *yaml.Node, field string) bool {
	switch {
	case strings.ContainsFunc(n.Value, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }):
		p.at(n, field, "it holds a line break or another control character; write it in one line")
	case len(n.Value) > maxText:
		p.at(n, field, "it is longer than %d bytes", maxText)
	case strings.TrimSpace(n.Value) != n.Value:
		p.at(n, field, "there is white space around it; take it out")
	default:
		return true
	}
	return false
}

func (p *parser) email(n *yaml.Node, field string) string {
	text := p.text(n, field)
	if text == "" {
		return ""
	}
	address, err := mail.ParseAddress(text)
	if err != nil || address.Name != "" || address.Address != text || len(text) > maxEmail {
		p.at(n, field, "%s is not an e-mail address; want it alone, as in alice@example.com", watched.Quote(text))
		return ""
	}
	return text
}

func (p *parser) language(n *yaml.Node, field string) string {
	text := p.text(n, field)
	if text == "" {
		return ""
	}
	tag, err := language.Parse(text)
	if err != nil || tag == language.Und {
		p.at(n, field, "%s is not a language; want its tag, as in en, nl or pt-BR", watched.Quote(text))
		return ""
	}
	return tag.String()
}

// password never quotes what it was given: somebody may have written a password where its digest belongs.
func (p *parser) password(e *watched.Entry, n *yaml.Node, field string) {
	if n.Kind != yaml.ScalarNode {
		p.wrongKind(n, field, "want a digest; "+hashPassword)
		return
	}
	d, err := password.Parse(n.Value)
	if err != nil {
		p.at(n, field, "%v", err)
		return
	}
	e.Digest = d
	if w := d.Warning(); w != "" {
		if p.cheap == 0 {
			p.cheapLine, p.warning = n.Line, w
		}
		p.cheap++
	}
}

func (p *parser) list(n *yaml.Node, field string) []string {
	if absent(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		p.wrongKind(n, field, "want a list, as in [staff, hr]")
		return nil
	}
	var all []string
	lines := make(map[string]int, len(n.Content))
	for _, item := range n.Content {
		switch {
		case item.Kind != yaml.ScalarNode:
			p.wrongKind(item, field, "want a name")
		case item.Value == "":
			p.at(item, field, "a name is empty; take it out")
		case !p.clean(item, field):
		case lines[item.Value] != 0:
			p.at(item, field, "%s is in the list twice", watched.Quote(item.Value))
		default:
			lines[item.Value] = item.Line
			all = append(all, item.Value)
		}
	}
	return all
}

func (p *parser) boolean(n *yaml.Node, field string) bool {
	if n.Kind == yaml.ScalarNode && n.Style&^yaml.TaggedStyle == 0 && (n.Value == "true" || n.Value == "false") {
		return n.Value == "true"
	}
	p.wrongKind(n, field, "want true or false, without quotes")
	// What was meant is not known. It makes no difference: the file is refused.
	return false
}

// wrongKind complains about a node of another kind than is wanted. It doesn't quote it: it may be a secret in the
// wrong place.
func (p *parser) wrongKind(n *yaml.Node, field, want string) {
	switch n.Kind {
	case yaml.AliasNode: // told already
	case yaml.MappingNode:
		p.at(n, field, "there are keys with values; %s", want)
	case yaml.SequenceNode:
		p.at(n, field, "there is a list; %s", want)
	default:
		p.at(n, field, "%s", want)
	}
}
