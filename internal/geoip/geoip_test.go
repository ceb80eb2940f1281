package geoip

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestCountry(t *testing.T) {
	for _, c := range []struct {
		reason, file, address, code string
		ok                          bool
	}{
		{"an address", "countries.mmdb", "192.0.2.7", "NL", true},
		{"the neighbour's", "countries.mmdb", "198.51.100.127", "DE", true},
		{"the neighbour across", "countries.mmdb", "198.51.100.128", "FR", true},
		{"a long one", "countries.mmdb", "2001:db8::1", "NL", true},
		{"a short one written as a long one", "countries.mmdb", "::ffff:192.0.2.7", "NL", true},
		{"a long one with a zone", "countries.mmdb", "2001:db8::1%eth0", "NL", true},
		{"a City file", "newer.mmdb", "192.0.2.7", "BE", true},

		{"no country is known", "countries.mmdb", "10.0.0.1", "", true},
		{"no country is known of a long one", "countries.mmdb", "2001:db8:8000::1", "", true},
		{"registered in a country, and used in none", "countries.mmdb", "203.0.113.200", "", true},
		{"the code for what nobody knows", "countries.mmdb", "203.0.113.1", "", true},

		{"a code in small letters", "countries.mmdb", "203.0.113.65", "", false},
		{"a code with three letters", "countries.mmdb", "203.0.113.129", "", false},
		{"a long address, and a file with short ones", "ipv4.mmdb", "2001:db8::1", "", false},
		{"a short address, and a file with short ones", "ipv4.mmdb", "::ffff:192.0.2.7", "NL", true},
	} {
		t.Run(c.reason, func(t *testing.T) {
			countries := Open(filepath.Join("testdata", c.file), nil)
			if err := countries.Err(); err != nil {
				t.Fatal(err)
			}
			if code, ok := countries.Country(netip.MustParseAddr(c.address)); code != c.code || ok != c.ok {
				t.Errorf("%s is in %q, %v", c.address, code, ok)
			}
		})
	}
	if code, ok := Open(filepath.Join("testdata", "countries.mmdb"), nil).Country(netip.Addr{}); code != "" || ok {
		t.Errorf("no address is in %q, %v", code, ok)
	}
}

func TestFilesThatCanNotBeUsed(t *testing.T) {
	good := read(t, "countries.mmdb")
	for _, c := range []struct {
		reason string
		data   []byte
		want   string
	}{
		{"an empty file", nil, "is broken or in another format (error opening database: invalid MaxMind DB file): give a whole .mmdb file, unpacked"},
		{"another format", []byte("network,country\n192.0.2.0/24,NL\n"), "is broken or in another format"},
		{"half a file", good[:len(good)/2], "is broken or in another format"},
		{"the end of a file", good[len(good)-400:], "is broken or in another format"},
		{"a file that has no end", endless(), "holds none"},
		{"a file without countries", read(t, "asn.mmdb"), `holds none: it is of the type "GeoLite2-ASN", and has no country.iso_code; give a Country or City database`},
	} {
		t.Run(c.reason, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "countries.mmdb")
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, path, path, c.want)
		})
	}
	t.Run("no file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "none.mmdb")
		refused(t, path, path, "no such file or directory; download a Country or City database to this path, or correct it")
	})
	t.Run("a folder", func(t *testing.T) {
		path := t.TempDir()
		refused(t, path, path+" is not a regular file", "give the path of an .mmdb file")
	})
	t.Run("a file beyond all measure", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "countries.mmdb")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, maxSize+1); err != nil {
			t.Fatal(err)
		}
		refused(t, path, path, "may have 1073741824: take a Country database")
	})
}

// endless is a file whose tree has more leaves than could be counted: both branches of a node lead to the same one.
func endless() []byte {
	const nodes = 128
	var data []byte
	for i := range nodes {
		next := byte(i + 1) // the last: nothing
		data = append(data, 0, 0, next, 0, 0, next)
	}
	data = append(data, make([]byte, 16)...)
	data = append(data, "\xab\xcd\xefMaxMind.com\xe4"...)
	for _, entry := range []struct{ key, value string }{
		{"node_count", "\xc1\x80"}, {"record_size", "\xa1\x18"}, {"ip_version", "\xa1\x06"}, {"binary_format_major_version", "\xa1\x02"},
	} {
		data = append(data, 0x40|byte(len(entry.key))) // a text of so many bytes
		data = append(data, entry.key...)
		data = append(data, entry.value...)
	}
	return data
}

func refused(t *testing.T, path string, want ...string) {
	t.Helper()
	countries := Open(path, nil)
	if code, ok := countries.Country(netip.MustParseAddr("192.0.2.7")); code != "" || ok || countries.Healthy() {
		t.Errorf("without a file, a country is %q, %v", code, ok)
	}
	err := countries.Err()
	if err == nil {
		t.Fatal("there is no error")
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func BenchmarkCountry(b *testing.B) {
	countries, a := Open(filepath.Join("testdata", "countries.mmdb"), nil), netip.MustParseAddr("198.51.100.7")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := countries.Country(a); !ok {
			b.Fatal("no country")
		}
	}
}

// FuzzBroken shows that a file that is broken anywhere can't end the process, or hold it up.
func FuzzBroken(f *testing.F) {
	for _, name := range []string{"countries.mmdb", "asn.mmdb", "ipv4.mmdb"} {
		f.Add(read(f, name))
	}
	addresses := []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::1"), netip.IPv6Unspecified()}
	f.Fuzz(func(t *testing.T, data []byte) {
		db, err := parse("countries.mmdb", data)
		if err != nil {
			return
		}
		for _, a := range addresses {
			if code, err := db.country(a); code != "" && (err != nil || len(code) != 2) {
				t.Errorf("%s is in %q, %v", a, code, err)
			}
		}
	})
}
