package signinlog

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// indexPartition is the partition of the index. Chunks are below it.
const indexPartition = "signins"

// Chunks hold so many sign-ins; it is what has to be read to find one of them.
const (
	minChunk = 16
	maxChunk = 256
)

func (l *Log) chunkSize() int { return min(max(l.settings.Max/64, minChunk), maxChunk) }

// chunkAge is for how long a chunk is written to, so that not much is kept for longer than it should be when Keep is made shorter.
func (l *Log) chunkAge() time.Duration { return l.settings.Keep / 32 }

// share is how many sign-ins of a class are kept while others want the room.
func (l *Log) share(c class) int {
	switch c {
	case known:
		return l.settings.Max / 4
	case stranger:
		return l.settings.Max / 8
	}
	return l.settings.Max - l.settings.Max/4 - l.settings.Max/8
}

// chunk is what the index says of a chunk.
type chunk struct {
	Count int    `json:"n"`
	From  int64  `json:"from"` // Unix nanoseconds of the oldest sign-in
	To    int64  `json:"to"`   // and of the newest
	Users []byte `json:"users,omitempty"`

	key     string // in the index: class/id
	version store.Version
}

// partition is where the sign-ins are.
func partition(key string) string { return indexPartition + "/" + key }

// newID makes an id that sorts by time and that no other process makes.
func newID(now time.Time) string { return fmt.Sprintf("%012x-%s", now.UnixMilli(), rand.Text()[:10]) }

// parseChunk reads a record of the index.
func parseChunk(r store.Record) (*chunk, error) {
	c := &chunk{key: r.Key, version: r.Version}
	if err := json.Unmarshal(r.Value, c); err != nil {
		return nil, fmt.Errorf("reading index of sign-ins, %s: %w", r.Key, err)
	}
	if len(c.Users)%userLen != 0 || c.Count < 0 || c.From > c.To {
		return nil, fmt.Errorf("reading index of sign-ins, %s: it makes no sense", r.Key)
	}
	return c, nil
}

// userLen is the length of what the index remembers of a user. Two users who look the same cost a chunk that is read in vain.
const userLen = 4

func userMark(name string) [userLen]byte {
	h := fnv.New32a()
	h.Write([]byte(name))
	return [userLen]byte(binary.BigEndian.AppendUint32(nil, h.Sum32()))
}

// mayHold says whether sign-ins of a user may be in the chunk.
func (c *chunk) mayHold(user string) bool {
	mark := userMark(user)
	for u := range slices.Chunk(c.Users, userLen) {
		if [userLen]byte(u) == mark {
			return true
		}
	}
	return false
}

// count adds sign-ins.
func (c *chunk) count(signIns []audit.SignIn) {
	for i := range signIns {
		at := signIns[i].Created.UnixNano()
		if c.Count == 0 {
			c.From, c.To = at, at
		}
		c.Count, c.From, c.To = c.Count+1, min(c.From, at), max(c.To, at)
		if user := signIns[i].UserPrincipalName; user != "" && !c.mayHold(user) {
			mark := userMark(user)
			c.Users = append(c.Users, mark[:]...)
		}
	}
}

// batch is what is written together. It may take several records, where chunks become full.
type batch struct {
	class   class
	signIns []audit.SignIn
	place   *place // that was counted in the index, and not written yet
}

// place is a record in a chunk that n sign-ins go to.
type place struct {
	chunk, key string
	n          int
}

// append writes a batch. After an error it may be called again: what was written is not written again.
func (l *Log) append(ctx context.Context, b *batch) error {
	for len(b.signIns) > 0 {
		if b.place == nil {
			p, err := l.reserve(ctx, b)
			if err != nil {
				return fmt.Errorf("counting sign-ins: %w", err)
			}
			b.place = p
		}
		p := b.place
		now := b.signIns[:p.n]
		_, err := l.store.Commit(ctx, store.Commit{Partition: partition(p.chunk), Changes: []store.Change{
			{Key: p.key, If: store.Any, Value: l.encoder.encode(now), Expires: newest(now).Add(l.settings.Keep)},
		}})
		if err != nil {
			return fmt.Errorf("writing sign-ins: %w", err)
		}
		b.signIns, b.place = b.signIns[p.n:], nil
	}
	return nil
}

func newest(signIns []audit.SignIn) time.Time {
	return slices.MaxFunc(signIns, func(a, b audit.SignIn) int { return a.Created.Compare(b.Created) }).Created
}

// reserve counts as much of a batch as has room in the newest chunk, and opens another chunk if none has.
func (l *Log) reserve(ctx context.Context, b *batch) (*place, error) {
	p := &place{key: newID(time.Now())}
	err := store.Retry(ctx, func() error {
		c, err := l.open(ctx, b.class)
		if err != nil {
			return err
		}
		fresh := c.version == 0
		p.chunk, p.n = c.key, min(len(b.signIns), l.chunkSize()-c.Count)
		c.count(b.signIns[:p.n])
		_, err = l.store.Commit(ctx, store.Commit{Partition: indexPartition, Changes: []store.Change{
			{Key: c.key, If: c.version, Value: marshal(c), Expires: time.Unix(0, c.To).Add(l.settings.Keep)},
		}})
		if err != nil {
			return err
		}
		l.current[b.class] = c.key
		if fresh {
			l.trim(ctx)
		}
		return nil
	})
	return p, err
}

// open finds a chunk that has room: the one that was written to before, the newest, or a new one.
func (l *Log) open(ctx context.Context, of class) (*chunk, error) {
	now := time.Now()
	if key := l.current[of]; key != "" {
		records, err := l.store.Get(ctx, indexPartition, key)
		if err != nil {
			return nil, err
		}
		if records[0].Version != 0 {
			if c, err := parseChunk(records[0]); err == nil && l.hasRoom(c, now) {
				return c, nil
			}
		}
	}
	chunks, err := l.index(ctx, of.String()+"/")
	if err != nil {
		return nil, err
	}
	if n := len(chunks); n > 0 && l.hasRoom(chunks[n-1], now) {
		return chunks[n-1], nil
	}
	return &chunk{key: of.String() + "/" + newID(now)}, nil
}

func (l *Log) hasRoom(c *chunk, now time.Time) bool {
	return c.Count < l.chunkSize() && now.Sub(time.Unix(0, c.From)) < l.chunkAge()
}

// index reads the index, in the order in which the chunks of a class were opened. What can't be read is left out: it expires.
func (l *Log) index(ctx context.Context, prefix string) ([]*chunk, error) {
	records, err := l.store.List(ctx, indexPartition, prefix)
	if err != nil {
		return nil, err
	}
	chunks := make([]*chunk, 0, len(records))
	for _, r := range records {
		c, err := parseChunk(r)
		if err != nil {
			l.settings.Log.Warn("a part of the sign-in log can't be read", "error", err)
			continue
		}
		chunks = append(chunks, c)
	}
	return chunks, nil
}

// maxRemoved bounds how long sign-ins wait for what is removed.
const maxRemoved = 32

// trim removes chunks whose time is over, and the oldest ones where there are too many. What fails is tried again later.
func (l *Log) trim(ctx context.Context) {
	chunks, err := l.index(ctx, "")
	if err != nil {
		l.settings.Log.Debug("trimming sign-in log", "error", err)
		return
	}
	doomed := l.tooMuch(chunks, time.Now())
	for _, c := range doomed[:min(len(doomed), maxRemoved)] {
		if err := l.remove(ctx, c); err != nil {
			l.settings.Log.Debug("trimming sign-in log", "error", err)
			return
		}
	}
	if len(doomed) <= maxRemoved {
		l.trimmed = time.Now()
	}
}

// tooMuch gives the chunks that have to go.
func (l *Log) tooMuch(chunks []*chunk, now time.Time) (doomed []*chunk) {
	var rows [classes][]*chunk
	var counts [classes]int
	total := 0
	for _, c := range chunks {
		if now.Sub(time.Unix(0, c.To)) > l.settings.Keep {
			doomed = append(doomed, c)
			continue
		}
		for of := range classes {
			if strings.HasPrefix(c.key, of.String()+"/") {
				rows[of] = append(rows[of], c)
				counts[of] += c.Count
				total += c.Count
			}
		}
	}
	for of, row := range rows {
		slices.SortStableFunc(row, func(a, b *chunk) int { return cmp.Compare(a.To, b.To) })
		if n := len(row); n > 0 {
			// The newest is written to: it counts as if it were full.
			more := max(0, l.chunkSize()-row[n-1].Count)
			counts[of] += more
			total += more
		}
	}
	for total > l.settings.Max {
		most := proven
		for of := range classes {
			if counts[of]-l.share(of) > counts[most]-l.share(most) {
				most = of
			}
		}
		if len(rows[most]) < 2 {
			break
		}
		oldest := rows[most][0]
		doomed, rows[most] = append(doomed, oldest), rows[most][1:]
		counts[most] -= oldest.Count
		total -= oldest.Count
	}
	return doomed
}

// remove removes a chunk, unless it has changed since it was looked at.
func (l *Log) remove(ctx context.Context, c *chunk) error {
	_, err := l.store.Commit(ctx, store.Commit{Partition: indexPartition, Changes: []store.Change{{Key: c.key, Op: store.Delete, If: c.version}}})
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	// If this fails, or somebody puts a last batch there, nobody finds it any more, and it expires.
	records, err := l.store.List(ctx, partition(c.key), "")
	if err != nil || len(records) == 0 {
		return err
	}
	changes := make([]store.Change, len(records))
	for i, r := range records {
		changes[i] = store.Change{Key: r.Key, Op: store.Delete, If: store.Any}
	}
	_, err = l.store.Commit(ctx, store.Commit{Partition: partition(c.key), Changes: changes})
	return err
}
