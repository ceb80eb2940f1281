package caddymodule

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/iotest"
)

// pieces is a body that arrives as a network delivers it: so many bytes at a time, and then an error.
type pieces struct {
	data   []byte
	size   int
	end    error // io.EOF, or what breaks it off
	joined bool  // the error comes with the last bytes
	reads  int
	closed bool
}

func (b *pieces) Read(p []byte) (int, error) {
	b.reads++
	if len(b.data) == 0 {
		return 0, b.end
	}
	n := copy(p, b.data[:min(b.size, len(b.data))])
	b.data = b.data[n:]
	if len(b.data) == 0 && b.joined {
		return n, b.end
	}
	return n, nil
}

func (b *pieces) Close() error { b.closed = true; return nil }

func aheadRequest(body io.ReadCloser, length int64) *http.Request {
	r := httptest.NewRequest("POST", "/", nil)
	r.Body, r.ContentLength = body, length
	return r
}

func TestReadAhead(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	for reason, c := range map[string]struct {
		body   []byte
		size   int
		length int64
		end    error
		prefix int
		whole  bool
		err    error
	}{
		"shorter than the limit":                 {long[:100], 7, -1, io.EOF, 100, true, nil},
		"longer than the limit":                  {long, 1000, -1, io.EOF, 65536, false, nil},
		"longer than the limit, announced":       {long, 70000, int64(len(long)), io.EOF, 65536, false, nil},
		"as long as the limit, announced":        {long[:65536], 70000, 65536, io.EOF, 65536, true, nil},
		"as long as the limit, end not seen":     {long[:65536], 70000, -1, io.EOF, 65536, false, nil},
		"empty, chunked":                         {nil, 1, -1, io.EOF, 0, true, nil},
		"broken off within the limit":            {long[:100], 30, 200, io.ErrUnexpectedEOF, 100, false, io.ErrUnexpectedEOF},
		"broken off behind the limit":            {long[:70000], 70000, -1, io.ErrUnexpectedEOF, 65536, false, nil},
		"broken off before anything has arrived": {nil, 1, -1, io.ErrUnexpectedEOF, 0, false, io.ErrUnexpectedEOF},
	} {
		for _, joined := range []bool{false, true} {
			b := &pieces{data: c.body, size: c.size, end: c.end, joined: joined}
			r := aheadRequest(b, c.length)
			prefix, whole, err := readAhead(r, 65536)
			if !bytes.Equal(prefix, c.body[:c.prefix]) || !errors.Is(err, c.err) || err == nil && whole != c.whole && !(joined && c.prefix == len(c.body)) {
				t.Errorf("%s: %d bytes ahead, whole %v, %v", reason, len(prefix), whole, err)
			}
			got, err := io.ReadAll(r.Body)
			if c.end == io.EOF {
				c.end = nil
			}
			if !bytes.Equal(got, c.body) || !errors.Is(err, c.end) {
				t.Errorf("%s: the application gets %d bytes, %v", reason, len(got), err)
			}
			if err := r.Body.Close(); err != nil || !b.closed {
				t.Errorf("%s: not closed: %v", reason, err)
			}
			c.end = b.end
		}
	}
}

func TestNothingIsReadOfABodyThatIsNotThere(t *testing.T) {
	b := &pieces{data: []byte("x"), size: 1, end: io.EOF}
	r := aheadRequest(b, 0)
	if prefix, whole, err := readAhead(r, 10); len(prefix) != 0 || !whole || err != nil || b.reads != 0 || r.Body != b {
		t.Fatalf("%q, whole %v, %v, %d reads", prefix, whole, err, b.reads)
	}
	r.Body = nil
	if _, whole, err := readAhead(r, 10); !whole || err != nil {
		t.Fatal(whole, err)
	}
}

// TestNoMoreIsReadThanIsNeeded is for streams whose other half comes only after an answer.
func TestNoMoreIsReadThanIsNeeded(t *testing.T) {
	b := &pieces{data: bytes.Repeat([]byte("x"), 64), size: 64, end: errors.New("one read too many")}
	r := aheadRequest(b, -1)
	if prefix, _, err := readAhead(r, 64); len(prefix) != 64 || err != nil || b.reads != 1 {
		t.Fatalf("%d bytes in %d reads, %v", len(prefix), b.reads, err)
	}
	if n, err := r.Body.Read(make([]byte, 1000)); n != 64 || err != nil || b.reads != 1 {
		t.Fatalf("the first read gives %d bytes, %v, with %d reads", n, err, b.reads)
	}
}

// TestAClosedBodyGivesNothing is for who tries again: half a body would pass for one.
func TestAClosedBodyGivesNothing(t *testing.T) {
	r := aheadRequest(&pieces{data: []byte("first, second"), size: 100, end: io.EOF}, -1)
	if _, _, err := readAhead(r, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r.Body, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := r.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Body.Read(make([]byte, 100)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Fatal(n, err)
	}
}

func FuzzReadAhead(f *testing.F) {
	f.Add([]byte("<methodCall/>"), uint16(5), uint16(3), uint16(4), false, true)
	f.Add(bytes.Repeat([]byte("x"), 9000), uint16(8192), uint16(4096), uint16(1), true, false)
	f.Fuzz(func(t *testing.T, body []byte, limit, size, read uint16, broken, joined bool) {
		end := io.EOF
		if broken {
			end = io.ErrUnexpectedEOF
		}
		r := aheadRequest(&pieces{data: body, size: int(size) + 1, end: end, joined: joined}, -1)
		prefix, whole, err := readAhead(r, int(limit))
		if !bytes.HasPrefix(body, prefix) || len(prefix) > int(limit) || whole && (len(prefix) != len(body) || broken) || err != nil && !broken {
			t.Fatalf("%d of %d bytes ahead, whole %v, %v", len(prefix), len(body), whole, err)
		}
		var got []byte
		for buf := make([]byte, int(read)+1); ; {
			n, err := r.Body.Read(buf)
			if got = append(got, buf[:n]...); err != nil {
				if err != end {
					t.Fatalf("the body ends with %v, not %v", err, end)
				}
				break
			}
		}
		if !bytes.Equal(got, body) {
			t.Fatalf("the application gets %d bytes of %d", len(got), len(body))
		}
	})
}

// TestReadAheadIsAReader has the standard library's checker look at what is left behind.
func TestReadAheadIsAReader(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 100)
	r := aheadRequest(&pieces{data: body, size: 30, end: io.EOF}, -1)
	if _, _, err := readAhead(r, 500); err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(r.Body, body); err != nil {
		t.Fatal(err)
	}
}
