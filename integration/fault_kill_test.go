package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

// TestKilledInTheMiddle kills the server with SIGKILL while one person registers, a second one uses a code and a third one sends
// the password, and looks at what is left after the next start. Each kill finds three new people at those steps: who registers
// at one kill uses a code at the next, and then signs in.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	kills := 20
	if soak() {
		kills = 200
	}
	for _, store := range []string{"bolt", "redis"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			k := &killer{up: lab.NewUpstream(t, nil), moments: map[string]*moment{}}
			o := lab.Options{Users: lab.UsersNamed(peopleNamed(kills + 2)...)}
			if store == "redis" {
				server := redistest.Start(t, durable...)
				o.Store = redisStore(server.Addr(), server.Password())
			}
			k.p = lab.Start(t, k.up.Address, o)
			people := []*person{k.register(t, "alice0"), k.register(t, "alice1")}
			for _, step := range []string{"registration", "code"} {
				k.moments[step] = &moment{delay: 5 * time.Millisecond, step: 8 * time.Millisecond, least: time.Millisecond}
			}
			// Hashing takes as long as the machine needs.
			var hashing time.Duration
			for range 3 {
				begin := time.Now()
				k.halfway(t, "alice0")
				hashing = time.Since(begin)
			}
			k.moments["password"] = &moment{delay: hashing, step: hashing / 3, least: hashing / 25}
			for n := range kills {
				people = append(people, &person{name: peopleNamed(n + 3)[n+2]})
				k.round(t, people[n+2], people[n+1], people[n])
				if t.Failed() {
					return
				}
			}
			if k.replays < kills {
				t.Errorf("%d codes were replayed in time", k.replays)
			}
			for step, m := range k.moments {
				t.Logf("%s, %s: %d kills before it was kept, %d after that and before the answer, %d after the answer", store, step, m.before, m.between, m.after)
				if m.before == 0 || m.between+m.after == 0 {
					t.Errorf("%s: the kills have missed the middle of the %s: %+v", store, step, *m)
				}
			}
		})
	}
}

func peopleNamed(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("alice%d", i)
	}
	return names
}

type killer struct {
	up      *lab.Upstream
	p       *lab.Proxy
	moments map[string]*moment
	rounds  int
	replays int // that were refused for what they are
}

type person struct {
	name string
	app  *lab.Person
}

// moment looks for the time after a request at which it takes effect, and goes around it.
type moment struct {
	delay, step, least     time.Duration
	before, between, after int
	kept                   bool // what the last kill has found
}

// note says what a kill at this moment has found.
func (m *moment) note(kept, confirmed bool) {
	switch {
	case confirmed:
		m.after++
	case kept:
		m.between++
	default:
		m.before++
	}
	// Nearer and nearer, from both sides; never so near that it stays on one. How far it is away at first depends on the machine.
	if m.before+m.between+m.after > 1 && kept == m.kept {
		m.step = m.step * 3 / 2
	} else {
		m.step = max(m.step*2/3, m.least)
	}
	m.kept = kept
	jitter := time.Duration(rand.Int64N(int64(m.step/2) + 1))
	if kept {
		m.delay -= m.step/2 + jitter
	} else {
		m.delay += m.step/2 + jitter
	}
	m.delay = max(m.delay, 0)
}

// shown is what the server knows of a person.
type shown struct {
	Registered    bool     `json:"registered"`
	Methods       []string `json:"methods"`
	RecoveryCodes int      `json:"recovery_codes_left"`
	RegisteredAt  string   `json:"registered_at"`
	Credentials   []struct {
		Method   string `json:"method"`
		LastUsed string `json:"last_used"`
	} `json:"credentials"`
	Sessions []struct {
		ID      string `json:"id"`
		Pending bool   `json:"pending"`
	} `json:"sessions"`
}

// lastUsed is when a code of the person's app was used last.
func (s shown) lastUsed() string {
	for _, c := range s.Credentials {
		if c.Method == "totp" {
			return c.LastUsed
		}
	}
	return ""
}

// refused fails the test unless a code was refused that had been used: because of that, or because it is too old by now.
func (k *killer) refused(t testing.TB, page *lab.Page) {
	t.Helper()
	if page.Has("already used") {
		k.replays++
	} else {
		page.Want("That code is not right.")
	}
}

func (k *killer) show(t testing.TB, name string) shown {
	t.Helper()
	status, text := k.p.API(http.MethodGet, "/mfa/users/"+name, nil)
	var s shown
	if err := json.Unmarshal([]byte(text), &s); status != http.StatusOK || err != nil {
		t.Fatalf("showing %s: status %d, %v\n%s", name, status, err, text)
	}
	return s
}

func (k *killer) register(t testing.TB, name string) *person {
	t.Helper()
	return &person{name, lab.NewBrowser(t, k.p.URL).Register(name)}
}

// halfway signs somebody in up to the second step.
func (k *killer) halfway(t testing.TB, name string) (*lab.Browser, *lab.Page) {
	t.Helper()
	b := lab.NewBrowser(t, k.p.URL)
	return b, b.Password("/", name, lab.Password)
}

// cookieOf is the session cookie that an answer sets.
func cookieOf(r lab.Reply) string {
	for _, c := range (&http.Response{Header: r.Header}).Cookies() {
		if c.Name == "mfa_session" && c.MaxAge >= 0 {
			return c.Value
		}
	}
	return ""
}

// round kills the server once.
func (k *killer) round(t *testing.T, registers, proves, signsIn *person) {
	// Everybody is one request away.
	newcomer, page := k.halfway(t, registers.name)
	page = page.Submit("begin")
	registers.app = &lab.Person{Name: registers.name, Key: page.Key()}
	firstCode := registers.app.Code(t)
	action, form := page.Form("code")
	form.Set("code", firstCode)
	registration := newcomer.Signed(http.MethodPost, action, form)

	prover, page := k.halfway(t, proves.name)
	code := proves.app.Code(t)
	action, form = page.Form("code")
	form.Set("code", code)
	verification := prover.Signed(http.MethodPost, action, form)

	visitor := lab.NewBrowser(t, k.p.URL)
	action, form = visitor.Get("/").Form("password")
	form.Set("username", signsIn.name)
	form.Set("password", lab.Password)
	password := visitor.Signed(http.MethodPost, action, form)
	sessionsBefore := len(k.show(t, signsIn.name).Sessions)
	acceptedBefore, usedBefore := k.accepted(proves.name), k.show(t, proves.name).lastUsed()

	// Each is sent so long before the kill as its moment says.
	requests := map[string]*http.Request{"registration": registration, "code": verification, "password": password}
	var longest time.Duration
	for _, m := range k.moments {
		longest = max(longest, m.delay)
	}
	kill := time.Now().Add(longest + 2*time.Millisecond)
	replies := map[string]*lab.Reply{}
	k.rounds++
	from := fmt.Sprintf("127.0.1.%d", k.rounds)
	var sending sync.WaitGroup
	for step, req := range requests {
		r := &lab.Reply{}
		replies[step] = r
		at := kill.Add(-k.moments[step].delay)
		sending.Go(func() {
			time.Sleep(time.Until(at))
			// A password that was counted and not judged stays counted, and there is a limit for each address.
			*r = lab.SendFrom(req, from)
		})
	}
	time.Sleep(time.Until(kill))
	k.p.Kill()
	sending.Wait()
	logged := k.accepted(proves.name) - acceptedBefore
	k.up.Forget()
	k.p.Launch(false)
	// Caddy may start the site before it starts what the commands talk to.
	lab.Eventually(t, 20*time.Second, "the server has started", func() bool {
		status, _ := k.p.API(http.MethodGet, "/mfa/users/"+registers.name, nil)
		return status == http.StatusOK
	})

	// A registration is there whole or not at all, and is there if its codes were shown.
	r := replies["registration"]
	confirmed := r.Err == nil && r.Status == http.StatusOK && strings.Contains(r.Body, `id="codes"`)
	after := k.show(t, registers.name)
	if r.Err == nil && !confirmed {
		t.Errorf("the registration was answered with %s", r)
	}
	whole := after.Registered && len(after.Methods) == 2 && after.RecoveryCodes == 10 && after.RegisteredAt != ""
	none := !after.Registered && len(after.Methods) == 0 && after.RecoveryCodes == 0 && after.RegisteredAt == ""
	if !whole && !none {
		t.Errorf("half a registration is left: %+v", after)
	}
	if confirmed && !whole {
		t.Errorf("a registration that was confirmed is lost: %+v", after)
	}
	if newcomer.SignedIn() && whole {
		t.Error("the session from before the registration is still good")
	}
	again, page := k.halfway(t, registers.name)
	if whole {
		k.refused(t, page.Submit("code", "code", firstCode))
		page.Submit("code", "code", registers.app.Code(t)).Follow().Want("secret report")
	} else {
		again.Close()
		registers.app = k.register(t, registers.name).app
	}
	k.moments["registration"].note(whole, confirmed)

	// A code is accepted once.
	r = replies["code"]
	cookie := cookieOf(*r)
	confirmed = r.Err == nil && cookie != ""
	if r.Err == nil && !confirmed {
		t.Errorf("the code was answered with %s", r)
	}
	if prover.SignedIn() {
		t.Error("the cookie from before the code has become good for more")
	}
	if confirmed {
		prover.SetCookie("mfa_session", cookie)
		if !prover.SignedIn() {
			t.Error("a sign-in that was confirmed is lost")
		}
	}
	kept := k.show(t, proves.name).lastUsed() != usedBefore
	accepted := 0
	for range 2 {
		_, page := k.halfway(t, proves.name)
		page = page.Submit("code", "code", code)
		if page.Next() != "" {
			accepted++
		} else {
			k.refused(t, page)
		}
	}
	if accepted > 1 || kept && accepted > 0 || (confirmed || logged > 0) && !kept {
		t.Errorf("a code was accepted again: kept %v, confirmed %v, logged %d times, and accepted %d times since", kept, confirmed, logged, accepted)
	}
	k.moments["code"].note(kept, confirmed)

	// A password begins a session or none, and never one that is good for more.
	r = replies["password"]
	cookie = cookieOf(*r)
	confirmed = r.Err == nil && cookie != ""
	if r.Err == nil && !confirmed {
		t.Errorf("the password was answered with %s", r)
	}
	sessions := k.show(t, signsIn.name).Sessions
	kept = len(sessions) > sessionsBefore
	if len(sessions) > sessionsBefore+1 || confirmed && !kept {
		t.Errorf("%d sessions before and %d after, confirmed %v", sessionsBefore, len(sessions), confirmed)
	}
	if visitor.SignedIn() {
		t.Error("signed in without a cookie")
	}
	if confirmed {
		visitor.SetCookie("mfa_session", cookie)
		visitor.Get("/_mfa/verify").Want("Confirm that it is you")
		if visitor.SignedIn() {
			t.Error("signed in with a password alone")
		}
	}
	_, page = k.halfway(t, signsIn.name)
	page.Want("Confirm that it is you")
	k.moments["password"].note(kept, confirmed)
}

// accepted counts the codes of a person that the running server has accepted.
func (k *killer) accepted(name string) int {
	n := 0
	for _, e := range k.p.Events("factor_accepted") {
		if e["user"] == name {
			n++
		}
	}
	return n
}
