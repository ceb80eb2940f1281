package config

import (
	"errors"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// secretReference is a secret that stands elsewhere, alone or behind a user name and a colon. Written out it would show in the
// running configuration.
var secretReference = regexp.MustCompile(`^(([^{}:]+|\{(file|env)\.[^{}]+\}):)?\{(file|env)\.[^{}]+\}$`)

func (a *Application) validateUpstream(ps *Problems) {
	switch u := a.UpstreamBasic; {
	case u == "" || u == PerUser || secretReference.MatchString(u):
	default:
		// What was written may be the secret itself: it is not repeated.
		ps.add("upstream_basic", "the credential must be a reference, so that it doesn't show in the running configuration; "+
			"write for example `upstream_basic {file./run/secrets/hr}` with user:password in that file, or `upstream_basic per_user`")
	}
	switch w := a.WithSession; {
	case w == WithSessionReplace && a.UpstreamBasic == "":
		ps.add("with_session", "there is nothing to replace a credential with; add `upstream_basic`")
	case w != "" && w != WithSessionStrip && w != WithSessionPass && w != WithSessionReplace:
		ps.add("with_session", "%q is none of the ways; want `strip`, `pass` or `replace`", w)
	}
}

// MaxUpstreamCredential is the length of the longest credential of an application, user:password, in bytes.
const MaxUpstreamCredential = 1024

// SplitCredential takes user and password apart, as they are sent with HTTP Basic (RFC 7617, section 2). The error says what is
// wrong, and nothing of what they are.
func SplitCredential(text string) (user, password string, err error) {
	user, password, ok := strings.Cut(text, ":")
	if !ok {
		return "", "", errors.New("there is no colon in it; want user:password")
	}
	return user, password, CheckCredential(user, password)
}

// CheckCredential says whether user and password can be sent with HTTP Basic. The error says nothing of what they are.
func CheckCredential(user, password string) error {
	switch {
	case user == "":
		return errors.New("the user name is empty")
	case strings.Contains(user, ":"):
		return errors.New("the user name has a colon in it, which HTTP Basic can't send")
	case password == "":
		return errors.New("the password is empty")
	case len(user)+1+len(password) > MaxUpstreamCredential:
		return errors.New("it is too long; at most 1024 bytes can be sent")
	case !utf8.ValidString(user + password):
		return errors.New("it is not UTF-8")
	case strings.ContainsFunc(user+password, unicode.IsControl):
		return errors.New("it has a control character or a line break in it")
	}
	return nil
}
