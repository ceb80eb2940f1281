package integration

import (
	"encoding/csv"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

func TestLegacyReportOfAServerThatHasSeenNothing(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	if got := p.Command("legacy", "report"); got != "Nothing was seen.\n" {
		t.Errorf("the report is %q", got)
	}
	want(t, p.Command("legacy", "report", "--csv"), "application,class,user,known,client,addresses,path,first_seen,last_seen,requests,blocked,")
	want(t, p.Command("legacy", "report", "--exceptions"), "There are no exceptions.")
	if out, err := p.TryCommand("legacy", "report", "--class", "basics"); err == nil {
		t.Errorf("a class that there isn't: %s", out)
	}
}

// legacyRow is a row of the report, as far as this test looks at it.
type legacyRow struct {
	Application, Class, Path, User, Addresses string
	Known                                     bool
	Count                                     int
	Verdicts, Would                           map[string]int
}

func TestLegacyReport(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: `mfa app {
	legacy_auth basic report
	legacy_exception digest {
		service printer
		from 127.0.0.0/8
		until 2100-01-01
		owner facilities
		reason "an old printer"
	}
}
reverse_proxy {upstream}`})
	send := func(passes bool, path, header string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, p.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user, pass, ok := strings.Cut(header, ":"); ok {
			req.SetBasicAuth(user, pass)
		} else {
			req.Header.Set("Authorization", header)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if passed := resp.StatusCode == http.StatusOK; passed != passes {
			t.Errorf("%s with %q is answered with %d, passes: want %v", path, header, resp.StatusCode, passes)
		}
	}
	for range 3 {
		send(true, "/dav/home/report.txt?token=s3cr3t", "alice:"+lab.Password)
	}
	send(false, "/dav/home/report.txt", lab.Password+":alice") // in the wrong field
	send(true, "/print", `Digest username="printer"`)

	rows := func(args ...string) []legacyRow {
		t.Helper()
		return asJSON[struct{ Rows []legacyRow }](t, p.Command(append([]string{"legacy", "report", "--json"}, args...)...)).Rows
	}
	lab.Eventually(t, time.Minute, "what was seen is kept", func() bool { return len(rows()) == 3 })
	check := func(when string) {
		t.Helper()
		alice := rows("--user", "ALICE", "--class", "basic")
		if len(alice) != 1 || alice[0].Path != "/dav/home" || alice[0].Count != 3 || alice[0].Verdicts["reported"] != 3 || alice[0].Would["blocked"] != 3 || !alice[0].Known ||
			alice[0].Application != "app" || alice[0].Addresses != "127.0.0.0/24" && alice[0].Addresses != "::/56" {
			t.Errorf("%s, of alice: %+v", when, alice)
		}
		mistaken := rows("--user", lab.Password)
		if len(mistaken) != 1 || mistaken[0].Known || !strings.HasPrefix(mistaken[0].User, "(unknown ") || mistaken[0].Verdicts["blocked"] != 1 {
			t.Errorf("%s, of a password in the wrong field: %+v", when, mistaken)
		}
	}
	check("at first")
	p.Kill()
	p.Launch(false)
	check("after kill -9")

	want(t, p.Command("legacy", "report", "--exceptions"), "digest service:printer 127.0.0.0/8", "facilities", "2100-01-01")
	if used := rows("--exception", "digest service:printer 127.0.0.0/8"); len(used) != 1 || used[0].Class != "digest" {
		t.Errorf("the exception has covered %+v", used)
	}
	sheet := p.Command("legacy", "report", "--csv")
	if records, err := csv.NewReader(strings.NewReader(sheet)).ReadAll(); err != nil || len(records) != 4 {
		t.Errorf("the sheet has %d lines, %v:\n%s", len(records), err, sheet)
	}
	everything := sheet + p.Command("legacy", "report") + p.Command("legacy", "report", "--json")
	if strings.Contains(everything, lab.Password) || strings.Contains(everything, "s3cr3t") {
		t.Errorf("a secret is in the report:\n%s", everything)
	}
	if n := metric(t, p, `caddy_mfa_legacy_total{app="app",class="basic",verdict="blocked"}`); n != 0 {
		t.Errorf("since the restart, %v were counted", n)
	}
}
