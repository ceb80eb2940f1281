package integration

import (
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

var (
	tokenField   = regexp.MustCompile(`(name="t" value="|\?t=)[A-Za-z0-9_-]*`)
	pageFooter   = regexp.MustCompile(`(?s)<p class="reference">.*?</p>`)
	shownInField = regexp.MustCompile(`(name="username" type="text" value=")[^"]*`)
)

// normalized is an answer without what differs from one request to the next.
func normalized(p *lab.Page) string {
	h := p.Header.Clone()
	h.Del("Date")
	var b strings.Builder
	fmt.Fprintln(&b, p.Status)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if name == "Content-Length" {
			continue // the name that was typed stands on the page
		}
		fmt.Fprintln(&b, name, h[name])
	}
	body := tokenField.ReplaceAllString(html.UnescapeString(p.Body), "$1")
	body = pageFooter.ReplaceAllString(body, "")
	return b.String() + shownInField.ReplaceAllString(body, "$1")
}

// TestAttackEnumeration measures, and so runs alone.
func TestAttackEnumeration(t *testing.T) {
	up := lab.NewUpstream(t, nil)
	const rounds, most = 8, 32
	names := slices.Concat(numbered("wrong", most), numbered("blocked", most/4), numbered("registered", 2), []string{"alice"})
	file := users(names...)
	for _, name := range numbered("disabled", most) {
		file += strings.Replace(users(name), "    password", "    disabled: true\n    password", 1)
	}
	p := lab.Start(t, up.Address, lab.Options{Users: file, Servers: "servers {\n\t\ttrusted_proxies static 127.0.0.1\n\t\ttrusted_proxies_strict\n\t}"})
	for _, name := range numbered("registered", 2) {
		lab.NewBrowser(t, p.URL).Register(name)
	}
	for _, name := range numbered("blocked", most/4) {
		if status, body := p.API(http.MethodPost, "/mfa/users/"+name+"/block", nil); status != http.StatusOK {
			t.Fatalf("%d: %s", status, body)
		}
	}
	addresses := 0
	try := func(name, password string) *lab.Page {
		b := lab.NewBrowser(t, p.URL)
		addresses++
		b.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.%d.%d", addresses/250, 1+addresses%250))
		page := b.Post("/_mfa/signin", url.Values{"username": {name}, "password": {password}})
		if len(b.Cookies()) != 0 {
			t.Errorf("%s gets cookies", name)
		}
		return page
	}
	want := normalized(try("nobody", "wrong"))
	if !strings.Contains(want, "not right") {
		t.Fatalf("%s", want)
	}
	for reason, sent := range map[string][2]string{
		"a wrong password":                       {"wrong0", "x"},
		"a wrong password of who has registered": {"registered0", "x"},
		"disabled, with the right password":      {"disabled0", lab.Password},
		"disabled, with a wrong one":             {"disabled0", "x"},
		"blocked, with the right password":       {"blocked0", lab.Password},
		"blocked, with a wrong one":              {"blocked0", "x"},
		"a name that can't be one":               {"no body", "x"},
		"a name of control characters":           {"\x01", "x"},
		"a name in another case":                 {"WRONG0", "x"},
		"a very long password":                   {"wrong0", strings.Repeat("x", 5000)},
		"a very long password of nobody":         {"nobody", strings.Repeat("x", 5000)},
		"the name of a method":                   {"__proto__", "x"},
	} {
		if got := normalized(try(sent[0], sent[1])); got != want {
			t.Errorf("%s is answered otherwise:\n%s\nwant\n%s", reason, got, want)
		}
	}
	// The same number of tries brings the same delay.
	delayed := map[string]int{}
	for _, name := range []string{"nobody2", "wrong1", "disabled1", "blocked1", "registered1"} {
		b := lab.NewBrowser(t, p.URL)
		addresses++
		b.Header.Set("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", addresses%250))
		for n := 1; n < 20; n++ {
			page := b.Post("/_mfa/signin", url.Values{"username": {name}, "password": {"x"}})
			if page.Status == http.StatusTooManyRequests {
				if page.Header.Get("Retry-After") == "" {
					t.Errorf("%s: no Retry-After", name)
				}
				delayed[name] = n
				break
			}
		}
	}
	for name, n := range delayed {
		if n != delayed["nobody2"] || n == 0 {
			t.Errorf("%s is delayed at try %d, and who does not exist at %d", name, n, delayed["nobody2"])
		}
	}
	if len(delayed) != 5 {
		t.Errorf("delayed: %v", delayed)
	}
	// The fastest of many tells what the work takes, whatever else the machine does.
	fastest := map[string]time.Duration{}
	for n := range most {
		// On a machine with much to do it takes more of them until each kind has had its undisturbed one.
		if n >= rounds && !tells(fastest) {
			break
		}
		for kind, sent := range map[string][2]string{
			"unknown":  {fmt.Sprintf("unknown%d", n), "x"},
			"wrong":    {fmt.Sprintf("wrong%d", n), "x"},
			"disabled": {fmt.Sprintf("disabled%d", n), lab.Password},
			"blocked":  {fmt.Sprintf("blocked%d", n%(most/4)), lab.Password},
			"no name":  {fmt.Sprintf("no name %d", n), "x"},
		} {
			begin := time.Now()
			try(sent[0], sent[1])
			if d := time.Since(begin); fastest[kind] == 0 || d < fastest[kind] {
				fastest[kind] = d
			}
		}
	}
	if tells(fastest) {
		t.Errorf("the time tells who exists: %v", fastest)
	}
}

// tells says whether times differ by as much as a hash: that takes 20 ms and more; all the rest about one.
func tells(times map[string]time.Duration) bool {
	all := slices.Collect(maps.Values(times))
	return slices.Max(all) > 2*slices.Min(all)
}
