package admin

import (
	"context"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// MessagesSent says whether codes are sent, and how many were in the day that is running.
func (s *Service) MessagesSent(ctx context.Context, now time.Time) (throttle.MessageUse, error) {
	return s.Messages.Use(ctx, now)
}

// StopMessages has no code be sent any more, by any machine, or takes that back.
func (s *Service) StopMessages(ctx context.Context, stop bool) error {
	if err := s.Messages.Stop(ctx, stop); err != nil {
		return err
	}
	event := audit.MessagesStarted
	if stop {
		event = audit.MessagesStopped
	}
	s.Sink.Audit(audit.Event{Type: event, By: "admin"})
	return nil
}
