package caddymodule

import (
	"errors"
	"testing"
)

// The sentence is upstream's. An update that words it differently must be noticed: the operator would be asked whether a server runs
// that has just answered.
func TestRefusalOfAServer(t *testing.T) {
	for reason, tc := range map[string]struct {
		err  error
		want string
		ok   bool
	}{
		"it says why":            {errors.New(`caddy responded with error: HTTP 404: {"error":"no directory knows this user"}` + "\n"), "no directory knows this user", true},
		"it answers with a page": {errors.New("caddy responded with error: HTTP 502: <html>"), "the server answered with status 502", true},
		"it can't be reached":    {errors.New("performing request: dial unix: no such file or directory"), "", false},
		"nothing is wrong":       {nil, "", false},
	} {
		if got, ok := refusalOf(tc.err); got != tc.want || ok != tc.ok {
			t.Errorf("%s: %q, %v", reason, got, ok)
		}
	}
}
