// Countries writes the files of countries that the tests of internal/geoip read. Run it in the folder integration.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

func main() {
	for name, file := range lab.CountryFiles {
		data, err := file.Bytes()
		if err == nil {
			err = os.WriteFile(filepath.Join("..", "internal", "geoip", "testdata", name), data, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
