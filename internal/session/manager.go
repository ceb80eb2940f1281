// Package session issues, loads, renews and ends sessions.
//
// A user's sessions are one partition of the store: a record for each session, and an epoch that ends them all at once,
// read together in one round trip. The browser holds a random token, sealed together with the name of that partition,
// so that a cookie that we have not made costs no look-up. The store holds hashes of tokens.
package session

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// ErrEnded says that there is no such session, or not any more.
var ErrEnded = errors.New("session has ended")

const (
	// PendingLifetime is how long an unfinished sign-in lasts.
	PendingLifetime = 10 * time.Minute

	// tokenOverlap is for how long the token before an elevation is still good for what it was good for.
	tokenOverlap = 10 * time.Second

	// touchInterval is how exactly activity is kept in the store.
	touchInterval = time.Minute

	// MaxPerUser is how many sessions a user can have. The one that was used longest ago ends for a new one.
	MaxPerUser = 100

	maxUserAgent    = 256
	maxApplications = 64
)

// Settings are an operator's choices.
type Settings struct {
	Idle     time.Duration // a session ends after so long without activity
	Lifetime time.Duration // a session ends so long after it began
	Stay     time.Duration // for how long somebody may stay signed in who wants to, whatever the two above say; zero: nobody does
	Cache    time.Duration // what was read may be used for so long
}

// Manager keeps sessions. It is safe for concurrent use.
type Manager struct {
	store    store.Store
	view     *View
	codec    *Codec
	settings Settings
}

// View keeps sessions in memory for as long as they are true. It outlives configurations.
type View = store.View[*kept]

// viewSize is how many sessions are kept at most.
const viewSize = 100_000

// kept is one session as the store has it. The session is nil if there is none: ids are never used again, so that
// stays true.
type kept struct {
	session *mfa.Session
	version store.Version
	epoch   uint64 // of the user's sessions

	touching atomic.Bool
	touched  atomic.Int64 // Unix seconds of the last activity that was written from here

	beside atomic.Value // see Current.Beside
}

// NewView makes a view of the sessions in s.
func NewView(s store.Store) *View {
	return store.NewView(s, viewSize, func(ctx context.Context, partition, key string) (*kept, error) {
		return read(ctx, s, partition, key)
	})
}

// NewManager keeps sessions in s.
func NewManager(s store.Store, view *View, codec *Codec, settings Settings) *Manager {
	return &Manager{s, view, codec, settings}
}

const (
	epochKey      = "epoch"
	sessionPrefix = "session/"
)

// Partition is where the sessions of a user are.
func Partition(user mfa.UserID) string { return "session/" + user.String() }

func read(ctx context.Context, s store.Store, partition, id string) (*kept, error) {
	records, err := s.Get(ctx, partition, epochKey, sessionPrefix+id)
	if err != nil {
		return nil, fmt.Errorf("loading session: %w", err)
	}
	k := &kept{version: records[1].Version}
	if k.epoch, err = decodeEpoch(records[0]); err != nil {
		return nil, err
	}
	if records[1].Version == 0 {
		return k, nil
	}
	k.session = &mfa.Session{}
	if err := json.Unmarshal(records[1].Value, k.session); err != nil {
		return nil, fmt.Errorf("loading session: %w", err)
	}
	return k, nil
}

func decodeEpoch(r store.Record) (epoch uint64, err error) {
	if r.Version == 0 {
		return 0, nil
	}
	if err := json.Unmarshal(r.Value, &epoch); err != nil {
		return 0, fmt.Errorf("loading epoch of sessions: %w", err)
	}
	return epoch, nil
}

// Current is a session as the holder of one of its tokens may use it. The zero Current is nobody's.
type Current struct {
	Session *mfa.Session
	Proofs  mfa.Proofs // what was proven, as far as this token knows

	key  *Key
	kept *kept

	// Stays says that the session lives on only because its owner wants to stay signed in: others would have ended, by age or without
	// activity. Whether he still may is for policy to say.
	Stays bool
}

// Latest says whether the token is the session's newest. Only that one can be elevated.
func (c Current) Latest() bool { return c.Session.Token.Equal(c.key.hash) }

// Beside holds one value that somebody has computed for the session and wants to find again: nothing, whenever the session was
// read anew. It is for one caller's use, who stores one type.
func (c Current) Beside() *atomic.Value { return &c.kept.beside }

// BesideKey holds one value that somebody has looked up for the session's user and host and wants to find again, for as long as the
// cookie is remembered. It says nothing about how the session is now. It is for one caller's use, who stores one type.
func (c Current) BesideKey() *atomic.Value { return &c.key.beside }

// Load finds the session that a cookie's value opens, if it is valid at that moment on that host (lower case, without
// port). The error is ErrCookie, ErrEnded, or wraps store.ErrUnavailable.
func (m *Manager) Load(ctx context.Context, cookie, host string, now time.Time) (Current, error) {
	key, err := m.codec.Decode(cookie)
	if err != nil {
		return Current{}, err
	}
	return m.load(ctx, key, host, now)
}

// place is where the key's session is kept.
func (m *Manager) place(key *Key) *store.Place[*kept] {
	p := key.place.Load()
	if p == nil {
		p = m.view.Place(key.partition, key.ID)
		key.place.Store(p)
	}
	return p
}

func (m *Manager) load(ctx context.Context, key *Key, host string, now time.Time) (Current, error) {
	k, err := m.view.At(ctx, m.place(key), m.settings.Cache)
	if err != nil {
		return Current{}, err
	}
	if k.session != nil && k.session.Epoch == k.epoch && k.session.Stay == 0 && m.quiet(k, now) {
		// Another process may have seen activity that this one hasn't read.
		if k, err = read(ctx, m.store, key.partition, key.ID); err != nil {
			return Current{}, err
		}
	}
	s := k.session
	if s == nil || s.Epoch != k.epoch || s.User != key.User || s.Host != host {
		return Current{}, ErrEnded
	}
	ended, stays := m.ended(k, now)
	if ended {
		return Current{}, ErrEnded
	}
	proofs, known := s.KnownTo(key.hash, now)
	if !known {
		return Current{}, ErrEnded
	}
	return Current{s, proofs, key, k, stays}, nil
}

// Again says how the session of an earlier Load is now. The error is ErrEnded, or wraps store.ErrUnavailable. An open
// connection keeps what its token was good for when it was opened, as long as the session lives.
func (m *Manager) Again(ctx context.Context, c Current, now time.Time) (Current, error) {
	again, err := m.load(ctx, c.key, c.Session.Host, now)
	if !errors.Is(err, ErrEnded) {
		return again, err
	}
	// The token may have been replaced since. That doesn't end a connection that was opened with it.
	k, err := m.view.At(ctx, m.place(c.key), m.settings.Cache)
	if err != nil {
		return Current{}, err
	}
	s := k.session
	if s == nil || s.Epoch != k.epoch {
		return Current{}, ErrEnded
	}
	ended, stays := m.ended(k, now)
	if ended {
		return Current{}, ErrEnded
	}
	return Current{s, c.Proofs, c.key, k, stays}, nil
}

// ended says whether a session has come to its end by age or without activity, and, if it hasn't, whether only its owner's wish to
// stay signed in has kept it from that.
func (m *Manager) ended(k *kept, now time.Time) (ended, stays bool) {
	s := k.session
	switch age := now.Sub(s.Created); {
	case !now.Before(s.Expires):
		return true, false
	case s.Stay == 0 || s.Pending:
		return m.quiet(k, now), false
	case m.quiet(k, now) || age >= m.settings.Lifetime:
		return age >= m.stay(s), true
	}
	return false, false
}

// stay is for how long the owner of a session may stay signed in as he wants to.
func (m *Manager) stay(s *mfa.Session) time.Duration { return min(s.Stay, m.settings.Stay) }

// expires is when a session ends that is in use.
func (m *Manager) expires(s *mfa.Session) time.Time {
	return s.Created.Add(max(m.settings.Lifetime, m.stay(s)))
}

// quiet says whether there was no activity for as long as sessions last without.
func (m *Manager) quiet(k *kept, now time.Time) bool {
	seen := k.session.Seen
	if touched := time.Unix(k.touched.Load(), 0); touched.After(seen) {
		seen = touched
	}
	return now.Sub(seen) >= m.settings.Idle
}

// Touch notes that the session was active in an application. It writes at most once a minute, or when the session enters
// an application that it hasn't been in, and doesn't wait for that. A sign-in that was refused or had more to ask, and is let in after
// all, has come to its end: the session lives as long as others.
func (m *Manager) Touch(c Current, application string, now time.Time) {
	interval := min(touchInterval, m.settings.Idle/4)
	known := slices.Contains(c.Session.Applications, application) || len(c.Session.Applications) >= maxApplications
	last := max(c.Session.Seen.Unix(), c.kept.touched.Load())
	if known && !c.Session.Pending && now.Unix()-last < int64(interval/time.Second) || !c.kept.touching.CompareAndSwap(false, true) {
		return
	}
	m.noteActivity(c, application, known, now)
}

// noteActivity writes what Touch has found to be due. It is a function of its own for the goroutine's sake, which moves c to the heap.
func (m *Manager) noteActivity(c Current, application string, known bool, now time.Time) {
	go func() {
		defer c.kept.touching.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s := *c.Session
		s.Seen = now
		if s.Pending {
			s.Pending, s.Expires = false, m.expires(&s)
		}
		if !known {
			s.Applications = append(slices.Clone(s.Applications), application)
		}
		// Whoever wrote the record in the meantime has noted activity as well, or ended the session. A store that is
		// down refuses the next requests by itself.
		if _, err := m.commit(ctx, &s, c.kept.version, false); err == nil {
			c.kept.touched.Store(now.Unix())
		}
		m.view.Forget(Partition(s.User))
	}()
}

// commit writes one session over a version.
func (m *Manager) commit(ctx context.Context, s *mfa.Session, version store.Version, notify bool, more ...store.Change) (store.Version, error) {
	put, err := putSession(s, version)
	if err != nil {
		return 0, err
	}
	versions, err := m.store.Commit(ctx, store.Commit{Partition: Partition(s.User), Changes: append([]store.Change{put}, more...), Notify: notify})
	if err != nil {
		return 0, fmt.Errorf("saving session: %w", err)
	}
	return versions[0], nil
}

func putSession(s *mfa.Session, version store.Version) (store.Change, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return store.Change{}, fmt.Errorf("saving session: %w", err)
	}
	return store.Change{Key: sessionPrefix + s.ID, If: version, Value: value, Expires: s.Expires}, nil
}

// Beginning is what a new session starts with.
type Beginning struct {
	User            *mfa.User
	Host            string
	Proofs          mfa.Proofs
	Pending         bool // the sign-in has more to ask
	CredentialEpoch uint64
	Address         netip.Addr
	UserAgent       string
}

// Begin issues a session, and the cookie value that opens it.
func (m *Manager) Begin(ctx context.Context, b Beginning, now time.Time) (Current, string, error) {
	s := &mfa.Session{
		ID: newID(), User: b.User.ID, Name: b.User.Canonical, Host: b.Host,
		Proofs: b.Proofs, Created: now, Seen: now, Pending: b.Pending,
		CredentialEpoch: b.CredentialEpoch, Mark: b.User.Mark,
		Address: b.Address, UserAgent: truncate(b.UserAgent, maxUserAgent),
	}
	s.Expires = now.Add(m.settings.Lifetime)
	if b.Pending {
		s.Expires = now.Add(PendingLifetime)
	}
	token := newToken()
	s.Token = mfa.HashToken(token)

	partition := Partition(s.User)
	var version store.Version
	err := store.Retry(ctx, func() error {
		records, err := m.store.List(ctx, partition, "")
		if err != nil {
			return fmt.Errorf("loading sessions: %w", err)
		}
		p, err := decodePartition(records)
		if err != nil {
			return err
		}
		s.Epoch = p.epoch
		put, err := putSession(s, 0)
		if err != nil {
			return err
		}
		changes := []store.Change{put, p.expectEpoch()}
		// Make room: sign-ins that never came to their end go first, since whoever knows the password can
		// begin as many as he likes; then what was used longest ago.
		if excess := len(p.sessions) + 1 - MaxPerUser; excess > 0 {
			slices.SortFunc(p.sessions, func(x, y stored) int {
				if x.session.Pending != y.session.Pending {
					if x.session.Pending {
						return -1
					}
					return 1
				}
				return x.session.Seen.Compare(y.session.Seen)
			})
			for _, old := range p.sessions[:excess] {
				changes = append(changes, old.remove())
			}
		}
		versions, err := m.store.Commit(ctx, store.Commit{Partition: partition, Changes: changes, Notify: len(changes) > 2})
		if err != nil {
			return fmt.Errorf("saving session: %w", err)
		}
		version = versions[0]
		return nil
	})
	if err != nil {
		return Current{}, "", err
	}
	key := newKey(s.User, s.ID, token)
	cookie, err := m.codec.Encode(key)
	if err != nil {
		return Current{}, "", fmt.Errorf("sealing session cookie: %w", err)
	}
	return Current{Session: s, Proofs: s.Proofs, key: key, kept: &kept{session: s, version: version, epoch: s.Epoch}}, cookie, nil
}

// Elevate changes a session, gives it a new token, and returns the cookie value with that. change gets a copy of the
// newest state and may run several times; its error ends the call. The token before stays good for a moment, for
// what it was good for. The error is ErrEnded if c doesn't hold the newest token, or the session is gone.
func (m *Manager) Elevate(ctx context.Context, c Current, now time.Time, change func(*mfa.Session) error) (Current, string, error) {
	token := newToken()
	elevated, err := m.change(ctx, c, now, func(s *mfa.Session) error {
		if !s.Token.Equal(c.key.hash) {
			return ErrEnded
		}
		s.Previous, s.PreviousUntil, s.PreviousKnows = s.Token, now.Add(tokenOverlap), s.Proofs
		s.Token = mfa.HashToken(token)
		if err := change(s); err != nil {
			return err
		}
		if s.Pending {
			return nil
		}
		s.Expires = m.expires(s)
		return nil
	})
	if err != nil {
		return Current{}, "", err
	}
	elevated.key = newKey(c.key.User, c.key.ID, token)
	elevated.Proofs = elevated.Session.Proofs
	cookie, err := m.codec.Encode(elevated.key)
	if err != nil {
		return Current{}, "", fmt.Errorf("sealing session cookie: %w", err)
	}
	return elevated, cookie, nil
}

// Update changes a session, as Elevate does, and leaves its token: what can be reached with it is the same as before, or less.
func (m *Manager) Update(ctx context.Context, c Current, now time.Time, change func(*mfa.Session) error) (Current, error) {
	updated, err := m.change(ctx, c, now, change)
	if err != nil {
		return Current{}, err
	}
	updated.Proofs = updated.Session.Proofs
	return updated, nil
}

// change changes a session in the store.
func (m *Manager) change(ctx context.Context, c Current, now time.Time, change func(*mfa.Session) error) (Current, error) {
	var changed Current
	err := store.Retry(ctx, func() error {
		k, err := read(ctx, m.store, c.key.partition, c.key.ID)
		if err != nil {
			return err
		}
		if k.session == nil || k.session.Epoch != k.epoch {
			return ErrEnded
		}
		ended, stays := m.ended(k, now)
		if ended {
			return ErrEnded
		}
		if err := change(k.session); err != nil {
			return err
		}
		if k.version, err = m.commit(ctx, k.session, k.version, true); err != nil {
			return err
		}
		changed = Current{k.session, c.Proofs, c.key, k, stays}
		return nil
	})
	return changed, err
}

// Postpone notes that the user registers a second factor later.
func (m *Manager) Postpone(ctx context.Context, c Current, now time.Time) error {
	_, err := m.change(ctx, c, now, func(s *mfa.Session) error {
		s.Postponed = now
		return nil
	})
	return err
}

// End ends one session of a user. That it is gone already is no error.
func (m *Manager) End(ctx context.Context, user mfa.UserID, id string) error {
	if !validID(id) {
		return nil
	}
	_, err := m.store.Commit(ctx, store.Commit{
		Partition: Partition(user), Notify: true,
		Changes: []store.Change{{Key: sessionPrefix + id, Op: store.Delete, If: store.Any}},
	})
	if err != nil {
		return fmt.Errorf("ending session: %w", err)
	}
	return nil
}

// EndAll ends every session of a user at once, also those that are being issued at this moment.
func (m *Manager) EndAll(ctx context.Context, user mfa.UserID) error {
	partition := Partition(user)
	return store.Retry(ctx, func() error {
		records, err := m.store.List(ctx, partition, "")
		if err != nil {
			return fmt.Errorf("loading sessions: %w", err)
		}
		p, err := decodePartition(records)
		if err != nil {
			return err
		}
		next, err := json.Marshal(p.epoch + 1)
		if err != nil {
			return err
		}
		changes := []store.Change{{Key: epochKey, If: p.epochVersion, Value: next}}
		for _, s := range p.sessions {
			changes = append(changes, s.remove())
		}
		if _, err := m.store.Commit(ctx, store.Commit{Partition: partition, Changes: changes, Notify: true}); err != nil {
			return fmt.Errorf("ending sessions: %w", err)
		}
		return nil
	})
}

// List gives a user's sessions that have not ended, the most recently used first.
func (m *Manager) List(ctx context.Context, user mfa.UserID, now time.Time) ([]*mfa.Session, error) {
	records, err := m.store.List(ctx, Partition(user), "")
	if err != nil {
		return nil, fmt.Errorf("loading sessions: %w", err)
	}
	p, err := decodePartition(records)
	if err != nil {
		return nil, err
	}
	var sessions []*mfa.Session
	for _, s := range p.sessions {
		if s.session.Epoch != p.epoch {
			continue
		}
		if ended, _ := m.ended(&kept{session: s.session}, now); !ended {
			sessions = append(sessions, s.session)
		}
	}
	slices.SortFunc(sessions, func(x, y *mfa.Session) int { return y.Seen.Compare(x.Seen) })
	return sessions, nil
}

// partitionState is a user's partition, read whole.
type partitionState struct {
	epoch        uint64
	epochVersion store.Version
	sessions     []stored
}

type stored struct {
	session *mfa.Session
	version store.Version
}

func (s stored) remove() store.Change {
	return store.Change{Key: sessionPrefix + s.session.ID, Op: store.Delete, If: store.Any}
}

func (p partitionState) expectEpoch() store.Change {
	return store.Change{Key: epochKey, Op: store.Expect, If: p.epochVersion}
}

func decodePartition(records []store.Record) (p partitionState, err error) {
	for _, r := range records {
		switch {
		case r.Key == epochKey:
			p.epochVersion = r.Version
			if p.epoch, err = decodeEpoch(r); err != nil {
				return partitionState{}, err
			}
		case strings.HasPrefix(r.Key, sessionPrefix):
			s := &mfa.Session{}
			if err := json.Unmarshal(r.Value, s); err != nil {
				return partitionState{}, fmt.Errorf("loading sessions: %w", err)
			}
			p.sessions = append(p.sessions, stored{s, r.Version})
		}
	}
	return p, nil
}

func newToken() (token [mfa.TokenSize]byte) {
	rand.Read(token[:]) // never fails, see crypto/rand
	return token
}

func newID() string {
	var id [idSize]byte
	rand.Read(id[:]) // never fails, see crypto/rand
	return hex.EncodeToString(id[:])
}

func validID(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == idSize
}

func truncate(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
