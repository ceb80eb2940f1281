// Package legacy recognises sign-ins by clients that can't be asked for a second factor. It reads requests, and knows
// neither users nor policy.
package legacy

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// Class is a kind of legacy authentication. The empty Class is none.
type Class string

// The classes.
const (
	None      Class = ""
	Basic     Class = "basic"        // RFC 7617
	Digest    Class = "digest"       // RFC 7616
	NTLM      Class = "ntlm"         // MS-NTHT
	Kerberos  Class = "kerberos"     // RFC 4559
	UserInfo  Class = "url-userinfo" // a password in the request's target
	Malformed Class = "malformed"    // what one server takes for one scheme and the next for another
)

// modern are the schemes that are no legacy authentication. They open nothing here either: a request that carries one needs
// a session like any other.
var modern = map[string]bool{
	"bearer": true, "dpop": true, "privatetoken": true, "gnap": true,
	// Signed requests. They prove a machine, not a person, and are not refused by default.
	"wsse": true, "oauth": true, "hawk": true, "aws4-hmac-sha256": true, "hmac": true, "signature": true,
	"scram-sha-1": true, "scram-sha-256": true, "hoba": true, "vapid": true, "mutual": true, "concealed": true,
}

// Classify reads every value of a request's Authorization header (RFC 9110, section 11.6.2). One legacy value among
// others is enough: which of them an application reads, nobody knows.
func Classify(values []string) Class {
	for _, v := range values {
		if class := classify(v); class != None {
			return class
		}
	}
	return None
}

func classify(value string) Class {
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		if c := value[i]; c < 0x20 && c != '\t' || c >= 0x7f {
			return Malformed
		}
	}
	scheme, rest := value, ""
	if i := strings.IndexAny(value, " \t"); i >= 0 {
		scheme, rest = value[:i], strings.Trim(value[i:], " \t")
	}
	switch scheme = strings.ToLower(scheme); scheme {
	case "basic":
		if !basic(rest) {
			return Malformed
		}
		return Basic
	case "digest":
		return Digest
	case "ntlm":
		return NTLM
	case "negotiate":
		if token, err := base64.StdEncoding.DecodeString(rest); err == nil && strings.Contains(string(token), "NTLMSSP\x00") {
			return NTLM
		}
		return Kerberos
	case "bearer":
		// A token has no space and no comma (RFC 6750, section 2.1). With one, it could be a list of two credentials.
		if rest == "" || strings.ContainsAny(rest, " \t,") {
			return Malformed
		}
		return None
	}
	if !modern[scheme] {
		return Malformed
	}
	return None
}

// basic says whether credentials are what RFC 7617, section 2, describes.
func basic(credentials string) bool {
	decoded, err := base64.StdEncoding.DecodeString(credentials)
	return err == nil && strings.Contains(string(decoded), ":")
}

// inviting are the challenges that make a client send a legacy credential.
var inviting = map[string]bool{"basic": true, "digest": true, "ntlm": true, "negotiate": true}

// RemoveChallenges takes the challenges that invite legacy authentication out of an application's answer. A field value can
// hold several challenges (RFC 9110, section 11.6.1); one that holds such a challenge goes as a whole.
func RemoveChallenges(h http.Header) {
	values := h["Www-Authenticate"]
	if len(values) == 0 {
		return
	}
	kept := values[:0:0]
	for _, v := range values {
		if !invites(v) {
			kept = append(kept, v)
		}
	}
	if len(kept) == 0 {
		delete(h, "Www-Authenticate")
		return
	}
	h["Www-Authenticate"] = kept
}

// invites looks for a scheme at the beginning of the value and behind each comma outside of a quoted string.
func invites(value string) bool {
	quoted, escaped, begin := false, false, true
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case quoted && escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ',':
			begin = true
		case begin && c != ' ' && c != '\t':
			begin = false
			end := i
			for end < len(value) && value[end] != ' ' && value[end] != '\t' && value[end] != ',' && value[end] != '=' {
				end++
			}
			if inviting[strings.ToLower(value[i:end])] && (end == len(value) || value[end] != '=') {
				return true
			}
		}
	}
	return false
}
