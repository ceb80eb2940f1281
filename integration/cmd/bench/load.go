package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"
)

// caller is one connection that sends the request again whenever it is answered.
type caller struct {
	fd     int
	sent   time.Time
	answer []byte // what has come of it
	calls  int
}

// load sends the request over and over until the deadline, on many connections from one thread: goroutines and the runtime's
// poller would cost several times what the system calls do.
func (k *kind) load(deadline time.Time, s *sample) error {
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer syscall.Close(poll)
	callers := make([]*caller, *connections)
	for i := range callers {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: k.port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
		}
		if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}); err != nil {
			return err
		}
		callers[i] = &caller{fd: fd, answer: make([]byte, 0, 16<<10)}
		if err := callers[i].send(k.request); err != nil {
			return err
		}
	}
	events := make([]syscall.EpollEvent, len(callers))
	for waiting := len(callers); waiting > 0; {
		n, err := syscall.EpollWait(poll, events, 5000)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("no answer within 5 s")
		}
		now := time.Now()
		for _, e := range events[:n] {
			c := callers[e.Fd]
			done, err := c.receive(k.want)
			if err != nil {
				return err
			}
			if !done {
				continue
			}
			s.requests++
			if c.calls++; c.calls%8 == 0 {
				s.latencies = append(s.latencies, float64(now.Sub(c.sent).Microseconds()))
			}
			if now.After(deadline) {
				waiting--
				continue
			}
			if err := c.send(k.request); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *caller) send(request []byte) error {
	c.sent = time.Now()
	n, err := syscall.Write(c.fd, request)
	if err == nil && n < len(request) {
		err = errors.New("a request doesn't fit into the socket's buffer")
	}
	return err
}

// receive reads what is there. It says whether that completes an answer, whose length is its Content-Length.
func (c *caller) receive(want []byte) (done bool, err error) {
	n, err := syscall.Read(c.fd, c.answer[len(c.answer):cap(c.answer)])
	if err != nil {
		return false, err
	}
	if n == 0 {
		return false, fmt.Errorf("connection closed after %q", c.answer)
	}
	c.answer = c.answer[:len(c.answer)+n]
	head, body, complete := bytes.Cut(c.answer, []byte("\r\n\r\n"))
	if !complete {
		return false, nil
	}
	if !bytes.HasPrefix(head, want) {
		return false, fmt.Errorf("answer %q, want %q", head, want)
	}
	length := 0
	if _, value, found := bytes.Cut(head, []byte("\r\nContent-Length: ")); found {
		digits, _, _ := bytes.Cut(value, []byte("\r\n"))
		if length, err = strconv.Atoi(string(digits)); err != nil {
			return false, err
		}
	}
	if len(body) < length {
		return false, nil
	}
	c.answer = c.answer[:0]
	return true, nil
}
