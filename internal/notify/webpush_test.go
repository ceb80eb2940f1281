package notify

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/factor/push"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

func decoded(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// decrypt reads a message as a browser does (RFC 8291, section 3.4; RFC 8188, section 2).
func decrypt(t testing.TB, body []byte, receiver *ecdh.PrivateKey, auth []byte) []byte {
	t.Helper()
	must := func(key []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	if len(body) < 21+65 || body[20] != 65 {
		t.Fatalf("no header of a record: %x", body)
	}
	salt, size, sender, text := body[:16], binary.BigEndian.Uint32(body[16:20]), body[21:86], body[86:]
	if len(text) > int(size) {
		t.Fatalf("a record of %d bytes, longer than %d", len(text), size)
	}
	key, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		t.Fatal(err)
	}
	secret := must(receiver.ECDH(key))
	ikm := must(hkdf.Key(sha256.New, secret, auth, "WebPush: info\x00"+string(receiver.PublicKey().Bytes())+string(sender), 32))
	block, err := aes.NewCipher(must(hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := gcm.Open(nil, must(hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)), text, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain = bytes.TrimRight(plain, "\x00")
	if len(plain) == 0 || plain[len(plain)-1] != 2 {
		t.Fatalf("the padding of a last record ends with 2: %x", plain)
	}
	return plain[:len(plain)-1]
}

// The example of RFC 8291, section 5, and its appendix: what judges our messages below reads it right.
func TestTheJudgeReadsTheExampleOfRFC8291(t *testing.T) {
	receiver, err := ecdh.P256().NewPrivateKey(decoded(t, "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
	if err != nil {
		t.Fatal(err)
	}
	body := decoded(t, "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	if got := string(decrypt(t, body, receiver, decoded(t, "BTBZMqHH6r4Tts7J_aSIgg"))); got != "When I grow up, I want to be a watermelon" {
		t.Fatalf("%q", got)
	}
}

func webPush(t testing.TB, allowed ...string) *WebPush {
	t.Helper()
	keys, err := seal.NewKeyring(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	w, err := NewWebPush(keys, "mailto:ops@example.com", allowed, stop, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// browser is one that has subscribed.
func browser(t testing.TB, w *WebPush, endpoint string) (push.Subscription, *ecdh.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auth := make([]byte, 16)
	rand.Read(auth)
	return push.Subscription{
		Endpoint: endpoint, P256dh: public(key), Auth: base64.RawURLEncoding.EncodeToString(auth), Sender: w.Key(),
	}, key, auth
}

// service is a push service on this machine.
func service(t testing.TB, answer http.HandlerFunc) (w *WebPush, address string) {
	t.Helper()
	s := httptest.NewTLSServer(answer)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	w = webPush(t, u.Host)
	w.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	return w, s.URL
}

func TestANotificationIsAsInTheRFCs(t *testing.T) {
	var header http.Header
	var body []byte
	w, address := service(t, func(rw http.ResponseWriter, r *http.Request) {
		header = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
		rw.WriteHeader(http.StatusCreated)
	})
	to, key, auth := browser(t, w, address+"/push/x?y=z")
	if status, err := w.send(t.Context(), to, []byte("look at the page")); err != nil || status != http.StatusCreated {
		t.Fatal(status, err)
	}
	if got := string(decrypt(t, body, key, auth)); got != "look at the page" {
		t.Errorf("the browser reads %q", got)
	}
	for name, want := range map[string]string{"Content-Encoding": "aes128gcm", "Ttl": "60", "Urgency": "high", "Topic": "sign-in"} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	sender, c := vapid(t, header.Get("Authorization"))
	if sender != w.Key() {
		t.Errorf("sent by %s, and subscribed to %s", sender, w.Key())
	}
	if left := time.Until(time.Unix(c.Exp, 0)); c.Aud != address || c.Sub != "mailto:ops@example.com" || left <= 0 || left > 24*time.Hour {
		t.Errorf("%+v", c)
	}
}

// The example of RFC 8292, section 2.4: what judges our tokens reads it right.
func TestTheJudgeReadsTheExampleOfRFC8292(t *testing.T) {
	sender, c := vapid(t, "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0."+
		"i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs")
	if !strings.HasPrefix(sender, "BA1H") || c != (claims{"https://push.example.net", "mailto:push@example.com", 1453523768}) {
		t.Fatalf("%s %+v", sender, c)
	}
}

type claims struct {
	Aud, Sub string
	Exp      int64
}

// vapid reads what says who sends a notification, with its signature (RFC 8292, sections 2 and 3).
func vapid(t *testing.T, authorization string) (sender string, c claims) {
	t.Helper()
	var token string
	for part := range strings.SplitSeq(strings.TrimPrefix(authorization, "vapid "), ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(part), "="); name {
		case "t":
			token = value
		case "k":
			sender = value
		}
	}
	signed, signature, _ := cutLast(token)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), decoded(t, sender))
	if err != nil {
		t.Fatal(err)
	}
	rs, digest := decoded(t, signature), sha256.Sum256([]byte(signed))
	if len(rs) != 64 || !ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(rs[:32]), new(big.Int).SetBytes(rs[32:])) {
		t.Fatal("the token is not signed with the key that it comes with")
	}
	head, said, _ := strings.Cut(signed, ".")
	var h struct{ Alg string }
	if err := errors.Join(json.Unmarshal(decoded(t, head), &h), json.Unmarshal(decoded(t, said), &c)); err != nil || h.Alg != "ES256" {
		t.Fatalf("%+v, %v", h, err)
	}
	return sender, c
}

func cutLast(token string) (before, after string, found bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return "", "", false
	}
	return token[:i], token[i+1:], true
}

func TestAllMachinesHaveOneKeyAndOlderOnesGoOn(t *testing.T) {
	w := webPush(t)
	if webPush(t).Key() != w.Key() || len(decoded(t, w.Key())) != 65 {
		t.Error("another machine with the same secret has another key")
	}
	to, _, _ := browser(t, w, "https://push.example.net/x")
	to.Sender = public(w.keys[1])
	if err := w.Check(to); err != nil {
		t.Errorf("subscribed to before the secret was renewed: %v", err)
	}
	to.Sender = public(func() *ecdh.PrivateKey { k, _ := ecdh.P256().GenerateKey(rand.Reader); return k }())
	if err := w.Check(to); !errors.Is(err, ErrEndpoint) {
		t.Errorf("subscribed to somebody else: %v", err)
	}
}

func TestAddressesThatABrowserMayNotName(t *testing.T) {
	w := webPush(t, "push.corp.example:8443")
	for address, ok := range map[string]bool{
		"https://push.example.net/x":                            true,
		"https://push.example.net:443/x":                        true,
		"https://push.corp.example:8443/x":                      true,
		"https://192.0.43.7/x":                                  true,
		"https://[2606:2800:220:1::1]/x":                        true,
		"http://push.example.net/x":                             false,
		"https://push.example.net:8443/x":                       false,
		"https://push.corp.example:8444/x":                      false,
		"https://user:secret@push.example.net/x":                false,
		"https://push.example.net/x#fragment":                   false,
		"https://localhost/x":                                   false,
		"https://127.0.0.1/x":                                   false,
		"https://10.0.0.7/x":                                    false,
		"https://169.254.169.254/latest/meta-data":              false,
		"https://[::1]/x":                                       false,
		"https://[::ffff:127.0.0.1]/x":                          false,
		"https://[64:ff9b::7f00:1]/x":                           false,
		"https://[2002:7f00:1::]/x":                             false,
		"https://[fd00::1]/x":                                   false,
		"https://[fe80::1%25eth0]/x":                            false,
		"https:///x":                                            false,
		"https:push.example.net":                                false,
		"file:///etc/passwd":                                    false,
		"gopher://push.example.net/x":                           false,
		"":                                                      false,
		"https://push.example.net/" + strings.Repeat("x", 1024): false,
	} {
		to, _, _ := browser(t, w, address)
		if err := w.Check(to); (err == nil) != ok || err != nil && !errors.Is(err, ErrEndpoint) {
			t.Errorf("%q: %v, want %v", address, err, ok)
		}
	}
	for name, spoil := range map[string]func(*push.Subscription){
		"no key": func(s *push.Subscription) { s.P256dh = "" },
		"a key off the curve": func(s *push.Subscription) {
			s.P256dh = base64.RawURLEncoding.EncodeToString(append([]byte{4}, make([]byte, 64)...))
		},
		"no secret":      func(s *push.Subscription) { s.Auth = "" },
		"a short secret": func(s *push.Subscription) { s.Auth = "AAAA" },
	} {
		to, _, _ := browser(t, w, "https://push.example.net/x")
		if spoil(&to); !errors.Is(w.Check(to), ErrEndpoint) {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// A name that anybody could own leads to this machine: what counts is where it leads when it is asked.
func TestANameThatLeadsHereIsNotFollowed(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer s.Close()
	port := s.URL[strings.LastIndexByte(s.URL, ':')+1:]
	w := webPush(t)
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]", "0.0.0.0"} {
		for _, p := range []string{port, "443"} {
			if conn, err := w.dial(t.Context(), "tcp", host+":"+p); err == nil {
				conn.Close()
				t.Errorf("%s:%s is reached", host, p)
			} else if !errors.Is(err, ErrEndpoint) {
				t.Errorf("%s:%s was tried: %v", host, p, err)
			}
		}
	}
	if asked.Load() != 0 {
		t.Error("this machine was asked")
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	var asked atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer inside.Close()
	w, address := service(t, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, inside.URL, http.StatusTemporaryRedirect)
	})
	to, _, _ := browser(t, w, address)
	if status, err := w.send(t.Context(), to, []byte("x")); err != nil || status != http.StatusTemporaryRedirect || asked.Load() != 0 {
		t.Errorf("%d, %v, %d requests inside", status, err, asked.Load())
	}
}

func TestASubscriptionThatIsGoneIsTold(t *testing.T) {
	for status, want := range map[int]bool{http.StatusCreated: false, http.StatusNotFound: true, http.StatusGone: true, http.StatusForbidden: false, http.StatusInternalServerError: false} {
		w, address := service(t, func(rw http.ResponseWriter, r *http.Request) { rw.WriteHeader(status) })
		to, _, _ := browser(t, w, address)
		gone := false
		w.Notify(to, []byte("x"), func() { gone = true })
		for range pushAtOnce { // every place is free again once it has come to its end
			w.places <- struct{}{}
		}
		if gone != want {
			t.Errorf("status %d: gone is %v", status, gone)
		}
	}
}

func TestSpecialAddressesAreNotEverybodys(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8": true, "2001:4860:4860::8888": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.1.2.3": false, "100.64.0.1": false, "127.1.2.3": false, "169.254.1.1": false, "172.16.0.1": false, "192.0.0.8": false,
		"192.168.1.1": false, "198.18.0.1": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "100::1": false, "2001::1": false, "2001:db8::1": false, "2002:a00:1::": false,
		"fc00::1": false, "fe80::1": false, "fec0::1": false, "ff02::1": false,
	} {
		if got := everybodys(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if everybodys(netip.Addr{}) {
		t.Error("no address is everybody's")
	}
}
