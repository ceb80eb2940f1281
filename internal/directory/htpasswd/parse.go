package htpasswd

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// maxLine is the length of the longest line, in bytes, in a file of groups too.
const maxLine = 64 << 10

// parser reads one version of an htpasswd file.
type parser struct {
	directory string
	path      string
	weakUntil time.Time
	notes     watched.Notes

	entries []*watched.Entry
	names   map[string]*watched.Entry // by canonical name

	cheap, weak counted
}

// counted are the users of whom there is one warning.
type counted struct {
	users int
	line  int // of the first one
	text  string
}

func (c *counted) add(line int, text string) {
	if c.users++; c.users == 1 {
		c.line, c.text = line, text
	}
}

// parse reads an htpasswd file, and the file of groups if there is one. Either there are problems or entries; with the entries there
// may be warnings.
func parse(directory string, texts []watched.Text, weakUntil time.Time) (entries []*watched.Entry, warnings, problems watched.Problems) {
	users := texts[0]
	p := &parser{
		directory: directory, path: users.Path, weakUntil: weakUntil, notes: watched.Notes{File: users.Path}, names: map[string]*watched.Entry{},
	}
	if len(bytes.TrimSpace(users.Data)) == 0 {
		// A file that is being written begins like this: it must not end everybody's session.
		p.notes.Add(1, 1, "", "the file is empty; a file without users holds a comment, for example `# nobody`")
	}
	lines(users.Data, &p.notes, p.line)
	if p.notes.Empty() && len(p.entries) == 0 {
		warnings = append(warnings, watched.Problem{File: users.Path, Message: "nobody can sign in: there are no users in the file"})
	}
	for _, c := range []counted{p.weak, p.cheap} {
		if c.users > 0 {
			message := fmt.Sprintf("%s (%d users have such a digest, this is the first)", c.text, c.users)
			warnings = append(warnings, watched.Problem{File: users.Path, Line: c.line, Message: message})
		}
	}
	problems = p.notes.Problems()
	if len(texts) > 1 {
		more, wrong := groups(texts[1], p.names)
		warnings, problems = append(warnings, more...), append(problems, wrong...)
	}
	if len(problems) > 0 {
		return nil, nil, problems
	}
	return p.entries, warnings, nil
}

// lines calls f for every line that is no comment and not empty, without white space around it.
func lines(data []byte, notes *watched.Notes, f func(number int, line string)) {
	number := 0
	for raw := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		number++
		line := strings.Trim(raw, " \t\r\n")
		switch i := strings.IndexFunc(line, forbidden); {
		case line == "" || line[0] == '#':
		case len(line) > maxLine:
			notes.Add(number, 1, "", "the line is longer than %d bytes", maxLine)
		case !utf8.ValidString(line):
			notes.Add(number, 1, "", "the text is not UTF-8")
		case i >= 0:
			r, _ := utf8.DecodeRuneInString(line[i:])
			notes.Add(number, 1, "", "there is a control character (%U); take it out", r)
		default:
			f(number, line)
		}
	}
}

func forbidden(r rune) bool {
	return unicode.IsControl(r) && r != '\t' || r == '\u2028' || r == '\u2029'
}

// digestLine is what htdigest writes behind the name.
var digestLine = regexp.MustCompile(`^[^:]*:[0-9a-f]{32}$`)

// line reads one user. It never quotes what is behind the name: somebody may have written a password there, nor a line without colon.
func (p *parser) line(number int, line string) {
	name, rest, found := strings.Cut(line, ":")
	if !found {
		p.notes.Add(number, 1, "", "there is no colon; want a line as in alice:$2y$12$…")
		return
	}
	e := &watched.Entry{Line: number, User: &mfa.User{ID: mfa.UserID{Directory: p.directory}}}
	if problem := watched.SetName(e.User, name); problem != "" {
		p.notes.Add(number, 1, "", "%s", problem)
	} else if other := p.names[e.User.Canonical]; other != nil {
		p.notes.Add(number, 1, "", "%s is the same person as %s in line %d; leave one of them", watched.Quote(name), watched.Quote(other.User.Name), other.Line)
	} else if problem := watched.CheckID(e.User.ID); problem != "" {
		p.notes.Add(number, 1, watched.Short(name), "%s; give the user a shorter name", problem)
	} else {
		p.names[e.User.Canonical] = e
		p.entries = append(p.entries, e)
	}
	if digestLine.MatchString(rest) {
		p.notes.Add(number, 2, watched.Short(name), "it is a line of htdigest, of which no password can be checked here; %s", p.remedy(name))
		return
	}
	encoded, _, _ := strings.Cut(rest, ":")
	p.digest(e, name, encoded)
}

func (p *parser) digest(e *watched.Entry, name, encoded string) {
	d, err := password.Parse(encoded)
	if err != nil && !p.weakUntil.IsZero() && isWeak(encoded) {
		d, err = password.ParseWeak(encoded)
		e.Until = p.weakUntil
	}
	switch {
	case strings.HasPrefix(encoded, "!"), strings.HasPrefix(encoded, "*"):
		p.notes.Add(e.Line, 2, watched.Short(name), "it is the mark of a locked account; take the line out, and nobody of that name can sign in")
	case err != nil && isWeak(encoded) && p.weakUntil.IsZero():
		p.notes.Add(e.Line, 2, watched.Short(name), "%s, which is guessed in no time; %s; `weak_hashes until <day>` accepts it for a time", password.Reason(err), p.remedy(name))
	case err != nil && des.MatchString(encoded):
		p.notes.Add(e.Line, 2, watched.Short(name), "it is crypt, or plain text; %s", p.remedy(name))
	case err != nil:
		p.notes.Add(e.Line, 2, watched.Short(name), "%s; %s", password.Reason(err), p.remedy(name))
	case !e.Until.IsZero():
		p.weak.add(e.Line, fmt.Sprintf("%s is guessed in no time, and is wrong for everybody from %s on; %s", d, p.weakUntil.Format(time.DateOnly), p.remedy(name)))
	case d.Warning() != "":
		p.cheap.add(e.Line, fmt.Sprintf("%s is guessed too fast; %s", d, p.remedy(name)))
	}
	e.Digest = d
}

// isWeak says whether ParseWeak may know the digest.
func isWeak(encoded string) bool {
	return strings.HasPrefix(encoded, "$apr1$") || strings.HasPrefix(encoded, "{SHA}")
}

// des is what crypt has made since 1979: two characters of salt and eleven of key.
var des = regexp.MustCompile(`^[./0-9A-Za-z]{13}$`)

// plainWord is what a shell takes for what it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9/._@][A-Za-z0-9/._@-]*$`)

// remedy says which command replaces a line. One of cost 12 takes a fifth of a second.
func (p *parser) remedy(name string) string {
	path := p.path
	if !plainWord.MatchString(path) {
		path = "<file>"
	}
	if !plainWord.MatchString(name) || len(name) > 40 {
		name = "<user>"
	}
	return fmt.Sprintf("run `htpasswd -B -C 12 %s %s`, or put what `caddy-mfa mfa hash-password --htpasswd %s` prints in place of the line", path, name, name)
}
