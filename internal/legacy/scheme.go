package legacy

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// schemes are those of the Authorization header that are known. What is None here is no legacy authentication, and opens
// nothing either: a request that carries one needs a session like any other. SCRAM and Mutual are missing, since they
// prove a password and nobody uses them: an unknown scheme is malformed.
var schemes = map[string]Class{
	"basic": Basic, "digest": Digest, "ntlm": NTLM, "negotiate": Kerberos, "kerberos": Kerberos,
	"wsse": WSSE, "oauth": OAuth1, "hawk": Hawk,
	"aws4-hmac-sha256": AWSSigV4, "aws4-ecdsa-p256-sha256": AWSSigV4, "aws": AWSSigV4,
	"hmac": HMAC, "hmac-sha256": HMAC, "signature": HMAC, "sharedkey": HMAC, "sharedkeylite": HMAC,
	"bearer": None, "dpop": None, "privatetoken": None, "gnap": None, "hoba": None, "vapid": None, "concealed": None,
}

// legacySchemes are those whose credential must not hide in another's. They are in lower case.
var legacySchemes = []string{"basic", "digest", "ntlm", "negotiate", "kerberos"}

// carried is what stands in one value of the Authorization header.
type carried struct {
	class  Class
	user   string
	basic  *Credential
	digest *DigestCredential
}

// carry reads every value of a request's Authorization header (RFC 9110, section 11.6.2). One legacy value among others is
// enough: which of them an application reads, nobody knows. It says whether there is a credential that is not legacy.
func (f *Finding) carry(values []string) (modern bool) {
	for _, v := range values {
		c := parseAuthorization(v)
		if c.class == None {
			modern = true
			continue
		}
		if len(values) == 1 {
			f.Basic, f.Digest = c.basic, c.digest
		}
		f.NTLM = f.NTLM || c.class == NTLM || c.class == Malformed && mayBeNTLM(v)
		if f.Scheme != None && !f.Scheme.Reported() && !c.class.Reported() && c.class != f.Scheme {
			c = carried{class: Malformed} // a scope for one of them must not let the other through
		}
		if f.Scheme == None || c.class == Malformed || f.Scheme.Reported() && !c.class.Reported() {
			f.Scheme, f.User = c.class, c.user
		}
	}
	return modern
}

// mayBeNTLM says whether some server could find NTLM in a value that is malformed.
func mayBeNTLM(value string) bool {
	value = strings.ToLower(value)
	return strings.Contains(value, "ntlm") || strings.Contains(value, "negotiate")
}

func parseAuthorization(value string) carried {
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		if c := value[i]; c < 0x20 && c != '\t' || c >= 0x7f {
			return carried{class: Malformed}
		}
	}
	name, rest := value, ""
	if i := strings.IndexAny(value, " \t"); i >= 0 {
		name, rest = value[:i], strings.Trim(value[i:], " \t")
	}
	class, known := scheme(name)
	switch {
	case !known:
		class = Malformed
	case class == Basic:
		if c, ok := parseBasic(rest); ok {
			return carried{class: Basic, user: c.name(), basic: c}
		}
		class = Malformed
	case class == Digest:
		if !hides(rest, true) {
			c, _ := parseDigest(rest)
			return carried{class: Digest, user: digestUser(rest), digest: c}
		}
		class = Malformed
	case class == NTLM, class == Kerberos:
		token, ok := decodeToken(rest)
		if !ok {
			return carried{class: Malformed}
		}
		if i := bytes.Index(token, []byte("NTLMSSP\x00")); i >= 0 {
			return carried{class: NTLM, user: ntlmUser(token[i:])}
		}
	case strings.EqualFold(name, "bearer"), strings.EqualFold(name, "dpop"):
		// A token has no space and no comma (RFC 6750, section 2.1). With one, it could be a list of two credentials.
		if rest == "" || strings.ContainsAny(rest, " \t,;") {
			class = Malformed
		}
	case hides(rest, false):
		class = Malformed
	case class == WSSE:
		return carried{class: WSSE, user: plainName(parameter(rest, "username"))}
	}
	return carried{class: class}
}

// scheme looks a name up in any case, and allocates nothing.
func scheme(name string) (class Class, known bool) {
	var low [24]byte
	if len(name) > len(low) {
		return None, false
	}
	class, known = schemes[string(appendLower(low[:0], name))]
	return class, known
}

// appendLower appends s with its ASCII letters in lower case.
func appendLower(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// hides says whether a legacy scheme begins somewhere among another's parameters, where a server that splits lists would find
// it. Some split inside quoted strings, too; with quoted, those are skipped.
func hides(params string, quoted bool) bool {
	inside, begin := false, true
	for i := 0; i < len(params); i++ {
		switch c := params[i]; {
		case quoted && inside && c == '\\':
			i++
		case quoted && c == '"':
			inside, begin = !inside, false
		case inside:
		case c == ' ', c == '\t', c == ',', c == ';':
			begin = true
		case begin:
			begin = false
			end := i
			for end < len(params) && strings.IndexByte(" \t,;", params[end]) < 0 {
				end++
			}
			for _, s := range legacySchemes {
				if strings.EqualFold(params[i:end], s) {
					return true
				}
			}
		}
	}
	return false
}

// parameter is the value of the first auth-param of that name (RFC 9110, section 11.2), empty if there is none.
func parameter(params, name string) string {
	for params != "" {
		params = strings.TrimLeft(params, " \t,")
		end := strings.IndexAny(params, "=, \t")
		if end < 0 {
			return ""
		}
		key, rest := params[:end], strings.TrimLeft(params[end:], " \t")
		if !strings.HasPrefix(rest, "=") {
			params = rest
			continue
		}
		rest = strings.TrimLeft(rest[1:], " \t")
		var value string
		if strings.HasPrefix(rest, `"`) {
			value, params = quotedString(rest[1:])
		} else {
			i := strings.IndexAny(rest, ", \t")
			if i < 0 {
				i = len(rest)
			}
			value, params = rest[:i], rest[i:]
		}
		if strings.EqualFold(key, name) {
			return value
		}
	}
	return ""
}

// quotedString reads up to the closing quote, which may be missing.
func quotedString(s string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// digestUser is the user whom a Digest credential names (RFC 7616, section 3.4), unless it is hashed.
func digestUser(params string) string {
	if strings.EqualFold(parameter(params, "userhash"), "true") {
		return ""
	}
	if name := parameter(params, "username"); name != "" {
		return plainName(name)
	}
	// RFC 5987: UTF-8''J%C3%A4s%C3%B8n
	charset, rest, _ := strings.Cut(parameter(params, "username*"), "'")
	_, encoded, ok := strings.Cut(rest, "'")
	if !ok || !strings.EqualFold(charset, "utf-8") {
		return ""
	}
	return plainName(unescape(encoded, false))
}

// ntlmUser is the user in an AUTHENTICATE_MESSAGE (MS-NLMP, section 2.2.1.3), empty in the other messages.
func ntlmUser(message []byte) string {
	const head, userAt, flagsAt = 64, 36, 60
	if len(message) < head || binary.LittleEndian.Uint32(message[8:]) != 3 {
		return ""
	}
	length := int(binary.LittleEndian.Uint16(message[userAt:]))
	offset := uint64(binary.LittleEndian.Uint32(message[userAt+4:]))
	if offset+uint64(length) > uint64(len(message)) {
		return ""
	}
	name := message[offset:][:length]
	const unicode = 1
	if binary.LittleEndian.Uint32(message[flagsAt:])&unicode == 0 {
		return plainName(string(name))
	}
	if length%2 != 0 {
		return ""
	}
	units := make([]uint16, length/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(name[2*i:])
	}
	return plainName(string(utf16.Decode(units)))
}
