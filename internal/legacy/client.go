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
var families = []struct {
	name   string
	tokens []string
}{
	{"git", []string{"git-lfs/", "git/"}},
	{"svn", []string{"svn/", "tortoisesvn"}},
	{"Windows WebDAV", []string{"microsoft-webdav-miniredir", "davclnt", "microsoft data access internet publishing"}},
	{"FrontPage", []string{"ms frontpage", "msfrontpage"}},
	{"Microsoft Outlook", []string{"microsoft outlook", "outlook-ios", "outlook-android"}},
	{"Microsoft Office", []string{"microsoft office", "ms-office", "msoffice", "microsoft word", "microsoft excel", "microsoft powerpoint"}},
	{"EWS Managed API", []string{"exchangeservicesclient"}},
	{"exchangelib", []string{"exchangelib/"}},
	{"ActiveSync device", []string{"apple-iphone", "apple-ipad", "android-mail", "touchdown", "samsungdevice", "msft-"}},
	{"rclone", []string{"rclone/"}},
	{"davfs2", []string{"davfs2/"}},
	{"cadaver", []string{"cadaver/"}},
	{"gvfs", []string{"gvfs/"}},
	{"KIO", []string{"kioworker"}},
	{"Cyberduck", []string{"cyberduck/"}},
	{"WinSCP", []string{"winscp/"}},
	{"macOS WebDAV", []string{"webdavfs/", "webdavlib/"}},
	{"vdirsyncer", []string{"vdirsyncer/"}},
	{"DAVx5", []string{"davx5/", "davdroid/"}},
	{"Thunderbird", []string{"thunderbird/", "lightning/"}},
	{"Evolution", []string{"evolution/"}},
	{"Apple Calendar", []string{"dataaccessd/", "calendaragent/", "ios/"}},
	{"Apple Contacts", []string{"addressbook"}},
	{"Nextcloud", []string{"nextcloud", "mirall/"}},
	{"apt", []string{"apt-http"}},
	{"npm", []string{"npm/", "yarn/"}},
	{"pip", []string{"pip/", "uv/", "twine/"}},
	{"Maven", []string{"maven"}},
	{"Gradle", []string{"gradle/"}},
	{"docker", []string{"docker/", "containerd/", "podman/", "buildkit/", "skopeo/"}},
	{"NuGet", []string{"nuget"}},
	{"Composer", []string{"composer/"}},
	{"cargo", []string{"cargo"}},
	{"dnf", []string{"libdnf"}},
	{"Helm", []string{"helm/"}},
	{"WordPress", []string{"wordpress/", "wp-android", "wp-iphone"}},
	{"curl", []string{"curl/"}},
	{"wget", []string{"wget/"}},
	{"w3m", []string{"w3m/"}},
	{"lynx", []string{"lynx/"}},
	{"Perl", []string{"libwww-perl", "lwp"}},
	{"Python", []string{"python", "aiohttp"}},
	{"PowerShell", []string{"windowspowershell", "powershell/"}},
	{"Go", []string{"go-http-client"}},
	{"Java", []string{"okhttp", "java/", "apache-httpclient"}},
	{"Node.js", []string{"axios/", "node"}},
	{"PHP", []string{"php", "guzzle"}},
	{"Ruby", []string{"ruby"}},
}

// maxAgent is how many bytes of a User-Agent are looked at.
const maxAgent = 512

// family is that of the client that says so of itself.
func family(agent string) string {
	if agent == "" {
		return "none"
	}
	var low [maxAgent]byte
	a := appendLower(low[:0], agent[:min(len(agent), maxAgent)])
	for i := range families {
		for _, token := range families[i].tokens {
			if bytes.Contains(a, []byte(token)) {
				return families[i].name
			}
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
