package portal

import (
	"encoding/json"
	"net/http"
)

// RelatedOrigins tells browsers which other origins may use the passkeys of this host (WebAuthn Level 3, section 5.11.1).
func (p *Portal) RelatedOrigins(w http.ResponseWriter, r *http.Request, f Facts, origins []string) {
	p.wellKnown(w, r, f, struct {
		Origins []string `json:"origins"`
	}{origins})
}

// PasskeyEndpoints tells passkey managers where a passkey is made and where passkeys are managed (W3C, A Well-Known URL for Relying Party
// Passkey Endpoints).
func (p *Portal) PasskeyEndpoints(w http.ResponseWriter, r *http.Request, f Facts) {
	p.wellKnown(w, r, f, struct {
		Enroll string `json:"enroll"`
		Manage string `json:"manage"`
	}{f.origin() + prefix + "register?page=choose", f.origin() + prefix + "account"})
}

func (p *Portal) wellKnown(w http.ResponseWriter, r *http.Request, f Facts, answer any) {
	if !readOnly(w, r, p) {
		return
	}
	if !f.Secure {
		p.writeLine(w, http.StatusForbidden, "This needs https.")
		return
	}
	body, err := json.Marshal(answer)
	if err != nil { // strings are always written
		panic(err)
	}
	h := w.Header()
	noStore(h)
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write(body) // a client that is gone is no fault of ours
}

// ChangePassword leads password managers to the account page (W3C, A Well-Known URL for Changing Passwords).
func (p *Portal) ChangePassword(w http.ResponseWriter, r *http.Request, _ Facts) {
	if !readOnly(w, r, p) {
		return
	}
	noStore(w.Header())
	w.Header().Set("Location", prefix+"account")
	w.WriteHeader(http.StatusSeeOther)
}

func readOnly(w http.ResponseWriter, r *http.Request, p *Portal) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	p.writeLine(w, http.StatusMethodNotAllowed, "This can't be used that way.")
	return false
}
