package portal

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

func TestOnlyWeSayWhatWasRemoved(t *testing.T) {
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	rs, now := NewReturns(keys), time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	text := rs.sealRemoved("AAAA", "hr.example.com", "session", now)
	if got := rs.openRemoved(text, "hr.example.com", "session", now); got != "AAAA" {
		t.Fatalf("%q", got)
	}
	for reason, got := range map[string]string{
		"another host":    rs.openRemoved(text, "wiki.example.com", "session", now),
		"another session": rs.openRemoved(text, "hr.example.com", "other", now),
		"too late":        rs.openRemoved(text, "hr.example.com", "session", now.Add(removedLifetime)),
		"nothing":         rs.openRemoved("", "hr.example.com", "session", now),
		"a bare id":       rs.openRemoved("AAAA", "hr.example.com", "session", now),
		"a long text":     rs.openRemoved(strings.Repeat("A", maxTarget+1), "hr.example.com", "session", now),
		"a way back":      rs.openRemoved(rs.Seal(Return{Target: "/a"}, "hr.example.com", now), "hr.example.com", "session", now),
	} {
		if got != "" {
			t.Errorf("%s: %q", reason, got)
		}
	}
	if to := rs.Open(text, "hr.example.com", now); to != (Return{}) {
		t.Errorf("it leads to %+v", to)
	}
}
