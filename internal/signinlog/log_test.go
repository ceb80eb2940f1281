package signinlog

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/store/bolt"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

func TestOverMemory(t *testing.T) {
	suite(t, func(*testing.T) func() store.Store {
		s := store.NewMemory()
		return func() store.Store { return s }
	})
}

func TestOverBolt(t *testing.T) {
	suite(t, func(t *testing.T) func() store.Store {
		s := bolt.New(filepath.Join(t.TempDir(), "store"))
		t.Cleanup(func() { s.Close() })
		return func() store.Store { return s }
	})
}

// TestRedis needs a server. Each log has a client of its own, as each process has.
func TestRedis(t *testing.T) {
	server := redistest.Start(t)
	var number atomic.Int64
	suite(t, func(t *testing.T) func() store.Store {
		prefix := fmt.Sprintf("test%d:", number.Add(1))
		return func() store.Store {
			s := redis.New(redis.Config{Addresses: []string{server.Addr()}, Password: server.Password(), Prefix: prefix})
			t.Cleanup(func() { s.Close() })
			return s
		}
	})
}

// suite is what holds over every store. open makes a place that is empty, and gives clients of it.
func suite(t *testing.T, open func(t *testing.T) func() store.Store) {
	t.Run("what was added comes back whole, the newest first", func(t *testing.T) {
		client := open(t)
		l := newLog(t, client(), Settings{})
		want := []audit.SignIn{full("alice", 3), refused("bob", 2), refused("", 1)}
		fill(t, l, want[2], want[1], want[0])
		got, err := newLog(t, client(), Settings{}).List(t.Context(), Filter{})
		if err != nil || got.Next != "" || !reflect.DeepEqual(got.SignIns, want) {
			t.Fatalf("%v, next %q:\n got %+v\nwant %+v", err, got.Next, got.SignIns, want)
		}
	})

	t.Run("pages hold everything once", func(t *testing.T) {
		l := newLog(t, open(t)(), Settings{Max: 4000}) // chunks of 62
		var all []audit.SignIn
		for i := range 300 {
			r := full(fmt.Sprint("user", i), i/3) // three at each moment
			all = append(all, r)
			if i%17 == 0 {
				r := refused(fmt.Sprint("user", i), i/3)
				all = append(all, r)
			}
		}
		// Not in order, as several processes write them.
		for i := 0; i < len(all); i += 3 {
			var few []audit.SignIn
			for n := i; n < min(i+3, len(all)); n++ {
				few = append(few, all[n*113%len(all)])
			}
			fill(t, l, few...)
		}
		seen := map[string]bool{}
		for after, before := "", int64(1<<62); ; {
			page := list(t, l, Filter{Limit: 7, After: after})
			for _, r := range page.SignIns {
				if seen[r.ID] || r.Created.UnixNano() > before {
					t.Fatalf("%s comes twice, or too late", r.ID)
				}
				seen[r.ID], before = true, r.Created.UnixNano()
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if len(seen) != len(all) {
			t.Fatalf("%d of %d sign-ins were on the pages", len(seen), len(all))
		}
	})

	t.Run("processes that write at once lose nothing of each other", func(t *testing.T) {
		client := open(t)
		const processes, each = 4, 200
		var added, wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		for p := range processes {
			l := newLog(t, client(), Settings{Max: 8000, Dropped: func(n int) { t.Errorf("process %d has dropped %d", p, n) }})
			wg.Go(func() { l.Run(ctx) })
			added.Go(func() {
				for i := range each {
					l.Add(full(fmt.Sprintf("user%d-%d", p, i), i))
				}
			})
		}
		added.Wait()
		// At the end there are a few seconds, which may be too few for all of it.
		reader := newLog(t, client(), Settings{Max: 8000})
		for deadline := time.Now().Add(time.Minute); len(list(t, reader, Filter{Limit: MaxLimit}).SignIns) < processes*each && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
		stop()
		wg.Wait()
		page := list(t, reader, Filter{Limit: MaxLimit})
		users := map[string]bool{}
		for _, r := range page.SignIns {
			users[r.UserPrincipalName] = true
		}
		if len(page.SignIns) != processes*each || len(users) != processes*each {
			t.Fatalf("%d sign-ins of %d users are there, want %d", len(page.SignIns), len(users), processes*each)
		}
	})

	t.Run("the oldest go when it is full", func(t *testing.T) {
		s := open(t)()
		l := newLog(t, s, Settings{Max: 1000})
		for i := 0; i < 1500; i += 5 {
			var few []audit.SignIn
			for n := range 5 {
				few = append(few, full(fmt.Sprint("user", i+n), i+n))
			}
			fill(t, l, few...)
		}
		page := list(t, l, Filter{Limit: MaxLimit})
		if n := len(page.SignIns); n > 1000 || n < 1000-2*minChunk {
			t.Fatalf("%d sign-ins are kept, want 1000 at most and not many fewer", n)
		}
		for i, r := range page.SignIns {
			if want := fmt.Sprint("user", 1499-i); r.UserPrincipalName != want {
				t.Fatalf("sign-in %d is of %s, want %s", i, r.UserPrincipalName, want)
			}
		}
		// Nothing is left in the store of what is gone.
		chunks, err := l.index(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, c := range chunks {
			total += c.Count
		}
		if total != len(page.SignIns) {
			t.Errorf("the index counts %d, there are %d", total, len(page.SignIns))
		}
	})
}

var began = time.Now().Add(-time.Hour).UTC().Round(0)

// full is a sign-in with every field, so many seconds after the beginning.
func full(user string, second int) audit.SignIn {
	at := began.Add(time.Duration(second) * time.Second)
	id := "ok-" + user
	return audit.SignIn{
		ID: id, Created: at, UserDisplayName: strings.ToUpper(user), UserPrincipalName: user, UserID: "file/" + user, AppDisplayName: "hr",
		IPAddress: "192.0.2.7", ClientAppUsed: audit.ClientBrowser, UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		CorrelationID: "page-" + user, ConditionalAccess: audit.AccessSuccess,
		Policies: []audit.AppliedPolicy{
			{ID: "p1", DisplayName: "MFA for all", GrantControls: []string{"mfa"}, SessionControls: []string{}, Result: audit.PolicySuccess},
			{ID: "p2", DisplayName: "Block legacy", GrantControls: []string{}, SessionControls: []string{}, Result: audit.PolicyNotApplied},
			{ID: "p3", DisplayName: "Trial", GrantControls: []string{"block"}, SessionControls: []string{}, Result: audit.PolicyReportOnlyFailure},
		},
		Requirement: audit.MultiFactor,
		Details: []audit.Detail{
			{Time: at.Add(-20 * time.Second), Method: "password", Succeeded: true, Result: "succeeded"},
			{Time: at, Method: "totp", Succeeded: true, Result: "succeeded"},
		},
		Device:   audit.DeviceDetail{DeviceID: "d1", DisplayName: "LAPTOP", OperatingSystem: "Linux", Browser: "Firefox", IsCompliant: true, IsManaged: true, TrustType: "x"},
		Location: audit.Location{City: "Delft", CountryOrRegion: "NL"}, RiskLevel: audit.RiskNone, RiskState: audit.RiskNone,
		Status: audit.Status{ErrorCode: audit.CodeSuccess}, IsInteractive: true,
	}
}

// refused is a sign-in with a wrong password, of nobody known if user is empty.
func refused(user string, second int) audit.SignIn {
	r := audit.SignIn{
		ID: fmt.Sprint("no-", user, "-", second), Created: began.Add(time.Duration(second) * time.Second), UserPrincipalName: user,
		AppDisplayName: "wiki", IPAddress: "2001:db8::9", ClientAppUsed: audit.ClientBrowser, ConditionalAccess: audit.AccessNotApplied,
		Policies: []audit.AppliedPolicy{}, Details: []audit.Detail{}, RiskLevel: audit.RiskNone, RiskState: audit.RiskNone,
		Status: audit.Status{ErrorCode: audit.CodeInvalidPassword, FailureReason: "Invalid user name or password."}, IsInteractive: true,
	}
	if user != "" {
		r.UserID = "file/" + user
	}
	return r
}

func newLog(t *testing.T, s store.Store, settings Settings) *Log {
	t.Helper()
	if settings.Keep == 0 {
		settings.Keep = 30 * 24 * time.Hour
	}
	if settings.Max == 0 {
		settings.Max = 100000
	}
	return New(s, settings)
}

// fill adds sign-ins and writes them.
func fill(t *testing.T, l *Log, signIns ...audit.SignIn) {
	t.Helper()
	for _, r := range signIns {
		l.Add(r)
	}
	for b := l.take(); b != nil; b = l.take() {
		if err := l.append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, l *Log, f Filter) Page {
	t.Helper()
	page, err := l.List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func ids(page Page) string {
	var all []string
	for _, r := range page.SignIns {
		all = append(all, r.ID)
	}
	return strings.Join(all, " ")
}

func TestFilters(t *testing.T) {
	l := newLog(t, store.NewMemory(), Settings{})
	mapped := refused("dora", 4)
	mapped.IPAddress = "::ffff:198.51.100.3"
	fill(t, l, full("alice", 1), refused("alice", 2), refused("", 3), mapped)
	at := func(second int) time.Time { return began.Add(time.Duration(second) * time.Second) }
	for reason, tc := range map[string]struct {
		filter Filter
		want   string
	}{
		"nothing narrows it":                    {Filter{}, "no-dora-4 no--3 no-alice-2 ok-alice"},
		"a user":                                {Filter{User: "alice"}, "no-alice-2 ok-alice"},
		"a user, spelled otherwise":             {Filter{User: " ALICE "}, "no-alice-2 ok-alice"},
		"a user who was never there":            {Filter{User: "bob"}, ""},
		"since is inclusive, until is not":      {Filter{Since: at(2), Until: at(4)}, "no--3 no-alice-2"},
		"a time far away":                       {Filter{Until: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), Since: time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC)}, "no-dora-4 no--3 no-alice-2 ok-alice"},
		"an application":                        {Filter{Application: "HR"}, "ok-alice"},
		"one address":                           {Filter{Addresses: netip.MustParsePrefix("192.0.2.7/32")}, "ok-alice"},
		"a range of IPv6":                       {Filter{Addresses: netip.MustParsePrefix("2001:db8::/32")}, "no--3 no-alice-2"},
		"IPv4 that came as IPv6":                {Filter{Addresses: netip.MustParsePrefix("198.51.100.0/24")}, "no-dora-4"},
		"those that succeeded":                  {Filter{Status: Success}, "ok-alice"},
		"those that failed":                     {Filter{Status: Failure, User: "alice"}, "no-alice-2"},
		"a policy that applied":                 {Filter{Policy: "mfa for ALL"}, "ok-alice"},
		"a policy by its id":                    {Filter{Policy: "p3"}, "ok-alice"},
		"a policy that did not apply":           {Filter{Policy: "Block legacy"}, ""},
		"a policy that did not apply, asked so": {Filter{Policy: "Block legacy", Result: audit.PolicyNotApplied}, "ok-alice"},
		"a policy with another result":          {Filter{Policy: "MFA for all", Result: audit.PolicyFailure}, ""},
		"any policy with a result":              {Filter{Result: audit.PolicyReportOnlyFailure}, "ok-alice"},
		"the reference on the page":             {Filter{Reference: "page-alice"}, "ok-alice"},
		"the id":                                {Filter{Reference: "no--3"}, "no--3"},
		"a limit":                               {Filter{Limit: 2}, "no-dora-4 no--3"},
	} {
		if got := ids(list(t, l, tc.filter)); got != tc.want {
			t.Errorf("%s: %q, want %q", reason, got, tc.want)
		}
	}
	for reason, f := range map[string]Filter{
		"a limit below one":         {Limit: -1},
		"a limit too high":          {Limit: MaxLimit + 1},
		"an end that there isn't":   {Status: "maybe"},
		"a result that Graph lacks": {Result: "perhaps"},
		"a name that can't be one":  {User: "a\u202eb"},
		"a page that is not ours":   {After: "xyz"},
	} {
		if page, err := l.List(t.Context(), f); !errors.Is(err, ErrFilter) {
			t.Errorf("%s: %v, %v", reason, page, err)
		}
	}
}

// counting counts what is read.
type counting struct {
	store.Store
	mu    sync.Mutex
	lists map[string]int
}

func (c *counting) List(ctx context.Context, partition, prefix string) ([]store.Record, error) {
	c.mu.Lock()
	c.lists[partition]++
	c.mu.Unlock()
	return c.Store.List(ctx, partition, prefix)
}

func TestAFilterNarrowsWhatIsRead(t *testing.T) {
	c := &counting{Store: store.NewMemory(), lists: map[string]int{}}
	l := newLog(t, c, Settings{Max: 10000}) // chunks of 156
	for i := range 2000 {
		name := fmt.Sprint("user", i)
		if i == 700 || i == 1200 {
			name = "rare"
		}
		fill(t, l, full(name, i))
	}
	for reason, tc := range map[string]struct {
		filter Filter
		most   int // chunks read
		count  int
	}{
		"the newest page":        {Filter{}, 2, 100},
		"a user":                 {Filter{User: "rare"}, 2, 2},
		"a user who isn't there": {Filter{User: "nobody"}, 0, 0},
		"an hour of the past":    {Filter{Since: began.Add(1000 * time.Second), Until: began.Add(1010 * time.Second)}, 2, 10},
	} {
		clear(c.lists)
		page := list(t, l, tc.filter)
		chunks := len(c.lists)
		if c.lists[indexPartition] > 0 {
			chunks--
		}
		if chunks > tc.most || len(page.SignIns) != tc.count {
			t.Errorf("%s: %d chunks were read for %d sign-ins, want at most %d for %d", reason, chunks, len(page.SignIns), tc.most, tc.count)
		}
	}
	// The next page doesn't read again what the one before has read.
	first := list(t, l, Filter{Limit: 1000})
	clear(c.lists)
	if list(t, l, Filter{Limit: 10, After: first.Next}); len(c.lists) > 3 {
		t.Errorf("the next page reads %d partitions", len(c.lists))
	}
}

func TestAFloodOfStrangersWashesNothingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		l := newLog(t, s, Settings{Max: 1000, Dropped: func(n int) { t.Errorf("%d dropped", n) }})
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { l.Run(ctx) })
		add := func(r audit.SignIn) {
			r.Created = time.Now()
			l.Add(r)
		}
		for i := range 400 {
			add(full(fmt.Sprint("user", i), 0))
		}
		for i := range 100 {
			add(refused(fmt.Sprint("user", i), 0))
		}
		// Two hours of strangers, and of wrong passwords for one user whose name is known.
		const minutes, rate = 120, 50
		for range minutes {
			for i := range rate {
				add(refused("", i))
				add(refused("victim", i))
			}
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		stop()
		wg.Wait()

		var all []audit.SignIn
		for after := ""; ; {
			page := list(t, l, Filter{Limit: MaxLimit, After: after})
			all = append(all, page.SignIns...)
			if after = page.Next; after == "" {
				break
			}
		}
		if len(all) > 1000 {
			t.Errorf("%d sign-ins are kept, 1000 at most", len(all))
		}
		succeeded, suppressed := 0, 0
		for _, r := range all {
			if r.Status.ErrorCode == audit.CodeSuccess {
				succeeded++
			}
			suppressed += r.Suppressed
		}
		if succeeded != 400 {
			t.Errorf("of 400 sign-ins, %d are left after the flood", succeeded)
		}
		if suppressed == 0 {
			t.Error("nothing says how many were not kept")
		}
	})
}

func TestWhatIsLeftOutIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, store.NewMemory(), Settings{})
		for i := range perStranger + 40 {
			l.Add(refused("", i))
		}
		for i := range perUser + 7 {
			l.Add(refused("victim", i))
		}
		for i := range perKnown { // of which some are over what all users have
			l.Add(refused(fmt.Sprint("user", i), i))
		}
		for i := range perUser + 2 {
			l.Add(full("busy", i))
		}
		for i := range 1000 { // a morning in an office
			l.Add(full(fmt.Sprint("user", i), i))
		}
		fill(t, l)
		before := list(t, l, Filter{Limit: MaxLimit, Status: Success})
		if len(before.SignIns) != 1000 || before.Next == "" {
			t.Errorf("%d sign-ins of a busy minute are kept", len(before.SignIns))
		}
		time.Sleep(windowLength)
		fill(t, l, full("late", 0)) // whoever comes next ends the minute
		left := map[string]int{}
		kept := map[string]int{}
		for after := ""; ; {
			page := list(t, l, Filter{Limit: MaxLimit, After: after})
			for _, r := range page.SignIns {
				key := fmt.Sprint(r.UserPrincipalName, " ", r.Status.ErrorCode)
				if r.Suppressed > 0 {
					left[key] += r.Suppressed
				} else {
					kept[key]++
				}
			}
			if after = page.Next; after == "" {
				break
			}
		}
		want := map[string]int{" 50126": 40 + perUser, "victim 50126": 7, "busy 0": 2}
		if !reflect.DeepEqual(left, want) {
			t.Errorf("left out: %v, want %v", left, want)
		}
		if kept[" 50126"] != perStranger || kept["victim 50126"] != perUser || kept["busy 0"] != perUser {
			t.Errorf("kept: strangers %d, victim %d, busy %d", kept[" 50126"], kept["victim 50126"], kept["busy 0"])
		}
	})
}

func TestNothingThatSomebodySendsIsLarge(t *testing.T) {
	for reason, bit := range map[string]string{"quotes": `"`, "line separators": "\u2028", "less than": "<", "no UTF-8": "\xff", "letters": "x", "wide letters": "漢"} {
		hostile := strings.Repeat(bit, 100000)
		r := audit.SignIn{Created: began}
		texts(reflect.ValueOf(&r).Elem(), hostile)
		for range 100 {
			r.Details = append(r.Details, audit.Detail{Time: began, Method: hostile, Result: hostile, Succeeded: true})
			r.Policies = append(r.Policies, audit.AppliedPolicy{
				ID: hostile, DisplayName: hostile, Result: audit.PolicyResult(hostile), GrantControls: slices.Repeat([]string{hostile}, 50), SessionControls: slices.Repeat([]string{hostile}, 50),
			})
		}
		short := cut(r)
		if n := len(marshal(short)); n > MaxRecord {
			t.Errorf("%s: a record of %d bytes, at most %d", reason, n, MaxRecord)
		}
		l := newLog(t, store.NewMemory(), Settings{})
		for i := range maxBatch {
			r.UserPrincipalName = fmt.Sprint(i, hostile)
			l.Add(r)
		}
		fill(t, l)
		page := list(t, l, Filter{})
		if len(page.SignIns) != maxBatch {
			t.Fatalf("%s: %d of %d come back", reason, len(page.SignIns), maxBatch)
		}
		if again := cut(page.SignIns[0]); !reflect.DeepEqual(again, page.SignIns[0]) {
			t.Errorf("%s: what was cut is cut again", reason)
		}
	}
	r := full("alice", 0)
	r.UserAgent = "a\x1b[31mb\u202ec\nd"
	if got := cut(r).UserAgent; got != "a [31mb c d" {
		t.Errorf("a terminal would obey %q", got)
	}
}

// texts sets every text inside of v.
func texts(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && v.Field(i).CanSet() {
				texts(v.Field(i), s)
			}
		}
	}
}

func TestOfManyPoliciesThoseAreKeptThatHadSomethingToSay(t *testing.T) {
	r := full("alice", 0)
	r.Policies = nil
	for i := range 200 {
		p := audit.AppliedPolicy{ID: fmt.Sprint("policy-", i), DisplayName: fmt.Sprint("Policy number ", i), Result: audit.PolicyNotApplied}
		if i%50 == 49 {
			p.Result, p.GrantControls = audit.PolicyFailure, []string{"block"}
		}
		r.Policies = append(r.Policies, p)
	}
	var applied []string
	number := -1
	for _, p := range cut(r).Policies {
		if p.Result.Applied() {
			applied = append(applied, p.ID)
		}
		n := 0
		fmt.Sscanf(p.ID, "policy-%d", &n)
		if n <= number {
			t.Errorf("%s is out of order", p.ID)
		}
		number = n
	}
	if got := strings.Join(applied, " "); got != "policy-49 policy-99 policy-149 policy-199" {
		t.Errorf("of those that applied there are left: %s", got)
	}
}

// failing is a store that doesn't answer while it is down.
type failing struct {
	store.Store
	down  atomic.Bool
	tries atomic.Int64
}

func (f *failing) ok() error {
	f.tries.Add(1)
	if f.down.Load() {
		time.Sleep(800 * time.Millisecond)
		return fmt.Errorf("%w: it is down", store.ErrUnavailable)
	}
	return nil
}

func (f *failing) Get(ctx context.Context, partition string, keys ...string) ([]store.Record, error) {
	if err := f.ok(); err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, partition, keys...)
}

func (f *failing) List(ctx context.Context, partition, prefix string) ([]store.Record, error) {
	if err := f.ok(); err != nil {
		return nil, err
	}
	return f.Store.List(ctx, partition, prefix)
}

func (f *failing) Commit(ctx context.Context, c store.Commit) ([]store.Version, error) {
	if err := f.ok(); err != nil {
		return nil, err
	}
	return f.Store.Commit(ctx, c)
}

// running runs a log over a store that can fail.
func running(t *testing.T, test func(t *testing.T, l *Log, f *failing, dropped *atomic.Int64, stop func())) {
	synctest.Test(t, func(t *testing.T) {
		f, dropped := &failing{Store: store.NewMemory()}, &atomic.Int64{}
		l := newLog(t, f, Settings{Dropped: func(n int) { dropped.Add(int64(n)) }})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { l.Run(ctx) })
		stop := func() {
			cancel()
			wg.Wait()
		}
		defer stop()
		test(t, l, f, dropped, stop)
	})
}

func TestAStoreThatIsAwayForAMinuteLosesNothing(t *testing.T) {
	running(t, func(t *testing.T, l *Log, f *failing, dropped *atomic.Int64, stop func()) {
		f.down.Store(true)
		begun := time.Now()
		for i := range 500 {
			l.Add(full(fmt.Sprint("user", i), i))
		}
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("adding took %v", waited)
		}
		time.Sleep(time.Minute)
		f.down.Store(false)
		time.Sleep(10 * time.Second)
		if page := list(t, l, Filter{Limit: MaxLimit}); len(page.SignIns) != 500 || dropped.Load() != 0 {
			t.Errorf("%d of 500 are there, %d dropped", len(page.SignIns), dropped.Load())
		}
		if f.tries.Load() > 300 {
			t.Errorf("the store was asked %d times", f.tries.Load())
		}
	})
}

func TestAStoreThatStaysAwayCostsWhatIsCounted(t *testing.T) {
	running(t, func(t *testing.T, l *Log, f *failing, dropped *atomic.Int64, stop func()) {
		f.down.Store(true)
		const added = MaxQueue + 1000
		for i := range added {
			l.Add(full(fmt.Sprint("user", i), i))
		}
		synctest.Wait()
		if n := dropped.Load(); n < 1000-maxBatch || n > 1000 {
			t.Errorf("%d are dropped when the queue is full", n)
		}
		full := dropped.Load()
		time.Sleep(patience + 10*time.Second)
		if n := dropped.Load() - full; n < 1 || n > maxBatch {
			t.Errorf("%d are dropped after %v, want one batch, which may have been taken while sign-ins were still being added", n, patience)
		}
		begun := time.Now()
		stop()
		if waited := time.Since(begun); waited > flushPatience+5*time.Second {
			t.Errorf("the end waited for %v", waited)
		}
		f.down.Store(false)
		page := list(t, l, Filter{Limit: MaxLimit})
		if len(page.SignIns) != 0 || dropped.Load() != added {
			t.Errorf("%d are there, %d are counted as dropped of %d", len(page.SignIns), dropped.Load(), added)
		}
	})
}

func TestWhatIsQueuedAtTheEndIsWritten(t *testing.T) {
	running(t, func(t *testing.T, l *Log, f *failing, dropped *atomic.Int64, stop func()) {
		f.down.Store(true)
		for i := range 200 {
			l.Add(full(fmt.Sprint("user", i), i))
		}
		for i := range perStranger + 5 {
			l.Add(refused("", i))
		}
		time.Sleep(30 * time.Second)
		f.down.Store(false)
		stop()
		page := list(t, l, Filter{Limit: MaxLimit})
		if want := 200 + perStranger + 1; len(page.SignIns) != want || dropped.Load() != 0 {
			t.Errorf("%d of %d are there, %d dropped", len(page.SignIns), want, dropped.Load())
		}
		l.Add(full("late", 0))
		if dropped.Load() != 1 {
			t.Error("what comes after the end is not counted")
		}
	})
}

// unsure is a store that fails after it has written, as one does whose answer is lost.
type unsure struct {
	store.Store
	n atomic.Int64
}

func (u *unsure) Commit(ctx context.Context, c store.Commit) ([]store.Version, error) {
	versions, err := u.Store.Commit(ctx, c)
	if err == nil && u.n.Add(1)%2 == 0 {
		return nil, fmt.Errorf("%w: the answer was lost", store.ErrUnavailable)
	}
	return versions, err
}

func TestABatchWhoseAnswerWasLostIsNotThereTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, &unsure{Store: store.NewMemory()}, Settings{Max: 1000})
		for i := range 100 {
			l.Add(full(fmt.Sprint("user", i), i))
			for b := l.take(); b != nil; b = l.take() {
				if !l.write(t.Context(), b, patience) {
					t.Fatal("not written")
				}
			}
		}
		page := list(t, l, Filter{Limit: MaxLimit})
		if len(page.SignIns) != 100 {
			t.Errorf("%d sign-ins of 100", len(page.SignIns))
		}
	})
}

func TestWhatIsTooOldIsNotShownAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory()
		add := func(l *Log, user string) {
			r := full(user, 0)
			r.Created = time.Now()
			fill(t, l, r)
		}
		year := newLog(t, m, Settings{Keep: 365 * 24 * time.Hour})
		add(year, "alice")
		time.Sleep(40 * 24 * time.Hour)
		add(year, "bob")
		if got := ids(list(t, year, Filter{})); got != "ok-bob ok-alice" {
			t.Errorf("within a year: %s", got)
		}
		// Somebody makes it shorter.
		month := newLog(t, m, Settings{Keep: 30 * 24 * time.Hour})
		if got := ids(list(t, month, Filter{})); got != "ok-bob" {
			t.Errorf("within a month: %s", got)
		}
		month.trim(t.Context())
		if got := ids(list(t, year, Filter{})); got != "ok-bob" {
			t.Errorf("what is too old stays in the store: %s", got)
		}
		// And without anybody: the store forgets.
		time.Sleep(365 * 24 * time.Hour)
		for _, p := range []string{indexPartition} {
			if records, err := m.List(t.Context(), p, ""); err != nil || len(records) != 0 {
				t.Errorf("after a year %d records are in %s, %v", len(records), p, err)
			}
		}
	})
}

func TestALogThatIsMadeSmaller(t *testing.T) {
	m := store.NewMemory()
	large := newLog(t, m, Settings{Max: 100000})
	for i := range 3000 {
		fill(t, large, full(fmt.Sprint("user", i), i))
	}
	small := newLog(t, m, Settings{Max: 1000})
	small.trim(t.Context())
	page := list(t, small, Filter{Limit: MaxLimit})
	if n := len(page.SignIns); n > 1000 || n < 1000-maxChunk || page.Next != "" || page.SignIns[0].UserPrincipalName != "user2999" {
		t.Errorf("%d are left", n)
	}
}

func TestDamageHidesNothingElse(t *testing.T) {
	m := store.NewMemory()
	l := newLog(t, m, Settings{})
	fill(t, l, full("alice", 1), refused("bob", 2))
	chunks, err := l.index(t.Context(), "known/")
	if err != nil || len(chunks) != 1 {
		t.Fatalf("%d chunks, %v", len(chunks), err)
	}
	put := func(partition, key, value string) {
		t.Helper()
		if _, err := m.Commit(t.Context(), store.Commit{Partition: partition, Changes: []store.Change{{Key: key, If: store.Any, Value: []byte(value)}}}); err != nil {
			t.Fatal(err)
		}
	}
	put(partition(chunks[0].key), "zz", "\x01nonsense")
	put(partition(chunks[0].key), "zzz", "\x02what a later version writes")
	put(indexPartition, "proven/zzzzzzzzzzzz", "{")
	put(indexPartition, "known/zzzzzzzzzzzz", `{"n":1,"from":2,"to":1}`)
	fill(t, l, full("carol", 3))
	if got := ids(list(t, l, Filter{})); got != "ok-carol no-bob-2 ok-alice" {
		t.Errorf("with damage: %s", got)
	}
	l.trim(t.Context())
}

// Logs outlive versions of the program.
func TestWhatAnEarlierVersionWroteIsRead(t *testing.T) {
	const written = "AcyXvQ6CMBSFX8UXoLH3YhQ2/BlMiDIwuTVYkUgiIQ769kbhaqEtISQG17scaPt9pyU+rxdH5Fki7Zxy7gDGgL7r+jNkLiwAPOR4MAIchNvVxkIxBTVRpqnG87lsE+0BmzJg82FcD24+gxAKkcrvwlnVQKbu5YV6RwquHVOlSn5QIpQLWu7yVSKTXKYieXQE985sXL8pFrXYuMxE549+yq1frOG1MJKDVZawxdI/yLmL9dGsfdSBCIMo3kdGe78Bbyi8Zrlt8uozFZFXA9Xjd4vI1zI/3Yw234Uj+fwZAAD//w=="
	value, err := base64.StdEncoding.DecodeString(written)
	if err != nil {
		t.Fatal(err)
	}
	got, err := new(decoder).decode(value)
	want := full("alice", 0)
	want.Created = time.Date(2026, 11, 23, 23, 44, 53, 428229313, time.UTC)
	want.Details[0].Time, want.Details[1].Time = want.Created.Add(-20*time.Second), want.Created
	if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("%v\n got %+v\nwant %+v\nit is written now as %s", err, got, want, base64.StdEncoding.EncodeToString(new(encoder).encode([]audit.SignIn{want})))
	}
	if n := len(value); n > 400 {
		t.Errorf("a sign-in has %d bytes", n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(new(encoder).encode([]audit.SignIn{full("alice", 0), refused("", 1)}))
	f.Add([]byte{formatV1})
	f.Fuzz(func(t *testing.T, value []byte) {
		signIns, err := new(decoder).decode(value)
		if err != nil {
			return
		}
		for i := range signIns {
			signIns[i] = cut(signIns[i])
		}
		again, err := new(decoder).decode(new(encoder).encode(signIns))
		if err != nil || len(again) != len(signIns) {
			t.Fatalf("%d sign-ins come back as %d, %v", len(signIns), len(again), err)
		}
	})
}

func FuzzParseMark(f *testing.F) {
	f.Add(mark{1, "a", "b/c/0001"}.String())
	f.Add("e30")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMark(s)
		if err != nil {
			return
		}
		if again, err := parseMark(m.String()); err != nil || again != m {
			t.Fatalf("%+v comes back as %+v, %v", m, again, err)
		}
	})
}

func FuzzParseChunk(f *testing.F) {
	f.Add([]byte(`{"n":3,"from":1,"to":2,"users":"AAAAAQ=="}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := parseChunk(store.Record{Key: "known/1", Value: value, Version: 1})
		if err != nil {
			return
		}
		c.mayHold("alice")
		again, err := parseChunk(store.Record{Key: "known/1", Value: marshal(c), Version: 1})
		if err != nil || !reflect.DeepEqual(again, c) && len(c.Users) > 0 {
			t.Fatalf("%+v comes back as %+v, %v", c, again, err)
		}
	})
}
