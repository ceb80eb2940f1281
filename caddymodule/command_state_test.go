package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/clocktest"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

const perUser = "security_defaults off\nper_user_mfa"

// console is an administrator's terminal.
type console struct {
	t       testing.TB
	address string
}

// newConsole runs Caddy with these options in the block `mfa`, and its administrator's endpoints on a socket.
func newConsole(t testing.TB, options string) *console {
	t.Helper()
	if err := start(t, options, "", "http://localhost:0 {\nbind 127.0.0.1\nmfa app\nrespond ok\n}"); err != nil {
		t.Fatal(err)
	}
	rt, err := active.get().ready()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: adminMux(rt.admin, active.get().signIns), ReadHeaderTimeout: time.Minute}
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &console{t, "unix/" + socket}
}

// try runs a command of `mfa user`, with that on its standard input.
func (c *console) try(stdin string, args ...string) (string, error) {
	command := userCommand()
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&out)
	command.SetIn(strings.NewReader(stdin))
	command.SetArgs(append(args, "--address", c.address))
	err := command.Execute()
	return out.String(), err
}

func (c *console) run(stdin string, args ...string) string {
	c.t.Helper()
	out, err := c.try(stdin, args...)
	if err != nil {
		c.t.Fatalf("mfa user %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (c *console) want(got, want string) {
	c.t.Helper()
	if got != want {
		c.t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestTheStateOfOneUser(t *testing.T) {
	c := newConsole(t, perUser)
	c.want(c.run("", "state", "ALICE", "Enabled"), "alice: enabled, was disabled\n")
	c.want(c.run("", "state", "alice", "enabled"), "alice: enabled, as before\n")
	var list []admin.Summary
	if err := json.Unmarshal([]byte(c.run("", "list", "--json")), &list); err != nil || list[0].PerUser != mfa.PerUserEnabled || list[1].PerUser != mfa.PerUserDisabled {
		t.Errorf("%+v, %v", list, err)
	}
	if out := c.run("", "list"); !strings.Contains(out, "PER-USER MFA") || !strings.Contains(out, "not registered  enabled") {
		t.Errorf("list:\n%s", out)
	}
	if out := c.run("", "show", "alice"); !strings.Contains(out, "enabled, since "+time.Now().Local().Format("2006-")) {
		t.Errorf("show:\n%s", out)
	}
	var made admin.StateChange
	if err := json.Unmarshal([]byte(c.run("", "state", "alice", "enforced", "--json")), &made); err != nil || made != (admin.StateChange{User: "alice", Before: mfa.PerUserEnabled, State: mfa.PerUserEnforced, Changed: true}) {
		t.Errorf("%+v, %v", made, err)
	}
	c.want(c.run("", "state", "alice", "disabled"), "alice: disabled, was enforced\n")
	if out := c.run("", "show", "alice"); !strings.Contains(out, "disabled\n") || strings.Contains(out, "disabled, since") {
		t.Errorf("show:\n%s", out)
	}
}

func TestAStateWithoutEffectSaysSo(t *testing.T) {
	for options, want := range map[string]string{
		"":                      "security defaults are on, and ask everybody for a second factor",
		"per_user_mfa":          "security defaults are on, and ask everybody for a second factor",
		"security_defaults off": "`per_user_mfa` is not configured",
	} {
		t.Run(options, func(t *testing.T) {
			c := newConsole(t, options)
			c.want(c.run("", "state", "alice", "enabled"), "alice: enabled, was disabled\nThis has no effect at the moment: "+want+".\n")
			c.want(c.run("user,state\nbob,enabled\n", "state", "--csv", "-"), "bob: enabled, was disabled\n1 changed, 0 as before.\nThis has no effect at the moment: "+want+".\n")
		})
	}
}

func TestStatesFromAFile(t *testing.T) {
	c := newConsole(t, perUser)
	file := filepath.Join(t.TempDir(), "states.csv")
	if err := os.WriteFile(file, []byte("Username,MFA Status\nBOB,Enforced\nalice,Enabled\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.want(c.run("", "state", "--csv", file), "bob: enforced, was disabled\nalice: enabled, was disabled\n2 changed, 0 as before.\n")

	// What was exported changes nothing.
	exported := c.run("", "state", "--export")
	c.want(exported, "Username,MFA Status\nalice,Enabled\nbob,Enforced\n")
	c.want(c.run(exported, "state", "--csv", "-"), "alice: enabled, as before\nbob: enforced, as before\n0 changed, 2 as before.\n")

	// With a mistake anywhere, nothing is changed.
	out, err := c.try("user,state\nalice,disabled\nzoe,enabled\nbob,on\n", "state", "--csv", "-")
	if err == nil || !strings.Contains(err.Error(), "nothing is changed, because of mistakes in standard input:\nline 3: no directory knows the user \"zoe\"\nline 4: the state is disabled, enabled or enforced, not \"on\"") {
		t.Errorf("%v\n%s", err, out)
	}
	c.want(c.run("", "state", "--export"), exported)

	var results []stateResult
	if err := json.Unmarshal([]byte(c.run("user,state\n\nalice,disabled\nbob,enforced\n", "state", "--csv", "-", "--json")), &results); err != nil || len(results) != 2 {
		t.Fatalf("%+v, %v", results, err)
	}
	if r := results[0]; r.Line != 3 || r.User != "alice" || r.Before != mfa.PerUserEnabled || r.State != mfa.PerUserDisabled || !r.Changed {
		t.Errorf("%+v", r)
	}
	if r := results[1]; r.Line != 4 || r.User != "bob" || r.Changed {
		t.Errorf("%+v", r)
	}
}

func TestWrongCallsOfState(t *testing.T) {
	c := newConsole(t, perUser)
	for _, tc := range []struct{ args, says string }{
		{"state", "want a user and a state, or --csv, or --export; got 0 words"},
		{"state alice", "got 1 words"},
		{"state alice enabled now", "got 3 words"},
		{"state alice on", `the state is disabled, enabled or enforced, not "on"`},
		{"state zoe enabled", "no directory knows this user"},
		{"state --csv x --export", "don't go together"},
		{"state alice enabled --csv x", "no user is named"},
		{"state --export alice", "no user is named"},
		{"state --export --json", "`mfa user list --json` prints the states as JSON"},
		{"state --csv /nowhere/states.csv", "/nowhere/states.csv"},
	} {
		if out, err := c.try("", strings.Split(tc.args, " ")...); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("mfa user %s: %v\n%s", tc.args, err, out)
		}
	}
	for _, tc := range []struct {
		method, path, form string
		status             int
	}{
		{"POST", "/mfa/users/alice/state", "", http.StatusBadRequest},
		{"POST", "/mfa/users/alice/state", "state=on", http.StatusBadRequest},
		{"POST", "/mfa/users/zoe/state", "state=enabled", http.StatusNotFound},
		{"GET", "/mfa/users/alice/state", "", http.StatusNotFound},
		{"POST", "/mfa/users/alice/pass", "start=2026-12-01T09:00", http.StatusBadRequest},
		{"POST", "/mfa/users/alice/pass", "start=2020-12-01T09:00:00Z", http.StatusBadRequest},
	} {
		r := httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		adminMux(active.get().runtime.admin, nil).ServeHTTP(w, r)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), `"error"`) {
			t.Errorf("%s %s %s: %d %s", tc.method, tc.path, tc.form, w.Code, w.Body)
		}
	}
	c.want(c.run("", "state", "--export"), "Username,MFA Status\nalice,Disabled\nbob,Disabled\n")
}

func TestAPassThatStartsLater(t *testing.T) {
	c := newConsole(t, "")
	start := time.Now().Add(48 * time.Hour).Truncate(time.Minute)
	out := c.run("", "pass", "alice", "--start", start.Local().Format("2006-01-02T15:04"), "--lifetime", "8h", "--many")
	if want := "\nGood from " + timeText(start) + " until " + timeText(start.Add(8*time.Hour)) + ", for many sign-ins."; !strings.Contains(out, want) {
		t.Errorf("it doesn't say %q:\n%s", want, out)
	}
	if out := c.run("", "show", "alice"); !strings.Contains(out, "good from "+timeText(start)+"  expires "+timeText(start.Add(8*time.Hour))) {
		t.Errorf("show:\n%s", out)
	}
	var p admin.Pass
	if err := json.Unmarshal([]byte(c.run("", "pass", "alice", "--json", "--start", start.UTC().Format(time.RFC3339))), &p); err != nil || !p.Starts.Equal(start) {
		t.Errorf("%+v, %v", p, err)
	}
	if out := c.run("", "pass", "alice", "--start", time.Now().Local().Format("2006-01-02T15:04")); !strings.Contains(out, "\nGood until ") {
		t.Errorf("from this very minute:\n%s", out)
	}
	for text, says := range map[string]string{
		"soon": `"soon" is not a time; write for example 2026-12-01T09:00`,
		time.Now().Add(-time.Hour).Format(time.RFC3339):                "start is in the past",
		time.Now().Add(31 * 24 * time.Hour).Format("2006-01-02 15:04"): "starts at most 30d ahead",
	} {
		if out, err := c.try("", "pass", "alice", "--start", text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v\n%s", text, err, out)
		}
	}
}

func TestTimesAsAnAdministratorWritesThem(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	want := time.Date(2026, 12, 1, 9, 0, 0, 0, zone)
	for _, text := range []string{"2026-12-01T09:00", "2026-12-01 09:00", "2026-12-01T09:00:00", "2026-12-01 09:00:00", "2026-12-01T09:00:00+01:00", "2026-12-01T08:00:00Z"} {
		if got, err := parseTime(text, zone); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "2026-12-01", "09:00", "2026-13-01T09:00", "2026-12-01T9", "1.12.2026 09:00"} {
		if got, err := parseTime(text, zone); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// A second is what the design promises. It takes much less, because the account tells of its change.
func TestAStateIsFeltByAnOpenConnection(t *testing.T) {
	c := newConsole(t, perUser)
	h := active.get().handlers[0]
	r := navigation("GET", "/events", nil)
	for _, cookie := range signIn(t, h) {
		r.AddCookie(cookie)
	}
	header := r.Header.Clone()
	entered, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- h.ServeHTTP(httptest.NewRecorder(), r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
			close(entered)
			<-r.Context().Done()
			return nil
		}))
	}()
	select {
	case <-entered:
	case err := <-ended:
		t.Fatalf("not let in: %v", err)
	}
	c.run("", "state", "alice", "enforced")
	if err, ok := clocktest.Await(t, time.Second, ended); !ok || err != nil {
		t.Fatalf("within a second: ended %v, %v", ok, err)
	}
	// The session is asked for the rest.
	again := navigation("GET", "/events", nil)
	again.Header = header
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, again, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		t.Error("let in")
		return nil
	})); err != nil || w.Code/100 != 3 {
		t.Errorf("%d, %v", w.Code, err)
	}
}
