package password

import (
	"container/list"
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

// What NewPool takes for a number that is not given.
const (
	DefaultWait = 2 * time.Second

	// So many digests of DefaultCost a processor hashes in about DefaultWait.
	defaultQueuePerWorker = 64
)

// Memory that hashes may hold at the same time, in KiB: for a worker three times what DefaultCost takes, and in any
// case enough for the most expensive digest that Parse accepts.
const memoryPerWorker = 64 << 10

// ErrBusy says that too many passwords are being judged already. Nothing was judged.
var ErrBusy = errors.New("too many passwords are being checked")

// Pool bounds how many passwords are judged at the same time, how much memory that takes, how many wait, and for how
// long: a flood of sign-ins is told that it is one, and leaves the rest of the process alone. Who waits is served in
// the order of arrival. Its methods are safe for concurrent use.
//
// The bounds are those of a process, so that one Pool serves all configurations in it. The zero Pool answers ErrBusy.
type Pool struct {
	workers int
	queue   int
	wait    time.Duration
	memory  uint64 // KiB

	mu      sync.Mutex
	running int
	taken   load
	waiting list.List // of *turn
	refused uint64
	hashes  uint64
	observe func(Cost, time.Duration)

	// verify is Digest.Verify, except in tests.
	verify func(Digest, string) bool
}

// load is what hashes occupy.
type load struct {
	workers int    // a lane keeps one busy
	memory  uint64 // KiB
}

// turn is a place in the queue.
type turn struct {
	need load
	come chan struct{} // closed when it is this one's turn
}

// Stats is what a Pool did and does.
type Stats struct {
	Workers int    // how many processors can be busy with it
	Queue   int    // how many passwords can wait
	Running int    // passwords that are being judged
	Waiting int    // passwords that wait for it
	Refused uint64 // how often the answer was ErrBusy since the process began
	Hashes  uint64 // how many were judged since the process began
}

// NewPool makes a Pool of so many workers, with a queue of so many places, in which a password waits at most so long.
// A worker is a processor that a hash keeps busy; a digest of several lanes takes as many, or all there are.
// Without a positive number of workers it has as many as GOMAXPROCS; with a negative queue 64 places a worker; without
// a positive wait, DefaultWait.
func NewPool(workers, queue int, wait time.Duration) *Pool {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	if queue < 0 {
		queue = defaultQueuePerWorker * workers
	}
	if wait <= 0 {
		wait = DefaultWait
	}
	return &Pool{
		workers: workers, queue: queue, wait: wait,
		memory: max(maxMemory, uint64(workers)*memoryPerWorker),
		verify: Digest.Verify,
	}
}

// Verify says whether the digest is of this password, as Digest.Verify does; with the zero Digest it does what
// VerifyDummy does. The error is ErrBusy or ctx's; a hash that has begun is finished, because it can't be stopped.
func (p *Pool) Verify(ctx context.Context, d Digest, password string) (bool, error) {
	if d.IsZero() {
		return p.VerifyDummy(ctx, d, password)
	}
	return p.run(ctx, d, password)
}

// VerifyDummy takes what Verify takes with the same arguments, and answers false. It is for users that don't exist or
// may not sign in. With the zero Digest it takes what one of DefaultCost does.
func (p *Pool) VerifyDummy(ctx context.Context, like Digest, password string) (bool, error) {
	if like.IsZero() {
		like = dummy()
	}
	_, err := p.run(ctx, like, password)
	return false, err
}

// Observe has f called after every hash, with what was hashed and how long that took without the wait before it. It
// replaces the function that was set before; nil sets none. f must not block.
func (p *Pool) Observe(f func(Cost, time.Duration)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.observe = f
}

// Stats gives the numbers of this moment.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Workers: p.workers, Queue: p.queue,
		Running: p.running, Waiting: p.waiting.Len(),
		Refused: p.refused, Hashes: p.hashes,
	}
}

func (p *Pool) run(ctx context.Context, d Digest, password string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if len(password) > MaxLength {
		return false, nil
	}
	need := load{workers: min(max(int(d.cost.Lanes), 1), p.workers), memory: uint64(d.cost.Memory)}
	if err := p.acquire(ctx, need); err != nil {
		return false, err
	}
	defer p.release(need)

	start := time.Now()
	ok := p.verify(d, password)
	took := time.Since(start)

	p.mu.Lock()
	p.hashes++
	observe := p.observe
	p.mu.Unlock()
	if observe != nil {
		observe(d.cost, took)
	}
	return ok, nil
}

// acquire waits for its turn. The error is ErrBusy or ctx's.
func (p *Pool) acquire(ctx context.Context, need load) error {
	p.mu.Lock()
	// Who comes now doesn't pass by those who wait, even where they wait for more than he needs.
	if p.waiting.Len() == 0 && p.fits(need) {
		p.take(need)
		p.mu.Unlock()
		return nil
	}
	if p.waiting.Len() >= p.queue {
		p.refused++
		p.mu.Unlock()
		return ErrBusy
	}
	mine := &turn{need, make(chan struct{})}
	place := p.waiting.PushBack(mine)
	p.mu.Unlock()

	timeout := time.NewTimer(p.wait)
	defer timeout.Stop()
	var err error
	select {
	case <-mine.come:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = ErrBusy
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-mine.come:
		// The turn came at the same moment.
		if err == ErrBusy {
			return nil
		}
		p.give(need)
		return err
	default:
	}
	p.waiting.Remove(place)
	if err == ErrBusy {
		p.refused++
	}
	// It may have been this one that was too big.
	p.admit()
	return err
}

func (p *Pool) release(need load) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.give(need)
}

// The rest is called with the lock held.

func (p *Pool) fits(need load) bool {
	// The zero Pool has no worker for anything.
	return p.workers > 0 && p.taken.workers+need.workers <= p.workers && p.taken.memory+need.memory <= p.memory
}

func (p *Pool) take(need load) {
	p.running++
	p.taken.workers += need.workers
	p.taken.memory += need.memory
}

func (p *Pool) give(need load) {
	p.running--
	p.taken.workers -= need.workers
	p.taken.memory -= need.memory
	p.admit()
}

func (p *Pool) admit() {
	for place := p.waiting.Front(); place != nil; place = p.waiting.Front() {
		next := place.Value.(*turn)
		if !p.fits(next.need) {
			return
		}
		p.waiting.Remove(place)
		p.take(next.need)
		close(next.come)
	}
}
