package config

import (
	"strings"
	"testing"
	"time"
)

func TestLifetimesOfAppPasswords(t *testing.T) {
	const day = Duration(24 * time.Hour)
	var a AppPasswords
	a.SetDefaults()
	if a.Lifetime != 90*day || a.MaxLifetime != 365*day {
		t.Errorf("%+v", a)
	}
	a = AppPasswords{MaxLifetime: 30 * day}
	a.SetDefaults()
	if a.Lifetime != 30*day {
		t.Errorf("with a shorter maximum they last %v", a.Lifetime)
	}
	for name, c := range map[string]struct {
		a    AppPasswords
		want string
	}{
		"nothing is said":         {AppPasswords{}, ""},
		"a maximum alone":         {AppPasswords{MaxLifetime: 30 * day}, ""},
		"what they outlive":       {AppPasswords{Outlive: []string{"password_change", "disabling"}}, ""},
		"longer than the maximum": {AppPasswords{Lifetime: 31 * day, MaxLifetime: 30 * day}, "longer (31d) than they can (30d)"},
		"longer than the default": {AppPasswords{Lifetime: 366 * day}, "write a longer `max_lifetime`"},
		"no end":                  {AppPasswords{MaxLifetime: 3651 * day}, "from 1d to 3650d, not 3651d"},
		"of no use":               {AppPasswords{MaxLifetime: 1}, "from 1d to 3650d"},
		"shorter than an hour":    {AppPasswords{Lifetime: Duration(time.Minute)}, "at least 1h, not 1m"},
		"what nobody knows":       {AppPasswords{Outlive: []string{"reset"}}, "want `password_change` or `disabling`"},
		"twice":                   {AppPasswords{Outlive: []string{"disabling", "disabling"}}, "twice"},
	} {
		var ps Problems
		c.a.validate(&ps)
		if got := ps.Error(); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestADirectoryCanNotBeCalledAsServicesAre(t *testing.T) {
	for _, name := range []string{"service", "nobody"} {
		c := Config{Users: []Directory{{File: &FileDirectory{Path: "users.yaml", Name: name}}}}
		if err := c.Validate().Err(); err == nil || !strings.Contains(err.Error(), "users[0].file.name") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
