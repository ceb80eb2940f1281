package integration

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
}

// sends sends a request with these lines of header over a connection of its own, and gives the status.
func sends(t testing.TB, p *lab.Proxy, request, lines string) int {
	t.Helper()
	host := strings.TrimPrefix(p.URL, "http://")
	codes := p.Raw(t, request+" HTTP/1.1\r\nHost: "+host+"\r\n"+lines+"Connection: close\r\n\r\n").Statuses()
	if len(codes) != 1 {
		t.Fatalf("%s: answers %v", request, codes)
	}
	return codes[0]
}

type madeAppPassword struct{ Secret, ID string }

func addAppPassword(t testing.TB, p *lab.Proxy, user string, options ...string) madeAppPassword {
	t.Helper()
	out := p.Command(append([]string{"app-password", "add", user, "--name", "test", "--json"}, options...)...)
	return asJSON[madeAppPassword](t.(*testing.T), out)
}

const keyedSites = `mfa hr {
	app_passwords on
	service_tokens on
}
rewrite /old/* /new
reverse_proxy {upstream}`

func TestAttackAppPasswords(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: keyedSites})
	lab.NewBrowser(t, p.URL).Register("alice")
	up.Forget()
	key := addAppPassword(t, p, "alice", "--application", "hr")

	if got := sends(t, p, "PROPFIND /dav/", basic("ALICE", key.Secret)); got != http.StatusOK {
		t.Fatalf("the right one gets %d", got)
	}
	last := up.Last(t)
	if got := last.Header["Remote-User"]; len(got) != 1 || got[0] != "alice" || last.Header["Authorization"] != nil || last.Method != "PROPFIND" {
		t.Errorf("the application gets %v", last.Header)
	}
	if strings.Contains(up.Raw(), key.Secret) || strings.Contains(up.Raw(), base64.StdEncoding.EncodeToString([]byte("ALICE:"+key.Secret))) {
		t.Error("the app password reaches the application")
	}
	up.Forget()

	bound := map[string]madeAppPassword{
		"another address": addAppPassword(t, p, "alice", "--application", "hr", "--from", "10.0.0.0/8"),
		"another method":  addAppPassword(t, p, "alice", "--application", "hr", "--method", "PUT"),
		"another path":    addAppPassword(t, p, "alice", "--application", "hr", "--path", "/dav/*"),
		"reading":         addAppPassword(t, p, "alice", "--application", "hr", "--method", "GET"),
	}
	for reason, lines := range map[string]string{
		"another address":            basic("alice", bound["another address"].Secret),
		"an address that it says":    basic("alice", bound["another address"].Secret) + "X-Forwarded-For: 10.0.0.1\r\nX-Real-Ip: 10.0.0.1\r\n",
		"another method":             basic("alice", bound["another method"].Secret),
		"another method in a header": basic("alice", bound["another method"].Secret) + "X-HTTP-Method-Override: PUT\r\n",
		"another path":               basic("alice", bound["another path"].Secret),
		"another path in a header":   basic("alice", bound["another path"].Secret) + "X-Original-URL: /dav/x\r\nX-Rewrite-URL: /dav/x\r\n",
		"another one in a header":    basic("alice", bound["reading"].Secret) + "x-http-method-OVERRIDE: DELETE\r\n",
		"moved to another path":      basic("alice", bound["another path"].Secret) + "Destination: " + p.URL + "/admin\r\n",
		"another user":               basic("bob", key.Secret),
		"nobody":                     basic("zoe", key.Secret),
		"no user":                    basic("", key.Secret),
		"a secret that is cut":       basic("alice", key.Secret[:len(key.Secret)-1]),
		"a secret with more":         basic("alice", key.Secret+"0"),
		"the id alone":               basic("alice", key.ID),
		"two of them":                basic("alice", key.Secret) + basic("alice", key.Secret),
		"as a bearer token":          "Authorization: Bearer " + key.Secret + "\r\n",
		"as a service token":         "Mfa-Token-Id: " + key.ID + "\r\nMfa-Token-Secret: " + key.Secret + "\r\n",
		"in the target":              "X: y\r\n",
	} {
		request := "GET /x"
		if reason == "moved to another path" {
			request = "MOVE /dav/x"
		}
		if reason == "in the target" {
			request = "GET http://alice:" + key.Secret + "@" + strings.TrimPrefix(p.URL, "http://") + "/x"
		}
		if got := sends(t, p, request, lines); got != http.StatusUnauthorized && got != http.StatusForbidden {
			t.Errorf("%s: %d", reason, got)
		}
		if up.Bytes() != 0 {
			t.Errorf("%s: it reaches the application:\n%s", reason, up.Raw())
			up.Forget()
		}
	}
	for reason, request := range map[string]string{
		"a path that climbs": "GET /dav/../x", "a path that climbs in disguise": "GET /dav/..%2fx", "a path with a parameter": "GET /dav/..;/x",
		"a path that is rewritten": "GET /old/dav",
	} {
		if got := sends(t, p, request, basic("alice", bound["another path"].Secret)); got == http.StatusOK || up.Bytes() != 0 {
			t.Errorf("%s: %d", reason, got)
			up.Forget()
		}
	}
	// It opens none of our own pages, and is no session.
	if page := p.Raw(t, "GET /_mfa/account HTTP/1.1\r\nHost: "+strings.TrimPrefix(p.URL, "http://")+"\r\n"+basic("alice", key.Secret)+"Connection: close\r\n\r\n"); strings.Contains(string(page), "alice") {
		t.Errorf("the account page opens:\n%s", page)
	}
	// Where it is good, it still is.
	if got := sends(t, p, "GET /dav/x", basic("alice", bound["another path"].Secret)); got != http.StatusOK {
		t.Errorf("where it is good: %d", got)
	}
	for _, c := range []struct {
		what  string
		end   func()
		ended []string
	}{
		{"revoked", func() { p.Command("app-password", "revoke", "alice", key.ID) }, []string{key.Secret}},
		{"of one who was blocked", func() { p.Command("user", "block", "alice"); p.Command("user", "unblock", "alice") }, []string{key.Secret, bound["another path"].Secret}},
	} {
		what := c.what
		c.end()
		up.Forget()
		for _, secret := range c.ended {
			if got := sends(t, p, "GET /dav/x", basic("alice", secret)); got == http.StatusOK || up.Bytes() != 0 {
				t.Errorf("%s: %d", what, got)
			}
		}
	}
	for _, secret := range []string{key.Secret, bound["another path"].Secret} {
		if strings.Contains(p.Log(), secret) || strings.Contains(p.Log(), strings.ReplaceAll(secret, "-", "")[8:]) {
			t.Error("an app password stands in the log")
		}
	}
	if _, metrics := p.API("GET", "/metrics", nil); strings.Contains(metrics, "alice") || strings.Contains(metrics, key.ID) {
		t.Error("the metrics name a user or a key")
	}
}

func TestAttackAppPasswordsEndWithThePassword(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: keyedSites})
	alice, bob := addAppPassword(t, p, "alice", "--application", "hr"), addAppPassword(t, p, "bob", "--application", "hr")
	good := func(user string, key madeAppPassword) bool {
		up.Forget()
		return sends(t, p, "GET /x", basic(user, key.Secret)) == http.StatusOK && up.Bytes() > 0
	}
	if !good("alice", alice) || !good("bob", bob) {
		t.Fatal("they are not good")
	}
	const other = "$argon2id$v=19$m=19456,t=2,p=1$3yvdsBjeFkX3zMB0ocdRBA$WQXHtc62JO5dnnwiGFd9XEChnJu/Qe4Y7sftrfakhYM"
	p.Write("users.yaml", "users:\n  alice:\n    password: "+other+"\n  bob:\n    password: "+other+"\n    disabled: true\n")
	lab.Eventually(t, 10*time.Second, "both end", func() bool { return !good("alice", alice) && !good("bob", bob) })
	lab.Eventually(t, 10*time.Second, "those of who is disabled are taken away", func() bool { return len(p.Events("app_passwords_ended")) == 1 })
	if e := p.Events("app_passwords_ended")[0]; e["user"] != "bob" || e["reason"] != "disabled" {
		t.Errorf("%v", e)
	}
}

func TestAttackGuessingAppPasswords(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: keyedSites})
	key := addAppPassword(t, p, "alice", "--application", "hr")
	up.Forget()
	statuses := map[string][]int{}
	for _, user := range []string{"alice", "zoe"} {
		for i := range 10 {
			statuses[user] = append(statuses[user], sends(t, p, "GET /x", basic(user, fmt.Sprintf("%028d", i))))
		}
	}
	// Five were judged, and the others were not.
	if refused, throttled := len(p.Events("key_refused")), len(p.Events("key_throttled")); refused != 10 || throttled == 0 {
		t.Errorf("%d guesses at two users were judged; %d events say that one was not", refused, throttled)
	}
	if got := statuses["alice"][9]; got != http.StatusForbidden {
		t.Errorf("a guess that is not judged gets %d", got)
	}
	if fmt.Sprint(statuses["alice"]) != fmt.Sprint(statuses["zoe"]) {
		t.Errorf("somebody who isn't there: %v", statuses["zoe"])
	}
	up.WantNothing(t)
	// The owner, from the same address, is not locked out, neither with his key nor at the sign-in page.
	if got := sends(t, p, "GET /x", basic("alice", key.Secret)); got != http.StatusOK {
		t.Errorf("the owner's key gets %d", got)
	}
	lab.NewBrowser(t, p.URL).Password("/", "alice", lab.Password).Want("Set up your second step")
}

func TestAttackServiceTokens(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	o := keyedOptions
	o.Site = keyedSites
	p := lab.Start(t, up.Address, o)
	made := asJSON[madeAppPassword](t, p.Command("service-token", "add", "backup", "--json"))
	token := "Mfa-Token-Id: " + made.ID + "\r\nMfa-Token-Secret: " + made.Secret + "\r\n"

	if got := sends(t, p, "POST /x", token+"Content-Length: 0\r\nAuthorization: Bearer of-the-application\r\nMfa_Token_Secret: "+made.Secret+"\r\nmfa.token.id: x\r\n"); got != http.StatusOK {
		t.Fatalf("the right one gets %d", got)
	}
	last := up.Last(t)
	if got := last.Header["Remote-User"]; len(got) != 1 || got[0] != "service:backup" || last.Header.Get("Authorization") != "Bearer of-the-application" {
		t.Errorf("the application gets %v", last.Header)
	}
	if raw := strings.ToLower(up.Raw()); strings.Contains(raw, "token-") || strings.Contains(raw, "token_") || strings.Contains(raw, "token.") || strings.Contains(raw, made.Secret) {
		t.Errorf("the token reaches the application:\n%s", up.Raw())
	}
	up.Forget()
	for reason, lines := range map[string]string{
		"a wrong secret":                  "Mfa-Token-Id: " + made.ID + "\r\nMfa-Token-Secret: " + strings.Repeat("0", 40) + "\r\n",
		"no secret":                       "Mfa-Token-Id: " + made.ID + "\r\n",
		"no id":                           "Mfa-Token-Secret: " + made.Secret + "\r\n",
		"its name for the id":             "Mfa-Token-Id: backup\r\nMfa-Token-Secret: " + made.Secret + "\r\n",
		"two secrets":                     token + "Mfa-Token-Secret: " + made.Secret + "\r\n",
		"other spellings":                 strings.ReplaceAll(token, "-Token-", "_Token_"),
		"its user's name as Basic":        basic("service:backup", made.Secret),
		"a header that names who it is":   "Remote-User: service:backup\r\n",
		"the headers named in Connection": "Connection: Mfa-Token-Secret\r\nMfa-Token-Id: " + made.ID + "\r\n",
	} {
		if got := sends(t, p, "GET /x", lines); got == http.StatusOK || up.Bytes() != 0 {
			t.Errorf("%s: %d", reason, got)
			up.Forget()
		}
	}
	p.Command("service-token", "revoke", "backup", "--all")
	if got := sends(t, p, "GET /x", token); got == http.StatusOK || up.Bytes() != 0 {
		t.Errorf("revoked: %d", got)
	}
	if strings.Contains(p.Log(), made.Secret) {
		for line := range strings.Lines(p.Log()) {
			if strings.Contains(line, made.Secret) {
				t.Errorf("the secret stands in the log: %s", line)
			}
		}
	}
}

// held opens an answer that doesn't end, with this line of header, and gives what is closed when it does.
func held(t testing.TB, p *lab.Proxy, header, value string) <-chan struct{} {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range strings.Split(header, " ") {
		req.Header.Set(name, strings.Split(value, " and ")[i])
	}
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		io.Copy(io.Discard, resp.Body) // until it ends, however it does
		resp.Body.Close()
	}()
	return ended
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// What ends a key on one machine ends what it has opened on another, within a second.
func TestAttackOpenConnectionsOfKeysAreCutOnEveryNode(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "websocket" {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			for rw.Flush() == nil {
				rw.WriteString("secret report\n")
				time.Sleep(20 * time.Millisecond)
			}
			return
		}
		for w.WriteHeader(http.StatusOK); r.Context().Err() == nil; time.Sleep(20 * time.Millisecond) {
			fmt.Fprintln(w, "secret report")
			w.(http.Flusher).Flush()
		}
	})
	o := onRedis(redistest.Start(t))
	o.Site = keyedSites
	o.Global += "\n" + keyedOptions.Global
	here, there := lab.Start(t, up.Address, o), lab.Start(t, up.Address, o)
	key := func() (string, madeAppPassword) {
		made := addAppPassword(t, here, "alice", "--application", "hr")
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:"+made.Secret)), made
	}
	for reason, end := range map[string]func(madeAppPassword){
		"revoked": func(made madeAppPassword) { here.Command("app-password", "revoke", "alice", made.ID) },
		"reset":   func(madeAppPassword) { here.Command("user", "reset", "alice") },
		"blocked": func(madeAppPassword) {
			here.Command("user", "block", "alice")
			here.Command("user", "unblock", "alice")
		},
	} {
		value, made := key()
		ended := held(t, there, "Authorization", value)
		program := lab.NewBrowser(t, there.URL)
		program.Header.Set("Authorization", value)
		socket, _ := program.WebSocket("/socket")
		socket.WantFlowing(t, reason+": the WebSocket")
		end(made)
		socket.WantCut(t, time.Now(), time.Second, reason+": the WebSocket")
		there.Within(t, time.Now(), time.Second, reason+": it is cut", func() bool { return closed(ended) })
	}
	token := asJSON[madeAppPassword](t, here.Command("service-token", "add", "backup", "--json"))
	ended := held(t, there, "Mfa-Token-Id Mfa-Token-Secret", token.ID+" and "+token.Secret)
	machine := lab.NewBrowser(t, there.URL)
	machine.Header.Set("Mfa-Token-Id", token.ID)
	machine.Header.Set("Mfa-Token-Secret", token.Secret)
	socket, _ := machine.WebSocket("/socket")
	socket.WantFlowing(t, "a service token: the WebSocket")
	here.Command("service-token", "revoke", "backup", token.ID)
	socket.WantCut(t, time.Now(), time.Second, "a service token: the WebSocket")
	there.Within(t, time.Now(), time.Second, "a service token: it is cut", func() bool { return closed(ended) })
	value, _ := key()
	stays := held(t, there, "Authorization", value)
	select {
	case <-stays:
		t.Error("one that is good was cut")
	case <-time.After(3 * time.Second):
	}
}

func TestAttackAppPasswordsByTheUsersOwnSetting(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	o := lab.Options{Site: "mfa hr\nreverse_proxy {upstream}", Global: "security_defaults off\nper_user_mfa {\napp_passwords on\n}"}
	p := lab.Start(t, up.Address, o)
	if out, err := p.TryCommand("app-password", "add", "alice", "--application", "hr", "--name", "n"); err == nil {
		t.Fatalf("somebody without a setting gets one: %s", out)
	}
	p.Command("user", "state", "alice", "enabled")
	key := addAppPassword(t, p, "alice", "--application", "hr")
	reaches := func() bool {
		up.Forget()
		return sends(t, p, "GET /x", basic("alice", key.Secret)) == http.StatusOK && up.Bytes() > 0
	}
	if !reaches() {
		t.Error("enabled: it is not good")
	}
	p.Command("user", "state", "alice", "enforced")
	if !reaches() {
		t.Error("enforced: it is not good")
	}
	p.Command("user", "state", "alice", "disabled")
	if reaches() {
		t.Error("disabled: it is good")
	}
	p.Command("user", "state", "alice", "enforced")
	for reason, change := range map[string]func(*lab.Options){
		"the application says off": func(o *lab.Options) { o.Site = "mfa hr {\napp_passwords off\n}\nreverse_proxy {upstream}" },
		"the setting says off":     func(o *lab.Options) { o.Global = "security_defaults off\nper_user_mfa {\napp_passwords off\n}" },
		"nothing is said":          func(o *lab.Options) { o.Global = "security_defaults off\nper_user_mfa" },
	} {
		other := o
		change(&other)
		if err := p.Reload(lab.Caddyfile(p, up.Address, other)); err != nil {
			t.Fatal(err)
		}
		if reaches() {
			t.Errorf("%s: it is good", reason)
		}
		if err := p.Reload(lab.Caddyfile(p, up.Address, o)); err != nil {
			t.Fatal(err)
		}
		if !reaches() {
			t.Errorf("%s no more, and it is not good", reason)
		}
	}
}
