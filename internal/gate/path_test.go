package gate

import (
	"net/url"
	"strings"
	"testing"
)

func TestBypassHoldsForPlainPathsOnly(t *testing.T) {
	ps := NewPaths([]string{"/healthz", "/public/*", "/ünïcode/*"})
	for _, inside := range []string{"/healthz", "/public/", "/public/a", "/public/a/b.css", "/public/a%20b", "/public/%C3%A9", "/%C3%BCn%C3%AFcode/x", "/public/a:b@c!d$e&f'(g)*h+i,j=k", "/public/..a", "/public/a..", "/public/a%e2%80%a6", "/public/%ef%bc%a1", "/public/a/"} {
		if !ps.Contain(inside) {
			t.Errorf("%s is not inside", inside)
		}
	}
	for reason, outside := range map[string]string{
		"another path":               "/admin",
		"the prefix without slash":   "/public",
		"a longer name":              "/healthzz",
		"below an exact path":        "/healthz/",
		"dot segments":               "/public/../admin",
		"dot segments at the end":    "/public/..",
		"a single dot":               "/public/./a",
		"encoded dots":               "/public/%2e%2e/admin",
		"one encoded dot":            "/public/.%2E/admin",
		"encoded dot in a name":      "/public/a%2ecss",
		"path parameter":             "/public/..;/admin",
		"encoded dots and parameter": "/public/%2e%2e;/admin",
		"encoded semicolon":          "/public/..%3b/admin",
		"backslash":                  `/public/..\admin`,
		"encoded backslash":          "/public/..%5cadmin",
		"encoded slash":              "/public/..%2fadmin",
		"encoded slash, upper case":  "/public%2Fa",
		"decoded twice":              "/public/%252e%252e/admin",
		"double slash":               "/public//admin",
		"double slash at the start":  "//public/a",
		"case":                       "/Public/a",
		"control byte":               "/public/a\x01",
		"encoded control byte":       "/public/%0aa",
		"encoded NUL":                "/public/a%00.css",
		"delete":                     "/public/%7f",
		"bad escape":                 "/public/%zz",
		"cut escape":                 "/public/%2",
		"fragment":                   "/public/#/admin",
		"encoded fragment":           "/public/%23",
		"encoded question mark":      "/public/%3fx",
		"not UTF-8":                  "/public/%ff",
		"overlong slash":             "/public/..%c0%afadmin",
		"dots and a space":           "/public/..%20/admin",
		"dots and a dot":             "/public/.../admin",
		"a space":                    "/public/%20/admin",
		"dots of full width":         "/public/%ef%bc%8e%ef%bc%8e/admin",
		"slash of full width":        "/public/..%ef%bc%8fadmin",
		"a sign with a slash in it":  "/public/%e2%84%80",
		"semicolon of full width":    "/public/..%ef%bc%9b/admin",
		"ellipsis":                   "/public/%e2%80%a6/admin",
		"empty":                      "",
		"asterisk":                   "*",
		"absolute":                   "http://host/public/a",
		"no slash":                   "public/a",
	} {
		if ps.Contain(outside) {
			t.Errorf("%s: %s is inside", reason, outside)
		}
	}
	if Paths(nil).Contain("/healthz") {
		t.Error("no list contains something")
	}
}

// FuzzPlainPath holds that whatever another program makes of a path that is inside, it stays inside.
func FuzzPlainPath(f *testing.F) {
	for _, s := range []string{"/public/a", "/public/%2e%2e/admin", "/public/a%20b", "/public/..;/x", "/public//x", "/public/%252e"} {
		f.Add(s)
	}
	ps := NewPaths([]string{"/public/*"})
	f.Fuzz(func(t *testing.T, path string) {
		if !ps.Contain(path) {
			return
		}
		for reading, read := range map[string]func(string) string{
			"as it is":      func(s string) string { return s },
			"decoded once":  unescape,
			"decoded twice": func(s string) string { return unescape(unescape(s)) },
			"backslashes":   func(s string) string { return strings.ReplaceAll(unescape(s), `\`, "/") },
			"without parameters": func(s string) string {
				var segments []string
				for segment := range strings.SplitSeq(unescape(s), "/") {
					segment, _, _ = strings.Cut(segment, ";")
					segments = append(segments, segment)
				}
				return strings.Join(segments, "/")
			},
			"merged slashes": func(s string) string {
				s = unescape(s)
				for strings.Contains(s, "//") {
					s = strings.ReplaceAll(s, "//", "/")
				}
				return s
			},
		} {
			u := &url.URL{Path: "/"}
			got := u.JoinPath(read(path)).Path
			if got != "/public" && !strings.HasPrefix(got, "/public/") {
				t.Fatalf("%q, %s, is %q", path, reading, got)
			}
		}
	})
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}

func BenchmarkBypass(b *testing.B) {
	ps := NewPaths([]string{"/healthz", "/assets/*"})
	b.ReportAllocs()
	for b.Loop() {
		if ps.Contain("/reports/2026/overview") {
			b.Fatal("inside")
		}
	}
}

func TestWhereACopyGoesIsInTheListToo(t *testing.T) {
	paths := NewPaths([]string{"/dav/*"})
	for reason, tc := range map[string]struct {
		values []string
		want   bool
	}{
		"none":                    {nil, true},
		"a path":                  {[]string{"/dav/b"}, true},
		"a URL":                   {[]string{"https://example.com/dav/b%20c"}, true},
		"another path":            {[]string{"/admin"}, false},
		"a URL of another path":   {[]string{"https://example.com/admin"}, false},
		"one of two":              {[]string{"/dav/b", "/admin"}, false},
		"two in a list":           {[]string{"/dav/b, /admin"}, false},
		"climbing":                {[]string{"/dav/../admin"}, false},
		"climbing in disguise":    {[]string{"/dav/%2e%2e/admin"}, false},
		"climbing backwards":      {[]string{`https://example.com/dav\..\admin`}, false},
		"a host or a path":        {[]string{"//dav/b"}, false},
		"no slash":                {[]string{"dav/b"}, false},
		"no path":                 {[]string{"https:dav/b"}, false},
		"nothing":                 {[]string{""}, false},
		"what nobody can read":    {[]string{"https://[::1/dav/b"}, false},
		"a query, to some a path": {[]string{"/dav/b?/../../admin"}, false},
	} {
		if got := paths.ContainTargets(tc.values); got != tc.want {
			t.Errorf("%s: %v", reason, got)
		}
	}
}
