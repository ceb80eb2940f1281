package redis

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

// What becomes of a commit when its connection breaks, before it has reached Redis or after.
func TestCommitOnAConnectionThatBreaks(t *testing.T) {
	server := redistest.Start(t)
	del := func(key string, old store.Version) store.Change {
		return store.Change{Key: key, Op: store.Delete, If: old}
	}
	expect := func(key string, old store.Version) store.Change {
		return store.Change{Key: key, Op: store.Expect, If: old}
	}
	for _, test := range []struct {
		reason   string
		reaches  bool                                 // Redis
		changes  func(v store.Version) []store.Change // v is that of the record "a"
		between  func(t *testing.T, direct *Store)    // before it is sent again
		want     error                                // nil: success
		wantThen map[string]bool                      // which records there are afterwards, beside those that weren't touched
	}{
		{reason: "a put over a version, made: its version proves it", reaches: true,
			changes: func(v store.Version) []store.Change { return []store.Change{put("a", v)} }},
		{reason: "a put over a version, lost: the old version proves it",
			changes: func(v store.Version) []store.Change { return []store.Change{put("a", v)} }},
		{reason: "a new record, made: its version proves it", reaches: true,
			changes:  func(store.Version) []store.Change { return []store.Change{put("b", 0)} },
			wantThen: map[string]bool{"b": true}},
		{reason: "a new record, lost: it may have been made and deleted",
			changes:  func(store.Version) []store.Change { return []store.Change{put("b", 0)} },
			want:     store.ErrUnavailable,
			wantThen: map[string]bool{"b": false}},
		{reason: "a put over anything, made", reaches: true,
			changes: func(store.Version) []store.Change { return []store.Change{put("a", store.Any)} }},
		{reason: "a put over anything, lost: it may have been made and overwritten",
			changes: func(store.Version) []store.Change { return []store.Change{put("a", store.Any)} },
			want:    store.ErrUnavailable},
		{reason: "a delete, made: somebody else may have made it", reaches: true,
			changes:  func(v store.Version) []store.Change { return []store.Change{del("a", v)} },
			want:     store.ErrUnavailable,
			wantThen: map[string]bool{"a": false}},
		{reason: "a delete, lost: the old version proves it",
			changes:  func(v store.Version) []store.Change { return []store.Change{del("a", v)} },
			wantThen: map[string]bool{"a": false}},
		{reason: "a delete and a put, made: the put proves it", reaches: true,
			changes:  func(v store.Version) []store.Change { return []store.Change{del("a", v), put("b", 0)} },
			wantThen: map[string]bool{"a": false, "b": true}},
		{reason: "a delete and a put, lost: the delete proves it",
			changes:  func(v store.Version) []store.Change { return []store.Change{put("b", 0), del("a", v)} },
			wantThen: map[string]bool{"a": false, "b": true}},
		{reason: "an expectation proves nothing about a put",
			changes:  func(v store.Version) []store.Change { return []store.Change{expect("a", v), put("b", 0)} },
			want:     store.ErrUnavailable,
			wantThen: map[string]bool{"b": false}},
		{reason: "expectations alone are asked again", reaches: true,
			changes: func(v store.Version) []store.Change { return []store.Change{expect("a", v), expect("b", 0)} }},
		{reason: "expectations alone, which don't hold",
			changes: func(store.Version) []store.Change { return []store.Change{expect("b", 1)} },
			want:    store.ErrConflict},
		{reason: "a commit that fails for sure", reaches: true,
			changes: func(v store.Version) []store.Change { return []store.Change{put("a", v), expect("b", 1)} },
			want:    store.ErrConflict},
		{reason: "a put that was made, and replaced by another", reaches: true,
			changes: func(v store.Version) []store.Change { return []store.Change{put("a", v)} },
			between: func(t *testing.T, direct *Store) { commit(t, direct, put("a", store.Any)) },
			want:    store.ErrUnavailable},
		{reason: "a put that was lost, and another came first",
			changes: func(v store.Version) []store.Change { return []store.Change{put("a", v)} },
			between: func(t *testing.T, direct *Store) { commit(t, direct, put("a", store.Any)) },
			want:    store.ErrUnavailable},
		{reason: "two puts that were made, and one was replaced: the other proves it", reaches: true,
			changes:  func(v store.Version) []store.Change { return []store.Change{put("a", v), put("b", 0)} },
			between:  func(t *testing.T, direct *Store) { commit(t, direct, put("a", store.Any)) },
			wantThen: map[string]bool{"b": true}},
		{reason: "a new record that was made, and consumed by another", reaches: true,
			changes:  func(store.Version) []store.Change { return []store.Change{put("b", 0)} },
			between:  func(t *testing.T, direct *Store) { commit(t, direct, del("b", store.Any)) },
			want:     store.ErrUnavailable,
			wantThen: map[string]bool{"b": false}},
	} {
		t.Run(test.reason, func(t *testing.T) {
			c := config(server)
			direct := newStore(t, c)
			proxy := newProxy(t, server)
			c.Addresses = []string{proxy.addr}
			s := newStore(t, c)
			v := commit(t, s, put("a", 0))
			if test.between != nil {
				proxy.between = func() { test.between(t, direct) }
			}
			var told tally
			defer s.Watch(told.add)()
			proxy.breakNext(test.reaches)
			versions, err := s.Commit(t.Context(), store.Commit{Partition: "p", Notify: true, Changes: test.changes(v[0])})
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if proxy.armed.Load() != nothing {
				t.Fatal("the connection was not broken")
			}
			for key, there := range test.wantThen {
				records, err := direct.Get(t.Context(), "p", key)
				if err != nil || (records[0].Version != 0) != there {
					t.Errorf("afterwards %q is %+v, %v", key, records, err)
				}
			}
			for i, ch := range test.changes(v[0]) {
				records, err := direct.Get(t.Context(), "p", ch.Key)
				if err != nil {
					t.Fatal(err)
				}
				if test.want == nil && test.between == nil && ch.Op == store.Put && records[0].Version != versions[i] {
					t.Errorf("%q is at version %d, the commit said %d", ch.Key, records[0].Version, versions[i])
				}
			}
			if (told.count("p") == 0) != errors.Is(test.want, store.ErrConflict) {
				t.Errorf("the watchers were told %d times", told.count("p"))
			}
		})
	}
}

// What the proxy does to the next script.
const (
	nothing int32 = iota
	loseRequest
	loseReply
)

// proxy stands before a server, and can break the connection of the next script.
type proxy struct {
	addr    string
	server  *redistest.Server
	armed   atomic.Int32
	between func() // called when it has been broken
}

func newProxy(t *testing.T, server *redistest.Server) *proxy {
	p := &proxy{server: server}
	p.addr = serve(t, func(client net.Conn) {
		upstream, err := net.Dial("tcp", server.Addr())
		if err != nil {
			return
		}
		defer upstream.Close()
		go io.Copy(client, upstream)
		b := make([]byte, 1<<16)
		for {
			n, err := client.Read(b)
			if err != nil {
				return
			}
			if bytes.Contains(bytes.ToLower(b[:n]), []byte("evalsha")) {
				if mode := p.armed.Swap(nothing); mode != nothing {
					p.lose(mode, b[:n])
					if p.between != nil {
						p.between()
					}
					return // and with that, hang up
				}
			}
			if _, err := upstream.Write(b[:n]); err != nil {
				return
			}
		}
	})
	return p
}

func (p *proxy) breakNext(reaches bool) {
	if reaches {
		p.armed.Store(loseReply)
	} else {
		p.armed.Store(loseRequest)
	}
}

// lose sends the request on another connection, so that its reply reaches nobody, or doesn't send it at all.
func (p *proxy) lose(mode int32, request []byte) {
	if mode == loseRequest {
		return
	}
	conn, err := net.Dial("tcp", p.server.Addr())
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	password := p.server.Password()
	io.WriteString(conn, "*2\r\n$4\r\nAUTH\r\n$"+strconv.Itoa(len(password))+"\r\n"+password+"\r\n")
	conn.Write(request)
	var reply []byte
	for b := make([]byte, 100); strings.Count(string(reply), "\r\n") < 2; {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		reply = append(reply, b[:n]...)
	}
}

func TestLayout(t *testing.T) {
	server := redistest.Start(t)
	c := config(server)
	s := newStore(t, c)
	hash := c.Prefix + "{p}"
	ttl := func() time.Duration {
		t.Helper()
		n, err := strconv.ParseInt(server.Do("PTTL", hash), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(n) * time.Millisecond
	}
	const stays, absent = -time.Millisecond, -2 * time.Millisecond
	about := func(want time.Duration) {
		t.Helper()
		if got := ttl(); got > want+slack || got < want+slack-time.Minute {
			t.Errorf("the hash lives %v, want %v", got, want+slack)
		}
	}
	until := func(key string, d time.Duration) store.Change {
		return store.Change{Key: key, If: store.Any, Expires: time.Now().Add(d)}
	}
	del := func(key string) store.Change { return store.Change{Key: key, Op: store.Delete, If: store.Any} }

	commit(t, s, until("a", time.Hour))
	if names := server.Do("KEYS", c.Prefix+"*"); names != hash {
		t.Errorf("the keys are %q", names)
	}
	about(time.Hour)
	commit(t, s, until("b", 2*time.Hour))
	about(2 * time.Hour)
	commit(t, s, until("c", time.Minute))
	about(2 * time.Hour)
	commit(t, s, put("d", store.Any), put("e", store.Any))
	if got := ttl(); got != stays {
		t.Errorf("with a record that stays the hash lives %v", got)
	}
	commit(t, s, until("a", 3*time.Hour))
	if got := ttl(); got != stays {
		t.Errorf("the record that stays is still there, the hash lives %v", got)
	}
	commit(t, s, del("d"))
	if got := ttl(); got != stays {
		t.Errorf("one of them is still there, the hash lives %v", got)
	}
	commit(t, s, until("e", time.Minute))
	about(3 * time.Hour)
	commit(t, s, del("a"), del("b"), del("c"), del("e"))
	if got := ttl(); got != absent {
		t.Errorf("the empty hash lives %v", got)
	}

	// An expiry of long ago is no reason to lose the others.
	commit(t, s, put("stays", 0))
	commit(t, s, until("a", -48*time.Hour))
	commit(t, s, del("stays"), until("b", time.Minute))
	about(time.Minute)
}

func TestExpiredRecordsAreRemovedByLaterCommits(t *testing.T) {
	server := redistest.Start(t)
	c := config(server)
	s := newStore(t, c)
	commit(t, s, put("stays", 0))
	for n := range 500 {
		commit(t, s, store.Change{Key: strconv.Itoa(n), Expires: time.Now().Add(-slack - time.Minute)},
			store.Change{Key: "recent", If: store.Any, Expires: time.Now().Add(-time.Minute)})
	}
	n, _ := strconv.Atoi(server.Do("HLEN", c.Prefix+"{p}"))
	if n > 50 {
		t.Errorf("%d records are kept of which 2 are needed", n)
	}
	// The clock of another process may be behind by less than the slack.
	if server.Do("HEXISTS", c.Prefix+"{p}", "recent") != "1" {
		t.Error("a record was removed that has only just expired")
	}
}

func TestDamagedRecords(t *testing.T) {
	server := redistest.Start(t)
	c := config(server)
	s := newStore(t, c)
	for reason, value := range map[string]string{
		"too short":                "short",
		"without a version":        strings.Repeat("\x00", 16),
		"with an expiry of Any":    "\x00\x00\x00\x00\x00\x00\x00\x01" + strings.Repeat("\xff", 8),
		"with Any for its version": strings.Repeat("\xff", 8) + strings.Repeat("\x00", 8),
	} {
		server.Do("HSET", c.Prefix+"{p}", "a", value)
		if _, err := s.Get(t.Context(), "p", "a"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: get: %v", reason, err)
		}
		if _, err := s.List(t.Context(), "p", ""); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: list: %v", reason, err)
		}
		if _, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("a", 0)}}); err == nil {
			t.Errorf("%s: it was taken for no record", reason)
		}
	}
	server.Do("SET", c.Prefix+"{q}", "text")
	if _, err := s.Get(t.Context(), "q", "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a key of another type: %v", err)
	}
}

func TestDatabasesAreApart(t *testing.T) {
	server := redistest.Start(t)
	c := config(server)
	one := newStore(t, c)
	c.Database = 1
	two := newStore(t, c)
	commit(t, one, put("a", 0))
	commit(t, two, put("a", 0))
	server.Do("FLUSHDB") // database 0
	for s, there := range map[*Store]bool{one: false, two: true} {
		if records, err := s.Get(t.Context(), "p", "a"); err != nil || (records[0].Version != 0) != there {
			t.Errorf("got %+v, %v", records, err)
		}
	}
}
