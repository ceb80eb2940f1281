package session

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Connections knows the requests that are in flight behind a session, or without one by what else has let them in: downloads, event
// streams, WebSockets. A request asks for permission once, and may then last for days; Run asks again for it, and ends it when the answer is no.
//
// It outlives configurations: a connection that an older one has let in is judged by the newest.
type Connections struct {
	shards [connectionShards]connectionShard
	news   chan mfa.UserID // whose connections are to be judged at once; zero: everybody's
	ended  atomic.Bool     // see EndAll
}

const connectionShards = 64

// connectionShard is a part of the register, so that requests don't wait for each other. Which part a connection is in
// says nothing.
type connectionShard struct {
	mu    sync.Mutex
	first *Connection
}

// Connection is a request in flight, and the context that ends with its session. What it says is not changed.
type Connection struct {
	context.Context
	Current Current // the zero Current: it was let in without a session, by Entry
	Entry   Entry   // nil: by a session
	Subject Subject

	cancel         context.CancelCauseFunc
	shard          *connectionShard
	next, previous *Connection // in the shard, under its lock
}

// Entry is what has let in a request without a session. Whoever has made it knows what must still be true for it to go on.
type Entry interface {
	Owner() mfa.UserID // zero: nobody's
}

// owner is whose request it is.
func (conn *Connection) owner() mfa.UserID {
	if conn.Entry != nil {
		return conn.Entry.Owner()
	}
	return conn.Current.Session.User
}

// Subject is what must be known of a request to judge it again.
type Subject struct {
	Application string
	Host        string               // lower case, without port
	Address     netip.Addr           // of the client
	Hint        string               // Sec-CH-UA-Platform
	UserAgent   string               // and what else the client says of itself
	TLS         *tls.ConnectionState // nil: there is none
	Cookie      string               // value of the session cookie, which the application doesn't see
}

type connectionKey struct{}

// Value finds the connection itself, for FromContext.
func (conn *Connection) Value(key any) any {
	if key == (connectionKey{}) {
		return conn
	}
	return conn.Context.Value(key)
}

// FromContext gives the connection that a request was let in as, if it was.
func FromContext(ctx context.Context) (*Connection, bool) {
	conn, ok := ctx.Value(connectionKey{}).(*Connection)
	return conn, ok
}

const (
	// judgeInterval is how often open connections are judged. Sessions that are ended by us don't wait for it.
	judgeInterval = time.Second

	// freshInterval is how soon it is noticed that the store tells nothing any more.
	freshInterval = 200 * time.Millisecond
)

// NewConnections makes an empty register.
func NewConnections() *Connections {
	return &Connections{news: make(chan mfa.UserID, 256)}
}

// Open registers a request behind a session. The connection is the context to go on with; Close must be called.
func (c *Connections) Open(ctx context.Context, current Current, subject Subject) *Connection {
	return c.open(ctx, current, nil, subject)
}

// OpenWithout registers a request that was let in without a session.
func (c *Connections) OpenWithout(ctx context.Context, entry Entry, subject Subject) *Connection {
	return c.open(ctx, Current{}, entry, subject)
}

func (c *Connections) open(ctx context.Context, current Current, entry Entry, subject Subject) *Connection {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &c.shards[rand.Uint32()%connectionShards]
	conn := &Connection{Context: ctx, Current: current, Entry: entry, Subject: subject, cancel: cancel, shard: s}
	s.mu.Lock()
	if conn.next = s.first; conn.next != nil {
		conn.next.previous = conn
	}
	s.first = conn
	s.mu.Unlock()
	if c.ended.Load() {
		conn.cancel(ErrEnded)
	}
	return conn
}

// Close takes a request out of the register when it is done. It is called once.
func (conn *Connection) Close() {
	s := conn.shard
	s.mu.Lock()
	if conn.previous != nil {
		conn.previous.next = conn.next
	} else {
		s.first = conn.next
	}
	if conn.next != nil {
		conn.next.previous = conn.previous
	}
	s.mu.Unlock()
	conn.cancel(nil)
}

// all gives the connections in the shard.
func (s *connectionShard) all() []*Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Connection
	for conn := s.first; conn != nil; conn = conn.next {
		all = append(all, conn)
	}
	return all
}

// Recheck has the connections of a user judged at once; those of everybody for the zero UserID. It doesn't block.
func (c *Connections) Recheck(user mfa.UserID) {
	select {
	case c.news <- user:
	default: // so much is waiting that the next round, which comes within a second, is as soon
	}
}

// Len counts the requests in flight.
func (c *Connections) Len() int {
	n := 0
	for i := range c.shards {
		n += len(c.shards[i].all())
	}
	return n
}

// EndAll ends every connection, also those that are being opened. It is for when nobody judges them any more.
func (c *Connections) EndAll() {
	c.ended.Store(true)
	c.cut()
}

// Judge says whether an open connection may go on.
type Judge func(ctx context.Context, conn *Connection, now time.Time) bool

// Run has open connections judged until ctx ends: all of them every second, those of a user when Recheck says so. stores are what
// is asked for that. When one of them tells nothing any more and can't be asked, nothing can be judged, and every connection ends.
func (c *Connections) Run(ctx context.Context, stores []store.Store, judge Judge) {
	var watch sync.WaitGroup
	watch.Go(func() { c.watch(ctx, stores) })
	defer watch.Wait()
	ticker := time.NewTicker(judgeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case user := <-c.news:
			c.judge(ctx, user, judge)
		case <-ticker.C:
			c.judge(ctx, mfa.UserID{}, judge)
		}
	}
}

// watch ends every connection when nothing can be judged. It does not wait for a round of judgements, each of which may hang.
func (c *Connections) watch(ctx context.Context, stores []store.Store) {
	ticker := time.NewTicker(freshInterval)
	defer ticker.Stop()
	fresh := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		was := fresh
		fresh = !slices.ContainsFunc(stores, func(s store.Store) bool { return !s.Fresh() })
		if fresh || c.Len() == 0 {
			continue
		}
		// Within the time that revocation may take, nothing is trusted any more without the stores.
		ping, cancel := context.WithTimeout(ctx, freshInterval)
		down := slices.ContainsFunc(stores, func(s store.Store) bool { return !s.Fresh() && s.Ping(ping) != nil })
		cancel()
		switch {
		case down && ctx.Err() == nil:
			c.cut()
		case was:
			c.Recheck(mfa.UserID{}) // news may have been missed
		}
	}
}

// judge judges the connections of a user, or of everybody.
func (c *Connections) judge(ctx context.Context, user mfa.UserID, judge Judge) {
	for i := range c.shards {
		for _, conn := range c.shards[i].all() {
			concerned := user.IsZero() || conn.owner() == user
			if concerned && conn.Err() == nil && !judge(ctx, conn, time.Now()) && ctx.Err() == nil {
				conn.cancel(ErrEnded)
			}
		}
	}
}

// cut ends every connection.
func (c *Connections) cut() {
	for i := range c.shards {
		for _, conn := range c.shards[i].all() {
			conn.cancel(ErrEnded)
		}
	}
}
