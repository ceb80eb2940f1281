package graph

import (
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// Strength is an authentication strength that is not built in, as a policy brought it along.
type Strength struct {
	Name string

	// Combinations are the ways to prove oneself that are strong enough, in the words of Graph's authenticationMethodModes:
	// "fido2", "password,softwareOath".
	Combinations []string

	// AAGUIDs are the models of security keys that count as fido2, in lower case. Empty: every passkey does.
	AAGUIDs []string
}

func (s *Strength) equal(t Strength) bool {
	return s.Name == t.Name && slices.Equal(s.Combinations, t.Combinations) && slices.Equal(s.AAGUIDs, t.AAGUIDs)
}

// modes are the ways to prove oneself of which combinations are made.
var modes = []string{
	"password", "voice", "hardwareOath", "softwareOath", "sms", "fido2", "windowsHelloForBusiness", "microsoftAuthenticatorPush",
	"deviceBasedPush", "temporaryAccessPassOneTime", "temporaryAccessPassMultiUse", "email", "x509CertificateSingleFactor",
	"x509CertificateMultiFactor", "federatedSingleFactor", "federatedMultiFactor", "qrCodePin",
}

// combination gives a combination in the spelling of Graph.
func combination(s string) (string, bool) {
	words := strings.Split(s, ",")
	for i, w := range words {
		known := fold(modes, strings.TrimSpace(w))
		if known == "" {
			return "", false
		}
		words[i] = known
	}
	return strings.Join(words, ","), true
}

const strengthPath = "grantControls.authenticationStrength"

// authStrength reads grantControls.authenticationStrength. It gives the name, empty where there is none or it can't be enforced.
func (j *judge) authStrength(v *value) string {
	o := j.object(strengthPath, v)
	if o.empty() {
		return ""
	}
	id, displayName := o.text("id"), o.text("displayName")
	o.take("description", "createdDateTime", "modifiedDateTime", "requirementsSatisfied")
	policyType := o.text("policyType")
	combinations := o.texts("allowedCombinations")
	configurations := o.objects("combinationConfigurations")
	o.rest()
	name, known := strengths[strings.ToLower(id)]
	if id == "" && strings.EqualFold(policyType, "builtIn") {
		// Some tools leave ids out. What is built in is called the same in every tenant.
		name = fold([]string{policy.MFAStrength, policy.PasswordlessStrength, policy.PhishingResistantStrength}, displayName)
		known = name != ""
	}
	if known {
		for _, c := range configurations { // what is built in has none
			if !c.empty() {
				j.refuse(c.path, "")
			}
		}
		return name
	}
	if policyType != "" && !strings.EqualFold(policyType, "custom") {
		j.refuseUnknown(strengthPath+".policyType", policyType)
		return ""
	}
	if _, mapped := j.mapped(id); id != "" && (mapped || len(combinations) == 0 && displayName == "") {
		return j.name(AuthStrength, strengthPath+".id", id) // the operator says which it is here
	}
	name = displayName
	if id == "" {
		name = j.name(AuthStrength, strengthPath+".displayName", displayName)
	}
	if name == "" || len(combinations) == 0 {
		if name == "" && displayName == "" {
			j.refuseUnknown(strengthPath, "without a name")
		}
		return name
	}
	if slices.Contains([]string{policy.MFAStrength, policy.PasswordlessStrength, policy.PhishingResistantStrength}, name) {
		j.refuseUnknown(strengthPath+".displayName", name+" is built in, and this is another one")
		return ""
	}
	s := &Strength{Name: name}
	for _, text := range combinations {
		c, ok := combination(text)
		if !ok {
			j.refuse(strengthPath, text)
			return ""
		}
		s.Combinations = append(s.Combinations, c)
	}
	for _, c := range configurations {
		if !j.configuration(c, s) {
			return ""
		}
	}
	j.strength = s
	return name
}

var aaguid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// configuration takes the models of security keys, and refuses what else bounds a combination: issuers and policies of certificates.
func (j *judge) configuration(c *object, s *Strength) bool {
	if c.empty() {
		return true
	}
	c.take("id")
	applies := c.texts("appliesToCombinations")
	if models := c.texts("allowedAAGUIDs"); len(models) > 0 {
		for i := range models {
			models[i] = strings.ToLower(models[i])
		}
		// Here they bound every passkey of the strength, and there is one list of them.
		fido2 := len(applies) == 1 && strings.EqualFold(applies[0], "fido2") && slices.Contains(s.Combinations, "fido2")
		if !fido2 || len(s.AAGUIDs) > 0 || slices.ContainsFunc(models, func(m string) bool { return !aaguid.MatchString(m) }) {
			j.refuse(strengthPath, "allowedAAGUIDs")
			return false
		}
		s.AAGUIDs = models
	}
	for _, bound := range []string{"allowedIssuerSkis", "allowedPolicyOIDs", "allowedIssuers"} {
		if !c.one(bound).empty() {
			j.refuse(strengthPath, bound)
			return false
		}
	}
	c.rest()
	return true
}

// conflict refuses a strength that has the name of another one.
func (j *judge) conflict(others []Strength) {
	if j.strength == nil {
		return
	}
	for _, other := range others {
		if other.Name == j.strength.Name && !j.strength.equal(other) {
			j.refuseUnknown(strengthPath+".displayName", other.Name+" is defined otherwise in a policy before this one")
		}
	}
}
