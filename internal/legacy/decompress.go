package legacy

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"strings"
)

// encoded says whether a body is in a coding (RFC 9110, section 8.4).
func encoded(contentEncoding string) bool {
	contentEncoding = strings.TrimSpace(contentEncoding)
	return contentEncoding != "" && !strings.EqualFold(contentEncoding, "identity")
}

// maxCodings is how often a body may be compressed.
const maxCodings = 2

// decompress takes the codings off the beginning of a body, last applied first, for looking only. It reads memory and nothing
// else, and gives at most MaxBody bytes; fewer where something is broken further on. It says whether it stopped for
// their number, and whether the codings are known.
func decompress(contentEncoding string, b []byte) (decoded []byte, stopped, known bool) {
	codings := strings.Split(contentEncoding, ",")
	if len(codings) > maxCodings {
		return nil, false, false
	}
	for i := len(codings) - 1; i >= 0; i-- {
		ok := true
		switch coding := strings.ToLower(strings.TrimSpace(codings[i])); coding {
		case "", "identity":
			continue
		case "gzip", "x-gzip":
			b, ok = gunzip(b)
		case "deflate":
			b, ok = inflate(b)
		default:
			ok = false
		}
		if !ok {
			return nil, false, false
		}
		stopped = stopped || len(b) == MaxBody
	}
	return b, stopped, true
}

func gunzip(b []byte) ([]byte, bool) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, false
	}
	return readAll(r, MaxBody), true
}

// inflate reads zlib, which is what deflate means (RFC 9110, section 8.4.1.2), and the bare stream, which some send.
func inflate(b []byte) ([]byte, bool) {
	if r, err := zlib.NewReader(bytes.NewReader(b)); err == nil {
		return readAll(r, MaxBody), true
	}
	decoded := readAll(flate.NewReader(bytes.NewReader(b)), MaxBody)
	return decoded, len(decoded) > 0
}

// readAll reads up to a limit, or to the first fault.
func readAll(r interface{ Read([]byte) (int, error) }, limit int) []byte {
	b := make([]byte, 0, min(limit, 4<<10))
	for len(b) < limit {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):min(cap(b), limit)])
		b = b[:len(b)+n]
		if err != nil {
			break
		}
	}
	return b
}
