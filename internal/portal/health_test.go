package portal

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestHealthAsksTheStoresAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, answer := 0, error(nil)
		p := &Portal{readiness: &readiness{check: func(ctx context.Context) error {
			asked++
			time.Sleep(100 * time.Millisecond)
			return errors.Join(answer, ctx.Err())
		}}}
		ask := func(target string, ctx context.Context) int {
			w := httptest.NewRecorder()
			p.health(w, httptest.NewRequest("GET", target, nil).WithContext(ctx))
			return w.Code
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if code := ask("/_mfa/health?ready", gone); code != http.StatusOK {
			t.Errorf("%d because the client is gone", code)
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if code := ask("/_mfa/health?ready", t.Context()); code != http.StatusOK {
					t.Errorf("%d", code)
				}
			})
		}
		wg.Wait()
		if asked != 1 {
			t.Errorf("the stores were asked %d times", asked)
		}
		answer = errors.New("down")
		time.Sleep(readyFor)
		if code := ask("/_mfa/health?ready", t.Context()); code != http.StatusServiceUnavailable || asked != 2 {
			t.Errorf("%d, asked %d times", code, asked)
		}
		if code := ask("/_mfa/health", t.Context()); code != http.StatusOK || asked != 2 {
			t.Errorf("whether it serves at all: %d, asked %d times", code, asked)
		}
	})
}
