//go:build unix

package redistest

import "syscall"

// Freeze stops the server without ending it: connections stay open, and nobody answers. Thaw is the opposite.
func (s *Server) Freeze() {
	s.tb.Helper()
	s.signal(syscall.SIGSTOP)
}

// Thaw makes a frozen server go on.
func (s *Server) Thaw() {
	s.tb.Helper()
	s.signal(syscall.SIGCONT)
}

func (s *Server) signal(signal syscall.Signal) {
	s.tb.Helper()
	if s.process == nil {
		s.tb.Fatal("the Redis server is stopped")
	}
	if err := s.process.Process.Signal(signal); err != nil {
		s.tb.Fatal(err)
	}
}
