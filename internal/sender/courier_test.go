package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// gateway is one that does what it is told, and counts.
type gateway struct {
	mu    sync.Mutex
	sends int
	slow  time.Duration
	err   error
}

func (g *gateway) Send(ctx context.Context, _ *mfa.Message) error {
	g.mu.Lock()
	g.sends++
	g.mu.Unlock()
	select {
	case <-time.After(g.slow):
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gateway) count() int { g.mu.Lock(); defer g.mu.Unlock(); return g.sends }

func always(context.Context) bool { return true }

func courier(told func(Report), stop chan struct{}, gateways ...*gateway) *Courier {
	var routes []Route
	for i, g := range gateways {
		routes = append(routes, Route{fmt.Sprint("gateway", i+1), g, 10 * time.Second})
	}
	if told == nil {
		told = func(Report) {}
	}
	return NewCourier(map[mfa.Method][]Route{mfa.SMS: routes}, told, slog.New(slog.DiscardHandler), stop)
}

func sms() *mfa.Message {
	return &mfa.Message{ID: "0f3a", Method: mfa.SMS, To: "+31612345678", Code: "123456", Language: "en", Text: "123456 is your code."}
}

func TestTheNextRouteIsTriedOnlyWhenTheOneBeforeHasCertainlyNotAccepted(t *testing.T) {
	refuses := fmt.Errorf("%w: 429", mfa.ErrNotAccepted)
	for reason, tc := range map[string]struct {
		first, second *gateway
		sends         [2]int
		err           error
		within        time.Duration
	}{
		"accepted":                       {&gateway{}, &gateway{}, [2]int{1, 0}, nil, 0},
		"accepted, slowly":               {&gateway{slow: 9 * time.Second}, &gateway{}, [2]int{1, 0}, nil, Patience},
		"not accepted":                   {&gateway{err: refuses}, &gateway{}, [2]int{1, 1}, nil, 0},
		"not accepted, slowly":           {&gateway{err: refuses, slow: 5 * time.Second}, &gateway{}, [2]int{1, 1}, nil, Patience},
		"accepted by nobody":             {&gateway{err: refuses}, &gateway{err: refuses}, [2]int{1, 1}, ErrFailed, 0},
		"perhaps accepted":               {&gateway{err: errors.New("500")}, &gateway{}, [2]int{1, 0}, nil, 0},
		"hangs":                          {&gateway{slow: time.Hour}, &gateway{}, [2]int{1, 0}, nil, Patience},
		"the second is perhaps accepted": {&gateway{err: refuses}, &gateway{err: errors.New("the connection has ended")}, [2]int{1, 1}, nil, 0},
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := courier(nil, nil, tc.first, tc.second).Deliver(t.Context(), sms(), always)
				if took := time.Since(began); err != tc.err || took != tc.within {
					t.Errorf("%v after %v, want %v after %v", err, took, tc.err, tc.within)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := [2]int{tc.first.count(), tc.second.count()}; got != tc.sends {
					t.Errorf("sent %v times, want %v", got, tc.sends)
				}
			})
		})
	}
}

// TestWhoIsInNoHurryIsToldOfAnOutcomeThatComesLate awaits what Deliver would not.
func TestWhoIsInNoHurryIsToldOfAnOutcomeThatComesLate(t *testing.T) {
	for reason, tc := range map[string]struct {
		gateway *gateway
		stop    time.Duration // zero: never
		err     error
		within  time.Duration
	}{
		"accepted, slowly":                {&gateway{slow: 9 * time.Second}, 0, nil, 9 * time.Second},
		"not accepted, slowly":            {&gateway{err: mfa.ErrNotAccepted, slow: 9 * time.Second}, 0, ErrFailed, 9 * time.Second},
		"until the configuration ends":    {&gateway{err: mfa.ErrNotAccepted, slow: 9 * time.Second}, 2 * time.Second, nil, 2*time.Second + Patience},
		"known soon after it has":         {&gateway{err: mfa.ErrNotAccepted, slow: 3 * time.Second}, 2 * time.Second, ErrFailed, 3 * time.Second},
		"not accepted after it has ended": {&gateway{err: mfa.ErrNotAccepted}, time.Nanosecond, ErrFailed, 0},
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stop := make(chan struct{})
				if tc.stop > 0 {
					time.AfterFunc(tc.stop, func() { close(stop) })
				}
				began := time.Now()
				err := courier(nil, stop, tc.gateway).Await(t.Context(), sms(), always)
				if took := time.Since(began); err != tc.err || took != tc.within {
					t.Errorf("%v after %v, want %v after %v", err, took, tc.err, tc.within)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestThePageComesBackWithinTwoSeconds(t *testing.T) {
	if Patience >= 2*time.Second {
		t.Errorf("Deliver waits for %v", Patience)
	}
}

func TestThatTheBrowserGoesAwayStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{slow: 5 * time.Second}
		var reports []Report
		c := courier(func(r Report) { reports = append(reports, r) }, nil, g)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Second); cancel() }()
		if err := c.Deliver(ctx, sms(), always); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(reports) != 1 || reports[0].Result != Accepted {
			t.Errorf("reports %+v", reports)
		}
	})
}

func TestNobodyIsSentAnythingWhoMayNotBeAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &gateway{err: mfa.ErrNotAccepted, slow: 4 * time.Second}, &gateway{}
		var blocked atomic.Bool
		go func() { time.Sleep(2 * time.Second); blocked.Store(true) }()
		var results []Result
		c := courier(func(r Report) { results = append(results, r.Result) }, nil, first, second)
		if err := c.Deliver(t.Context(), sms(), func(context.Context) bool { return !blocked.Load() }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if second.count() != 0 || len(results) != 2 || results[1] != Withdrawn {
			t.Errorf("%d messages went out after the user was blocked: %v", second.count(), results)
		}
		if err := c.Deliver(t.Context(), sms(), func(context.Context) bool { return false }); err != ErrFailed || first.count() != 1 {
			t.Errorf("%v, and %d messages", err, first.count())
		}
	})
}

func TestAGatewayThatHangsDoesNotFillTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{slow: time.Hour}
		c := courier(nil, nil, g)
		var wg sync.WaitGroup
		for range atOnce {
			wg.Go(func() {
				if err := c.Deliver(t.Context(), sms(), always); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := c.Deliver(t.Context(), sms(), always); err != ErrBusy {
			t.Errorf("one more: %v", err)
		}
		time.Sleep(time.Minute)
		if err := c.Deliver(t.Context(), sms(), always); err != nil {
			t.Errorf("when they have ended: %v", err)
		}
		time.Sleep(time.Minute)
	})
}

func TestAConfigurationThatIsReplacedBeginsNoFurtherAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		first, second := &gateway{err: mfa.ErrNotAccepted, slow: 4 * time.Second}, &gateway{}
		c := courier(nil, stop, first, second)
		go func() { time.Sleep(2 * time.Second); close(stop) }()
		if err := c.Deliver(t.Context(), sms(), always); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if second.count() != 0 {
			t.Error("the old configuration sends")
		}
	})
}

func TestAMethodWithoutARouteFails(t *testing.T) {
	m := sms()
	m.Method = mfa.Voice
	if err := courier(nil, nil, &gateway{}).Deliver(t.Context(), m, always); err != ErrFailed {
		t.Errorf("error %v", err)
	}
}

func TestNeitherCodeNorNumberStandsInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		c := courier(nil, nil, &gateway{err: fmt.Errorf("%w: no credit", mfa.ErrNotAccepted)}, &gateway{err: errors.New("500")})
		c.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if err := c.Deliver(t.Context(), sms(), always); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if text := log.String(); strings.Contains(text, "123456") || strings.Contains(text, "612345678") || !strings.Contains(text, "no credit") {
			t.Errorf("the log: %s", text)
		}
	})
}
