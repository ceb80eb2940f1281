package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

func policyListCommand() *cobra.Command {
	s := &server{}
	c := &cobra.Command{
		Use: "list", Short: "List the policies of the running server", Args: cobra.NoArgs,
		Long: "List the policies of the running server, in the words of the Caddyfile. With --json each is as it stands in Caddy's JSON configuration.",
	}
	s.flags(c)
	c.RunE = run(func(c *cobra.Command, _ []string) error {
		var list []config.Policy
		if err := s.call(http.MethodGet, "/mfa/policies", nil, &list); err != nil {
			return err
		}
		return s.print(c, list, func(w io.Writer) { printPolicies(w, list) })
	})
	return c
}

func policyExportCommand() *cobra.Command {
	s := &server{}
	c := &cobra.Command{
		Use: "export", Short: "Write the policies of the running server as Graph JSON", Args: cobra.NoArgs,
		Long: `Write the policies of the running server as Microsoft Graph has them, with names in place of ids. "mfa policy import" and "policies
import" read them back as they were.`,
	}
	s.flags(c)
	output := c.Flags().StringP("output", "o", "", "write to this file")
	c.RunE = run(func(c *cobra.Command, _ []string) error {
		var answer json.RawMessage
		if err := s.call(http.MethodGet, "/mfa/policies/graph", nil, &answer); err != nil {
			return err
		}
		var text bytes.Buffer
		if err := json.Indent(&text, answer, "", "  "); err != nil {
			return err
		}
		text.WriteByte('\n')
		if *output != "" {
			return writeFile(*output, text.Bytes())
		}
		_, err := c.OutOrStdout().Write(text.Bytes())
		return err
	})
	return c
}

func policyLintCommand() *cobra.Command {
	s := &server{}
	c := &cobra.Command{
		Use: "lint", Short: "Say what in the policies may not be meant", Args: cobra.NoArgs,
		Long: `Say what in the policies of the running server may not be meant: applications that no policy reaches, policies that can never apply, names
that nobody has, and what could lock every administrator out. The same is in the log when the server starts.

The status is 0 only if nothing is found.`,
	}
	s.flags(c)
	c.RunE = run(func(c *cobra.Command, _ []string) error {
		var found []policy.Finding
		if err := s.call(http.MethodGet, "/mfa/policy/lint", nil, &found); err != nil {
			return err
		}
		err := s.print(c, found, func(w io.Writer) {
			for _, f := range found {
				name := "policies"
				if f.Policy != "" {
					name = fmt.Sprintf("policy %q", f.Policy)
				}
				fmt.Fprintf(w, "%s: %s.\n  (%s)\n", plain(name), plain(f.Sentence), f.Kind)
			}
			if len(found) == 0 {
				fmt.Fprintln(w, "Nothing was found.")
			}
		})
		if err == nil && len(found) > 0 {
			err = errors.New(number(len(found), "finding", "findings"))
		}
		return err
	})
	return c
}

func printPolicies(w io.Writer, list []config.Policy) {
	if len(list) == 0 {
		fmt.Fprintln(w, "There are no policies.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTATE\tUSERS\tGUARDS\tCONDITIONS\tCONTROLS")
	for i := range list {
		p := &list[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", plain(p.Name), p.State, plain(without(p.Users, p.ExcludeUsers)), plain(guards(p)), dash(plain(conditions(p))), dash(plain(controlsOf(p))))
	}
	t.Flush()
}

// guards is what a policy is about.
func guards(p *config.Policy) string {
	if p.UserAction != "" {
		return "user_action " + p.UserAction
	}
	return without(p.Applications, p.ExcludeApplications)
}

// without writes what is included, and what is excluded from it.
func without(include, exclude []string) string {
	text := strings.Join(include, ", ")
	if len(exclude) > 0 {
		text += " without " + strings.Join(exclude, ", ")
	}
	return text
}

// conditions are a policy's conditions beside users and target, in short.
func conditions(p *config.Policy) string {
	var parts []string
	for _, c := range []struct {
		name             string
		include, exclude []string
	}{
		{"client_apps", p.ClientApps, nil}, {"platforms", p.Platforms, p.ExcludePlatforms}, {"locations", p.Locations, p.ExcludeLocations},
		{"sign_in_risk", p.SignInRisk, nil}, {"user_risk", p.UserRisk, nil},
	} {
		if len(c.include)+len(c.exclude) > 0 {
			parts = append(parts, c.name+" "+without(c.include, c.exclude))
		}
	}
	if d := p.Devices; d != nil {
		word := "include"
		if d.Exclude != "" {
			word = "exclude"
		}
		parts = append(parts, fmt.Sprintf("devices %s %q", word, d.Include+d.Exclude))
	}
	return strings.Join(parts, "; ")
}

// controlsOf are what a policy demands, in short.
func controlsOf(p *config.Policy) string {
	var parts []string
	if g := p.Grant; g != nil {
		switch {
		case g.Block:
			parts = append(parts, "block")
		case len(g.AnyOf) > 1:
			parts = append(parts, "any_of "+strings.Join(g.AnyOf, " "))
		default:
			parts = append(parts, strings.Join(g.Controls(), " "))
		}
	}
	if f := p.SignInFrequency; f != nil {
		text := "sign_in_frequency " + f.Every.String()
		if f.EveryTime {
			text = "sign_in_frequency every_time"
		}
		if f.Secondary {
			text += " secondary"
		}
		parts = append(parts, text)
	}
	if p.PersistentBrowser != "" {
		parts = append(parts, "persistent_browser "+p.PersistentBrowser)
	}
	return strings.Join(parts, "; ")
}

func whatIfCommand() *cobra.Command {
	s := &server{}
	c := &cobra.Command{
		Use: "what-if --user <user>", Short: "Say what would become of a sign-in, and which policies would apply", Args: cobra.NoArgs,
		Long: `Say what would become of a sign-in, and which policies would apply to it.

It asks the code that decides about real sign-ins, with the user as directory and account have him now, and with what you say of the
sign-in. What you leave out is not known: a policy that looks at it applies then, as it does to a real sign-in. Nothing is changed,
and nobody is signed in.`,
		Example: `  caddy-mfa mfa policy what-if --user alice --application hr --ip 203.0.113.9
  caddy-mfa mfa policy what-if --user alice --application hr --proof password,totp --device compliant
  caddy-mfa mfa policy what-if --user bob --user-action register_security_info --country NL`,
	}
	s.flags(c)
	f := c.Flags()
	for name, usage := range map[string]string{
		"user":         "whose sign-in",
		"application":  "the application that is entered (default: our own pages)",
		"user-action":  "what is begun in place of entering an application: register_security_info",
		"client-app":   "browser, mobile_and_desktop, exchange_active_sync or other (default: browser)",
		"ip":           "the client's address",
		"country":      "the country of the address, as in NL, or none (default: as geoip says)",
		"platform":     "android, ios, windows, windows_phone, macos or linux",
		"device":       "what the device's certificate says: compliant, domain_joined, or both with a comma",
		"sign-in-risk": "low, medium, high or none",
		"user-risk":    "low, medium, high or none",
		"proof":        "what was just proven: password, passkey, push, totp, sms, voice, email, recovery_code, temporary_access_pass, remembered_browser, with commas (default: password)",
	} {
		f.String(name, "", usage)
	}
	c.RunE = run(func(c *cobra.Command, _ []string) error {
		query := url.Values{}
		for _, name := range queryWords {
			if text, _ := f.GetString(strings.ReplaceAll(name, "_", "-")); text != "" {
				query.Set(name, text)
			}
		}
		if _, err := parseQuery(query); err != nil {
			return err
		}
		var answer admin.WhatIf
		if err := s.call(http.MethodGet, "/mfa/policy/what-if?"+query.Encode(), nil, &answer); err != nil {
			return err
		}
		return s.print(c, answer, func(w io.Writer) { printWhatIf(w, &answer) })
	})
	return c
}

// printWhatIf writes the decision in a sentence, then the policies that apply, then those that don't.
func printWhatIf(w io.Writer, a *admin.WhatIf) {
	fmt.Fprintln(w, sentence(a))
	for _, warning := range a.Warnings {
		fmt.Fprintf(w, "Note: %s.\n", warning)
	}
	if len(a.Policies) == 0 {
		fmt.Fprintln(w, "\nThere are no policies.")
		return
	}
	for _, applies := range []bool{true, false} {
		title, heads := "\nPolicies that apply:", "  NAME\tSTATE\tCONTROLS\tRESULT\tNOTE"
		if !applies {
			title, heads = "\nPolicies that don't apply:", "  NAME\tSTATE\tWHY"
		}
		fmt.Fprintln(w, title)
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		rows := 0
		for _, p := range a.Policies {
			if p.Applies != applies {
				continue
			}
			if rows++; rows == 1 {
				fmt.Fprintln(t, heads)
			}
			state := wordOf(states, p.State)
			if applies {
				controls := controlWords(slices.Concat(p.GrantControls, p.SessionControls))
				fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", plain(p.DisplayName), state, dash(plain(controls)), results[p.Result], dash(reasonWords(a, p.Reason)))
			} else {
				fmt.Fprintf(t, "  %s\t%s\t%s\n", plain(p.DisplayName), state, dash(reasonWords(a, p.Reason)))
			}
		}
		t.Flush()
		if rows == 0 {
			fmt.Fprintln(w, "  none")
		}
	}
}

// controlWords gives the Caddyfile's words for Graph's.
func controlWords(controls []string) string {
	words := make([]string, len(controls))
	for i, c := range controls {
		name, isStrength := strings.CutPrefix(c, policy.GrantStrength)
		switch word, ok := wordsOfControls[c]; {
		case ok:
			words[i] = word
		case isStrength:
			words[i] = "strength:" + wordOf(strengths, name)
		default:
			words[i] = c
		}
	}
	return strings.Join(words, ", ")
}

var wordsOfControls = map[string]string{
	policy.GrantBlock: "block", policy.GrantMFA: "mfa", policy.GrantCompliantDevice: "compliant_device", policy.GrantDomainJoinedDevice: "domain_joined_device",
	policy.GrantPasswordChange: "password_change", policy.GrantTerms: "terms",
	policy.SessionSignInFrequency: "sign_in_frequency", policy.SessionPersistence: "persistent_browser",
}

// results says in words what a policy that applies comes to.
var results = map[string]string{
	policy.AppliedSuccess: "satisfied", policy.AppliedFailure: "not satisfied", policy.AppliedReportOnlySuccess: "would be satisfied",
	policy.AppliedReportOnlyInterrupted: "would ask", policy.AppliedReportOnlyFailure: "would refuse",
}

// reasonWords says in words why a policy does not apply, or why it does though something is not known.
func reasonWords(a *admin.WhatIf, reason string) string {
	target := "our own pages"
	if a.Application != "" {
		target = a.Application
	}
	switch policy.Unmet(reason) {
	case policy.UnmetState:
		return "it is disabled"
	case policy.UnmetUsers:
		return a.User + " is not among its users"
	case policy.UnmetTarget:
		return "it does not guard " + target
	case policy.UnmetAction:
		if a.UserAction != "" {
			return "it guards applications, not a user action"
		}
		return "it guards a user action, not applications"
	case policy.UnmetClientApp:
		return "it is for other client apps"
	case policy.UnmetPlatform:
		return "it is for other platforms"
	case policy.UnmetLocation:
		return "it is for other locations"
	case policy.UnmetDevices:
		return "it is for other devices"
	case policy.UnmetSignInRisk:
		return "it is for another sign-in risk"
	case policy.UnmetUserRisk:
		return "it is for another user risk"
	case policy.NotEnoughInformation:
		return "applies because something that it looks at is not known"
	}
	return ""
}

// sentence says in words what would happen.
func sentence(a *admin.WhatIf) string {
	d, what, remembered := &a.Decision, a.User, ""
	into := "reaches our own pages"
	switch {
	case a.UserAction != "":
		into = "may register, change or remove factors"
	case a.Application != "":
		into = "gets into " + a.Application
	}
	methods := join(d.Methods)
	switch d.Action {
	case policy.Allow:
		what += " " + into
		switch d.Reason {
		case policy.InGrace:
			what += fmt.Sprintf(", and can put off registering a second factor until %s", d.GraceEnds.Local().Format("2006-01-02 15:04 MST"))
		case policy.NoPolicyApplies, policy.DefaultsOff:
			what += " on the password alone: nothing asks for more"
			if a.UserAction != "" {
				what = a.User + " " + into + ": no policy asks for more"
			}
		case policy.BrowserRemembered:
			what += ": the browser is remembered, which is enough"
		case policy.MFASatisfied, policy.PolicySatisfied:
			what += ": what was proven is enough"
		}
	case policy.Verify:
		what += " is asked for a second factor: " + methods
		if d.RememberBrowser > 0 {
			remembered = fmt.Sprintf(" The browser can be remembered for %s.", config.Duration(time.Duration(d.RememberBrowser)*time.Second))
		}
	case policy.Register:
		what += " is asked to register a second factor"
		switch {
		case d.Reason == policy.RecoveryUsed:
			what += ", because a recovery code lets its owner in for nothing else"
		case methods != "":
			what += ": " + methods
		}
	case policy.Authenticate:
		what += " is asked for the password again"
	case policy.AcceptTerms:
		what += " is asked to accept terms of use: " + strings.Join(d.Terms, ", ")
	default:
		what += " is refused" + refusalWords[d.Reason]
		if needed := needWords[d.Needs]; d.Reason == policy.RegistrationDenied && needed != "" {
			what += "; what is missing is " + needed
		}
	}
	switch {
	case d.Policy != "":
		what += fmt.Sprintf(" (policy %q)", d.Policy)
	case d.DemandedBy == admin.BySecurityDefaults:
		what += " (security defaults)"
	case d.DemandedBy == admin.ByOwnSetting:
		what += " (the user's own setting)"
	}
	what += "."
	for _, limit := range []struct {
		seconds int64
		what    string
	}{{d.PasswordAge, "The password"}, {d.SecondAge, "A second factor"}} {
		if limit.seconds > 0 {
			what += fmt.Sprintf(" %s counts for %s.", limit.what, config.Duration(time.Duration(limit.seconds)*time.Second))
		}
	}
	switch d.Persistent {
	case policy.AlwaysPersistent:
		what += " The session outlives the browser."
	case policy.NeverPersistent:
		what += " The session ends with the browser."
	}
	what += remembered
	if d.StaySignedIn > 0 {
		what += fmt.Sprintf(" The user can stay signed in for %s.", config.Duration(time.Duration(d.StaySignedIn)*time.Second))
	}
	if d.Offer {
		what += " A second factor can be registered."
	}
	return what
}

var refusalWords = map[policy.Reason]string{
	policy.UserDisabled:         ": the directory has the user disabled",
	policy.UserBlocked:          ": an administrator has blocked the user",
	policy.PolicyBlocks:         "",
	policy.LegacyAuth:           ": a second factor is demanded, and a client of this kind can't be asked for one",
	policy.DeviceNotCompliant:   ": the device is not compliant",
	policy.DeviceNotJoined:      ": the device has not joined the domain",
	policy.PasswordChangeNeeded: ": the password must be changed first",
	policy.StrengthUnreachable:  ": nothing that the user has, or can register, is strong enough",
	policy.RegistrationDenied:   ": a second factor must be registered, and may not be from here",
	policy.MFARequired:          ": a second factor must be proven first, and there is none",
}

var needWords = map[string]string{
	policy.NeedPass.String():    "a temporary access pass",
	policy.NeedNetwork.String(): "an address in another network",
	policy.NeedEither.String():  "a temporary access pass, or an address in another network",
	policy.NeedDevice.String():  "a device that the organisation knows",
	policy.NeedOther.String():   "what a policy says",
}
