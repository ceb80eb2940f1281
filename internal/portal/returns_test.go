package portal

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

func returns(t testing.TB, secret byte) *Returns {
	t.Helper()
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{secret}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return NewReturns(keys)
}

func TestTheWayBackIsKeptForTenMinutesOnItsHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs := returns(t, 1)
		want := Return{"/reports?x=1&y=a%20b", "hr"}
		token := rs.Seal(want, "hr.example.com", time.Now())
		if got := rs.Open(token, "hr.example.com", time.Now()); got != want {
			t.Fatalf("%+v", got)
		}
		if strings.Contains(token, "reports") {
			t.Fatal("the token can be read")
		}
		for reason, got := range map[string]Return{
			"another host":   rs.Open(token, "wiki.example.com", time.Now()),
			"another secret": returns(t, 2).Open(token, "hr.example.com", time.Now()),
			"empty":          rs.Open("", "hr.example.com", time.Now()),
			"a bare URL":     rs.Open("https://evil.example/", "hr.example.com", time.Now()),
			"a bare path":    rs.Open("/admin", "hr.example.com", time.Now()),
			"not sealed":     rs.Open(base64.RawURLEncoding.EncodeToString([]byte(`{"t":"/admin","e":99999999999}`)), "hr.example.com", time.Now()),
			"huge":           rs.Open(strings.Repeat("A", 1<<20), "hr.example.com", time.Now()),
		} {
			if got != (Return{}) {
				t.Errorf("%s opens: %+v", reason, got)
			}
		}
		time.Sleep(10*time.Minute - time.Second)
		if got := rs.Open(token, "hr.example.com", time.Now()); got != want {
			t.Fatalf("just before its end: %+v", got)
		}
		time.Sleep(time.Second)
		if got := rs.Open(token, "hr.example.com", time.Now()); got != (Return{}) {
			t.Fatalf("after ten minutes: %+v", got)
		}
	})
}

func TestATargetThatIsTooLongLeadsToTheFrontPage(t *testing.T) {
	rs := returns(t, 1)
	now := time.Now()
	if got := rs.Open(rs.Seal(Return{Target: "/" + strings.Repeat("a", maxTarget), Application: "hr"}, "h", now), "h", now); got != (Return{Application: "hr"}) {
		t.Fatalf("%.40v", got)
	}
}

// lands is where a browser goes (WHATWG URL, and RFC 3986 for the others) from the sign-in page.
func lands(t testing.TB, ref string) *url.URL {
	t.Helper()
	base, err := url.Parse("https://hr.example.com/_mfa/verify")
	if err != nil {
		t.Fatal(err)
	}
	u, err := base.Parse(strings.ReplaceAll(ref, `\`, "/"))
	if err != nil {
		t.Fatalf("%q: %v", ref, err)
	}
	return u
}

func TestNoTargetLeadsElsewhere(t *testing.T) {
	for target, want := range map[string]string{
		"/":                         "/",
		"/reports?x=1&y=a%20b":      "/reports?x=1&y=a%20b",
		"/a;b=c,d/e":                "/a;b=c,d/e",
		"/%C3%A9?q=%22%3C":          "/%C3%A9?q=%22%3C",
		"":                          "/",
		"//evil.example/":           "/.//evil.example/",
		"///evil.example/":          "/.///evil.example/",
		`/\evil.example/`:           "/%5Cevil.example/",
		`/\/evil.example/`:          "/%5C/evil.example/",
		`\\evil.example/`:           "/",
		"https://evil.example/":     "/",
		"javascript:alert(1)":       "/",
		"evil.example":              "/",
		"?x":                        "/",
		"#x":                        "/",
		"*":                         "/",
		"/\tx":                      "/",
		"/a\r\nSet-Cookie: x=1":     "/",
		" //evil.example":           "/",
		"/.//evil.example":          "/.//evil.example",
		"/%2f/evil.example":         "/%2f/evil.example",
		"/:80/x":                    "/:80/x",
		"/a?next=https://b.example": "/a?next=https://b.example",
	} {
		got := Return{Target: target}.URL()
		if got != want {
			t.Errorf("%q leads to %q, want %q", target, got, want)
		}
		if u := lands(t, got); u.Host != "hr.example.com" || u.Scheme != "https" {
			t.Errorf("%q leads to %s", target, u)
		}
	}
}

func FuzzReturnURL(f *testing.F) {
	for _, s := range []string{"/a?b", "//x", `/\x`, "/%5cx", "/.//x", "///x", "/\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		got := Return{Target: target}.URL()
		// Browsers take tabs and line breaks out of a URL before they read it.
		read := strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(got)
		if u := lands(t, read); u.Host != "hr.example.com" || u.Scheme != "https" || u.User != nil {
			t.Fatalf("%q leads to %s", target, u)
		}
	})
}

func FuzzOpenReturn(f *testing.F) {
	rs := returns(f, 1)
	f.Add("AAAA")
	f.Add(rs.Seal(Return{Target: "/x"}, "other.example.com", time.Now()))
	f.Fuzz(func(t *testing.T, token string) {
		if got := rs.Open(token, "hr.example.com", time.Now()); got != (Return{}) {
			t.Fatalf("%q opens to %+v", token, got)
		}
	})
}

// Another version of the program may write something else, and both may run at once beside a shared store.
func FuzzWhatAnotherVersionHasSealedLeadsToAPathOrToTheFrontPage(f *testing.F) {
	rs, now := returns(f, 1), time.Unix(2_000_000_000, 0)
	seal := func(plain []byte) string { return base64.RawURLEncoding.EncodeToString(rs.sealer.Seal(plain, "h")) }
	for _, plain := range []string{"", "\x00", `{"t":"/admin","e":99999999999}`, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x80\xd0\xac\xf3\x0e\x05hr"} {
		f.Add([]byte(plain), "/reports", "hr")
	}
	f.Add([]byte{}, "/\xff?\x00", "\xfe")
	f.Fuzz(func(t *testing.T, plain []byte, target, application string) {
		if u := lands(t, rs.Open(seal(plain), "h", now).URL()); u.Host != "hr.example.com" {
			t.Errorf("%q leads to %v", plain, u)
		}
		if len(target) > maxTarget || len(application) > maxTarget {
			return
		}
		want := Return{target, application}
		if got := rs.Open(rs.Seal(want, "h", now), "h", now); got != want {
			t.Errorf("%q comes back as %q", want, got)
		}
	})
}

func TestWhatAnOlderVersionHasSealedLeadsToTheFrontPage(t *testing.T) {
	rs := returns(t, 1)
	sealed := rs.sealer.Seal([]byte(`{"t":"/admin","a":"hr","e":99999999999}`), "h")
	if got := rs.Open(base64.RawURLEncoding.EncodeToString(sealed), "h", time.Now()); got != (Return{}) {
		t.Fatalf("%+v", got)
	}
}
