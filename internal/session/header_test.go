package session

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestApplicationGetsEveryOtherCookieAsTheBrowserSentIt(t *testing.T) {
	for reason, tc := range map[string]struct{ in, want []string }{
		"none":                      {nil, nil},
		"only others":               {[]string{`a=1; b="x y"; c`}, []string{`a=1; b="x y"; c`}},
		"only ours":                 {[]string{"__Host-mfa_session=x"}, nil},
		"ours first":                {[]string{"mfa_session=x; a=1"}, []string{"a=1"}},
		"ours in the middle":        {[]string{"a=1; mfa_session=x; b=2"}, []string{"a=1; b=2"}},
		"ours last":                 {[]string{"a=1;mfa_browser=x"}, []string{"a=1"}},
		"all of ours":               {[]string{"mfa_session=x; mfa_browser=y; mfa_language=nl; __Host-mfa_session=z; __Host-mfa_browser=z; __Host-mfa_language=z"}, nil},
		"ours twice":                {[]string{"mfa_session=x; a=1; mfa_session=y"}, []string{"a=1"}},
		"ours in a line of its own": {[]string{"a=1", "mfa_session=x", "b=2"}, []string{"a=1", "b=2"}},
		"white space is kept":       {[]string{"a=1;  b=2 ;mfa_session=x;\tc=3"}, []string{"a=1;  b=2 ;\tc=3"}},
		"odd pairs are kept":        {[]string{"=1; mfa_session=x; ; a==; \"b"}, []string{"=1; ; a==; \"b"}},
		"names that contain ours":   {[]string{"xmfa_session=1; mfa_session2=2; mfa_sessions=3"}, []string{"xmfa_session=1; mfa_session2=2; mfa_sessions=3"}},
		"our name as a value":       {[]string{"a=mfa_session; b=2"}, []string{"a=mfa_session; b=2"}},
		"our name in another case":  {[]string{"MFA_session=1"}, []string{"MFA_session=1"}},
		"space around our name":     {[]string{"a=1; mfa_session =x"}, []string{"a=1"}},
	} {
		t.Run(reason, func(t *testing.T) {
			shared := slices.Clone(tc.in)
			h := http.Header{}
			if tc.in != nil {
				h["Cookie"] = tc.in
			}
			RemoveCookies(h)
			if got := h["Cookie"]; !slices.Equal(got, tc.want) {
				t.Fatalf("left: %q, want %q", got, tc.want)
			}
			if !slices.Equal(shared, tc.in) {
				t.Fatalf("the slice that others share was changed to %q", tc.in)
			}
		})
	}
}

func TestEveryNameOfOursIsFound(t *testing.T) {
	for _, name := range CookieNames {
		if !strings.Contains(name, nameHint) {
			t.Errorf("%s would be taken for an application's", name)
		}
	}
}

func FuzzRemoveCookies(f *testing.F) {
	f.Add("a=1; mfa_session=x; b=2")
	f.Add(";;mfa_session;=")
	f.Fuzz(func(t *testing.T, line string) {
		h := http.Header{"Cookie": {line}}
		RemoveCookies(h)
		r := &http.Request{Header: h}
		for _, name := range CookieNames {
			if _, err := r.Cookie(name); err == nil {
				t.Fatalf("%q keeps %s: %q", line, name, h["Cookie"])
			}
		}
		if !strings.Contains(line, "mfa_") && (len(h["Cookie"]) != 1 || h["Cookie"][0] != line) && line != "" {
			t.Fatalf("%q was changed to %q", line, h["Cookie"])
		}
	})
}

func TestApplicationCannotSetOurCookies(t *testing.T) {
	h := http.Header{"Set-Cookie": {
		"a=1; Path=/", "mfa_session=x", "__Host-mfa_session=x; Secure; Path=/", " mfa_browser =y; Domain=example.com", "b=mfa_session", "mfa_language=", "mfa_session",
		"=mfa_session=x", " = __Host-mfa_session=x; Secure; Path=/",
	}}
	RemoveSetCookies(h)
	if want := []string{"a=1; Path=/", "b=mfa_session"}; !slices.Equal(h["Set-Cookie"], want) {
		t.Fatalf("left: %q", h["Set-Cookie"])
	}
	h = http.Header{"Set-Cookie": {"mfa_session=x"}}
	RemoveSetCookies(h)
	if _, ok := h["Set-Cookie"]; ok {
		t.Fatalf("left: %q", h["Set-Cookie"])
	}
}

func TestACookieThatIsThereTwiceCountsAsMissing(t *testing.T) {
	for reason, tc := range map[string]struct {
		lines  []string
		secure bool
		want   string
	}{
		"once":                      {[]string{"a=1; mfa_session=x"}, false, "x"},
		"twice in a line":           {[]string{"mfa_session=x; mfa_session=y"}, false, ""},
		"twice alike":               {[]string{"mfa_session=x; mfa_session=x"}, false, ""},
		"in two lines":              {[]string{"mfa_session=x", "mfa_session=y"}, false, ""},
		"the plain name over https": {[]string{"mfa_session=x"}, true, ""},
		"the prefixed name":         {[]string{"__Host-mfa_session=x; mfa_session=y"}, true, "x"},
		"not there":                 {nil, false, ""},
	} {
		if got := CookieValue(&http.Request{Header: http.Header{"Cookie": tc.lines}}, CookieName, tc.secure); got != tc.want {
			t.Errorf("%s: %q, want %q", reason, got, tc.want)
		}
	}
}

func TestCookieAttributes(t *testing.T) {
	if got := NewCookie(CookieName, "x", true, 0).String(); got != "__Host-mfa_session=x; Path=/; HttpOnly; Secure; SameSite=Lax" {
		t.Error(got)
	}
	if got := NewCookie(CookieName, "x", false, 60).String(); got != "mfa_session=x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax" {
		t.Error(got)
	}
}
