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
