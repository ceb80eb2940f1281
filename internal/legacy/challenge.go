package legacy

import (
	"net/http"
	"strings"
)

// RemoveChallenges takes the challenges that invite legacy authentication out of an application's answer, but those that keep
// wants; nil wants none. A field value can hold several challenges (RFC 9110, section 11.6.1); one that holds such a challenge
// goes as a whole. Negotiate, which may become NTLM or Kerberos, stays where one of them is wanted.
func RemoveChallenges(h http.Header, keep func(Class) bool) {
	values := h["Www-Authenticate"]
	if len(values) == 0 {
		return
	}
	kept := values[:0:0]
	for _, v := range values {
		if !invites(v, keep) {
			kept = append(kept, v)
		}
	}
	if len(kept) == 0 {
		delete(h, "Www-Authenticate")
		return
	}
	h["Www-Authenticate"] = kept
}

// invites looks for an unwanted scheme at the beginning of the value and behind each comma outside of a quoted string.
func invites(value string, keep func(Class) bool) bool {
	quoted, escaped, begin := false, false, true
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case quoted && escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ',':
			begin = true
		case begin && c != ' ' && c != '\t':
			begin = false
			end := i
			for end < len(value) && strings.IndexByte(" \t,=", value[end]) < 0 {
				end++
			}
			if (end == len(value) || value[end] != '=') && unwanted(value[i:end], keep) {
				return true
			}
		}
	}
	return false
}

// unwanted says whether a challenge of this scheme would make a client send a legacy credential that nobody wants here.
func unwanted(name string, keep func(Class) bool) bool {
	var invited []Class
	switch class, _ := scheme(name); class {
	case Basic, Digest, NTLM:
		invited = []Class{class}
	case Kerberos:
		invited = []Class{Kerberos, NTLM}
	}
	for _, class := range invited {
		if keep != nil && keep(class) {
			return false
		}
	}
	return len(invited) > 0
}
