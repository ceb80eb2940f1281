package caddymodule

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/policy/graph"
)

// importPolicies adds the policies of files to a model. One that can't be enforced as it is in Entra is a mistake, as is one whose ids
// have no name: left out, it would be weaker than nothing said. Every mistake is reported.
func (a *App) importPolicies(m *policy.Model) error {
	var mistakes []error
	for _, i := range a.PolicyImports {
		imported, err := readImport(i)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		for _, v := range imported.Verdicts {
			switch {
			case v.Verdict == graph.NotApplicable:
				a.log.Info("a policy can't apply in front of web applications, and is not loaded", zap.String("policy", v.DisplayName), zap.String("file", v.File), zap.Strings("parts", v.Parts))
			case v.Verdict == graph.Refused && v.Loaded:
				a.log.Warn("a policy is loaded without what can't be enforced", zap.String("policy", v.DisplayName), zap.String("file", v.File), zap.Strings("parts", v.Parts))
			}
		}
		for _, p := range imported.Policies {
			if p.Grant.CompliantDevice && a.DeviceRules.Compliant == "" || p.Grant.DomainJoinedDevice && a.DeviceRules.DomainJoined == "" {
				a.log.Warn("a policy demands a device that no `device_rule` describes, so that nobody has one", zap.String("policy", p.Name))
			}
		}
		m.Policies = append(m.Policies, imported.Policies...)
		for _, s := range imported.Strengths {
			// Exports of one tenant have the same ones.
			if !slices.ContainsFunc(m.Strengths, func(other policy.Strength) bool {
				return other.Name == s.Name && slices.Equal(other.Combinations, s.Combinations) && slices.Equal(other.AAGUIDs, s.AAGUIDs)
			}) {
				m.Strengths = append(m.Strengths, policy.Strength{Name: s.Name, Combinations: s.Combinations, AAGUIDs: s.AAGUIDs})
			}
		}
	}
	if len(mistakes) > 0 {
		return fmt.Errorf("policies import:\n%w", errors.Join(mistakes...))
	}
	return nil
}

// readImport judges the files of one import. The error says everything that keeps one of them from being loaded.
func readImport(i config.PolicyImport) (*graph.Result, error) {
	var names *graph.Names
	if i.Names != "" {
		text, err := os.ReadFile(i.Names)
		if err != nil {
			return nil, fmt.Errorf("reading names: %w", err)
		}
		if names, err = graph.ParseNames(text); err != nil {
			return nil, fmt.Errorf("reading names: %s: %w", i.Names, err)
		}
	}
	var paths []string
	var mistakes []error
	for _, pattern := range i.Files {
		matches, err := filepath.Glob(pattern)
		switch {
		case err != nil:
			mistakes = append(mistakes, fmt.Errorf("%s: %w", pattern, err))
		case len(matches) == 0:
			absolute, err := filepath.Abs(pattern)
			if err != nil {
				absolute = pattern
			}
			mistakes = append(mistakes, fmt.Errorf("%s: there is no such file", absolute))
		}
		paths = append(paths, matches...)
	}
	found := policyFiles(paths)
	mistakes = append(mistakes, found.errs...)
	result := graph.Import(found.files, names, graph.Options{AllowPartial: i.AllowPartial})
	for _, err := range result.Errors {
		if !found.passedOver(err, result) {
			mistakes = append(mistakes, err)
		}
	}
	for _, v := range result.Verdicts {
		switch {
		case v.Verdict == graph.Refused && !v.Loaded:
			mistakes = append(mistakes, fmt.Errorf("%s: policy %q can't be enforced here: %s", v.File, v.DisplayName, strings.Join(v.Parts, "; ")))
		case v.Verdict == graph.Unresolved:
			var ids []string
			for _, id := range v.IDs {
				ids = append(ids, fmt.Sprintf("%s (%s)", id.ID, id.Kind))
			}
			mistakes = append(mistakes, fmt.Errorf("%s: policy %q: these ids have no name in the mapping file: %s", v.File, v.DisplayName, strings.Join(ids, ", ")))
		}
	}
	if len(mistakes) > 0 {
		mistakes = append(mistakes, errors.New("`caddy-mfa mfa policy import` says more"))
	}
	return result, errors.Join(mistakes...)
}
