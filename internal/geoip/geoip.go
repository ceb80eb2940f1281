// Package geoip says in which country an address is, from a file in the MaxMind DB format: GeoLite2 and GeoIP2 Country and
// City, and DB-IP's files of the same layout. It takes country.iso_code, which is where the address is used, as Entra does;
// registered_country is another thing.
//
// The file is read into memory as a whole, so that whoever truncates or overwrites it can't make a lookup fail, and read
// again when it changes. A file that can't be used leaves the last good one in force. Where there was none, no country can
// be told, and the caller takes the strict branch.
package geoip

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/caddy-mfa/caddy-mfa/internal/filewatch"
)

// Countries is a file with countries. Looking one up takes no lock and reads no file. Its methods are safe for concurrent
// use.
type Countries struct {
	path string
	log  *slog.Logger

	current atomic.Pointer[database] // nil until a first file is in force
	err     atomic.Pointer[error]    // why the newest file isn't in force; nil: it is

	mu   sync.Mutex // guards what follows: one reads the file at a time
	file filewatch.File
}

// database is one version of the file.
type database struct {
	data   []byte
	reader *maxminddb.Reader
}

// Open reads the file at this path. Whether that went well, Healthy and Err tell, and the log: a file that is missing now
// may come later. A nil log is silent.
func Open(path string, log *slog.Logger) *Countries {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Countries{path: path, log: log.With("file", path), file: watched(path)}
	c.start()
	return c
}

// Country gives the ISO 3166-1 code of the country that an address is in, in capitals. An empty code that is ok is of an
// address for which the file knows none, as for private ones: "unknown countries and regions". Without ok nobody can tell:
// there is no file that could be used, or it is broken at this address.
func (c *Countries) Country(a netip.Addr) (code string, ok bool) {
	db := c.current.Load()
	if db == nil || !a.IsValid() {
		return "", false
	}
	code, err := db.country(a)
	return code, err == nil
}

// Healthy says whether the newest file is in force.
func (c *Countries) Healthy() bool { return c.Err() == nil }

// Err says why the newest file is not in force: what is wrong with which file, and what would be right. It is nil if it is.
func (c *Countries) Err() error {
	if err := c.err.Load(); err != nil {
		return *err
	}
	return nil
}

// record is what is read of a record in the file.
type record struct {
	Country struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
}

var errCode = errors.New("the code of a country is not two letters")

func (db *database) country(a netip.Addr) (string, error) {
	return countryOf(db.reader.Lookup(a.Unmap().WithZone("")))
}

func countryOf(found maxminddb.Result) (string, error) {
	var r record
	if err := found.Decode(&r); err != nil {
		return "", err
	}
	switch code := r.Country.Code; {
	case code == "" || code == "ZZ": // nobody's code, for what nobody knows
		return "", nil
	case len(code) != 2 || !isCapital(code[0]) || !isCapital(code[1]):
		return "", errCode
	default:
		return code, nil
	}
}

func isCapital(c byte) bool { return 'A' <= c && c <= 'Z' }
