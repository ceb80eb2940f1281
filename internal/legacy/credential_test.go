package legacy

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// TestNothingPrintsASecret sends a secret in each way that there is, and prints the Finding in each way that there is.
func TestNothingPrintsASecret(t *testing.T) {
	const secret = "Wm4Wm4Wm4"
	for reason, tc := range map[string]struct {
		request     Request
		contentType string
		body        string
	}{
		"basic":               {request: Request{Method: "GET", Header: http.Header{"Authorization": {"Basic " + b64("alice:"+secret)}}}},
		"basic, secret first": {request: Request{Method: "GET", Header: http.Header{"Authorization": {"Basic " + b64(secret+":")}}}},
		"basic beside bearer": {request: Request{Method: "GET", Header: http.Header{"Authorization": {"Bearer " + secret, "Basic " + b64("alice:"+secret)}}}},
		"no colon":            {request: Request{Method: "GET", Header: http.Header{"Authorization": {"Basic " + b64(secret)}}}},
		"no scheme":           {request: Request{Method: "GET", Header: http.Header{"Authorization": {secret}}}},
		"query":               {request: Request{Method: "GET", Query: "password=" + secret}},
		"form":                {request: Request{Method: "POST", Asked: "/login", LoginPaths: []string{"/login"}}, contentType: "application/x-www-form-urlencoded", body: "user=alice&password=" + secret},
		"grant":               {request: Request{Method: "POST", Asked: "/token"}, contentType: "application/json", body: `{"grant_type":"password","username":"alice","password":"` + secret + `"}`},
		"UsernameToken":       {request: Request{Method: "POST"}, contentType: "text/xml", body: "<UsernameToken><Username>alice</Username><Password>" + secret + "</Password></UsernameToken>"},
		"method call":         {request: Request{Method: "POST", Asked: "/xmlrpc.php"}, contentType: "text/xml", body: "<methodCall><methodName>wp.getPosts</methodName><params><param><value>1</value></param><param><value>alice</value></param><param><value>" + secret + "</value></param></params></methodCall>"},
	} {
		t.Run(reason, func(t *testing.T) {
			if tc.request.Header == nil {
				tc.request.Header = http.Header{}
			}
			if tc.contentType != "" {
				tc.request.Header.Set("Content-Type", tc.contentType)
			}
			f := Inspect(&tc.request)
			if f.Body {
				f = InspectBody(f, tc.contentType, "", []byte(tc.body), true)
			}
			if f.Class == None {
				t.Fatal("nothing was found")
			}
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				fmt.Fprintf(&out, verb+verb+verb, f, &f, f.Basic)
			}
			for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
				slog.New(h).Info("seen", "finding", f, "basic", f.Basic)
			}
			for _, encode := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
				b, err := encode(f)
				if err != nil {
					t.Fatal(err)
				}
				out.Write(b)
			}
			if f.Basic != nil {
				fmt.Fprint(&out, f.Basic.String(), f.Basic.GoString(), *f.Basic)
			}
			for _, s := range []string{secret, fmt.Sprintf("%x", secret), b64(secret)} {
				if strings.Contains(out.String(), s) {
					t.Errorf("%s stands in\n%s", s, &out)
				}
			}
		})
	}
}
