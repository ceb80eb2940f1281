package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// legacyPassword is what the real applications know their users by.
const legacyPassword = "legacy-pw"

// hashOf makes the line for users.yaml, as an operator does.
func hashOf(t *testing.T, password string) string {
	t.Helper()
	c := exec.Command(lab.Binary(t), "mfa", "hash-password")
	c.Stdin = strings.NewReader(password + "\n")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("hash-password: %v\n%s", err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// legacyUsers are people whose password is the one that the applications know.
func legacyUsers(t *testing.T) string {
	return "  alice:\n    " + hashOf(t, legacyPassword) + "\n"
}

// clients is the script that drives the real clients.
type clients struct {
	t      *testing.T
	script string
	helper string // where git's credential helper notes what it is asked
}

func newClients(t *testing.T) *clients {
	t.Helper()
	script, err := filepath.Abs(filepath.Join(fixtures, "clients.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("bash", script, "install").CombinedOutput(); err != nil {
		t.Fatalf("installing the clients: %v\n%s", err, out)
	}
	return &clients{t: t, script: script, helper: filepath.Join(t.TempDir(), "helper.log")}
}

// run drives every client, and gives each one's verdict (OK, DENIED, LIED) and what the script says of it.
func (c *clients) run(base, caldav, user, password string) (verdicts, lines map[string]string) {
	c.t.Helper()
	dir := c.t.TempDir()
	command := exec.Command("bash", c.script, "run", base, user, password)
	command.Env = append(os.Environ(), "RW="+dir, "CALDAV="+caldav,
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=credential.helper", "GIT_CONFIG_VALUE_0=!f() { echo \"$1\" >>'"+c.helper+"'; }; f")
	out, err := command.CombinedOutput()
	if err != nil {
		c.t.Fatalf("clients.sh: %v\n%s", err, out)
	}
	verdicts, lines = map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, rest, _ := strings.Cut(line, " ")
		for word := range strings.FieldsSeq(rest) {
			if word == "OK" || word == "DENIED" || word == "LIED" {
				verdicts[name], lines[name] = word, strings.TrimSpace(line)
				break
			}
		}
	}
	if len(verdicts) < 12 {
		c.t.Fatalf("only these clients ran:\n%s", out)
	}
	return verdicts, lines
}

// asked is what git's credential helper was asked since the last time.
func (c *clients) asked() []string {
	text, err := os.ReadFile(c.helper)
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	os.Remove(c.helper)
	return strings.Fields(string(text))
}

// behindAs starts caddy-mfa in front of a real application, with what the directive says.
func (a *realApp) behindAs(options lab.Options) *lab.Proxy {
	a.t.Helper()
	if options.Users == "" {
		options.Users = legacyUsers(a.t)
	}
	if options.Site == "" {
		options.Site = "mfa app\nreverse_proxy {upstream}"
	}
	return lab.Start(a.t, "127.0.0.1:"+strconv.Itoa(a.port), options)
}

// address of a proxy by number: one client looks into a file that knows only that.
func byNumber(p *lab.Proxy) string { return "http://127.0.0.1:" + strconv.Itoa(p.Port) }

var byAnyName = "http://localhost:{port}, http://127.0.0.1:{port}"

// TestRealClients drives clients that were never made for a second factor.
func TestRealClients(t *testing.T) {
	if _, err := os.Stat(filepath.Join(fixtures, "clients.sh")); os.IsNotExist(err) {
		t.Log("the real clients are not beside this checkout")
		return
	}
	c := newClients(t)
	apache := startReal(t, "apache")
	radicale := startReal(t, "radicale", "AUTH=basic")

	t.Run("blocked", func(t *testing.T) {
		c.t = t
		web, cal := apache.behindAs(lab.Options{Address: byAnyName}), radicale.behindAs(lab.Options{Address: byAnyName})
		verdicts, lines := c.run(byNumber(web), byNumber(cal), "alice", legacyPassword)
		for _, name := range slices.Sorted(maps.Keys(verdicts)) {
			// w3m and cadaver end with 0 whatever happens.
			if v := verdicts[name]; v == "OK" || v == "LIED" && name != "w3m" && name != "cadaver" && name != "rclone-sync" || strings.Contains(lines[name], "WIPED") {
				t.Errorf("%s", lines[name])
			}
		}
		if asked := c.asked(); slices.Contains(asked, "store") || slices.Contains(asked, "erase") {
			t.Errorf("git's credential helper was asked to %q", asked)
		}
	})

	t.Run("with an app password", func(t *testing.T) {
		c.t = t
		// Of Digest, the application's own page for it would ask us for more than Basic, which is all that upstream_basic knows.
		site := "rewrite /digest/report.txt /dav/report.txt\nmfa app {\napp_passwords on digest\nupstream_basic {env.LEGACY_CREDENTIAL}\n}\nreverse_proxy {upstream}"
		t.Setenv("LEGACY_CREDENTIAL", "alice:"+legacyPassword)
		web, cal := apache.behindAs(lab.Options{Address: byAnyName, Site: site}), radicale.behindAs(lab.Options{Address: byAnyName, Site: site})
		// An app password is good for the server that has made it.
		password, calPassword := appPassword(t, web), appPassword(t, cal)
		verdicts, lines := c.run(byNumber(web), "", "alice", password)
		for _, name := range slices.Sorted(maps.Keys(verdicts)) {
			if v := verdicts[name]; v != "OK" || strings.Contains(lines[name], "WIPED") {
				t.Errorf("%s", lines[name])
			}
		}
		if v, lines := c.run(byNumber(web), byNumber(cal), "alice", calPassword); v["vdirsyncer"] != "OK" || v["git-push"] == "OK" {
			t.Errorf("with the calendar's app password: %s\n%s", lines["vdirsyncer"], lines["git-push"])
		}
		if v, lines := c.run(byNumber(web), byNumber(cal), "alice", legacyPassword); slices.Contains(slices.Collect(maps.Values(v)), "OK") {
			t.Errorf("with the password itself: %v", lines)
		}
		lab.Eventually(t, 15*time.Second, "the report tells of app passwords of every class", func() bool {
			over := classes(t, web)
			return over["digest"] && over["basic"] && over["git"] && over["svn"] && over["webdav"]
		})
	})

	t.Run("with an app password over Basic alone", func(t *testing.T) {
		c.t = t
		site := "mfa app {\napp_passwords on\nupstream_basic {env.LEGACY_CREDENTIAL}\n}\nreverse_proxy {upstream}"
		t.Setenv("LEGACY_CREDENTIAL", "alice:"+legacyPassword)
		web := apache.behindAs(lab.Options{Address: byAnyName, Site: site})
		verdicts, lines := c.run(byNumber(web), "", "alice", appPassword(t, web))
		for _, name := range slices.Sorted(maps.Keys(verdicts)) {
			if v := verdicts[name]; (v != "OK") != (name == "curl-digest") || strings.Contains(lines[name], "WIPED") {
				t.Errorf("%s", lines[name])
			}
		}
	})

	t.Run("reported", func(t *testing.T) {
		c.t = t
		direct := "http://127.0.0.1:" + strconv.Itoa(apache.port)
		site := "mfa app {\nlegacy_only\nlegacy_auth all report\n}\nreverse_proxy {upstream} {\ntransport http {\nkeepalive off\n}\n}"
		web := apache.behindAs(lab.Options{Address: byAnyName, Site: site})
		want, _ := c.run(direct, "", "alice", legacyPassword)
		got, lines := c.run(byNumber(web), "", "alice", legacyPassword)
		for name, v := range want {
			if got[name] != v {
				t.Errorf("direct it is %s: %s", v, lines[name])
			}
		}
		compareAnswers(t, apache.port, web.Port)
		report := ""
		for _, part := range []string{"git", "svn", "webdav", "digest", "alice"} {
			lab.Eventually(t, 15*time.Second, "the report tells of "+part, func() bool { // it is written every few seconds
				report = web.Command("legacy", "report")
				return strings.Contains(report, part)
			})
		}
		if strings.Contains(report, legacyPassword) {
			t.Errorf("the report tells the password:\n%s", report)
		}
	})
}

// classes are those that an app password has let in.
func classes(t *testing.T, p *lab.Proxy) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	type row struct {
		Class    string         `json:"class"`
		Verdicts map[string]int `json:"verdicts"`
	}
	for _, row := range asJSON[struct{ Rows []row }](t, p.Command("legacy", "report", "--json")).Rows {
		if row.Verdicts["app_password"] > 0 {
			all[row.Class] = true
		}
	}
	return all
}

// appPassword makes an app password for alice.
func appPassword(t *testing.T, p *lab.Proxy) string {
	t.Helper()
	out := p.Command("app-password", "add", "alice", "--application", "app", "--name", "a real client", "--json")
	var made struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Secret == "" {
		t.Fatalf("app-password add says %s: %v", out, err)
	}
	return made.Secret
}

// ours are the headers that lie between an application and its client: its own to begin with, and those of Caddy.
var ours = []string{"Date", "Via", "Server", "Connection", "Keep-Alive"}

// compareAnswers sends the same requests to the application itself and through the proxy, and compares what comes back.
func compareAnswers(t *testing.T, direct, through int) {
	t.Helper()
	basic := "Authorization: Basic YWxpY2U6bGVnYWN5LXB3\r\n"
	wrong := "Authorization: Basic YWxpY2U6d3Jvbmc=\r\n"
	propfind := `<?xml version="1.0"?><propfind xmlns="DAV:"><prop><getcontentlength/><resourcetype/></prop></propfind>`
	type request struct{ method, path, header, body string }
	requests := []request{}
	for _, credential := range []string{"", basic, wrong, "Authorization: Digest username=\"alice\", realm=\"x\"\r\n", "Authorization: Bearer x\r\n", "Authorization: NTLM TlRMTVNTUAABAAAA\r\n", "Authorization: nonsense\r\n"} {
		requests = append(requests,
			request{"GET", "/dav/report.txt", credential, ""},
			request{"HEAD", "/dav/report.txt", credential, ""},
			request{"OPTIONS", "/dav/", credential, ""},
			request{"PROPFIND", "/dav/report.txt", credential + "Depth: 0\r\nContent-Type: application/xml\r\n", propfind},
			request{"GET", "/git/r1.git/info/refs?service=git-upload-pack", credential + "Git-Protocol: version=2\r\n", ""},
			request{"GET", "/svn/r1/", credential, ""},
			request{"OPTIONS", "/svn/r1", credential + "Content-Type: text/xml\r\n", `<?xml version="1.0" encoding="utf-8"?><D:options xmlns:D="DAV:"><D:activity-collection-set></D:activity-collection-set></D:options>`},
			request{"GET", "/report.txt?access_token=x", credential, ""},
			request{"GET", "/hdr/cgi/whoami", credential, ""},
			request{"GET", "/nothing/here", credential, ""},
			request{"POST", "/cgi/whoami", credential + "Content-Type: application/x-www-form-urlencoded\r\n", "grant_type=password&username=alice&password=legacy-pw"},
			request{"POST", "/cgi/whoami", credential + "Content-Type: text/xml\r\n", `<?xml version="1.0"?><methodCall><methodName>x.login</methodName><params><param><value><string>alice</string></value></param></params></methodCall>`},
		)
	}
	for _, r := range requests {
		var got [2]string
		for i, port := range []int{direct, through} {
			got[i] = answerTo(t, port, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", r.method, r.path, direct, r.header, len(r.body), r.body), r.method)
		}
		if got[0] != got[1] {
			t.Errorf("%s %s with %q: the application says\n%s\nand through the proxy it is\n%s", r.method, r.path, r.header, got[0], got[1])
		}
	}
}

// answerTo gives status, headers and body of an answer as text, but for what a proxy may change.
func answerTo(t *testing.T, port int, request, method string) string {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%v to %q", err, request)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range ours {
		resp.Header.Del(name)
	}
	var b strings.Builder
	fmt.Fprintln(&b, resp.Status)
	resp.Header.Write(&b)
	// The CGI says what reached it: the proxy's own headers are among that.
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, "HTTP_X_FORWARDED_") && !strings.HasPrefix(line, "HTTP_VIA") && !strings.HasPrefix(line, "HTTP_CONNECTION") && !strings.HasPrefix(line, "HTTP_ACCEPT_ENCODING") {
			b.WriteString(line)
		}
	}
	return b.String()
}
