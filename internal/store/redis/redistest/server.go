// Package redistest runs real Redis servers for tests, and does to them what happens to servers: it kills, freezes and empties
// them. A server listens on a port of the loopback interface, wants a password, and keeps nothing on disk unless told to.
package redistest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/porttest"
)

// patience is how long a server may take for anything, on a machine that is busy with other tests.
const patience = time.Minute

// Server is a Redis server that ends with its test. Its methods fail the test when they can't do what they say.
type Server struct {
	tb       testing.TB
	args     []string
	dir      string
	port     int
	password string

	process *exec.Cmd // nil while it is stopped
	guard   *exec.Cmd
	log     output
}

// Start runs redis-server with additional arguments, such as "--maxmemory", "10mb". Where they name a --tls-cert-file, its port
// takes only TLS.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	// A unix socket's path has some 100 bytes at most, and tb.TempDir has the name of the test in it.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, args: args, dir: dir, password: "test-" + rand.Text()}
	tb.Cleanup(func() {
		s.Stop()
		if tb.Failed() {
			tb.Logf("log of the Redis server on port %d:\n%s", s.port, s.log.String())
		}
		os.RemoveAll(dir)
	})
	s.port = porttest.Free(tb)
	s.run()
	return s
}

// Addr is the host and port that it listens on.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Socket is the path of the unix socket that it listens on too.
func (s *Server) Socket() string { return filepath.Join(s.dir, "socket") }

// Password is that of the default user.
func (s *Server) Password() string { return s.password }

// Stop kills the server, if it runs, and waits until it is gone.
func (s *Server) Stop() {
	s.tb.Helper()
	if s.process == nil {
		return
	}
	if err := s.process.Process.Kill(); err != nil {
		s.tb.Errorf("killing the Redis server: %v", err)
	}
	s.process.Wait() // the error says that it was killed
	s.process = nil
	s.guard.Process.Kill()
	s.guard.Wait()
}

// Restart stops the server and starts it again, on the same port and with the same files.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	s.run()
}

// Flush removes all data.
func (s *Server) Flush() {
	s.tb.Helper()
	s.Do("FLUSHALL")
}

// run starts the process and waits until it answers.
func (s *Server) run() {
	s.tb.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		s.tb.Fatal("these tests need a Redis server: apt-get install redis-server")
	}
	port := "--port"
	for _, arg := range s.args {
		if arg == "--tls-cert-file" {
			port = "--tls-port"
		}
	}
	args := append([]string{
		"--port", "0", port, strconv.Itoa(s.port), "--bind", "127.0.0.1",
		"--unixsocket", s.Socket(), "--unixsocketperm", "700", "--dir", s.dir,
		"--requirepass", s.password, "--save", "", "--appendonly", "no",
	}, s.args...)
	s.process = exec.Command(program, args...)
	s.process.Stdout, s.process.Stderr = &s.log, &s.log
	s.process.WaitDelay = time.Second
	if err := s.process.Start(); err != nil {
		s.process = nil
		s.tb.Fatal(err)
	}
	s.watch()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		_, err := s.do("PING")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("the Redis server doesn't start: %v\n%s", err, s.log.String())
		}
	}
}

// watch kills the server when this process ends without having stopped it, as it does when a test takes too long. The guard's
// input ends then.
func (s *Server) watch() {
	s.guard = exec.Command("/bin/sh", "-c", "read line; kill -9 "+strconv.Itoa(s.process.Process.Pid))
	if _, err := s.guard.StdinPipe(); err != nil {
		s.tb.Fatal(err)
	}
	if err := s.guard.Start(); err != nil {
		s.tb.Fatal(err)
	}
}

// output keeps what the server prints, which may be read while it prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Do sends a command as the default user, and returns the answer as text, one line for each element of a list.
func (s *Server) Do(args ...string) string {
	s.tb.Helper()
	answer, err := s.do(args...)
	if err != nil {
		s.tb.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return answer
}

func (s *Server) do(args ...string) (string, error) {
	conn, err := net.Dial("unix", s.Socket())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	c := newClient(conn)
	c.do("AUTH", s.password) // an error where a test has taken the password away
	answer, err := c.do(args...)
	if err != nil {
		return "", fmt.Errorf("the server answered: %w", err)
	}
	return answer, nil
}
