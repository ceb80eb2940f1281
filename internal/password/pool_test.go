package password

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// newWorkload makes a pool in which a hash takes so long by the clock of the bubble, and notes the passwords in the
// order in which they are judged. Every password is right.
func newWorkload(workers, queue int, wait, hash time.Duration) (*Pool, func() []string) {
	p := NewPool(workers, queue, wait)
	var mu sync.Mutex
	var judged []string
	p.verify = func(d Digest, password string) bool {
		mu.Lock()
		judged = append(judged, password)
		mu.Unlock()
		<-time.After(hash)
		return true
	}
	return p, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(judged)
	}
}

func idle(t *testing.T, p *Pool) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != 0 || p.waiting.Len() != 0 || p.taken != (load{}) {
		t.Fatalf("the pool is not idle: %d running, %d waiting, %+v taken", p.running, p.waiting.Len(), p.taken)
	}
}

func TestFloodIsToldAtOnceThatItIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newWorkload(2, 3, time.Minute, time.Second)
		d := mustParse(t, bcrypt2b)
		for range 5 {
			go func() {
				if ok, err := p.Verify(t.Context(), d, "a"); !ok || err != nil {
					t.Error(ok, err)
				}
			}()
		}
		synctest.Wait()
		if s := p.Stats(); s.Running != 2 || s.Waiting != 3 {
			t.Fatalf("%+v", s)
		}
		start := time.Now()
		for range 1000 {
			if ok, err := p.Verify(t.Context(), d, "a"); ok || err != ErrBusy {
				t.Fatal(ok, err)
			}
			if ok, err := p.VerifyDummy(t.Context(), d, "a"); ok || err != ErrBusy {
				t.Fatal(ok, err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		idle(t, p)
		if s := p.Stats(); s.Refused != 2000 || s.Hashes != 5 || s.Workers != 2 || s.Queue != 3 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, judged := newWorkload(1, 10, 2*time.Second, time.Minute)
		d := mustParse(t, bcrypt2b)
		go p.Verify(t.Context(), d, "slow")
		synctest.Wait()
		start := time.Now()
		if _, err := p.Verify(t.Context(), d, "waits"); err != ErrBusy {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("it waited %v", waited)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		idle(t, p)
		if got := judged(); !slices.Equal(got, []string{"slow"}) {
			t.Errorf("judged were %q", got)
		}
		if s := p.Stats(); s.Refused != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestFloodDoesNotStarveWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hash, queue = 25 * time.Millisecond, 10
		p, judged := newWorkload(1, queue, time.Second, hash)
		d := mustParse(t, bcrypt2b)
		ctx, stop := context.WithCancel(t.Context())
		var flood sync.WaitGroup
		for range queue { // one place stays free
			flood.Go(func() {
				for ctx.Err() == nil {
					p.Verify(ctx, d, "flood")
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		if ok, err := p.Verify(t.Context(), d, "alice"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if took := time.Since(start); took > (queue+1)*hash {
			t.Errorf("it took %v", took)
		}
		if i := slices.Index(judged(), "alice"); i != queue {
			t.Errorf("%d came before", i)
		}
		stop()
		flood.Wait()
		idle(t, p)
	})
}

func TestWhoWaitsIsServedInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, judged := newWorkload(2, 100, time.Minute, time.Second)
		d := mustParse(t, bcrypt2b)
		var want []string
		for i := range 50 {
			password := fmt.Sprint(i)
			want = append(want, password)
			go p.Verify(t.Context(), d, password)
			synctest.Wait()
		}
		<-time.After(30 * time.Second)
		synctest.Wait()
		got := judged()
		// Two workers begin at one moment, so that pairs may be noted either way round.
		for i := range got {
			if j := slices.Index(want, got[i]); j/2 != i/2 {
				t.Fatalf("judged in the order %q", got)
			}
		}
		if len(got) != 50 {
			t.Fatalf("%d were judged", len(got))
		}
		idle(t, p)
	})
}

func TestWhoGivesUpLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, judged := newWorkload(1, 2, time.Minute, time.Second)
		d := mustParse(t, bcrypt2b)
		go p.Verify(t.Context(), d, "first")
		synctest.Wait()
		ctx, giveUp := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := p.Verify(ctx, d, "gives up")
			gone <- err
		}()
		synctest.Wait()
		go p.Verify(t.Context(), d, "second")
		synctest.Wait()
		giveUp()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if s := p.Stats(); s.Waiting != 1 || s.Refused != 0 {
			t.Errorf("%+v", s)
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		if got := judged(); !slices.Equal(got, []string{"first", "second"}) {
			t.Errorf("judged were %q", got)
		}
		idle(t, p)
	})
}

func TestCancelledRequestIsNotHashed(t *testing.T) {
	p := NewPool(1, 0, 0)
	p.verify = func(Digest, string) bool { t.Error("it was hashed"); return true }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, err := p.Verify(ctx, mustParse(t, bcrypt2b), "a"); ok || !errors.Is(err, context.Canceled) {
		t.Fatal(ok, err)
	}
	idle(t, p)
}

func TestExpensiveDigestsDoNotAddUpBeyondTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, judged := newWorkload(4, 10, time.Minute, time.Second)
		big := mustParse(t, "$argon2id$v=19$m=1048576,t=2,p=1$"+salt16+"$"+key32)
		small := mustParse(t, bcrypt2b) // it could run at any time, but doesn't pass by those who wait
		go p.Verify(t.Context(), big, "big 1")
		synctest.Wait()
		go p.Verify(t.Context(), big, "big 2")
		synctest.Wait()
		go p.Verify(t.Context(), small, "small")
		synctest.Wait()
		if s := p.Stats(); s.Running != 1 || s.Waiting != 2 {
			t.Errorf("%+v", s)
		}
		<-time.After(3500 * time.Millisecond)
		synctest.Wait()
		if got := judged(); len(got) != 3 || got[0] != "big 1" {
			t.Errorf("judged were %q", got)
		}
		idle(t, p)
	})
}

func TestBigOneThatGivesUpLetsTheNextPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, judged := newWorkload(4, 10, time.Hour, time.Minute)
		big := mustParse(t, "$argon2id$v=19$m=1048576,t=2,p=1$"+salt16+"$"+key32)
		cheap := mustParse(t, bcrypt2b)
		go p.Verify(t.Context(), big, "big")
		synctest.Wait()
		ctx, giveUp := context.WithCancel(t.Context())
		go p.Verify(ctx, big, "gives up")
		synctest.Wait()
		go p.Verify(t.Context(), cheap, "cheap")
		synctest.Wait()
		giveUp()
		synctest.Wait()
		if got := judged(); !slices.Equal(got, []string{"big", "cheap"}) {
			t.Errorf("judged were %q", got)
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		idle(t, p)
	})
}

func TestLanesCountAsWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newWorkload(4, 10, time.Minute, time.Second)
		three := mustParse(t, "$argon2id$v=19$m=19456,t=2,p=3$"+salt16+"$"+key32)
		go p.Verify(t.Context(), three, "a")
		go p.Verify(t.Context(), three, "b")
		synctest.Wait()
		if s := p.Stats(); s.Running != 1 || s.Waiting != 1 {
			t.Errorf("two of three lanes on four workers: %+v", s)
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		// More lanes than workers take all of them, not forever.
		many := mustParse(t, "$argon2id$v=19$m=19456,t=2,p=64$"+salt16+"$"+key32)
		if ok, err := p.Verify(t.Context(), many, "c"); !ok || err != nil {
			t.Error(ok, err)
		}
		idle(t, p)
	})
}

// TestGivingUpLeaksNothing has passwords give up at every moment, the one at which their turn comes included.
func TestGivingUpLeaksNothing(t *testing.T) {
	p := NewPool(2, 20, 300*time.Microsecond)
	p.verify = func(Digest, string) bool { runtime.Gosched(); return true }
	d := mustParse(t, bcrypt2b)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(400))*time.Microsecond)
				ok, err := p.Verify(ctx, d, "a")
				if ok != (err == nil) || err != nil && err != ErrBusy && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(ok, err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	idle(t, p)
}

func TestTurnThatComesAsItsOwnerGivesUpIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Time-out, cancellation and the end of the hash before fall on one moment.
		for _, timeout := range []time.Duration{time.Second, time.Hour} {
			p, _ := newWorkload(1, 100, timeout, time.Second)
			d := mustParse(t, bcrypt2b)
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				go p.Verify(ctx, d, "a")
			}
			<-time.After(time.Minute)
			synctest.Wait()
			idle(t, p)
		}
	})
}

func TestPanicGivesTheWorkerBack(t *testing.T) {
	p := NewPool(1, 0, 0)
	p.verify = func(Digest, string) bool { panic("broken") }
	func() {
		defer func() { recover() }()
		p.Verify(t.Context(), mustParse(t, bcrypt2b), "a")
	}()
	idle(t, p)
}

func TestDummyCostsWhatTheRealOneDoesAndIsWrong(t *testing.T) {
	p := NewPool(1, 0, 0)
	var costs []Cost
	p.Observe(func(c Cost, took time.Duration) {
		if took <= 0 {
			t.Error("it took no time")
		}
		costs = append(costs, c)
	})
	for _, encoded := range []string{argon2idLeast, bcrypt2b, bcrypt2y} {
		costs = nil
		d := mustParse(t, encoded)
		if ok, err := p.Verify(t.Context(), d, "correct horse"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := p.VerifyDummy(t.Context(), d, "correct horse"); ok || err != nil {
			t.Fatal(ok, err)
		}
		if !slices.Equal(costs, []Cost{d.Cost(), d.Cost()}) {
			t.Errorf("%v costs %v", d, costs)
		}
	}
	costs = nil
	for _, verify := range []func(context.Context, Digest, string) (bool, error){p.Verify, p.VerifyDummy} {
		if ok, err := verify(t.Context(), Digest{}, "correct horse"); ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if !slices.Equal(costs, []Cost{DefaultCost, DefaultCost}) {
		t.Errorf("no digest costs %v", costs)
	}
}

func TestPasswordThatCanNotBeRightCostsAHash(t *testing.T) {
	p := NewPool(1, 0, 0)
	d := mustParse(t, bcryptLongest)
	for i, password := range []string{"", strings.Repeat("x", 73), "x\x00x"} {
		if ok, err := p.Verify(t.Context(), d, password); ok || err != nil {
			t.Fatal(ok, err)
		}
		if n := p.Stats().Hashes; n != uint64(i+1) {
			t.Errorf("%.5q: %d hashes", password, n)
		}
	}
}

func TestPasswordThatIsTooLongCostsNobodyAHash(t *testing.T) {
	p := NewPool(1, 0, 0)
	p.verify = func(Digest, string) bool { t.Error("it was hashed"); return true }
	long := strings.Repeat("x", MaxLength+1)
	for _, d := range []Digest{mustParse(t, bcrypt2b), mustParse(t, argon2idLeast), {}} {
		for _, verify := range []func(context.Context, Digest, string) (bool, error){p.Verify, p.VerifyDummy} {
			if ok, err := verify(t.Context(), d, long); ok || err != nil {
				t.Errorf("%v: %v, %v", d, ok, err)
			}
		}
	}
}

func TestZeroPoolIsBusy(t *testing.T) {
	var p Pool
	if ok, err := p.Verify(t.Context(), mustParse(t, bcrypt2b), "correct horse"); ok || err != ErrBusy {
		t.Fatal(ok, err)
	}
}

func TestNewPoolDefaults(t *testing.T) {
	p := NewPool(0, -1, 0)
	if s := p.Stats(); s.Workers != runtime.GOMAXPROCS(0) || s.Queue != 64*s.Workers || p.wait != DefaultWait {
		t.Errorf("%+v, %v", s, p.wait)
	}
	if p := NewPool(1, 0, 0); p.memory < maxMemory {
		t.Errorf("a digest of %d KiB never runs in %d", maxMemory, p.memory)
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, encoded := range []string{argon2idLeast, argon2idReference, bcrypt10} {
		d := mustParse(b, encoded)
		b.Run(d.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.Verify("wrong")
			}
		})
	}
}
