package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/spf13/cobra"

	"github.com/caddy-mfa/caddy-mfa/internal/demo"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/code"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

func demoCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "demo", Short: "Everything at once on localhost, with an application that it brings along", Args: cobra.NoArgs,
		Long: "Start a small old-fashioned application, and caddy-mfa in front of it, on this machine alone.\nNothing else is needed, and nothing is left behind.",
	}
	port := c.Flags().Int("port", 8080, "port of the address to open; another one is taken if it is in use")
	c.RunE = run(func(c *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return runDemo(ctx, c.OutOrStdout(), *port, c.Flags().Changed("port"))
	})
	return c
}

// demoCaddyfile is what an operator would write, and where the demo keeps things.
const demoCaddyfile = `{
	admin unix/%[1]s/admin.sock
	persist_config off
	auto_https off
	storage file_system %[1]s/storage
	storage_clean_interval off
	log {
		output file %[1]s/log.json
	}
	mfa {
		store bolt %[1]s/store.db
		users file %[1]s/users.yaml
	}
}

http://localhost:%[2]d {
	bind 127.0.0.1
	mfa demo
	reverse_proxy %[3]s
}
`

func runDemo(ctx context.Context, out io.Writer, port int, portWanted bool) (err error) {
	dir, err := os.MkdirTemp("", "caddy-mfa-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	secret := code.New()
	hash, err := password.Hash(secret)
	if err != nil {
		return err
	}
	users := "users:\n  alice:\n    display_name: Alice Example\n    email: alice@example.com\n    groups: [staff]\n    password: " + hash + "\n"
	if err := os.WriteFile(filepath.Join(dir, "users.yaml"), []byte(users), 0o600); err != nil {
		return err
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	app := &http.Server{Handler: &demo.App{}, ReadHeaderTimeout: 10 * time.Second}
	go app.Serve(listener) // ends when it is closed
	defer app.Close()

	if port, err = demoPort(port, portWanted); err != nil {
		return err
	}
	caddyfile := fmt.Sprintf(demoCaddyfile, dir, port, listener.Addr())
	cfg, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return fmt.Errorf("adapting the demo's Caddyfile: %w", err)
	}
	if err := caddy.Load(cfg, false); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.Stop()) }()

	fmt.Fprintf(out, `
  caddy-mfa is running in front of an old notice board that knows nothing of second factors.

    Open       http://localhost:%d/
    User name  alice
    Password   %s

  What to try:
    1. Sign in. Set up an authenticator app, or choose "Not now": there are 14 days for it.
    2. Put up a notice, look at "Your account", sign out, and sign in again with a code.
    3. curl -i -u alice:%s http://localhost:%d/
       is refused: a password alone opens nothing.

  In another terminal, as the administrator:
    %s mfa user list --address unix/%s/admin.sock
    %s mfa user show alice --address unix/%s/admin.sock

  What happens is logged in %s/log.json
  Ctrl-C ends it, and removes everything that it has made.

`, port, secret, secret, port, program(), dir, program(), dir, dir)
	<-ctx.Done()
	fmt.Fprintln(out, "\n  Good-bye.")
	return nil
}

// program is how this program is started: `go run` puts it where nobody would look for it.
func program() string {
	path, err := os.Executable()
	if err != nil || filepath.Base(filepath.Dir(path)) == "exe" {
		return "go run ./cmd/caddy-mfa"
	}
	return path
}

// demoPort takes the port that was asked for, or any other if nobody insists on it.
func demoPort(port int, wanted bool) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil && wanted {
		return 0, fmt.Errorf("port %d can't be used; choose another with --port: %w", port, err)
	}
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return 0, err
		}
	}
	port = l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
