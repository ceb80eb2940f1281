// Package push is approval on a phone, with number matching: the page of a sign-in shows a number, and the phone's page asks for it.
//
// The phone is a browser that has opened a page of ours. It holds a key that it has made itself and can't give away (ECDSA with P-256,
// WebCrypto, not extractable), and signs with it everything that it says. What a notification brings to the phone is only that there is
// something to see: nothing hangs on it.
package push

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

const (
	// PairingLifetime is how long the link is good with which a phone is connected.
	PairingLifetime = 10 * time.Minute

	// Lifetime is how long a prompt can be answered.
	Lifetime = time.Minute

	// skew is how far the clocks of a phone and a machine of ours may be apart.
	skew = 2 * time.Minute
)

// What a phone may be told, beside what every factor may find wrong: mfa.ErrWrong is a wrong number, mfa.ErrReplayed says that
// it was answered before, mfa.ErrExpired that it is too late.
var (
	// ErrSignature says that something was not signed with the phone's key. Nothing was judged.
	ErrSignature = errors.New("not signed with the phone's key")

	// ErrMalformed says that something is not what the page of a phone sends.
	ErrMalformed = errors.New("not what a phone sends")
)

// Subscription is where a phone's notifications are left (Push API, section 8): an address that the phone's browser has named.
type Subscription struct {
	Endpoint string `json:"endpoint"`
	P256dh   string `json:"p256dh"` // public key of the browser, in base64url without padding
	Auth     string `json:"auth"`   // its authentication secret, likewise
	Sender   string `json:"sender"` // public key of ours that it takes notifications from (RFC 8292), likewise
}

// Device is what is kept of a phone.
type Device struct {
	Key          []byte        `json:"key"`    // its public key: an uncompressed point (SEC 1, section 2.3.3)
	Origin       string        `json:"origin"` // where its page is
	Subscription *Subscription `json:"subscription,omitempty"`
}

// Read gives the phone of a credential.
func Read(c mfa.Credential) (Device, error) {
	var d Device
	if err := json.Unmarshal(c.Data, &d); err != nil || c.Method != mfa.Push {
		return Device{}, fmt.Errorf("reading phone %s: damaged", c.ID)
	}
	return d, nil
}

// Write puts the phone into its credential.
func (d Device) Write(c *mfa.Credential) (err error) {
	c.Data, err = json.Marshal(d)
	return err
}

// Statement is what a phone signs: what kind of thing it says, where its page is, and the rest in a fixed order. Nil: that can't be said.
func Statement(kind, origin string, parts ...string) []byte {
	all := append([]string{"caddy-mfa push 1", kind, origin}, parts...)
	if slices.ContainsFunc(all, func(s string) bool { return strings.ContainsRune(s, '\n') }) {
		return nil // two statements would be written alike
	}
	return []byte(strings.Join(all, "\n"))
}

// Signed judges a signature (r and s, 32 bytes each, as WebCrypto writes them) of what the phone says at an origin. The error is ErrSignature.
func (d Device) Signed(signature []byte, kind, origin string, parts ...string) error {
	statement := Statement(kind, origin, parts...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), d.Key)
	if err != nil || statement == nil || len(signature) != 64 || origin == "" || origin != d.Origin {
		return ErrSignature
	}
	digest := sha256.Sum256(statement)
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		return ErrSignature
	}
	return nil
}

// SignedNow is Signed for what a phone says again and again: the moment (seconds since 1970) is part of it, and is now.
func (d Device) SignedNow(now time.Time, at int64, signature []byte, kind, origin string, parts ...string) error {
	if age := now.Sub(time.Unix(at, 0)); age > skew || age < -skew {
		return ErrSignature
	}
	return d.Signed(signature, kind, origin, append([]string{strconv.FormatInt(at, 10)}, parts...)...)
}

// Factor is that factor. It is used through Prompt, which needs a phone: nothing that is typed proves it.
type Factor struct{}

// Method is mfa.Push.
func (Factor) Method() mfa.Method { return mfa.Push }

// Finish refuses: there is nothing to type.
func (Factor) Finish([]mfa.Credential, string, time.Time) (mfa.Credential, error) {
	return mfa.Credential{}, mfa.ErrWrong
}

// pairing is the registration of a phone. The same number matching ends it that every sign-in will ask for.
type pairing struct {
	Nonce  string `json:"nonce"` // of the link
	Origin string `json:"origin"`

	ID        string  `json:"id,omitempty"` // of the credential that it will be
	Name      string  `json:"name,omitempty"`
	Device    *Device `json:"device,omitempty"` // nil: the link was not opened yet
	Number    string  `json:"number,omitempty"` // that the page shows where the registration was begun
	Confirmed bool    `json:"confirmed,omitempty"`
}

// BeginRegistration begins it: Nonce tells what the link must hold.
func (Factor) BeginRegistration(_ *mfa.User, site mfa.Site, _ []mfa.Credential, now time.Time) (mfa.Challenge, error) {
	state, err := json.Marshal(pairing{Nonce: random(), Origin: site.Origin})
	return mfa.Challenge{Method: mfa.Push, State: state, Expires: now.Add(PairingLifetime)}, err
}

// FinishRegistration gives the credential of a phone on which the number was typed.
func (Factor) FinishRegistration(state []byte, _ []mfa.Credential, _ string, now time.Time) (mfa.Credential, error) {
	p, err := readPairing(state)
	if err != nil {
		return mfa.Credential{}, err
	}
	if p.Device == nil || !p.Confirmed || p.ID == "" {
		return mfa.Credential{}, mfa.ErrWrong
	}
	c := mfa.Credential{ID: p.ID, Method: mfa.Push, Name: p.Name, Added: now}
	return c, p.Device.Write(&c)
}

func readPairing(state []byte) (p pairing, err error) {
	if err := json.Unmarshal(state, &p); err != nil || p.Nonce == "" {
		return pairing{}, errors.New("reading registration of a phone: damaged")
	}
	return p, nil
}

// Pairing is how far the registration of a phone is.
type Pairing struct {
	Nonce     string // of the link
	Opened    bool   // a phone has opened the link
	Name      string // of that
	Number    string // to type there
	Confirmed bool   // it was typed
}

// PairingOf reads how far it is.
func PairingOf(state []byte) (Pairing, error) {
	p, err := readPairing(state)
	return Pairing{p.Nonce, p.Device != nil, p.Name, p.Number, p.Confirmed}, err
}

// Pair connects the phone that has opened the link, once: it has made this key, and signs the link with it. id and name are those of the
// credential that it will be. The error is mfa.ErrReplayed, mfa.ErrWrong, ErrMalformed or ErrSignature.
func Pair(state []byte, nonce, link, id, name, origin string, key, signature []byte) ([]byte, error) {
	p, err := readPairing(state)
	if err != nil {
		return nil, err
	}
	if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), key); err != nil {
		return nil, fmt.Errorf("%w: the key is no point on P-256", ErrMalformed)
	}
	d := Device{Key: key, Origin: origin}
	switch {
	case subtle.ConstantTimeCompare([]byte(nonce), []byte(p.Nonce)) != 1, origin != p.Origin:
		return nil, mfa.ErrWrong
	case p.Device != nil:
		return nil, mfa.ErrReplayed
	}
	if err := d.Signed(signature, "pair", origin, link); err != nil {
		return nil, err
	}
	p.Device, p.ID, p.Name, p.Number = &d, id, name, number()
	return json.Marshal(p)
}

// Confirm judges the number that was typed on the phone. It is judged once: after mfa.ErrWrong the registration has ended. After
// every other error it goes on: mfa.ErrReplayed, ErrSignature.
func Confirm(state []byte, nonce, link, typed, origin string, signature []byte) ([]byte, error) {
	p, err := readPairing(state)
	if err != nil {
		return nil, err
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(nonce), []byte(p.Nonce)) != 1 || p.Device == nil:
		return nil, ErrSignature
	case p.Confirmed:
		return nil, mfa.ErrReplayed
	}
	if err := p.Device.Signed(signature, "confirm", origin, link, typed); err != nil {
		return nil, err
	}
	if !matches(p.Number, typed) {
		return nil, mfa.ErrWrong
	}
	p.Confirmed = true
	return json.Marshal(p)
}

// Outcome is what became of a prompt. The zero Outcome is none: it waits.
type Outcome string

// The outcomes.
const (
	Approved Outcome = "approved"
	Denied   Outcome = "denied" // by a person who says that it isn't him
	Mistyped Outcome = "wrong"  // another number was typed
)

// Prompt is one question to the phones of a person: whether it is he who signs in.
type Prompt struct {
	ID          string    `json:"id"`
	Number      string    `json:"number"`
	Epoch       uint64    `json:"epoch"` // of the account when it was asked
	Application string    `json:"application,omitempty"`
	Host        string    `json:"host"`
	Browser     string    `json:"browser,omitempty"`
	Address     string    `json:"address,omitempty"`
	Country     string    `json:"country,omitempty"`
	Made        time.Time `json:"made"`

	// What was wished beside it, where it was asked.
	Stay     bool `json:"stay,omitempty"`
	Remember bool `json:"remember,omitempty"`

	Outcome    Outcome `json:"outcome,omitempty"`
	Credential string  `json:"credential,omitempty"` // of the phone that has answered
}

// NewPrompt completes one with id, number and time.
func NewPrompt(p Prompt, now time.Time) Prompt {
	p.ID, p.Number, p.Made, p.Outcome, p.Credential = random(), number(), now, "", ""
	return p
}

// Waits says whether it can be answered.
func (p Prompt) Waits(now time.Time) bool { return p.Outcome == "" && now.Before(p.Expires()) }

// Expires is when it can't be answered any more.
func (p Prompt) Expires() time.Time { return p.Made.Add(Lifetime) }

// Decisions, as a phone signs them.
const (
	Approve = "approve"
	Deny    = "deny"
)

// Answer notes what a phone says, whose credential has this id. Whoever calls saves it over the version that was read, so that one
// answer counts. The error is ErrMalformed, ErrSignature, mfa.ErrReplayed or mfa.ErrExpired: then nothing was judged. A wrong number
// is no error, but an outcome.
func (p *Prompt) Answer(d Device, credential, origin, decision, typed string, signature []byte, now time.Time) error {
	if decision != Approve && decision != Deny {
		return fmt.Errorf("%w: the decision is none", ErrMalformed)
	}
	if err := d.Signed(signature, "answer", origin, p.ID, decision, typed); err != nil {
		return err
	}
	switch {
	case p.Outcome != "":
		return mfa.ErrReplayed
	case !p.Waits(now):
		return mfa.ErrExpired
	}
	p.Credential = credential
	switch {
	case decision == Deny:
		p.Outcome = Denied
	case matches(p.Number, typed):
		p.Outcome = Approved
	default:
		p.Outcome = Mistyped
	}
	return nil
}

// matches compares a number that was typed. No number equals none.
func matches(number, typed string) bool {
	return len(number) == 2 && subtle.ConstantTimeCompare([]byte(number), []byte(typed)) == 1
}

// number draws two digits, the first of which is none that people leave out.
func number() string {
	n, err := rand.Int(rand.Reader, big.NewInt(90))
	if err != nil { // crypto/rand never fails
		panic(err)
	}
	return strconv.FormatInt(10+n.Int64(), 10)
}

func random() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}
