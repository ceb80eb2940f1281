package config

import "regexp"

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
