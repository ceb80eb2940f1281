package lab

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// Answer is what came back over a connection, byte for byte.
type Answer string

// silence is for how long a connection may say nothing before that counts as its end.
const silence = 30 * time.Second

// Raw sends bytes as they are over a connection of their own, and reads until the server closes it or falls silent. What it
// sends should ask for the end of the connection, or each call takes as long as silence does.
func (p *Proxy) Raw(t testing.TB, request string) Answer {
	t.Helper()
	c := p.Dial(t)
	defer c.Close()
	// The server may refuse before it has read everything.
	io.WriteString(c, request)
	var all []byte
	buf := make([]byte, 64<<10)
	for {
		c.SetReadDeadline(time.Now().Add(silence))
		n, err := c.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			return Answer(all)
		}
	}
}

// Dial opens a connection to the server.
func (p *Proxy) Dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.Port))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var statusLine = regexp.MustCompile(`(?m)^HTTP/1\.[01] ([0-9]{3})\b`)

// Statuses are the status codes of the answers, in their order.
func (a Answer) Statuses() []int {
	var codes []int
	for _, m := range statusLine.FindAllStringSubmatch(string(a), -1) {
		code, err := strconv.Atoi(m[1])
		if err != nil {
			panic(err) // three digits are a number
		}
		codes = append(codes, code)
	}
	return codes
}
