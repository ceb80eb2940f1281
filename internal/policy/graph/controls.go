package graph

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// The controls of grantControls.builtInControls, by whether they can be enforced here.
const (
	blockControl      = "block"
	mfaControl        = "mfa"
	compliantControl  = "compliantDevice"
	joinedControl     = "domainJoinedDevice"
	passwordControl   = "passwordChange"
	approvedControl   = "approvedApplication"
	protectedControl  = "compliantApplication"
	remediatedControl = "riskRemediation"
)

var controls = []string{
	blockControl, mfaControl, compliantControl, joinedControl, passwordControl,
	approvedControl, protectedControl, remediatedControl,
}

// grant reads grantControls: what lets somebody in.
func (j *judge) grant(o *object) {
	g := &j.p.Grant
	operator := o.text("operator")
	builtIn, custom, terms := o.texts("builtInControls"), o.texts("customAuthenticationFactors"), o.texts("termsOfUse")
	strength := o.one("authenticationStrength")
	o.rest()
	count := len(builtIn) + len(custom) + len(terms)
	if !strength.empty() {
		count++
	}
	if count == 0 {
		return
	}
	j.demands = true
	switch {
	case strings.EqualFold(operator, "OR"):
		g.Any = true
	case operator == "" && count > 1 || operator != "" && !strings.EqualFold(operator, "AND"):
		j.refuseUnknown("grantControls.operator", or(operator, "missing"))
	}
	for _, text := range builtIn {
		control := fold(controls, text)
		switch control {
		case blockControl:
			g.Block = true
		case mfaControl:
			g.MFA = true
		case compliantControl:
			g.CompliantDevice = true
		case joinedControl:
			g.DomainJoinedDevice = true
		case "":
			j.refuseUnknown("grantControls.builtInControls", text)
		default:
			if control == passwordControl && j.opts.PasswordChange {
				g.PasswordChange = true
			} else {
				j.refuse("grantControls.builtInControls", control)
			}
		}
	}
	if custom != nil {
		j.refuse("grantControls.customAuthenticationFactors", strings.Join(custom, ", "))
	}
	g.Terms = j.named(Terms, "grantControls.termsOfUse", terms)
	g.Strength = j.authStrength(strength)
	if g.Block && count > 1 {
		j.refuseUnknown("grantControls.builtInControls", "block beside others")
	}
}

// session reads sessionControls: what comes after the sign-in.
func (j *judge) session(o *object) {
	for _, c := range []struct{ key, detail string }{
		{"applicationEnforcedRestrictions", ""},
		{"cloudAppSecurity", "cloudAppSecurityType"},
		{"secureSignInSession", ""}, // token protection
		{"globalSecureAccessFilteringProfile", "profileId"},
		{"networkAccessSecurity", "policyId"},
	} {
		control := o.object(c.key)
		var detail string
		if c.detail != "" {
			detail = control.text(c.detail)
		}
		if control.on() {
			j.demands = true
			j.refuse(control.path, detail)
		}
		control.rest()
	}
	j.frequency(o.object("signInFrequency"))
	j.persistence(o.object("persistentBrowser"))
	// What is decided is decided again at each request, whether a policy wants it or not.
	evaluation := o.object("continuousAccessEvaluation")
	mode := evaluation.text("mode")
	if on, set := evaluation.truth("isEnabled"); set && !on {
		mode = ""
	}
	switch fold([]string{"strictEnforcement", "strictLocation", "disabled"}, mode) {
	case "disabled":
		j.demands = true
		j.refuse(evaluation.path, "disabled")
	case "":
		if mode != "" {
			j.refuseUnknown(evaluation.at("mode"), mode)
		}
	default:
		j.demands = true
	}
	evaluation.rest()
	// Nor does anybody stay signed in because something is down.
	if yes, _ := o.truth("disableResilienceDefaults"); yes {
		j.demands = true
	}
	o.rest()
}

// maxFrequency is the longest that Entra takes.
const maxFrequency = 365 * 24 * time.Hour

func (j *judge) frequency(o *object) {
	on := o.on()
	unit, interval, authentication := o.text("type"), o.text("frequencyInterval"), o.text("authenticationType")
	count := o.one("value")
	o.rest()
	if !on {
		return
	}
	j.demands = true
	f := &policy.SignInFrequency{}
	switch fold([]string{"primaryAndSecondaryAuthentication", "secondaryAuthentication"}, or(authentication, "primaryAndSecondaryAuthentication")) {
	case "":
		j.refuseUnknown(o.at("authenticationType"), authentication)
	case "secondaryAuthentication":
		f.SecondaryOnly = true
	}
	value := 0
	if !count.empty() {
		var err error
		if value, err = strconv.Atoi(count.text); count.kind != number || err != nil || value < 0 {
			j.refuseUnknown(o.at("value"), "not a number of hours or days")
			return
		}
	}
	switch strings.ToLower(or(interval, "timeBased")) {
	case "everytime":
		f.EveryTime = true
		if value != 0 {
			j.refuseUnknown(o.at("value"), count.text+" beside every time")
		}
	case "timebased":
		each := map[string]time.Duration{"hours": time.Hour, "days": 24 * time.Hour}[strings.ToLower(unit)]
		if each == 0 {
			j.refuseUnknown(o.at("type"), or(unit, "missing"))
			return
		}
		if value < 1 || value > int(maxFrequency/each) {
			j.refuseUnknown(o.at("value"), strconv.Itoa(value))
			return
		}
		f.Every = time.Duration(value) * each
	default:
		j.refuseUnknown(o.at("frequencyInterval"), interval)
	}
	j.p.Session.SignInFrequency = f
}

func (j *judge) persistence(o *object) {
	on := o.on()
	mode := o.text("mode")
	o.rest()
	if !on {
		return
	}
	j.demands = true
	j.p.Session.Persistent = fold([]policy.Persistence{policy.AlwaysPersistent, policy.NeverPersistent}, mode)
	switch {
	case j.p.Session.Persistent == "":
		j.refuseUnknown(o.at("mode"), or(mode, "missing"))
	case j.p.Session.Persistent == policy.AlwaysPersistent && !slices.Contains(j.p.Conditions.Applications, policy.All):
		// A session is one for all applications: the others would not end with the browser either.
		j.refuseUnknown(o.at("mode"), mode+" for some applications only")
	}
}
