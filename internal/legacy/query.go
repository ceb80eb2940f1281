package legacy

import "strings"

// queryNames are parameters that are called like a credential, in lower case and without separators. Names such as "token",
// "key" and "code" are missing: links to confirm something, pages of a list and forms against forgery use them.
var queryNames = map[string]bool{
	"password": true, "passwd": true, "passphrase": true, "passwort": true, "pwd": true, "pass": true, "pw": true,
	"userpassword": true, "userpass": true, "loginpassword": true, "jpassword": true, "ospassword": true, "httppassword": true,
	"secret": true, "clientsecret": true, "apikey": true, "apisecret": true, "apitoken": true, "accesstoken": true,
	"authtoken": true, "privatetoken": true, "sessiontoken": true, "refreshtoken": true,
}

// queryCredential says whether a query holds a credential, and allocates nothing. Servers disagree on separators, on case and on what
// brackets mean: user[password] is a password.
func queryCredential(query string) bool {
	for query != "" {
		end := strings.IndexAny(query, "&;")
		if end < 0 {
			end = len(query)
		}
		pair := query[:end]
		query = query[min(end+1, len(query)):]
		i := strings.IndexByte(pair, '=')
		if i > 0 && i+1 < len(pair) && credentialName(pair[:i]) {
			return true
		}
	}
	return false
}

// credentialName says whether a parameter is called like a credential.
func credentialName(name string) bool {
	var low [24]byte
	return queryNames[string(normalName(low[:0], name))]
}

// normalName writes a field's name into b, in lower case, without separators and what stands before a bracket. A name that doesn't fit
// becomes one that nobody looks for.
func normalName(b []byte, name string) []byte {
	inner := false // what follows is the name inside of what was read: user[password]
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' && i+2 < len(name) && isHex(name[i+1]) && isHex(name[i+2]) {
			c = unhex(name[i+1])<<4 | unhex(name[i+2])
			i += 2
		}
		switch c {
		case '[', ':':
			inner = true
			continue
		case ']', '_', '-', '.', '+', ' ', '$':
			continue
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if inner {
			b, inner = b[:0], false
		}
		if len(b) == cap(b) {
			b = append(b[:0], 0) // longer than all that are looked for; another may follow a bracket
		}
		b = append(b, c)
	}
	return b
}
