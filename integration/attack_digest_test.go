package integration

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// digester is a program that knows HTTP Digest (RFC 7616, section 3.4).
type digester struct {
	user, secret, realm, nonce, algorithm string
	count                                 int

	// What a thief, or a program of another time, writes otherwise.
	qop, more string
}

var digestNonce = regexp.MustCompile(`Digest realm="([^"]*)", qop="auth", algorithm=MD5, nonce="([^"]+)"(, stale=true)?`)

// challenged asks as nobody, and gives a program that answers the challenge.
func challenged(t testing.TB, p *lab.Proxy, path, user, secret string) *digester {
	t.Helper()
	a := string(p.Raw(t, "GET "+path+" HTTP/1.1\r\nHost: "+strings.TrimPrefix(p.URL, "http://")+"\r\nConnection: close\r\n\r\n"))
	found := digestNonce.FindStringSubmatch(a)
	if found == nil || !strings.HasPrefix(a, "HTTP/1.1 401 ") {
		t.Fatalf("no challenge for Digest in\n%s", a)
	}
	return &digester{user: user, secret: secret, realm: found[1], nonce: found[2], algorithm: "MD5"}
}

// line is the line of header for a request.
func (d *digester) line(method, uri string) string {
	d.count++
	h := func(parts ...string) string {
		text := []byte(strings.Join(parts, ":"))
		if d.algorithm == "SHA-256" {
			sum := sha256.Sum256(text)
			return hex.EncodeToString(sum[:])
		}
		sum := md5.Sum(text)
		return hex.EncodeToString(sum[:])
	}
	nc := fmt.Sprintf("%08x", d.count)
	a1 := h(d.user, d.realm, d.secret)
	response := h(a1, d.nonce, nc, "0a4f113b", "auth", h(method, uri))
	ending := ", qop=auth, nc=" + nc + `, cnonce="0a4f113b"`
	switch d.qop {
	case "none": // RFC 2069
		response, ending = h(a1, d.nonce, h(method, uri)), ""
	case "sess":
		response = h(h(a1, d.nonce, "0a4f113b"), d.nonce, nc, "0a4f113b", "auth", h(method, uri))
		ending += ", algorithm=MD5-sess"
	}
	if d.qop != "sess" {
		ending += ", algorithm=" + d.algorithm
	}
	return `Authorization: Digest username="` + d.user + `", realm="` + d.realm + `", nonce="` + d.nonce + `", uri="` + uri + `", response="` + response + `"` + ending + d.more + "\r\n"
}

const digestSites = `rewrite /old/* /new
handle /mail/* {
	mfa mail {
		app_passwords on digest
	}
	reverse_proxy {upstream}
}
handle /wiki/* {
	mfa wiki {
		app_passwords on
	}
	reverse_proxy {upstream}
}
handle {
	mfa hr {
		app_passwords on digest
	}
	reverse_proxy {upstream}
}`

func TestAttackAppPasswordsOverDigest(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: digestSites})
	host := strings.TrimPrefix(p.URL, "http://")
	key, bobs := addAppPassword(t, p, "alice", "--application", "hr"), addAppPassword(t, p, "bob", "--application", "hr")
	up.Forget()

	a := string(p.Raw(t, "PROPFIND /dav/ HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"))
	basicAt, md5At, shaAt := strings.Index(a, `Www-Authenticate: Basic realm="hr: app password"`), strings.Index(a, "algorithm=MD5"), strings.Index(a, "algorithm=SHA-256")
	if !strings.HasPrefix(a, "HTTP/1.1 401 ") || basicAt < 0 || md5At < basicAt || shaAt < md5At || strings.LastIndex(a, "algorithm=MD5") < shaAt || strings.Count(a, "Www-Authenticate") != 4 {
		t.Errorf("a program is asked by\n%s", a)
	}
	if a := string(p.Raw(t, "PROPFIND /wiki/ HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")); strings.Contains(a, "Digest") || !strings.Contains(a, "Basic") {
		t.Errorf("where Digest is off, a program is asked by\n%s", a)
	}
	for _, algorithm := range []string{"MD5", "SHA-256"} {
		d := challenged(t, p, "/dav/x?y=1", "alice", key.Secret)
		d.algorithm = algorithm
		for _, uri := range []string{"/dav/x?y=1", "http://" + host + "/dav/x?y=1"} {
			if got := sends(t, p, "PUT /dav/x?y=1", d.line("PUT", uri)+"Content-Length: 0\r\n"); got != http.StatusOK {
				t.Fatalf("%s: the right one gets %d", algorithm, got)
			}
			last := up.Last(t)
			if got := last.Header["Remote-User"]; len(got) != 1 || got[0] != "alice" || last.Header["Authorization"] != nil || last.Method != "PUT" {
				t.Errorf("the application gets %v", last.Header)
			}
		}
		// What is hashed is what was asked for, and not what it becomes.
		if got := sends(t, p, "GET /old/x", challenged(t, p, "/old/x", "alice", key.Secret).line("GET", "/old/x")); got != http.StatusOK || up.Last(t).URI != "/new" {
			t.Errorf("rewritten: %d, %s", got, up.Last(t).URI)
		}
	}
	if strings.Contains(up.Raw(), "Digest") {
		t.Error("a response reaches the application")
	}
	up.Forget()

	fresh := func() *digester { return challenged(t, p, "/x", "alice", key.Secret) }
	sent := fresh()
	once := sent.line("GET", "/x")
	if got := sends(t, p, "GET /x", once); got != http.StatusOK {
		t.Fatalf("%d", got)
	}
	up.Forget()
	bound := addAppPassword(t, p, "alice", "--application", "hr", "--from", "10.0.0.0/8")
	paths := addAppPassword(t, p, "alice", "--application", "hr", "--path", "/dav/*", "--method", "GET")
	for reason, c := range map[string]struct {
		request string
		lines   func() string
		status  int // 0: 401
	}{
		"sent again":                     {"GET /x", func() string { return once }, 0},
		"sent again for another path":    {"GET /y", func() string { return sent.line("GET", "/x") }, 0},
		"sent again with another query":  {"GET /x?delete=1", func() string { return sent.line("GET", "/x") }, 0},
		"sent again with another method": {"DELETE /x", func() string { return sent.line("GET", "/x") }, 0},
		"for a path on another host":     {"GET /x", func() string { return fresh().line("GET", "http://other.example.com/x") }, 0},
		"with another's secret":          {"GET /x", func() string { d := fresh(); d.secret = bobs.Secret; return d.line("GET", "/x") }, 0},
		"with another's name":            {"GET /x", func() string { d := fresh(); d.user = "bob"; return d.line("GET", "/x") }, 0},
		"of nobody":                      {"GET /x", func() string { d := fresh(); d.user = "zoe"; return d.line("GET", "/x") }, 0},
		"with the nonce of another": {"GET /x", func() string {
			d := fresh()
			d.nonce = challenged(t, p, "/mail/x", "a", "b").nonce
			return d.line("GET", "/x")
		}, 0},
		"in another application":        {"GET /mail/x", func() string { return fresh().line("GET", "/mail/x") }, http.StatusForbidden},
		"as one of another application": {"GET /mail/x", func() string { return challenged(t, p, "/mail/x", "alice", key.Secret).line("GET", "/mail/x") }, 0},
		"with a nonce of its own":       {"GET /x", func() string { d := fresh(); d.nonce = strings.Repeat("A", len(d.nonce)); return d.line("GET", "/x") }, 0},
		"with its own password":         {"GET /x", func() string { d := fresh(); d.secret = lab.Password; return d.line("GET", "/x") }, 0},
		"from another address":          {"GET /x", func() string { d := fresh(); d.secret = bound.Secret; return d.line("GET", "/x") }, 0},
		"below another path":            {"GET /x", func() string { d := fresh(); d.secret = paths.Secret; return d.line("GET", "/x") }, 0},
		"with another method in a header": {"GET /dav/x", func() string {
			d := fresh()
			d.secret = paths.Secret
			return d.line("GET", "/dav/x") + "X-HTTP-Method-Override: PUT\r\n"
		}, 0},
		"below a path that climbs":            {"GET /dav/../x", func() string { d := fresh(); d.secret = paths.Secret; return d.line("GET", "/dav/../x") }, 0},
		"without qop":                         {"GET /x", func() string { d := fresh(); d.qop = "none"; return d.line("GET", "/x") }, http.StatusForbidden},
		"with a session's algorithm":          {"GET /x", func() string { d := fresh(); d.qop = "sess"; return d.line("GET", "/x") }, http.StatusForbidden},
		"with its user's name hashed":         {"GET /x", func() string { d := fresh(); d.more = ", userhash=true"; return d.line("GET", "/x") }, http.StatusForbidden},
		"with two uris":                       {"GET /x", func() string { d := fresh(); d.more = `, uri="/x"`; return d.line("GET", "/x") }, http.StatusForbidden},
		"twice":                               {"GET /x", func() string { d := fresh(); return d.line("GET", "/x") + d.line("GET", "/x") }, http.StatusForbidden},
		"beside Basic":                        {"GET /x", func() string { return fresh().line("GET", "/x") + basic("alice", key.Secret) }, http.StatusForbidden},
		"behind Bearer":                       {"GET /x", func() string { return "Authorization: Bearer x\r\n" + fresh().line("GET", "/x") }, http.StatusForbidden},
		"folded into a list":                  {"GET /x", func() string { d := fresh(); d.more = ", Basic YTpi"; return d.line("GET", "/x") }, http.StatusForbidden},
		"where app passwords come over Basic": {"GET /wiki/x", func() string { d := fresh(); d.realm = "wiki: app password"; return d.line("GET", "/wiki/x") }, http.StatusForbidden},
	} {
		want := c.status
		if want == 0 {
			want = http.StatusUnauthorized
		}
		lines := c.lines()
		up.Forget()
		if got := sends(t, p, c.request, lines); got != want && !(want == http.StatusUnauthorized && got == http.StatusForbidden && len(p.Events("key_throttled")) > 0) {
			t.Errorf("%s: %d", reason, got)
		}
		if up.Bytes() != 0 {
			t.Errorf("%s: it reaches the application:\n%s", reason, up.Raw())
		}
	}
	// A nonce that is used up is told from a wrong response.
	a = string(p.Raw(t, "GET /x HTTP/1.1\r\nHost: "+host+"\r\n"+once+"Connection: close\r\n\r\n"))
	if found := digestNonce.FindStringSubmatch(a); found == nil || found[3] == "" || found[2] == sent.nonce {
		t.Errorf("sent again, it gets\n%s", a)
	}
	if strings.Contains(p.Log(), key.Secret) || strings.Contains(p.Log(), strings.TrimSuffix(once[strings.Index(once, `response="`)+10:][:32], "\r\n")) {
		t.Error("the secret or a response stands in the log")
	}
	lab.Eventually(t, 15*time.Second, "the report tells of it", func() bool { return classes(t, p)["digest"] })
	if _, metrics := p.API("GET", "/metrics", nil); !strings.Contains(metrics, `caddy_mfa_legacy_total{app="hr",class="digest",verdict="app_password"}`) {
		t.Error("the metrics don't tell of it")
	}

	// Its owner gets in all the same, until it is revoked.
	if got := sends(t, p, "GET /x", fresh().line("GET", "/x")); got != http.StatusOK {
		t.Errorf("its owner gets %d", got)
	}
	open := fresh()
	p.Command("app-password", "revoke", "alice", key.ID)
	up.Forget()
	if got := sends(t, p, "GET /x", open.line("GET", "/x")); got == http.StatusOK || up.Bytes() != 0 {
		t.Errorf("revoked: %d", got)
	}
}

func TestAttackGuessingOverDigest(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: digestSites})
	key := addAppPassword(t, p, "alice", "--application", "hr")
	up.Forget()
	statuses := map[string][]int{}
	for _, user := range []string{"alice", "zoe"} {
		for i := range 10 {
			d := challenged(t, p, "/x", user, fmt.Sprintf("%028d", i))
			statuses[user] = append(statuses[user], sends(t, p, "GET /x", d.line("GET", "/x")))
		}
	}
	if refused, throttled := len(p.Events("key_refused")), len(p.Events("key_throttled")); refused != 10 || throttled == 0 {
		t.Errorf("%d guesses at two users were judged; %d events say that one was not", refused, throttled)
	}
	if got := statuses["alice"]; got[0] != http.StatusUnauthorized || got[9] != http.StatusForbidden || fmt.Sprint(got) != fmt.Sprint(statuses["zoe"]) {
		t.Errorf("%v", statuses)
	}
	up.WantNothing(t)
	if got := sends(t, p, "GET /x", challenged(t, p, "/x", "alice", key.Secret).line("GET", "/x")); got != http.StatusOK {
		t.Errorf("the owner's gets %d", got)
	}
	if len(p.Events("password_refused")) != 0 {
		t.Error("a directory was asked for a password")
	}
}

// TestAttackDigestThatIsTurnedOff: what it has opened is cut, and one that was made for it opens nothing over Digest.
func TestAttackDigestThatIsTurnedOff(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		for w.WriteHeader(http.StatusOK); r.Context().Err() == nil; time.Sleep(20 * time.Millisecond) {
			fmt.Fprintln(w, "secret report")
			w.(http.Flusher).Flush()
		}
	})
	o := lab.Options{Site: "mfa hr {\napp_passwords on digest\n}\nreverse_proxy {upstream}"}
	p := lab.Start(t, up.Address, o)
	key := addAppPassword(t, p, "alice", "--application", "hr")
	value := strings.TrimSuffix(strings.TrimPrefix(challenged(t, p, "/stream", "alice", key.Secret).line("GET", "/stream"), "Authorization: "), "\r\n")
	over := held(t, p, "Authorization", value)
	stays := held(t, p, "Authorization", strings.TrimSuffix(strings.TrimPrefix(basic("alice", key.Secret), "Authorization: "), "\r\n"))
	late := challenged(t, p, "/stream", "alice", key.Secret)
	o.Site = "mfa hr {\napp_passwords on\n}\nreverse_proxy {upstream}"
	if err := p.Reload(lab.Caddyfile(p, up.Address, o)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-over:
	case <-time.After(6 * time.Second):
		t.Error("what came over Digest is open")
	}
	select {
	case <-stays:
		t.Error("what came over Basic was cut")
	default:
	}
	up.Forget()
	if got := sends(t, p, "GET /stream", late.line("GET", "/stream")); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
}

// TestAttackAResponseThatIsSentAgainAfterARestart: what has been let in is not kept, and is not let in again for that.
func TestAttackAResponseThatIsSentAgainAfterARestart(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: digestSites})
	key := addAppPassword(t, p, "alice", "--application", "hr")
	stolen := challenged(t, p, "/x", "alice", key.Secret).line("GET", "/x")
	if got := sends(t, p, "GET /x", stolen); got != http.StatusOK {
		t.Fatalf("its owner gets %d", got)
	}
	p.Stop()
	p.Launch(false)
	up.Forget()
	if got := sends(t, p, "GET /x", stolen); got != http.StatusUnauthorized {
		t.Errorf("the thief gets %d", got)
	}
	up.WantNothing(t)
	if got := sends(t, p, "GET /x", challenged(t, p, "/x", "alice", key.Secret).line("GET", "/x")); got != http.StatusOK {
		t.Errorf("its owner gets %d after the restart", got)
	}
}
