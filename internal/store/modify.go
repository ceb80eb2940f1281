package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// maxTries bounds how often Modify starts again. With a hundred writers of one record, each try succeeds for one of
// them: the hundredth needs about that many.
const maxTries = 200

// Modify reads records of a partition, lets change decide what to write, and commits that, again from the start
// whenever somebody else was faster. change may run several times, and must do nothing but decide. An empty list of
// changes commits nothing. An error of change ends it, and is returned as it is. notify is Commit.Notify.
func Modify(ctx context.Context, s Store, partition string, keys []string, notify bool, change func([]Record) ([]Change, error)) error {
	return Retry(ctx, func() error {
		records, err := s.Get(ctx, partition, keys...)
		if err != nil {
			return err
		}
		changes, err := change(records)
		if err != nil || len(changes) == 0 {
			return err
		}
		_, err = s.Commit(ctx, Commit{Partition: partition, Changes: changes, Notify: notify})
		return err
	})
}

// Retry runs try until it ends otherwise than with ErrConflict.
func Retry(ctx context.Context, try func() error) error {
	for n := range maxTries {
		err := try()
		if !errors.Is(err, ErrConflict) {
			return err
		}
		// The losers step aside for a moment, for longer the more often they have lost.
		pause := time.Duration(rand.Int64N(int64(min(n, 20)+1) * int64(100*time.Microsecond)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return fmt.Errorf("%w: a record changed %d times while it was being written", ErrUnavailable, maxTries)
}
