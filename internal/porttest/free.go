// Package porttest finds ports for servers that tests start.
package porttest

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// The kernel takes ports from 32768 up for connections that go out. One that is free now may be such a connection's a moment later, and
// a server that is started again on its port must find it free: servers listen below.
const first, ports = 12_000, 20_000

var next atomic.Int64

func init() { next.Store(int64(os.Getpid()) * 101) } // other processes look for ports too

// Free finds a port that nobody listens on, on any address. It gives none twice.
func Free(tb testing.TB) int {
	tb.Helper()
	for range ports {
		port := first + int(next.Add(1)%ports)
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	tb.Fatal("there is no free port")
	return 0
}
