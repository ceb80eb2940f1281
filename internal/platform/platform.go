// Package platform says which device platform, operating system and browser a request claims to come from.
//
// All of it is what a client says of itself, and none of it is proof: a platform may make a policy apply, never satisfy it.
// Some clients don't even tell what they are while they mean no harm. An iPad that asks for desktop pages, as it does unless
// told otherwise, says that it is a Mac; an Android browser that does says Linux. Chrome OS and everything else that Entra has
// no name for is Unknown, so that a policy for all platforms with those that have a name excluded applies to it.
package platform

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mileusna/useragent"
)

// Platform is a device platform, as Graph's conditionalAccessDevicePlatform names it.
type Platform string

// The platforms.
const (
	Unknown      Platform = ""
	Android      Platform = "android"
	IOS          Platform = "iOS"
	Windows      Platform = "windows"
	MacOS        Platform = "macOS"
	Linux        Platform = "linux"
	WindowsPhone Platform = "windowsPhone"
)

// Client is what a request says of the program and the device that it comes from. What isn't said is empty. The texts are
// short and can be printed.
type Client struct {
	Platform Platform
	Name     string // of the browser: Firefox
	Version  string // of the browser, its first number: 128
	System   string // Windows 10
}

// Browser is the browser's name with its version: "Firefox 128".
func (c Client) Browser() string {
	if c.Version == "" {
		return c.Name
	}
	return c.Name + " " + c.Version
}

// maxHeader is how many bytes of a header are looked at. One that is longer says nothing.
const maxHeader = 512

// maxText is how many characters a name may have that a client chooses.
const maxText = 40

// Parse reads a request's Sec-CH-UA-Platform and User-Agent. The first decides on the platform if it names one, since browsers
// no longer keep the second true. It takes some microseconds; see Cache.
func Parse(hint, userAgent string) Client {
	hint, userAgent = bound(hint), bound(userAgent)
	c, system := parseUserAgent(userAgent)
	if name := parseHint(hint); name != "" {
		hinted, known := hints[strings.ToLower(name)]
		if !known {
			hinted = names{Unknown, printable(name)}
		}
		if hinted.system != system {
			c.Platform, c.System = hinted.platform, hinted.system
		}
	}
	return c
}

func bound(header string) string {
	if len(header) > maxHeader {
		return ""
	}
	return header
}

// names are those of a platform and of an operating system.
type names struct {
	platform Platform
	system   string // without a version
}

// hints are what Sec-CH-UA-Platform may say, in lower case.
var hints = map[string]names{
	"android": {Android, "Android"}, "ios": {IOS, "iOS"}, "windows": {Windows, "Windows"}, "linux": {Linux, "Linux"},
	"macos": {MacOS, "macOS"}, "mac os x": {MacOS, "macOS"},
	"chrome os": {Unknown, "Chrome OS"}, "chromium os": {Unknown, "Chrome OS"}, "fuchsia": {Unknown, "Fuchsia"},
}

// parseHint reads Sec-CH-UA-Platform, a string of RFC 8941, section 3.3.3. What isn't one, and the word with which a browser
// says that it doesn't say, is empty.
func parseHint(s string) string {
	s = strings.Trim(s, " ")
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return ""
	}
	s = s[1 : len(s)-1]
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' { // no name has one of those that would be escaped
			return ""
		}
	}
	if strings.EqualFold(s, "Unknown") {
		return ""
	}
	return s
}

// systems by the names that the library has for them.
var systems = map[string]names{
	useragent.Android: {Android, "Android"}, useragent.IOS: {IOS, "iOS"}, useragent.Windows: {Windows, "Windows"},
	useragent.MacOS: {MacOS, "macOS"}, useragent.Linux: {Linux, "Linux"}, useragent.WindowsPhone: {WindowsPhone, "Windows Phone"},
	useragent.ChromeOS: {Unknown, "Chrome OS"}, useragent.Harmony: {Unknown, "HarmonyOS"},
}

// parseUserAgent reads a User-Agent. It gives the name of the operating system also without its version.
func parseUserAgent(s string) (c Client, system string) {
	if s == "" {
		return Client{}, ""
	}
	ua := useragent.Parse(s)
	if ua.Name != s || !strings.ContainsAny(s, " /;(") { // else it has found no name and gives the whole
		c.Name, c.Version = printable(ua.Name), number(ua.Version)
	}
	if c.Name == "Trident" && c.Version == "7" {
		c.Name, c.Version = useragent.InternetExplorer, "11" // the only one that doesn't give its own name
	}
	of, version := systems[ua.OS], ""
	switch {
	case strings.Contains(s, "Windows Phone"): // which says that it is an Android too
		of = systems[useragent.WindowsPhone]
	case strings.Contains(s, "iPod"):
		of = systems[useragent.IOS]
	case of.platform == Windows:
		version = windowsVersions[ua.OSVersion]
	case of.platform == Android && !strings.Contains(s, "; K)"), of.platform == IOS:
		// Chrome says that every device is a K with Android 10.
		version = number(ua.OSVersion)
	}
	c.Platform, c.System = of.platform, of.system
	if version != "" {
		c.System += " " + version
	}
	return c, of.system
}

// windowsVersions are how Windows is called. No browser tells 11 from 10.
var windowsVersions = map[string]string{
	"10.0": "10", "6.3": "8.1", "6.2": "8", "6.1": "7", "6.0": "Vista", "5.2": "XP", "5.1": "XP",
}

// number is the first number of a version, up to its first full stop.
func number(version string) string {
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	if end > 6 {
		return ""
	}
	return version[:end]
}

// printable is a text that a client chose, for logs and pages: what can't be printed is left out, and the end of what is long.
func printable(s string) string {
	var b strings.Builder
	n := 0
	for i, r := range s {
		if n == maxText {
			break
		}
		if _, size := utf8.DecodeRuneInString(s[i:]); r == utf8.RuneError && size == 1 || !unicode.IsPrint(r) {
			continue
		}
		b.WriteRune(r)
		n++
	}
	return strings.TrimSpace(b.String())
}
