package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// TestFilesOfCountriesAreAsDescribed keeps the test data of internal/geoip what its generator makes.
func TestFilesOfCountriesAreAsDescribed(t *testing.T) {
	for name, file := range lab.CountryFiles {
		want, err := file.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("..", "internal", "geoip", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator makes: run go run ./cmd/countries", name)
		}
	}
}
