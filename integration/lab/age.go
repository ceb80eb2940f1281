package lab

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/store/bolt"
)

// Age stops the server, makes everything that a user has proven in his sessions so much older, and starts it again: no test can wait
// for hours. The store must be the one that Start takes by itself.
func (p *Proxy) Age(user string, by time.Duration) {
	p.t.Helper()
	p.Stop()
	if err := age(p.t, filepath.Join(p.Dir, "store.db"), session.Partition(mfa.UserID{Directory: "file", ID: user}), by); err != nil {
		p.t.Fatal(err)
	}
	p.Launch(false)
}

func age(t testing.TB, path, partition string, by time.Duration) error {
	s := bolt.New(path)
	defer s.Close()
	if err := s.Open(t.Context()); err != nil {
		return err
	}
	records, err := s.List(t.Context(), partition, "session/")
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return errors.New("nobody has a session in " + partition)
	}
	for _, r := range records {
		var ses mfa.Session
		if err := json.Unmarshal(r.Value, &ses); err != nil {
			return err
		}
		for i := range ses.Proofs {
			ses.Proofs[i].At = ses.Proofs[i].At.Add(-by)
		}
		value, err := json.Marshal(ses)
		if err != nil {
			return err
		}
		if _, err := s.Commit(t.Context(), store.Commit{Partition: partition, Changes: []store.Change{{Key: r.Key, If: r.Version, Value: value, Expires: r.Expires}}}); err != nil {
			return err
		}
	}
	return nil
}
