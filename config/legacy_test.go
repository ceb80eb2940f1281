package config

import (
	"encoding/json"
	"net/netip"
	"testing"
)

func ranges(texts ...string) (ps []netip.Prefix) {
	for _, t := range texts {
		ps = append(ps, netip.MustParsePrefix(t))
	}
	return ps
}

// TestRuleCovers says which of two rules leaves nothing for the other.
func TestRuleCovers(t *testing.T) {
	for name, c := range map[string]struct {
		wide, narrow LegacyRule
		want         bool
	}{
		"everywhere covers a range":          {LegacyRule{}, LegacyRule{From: ranges("10.0.0.0/8")}, true},
		"a range doesn't cover everywhere":   {LegacyRule{From: ranges("10.0.0.0/8")}, LegacyRule{}, false},
		"a range covers one inside":          {LegacyRule{From: ranges("10.0.0.0/8")}, LegacyRule{From: ranges("10.1.0.0/16")}, true},
		"not one around":                     {LegacyRule{From: ranges("10.1.0.0/16")}, LegacyRule{From: ranges("10.0.0.0/8")}, false},
		"one of two is outside":              {LegacyRule{From: ranges("10.0.0.0/8")}, LegacyRule{From: ranges("10.1.0.0/16", "192.0.2.0/24")}, false},
		"the other family":                   {LegacyRule{From: ranges("10.0.0.0/8")}, LegacyRule{From: ranges("2001:db8::/32")}, false},
		"a prefix covers a path below":       {LegacyRule{Paths: []string{"/dav/*"}}, LegacyRule{Paths: []string{"/dav/a", "/dav/b/*"}}, true},
		"a prefix doesn't cover its own top": {LegacyRule{Paths: []string{"/dav/*"}}, LegacyRule{Paths: []string{"/dav"}}, false},
		"nor a neighbour":                    {LegacyRule{Paths: []string{"/dav/*"}}, LegacyRule{Paths: []string{"/davfs/*"}}, false},
		"a path covers itself alone":         {LegacyRule{Paths: []string{"/dav"}}, LegacyRule{Paths: []string{"/dav/*"}}, false},
		"paths, and other addresses":         {LegacyRule{Paths: []string{"/dav/*"}, From: ranges("10.0.0.0/8")}, LegacyRule{Paths: []string{"/dav/*"}, From: ranges("192.0.2.0/24")}, false},
	} {
		if got := c.wide.covers(&c.narrow); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestExceptionKeepsItsNameWhenItIsProlonged(t *testing.T) {
	e := LegacyException{Classes: []string{"basic", "webdav"}, User: "alice", From: ranges("10.0.0.0/8"), Paths: []string{"/dav/*"}, Owner: "A", Reason: "B"}
	const want = "basic+webdav user:alice 10.0.0.0/8 /dav/*"
	if got := e.Name(); got != want {
		t.Errorf("got %q", got)
	}
	e.Until, e.Owner, e.Reason = Date{e.Until.AddDate(1, 0, 0)}, "C", "D"
	if got := e.Name(); got != want {
		t.Errorf("prolonged: %q", got)
	}
	e.User, e.Service = "", "scanner"
	if got := e.Name(); got == want {
		t.Errorf("somebody else's: %q", got)
	}
}

func TestLegacyJSONComesBackEqual(t *testing.T) {
	const text = `{"application":"hr","legacy_auth":[{"classes":["all"],"mode":"report"},{"classes":["digest"],"mode":"allow","from":["10.0.0.0/8"],"paths":["/dav/*"]}],` +
		`"legacy_exceptions":[{"classes":["basic"],"user":"alice","until":"2027-03-01","owner":"A","reason":"B"}],"app_passwords":"on","app_passwords_digest":true,"service_tokens":true,"legacy_only":true,"legacy_login":["/login"]}`
	var a Application
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != text {
		t.Errorf("got  %s\nwant %s", got, text)
	}
	// The comments promise these words for what was not said.
	var empty Application
	empty.SetDefaults()
	if empty.AppPasswords != "" || empty.ServiceTokens || empty.LegacyOnly || empty.LegacyAuth != nil {
		t.Errorf("a default opens a door: %+v", empty)
	}
}
