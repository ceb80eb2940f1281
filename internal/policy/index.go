package policy

import (
	"strings"
	"unicode/utf8"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// bitset is a set of policies, by their place.
type bitset []uint64

func (b bitset) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

func (b bitset) add(other bitset) {
	for i := range other {
		b[i] |= other[i]
	}
}

// index finds the policies that include or exclude somebody or something. So a decision costs what concerns it, and not what
// other people's policies name.
type index map[string]*selection

type selection struct{ include, exclude bitset }

func (x index) entry(key string, words int) *selection {
	s := x[key]
	if s == nil {
		s = &selection{make(bitset, words), make(bitset, words)}
		x[key] = s
	}
	return s
}

// Keys of an index. Names of groups and roles are compared without regard to case, as directories do; user names are canonical.
const (
	everyKey    = "*"
	guestKey    = "guest"
	userPrefix  = "u:"
	groupPrefix = "g:"
	rolePrefix  = "r:"
	appPrefix   = "a:"
	actionKey   = "action:"
)

func targetKey(application string, action UserAction) string {
	switch {
	case action != "":
		return actionKey + string(action)
	case application == All:
		return everyKey
	}
	return appPrefix + application
}

// collect adds what an entry says, and is quick where there is none.
func (x index) collect(prefix, name string, include, exclude bitset) {
	// The buffer stays on the stack, and a look-up by its text makes no copy.
	var buffer [96]byte
	x.add(append(append(buffer[:0], prefix...), name...), include, exclude)
}

// collectFolded is collect for names that are compared without regard to case.
func (x index) collectFolded(prefix, name string, include, exclude bitset) {
	var buffer [96]byte
	key := append(buffer[:0], prefix...)
	for i := range len(name) {
		c := name[i]
		if c >= utf8.RuneSelf {
			x.collect(prefix, fold(name), include, exclude)
			return
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		key = append(key, c)
	}
	x.add(key, include, exclude)
}

func (x index) add(key []byte, include, exclude bitset) {
	if s := x[string(key)]; s != nil {
		include.add(s.include)
		exclude.add(s.exclude)
	}
}

// selectUser gives the policies that include the user, and those that exclude him.
func (s *Set) selectUser(u *mfa.User, include, exclude bitset) {
	s.users.collect(everyKey, "", include, exclude)
	s.users.collect(userPrefix, u.Canonical, include, exclude)
	if u.Guest {
		s.users.collect(guestKey, "", include, exclude)
	}
	for _, g := range u.Groups {
		s.users.collectFolded(groupPrefix, g, include, exclude)
	}
	for _, r := range u.Roles {
		s.users.collectFolded(rolePrefix, r, include, exclude)
	}
}

// selectTarget does the same for what is entered or begun.
func (s *Set) selectTarget(f *Facts, include, exclude bitset) {
	if f.UserAction != "" {
		s.target.collect(actionKey, string(f.UserAction), include, exclude)
		return
	}
	s.target.collect(everyKey, "", include, exclude)
	if f.Application != "" {
		s.target.collect(appPrefix, f.Application, include, exclude)
	}
}

// fold writes a name in the form in which it is compared.
func fold(name string) string { return strings.ToLower(name) }
