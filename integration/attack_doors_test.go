package integration

import (
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// TestAttackClimbingOutOfAnOpenDoor: ActiveSync is let in with a password alone, and nothing else is.
func TestAttackClimbingOutOfAnOpenDoor(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: "mfa mail {\nlegacy_auth eas allow\n}\nreverse_proxy {upstream}"})
	right := basic("alice", lab.Password)
	if got := sends(t, p, "OPTIONS /Microsoft-Server-ActiveSync", right); got != http.StatusOK {
		t.Fatalf("ActiveSync gets %d", got)
	}
	up.Forget()
	for _, path := range []string{
		"/ecp/", "/Microsoft-Server-ActiveSync/../ecp/", "/Microsoft-Server-ActiveSync/%2e%2e/ecp/", "/Microsoft-Server-ActiveSync/..%5cecp/", `/Microsoft-Server-ActiveSync\..\ecp/`,
		"/Microsoft-Server-ActiveSync/..;/ecp/", "/Microsoft-Server-ActiveSync%2f..%2fecp/", "/Microsoft-Server-ActiveSync/..%20/ecp/", "/a/../Microsoft-Server-ActiveSync/../ecp/",
	} {
		sends(t, p, "GET "+path, right)
		if up.Bytes() != 0 {
			t.Errorf("%s reaches the application", path)
			up.Forget()
		}
	}
}

// TestAttackAScopeForAnotherScheme: what is open for Digest below a path is open for nothing beside it.
func TestAttackAScopeForAnotherScheme(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: "mfa hr {\nlegacy_auth digest allow path /scan/*\n}\nreverse_proxy {upstream}"})
	const digest, negotiate = "Authorization: Digest username=\"x\"\r\n", "Authorization: Negotiate YII=\r\n"
	if got := sends(t, p, "GET /scan/1", digest); got != http.StatusOK {
		t.Fatalf("Digest gets %d", got)
	}
	up.Forget()
	for reason, lines := range map[string]string{
		"Basic behind it": digest + basic("alice", "guess"), "Basic before it": basic("alice", "guess") + digest, "Negotiate behind it": digest + negotiate,
	} {
		if sends(t, p, "GET /scan/1", lines); up.Bytes() != 0 {
			t.Errorf("%s reaches the application", reason)
			up.Forget()
		}
	}
}

// TestAttackNTLMOverSharedConnections: where NTLM can't be let in, nobody is let in to ask for its challenge.
func TestAttackNTLMOverSharedConnections(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: "mfa hr {\nlegacy_auth ntlm allow path /scan/*\n}\nreverse_proxy {upstream}"})
	for _, lines := range []string{"", "Authorization: NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw==\r\n"} {
		if got := sends(t, p, "GET /scan/1", "Accept: */*\r\n"+lines); up.Bytes() != 0 {
			t.Errorf("%q: %d, and it reaches the application", lines, got)
			up.Forget()
		}
	}
}

// TestAttackTheApplicationsCredentialIsForItAlone: whoever writes the page about an error doesn't get it.
func TestAttackTheApplicationsCredentialIsForItAlone(t *testing.T) {
	t.Parallel()
	other := lab.NewUpstream(t, nil)
	file := filepath.Join(t.TempDir(), "hr")
	if err := os.WriteFile(file, []byte("svc-hr:hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := lab.Start(t, "127.0.0.1:1", lab.Options{Site: "mfa hr {\napp_passwords on\nupstream_basic {file." + file + "}\n}\nreverse_proxy {upstream}\nhandle_errors {\nreverse_proxy " + other.Address + "\n}"})
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	key := addAppPassword(t, p, "alice", "--application", "hr")
	for reason, lines := range map[string]string{"a session": cookieHeader(b), "an app password": basic("alice", key.Secret)} {
		other.Forget()
		if sends(t, p, "GET /x", lines); other.Bytes() == 0 {
			t.Fatalf("%s: nobody has written a page", reason)
		}
		if raw := other.Raw(); strings.Contains(raw, base64.StdEncoding.EncodeToString([]byte("svc-hr:hunter2"))) || strings.Contains(raw, "Authorization") {
			t.Errorf("%s: it gets\n%s", reason, raw)
		}
	}
}

// TestAttackASessionBesideLegacyOnly: an application where nobody signs in gets nobody's session of another one on the same host.
func TestAttackASessionBesideLegacyOnly(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "mfa_session=planted; Path=/")
		w.Header().Add("Set-Cookie", "its=own")
		w.Header().Set("WWW-Authenticate", `Basic realm="old"`)
		io.WriteString(w, "secret report")
	})
	p := lab.Start(t, up.Address, lab.Options{Site: "handle /old/* {\nmfa old {\nlegacy_only\nlegacy_auth all report\n}\nreverse_proxy {upstream}\n}\nhandle {\nmfa hr\nreverse_proxy {upstream}\n}"})
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	up.Forget()
	a := p.Raw(t, "GET /old/x HTTP/1.1\r\nHost: "+strings.TrimPrefix(p.URL, "http://")+"\r\n"+strings.TrimSuffix(cookieHeader(b), "\r\n")+"; its=own\r\nRemote-User: x\r\nConnection: close\r\n\r\n")
	if up.Bytes() == 0 {
		t.Fatal("nothing reaches it")
	}
	if strings.Contains(up.Raw(), "mfa_session") {
		t.Errorf("it gets\n%s", up.Raw())
	}
	if strings.Contains(string(a), "planted") {
		t.Errorf("it plants a session:\n%s", a)
	}
	if last := up.Last(t); last.Header.Get("Cookie") != "its=own" || last.Header.Get("Remote-User") != "x" || !strings.Contains(string(a), "Set-Cookie: its=own") || !strings.Contains(string(a), "Basic realm") {
		t.Errorf("the rest doesn't pass as it came: %v\n%s", last.Header, a)
	}
}
