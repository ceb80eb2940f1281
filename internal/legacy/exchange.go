package legacy

import "strings"

// exchangePaths are the virtual directories of Exchange (MS-OXDISCO, MS-ASHTTP, MS-OXWSCDATA, MS-OXCMAPIHTTP, MS-OXWOAB).
var exchangePaths = map[string]Class{
	"microsoft-server-activesync": EAS,
	"ews":                         EWS,
	"mapi":                        MAPI,
	"oab":                         OAB,
	"autodiscover":                Autodiscover,
	"powershell":                  RPS,
	"powershell-liveid":           RPS,
	"powershell-proxy":            RPS,
}

// isRPC says whether the method is one of RPC over HTTP (MS-RPCH, section 2.1.2.1).
func isRPC(method string) bool {
	return strings.EqualFold(method, "RPC_IN_DATA") || strings.EqualFold(method, "RPC_OUT_DATA")
}

// exchange is the class of Exchange's paths.
func (segments reading) exchange() Class {
	first, second := segments.at(0), segments.at(1)
	switch {
	case (first == "rpc" || first == "rpcwithcert") && second == "rpcproxy.dll":
		return RPCHTTP
	case first == "ecp" && second == "reportingwebservice":
		return Reporting
	}
	return exchangePaths[first]
}

// climbsAcrossExchange says whether a path belongs to one of Exchange's doors for a server that takes the steps up in it, and to another
// or to none for one that doesn't. What is said of a door must not be of use for the rest: /ews/../ecp/.
func (r *Request) climbsAcrossExchange() bool {
	for i, path := range [...]string{r.Asked, r.Rewritten} {
		if i > 0 && path == r.Asked {
			break
		}
		plain := readPath(path)
		if resolved, differs := plain.resolve(); differs && plain.exchange() != resolved.exchange() {
			return true
		}
	}
	return false
}
