// Package webauthn is passkeys and security keys (WebAuthn Level 3), as a second factor and in the password's place. Every one must
// verify its user, by a PIN or biometrics, so that it is worth two factors. Who made it is asked only where the operator names makers whom he believes.
package webauthn

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

const (
	// Lifetime is how long an answer may take.
	Lifetime = 5 * time.Minute

	// DiscoveryLifetime is the same for a sign-in page, which may be open for a while before anybody looks at it.
	DiscoveryLifetime = 10 * time.Minute
)

const (
	handleSize = 32       // of a user handle, in bytes: random, so that it says nothing about who it is (WebAuthn, section 14.6.1)
	maxAnswer  = 48 << 10 // bytes
)

// Factor is passkeys and security keys.
type Factor struct {
	// RPID is the domain that passkeys are good for, with every host below it. Empty: each is good for the host that it was
	// registered on.
	RPID string

	// DisplayName is what browsers and passkey managers call the relying party. Empty: by its domain.
	DisplayName string

	// RelatedOrigins are origins outside of RPID that its passkeys are good for too (WebAuthn Level 3, section 5.11). Browsers ask
	// the host RPID for the list.
	RelatedOrigins []string

	// Roots are the makers of security keys who are believed about what they have made. With them, browsers are asked for the maker's
	// attestation when a passkey is registered. Nil: nobody is believed or asked.
	Roots *x509.CertPool
}

// data is what is kept of a credential.
type data struct {
	Handle     []byte              `json:"handle"` // of the user: the same in all of a person's passkeys
	Credential webauthn.Credential `json:"credential"`
}

// asked is what is kept of a question until its answer comes.
type asked struct {
	Origin  string               `json:"origin"` // of the page that asks
	RPID    string               `json:"rp"`
	Expires time.Time            `json:"expires"`
	Session webauthn.SessionData `json:"session"` // as the library wants it back

	// Discovery says that nobody was named: any passkey of the relying party's may answer.
	Discovery bool `json:"discovery,omitempty"`
}

// Method is mfa.Passkey.
func (Factor) Method() mfa.Method { return mfa.Passkey }

// RP is the relying party of a host. An address has none: browsers accept only names.
func (f Factor) RP(host string) string {
	if _, err := netip.ParseAddr(host); err == nil || protocol.ValidateRPID(host) != nil {
		return ""
	}
	if f.RPID == "" || host == f.RPID || strings.HasSuffix(host, "."+f.RPID) {
		return cmp.Or(f.RPID, host)
	}
	for _, related := range f.RelatedOrigins {
		if u, err := url.Parse(related); err == nil && u.Hostname() == host {
			return f.RPID
		}
	}
	return ""
}

// related says whether an origin outside of the relying party's domain may use its passkeys.
func (f Factor) related(host, origin string) bool {
	return f.RPID == "" || host == f.RPID || strings.HasSuffix(host, "."+f.RPID) || slices.Contains(f.RelatedOrigins, origin)
}

var errSite = errors.New("there are no passkeys on this site")

// relyingParty makes the library's verifier for one origin. The origin must be that of a secure context (W3C Secure Contexts).
func (f Factor) relyingParty(rpID, origin string) (*webauthn.WebAuthn, error) {
	patience := webauthn.TimeoutConfig{Timeout: Lifetime, TimeoutUVD: Lifetime} // for the browser; asked.Expires enforces it
	return webauthn.New(&webauthn.Config{
		RPID: rpID, RPDisplayName: cmp.Or(f.DisplayName, rpID), RPOrigins: []string{origin},
		AttestationPreference: f.attestation(),
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementPreferred, UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: patience, Registration: patience},
		// Some passkey managers say more than they were asked. Nothing of it is used.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
}

// attestation is what browsers are asked for about the maker.
func (f Factor) attestation() protocol.ConveyancePreference {
	if f.Roots == nil {
		return protocol.PreferNoAttestation
	}
	return protocol.PreferDirectAttestation
}

// origin gives the site's origin as browsers write it, and its relying party.
func (f Factor) origin(site mfa.Site) (origin, rpID string, err error) {
	u, err := url.Parse(strings.ToLower(site.Origin))
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost") {
		return "", "", errSite
	}
	rpID = f.RP(site.Host)
	if rpID == "" || strings.TrimSuffix(u.Hostname(), ".") != site.Host {
		return "", "", errSite
	}
	host := u.Host
	switch {
	case u.Scheme == "https":
		host = strings.TrimSuffix(host, ":443")
	default:
		host = strings.TrimSuffix(host, ":80")
	}
	origin = u.Scheme + "://" + host
	if !f.related(site.Host, origin) {
		return "", "", errSite
	}
	return origin, rpID, nil
}

// person is a user as the library sees him.
type person struct {
	handle      []byte
	name        string
	displayName string
	credentials []webauthn.Credential
}

func (p *person) WebAuthnID() []byte                         { return p.handle }
func (p *person) WebAuthnName() string                       { return p.name }
func (p *person) WebAuthnDisplayName() string                { return cmp.Or(p.displayName, p.name) }
func (p *person) WebAuthnCredentials() []webauthn.Credential { return p.credentials }

// read opens the credentials that are good for a relying party. handle is that of the person: every passkey of his has the same.
func read(credentials []mfa.Credential, rpID string) (opened []data, kept []mfa.Credential, handle []byte, err error) {
	for _, c := range credentials {
		var d data
		if err := json.Unmarshal(c.Data, &d); err != nil {
			return nil, nil, nil, fmt.Errorf("reading passkey %s: %w", c.ID, err)
		}
		if len(d.Handle) != handleSize || len(d.Credential.ID) == 0 || len(d.Credential.PublicKey) == 0 || rpID == "" {
			continue // verifies nothing
		}
		handle = d.Handle
		if c.RP == rpID {
			opened, kept = append(opened, d), append(kept, c)
		}
	}
	return opened, kept, handle, nil
}

// BeginRegistration asks for a passkey that none of the person's authenticators holds yet.
func (f Factor) BeginRegistration(user *mfa.User, site mfa.Site, has []mfa.Credential, now time.Time) (mfa.Challenge, error) {
	origin, rpID, err := f.origin(site)
	if err != nil {
		return mfa.Challenge{}, err
	}
	rp, err := f.relyingParty(rpID, origin)
	if err != nil {
		return mfa.Challenge{}, err
	}
	opened, _, handle, err := read(has, rpID)
	if err != nil {
		return mfa.Challenge{}, err
	}
	if handle == nil {
		handle = make([]byte, handleSize)
		rand.Read(handle) // never fails, see crypto/rand
	}
	var exclude []protocol.CredentialDescriptor
	for _, d := range opened {
		exclude = append(exclude, d.Credential.Descriptor())
	}
	creation, session, err := rp.BeginRegistration(&person{handle: handle, name: user.Name, displayName: user.DisplayName}, webauthn.WithExclusions(exclude))
	if err != nil {
		return mfa.Challenge{}, fmt.Errorf("asking for a passkey: %w", err)
	}
	return challenge(asked{Origin: origin, RPID: rpID, Expires: now.Add(Lifetime), Session: *session}, creation.Response)
}

// BeginVerification asks for one of the passkeys that are good for the site.
func (f Factor) BeginVerification(_ *mfa.User, site mfa.Site, credentials []mfa.Credential, now time.Time) (mfa.Challenge, error) {
	origin, rpID, err := f.origin(site)
	if err != nil {
		return mfa.Challenge{}, err
	}
	rp, err := f.relyingParty(rpID, origin)
	if err != nil {
		return mfa.Challenge{}, err
	}
	opened, _, handle, err := read(credentials, rpID)
	if err != nil {
		return mfa.Challenge{}, err
	}
	if len(opened) == 0 {
		return mfa.Challenge{}, errSite
	}
	assertion, session, err := rp.BeginLogin(owner(handle, opened))
	if err != nil {
		return mfa.Challenge{}, fmt.Errorf("asking for a passkey: %w", err)
	}
	return challenge(asked{Origin: origin, RPID: rpID, Expires: now.Add(Lifetime), Session: *session}, assertion.Response)
}

func challenge(a asked, options any) (mfa.Challenge, error) {
	state, err := json.Marshal(a)
	if err != nil {
		return mfa.Challenge{}, err
	}
	text, err := json.Marshal(options)
	if err != nil {
		return mfa.Challenge{}, err
	}
	return mfa.Challenge{Method: mfa.Passkey, State: state, Expires: a.Expires, Options: text}, nil
}

// open gives what was asked, and the verifier for it. What is wrong with it is mfa.ErrWrong.
func (f Factor) open(state []byte, answer string, now time.Time) (asked, *webauthn.WebAuthn, error) {
	var a asked
	if err := json.Unmarshal(state, &a); err != nil {
		return asked{}, nil, fmt.Errorf("reading what was asked: %w", err)
	}
	switch {
	case len(answer) > maxAnswer:
		return asked{}, nil, wrong("the answer is too long")
	case a.Origin == "" || a.RPID == "" || a.Session.UserVerification != protocol.VerificationRequired:
		return asked{}, nil, wrong("nothing was asked")
	case !now.Before(a.Expires):
		return asked{}, nil, wrong("the answer is too late")
	}
	rp, err := f.relyingParty(a.RPID, a.Origin)
	return a, rp, err
}

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", mfa.ErrWrong, fmt.Sprintf(format, args...))
}

// refused is what the library finds wrong. It is for the log: what it says may hold words of whoever answered.
func refused(err error) error {
	var words []string
	for err != nil {
		e, ok := err.(*protocol.Error)
		if !ok {
			words = append(words, err.Error())
			break
		}
		words = append(words, e.Details, e.DevInfo)
		err = e.Err
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	return wrong("%.300s", strings.Join(words, ": "))
}

// FinishRegistration follows WebAuthn Level 3, section 7.1.
func (f Factor) FinishRegistration(state []byte, has []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	a, rp, err := f.open(state, answer, now)
	if err != nil {
		return mfa.Credential{}, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	if err != nil {
		return mfa.Credential{}, refused(err)
	}
	if got := parsed.Response.CollectedClientData.Origin; got != a.Origin { // the library also takes what only looks alike
		return mfa.Credential{}, wrong("it comes from %.100q, not %s", got, a.Origin)
	}
	made, err := rp.CreateCredential(&person{handle: a.Session.UserID}, a.Session, parsed)
	if err != nil {
		return mfa.Credential{}, refused(err)
	}
	opened, _, handle, err := read(has, a.RPID)
	if err != nil {
		return mfa.Credential{}, err
	}
	if handle != nil && !bytes.Equal(handle, a.Session.UserID) {
		return mfa.Credential{}, wrong("it was asked for before the person's first passkey came")
	}
	if slices.ContainsFunc(opened, func(d data) bool { return bytes.Equal(d.Credential.ID, made.ID) }) {
		return mfa.Credential{}, wrong("this passkey is registered already")
	}
	made.Attestation = webauthn.CredentialAttestation{} // it is not looked at again
	c := mfa.Credential{Method: mfa.Passkey, Added: now, RP: a.RPID, Model: f.attested(&parsed.Response.AttestationObject, now)}
	c.Data, err = json.Marshal(data{a.Session.UserID, *made})
	return c, err
}

// Finish refuses: without a question there is no answer.
func (Factor) Finish([]mfa.Credential, string, time.Time) (mfa.Credential, error) {
	return mfa.Credential{}, wrong("nothing was asked")
}

// FinishVerification follows WebAuthn Level 3, section 7.2.
func (f Factor) FinishVerification(state []byte, credentials []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	a, rp, err := f.open(state, answer, now)
	if err != nil {
		return mfa.Credential{}, err
	}
	if a.Discovery || len(a.Session.AllowedCredentialIDs) == 0 {
		return mfa.Credential{}, wrong("nothing was asked") // the library would take any passkey
	}
	parsed, err := parse(a, answer)
	if err != nil {
		return mfa.Credential{}, err
	}
	opened, kept, handle, err := read(credentials, a.RPID)
	if err != nil {
		return mfa.Credential{}, err
	}
	p := owner(handle, opened)
	// One that was removed since is not among them, and the library would refuse the others with it.
	a.Session.AllowedCredentialIDs = slices.DeleteFunc(a.Session.AllowedCredentialIDs, func(id []byte) bool {
		return !slices.ContainsFunc(opened, func(d data) bool { return bytes.Equal(d.Credential.ID, id) })
	})
	if len(a.Session.AllowedCredentialIDs) == 0 {
		return mfa.Credential{}, wrong("every passkey that was asked for is gone")
	}
	used, err := rp.ValidateLogin(p, a.Session, parsed)
	if err != nil {
		return mfa.Credential{}, refused(err)
	}
	return renew(opened, kept, used, parsed, now)
}

// parse reads what a browser answers to a question.
func parse(a asked, answer string) (*protocol.ParsedCredentialAssertionData, error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return nil, refused(err)
	}
	if got := parsed.Response.CollectedClientData.Origin; got != a.Origin { // the library also takes what only looks alike
		return nil, wrong("it comes from %.100q, not %s", got, a.Origin)
	}
	return parsed, nil
}

func owner(handle []byte, opened []data) *person {
	p := &person{handle: handle}
	for _, d := range opened {
		p.credentials = append(p.credentials, d.Credential)
	}
	return p
}

// renew gives the credential that has answered, as it must be kept next. used is what the library makes of it.
func renew(opened []data, kept []mfa.Credential, used *webauthn.Credential, parsed *protocol.ParsedCredentialAssertionData, now time.Time) (mfa.Credential, error) {
	i := slices.IndexFunc(opened, func(d data) bool { return bytes.Equal(d.Credential.ID, used.ID) })
	if i < 0 {
		return mfa.Credential{}, wrong("there is no such passkey")
	}
	// To the library a counter that stands still or runs backwards is worth a warning.
	if before, got := opened[i].Credential.Authenticator.SignCount, parsed.Response.AuthenticatorData.Counter; (before != 0 || got != 0) && got <= before {
		return mfa.Credential{}, fmt.Errorf("%w: its counter went from %d to %d", mfa.ErrCloned, before, got)
	}
	opened[i].Credential = *used
	c := kept[i]
	raw, err := json.Marshal(opened[i])
	if err != nil {
		return mfa.Credential{}, err
	}
	c.Data, c.LastUsed = raw, now
	return c, nil
}

// Interface guards
var (
	_ mfa.Registrar  = Factor{}
	_ mfa.Discoverer = Factor{}
)
