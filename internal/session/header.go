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
	for i, line := range lines {
		// As a rule there is one line, with at least our session in it. The test is for the applications' other lines.
		if !strings.Contains(line, "mfa_") {
			continue
		}
		kept := make([]byte, 0, len(line))
		removed := false
		for c := range cookies(line) {
			if ours(c.name) {
				removed = true
				continue
			}
			if len(kept) > 0 {
				kept = append(kept, ';')
				kept = append(kept, c.text...)
			} else {
				kept = append(kept, strings.TrimLeft(c.text, " \t")...)
			}
		}
		if removed {
			// The slice may be shared with copies of the request that were made before.
			lines = slices.Clone(lines)
			lines[i] = string(kept)
			h["Cookie"] = lines
		}
	}
	if slices.Contains(lines, "") {
		lines = slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return line == "" })
		if len(lines) == 0 {
			delete(h, "Cookie")
			return
		}
		h["Cookie"] = lines
	}
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
	name, _, _ := strings.Cut(pair, "=")
	return ours(strings.TrimSpace(name))
}
