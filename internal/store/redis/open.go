package redis

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Open implements store.Opener. It reports what will not go away by itself: a wrong password, missing rights, a server that
// isn't Redis, is too old, or is no primary. A server that can't be reached is no error.
func (s *Store) Open(ctx context.Context) error {
	if s.invalid != nil {
		return fmt.Errorf("opening the Redis store: %w", s.invalid)
	}
	if c := s.config.Load(); c.Username != "" && c.Password == "" {
		return fmt.Errorf("opening the Redis store at %s: a user name without a password would be ignored: set both", s.address)
	}
	client, err := s.use(ctx)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	for _, step := range []func(context.Context, *redis.Client) error{s.greet, s.rehearse, s.rehearseListening} {
		err := step(within, client)
		remedy, permanent := permanent(err)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case permanent && remedy != "":
			return fmt.Errorf("opening the Redis store at %s: %w: %s", s.address, s.redact(err), remedy)
		case permanent:
			return fmt.Errorf("opening the Redis store at %s: %w", s.address, s.redact(err))
		default:
			return nil
		}
	}
	return nil
}

// greet finds out whether the server is Redis at all. go-redis would say that it can't parse something.
func (s *Store) greet(ctx context.Context, _ *redis.Client) error {
	settings := s.config.Load().TLS
	reply, err := s.sayPing(ctx, settings, time.Now().Add(s.patience/2))
	if len(reply) > 0 {
		return judge(reply)
	}
	switch {
	case settings == nil && !unsent(err) && !slow(err):
		return s.lookForTLS(ctx, err)
	case settings != nil && slow(err):
		// To Redis without TLS, the other side's first words are a command that hasn't ended yet.
		if reply, _ := s.sayPing(ctx, nil, time.Now().Add(s.patience)); len(reply) > 0 && judge(reply) == nil {
			return refusal("it doesn't speak TLS: turn off TLS, or name the port on which it does")
		}
	case settings != nil && !unsent(err):
		return s.listenForAlert(ctx, settings, err)
	}
	return err
}

// sayPing returns the first line that the server says when it is pinged, or what it says of a line.
func (s *Store) sayPing(ctx context.Context, settings *tls.Config, until time.Time) ([]byte, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	conn, err := s.connect(ctx, settings)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if _, err := conn.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return nil, err
	}
	return bufio.NewReaderSize(conn, 512).ReadSlice('\n')
}

// judge says whether a reply to a ping is that of Redis.
func judge(reply []byte) error {
	switch said := bytes.TrimSpace(reply); {
	case bytes.HasPrefix(said, []byte("-DENIED")):
		return refusal("it is in protected mode: set a password in Redis (requirepass), or bind it to an address of this machine")
	case bytes.HasPrefix(said, []byte("+")), bytes.HasPrefix(said, []byte("-")):
		return nil
	case reply[0] == 0x15: // an alert
		return refusal("it speaks TLS: turn on TLS")
	default:
		return refusal(fmt.Sprintf("it is not Redis, it answers a ping with %.60q: give the address of a Redis server", said))
	}
}

// lookForTLS finds out whether a server has hung up without a word because it wants TLS. Otherwise it returns err.
func (s *Store) lookForTLS(ctx context.Context, err error) error {
	// Nothing is sent over this connection, so it doesn't matter who is at the other end.
	conn, tlsErr := s.connect(ctx, &tls.Config{InsecureSkipVerify: true})
	if tlsErr == nil {
		conn.Close()
	}
	if tlsErr == nil || alerted(tlsErr) {
		return refusal("it speaks TLS: turn on TLS")
	}
	return err
}

// listenForAlert finds out what a server that has hung up finds wrong with our TLS. What it says is lost if it still has
// something to read when it hangs up; so this connection only listens.
func (s *Store) listenForAlert(ctx context.Context, settings *tls.Config, err error) error {
	conn, tlsErr := s.connect(ctx, settings)
	if tlsErr == nil {
		defer conn.Close()
		deadline, _ := ctx.Deadline()
		conn.SetDeadline(deadline)
		_, tlsErr = conn.Read(make([]byte, 1))
	}
	if alerted(tlsErr) {
		return tlsErr
	}
	return err
}

// rehearse does on the hash of Ping what commits do on others, so that missing rights show.
func (s *Store) rehearse(ctx context.Context, client *redis.Client) error {
	soon := time.Now().Add(time.Minute)
	for _, changes := range [][]store.Change{
		{{Key: "ping", If: store.Any, Expires: soon}},                       // sets the expiry of the hash
		{{Key: "stays", If: store.Any}},                                     // removes it
		{{Key: "stays", Op: store.Delete, If: store.Any}},                   // sets it again
		{{Key: "ping", If: store.Any, Expires: soon.Add(10 * time.Second)}}, // moves it
	} {
		args := []any{time.Now().UnixMilli(), slack.Milliseconds(), s.channel(), pingMessage, "0"}
		for _, ch := range changes {
			op, record := "p", ch.Record(newVersion()).Marshal()
			if ch.Op == store.Delete {
				op, record = "d", nil
			}
			args = append(args, op, ch.Key, expected(ch.If), record)
		}
		if _, err := s.run(ctx, client, s.hash(""), args); err != nil {
			return err
		}
	}
	if err := client.HMGet(ctx, s.hash(""), "ping").Err(); err != nil {
		return err
	}
	return client.HGetAll(ctx, s.hash("")).Err()
}

// rehearseListening subscribes once.
func (s *Store) rehearseListening(ctx context.Context, client *redis.Client) error {
	ctx = withOneDial(ctx)
	subscription := client.Subscribe(ctx)
	defer subscription.Close()
	if err := subscription.Subscribe(ctx, s.channel()); err != nil {
		return err
	}
	_, err := subscription.Receive(ctx)
	return err
}
