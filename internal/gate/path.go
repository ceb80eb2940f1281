package gate

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Paths is a list of paths and prefixes.
type Paths []pathPattern

type pathPattern struct {
	path   string // decoded and clean
	prefix bool   // everything below path, which ends in a slash
}

// NewPaths reads a list in the notation of the configuration: a path, or a prefix that ends in /*. The configuration has
// been validated.
func NewPaths(patterns []string) Paths {
	var ps Paths
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			ps = append(ps, pathPattern{prefix, true})
		} else {
			ps = append(ps, pathPattern{p, false})
		}
	}
	return ps
}

// Contain says whether a path, as it stands in a request, is in the list whoever reads it. A path that two programs could read
// differently is in no list: one that needs decoding twice, that climbs, that has a parameter, an empty or a
// dot segment, an encoded slash, a backslash or a control character, or what some programs fold to one of these.
func (ps Paths) Contain(escaped string) bool {
	if len(ps) == 0 {
		return false
	}
	plain, ok := plainPath(escaped)
	if !ok {
		return false
	}
	for _, p := range ps {
		if plain == p.path || p.prefix && strings.HasPrefix(plain, p.path) {
			return true
		}
	}
	return false
}

// MayContain says whether a path may be in the list for somebody who reads it: it is, it is in another case, or it has more than one
// reading. It is for lists of what is shut.
func (ps Paths) MayContain(escaped string) bool {
	if len(ps) == 0 {
		return false
	}
	plain, ok := plainPath(escaped)
	if !ok {
		return true
	}
	for _, p := range ps {
		switch {
		case strings.EqualFold(plain, p.path), strings.EqualFold(plain, strings.TrimSuffix(p.path, "/")), strings.EqualFold(plain, p.path+"/"):
			return true
		case p.prefix && hasPrefixFold(plain, p.path):
			return true
		}
	}
	return false
}

// ContainTargets says whether everything is in the list that the values of a header Destination name, to which COPY and MOVE write (RFC
// 4918, section 10.3): a path, or a URL. What can't be read is not.
func (ps Paths) ContainTargets(values []string) bool {
	for _, v := range values {
		if path, ok := targetPath(v); !ok || !ps.Contain(path) {
			return false
		}
	}
	return true
}

// mayContainTarget says whether one of them may be.
func (ps Paths) mayContainTarget(values []string) bool {
	return slices.ContainsFunc(values, func(v string) bool {
		path, ok := targetPath(v)
		return !ok || ps.MayContain(path)
	})
}

func targetPath(value string) (string, bool) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme == "" && u.Host != "" || u.ForceQuery || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(value, ", ") {
		return "", false
	}
	return u.EscapedPath(), true
}

// hasPrefixFold compares as strings.EqualFold does, by characters and not by bytes: other letters of one may have another length.
func hasPrefixFold(s, prefix string) bool {
	end := 0
	for range prefix {
		if end == len(s) {
			return false
		}
		_, size := utf8.DecodeRuneInString(s[end:])
		end += size
	}
	return strings.EqualFold(s[:end], prefix)
}

// plainPath decodes a path that has only one reading.
func plainPath(escaped string) (string, bool) {
	if !strings.HasPrefix(escaped, "/") {
		return "", false
	}
	plain := escaped
	if strings.Contains(escaped, "%") {
		for rest := escaped; ; {
			i := strings.IndexByte(rest, '%')
			if i < 0 {
				break
			}
			if len(rest) < i+3 {
				return "", false
			}
			// Encoded, these are data to one reader and structure to the next.
			switch strings.ToLower(rest[i+1 : i+3]) {
			case "2f", "5c", "2e", "3b", "25", "00", "3f", "23":
				return "", false
			}
			rest = rest[i+3:]
		}
		var err error
		if plain, err = url.PathUnescape(escaped); err != nil {
			return "", false
		}
	}
	if !utf8.ValidString(plain) || !oneReading(plain) {
		return "", false
	}
	// Programs that fold look-alikes see a dot in one of full width, and a slash in U+2100.
	if folded := norm.NFKC.String(plain); folded != plain && (!oneReading(folded) || strings.Count(folded, "/") != strings.Count(plain, "/")) {
		return "", false
	}
	return plain, true
}

// oneReading says whether everybody finds the same segments in a decoded path, and takes none of them for a step up.
func oneReading(plain string) bool {
	for i := range len(plain) {
		switch c := plain[i]; {
		case c < 0x20, c == 0x7f, c == '\\', c == ';', c == '%', c == '?', c == '#':
			return false
		case c == '/':
			rest := plain[i+1:]
			segment, _, _ := strings.Cut(rest, "/")
			// Windows drops dots and spaces at the end of a name: ".. " climbs there too.
			if strings.TrimRight(segment, " .") == "" && rest != "" {
				return false
			}
		}
	}
	return true
}
