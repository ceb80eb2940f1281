package graph

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of one file beside MaxSize: how deep it goes, and how many values it holds.
const (
	maxDepth  = 64
	maxValues = 250_000
)

// value is a JSON value, with the members of an object in the order of the file.
type value struct {
	kind    kind
	text    string // of a string; of a number as it was written
	yes     bool
	list    []*value
	members []member
	twice   []string // keys that stand in it more than once
}

type member struct {
	key   string
	value *value
}

type kind uint8

const (
	null kind = iota
	boolean
	number
	textual
	list
	structure
)

// get gives a member of an object, nil where there is none. Of several with one key it is the last that says something. PowerShell
// writes keys in a case of its own, so that DisplayName is displayName.
func (v *value) get(key string) (found *value) {
	for _, m := range v.members {
		if strings.EqualFold(m.key, key) && (found == nil || !m.value.empty()) {
			found = m.value
		}
	}
	return found
}

// empty says whether nothing is configured: null, an empty string, list or object, an object with nothing but such. That is how
// Graph and the tools that copy from it write it.
func (v *value) empty() bool {
	if v == nil {
		return true
	}
	switch v.kind {
	case null:
		return true
	case textual:
		return v.text == ""
	case list:
		return len(v.list) == 0
	case structure:
		for _, m := range v.members {
			if !annotation(m.key) && !m.value.empty() {
				return false
			}
		}
		return true
	}
	return false
}

// annotation says whether a key speaks of the message and not of the policy: OData's control information, and the actions
// that Graph offers. OData 4.01 JSON, sections 4.5 and 4.6.
func annotation(key string) bool {
	return strings.Contains(key, "@odata.") || strings.HasPrefix(key, "#microsoft.graph.") || key == "@microsoft.graph.tips"
}

// parse reads a file.
func parse(data []byte) (*value, *FileError) {
	if len(data) > MaxSize {
		return nil, &FileError{Err: fmt.Errorf("larger than %d MiB, which no set of policies is", MaxSize>>20)}
	}
	data, err := text(data)
	if err != nil {
		return nil, errorAt(data, len(data), err)
	}
	if !utf8.Valid(data) {
		at := 0
		for at < len(data) {
			r, n := utf8.DecodeRune(data[at:])
			if r == utf8.RuneError && n <= 1 {
				break
			}
			at += n
		}
		return nil, errorAt(data, at, errors.New("neither UTF-8 nor UTF-16"))
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errorAt(data, 0, errors.New("not JSON: there is nothing in it"))
	}
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		var syntax *json.SyntaxError
		if !errors.As(err, &syntax) {
			return nil, &FileError{Err: err}
		}
		at := int(syntax.Offset)
		if at < len(data) || !strings.Contains(syntax.Error(), "unexpected end") {
			at--
		}
		return nil, errorAt(data, max(at, 0), fmt.Errorf("not JSON: %w", err))
	}
	p := &parser{data: data, decoder: json.NewDecoder(bytes.NewReader(data))}
	p.decoder.UseNumber()
	v, err := p.value(0)
	if err != nil {
		return nil, errorAt(data, p.at, err)
	}
	return v, nil
}

type parser struct {
	data    []byte
	decoder *json.Decoder
	values  int
	at      int // where the last token ended
}

func (p *parser) token() (json.Token, error) {
	t, err := p.decoder.Token()
	p.at = max(int(p.decoder.InputOffset())-1, 0)
	if s, ok := t.(string); ok && strings.ContainsRune(s, utf8.RuneError) {
		return nil, errors.New("a string with half of a surrogate pair or a replacement character")
	}
	return t, err
}

func (p *parser) value(depth int) (*value, error) {
	if p.values++; p.values > maxValues {
		return nil, fmt.Errorf("more than %d values", maxValues)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	t, err := p.token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case bool:
		return &value{kind: boolean, yes: t}, nil
	case json.Number:
		return &value{kind: number, text: t.String()}, nil
	case string:
		return &value{kind: textual, text: t}, nil
	case json.Delim:
		if t == '[' {
			return p.list(depth)
		}
		return p.object(depth)
	}
	return &value{}, nil
}

func (p *parser) list(depth int) (*value, error) {
	v := &value{kind: list}
	for p.decoder.More() {
		item, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		v.list = append(v.list, item)
	}
	_, err := p.token()
	return v, err
}

func (p *parser) object(depth int) (*value, error) {
	v := &value{kind: structure}
	seen := map[string]bool{}
	for p.decoder.More() {
		t, err := p.token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string) // an object has strings for keys: it was checked
		folded := strings.ToLower(key)
		if seen[folded] {
			v.twice = append(v.twice, key)
		}
		seen[folded] = true
		item, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		v.members = append(v.members, member{key, item})
	}
	_, err := p.token()
	return v, err
}

// errorAt says where an error is: line and column count from one, the column in characters.
func errorAt(data []byte, at int, err error) *FileError {
	before := data[:min(at, len(data))]
	line := bytes.LastIndexByte(before, '\n') + 1
	return &FileError{Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[line:]) + 1, Err: err}
}
