package sender

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// maxAnswer is how much of a gateway's answer is read, in bytes.
const maxAnswer = 64 << 10

// client talks to gateways. A connection is used for one message, and nothing is sent twice or elsewhere: what net/http repeats by
// itself when a connection ends would be billed twice, and a redirect would take the credentials and the code to another host.
var client = &http.Client{
	Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// tracked says whether anything of a body was read, to be sent.
type tracked struct {
	io.Reader
	read *atomic.Bool
}

func (t tracked) Read(p []byte) (int, error) {
	t.read.Store(true)
	return t.Reader.Read(p)
}

// post sends a body, and gives the status and the beginning of the answer. If the request has certainly not arrived, the error wraps
// mfa.ErrNotAccepted.
func post(ctx context.Context, address, body string, prepare func(*http.Request)) (status int, answer []byte, err error) {
	var begun atomic.Bool
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, tracked{strings.NewReader(body), &begun})
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", mfa.ErrNotAccepted, withoutAddress(err))
	}
	req.ContentLength = int64(len(body))
	prepare(req)
	resp, err := client.Do(req)
	if err != nil {
		err = withoutAddress(err)
		if !begun.Load() {
			// Nothing of it was sent: the gateway was not reached.
			return 0, nil, fmt.Errorf("%w: %w", mfa.ErrNotAccepted, err)
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	// What the status says holds, whatever becomes of the rest.
	answer, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, answer, nil
}

// withoutAddress takes the address out of an error: a web hook's may hold a key.
func withoutAddress(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// judge says what a status of a gateway means. Success is 2xx. With 4xx the gateway says that it has not taken the message; it may have
// with everything else, errors of its own included.
func judge(status int, detail string) error {
	switch {
	case status >= 200 && status < 300:
		return nil
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		return fmt.Errorf("%w: the gateway answers %d%s", mfa.ErrNotAccepted, status, detail)
	}
	return fmt.Errorf("the gateway answers %d%s", status, detail)
}
