package caddymodule

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/inventory"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// scanner is the name of an exception that legacyApp has.
const scanner = "basic service:scanner 10.1.0.0/16"

// legacyApp is an app whose inventory holds these sightings, and which has two exceptions.
func legacyApp(t *testing.T, sightings ...inventory.Sighting) *App {
	t.Helper()
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	a := &App{}
	a.register(&Handler{
		gated: &gate.Application{Name: "wiki"},
		Application: config.Application{LegacyExceptions: []config.LegacyException{
			{Classes: []string{"basic"}, Service: "scanner", From: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, Until: day(90), Owner: "facilities", Reason: "=a printer"},
			{Classes: []string{"basic"}, User: "bob", Until: day(-1), Owner: "bob", Reason: "an old client"},
		}},
	})
	a.inventory = inventory.New(store.NewMemory(), inventory.Settings{
		Keep: 90 * 24 * time.Hour, Mark: nameMarks(keys),
		Known: func(_ context.Context, typed string) (string, bool) { return strings.ToLower(typed), typed == "Alice" },
	})
	for _, s := range sightings {
		a.sighted(s)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	a.inventory.Run(ended)
	return a
}

func day(days int) config.Date {
	d, err := config.ParseDate(time.Now().UTC().AddDate(0, 0, days).Format(time.DateOnly))
	if err != nil {
		panic(err) // it was written so
	}
	return d
}

// reported is a request in report mode, so long ago.
func reported(user string, ago time.Duration) inventory.Sighting {
	return inventory.Sighting{
		At: time.Now().Add(-ago), Class: "basic", Application: "wiki", Path: "/dav/a/b?token=hunter2", User: user, Client: "curl",
		Address: netip.MustParseAddr("192.0.2.77"), Verdict: inventory.Reported, Would: inventory.Blocked,
	}
}

// legacyCount is what the metric has counted.
func legacyCount(t *testing.T, labels ...string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	if err := registerMetrics(r); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var values []string
			for _, label := range m.GetLabel() {
				values = append(values, label.GetValue())
			}
			if f.GetName() == "caddy_mfa_legacy_total" && slices.Equal(values, labels) { // sorted by the label's name
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestEndpointOfLegacyReport(t *testing.T) {
	ask := func(a *App, query string) (int, string) {
		w := httptest.NewRecorder()
		mux := adminMux(nil, nil)
		legacyEndpoint(mux, a)
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/mfa/legacy?"+query, nil))
		return w.Code, w.Body.String()
	}
	if status, body := ask(&App{}, ""); status != http.StatusNotFound || !strings.Contains(body, "legacy_report off") {
		t.Errorf("a report that is off: %d %s", status, body)
	}
	exempt := reported("", time.Minute)
	exempt.Verdict, exempt.Exception = inventory.Exception, scanner
	before := legacyCount(t, "wiki", "basic", "reported")
	a := legacyApp(t, reported("Alice", 2*time.Hour), reported("Alice", time.Hour), reported("hunter2", 48*time.Hour), exempt)
	if n := legacyCount(t, "wiki", "basic", "reported") - before; n != 3 {
		t.Errorf("the metric has counted %v", n)
	}
	get := func(query string) (report legacyReport) {
		t.Helper()
		status, body := ask(a, query)
		if err := json.Unmarshal([]byte(body), &report); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s %v", status, body, err)
		}
		if strings.Contains(body, "hunter2") {
			t.Errorf("what was typed for a name is told: %s", body)
		}
		return report
	}
	all := get("")
	if len(all.Rows) != 3 || all.Rows[1].User != "alice" || all.Rows[1].Count != 2 || all.Rows[1].Path != "/dav/a" || !strings.HasPrefix(all.Rows[2].User, "(unknown ") {
		t.Errorf("rows: %+v", all.Rows)
	}
	if len(all.Exceptions) != 2 || all.Exceptions[0].Exception != scanner || all.Exceptions[0].Count != 1 || len(all.Exceptions[0].Notes) != 0 ||
		!slices.Equal(all.Exceptions[1].Notes, []inventory.Note{inventory.Ended}) {
		t.Errorf("exceptions: %+v", all.Exceptions)
	}
	for query, want := range map[string]int{
		"user=ALICE": 1, "user=hunter2": 1, "user=bob": 0, "class=BASIC": 3, "class=digest": 0, "class=service-token": 0, "since=24h": 2, "until=24h": 1, "application=hr": 0,
		"address=192.0.2.1": 3, "address=10.0.0.0/8": 0, "path=/dav": 3, "verdict=exception": 1, "client=git": 0, "user=alice&since=24h&class=": 1,
	} {
		if got := get(query).Rows; len(got) != want {
			t.Errorf("%s: %d rows, want %d", query, len(got), want)
		}
	}
	if got := get("exception=" + strings.ReplaceAll(scanner, " ", "+")).Rows; len(got) != 1 {
		t.Errorf("an exception: %+v", got)
	}
	for reason, query := range map[string]string{
		"a class that there isn't": "class=basics", "a verdict that there isn't": "verdict=maybe", "a parameter that there isn't": "colour=red",
		"a moment that is none": "since=soon", "a parameter twice": "user=a&user=b", "half an escape": "user=%4",
	} {
		if status, body := ask(a, query); status != http.StatusBadRequest || !strings.Contains(body, `"error"`) {
			t.Errorf("%s: %d %s", reason, status, body)
		}
	}
}

// reportOf runs `mfa legacy report` against an app.
func reportOf(t *testing.T, a *App, args ...string) (string, error) {
	t.Helper()
	mux := adminMux(nil, nil)
	legacyEndpoint(mux, a)
	s := httptest.NewUnstartedServer(mux)
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	s.Start()
	defer s.Close()
	var out bytes.Buffer
	c := legacyCommand()
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(append([]string{"report", "--address", "unix/" + socket}, args...))
	err = c.Execute()
	return out.String(), err
}

func TestLegacyReportCommand(t *testing.T) {
	blocked := reported("Alice", time.Hour)
	blocked.Verdict = inventory.Blocked
	formula := reported("", time.Minute)
	formula.Path, formula.Client = `/=HYPERLINK("x")/a/b`, "=1+1"
	a := legacyApp(t, reported("Alice", 2*time.Hour), reported("Alice", 3*time.Hour), blocked, formula)

	out, err := reportOf(t, a)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out, "\n")
	squeeze := func(line string) string { return strings.Join(strings.Fields(line), " ") }
	if !strings.HasPrefix(lines[0], "LAST SEEN") || !strings.HasSuffix(squeeze(lines[2]), "wiki basic alice curl 192.0.2.0/24 /dav/a 3 reported 2, blocked 1 blocked") {
		t.Errorf("the table:\n%s", out)
	}
	if !strings.Contains(out, "\nExceptions:\nAPPLICATION") || !strings.HasPrefix(squeeze(lines[6]), "wiki "+scanner+" 0 - ") || !strings.HasSuffix(lines[7], "it has ended") {
		t.Errorf("the exceptions:\n%s", out)
	}

	out, err = reportOf(t, a, "--csv")
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(records) != 3 || records[0][2] != "user" || records[2][2] != "alice" || records[2][9] != "3" || records[2][10] != "1" || records[2][11] != "2" || records[2][16] != "3" {
		t.Fatalf("%v: %q", err, records)
	}
	if client, path := records[1][4], records[1][6]; client != "'=1+1" || !strings.HasPrefix(path, "/=") {
		t.Errorf("a formula: %q %q", client, path)
	}

	out, err = reportOf(t, a, "--exceptions", "--csv")
	records, csvErr := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || csvErr != nil || len(records) != 3 || records[1][1] != scanner || records[1][7] != "'=a printer" || records[2][8] != "it has ended" {
		t.Errorf("%v, %v: %q", err, csvErr, records)
	}

	var report legacyReport
	if out, err = reportOf(t, a, "--json", "--user", "alice"); err != nil || json.Unmarshal([]byte(out), &report) != nil || len(report.Rows) != 1 || report.Rows[0].Verdicts["reported"] != 2 {
		t.Errorf("%v: %s", err, out)
	}
	if out, err = reportOf(t, a, "--user", "bob"); err != nil || !strings.HasPrefix(out, "Nothing was seen.\n") {
		t.Errorf("%v: %s", err, out)
	}
	for says, args := range map[string][]string{
		"don't go together": {"--csv", "--json"}, "no class": {"--class", "basics"}, "leave the other options out": {"--exceptions", "--user", "alice"},
	} {
		if out, err := reportOf(t, a, args...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

func TestExceptionsThatShouldBeLookedAtAreLoggedDaily(t *testing.T) {
	a := legacyApp(t)
	core, logged := observer.New(zap.WarnLevel)
	a.log = zap.New(core)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Now().AddDate(50, 0, 0))) // the bubble begins in the past, when none had ended
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { a.watchExceptions(ctx) })
		synctest.Wait()
		told := logged.FilterMessage("legacy exception: it has ended").TakeAll()
		if len(told) != 2 || told[0].ContextMap()["application"] != "wiki" || told[0].ContextMap()["exception"] == "" || told[0].ContextMap()["owner"] == "" {
			t.Errorf("at first %+v is told", told)
		}
		logged.TakeAll()
		time.Sleep(exceptionsInterval)
		synctest.Wait()
		if n := logged.Len(); n != 2 {
			t.Errorf("a day later %d lines are logged", n)
		}
		stop()
		wg.Wait()
	})
}

func TestCellsAreNoFormulas(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "alice": "alice", "192.0.2.0/24": "192.0.2.0/24", "/a=b": "/a=b", "(other)": "(other)",
		"=1": "'=1", "+1": "'+1", "-1": "'-1", "@a": "'@a", " =1": "' =1", "\t=1": "'\t=1", "\ta": "'\ta", "'=1": "''=1", `"=1`: `'"=1`, "\u00a0=1": "'\u00a0=1",
		"＝1": "'＝1", "=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0", "|a": "'|a",
	} {
		if got := cell(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestMarksOfNames(t *testing.T) {
	one, two := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	marks := func(secrets ...[]byte) []string {
		keys, err := seal.NewKeyring(secrets...)
		if err != nil {
			t.Fatal(err)
		}
		return nameMarks(keys)("backup")
	}
	old, rotated := marks(one), marks(two, one)
	if len(old[0]) != markLength || len(rotated) != 2 || rotated[1] != old[0] || rotated[0] == old[0] {
		t.Errorf("%q, after rotation %q", old, rotated)
	}
}
