package lab

import (
	"bytes"
	"fmt"
	"net"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// CountryFile describes a file of countries in the MaxMind DB format, with the layout of GeoLite2-Country.
type CountryFile struct {
	Type       string            // as GeoLite2-Country
	IPVersion  int               // 4, or 6 for both
	Countries  map[string]string // codes by network
	Registered map[string]string // codes of registered countries, of networks that are used in none
	Networks   map[string]string // names of organisations by network, as in files that hold those
}

// Bytes gives the file. The same description gives the same bytes.
func (f CountryFile) Bytes() ([]byte, error) {
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: f.Type, IPVersion: f.IPVersion, RecordSize: 24, BuildEpoch: 1767225600, // the first day of 2026
		Description: map[string]string{"en": "Test data"}, Languages: []string{"en"},
		IncludeReservedNetworks: true, // those of documentation are
	})
	if err != nil {
		return nil, err
	}
	country := func(code string) mmdbtype.Map { return mmdbtype.Map{"iso_code": mmdbtype.String(code)} }
	for _, kind := range []struct {
		networks map[string]string
		record   func(string) mmdbtype.Map
	}{
		{f.Countries, func(code string) mmdbtype.Map {
			return mmdbtype.Map{"country": country(code), "registered_country": country("US"), "continent": mmdbtype.Map{"code": mmdbtype.String("EU")}}
		}},
		{f.Registered, func(code string) mmdbtype.Map { return mmdbtype.Map{"registered_country": country(code)} }},
		{f.Networks, func(name string) mmdbtype.Map {
			return mmdbtype.Map{"autonomous_system_organization": mmdbtype.String(name)}
		}},
	} {
		for network, value := range kind.networks {
			_, n, err := net.ParseCIDR(network)
			if err != nil {
				return nil, err
			}
			if err := tree.Insert(n, kind.record(value)); err != nil {
				return nil, fmt.Errorf("putting %s into a file of countries: %w", network, err)
			}
		}
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// CountryFiles are the files in internal/geoip/testdata, by their names.
var CountryFiles = map[string]CountryFile{
	"countries.mmdb": {
		Type: "GeoLite2-Country", IPVersion: 6,
		Countries: map[string]string{
			"192.0.2.0/24": "NL", "198.51.100.0/25": "DE", "198.51.100.128/25": "FR", "2001:db8::/33": "NL",
			"203.0.113.0/26": "ZZ", "203.0.113.64/26": "nl", "203.0.113.128/26": "NLD",
		},
		Registered: map[string]string{"203.0.113.192/26": "NL"},
	},
	"newer.mmdb": {
		Type: "DBIP-City-Lite", IPVersion: 6,
		Countries: map[string]string{"192.0.2.0/24": "BE", "2001:db8::/32": "BE"},
	},
	"ipv4.mmdb": {Type: "GeoLite2-Country", IPVersion: 4, Countries: map[string]string{"192.0.2.0/24": "NL"}},
	"asn.mmdb":  {Type: "GeoLite2-ASN", IPVersion: 6, Networks: map[string]string{"192.0.2.0/24": "Example"}},
}
