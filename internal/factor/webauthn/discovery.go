package webauthn

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// BeginDiscovery asks for a passkey without saying whose: browsers show those that they keep for the relying party.
func (f Factor) BeginDiscovery(site mfa.Site, now time.Time) (mfa.Challenge, error) {
	origin, rpID, err := f.origin(site)
	if err != nil {
		return mfa.Challenge{}, err
	}
	rp, err := f.relyingParty(rpID, origin)
	if err != nil {
		return mfa.Challenge{}, err
	}
	assertion, session, err := rp.BeginDiscoverableLogin()
	if err != nil {
		return mfa.Challenge{}, fmt.Errorf("asking for any passkey: %w", err)
	}
	return challenge(asked{Origin: origin, RPID: rpID, Expires: now.Add(DiscoveryLifetime), Session: *session, Discovery: true}, assertion.Response)
}

// Discovered reads the credential id that stands in an answer.
func (Factor) Discovered(answer string) string {
	if len(answer) > maxAnswer {
		return ""
	}
	var a struct {
		ID string `json:"rawId"`
	}
	if json.Unmarshal([]byte(answer), &a) != nil {
		return ""
	}
	id, err := base64.RawURLEncoding.DecodeString(a.ID)
	if err != nil || len(id) == 0 || len(id) > maxID {
		return ""
	}
	return publicID(id)
}

// maxID is the length of the longest credential id (WebAuthn Level 3, section 7.1, step 25).
const maxID = 1023

func publicID(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }

// FinishDiscovery follows WebAuthn Level 3, section 7.2, for somebody who was not known before: the user handle must be there, and be
// that of the person whose credentials these are.
func (f Factor) FinishDiscovery(state []byte, credentials []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	a, rp, err := f.open(state, answer, now)
	if err != nil {
		return mfa.Credential{}, err
	}
	if !a.Discovery || len(a.Session.AllowedCredentialIDs) > 0 || len(a.Session.UserID) > 0 {
		return mfa.Credential{}, wrong("nothing was asked")
	}
	parsed, err := parse(a, answer)
	if err != nil {
		return mfa.Credential{}, err
	}
	opened, kept, handle, err := read(credentials, a.RPID)
	if err != nil {
		return mfa.Credential{}, err
	}
	if len(opened) == 0 {
		return mfa.Credential{}, wrong("there is no passkey for %s", a.RPID)
	}
	_, used, err := rp.ValidatePasskeyLogin(func(_, claimed []byte) (webauthn.User, error) {
		if !bytes.Equal(claimed, handle) {
			return nil, fmt.Errorf("user handle is that of somebody else")
		}
		return owner(handle, opened), nil
	}, a.Session, parsed)
	if err != nil {
		return mfa.Credential{}, refused(err)
	}
	return renew(opened, kept, used, parsed, now)
}

// PublicID is the credential id in base64url.
func (Factor) PublicID(c mfa.Credential) string {
	var d data
	if c.Method != mfa.Passkey || json.Unmarshal(c.Data, &d) != nil {
		return ""
	}
	return publicID(d.Credential.ID)
}

// Accepted lists the credential ids. Where there is no passkey any more, nothing says whose the list is, and it is zero.
func (Factor) Accepted(credentials []mfa.Credential, rp string) (a mfa.Accepted) {
	keys := slices.DeleteFunc(slices.Clone(credentials), func(c mfa.Credential) bool { return c.Method != mfa.Passkey })
	opened, _, handle, err := read(keys, rp)
	if err != nil || handle == nil {
		return mfa.Accepted{}
	}
	a = mfa.Accepted{RP: rp, User: publicID(handle), IDs: []string{}}
	for _, d := range opened {
		a.IDs = append(a.IDs, publicID(d.Credential.ID))
	}
	return a
}

// Maker names the passkey manager or the security key by its AAGUID.
func (Factor) Maker(c mfa.Credential) string {
	var d data
	if json.Unmarshal(c.Data, &d) != nil {
		return ""
	}
	return makers[aaguidText(d.Credential.Authenticator.AAGUID)]
}
