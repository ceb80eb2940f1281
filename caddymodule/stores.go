package caddymodule

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/platform"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/store/bolt"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis"
)

func init() {
	caddy.RegisterModule(new(MemoryStore))
	caddy.RegisterModule(new(BoltStore))
	caddy.RegisterModule(new(RedisStore))
}

// storeModule is a module of the namespace mfa.stores.
type storeModule interface {
	Store() store.Store
	Key() string  // tells the place where it keeps things from every other
	Shared() bool // several machines may use it

	// hold keeps the store open until release is called, also when the module has given it back.
	hold() (release func() error)
}

// closer is a store that is closed when no configuration uses it any more.
type closer interface {
	store.Store
	Close() error
}

// pooled is a store in the pool: it outlives a configuration when the next one uses it too.
type pooled struct{ closer }

// Destruct closes the store.
func (p pooled) Destruct() error { return p.Close() }

var stores = caddy.NewUsagePool()

// handle is one configuration's hold on a pooled store.
type handle struct {
	key   string
	store store.Store
}

// acquire takes the store with that key, and makes it if no other configuration has. It opens nothing.
func (h *handle) acquire(key string, make func() closer) error {
	value, _, err := stores.LoadOrNew(key, func() (caddy.Destructor, error) { return pooled{make()}, nil })
	if err != nil {
		return err
	}
	h.key, h.store = key, value.(pooled).closer
	return nil
}

// hold keeps the store open until release is called. The handle must have it.
func (h *handle) hold() (release func() error) {
	key := h.key
	stores.LoadOrStore(key, pooled{h.store.(closer)})
	return func() error {
		_, err := stores.Delete(key)
		return err
	}
}

// Store gives the store.
func (h *handle) Store() store.Store { return h.store }

// Key tells the place where it keeps things.
func (h *handle) Key() string { return h.key }

// Cleanup gives the store back.
func (h *handle) Cleanup() error {
	if h.key == "" {
		return nil
	}
	key := h.key
	h.key = ""
	_, err := stores.Delete(key)
	return err
}

// MemoryStore keeps state in memory: everything is lost when the process ends. For tests, and for sessions alone.
type MemoryStore struct{ handle }

// CaddyModule returns the Caddy module information.
func (*MemoryStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mfa.stores.memory", New: func() caddy.Module { return new(MemoryStore) }}
}

// Provision takes the process's one memory.
func (m *MemoryStore) Provision(caddy.Context) error {
	return m.acquire("memory", func() closer { return store.NewMemory() })
}

// Shared is false.
func (*MemoryStore) Shared() bool { return false }

// BoltStore keeps state in one file.
type BoltStore struct {
	config.Bolt
	handle
}

// CaddyModule returns the Caddy module information.
func (*BoltStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mfa.stores.bolt", New: func() caddy.Module { return new(BoltStore) }}
}

// Provision finds the file. It is opened on first use.
func (b *BoltStore) Provision(caddy.Context) error {
	path := b.File
	if path == "" {
		path = filepath.Join(caddy.AppDataDir(), "mfa", "store.db")
	}
	path, err := caddy.NewReplacer().ReplaceOrErr(path, true, true)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	// Two names of one file are one store.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return b.acquire("bolt "+path, func() closer { return bolt.New(path) })
}

// Shared is false: one process at a time can open the file.
func (*BoltStore) Shared() bool { return false }

// RedisStore keeps state in Redis, which several machines can share.
type RedisStore struct {
	config.Redis
	handle
	settings redis.Config
}

// CaddyModule returns the Caddy module information.
func (*RedisStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mfa.stores.redis", New: func() caddy.Module { return new(RedisStore) }}
}

// Provision resolves the settings. A client that there is already gets them with configure.
func (r *RedisStore) Provision(caddy.Context) error {
	if err := r.Validate().Err(); err != nil {
		return err
	}
	c := r.Redis
	c.SetDefaults()
	repl := caddy.NewReplacer()
	for _, field := range []*string{&c.Address, &c.Username, &c.Password} {
		var err error
		if *field, err = repl.ReplaceOrErr(*field, true, true); err != nil {
			return err
		}
	}
	r.settings = redis.Config{
		Addresses: []string{c.Address}, Username: c.Username, Password: c.Password, Database: c.Database, Prefix: c.Prefix,
	}
	if c.TLS != nil {
		var err error
		if r.settings.TLS, err = redisTLS(c.TLS, repl); err != nil {
			return err
		}
	}
	key := strings.Join([]string{"redis", c.Address, strconv.Itoa(c.Database), c.Prefix}, " ")
	return r.acquire(key, func() closer { return redis.New(r.settings) })
}

// configure hands the client those settings that may change while it is open. It waits for the start: Provision also runs for
// configurations that are refused later, and must not take the password away from the one that is in force.
func (r *RedisStore) configure() { r.store.(*redis.Store).Reconfigure(r.settings) }

func redisTLS(c *config.RedisTLS, repl *caddy.Replacer) (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA == "" {
		return settings, nil
	}
	path, err := repl.ReplaceOrErr(c.CA, true, true)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading ca: %w", err)
	}
	settings.RootCAs = x509.NewCertPool()
	if !settings.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading ca: %s holds no PEM certificate", path)
	}
	return settings, nil
}

// Shared is true.
func (*RedisStore) Shared() bool { return true }

// live is what this process knows of the state in a pair of stores, and of the requests that are in flight behind it. It
// outlives a configuration like the stores do.
type live struct {
	key         string
	sessions    *session.View
	accounts    *account.View
	tokens      *machinekey.View
	counts      *machinekey.Counts
	connections *session.Connections
	verdicts    *signin.Verdicts
	verified    *gate.Verified
	platforms   *platform.Cache
	stop        []func()
	release     []func() error
}

var lives = caddy.NewUsagePool()

func acquireLive(sessions, accounts storeModule) (*live, error) {
	key := sessions.Key() + "\n" + accounts.Key()
	value, _, err := lives.LoadOrNew(key, func() (caddy.Destructor, error) {
		l := &live{
			key: key, sessions: session.NewView(sessions.Store()), accounts: account.NewView(accounts.Store()), tokens: machinekey.NewView(accounts.Store()),
			connections: session.NewConnections(), verdicts: signin.NewVerdicts(), verified: gate.NewVerified(), platforms: platform.NewCache(), counts: machinekey.NewCounts(time.Now()),
		}
		// What changes a session or an account may end a connection that is open.
		l.stop = append(l.stop, sessions.Store().Watch(l.recheck), accounts.Store().Watch(l.recheck))
		// Caddy cleans up a configuration's modules in no order, and the app writes to the stores until it is cleaned up.
		l.release = append(l.release, sessions.hold(), accounts.hold())
		return l, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*live), nil
}

func (l *live) recheck(partition string) {
	_, owner, _ := strings.Cut(partition, "/")
	user, err := mfa.ParseUserID(owner)
	if err != nil {
		user = mfa.UserID{} // everybody
	}
	l.connections.Recheck(user)
}

// Destruct lets go of the stores, and ends what is still in flight behind them: the configuration that would judge it is gone.
func (l *live) Destruct() error {
	l.connections.EndAll()
	for _, stop := range l.stop {
		stop()
	}
	l.sessions.Close()
	l.accounts.Close()
	l.tokens.Close()
	l.verified.Close()
	var err error
	for _, release := range l.release {
		err = errors.Join(err, release())
	}
	return err
}

func releaseLive(l *live) error {
	_, err := lives.Delete(l.key)
	return err
}

// newSecret makes a secret of 256 bits, as a line of text.
func newSecret() []byte {
	var b [32]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return []byte(base64.StdEncoding.EncodeToString(b[:]) + "\n")
}

// Interface guards
var (
	_ caddy.Provisioner  = (*MemoryStore)(nil)
	_ caddy.CleanerUpper = (*MemoryStore)(nil)
	_ storeModule        = (*MemoryStore)(nil)
	_ caddy.Provisioner  = (*BoltStore)(nil)
	_ caddy.CleanerUpper = (*BoltStore)(nil)
	_ storeModule        = (*BoltStore)(nil)
	_ caddy.Provisioner  = (*RedisStore)(nil)
	_ caddy.CleanerUpper = (*RedisStore)(nil)
	_ storeModule        = (*RedisStore)(nil)
)
