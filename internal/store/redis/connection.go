package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// The oldest Redis that has what the script needs (HRANDFIELD).
const minMajor, minMinor = 6, 2

// quiet keeps go-redis from writing to standard error. Everything that it has to say comes back as an error too.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

var silence = sync.OnceFunc(func() { redis.SetLogger(quiet{}) })

func (s *Store) newClient() *redis.Client {
	silence()
	return redis.NewClient(&redis.Options{
		Addr:      s.address,
		Dialer:    s.dial,
		OnConnect: s.inspect,
		CredentialsProviderContext: func(context.Context) (username, password string, err error) {
			c := s.config.Load()
			return c.Username, c.Password, nil
		},
		DB: s.config.Load().Database,

		// Retries are ours, since a commit must know whether it is one. So are deadlines.
		MaxRetries:            -1,
		DialerRetries:         1,
		DialTimeout:           s.patience,
		ReadTimeout:           s.patience,
		WriteTimeout:          s.patience,
		PoolTimeout:           s.patience,
		ContextTimeoutEnabled: true,

		// What we don't use, and what an ACL may forbid.
		Protocol:                 2,
		DisableIdentity:          true,
		PipelinePoolSize:         -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// oneDial in a context is a *atomic.Bool that lets the first dial pass. go-redis connects a subscription anew by itself, and so
// hides that messages were lost; with this it can't.
type oneDial struct{}

var errDialledBefore = errors.New("the subscription has ended")

func withOneDial(ctx context.Context) context.Context {
	return context.WithValue(ctx, oneDial{}, new(atomic.Bool))
}

// dialError is an error before anything could be sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// dial connects for go-redis, with the settings of the moment.
func (s *Store) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if once, ok := ctx.Value(oneDial{}).(*atomic.Bool); ok && !once.CompareAndSwap(false, true) {
		return nil, &dialError{errDialledBefore}
	}
	return s.connect(ctx, s.config.Load().TLS)
}

// connect connects, with TLS unless settings is nil.
func (s *Store) connect(ctx context.Context, settings *tls.Config) (net.Conn, error) {
	// go-redis connects in the background, whatever becomes of the operation that wanted it; this ends with the store.
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	network, address := endpoint(s.address)
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, &dialError{err}
	}
	if settings == nil {
		return conn, nil
	}
	if settings.ServerName == "" && !settings.InsecureSkipVerify {
		settings = settings.Clone()
		settings.ServerName, _, _ = net.SplitHostPort(address)
	}
	secure := tls.Client(conn, settings)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &dialError{err}
	}
	return secure, nil
}

// endpoint is what an address means to package net.
func endpoint(address string) (network, addr string) {
	if path, ok := strings.CutPrefix(address, "unix/"); ok {
		return "unix", path
	}
	if strings.HasPrefix(address, "/") {
		return "unix", address
	}
	if _, _, err := net.SplitHostPort(address); err == nil {
		return "tcp", address
	}
	return "tcp", net.JoinHostPort(strings.Trim(address, "[]"), "6379")
}

// refusal says why a server can't be used. It wraps nothing, since go-redis drops what wraps something from an error of OnConnect.
type refusal string

func (r refusal) Error() string { return string(r) }

// inspect looks at the server at the other end of each new connection. A primary that has become a replica would go on answering
// reads, from the past.
func (s *Store) inspect(ctx context.Context, conn *redis.Conn) error {
	// Without arguments HELLO changes nothing, and no ACL can forbid it.
	hello := redis.NewSliceCmd(ctx, "hello")
	if err := conn.Process(ctx, hello); err != nil {
		if strings.Contains(err.Error(), "unknown command") {
			return refusal(tooOld("before 6.0"))
		}
		return err
	}
	about := make(map[string]string)
	for pairs := hello.Val(); len(pairs) >= 2; pairs = pairs[2:] {
		about[fmt.Sprint(pairs[0])] = fmt.Sprint(pairs[1])
	}
	var major, minor int
	if about["server"] == "redis" {
		if n, _ := fmt.Sscanf(about["version"], "%d.%d", &major, &minor); n == 2 && (major < minMajor || major == minMajor && minor < minMinor) {
			return refusal(tooOld(about["version"]))
		}
	}
	switch mode := about["mode"]; mode {
	case "cluster":
		return refusal("it is a node of a Cluster, which is not supported yet: use a server that is none")
	case "sentinel":
		return refusal("it is a Sentinel, which is not supported yet: give the address of the primary that it watches")
	}
	if role := about["role"]; role != "" && role != "master" {
		return refusal("it is a " + role + ": give the address of the primary")
	}
	return nil
}

func tooOld(version string) string {
	return fmt.Sprintf("it is Redis %s, too old: use %d.%d or newer", version, minMajor, minMinor)
}
