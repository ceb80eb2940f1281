package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long anything may take that is not promised within a time. It says when to give a test up, not how fast a machine is.
const patience = 2 * time.Minute

// Eventually waits until ok says so. within is how long that takes at most on a machine that has nothing else to do; what takes longer is
// still waited for. What is promised within a time is for Within.
func Eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	within = max(10*within, patience)
	for deadline := time.Now().Add(within); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// allowance is what an answer of a server with the race detector takes besides what is promised, on a machine that has nothing else to do.
const allowance = 500 * time.Millisecond

// Allowed is how long something may have taken that is promised within a time and began at a moment: that time, and for how long the
// machine has since kept the server and the test from running.
func (p *Proxy) Allowed(since time.Time, promise time.Duration) time.Duration {
	return promise + allowance + p.stalls.lost(since, time.Now())
}

// AllowedUntil is Allowed for what has ended at a moment.
func (p *Proxy) AllowedUntil(since, end time.Time, promise time.Duration) time.Duration {
	return promise + allowance + p.stalls.lost(since, end)
}

// Within waits until ok says so, which is promised within a time after a moment.
func (p *Proxy) Within(t testing.TB, since time.Time, promise time.Duration, what string, ok func() bool) {
	t.Helper()
	for {
		asked := time.Now()
		if ok() {
			return
		}
		if allowed := p.Allowed(since, promise); asked.Sub(since) > allowed {
			t.Fatalf("not within %v, with %v in which nothing could run: %s", promise, p.stalls.lost(since, asked), what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// stalls measures for how long the machine keeps a server, and the test that talks to it, from running: their threads are ready and others
// have the processors, or everything stands still. On an idle machine that is next to nothing, so that promises are held to.
type stalls struct {
	mu      sync.Mutex
	pid     int
	samples []stall
	waited  map[string]time.Duration // by thread, as of the last sample
}

// watched are the stalls of servers by their ports.
var watched sync.Map

// stalls are those of the server that a browser talks to.
func (b *Browser) stalls() *stalls {
	s, ok := watched.Load(b.base.Port())
	if !ok {
		b.t.Fatalf("no server of this test listens on port %s", b.base.Port())
	}
	return s.(*stalls)
}

type stall struct {
	at   time.Time
	lost time.Duration // until then
}

const stallInterval = 200 * time.Millisecond // reading of all threads costs something itself

// measure takes samples until the channel is closed.
func (s *stalls) measure(done <-chan struct{}) {
	tick := time.NewTicker(stallInterval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			s.sample()
		}
	}
}

// sample adds what was lost since the last sample.
func (s *stalls) sample() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := stall{at: time.Now()}
	if n := len(s.samples); n > 0 {
		now.lost = s.samples[n-1].lost + max(0, now.at.Sub(s.samples[n-1].at)-stallInterval-50*time.Millisecond)
	}
	waited := map[string]time.Duration{}
	for _, process := range []int{os.Getpid(), s.pid} {
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", process)) // none if it has ended, or on other systems
		for _, entry := range threads {
			thread := entry.Name()
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", process, thread))
			fields := strings.Fields(string(text))
			if err != nil || len(fields) < 2 {
				continue // it has ended
			}
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				continue
			}
			waited[thread] = time.Duration(n)
			if before, ok := s.waited[thread]; ok {
				now.lost += waited[thread] - before
			}
		}
	}
	s.waited = waited
	s.samples = append(s.samples, now)
}

// lost is what was lost between two moments, and what was lost right before and after with it.
func (s *stalls) lost(from, to time.Time) time.Duration {
	if s.newest().Before(to) {
		s.sample()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var before, after time.Duration
	for _, sample := range s.samples {
		if !sample.at.After(from) {
			before = sample.lost
		}
		after = sample.lost
		if !sample.at.Before(to) {
			break
		}
	}
	return after - before
}

func (s *stalls) newest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.samples) == 0 {
		return time.Time{}
	}
	return s.samples[len(s.samples)-1].at
}
