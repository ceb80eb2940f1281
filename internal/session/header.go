package session

import (
	"iter"
	"net/http"
	"slices"
	"strings"
)

// cookie is one pair of a Cookie header, exactly as the browser sent it.
type cookie struct {
	name, value string
	text        string // the pair with the white space around it, without the semicolon
}

// cookies cuts a Cookie header into its pairs (RFC 6265, section 4.2.1), of which it changes nothing.
func cookies(header string) iter.Seq[cookie] {
	return func(yield func(cookie) bool) {
		for text := range strings.SplitSeq(header, ";") {
			name, value, _ := strings.Cut(text, "=")
			if !yield(cookie{strings.TrimSpace(name), strings.TrimSpace(value), text}) {
				return
			}
		}
	}
}

func ours(name string) bool { return slices.Contains(CookieNames, name) }

// RemoveCookies takes our cookies out of a request's headers, and leaves all others as the browser sent them.
func RemoveCookies(h http.Header) {
	lines := h["Cookie"]
	if !slices.ContainsFunc(lines, holdsOurs) {
		return
	}
	// The slice may be shared with copies of the request that were made before.
	kept := make([]string, 0, len(lines))
	for _, line := range lines {
		if !holdsOurs(line) {
			kept = append(kept, line)
		} else if line = withoutOurs(line); line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}

func holdsOurs(line string) bool {
	if !strings.Contains(line, "mfa_") {
		return false
	}
	for c := range cookies(line) {
		if ours(c.name) {
			return true
		}
	}
	return false
}

// withoutOurs leaves the other pairs of a line. As a rule they stand together, and nothing has to be copied.
func withoutOurs(line string) string {
	var kept string
	from, begin := 0, -1 // of the run of pairs that are kept
	flush := func(end int) {
		if begin < 0 {
			return
		}
		run := line[begin:end]
		if kept == "" {
			kept = strings.TrimLeft(run, " \t")
		} else {
			kept += ";" + run
		}
		begin = -1
	}
	for c := range cookies(line) {
		if ours(c.name) {
			flush(from - 1)
		} else if begin < 0 {
			begin = from
		}
		from += len(c.text) + 1
	}
	flush(len(line))
	return kept
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
