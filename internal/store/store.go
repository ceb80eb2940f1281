// Package store is the contract between caddy-mfa and the places where it keeps state, and the
// in-memory implementation of it. The other implementations live below this package, one directory
// each; storetest holds the suite that every one of them passes.
//
// State is records in partitions. A partition is the unit of atomicity and of locality: one user's
// account, one user's sessions, one throttle counter with its companions. It is one hash slot of a Redis
// Cluster and one key range of an embedded file. Nothing is atomic over two partitions.
//
// There is one rule for concurrent writers: every write names the version that it replaces, and loses
// if the record has changed since. Lockout counters, the last accepted time step of an authenticator app,
// single-use codes and signature counters all rest on it, on one machine and on many.
package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

var (
	// ErrUnavailable says that the store could not answer: it is closed, not reachable, too slow, full
	// or read-only. The state of the records is unknown; a commit that ends this way may or may not have
	// happened. Callers refuse the request (503), and never conclude that a record does not exist.
	ErrUnavailable = errors.New("store is unavailable")

	// ErrConflict says that a record was not at the version that a commit named. Nothing was written.
	// Callers read again and decide again.
	ErrConflict = errors.New("record has changed since it was read")

	// ErrInvalid says that a partition, a key or a value is outside of the contract's limits, or that a
	// commit names one key twice. It is a mistake in the calling code.
	ErrInvalid = errors.New("not a valid store operation")
)

// Version names one write of one record. Versions carry no order. A version is never used again for the
// same key, also after the record was deleted or has expired. The zero Version means "no record".
type Version uint64

// Any, as the version that a change expects, matches whatever is there, also nothing.
const Any = Version(1<<64 - 1)

// Limits of the contract. A backend accepts everything within them and answers ErrInvalid beyond them.
const (
	MaxName  = 512     // bytes in the name of a partition, and in a key
	MaxValue = 1 << 20 // bytes in a value
)

// Record is one value in a partition.
type Record struct {
	Key     string
	Value   []byte    // never nil for a record that exists; the caller may keep it, and must not change it
	Version Version   // zero: there is no such record
	Expires time.Time // zero: never. Kept to the millisecond
}

// Op says what a Change does.
type Op uint8

const (
	// Put writes Value and Expires.
	Put Op = iota
	// Delete removes the record. Deleting a record that is not there is no error.
	Delete
	// Expect writes nothing, and makes the commit fail if the record is not at version If.
	Expect
)

// Change is one line of a commit.
type Change struct {
	Key     string
	Op      Op
	If      Version   // the version that must be there: zero for "no record", Any for "whatever"
	Value   []byte    // with Put; nil is stored as an empty value
	Expires time.Time // with Put; zero: never
}

// Commit is a set of changes to one partition that happen together or not at all.
type Commit struct {
	Partition string
	Changes   []Change // at least one, each key at most once

	// Notify tells the watchers of every process that the partition has changed. A commit that other
	// processes may keep in their caches must set it; counters need not.
	Notify bool
}

// Store keeps records. Its methods are safe for concurrent use. It is linearizable per partition: what a
// commit wrote is seen by every Get and List that begins after the commit has returned, in every process.
//
// A record is gone from the moment its Expires is reached by the clock of the process that reads it: Get and
// List don't return it, and a change that expects "no record" succeeds. Backends remove expired records
// by themselves.
//
// Every error wraps one of the sentinel errors of this package, or is ctx's own. A context without a deadline gets
// one from the backend: no call takes longer than a second.
type Store interface {
	// Get reads the records with the given keys, in that order and from one moment. A key without
	// a record gives a Record with that key and a zero Version. A key may be asked for twice.
	Get(ctx context.Context, partition string, keys ...string) ([]Record, error)

	// List reads all records of the partition whose keys begin with prefix (all, if it is empty), sorted by key
	// as bytes, from one moment. It costs what is in the partition, not what is in the store.
	List(ctx context.Context, partition, prefix string) ([]Record, error)

	// Commit applies c. It returns the new versions in the order of c.Changes; the version of a change that
	// is no Put is zero. After ErrConflict and ErrInvalid nothing was written; after any other error, ctx's
	// own included, the commit may or may not have happened. The values are copied: the caller may use the
	// slices again.
	Commit(ctx context.Context, c Commit) ([]Version, error)

	// Watch calls changed for every commit with Notify, made by whichever process, until stop is called.
	// Within the process that commits, changed has been called when Commit returns; elsewhere it is called
	// soon after, as long as Fresh is true. changed is called concurrently, must not block and must not
	// call the store. An empty partition means that notifications may have been missed: everything may
	// have changed. A partition may be told more often than it has changed. A call that has begun when stop
	// is called may end after stop has returned; none begins later.
	Watch(changed func(partition string)) (stop func())

	// Fresh says whether watchers are up to date: every commit with Notify that any process made more
	// than StaleAfter ago has been told to this process's watchers. What was read from the store may be
	// kept and used only while Fresh is true. It is cheap enough to ask at every request, and false once the store is closed.
	Fresh() bool

	// Ping asks the store whether it can read and write, for health checks.
	Ping(ctx context.Context) error
}

// StaleAfter bounds for how long a process can act on state that another process has replaced.
const StaleAfter = 1500 * time.Millisecond

// Opener is implemented by stores that open something. Open is called before first use, may be called again,
// and reports what keeps the store from ever working (a corrupt file, a wrong password) with what to do about it.
// A server that merely can't be reached at the moment is no error: operations answer ErrUnavailable until it can.
type Opener interface {
	Open(ctx context.Context) error
}

// Adviser is implemented by stores whose configuration can lose data. Each advice is one sentence for the
// operator: what can be lost, and what to change.
type Adviser interface {
	Advise(ctx context.Context) ([]string, error)
}

// Check reports whether c is within the contract. Backends call it first.
func (c Commit) Check() error {
	if err := CheckName("partition", c.Partition); err != nil {
		return err
	}
	if len(c.Changes) == 0 {
		return fmt.Errorf("%w: a commit without changes", ErrInvalid)
	}
	for _, ch := range c.Changes {
		if err := CheckName("key", ch.Key); err != nil {
			return err
		}
		switch ch.Op {
		case Put:
			if len(ch.Value) > MaxValue {
				return fmt.Errorf("%w: value of %d bytes, at most %d are allowed", ErrInvalid, len(ch.Value), MaxValue)
			}
		case Delete, Expect:
			if ch.Value != nil || !ch.Expires.IsZero() {
				return fmt.Errorf("%w: only a Put has a value and an expiry", ErrInvalid)
			}
		default:
			return fmt.Errorf("%w: unknown operation %d", ErrInvalid, ch.Op)
		}
	}
	return c.checkTwice()
}

// checkTwice compares every key with every other where there are few, as there are as a rule.
func (c Commit) checkTwice() error {
	var seen map[string]bool
	if len(c.Changes) > 16 {
		seen = make(map[string]bool, len(c.Changes))
	}
	for i, ch := range c.Changes {
		twice := seen[ch.Key]
		if seen != nil {
			seen[ch.Key] = true
		} else {
			twice = slices.ContainsFunc(c.Changes[:i], func(other Change) bool { return other.Key == ch.Key })
		}
		if twice {
			return fmt.Errorf("%w: key %q twice in one commit", ErrInvalid, ch.Key)
		}
	}
	return nil
}

// CheckGet reports whether a Get with these arguments is within the contract. Backends call it first.
func CheckGet(partition string, keys []string) error {
	if err := CheckName("partition", partition); err != nil {
		return err
	}
	for _, key := range keys {
		if err := CheckName("key", key); err != nil {
			return err
		}
	}
	return nil
}

// CheckList reports whether a List with these arguments is within the contract. Backends call it first.
func CheckList(partition, prefix string) error {
	if err := CheckName("partition", partition); err != nil || prefix == "" {
		return err
	}
	return CheckName("prefix", prefix)
}

// CheckName reports whether name can name a partition or a key (what says which): 1 to MaxName bytes, none of
// them NUL or a brace. Backends put a NUL between partition and key, and Redis reads braces as a hash tag.
func CheckName(what, name string) error {
	if name == "" || len(name) > MaxName || strings.ContainsAny(name, "\x00{}") {
		return fmt.Errorf("%w: %s %q: want 1 to %d bytes without NUL and braces", ErrInvalid, what, name, MaxName)
	}
	return nil
}
