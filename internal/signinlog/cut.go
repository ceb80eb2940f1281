package signinlog

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
)

// Bounds of one record, so that nobody can make the log grow by what he sends.
const (
	// MaxRecord is how large a sign-in is at most, in bytes of JSON.
	MaxRecord = 15 << 10

	maxText     = 256  // bytes in what a person or a browser is called
	maxName     = 128  // bytes in the name of a thing
	maxWord     = 64   // bytes in a word
	maxDetails  = 12   // proofs
	maxPolicies = 4096 // bytes of JSON in all policies together
	maxControls = 16   // of one policy, of a kind
)

// cut gives a copy of r in which nothing is too long. Of the policies, those are kept first that had something to say.
func cut(r audit.SignIn) audit.SignIn {
	r.Created = cutTime(r.Created)
	for n, texts := range map[int][]*string{
		maxText: {
			&r.UserDisplayName, &r.UserPrincipalName, &r.UserID, &r.UserAgent, &r.Status.FailureReason, &r.Device.DeviceID, &r.Device.DisplayName,
		},
		maxName: {&r.AppDisplayName, &r.Device.OperatingSystem, &r.Device.Browser, &r.Location.City},
		maxWord: {
			&r.ID, &r.IPAddress, &r.ClientAppUsed, &r.CorrelationID, &r.ConditionalAccess, &r.Requirement, &r.RiskLevel, &r.RiskState,
			&r.Device.TrustType, &r.Location.CountryOrRegion,
		},
	} {
		for _, text := range texts {
			*text = audit.Plain(*text, n)
		}
	}
	details := make([]audit.Detail, 0, min(len(r.Details), maxDetails))
	for _, d := range r.Details[:min(len(r.Details), maxDetails)] {
		d.Time, d.Method, d.Result = cutTime(d.Time), audit.Plain(d.Method, 32), audit.Plain(d.Result, 32)
		details = append(details, d)
	}
	r.Details = details
	r.Policies = cutPolicies(r.Policies)
	return r
}

func cutPolicies(all []audit.AppliedPolicy) []audit.AppliedPolicy {
	short := make([]audit.AppliedPolicy, len(all))
	kept, size := make([]bool, len(all)), 0
	for _, applied := range []bool{true, false} {
		for i, p := range all {
			if p.Result.Applied() != applied {
				continue
			}
			p.ID, p.DisplayName, p.Result = audit.Plain(p.ID, maxText), audit.Plain(p.DisplayName, maxText), audit.PolicyResult(audit.Plain(string(p.Result), maxWord))
			p.GrantControls, p.SessionControls = cutControls(p.GrantControls), cutControls(p.SessionControls)
			if n := len(marshal(p)); size+n <= maxPolicies {
				short[i], kept[i], size = p, true, size+n
			}
		}
	}
	policies := make([]audit.AppliedPolicy, 0, len(all))
	for i, p := range short {
		if kept[i] {
			policies = append(policies, p)
		}
	}
	return policies
}

// cutTime is t in UTC, or no time if it is none that can be written and compared.
func cutTime(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 1970 || t.Year() > 2200 {
		return time.Time{}
	}
	return t
}

func cutControls(all []string) []string {
	controls := make([]string, 0, min(len(all), maxControls))
	for _, c := range all[:min(len(all), maxControls)] {
		controls = append(controls, audit.Plain(c, maxWord))
	}
	return controls
}

// marshal writes JSON as short as it can be: < is not \u003c.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // plain values can be written
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
