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

// credentialName normalises a name, as far as it is no longer than those that are looked for.
func credentialName(name string) bool {
	var low [24]byte
	b := low[:0]
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' && i+2 < len(name) && isHex(name[i+1]) && isHex(name[i+2]) {
			c = unhex(name[i+1])<<4 | unhex(name[i+2])
			i += 2
		}
		switch c {
		case '[', ':': // what stood before is the name of a form or of an object
			b = b[:0]
			continue
		case ']', '_', '-', '.', '+', ' ', '$':
			continue
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if len(b) == len(low) {
			b = b[:0] // a prefix; what follows a bracket may still be a name
			b = append(b, 0)
		}
		b = append(b, c)
	}
	return queryNames[string(b)]
}
