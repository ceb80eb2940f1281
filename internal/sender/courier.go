// Package sender brings codes to people: by a gateway for text messages and calls, a web hook, a command, a mail server.
package sender

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// What may become of a message as far as its sender is told in time.
var (
	// ErrFailed says that no gateway has accepted the message. Another way helps.
	ErrFailed = errors.New("message could not be sent")

	// ErrBusy says that too many messages are under way. Nothing was sent.
	ErrBusy = errors.New("too many messages are under way")
)

// Route is one way to a gateway.
type Route struct {
	Name    string // of the sender, as the operator calls it
	Sender  mfa.Sender
	Timeout time.Duration // for one attempt
}

// Result is what became of one attempt. Its text stands in logs and metrics.
type Result string

// The results.
const (
	Accepted    Result = "accepted"
	NotAccepted Result = "not_accepted" // certainly: the next route is tried
	Unknown     Result = "unknown"      // perhaps: nothing is tried any more
	Withdrawn   Result = "withdrawn"    // the person may not be sent anything any more
)

// Report is told of every attempt.
type Report struct {
	Method mfa.Method
	Route  string
	Result Result
	Err    error
}

const (
	// Patience is how long Deliver waits for an outcome, so that the page answers within two seconds.
	Patience = 1500 * time.Millisecond

	// atOnce is how many messages are under way at most. A gateway that hangs must not fill the memory.
	atOnce = 64
)

// Courier delivers messages. Routes are tried in their order, the next only when the one before has certainly not accepted the
// message: one that may have been accepted is never sent again by itself.
type Courier struct {
	routes map[mfa.Method][]Route
	told   func(Report)
	log    *slog.Logger
	places chan struct{}
	stop   <-chan struct{}
}

// NewCourier makes one. told must not block. When stop is closed, no further route is tried; what is under way ends by its time-out.
func NewCourier(routes map[mfa.Method][]Route, told func(Report), log *slog.Logger, stop <-chan struct{}) *Courier {
	return &Courier{routes, told, log, make(chan struct{}, atOnce), stop}
}

// Deliver sends a message, and comes back when its outcome is known or Patience is over: then it goes on by itself. allowed is asked
// before every attempt, at last right before the message goes out. The error is ErrFailed or ErrBusy.
//
// The context is for its values; that the browser goes away stops nothing.
func (c *Courier) Deliver(ctx context.Context, m *mfa.Message, allowed func(context.Context) bool) error {
	outcome, err := c.begin(ctx, m, allowed)
	if err != nil {
		return err
	}
	return soon(outcome)
}

// Await is Deliver for who is in no hurry: it comes back when the outcome is known, however long the routes take. Once stop is closed, it
// waits no longer than Deliver does.
func (c *Courier) Await(ctx context.Context, m *mfa.Message, allowed func(context.Context) bool) error {
	outcome, err := c.begin(ctx, m, allowed)
	if err != nil {
		return err
	}
	select {
	case err := <-outcome:
		return err
	case <-c.stop:
		return soon(outcome)
	}
}

// soon gives an outcome that is known before Patience is over.
func soon(outcome <-chan error) error {
	patience := time.NewTimer(Patience)
	defer patience.Stop()
	select {
	case err := <-outcome:
		return err
	case <-patience.C:
		return nil // it may still arrive
	}
}

// begin sends a message. What becomes of it is told once it is known. The error is ErrFailed or ErrBusy: nothing is sent then.
func (c *Courier) begin(ctx context.Context, m *mfa.Message, allowed func(context.Context) bool) (outcome <-chan error, err error) {
	routes := c.routes[m.Method]
	if len(routes) == 0 {
		return nil, ErrFailed
	}
	select {
	case c.places <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	done := make(chan error, 1)
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer func() { <-c.places }()
		done <- c.try(ctx, m, routes, allowed)
	}()
	return done, nil
}

// try gives nil once the message may have been accepted.
func (c *Courier) try(ctx context.Context, m *mfa.Message, routes []Route, allowed func(context.Context) bool) error {
	for i, r := range routes {
		select {
		case <-c.stop:
			if i > 0 {
				return ErrFailed // a new configuration is in force, with other routes perhaps
			}
		default:
		}
		result, err := c.attempt(ctx, m, r, allowed)
		c.told(Report{m.Method, r.Name, result, err})
		switch result {
		case Accepted, Unknown:
			return nil
		case Withdrawn:
			return ErrFailed
		}
	}
	return ErrFailed
}

func (c *Courier) attempt(ctx context.Context, m *mfa.Message, r Route, allowed func(context.Context) bool) (result Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if !allowed(ctx) {
		return Withdrawn, nil
	}
	err = r.Sender.Send(ctx, m)
	switch {
	case err == nil:
		c.log.Debug("message accepted", "sender", r.Name, "method", m.Method, "message", m.ID)
		return Accepted, nil
	case errors.Is(err, mfa.ErrNotAccepted):
		c.log.Error("message not accepted", "sender", r.Name, "method", m.Method, "message", m.ID, "error", err)
		return NotAccepted, err
	}
	c.log.Error("message may not have been accepted, and is not sent again", "sender", r.Name, "method", m.Method, "message", m.ID, "error", err)
	return Unknown, err
}
