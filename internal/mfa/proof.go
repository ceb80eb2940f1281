package mfa

import "time"

// Method is a way of proving who one is. Its text is what stands in logs, in the store, in the configuration and in
// the JSON of commands.
type Method string

// The methods.
const (
	Password            Method = "password"
	TOTP                Method = "totp"
	Passkey             Method = "passkey" // a passkey or security key (WebAuthn), with user verification
	Push                Method = "push"    // an approval on a phone, with number matching
	SMS                 Method = "sms"     // a code in a text message
	Voice               Method = "voice"   // a code that a phone call reads out
	Email               Method = "email"   // a code in a mail
	RecoveryCode        Method = "recovery_code"
	TemporaryAccessPass Method = "temporary_access_pass"
)

// RememberedBrowser stands for a second factor that was proven in this browser earlier, whose owner has asked for that. Nobody
// proves it by an answer, nothing registers it, and it pays for no change.
const RememberedBrowser Method = "remembered_browser"

// Proof is one thing that somebody has proven in a session.
type Proof struct {
	Method     Method    `json:"method"`
	At         time.Time `json:"at"`
	Credential string    `json:"credential,omitempty"` // id of the credential it was proven with; empty for a password

	// Model is that of the credential, see Credential.Model.
	Model string `json:"model,omitempty"`

	// Reusable says that the answer can be given again: a temporary access pass that is good for more than one sign-in.
	Reusable bool `json:"reusable,omitempty"`

	// Of is the method that a remembered browser stands for. At is then when that was proven.
	Of Method `json:"of,omitempty"`

	// Registered says that the credential was registered with it, which is no choice of how to sign in.
	Registered bool `json:"registered,omitempty"`

	// Spent says that the proof has already paid for one change of the account's factors. It still counts
	// for sign-in.
	Spent bool `json:"spent,omitempty"`
}

// Proofs is what has been proven in a session: the newest proof of each method, in the order of first use.
type Proofs []Proof

// Latest gives the newest proof by the method.
func (ps Proofs) Latest(m Method) (Proof, bool) {
	for _, p := range ps {
		if p.Method == m {
			return p, true
		}
	}
	return Proof{}, false
}

// Has says whether the method was proven at all.
func (ps Proofs) Has(m Method) bool {
	_, ok := ps.Latest(m)
	return ok
}

// With gives a copy in which p has replaced the older proof by the same method.
func (ps Proofs) With(p Proof) Proofs {
	next := make(Proofs, 0, len(ps)+1)
	replaced := false
	for _, old := range ps {
		if old.Method == p.Method {
			old, replaced = p, true
		}
		next = append(next, old)
	}
	if !replaced {
		next = append(next, p)
	}
	return next
}
