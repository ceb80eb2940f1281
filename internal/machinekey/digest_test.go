package machinekey

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

// TestTheExampleOfRFC7616 is section 3.9.1.
func TestTheExampleOfRFC7616(t *testing.T) {
	c := &legacy.DigestCredential{
		Nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", URI: "/dir/index.html", NC: "00000001", CNonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
	}
	for algorithm, want := range map[legacy.DigestAlgorithm]string{
		legacy.MD5: "8ca523f5e9506fed4657c9700eebdbec", legacy.SHA256: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	} {
		i := slices.IndexFunc(digestHashes[:], func(h digestHash) bool { return h.algorithm == algorithm })
		h := &digestHashes[i]
		if got := hex.EncodeToString(h.response(h.sum("Mufasa", "http-auth@example.org", "Circle of Life"), c, "GET")); got != want {
			t.Errorf("%s: %s", algorithm, got)
		}
	}
}

// client is a program that knows HTTP Digest. It is written down again here, as RFC 7616 says it.
type client struct {
	user, secret, realm, nonce, cnonce string
	algorithm                          legacy.DigestAlgorithm
	count                              uint32
}

var nonceIn = regexp.MustCompile(`nonce="([A-Za-z0-9_-]+)"`)

// client gives one for an application, with a nonce that was made then.
func (f *fixture) client(user, secret, application string, at time.Time) *client {
	f.t.Helper()
	challenges := f.Challenges(application, false, at)
	nonce := nonceIn.FindStringSubmatch(challenges[0])
	if len(nonce) != 2 {
		f.t.Fatalf("%q", challenges)
	}
	return &client{user: user, secret: secret, realm: application + ": app password", nonce: nonce[1], cnonce: "c", algorithm: legacy.MD5}
}

func (c *client) sends(method, uri string) *legacy.DigestCredential {
	c.count++
	h := func(s string) string { sum := md5.Sum([]byte(s)); return hex.EncodeToString(sum[:]) }
	if c.algorithm == legacy.SHA256 {
		h = func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }
	}
	nc := fmt.Sprintf("%08x", c.count)
	response := h(h(c.user+":"+c.realm+":"+c.secret) + ":" + c.nonce + ":" + nc + ":" + c.cnonce + ":auth:" + h(method+":"+uri))
	raw, _ := hex.DecodeString(response)
	return &legacy.DigestCredential{User: c.user, Realm: c.realm, Nonce: c.nonce, URI: uri, CNonce: c.cnonce, NC: nc, Count: c.count, Algorithm: c.algorithm, Response: raw}
}

// over is a use of a request that was asked for as it came.
func over(change func(*gate.Use)) gate.Use {
	u := use(nil)
	u.Line = gate.Line{Method: "GET", Target: "/dav/x", Host: "mail.example.com"}
	if change != nil {
		change(&u)
	}
	return u
}

// byDigest has the applications take app passwords over Digest.
func (f *fixture) byDigest() *fixture {
	for name, a := range f.Applications {
		a.Digest = a.AppPasswords == gate.On
		f.Applications[name] = a
	}
	return f
}

func TestAnAppPasswordLetsItsOwnerInOverDigest(t *testing.T) {
	for _, algorithm := range []legacy.DigestAlgorithm{legacy.MD5, legacy.SHA256} {
		f := newFixture(t).byDigest()
		f.people.change("bob", func(u *mfa.User) { u.Name = "Bob" })
		f.add("alice", Wish{Name: "another", Application: "hr"}, start)
		f.add("alice", Wish{Name: "another", Application: "mail"}, start)
		p, secret := f.add("alice", mail, start)
		_, bobs := f.add("bob", mail, start)
		c := f.client("alice", secret, "mail", start)
		c.algorithm = algorithm
		for range 3 {
			h, err := f.AppPasswordOverDigest(ctx, "alice", c.sends("GET", "/dav/x"), over(nil))
			if err != nil || h.User.Name != "alice" || h.Account.ID != h.User.ID || h.Key != p.ID || h.Name != "phone" || !h.Expires.Equal(p.Expires) {
				t.Fatalf("%s: %+v, %v", algorithm, h, err)
			}
			if err := f.Again(ctx, h, over(nil)); err != nil {
				t.Errorf("again: %v", err)
			}
		}
		// The same one over Basic.
		if _, err := f.AppPassword(ctx, "alice", secret, use(nil)); err != nil {
			t.Errorf("over Basic: %v", err)
		}
		for _, name := range []string{"Bob", "bob"} {
			c := f.client(name, bobs, "mail", start)
			c.algorithm = algorithm
			if h, err := f.AppPasswordOverDigest(ctx, "bob", c.sends("GET", "/dav/x"), over(nil)); err != nil || h.User.Name != "Bob" {
				t.Errorf("%s: %+v, %v", name, h, err)
			}
		}
		if got := f.events.reasons(audit.KeyRefused); len(got) != 0 {
			t.Errorf("the log says %q", got)
		}
	}
}

// TestADigestIsGoodForItsOwnRequestAlone holds what a thief of the header, or somebody with another's secret, could send.
func TestADigestIsGoodForItsOwnRequestAlone(t *testing.T) {
	for reason, c := range map[string]struct {
		client func(*client)
		sends  [2]string // method and uri; empty: as they should be
		change func(*legacy.DigestCredential)
		use    func(*gate.Use)
		user   string
	}{
		"another path":                  {use: func(u *gate.Use) { u.Line.Target, u.Asked, u.Rewritten = "/dav/y", "/dav/y", "/dav/y" }},
		"another query":                 {use: func(u *gate.Use) { u.Line.Target = "/dav/x?delete" }},
		"another method":                {use: func(u *gate.Use) { u.Line.Method, u.Method = "DELETE", "DELETE" }},
		"a uri of its own":              {change: func(d *legacy.DigestCredential) { d.URI = "/dav/y" }},
		"a uri that begins like it":     {sends: [2]string{"GET", "/dav/"}},
		"a uri on another host":         {sends: [2]string{"GET", "https://other.example.com/dav/x"}},
		"a uri without a path":          {sends: [2]string{"GET", "dav/x"}},
		"the path in another spelling":  {sends: [2]string{"GET", "/dav/%78"}},
		"what it was rewritten to":      {sends: [2]string{"GET", "/rewritten"}, use: func(u *gate.Use) { u.Rewritten = "/rewritten" }},
		"another count":                 {change: func(d *legacy.DigestCredential) { d.NC, d.Count = "00000002", 2 }},
		"another cnonce":                {change: func(d *legacy.DigestCredential) { d.CNonce = "d" }},
		"another user's name":           {user: "bob", change: func(d *legacy.DigestCredential) { d.User = "bob" }},
		"another user's H(A1)":          {client: func(c *client) { c.user = "bob" }, change: func(d *legacy.DigestCredential) { d.User = "alice" }},
		"nobody's name":                 {user: "zoe", change: func(d *legacy.DigestCredential) { d.User = "zoe" }},
		"the name in another spelling":  {client: func(c *client) { c.user = "ALICE" }},
		"the secret without its groups": {client: func(c *client) { c.secret = strings.ReplaceAll(c.secret, "-", "") }},
		"another secret":                {client: func(c *client) { c.secret = "7" + c.secret[1:] }},
		"another realm":                 {client: func(c *client) { c.realm = "hr: app password" }},
		"a nonce of another application": {client: func(c *client) {
			keys, _ := seal.NewKeyring(bytes.Repeat([]byte{3}, seal.MinSecret))
			c.nonce = newNonces(keys).make("hr", start)
		}},
		"a nonce of somebody else": {client: func(c *client) {
			keys, _ := seal.NewKeyring(bytes.Repeat([]byte{7}, seal.MinSecret))
			c.nonce = newNonces(keys).make("mail", start)
		}},
		"a nonce of the future": {client: func(c *client) {
			keys, _ := seal.NewKeyring(bytes.Repeat([]byte{3}, seal.MinSecret))
			c.nonce = newNonces(keys).make("mail", start.Add(nonceAhead+time.Second))
		}},
		"a nonce that is none":        {client: func(c *client) { c.nonce = "x" }},
		"a nonce with a bit turned":   {client: func(c *client) { c.nonce = flip(c.nonce, 3) }},
		"a nonce with its end turned": {client: func(c *client) { c.nonce = flip(c.nonce, len(c.nonce)-3) }},
		"a nonce with a line break":   {client: func(c *client) { c.nonce = c.nonce[:9] + "\n" + c.nonce[9:] }},
		"a nonce with more":           {client: func(c *client) { c.nonce += "A" }},
		"the other algorithm's name": {change: func(d *legacy.DigestCredential) {
			d.Algorithm = legacy.SHA256
			d.Response = append(d.Response, d.Response...)
		}},
		"a response of zeros":              {change: func(d *legacy.DigestCredential) { d.Response = make([]byte, 16) }},
		"a response that is made of zeros": {change: func(d *legacy.DigestCredential) { d.Response = digestHashes[0].response(make([]byte, 16), d, "GET") }},
	} {
		t.Run(reason, func(t *testing.T) {
			f := newFixture(t).byDigest()
			_, secret := f.add("alice", mail, start)
			f.add("bob", mail, start)
			client := f.client("alice", secret, "mail", start)
			if c.client != nil {
				c.client(client)
			}
			if c.sends[0] == "" {
				c.sends = [2]string{"GET", "/dav/x"}
			}
			d := client.sends(c.sends[0], c.sends[1])
			if c.change != nil {
				c.change(d)
			}
			if c.user == "" {
				c.user = "alice"
			}
			h, err := f.AppPasswordOverDigest(ctx, c.user, d, over(c.use))
			if !errors.Is(err, gate.ErrWrongKey) || errors.Is(err, gate.ErrNotHere) || !reflect.DeepEqual(h, gate.Holder{}) {
				t.Fatalf("%+v, %v", h, err)
			}
			if got := f.events.reasons(audit.KeyRefused); !slices.Equal(got, []string{"wrong"}) {
				t.Errorf("the log says %q", got)
			}
			// It was counted, and keeps nobody out who has the right one.
			client = f.client("alice", secret, "mail", start)
			if _, err := f.AppPasswordOverDigest(ctx, "alice", client.sends("GET", "/dav/x"), over(nil)); err != nil {
				t.Errorf("the right one: %v", err)
			}
		})
	}
}

func flip(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}

func TestWhatAURIMayLookLike(t *testing.T) {
	for _, c := range []struct {
		target, uri string
		is          bool
	}{
		{"/a?b=c", "/a?b=c", true},
		{"/a?b=c", "http://MAIL.example.com/a?b=c", true},
		{"http://mail.example.com/a", "/a", true},
		{"http://mail.example.com/a", "http://mail.example.com/a", true},
		{"http://mail.example.com", "/", true},
		{"*", "*", true},
		{"/a", "/a?b", false},
		{"/a?b", "/a", false},
		{"/a", "http://mail.example.com:8443/a", false},
		{"/a", "http://x@mail.example.com/a", false},
		{"/a", "ftp://mail.example.com/a", false},
		{"/a", "//mail.example.com/a", false},
		{"/", "*", false},
		{"*", "/", false},
		{"/", "http://mail.example.com", true},
		{"/?x", "http://mail.example.com?x", true},
		{"*", "", false},
	} {
		line := gate.Line{Method: "GET", Target: c.target, Host: "mail.example.com"}
		if got := line.Is(c.uri); got != c.is {
			t.Errorf("%q for %q: %v", c.uri, c.target, got)
		}
	}
}

func TestAnOldNonceIsGivenAnother(t *testing.T) {
	synctest.Test(t, oldNonce)
}

func oldNonce(t *testing.T) {
	f := newFixture(t).byDigest()
	_, secret := f.add("alice", mail, start)
	old := f.client("alice", secret, "mail", start)
	late := over(func(u *gate.Use) { u.Now = start.Add(nonceLife) })
	if _, err := f.AppPasswordOverDigest(ctx, "alice", old.sends("GET", "/dav/x"), over(func(u *gate.Use) { u.Now = start.Add(nonceLife - time.Millisecond) })); err != nil {
		t.Fatalf("a moment before: %v", err)
	}
	synctest.Wait() // that it was used is noted
	before := f.store.commits.Load()
	for range 50 {
		if _, err := f.AppPasswordOverDigest(ctx, "alice", old.sends("GET", "/dav/x"), late); err != gate.ErrStale {
			t.Fatal(err)
		}
	}
	if n := f.store.commits.Load() - before; n != 0 {
		t.Errorf("%d things were counted", n)
	}
	// What is wrong besides is wrong, and counted.
	guess := f.client("alice", "0000-0000-0000-0000-0000-0000-0000", "mail", start)
	if _, err := f.AppPasswordOverDigest(ctx, "alice", guess.sends("GET", "/dav/x"), late); !errors.Is(err, gate.ErrWrongKey) {
		t.Fatal(err)
	}
	if f.store.commits.Load() == before {
		t.Error("a guess with an old nonce is not counted")
	}
	// A clock that is a little ahead makes no nonce of the future.
	ahead := f.client("alice", secret, "mail", start.Add(nonceAhead))
	if _, err := f.AppPasswordOverDigest(ctx, "alice", ahead.sends("GET", "/dav/x"), over(nil)); err != nil {
		t.Errorf("of a clock that is ahead: %v", err)
	}
	for _, stale := range []bool{false, true} {
		challenges := f.Challenges("mail", stale, start)
		if len(challenges) != 3 || !strings.Contains(challenges[0], "algorithm=MD5,") || !strings.Contains(challenges[1], "algorithm=SHA-256,") || challenges[2] != challenges[0] {
			t.Fatalf("%q", challenges)
		}
		for _, c := range challenges {
			if !strings.HasPrefix(c, `Digest realm="mail: app password", qop="auth", `) || strings.HasSuffix(c, ", stale=true") != stale || strings.Contains(c, "userhash") {
				t.Errorf("%q", c)
			}
		}
	}
}

func TestARequestThatWasSentOnceIsNotLetInAgain(t *testing.T) {
	f := newFixture(t).byDigest()
	_, secret := f.add("alice", mail, start)
	c := f.client("alice", secret, "mail", start)
	var sent []*legacy.DigestCredential
	for range 70 {
		sent = append(sent, c.sends("PUT", "/dav/x"))
	}
	put := over(func(u *gate.Use) { u.Method, u.Line.Method = "PUT", "PUT" })
	try := func(i int) error {
		_, err := f.AppPasswordOverDigest(ctx, "alice", sent[i], put)
		return err
	}
	// A program with several connections sends in no order.
	for _, i := range []int{5, 3, 4, 0, 63} {
		if err := try(i); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if err := try(i); err != gate.ErrStale {
			t.Fatalf("%d again: %v", i, err)
		}
	}
	if err := try(69); err != nil {
		t.Errorf("the last: %v", err)
	}
	if err := try(1); err != gate.ErrStale {
		t.Errorf("one too far behind the last: %v", err)
	}
	if err := try(6); err != nil {
		t.Errorf("one that is not: %v", err)
	}
	// Of many who send it at once, one is let in.
	again := f.client("alice", secret, "mail", start)
	one := again.sends("PUT", "/dav/x")
	var group sync.WaitGroup
	var in atomic.Int64
	for range 20 {
		group.Go(func() {
			switch _, err := f.AppPasswordOverDigest(ctx, "alice", one, put); err {
			case nil:
				in.Add(1)
			case gate.ErrStale:
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if in.Load() != 1 {
		t.Errorf("%d were let in", in.Load())
	}
	if got := f.events.reasons(audit.KeyRefused); len(got) != 5+1+19 || slices.ContainsFunc(got, func(r string) bool { return r != "sent before" }) {
		t.Errorf("the log says %q", got)
	}
}

func TestCountsOfManyNonces(t *testing.T) {
	var c Counts
	nonce := func(i int) string { return fmt.Sprint(i) }
	for i := range maxCounts {
		if !c.use(nonce(i), start, 1, start) {
			t.Fatal(i)
		}
	}
	// There is no room, and nothing that was let in may be let in again for that.
	later := start.Add(time.Minute)
	if !c.use("one more", later, 1, later) || len(c.seen) > maxCounts {
		t.Fatalf("%d are kept", len(c.seen))
	}
	for i := range maxCounts {
		if c.use(nonce(i), start, 1, later) {
			t.Fatalf("%d is let in again", i)
		}
	}
	after := later.Add(time.Second)
	if !c.use("a new one", after, 1, after) || c.use("a new one", after, 1, after) {
		t.Error("a new one")
	}
	// What is too old makes room.
	c = Counts{}
	for i := range maxCounts {
		c.use(nonce(i), start, 1, start)
	}
	after = start.Add(nonceLife)
	if !c.use("one more", after, 1, after) || len(c.seen) != 1 || !c.since.IsZero() {
		t.Errorf("%d are kept", len(c.seen))
	}
}

// TestCountsOfAClockThatIsAhead makes room while a nonce is known that another machine has made, whose clock is ahead.
func TestCountsOfAClockThatIsAhead(t *testing.T) {
	var c Counts
	ahead := start.Add(nonceAhead)
	if !c.use("ahead", ahead, 1, start) {
		t.Fatal("the first time")
	}
	for i := range maxCounts {
		c.use(fmt.Sprint(i), start, 1, start)
	}
	if c.since.IsZero() {
		t.Fatal("there is room still")
	}
	if c.use("ahead", ahead, 1, start) {
		t.Error("it is let in again")
	}
}

// TestAProcessThatBeginsDoesNotKnowWhatTheOneBeforeHasLetIn restarts between a request and its copy.
func TestAProcessThatBeginsDoesNotKnowWhatTheOneBeforeHasLetIn(t *testing.T) {
	c := NewCounts(start)
	if c.use("before", start.Add(-time.Millisecond), 1, start) {
		t.Error("what may have come before is let in")
	}
	if !c.use("after", start, 1, start) {
		t.Error("what can't have come before is not let in")
	}
}

// TestANonceKeepsNothingElseInMemory holds what many nonces take against the headers that they came in, which are sixty times as long.
func TestANonceKeepsNothingElseInMemory(t *testing.T) {
	const many = 2000
	memory := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var c Counts
	before := memory()
	for i := range many {
		header := fmt.Sprintf("%043d", i) + strings.Repeat(" ", 8<<10)
		c.use(header[:43], start, 1, start)
	}
	if took := memory() - before; took > many*1<<10 {
		t.Errorf("%d bytes a nonce", took/many)
	}
	runtime.KeepAlive(&c)
}

// TestEachCountIsLetInOnce holds the window against a set.
func TestEachCountIsLetInOnce(t *testing.T) {
	for range 200 {
		var c Counts
		in := map[uint32]bool{}
		highest := uint32(0)
		at := rand.Uint32N(1 << 20)
		for range 500 {
			at += rand.Uint32N(40)
			count := at - rand.Uint32N(100)
			if count == 0 || count > 1<<31 {
				continue
			}
			got := c.use("n", start, count, start)
			if got && in[count] {
				t.Fatalf("%d is let in twice", count)
			}
			if !got && !in[count] && count+64 > highest {
				t.Fatalf("%d is not let in, and %d was the highest", count, highest)
			}
			in[count] = in[count] || got
			highest = max(highest, count)
		}
	}
}

func TestAnAppPasswordIsBoundOverDigestToo(t *testing.T) {
	prefix := netip.MustParsePrefix
	for reason, c := range map[string]struct {
		wish   Wish
		use    func(*gate.Use)
		change func(*fixture, *account.AppPassword)
		reason string
	}{
		"another address":      {wish: Wish{Name: "n", Application: "mail", From: []netip.Prefix{prefix("10.0.0.0/8")}}, reason: "address"},
		"another method":       {wish: Wish{Name: "n", Application: "mail", Methods: []string{"PUT"}}, reason: "method"},
		"a method in a header": {wish: Wish{Name: "n", Application: "mail", Methods: []string{"GET"}}, use: func(u *gate.Use) { u.Overrides = []string{"DELETE"} }, reason: "method"},
		"another path":         {wish: Wish{Name: "n", Application: "mail", Paths: []string{"/cal/*"}}, reason: "path"},
		"a path that it got":   {wish: Wish{Name: "n", Application: "mail", Paths: []string{"/dav/*"}}, use: func(u *gate.Use) { u.Rewritten = "/admin" }, reason: "path"},
		"after its end":        {wish: Wish{Name: "n", Application: "mail", Expires: start.Add(time.Minute)}, use: func(u *gate.Use) { u.Now = start.Add(time.Minute) }, reason: "expired"},
		"where they are off":   {wish: mail, use: func(u *gate.Use) { u.AppPasswords = gate.Off }, reason: "off"},
		"of who is disabled": {wish: mail, change: func(f *fixture, _ *account.AppPassword) {
			f.people.change("alice", func(u *mfa.User) { u.Disabled = true })
		}, reason: "disabled"},
		"with another password": {wish: mail, change: func(f *fixture, _ *account.AppPassword) {
			f.people.change("alice", func(u *mfa.User) { u.Mark = "other" })
		}, reason: "password changed"},
		"of who is blocked": {wish: mail, change: func(f *fixture, _ *account.AppPassword) {
			f.update("alice", func(a *account.Account) { a.State.Blocked = &account.Block{At: start} })
		}, reason: "blocked"},
		"when it was revoked": {wish: mail, change: func(f *fixture, p *account.AppPassword) {
			f.update("alice", func(a *account.Account) {
				a.RemoveAppPasswords(func(q *account.AppPassword) bool { return q.ID == p.ID })
			})
		}, reason: "wrong"},
	} {
		t.Run(reason, func(t *testing.T) {
			f := newFixture(t).byDigest()
			p, secret := f.add("alice", c.wish, start)
			client := f.client("alice", secret, "mail", start)
			if c.change != nil {
				if _, err := f.AppPasswordOverDigest(ctx, "alice", client.sends("GET", "/dav/x"), over(nil)); err != nil {
					t.Fatalf("before: %v", err)
				}
				c.change(f, p)
			}
			_, err := f.AppPasswordOverDigest(ctx, "alice", client.sends("GET", "/dav/x"), over(c.use))
			if !errors.Is(err, gate.ErrWrongKey) || errors.Is(err, gate.ErrNotHere) != (c.reason != "wrong") {
				t.Fatal(err)
			}
			if got := f.events.reasons(audit.KeyRefused); !slices.Equal(got, []string{c.reason}) {
				t.Errorf("the log says %q", got)
			}
		})
	}
}

func TestARecordThatWasAlteredOpensNothingOverDigest(t *testing.T) {
	for reason, c := range map[string]struct {
		user  string
		alter func(*account.AppPassword)
	}{
		"moved to another user": {"bob", func(*account.AppPassword) {}},
		"a later end":           {"alice", func(p *account.AppPassword) { p.Expires = p.Expires.Add(time.Hour) }},
		"every address":         {"alice", func(p *account.AppPassword) { p.From = nil }},
		"every path":            {"alice", func(p *account.AppPassword) { p.Paths = nil }},
		"cut":                   {"alice", func(p *account.AppPassword) { p.HTTPDigest = p.HTTPDigest[:40] }},
		"empty":                 {"alice", func(p *account.AppPassword) { p.HTTPDigest = []byte{} }},
		"none":                  {"alice", func(p *account.AppPassword) { p.HTTPDigest = nil }},
	} {
		f := newFixture(t).byDigest()
		wish := mail
		wish.From, wish.Paths = []netip.Prefix{netip.PrefixFrom(home, 32)}, []string{"/dav/*"}
		p, secret := f.add("alice", wish, start)
		altered := *p
		c.alter(&altered)
		f.update("alice", func(a *account.Account) { a.AppPasswords = nil })
		f.update(c.user, func(a *account.Account) { a.AddAppPassword(&altered) })
		client := f.client("alice", secret, "mail", start)
		if c.user == "bob" {
			client.user = "alice" // whose H(A1) it is
		}
		d := client.sends("GET", "/dav/x")
		if _, err := f.AppPasswordOverDigest(ctx, c.user, d, over(nil)); !errors.Is(err, gate.ErrWrongKey) || errors.Is(err, gate.ErrNotHere) {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

func TestNothingIsKeptForDigestWhereNobodyAsksForIt(t *testing.T) {
	f := newFixture(t)
	p, secret := f.add("alice", mail, start)
	if p.HTTPDigest != nil {
		t.Fatal("something is kept")
	}
	f.byDigest()
	c := f.client("alice", secret, "mail", start)
	if _, err := f.AppPasswordOverDigest(ctx, "alice", c.sends("GET", "/dav/x"), over(nil)); !errors.Is(err, gate.ErrWrongKey) {
		t.Errorf("one that was made before: %v", err)
	}
	q, secret := f.add("alice", mail, start)
	if text := string(q.HTTPDigest); len(text) == 0 || strings.Contains(text, secret) || strings.Contains(text, strings.ReplaceAll(secret, "-", "")) {
		t.Errorf("%q is kept", text)
	}
	for _, h := range digestHashes {
		if bytes.Contains(q.HTTPDigest, h.sum("alice", "mail: app password", secret)) {
			t.Errorf("H(A1) lies open")
		}
	}
}

func TestTheNewestSecretSealsWhatIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t).byDigest()
		_, overBasic := f.add("alice", mail, start)
		_, overDigest := f.add("alice", mail, start)
		both := f.node(4, 3)
		use1, use2 := use(nil), over(nil)
		if _, err := both.AppPassword(ctx, "alice", overBasic, use1); err != nil {
			t.Fatal(err)
		}
		// A nonce of the older secret is good as long as that is known.
		c := f.client("alice", overDigest, "mail", start)
		if _, err := both.AppPasswordOverDigest(ctx, "alice", c.sends("GET", "/dav/x"), use2); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // what was used is written
		f.Service = f.node(4)
		for name, secret := range map[string]string{"used over Basic": overBasic, "used over Digest": overDigest} {
			c := f.client("alice", secret, "mail", start)
			if _, err := f.AppPasswordOverDigest(ctx, "alice", c.sends("GET", "/dav/x"), over(nil)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestGuessesOverDigestAreCounted: like those over Basic, and whoever is named.
func TestGuessesOverDigestAreCounted(t *testing.T) {
	f := newFixture(t).byDigest()
	other := f.node(3)
	other.Applications = f.Applications
	_, secret := f.add("alice", mail, start)
	verdicts := map[string][]string{}
	for _, name := range []string{"alice", "bob", "zoe", "no\u202ebody"} {
		in := over(func(u *gate.Use) { u.Address = netip.AddrFrom4([4]byte{198, 51, 100, byte(len(verdicts))}) })
		for i := range 20 {
			s := []*Service{f.Service, other}[i%2]
			c := f.client(name, fmt.Sprint("guess", i), "mail", start)
			_, err := s.AppPasswordOverDigest(ctx, name, c.sends("GET", "/dav/x"), in)
			switch {
			case waits(err):
				verdicts[name] = append(verdicts[name], "wait")
			case errors.Is(err, gate.ErrWrongKey):
				verdicts[name] = append(verdicts[name], "wrong")
			default:
				t.Fatal(err)
			}
		}
		if got := verdicts[name]; slices.Index(got, "wait") != 5 || !slices.Equal(got, verdicts["alice"]) {
			t.Errorf("%s: %q", name, got)
		}
	}
	// The owner of a right one is not kept out by who guesses, at the same place neither.
	in := over(func(u *gate.Use) { u.Address = netip.AddrFrom4([4]byte{198, 51, 100, 0}) })
	c := f.client("alice", secret, "mail", start)
	if _, err := f.AppPasswordOverDigest(ctx, "alice", c.sends("GET", "/dav/x"), in); err != nil {
		t.Errorf("the right one: %v", err)
	}
	if len(f.events.reasons(audit.KeyThrottled)) == 0 {
		t.Error("the log says nothing of it")
	}
}

func TestAProgramWithManyConnectionsIsOneAttempt(t *testing.T) {
	f := newFixture(t).byDigest()
	_, secret := f.add("alice", mail, start)
	c := f.client("alice", secret, "mail", start)
	var group sync.WaitGroup
	for range 50 {
		d := c.sends("GET", "/dav/x")
		group.Go(func() {
			if _, err := f.AppPasswordOverDigest(ctx, "alice", d, over(nil)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	before := f.store.commits.Load()
	for range 100 {
		if _, err := f.AppPasswordOverDigest(ctx, "alice", c.sends("GET", "/dav/x"), over(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.store.commits.Load() - before; n > 2 { // when it was used is noted
		t.Errorf("the store was written to %d times", n)
	}
}

func TestOneIsGoodOverDigestEverywhereFromTheFirstMoment(t *testing.T) {
	f := newFixture(t).byDigest()
	deaf := f.node(3)
	guess := f.client("alice", "x", "mail", start)
	if _, err := deaf.AppPasswordOverDigest(ctx, "alice", guess.sends("GET", "/dav/x"), over(nil)); !errors.Is(err, gate.ErrWrongKey) {
		t.Fatal(err)
	}
	f.store.deaf.Store(true)
	_, secret := f.add("alice", mail, start)
	c := f.client("alice", secret, "mail", start)
	if _, err := deaf.AppPasswordOverDigest(ctx, "alice", c.sends("GET", "/dav/x"), over(nil)); err != nil {
		t.Errorf("on another machine: %v", err)
	}
}

// TestWhoeverIsNamedTheSameIsComputed counts what is opened and hashed by the time it takes: a user with forty, and nobody.
func TestWhoeverIsNamedTheSameIsComputed(t *testing.T) {
	f := newFixture(t).byDigest()
	for i := range MaxAppPasswords {
		f.add("alice", Wish{Name: fmt.Sprint(i), Application: "mail"}, start)
	}
	alice, err := f.Accounts.Get(ctx, mfa.UserID{Directory: "file", ID: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	none := &account.Account{ID: stranger("zoe").ID}
	d := f.client("alice", "wrong", "mail", start).sends("GET", "/dav/x")
	cost := func(u *mfa.User, a *account.Account) float64 {
		return testing.AllocsPerRun(20, func() {
			if f.overDigest.answers(u, a, d, over(nil)) != nil {
				t.Fatal("a guess is right")
			}
		})
	}
	user, _ := f.people.ByName(ctx, "alice")
	if with, without := cost(user, alice), cost(stranger("zoe"), none); with != without {
		t.Errorf("%v allocations for a user with forty, %v for nobody", with, without)
	}
}

func BenchmarkOverDigest(b *testing.B) {
	f := newFixture(b).byDigest()
	_, secret := f.add("alice", mail, start)
	c := f.client("alice", secret, "mail", start)
	for b.Loop() {
		if _, err := f.AppPasswordOverDigest(ctx, "alice", c.sends("GET", "/dav/x"), over(nil)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOverDigestWrong(b *testing.B) {
	f := newFixture(b).byDigest()
	user, _ := f.people.ByName(ctx, "alice")
	a := &account.Account{ID: user.ID}
	d := f.client("alice", "wrong", "mail", start).sends("GET", "/dav/x")
	for b.Loop() {
		f.overDigest.answers(user, a, d, over(nil))
	}
}
