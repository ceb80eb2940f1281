package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func stateCommand(s *server) *cobra.Command {
	c := &cobra.Command{
		Use: "state [<user> disabled|enabled|enforced]", Short: "Set the per-user MFA setting, of one user or of many",
		Long: `Set the per-user MFA setting of a user, which counts where the configuration has ` + "`per_user_mfa`" + `.

  disabled   it asks for nothing
  enabled    the user is asked to register a second factor, and to prove it from then on
  enforced   a second factor is needed; enabled becomes this when the user has registered

With --csv it is set for every user in a file, whose first line is ` + "`Username,MFA Status` or `user,state`" + `. All of the file is checked before
anything is changed. --export prints such a file.`,
	}
	file := c.Flags().String("csv", "", "file with the states of many users; - is standard input")
	export := c.Flags().Bool("export", false, "print the states of all users as CSV")
	c.Args = func(c *cobra.Command, args []string) error {
		switch many := c.Flags().Changed("csv"); {
		case many && *export:
			return errors.New("--csv and --export don't go together")
		case *export && s.json:
			return errors.New("--export prints CSV; `mfa user list --json` prints the states as JSON")
		case (many || *export) && len(args) > 0:
			return errors.New("with --csv and --export no user is named")
		case many || *export:
			return nil
		case len(args) != 2:
			return fmt.Errorf("want a user and a state, or --csv, or --export; got %d words", len(args))
		}
		return nil
	}
	c.RunE = run(func(c *cobra.Command, args []string) error {
		switch {
		case *export:
			var users []admin.Summary
			if err := s.call(http.MethodGet, "/mfa/users", nil, &users); err != nil {
				return err
			}
			return admin.WriteStates(c.OutOrStdout(), users)
		case len(args) == 0:
			return s.setStates(c, *file)
		}
		state, err := admin.ParseState(args[1])
		if err != nil {
			return err
		}
		made, err := s.setState(args[0], state)
		if err != nil {
			return err
		}
		return s.print(c, made, func(w io.Writer) {
			printState(w, made, state)
			printNoEffect(w, made)
		})
	})
	return c
}

func (s *server) setState(user string, state mfa.PerUserState) (made admin.StateChange, err error) {
	err = s.call(http.MethodPost, userPath(user, "/state"), url.Values{"state": {string(state)}}, &made)
	return made, err
}

// stateResult is what became of a line.
type stateResult struct {
	Line int `json:"line"`
	admin.StateChange
}

// setStates sets what stands in a file. It may stop half-way, when the server does; doing it again does no harm.
func (s *server) setStates(c *cobra.Command, file string) error {
	in, name := c.InOrStdin(), "standard input"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close() // it was read
		in, name = f, file
	}
	var users []admin.Summary
	if err := s.call(http.MethodGet, "/mfa/users", nil, &users); err != nil {
		return err
	}
	lines, err := admin.ReadStates(in, users)
	if err != nil {
		return fmt.Errorf("nothing is changed, because of mistakes in %s:\n%w", name, err)
	}
	results, changed := make([]stateResult, 0, len(lines)), 0
	var stopped error
	for _, l := range lines {
		made, err := s.setState(l.User, l.State)
		if err != nil {
			stopped = fmt.Errorf("line %d, %s: %w\nThe lines before it are done, and the others are not. Run the same again when this is mended", l.Line, l.User, err)
			break
		}
		results = append(results, stateResult{l.Line, made})
		if made.Changed {
			changed++
		}
		if !s.json {
			printState(c.OutOrStdout(), made, l.State)
		}
	}
	err = s.print(c, results, func(w io.Writer) {
		fmt.Fprintf(w, "%d changed, %d as before.\n", changed, len(results)-changed)
		if len(results) > 0 {
			printNoEffect(w, results[0].StateChange)
		}
	})
	return errors.Join(stopped, err)
}

// printState says what became of the wish for a state.
func printState(w io.Writer, made admin.StateChange, wish mfa.PerUserState) {
	was := "as before"
	if made.Changed {
		was = "was " + string(made.Before)
	}
	why := ""
	if made.State != wish {
		why = "; enabling enforces, for who has registered"
	}
	fmt.Fprintf(w, "%s: %s, %s%s\n", made.User, made.State, was, why)
}

func printNoEffect(w io.Writer, made admin.StateChange) {
	if made.NoEffect != "" {
		fmt.Fprintf(w, "This has no effect at the moment: %s.\n", made.NoEffect)
	}
}
