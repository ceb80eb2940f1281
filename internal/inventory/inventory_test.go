package inventory

import (
	"context"
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
	"unicode/utf8"

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

// TestRedis needs a server. Each inventory has a client of its own, as each process has.
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
	t.Run("requests that have everything in common are one row", func(t *testing.T) {
		client := open(t)
		i := newInventory(client(), Settings{Mark: marked})
		for n := range 5 {
			i.Add(seen("alice", n))
		}
		exempt := seen("alice", 9)
		exempt.Verdict, exempt.Exception, exempt.Path = Exception, "scanner", "/remote.php/dav/other/file?x=y"
		i.Add(exempt)
		i.Add(seen("hunter2", 2))
		write(t, i)
		got := rowsOf(t, newInventory(client(), Settings{Mark: marked}), Filter{})
		want := []Row{
			{
				Application: "wiki", Class: "basic", Path: "/remote.php/dav", User: "alice", Known: true, Client: "curl",
				Addresses: netip.MustParsePrefix("192.0.2.0/24"), FirstSeen: at(0), LastSeen: at(9), Count: 6,
				Verdicts: map[string]uint64{Reported: 5, Exception: 1}, Would: map[string]uint64{Blocked: 6}, Exceptions: map[string]uint64{"scanner": 1},
			},
			{
				Application: "wiki", Class: "basic", Path: "/remote.php/dav", User: "(unknown hun7)", Client: "curl",
				Addresses: netip.MustParsePrefix("192.0.2.0/24"), FirstSeen: at(2), LastSeen: at(2), Count: 1,
				Verdicts: map[string]uint64{Reported: 1}, Would: map[string]uint64{Blocked: 1},
			},
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("\n got %+v\nwant %+v", got, want)
		}
		uses, err := i.Uses(t.Context())
		if u := uses[ExceptionName{"wiki", "scanner"}]; err != nil || len(uses) != 1 || u.Count != 1 || !u.LastUsed.Equal(at(9)) {
			t.Errorf("uses are %+v, %v", uses, err)
		}
	})

	t.Run("processes that write at once add to the same rows", func(t *testing.T) {
		client := open(t)
		const processes, each, users = 4, 500, 10
		var wg sync.WaitGroup
		for range processes {
			i := newInventory(client(), Settings{Dropped: func(n int) { t.Errorf("%d dropped", n) }})
			ctx, stop := context.WithCancel(t.Context())
			wg.Go(func() { i.Run(ctx) })
			wg.Go(func() {
				for n := range each {
					i.Add(seen(fmt.Sprint("user", n%users), n))
					if n%100 == 0 {
						i.wake <- struct{}{}
					}
				}
				stop()
			})
		}
		wg.Wait()
		s := client()
		got := rowsOf(t, newInventory(s, Settings{}), Filter{})
		if len(got) != users {
			t.Fatalf("there are %d rows", len(got))
		}
		for _, row := range got {
			if row.Count != processes*each/users {
				t.Errorf("%s was counted %d times", row.User, row.Count)
			}
		}
		if left, err := s.List(t.Context(), partition, processPrefix); err != nil || len(left) > 0 {
			t.Errorf("of processes that have ended there is left %v, %v", left, err)
		}
	})

	t.Run("what several processes have made too much is folded", func(t *testing.T) {
		client := open(t)
		for p := range 3 {
			i := newInventory(client(), Settings{ShowUnknown: true})
			for n := range MaxUnknown {
				i.Add(seen(fmt.Sprintf("stranger%d-%d", p, n), n))
			}
			i.looked = time.Now() // and so it doesn't know of the others
			write(t, i)
		}
		i := newInventory(client(), Settings{})
		if got := rowsOf(t, i, Filter{}); len(got) != 3*MaxUnknown {
			t.Fatalf("there are %d rows", len(got))
		}
		i.look(t.Context(), time.Now())
		got := rowsOf(t, i, Filter{})
		var total uint64
		for _, row := range got {
			total += row.Count
		}
		if len(got) != MaxUnknown+1 || total != 3*MaxUnknown {
			t.Errorf("there are %d rows of %d sightings", len(got), total)
		}
	})
}

var began = time.Now().Add(-time.Hour).UTC().Round(time.Millisecond)

func at(second int) time.Time { return began.Add(time.Duration(second) * time.Second) }

// seen is a sighting so many seconds after the beginning.
func seen(user string, second int) Sighting {
	return Sighting{
		At: at(second), Class: "basic", Application: "wiki", Path: "/remote.php/dav/files?token=x", User: user, Client: "curl",
		Address: netip.MustParseAddr("192.0.2.77"), Verdict: Reported, Would: Blocked,
	}
}

// newInventory knows alice, bob, and whoever is called user….
func newInventory(s store.Store, settings Settings) *Inventory {
	if settings.Keep == 0 {
		settings.Keep = 90 * day
	}
	settings.Known = func(_ context.Context, typed string) (string, bool) {
		canonical := strings.ToLower(typed)
		return canonical, canonical == "alice" || canonical == "bob" || strings.HasPrefix(canonical, "user")
	}
	return New(s, settings)
}

// marked is a mark that a test can read.
func marked(name string) []string {
	mark := fmt.Sprintf("%.3s%d", name, len(name))
	return []string{mark, "old-" + mark}
}

func write(t *testing.T, i *Inventory) {
	t.Helper()
	i.fold(t.Context())
	if err := i.write(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func rowsOf(t *testing.T, i *Inventory, f Filter) []Row {
	t.Helper()
	rows, err := i.List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func users(rows []Row) string {
	var all []string
	for _, r := range rows {
		all = append(all, r.User)
	}
	return strings.Join(all, " ")
}

func TestFilters(t *testing.T) {
	i := newInventory(store.NewMemory(), Settings{Mark: marked})
	add := func(user string, second int, change func(*Sighting)) {
		s := seen(user, second)
		change(&s)
		i.Add(s)
	}
	add("Alice", 1, func(*Sighting) {})
	add(`CORP\bob`, 2, func(s *Sighting) { s.Application, s.Class, s.Path = "hr", "ntlm", "/ews/exchange.asmx" })
	add("", 3, func(s *Sighting) { s.Client, s.Verdict = "git", Blocked })
	add("mallory", 4, func(s *Sighting) { s.Address = netip.MustParseAddr("2001:db8::1") })
	add("alice", 5, func(s *Sighting) { s.Verdict, s.Exception, s.Path = Exception, "scanner", "/xmlrpc.php" })
	write(t, i)
	const stranger = "(unknown mal7)"
	for reason, tc := range map[string]struct {
		filter Filter
		want   string
	}{
		"nothing narrows it":                       {Filter{}, "alice " + stranger + "  bob alice"},
		"a user":                                   {Filter{User: "alice"}, "alice alice"},
		"a user, spelled otherwise":                {Filter{User: " ALICE"}, "alice alice"},
		"a user with the domain":                   {Filter{User: "bob"}, "bob"},
		"a name that no directory knows":           {Filter{User: "mallory"}, stranger},
		"what stands for it":                       {Filter{User: stranger}, stranger},
		"another name with another mark":           {Filter{User: "eve"}, ""},
		"an application":                           {Filter{Application: "HR"}, "bob"},
		"a class":                                  {Filter{Class: "ntlm"}, "bob"},
		"a client":                                 {Filter{Client: "GIT"}, ""},
		"since is inclusive, until is not":         {Filter{Since: at(2), Until: at(4)}, " bob"},
		"a folder":                                 {Filter{Path: "/remote.php"}, stranger + "  alice"},
		"a folder in it, with a slash":             {Filter{Path: "/remote.php/dav/"}, stranger + "  alice"},
		"half a folder":                            {Filter{Path: "/remote"}, ""},
		"a range that holds it":                    {Filter{Addresses: netip.MustParsePrefix("2001:db8::/32")}, stranger},
		"an address in it":                         {Filter{Addresses: netip.MustParsePrefix("192.0.2.1/32"), Class: "ntlm"}, "bob"},
		"another address":                          {Filter{Addresses: netip.MustParsePrefix("198.51.100.1/32")}, ""},
		"a verdict":                                {Filter{Verdict: Blocked}, ""},
		"an exception":                             {Filter{Exception: "scanner"}, "alice"},
		"everything together, of which one is not": {Filter{User: "alice", Class: "ntlm"}, ""},
	} {
		if got := users(rowsOf(t, i, tc.filter)); got != tc.want {
			t.Errorf("%s: %q, want %q", reason, got, tc.want)
		}
	}
	for reason, f := range map[string]Filter{
		"a verdict that there isn't": {Verdict: "maybe"}, "a path without slash": {Path: "remote.php"},
	} {
		if rows, err := i.List(t.Context(), f); !errors.Is(err, ErrFilter) {
			t.Errorf("%s: %v, %v", reason, rows, err)
		}
	}
	if got := rowsOf(t, i, Filter{Client: "git"}); len(got) != 1 || got[0].Verdicts[Blocked] != 1 || got[0].Known {
		t.Errorf("a request without name: %+v", got)
	}
	older := newInventory(i.store, Settings{Mark: func(name string) []string { return []string{"new", marked(name)[0]} }})
	if got := users(rowsOf(t, older, Filter{User: "mallory"})); got != stranger {
		t.Errorf("after the key has changed, the name finds %q", got)
	}
}

// TestAFloodTakesNobodysRoom sends everything that somebody can choose, in great number.
func TestAFloodTakesNobodysRoom(t *testing.T) {
	s := store.NewMemory()
	i := newInventory(s, Settings{Mark: func(name string) []string { return []string{name} }, Dropped: func(n int) { t.Errorf("%d dropped", n) }})
	for n := range 50 {
		i.Add(seen(fmt.Sprint("user", n), n))
	}
	write(t, i)
	var sent uint64 = 50
	flood := func(n int) {
		a := netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1})
		for _, user := range []string{fmt.Sprint("stranger", n), "user7", ""} {
			f := seen(user, 100+n)
			f.Path, f.Address, f.Verdict = fmt.Sprintf("/p%d/q/r", n), a, Blocked
			i.Add(f)
			sent++
		}
	}
	for n := range 20000 {
		flood(n)
		if n%1000 == 0 {
			write(t, i)
		}
		if n == 10000 {
			i.Add(seen("alice", n)) // who comes in the middle of it
			sent++
		}
	}
	write(t, i)
	got := rowsOf(t, i, Filter{})
	by := map[string]int{}
	var total uint64
	for _, row := range got {
		total += row.Count
		switch {
		case row.Known:
			by[row.User]++
		case row.User == Other:
			by[Other]++
		default:
			by["unknown"]++
		}
	}
	if total != sent {
		t.Errorf("of %d sightings, %d were counted", sent, total)
	}
	// user7 has MaxOfUser rows, and one for everything beyond them.
	if by["alice"] != 1 || by["user49"] != 1 || by["user7"] != MaxOfUser+1 || by["unknown"] != MaxUnknown || by[Other] != 1 {
		t.Errorf("there are %d rows: %v", len(got), by)
	}
	if wide := rowsOf(t, i, Filter{Path: Other, User: "user7"}); len(wide) != 1 || wide[0].Client != Other || wide[0].Addresses.IsValid() || wide[0].Count < 10000 {
		t.Errorf("what user7 has had no room for: %+v", wide)
	}
}

// TestAFloodBetweenTwoLookupsOfNames shows that known names have room in memory, too.
func TestAFloodBetweenTwoLookupsOfNames(t *testing.T) {
	i := newInventory(store.NewMemory(), Settings{Mark: marked})
	i.Add(seen("alice", 0))
	write(t, i)
	for n := range 3 * maxIncoming {
		i.Add(seen(fmt.Sprint("stranger", n), 1))
	}
	again := seen("alice", 2)
	again.Client = "git"
	i.Add(again)
	if n := len(i.incoming); n > maxIncoming {
		t.Errorf("%d rows are in memory", n)
	}
	write(t, i)
	if got := rowsOf(t, i, Filter{User: "alice", Client: "git"}); len(got) != 1 {
		t.Errorf("alice has %+v", got)
	}
	var total uint64
	for _, row := range rowsOf(t, i, Filter{}) {
		total += row.Count
	}
	if total != 3*maxIncoming+2 {
		t.Errorf("%d were counted", total)
	}
}

func TestRoomIsForEverybody(t *testing.T) {
	var r rows
	for n := range 2 * MaxRows {
		k := key{class: "basic", application: "wiki", user: fmt.Sprint("user", n), known: true, client: "curl", path: "/a"}
		r.add(r.room(k))
		k.path = "/b"
		r.add(r.room(k))
	}
	for class := range 100 { // each of which has a row for the rest, as basic has
		for n := range 2 * MaxUnknown {
			r.add(r.room(key{class: fmt.Sprint(class), application: "wiki", user: fmt.Sprint(n), client: "curl", path: "/a"}))
		}
	}
	if r.known != MaxRows-maxUnknowns || r.unknowns != maxUnknowns || len(r.all) != MaxRows+100+1 {
		t.Errorf("%d known, %d unknown, %d in all", r.known, r.unknowns, len(r.all))
	}
	// user4000 has come when there was one row for a user, and keeps it.
	k := key{class: "basic", application: "wiki", user: "user4000", known: true, client: "curl", path: "/c"}
	if r.room(k) != k.short() || !r.has(k.short()) {
		t.Errorf("what is new of a user who has a row is counted in %+v", r.room(k))
	}
}

// flaky is a store that can be away, and that can lose its answers.
type flaky struct {
	store.Store
	away, mute atomic.Bool
}

func (f *flaky) fails() error {
	if f.away.Load() {
		return fmt.Errorf("%w: away", store.ErrUnavailable)
	}
	return nil
}

func (f *flaky) Get(ctx context.Context, partition string, keys ...string) ([]store.Record, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, partition, keys...)
}

func (f *flaky) List(ctx context.Context, partition, prefix string) ([]store.Record, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	return f.Store.List(ctx, partition, prefix)
}

func (f *flaky) Commit(ctx context.Context, c store.Commit) ([]store.Version, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	versions, err := f.Store.Commit(ctx, c)
	if err == nil && f.mute.CompareAndSwap(true, false) {
		return nil, fmt.Errorf("%w: the answer was lost", store.ErrUnavailable)
	}
	return versions, err
}

func TestAStoreThatIsAwayLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{Store: store.NewMemory()}
		i := newInventory(f, Settings{Dropped: func(n int) { t.Errorf("%d dropped", n) }})
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { i.Run(ctx) })
		count := uint64(0)
		add := func() {
			s := seen("alice", 0)
			s.At = time.Time{}
			i.Add(s)
			count++
		}
		want := func(reason string) {
			t.Helper()
			synctest.Wait()
			if got := rowsOf(t, i, Filter{}); len(got) != 1 || got[0].Count != count {
				t.Errorf("%s: %+v, want %d", reason, got, count)
			}
		}
		add()
		time.Sleep(interval)
		want("after a few seconds")

		f.away.Store(true)
		for range 600 { // ten minutes
			add()
			time.Sleep(time.Second)
		}
		f.away.Store(false)
		time.Sleep(2 * maxPause)
		want("after ten minutes without it")

		add()
		f.mute.Store(true)
		time.Sleep(2 * maxPause)
		if f.mute.Load() {
			t.Error("no answer was lost")
		}
		want("after a lost answer")

		add()
		stop()
		wg.Wait()
		want("at the end")
	})
}

func TestWhatCannotBeWrittenAtTheEndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{Store: store.NewMemory()}
		f.away.Store(true)
		dropped := 0
		i := newInventory(f, Settings{Dropped: func(n int) { dropped += n }})
		ctx, stop := context.WithCancel(t.Context())
		stop()
		i.Add(seen("alice", 0))
		i.Add(seen("bob", 0))
		begun := time.Now()
		i.Run(ctx)
		if took := time.Since(begun); took > flushPatience+time.Second {
			t.Errorf("the end took %v", took)
		}
		i.Add(seen("alice", 0)) // who is too late
		if dropped != 3 {
			t.Errorf("%d were dropped", dropped)
		}
	})
}

func TestRowsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInventory(store.NewMemory(), Settings{Mark: marked})
		now := func(user string) {
			s := seen(user, 0)
			s.At = time.Time{}
			i.Add(s)
			write(t, i)
		}
		now("alice")
		now("daily")
		now("once")
		time.Sleep(2 * day)
		now("daily")
		for _, step := range []struct {
			after time.Duration
			want  string
		}{
			{time.Minute, "(unknown dai5) alice (unknown onc4)"},
			{5 * day, "(unknown dai5) alice"}, // a week after it was seen once
			{82 * day, "(unknown dai5) alice"},
			{2 * day, "(unknown dai5)"}, // ninety days after she was seen
			{2 * day, ""},
		} {
			time.Sleep(step.after)
			got := rowsOf(t, i, Filter{})
			if users(got) != step.want {
				t.Errorf("after %v there are %q, want %q", step.after, users(got), step.want)
			}
		}
		// A shorter time counts for what is there.
		now("alice")
		time.Sleep(2 * day)
		if got := rowsOf(t, newInventory(i.store, Settings{Keep: day}), Filter{}); len(got) != 0 {
			t.Errorf("what is kept for a day is kept for two: %+v", got)
		}
	})
}

func TestNothingThatSomebodySendsIsLargeOrObeyed(t *testing.T) {
	for reason, bit := range map[string]string{"quotes": `"`, "line separators": "\u2028", "escapes": "\x1b[2J", "no UTF-8": "\xff", "letters": "x", "wide letters": "漢", "slashes": "/x"} {
		hostile := strings.Repeat(bit, 100000)
		i := newInventory(store.NewMemory(), Settings{ShowUnknown: true})
		i.Add(Sighting{Class: hostile, Application: hostile, Path: "/" + hostile + "/" + hostile + "/", User: hostile, Client: hostile, Verdict: hostile, Would: hostile, Exception: hostile})
		write(t, i)
		got := rowsOf(t, i, Filter{})
		if len(got) != 1 || got[0].Count != 1 || len(got[0].Verdicts) > 0 {
			t.Fatalf("%s: %+v", reason, got)
		}
		if n := len(marshal(got[0])); n > 4<<10 {
			t.Errorf("%s: the row has %d bytes", reason, n)
		}
		if text := got[0].User + got[0].Path + got[0].Class + got[0].Client + got[0].Application; strings.ContainsAny(text, "\x1b\n") || !utf8.ValidString(text) {
			t.Errorf("%s: %q", reason, text)
		}
	}
}

func TestPasswordInPlaceOfANameIsNotKept(t *testing.T) {
	for _, marks := range []func(string) []string{nil, func(string) []string { return []string{"4f9k2m8q"} }} {
		s := store.NewMemory()
		i := newInventory(s, Settings{Mark: marks})
		i.Add(seen("correct horse battery staple", 0))
		i.Add(seen(`CORP\hunter2`, 0))
		write(t, i)
		records, err := s.List(t.Context(), partition, "")
		if err != nil || len(records) < 2 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		for _, r := range records {
			if text := r.Key + string(r.Value); strings.Contains(text, "horse") || strings.Contains(text, "hunter2") || strings.Contains(text, "token") {
				t.Errorf("kept is %s", text)
			}
		}
	}
}

func TestAMachineWithATokenIsKnown(t *testing.T) {
	i := newInventory(store.NewMemory(), Settings{Mark: marked})
	s := seen("service:printer", 0)
	i.Add(s) // somebody who only says so
	s.Verdict = ServiceToken
	i.Add(s)
	write(t, i)
	rows := rowsOf(t, i, Filter{User: "service:printer"})
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.User, b.User) })
	if users(rows) != "(unknown ser15) service:printer" || rows[0].Known || !rows[1].Known || rows[1].Verdicts[ServiceToken] != 1 {
		t.Errorf("%+v", rows)
	}
}

func TestExceptionsAreKnownFromWhenTheyAreConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scanner, backup := ExceptionName{"wiki", "scanner"}, ExceptionName{"wiki", "backup"}
		i := newInventory(store.NewMemory(), Settings{Exceptions: []ExceptionName{scanner, backup}})
		begun := time.Now().UTC()
		use := func() {
			s := seen("alice", 0)
			s.At, s.Verdict, s.Exception = time.Time{}, Exception, "backup"
			i.Add(s)
			write(t, i)
		}
		use()
		time.Sleep(20 * day)
		use()
		uses, err := i.Uses(t.Context())
		if err != nil || len(uses) != 2 {
			t.Fatalf("%+v, %v", uses, err)
		}
		if u := uses[scanner]; !u.Since.Equal(begun) || !u.LastUsed.IsZero() || u.Count != 0 {
			t.Errorf("the scanner: %+v", u)
		}
		if u := uses[backup]; !u.Since.Equal(begun) || !u.LastUsed.Equal(begun.Add(20*day)) || u.Count != 2 {
			t.Errorf("the backup: %+v", u)
		}
		for reason, tc := range map[string]struct {
			of    ExceptionName
			after time.Duration // since it was configured
			until time.Duration
			want  []Note
		}{
			"all is well":                      {backup, 20 * day, 40 * day, nil},
			"its end is two weeks away":        {backup, 20 * day, 34 * day, nil},
			"its end is nearer":                {backup, 20 * day, 34*day - 1, []Note{Ends}},
			"it ends now":                      {backup, 20 * day, 20 * day, []Note{Ended}},
			"it has ended, and nobody uses it": {scanner, 90 * day, 20 * day, []Note{Ended}},
			"it was used a month ago":          {backup, 50 * day, 90 * day, []Note{IsUnused}},
			"almost":                           {backup, 50*day - 1, 90 * day, nil},
			"nobody has ever used it":          {scanner, 30 * day, 90 * day, []Note{IsUnused}},
			"nor will":                         {scanner, 30 * day, 40 * day, []Note{Ends, IsUnused}},
			"nothing is known of it":           {ExceptionName{"hr", "scanner"}, 90 * day, 190 * day, nil},
		} {
			if got := uses[tc.of].Notes(begun.Add(tc.until), begun.Add(tc.after)); !slices.Equal(got, tc.want) {
				t.Errorf("%s: %v, want %v", reason, got, tc.want)
			}
		}
	})
}

// BenchmarkAdd is what a request waits for.
func BenchmarkAdd(b *testing.B) {
	i := newInventory(store.NewMemory(), Settings{})
	s := seen("alice", 0)
	b.ReportAllocs()
	for b.Loop() {
		i.Add(s)
	}
}
