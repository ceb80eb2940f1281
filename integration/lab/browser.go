package lab

import (
	"context"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// Browser is a browser without scripts: it keeps cookies, follows redirects, sends what browsers send, and fills in forms.
type Browser struct {
	t      testing.TB
	client *http.Client
	base   *url.URL

	// Header is sent with every request besides what a navigation sends.
	Header http.Header
}

// Page is what a browser shows.
type Page struct {
	Status  int
	URL     *url.URL
	Header  http.Header
	Body    string
	browser *Browser
}

// NewBrowser opens a browser that nobody has used.
func NewBrowser(t testing.TB, base string) *Browser {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Browser{t: t, base: u, Header: http.Header{}, client: &http.Client{
		Jar: jar, Timeout: patience,
		Transport: &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			// "localhost" is ::1 first, where other tests may listen.
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		}},
	}}
}

// Do sends a request and follows where it leads.
func (b *Browser) Do(req *http.Request) *Page {
	b.t.Helper()
	p, err := b.Try(req)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// Try is Do for what may fail.
func (b *Browser) Try(req *http.Request) (*Page, error) {
	for name, values := range b.Header {
		req.Header[name] = values
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &Page{resp.StatusCode, resp.Request.URL, resp.Header, string(body), b}, nil
}

// Request makes a navigation.
func (b *Browser) Request(method, ref string, form url.Values) *http.Request {
	b.t.Helper()
	u, err := b.base.Parse(ref)
	if err != nil {
		b.t.Fatal(err)
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequest(method, u.String(), body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", b.base.Scheme+"://"+b.base.Host)
	}
	return req
}

// Get follows a link.
func (b *Browser) Get(ref string) *Page {
	b.t.Helper()
	return b.Do(b.Request(http.MethodGet, ref, nil))
}

// Post sends a form.
func (b *Browser) Post(ref string, form url.Values) *Page {
	b.t.Helper()
	return b.Do(b.Request(http.MethodPost, ref, form))
}

// NoRedirects stops following redirects.
func (b *Browser) NoRedirects() *Browser {
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b
}

// Cookies are those that the browser would send to the site.
func (b *Browser) Cookies() []*http.Cookie { return b.client.Jar.Cookies(b.base) }

// Cookie is the value of one of them.
func (b *Browser) Cookie(name string) string {
	for _, c := range b.Cookies() {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// SetCookie puts a cookie into the browser.
func (b *Browser) SetCookie(name, value string) {
	b.client.Jar.SetCookies(b.base, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

// Has says whether a text stands on the page.
func (p *Page) Has(text string) bool { return strings.Contains(html.UnescapeString(p.Body), text) }

// Want fails the test if a text doesn't stand on the page.
func (p *Page) Want(text string) *Page {
	p.browser.t.Helper()
	if !p.Has(text) {
		p.browser.t.Fatalf("%s (%d) does not say %q:\n%s", p.URL, p.Status, text, p.Body)
	}
	return p
}

// WantStatus fails the test if the page has another status.
func (p *Page) WantStatus(status int) *Page {
	p.browser.t.Helper()
	if p.Status != status {
		p.browser.t.Fatalf("%s has status %d, want %d:\n%s", p.URL, p.Status, status, p.Body)
	}
	return p
}

var (
	inputs = regexp.MustCompile(`<(?:input|button)\b[^>]*>`)
	attr   = regexp.MustCompile(`([a-z-]+)="([^"]*)"`)
	forms  = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
)

// Form finds the form that holds a field or a button with this name, or a button with this text, and gives where it goes to and
// what stands in its fields.
func (p *Page) Form(name string) (action string, fields url.Values) {
	p.browser.t.Helper()
	for _, f := range forms.FindAllStringSubmatch(p.Body, -1) {
		fields := url.Values{}
		found := strings.Contains(f[2], ">"+html.EscapeString(name)+"</button>")
		for _, in := range inputs.FindAllString(f[2], -1) {
			a := map[string]string{}
			for _, m := range attr.FindAllStringSubmatch(in, -1) {
				a[m[1]] = html.UnescapeString(m[2])
			}
			button := strings.HasPrefix(in, "<button")
			if a["name"] == name || button && a["value"] == name {
				found = true
			}
			if a["type"] == "checkbox" && !strings.Contains(in, " checked") {
				continue // a box that nobody has ticked is not sent
			}
			if a["name"] != "" && (!button || a["value"] == name || strings.Contains(f[2], in+html.EscapeString(name)+"</button>")) {
				fields.Add(a["name"], a["value"])
			}
		}
		if !found {
			continue
		}
		action := ""
		for _, m := range attr.FindAllStringSubmatch(f[1], -1) {
			if m[1] == "action" {
				action = html.UnescapeString(m[2])
			}
		}
		u, err := p.URL.Parse(action)
		if err != nil {
			p.browser.t.Fatal(err)
		}
		return u.String(), fields
	}
	p.browser.t.Fatalf("%s (%d) has no form with %q:\n%s", p.URL, p.Status, name, p.Body)
	return "", nil
}

// Submit fills in the form that Form finds, and sends it. Pairs are names and values.
func (p *Page) Submit(name string, pairs ...string) *Page {
	p.browser.t.Helper()
	action, fields := p.Form(name)
	for i := 0; i < len(pairs); i += 2 {
		fields.Set(pairs[i], pairs[i+1])
	}
	return p.browser.Post(action, fields)
}

var refresh = regexp.MustCompile(`<meta http-equiv="refresh" content="0; url=([^"]*)">`)

// Next is where the page moves on to by itself, or nothing.
func (p *Page) Next() string {
	if m := refresh.FindStringSubmatch(p.Body); m != nil {
		return html.UnescapeString(m[1])
	}
	return ""
}

// Follow goes where the page moves on to.
func (p *Page) Follow() *Page {
	p.browser.t.Helper()
	next := p.Next()
	if next == "" {
		p.browser.t.Fatalf("%s (%d) does not move on:\n%s", p.URL, p.Status, p.Body)
	}
	u, err := p.URL.Parse(next)
	if err != nil {
		p.browser.t.Fatal(err)
	}
	return p.browser.Get(u.String())
}

var (
	keyText   = regexp.MustCompile(`id="key"[^>]*>([A-Z2-7 ]+)<`)
	codesText = regexp.MustCompile(`(?s)id="codes"[^>]*>(.*?)</pre>`)
)

// Person is somebody who has registered an authenticator app.
type Person struct {
	Name  string
	Key   string // base32
	Codes []string
	step  int64
}

// Key is the key that the registration page shows.
func (p *Page) Key() string {
	p.browser.t.Helper()
	m := keyText.FindStringSubmatch(p.Body)
	if m == nil {
		p.browser.t.Fatalf("%s (%d) shows no key:\n%s", p.URL, p.Status, p.Body)
	}
	return strings.ReplaceAll(m[1], " ", "")
}

// RecoveryCodes are those that the page shows.
func (p *Page) RecoveryCodes() []string {
	p.browser.t.Helper()
	m := codesText.FindStringSubmatch(p.Body)
	if m == nil {
		p.browser.t.Fatalf("%s (%d) shows no recovery codes:\n%s", p.URL, p.Status, p.Body)
	}
	return strings.Fields(m[1])
}

// CodeAt is the code of a key at a time.
func CodeAt(t testing.TB, key string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(key, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// Code is a code of the person's app that has not been used. The server takes the codes of three steps at a time, each once; after
// that it waits for the next. Whoever sends it at once has time to.
func (p *Person) Code(t testing.TB) string {
	t.Helper()
	return p.CodeFor(t, 8*time.Second)
}

// CodeFor is Code for what is sent later: the code is good for so long, which is at most a minute.
func (p *Person) CodeFor(t testing.TB, lasting time.Duration) string {
	t.Helper()
	begin := time.Now()
	for {
		now := time.Now()
		step := max(p.step+1, now.Unix()/30-1)
		// A code is taken from a step before its own until a step after it.
		if now.Add(lasting).After(time.Unix((step+2)*30, 0)) {
			step++
		}
		if step <= now.Unix()/30+1 {
			p.step = step
			if waited := now.Sub(begin); waited > time.Second {
				t.Logf("waited %v for a new code of %s", waited.Round(time.Second), p.Name)
			}
			return CodeAt(t, p.Key, time.Unix(step*30, 0))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Unused is the person's newest code that would be taken now, which nobody has used. It doesn't count as used.
func (p *Person) Unused(t testing.TB) string {
	t.Helper()
	return CodeAt(t, p.Key, time.Now().Add(30*time.Second))
}

// Password goes to a page of the application and signs in with the password.
func (b *Browser) Password(ref, user, password string) *Page {
	b.t.Helper()
	page := b.Get(ref)
	return page.Submit("password", "username", user, "password", password)
}

// Register signs a person in for the first time, registers an authenticator app, and ends at the application.
func (b *Browser) Register(user string) *Person {
	b.t.Helper()
	page := b.Password("/", user, Password).Submit("begin")
	person := &Person{Name: user, Key: page.Key()}
	page = page.Submit("code", "code", person.Code(b.t))
	person.Codes = page.RecoveryCodes()
	if len(person.Codes) != 10 {
		b.t.Fatalf("%d recovery codes:\n%s", len(person.Codes), page.Body)
	}
	page.Submit("kept").Follow().Want("secret report")
	return person
}

// SignIn signs a registered person in and ends where the browser was going.
func (b *Browser) SignIn(ref string, p *Person) *Page {
	b.t.Helper()
	page := b.Password(ref, p.Name, Password)
	return page.Submit("code", "code", p.Code(b.t)).Follow()
}

// SignedIn says whether the application can be reached.
func (b *Browser) SignedIn() bool {
	b.t.Helper()
	req := b.Request(http.MethodGet, "/", nil)
	p := b.Do(req)
	return p.Status == http.StatusOK && p.Has("secret report")
}

// String is the page as text, for messages.
func (p *Page) String() string { return fmt.Sprintf("%s (%d):\n%s", p.URL, p.Status, p.Body) }
