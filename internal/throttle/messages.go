package throttle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// ErrStopped says that an operator has stopped all messages.
var ErrStopped = errors.New("no messages are sent")

// MessageLimits are how many messages are sent in a day, which begins with the first of them. Zero: none.
type MessageLimits struct {
	User   int // to one person
	Number int // to one number or mail address, whoever asks
	Prefix int // to numbers that begin alike, see mfa.PhonePrefix
	Total  int
}

// Messages bounds how many codes are sent, for all processes that share the store: each may cost money, and each bothers somebody.
//
// What is charged stays charged, whatever becomes of the message.
type Messages struct {
	store  store.Store
	limits MessageLimits
}

// NewMessages counts in s.
func NewMessages(s store.Store, limits MessageLimits) *Messages { return &Messages{s, limits} }

// pauses are how long somebody waits until he may ask for another message, the longer the more he has asked for.
var pauses = []time.Duration{30 * time.Second, 60 * time.Second, 120 * time.Second}

// pace is how often somebody has asked in a row.
type pace struct {
	Asked int       `json:"asked"`
	Until time.Time `json:"until,omitzero"`
}

const (
	day         = 24 * time.Hour
	forgetPace  = time.Hour // until nothing was asked for so long
	stoppedKey  = "stopped"
	spentKey    = "spent"
	pacePrefix  = "pace/"
	totalInADay = "throttle/messages/total"

	// Mails about changes are counted apart: they can't use up the codes, and codes can't keep them from coming.
	noticesPrefix = "throttle/notices/"
)

type quota struct {
	partition string
	scope     string // for the log
	size      int
}

// spent is what of a quota is used up.
type spent struct {
	Messages int       `json:"messages"`
	Since    time.Time `json:"since"`
}

func (s spent) charge(q quota, now time.Time) (spent, error) {
	if s.Messages == 0 || now.Sub(s.Since) >= day {
		s = spent{Since: now}
	}
	if s.Messages >= q.size {
		return s, &WaitError{Until: s.Since.Add(day), Scope: q.scope}
	}
	s.Messages++
	return s, nil
}

// Charge counts one message by this method, before it is sent, and says when the next one may be asked for. Of many who ask at once
// for the same person, one gets through. lane is the browser that is known to be the person's, in which he asks; empty: any other. Strangers who
// know his password can't take it from him: he waits for himself alone in it, and something of what may be sent is kept for it. The error is a *WaitError, ErrStopped, or wraps store.ErrUnavailable: then nothing may be
// sent.
func (m *Messages) Charge(ctx context.Context, user mfa.UserID, method mfa.Method, to, lane string, now time.Time) (again time.Time, err error) {
	if stopped, err := m.Stopped(ctx); err != nil || stopped {
		return time.Time{}, cmp.Or(err, ErrStopped)
	}
	key := paceKey(method, lane)
	personal := quota{userMessages(user), "messages to the user", open(m.limits.User, lane)}
	// The person's own first: who may not ask yet takes nothing from others.
	err = store.Modify(ctx, m.store, personal.partition, []string{key, spentKey}, false, func(records []store.Record) ([]store.Change, error) {
		var p pace
		var s spent
		if err := errors.Join(decode(records[0], &p), decode(records[1], &s)); err != nil {
			return nil, err
		}
		if now.Before(p.Until) {
			return nil, &WaitError{Until: p.Until, Scope: ScopePace}
		}
		p = pace{p.Asked + 1, now.Add(pauses[min(p.Asked, len(pauses)-1)])}
		s, err := s.charge(personal, now)
		if err != nil {
			return nil, err
		}
		again = p.Until
		return []store.Change{encode(records[0], p, now.Add(forgetPace)), encode(records[1], s, s.Since.Add(day))}, nil
	})
	if err != nil {
		return time.Time{}, err
	}
	for _, shared := range m.shared(to, lane) {
		if _, err := m.spend(ctx, shared, now); err != nil {
			// What was charged before stays charged: who runs into a limit again and again is no reason to look the other way.
			return time.Time{}, err
		}
	}
	return again, nil
}

// ChargeNotice counts one mail that tells a person of a change, before it is sent, and says how many more may be sent to him in the day that
// is running. The limits are those of messages, and the mails are counted apart from them. Errors are those of Charge.
func (m *Messages) ChargeNotice(ctx context.Context, user mfa.UserID, to string, now time.Time) (left int, err error) {
	if stopped, err := m.Stopped(ctx); err != nil || stopped {
		return 0, cmp.Or(err, ErrStopped)
	}
	for i, q := range []quota{
		{noticesPrefix + "user/" + hashed(user.String()), "messages to the user", m.limits.User},
		{noticesPrefix + "to/" + hashed(to), "messages to the number", m.limits.Number},
		{noticesPrefix + "total", "messages in total", m.limits.Total},
	} {
		sent, err := m.spend(ctx, q, now)
		if err != nil {
			return 0, err
		}
		if i == 0 {
			left = q.size - sent
		}
	}
	return left, nil
}

// spend charges a quota, and says how much of it is used up.
func (m *Messages) spend(ctx context.Context, q quota, now time.Time) (sent int, err error) {
	err = store.Modify(ctx, m.store, q.partition, []string{spentKey}, false, func(records []store.Record) ([]store.Change, error) {
		var s spent
		if err := decode(records[0], &s); err != nil {
			return nil, err
		}
		s, err := s.charge(q, now)
		if err != nil {
			return nil, err
		}
		sent = s.Messages
		return []store.Change{encode(records[0], s, s.Since.Add(day))}, nil
	})
	return sent, err
}

// ScopePace is the scope of a WaitError for who has just been sent a code.
const ScopePace = "pace"

// open is how much of a quota is there for a lane: a fifth of it is kept for browsers that are known to be the person's.
func open(size int, lane string) int {
	if lane == "" {
		return size - size/5
	}
	return size
}

func paceKey(method mfa.Method, lane string) string {
	if lane == "" {
		return pacePrefix + string(method)
	}
	return pacePrefix + string(method) + "/" + lane
}

func userMessages(user mfa.UserID) string { return "throttle/messages/user/" + hashed(user.String()) }

// shared are the quotas of a number or an address, the narrowest first.
func (m *Messages) shared(to, lane string) []quota {
	quotas := []quota{{"throttle/messages/to/" + hashed(to), "messages to the number", open(m.limits.Number, lane)}}
	if mfa.CallingCode(to) != "" { // a mail address has no prefix, and a mail no price
		quotas = append(quotas, quota{"throttle/messages/prefix/" + mfa.PhonePrefix(to), "messages to the prefix", m.limits.Prefix})
	}
	return append(quotas, quota{totalInADay, "messages in total", m.limits.Total})
}

// Arrived takes the pace of a lane back: the person has typed a code that was right. The quotas keep what was spent.
func (m *Messages) Arrived(ctx context.Context, user mfa.UserID, method mfa.Method, lane string) error {
	_, err := m.store.Commit(ctx, store.Commit{Partition: userMessages(user), Changes: []store.Change{
		{Key: paceKey(method, lane), Op: store.Delete, If: store.Any},
	}})
	return err
}

// Stop has no message be sent any more, by any process, until it is taken back.
func (m *Messages) Stop(ctx context.Context, stop bool) error {
	c := store.Change{Key: stoppedKey, Op: store.Delete, If: store.Any}
	if stop {
		c = store.Change{Key: stoppedKey, If: store.Any, Value: []byte("true")}
	}
	_, err := m.store.Commit(ctx, store.Commit{Partition: totalInADay, Changes: []store.Change{c}})
	return err
}

// Stopped says whether Stop is in force.
func (m *Messages) Stopped(ctx context.Context) (bool, error) {
	records, err := m.store.Get(ctx, totalInADay, stoppedKey)
	if err != nil {
		return true, err
	}
	return records[0].Version != 0, nil
}

// Forget forgets what was counted for a person, whoever it was who asked. What was counted for numbers and in total stays.
func (m *Messages) Forget(ctx context.Context, user mfa.UserID) error {
	return errors.Join(forgetAll(ctx, m.store, userMessages(user)), forgetAll(ctx, m.store, noticesPrefix+"user/"+hashed(user.String())))
}

// MessageUse is how many messages were sent of those that may be.
type MessageUse struct {
	Stopped bool      `json:"stopped"`
	Sent    int       `json:"sent"` // in the day that is running
	Total   int       `json:"total"`
	Since   time.Time `json:"since,omitzero"` // the beginning of that day; zero: none is running
}

// Use says how many were sent.
func (m *Messages) Use(ctx context.Context, now time.Time) (MessageUse, error) {
	records, err := m.store.Get(ctx, totalInADay, stoppedKey, spentKey)
	if err != nil {
		return MessageUse{}, err
	}
	var s spent
	if err := decode(records[1], &s); err != nil {
		return MessageUse{}, err
	}
	use := MessageUse{Stopped: records[0].Version != 0, Total: m.limits.Total}
	if s.Messages > 0 && now.Sub(s.Since) < day {
		use.Sent, use.Since = s.Messages, s.Since
	}
	return use, nil
}

// hashed keeps a number out of the names of keys.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
