package graph

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// Graph's form of a policy, as far as there is something to say in it.
type (
	setForm struct {
		Value []policyForm `json:"value"`
	}
	policyForm struct {
		ID         string         `json:"id,omitempty"`
		Name       string         `json:"displayName"`
		State      policy.State   `json:"state"`
		Conditions conditionsForm `json:"conditions"`
		Grant      *grantForm     `json:"grantControls"`
		Session    *sessionForm   `json:"sessionControls"`
	}
	conditionsForm struct {
		Users        usersForm        `json:"users"`
		Applications applicationsForm `json:"applications"`
		ClientApps   []string         `json:"clientAppTypes"`
		Platforms    *platformsForm   `json:"platforms,omitempty"`
		Locations    *locationsForm   `json:"locations,omitempty"`
		SignInRisk   []policy.Risk    `json:"signInRiskLevels,omitempty"`
		UserRisk     []policy.Risk    `json:"userRiskLevels,omitempty"`
		Devices      *devicesForm     `json:"devices,omitempty"`
	}
	usersForm struct {
		IncludeUsers  []string `json:"includeUsers,omitempty"`
		IncludeGroups []string `json:"includeGroups,omitempty"`
		IncludeRoles  []string `json:"includeRoles,omitempty"`
		ExcludeUsers  []string `json:"excludeUsers,omitempty"`
		ExcludeGroups []string `json:"excludeGroups,omitempty"`
		ExcludeRoles  []string `json:"excludeRoles,omitempty"`
	}
	applicationsForm struct {
		Include []string            `json:"includeApplications,omitempty"`
		Exclude []string            `json:"excludeApplications,omitempty"`
		Actions []policy.UserAction `json:"includeUserActions,omitempty"`
	}
	platformsForm struct {
		Include []policy.Platform `json:"includePlatforms,omitempty"`
		Exclude []policy.Platform `json:"excludePlatforms,omitempty"`
	}
	locationsForm struct {
		Include []string `json:"includeLocations,omitempty"`
		Exclude []string `json:"excludeLocations,omitempty"`
	}
	devicesForm struct {
		Filter filterForm `json:"deviceFilter"`
	}
	filterForm struct {
		Mode string `json:"mode"`
		Rule string `json:"rule"`
	}
	grantForm struct {
		Operator string        `json:"operator"`
		BuiltIn  []string      `json:"builtInControls"`
		Terms    []string      `json:"termsOfUse,omitempty"`
		Strength *strengthForm `json:"authenticationStrength,omitempty"`
	}
	strengthForm struct {
		ID           string   `json:"id,omitempty"`
		Name         string   `json:"displayName"`
		Combinations []string `json:"allowedCombinations,omitempty"`

		Configurations []modelsForm `json:"combinationConfigurations,omitempty"`
	}
	modelsForm struct {
		Type    string   `json:"@odata.type"`
		Applies []string `json:"appliesToCombinations"`
		Models  []string `json:"allowedAAGUIDs"`
	}
	sessionForm struct {
		Frequency  *frequencyForm   `json:"signInFrequency,omitempty"`
		Persistent *persistenceForm `json:"persistentBrowser,omitempty"`
		Evaluation *evaluationForm  `json:"continuousAccessEvaluation,omitempty"`
	}
	frequencyForm struct {
		Enabled        bool   `json:"isEnabled"`
		Value          int64  `json:"value,omitempty"`
		Unit           string `json:"type,omitempty"`
		Interval       string `json:"frequencyInterval"`
		Authentication string `json:"authenticationType"`
	}
	persistenceForm struct {
		Enabled bool               `json:"isEnabled"`
		Mode    policy.Persistence `json:"mode"`
	}
	evaluationForm struct {
		Mode string `json:"mode"`
	}
)

// Marshal writes policies as Graph's answer to a request for all of them, with names in place of ids. Import reads them back
// equal, without a mapping. A name that looks like an id or like one of Graph's words is written with its kind, as group:All.
//
// It fails for what that form can't say: a sign-in frequency that isn't a whole number of hours, a state that is none, text that isn't
// UTF-8.
func Marshal(policies []policy.Policy, strengths []Strength) ([]byte, error) {
	set := setForm{Value: []policyForm{}}
	for _, p := range policies {
		form, err := formOf(p, strengths)
		if err != nil {
			return nil, fmt.Errorf("policy %q: %w", p.Name, err)
		}
		set.Value = append(set.Value, form)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(set); err != nil {
		return nil, err
	}
	// The encoder replaces what isn't UTF-8, and escapes a backslash by another.
	escapes := bytes.ReplaceAll(out.Bytes(), []byte(`\\`), nil)
	if bytes.ContainsRune(escapes, utf8.RuneError) || bytes.Contains(escapes, []byte(`\ufffd`)) {
		return nil, errors.New("a name that is not UTF-8, or has a replacement character")
	}
	return out.Bytes(), nil
}

func formOf(p policy.Policy, strengths []Strength) (policyForm, error) {
	c := p.Conditions
	form := policyForm{ID: p.ID, Name: p.Name, State: p.State, Conditions: conditionsForm{
		Users: usersForm{
			IncludeUsers: usersOf(c.Users), IncludeGroups: namesOf(Group, c.Users.Groups, userWords...), IncludeRoles: namesOf(Role, c.Users.Roles, userWords...),
			ExcludeUsers: usersOf(c.ExcludeUsers), ExcludeGroups: namesOf(Group, c.ExcludeUsers.Groups, userWords...), ExcludeRoles: namesOf(Role, c.ExcludeUsers.Roles, userWords...),
		},
		Applications: applicationsForm{wordsOf(Application, c.Applications, all, none), wordsOf(Application, c.ExcludeApplications, all), c.UserActions},
		ClientApps:   []string{"all"},
		SignInRisk:   c.SignInRisk,
		UserRisk:     c.UserRisk,
	}}
	if fold([]policy.State{policy.Enabled, policy.Disabled, policy.ReportOnly}, string(p.State)) == "" {
		return form, fmt.Errorf("the state %q is none", p.State)
	}
	if len(c.ClientApps) > 0 {
		form.Conditions.ClientApps = nil
		for _, app := range c.ClientApps {
			form.Conditions.ClientApps = append(form.Conditions.ClientApps, string(app))
		}
	}
	if len(c.Platforms)+len(c.ExcludePlatforms) > 0 {
		form.Conditions.Platforms = &platformsForm{c.Platforms, c.ExcludePlatforms}
	}
	if len(c.Locations)+len(c.ExcludeLocations) > 0 {
		form.Conditions.Locations = &locationsForm{
			wordsOf(Location, c.Locations, policy.All, policy.AllTrusted), wordsOf(Location, c.ExcludeLocations, policy.All, policy.AllTrusted),
		}
	}
	if d := c.Devices; d != nil {
		mode := "include"
		if d.Exclude {
			mode = "exclude"
		}
		form.Conditions.Devices = &devicesForm{filterForm{mode, d.Rule}}
	}
	form.Grant = grantOf(p.Grant, strengths)
	session, err := sessionOf(p.Session)
	if session == nil && form.Grant == nil {
		// A policy must demand something. This one is met by whatever is done here.
		session = &sessionForm{Evaluation: &evaluationForm{"strictLocation"}}
	}
	form.Session = session
	return form, err
}

func usersOf(u policy.Users) []string {
	var words []string
	for _, w := range []struct {
		set  bool
		word string
	}{{u.All, all}, {u.None, none}, {u.Guests, guests}} {
		if w.set {
			words = append(words, w.word)
		}
	}
	return append(words, namesOf(User, u.Users, userWords...)...)
}

// namesOf writes names, which may look like words that mean something where they stand.
func namesOf(kind Kind, names []string, words ...string) []string {
	var out []string
	for _, name := range names {
		out = append(out, written(kind, name, words...))
	}
	return out
}

// wordsOf writes names and words: here a name that is one of the words is that word.
func wordsOf(kind Kind, names []string, words ...string) []string {
	var out []string
	for _, name := range names {
		reserved := []string{all, none, agentResources, policy.AllTrusted}
		for _, w := range words {
			if name == w {
				reserved = nil
			}
		}
		out = append(out, written(kind, name, reserved...))
	}
	return out
}

func grantOf(g policy.Grant, strengths []Strength) *grantForm {
	if g.Empty() {
		return nil
	}
	form := &grantForm{Operator: "AND", BuiltIn: []string{}, Terms: namesOf(Terms, g.Terms)}
	if g.Any {
		form.Operator = "OR"
	}
	for _, c := range []struct {
		set  bool
		name string
	}{
		{g.Block, blockControl}, {g.MFA, mfaControl}, {g.CompliantDevice, compliantControl},
		{g.DomainJoinedDevice, joinedControl}, {g.PasswordChange, passwordControl},
	} {
		if c.set {
			form.BuiltIn = append(form.BuiltIn, c.name)
		}
	}
	if g.Strength != "" {
		form.Strength = strengthOf(g.Strength, strengths)
	}
	return form
}

func strengthOf(name string, defined []Strength) *strengthForm {
	for id, builtIn := range strengths {
		if builtIn == name {
			return &strengthForm{ID: id, Name: name}
		}
	}
	form := &strengthForm{Name: written(AuthStrength, name)}
	for _, s := range defined {
		if s.Name == name {
			form.Combinations = s.Combinations
			if len(s.AAGUIDs) > 0 {
				form.Configurations = []modelsForm{{"#microsoft.graph.fido2CombinationConfiguration", []string{"fido2"}, s.AAGUIDs}}
			}
		}
	}
	return form
}

func sessionOf(s policy.SessionControls) (*sessionForm, error) {
	if s == (policy.SessionControls{}) {
		return nil, nil
	}
	form := &sessionForm{}
	if f := s.SignInFrequency; f != nil {
		form.Frequency = &frequencyForm{Enabled: true, Interval: "everyTime", Authentication: "primaryAndSecondaryAuthentication"}
		if f.SecondaryOnly {
			form.Frequency.Authentication = "secondaryAuthentication"
		}
		if !f.EveryTime {
			const day = 24 * time.Hour
			form.Frequency.Interval, form.Frequency.Unit, form.Frequency.Value = "timeBased", "hours", int64(f.Every/time.Hour)
			if f.Every%day == 0 {
				form.Frequency.Unit, form.Frequency.Value = "days", int64(f.Every/day)
			}
			if f.Every <= 0 || f.Every%time.Hour != 0 || f.Every > maxFrequency {
				return nil, fmt.Errorf("a sign-in frequency of %s: Graph has whole hours, at most %d", f.Every, int(maxFrequency/time.Hour))
			}
		}
	}
	if s.Persistent != "" {
		form.Persistent = &persistenceForm{true, s.Persistent}
	}
	return form, nil
}
