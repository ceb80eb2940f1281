package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/admin"
)

func appPasswordCommand() *cobra.Command {
	s := &server{}
	c := group("app-password", "App passwords of the users of the running server")
	s.flags(c)

	add := &cobra.Command{
		Use: "add <user> --application <name> --name <text>", Short: "Make an app password, shown once", Args: cobra.ExactArgs(1),
		Long: `Make an app password: a key with which a program of a user opens one application, in place of his password.

It can be bound to addresses, methods and paths, each as often as needed. A path is a path, or a prefix that ends in /*.`,
	}
	f := add.Flags()
	application := f.String("application", "", "the application that it opens")
	name := f.String("name", "", "what it is called, for its owner: the device or the program")
	expires := f.String("expires", "", "when it ends: so long from now (90d), a day (2027-03-01) or a time (default: as `app_passwords` says, else 90d)")
	from := f.StringArray("from", nil, "address or range that it is good from")
	method := f.StringArray("method", nil, "method that it is good for")
	path := f.StringArray("path", nil, "path that it is good for, as in /dav/*")
	add.RunE = run(func(c *cobra.Command, args []string) error {
		form := url.Values{"application": {*application}, "name": {*name}, "from": *from, "method": *method, "path": *path}
		if *expires != "" {
			end, err := parseEnd(*expires, time.Now())
			if err != nil {
				return fmt.Errorf("--expires: %w", err)
			}
			form.Set("expires", end.Format(time.RFC3339))
		}
		var made admin.NewAppPassword
		if err := s.call(http.MethodPost, userPath(args[0], "/app-passwords"), form, &made); err != nil {
			return err
		}
		return s.print(c, made, func(w io.Writer) {
			fmt.Fprintf(w, "App password of %s for %s: %s\nGood until %s. It is not shown again.\n", made.User, made.Application, made.Secret, timeText(made.Expires))
		})
	})
	for _, needed := range []string{"application", "name"} {
		if err := add.MarkFlagRequired(needed); err != nil { // only for a flag that isn't there
			panic(err)
		}
	}

	list := &cobra.Command{Use: "list <user>", Short: "List the app passwords of a user", Args: cobra.ExactArgs(1)}
	list.RunE = run(func(c *cobra.Command, args []string) error {
		var kept []admin.AppPassword
		if err := s.call(http.MethodGet, userPath(args[0], "/app-passwords"), nil, &kept); err != nil {
			return err
		}
		return s.print(c, kept, func(w io.Writer) { printAppPasswords(w, kept) })
	})
	c.AddCommand(add, list, revokeCommand(s, "<user>", "app password", func(of string) string { return userPath(of, "/app-passwords/revoke") }))
	return c
}

func printAppPasswords(w io.Writer, kept []admin.AppPassword) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tAPPLICATION\tNAME\tMADE\tLAST USED\tEXPIRES\tBOUND TO")
	for _, p := range kept {
		made := timeText(p.Made)
		if p.By != "" {
			made += " by " + p.By
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, p.Application, p.Name, made, dash(timeText(p.LastUsed)), timeText(p.Expires), dash(boundTo(p)))
	}
	t.Flush()
}

// boundTo says what an app password is bound to besides its application.
func boundTo(p admin.AppPassword) string {
	parts := append([]string{}, p.Methods...)
	parts = append(parts, p.Paths...)
	for _, r := range p.From {
		parts = append(parts, "from "+rangeText(r))
	}
	return strings.Join(parts, " ")
}

// rangeText writes a range, or the address that it holds; the zero Prefix is no text.
func rangeText(r netip.Prefix) string {
	switch {
	case !r.IsValid():
		return ""
	case r.IsSingleIP():
		return r.Addr().String()
	}
	return r.String()
}

func serviceTokenCommand() *cobra.Command {
	s := &server{}
	c := group("service-token", "Service tokens of the running server")
	s.flags(c)

	add := &cobra.Command{
		Use: "add <name>", Short: "Make the secret of a service token, shown once", Args: cobra.ExactArgs(1),
		Long: `Make a secret of a service token that the configuration names. Older ones stay good until they are revoked: make the next, give it to the
machine, and revoke the one before.`,
	}
	add.RunE = run(func(c *cobra.Command, args []string) error {
		var made admin.NewServiceTokenSecret
		if err := s.call(http.MethodPost, tokenPath(args[0], "/add"), url.Values{}, &made); err != nil {
			return err
		}
		return s.print(c, made, func(w io.Writer) {
			fmt.Fprintf(w, "%s: %s\n%s: %s\nGood until %s. The secret is not shown again.\n", tokenIDHeader, made.ID, tokenSecretHeader, made.Secret, timeText(made.Expires))
		})
	})

	list := &cobra.Command{Use: "list", Short: "List the service tokens and their secrets", Args: cobra.NoArgs}
	list.RunE = run(func(c *cobra.Command, _ []string) error {
		var tokens []admin.ServiceToken
		if err := s.call(http.MethodGet, "/mfa/service-tokens", nil, &tokens); err != nil {
			return err
		}
		return s.print(c, tokens, func(w io.Writer) { printServiceTokens(w, tokens) })
	})
	c.AddCommand(add, list, revokeCommand(s, "<name>", "secret", func(of string) string { return tokenPath(of, "/revoke") }))
	return c
}

func tokenPath(name, action string) string {
	return "/mfa/service-tokens/" + url.PathEscape(name) + action
}

func printServiceTokens(w io.Writer, tokens []admin.ServiceToken) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tAPPLICATIONS\tEXPIRES\tSECRET\tMADE\tLAST USED")
	for _, token := range tokens {
		expires := timeText(token.Expires)
		if !token.Configured {
			expires = "not configured"
		}
		secrets := token.Secrets
		if len(secrets) == 0 {
			secrets = []admin.ServiceTokenSecret{{}}
		}
		for _, secret := range secrets {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", token.Name, dash(strings.Join(token.Applications, ", ")), expires, dash(secret.ID), dash(timeText(secret.Made)), dash(timeText(secret.LastUsed)))
		}
	}
	t.Flush()
}

// revokeCommand ends one key, or all.
func revokeCommand(s *server, of, what string, path func(of string) string) *cobra.Command {
	c := &cobra.Command{Use: "revoke " + of + " [<id>]", Short: "End one " + what + " by its id, or all with --all", Args: cobra.RangeArgs(1, 2)}
	all := c.Flags().Bool("all", false, "end all of them")
	c.RunE = run(func(c *cobra.Command, args []string) error {
		form := url.Values{}
		switch {
		case len(args) == 2 && *all:
			return errors.New("an id and --all don't go together")
		case len(args) == 2:
			form.Set("id", strings.ToLower(args[1]))
		case *all:
			form.Set("all", "true")
		default:
			return fmt.Errorf("say which %s by its id, which `list` shows, or --all", what)
		}
		var answer revoked
		if err := s.call(http.MethodPost, path(args[0]), form, &answer); err != nil {
			return err
		}
		return s.print(c, answer, func(w io.Writer) {
			for _, id := range answer.Revoked {
				fmt.Fprintf(w, "%s has ended.\n", id)
			}
		})
	})
	return c
}

// parseEnd reads when something ends: so long from now, a day (at whose beginning by this machine's clock), or a time.
func parseEnd(text string, now time.Time) (time.Time, error) {
	if d, err := config.ParseDuration(text); err == nil {
		return now.Add(time.Duration(d)), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return t, nil
	}
	t, err := parseTime(text, time.Local)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no end; write for example 90d, 2027-03-01 or 2027-03-01T09:00", text)
	}
	return t, nil
}
