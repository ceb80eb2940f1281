package graph

import (
	"fmt"
	"strings"
)

// object reads a JSON object by its keys. In the end, rest refuses the keys that nobody has asked for.
type object struct {
	j     *judge
	path  string
	value *value          // nil where there is none
	taken map[string]bool // keys in lower case
}

// object begins to read an object. What is null is one without keys; what is something else is refused, and so is a key that stands
// twice: which of the two counts depends on who reads it.
func (j *judge) object(path string, v *value) *object {
	if v != nil && v.kind != structure {
		if !v.empty() {
			j.refuseUnknown(path, "not an object")
		}
		v = nil
	}
	o := &object{j, path, v, map[string]bool{}}
	if v != nil {
		for _, key := range v.twice {
			j.refuseUnknown(o.at(key), "stands twice")
		}
	}
	return o
}

// empty says whether nothing is configured in it.
func (o *object) empty() bool { return o.value.empty() }

func (o *object) at(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

// take marks keys as known, whatever stands there.
func (o *object) take(keys ...string) {
	for _, key := range keys {
		o.taken[strings.ToLower(key)] = true
	}
}

// one gives what stands at a key; nil where there is nothing.
func (o *object) one(key string) *value {
	o.take(key)
	if o.value == nil {
		return nil
	}
	return o.value.get(key)
}

func (o *object) object(key string) *object { return o.j.object(o.at(key), o.one(key)) }

// text gives a string, empty for null.
func (o *object) text(key string) string {
	v := o.one(key)
	if v.empty() {
		return ""
	}
	if v.kind != textual {
		o.j.refuseUnknown(o.at(key), "not a string")
		return ""
	}
	return v.text
}

// texts gives a list of strings, empty for null.
func (o *object) texts(key string) []string {
	v := o.one(key)
	if v.empty() {
		return nil
	}
	if v.kind != list {
		o.j.refuseUnknown(o.at(key), "not a list")
		return nil
	}
	var all []string
	for i, item := range v.list {
		if item.kind != textual || item.text == "" {
			o.j.refuseUnknown(fmt.Sprintf("%s[%d]", o.at(key), i), "not a string")
			continue
		}
		all = append(all, item.text)
	}
	return all
}

// flags gives the words of one string with commas between them, or of a list.
func (o *object) flags(key string) []string {
	if v := o.one(key); !v.empty() && v.kind == list {
		return o.texts(key)
	}
	var all []string
	for word := range strings.SplitSeq(o.text(key), ",") {
		if word = strings.TrimSpace(word); word != "" && !strings.EqualFold(word, "none") {
			all = append(all, word)
		}
	}
	return all
}

// objects gives a list of objects, empty for null.
func (o *object) objects(key string) []*object {
	v := o.one(key)
	if v.empty() {
		return nil
	}
	if v.kind != list {
		o.j.refuseUnknown(o.at(key), "not a list")
		return nil
	}
	var all []*object
	for i, item := range v.list {
		all = append(all, o.j.object(fmt.Sprintf("%s[%d]", o.at(key), i), item))
	}
	return all
}

// truth gives a boolean, and whether there is one.
func (o *object) truth(key string) (yes, set bool) {
	v := o.one(key)
	if v.empty() {
		return false, false
	}
	if v.kind != boolean {
		o.j.refuseUnknown(o.at(key), "neither true nor false")
		return false, false
	}
	return v.yes, true
}

// on says whether a session control is switched on. One that says how and not whether is refused: a guess might be wrong.
func (o *object) on() bool {
	yes, set := o.truth("isEnabled")
	if !set && !o.empty() {
		o.j.refuseUnknown(o.at("isEnabled"), "neither true nor false")
	}
	return yes
}

// rest refuses every key that is not known and at which something is configured.
func (o *object) rest() {
	if o.value == nil {
		return
	}
	for _, m := range o.value.members {
		if !o.taken[strings.ToLower(m.key)] && !annotation(m.key) && !m.value.empty() {
			o.j.refuseUnknown(o.at(m.key), "")
		}
	}
}

// fold finds a word in a list, whatever its case, and gives it as the list has it; empty if it isn't there.
func fold[T ~string](words []T, s string) T {
	for _, w := range words {
		if strings.EqualFold(string(w), s) {
			return w
		}
	}
	return ""
}
