package mfa

import (
	"net/netip"
	"time"
)

// Client is what is known of the program that somebody uses, and of the device and the network that it is in. What nobody knows is
// zero.
type Client struct {
	App      ClientApp
	Address  netip.Addr // as Caddy's trusted proxies tell it
	Platform Platform

	// The country of the address: ISO 3166-1 alpha-2, or nothing if it belongs to none. It says something only if somebody
	// has looked (CountryKnown).
	Country      string
	CountryKnown bool

	Device Device
}

// ClientApp is a kind of client, in the words of Graph's conditionalAccessClientApp.
type ClientApp string

// Browser is what signs in through our pages.
const Browser ClientApp = "browser"

// Platform is what a device runs, in the words of Graph's conditionalAccessDevicePlatform. A client says so itself: it may make
// a policy apply, and proves nothing.
type Platform string

// Device is what a client certificate says that Caddy has verified. What the client says itself is no source for it.
type Device struct {
	Known        bool // there is such a certificate
	Compliant    bool
	DomainJoined bool
	ID           string // of the certificate
	Name         string

	// Until is when the certificate ends, which a connection may outlive; zero: never.
	Until time.Time
}

// PerUserState is a user's own setting of multi-factor authentication. The zero state is disabled.
type PerUserState string

// The states. An administrator enables; completing registration enforces.
const (
	PerUserDisabled PerUserState = "disabled"
	PerUserEnabled  PerUserState = "enabled"
	PerUserEnforced PerUserState = "enforced"
)
