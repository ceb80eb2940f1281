package mfa

import (
	"context"
	"errors"
	"time"
)

// ErrNotAccepted says that a gateway has certainly not taken a message: nothing is billed, and another way may be tried. Every other
// error of a Sender leaves open whether it was taken, and then nothing is sent a second time.
var ErrNotAccepted = errors.New("message was not accepted")

// What a Messenger may find wrong, beside what every Factor may.
var (
	// ErrAddress says that a text is nothing that could be sent to.
	ErrAddress = errors.New("not an address")

	// ErrNotServed says that it is one, and that the operator has messages sent to others only.
	ErrNotServed = errors.New("nothing is sent to this address")

	// ErrExpired says that a code is too old, whatever it is. Nothing was judged.
	ErrExpired = errors.New("code has expired")
)

// Message is a code on its way to a person, or tells him what has changed. It may hold a secret: it is never logged.
type Message struct {
	ID       string // random, and the same in every attempt to deliver it
	Method   Method // SMS, Voice or Email
	To       string // number as in E.164, or mail address
	Code     string // six digits; empty in a mail that tells what has changed
	Language string // BCP 47, of the words below

	Subject string // of a mail
	Text    string // what a text message or a mail says, or a call reads out: in that, digit by digit, and twice
	HTML    string // of a mail
}

// Sender hands messages to a gateway.
type Sender interface {
	// Send returns nil once the gateway has accepted the message, which says nothing about its arrival. It wraps ErrNotAccepted only
	// where that is certain. It is given up when ctx ends.
	Send(ctx context.Context, m *Message) error
}

// Messenger is a Registrar whose codes are sent to the person.
//
// Unlike a Challenger's question, the state of a code is judged until it is right or expires: people mistype. Whoever calls counts
// the attempts, and takes the state away when an answer was right.
type Messenger interface {
	Registrar

	// Address reads where to send to, as a person has typed it. The error wraps ErrAddress or ErrNotServed.
	Address(typed string) (string, error)

	// Destination is where a credential's codes go, and what of it may be shown.
	Destination(c Credential) (to, shown string, err error)

	// NewCode makes a code for a credential, or, if that is zero, for the registration of one.
	NewCode(credential Credential, to string, now time.Time) (Challenge, string, error)

	// FinishVerification is Finish against the state of NewCode.
	FinishVerification(state []byte, credentials []Credential, answer string, now time.Time) (Credential, error)
}
