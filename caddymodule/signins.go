package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/signinlog"
)

var errSignInLogOff = errors.New("the sign-in log is off; take `sign_in_log off` out of the configuration")

// signInPage is the answer of the endpoint.
type signInPage struct {
	SignIns []audit.SignIn `json:"sign_ins"`
	Next    string         `json:"next,omitempty"` // value of `after` for the next page
}

// signInParameters read the parameters of the endpoint into a filter.
var signInParameters = map[string]func(f *signinlog.Filter, text string, now time.Time) error{
	"user":        func(f *signinlog.Filter, text string, _ time.Time) error { f.User = text; return nil },
	"application": func(f *signinlog.Filter, text string, _ time.Time) error { f.Application = text; return nil },
	"policy":      func(f *signinlog.Filter, text string, _ time.Time) error { f.Policy = text; return nil },
	"reference":   func(f *signinlog.Filter, text string, _ time.Time) error { f.Reference = text; return nil },
	"after":       func(f *signinlog.Filter, text string, _ time.Time) error { f.After = text; return nil },
	"status": func(f *signinlog.Filter, text string, _ time.Time) error {
		f.Status = signinlog.Status(text)
		return nil
	},
	"result": func(f *signinlog.Filter, text string, _ time.Time) error {
		f.Result = audit.PolicyResult(text)
		return nil
	},
	"address": func(f *signinlog.Filter, text string, _ time.Time) (err error) {
		f.Addresses, err = parseRange(text)
		return err
	},
	"since": func(f *signinlog.Filter, text string, now time.Time) (err error) {
		f.Since, err = parseWhen(text, now)
		return err
	},
	"until": func(f *signinlog.Filter, text string, now time.Time) (err error) {
		f.Until, err = parseWhen(text, now)
		return err
	},
	"limit": func(f *signinlog.Filter, text string, _ time.Time) (err error) {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 {
			return fmt.Errorf("%q is no number of sign-ins; want 1 to %d", text, signinlog.MaxLimit)
		}
		return nil
	},
}

// parseFilter reads a query, and reports every mistake in it.
func parseFilter(query url.Values, now time.Time) (f signinlog.Filter, err error) {
	err = parseParameters(&f, query, signInParameters, now)
	return f, err
}

// parseParameters reads a query into a filter, and reports every mistake in it.
func parseParameters[Filter any](f *Filter, query url.Values, parameters map[string]func(f *Filter, text string, now time.Time) error, now time.Time) error {
	var mistakes []string
	for _, name := range slices.Sorted(maps.Keys(query)) {
		read, known := parameters[name]
		switch {
		case !known:
			mistakes = append(mistakes, fmt.Sprintf("there is no parameter %q; want one of %s", name, list(slices.Sorted(maps.Keys(parameters)))))
		case len(query[name]) > 1:
			mistakes = append(mistakes, fmt.Sprintf("%s stands there twice", name))
		case query[name][0] != "":
			if err := read(f, query[name][0], now); err != nil {
				mistakes = append(mistakes, name+": "+err.Error())
			}
		}
	}
	if len(mistakes) > 0 {
		return badInput{errors.New(strings.Join(mistakes, "\n"))}
	}
	return nil
}

// parseWhen reads a moment: so long ago, a day (its beginning, in UTC), or a time (RFC 3339).
func parseWhen(text string, now time.Time) (time.Time, error) {
	if d, err := config.ParseDuration(text); err == nil {
		return now.Add(-time.Duration(d)), nil
	}
	if day, err := config.ParseDate(text); err == nil {
		return day.Time, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%q is no moment; write for example 24h for a day ago, 2027-03-01, or 2027-03-01T15:04:05Z", text)
}

// parseRange reads an address range, or one address.
func parseRange(text string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Masked(), nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no address and no range; write for example 192.0.2.7 or 10.0.0.0/8", text)
	}
	address = address.Unmap().WithZone("")
	return netip.PrefixFrom(address, address.BitLen()), nil
}

func listSignIns(r *http.Request, log *signinlog.Log, now time.Time) (any, error) {
	if log == nil {
		return nil, errSignInLogOff
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badInput{fmt.Errorf("reading parameters: %w", err)}
	}
	filter, err := parseFilter(query, now)
	if err != nil {
		return nil, err
	}
	page, err := log.List(r.Context(), filter)
	return signInPage{page.SignIns, page.Next}, err
}

func signInsCommand() *cobra.Command {
	s := &server{}
	c := &cobra.Command{
		Use: "sign-ins", Short: "Show who signed in, or tried to", Args: cobra.NoArgs,
		Long: `Show who signed in, or tried to, the newest first. Options narrow it, all of them together.

A moment is so long ago (24h, 7d), a day (2027-03-01, at its beginning in UTC) or a time (2027-03-01T15:04:05Z).`,
	}
	s.flags(c)
	query := url.Values{}
	texts := map[string]*string{}
	for _, o := range []struct{ flag, parameter, help string }{
		{"user", "user", "of this user"},
		{"application", "application", "on the way to this application"},
		{"ip", "address", "from this address or range, as in 10.0.0.0/8"},
		{"since", "since", "from this moment on"},
		{"until", "until", "before this moment"},
		{"policy", "policy", "to which this policy had something to say"},
		{"result", "result", "success or failure; with --policy what the policy came to, as in reportOnlyFailure"},
		{"reference", "reference", "with the reference that stood on the page"},
	} {
		texts[o.parameter] = c.Flags().String(o.flag, "", o.help)
	}
	limit := c.Flags().Int("limit", signinlog.DefaultLimit, "at most so many; 0: all")
	c.RunE = run(func(c *cobra.Command, _ []string) error {
		if *limit < 0 {
			return fmt.Errorf("--limit %d is no number of sign-ins", *limit)
		}
		for parameter, text := range texts {
			if *text != "" {
				query.Set(parameter, *text)
			}
		}
		// Without a policy, these two words are meant of the sign-in.
		if r := query.Get("result"); query.Get("policy") == "" && (r == string(signinlog.Success) || r == string(signinlog.Failure)) {
			query.Set("status", r)
			query.Del("result")
		}
		signIns, more, err := s.signIns(query, *limit)
		if err != nil {
			return err
		}
		if more {
			fmt.Fprintf(c.ErrOrStderr(), "There are more: these are the newest %d. Choose another number with --limit.\n", len(signIns))
		}
		return s.print(c, signIns, func(w io.Writer) { printSignIns(w, signIns) })
	})
	return c
}

// signIns asks for so many sign-ins, page after page; 0 for all.
func (s *server) signIns(query url.Values, limit int) (all []audit.SignIn, more bool, err error) {
	all = []audit.SignIn{}
	for {
		size := signinlog.MaxLimit
		if limit > 0 {
			size = min(size, limit-len(all))
		}
		query.Set("limit", strconv.Itoa(size))
		var page signInPage
		if err := s.call(http.MethodGet, "/mfa/sign-ins?"+query.Encode(), nil, &page); err != nil {
			return nil, false, err
		}
		all = append(all, page.SignIns...)
		if page.Next == "" || limit > 0 && len(all) >= limit {
			return all, page.Next != "", nil
		}
		query.Set("after", page.Next)
	}
}

func printSignIns(w io.Writer, signIns []audit.SignIn) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tUSER\tAPPLICATION\tADDRESS\tREQUIREMENT\tRESULT\tREFERENCE")
	for _, r := range signIns {
		requirement := map[string]string{audit.SingleFactor: "single factor", audit.MultiFactor: "multifactor"}[r.Requirement]
		reference := r.CorrelationID
		if r.Suppressed > 0 {
			reference = "" // no page has shown it
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Created.Local().Format("2006-01-02 15:04:05 MST"),
			dash(r.UserPrincipalName), dash(r.AppDisplayName), dash(r.IPAddress), dash(requirement), resultOf(r), dash(reference))
	}
	t.Flush()
}

var codeTexts = map[int]string{
	audit.CodeSuccess: "signed in", audit.CodeInvalidPassword: "wrong user name or password", audit.CodeMFADenied: "wrong second factor",
	audit.CodeMFARequired: "second factor missing", audit.CodeThrottled: "too many attempts", audit.CodeMustRegister: "second factor not registered",
	audit.CodeBlocked: "refused",
}

// resultOf says how a sign-in ended, and which policies decided it.
func resultOf(r audit.SignIn) string {
	text, ok := codeTexts[r.Status.ErrorCode]
	if !ok {
		text = fmt.Sprint("error ", r.Status.ErrorCode)
	}
	if r.Suppressed > 0 {
		return fmt.Sprintf("%d more like this: %s", r.Suppressed, text)
	}
	decided := audit.PolicyFailure
	if r.Status.ErrorCode == audit.CodeSuccess {
		decided = audit.PolicySuccess
	}
	var names []string
	for _, p := range r.Policies {
		if p.Result == decided {
			names = append(names, p.DisplayName)
		}
	}
	switch {
	case len(names) > 0:
		return text + ": " + strings.Join(names, ", ")
	case r.Status.ErrorCode == audit.CodeBlocked && r.Status.FailureReason != "":
		return text + ": " + r.Status.FailureReason
	}
	return text
}

// maxRecent is how many of his own sign-ins a person sees.
const maxRecent = 50

// recent gives the last sign-ins of a user, the newest first, for himself. One who had his name before is somebody else.
func (a *App) recent(ctx context.Context, user *mfa.User, since time.Time) ([]audit.SignIn, error) {
	page, err := a.signIns.List(ctx, signinlog.Filter{User: user.Canonical, Since: since, Limit: maxRecent})
	return slices.DeleteFunc(page.SignIns, func(r audit.SignIn) bool { return r.UserID != user.ID.String() }), err
}
