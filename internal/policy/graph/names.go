package graph

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// Kind is what an id names.
type Kind string

// The kinds, as they stand before a name in the mapping file.
const (
	User         Kind = "user"
	Group        Kind = "group"
	Role         Kind = "role"
	Application  Kind = "application"
	Location     Kind = "location"
	Terms        Kind = "terms"
	AuthStrength Kind = "strength"
)

// Kinds lists every kind.
var Kinds = []Kind{User, Group, Role, Application, Location, Terms, AuthStrength}

// Names gives names to Entra's ids. The nil Names has none.
type Names struct {
	entries map[string]entry // by id, in lower case
}

type entry struct {
	kind Kind
	name string
}

// maxNames bounds the mapping file.
const maxNames = MaxSize

// ParseNames reads a mapping file, which is YAML:
//
//	8e75af29-5176-4372-a718-724b8a4620dc: group:Finance
//	"<AdministratorGroup>": group:Administrators
//	Office365: application:files
//
// All mistakes are told at once, each with its line.
func ParseNames(data []byte) (*Names, error) {
	n := &Names{entries: map[string]entry{}}
	if len(data) > maxNames {
		return nil, fmt.Errorf("larger than %d MiB", maxNames>>20)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case err != nil && err.Error() == "EOF": // io is for others
		return n, nil
	case err != nil:
		return nil, fmt.Errorf("not YAML: %w", err)
	}
	if err := decoder.Decode(new(yaml.Node)); err == nil || err.Error() != "EOF" {
		return nil, errors.New("more than one document; one mapping is wanted")
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return n, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: a mapping of ids to names is wanted, as in `%s`", root.Line, example)
	}
	var errs []error
	lines := map[string]int{}
	for i := 0; i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		id := strings.ToLower(strings.TrimSpace(key.Value))
		e, err := parseEntry(key, value)
		switch first, again := lines[id]; {
		case err != nil:
			errs = append(errs, fmt.Errorf("line %d: %w", key.Line, err))
		case again:
			errs = append(errs, fmt.Errorf("line %d: %s has a name already, in line %d", key.Line, key.Value, first))
		default:
			lines[id], n.entries[id] = key.Line, e
		}
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	return n, nil
}

const example = "62e90394-69f5-4237-9190-012177145e10: role:Global Administrator"

func parseEntry(key, value *yaml.Node) (entry, error) {
	for _, node := range []*yaml.Node{key, value} {
		if node.Anchor != "" || node.Kind == yaml.AliasNode {
			return entry{}, errors.New("anchors and aliases are not understood here")
		}
	}
	if key.Kind != yaml.ScalarNode || strings.TrimSpace(key.Value) == "" {
		return entry{}, errors.New("an id is wanted before the colon")
	}
	if value.Kind != yaml.ScalarNode {
		return entry{}, fmt.Errorf("%s: one name is wanted, as in `%s`", key.Value, example)
	}
	kind, name, ok := qualified(value.Value)
	if !ok {
		return entry{}, fmt.Errorf("%s: %q says not what it names; one of %s is wanted before the name, as in `%s`", key.Value, value.Value, kinds(), example)
	}
	if name = strings.TrimSpace(name); name == "" {
		return entry{}, fmt.Errorf("%s: no name follows %q", key.Value, kind+":")
	}
	return entry{kind, name}, nil
}

func kinds() string {
	all := make([]string, len(Kinds))
	for i, k := range Kinds {
		all[i] = string(k) + ":"
	}
	return strings.Join(all, ", ")
}

// qualified cuts a name that says what it names, as in group:Finance.
func qualified(s string) (Kind, string, bool) {
	before, name, ok := strings.Cut(s, ":")
	if !ok || !slices.Contains(Kinds, Kind(before)) {
		return "", "", false
	}
	return Kind(before), name, true
}

// strengths are the authentication strengths that every tenant has, by id. Names are Graph's displayName.
var strengths = map[string]string{
	"00000000-0000-0000-0000-000000000002": policy.MFAStrength,
	"00000000-0000-0000-0000-000000000003": policy.PasswordlessStrength,
	"00000000-0000-0000-0000-000000000004": policy.PhishingResistantStrength,
}

// builtIn are what every tenant has, and what means the same here.
var builtIn = map[Kind]map[string]string{Role: roles, AuthStrength: strengths}

// suites are words for applications of Microsoft's, which stand where an id of an application does. No application here is
// called so by accident; an operator says which of his they are.
var suites = []string{"office365", "microsoftadminportals", "allagentidresources"}

var (
	guid        = regexp.MustCompile(`^(?i)\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?$`)
	placeholder = regexp.MustCompile(`^(<.*>|[$#]?\{.*\}#?|\$?\(.*\)|\[.*\]|%.*%|__.*__)$`) // of a template that somebody publishes
)

// isName says whether a text can be a name as it stands.
func isName(kind Kind, s string) bool {
	return s != "" && !guid.MatchString(s) && !placeholder.MatchString(s) && !(kind == Application && slices.Contains(suites, strings.ToLower(s)))
}

// errWrongKind says that the mapping gives an id a name for something else.
func errWrongKind(path, id string, has, want Kind) error {
	return fmt.Errorf("%s: %s names a %s in the mapping, and a %s is wanted here", path, id, has, want)
}

// resolve gives the name of an id. There is none with ok false, and an error if the mapping has one for another kind of thing.
func (n *Names) resolve(path string, kind Kind, id string) (name string, ok bool, err error) {
	if n != nil {
		if e, mapped := n.entries[strings.ToLower(id)]; mapped {
			if e.kind != kind {
				return "", false, errWrongKind(path, id, e.kind, kind)
			}
			return e.name, true, nil
		}
	}
	if k, name, ok := qualified(id); ok {
		if k != kind {
			return "", false, errWrongKind(path, id, k, kind)
		}
		return name, name != "", nil
	}
	if name, ok := builtIn[kind][strings.ToLower(id)]; ok {
		return name, true, nil
	}
	return id, isName(kind, id), nil
}

// written is how a name stands in Graph's form, so that it is read as the same name: as it is, or with its kind where it looks
// like an id or a word that has a meaning there.
func written(kind Kind, name string, words ...string) string {
	_, _, isQualified := qualified(name)
	isWord := slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, name) })
	if isQualified || isWord || !isName(kind, name) {
		return string(kind) + ":" + name
	}
	return name
}
