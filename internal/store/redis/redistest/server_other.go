//go:build !unix

package redistest

// Freeze fails the test: it takes signals that this system doesn't have.
func (s *Server) Freeze() { s.tb.Fatal("freezing a server takes a Unix system") }

// Thaw is the opposite of Freeze.
func (s *Server) Thaw() { s.tb.Fatal("thawing a server takes a Unix system") }
