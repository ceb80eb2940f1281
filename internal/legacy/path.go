package legacy

import "strings"

// reading is a path as some server may read it: its segments, in lower case.
type reading []string

// readings are those of a request's two paths: with each segment, and with the steps up taken. A server that decodes twice,
// takes a backslash for a slash, drops parameters or empty segments finds its path among them. Where servers differ, the
// request counts as legacy for the one that finds more.
func (r *Request) readings() []reading {
	all := make([]reading, 0, 4)
	for i, path := range [...]string{r.Asked, r.Rewritten} {
		if i > 0 && path == r.Asked {
			break
		}
		plain := readPath(path)
		all = append(all, plain)
		if resolved, differs := plain.resolve(); differs {
			all = append(all, resolved)
		}
	}
	return all
}

func readPath(path string) reading {
	for range 3 {
		decoded := unescape(path, false)
		if decoded == path {
			break
		}
		path = decoded
	}
	path = strings.ToLower(path)
	segments := make(reading, 0, 8)
	for path != "" {
		end := strings.IndexAny(path, `/\`)
		if end < 0 {
			end = len(path)
		}
		segment := path[:end]
		path = path[min(end+1, len(path)):]
		if i := strings.IndexAny(segment, ";?#\x00"); i >= 0 {
			segment = segment[:i]
		}
		if trimmed := strings.TrimRight(segment, " ."); trimmed != "" || !strings.HasPrefix(segment, "..") {
			segment = trimmed // as Windows does
		} else {
			segment = ".."
		}
		if segment != "" {
			segments = append(segments, segment)
		}
	}
	return segments
}

// resolve takes steps up.
func (segments reading) resolve() (resolved reading, differs bool) {
	for i, s := range segments {
		switch {
		case s != "..":
			if differs {
				resolved = append(resolved, s)
			}
		case !differs:
			differs = true
			resolved = append(resolved, segments[:max(0, i-1)]...)
		default:
			resolved = resolved[:max(0, len(resolved)-1)]
		}
	}
	return resolved, differs
}

// at is the segment at an index, counted from the end if that is negative; empty where there is none.
func (segments reading) at(i int) string {
	if i < 0 {
		i += len(segments)
	}
	if i < 0 || i >= len(segments) {
		return ""
	}
	return segments[i]
}

// unescape decodes percent-encoding. What isn't any stays as it is.
func unescape(s string, plus bool) string {
	if strings.IndexByte(s, '%') < 0 && (!plus || strings.IndexByte(s, '+') < 0) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+' && plus:
			b = append(b, ' ')
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
