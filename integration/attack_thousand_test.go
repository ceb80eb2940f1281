package integration

import (
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// basicTry is an attempt over Basic, over a connection that it shares with others.
func basicTry(t *testing.T, transport *http.Transport, p *lab.Proxy, user, password string) (answer string, took time.Duration) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, strings.Replace(p.URL, "localhost", "127.0.0.1", 1)+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = strings.TrimPrefix(p.URL, "http://")
	r.Header["User-Agent"] = []string{"curl/8.0"}
	r.SetBasicAuth(user, password)
	begin := time.Now()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	took = time.Since(begin)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	resp.Header.Del("Date")
	var b strings.Builder
	fmt.Fprintln(&b, resp.Proto, resp.Status)
	resp.Header.Write(&b)
	return b.String() + referenceText.ReplaceAllString(string(body), ""), took
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// inPairs sends n pairs of attempts, the two of a pair one behind the other and in a random order, so that whatever else the machine
// does hits both alike. It gives how many standard deviations the first of the two kinds is the slower one more often than by chance
// (the sign test). Six of them come by chance once in five hundred million runs, on a busy machine too.
func inPairs(n int, first, second func(i int) time.Duration) (deviations float64, medians [2]time.Duration) {
	var took [2][]time.Duration
	slower := 0
	for i := range n {
		var pair [2]time.Duration
		order := [2]int{0, 1}
		if rand.IntN(2) == 1 {
			order = [2]int{1, 0}
		}
		for _, which := range order {
			pair[which] = [2]func(int) time.Duration{first, second}[which](i)
		}
		if pair[0] > pair[1] {
			slower++
		}
		took[0], took[1] = append(took[0], pair[0]), append(took[1], pair[1])
	}
	return (float64(slower) - float64(n)/2) / (math.Sqrt(float64(n)) / 2), [2]time.Duration{median(took[0]), median(took[1])}
}

// TestAttackAThousandBasicPasswords tries a thousand of somebody who is there and a thousand of people who aren't, where everybody is
// blocked. It measures, and so runs alone. That nothing is asked of a directory, hashed or counted meanwhile is counted, too, where that
// can be: TestWhereEverybodyIsBlockedNobodyIsAsked in internal/gate, and …LeaveNothing in caddymodule.
func TestAttackAThousandBasicPasswords(t *testing.T) {
	up := lab.NewUpstream(t, nil)
	for reason, o := range map[string]lab.Options{
		"security defaults": {},
		"a rule":            {Site: "mfa app {\nlegacy_auth all block\n}\nreverse_proxy {upstream}"},
		"a policy":          {Global: "security_defaults off\npolicy everybody {\nstate enabled\nusers all\napplications all\nclient_apps exchange_active_sync other\ngrant block\n}"},
	} {
		t.Run(reason, func(t *testing.T) {
			p := lab.Start(t, up.Address, o)
			transport := &http.Transport{MaxConnsPerHost: 1}
			defer transport.CloseIdleConnections()
			answers := map[string]int{}
			try := func(user, password string) time.Duration {
				answer, took := basicTry(t, transport, p, user, password)
				answers[answer]++
				return took
			}
			for i := range 100 { // until it is warm
				try(fmt.Sprint("nobody", i), "x")
			}
			const n = 1000
			nobody := func(i int) time.Duration { return try(fmt.Sprintf("zoe%02d", i%100), lab.Password) }
			for kind, known := range map[string]func(i int) time.Duration{
				"the right password": func(int) time.Duration { return try("alice", lab.Password) },
				"a wrong password":   func(i int) time.Duration { return try("bob", fmt.Sprint("guess number ", i)) },
				"who is disabled":    func(int) time.Duration { return try("dora", lab.Password) },
			} {
				deviations, medians := inPairs(n, known, nobody)
				t.Logf("%s: median %v, of who isn't there %v; %.1f standard deviations", kind, medians[0], medians[1], deviations)
				if math.Abs(deviations) > 6 {
					t.Errorf("%s: the time tells who is there: median %v and %v, %.1f standard deviations", kind, medians[0], medians[1], deviations)
				}
			}
			if len(answers) != 1 {
				t.Errorf("%d answers:\n%s", len(answers), strings.Join(slices.Collect(maps.Keys(answers)), "\n"))
			}
			for _, event := range []string{"password_accepted", "password_refused", "password_throttled", "key_refused", "key_throttled"} {
				if n := len(p.Events(event)); n != 0 {
					t.Errorf("%d times %s", n, event)
				}
			}
			if up.Bytes() != 0 {
				t.Error("something reaches the application")
			}
			// Nobody is locked out: alice signs in at once.
			lab.NewBrowser(t, p.URL).Password("/", "alice", lab.Password).Want("Set up your second step")
		})
	}
}
