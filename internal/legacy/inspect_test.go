package legacy

import (
	"net/http"
	"strings"
	"testing"
)

// legacyValues are an Authorization of each legacy scheme.
var legacyValues = map[Class]string{
	Basic: "Basic YWxpY2U6cHc=", Digest: `Digest username="alice"`, NTLM: "NTLM TlRMTVNTUAAB", Kerberos: "Negotiate YII=",
}

func with(h http.Header, name, value string) http.Header {
	h = h.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Add(name, value)
	return h
}

func TestWhatAProgramWantsToDo(t *testing.T) {
	type header = http.Header
	for reason, tc := range map[string]struct {
		request Request
		want    Class
	}{
		"ActiveSync":                     {Request{Method: "POST", Asked: "/Microsoft-Server-ActiveSync", Query: "Cmd=Sync&User=alice"}, EAS},
		"ActiveSync's options":           {Request{Method: "OPTIONS", Asked: "/Microsoft-Server-ActiveSync/default.eas"}, EAS},
		"EWS":                            {Request{Method: "POST", Asked: "/EWS/Exchange.asmx", Header: header{"Content-Type": {"text/xml; charset=utf-8"}}}, EWS},
		"MAPI":                           {Request{Method: "POST", Asked: "/mapi/emsmdb/", Query: "MailboxId=x"}, MAPI},
		"offline address book":           {Request{Method: "GET", Asked: "/OAB/guid/oab.xml"}, OAB},
		"RPC in":                         {Request{Method: "RPC_IN_DATA", Asked: "/rpc/rpcproxy.dll", Query: "mail:6001"}, RPCHTTP},
		"RPC out":                        {Request{Method: "RPC_OUT_DATA", Asked: "/rpcwithcert/rpcproxy.dll"}, RPCHTTP},
		"RPC's echo":                     {Request{Method: "GET", Asked: "/Rpc/RpcProxy.dll"}, RPCHTTP},
		"another's /rpc":                 {Request{Method: "POST", Asked: "/rpc/v1", Header: header{"Content-Type": {"application/json"}}}, None},
		"autodiscover":                   {Request{Method: "POST", Asked: "/autodiscover/autodiscover.xml"}, Autodiscover},
		"PowerShell":                     {Request{Method: "POST", Asked: "/PowerShell", Query: "serializationLevel=Full"}, RPS},
		"PowerShell with an old name":    {Request{Method: "POST", Asked: "/PowerShell-LiveID"}, RPS},
		"reporting":                      {Request{Method: "GET", Asked: "/ecp/ReportingWebService/Reporting.svc"}, Reporting},
		"the rest of /ecp":               {Request{Method: "GET", Asked: "/ecp/default.aspx"}, None},
		"percent-encoded":                {Request{Method: "POST", Asked: "/%45%57s/Exchange.asmx"}, EWS},
		"encoded twice":                  {Request{Method: "POST", Asked: "/%2545ws/Exchange.asmx"}, EWS},
		"encoded slash":                  {Request{Method: "POST", Asked: "/ews%2fexchange.asmx"}, EWS},
		"backslash":                      {Request{Method: "POST", Asked: `/ews\exchange.asmx`}, EWS},
		"empty segments":                 {Request{Method: "POST", Asked: "//ews//exchange.asmx"}, EWS},
		"a parameter":                    {Request{Method: "POST", Asked: "/ews;x=y/exchange.asmx"}, EWS},
		"dots at the end":                {Request{Method: "POST", Asked: "/ews./exchange.asmx"}, EWS},
		"climbing to it":                 {Request{Method: "POST", Asked: "/a/%2e%2e/ews/exchange.asmx"}, Malformed},
		"climbing from it":               {Request{Method: "POST", Asked: "/ews/../a"}, Malformed},
		"climbing from it in disguise":   {Request{Method: "POST", Asked: `/ews\..;x%252fecp/`}, Malformed},
		"climbing as on Windows":         {Request{Method: "POST", Asked: "/ews/..%20./ecp/"}, Malformed},
		"climbing after a rewrite":       {Request{Method: "POST", Asked: "/mail", Rewritten: "/ews/../a"}, Malformed},
		"climbing from one to another":   {Request{Method: "POST", Asked: "/ews/../oab/x"}, Malformed},
		"climbing inside of it":          {Request{Method: "POST", Asked: "/ews/a/../exchange.asmx"}, EWS},
		"climbing where Exchange isn't":  {Request{Method: "POST", Asked: "/a/../b"}, None},
		"rewritten to it":                {Request{Method: "POST", Asked: "/mail", Rewritten: "/ews/exchange.asmx"}, EWS},
		"rewritten from it":              {Request{Method: "POST", Asked: "/ews/exchange.asmx", Rewritten: "/mail"}, EWS},
		"a longer name":                  {Request{Method: "POST", Asked: "/ewsx/exchange.asmx"}, None},
		"deeper down":                    {Request{Method: "POST", Asked: "/a/ews/exchange.asmx"}, None},
		"git, what is there":             {Request{Method: "GET", Asked: "/r.git/info/refs", Query: "service=git-upload-pack"}, Git},
		"git, pushing":                   {Request{Method: "POST", Asked: "/r.git/git-receive-pack", Header: header{"Content-Type": {"application/x-git-receive-pack-request"}}}, Git},
		"git, version 2":                 {Request{Method: "GET", Asked: "/r/x", Header: header{"Git-Protocol": {"version=2"}}}, Git},
		"git, large files":               {Request{Method: "POST", Asked: "/r/info/lfs/objects/batch", Header: header{"Accept": {"application/vnd.git-lfs+json"}}}, Git},
		"svn, looking":                   {Request{Method: "OPTIONS", Asked: "/svn/r", Header: header{"Dav": {"http://subversion.tigris.org/xmlns/dav/svn/depth", "x"}}}, Subversion},
		"svn, its own resources":         {Request{Method: "PROPFIND", Asked: "/svn/r/!svn/vcc/default"}, Subversion},
		"svn, writing":                   {Request{Method: "POST", Asked: "/svn/r", Header: header{"Content-Type": {"application/vnd.svn-skel"}}}, Subversion},
		"WebDAV, listing":                {Request{Method: "PROPFIND", Asked: "/dav/", Header: header{"Depth": {"1"}}}, WebDAV},
		"WebDAV, what is there":          {Request{Method: "OPTIONS", Asked: "/dav/"}, WebDAV},
		"WebDAV, moving":                 {Request{Method: "MOVE", Asked: "/dav/a", Header: header{"Destination": {"http://x/dav/b"}}}, WebDAV},
		"WebDAV, writing what is locked": {Request{Method: "PUT", Asked: "/dav/a", Header: header{"If": {"(<opaquelocktoken:1>)"}}}, WebDAV},
		"WebDAV, reading as Windows":     {Request{Method: "GET", Asked: "/dav/a", Header: header{"Translate": {"f"}}}, WebDAV},
		"calendar":                       {Request{Method: "PUT", Asked: "/cal/a.ics", Header: header{"Content-Type": {"text/calendar; charset=utf-8"}}}, WebDAV},
		"address book":                   {Request{Method: "PUT", Asked: "/card/a.vcf", Header: header{"Content-Type": {"text/vcard"}}}, WebDAV},
		"report":                         {Request{Method: "REPORT", Asked: "/cal/", Header: header{"Content-Type": {"text/xml"}}}, WebDAV},
		"where calendars are":            {Request{Method: "GET", Asked: "/.well-known/caldav"}, WebDAV},
		"FrontPage":                      {Request{Method: "POST", Asked: "/_vti_bin/shtml.exe/_vti_rpc", Header: header{"Content-Type": {"application/x-www-form-urlencoded"}, "X-Vermeer-Content-Type": {"application/x-www-form-urlencoded"}}}, FrontPage},
		"SharePoint's web services":      {Request{Method: "POST", Asked: "/sites/a/_vti_bin/Lists.asmx", Header: header{"Content-Type": {"text/xml"}}}, FrontPage},
		"apt":                            {Request{Method: "GET", Asked: "/debian/dists/stable/InRelease"}, Packages},
		"apt, its index":                 {Request{Method: "GET", Asked: "/debian/dists/stable/main/binary-amd64/Packages.xz"}, Packages},
		"a package":                      {Request{Method: "GET", Asked: "/debian/pool/a/a_1.deb"}, Packages},
		"npm":                            {Request{Method: "GET", Asked: "/left-pad", Header: header{"Accept": {"application/vnd.npm.install-v1+json; q=1.0"}}}, Packages},
		"npm, a package":                 {Request{Method: "GET", Asked: "/@a%2fb/-/b-1.0.0.tgz"}, Packages},
		"pip":                            {Request{Method: "GET", Asked: "/simple/requests/"}, Packages},
		"Maven":                          {Request{Method: "GET", Asked: "/maven2/org/a/maven-metadata.xml"}, Packages},
		"docker":                         {Request{Method: "GET", Asked: "/v2/"}, Packages},
		"docker, an image":               {Request{Method: "GET", Asked: "/v2/a/b/manifests/latest"}, Packages},
		"another's /v2":                  {Request{Method: "GET", Asked: "/v2/users"}, None},
		"Go":                             {Request{Method: "GET", Asked: "/example.org/a/@v/list"}, Packages},
		"XML-RPC":                        {Request{Method: "POST", Asked: "/blog/xmlrpc.php", Header: header{"Content-Type": {"text/xml"}}}, XMLRPC},
		"XML-RPC without a type":         {Request{Method: "POST", Asked: "/RPC2"}, XMLRPC},
		"XML-RPC, read":                  {Request{Method: "GET", Asked: "/xmlrpc.php"}, None},
		"a plain download":               {Request{Method: "GET", Asked: "/files/report.txt"}, None},
		"a plain upload":                 {Request{Method: "PUT", Asked: "/files/report.txt"}, None},
	} {
		t.Run(reason, func(t *testing.T) {
			r := tc.request
			if r.Rewritten == "" {
				r.Rewritten = r.Asked
			}
			plain := r.Header
			for scheme, value := range legacyValues {
				want := tc.want
				if want == None {
					want = scheme
				}
				r.Header = with(plain, "Authorization", value)
				if f := Inspect(&r); f.Class != want || f.Scheme != scheme {
					t.Errorf("with %s: class %q, scheme %q, want %q", value, f.Class, f.Scheme, want)
				}
			}
			// A signature stays one, whatever it is for.
			r.Header = with(plain, "Authorization", "AWS4-HMAC-SHA256 Credential=a")
			if f := Inspect(&r); !isRPC(r.Method) && f.Class != AWSSigV4 {
				t.Errorf("signed: class %q", f.Class)
			}
			r.Header = with(plain, "Authorization", "Magic abc")
			if f := Inspect(&r); f.Class != Malformed {
				t.Errorf("malformed: class %q", f.Class)
			}
			r.Header = with(plain, "Authorization", "Bearer abc")
			if f := Inspect(&r); f.Class != None {
				t.Errorf("with bearer: class %q", f.Class)
			}
			// Without a credential, only what no browser does is legacy.
			want := None
			if isRPC(r.Method) || tc.want == XMLRPC {
				want = tc.want
			}
			r.Header = with(plain, "Accept", "*/*")
			if f := Inspect(&r); f.Class != want {
				t.Errorf("without a credential: class %q, want %q", f.Class, want)
			}
		})
	}
}

func TestCredentialsThatNoSchemeCarries(t *testing.T) {
	for reason, tc := range map[string]struct {
		request Request
		class   Class
		scheme  Class
		user    string
		body    bool
	}{
		"a user in the target":               {Request{Method: "GET", UserInfo: true}, UserInfo, None, "", false},
		"a user in the target, and basic":    {Request{Method: "GET", UserInfo: true, Header: http.Header{"Authorization": {"Basic YWxpY2U6cHc="}}}, UserInfo, Basic, "alice", false},
		"X-WSSE":                             {Request{Method: "GET", Header: http.Header{"X-Wsse": {`UsernameToken Username="alice", PasswordDigest="x"`}}}, WSSE, WSSE, "alice", false},
		"X-WSSE beside bearer":               {Request{Method: "GET", Header: http.Header{"Authorization": {"Bearer x"}, "X-Wsse": {`UsernameToken Username="alice"`}}}, WSSE, WSSE, "alice", false},
		"a proxy's credential is the hop's":  {Request{Method: "GET", Header: http.Header{"Proxy-Authorization": {"Basic YWxpY2U6cHc="}}}, None, None, "", false},
		"a password in the query":            {Request{Method: "GET", Query: "a=b&password=x"}, QueryCred, None, "", false},
		"a password in a HEAD's query":       {Request{Method: "HEAD", Query: "access_token=x"}, QueryCred, None, "", false},
		"in any case, with any separator":    {Request{Method: "GET", Query: "a=b;API-Key=x"}, QueryCred, None, "", false},
		"percent-encoded":                    {Request{Method: "GET", Query: "p%61ssword=x"}, QueryCred, None, "", false},
		"in brackets":                        {Request{Method: "GET", Query: "user[password]=x"}, QueryCred, None, "", false},
		"in encoded brackets":                {Request{Method: "GET", Query: "user%5Bpassword%5D=x"}, QueryCred, None, "", false},
		"a list of them":                     {Request{Method: "GET", Query: "password%5b%5d=x"}, QueryCred, None, "", false},
		"an empty password":                  {Request{Method: "GET", Query: "password="}, None, None, "", false},
		"a name that only begins so":         {Request{Method: "GET", Query: "password_reset_page=1"}, None, None, "", false},
		"a long name":                        {Request{Method: "GET", Query: "passwordpasswordpasswordpasswordpassword=1"}, None, None, "", false},
		"a value that is called so":          {Request{Method: "GET", Query: "q=password=x"}, None, None, "", false},
		"a password in the query, and basic": {Request{Method: "GET", Query: "password=x", Header: http.Header{"Authorization": {"Basic YWxpY2U6cHc="}}}, Basic, Basic, "alice", false},
		"sign-in form":                       {Request{Method: "POST", Asked: "/login", LoginPaths: []string{"/x", "/login"}}, FormLogin, None, "", true},
		"sign-in form in any case":           {Request{Method: "POST", Asked: "/LOGIN/", LoginPaths: []string{"/login"}}, FormLogin, None, "", true},
		"sign-in form below a prefix":        {Request{Method: "POST", Asked: "/auth/de/form", LoginPaths: []string{"/auth/*"}}, FormLogin, None, "", true},
		"sign-in form, rewritten":            {Request{Method: "POST", Asked: "/a", Rewritten: "/login", LoginPaths: []string{"/login"}}, FormLogin, None, "", true},
		"sign-in form, read":                 {Request{Method: "GET", Asked: "/login", LoginPaths: []string{"/login"}}, None, None, "", false},
		"sign-in form of another path":       {Request{Method: "POST", Asked: "/login/x", Header: http.Header{"Content-Type": {"image/png"}}, LoginPaths: []string{"/login"}}, None, None, "", false},
		"sign-in form, and basic":            {Request{Method: "POST", Asked: "/login", LoginPaths: []string{"/login"}, Header: http.Header{"Authorization": {"Basic YWxpY2U6cHc="}}}, Basic, Basic, "alice", true},
		"a form":                             {Request{Method: "POST", Asked: "/a", Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}, None, None, "", true},
		"an upload":                          {Request{Method: "POST", Asked: "/a", Header: http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}}, None, None, "", false},
		"an upload to a token's path":        {Request{Method: "POST", Asked: "/oauth2/v2.0/token", Header: http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}}, None, None, "", true},
		"SOAP":                               {Request{Method: "POST", Asked: "/a.asmx", Header: http.Header{"Content-Type": {"application/soap+xml; charset=utf-8"}}}, None, None, "", true},
		"a file share's XML":                 {Request{Method: "PROPFIND", Asked: "/a", Header: http.Header{"Content-Type": {"text/xml"}}}, None, None, "", false},
		"svn's first question":               {Request{Method: "OPTIONS", Asked: "/svn/r", Header: http.Header{"Content-Type": {"text/xml"}, "Dav": {"http://subversion.tigris.org/xmlns/dav/svn/depth"}}}, None, None, "", false},
		"RPC over HTTP with nothing":         {Request{Method: "RPC_IN_DATA", Asked: "/a"}, RPCHTTP, None, "", false},
		"RPC over HTTP, signed":              {Request{Method: "RPC_IN_DATA", Asked: "/a", Header: http.Header{"Authorization": {`Hawk id="a"`}}}, RPCHTTP, Hawk, "", false},
		"a preflight":                        {Request{Method: "OPTIONS", Asked: "/ews/x", Header: http.Header{"Origin": {"https://a.example"}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization"}}}, None, None, "", false},
		"an ACME challenge":                  {Request{Method: "GET", Asked: "/.well-known/acme-challenge/x"}, None, None, "", false},
	} {
		t.Run(reason, func(t *testing.T) {
			f := Inspect(&tc.request)
			if f.Class != tc.class || f.Scheme != tc.scheme || f.User != tc.user || f.Body != tc.body {
				t.Errorf("class %q, scheme %q, user %q, body %t; want %q, %q, %q, %t", f.Class, f.Scheme, f.User, f.Body, tc.class, tc.scheme, tc.user, tc.body)
			}
			if f.Basic != nil && f.Class != Basic {
				t.Error("a credential beside another is to be verified")
			}
		})
	}
}

func TestClientsAndTheAnswersThatTheyUnderstand(t *testing.T) {
	for reason, tc := range map[string]struct {
		method, agent, accepted string
		client                  string
		dialect                 Dialect
	}{
		"git":                                {"GET", "git/2.39.5", "", "git", Plain},
		"svn":                                {"OPTIONS", "SVN/1.14.2 (x86_64-pc-linux-gnu) serf/1.3.9", "", "svn", SVN},
		"curl":                               {"GET", "curl/7.88.1", "", "curl", Plain},
		"rclone":                             {"PROPFIND", "rclone/v1.60.1", "", "rclone", Plain},
		"perl":                               {"GET", "lwp-request/6.67 libwww-perl/6.68", "", "Perl", Plain},
		"apt":                                {"GET", "Debian APT-HTTP/1.3 (2.6.1)", "", "apt", Plain},
		"Firefox":                            {"GET", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "", "browser", Plain},
		"Thunderbird":                        {"PROPFIND", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.0", "", "Thunderbird", Plain},
		"nothing":                            {"GET", "", "", "none", Plain},
		"nobody known":                       {"GET", "Frobnicator/1", "", "other", Plain},
		"Office, looking":                    {"OPTIONS", "Microsoft Office Protocol Discovery", "", "Microsoft Office", OFBA},
		"Office, does it exist":              {"HEAD", "Microsoft Office Existence Discovery", "", "Microsoft Office", OFBA},
		"Office, as a browser":               {"OPTIONS", "Mozilla/4.0 (compatible; ms-office; MSOffice 16)", "", "Microsoft Office", OFBA},
		"Office, downloading":                {"GET", "Microsoft Office Word 2016", "", "Microsoft Office", Plain},
		"Office that says what it knows":     {"GET", "Microsoft Office Word 2016", "t", "Microsoft Office", OFBA},
		"Office that doesn't want to":        {"OPTIONS", "Microsoft Office Word 2016", "f", "Microsoft Office", Plain},
		"Windows":                            {"PROPFIND", "Microsoft-WebDAV-MiniRedir/10.0.19045", "", "Windows WebDAV", OFBA},
		"another that says that it knows it": {"OPTIONS", "Mozilla/5.0 x", "T", "browser", OFBA},
		"a search robot":                     {"HEAD", "Mozilla/4.0 (compatible; MSIE 4.01; Windows NT; MS Search 6.0 Robot) Microsoft Office", "", "Microsoft Office", Plain},
		"FrontPage":                          {"OPTIONS", "Mozilla/4.0 (compatible; MS FrontPage)", "", "FrontPage", OFBA},
		"one of great length":                {"OPTIONS", strings.Repeat("x", 10000) + "curl/1", "", "other", Plain},
	} {
		t.Run(reason, func(t *testing.T) {
			r := Request{Method: tc.method, Asked: "/a", Rewritten: "/a", Header: http.Header{"Authorization": {"Basic YWxpY2U6cHc="}}}
			if tc.agent != "" {
				r.Header.Set("User-Agent", tc.agent)
			}
			if tc.accepted != "" {
				r.Header.Set("X-FORMS_BASED_AUTH_ACCEPTED", tc.accepted)
			}
			if f := Inspect(&r); f.Client != tc.client || f.Dialect != tc.dialect {
				t.Errorf("client %q, dialect %d; want %q, %d", f.Client, f.Dialect, tc.client, tc.dialect)
			}
			r.Header.Del("Authorization")
			if f := Inspect(&r); f.Dialect != tc.dialect {
				t.Errorf("without a credential: dialect %d, want %d", f.Dialect, tc.dialect)
			}
		})
	}
}

func TestNothingFoundIsNothing(t *testing.T) {
	if f := Inspect(browserGET()); f != (Finding{}) {
		t.Fatalf("%+v", f)
	}
}

// browserGET is what a browser that is signed in sends most.
func browserGET() *Request {
	return &Request{
		Method: "GET", Asked: "/app/list", Rewritten: "/app/list", Query: "page=2&sort=name",
		Header: http.Header{
			"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
			"Accept":     {"text/html,application/xhtml+xml"}, "Cookie": {"a=b"}, "Accept-Language": {"en"}, "Sec-Fetch-Mode": {"navigate"},
			"Accept-Encoding": {"gzip"}, "Referer": {"https://app.example/"}, "Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Site": {"same-origin"},
		},
	}
}

func TestABrowsersRequestAllocatesNothing(t *testing.T) {
	r := browserGET()
	if n := testing.AllocsPerRun(100, func() { Inspect(r) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkInspect(b *testing.B) {
	bearer := browserGET()
	bearer.Header.Set("Authorization", "Bearer eyJhbGciOiJub25lIn0.e30.")
	basic := &Request{Method: "PROPFIND", Asked: "/dav/a", Rewritten: "/dav/a", Header: http.Header{"Authorization": {"Basic YWxpY2U6cHc="}, "User-Agent": {"rclone/v1.60"}}}
	form := browserGET()
	form.Method = "POST"
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, of := range []struct {
		name    string
		request *Request
	}{{"browser", browserGET()}, {"bearer", bearer}, {"form", form}, {"basic", basic}} {
		b.Run(of.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Inspect(of.request)
			}
		})
	}
}
