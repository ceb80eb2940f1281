package legacy

import (
	"net/http"
	"slices"
	"strings"
)

// Request is what is read of a request.
type Request struct {
	Method     string
	Asked      string // path as the client sent it, escaped
	Rewritten  string // path as the application will get it, escaped
	Query      string
	Header     http.Header
	UserInfo   bool     // the target holds a user name
	LoginPaths []string // where the application's own sign-in form is posted to: a path, or a prefix that ends in /*
}

// Finding is what a request has of legacy authentication. It holds no secret but the one in Basic.
type Finding struct {
	// Class is the most specific that fits: that of the protocol where both protocol and credential are there, else that of
	// the credential. A malformed credential is nothing else.
	Class Class

	// Scheme is how the credential is carried: the class of the Authorization header or of X-WSSE. None: not in a header. One that
	// is refused by itself wins over one that is reported.
	Scheme Class

	NTLM bool // one of the values is NTLM, or what some server could take for it

	User  string      // as typed, if it can be read; anybody can claim any
	Basic *Credential // exactly one well-formed Basic credential, and no other in the head: only that can be verified

	// Digest is a Digest credential that can be judged, under the same conditions as Basic.
	Digest *DigestCredential

	Client  string  // the client's family by its User-Agent, from a fixed list, "other" or "none"; empty where nothing else is found
	Dialect Dialect // what the answer must look like

	// Body says that the Class is final only when the body was looked at: see InspectBody. An application's sign-in form and a known
	// path of XML-RPC have their class before.
	Body bool

	hint  Class  // what a body is taken for that can't be read
	agent string // the User-Agent, while there is no Client
}

// Inspect reads a request's head.
func Inspect(r *Request) Finding {
	var f Finding
	modern := f.carry(r.Header["Authorization"])
	if wsse := r.Header["X-Wsse"]; len(wsse) > 0 {
		f.Basic, f.Digest = nil, nil
		if f.Scheme == None {
			f.Scheme = WSSE
			f.User = plainName(parameter(wsse[0], "username"))
		}
	}
	f.Class = f.Scheme
	switch {
	case f.Scheme == Malformed:
	case r.UserInfo:
		f.Class, f.Basic, f.Digest = UserInfo, nil, nil
	case f.Scheme != None && !f.Scheme.Reported():
		legacy := *r // its address goes to the heap, and that of a request without a credential must not
		if legacy.climbsAcrossExchange() {
			f.Class, f.Basic, f.Digest = Malformed, nil, nil
		} else if class := legacy.protocol(); class != None {
			f.Class = class
		}
	case !modern && isRPC(r.Method):
		f.Class = RPCHTTP
	}
	if f.Class != Malformed && f.Class != UserInfo && (r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header["Content-Type"] != nil) {
		f.expectBody(r, modern)
	}
	if f.Class == None && r.Query != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && queryCredential(r.Query) {
		f.Class = QueryCred
	}
	f.Dialect = r.dialect()
	switch agent := first(r.Header["User-Agent"]); {
	case f.Class != None || f.Dialect != Plain:
		f.Client = family(agent)
	case f.Body:
		f.agent = agent
	}
	return f
}

// expectBody says what the body may hold, by the method, the type and the path.
func (f *Finding) expectBody(r *Request, modern bool) {
	post := strings.EqualFold(r.Method, http.MethodPost)
	types := r.Header["Content-Type"]
	f.Body = len(types) == 0 && post
	for _, t := range types {
		f.Body = f.Body || worthReading(t)
	}
	if isDAV(r.Method) || strings.EqualFold(r.Method, http.MethodOptions) {
		f.Body = false // what is asked for, in XML
	}
	if !post {
		return
	}
	for _, path := range r.readings() {
		switch {
		case matchesLogin(path, r.LoginPaths):
			f.hint, f.Body = FormLogin, true
			if f.Class == None {
				f.Class = FormLogin
			}
		case r.xmlrpc(path):
			f.Body = true
			if f.Class == None && !modern {
				f.Class = XMLRPC
			}
		case path.at(-1) == "token" || path.at(-1) == "token.php" || path.at(-1) == "access_token":
			f.hint, f.Body = ROPC, true
		default:
			continue
		}
		return
	}
}

func matchesLogin(path reading, logins []string) bool {
	return slices.ContainsFunc(logins, func(login string) bool {
		prefix, below := strings.CutSuffix(login, "*")
		want := readPath(prefix)
		return len(path) >= len(want) && (below || len(path) == len(want)) && slices.Equal(path[:len(want)], want)
	})
}
