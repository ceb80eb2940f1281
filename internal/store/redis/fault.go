package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

var errClosed = errors.New("it is closed")

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// fault makes an error of the contract of what went wrong in an operation with ctx.
func (s *Store) fault(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.closed.Load():
		return unavailable(errClosed)
	case slow(err):
		err = fmt.Errorf("no answer within %v", s.patience)
	}
	return unavailable(fmt.Errorf("asking Redis at %s: %w", s.address, s.redact(err)))
}

// redact takes the password out of an error: an old server repeats a command that it doesn't know, and that may be AUTH.
func (s *Store) redact(err error) error {
	if password := s.config.Load().Password; password != "" && strings.Contains(err.Error(), password) {
		return errors.New(strings.ReplaceAll(err.Error(), password, "(password)"))
	}
	return err
}

// slow reports whether err is that of a deadline.
func slow(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) || errors.As(err, &timeout) && timeout.Timeout()
}

// answer reports whether err is what Redis answered, and not that it couldn't.
func answer(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// unsent reports whether err came before anything was sent.
func unsent(err error) bool {
	var dial *dialError
	var refused refusal
	return errors.As(err, &dial) || errors.As(err, &refused)
}

// broken reports whether err is that of a connection that broke, so that another one may do better.
func broken(err error) bool {
	return !slow(err) && !answer(err) && !unsent(err) && !errors.Is(err, redis.ErrClosed)
}

// alerted reports whether err is what the server at the other end finds wrong with our TLS.
func alerted(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// permanent reports whether an error will not go away by itself, and what to do about it, unless its own words say that.
func permanent(err error) (remedy string, yes bool) {
	var refused refusal
	var certificate *tls.CertificateVerificationError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &refused):
		return "", true
	case errors.As(err, &notTLS):
		return "turn off TLS, which it doesn't speak, or name the port on which it does", true
	case errors.As(err, &certificate):
		return "name the CA that has signed its certificate, and connect to a name in it", true
	case alerted(err):
		return "give it the certificate that it asks for", true
	case !answer(err):
		return "", false
	}
	// What the server said stands at the beginning of its own error; go-redis may have put words of its own before that.
	var reply redis.Error
	errors.As(err, &reply)
	said := reply.Error()
	for _, known := range []struct{ prefix, remedy string }{
		{"WRONGPASS", "check user name and password"},
		{"ERR invalid password", "check the password"},
		{"NOAUTH", "set the password"},
		{"ERR Client sent AUTH, but no password is set", "set a password in Redis (requirepass), or none here"},
		{"ERR AUTH <password> called without any password", "set a password in Redis (requirepass), or none here"},
		{"NOPERM", "give the user the rights on keys, channel and commands that the manual lists"},
		{"ERR DB index is out of range", "choose a database that it has"},
		{"ERR invalid DB index", "choose a database that it has"},
		{"ERR SELECT is not allowed", "choose database 0"},
		{"DENIED", "set a password in Redis (requirepass), or bind it to an address of this machine"},
		{"ERR unknown command", "use a Redis that has this command, or allow it"},
		{"WRONGTYPE", "choose a prefix that no other program uses"},
	} {
		if strings.HasPrefix(said, known.prefix) {
			return known.remedy, true
		}
	}
	if strings.Contains(said, "user executing the script") { // how Redis 7.0 says NOPERM inside of one
		return "give the user the rights on keys, channel and commands that the manual lists", true
	}
	return "", false
}
