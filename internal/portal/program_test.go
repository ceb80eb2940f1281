package portal

import (
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// toProgram is a request of a program, and what is known of it.
func toProgram(dialect legacy.Dialect) (*http.Request, Facts) {
	r := httptest.NewRequest("PROPFIND", "https://hr.example.com/dav/", nil)
	return r, Facts{
		Host: "hr.example.com", Origin: "https://hr.example.com", HTTPS: true, Secure: true, Application: "hr", Target: "/dav/", Reference: "abc23456", Dialect: dialect, Now: time.Unix(1_800_000_000, 0),
	}
}

// programAnswers are all that a program can get.
func programAnswers(p *Portal, r *http.Request, f Facts) map[string]*httptest.ResponseRecorder {
	answers := map[string]*httptest.ResponseRecorder{}
	note := func(name string) *httptest.ResponseRecorder {
		answers[name] = httptest.NewRecorder()
		return answers[name]
	}
	p.RefuseLegacy(note("legacy"), f, legacy.WebDAV, BrowserInstead)
	p.RefuseLegacy(note("legacy, with app passwords"), f, legacy.WebDAV, AppPasswordInstead)
	p.Challenge(note("sign-in"), r, f, "")
	p.Challenge(note("step-up"), r, f, "alice")
	p.Refuse(note("policy"), r, f, "alice", policy.Decision{Reason: policy.PolicyBlocks})
	p.Unavailable(note("unavailable"), r, f, nil)
	p.Invite(note("invitation"), r, f, true, nil)
	p.Invite(note("invitation over Digest"), r, f, true, []string{`Digest realm="hr: app password"`, `Digest realm="x"`})
	p.Invite(note("invitation to a password"), r, f, false, nil)
	p.RefuseLegacy(note("legacy, where nobody signs in"), f, legacy.WebDAV, NothingInstead)
	p.RefuseWrong(note("wrong"), f)
	return answers
}

func TestProgramsGetOneLine(t *testing.T) {
	p := testPortal(t, machineTexts(t))
	r, f := toProgram(legacy.Plain)
	for name, w := range programAnswers(p, r, f) {
		status := map[string]int{"invitation": 401, "invitation over Digest": 401, "invitation to a password": 401, "unavailable": 503}[name]
		if status == 0 {
			status = http.StatusForbidden
		}
		body := w.Body.String()
		if w.Code != status || strings.Count(body, "\n") != 1 || !strings.HasSuffix(body, "\n") || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, %v\n%s", name, w.Code, w.Header(), body)
		}
		challenge := map[string]string{"invitation": `Basic realm="hr: app password"`, "invitation to a password": `Basic realm="hr"`}[name]
		if name == "invitation over Digest" {
			challenge = `Basic realm="hr: app password" Digest realm="hr: app password" Digest realm="x"`
		}
		if got := strings.Join(w.Header().Values("Www-Authenticate"), " "); got != challenge {
			t.Errorf("%s: challenge %q", name, got)
		}
		if (name == "unavailable") != (w.Header().Get("Retry-After") != "") {
			t.Errorf("%s: Retry-After %q", name, w.Header().Get("Retry-After"))
		}
	}
}

func TestSubversionGetsItsOwnErrors(t *testing.T) {
	p := testPortal(t, machineTexts(t))
	r, plain := toProgram(legacy.Plain)
	_, f := toProgram(legacy.SVN)
	r.Header.Set("Accept", "text/html") // whatever else it says of itself
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	lines := programAnswers(p, httptest.NewRequest("PROPFIND", "/", nil), plain)
	for name, w := range programAnswers(p, r, f) {
		var e struct {
			XMLName xml.Name `xml:"DAV: error"`
			Says    struct {
				Code string `xml:"errcode,attr"`
				Text string `xml:",chardata"`
			} `xml:"http://apache.org/dav/xmlns human-readable"`
		}
		if err := xml.Unmarshal(w.Body.Bytes(), &e); err != nil {
			t.Errorf("%s: %v\n%s", name, err, w.Body)
			continue
		}
		if w.Code != lines[name].Code || strings.TrimSpace(e.Says.Text) != strings.TrimSpace(lines[name].Body.String()) || e.Says.Code == "" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/xml") {
			t.Errorf("%s: %d, %+v, %v", name, w.Code, e, w.Header())
		}
	}
	w := httptest.NewRecorder()
	p.RefuseLegacy(w, f, `<&>"`, BrowserInstead)
	if err := xml.Unmarshal(w.Body.Bytes(), new(struct{})); err != nil || strings.Contains(w.Body.String(), "<&>") {
		t.Errorf("%v\n%s", err, w.Body)
	}
}

// spelled gives the values of a header that is spelled so, letter by letter.
func spelled(h http.Header, name string) []string { return h[name] }

func TestOfficeIsOfferedOurSignIn(t *testing.T) {
	p := testPortal(t, machineTexts(t))
	r, f := toProgram(legacy.OFBA)
	r.Header.Set("X-FORMS_BASED_AUTH_ACCEPTED", "t")
	for name, w := range programAnswers(p, r, f) {
		offered := name == "legacy" || name == "legacy, with app passwords" || name == "sign-in" || name == "step-up" || strings.HasPrefix(name, "invitation")
		required, end := spelled(w.Header(), "X-FORMS_BASED_AUTH_REQUIRED"), spelled(w.Header(), "X-FORMS_BASED_AUTH_RETURN_URL")
		if (len(required) == 1) != offered || (len(end) == 1) != offered {
			t.Errorf("%s: %q %q", name, required, end)
			continue
		}
		if offered && (w.Code != http.StatusForbidden || required[0] != "https://hr.example.com/_mfa/signin?for=program" || end[0] != "https://hr.example.com/_mfa/program" || w.Header().Get("Www-Authenticate") != "") {
			t.Errorf("%s: %d, %v", name, w.Code, w.Header())
		}
	}
	// Who is only known by its name may know nothing but Basic.
	r.Header.Del("X-FORMS_BASED_AUTH_ACCEPTED")
	w := httptest.NewRecorder()
	if p.Invite(w, r, f, true, nil); w.Code != http.StatusUnauthorized {
		t.Errorf("by its name: %d", w.Code)
	}
	// Over plain http there is no sign-in.
	f.Secure, f.HTTPS = false, false
	w = httptest.NewRecorder()
	if p.Challenge(w, r, f, ""); spelled(w.Header(), "X-FORMS_BASED_AUTH_REQUIRED") != nil || w.Code != http.StatusForbidden {
		t.Errorf("over plain http: %d, %v", w.Code, w.Header())
	}
	w = httptest.NewRecorder()
	if p.Invite(w, r, f, true, nil); w.Code != http.StatusForbidden || w.Header().Get("Www-Authenticate") != "" {
		t.Errorf("a password is asked for over plain http: %d, %v", w.Code, w.Header())
	}
}

// TestAnswersDifferInTheirReferenceAlone is for who asks for users that exist and users that don't.
func TestAnswersDifferInTheirReferenceAlone(t *testing.T) {
	p := testPortal(t, machineTexts(t))
	for _, dialect := range []legacy.Dialect{legacy.Plain, legacy.SVN, legacy.OFBA} {
		r, f := toProgram(dialect)
		first := programAnswers(p, r, f)
		f.Reference = "xyz76543"
		f.Now = f.Now.Add(time.Minute)
		for name, w := range programAnswers(p, r, f) {
			text := func(w *httptest.ResponseRecorder) string {
				var b strings.Builder
				w.Header().Write(&b)
				return b.String() + w.Body.String()
			}
			if strings.ReplaceAll(text(w), "xyz76543", "abc23456") != text(first[name]) {
				t.Errorf("%s:\n%s\n%s", name, text(w), text(first[name]))
			}
		}
	}
}
