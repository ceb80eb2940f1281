package htpasswd

import (
	"fmt"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// maxGroup is the length of the longest name of a group, in bytes.
const maxGroup = 256

// groups puts users into the groups of a file. A group may have several lines.
func groups(text watched.Text, users map[string]*watched.Entry) (warnings, problems watched.Problems) {
	notes := watched.Notes{File: text.Path}
	var nobody counted
	type place struct{ group, user string }
	seen := map[place]bool{}
	lines(text.Data, &notes, func(number int, line string) {
		group, members, found := strings.Cut(line, ":")
		group = strings.TrimSpace(group)
		switch {
		case !found:
			notes.Add(number, 1, "", "there is no colon; want a line as in staff: alice bob")
			return
		case group == "":
			notes.Add(number, 1, "", "the group has no name")
			return
		case len(group) > maxGroup:
			notes.Add(number, 1, "", "the name of the group is longer than %d bytes", maxGroup)
			return
		case strings.HasSuffix(members, `\`):
			notes.Add(number, 1, watched.Short(group), "it goes on in the next line; begin that with the group, too")
			return
		case strings.ContainsAny(members, `"'`):
			notes.Add(number, 1, watched.Short(group), "there are quotes; want names with spaces between them, as in staff: alice bob")
			return
		}
		for name := range strings.FieldsSeq(members) {
			canonical, err := mfa.CanonicalName(name)
			e := users[canonical]
			if err != nil || e == nil {
				nobody.add(number, fmt.Sprintf("there is no user %s, who is in the group %s", watched.Quote(name), watched.Quote(group)))
				continue
			}
			if at := (place{group, canonical}); !seen[at] {
				seen[at] = true
				e.User.Groups = append(e.User.Groups, group)
			}
		}
	})
	if nobody.users > 0 {
		message := nobody.text
		if nobody.users > 1 {
			message += fmt.Sprintf(" (and %d more that there are not)", nobody.users-1)
		}
		warnings = append(warnings, watched.Problem{File: text.Path, Line: nobody.line, Message: message})
	}
	return warnings, notes.Problems()
}
