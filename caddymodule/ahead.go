package caddymodule

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
)

// firstAhead is how much is read ahead at first, in bytes. The buffer grows with what arrives, so that a body which is only
// announced takes no room.
const firstAhead = 4 << 10

// readAhead reads the beginning of a request's body, at most limit bytes, and puts it back: whoever reads the body then gets what was
// sent, byte for byte, and the rest as it arrives. It waits for that many bytes or the end; a client that waits for
// "100 Continue" gets it. whole says whether prefix is all of the body. prefix is good until the body is read and must not be changed.
//
// The error is what ended the body too early. Whoever reads the body gets it too, behind the prefix: a body that was cut off is never
// taken for one that has ended.
func readAhead(r *http.Request, limit int) (prefix []byte, whole bool, err error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, true, nil
	}
	body := &aheadBody{rest: r.Body}
	buf := make([]byte, 0, min(limit, firstAhead))
	for len(buf) < limit && body.err == nil {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(limit, 2*cap(buf)))
			copy(grown, buf)
			buf = grown
		}
		n, err := body.rest.Read(buf[len(buf):cap(buf)])
		buf, body.err = buf[:len(buf)+n], err
	}
	body.prefix = buf
	r.Body = body
	if body.err != nil && body.err != io.EOF {
		return buf, false, body.err
	}
	return buf, body.err == io.EOF || r.ContentLength == int64(len(buf)), nil
}

// bodyOf looks for legacy authentication in the beginning of a request's body.
func bodyOf(r *http.Request) func(legacy.Finding) legacy.Finding {
	return func(f legacy.Finding) legacy.Finding {
		// Of a body that was cut off nothing more comes: what is there is judged, and whoever reads it gets the error.
		prefix, whole, _ := readAhead(r, legacy.MaxBody)
		return legacy.InspectBody(f, strings.Join(r.Header["Content-Type"], ", "), strings.Join(r.Header["Content-Encoding"], ", "), prefix, whole)
	}
}

// aheadBody is a body whose beginning has been read already.
type aheadBody struct {
	prefix []byte // of it, what was not given yet
	err    error  // what came behind the prefix; nil: the rest
	rest   io.ReadCloser
	closed atomic.Bool
}

// Read gives the beginning again, and then the rest.
func (b *aheadBody) Read(p []byte) (int, error) {
	switch {
	case b.closed.Load():
		// Who tries again with a body that was closed must not get a part of it.
		return 0, http.ErrBodyReadAfterClose
	case len(p) == 0:
		return 0, nil
	case len(b.prefix) > 0:
		n := copy(p, b.prefix)
		b.prefix = b.prefix[n:]
		return n, nil
	case b.err != nil:
		return 0, b.err
	}
	return b.rest.Read(p)
}

// Close closes what the body is read from.
func (b *aheadBody) Close() error {
	b.closed.Store(true)
	return b.rest.Close()
}

// smallBody is the size of the largest body that is read away behind an answer, in bytes, so that the connection can be used again.
const smallBody = 64 << 10

// leaveUnread prepares an answer of ours to a request whose body nobody reads. A client may have much to send, or wait for leave to send
// it; over HTTP/1 the server would read on before it answers, and wait for both. So the connection ends behind the answer.
func leaveUnread(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 {
		return
	}
	if body, ok := r.Body.(*aheadBody); ok && body.err == io.EOF {
		return // it was read
	}
	if r.ContentLength < 0 || r.ContentLength > smallBody || len(r.Header["Expect"]) > 0 {
		w.Header().Set("Connection", "close")
	}
}
