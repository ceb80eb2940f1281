package admin

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// recorded is a sign-in of that many minutes ago.
func (f *asked) recorded(minutes int, user, application, address string, code int, methods ...mfa.Method) audit.SignIn {
	at := f.now.Add(-time.Duration(minutes) * time.Minute)
	r := audit.SignIn{
		ID: fmt.Sprint("id", minutes), CorrelationID: fmt.Sprint("id", minutes), Created: at, UserPrincipalName: user, UserID: "file/" + user, AppDisplayName: application,
		IPAddress: address, ClientAppUsed: audit.ClientBrowser, Requirement: audit.SingleFactor, Status: audit.Status{ErrorCode: code},
		Details: []audit.Detail{}, Policies: []audit.AppliedPolicy{}, RiskLevel: audit.RiskNone, RiskState: audit.RiskNone,
	}
	for _, m := range methods {
		r.Details = append(r.Details, audit.Detail{Time: at, Method: string(m), Succeeded: true})
		if m != mfa.Password {
			r.Requirement = audit.MultiFactor
		}
	}
	return r
}

// log gives records, and then an error if there is one.
func log(err error, records ...audit.SignIn) iter.Seq2[audit.SignIn, error] {
	return func(yield func(audit.SignIn, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(audit.SignIn{}, err)
		}
	}
}

func (f *asked) replay(records []audit.SignIn, policies ...policy.Policy) *Replay {
	f.t.Helper()
	r, err := f.Replay(f.t.Context(), policies, nil, log(nil, records...))
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func TestReplaySaysWhatWouldHaveBeen(t *testing.T) {
	f := newAsked(t)
	windows := f.recorded(7, "alice", "hr", "203.0.113.9", 0, mfa.Password, mfa.TOTP)
	windows.Device.OperatingSystem = "Windows 10"
	several := f.recorded(8, "alice", "hr", "203.0.113.9", 0, mfa.Password)
	several.Suppressed = 12
	records := []audit.SignIn{
		f.recorded(1, "alice", "hr", "203.0.113.9", 0, mfa.Password),           // would be asked for her code
		f.recorded(2, "alice", "hr", "203.0.113.9", 0, mfa.Password, mfa.TOTP), // as it was
		f.recorded(3, "bob", "hr", "203.0.113.9", 0, mfa.Password),             // has nothing registered
		f.recorded(4, "bob", "wiki", "192.0.2.1", 0, mfa.Password),             // no policy is about the wiki
		f.recorded(5, "alice", "crm", "192.0.2.1", 0, mfa.Password),            // from abroad
		f.recorded(6, "alice", "wiki", "198.51.100.7", audit.CodeBlocked, mfa.Password),
		windows, several,
		f.recorded(9, "alice", "hr", "203.0.113.9", audit.CodeInvalidPassword),
		f.recorded(10, "gone", "hr", "203.0.113.9", 0, mfa.Password),
		f.recorded(11, "dora", "wiki", "203.0.113.9", 0, mfa.Password), // she was not disabled then
	}
	r := f.replay(records, examples()...)
	if r.SignIns != 8 || r.Failed != 1 || r.Unknown != 1 || r.Summarized != 12 || !r.Until.Equal(f.now.Add(-time.Minute)) || !r.From.Equal(f.now.Add(-11*time.Minute)) {
		t.Errorf("%+v", r)
	}
	if want := (map[Outcome]int{LetIn: 5, SecondFactor: 2, Blocked: 1}); !reflect.DeepEqual(r.Was, want) {
		t.Errorf("was %v, want %v", r.Was, want)
	}
	// Terms of use stand before the wiki.
	if want := (map[Outcome]int{Asked: 5, SecondFactor: 2, Blocked: 1}); !reflect.DeepEqual(r.Would, want) {
		t.Errorf("would %v, want %v", r.Would, want)
	}
	var changes []string
	for _, c := range r.Changes {
		changes = append(changes, fmt.Sprintf("%s: %s, %s (%s) by %s", c.Reference, c.Was, c.Would, c.Action, c.Policy))
	}
	if want := []string{
		"id1: let_in, asked (verify) by hr needs a code", "id3: let_in, asked (register) by hr needs a code", "id4: let_in, asked (accept_terms) by wiki terms",
		"id5: let_in, blocked (block) by no finance from abroad", "id6: blocked, asked (accept_terms) by wiki terms", "id11: let_in, asked (accept_terms) by wiki terms",
	}; !reflect.DeepEqual(changes, want) || r.Changed != len(want) {
		t.Errorf("%q, want\n%q", changes, want)
	}
	if want := []Tally{{"alice", 5, 1, 2, 3}, {"bob", 2, 0, 2, 2}, {"dora", 1, 0, 1, 1}}; !reflect.DeepEqual(r.Users, want) {
		t.Errorf("%+v, want %+v", r.Users, want)
	}
	if want := []Tally{{"crm", 1, 1, 0, 1}, {"wiki", 3, 0, 3, 3}, {"hr", 4, 0, 2, 2}}; !reflect.DeepEqual(r.Applications, want) {
		t.Errorf("%+v, want %+v", r.Applications, want)
	}
	onWindows := everybody("no windows", func(p *policy.Policy) {
		p.Grant, p.Conditions.Platforms = policy.Grant{Block: true}, []policy.Platform{policy.Windows}
	})
	if r := f.replay(records, onWindows); r.Would[Blocked] != 1 || !slices.ContainsFunc(r.Changes, func(c Change) bool { return c.Reference == "id7" && c.Would == Blocked }) {
		t.Errorf("%+v", r)
	}
}

// TestThePoliciesInForceChangeNothing replays what was decided by the very policies.
func TestThePoliciesInForceChangeNothing(t *testing.T) {
	f := newAsked(t, examples()...)
	var records []audit.SignIn
	codes := map[policy.Action]int{policy.Allow: 0, policy.Verify: audit.CodeMFARequired, policy.AcceptTerms: audit.CodeMFARequired, policy.Register: audit.CodeMustRegister, policy.Block: audit.CodeBlocked}
	for _, user := range []string{"alice", "bob", "carol"} {
		for _, application := range []string{"hr", "wiki", "crm"} {
			for _, address := range []string{"203.0.113.9", "198.51.100.7", "192.0.2.1"} {
				for _, proofs := range [][]mfa.Method{{mfa.Password}, {mfa.Password, mfa.TOTP}} {
					if user == "bob" && len(proofs) > 1 {
						continue // he has none
					}
					r := f.recorded(len(records)+1, user, application, address, 0, proofs...)
					c := (&replay{Service: f.Service}).client(&r)
					d := f.ask(Query{User: user, Application: application, Client: c, Proofs: proofs}).Decision
					r.Status.ErrorCode, r.Requirement = codes[d.Action], d.Requirement
					records = append(records, r)
				}
			}
		}
	}
	if r := f.replay(records, examples()...); r.SignIns != len(records) || r.Changed != 0 || len(r.Would) < 4 {
		t.Errorf("%+v", r)
	}
}

func TestReplayFails(t *testing.T) {
	f := newAsked(t)
	moon := everybody("moon", func(p *policy.Policy) { p.Conditions.Locations = []string{"moon"} })
	if _, err := f.Replay(t.Context(), []policy.Policy{moon}, nil, log(nil)); !errors.Is(err, ErrPolicies) {
		t.Errorf("a place that there is not: %v", err)
	}
	down := errors.New("down")
	if _, err := f.Replay(t.Context(), nil, nil, log(down, f.recorded(1, "alice", "hr", "192.0.2.1", 0, mfa.Password))); !errors.Is(err, down) {
		t.Errorf("a log that can't be read to its end: %v", err)
	}
	if r := f.replay(nil); r.SignIns != 0 || r.Changes == nil || r.Users == nil {
		t.Errorf("%+v", r)
	}
}
