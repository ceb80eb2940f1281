package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/policy/graph"
)

// replayed is what the command line says of a replay.
type replayed struct {
	server
	names   string
	partial bool
	enforce bool
	filter  map[string]*string
}

func replayCommand() *cobra.Command {
	r := &replayed{filter: map[string]*string{}}
	c := &cobra.Command{
		Use: "replay [<file|folder>…]", Short: "Say what other policies would have made of the recorded sign-ins",
		Long: `Say what other policies would have made of the sign-ins that the running server has recorded: who would have been blocked, who would have
been asked for more, and what would have been different.

The policies are in files as "mfa policy import" takes them. Without a file they are those of the running server: with --enforce that says
what those in report-only would do. A policy that can't be enforced here, or whose ids have no name, is refused: "mfa policy import" says
more.

Users are as their directory and their account have them now, everything else is as it was recorded. Named locations, terms of use and
the per-user setting are those of the running server; security defaults are off.`,
	}
	r.flags(c)
	f := c.Flags()
	f.StringVar(&r.names, "names", "", "mapping file (YAML) that gives names to ids")
	f.BoolVar(&r.partial, "allow-partial", false, "leave out what can't be enforced, where a policy then demands more and never less")
	f.BoolVar(&r.enforce, "enforce", false, "judge by policies in report-only as if they were enabled")
	for _, o := range []struct{ flag, parameter, usage string }{
		{"since", "since", "sign-ins from this moment on: 7d, 2027-03-01, 2027-03-01T15:04:05Z (default: all)"}, {"until", "until", "sign-ins before this moment"},
		{"user", "user", "sign-ins of this user"}, {"application", "application", "sign-ins on the way to this application"}, {"ip", "address", "sign-ins from this address or range"},
	} {
		r.filter[o.parameter] = f.String(o.flag, "", o.usage)
	}
	c.RunE = run(r.run)
	return c
}

func (r *replayed) run(c *cobra.Command, paths []string) error {
	result, err := r.policies(c, paths)
	if err != nil {
		return err
	}
	for i := range result.Policies {
		if p := &result.Policies[i]; r.enforce && p.State == policy.ReportOnly {
			p.State = policy.Enabled
		}
	}
	data, err := graph.Marshal(result.Policies, result.Strengths)
	if err != nil {
		return fmt.Errorf("writing policies: %w", err)
	}
	form := url.Values{"policies": {string(data)}}
	for parameter, text := range r.filter {
		if *text != "" {
			form.Set(parameter, *text)
		}
	}
	var answer admin.Replay
	if err := r.call(http.MethodPost, "/mfa/policy/replay", form, &answer); err != nil {
		return err
	}
	return r.print(c, answer, func(w io.Writer) { printReplay(w, &answer) })
}

// policies reads those of the files, or of the server where there are none.
func (r *replayed) policies(c *cobra.Command, paths []string) (*graph.Result, error) {
	found := &found{}
	var names *graph.Names
	if len(paths) == 0 {
		var answer json.RawMessage
		if err := r.call(http.MethodGet, "/mfa/policies/graph", nil, &answer); err != nil {
			return nil, err
		}
		found.files = []graph.File{{Name: "the running server", Data: answer}}
	} else {
		found = policyFiles(paths)
	}
	if r.names != "" {
		text, err := os.ReadFile(r.names)
		if err != nil {
			return nil, fmt.Errorf("reading names: %w", err)
		}
		if names, err = graph.ParseNames(text); err != nil {
			return nil, fmt.Errorf("reading names: %s: %w", r.names, err)
		}
	}
	result := graph.Import(found.files, names, graph.Options{AllowPartial: r.partial})
	errs := result.Errors
	result.Errors = nil
	for _, err := range errs {
		if found.passedOver(err, result) {
			continue
		}
		result.Errors = append(result.Errors, err)
	}
	for _, err := range found.errs {
		fmt.Fprintln(c.ErrOrStderr(), err)
	}
	if len(found.errs) > 0 {
		return nil, fmt.Errorf("%s above", number(len(found.errs), "error", "errors"))
	}
	return result, notLoaded(result)
}

func printReplay(w io.Writer, r *admin.Replay) {
	if r.SignIns == 0 {
		fmt.Fprintln(w, "There are no sign-ins to replay.")
	} else {
		const layout = "2006-01-02 15:04 MST"
		fmt.Fprintf(w, "%s, from %s to %s: %d would have come to something else.\n\n", number(r.SignIns, "sign-in", "sign-ins"),
			r.From.Local().Format(layout), r.Until.Local().Format(layout), r.Changed)
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "\tWAS\tWOULD HAVE BEEN")
		for _, o := range admin.Outcomes {
			fmt.Fprintf(t, "%s\t%d\t%d\n", outcomeWords[o], r.Was[o], r.Would[o])
		}
		t.Flush()
		printTallies(w, "USER", r.Users)
		printTallies(w, "APPLICATION", r.Applications)
	}
	if len(r.Changes) > 0 {
		fmt.Fprintln(w, "\nWhat would have been different:")
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "  TIME\tUSER\tAPPLICATION\tADDRESS\tWAS\tWOULD HAVE BEEN\tPOLICY\tREFERENCE")
		for _, c := range r.Changes {
			would := outcomeWords[c.Would]
			if word := actionWords[c.Action]; word != "" {
				would = "asked " + word
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Time.Local().Format("2006-01-02 15:04:05 MST"), plain(c.User), dash(plain(c.Application)), dash(c.Address),
				outcomeWords[c.Was], would, dash(plain(c.Policy)), dash(plain(c.Reference)))
		}
		t.Flush()
		if more := r.Changed - len(r.Changes); more > 0 {
			fmt.Fprintf(w, "  and %d more\n", more)
		}
	}
	for _, left := range []struct {
		n   int
		why string
	}{
		{r.Failed, "in which a proof was wrong or missing"}, {r.Unknown, "of users whom no directory knows any more"}, {r.Summarized, "that were not kept one by one"},
	} {
		if left.n > 0 {
			fmt.Fprintf(w, "Left out: %s %s.\n", number(left.n, "sign-in", "sign-ins"), left.why)
		}
	}
}

// mostRows is how many users and applications are printed.
const mostRows = 20

func printTallies(w io.Writer, head string, tallies []admin.Tally) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "%s\tSIGN-INS\tBLOCKED\tASKED\tDIFFERENT\n", head)
	for i, row := range tallies {
		if i == mostRows {
			break
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\n", dash(plain(row.Name)), row.SignIns, row.Blocked, row.Asked, row.Changed)
	}
	t.Flush()
	if more := len(tallies) - mostRows; more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
}

var outcomeWords = map[admin.Outcome]string{
	admin.Blocked: "blocked", admin.Asked: "asked for more", admin.SecondFactor: "let in with a second factor", admin.LetIn: "let in, and not asked for one",
}

// actionWords say what somebody would have been asked for.
var actionWords = map[policy.Action]string{
	policy.Authenticate: "for the password again", policy.Verify: "for a second factor", policy.Register: "to register a second factor", policy.AcceptTerms: "to accept terms of use",
}
