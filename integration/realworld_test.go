package integration

import (
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// fixtures starts real applications. They lie beside a checkout of ours and not in it: without them the tests below have nothing
// to run, and pass.
const fixtures = "../../shared/realworld"

// TestRealApplications puts caddy-mfa in front of applications that were never made for it.
func TestRealApplications(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, app *realApp){
		"apache": testApache, "radicale": testRadicale, "novnc": testNoVNC, "dokuwiki": testDokuWiki,
	} {
		script, err := filepath.Abs(filepath.Join(fixtures, name+".sh"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(script); os.IsNotExist(err) {
			t.Logf("%s is not beside this checkout", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			test(t, startReal(t, name))
		})
	}
}

// startReal starts an application. It ends with the test. env are more variables for its script.
func startReal(t *testing.T, name string, env ...string) *realApp {
	t.Helper()
	script, err := filepath.Abs(filepath.Join(fixtures, name+".sh"))
	if err != nil {
		t.Fatal(err)
	}
	app := &realApp{t: t, script: script, env: env, port: lab.FreePort(t), more: lab.FreePort(t)}
	// Others must be able to reach it: the application runs as a user of its own.
	if app.dir, err = os.MkdirTemp("", "realworld"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(app.dir) })
	if err := os.Chmod(app.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	app.run("install")
	t.Cleanup(func() { app.run("stop") })
	app.run("start")
	return app
}

// realApp is an application that a script has started.
type realApp struct {
	t          *testing.T
	script     string
	env        []string
	dir        string
	port, more int
}

func (a *realApp) run(command string) {
	a.t.Helper()
	c := exec.Command("bash", a.script, command)
	c.Env = append(os.Environ(), "RW="+a.dir, "PORT="+strconv.Itoa(a.port), "EPORT="+strconv.Itoa(a.more))
	c.Env = append(c.Env, a.env...)
	if out, err := c.CombinedOutput(); err != nil {
		a.t.Fatalf("%s %s: %v\n%s", a.script, command, err, out)
	}
}

// behind starts caddy-mfa in front of it, which names the user in X-Remote-User.
func (a *realApp) behind() *lab.Proxy {
	a.t.Helper()
	return lab.Start(a.t, "127.0.0.1:"+strconv.Itoa(a.port), lab.Options{Site: "mfa app {\nidentity {\nuser X-Remote-User\n}\n}\nreverse_proxy {upstream}"})
}

// signInTo registers a person on the way to a page, and ends there.
func signInTo(t *testing.T, b *lab.Browser, ref, user string) *lab.Page {
	page := b.Password(ref, user, lab.Password).Submit("begin")
	person := &lab.Person{Name: user, Key: page.Key()}
	return page.Submit("code", "code", person.Code(t)).Submit("kept").Follow()
}

// send sends a request as a program would, and gives status and body.
func send(t *testing.T, b *lab.Browser, method, ref, body string, header ...string) (int, string) {
	t.Helper()
	req := b.Request(method, ref, nil)
	req.Header = http.Header{}
	if body != "" {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	for i := 0; i < len(header); i += 2 {
		req.Header[header[i]] = append(req.Header[header[i]], header[i+1]) // in the spelling given
	}
	p := b.Do(req)
	return p.Status, p.Body
}

func testApache(t *testing.T, app *realApp) {
	p := app.behind()
	stranger := lab.NewBrowser(t, p.URL)
	for _, header := range [][]string{nil, {"X-Remote-User", "alice"}, {"X_Remote_User", "alice"}, {"x-remote.user", "alice"}, {"Authorization", "Basic YWxpY2U6bGVnYWN5LXB3"}} {
		for _, path := range []string{"/hdr/cgi/whoami", "/cgi/whoami", "/dav/report.txt", "/hdr/gitweb"} {
			if status, body := send(t, stranger, "GET", path, "", header...); status != http.StatusForbidden || strings.Contains(body, "REMOTE_USER") || strings.Contains(body, "secret") || strings.Contains(body, "gitweb") {
				t.Errorf("%v gets %s: %d %s", header, path, status, body)
			}
		}
	}

	b := lab.NewBrowser(t, p.URL)
	page := signInTo(t, b, "/hdr/cgi/whoami?a=1&b=%20", "alice").Want("REMOTE_USER=[alice]")
	for _, secret := range []string{"mfa_", "HTTP_AUTHORIZATION"} {
		if page.Has(secret) {
			t.Errorf("the application sees %s:\n%s", secret, page)
		}
	}
	b.Get("/hdr/gitweb").Want("Legacy gitweb").Want("r1.git")
	// A signed-in user is nobody else, however he spells it.
	for _, name := range []string{"X-Remote-User", "X_Remote_User", "X_remote-user", "x.remote.user", "X-Remote_User"} {
		if status, body := send(t, b, "GET", "/hdr/cgi/whoami", "", name, "root"); status != http.StatusOK || !strings.Contains(body, "REMOTE_USER=[alice]") || strings.Contains(body, "root") {
			t.Errorf("with %s: root the application says %d:\n%s", name, status, body)
		}
	}
	if _, body := send(t, b, "GET", "/hdr/cgi/whoami", "", "Connection", "close, X-Remote-User"); !strings.Contains(body, "REMOTE_USER=[alice]") {
		t.Errorf("Connection takes the identity away:\n%s", body)
	}
	// Its own Basic area invites to a password that we would refuse: the invitation is taken out.
	challenged := b.Do(b.Request("GET", "/cgi/whoami", nil))
	if challenged.Status != http.StatusUnauthorized || challenged.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("the application's challenge: %d %v", challenged.Status, challenged.Header)
	}
	// Events come as they are made.
	events := b.Stream("/hdr/cgi/sse")
	defer events.Close()
	lab.Eventually(t, 3*time.Second, "the first event", func() bool { return events.Bytes() > 0 })
	if !events.Open() {
		t.Error("the events came all at once, at the end")
	}
}

func testRadicale(t *testing.T, app *realApp) {
	p := app.behind()
	const whoAmI = `<propfind xmlns="DAV:"><prop><current-user-principal/></prop></propfind>`
	xml := []string{"Content-Type", "application/xml", "Depth", "0"}
	stranger := lab.NewBrowser(t, p.URL)
	for _, method := range []string{"PROPFIND", "MKCALENDAR", "REPORT", "PUT", "DELETE", "OPTIONS"} {
		if status, body := send(t, stranger, method, "/alice/", whoAmI, append(xml, "X-Remote-User", "alice")...); status != http.StatusForbidden || strings.Contains(body, "multistatus") {
			t.Errorf("%s without a session: %d %s", method, status, body)
		}
	}

	b := lab.NewBrowser(t, p.URL)
	signInTo(t, b, "/.web/", "alice").Want("Radicale")
	if status, body := send(t, b, "PROPFIND", "/", whoAmI, xml...); status != http.StatusMultiStatus || !strings.Contains(body, "/alice/") {
		t.Errorf("PROPFIND: %d %s", status, body)
	}
	if status, body := send(t, b, "MKCALENDAR", "/alice/cal/", ""); status != http.StatusCreated {
		t.Fatalf("MKCALENDAR: %d %s", status, body)
	}
	event := "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Example//EN\r\nBEGIN:VEVENT\r\nUID:1@example.com\r\nDTSTAMP:20261101T100000Z\r\nDTSTART:20261201T100000Z\r\nSUMMARY:Staff meeting\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
	if status, body := send(t, b, "PUT", "/alice/cal/1.ics", event, "Content-Type", "text/calendar"); status != http.StatusCreated {
		t.Fatalf("PUT: %d %s", status, body)
	}
	const query = `<C:calendar-query xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><prop><C:calendar-data/></prop><C:filter><C:comp-filter name="VCALENDAR"/></C:filter></C:calendar-query>`
	if status, body := send(t, b, "REPORT", "/alice/cal/", query, "Content-Type", "application/xml", "Depth", "1"); status != http.StatusMultiStatus || !strings.Contains(body, "Staff meeting") {
		t.Errorf("REPORT: %d %s", status, body)
	}
	// Bob is bob, and alice's calendar is not his.
	other := lab.NewBrowser(t, p.URL)
	signInTo(t, other, "/.web/", "bob")
	if status, body := send(t, other, "GET", "/alice/cal/1.ics", "", "X-Remote-User", "alice"); status != http.StatusForbidden || strings.Contains(body, "meeting") {
		t.Errorf("bob gets alice's calendar: %d %s", status, body)
	}
}

func testNoVNC(t *testing.T, app *realApp) {
	p := app.behind()
	for _, path := range []string{"/vnc.html", "/websockify"} {
		if status, body := send(t, lab.NewBrowser(t, p.URL), "GET", path, "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="); status != http.StatusUnauthorized {
			t.Errorf("a WebSocket to %s without a session: %d %s", path, status, body)
		}
	}

	b := lab.NewBrowser(t, p.URL)
	signInTo(t, b, "/vnc.html", "alice").Want("<title>noVNC</title>")
	socket, conn := b.WebSocket("/websockify")
	defer socket.Close()
	for n := range 3 {
		text, before := "ping-"+strconv.Itoa(n), socket.Bytes()
		frame := append([]byte{0x82, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...) // binary, masked with zeros (RFC 6455, section 5.2)
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 5*time.Second, "the echo of "+text, func() bool { return socket.Bytes() == before+2+int64(len(text)) })
	}
	signedOut := time.Now()
	b.Get("/_mfa/signout").Submit("Sign out")
	t.Logf("cut %v after sign-out", socket.WantCut(t, signedOut, cutWithin, "the WebSocket"))
}

// testDokuWiki reads a page over XML-RPC, with an app password and without.
func testDokuWiki(t *testing.T, app *realApp) {
	t.Setenv("LEGACY_CREDENTIAL", "alice:"+legacyPassword)
	p := app.behindAs(lab.Options{Site: "mfa app {\napp_passwords on\nupstream_basic {env.LEGACY_CREDENTIAL}\n}\nreverse_proxy {upstream}"})
	const call = `<?xml version="1.0"?><methodCall><methodName>wiki.getPage</methodName><params><param><value><string>start</string></value></param></params></methodCall>`
	const login = `<?xml version="1.0"?><methodCall><methodName>dokuwiki.login</methodName><params><param><value><string>alice</string></value></param><param><value><string>legacy-pw</string></value></param></params></methodCall>`
	basic := func(password string) []string {
		return []string{"Content-Type", "text/xml", "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:"+password))}
	}
	b := lab.NewBrowser(t, p.URL)
	for what, refused := range map[string]struct {
		body   string
		header []string
	}{
		"a call of nobody":         {call, []string{"Content-Type", "text/xml"}},
		"a call with the password": {call, basic(legacyPassword)},
		"a password in the body":   {login, []string{"Content-Type", "text/xml"}},
		"a wrong app password":     {call, basic(appPassword(t, p) + "x")},
	} {
		if status, body := send(t, b, "POST", "/lib/exe/xmlrpc.php", refused.body, refused.header...); status != http.StatusUnauthorized && status != http.StatusForbidden || strings.Contains(body, "methodResponse") {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	if status, body := send(t, b, "POST", "/lib/exe/xmlrpc.php", call, basic(appPassword(t, p))...); status != http.StatusOK || !strings.Contains(body, "Secret Start") {
		t.Errorf("with an app password: %d %s", status, body)
	}
}
