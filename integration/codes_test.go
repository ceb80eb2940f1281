package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// asked is a policy that asks everybody for a second factor, in the place of security defaults.
const asked = "security_defaults off\n\t\tpolicy everybody {\n\t\t\tstate enabled\n\t\t\tusers all\n\t\t\tapplications all\n\t\t\tgrant mfa\n\t\t}\n\t\t"

const (
	aliceNumber = "+31612345678"
	bobNumber   = "+31687654321"
)

// withPhone makes the users, of whom alice has a number in the directory.
var withPhone = strings.Replace(lab.Users, "    email: alice@example.com\n", "    email: alice@example.com\n    phone: \""+aliceNumber+"\"\n    language: nl\n", 1)

// registerPhone signs somebody in for the first time, registers his phone, and ends at the application.
func registerPhone(t *testing.T, b *lab.Browser, g *lab.Gateway, user, number, typed string) {
	t.Helper()
	page := b.Password("/", user, lab.Password).Want("Set up your second step")
	u, err := page.URL.Parse("/_mfa/register?" + url.Values{"page": {"sms"}, "t": {page.URL.Query().Get("t")}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	page = b.Get(u.String()).Want("Phone number, with its country").Submit("number", "to", typed).Want("Enter the code")
	page.Submit("finish", "code", g.Code(t, number)).Want("Keep your recovery codes").Submit("kept").Follow().Want("secret report")
}

// TestWhatWeSendEqualsWhatTwiliosOwnClientSends has the official client as the judge of our gateway, and of what we send to it.
func TestWhatWeSendEqualsWhatTwiliosOwnClientSends(t *testing.T) {
	t.Parallel()
	g := lab.NewGateway(t)
	p := lab.Start(t, lab.NewUpstream(t, nil).Address, lab.Options{Global: asked + g.Config(""), Users: withPhone})
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", "alice", lab.Password).Submit("send")
	page.Want("is onderweg naar")
	b.Get("/_mfa/verify?method=voice").Submit("send").Want("U wordt gebeld")
	ours := g.Sent()
	if len(ours) != 2 {
		t.Fatalf("%d requests: %+v", len(ours), ours)
	}
	if body := ours[0].Form.Get("Body"); !strings.HasSuffix(body, "\n\n@localhost #"+body[:6]) {
		t.Errorf("the message is not bound to the host: %q", body)
	}
	verbs, err := lab.TwiML(ours[1].Form.Get("Twiml"))
	if err != nil || len(verbs) != 2 || !strings.HasPrefix(verbs[1], `Say{"language":"nl-NL"}`) {
		t.Fatalf("%q, %v", verbs, err)
	}
	text := strings.TrimPrefix(verbs[1], `Say{"language":"nl-NL"}`)
	if spelled := strings.Join(strings.Split(g.Code(t, aliceNumber), ""), ", "); strings.Count(text, spelled) != 2 {
		t.Errorf("%q does not read %s twice", text, spelled)
	}

	c := exec.Command("node", "testdata/twilio.js")
	c.Env = append(os.Environ(), "URL_OF_GATEWAY="+g.URL, "SID="+g.SID, "TOKEN="+lab.GatewayToken, "TO="+aliceNumber, "FROM=+31970000000",
		"BODY="+ours[0].Form.Get("Body"), "TEXT="+text, "LANGUAGE=nl-NL")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("twilio's client: %v\n%s", err, out)
	}
	var got struct {
		Message, Body, Call string
		Code, Status        int
	}
	if err := json.Unmarshal(out, &got); err != nil || !strings.HasPrefix(got.Message, "SM") || !strings.HasPrefix(got.Call, "CA") || got.Body != ours[0].Form.Get("Body") || got.Code != 21211 || got.Status != 400 {
		t.Fatalf("twilio's client reads of our gateway: %+v, %v\n%s", got, err, out)
	}
	theirs := g.Sent()[2:4]
	for i, our := range ours {
		their := theirs[i]
		if our.Method != their.Method || our.Path != their.Path || our.User != their.User || our.Password != their.Password || our.ContentType != their.ContentType {
			t.Errorf("we send %+v\nand they %+v", our, their)
		}
		for _, forms := range [][2]url.Values{{our.Form, their.Form}, {their.Form, our.Form}} {
			for name := range forms[0] {
				x, y := forms[0][name], forms[1][name]
				if name == "Twiml" {
					var errX, errY error
					x, errX = lab.TwiML(x[0])
					y, errY = lab.TwiML(y[0])
					if errX != nil || errY != nil {
						t.Errorf("%v, %v", errX, errY)
					}
				}
				if !slices.Equal(x, y) {
					t.Errorf("%s: %q and %q", name, x, y)
				}
			}
		}
	}
}

func TestSigningInWithATextMessage(t *testing.T) {
	t.Parallel()
	g, up := lab.NewGateway(t), lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: asked + g.Config("")})
	registerPhone(t, lab.NewBrowser(t, p.URL), g, "bob", bobNumber, "+31 (0)6 87654321")
	up.Forget()
	sent := len(g.Sent())

	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/a?b=c", "bob", lab.Password).Want("+31 •••• ••21")
	if page.Has("8765432") {
		t.Errorf("the page shows the number: %s", page)
	}
	b.Get(page.URL.String())
	if n := len(g.Sent()); n != sent {
		t.Fatalf("%d messages were sent by loading a page", n-sent)
	}
	page = page.Submit("send").Want("is on its way to")
	b.Get(page.URL.String()).Want("is on its way to")
	if n := len(g.Sent()); n != sent+1 {
		t.Fatalf("%d messages were sent", n-sent)
	}
	page.Submit("send").WantStatus(http.StatusTooManyRequests).Want("You can ask for another one in").Want("Use a recovery code")
	page = page.Submit("code", "code", "000000").WantStatus(http.StatusUnprocessableEntity).Want("That code is not right.")
	up.WantNothing(t)
	landing := page.Submit("code", "code", g.Code(t, bobNumber)).Follow().Want("secret report")
	if landing.URL.RequestURI() != "/a?b=c" {
		t.Errorf("landed at %s", landing.URL)
	}

	t.Log("a call, by way of another way")
	c := lab.NewBrowser(t, p.URL)
	page = c.Password("/", "bob", lab.Password).Want("Be called, and hear a code")
	page = c.Get("/_mfa/verify?method=voice&t=" + url.QueryEscape(page.URL.Query().Get("t"))).Submit("send").Want("You are being called")
	page.Submit("code", "code", g.Code(t, bobNumber)).Follow().Want("secret report")

	t.Log("what was sent stands in the log of events and in the metrics, and the code and the number nowhere")
	if n := len(p.Events("code_sent")); n != 3 {
		t.Errorf("%d events", n)
	}
	if log := p.Log(); strings.Contains(log, "87654321") || strings.Contains(log, g.Code(t, bobNumber)) || strings.Contains(log, lab.GatewayToken) {
		t.Error("the log holds a number, a code or the token")
	}
	if _, metrics := p.API("GET", "/metrics", nil); !strings.Contains(metrics, `caddy_mfa_messages_total{method="voice",result="accepted",sender="gateway"} 1`) {
		t.Errorf("metrics:\n%s", metrics)
	}
	if _, config := p.API("GET", "/config/", nil); strings.Contains(config, lab.GatewayToken) {
		t.Error("the configuration shows the token")
	}
	var user struct {
		Credentials []struct{ Method string }
	}
	if err := json.Unmarshal([]byte(p.Command("user", "show", "bob", "--json")), &user); err != nil || len(user.Credentials) != 2 {
		t.Errorf("%+v, %v", user, err)
	}
}

// TestAGatewayThatFails shows that the page answers in time, that nothing is sent twice, and that there is another way.
func TestAGatewayThatFails(t *testing.T) {
	t.Parallel()
	first, second := lab.NewGateway(t), lab.NewGateway(t)
	global := asked + first.Config("timeout 4s")
	global = strings.Replace(global, "sender gateway\n", "sender gateway spare\n", 2) + fmt.Sprintf("\n\t\tsender spare twilio {\n\t\t\taccount_sid %s\n\t\t\tauth_token {env.NOT_A_SECRET}\n\t\t\tfrom +31970000001\n\t\t\turl %s\n\t\t}", second.SID, second.URL)
	// The other one has its token from a file too.
	global = strings.Replace(global, "{env.NOT_A_SECRET}", global[strings.Index(global, "{file."):strings.Index(global, "/token}")]+"/token}", 1)
	p := lab.Start(t, lab.NewUpstream(t, nil).Address, lab.Options{Global: global, Users: withPhone})

	press := func(user string) (page *lab.Page, took, allowed time.Duration) {
		t.Helper()
		b := lab.NewBrowser(t, p.URL)
		page = b.Password("/", user, lab.Password)
		began := time.Now()
		page = page.Submit("send")
		return page, time.Since(began), p.Allowed(began, 2*time.Second)
	}
	// attempts are those that have come to an end.
	attempts := func() (n int) {
		t.Helper()
		_, metrics := p.API("GET", "/metrics", nil)
		for line := range strings.Lines(metrics) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "caddy_mfa_messages_total{") {
				k, err := strconv.Atoi(value)
				if err != nil {
					t.Fatal(err)
				}
				n += k
			}
		}
		return n
	}
	var total [2]int
	for _, tc := range []struct {
		what          string
		first, second func(*lab.Gateway)
		requests      [2]int
		says          string
	}{
		{"429: the spare one sends", func(g *lab.Gateway) { g.Fails(429) }, nil, [2]int{1, 1}, "onderweg"},
		{"500: it may have been sent", func(g *lab.Gateway) { g.Fails(500) }, nil, [2]int{1, 0}, "onderweg"},
		{"the answer is lost", (*lab.Gateway).Drops, nil, [2]int{1, 0}, "onderweg"},
		{"it hangs", func(g *lab.Gateway) { g.Hangs(time.Minute) }, nil, [2]int{1, 0}, "onderweg"},
		{"both refuse", func(g *lab.Gateway) { g.Fails(429) }, func(g *lab.Gateway) { g.Fails(400) }, [2]int{1, 1}, "De code kon niet gestuurd worden."},
	} {
		before := [2]int{len(first.Sent()), len(second.Sent())}
		first.Does(nil)
		second.Does(nil)
		tc.first(first)
		if tc.second != nil {
			tc.second(second)
		}
		page, took, allowed := press("alice")
		if took > allowed {
			t.Errorf("%s: the page took %v", tc.what, took)
		}
		if !page.Has(tc.says) {
			t.Errorf("%s: %s", tc.what, page)
		}
		if !page.Has("Gebeld worden") {
			t.Errorf("%s: there is no other way: %s", tc.what, page)
		}
		total[0], total[1] = total[0]+tc.requests[0], total[1]+tc.requests[1]
		lab.Eventually(t, 10*time.Second, tc.what+": the end of what is under way", func() bool { return attempts() == total[0]+total[1] })
		if got := [2]int{len(first.Sent()) - before[0], len(second.Sent()) - before[1]}; got != tc.requests {
			t.Errorf("%s: %v requests, want %v", tc.what, got, tc.requests)
		}
		// The pace is hers: it is taken back so that the next case needs no waiting.
		p.Command("user", "unlock", "alice")
	}
	// Nor has anything come later.
	if got := [2]int{len(first.Sent()), len(second.Sent())}; got != total || attempts() != total[0]+total[1] {
		t.Errorf("%v requests in all, want %v", got, total)
	}
}

// importedTexts is a policy that was exported from Entra, with a strength of text messages alone.
const importedTexts = `{
	"displayName": "Text messages", "state": "enabled",
	"conditions": {"clientAppTypes": ["all"], "applications": {"includeApplications": ["All"]}, "users": {"includeUsers": ["All"]}},
	"grantControls": {"operator": "OR", "authenticationStrength": {"id": "2f0a5ab4-5a4b-4a4e-9f47-6f7f0a9e2b12", "displayName": "Texts", "policyType": "custom", "allowedCombinations": ["password,sms"]}}
}`

func TestAnImportedPolicyThatTakesTextMessages(t *testing.T) {
	t.Parallel()
	g, up := lab.NewGateway(t), lab.NewUpstream(t, nil)
	file := t.TempDir() + "/texts.json"
	if err := os.WriteFile(file, []byte(importedTexts), 0o600); err != nil {
		t.Fatal(err)
	}
	p := lab.Start(t, up.Address, lab.Options{Global: "security_defaults off\n\t\tpolicies import " + file + "\n\t\t" + g.Config(""), Users: withPhone})
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", "alice", lab.Password)
	if page.Has("Gebeld worden") {
		t.Errorf("a call is offered: %s", page)
	}
	b.Post("/_mfa/verify", func() url.Values {
		_, fields := page.Form("send")
		fields.Set("method", "voice")
		return fields
	}()).WantStatus(http.StatusConflict)
	if n := len(g.Sent()); n != 0 {
		t.Errorf("she was called %d times", n)
	}
	up.WantNothing(t)
	page.Submit("send").Submit("code", "code", g.Code(t, aliceNumber)).Follow().Want("secret report")
}
