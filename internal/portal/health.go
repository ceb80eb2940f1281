package portal

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// readyFor is how long an answer of the stores is passed on. Anybody may ask, and must not make them work.
const readyFor = time.Second

// readiness asks the stores, once for everybody who wants to know.
type readiness struct {
	check func(context.Context) error

	mu    sync.Mutex
	asked time.Time
	err   error
}

// get says what keeps this process from serving, or nil.
func (r *readiness) get(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked.IsZero() || time.Since(r.asked) >= readyFor {
		// The answer is everybody's: that this client goes away must not spoil it.
		r.err = r.check(context.WithoutCancel(ctx))
		r.asked = time.Now()
	}
	return r.err
}

// health says that this process serves; with ?ready, that it can reach what it needs.
func (p *Portal) health(w http.ResponseWriter, r *http.Request) {
	noStore(w.Header())
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Has("ready") && p.readiness.get(r.Context()) != nil {
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, `{"status":"unavailable"}`)
		return
	}
	fmt.Fprintln(w, `{"status":"ok"}`)
}
