package legacy

import "strings"

// MaxBody is how many bytes of a body are looked at.
const MaxBody = 64 << 10

// readable are the media types of bodies that may hold a credential, in lower case.
var readable = []string{
	"application/x-www-form-urlencoded", "application/json", "application/xml", "application/soap+xml", "application/xop+xml",
	"text/xml", "text/plain", "text/json", "multipart/related",
}

// worthReading says whether a body of this type is looked at, wherever it is sent to. One whose type nobody can read is.
func worthReading(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	if !strings.Contains(media, "/") {
		return true
	}
	for _, t := range readable {
		if strings.EqualFold(media, t) {
			return true
		}
	}
	return hasSuffixFold(media, "+xml") || hasSuffixFold(media, "+json")
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}
