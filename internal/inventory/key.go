package inventory

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Other stands in a row for whatever had no room of its own.
const Other = "(other)"

// Bounds of what is kept of a text, in bytes.
const (
	maxWord = 64
	maxName = mfa.MaxUserName
)

// key is what the sightings of one row have in common. In a key that has not been folded yet, user is what was typed.
type key struct {
	class, application, path, user, client string
	known                                  bool // a directory knows the user
	addresses                              netip.Prefix
}

func keyOf(s *Sighting) key {
	return key{
		class: audit.Plain(s.Class, maxWord), application: audit.Plain(s.Application, maxName), path: Prefix(s.Path),
		user: strings.TrimSpace(audit.Plain(s.User, maxName)), client: audit.Plain(s.Client, maxWord), addresses: Range(s.Address),
		known: s.Verdict == ServiceToken && s.User != "", // a machine has shown who it is, and stands in no directory
	}
}

// other is the row of its class and application for what has no room.
func (k key) other() key {
	return key{class: k.class, application: k.application, path: Other, user: Other, client: Other}
}

// short is the row of its user for what has no room.
func (k key) short() key {
	return key{class: k.class, application: k.application, path: Other, user: k.user, client: Other, known: k.known}
}

func (k key) isOther() bool { return k.path == Other && k.user == Other && !k.known }

// record names the row in the store.
func (k key) record() string {
	known := "unknown"
	if k.known {
		known = "known"
	}
	return rowPrefix + digest(k.class, k.application, k.path, known, k.user, k.client, k.addresses.String())
}

// digest is a short name for what some texts say together.
func digest(texts ...string) string {
	var all []byte
	for _, text := range texts {
		all = append(strconv.AppendInt(all, int64(len(text)), 10), ':')
		all = append(all, text...)
	}
	sum := sha256.Sum256(all)
	return hex.EncodeToString(sum[:16])
}

// maxSegment is the length of the longest folder that is kept. Longer ones are tokens rather than names.
const maxSegment = 32

// Prefix is what is kept of a path: its first two folders. What a path ends in says which file was asked for, and not which
// door, and may be meant for nobody else's eyes; so may a query, parameters behind a semicolon, and a folder that is longer than
// names are.
func Prefix(path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if len(path) > 4096 {
		path = path[:4096]
	}
	if decoded, err := url.PathUnescape(path); err == nil {
		path = decoded
	}
	// Once more: a question mark may have been escaped.
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	var segments []string // cleaned
	folder := false       // the path ends in a slash
	for segment := range strings.SplitSeq(strings.ReplaceAll(path, `\`, "/"), "/") {
		if i := strings.IndexByte(segment, ';'); i >= 0 {
			segment = segment[:i]
		}
		switch folder = segment == "" || segment == "." || segment == ".."; {
		case segment == ".." && len(segments) > 0:
			segments = segments[:len(segments)-1]
		case !folder:
			segments = append(segments, segment)
		}
	}
	keep := len(segments)
	if !folder {
		keep--
	}
	keep = min(max(keep, 1), 2, len(segments))
	var b strings.Builder
	for _, segment := range segments[:keep] {
		b.WriteByte('/')
		if len(segment) > maxSegment {
			b.WriteString("…")
			continue
		}
		b.WriteString(audit.Plain(segment, maxSegment))
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// Range is what is kept of an address: the network that it is in, /24 or /56.
func Range(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	switch {
	case !a.IsValid():
		return netip.Prefix{}
	case a.Is6():
		bits = 56
	}
	p, err := a.Prefix(bits)
	if err != nil { // there are as many bits
		return netip.Prefix{}
	}
	return p
}
