package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/signinlog"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestFilterOfSignIns(t *testing.T) {
	for query, want := range map[string]signinlog.Filter{
		"":                                  {},
		"user=&limit=":                      {},
		"user=Alice":                        {User: "Alice"},
		"since=24h":                         {Since: noon.Add(-24 * time.Hour)},
		"since=7d&until=1h30m":              {Since: noon.AddDate(0, 0, -7), Until: noon.Add(-90 * time.Minute)},
		"since=2026-11-01":                  {Since: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)},
		"until=2026-11-01T10:00:00%2B01:00": {Until: time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)},
		"address=192.0.2.7":                 {Addresses: netip.MustParsePrefix("192.0.2.7/32")},
		"address=::ffff:192.0.2.7":          {Addresses: netip.MustParsePrefix("192.0.2.7/32")},
		"address=fe80::1%25eth0":            {Addresses: netip.MustParsePrefix("fe80::1/128")},
		"address=10.1.2.3/8":                {Addresses: netip.MustParsePrefix("10.0.0.0/8")},
		"policy=A+B&result=notApplied":      {Policy: "A B", Result: audit.PolicyNotApplied},
		"application=hr&status=failure&limit=1000": {Application: "hr", Status: signinlog.Failure, Limit: 1000},
		"reference=5c26ambk&after=abc":             {Reference: "5c26ambk", After: "abc"},
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseFilter(values, noon)
		got.Until, got.Since = got.Until.UTC(), got.Since.UTC()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", query, got, err, want)
		}
	}
	values, err := url.ParseQuery("since=soon&until=1y&address=localhost&limit=0&user=a&user=b&colour=red")
	if err != nil {
		t.Fatal(err)
	}
	_, err = parseFilter(values, noon)
	for _, says := range []string{`since: "soon" is no moment`, `until: "1y"`, `address: "localhost"`, `limit: "0"`, "user stands there twice", `no parameter "colour"`} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the mistakes don't say %q: %v", says, err)
		}
	}
}

func TestEndpointOfSignIns(t *testing.T) {
	ask := func(log *signinlog.Log, query string) (int, string) {
		w := httptest.NewRecorder()
		adminMux(nil, log).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/mfa/sign-ins?"+query, nil))
		return w.Code, w.Body.String()
	}
	if status, body := ask(nil, ""); status != http.StatusNotFound || !strings.Contains(body, "sign_in_log off") {
		t.Errorf("a log that is off: %d %s", status, body)
	}
	m := store.NewMemory()
	log := signinlog.New(m, signinlog.Settings{Keep: time.Hour, Max: 1000})
	if status, body := ask(log, ""); status != http.StatusOK || strings.TrimSpace(body) != `{"sign_ins":[]}` {
		t.Errorf("an empty log: %d %s", status, body)
	}
	for i := range 3 {
		log.Add(audit.SignIn{ID: fmt.Sprint("id", i), Created: time.Now().Add(time.Duration(i-10) * time.Second), UserPrincipalName: "alice"})
	}
	ended, end := context.WithCancel(t.Context())
	end()
	log.Run(ended)
	var page struct {
		SignIns []map[string]any `json:"sign_ins"`
		Next    string
	}
	status, body := ask(log, "user=ALICE&limit=2")
	if err := json.Unmarshal([]byte(body), &page); err != nil || status != http.StatusOK || len(page.SignIns) != 2 || page.SignIns[0]["id"] != "id2" {
		t.Fatalf("the first page: %d %v %s", status, err, body)
	}
	_, body = ask(log, "user=ALICE&limit=2&after="+page.Next)
	page.Next = ""
	if err := json.Unmarshal([]byte(body), &page); err != nil || len(page.SignIns) != 1 || page.SignIns[0]["id"] != "id0" || page.Next != "" {
		t.Errorf("the second page: %v %s", err, body)
	}
	for reason, query := range map[string]string{
		"a parameter that can't be read": "since=soon", "a page that isn't ours": "after=xyz", "too many": "limit=5000", "half an escape": "user=%4",
	} {
		if status, body := ask(log, query); status != http.StatusBadRequest || !strings.Contains(body, `"error"`) {
			t.Errorf("%s: %d %s", reason, status, body)
		}
	}
	m.Close()
	if status, _ := ask(log, ""); status != http.StatusServiceUnavailable {
		t.Errorf("a store that doesn't answer: %d", status)
	}
}

func TestTableOfSignIns(t *testing.T) {
	policies := []audit.AppliedPolicy{
		{DisplayName: "MFA for all", Result: audit.PolicySuccess},
		{DisplayName: "Trial", Result: audit.PolicyReportOnlyFailure},
		{DisplayName: "Block guests", Result: audit.PolicyFailure},
	}
	for want, r := range map[string]audit.SignIn{
		"signed in":                                      {},
		"signed in: MFA for all":                         {Policies: policies},
		"refused: Block guests":                          {Policies: policies, Status: audit.Status{ErrorCode: audit.CodeBlocked}},
		"refused: user_blocked":                          {Status: audit.Status{ErrorCode: audit.CodeBlocked, FailureReason: "user_blocked"}},
		"wrong second factor":                            {Status: audit.Status{ErrorCode: audit.CodeMFADenied, FailureReason: "x"}},
		"37 more like this: wrong user name or password": {Suppressed: 37, Status: audit.Status{ErrorCode: audit.CodeInvalidPassword}},
		"error 7": {Status: audit.Status{ErrorCode: 7}},
	} {
		if got := resultOf(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	var b bytes.Buffer
	printSignIns(&b, []audit.SignIn{
		{Created: noon, UserPrincipalName: "alice", AppDisplayName: "hr", IPAddress: "192.0.2.7", Requirement: audit.MultiFactor, CorrelationID: "5c26ambk"},
		{Created: noon, Suppressed: 2, CorrelationID: "zzzzzzzz"},
	})
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 4 || strings.Join(strings.Fields(lines[1])[3:], " ") != "alice hr 192.0.2.7 multifactor signed in 5c26ambk" ||
		strings.Join(strings.Fields(lines[2])[3:], " ") != "- - - - 2 more like this: signed in -" {
		t.Errorf("the table:\n%s", b.String())
	}
}
