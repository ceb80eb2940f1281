package caddymodule

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func upstreamCommand(s *server) *cobra.Command {
	c := &cobra.Command{
		Use: "upstream-basic <user> <application> set|remove", Short: "Store or remove a user's own credential of an application",
		Long: `Store or remove the user name and password that a user has in an application with ` + "`upstream_basic per_user`" + `. They are sent to that
application alone, for that user alone, and are not shown again.

They are read from standard input, as one line user:password; a terminal is asked for them.`,
		Args: cobra.ExactArgs(3),
	}
	c.RunE = run(func(c *cobra.Command, args []string) error {
		user, application := args[0], args[1]
		path := userPath(user, "/upstream-basic/"+url.PathEscape(application))
		var answer map[string]string
		switch args[2] {
		case "set":
			credential, err := readCredential(c, application)
			if err != nil {
				return err
			}
			if err := s.call(http.MethodPut, path, url.Values{"credential": {credential}}, &answer); err != nil {
				return err
			}
			return s.print(c, answer, func(w io.Writer) { fmt.Fprintf(w, "The credential of %s for %s is stored.\n", user, application) })
		case "remove":
			if err := s.call(http.MethodDelete, path, nil, &answer); err != nil {
				return err
			}
			return s.print(c, answer, func(w io.Writer) { fmt.Fprintf(w, "The credential of %s for %s is removed.\n", user, application) })
		}
		return fmt.Errorf("behind the application stands `set` or `remove`, not %q; the credential itself is read from standard input", args[2])
	})
	return c
}

// readCredential reads user:password: from a terminal in two steps, and from anything else as one line.
func readCredential(c *cobra.Command, application string) (string, error) {
	in := bufio.NewReader(c.InOrStdin())
	line := func() (string, error) {
		text, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading credential: %w", err)
		}
		return strings.TrimRight(text, "\r\n"), nil
	}
	stdin, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(stdin.Fd())) {
		text, err := line()
		if err == nil && text == "" {
			err = errors.New("there is no user:password on standard input")
		}
		return text, err
	}
	fmt.Fprintf(c.ErrOrStderr(), "User name in %s: ", application)
	user, err := line()
	if err != nil {
		return "", err
	}
	if strings.Contains(user, ":") {
		return "", errors.New("a user name with a colon can't be sent with HTTP Basic")
	}
	password, err := readPassword(c)
	return user + ":" + password, err
}
