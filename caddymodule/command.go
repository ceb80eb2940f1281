package caddymodule

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "mfa",
		Short: "Multi-factor authentication: users, passes, app passwords, service tokens, policies, sign-ins, demo",
		Long: `Commands of caddy-mfa. Those about users, keys, policies and sign-ins talk to the running server through Caddy's admin endpoint,
which must be a unix socket:

	{
		admin unix//run/caddy-mfa/admin.sock
	}

Tell them where it is with --address, or with --config and the server's configuration.`,
		CobraFunc: func(root *cobra.Command) {
			root.Args, root.RunE = noSuchCommand, group("", "").RunE
			root.AddCommand(
				demoCommand(), hashCommand(), userCommand(), appPasswordCommand(), serviceTokenCommand(), accountsCommand(), policyCommand(),
				signInsCommand(), legacyCommand(), messagesCommand(),
			)
		},
	})
}

// server is how a command reaches the running server.
type server struct {
	address, config, adapter string
	json                     bool
}

func (s *server) flags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&s.address, "address", "", "address of the admin endpoint, as in unix//run/caddy-mfa/admin.sock")
	f.StringVar(&s.config, "config", "", "configuration file to read that address from")
	f.StringVar(&s.adapter, "adapter", "", "adapter for that file (default: caddyfile, by its name)")
	f.BoolVar(&s.json, "json", false, "print JSON")
}

// call sends a request and decodes the answer.
func (s *server) call(method, path string, form url.Values, answer any) error {
	address := s.address
	if address == "" {
		address = os.Getenv("CADDY_ADMIN")
	}
	address, err := caddycmd.DetermineAdminAPIAddress(address, nil, s.config, s.adapter)
	if err != nil {
		return err
	}
	var body io.Reader
	headers := http.Header{}
	if form != nil {
		body = strings.NewReader(form.Encode())
		headers.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, path, headers, body)
	if refusal, ok := refusalOf(err); ok {
		return errors.New(refusal)
	}
	if err != nil {
		return fmt.Errorf("%w\nIs the server running, and is %s its admin endpoint? Say which it is with --address or --config", err, address)
	}
	defer resp.Body.Close() // it was read
	return json.NewDecoder(resp.Body).Decode(answer)
}

// refusalOf finds what a server has answered in an error of AdminAPIRequest, which keeps the answer to itself and gives only
// this sentence.
func refusalOf(err error) (string, bool) {
	if err == nil {
		return "", false
	}
	_, answer, ok := strings.Cut(err.Error(), "caddy responded with error: HTTP ")
	if !ok {
		return "", false
	}
	status, body, _ := strings.Cut(answer, ": ")
	var told struct {
		Error string `json:"error"`
	}
	if json.Unmarshal([]byte(body), &told) == nil && told.Error != "" {
		return told.Error, true
	}
	return "the server answered with status " + status, true
}

func (s *server) print(c *cobra.Command, answer any, text func(w io.Writer)) error {
	if !s.json {
		text(c.OutOrStdout())
		return nil
	}
	e := json.NewEncoder(c.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(answer)
}

// group is a command that does nothing but hold others. Cobra would take a word that it doesn't know for a call for help.
func group(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: noSuchCommand, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
}

func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SilenceUsage = true
	return fmt.Errorf("there is no command `%s %s`; `%[1]s --help` lists them", c.CommandPath(), args[0])
}

func userCommand() *cobra.Command {
	s := &server{}
	c := group("user", "Users of the running server")
	s.flags(c)

	list := &cobra.Command{Use: "list", Short: "List the users", Args: cobra.NoArgs}
	list.RunE = run(func(c *cobra.Command, _ []string) error {
		var users []admin.Summary
		if err := s.call(http.MethodGet, "/mfa/users", nil, &users); err != nil {
			return err
		}
		return s.print(c, users, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tID\tDISPLAY NAME\tSTATE\tPER-USER MFA\tMETHODS")
			for _, u := range users {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", u.Name, u.ID, dash(u.DisplayName), stateOf(u), u.PerUser, dash(join(u.Methods)))
			}
			t.Flush()
		})
	})

	show := &cobra.Command{Use: "show <user>", Short: "Show what is kept of a user", Args: cobra.ExactArgs(1)}
	show.RunE = run(func(c *cobra.Command, args []string) error {
		var d admin.Details
		if err := s.call(http.MethodGet, userPath(args[0], ""), nil, &d); err != nil {
			return err
		}
		return s.print(c, d, func(w io.Writer) { printUser(w, d) })
	})

	newPass := &cobra.Command{
		Use: "pass <user>", Short: "Make a temporary access pass, shown once", Args: cobra.ExactArgs(1),
		Long: "Make a temporary access pass, which stands in for a second factor: to register a first one, or while a phone is lost.\nIt replaces an older pass of the user.",
	}
	lifetime := newPass.Flags().String("lifetime", "1h", "for how long it is good, from 1m to 30d")
	many := newPass.Flags().Bool("many", false, "good for many sign-ins, not for one")
	start := newPass.Flags().String("start", "", "from when it is good, as in 2026-12-01T09:00 by this machine's clock, at most 30d ahead (default: at once)")
	newPass.RunE = run(func(c *cobra.Command, args []string) error {
		var p admin.Pass
		form := url.Values{"lifetime": {*lifetime}, "one_time": {fmt.Sprint(!*many)}}
		if *start != "" {
			t, err := parseTime(*start, time.Local)
			if err != nil {
				return fmt.Errorf("--start: %w", err)
			}
			form.Set("start", t.Format(time.RFC3339))
		}
		if err := s.call(http.MethodPost, userPath(args[0], "/pass"), form, &p); err != nil {
			return err
		}
		return s.print(c, p, func(w io.Writer) { printPass(w, p) })
	})

	reset := &cobra.Command{
		Use: "reset <user>", Short: "Remove a user's factors and make a temporary access pass", Args: cobra.ExactArgs(1),
		Long: "Remove every factor of a user and end every session. Who holds the temporary access pass that is shown can register again, and nobody else.",
	}
	reset.RunE = run(func(c *cobra.Command, args []string) error {
		var p admin.Pass
		if err := s.call(http.MethodPost, userPath(args[0], "/reset"), url.Values{}, &p); err != nil {
			return err
		}
		return s.print(c, p, func(w io.Writer) {
			fmt.Fprintf(w, "The factors of %s are removed, and every session has ended.\n", p.User)
			printPass(w, p)
		})
	})

	reregister := &cobra.Command{
		Use: "re-register <user>", Short: "Require a user to register again", Args: cobra.ExactArgs(1),
		Long: `Remove what a user has registered, but for passkeys, and end every session: he is asked to register at his next sign-in.

No pass is made. Where registration needs none, whoever knows the password may be the one who registers: if that may be somebody else,
use ` + "`mfa user reset`" + `, which also removes passkeys and app passwords.`,
	}
	reregister.RunE = run(func(c *cobra.Command, args []string) error {
		var made admin.Reregistration
		if err := s.call(http.MethodPost, userPath(args[0], "/re-register"), url.Values{}, &made); err != nil {
			return err
		}
		return s.print(c, made, func(w io.Writer) { printReregistration(w, made) })
	})

	simple := func(use, short, done string) *cobra.Command {
		c := &cobra.Command{Use: use + " <user>", Short: short, Args: cobra.ExactArgs(1)}
		reason := new(string)
		if use == "block" {
			reason = c.Flags().String("reason", "", "why, for the log")
		}
		c.RunE = run(func(c *cobra.Command, args []string) error {
			var answer map[string]string
			if err := s.call(http.MethodPost, userPath(args[0], "/"+use), url.Values{"reason": {*reason}}, &answer); err != nil {
				return err
			}
			return s.print(c, answer, func(w io.Writer) { fmt.Fprintf(w, done+"\n", args[0]) })
		})
		return c
	}
	c.AddCommand(list, show, newPass, reset, reregister, stateCommand(s), upstreamCommand(s),
		simple("unlock", "Forget the wrong passwords and codes that were tried", "What was counted against %s is forgotten."),
		simple("block", "Refuse a user everything from now on", "%s is blocked, and every session has ended."),
		simple("unblock", "Take a block away", "%s is no longer blocked."),
		simple("sign-out", "End every session of a user", "Every session of %s has ended."),
	)
	return c
}

func printReregistration(w io.Writer, r admin.Reregistration) {
	names := func(methods []mfa.Method) string {
		words := make([]string, len(methods))
		for i, m := range methods {
			words[i] = string(m)
		}
		return strings.Join(words, ", ")
	}
	switch {
	case len(r.Removed) == 0 && len(r.Kept) == 0:
		fmt.Fprintf(w, "%s has registered nothing, and is asked to at the next sign-in that needs it.\n", r.User)
		return
	case len(r.Removed) == 0:
		fmt.Fprintf(w, "Nothing is removed: %s has only what stays (%s).\n", r.User, names(r.Kept))
		return
	}
	fmt.Fprintf(w, "Removed from %s: %s. Every session has ended.\n", r.User, names(r.Removed))
	if len(r.Kept) > 0 {
		fmt.Fprintf(w, "What stays is a second factor still (%s), so that nothing need be registered.\n", names(r.Kept))
	}
}

func accountsCommand() *cobra.Command {
	s := &server{}
	c := group("accounts", "The account store of the running server")
	s.flags(c)
	initialize := &cobra.Command{
		Use: "init", Short: "Accept an account store that is empty or another one than before", Args: cobra.NoArgs,
		Long: `Accept an account store that is empty or another one than before.

Sign-ins are refused when the registrations that were there have vanished: otherwise whoever knows a password could register a
second factor as its owner. Restore the store if you can. Accept it as it is only if you know why it is another.`,
	}
	initialize.RunE = run(func(c *cobra.Command, _ []string) error {
		var answer map[string]string
		if err := s.call(http.MethodPost, "/mfa/accounts/init", url.Values{}, &answer); err != nil {
			return err
		}
		return s.print(c, answer, func(w io.Writer) { fmt.Fprintln(w, "The account store is accepted as it is.") })
	})
	c.AddCommand(initialize)
	return c
}

func hashCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "hash-password [<user>]", Short: "Read a password and print the line for users.yaml", Args: cobra.MaximumNArgs(1),
		Long: "Read a password, from the terminal without showing it or from standard input, and print the line for users.yaml.\nHow easy it is to guess is said on standard error; who names the user hears also whether the name gives it away.",
	}
	asJSON := c.Flags().Bool("json", false, "print JSON")
	asLine := c.Flags().Bool("htpasswd", false, "print the user's line for an htpasswd file, which only `users htpasswd` reads: Apache doesn't know argon2id")
	c.RunE = run(func(c *cobra.Command, args []string) error {
		if *asLine && (*asJSON || len(args) == 0) {
			return errors.New("write the user behind --htpasswd, as in `mfa hash-password --htpasswd alice`, and no --json")
		}
		if *asLine && strings.ContainsAny(args[0], ":\r\n") {
			return fmt.Errorf("a name can't hold %q in an htpasswd file", ":")
		}
		text, err := readPassword(c)
		if err != nil {
			return err
		}
		encoded, err := password.Hash(text)
		if err != nil {
			return err
		}
		estimate := password.Strength(text, args...)
		if *asJSON {
			return (&server{json: true}).print(c, map[string]any{
				"password": encoded, "score": estimate.Score, "weak": estimate.Weak(), "crack_time": estimate.CrackTime,
			}, nil)
		}
		fmt.Fprintln(c.ErrOrStderr(), estimate.Sentence())
		if *asLine {
			fmt.Fprintf(c.OutOrStdout(), "%s:%s\n", args[0], encoded)
			return nil
		}
		fmt.Fprintf(c.OutOrStdout(), "password: %s\n", encoded)
		return nil
	})
	return c
}

// readPassword reads it twice from a terminal, once from anything else.
func readPassword(c *cobra.Command) (string, error) {
	stdin, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(stdin.Fd())) {
		line, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading password: %w", err)
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", errors.New("there is no password on standard input")
		}
		return line, nil
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(c.ErrOrStderr(), prompt)
		text, err := term.ReadPassword(int(stdin.Fd()))
		fmt.Fprintln(c.ErrOrStderr())
		return string(text), err
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", fmt.Errorf("reading password: %w", err)
	}
	if first == "" {
		return "", errors.New("the password is empty")
	}
	again, err := ask("Once more: ")
	if err != nil {
		return "", fmt.Errorf("reading password: %w", err)
	}
	if first != again {
		return "", errors.New("the two passwords differ")
	}
	return first, nil
}

// run makes a command of a function, and its error one line without the usage.
func run(f func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		return f(c, args)
	}
}

func userPath(name, action string) string { return "/mfa/users/" + url.PathEscape(name) + action }

func printPass(w io.Writer, p admin.Pass) {
	use := "for one sign-in"
	if !p.Once {
		use = "for many sign-ins"
	}
	from := ""
	if !p.Starts.IsZero() {
		from = "from " + timeText(p.Starts) + " "
	}
	fmt.Fprintf(w, "Temporary access pass for %s: %s\nGood %suntil %s, %s. It is not shown again.\n", p.User, p.Pass, from, timeText(p.Expires), use)
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04 MST")
}

// parseTime reads a time as an administrator writes it: in that zone, unless he names one.
func parseTime(text string, zone *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time; write for example 2026-12-01T09:00, or with a zone 2026-12-01T09:00:00+01:00", text)
}

func printUser(w io.Writer, d admin.Details) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(t, "%s:\t%s\n", name, dash(value)) }
	row("Name", d.Name)
	row("ID", d.ID)
	row("Display name", d.DisplayName)
	row("E-mail", d.Email)
	row("Groups", join(d.Groups))
	row("Roles", join(d.Roles))
	row("State", stateOf(d.Summary))
	if d.Blocked {
		row("Blocked", strings.TrimSpace(timeText(d.BlockedAt)+" "+d.BlockedReason))
	}
	row("Per-user MFA", perUserText(d))
	row("Grace since", timeText(d.GraceStarted))
	row("Registered", timeText(d.RegisteredAt))
	if d.PassRequired {
		row("Registration", "only with a temporary access pass")
	}
	row("Locked methods", join(d.Locked))
	row("Recovery codes left", fmt.Sprint(d.RecoveryCodes))
	t.Flush()
	if d.Unreadable {
		fmt.Fprintf(w, "\nThe factors don't open with the configured secrets. Give back the secret that they were sealed with, or run `mfa user reset %s`.\n", d.Name)
	}
	fmt.Fprintln(w, "\nFactors:")
	t = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, c := range d.Credentials {
		starts := ""
		if !c.Starts.IsZero() {
			starts = "good from " + timeText(c.Starts) + "  "
		}
		fmt.Fprintf(t, "  %s\t%s\tadded %s\tlast used %s\t%sexpires %s\n", c.ID, c.Method, timeText(c.Added), dash(timeText(c.LastUsed)), starts, dash(timeText(c.Expires)))
	}
	t.Flush()
	if len(d.Upstreams) > 0 {
		fmt.Fprintln(w, "\nCredentials of applications:")
		t = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for _, u := range d.Upstreams {
			fmt.Fprintf(t, "  %s\tstored %s\n", u.Application, timeText(u.Stored))
		}
		t.Flush()
	}
	if len(d.AppPasswords) > 0 {
		fmt.Fprintln(w, "\nApp passwords:")
		t = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for _, p := range d.AppPasswords {
			fmt.Fprintf(t, "  %s\t%s\t%s\tmade %s\tlast used %s\texpires %s\n", p.ID, p.Application, p.Name, timeText(p.Made), dash(timeText(p.LastUsed)), timeText(p.Expires))
		}
		t.Flush()
	}
	fmt.Fprintln(w, "\nSessions:")
	t = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, s := range d.Sessions {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\tsince %s\tlast seen %s\n", s.ID, s.Host, dash(strings.Join(s.Applications, ", ")), dash(s.Address), timeText(s.Created), timeText(s.Seen))
	}
	t.Flush()
	if len(d.Browsers) == 0 {
		return
	}
	fmt.Fprintln(w, "\nRemembered browsers:")
	t = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, b := range d.Browsers {
		fmt.Fprintf(t, "  %s\t%s\t%s\tadded %s\tlast used %s\texpires %s\n", b.ID, b.Host, b.Method, timeText(b.Added), dash(timeText(b.LastUsed)), timeText(b.Expires))
	}
	t.Flush()
}

func perUserText(d admin.Details) string {
	if d.PerUserSince.IsZero() {
		return string(d.PerUser)
	}
	return fmt.Sprintf("%s, since %s", d.PerUser, timeText(d.PerUserSince))
}

func stateOf(u admin.Summary) string {
	switch {
	case u.Disabled:
		return "disabled"
	case u.Blocked:
		return "blocked"
	case u.Registered:
		return "registered"
	}
	return "not registered"
}

func join[T ~string](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = string(item)
	}
	return strings.Join(texts, ", ")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
