package config

import (
	"strings"
	"testing"
)

func TestUpstreamBasicIsAReference(t *testing.T) {
	for _, text := range []string{"{file./run/secrets/hr}", "{env.HR}", "svc-hr:{env.HR_PASSWORD}", "{env.HR_USER}:{env.HR_PASSWORD}", "per_user"} {
		a := Application{UpstreamBasic: text}
		if err := a.Validate().Err(); err != nil {
			t.Errorf("%q is refused: %v", text, err)
		}
	}
	for reason, text := range map[string]string{
		"a secret":                           "svc-hr:hunter2",
		"a password without a name":          "hunter2",
		"a password behind a reference":      "{env.HR_USER}:hunter2",
		"a password before a reference":      "svc-hr:hunter2{env.X}",
		"a password behind a whole":          "{env.HR}hunter2",
		"what a client sends":                "{http.request.header.X-Login}",
		"what a client sends, as the name":   "{http.auth.user.id}:{env.X}",
		"a placeholder that is replaced now": "{$HR}",
		"no name":                            ":{env.X}",
		"two colons":                         "svc:hr:{env.X}",
		"nothing but braces":                 "{}",
	} {
		a := Application{UpstreamBasic: text}
		err := a.Validate().Err()
		if err == nil {
			t.Errorf("%s: %q is accepted", reason, text)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the secret stands in the message: %v", reason, err)
		}
	}
}

func TestWithSessionFollowsUpstreamBasic(t *testing.T) {
	for _, c := range []struct{ session, upstream, want string }{
		{"", "", WithSessionStrip}, {"", PerUser, WithSessionReplace}, {"", "{env.X}", WithSessionReplace},
		{WithSessionStrip, PerUser, WithSessionStrip}, {WithSessionPass, "{env.X}", WithSessionPass}, {WithSessionPass, "", WithSessionPass},
	} {
		a := Application{WithSession: c.session, UpstreamBasic: c.upstream}
		if err := a.Validate().Err(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if a.SetDefaults(); a.WithSession != c.want {
			t.Errorf("%+v: %q", c, a.WithSession)
		}
	}
	for reason, a := range map[string]Application{
		"nothing to replace with": {WithSession: WithSessionReplace},
		"an unknown word":         {WithSession: "forward"},
		"another case":            {WithSession: "Strip"},
	} {
		if a.Validate().Err() == nil {
			t.Errorf("%s is accepted", reason)
		}
	}
}
