package session

import (
	"iter"
	"net/http"
	"slices"
	"strings"
)

// cookies cuts a Cookie header into names and values (RFC 6265, section 4.2.1).
func cookies(header string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for pair := range strings.SplitSeq(header, ";") {
			name, value, _ := strings.Cut(pair, "=")
			if !yield(strings.TrimSpace(name), strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// nameHint stands in every name of ours.
const nameHint = "mfa_"

func ours(name string) bool { return slices.Contains(CookieNames, name) }

// RemoveCookies takes our cookies out of a request's headers, and leaves all others as the browser sent them.
func RemoveCookies(h http.Header) {
	lines := h["Cookie"]
	for i, line := range lines {
		left := withoutOurs(line)
		if len(left) == len(line) {
			continue
		}
		if len(lines) > 1 {
			// The slice may be shared with copies of the request that were made before.
			lines = slices.Clone(lines)
			for ; i < len(lines); i++ {
				lines[i] = withoutOurs(lines[i])
			}
			lines = slices.DeleteFunc(lines, func(line string) bool { return line == "" })
		} else if lines = nil; left != "" {
			lines = []string{left}
		}
		if len(lines) == 0 {
			delete(h, "Cookie")
		} else {
			h["Cookie"] = lines
		}
		return
	}
}

// withoutOurs leaves the other pairs of a line as they are. As a rule they stand together, and nothing has to be copied.
func withoutOurs(line string) string {
	for from := 0; from < len(line); {
		hint := strings.Index(line[from:], nameHint)
		if hint < 0 {
			break
		}
		from += strings.LastIndexByte(line[from:from+hint], ';') + 1
		pair, _, more := strings.Cut(line[from:], ";")
		end := from + len(pair)
		switch name, _, _ := strings.Cut(pair, "="); {
		case !ours(strings.TrimSpace(name)):
			from = end + 1
		case from > 0:
			line = line[:from-1] + line[end:]
		case more:
			line = strings.TrimLeft(line[end+1:], " \t")
		default:
			line = ""
		}
	}
	return line
}

// RemoveSetCookies takes cookies in our names out of an application's answer.
func RemoveSetCookies(h http.Header) {
	lines := h["Set-Cookie"]
	if !slices.ContainsFunc(lines, setsOurs) {
		return
	}
	if lines = slices.DeleteFunc(slices.Clone(lines), setsOurs); len(lines) == 0 {
		delete(h, "Set-Cookie")
		return
	}
	h["Set-Cookie"] = lines
}

func setsOurs(line string) bool {
	pair, _, _ := strings.Cut(line, ";")
	// Browsers keep a cookie without a name, and send its value alone: "=a=b" comes back as the cookie a.
	name, _, _ := strings.Cut(strings.TrimLeft(pair, " \t="), "=")
	return ours(strings.TrimSpace(name))
}
