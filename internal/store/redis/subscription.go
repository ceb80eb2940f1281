package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

const (
	// heartbeat is how often the subscription is pinged. Redis answers in order: what it published before it saw the ping has
	// arrived when the answer has. So everything is known that happened before the last ping that was answered was sent.
	heartbeat = 400 * time.Millisecond

	// almostStale is when a gap is taken for one in which Fresh was false: a little before it is, since time passes between
	// looking and acting.
	almostStale = store.StaleAfter - 200*time.Millisecond

	// Pauses between attempts to subscribe.
	minBackoff     = 20 * time.Millisecond
	maxBackoff     = 250 * time.Millisecond
	refusedBackoff = time.Second // with a wrong password, say: somebody has to change something first
)

var errSilent = errors.New("the subscription is not answered")

// Fresh implements store.Store.
func (s *Store) Fresh() bool {
	answered := s.answered.Load()
	if answered == nil || s.closed.Load() {
		return false
	}
	// By both clocks: the monotonic one may have stood still with the whole machine, the other may have been set.
	now := time.Now()
	return now.Sub(*answered) < store.StaleAfter && now.Round(0).Sub(answered.Round(0)) < store.StaleAfter
}

// listen keeps a subscription to the changes until the store ends.
func (s *Store) listen(client *redis.Client) {
	backoff := minBackoff
	for s.ending.Err() == nil {
		begin := time.Now()
		err := s.subscribe(client)
		s.answered.Store(nil)
		if time.Since(begin) > time.Second {
			backoff = minBackoff // it worked for a while, or has taken its time to fail
		}
		if _, permanent := permanent(err); permanent {
			backoff = refusedBackoff
		}
		select {
		case <-s.ending.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// subscribe listens to the changes until the connection is lost.
func (s *Store) subscribe(client *redis.Client) error {
	ctx, cancel := context.WithCancel(withOneDial(s.ending))
	defer cancel()
	connecting, connected := context.WithTimeout(ctx, s.patience)
	defer connected()
	subscription := client.Subscribe(connecting)
	defer subscription.Close()
	// A read that waits doesn't look at its context.
	defer context.AfterFunc(ctx, func() { subscription.Close() })()
	if err := subscription.Subscribe(connecting, s.channel()); err != nil {
		return err
	}
	if message, err := subscription.ReceiveTimeout(connecting, s.patience); err != nil {
		return err
	} else if _, ok := message.(*redis.Subscription); !ok {
		return fmt.Errorf("subscribing was answered with %T", message)
	}
	connected()

	var pings pings
	var pinging sync.WaitGroup
	defer pinging.Wait()
	defer cancel()
	pinging.Go(func() {
		defer cancel()
		s.ping(ctx, subscription, &pings)
	})
	for {
		message, err := subscription.Receive(ctx)
		if err != nil {
			return err
		}
		switch message := message.(type) {
		case *redis.Message:
			if !strings.HasPrefix(message.Payload, pingMessage) {
				s.watchers.Notify(message.Payload)
			}
		case *redis.Pong:
			sent, ok := pings.answered(message.Payload)
			if !ok {
				return fmt.Errorf("a ping that was not sent was answered: %.20q", message.Payload)
			}
			s.heard(sent)
		}
	}
}

// heard notes that a ping which was sent at a certain time was answered.
func (s *Store) heard(sent time.Time) {
	// After a gap the watchers can't know what they have missed. They are told before anybody can see that the store is fresh.
	if before := s.answered.Load(); before == nil || time.Since(*before) >= almostStale {
		s.answered.Store(nil)
		s.watchers.Notify("")
	}
	s.answered.Store(&sent)
}

// ping sends pings until ctx ends or one isn't answered. A server that is frozen, or a network that has swallowed the
// connection, gives no error.
func (s *Store) ping(ctx context.Context, subscription *redis.PubSub, pings *pings) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		if pings.oldest() >= store.StaleAfter {
			return errSilent
		}
		if err := subscription.Ping(ctx, pings.sending()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
		}
	}
}

// pings are those that were sent and not yet answered, in that order.
type pings struct {
	mu   sync.Mutex
	next uint64 // number of the first one in sent
	sent []time.Time
}

// sending notes a ping that is about to be sent, and returns what to send.
func (p *pings) sending() (payload string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, time.Now())
	return strconv.FormatUint(p.next+uint64(len(p.sent))-1, 10)
}

// answered returns when the ping with that payload was sent, which must be the first one.
func (p *pings) answered(payload string) (sent time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sent) == 0 || payload != strconv.FormatUint(p.next, 10) {
		return time.Time{}, false
	}
	sent = p.sent[0]
	p.sent, p.next = p.sent[1:], p.next+1
	return sent, true
}

// oldest is how long the first of them has been waiting.
func (p *pings) oldest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sent) == 0 {
		return 0
	}
	return time.Since(p.sent[0])
}
