package portal

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// forProgram is the purpose of a sign-in that a program has opened a window for.
const forProgram = "program"

// kind is what the client can do with an answer. Who speaks a dialect is a program, whatever else it says of itself.
func (f Facts) kind(r *http.Request) Kind {
	if f.Dialect != legacy.Plain {
		return Program
	}
	return KindOf(r)
}

// writeProgram answers a program with one sentence, in the form that it shows to its user.
func (p *Portal) writeProgram(w http.ResponseWriter, f Facts, status int, sentence string) {
	if f.Dialect == legacy.SVN {
		p.writeDAVError(w, status, sentence)
		return
	}
	p.writeLine(w, status, sentence)
}

// Codes of Subversion's errors: svn_error_codes.h.
const (
	svnForbidden = 175013 // SVN_ERR_RA_DAV_FORBIDDEN
	svnFailed    = 175002 // SVN_ERR_RA_DAV_REQUEST_FAILED
)

// writeDAVError answers as Apache's mod_dav does (RFC 4918, section 16, and its human-readable extension), which is what Subversion
// shows to its user. Of any other answer it shows the status alone.
func (p *Portal) writeDAVError(w http.ResponseWriter, status int, sentence string) {
	code := svnFailed
	if status == http.StatusForbidden {
		code = svnForbidden
	}
	var b strings.Builder
	b.WriteString(xml.Header + `<D:error xmlns:D="DAV:" xmlns:m="http://apache.org/dav/xmlns" xmlns:C="svn:">` + "\n<C:error/>\n" +
		`<m:human-readable errcode="` + strconv.Itoa(code) + `">` + "\n")
	xml.EscapeText(&b, []byte(sentence)) // into memory
	b.WriteString("\n</m:human-readable>\n</D:error>\n")
	h := w.Header()
	noStore(h)
	h.Set("Content-Type", `text/xml; charset="utf-8"`)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	w.Write([]byte(b.String())) // a client that is gone is no fault of ours
}

// offerSignIn has Office, and what speaks its protocol, open a window with our sign-in (MS-OFBA, section 2.2). The window closes when it
// reaches the page of getProgram.
func (p *Portal) offerSignIn(w http.ResponseWriter, f Facts) {
	if f.Dialect != legacy.OFBA || !f.Secure {
		return
	}
	// The names as they are documented, for whoever compares them letter by letter.
	w.Header()["X-FORMS_BASED_AUTH_REQUIRED"] = []string{f.origin() + prefix + "signin?for=" + forProgram}
	w.Header()["X-FORMS_BASED_AUTH_RETURN_URL"] = []string{f.origin() + prefix + "program"}
}

// getProgram is the end of a sign-in that a program has opened a window for.
func (v *visit) getProgram() {
	v.returnToProgram()
	st, err := v.Service.State(v.r.Context(), v.client)
	if v.failed(err) {
		return
	}
	if st.Step != signin.Done {
		v.advance(st)
		return
	}
	pg := v.page("program.title")
	pg.as(st)
	pg.Name = "program"
	v.message(v.w, pg, http.StatusOK, "", "", pg.T("program.text"))
}

// returnToProgram makes that end what the sign-in leads to.
func (v *visit) returnToProgram() {
	v.to = Return{prefix + "program", v.f.Application}
	v.client.Application = v.f.Application
	v.token = v.Returns.Seal(v.to, v.f.Host, v.f.Now)
}

// Instead is what a refused program is told to use.
type Instead uint8

// What there is instead.
const (
	NothingInstead Instead = iota // nobody signs in there
	BrowserInstead
	AppPasswordInstead
)

// RefuseLegacy answers a client that can't be asked for a second factor: one line, and no challenge, which would make it
// send the password again. The answer is the same whoever is named, but for the reference, and comes before the password is looked at.
func (p *Portal) RefuseLegacy(w http.ResponseWriter, f Facts, class legacy.Class, instead Instead) {
	sentence := "Legacy authentication (" + string(class) + ") is not accepted here."
	if class == legacy.None {
		sentence = "This is not accepted here." // a key that policy refuses
	}
	switch instead {
	case BrowserInstead:
		sentence += " Sign in with a web browser."
	case AppPasswordInstead:
		sentence += " Use an app password, which you make at " + f.origin() + prefix + "account."
	}
	if instead != NothingInstead {
		p.offerSignIn(w, f)
	}
	p.writeProgram(w, f, http.StatusForbidden, sentence+" Reference: "+f.Reference)
}

// Invite asks a program for a user name and a password: 401 with a challenge for HTTP Basic (RFC 7617), also when what it has sent was
// wrong. keys says that app passwords are taken here, so that nobody types his own password where it would not do; digests are challenges
// for them over HTTP Digest. Basic stands first: some programs know one challenge alone, and every app password is good over Basic.
func (p *Portal) Invite(w http.ResponseWriter, r *http.Request, f Facts, keys bool, digests []string) {
	if f.Dialect == legacy.OFBA && f.Secure && strings.EqualFold(r.Header.Get("X-FORMS_BASED_AUTH_ACCEPTED"), "t") {
		// It can open our sign-in, which is better than a password.
		p.offerSignIn(w, f)
		p.writeProgram(w, f, http.StatusForbidden, "This needs a sign-in with a second step. Reference: "+f.Reference)
		return
	}
	if !f.Secure {
		p.writeProgram(w, f, http.StatusForbidden, "This needs https.")
		return
	}
	realm, sentence := f.Application, "This needs your user name and password."
	if keys {
		realm, sentence = gate.AppPasswordRealm(f.Application), "This needs an app password, which you make at "+f.origin()+prefix+"account."
	}
	w.Header()["Www-Authenticate"] = append([]string{`Basic realm="` + realm + `"`}, digests...) // names of applications hold nothing to quote
	if Terminal(r) {
		p.inTerminal(w, r, f, http.StatusUnauthorized)
		return
	}
	p.writeProgram(w, f, http.StatusUnauthorized, sentence+" Reference: "+f.Reference)
}

// RefuseWrong answers a program whose credential is not right, and that is not to try at once again: it has tried too often, or can't
// be asked. There is no challenge.
func (p *Portal) RefuseWrong(w http.ResponseWriter, f Facts) {
	p.writeProgram(w, f, http.StatusForbidden, "What you sent is not right, or was tried too often. Try again later. Reference: "+f.Reference)
}
