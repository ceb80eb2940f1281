package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/policy/graph"
	"github.com/caddy-mfa/caddy-mfa/internal/signinlog"
)

// policyEndpoints serves what an administrator asks about policy. None of it changes anything. Without a log, signIns is nil.
func policyEndpoints(handle func(pattern string, serve func(r *http.Request) (any, error)), s *admin.Service, signIns *signinlog.Log) {
	handle("GET /mfa/policies", func(*http.Request) (any, error) {
		list := make([]config.Policy, len(s.Policy.Policies))
		for i := range s.Policy.Policies {
			list[i] = writtenPolicy(&s.Policy.Policies[i])
		}
		return list, nil
	})
	handle("GET /mfa/policies/graph", func(*http.Request) (any, error) {
		data, err := graph.Marshal(s.Policy.Policies, strengthsOf(s.Policy))
		return json.RawMessage(data), err
	})
	handle("POST /mfa/policy/replay", func(r *http.Request) (any, error) { return replaySignIns(r, s, signIns, time.Now()) })
	handle("GET /mfa/policy/lint", func(r *http.Request) (any, error) { return s.Lint(r.Context(), time.Now()) })
	handle("GET /mfa/policy/what-if", func(r *http.Request) (any, error) {
		q, err := parseQuery(r.URL.Query())
		if err != nil {
			return nil, badInput{err}
		}
		return s.WhatIf(r.Context(), q, time.Now())
	})
}

// replaySignIns runs policies, in the form of Graph and with names, over recorded sign-ins.
func replaySignIns(r *http.Request, s *admin.Service, log *signinlog.Log, now time.Time) (any, error) {
	if log == nil {
		return nil, errSignInLogOff
	}
	if err := r.ParseForm(); err != nil {
		return nil, badInput{fmt.Errorf("reading policies: %w", err)}
	}
	form := maps.Clone(r.PostForm)
	policies := form.Get("policies")
	delete(form, "policies")
	filter, err := parseFilter(form, now)
	if err != nil {
		return nil, err
	}
	imported := graph.Import([]graph.File{{Name: "policies", Data: []byte(policies)}}, nil, graph.Options{})
	if err := notLoaded(imported); err != nil {
		return nil, badInput{err}
	}
	strengths := make([]policy.Strength, len(imported.Strengths))
	for i, strength := range imported.Strengths {
		strengths[i] = policy.Strength{Name: strength.Name, Combinations: strength.Combinations}
	}
	replay, err := s.Replay(r.Context(), imported.Policies, strengths, recorded(r.Context(), log, filter))
	if errors.Is(err, admin.ErrPolicies) {
		err = badInput{err}
	}
	return replay, err
}

// recorded gives every sign-in that the filter wants, the newest first.
func recorded(ctx context.Context, log *signinlog.Log, f signinlog.Filter) iter.Seq2[audit.SignIn, error] {
	return func(yield func(audit.SignIn, error) bool) {
		for f.Limit = signinlog.MaxLimit; ; {
			page, err := log.List(ctx, f)
			if err != nil {
				yield(audit.SignIn{}, err)
				return
			}
			for _, s := range page.SignIns {
				if !yield(s, nil) {
					return
				}
			}
			if f.After = page.Next; f.After == "" {
				return
			}
		}
	}
}

// notLoaded says what keeps policies from being loaded. Those that can't apply here are none of it.
func notLoaded(result *graph.Result) error {
	var mistakes []error
	for _, err := range result.Errors {
		mistakes = append(mistakes, err)
	}
	for _, v := range result.Verdicts {
		switch {
		case v.Loaded, v.Verdict == graph.NotApplicable:
		case v.Verdict == graph.Unresolved:
			mistakes = append(mistakes, fmt.Errorf("policy %q: an id has no name", v.DisplayName))
		default:
			mistakes = append(mistakes, fmt.Errorf("policy %q can't be enforced here: %s", v.DisplayName, strings.Join(v.Parts, "; ")))
		}
	}
	return errors.Join(mistakes...)
}

// strengthsOf gives the authentication strengths that are not built in, as package graph has them.
func strengthsOf(rules *policy.Set) []graph.Strength {
	strengths := make([]graph.Strength, len(rules.Strengths))
	for i, strength := range rules.Strengths {
		strengths[i] = graph.Strength{Name: strength.Name, Combinations: strength.Combinations, AAGUIDs: strength.AAGUIDs}
	}
	return strengths
}

// queryWords are the parameters of a question. The command has an option for each.
var queryWords = []string{
	"user", "application", "user_action", "client_app", "ip", "country", "platform", "device", "sign_in_risk", "user_risk", "proof",
}

// parseQuery reads a question in the words of the Caddyfile. The error joins every mistake.
func parseQuery(v url.Values) (q admin.Query, err error) {
	var mistakes []error
	wrong := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if !slices.Contains(queryWords, name) {
			wrong("there is no parameter %q; want some of %s", name, strings.Join(queryWords, ", "))
		} else if len(v[name]) > 1 {
			wrong("the parameter %s is there twice; give it once", name)
		}
	}
	if q.User = v.Get("user"); q.User == "" {
		wrong("whose sign-in? Give the name of a user, as in --user alice")
	}
	q.Application = v.Get("application")
	q.UserAction = word(v, "user_action", userActions, wrong)
	if q.Application != "" && q.UserAction != "" {
		wrong("give an application or a user action, not both: one sign-in is for one of them")
	}
	q.Client.App = policy.Browser
	if v.Get("client_app") != "" {
		q.Client.App = word(v, "client_app", clientApps, wrong)
	}
	if q.Client.Platform = word(v, "platform", platforms, wrong); q.Client.Platform == policy.AllPlatforms {
		wrong("a device has one platform, not all of them")
	}
	if text := v.Get("ip"); text != "" {
		if q.Client.Address, err = netip.ParseAddr(text); err != nil {
			wrong("%q is no address; want one as in 203.0.113.9 or 2001:db8::1", text)
		}
		q.Client.Address = q.Client.Address.Unmap()
	}
	if text := v.Get("country"); text != "" {
		q.Client.Country, q.Client.CountryKnown = strings.ToUpper(text), true
		if text == "none" {
			q.Client.Country = ""
		} else if err := config.CheckCountry(q.Client.Country); err != nil {
			wrong("%v; or none, for an address that belongs to no country", err)
		}
	}
	q.SignInRisk, q.UserRisk = word(v, "sign_in_risk", risks, wrong), word(v, "user_risk", risks, wrong)
	for _, text := range wordList(v.Get("device")) {
		q.Client.Device.Known = true
		switch text {
		case "compliant":
			q.Client.Device.Compliant = true
		case "domain_joined":
			q.Client.Device.DomainJoined = true
		default:
			wrong("a device is compliant, domain_joined, or both, not %q", text)
		}
	}
	for _, text := range wordList(v.Get("proof")) {
		method := mfa.Method(text)
		if !slices.Contains(proofMethods, method) {
			wrong("there is no proof %q; want some of %s", text, join(proofMethods))
		}
		q.Proofs = append(q.Proofs, method)
	}
	if len(q.Proofs) > 0 && !slices.Contains(q.Proofs, mfa.Password) && !slices.Contains(q.Proofs, mfa.Passkey) {
		wrong("the password comes first, or a passkey in its place: nothing is decided before; add it, as in --proof password,%s", join(q.Proofs))
	}
	return q, errors.Join(mistakes...)
}

var proofMethods = []mfa.Method{mfa.Password, mfa.TOTP, mfa.Passkey, mfa.Push, mfa.SMS, mfa.Voice, mfa.Email, mfa.RecoveryCode, mfa.TemporaryAccessPass, mfa.RememberedBrowser}

// word gives what a parameter stands for.
func word[T ~string](v url.Values, name string, meaning map[string]T, wrong func(string, ...any)) T {
	text := v.Get(name)
	value, ok := meaning[text]
	if text != "" && !ok {
		wrong("there is no %s %q; want one of %s", strings.ReplaceAll(name, "_", " "), text, strings.Join(slices.Sorted(maps.Keys(meaning)), ", "))
	}
	return value
}

// wordList cuts a list at its commas.
func wordList(text string) []string {
	if text == "" {
		return nil
	}
	words := strings.Split(text, ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	return words
}
