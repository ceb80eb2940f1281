package legacy

import (
	"net/http"
	"slices"
	"strings"
)

// protocol is the class of a request that carries a legacy scheme, by what the program that sends it wants to do; None where
// that doesn't show. The most specific comes first: a client of git also sends methods of WebDAV.
func (r *Request) protocol() Class {
	if isRPC(r.Method) {
		return RPCHTTP
	}
	readings := r.readings()
	for _, p := range readings {
		if class := p.exchange(); class != None {
			return class
		}
	}
	for _, p := range [...]struct {
		class Class
		speak func(*Request, reading) bool
	}{
		{Git, (*Request).git}, {Subversion, (*Request).svn}, {FrontPage, (*Request).frontPage}, {Packages, (*Request).packages},
		{XMLRPC, (*Request).xmlrpc}, {WebDAV, (*Request).webDAV},
	} {
		if slices.ContainsFunc(readings, func(path reading) bool { return p.speak(r, path) }) {
			return p.class
		}
	}
	return None
}

// git knows git's smart protocol, and that of its large files.
func (r *Request) git(path reading) bool {
	last := path.at(-1)
	return last == "git-upload-pack" || last == "git-receive-pack" || last == "git-upload-archive" ||
		last == "refs" && path.at(-2) == "info" && containsFold(unescape(r.Query, true), "service=git-") ||
		r.Header["Git-Protocol"] != nil ||
		mentions(r.Header, "application/x-git-", "Content-Type", "Accept") || mentions(r.Header, "application/vnd.git-lfs", "Content-Type", "Accept")
}

// svn knows Subversion's dialect of WebDAV.
func (r *Request) svn(path reading) bool {
	return slices.Contains(path, "!svn") || speaksSVN(r.Header)
}

func speaksSVN(h http.Header) bool {
	return mentions(h, "subversion.tigris.org", "Dav") || mentions(h, "application/vnd.svn-", "Content-Type", "Accept") ||
		h["X-Svn-Options"] != nil || h["X-Svn-Version-Name"] != nil
}

// frontPage knows the server extensions of FrontPage and the web services of SharePoint.
func (r *Request) frontPage(path reading) bool {
	return slices.Contains(path, "_vti_bin") || slices.Contains(path, "_vti_inf.html") || slices.Contains(path, "_vti_rpc") ||
		mentions(r.Header, "application/x-vermeer-", "Content-Type") || r.Header["X-Vermeer-Content-Type"] != nil
}

// packageTypes are media types of package registries.
var packageTypes = []string{
	"application/vnd.npm.", "application/vnd.pypi.simple.", "application/vnd.docker.", "application/vnd.oci.", "application/vnd.cncf.helm.",
}

// packageFiles are the names of indexes.
var packageFiles = []string{
	"inrelease", "release.gpg", "repomd.xml", "maven-metadata.xml", "specs.4.8.gz", "packages.json", "repodata.json", "index.yaml",
}

// packageSuffixes are those of packages.
var packageSuffixes = []string{".deb", ".udeb", ".rpm", ".whl", ".pom", ".jar", ".nupkg", ".gem", ".crate", ".apk"}

// packages knows those that install software.
func (r *Request) packages(path reading) bool {
	first, last := path.at(0), path.at(-1)
	switch {
	case first == "v2" && (len(path) == 1 || slices.ContainsFunc(path, func(s string) bool {
		return s == "manifests" || s == "blobs" || s == "_catalog" || s == "referrers"
	}) || last == "list" && path.at(-2) == "tags"): // docker
		return true
	case slices.Contains(path, "-") && (strings.HasSuffix(last, ".tgz") || path.at(0) == "-"): // npm
		return true
	case slices.Contains(path, "@v"): // Go
		return true
	case path.at(-2) == "simple", last == "simple": // pip
		return true
	case slices.Contains(path, "dists") && (last == "release" || strings.HasPrefix(last, "packages") || strings.HasPrefix(last, "sources")): // apt
		return true
	case slices.Contains(packageFiles, last), slices.ContainsFunc(packageSuffixes, func(s string) bool { return strings.HasSuffix(last, s) }):
		return true
	}
	return r.Header["Npm-Command"] != nil || r.Header["Npm-Session"] != nil || r.Header["X-Nuget-Client-Version"] != nil || r.Header["X-Nuget-Apikey"] != nil ||
		slices.ContainsFunc(packageTypes, func(t string) bool { return mentions(r.Header, t, "Accept", "Content-Type") })
}

// davMethods are those of RFC 4918, 3253, 3648, 3744, 4791, 5323, 5842 and 6352.
var davMethods = []string{
	"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "ACL", "ORDERPATCH", "MKCALENDAR", "MKADDRESSBOOK",
	"VERSION-CONTROL", "CHECKOUT", "CHECKIN", "UNCHECKOUT", "MKWORKSPACE", "UPDATE", "LABEL", "MERGE", "BASELINE-CONTROL", "MKACTIVITY",
	"BIND", "UNBIND", "REBIND",
	"BCOPY", "BMOVE", "BDELETE", "BPROPFIND", "BPROPPATCH", "NOTIFY", "POLL", "SUBSCRIBE", "UNSUBSCRIBE", // of Exchange 2003
}

func isDAV(method string) bool {
	return slices.ContainsFunc(davMethods, func(m string) bool { return strings.EqualFold(m, method) })
}

// webDAV knows file shares, calendars and address books. Their programs begin by asking what there is; a browser's preflight has no
// credential.
func (r *Request) webDAV(path reading) bool {
	h := r.Header
	return isDAV(r.Method) || strings.EqualFold(r.Method, http.MethodOptions) ||
		h["Depth"] != nil || h["Destination"] != nil || h["Lock-Token"] != nil || h["Translate"] != nil || mentions(h, "locktoken:", "If") ||
		mentions(h, "text/calendar", "Content-Type") || mentions(h, "text/vcard", "Content-Type") ||
		path.at(0) == ".well-known" && (path.at(1) == "caldav" || path.at(1) == "carddav")
}

// xmlrpcPaths are segments of paths that XML-RPC is known to be answered at.
var xmlrpcPaths = []string{"xmlrpc", "xmlrpc.php", "xmlrpc.cgi", "xmlrpc.aspx", "xmlrpc.py", "xml-rpc", "rpc2"}

// xmlrpc knows where XML-RPC is posted to. A body that says that it is something else is not looked for here.
func (r *Request) xmlrpc(path reading) bool {
	if !strings.EqualFold(r.Method, "POST") || mentions(r.Header, "json", "Content-Type") || mentions(r.Header, "form", "Content-Type") {
		return false
	}
	return slices.ContainsFunc(path, func(s string) bool { return slices.Contains(xmlrpcPaths, s) })
}

// mentions says whether one of the headers holds the text, in any case. The text is in lower case.
func mentions(h http.Header, text string, headers ...string) bool {
	for _, name := range headers {
		for _, v := range h[name] {
			if containsFold(v, text) {
				return true
			}
		}
	}
	return false
}

// containsFold says whether s holds the text, which is in lower case. It allocates nothing.
func containsFold(s, text string) bool {
	for i := 0; i+len(text) <= len(s); i++ {
		if s[i]|0x20 == text[0]|0x20 && strings.EqualFold(s[i:i+len(text)], text) {
			return true
		}
	}
	return false
}
