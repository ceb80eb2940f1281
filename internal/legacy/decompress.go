package legacy

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"
)

// encoded says whether a body is in a coding (RFC 9110, section 8.4).
func encoded(contentEncoding string) bool {
	contentEncoding = strings.TrimSpace(contentEncoding)
	return contentEncoding != "" && !strings.EqualFold(contentEncoding, "identity")
}

// maxCodings is how often a body may be compressed.
const maxCodings = 2

// decompress takes the codings off the beginning of a body, last applied first, for looking only. It gives at most MaxBody bytes,
// and what came before a fault. It says whether that is all, and whether the codings are known and begin as they should.
func decompress(contentEncoding string, b []byte) (decoded []byte, all, known bool) {
	codings := strings.Split(contentEncoding, ",")
	if len(codings) > maxCodings {
		return nil, false, false
	}
	all = true
	for i := len(codings) - 1; i >= 0; i-- {
		var r io.Reader
		var err error
		switch coding := strings.ToLower(strings.TrimSpace(codings[i])); coding {
		case "", "identity":
			continue
		case "gzip", "x-gzip":
			r, err = gzip.NewReader(bytes.NewReader(b))
		case "deflate":
			// It means zlib (RFC 9110, section 8.4.1.2). Some send the bare stream.
			if r, err = zlib.NewReader(bytes.NewReader(b)); err != nil {
				r, err = flate.NewReader(bytes.NewReader(b)), nil
			}
		default:
			return nil, false, false
		}
		if err != nil {
			return nil, false, false
		}
		var ended bool
		if b, ended = readAll(r, MaxBody); !ended {
			if len(b) == 0 {
				return nil, false, false
			}
			all = false
		}
	}
	return b, all, true
}

// readAll reads up to a limit, or to the first fault. It says whether it came to the end.
func readAll(r io.Reader, limit int) (b []byte, ended bool) {
	b = make([]byte, 0, min(limit, 4<<10))
	for len(b) < limit {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):min(cap(b), limit)])
		b = b[:len(b)+n]
		if err != nil {
			return b, errors.Is(err, io.EOF)
		}
	}
	return b, false
}
