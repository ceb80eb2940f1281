package portal

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestAProofLeadsOnToAChange: and to nothing else, whatever somebody has got sealed.
func TestAProofLeadsOnToAChange(t *testing.T) {
	for target, want := range map[string]bool{
		"/_mfa/register?page=choose&t=x":     true,
		"/_mfa/confirm?change=remove&id=x":   true,
		"/_mfa/app-password":                 true,
		"/_mfa/upstream?application=hr":      true,
		"/_mfa/account":                      false,
		"/_mfa/signout":                      false,
		"/_mfa/register/../signout":          false,
		"/_mfa/registers":                    false,
		"//evil.example/_mfa/register":       false,
		"https://evil.example/_mfa/confirm?": false,
		"/reports":                           false,
		"/register?page=choose":              false,
		"":                                   false,
	} {
		v := &visit{to: Return{Target: target}}
		if got := v.toChange(); got != want {
			t.Errorf("%q: %v, want %v", target, got, want)
		}
	}
}

func TestWhatIsConfirmed(t *testing.T) {
	for reason, tc := range map[string]struct {
		form url.Values
		want string
	}{
		"a factor that is removed":  {url.Values{"action": {"remove"}, "id": {"a b&c"}}, "/_mfa/confirm?change=remove&id=a+b%26c"},
		"recovery codes":            {url.Values{"action": {"recovery"}}, "/_mfa/confirm?change=recovery&id="},
		"a password elsewhere":      {url.Values{"action": {"forget-upstream"}, "id": {"hr"}}, "/_mfa/confirm?change=forget-upstream&id=hr"},
		"what needs no fresh proof": {url.Values{"action": {"end"}, "id": {"a"}}, "/_mfa/account"},
		"what isn't on the page":    {url.Values{"action": {"//evil.example"}}, "/_mfa/account"},
		"nothing":                   {url.Values{}, "/_mfa/account"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/_mfa/account", strings.NewReader(tc.form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if err := r.ParseForm(); err != nil {
			t.Fatal(err)
		}
		v := &visit{r: r}
		if got := v.confirmURL(); got != tc.want {
			t.Errorf("%s: %s, want %s", reason, got, tc.want)
		}
		if confirms := (&visit{to: Return{Target: tc.want}}).toChange(); confirms != (tc.want != "/_mfa/account") {
			t.Errorf("%s: a proof leads there: %v", reason, confirms)
		}
	}
}

// TestTheWayOnFromARegistrationIsKept while its owner proves who he is: one token stands in the other.
func TestTheWayOnFromARegistrationIsKept(t *testing.T) {
	rs, now := returns(t, 1), time.Unix(1_800_000_000, 0)
	v := &visit{Portal: &Portal{Returns: rs}, token: rs.Seal(Return{"/a?b=c", "hr"}, "hr.example.com", now)}
	outer := rs.Open(rs.Seal(Return{v.registerURL(), "hr"}, "hr.example.com", now), "hr.example.com", now)
	to, err := url.Parse(outer.URL())
	if err != nil || to.Path != "/_mfa/register" || to.Query().Get("page") != "choose" {
		t.Fatalf("it leads to %v: %v", to, err)
	}
	if got := rs.Open(to.Query().Get("t"), "hr.example.com", now); got != (Return{"/a?b=c", "hr"}) {
		t.Errorf("and on to %+v", got)
	}
}
