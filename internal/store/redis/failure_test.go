package redis

import (
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
	"github.com/caddy-mfa/caddy-mfa/internal/store/storetest"
)

func TestFrozenServer(t *testing.T) {
	server := redistest.Start(t)
	s := newImpatientStore(t, config(server))
	awaitFresh(t, s)
	var told tally
	defer s.Watch(told.add)()

	server.Freeze()
	frozen := time.Now()
	var all sync.WaitGroup
	all.Go(func() {
		operations := []func(string) error{
			func(key string) error {
				_, err := s.Get(t.Context(), "p", key)
				return err
			},
			func(key string) error {
				_, err := s.List(t.Context(), "p", key)
				return err
			},
			func(key string) error {
				_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put(key, 0)}})
				return err
			},
		}
		withinASecond(t, "operating", func() {
			var all sync.WaitGroup
			for i := range 100 { // more than there are connections
				all.Go(func() {
					if err := operations[i%3](strconv.Itoa(i)); !errors.Is(err, store.ErrUnavailable) {
						t.Errorf("got %v", err)
					}
				})
			}
			all.Wait()
		})
	})
	for {
		now := time.Now() // before asking
		if !s.Fresh() {
			break
		}
		if now.Sub(frozen) > 1600*time.Millisecond {
			t.Fatalf("fresh %v after the server was frozen", now.Sub(frozen))
		}
		time.Sleep(time.Millisecond)
	}
	told.reset()
	for begin := time.Now(); time.Since(begin) < 2*time.Second; time.Sleep(10 * time.Millisecond) {
		if s.Fresh() {
			t.Fatal("fresh while the server is frozen")
		}
	}

	all.Wait()
	server.Thaw()
	awaitFresh(t, s)
	if told.count("") == 0 {
		t.Error("fresh again, and the watchers were not told that they may have missed something")
	}
	await(t, "it works again", func() bool { return s.Ping(t.Context()) == nil })
}

func TestServerThatIsKilledAndStartedAgain(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, config(server))
	commit(t, s, put("a", 0))
	awaitFresh(t, s)
	var told tally
	defer s.Watch(told.add)()
	for range 2 {
		told.reset()
		server.Stop()
		await(t, "it isn't fresh", func() bool { return !s.Fresh() })
		for range 50 { // so often that go-redis gives up dialling, for a second
			_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("a", store.Any)}})
			if !errors.Is(err, store.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
		}
		server.Restart()
		await(t, "it works", func() bool { return s.Ping(t.Context()) == nil })
		commit(t, s, put("a", store.Any)) // the server has forgotten the script
		awaitFresh(t, s)
		if told.count("") == 0 {
			t.Error("fresh again, and the watchers were not told that they may have missed something")
		}
	}
}

func TestServerThatForgets(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, config(server))
	v := commit(t, s, put("a", 0))
	server.Flush()
	if _, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("a", v[0])}}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("after FLUSHALL: got %v", err)
	}
	w := commit(t, s, put("a", 0))
	if v[0] == w[0] {
		t.Error("the version came twice")
	}
	server.Do("SCRIPT", "FLUSH")
	commit(t, s, put("a", w[0]))
}

func TestConnectionsThatAreCut(t *testing.T) {
	server := redistest.Start(t)
	c := config(server)
	s, other := newStore(t, c), newStore(t, c)
	awaitFresh(t, s)
	awaitFresh(t, other)
	var told tally
	defer s.Watch(told.add)()

	v := commit(t, s, put("a", 0))
	for range 20 {
		server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		v = commit(t, s, put("a", v[0]))
		server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		if _, err := s.Get(t.Context(), "p", "a"); err != nil {
			t.Fatal(err)
		}
	}
	told.reset()
	server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	notify(t, other, "lost") // perhaps while nobody listens
	await(t, "the watchers are told that they may have missed something, and the store is fresh", func() bool {
		return told.count("") > 0 && s.Fresh()
	})
}

// Whatever happens to the connections: what is older than StaleAfter has been told, or that something was missed, or the store
// says that it isn't fresh.
func TestFreshIsNeverWrong(t *testing.T) {
	server := redistest.Start(t)
	c := config(server)
	s, other := newStore(t, c), newStore(t, c)
	awaitFresh(t, s)
	// What the watchers know: everything up to this commit.
	var known, begun atomic.Int64
	defer s.Watch(func(partition string) {
		if partition == "" {
			known.Store(begun.Load())
			return
		}
		if n, err := strconv.ParseInt(partition, 10, 64); err == nil {
			known.Store(max(n, known.Load()))
		}
	})()
	stop := make(chan struct{})
	var killing sync.WaitGroup
	killing.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(n%7) * 100 * time.Millisecond):
				if n%5 == 4 {
					server.Freeze()
					time.Sleep(time.Duration(n%3) * 900 * time.Millisecond)
					server.Thaw()
				}
				server.Do("CLIENT", "KILL", "TYPE", "pubsub")
			}
		}
	})
	type announced struct {
		n  int64
		at time.Time
	}
	var pending []announced
	fresh, stale := 0, 0
	for n, begin := int64(1), time.Now(); time.Since(begin) < 8*time.Second; n++ {
		_, err := other.Commit(t.Context(), store.Commit{Partition: strconv.FormatInt(n, 10), Notify: true, Changes: []store.Change{put("a", store.Any)}})
		if err == nil {
			pending = append(pending, announced{n, time.Now()})
		}
		begun.Store(n + 1)
		now := time.Now()
		isFresh := s.Fresh()
		upTo := known.Load()
		if isFresh {
			fresh++
		} else {
			stale++
		}
		for len(pending) > 0 && (pending[0].n <= upTo || now.Sub(pending[0].at) > store.StaleAfter) {
			if isFresh && pending[0].n > upTo {
				t.Fatalf("fresh, and not told of what was committed %v ago", now.Sub(pending[0].at))
			}
			pending = pending[1:]
		}
		time.Sleep(time.Millisecond)
	}
	close(stop)
	killing.Wait()
	if fresh == 0 || stale == 0 {
		t.Errorf("fresh %d times, stale %d times", fresh, stale)
	}
}

func TestPasswordThatChanges(t *testing.T) {
	server := redistest.Start(t)
	c := config(server)
	s := newStore(t, c)
	awaitFresh(t, s)
	server.Do("ACL", "SETUSER", "app", "on", ">first", "~*", "&*", "+@all")
	s.Reconfigure(Config{Username: "app", Password: "first"})
	server.Do("CLIENT", "KILL", "USER", "default")
	await(t, "it connects as the new user", func() bool { return s.Ping(t.Context()) == nil })
	server.Do("ACL", "SETUSER", "app", "resetpass", ">second")
	server.Do("CLIENT", "KILL", "USER", "app")
	await(t, "the old password is wrong", func() bool {
		err := s.Ping(t.Context())
		return errors.Is(err, store.ErrUnavailable) && strings.Contains(err.Error(), "WRONGPASS")
	})
	s.Reconfigure(Config{Username: "app", Password: "second"})
	await(t, "the new password is right", func() bool { return s.Ping(t.Context()) == nil })
	awaitFresh(t, s)
	if s.channel() != c.Prefix+"changes" {
		t.Errorf("the channel is now %s", s.channel())
	}
}

func TestUserWithTheRightsOfTheManual(t *testing.T) {
	server := redistest.Start(t)
	as := func(rights ...string) Config {
		c := config(server)
		c.Username, c.Password = "app", "secret"
		server.Do(append([]string{
			"ACL", "SETUSER", "app", "reset", "on", ">secret", "~" + c.Prefix + "*", "&" + c.Prefix + "changes",
			"+@hash", "+@connection", "+eval", "+evalsha", "+pttl", "+pexpireat", "+persist", "+time", "+publish", "+subscribe", "+unsubscribe",
		}, rights...)...)
		return c
	}
	t.Run("is enough", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			s := newStore(t, as())
			if err := s.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
	t.Run("may ask for advice", func(t *testing.T) {
		for _, rights := range [][]string{{"-config", "-info"}, {"+info"}, {"+config|get"}} {
			all, err := newStore(t, as(rights...)).Advise(t.Context())
			if err != nil || (len(all) == 0) != (rights[0] == "-config") {
				t.Errorf("with %v: %q, %v", rights, all, err)
			}
		}
	})
	for _, missing := range [][]string{
		{"-hget"}, {"-hset"}, {"-hmget"}, {"-hgetall"}, {"-hdel"}, {"-hvals"}, {"-hrandfield"}, {"-evalsha"}, {"-pttl"}, {"-pexpireat"},
		{"-persist"}, {"-time"}, {"-publish"}, {"-subscribe"}, {"resetchannels"}, {"resetchannels", "&other"}, {"resetkeys", "~other:*"},
	} {
		t.Run("misses "+strings.Join(missing, " "), func(t *testing.T) {
			c := as(missing...)
			server.Do("SCRIPT", "FLUSH")
			err := newStore(t, c).Open(t.Context())
			if err == nil || !strings.Contains(err.Error(), "give the user the rights") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFullServer(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
	s := newStore(t, config(server))
	value := make([]byte, 100_000)
	var written []store.Change
	var failed error
	for n := 0; failed == nil; n++ {
		if n > 100 {
			t.Fatal("the server is never full")
		}
		left, right := strconv.Itoa(n), "with "+strconv.Itoa(n)
		_, failed = s.Commit(t.Context(), store.Commit{Partition: "p", Notify: true, Changes: []store.Change{
			{Key: left, Value: value}, {Key: right, Value: value},
		}})
		if failed == nil {
			written = append(written, store.Change{Key: left, Op: store.Delete, If: store.Any}, store.Change{Key: right, Op: store.Delete, If: store.Any})
		}
	}
	if !errors.Is(failed, store.ErrUnavailable) || !strings.Contains(failed.Error(), "OOM") {
		t.Errorf("got %v", failed)
	}
	if records, err := s.List(t.Context(), "p", ""); err != nil || len(records) != len(written) {
		t.Errorf("reading from a full server: %d records of %d, %v", len(records), len(written), err)
	}
	server.Do("CONFIG", "SET", "maxmemory", "2mb")
	if err := s.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("ping: %v", err)
	}
	if err := newStore(t, config(server)).Open(t.Context()); err != nil {
		t.Errorf("a full server is no reason not to start: %v", err)
	}
	commit(t, s, written...) // there must be a way out
	commit(t, s, put("a", 0))
}

func TestServerThatBecomesAReplica(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, config(server))
	v := commit(t, s, put("a", 0))
	server.Do("REPLICAOF", "127.0.0.1", "1")
	_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("a", v[0])}})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("committing: %v", err)
	}
	server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") // as a failover does
	if _, err := s.Get(t.Context(), "p", "a"); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "is a replica") {
		t.Errorf("getting: %v", err)
	}
	server.Do("REPLICAOF", "NO", "ONE")
	await(t, "it works again", func() bool { return s.Ping(t.Context()) == nil })
}

func TestCloseLeavesNoGoroutines(t *testing.T) {
	server := redistest.Start(t)
	frozen := redistest.Start(t)
	stopped := redistest.Start(t)
	stopped.Stop()
	warm := newStore(t, config(server)) // what go-redis starts once and for all
	awaitFresh(t, warm)
	if err := warm.Close(); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	frozen.Freeze()
	for _, server := range []*redistest.Server{server, frozen, stopped} {
		for range 3 {
			s := New(config(server))
			s.Watch(func(string) {})
			var all sync.WaitGroup
			for range 30 {
				all.Go(func() { s.Get(t.Context(), "p", "a") })
			}
			if server == frozen {
				time.AfterFunc(50*time.Millisecond, func() { s.Close() })
			}
			all.Wait()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
	frozen.Thaw()
}

func TestCloseEndsRunningOperations(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, config(server))
	awaitFresh(t, s)
	server.Freeze()
	done := make(chan error)
	go func() {
		_, err := s.Get(t.Context(), "p", "a")
		done <- err
	}()
	time.AfterFunc(20*time.Millisecond, func() { s.Close() })
	if err := <-done; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	server.Thaw()
}

func put(key string, old store.Version) store.Change {
	return store.Change{Key: key, If: old, Value: []byte("1")}
}

func commit(t *testing.T, s *Store, changes ...store.Change) []store.Version {
	t.Helper()
	v, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func notify(t *testing.T, s *Store, partition string) {
	t.Helper()
	_, err := s.Commit(t.Context(), store.Commit{Partition: partition, Notify: true, Changes: []store.Change{put("a", store.Any)}})
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func awaitFresh(t *testing.T, s *Store) {
	t.Helper()
	await(t, "the store is fresh", func() bool {
		_, err := s.Get(t.Context(), "nothing", "nothing")
		return err == nil && s.Fresh()
	})
}

// tally counts what a watcher was told.
type tally struct {
	mu   sync.Mutex
	told map[string]int
}

func (a *tally) add(partition string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told == nil {
		a.told = make(map[string]int)
	}
	a.told[partition]++
}

func (a *tally) count(partition string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.told[partition]
}

func (a *tally) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = nil
}
