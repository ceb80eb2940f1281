package graph

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"
)

func inUTF16(text string, order binary.AppendByteOrder, mark bool) []byte {
	var out []byte
	if mark {
		out = order.AppendUint16(out, 0xfeff)
	}
	for _, unit := range utf16.Encode([]rune(text)) {
		out = order.AppendUint16(out, unit)
	}
	return out
}

func TestTextAsToolsWriteIt(t *testing.T) {
	data := string(change(t, "displayName", `"Ünïcode 🔑"`))
	_, want := judged(t, []byte(data), nil, Options{})
	if want.Policies[0].Name != "Ünïcode 🔑" {
		t.Fatalf("%q", want.Policies[0].Name)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(data), "", "\t"); err != nil {
		t.Fatal(err)
	}
	for name, encoded := range map[string][]byte{
		"UTF-8 with a mark":     []byte("\ufeff" + data),
		"UTF-16 LE with a mark": inUTF16(data, binary.LittleEndian, true),
		"UTF-16 BE with a mark": inUTF16(data, binary.BigEndian, true),
		"UTF-16 LE":             inUTF16(data, binary.LittleEndian, false),
		"UTF-16 BE":             inUTF16(data, binary.BigEndian, false),
		"lines of Windows":      []byte(strings.ReplaceAll(indented.String(), "\n", "\r\n")),
	} {
		if _, r := judged(t, encoded, nil, Options{}); !reflect.DeepEqual(r.Policies, want.Policies) {
			t.Errorf("%s: %+v", name, r.Policies)
		}
	}
}

func TestWhereItIsNotJSON(t *testing.T) {
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for name, test := range map[string]struct{ data, err string }{
		"nothing":                            {"", "f:1:1: not JSON: there is nothing in it"},
		"nothing but a mark and space":       {"\xef\xbb\xbf\r\n ", "f:1:1: not JSON: there is nothing in it"},
		"an end too early":                   {"{\n  \"a\": [1", "f:2:10: not JSON: unexpected end of JSON input"},
		"a comma too many":                   {"{\r\n  \"ä\": 1,\r\n}", "f:3:1: not JSON: invalid character '}' looking for beginning of object key string"},
		"columns are characters":             {`{"ä🔑": x}`, "f:1:8: not JSON: invalid character 'x' looking for beginning of value"},
		"something behind it":                {"{}\n{}", "f:2:1: not JSON: invalid character '{' after top-level value"},
		"XML":                                {"<policy/>", "f:1:1: not JSON: invalid character '<' looking for beginning of value"},
		"Latin-1":                            {"{\"a\": \"\xe4\"}", "f:1:8: neither UTF-8 nor UTF-16"},
		"UTF-16 that ends in half":           {"\xff\xfe{\x00\n\x00}", "f:2:1: UTF-16 that ends in half a character"},
		"UTF-16 with half a pair":            {"\xff\xfe\x00\xd8", "f:1:1: UTF-16 with half of a surrogate pair"},
		"UTF-16 with half a pair inside":     {"\xff\xfe\x00\xd8{\x00", "f:1:1: UTF-16 with half of a surrogate pair"},
		"half a pair in an escape":           {`{"a": "\ud800"}`, "f:1:14: a string with half of a surrogate pair or a replacement character"},
		"half a pair in the name of a key":   {`{"a\ud800": 1}`, "f:1:10: a string with half of a surrogate pair or a replacement character"},
		"deeper than any policy":             {deep, "f:1:65: nested more than 64 deep"},
		"deeper than any reader should go":   {strings.Repeat("[", 100_000), "f:1:10001: not JSON: invalid character '[' exceeded max depth"},
		"more values than a tenant can have": {"[" + strings.Repeat("0,", 250_000) + "0]", "f:1:499998: more than 250000 values"},
		"larger than any set of policies":    {strings.Repeat(" ", MaxSize+1), "f: larger than 8 MiB, which no set of policies is"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Import([]File{{"f", []byte(test.data)}}, nil, Options{})
			if len(r.Errors) != 1 || r.Errors[0].Error() != test.err {
				t.Errorf("%v, want %s", r.Errors, test.err)
			}
			if errors.Is(r.Errors[0], ErrNoPolicy) {
				t.Error("it is taken for something that may be passed over")
			}
		})
	}
}

// pascal spells keys as PowerShell does.
func pascal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{"AdditionalProperties": map[string]any{"@odata.context": "x"}}
		for key, item := range v {
			if !annotation(key) {
				key = strings.ToUpper(key[:1]) + key[1:]
			}
			out[key] = pascal(item)
		}
		return out
	case []any:
		for i, item := range v {
			v[i] = pascal(item)
		}
	}
	return v
}

func TestKeysAsPowerShellSpellsThem(t *testing.T) {
	var p any
	if err := json.Unmarshal([]byte(whole), &p); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(pascal(p))
	if err != nil {
		t.Fatal(err)
	}
	_, want := judged(t, []byte(whole), nil, Options{})
	if v, r := judged(t, data, nil, Options{}); v.Verdict != Enforced || !reflect.DeepEqual(r.Policies, want.Policies) {
		t.Errorf("%+v", v)
	}
	both := strings.Replace(string(data), `"State":`, `"state":"disabled","State":`, 1)
	if v, _ := judged(t, []byte(both), nil, Options{}); v.Verdict != Refused || v.Parts[0] != "State: stands twice" {
		t.Errorf("with both spellings: %+v", v)
	}
}
