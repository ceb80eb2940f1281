package legacy

import (
	"bytes"
	"net/http"
	"strings"
)

// Dialect is what an answer must look like for its client to understand it.
type Dialect uint8

// The dialects.
const (
	Plain Dialect = iota // a line of text
	SVN                  // mod_dav's error XML
	OFBA                 // Office Forms Based Authentication: MS-OFBA
)

// families are those of clients, and what one of them has in its User-Agent, in lower case. The first that fits counts.
var families = []struct{ token, name string }{
	{"git-lfs/", "git"}, {"git/", "git"}, {"jgit/", "git"}, {"svn/", "svn"}, {"tortoisesvn", "svn"},
	{"microsoft-webdav-miniredir", "Windows WebDAV"}, {"davclnt", "Windows WebDAV"}, {"microsoft data access internet publishing", "Windows WebDAV"},
	{"ms frontpage", "FrontPage"}, {"msfrontpage", "FrontPage"},
	{"microsoft outlook", "Microsoft Outlook"}, {"outlook-ios", "Microsoft Outlook"}, {"outlook-android", "Microsoft Outlook"},
	{"microsoft office", "Microsoft Office"}, {"ms-office", "Microsoft Office"}, {"msoffice", "Microsoft Office"}, {"microsoft word", "Microsoft Office"}, {"microsoft excel", "Microsoft Office"}, {"microsoft powerpoint", "Microsoft Office"},
	{"exchangelib/", "exchangelib"}, {"exchangeservicesclient", "EWS Managed API"}, {"apple-iphone", "ActiveSync device"}, {"apple-ipad", "ActiveSync device"}, {"android-mail", "ActiveSync device"}, {"touchdown", "ActiveSync device"}, {"samsungdevice", "ActiveSync device"}, {"msft-", "ActiveSync device"},
	{"rclone/", "rclone"}, {"davfs2/", "davfs2"}, {"cadaver/", "cadaver"}, {"gvfs/", "gvfs"}, {"kioworker", "KIO"}, {"cyberduck/", "Cyberduck"}, {"winscp/", "WinSCP"}, {"webdavfs/", "macOS WebDAV"}, {"webdavlib/", "macOS WebDAV"},
	{"vdirsyncer/", "vdirsyncer"}, {"davx5/", "DAVx5"}, {"davdroid/", "DAVx5"}, {"thunderbird/", "Thunderbird"}, {"lightning/", "Thunderbird"}, {"evolution/", "Evolution"}, {"dataaccessd/", "Apple Calendar"}, {"calendaragent/", "Apple Calendar"}, {"addressbook", "Apple Contacts"}, {"ios/", "Apple Calendar"}, {"nextcloud", "Nextcloud"}, {"mirall/", "Nextcloud"},
	{"apt-http", "apt"}, {"npm/", "npm"}, {"pnpm/", "npm"}, {"yarn/", "npm"}, {"pip/", "pip"}, {"uv/", "pip"}, {"twine/", "pip"}, {"maven", "Maven"}, {"gradle/", "Gradle"}, {"docker/", "docker"}, {"containerd/", "docker"}, {"podman/", "docker"}, {"buildkit/", "docker"}, {"skopeo/", "docker"}, {"nuget", "NuGet"}, {"composer/", "Composer"}, {"cargo", "cargo"}, {"libdnf", "dnf"}, {"helm/", "Helm"},
	{"wordpress/", "WordPress"}, {"wp-android", "WordPress"}, {"wp-iphone", "WordPress"},
	{"curl/", "curl"}, {"wget/", "wget"}, {"w3m/", "w3m"}, {"lynx/", "lynx"}, {"libwww-perl", "Perl"}, {"lwp", "Perl"},
	{"python", "Python"}, {"aiohttp", "Python"}, {"windowspowershell", "PowerShell"}, {"powershell/", "PowerShell"}, {"go-http-client", "Go"}, {"okhttp", "Java"}, {"java/", "Java"}, {"apache-httpclient", "Java"}, {"axios/", "Node.js"}, {"node", "Node.js"}, {"php", "PHP"}, {"guzzle", "PHP"}, {"ruby", "Ruby"},
}

// maxAgent is how many bytes of a User-Agent are looked at.
const maxAgent = 512

// family is that of the client that says so of itself.
func family(h http.Header) string {
	agent := first(h["User-Agent"])
	if agent == "" {
		return "none"
	}
	var low [maxAgent]byte
	a := appendLower(low[:0], agent[:min(len(agent), maxAgent)])
	for i := range families {
		if bytes.Contains(a, []byte(families[i].token)) {
			return families[i].name
		}
	}
	if bytes.HasPrefix(a, []byte("mozilla/")) || bytes.HasPrefix(a, []byte("opera/")) {
		return "browser"
	}
	return "other"
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// officeAgents are what clients of MS-OFBA, section 2.2.1, have in their User-Agent, in lower case.
var officeAgents = []string{
	"microsoft data access internet publishing provider", "microsoft-webdav-miniredir", "non-browser", "msoffice", "ms-office",
	"microsoft office", "ms frontpage", "msfrontpage",
}

// dialect is what the client understands. One that says that it knows MS-OFBA is believed; one that is only known by
// its name is answered so where it probes.
func (r *Request) dialect() Dialect {
	if accepted := first(r.Header["X-Forms_based_auth_accepted"]); accepted != "" {
		if strings.EqualFold(accepted, "t") {
			return OFBA
		}
		return Plain
	}
	agent := first(r.Header["User-Agent"])
	if strings.HasPrefix(agent, "Mozilla/5.0") {
		return Plain
	}
	if len(agent) > 3 && strings.EqualFold(agent[:4], "svn/") || speaksSVN(r.Header) {
		return SVN
	}
	switch r.Method {
	case http.MethodOptions, http.MethodHead, "PROPFIND":
	default:
		return Plain
	}
	var low [maxAgent]byte
	a := appendLower(low[:0], agent[:min(len(agent), maxAgent)])
	if bytes.Contains(a, []byte("ms search")) && bytes.Contains(a, []byte("robot")) {
		return Plain
	}
	for _, office := range officeAgents {
		if bytes.Contains(a, []byte(office)) {
			return OFBA
		}
	}
	return Plain
}
