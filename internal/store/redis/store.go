// Package redis keeps state in a Redis server, or a server that speaks its protocol, which several processes share.
//
// # Layout
//
// A partition is one hash, <prefix>{<partition>}: a field for each key, with the record in the form of store.Record.Marshal. The
// braces make it one slot of a Cluster. A commit is one Lua script. Commits that ask for it are published on the channel
// <prefix>changes, with the partition as the message. The hash <prefix>{} belongs to Ping.
//
// Redis removes a hash an hour after the last of its records has expired, since the clocks of the processes and of Redis may
// differ; which records have expired is up to the clock of the process that reads.
//
// # Rights
//
// An ACL user needs ~<prefix>* &<prefix>changes and +@hash +@connection +eval +evalsha +pttl +pexpireat +persist +time +publish
// +subscribe +unsubscribe; +info and +config|get let Advise see how Redis is configured.
//
// # Lost answers
//
// When a connection breaks after a commit was sent, nobody knows whether it was made. The commit is sent again, and the script
// finds out, from the versions: those of puts are drawn at random by the client, so a record that has one of them proves that
// the commit was made; a record that is still at the version that a put or delete of the commit expects proves that it was not,
// and then it is made now. Otherwise it can't be told: a delete that succeeded looks like one that somebody else made, and a
// record that was created may have been deleted again. Such a commit ends with store.ErrUnavailable, never with success or
// store.ErrConflict.
package redis

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

const (
	// patience bounds every operation, with connecting and trying again; the contract allows one second.
	patience = 800 * time.Millisecond

	// attempts is how often an operation is tried while connections break under it, as they do when Redis restarts.
	attempts = 3

	// slack is how long Redis keeps what has expired, in case its clock is ahead of those of the processes.
	slack = time.Hour

	// pingMessage is published by pings. No partition has that name.
	pingMessage = "\x00"
)

// Config says which server to use, and how.
type Config struct {
	Addresses []string    // one: host, host:port (default 6379), or the path of a unix socket
	Username  string      // empty: Redis' default user
	Password  string      // empty: none
	Database  int         // number of the database
	Prefix    string      // before the names of all keys and of the channel; default mfa:
	TLS       *tls.Config // nil: no TLS
}

// Store is a store.Store in Redis.
type Store struct {
	config   atomic.Pointer[Config]
	address  string
	patience time.Duration
	invalid  error // what is wrong with the configuration
	watchers store.Watchers
	script   *redis.Script

	// answered is when the last ping of the subscription that was answered had been sent; nil without a subscription.
	answered atomic.Pointer[time.Time]

	client    atomic.Pointer[redis.Client] // nil before first use
	starting  sync.Mutex                   // held to make the client, or to close
	closed    atomic.Bool
	ending    context.Context // ends with Close
	end       context.CancelFunc
	listeners sync.WaitGroup
}

//go:embed commit.lua
var commitScript string

// The answers of the script.
const (
	conflict = 0
	applied  = 1
	unknown  = 2
)

// New returns a store that connects when it is first used, or by Open. What is wrong with c is said by Open.
func New(c Config) *Store {
	c.Prefix = cmp.Or(c.Prefix, "mfa:")
	c.Addresses = slices.Clone(c.Addresses)
	s := &Store{patience: patience, script: redis.NewScript(commitScript)}
	s.ending, s.end = context.WithCancel(context.Background())
	s.config.Store(&c)
	switch {
	case len(c.Addresses) == 0 || c.Addresses[0] == "":
		s.invalid = errors.New("no address is given")
	case len(c.Addresses) > 1:
		s.invalid = errors.New("several addresses are given, and Sentinel and Cluster are not supported yet: give one")
	case c.Database < 0:
		s.invalid = fmt.Errorf("there is no database %d", c.Database)
	case strings.ContainsAny(c.Prefix, "{}\x00"):
		s.invalid = fmt.Errorf("prefix %q has a brace or NUL in it: leave them out", c.Prefix)
	}
	if s.invalid == nil {
		s.address = c.Addresses[0]
	}
	return s
}

// Reconfigure makes new connections use the user name, password and TLS settings of c. Everything else stays as New was told.
func (s *Store) Reconfigure(c Config) {
	now := *s.config.Load()
	now.Username, now.Password, now.TLS = c.Username, c.Password, c.TLS
	s.config.Store(&now)
}

// Close cuts the connections, also those of running operations. From then on every operation answers store.ErrUnavailable.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.end()
	s.starting.Lock()
	defer s.starting.Unlock()
	s.listeners.Wait()
	client := s.client.Swap(nil)
	if client == nil {
		return nil
	}
	return client.Close()
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, partition string, keys ...string) ([]store.Record, error) {
	if err := store.CheckGet(partition, keys); err != nil {
		return nil, err
	}
	if len(keys) == 0 { // HMGET wants one
		_, err := s.use(ctx)
		return nil, err
	}
	var values []any
	err := s.read(ctx, func(ctx context.Context, c *redis.Client) (err error) {
		values, err = c.HMGet(ctx, s.hash(partition), keys...).Result()
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(values) != len(keys) {
		return nil, s.fault(ctx, fmt.Errorf("%d values for %d keys", len(values), len(keys)))
	}
	now, records := time.Now(), make([]store.Record, len(keys))
	for i, key := range keys {
		records[i].Key = key
		value, ok := values[i].(string)
		if !ok {
			continue
		}
		r, err := store.Unmarshal(key, []byte(value))
		if err != nil {
			return nil, s.fault(ctx, err)
		}
		if !r.Gone(now) {
			records[i] = r
		}
	}
	return records, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, partition, prefix string) ([]store.Record, error) {
	if err := store.CheckList(partition, prefix); err != nil {
		return nil, err
	}
	var values map[string]string
	err := s.read(ctx, func(ctx context.Context, c *redis.Client) (err error) {
		values, err = c.HGetAll(ctx, s.hash(partition)).Result()
		return err
	})
	if err != nil {
		return nil, err
	}
	now, records := time.Now(), []store.Record(nil)
	for key, value := range values {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		r, err := store.Unmarshal(key, []byte(value))
		if err != nil {
			return nil, s.fault(ctx, err)
		}
		if !r.Gone(now) {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b store.Record) int { return cmp.Compare(a.Key, b.Key) })
	return records, nil
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, c store.Commit) ([]store.Version, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	message := ""
	if c.Notify {
		message = c.Partition
	}
	versions, err := s.commit(ctx, c.Partition, message, c.Changes)
	// What failed on the way may have happened.
	if c.Notify && !errors.Is(err, store.ErrConflict) {
		s.watchers.Notify(c.Partition)
	}
	return versions, err
}

// commit runs the script, and publishes message if it isn't empty.
func (s *Store) commit(ctx context.Context, partition, message string, changes []store.Change) ([]store.Version, error) {
	client, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	channel := ""
	if message != "" {
		channel = s.channel()
	}
	versions := make([]store.Version, len(changes))
	args := []any{nil, slack.Milliseconds(), channel, message, nil}
	for i, ch := range changes {
		var op string
		var record []byte
		switch ch.Op {
		case store.Put:
			versions[i] = newVersion()
			op, record = "p", ch.Record(versions[i]).Marshal()
		case store.Delete:
			op = "d"
		case store.Expect:
			op = "e"
		}
		args = append(args, op, ch.Key, expected(ch.If), record)
	}
	within, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	sent := false
	for n := 1; ; n++ {
		args[0], args[4] = time.Now().UnixMilli(), "0"
		if sent {
			args[4] = "1"
		}
		answer, err := s.run(within, client, s.hash(partition), args)
		switch {
		case err != nil && n < attempts && broken(err) && within.Err() == nil:
			sent = sent || !unsent(err)
			pause(within, n)
		case err != nil:
			return nil, s.fault(ctx, err)
		case answer == applied:
			return versions, nil
		case answer == conflict:
			return nil, store.ErrConflict
		case answer == unknown:
			return nil, s.fault(ctx, errors.New("the connection broke, and whether the commit was made can't be told"))
		default:
			return nil, s.fault(ctx, fmt.Errorf("the script answered %d", answer))
		}
	}
}

// run runs the script, and loads it if Redis has forgotten it.
func (s *Store) run(ctx context.Context, client *redis.Client, hash string, args []any) (int, error) {
	answer, err := s.script.EvalSha(ctx, client, []string{hash}, args...).Int()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		answer, err = s.script.Eval(ctx, client, []string{hash}, args...).Int()
	}
	return answer, err
}

// Watch implements store.Store. It connects to nothing: the first operation does.
func (s *Store) Watch(changed func(partition string)) (stop func()) {
	return s.watchers.Watch(changed)
}

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.commit(ctx, "", pingMessage, []store.Change{
		{Key: "ping", If: store.Any, Expires: time.Now().Add(time.Minute)},
	})
	return err
}

// read calls do, again if the connection breaks.
func (s *Store) read(ctx context.Context, do func(context.Context, *redis.Client) error) error {
	client, err := s.use(ctx)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	for n := 1; ; n++ {
		err := do(within, client)
		if err == nil {
			return nil
		}
		if n == attempts || !broken(err) || within.Err() != nil {
			return s.fault(ctx, err)
		}
		pause(within, n)
	}
}

// use returns the client. The first call makes it, and begins to listen to changes.
func (s *Store) use(ctx context.Context) (*redis.Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.invalid != nil {
		return nil, unavailable(s.invalid)
	}
	if client := s.client.Load(); client != nil && !s.closed.Load() {
		return client, nil
	}
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.closed.Load() {
		return nil, unavailable(errClosed)
	}
	client := s.client.Load()
	if client == nil {
		client = s.newClient()
		s.client.Store(client)
		s.listeners.Go(func() { s.listen(client) })
	}
	return client, nil
}

func (s *Store) hash(partition string) string {
	return s.config.Load().Prefix + "{" + partition + "}"
}

func (s *Store) channel() string {
	return s.config.Load().Prefix + "changes"
}

// newVersion draws a version. From the system's source of randomness, since two virtual machines that were cloned would draw the
// same ones from a source of their own.
func newVersion() store.Version {
	for {
		var b [8]byte
		rand.Read(b[:])
		if v := store.Version(binary.BigEndian.Uint64(b[:])); v != 0 && v != store.Any {
			return v
		}
	}
}

// expected is the version that a change expects, as the script wants it.
func expected(v store.Version) string {
	switch v {
	case 0:
		return ""
	case store.Any:
		return "*"
	}
	return string(binary.BigEndian.AppendUint64(nil, uint64(v)))
}

// pause waits a moment before the next attempt.
func pause(ctx context.Context, attempt int) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(attempt*attempt) * 20 * time.Millisecond):
	}
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Opener  = (*Store)(nil)
	_ store.Adviser = (*Store)(nil)
)
