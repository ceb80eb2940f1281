package graph

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// randomGraphPolicy is a policy with parts that can be evaluated, but not enforced yet: levels of risk, a new password.
func randomGraphPolicy(g *rand.Rand) map[string]any {
	pick := func(some ...any) any { return some[g.IntN(len(some))] }
	list := func(some ...any) []any {
		out := []any{}
		for _, s := range some {
			if g.IntN(2) == 0 {
				out = append(out, s)
			}
		}
		return out
	}
	conditions := map[string]any{
		"users":          map[string]any{"includeUsers": pick([]any{"All"}, []any{"alice"}, []any{"bob"}), "excludeGroups": list("Staff", "Finance")},
		"applications":   map[string]any{"includeApplications": pick([]any{"All"}, []any{"hr"}), "excludeApplications": list("hr")},
		"clientAppTypes": pick([]any{"all"}, []any{"browser"}, []any{"browser", "mobileAppsAndDesktopClients"}),
	}
	for _, levels := range []string{"signInRiskLevels", "userRiskLevels"} {
		conditions[levels] = list("low", "medium", "high")
	}
	if g.IntN(3) == 0 {
		conditions["platforms"] = map[string]any{"includePlatforms": pick([]any{"all"}, []any{"windows"}), "excludePlatforms": list("windows", "iOS")}
	}
	if g.IntN(3) == 0 {
		conditions["locations"] = map[string]any{"includeLocations": pick([]any{"All"}, []any{"office"}), "excludeLocations": list("office")}
	}
	p := map[string]any{"displayName": "policy", "state": "enabled", "conditions": conditions}
	controls := list("mfa", "compliantDevice", "domainJoinedDevice", "passwordChange")
	if g.IntN(4) == 0 || len(controls) == 0 {
		controls = []any{"block"}
	}
	if g.IntN(5) > 0 {
		p["grantControls"] = map[string]any{"operator": pick("AND", "OR"), "builtInControls": controls}
	}
	session := map[string]any{}
	if g.IntN(3) == 0 {
		session["signInFrequency"] = map[string]any{
			"isEnabled": true, "value": 1, "type": "hours", "frequencyInterval": "timeBased", "authenticationType": pick("primaryAndSecondaryAuthentication", "secondaryAuthentication"),
		}
	}
	if g.IntN(4) == 0 {
		session["persistentBrowser"] = map[string]any{"isEnabled": true, "mode": pick("always", "never")}
	}
	if len(session) > 0 {
		p["sessionControls"] = session
	}
	return p
}

func randomPartialFacts(g *rand.Rand) *policy.Facts {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	f := &policy.Facts{
		Now: now, Application: []string{"hr", "wiki", ""}[g.IntN(3)], Registered: g.IntN(2) == 0, Entered: g.IntN(2) == 0,
		User:       &mfa.User{Name: "alice", Canonical: []string{"alice", "bob"}[g.IntN(2)], Groups: [][]string{nil, {"Staff"}, {"Finance", "Staff"}}[g.IntN(3)]},
		SignInRisk: []policy.Risk{policy.NoRisk, policy.LowRisk, policy.MediumRisk, policy.HighRisk}[g.IntN(4)],
		UserRisk:   []policy.Risk{policy.NoRisk, policy.LowRisk, policy.MediumRisk, policy.HighRisk}[g.IntN(4)],
		Client: mfa.Client{
			App: mfa.Browser, Platform: []mfa.Platform{"", policy.Windows, policy.IOS}[g.IntN(3)],
			Address: []netip.Addr{{}, netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("192.0.2.1")}[g.IntN(3)],
			Device:  mfa.Device{Known: g.IntN(2) == 0, Compliant: g.IntN(2) == 0, DomainJoined: g.IntN(2) == 0},
		},
	}
	if f.Registered {
		f.Methods = policy.MethodsOf(mfa.TOTP, false)
	}
	for _, m := range []mfa.Method{mfa.Password, mfa.TOTP} {
		if m == mfa.Password || g.IntN(2) == 0 {
			f.Proofs = f.Proofs.With(mfa.Proof{Method: m, At: now.Add(-time.Duration(g.IntN(120)) * time.Minute)})
		}
	}
	return f
}

// What is left out of a policy makes it stricter, or the policy is not loaded: whoever it lets in without these parts, it would let in
// with them.
func TestAPartialPolicyIsNeverWeaker(t *testing.T) {
	g := rand.New(rand.NewPCG(1, 2))
	office := []policy.NamedLocation{{Name: "office", Ranges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Trusted: true}}
	loaded, compared := 0, 0
	for range 4000 {
		raw, err := json.Marshal(randomGraphPolicy(g))
		if err != nil {
			t.Fatal(err)
		}
		files := []File{{Name: "policy.json", Data: raw}}
		whole := Import(files, nil, Options{RiskDetected: true, PasswordChange: true})
		part := Import(files, nil, Options{AllowPartial: true})
		if len(whole.Policies) != 1 || len(part.Policies) != 1 || part.Verdicts[0].Verdict != Refused {
			continue
		}
		loaded++
		set := func(r *Result) *policy.Set {
			// Risk and new passwords are mistakes in a set that is to be enforced; it decides about them all the same.
			s, _ := policy.New(policy.Model{Defaults: policy.SecurityDefaults{Off: true}, Policies: r.Policies, Locations: office})
			return s
		}
		original, partial := set(whole), set(part)
		for range 60 {
			f := randomPartialFacts(g)
			d, p := original.Decide(f), partial.Decide(f)
			compared++
			if p.Action == policy.Allow && d.Action != policy.Allow {
				t.Fatalf("the original says %v (%s), the part %v (%s)\n%s\n%+v\nleft out: %v", d.Action, d.Reason, p.Action, p.Reason, raw, f, part.Verdicts[0].Parts)
			}
			if p.PasswordSince.Before(d.PasswordSince) || p.SecondSince.Before(d.SecondSince) || d.Persistent == policy.NeverPersistent && p.Persistent != policy.NeverPersistent ||
				p.Persistent == policy.AlwaysPersistent && d.Persistent != policy.AlwaysPersistent {
				t.Fatalf("session controls became weaker: %+v, %+v\n%s", d, p, raw)
			}
		}
	}
	if loaded < 200 {
		t.Fatalf("only %d policies were loaded in part, and %d decisions compared", loaded, compared)
	}
}
