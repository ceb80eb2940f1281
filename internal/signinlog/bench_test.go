package signinlog

import (
	"fmt"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

func BenchmarkDecodeOne(b *testing.B) {
	value := new(encoder).encode([]audit.SignIn{full("alice", 1)})
	b.SetBytes(int64(len(value)))
	var d decoder
	for b.Loop() {
		if _, err := d.decode(value); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdd is what a sign-in waits for.
func BenchmarkAdd(b *testing.B) {
	l := New(store.NewMemory(), Settings{Keep: 1 << 40, Max: 1000})
	r := full("alice", 1)
	for i := 0; b.Loop(); i++ {
		r.UserPrincipalName = fmt.Sprint("user", i%5000)
		l.Add(r)
	}
}

func BenchmarkAppendOne(b *testing.B) {
	l := New(store.NewMemory(), Settings{Keep: 1 << 60, Max: 100000})
	for i := 0; b.Loop(); i++ {
		r := cut(full(fmt.Sprint("user", i%5000), i))
		if err := l.append(b.Context(), &batch{class: proven, signIns: []audit.SignIn{r}}); err != nil {
			b.Fatal(err)
		}
	}
}
