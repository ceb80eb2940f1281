package session

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Connections knows the requests that are in flight behind a session: downloads, event streams, WebSockets. A request asks
// for permission once, and may then last for days; Run asks again for it, and ends it when the answer is no.
//
// It outlives configurations: a connection that an older one has let in is judged by the newest.
type Connections struct {
	seed   maphash.Seed
	shards [connectionShards]connectionShard
	news   chan mfa.UserID // whose connections are to be judged at once; zero: everybody's
	ended  atomic.Bool     // see EndAll
}

const connectionShards = 64

type connectionShard struct {
	mu   sync.Mutex
	open map[*Connection]struct{}
}

// Connection is a request in flight, and the context that ends with its session. What it says is not changed.
type Connection struct {
	context.Context
	Current Current
	Subject Subject

	cancel context.CancelCauseFunc
	shard  *connectionShard
}

// Subject is what must be known of a request to judge it again.
type Subject struct {
	Application string
	Address     netip.Addr
	Cookie      string // value of the session cookie, which the application doesn't see
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
	c := &Connections{seed: maphash.MakeSeed(), news: make(chan mfa.UserID, 256)}
	for i := range c.shards {
		c.shards[i].open = map[*Connection]struct{}{}
	}
	return c
}

func (c *Connections) shardOf(user mfa.UserID) *connectionShard {
	return &c.shards[maphash.Comparable(c.seed, user)%connectionShards]
}

// Open registers a request. The connection is the context to go on with; Close must be called.
func (c *Connections) Open(ctx context.Context, current Current, subject Subject) *Connection {
	ctx, cancel := context.WithCancelCause(ctx)
	conn := &Connection{Context: ctx, Current: current, Subject: subject, cancel: cancel, shard: c.shardOf(current.Session.User)}
	conn.shard.mu.Lock()
	conn.shard.open[conn] = struct{}{}
	conn.shard.mu.Unlock()
	if c.ended.Load() {
		conn.cancel(ErrEnded)
	}
	return conn
}

// Close takes a request out of the register when it is done.
func (conn *Connection) Close() {
	conn.shard.mu.Lock()
	delete(conn.shard.open, conn)
	conn.shard.mu.Unlock()
	conn.cancel(nil)
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
		c.shards[i].mu.Lock()
		n += len(c.shards[i].open)
		c.shards[i].mu.Unlock()
	}
	return n
}

// EndAll ends every connection, also those that are being opened. It is for when nobody judges them any more.
func (c *Connections) EndAll() {
	c.ended.Store(true)
	c.judge(context.Background(), mfa.UserID{}, time.Time{}, func(context.Context, *Connection, time.Time) bool { return false })
}

// Judge says whether an open connection may go on.
type Judge func(ctx context.Context, conn *Connection, now time.Time) bool

// Run has open connections judged until ctx ends: all of them every second, those of a user when Recheck says so. When s
// can't be trusted and can't be asked, nothing can be judged, and every connection ends.
func (c *Connections) Run(ctx context.Context, s store.Store, judge Judge) {
	ticker := time.NewTicker(freshInterval)
	defer ticker.Stop()
	var last time.Time
	fresh := true
	for {
		select {
		case <-ctx.Done():
			return
		case user := <-c.news:
			c.judge(ctx, user, time.Now(), judge)
			continue
		case <-ticker.C:
		}
		now := time.Now()
		was := fresh
		fresh = s.Fresh()
		if !fresh && c.Len() > 0 {
			// Within the time that revocation may take, nothing is trusted any more without the store.
			ping, cancel := context.WithTimeout(ctx, freshInterval)
			err := s.Ping(ping)
			cancel()
			if err != nil && ctx.Err() == nil {
				c.judge(ctx, mfa.UserID{}, now, func(context.Context, *Connection, time.Time) bool { return false })
				continue
			}
		}
		if now.Sub(last) >= judgeInterval || was && !fresh {
			last = now
			c.judge(ctx, mfa.UserID{}, now, judge)
		}
	}
}

// judge judges the connections of a user, or of everybody.
func (c *Connections) judge(ctx context.Context, user mfa.UserID, now time.Time, judge Judge) {
	shards := c.shards[:]
	if !user.IsZero() {
		shards = nil
		c.judgeShard(ctx, c.shardOf(user), user, now, judge)
	}
	for i := range shards {
		c.judgeShard(ctx, &shards[i], user, now, judge)
	}
}

func (c *Connections) judgeShard(ctx context.Context, shard *connectionShard, user mfa.UserID, now time.Time, judge Judge) {
	var concerned []*Connection
	shard.mu.Lock()
	for conn := range shard.open {
		if user.IsZero() || conn.Current.Session.User == user {
			concerned = append(concerned, conn)
		}
	}
	shard.mu.Unlock()
	for _, conn := range concerned {
		if !judge(ctx, conn, now) && ctx.Err() == nil {
			conn.cancel(ErrEnded)
		}
	}
}
