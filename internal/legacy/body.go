package legacy

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"unicode/utf16"
)

// MaxBody is how many bytes of a body are looked at.
const MaxBody = 64 << 10

// readable are the media types of bodies that may hold a credential, in lower case.
var readable = []string{
	"application/x-www-form-urlencoded", "application/json", "application/xml", "application/soap+xml", "application/xop+xml",
	"text/xml", "text/plain", "text/json", "multipart/related",
}

// worthReading says whether a body of this type is looked at, wherever it is sent to. One whose type nobody can read is.
func worthReading(contentType string) bool {
	media := mediaType(contentType)
	if !strings.Contains(media, "/") {
		return true
	}
	for _, t := range readable {
		if strings.EqualFold(media, t) {
			return true
		}
	}
	return hasSuffixFold(media, "+xml") || hasSuffixFold(media, "+json")
}

// mediaType is a Content-Type without its parameters.
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.TrimSpace(media)
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

// InspectBody completes what Inspect has found with the beginning of the body, of which it looks at MaxBody bytes; whole says
// that there is no more of it. It changes nothing in prefix, and keeps nothing of it but a user's name.
//
// A body is looked at as it came, and decompressed: some applications don't care for Content-Encoding. What holds no
// credential leaves the Finding as it was. What can't be read is taken for what its path says; where the path says nothing, a
// body in an unknown coding is malformed.
func InspectBody(f Finding, contentType, contentEncoding string, prefix []byte, whole bool) Finding {
	f.inspectBody(contentType, contentEncoding, prefix, whole)
	if f.Class != None && f.Client == "" {
		f.Client = family(f.agent)
	}
	f.Body, f.hint, f.agent = false, None, ""
	return f
}

func (f *Finding) inspectBody(contentType, contentEncoding string, prefix []byte, whole bool) {
	if f.Class == Malformed || f.Class == UserInfo {
		return
	}
	if len(prefix) > MaxBody {
		prefix, whole = prefix[:MaxBody], false
	}
	l := look{complete: whole}
	l.body(contentType, prefix)
	if l.class() == None && encoded(contentEncoding) && len(prefix) > 0 {
		decoded, all, known := decompress(contentEncoding, prefix)
		if !known && f.Class == None && f.hint == None {
			f.Class = Malformed
			return
		}
		l = look{complete: known && whole && all}
		l.body(contentType, decoded)
	}
	class := l.class()
	if class == None && f.hint == ROPC && !l.complete {
		class = ROPC
	}
	switch {
	case class == ROPC:
		// The header of such a request names the program, and the body the user: RFC 6749, sections 2.3.1 and 4.3.2. Where
		// no tokens are given, the application could take the header for the user's.
		f.Class, f.Basic, f.Digest, f.User = ROPC, nil, nil, plainName(l.user)
		if f.hint == ROPC && f.Scheme == Basic {
			f.Scheme = None
		}
	case class != None:
		f.Class = class
		if f.User == "" {
			f.User = plainName(l.user)
		}
	case f.hint == FormLogin && f.User == "":
		f.User = plainName(l.login)
	}
}

// look is what was seen in a body.
type look struct {
	token, grant, call bool   // a UsernameToken, a password grant, a method call with a credential
	user               string // whom that names
	login              string // the first field of a form that is called like a user's name
	complete           bool   // all of it was read
}

func (l *look) class() Class {
	switch {
	case l.token:
		return WSSecurity
	case l.grant:
		return ROPC
	case l.call:
		return XMLRPC
	}
	return None
}

// body reads a body by what its type says, and by what it begins with: not every application asks for the type.
func (l *look) body(contentType string, b []byte) {
	media := mediaType(contentType)
	inParts := len(media) >= 10 && strings.EqualFold(media[:10], "multipart/")
	if inParts {
		l.multipart(contentType, b)
	}
	text := bytes.TrimLeft(toUTF8(b), " \t\r\n")
	if len(text) == 0 || inParts && text[0] != '<' {
		return
	}
	xml, json := text[0] == '<', text[0] == '{' || text[0] == '['
	switch {
	case xml || hasSuffixFold(media, "xml"):
		l.xml(text)
	case json || hasSuffixFold(media, "json"):
		l.json(string(text))
	}
	if !xml && !json || hasSuffixFold(media, "form-urlencoded") {
		l.form(string(b)) // which knows no other encoding
	}
}

// Bounds of what is read of a body in parts.
const (
	maxParts = 200
	maxField = 4 << 10
)

func (l *look) multipart(contentType string, b []byte) {
	media, params, err := mime.ParseMediaType(contentType)
	boundary := params["boundary"]
	if err != nil || boundary == "" {
		l.complete = false
		return
	}
	parts := multipart.NewReader(bytes.NewReader(b), boundary)
	for range maxParts {
		part, err := parts.NextPart()
		if err != nil {
			// The end of the body is that of its parts only behind the last boundary.
			l.complete = l.complete && err == io.EOF && bytes.Contains(b, []byte("--"+boundary+"--"))
			return
		}
		limit := maxField
		if media == "multipart/related" {
			limit = MaxBody
		}
		value, _ := readAll(part, limit) // of a part that was cut off, what is there is judged
		if name := part.FormName(); name != "" {
			l.field(name, string(value))
		} else if value = bytes.TrimLeft(toUTF8(value), " \t\r\n"); bytes.HasPrefix(value, []byte("<")) {
			l.xml(value)
		}
	}
	l.complete = false
}

// form reads application/x-www-form-urlencoded, as leniently as applications do.
func (l *look) form(s string) {
	for s != "" {
		end := strings.IndexAny(s, "&;")
		if end < 0 {
			end = len(s)
		}
		name, value, _ := strings.Cut(s[:end], "=")
		s = s[min(end+1, len(s)):]
		if len(name) <= maxField && len(value) <= maxField {
			l.field(unescape(name, true), unescape(value, true))
		}
	}
}

// loginNames are fields of a sign-in form that hold the user's name, in normal form.
var loginNames = map[string]bool{
	"username": true, "user": true, "userid": true, "login": true, "loginname": true, "loginid": true, "email": true, "emailaddress": true, "mail": true,
	"uname": true, "usr": true, "uid": true, "u": true, "log": true, "account": true, "accountname": true, "jusername": true, "osusername": true, "httpuser": true,
	"name": true, "usernameoremail": true, "identifier": true, "benutzer": true, "benutzername": true, "gebruiker": true, "gebruikersnaam": true,
}

// field takes a field of a form, or of an object.
func (l *look) field(name, value string) {
	var low [24]byte
	n := string(normalName(low[:0], name))
	switch {
	case n == "granttype":
		value = strings.TrimSpace(value)
		l.grant = l.grant || strings.EqualFold(value, "password") || hasSuffixFold(value, "/password-realm")
	case n == "username" && l.user == "":
		l.user = value
	}
	if l.login == "" && loginNames[n] {
		l.login = value
	}
}

// toUTF8 takes a byte order mark away, and decodes UTF-16, which parsers of XML and JSON read without being told.
func toUTF8(b []byte) []byte {
	if rest, ok := bytes.CutPrefix(b, []byte("\xef\xbb\xbf")); ok {
		return rest
	}
	if len(b) < 2 {
		return b
	}
	var at func([]byte) uint16
	little := func(b []byte) uint16 { return uint16(b[0]) | uint16(b[1])<<8 }
	big := func(b []byte) uint16 { return uint16(b[1]) | uint16(b[0])<<8 }
	switch {
	case b[0] == 0xff && b[1] == 0xfe:
		at, b = little, b[2:]
	case b[0] == 0xfe && b[1] == 0xff:
		at, b = big, b[2:]
	case b[0] != 0 && b[1] == 0:
		at = little
	case b[0] == 0 && b[1] != 0:
		at = big
	default:
		return b
	}
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, at(b))
	}
	return []byte(string(utf16.Decode(units)))
}
