// Caddy-mfa is Caddy with multi-factor authentication in front of legacy web applications.
package main

import (
	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-mfa/caddy-mfa/caddymodule"
)

func main() {
	caddy.CustomBinaryName = "caddy-mfa" // in help texts
	caddycmd.Main()
}
