package redis

import (
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
)

func TestAdvice(t *testing.T) {
	safe := map[string]string{"save": "3600 1", "appendonly": "yes", "appendfsync": "everysec", "maxmemory": "0", "maxmemory-policy": "noeviction"}
	for _, test := range []struct {
		reason string
		change map[string]string
		want   []string
	}{
		{"a log on disk", nil, nil},
		{"no snapshots beside the log", map[string]string{"save": ""}, nil},
		{"nothing on disk", map[string]string{"save": "", "appendonly": "no"}, []string{"every registration"}},
		{"snapshots only", map[string]string{"appendonly": "no"}, []string{"since its last snapshot"}},
		{"a log that may stay in memory", map[string]string{"appendfsync": "no"}, []string{"power failure"}},
		{"eviction", map[string]string{"maxmemory": "1000000", "maxmemory-policy": "allkeys-lru"}, []string{"allkeys-lru"}},
		{"eviction to come", map[string]string{"maxmemory-policy": "volatile-ttl"}, []string{"as soon as maxmemory is set"}},
		{"a limit without eviction", map[string]string{"maxmemory": "1000000"}, nil},
		{"everything", map[string]string{"save": "", "appendonly": "no", "maxmemory": "1", "maxmemory-policy": "allkeys-random"}, []string{"every registration", "allkeys-random"}},
	} {
		t.Run(test.reason, func(t *testing.T) {
			settings := make(map[string]string)
			for _, m := range []map[string]string{safe, test.change} {
				for name, value := range m {
					settings[name] = value
				}
			}
			wantAdvice(t, advice(settings), test.want...)
		})
	}
	t.Run("nothing known", func(t *testing.T) { wantAdvice(t, advice(nil)) })
}

func TestAdviseAsksTheServer(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	s := newStore(t, config(server))
	for range 2 { // by CONFIG, then by INFO
		all, err := s.Advise(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantAdvice(t, all, "set appendonly to yes", "set maxmemory-policy to noeviction")
		server.Do("ACL", "SETUSER", "default", "-config")
	}
	server.Do("ACL", "SETUSER", "default", "+config")
	server.Do("CONFIG", "SET", "appendonly", "yes")
	server.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	for range 2 {
		all, err := s.Advise(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantAdvice(t, all)
		server.Do("ACL", "SETUSER", "default", "-config")
	}
	server.Stop()
	if _, err := s.Advise(t.Context()); err == nil {
		t.Error("no error from a server that is stopped")
	}
}

func wantAdvice(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i, part := range want {
		if !strings.Contains(got[i], part) || strings.Count(got[i], ".") != 1 || !strings.HasSuffix(got[i], ".") {
			t.Errorf("got %q, want one sentence with %q", got[i], part)
		}
	}
}
