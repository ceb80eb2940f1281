package integration

import (
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// legacyLines are headers with which clients sign in that can't be asked for a second factor, and what looks like them to some
// program. The password is right.
var legacyLines = map[string]string{
	"Basic":                        "Authorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==\r\n",
	"Basic, in capitals":           "AUTHORIZATION: BASIC YWxpY2U6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==\r\n",
	"Basic, with two spaces":       "Authorization:   Basic   YWxpY2U6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==  \r\n",
	"Basic, with a tab":            "Authorization: Basic\tYWxpY2U6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==\r\n",
	"Basic, folded":                "Authorization: Basic\r\n YWxpY2U6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==\r\n",
	"Basic, without padding":       "Authorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ\r\n",
	"Basic, in the URL's alphabet": "Authorization: Basic YWxpY2U6Pz8_Pz8-\r\n",
	"Basic, without a colon":       "Authorization: Basic YWxpY2U=\r\n",
	"Basic, empty":                 "Authorization: Basic\r\n",
	"Basic, twice":                 "Authorization: Basic YTpi\r\nAuthorization: Basic YTpi\r\n",
	"Basic behind Bearer":          "Authorization: Bearer x\r\nAuthorization: Basic YTpi\r\n",
	"Basic before Bearer":          "Authorization: Basic YTpi\r\nAuthorization: Bearer x\r\n",
	"Basic behind a comma":         "Authorization: Bearer x, Basic YTpi\r\n",
	"Digest":                       "Authorization: Digest username=\"alice\", realm=\"x\", nonce=\"y\", uri=\"/\", response=\"z\"\r\n",
	"NTLM":                         "Authorization: NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw==\r\n",
	"Negotiate with NTLM":          "Authorization: Negotiate TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw==\r\n",
	"Negotiate with Kerberos":      "Authorization: Negotiate YIIFzQYGKwYBBQUCoIIFwTCCBb2g\r\n",
	"Negotiate, empty":             "Authorization: Negotiate\r\n",
	"no scheme":                    "Authorization: YWxpY2U6c2VjcmV0\r\n",
	"no value":                     "Authorization:\r\n",
	"an unknown scheme":            "Authorization: Foo bar\r\n",
	"a scheme in quotes":           "Authorization: \"Basic\" YTpi\r\n",
	"a scheme behind a comma":      "Authorization: ,Basic YTpi\r\n",
	"control bytes":                "Authorization: Basic\x01 YTpi\r\n",
	"another alphabet's letters":   "Authorization: B\xc3\xa0sic YTpi\r\n",
	"a space that is none":         "Authorization: Basic\xc2\xa0YTpi\r\n",
	"Bearer without a token":       "Authorization: Bearer\r\n",
	"Bearer with two tokens":       "Authorization: Bearer a b\r\n",
}

// modernLines are no legacy authentication, and open nothing.
var modernLines = map[string]string{
	"Bearer":          "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.\r\n",
	"DPoP":            "Authorization: DPoP x\r\nDPoP: y\r\n",
	"a private token": "Authorization: PrivateToken token=\"x\"\r\n",
	"AWS":             "Authorization: AWS4-HMAC-SHA256 Credential=a, SignedHeaders=b, Signature=c\r\n",
	"a WSSE token":    "Authorization: WSSE profile=\"UsernameToken\"\r\nX-WSSE: UsernameToken Username=\"alice\"\r\n",
	"other headers":   "Proxy-Authorization: Basic YTpi\r\nX-Api-Key: x\r\nX-Auth-Token: x\r\nX-Forwarded-User: alice\r\nX-Forwarded-Client-Cert: x\r\nSsl-Client-Verify: SUCCESS\r\n",
}

var referenceText = regexp.MustCompile(`Reference: \S+`)

func TestAttackLegacyDoors(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: bypassSite})
	host := strings.TrimPrefix(p.URL, "http://")
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	half := halfSignedIn(t, p, "alice")
	up.Forget()
	accepted := len(p.Events("password_accepted"))
	paths := []string{"/x", "/remote.php/dav/", "/.well-known/acme-challenge/x", "/.well-known/caldav", "/EWS/Exchange.asmx", "/Microsoft-Server-ActiveSync?Cmd=Sync", "/repo.git/info/refs?service=git-upload-pack"}

	for sender, cookie := range map[string]string{"nobody": "", "who knows the password": cookieHeader(half), "with a cookie that is none": "Cookie: mfa_session=x\r\n"} {
		for reason, line := range legacyLines {
			for _, path := range paths {
				a := p.Raw(t, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\n"+cookie+line+"Connection: close\r\n\r\n")
				head, body, _ := strings.Cut(string(a), "\r\n\r\n")
				switch codes := a.Statuses(); {
				case up.Bytes() != 0:
					t.Errorf("%s, %s, %s: it reaches the application", sender, reason, path)
					up.Forget()
				case slices.Equal(codes, []int{http.StatusBadRequest}): // it is no request at all
				case !slices.Equal(codes, []int{http.StatusForbidden}):
					t.Errorf("%s, %s, %s: %v", sender, reason, path, codes)
				case strings.Contains(strings.ToLower(head), "www-authenticate") || !strings.Contains(head, "text/plain") || strings.Count(body, "\n") != 1 || !strings.Contains(head, "Cache-Control: no-store"):
					t.Errorf("%s, %s, %s: it gets\n%s", sender, reason, path, a)
				}
			}
		}
		for reason, line := range modernLines {
			for _, path := range paths {
				for _, method := range []string{"GET", "OPTIONS", "PROPFIND"} {
					p.Raw(t, method+" "+path+" HTTP/1.1\r\nHost: "+host+"\r\nAccess-Control-Request-Method: GET\r\nOrigin: http://"+host+"\r\n"+cookie+line+"Connection: close\r\n\r\n")
					if up.Bytes() != 0 {
						t.Errorf("%s, %s, %s %s: it reaches the application", sender, reason, method, path)
						up.Forget()
					}
				}
			}
		}
	}
	// No password was looked at.
	if n := len(p.Events("password_accepted")) - accepted; n != 0 || len(p.Events("password_refused")) != 0 {
		t.Errorf("%d passwords were accepted, %d refused", n, len(p.Events("password_refused")))
	}
	// Whoever is named, and whatever the password, the answer is the same.
	answer := ""
	for _, line := range []string{"Basic YWxpY2U6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==", "Basic YWxpY2U6d3Jvbmc=", "Basic bm9ib2R5Ondyb25n", "Basic ZG9yYTpjb3JyZWN0IGhvcnNlIGJhdHRlcnkgc3RhcGxl"} {
		a := dateHeader.ReplaceAllString(referenceText.ReplaceAllString(string(p.Raw(t, "GET /x HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: "+line+"\r\nConnection: close\r\n\r\n")), ""), "")
		if answer == "" {
			answer = a
		}
		if a != answer {
			t.Errorf("answers differ:\n%s\n%s", answer, a)
		}
	}
	// Signed in, the request passes and the credential doesn't.
	for reason, line := range legacyLines {
		up.Forget()
		a := p.Raw(t, "GET /x HTTP/1.1\r\nHost: "+host+"\r\n"+cookieHeader(b)+line+"Connection: close\r\n\r\n")
		if slices.Equal(a.Statuses(), []int{http.StatusBadRequest}) {
			continue
		}
		r := up.Last(t)
		if len(r.Header.Values("Authorization")) > 0 && reason != "no value" {
			t.Errorf("signed in, %s: %q reaches the application", reason, r.Header.Values("Authorization"))
		}
		if got := identities(r); !slices.Equal(got, []string{"Remote-User: alice"}) {
			t.Errorf("signed in, %s: the application sees %v", reason, got)
		}
	}
	up.Forget()
	p.Raw(t, "GET /x HTTP/1.1\r\nHost: "+host+"\r\n"+cookieHeader(b)+"Authorization: Bearer own-token\r\nConnection: close\r\n\r\n")
	if got := up.Last(t).Header.Get("Authorization"); got != "Bearer own-token" {
		t.Errorf("the application's own token has become %q", got)
	}
}

var dateHeader = regexp.MustCompile(`(?m)^Date: .*$`)

func TestAttackChallengesThatInvitePasswords(t *testing.T) {
	t.Parallel()
	challenges := []string{
		`Basic realm="x"`, `basic`, `BASIC realm=x`, `Digest realm="x", nonce="y", qop="auth"`, `NTLM`, `NTLM TlRMTVNTUAACAAAA`, `Negotiate`, `Negotiate YII=`,
		`Bearer realm="x", Basic realm="y"`, `Bearer realm="a, b", Digest realm="x", nonce="y"`, `,Basic realm="x"`, ` 	Basic realm="x"`, `Bearer, NTLM`, `Bearer realm="\"", Basic realm="x"`,
	}
	kept := []string{`Bearer realm="Basic realm, NTLM"`, `Bearer`, `DPoP algs="ES256"`}
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		for _, c := range append(slices.Clone(challenges), kept...) {
			w.Header().Add("WWW-Authenticate", c)
		}
		if r.URL.Path == "/public/hint" {
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, secretReport)
	})
	p := lab.Start(t, up.Address, lab.Options{Site: bypassSite})
	host := strings.TrimPrefix(p.URL, "http://")
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", "alice", lab.Password).Submit("begin")
	alice := &lab.Person{Name: "alice", Key: page.Key()}
	page.Submit("code", "code", alice.Code(t)).Submit("kept")
	for _, path := range []string{"/x", "/public/x", "/public/hint"} {
		a := string(p.Raw(t, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n"+cookieHeader(b)+"Connection: close\r\n\r\n"))
		if !strings.Contains(a, secretReport) {
			t.Errorf("%s: the application does not answer:\n%s", path, a)
		}
		for _, line := range strings.Split(a, "\r\n") {
			if value, ok := strings.CutPrefix(line, "Www-Authenticate: "); ok && !slices.Contains(kept, value) {
				t.Errorf("%s: %q invites a password", path, value)
			}
		}
		for _, c := range kept {
			if !strings.Contains(a, "Www-Authenticate: "+c+"\r\n") {
				t.Errorf("%s: %q is lost", path, c)
			}
		}
	}
}
