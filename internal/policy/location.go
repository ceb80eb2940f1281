package policy

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// NamedLocation is a set of address ranges, or a set of countries.
type NamedLocation struct {
	Name string

	Ranges  []netip.Prefix
	Trusted bool // with ranges only

	Countries      []string // ISO 3166-1 alpha-2, upper case
	IncludeUnknown bool     // also addresses that belong to no country
}

// tri is an answer that may be missing.
type tri uint8

const (
	no tri = iota
	yes
	unknown
)

func answer(b bool) tri {
	if b {
		return yes
	}
	return no
}

// location is a named location, compiled. A look-up costs the same for one range and for thousands.
type location struct {
	ranges    *bart.Lite
	countries []string // sorted
	unknown   bool     // includes addresses that belong to no country
}

func compileLocation(l NamedLocation) *location {
	c := &location{unknown: l.IncludeUnknown}
	if len(l.Ranges) > 0 {
		c.ranges = table(l.Ranges)
	}
	c.countries = slices.Clone(l.Countries)
	slices.Sort(c.countries)
	return c
}

func table(ranges []netip.Prefix) *bart.Lite {
	t := &bart.Lite{}
	for _, r := range ranges {
		t.Insert(r)
	}
	return t
}

// contains says whether a client is there. Where nobody knows, the answer is unknown, and the caller takes the strict side.
func (l *location) contains(c *mfa.Client) tri {
	if l.ranges != nil {
		if !c.Address.IsValid() {
			return unknown
		}
		return answer(l.ranges.Contains(c.Address))
	}
	switch {
	case !c.CountryKnown:
		return unknown
	case c.Country == "":
		return answer(l.unknown)
	}
	_, found := slices.BinarySearch(l.countries, c.Country)
	return answer(found)
}
