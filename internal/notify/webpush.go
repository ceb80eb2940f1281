// Package notify tells phones that there is something to look at: Web Push.
package notify

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"

	"github.com/caddy-mfa/caddy-mfa/internal/factor/push"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

const (
	// pushPatience bounds one notification. Nobody waits for it.
	pushPatience = 10 * time.Second

	// pushAtOnce is how many notifications are under way at most. What comes above is dropped: the page of the phone asks by itself.
	pushAtOnce = 32

	maxEndpoint = 1024 // bytes of an address that a browser names

	maxAnswer = 64 << 10 // bytes of a push service's answer that are read
)

// ErrEndpoint says that notifications can't be left at an address that a browser has named.
var ErrEndpoint = errors.New("not an address of a push service")

// WebPush leaves notifications where browsers fetch them (RFC 8030), encrypted (RFC 8291) and signed (RFC 8292).
//
// The address is one that a browser has named, and could be any: it is asked with https alone, only where anybody on the internet could
// ask it, without a redirect, and nothing of the answer is told.
type WebPush struct {
	keys    []*ecdh.PrivateKey // the newest first
	contact string             // mailto: or https:
	allowed []string
	client  *http.Client
	places  chan struct{}
	stop    <-chan struct{}
	log     *slog.Logger
}

// NewWebPush signs with a key that is derived from the operator's secret, so that all machines have the same; what was subscribed to with an
// older secret's goes on. contact (mailto: or https:) is whom push services turn to. allowed are hosts, with port, that may be where only
// this machine reaches them. Notifications that are under way are given up when stop is closed.
func NewWebPush(keys *seal.Keyring, contact string, allowed []string, stop <-chan struct{}, log *slog.Logger) (*WebPush, error) {
	w := &WebPush{contact: contact, allowed: allowed, places: make(chan struct{}, pushAtOnce), stop: stop, log: log}
	for _, seed := range keys.Keys("web push", 8*32) {
		key, err := keyFrom(seed)
		if err != nil {
			return nil, err
		}
		w.keys = append(w.keys, key)
	}
	w.client = &http.Client{
		Transport: &http.Transport{
			// No proxy: it would ask in our place, and could reach what we must not.
			DialContext:            w.dial,
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  5 * time.Second,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w, nil
}

// keyFrom makes a private key of random bytes: the first 32 of them that are one. All but one in 2³² are.
func keyFrom(seed []byte) (*ecdh.PrivateKey, error) {
	for chunk := range slices.Chunk(seed, 32) {
		if key, err := ecdh.P256().NewPrivateKey(chunk); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("no key for notifications can be derived from this secret; make another")
}

func public(key *ecdh.PrivateKey) string {
	return base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes())
}

// Key is the public key with which browsers subscribe.
func (w *WebPush) Key() string { return public(w.keys[0]) }

// Check says whether notifications could be left there. The error wraps ErrEndpoint.
func (w *WebPush) Check(s push.Subscription) error {
	u, err := url.Parse(s.Endpoint)
	switch {
	case err != nil, len(s.Endpoint) > maxEndpoint, u.Scheme != "https", u.Host == "", u.User != nil, u.Fragment != "", u.Opaque != "":
		return fmt.Errorf("%w: want an address with https", ErrEndpoint)
	}
	if port := cmp.Or(u.Port(), "443"); !w.may(net.JoinHostPort(u.Hostname(), port)) {
		if port != "443" {
			return fmt.Errorf("%w: another port than that of https", ErrEndpoint)
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && !everybodys(a) || !strings.Contains(u.Hostname(), ".") && err != nil {
			return fmt.Errorf("%w: a host that is not everybody's", ErrEndpoint)
		}
	}
	point, err := base64.RawURLEncoding.DecodeString(s.P256dh)
	if err == nil {
		_, err = ecdh.P256().NewPublicKey(point)
	}
	auth, authErr := base64.RawURLEncoding.DecodeString(s.Auth)
	if err != nil || authErr != nil || len(auth) != 16 {
		return fmt.Errorf("%w: its keys are none (RFC 8291, section 3.1)", ErrEndpoint)
	}
	if w.key(s.Sender) == nil {
		return fmt.Errorf("%w: it takes notifications from another sender", ErrEndpoint)
	}
	return nil
}

// key finds the one that a browser has subscribed with.
func (w *WebPush) key(sender string) *ecdh.PrivateKey {
	for _, key := range w.keys {
		if public(key) == sender {
			return key
		}
	}
	return nil
}

// may says whether the operator allows a host, wherever it is.
func (w *WebPush) may(host string) bool { return slices.Contains(w.allowed, strings.ToLower(host)) }

// Notify leaves a notification, in its own time. gone is called if nobody fetches from there any more.
func (w *WebPush) Notify(to push.Subscription, payload []byte, gone func()) {
	select {
	case w.places <- struct{}{}:
	default:
		w.log.Warn("too many notifications at once: one is dropped")
		return
	}
	go func() {
		defer func() { <-w.places }()
		ctx, cancel := context.WithTimeout(context.Background(), pushPatience)
		defer cancel()
		go func() {
			select {
			case <-w.stop:
				cancel()
			case <-ctx.Done():
			}
		}()
		status, err := w.send(ctx, to, payload)
		switch {
		case err != nil:
			w.log.Warn("leaving a notification", "error", withoutAddress(err)) // the address lets whoever knows it leave something there
		case status == http.StatusNotFound, status == http.StatusGone:
			gone()
		case status < 200 || status >= 300:
			w.log.Warn("leaving a notification: the push service does not take it", "status", status)
		}
	}()
}

func (w *WebPush) send(ctx context.Context, to push.Subscription, payload []byte) (status int, err error) {
	if err := w.Check(to); err != nil { // it was when it was kept; the configuration may have changed
		return 0, err
	}
	key := w.key(to.Sender)
	resp, err := webpush.SendNotificationWithContext(ctx, payload, &webpush.Subscription{Endpoint: to.Endpoint, Keys: webpush.Keys{Auth: to.Auth, P256dh: to.P256dh}}, &webpush.Options{
		HTTPClient: w.client, Subscriber: strings.TrimPrefix(w.contact, "mailto:"), TTL: int(push.Lifetime / time.Second), Urgency: webpush.UrgencyHigh, Topic: "sign-in",
		VAPIDPublicKey: public(key), VAPIDPrivateKey: base64.RawURLEncoding.EncodeToString(key.Bytes()), RecordSize: 2048,
	})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // so that the connection can be used again
	return resp.StatusCode, nil
}

// dial connects to what anybody on the internet could connect to: judged is the address itself, after the name was looked up.
func (w *WebPush) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if !w.may(address) {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || at.Port() != 443 || !everybodys(at.Addr()) {
				return fmt.Errorf("%w: it is not everybody's", ErrEndpoint)
			}
			return nil
		}
	}
	return d.DialContext(ctx, network, address)
}

// special are the ranges that are not everybody's, beside those that netip knows (IANA special-purpose address registries), and those that
// hold an IPv4 address which might be one of them.
var special = func() (ranges []netip.Prefix) {
	for _, r := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		ranges = append(ranges, netip.MustParsePrefix(r))
	}
	return ranges
}()

// global are the IPv6 addresses that are given to anybody at all (RFC 4291, section 2.5.4).
var global = netip.MustParsePrefix("2000::/3")

// everybodys says whether an address is one that anybody on the internet could reach.
func everybodys(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsValid() || a.Zone() != "" || !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.Is6() && !global.Contains(a) {
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// withoutAddress takes the address out of an error.
func withoutAddress(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}
