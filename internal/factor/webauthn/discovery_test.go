package webauthn

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func discover(t testing.TB, f Factor) mfa.Challenge {
	t.Helper()
	ch, err := f.BeginDiscovery(site, now)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func TestWhatBrowsersAreAskedBeforeAnybodyIsNamed(t *testing.T) {
	f := Factor{RPID: "example.com"}
	ch := discover(t, f)
	q := newToken(t).read(ch.Options)
	if q.RPID != "example.com" || q.UserVerification != "required" || len(q.AllowCredentials) != 0 || len(q.Challenge) < 22 || q.Challenge == newToken(t).read(discover(t, f).Options).Challenge {
		t.Fatalf("%s", ch.Options)
	}
	if !ch.Expires.Equal(now.Add(DiscoveryLifetime)) || len(ch.State) > 1024 {
		t.Fatalf("%s, %d bytes", ch.Expires, len(ch.State))
	}
	if _, err := f.BeginDiscovery(mfa.Site{Host: "hr.example.net", Origin: "https://hr.example.net"}, now); err == nil {
		t.Fatal("it is asked on a site that has no passkeys")
	}
}

func TestAPasskeySignsInByItself(t *testing.T) {
	for reason, change := range map[string]func(*token){
		"a synced passkey": func(*token) {},
		"a security key":   func(k *token) { k.flags = up | uv },
		"one that counts":  func(k *token) { k.flags, k.counter = up|uv, 7 },
	} {
		t.Run(reason, func(t *testing.T) {
			f := Factor{}
			k := newToken(t)
			change(k)
			ch := begin(t, f)
			c, err := f.FinishRegistration(ch.State, nil, k.create(ch.Options), now)
			if err != nil {
				t.Fatal(err)
			}
			c.ID = "ours"
			_, other := registered(t, f, c)
			for range 2 {
				if k.counter > 0 {
					k.counter++
				}
				q := discover(t, f)
				answer := k.get(q.Options)
				if f.Discovered(answer) != b64(k.id) || f.PublicID(c) != b64(k.id) {
					t.Fatalf("%q, %q", f.Discovered(answer), f.PublicID(c))
				}
				next, err := f.FinishDiscovery(q.State, []mfa.Credential{other, c}, answer, now.Add(time.Minute))
				if err != nil || next.ID != "ours" || !next.LastUsed.Equal(now.Add(time.Minute)) {
					t.Fatalf("%+v %v", next, err)
				}
				c = next
			}
		})
	}
}

// One case for each step of WebAuthn Level 3, section 7.2, that looks at an answer, where nobody was named before.
func TestDiscoveryRefuses(t *testing.T) {
	for reason, tc := range map[string]struct {
		change func(*token)
		words  string
	}{
		"step 3, a registration in its place":  {func(k *token) { k.drop = "signature" }, "not provided"},
		"step 6, without a user handle":        {func(k *token) { k.noHandle = true }, "blank User Handle"},
		"step 6, an empty user handle":         {func(k *token) { k.otherHandle = []byte{} }, "blank User Handle"},
		"step 6, of another user":              {func(k *token) { k.otherHandle = make([]byte, handleSize) }, "somebody else"},
		"step 6, a passkey that nobody has":    {func(k *token) { k.id = []byte("somebody else's") }, "Unable to find"},
		"step 7, authenticator data cut short": {func(k *token) { k.short = true }, "too short"},
		"step 8, client data that is not UTF-8": {func(k *token) {
			k.mangle = func(c []byte) []byte { return bytes.Replace(c, []byte("webauthn."), []byte("webauthn.\xff"), 1) }
		}, "ceremony type"},
		"step 9, client data that is not JSON":  {func(k *token) { k.mangle = func(c []byte) []byte { return append(c, '}') } }, "after top-level value"},
		"step 20, other client data was signed": {func(k *token) { k.otherClient = true }, "sign"},
		"step 10, the type of a registration":   {func(k *token) { k.typ = "webauthn.create" }, "ceremony type"},
		"step 10, a payment":                    {func(k *token) { k.typ = "payment.get" }, "ceremony type"},
		"step 11, another challenge":            {func(k *token) { k.challenge = b64([]byte("0123456789abcdef0123456789abcdef")) }, "challenge"},
		"step 11, no challenge":                 {func(k *token) { k.client = map[string]any{"challenge": ""} }, "challenge"},
		"step 12, another origin":               {func(k *token) { k.origin = "https://hr.example.com.evil.example" }, "it comes from"},
		"step 12, the origin of a sister site":  {func(k *token) { k.origin = "https://wiki.example.com" }, "it comes from"},
		"step 12, without TLS":                  {func(k *token) { k.origin = "http://hr.example.com" }, "it comes from"},
		"step 12, another port":                 {func(k *token) { k.origin = "https://hr.example.com:8443" }, "it comes from"},
		"step 12, an app":                       {func(k *token) { k.origin = "android:apk-key-hash:AAAA" }, "it comes from"},
		"step 13, in a frame of another site":   {func(k *token) { k.client = map[string]any{"crossOrigin": true} }, "cross origin"},
		"step 14, below another top":            {func(k *token) { k.client = map[string]any{"topOrigin": "https://evil.example"} }, "topOrigin"},
		"step 15, of another relying party":     {func(k *token) { k.rpID = "example.com" }, "RP"},
		"step 15, of an AppID of U2F":           {func(k *token) { k.rpID, k.extensions = "https://hr.example.com", true }, "RP"},
		"step 16, nobody was there":             {func(k *token) { k.flags &^= up }, "presence"},
		"step 17, the user was not verified":    {func(k *token) { k.flags &^= uv }, "verif"},
		"step 18, backed up and can't be":       {func(k *token) { k.flags = up | uv | bs }, "Backup"},
		"step 19, can be backed up all at once": {func(k *token) { k.flags = up | uv }, "Backup"},
		"step 21, a signature that is wrong":    {func(k *token) { k.badSign = true }, "sign"},
		"step 21, another key":                  {func(k *token) { k.key = newToken(k.t).key }, "sign"},
		"two ids":                               {func(k *token) { k.badRawID = true }, "does not match"},
	} {
		t.Run(reason, func(t *testing.T) {
			f := Factor{}
			k, c := registered(t, f)
			q := discover(t, f)
			tc.change(k)
			_, err := f.FinishDiscovery(q.State, []mfa.Credential{c}, k.get(q.Options), now)
			wantWrong(t, err, tc.words)
		})
	}
	f := Factor{}
	k, c := registered(t, f)
	t.Run("step 11, the challenge of another question", func(t *testing.T) {
		_, err := f.FinishDiscovery(discover(t, f).State, []mfa.Credential{c}, k.get(discover(t, f).Options), now)
		wantWrong(t, err, "challenge")
	})
	t.Run("too late", func(t *testing.T) {
		q := discover(t, f)
		_, err := f.FinishDiscovery(q.State, []mfa.Credential{c}, k.get(q.Options), now.Add(DiscoveryLifetime))
		wantWrong(t, err, "too late")
	})
	t.Run("step 6, a passkey that was removed since", func(t *testing.T) {
		second, _ := registered(t, f, c)
		q := discover(t, f)
		_, err := f.FinishDiscovery(q.State, []mfa.Credential{c}, second.get(q.Options), now)
		wantWrong(t, err, "Unable to find")
		_, err = f.FinishDiscovery(q.State, nil, second.get(q.Options), now)
		wantWrong(t, err, "no passkey")
	})
	t.Run("step 6, another person's, with a handle that is made up", func(t *testing.T) {
		other, _ := registered(t, f)
		other.otherHandle = k.handle
		q := discover(t, f)
		_, err := f.FinishDiscovery(q.State, []mfa.Credential{c}, other.get(q.Options), now)
		wantWrong(t, err, "Unable to find")
	})
	t.Run("step 22, a copy", func(t *testing.T) {
		counts := newToken(t)
		counts.flags, counts.counter = up|uv, 7
		ch := begin(t, f)
		c, err := f.FinishRegistration(ch.State, nil, counts.create(ch.Options), now)
		if err != nil {
			t.Fatal(err)
		}
		q := discover(t, f)
		if _, err := f.FinishDiscovery(q.State, []mfa.Credential{c}, counts.get(q.Options), now); !errors.Is(err, mfa.ErrCloned) {
			t.Fatal(err)
		}
	})
	t.Run("the questions are not taken for one another", func(t *testing.T) {
		q := discover(t, f)
		_, err := f.FinishVerification(q.State, []mfa.Credential{c}, k.get(q.Options), now)
		wantWrong(t, err, "nothing was asked")
		q = ask(t, f, c)
		_, err = f.FinishDiscovery(q.State, []mfa.Credential{c}, k.get(q.Options), now)
		wantWrong(t, err, "nothing was asked")
		ch := begin(t, f)
		_, err = f.FinishDiscovery(ch.State, []mfa.Credential{c}, k.get(ch.Options), now)
		wantWrong(t, err, "nothing was asked")
		_, err = f.FinishDiscovery([]byte(`{}`), []mfa.Credential{c}, k.get(q.Options), now)
		wantWrong(t, err, "nothing was asked")
		q = discover(t, f)
		state := strings.Replace(string(q.State), `"required"`, `"preferred"`, 1)
		_, err = f.FinishDiscovery([]byte(state), []mfa.Credential{c}, k.get(q.Options), now)
		wantWrong(t, err, "nothing was asked")
	})
	t.Run("not JSON", func(t *testing.T) {
		for _, answer := range []string{"", "{}", "[]", "null", `{"id":"AA"}`, strings.Repeat("x", maxAnswer+1)} {
			_, err := f.FinishDiscovery(discover(t, f).State, []mfa.Credential{c}, answer, now)
			wantWrong(t, err, "")
			if id := f.Discovered(answer); id != "" {
				t.Errorf("%.20q comes from %q", answer, id)
			}
		}
		for _, answer := range []string{`{"rawId":""}`, `{"rawId":"!"}`, `{"rawId":7}`, `{"rawId":"` + b64(make([]byte, maxID+1)) + `"}`} {
			if id := f.Discovered(answer); id != "" {
				t.Errorf("%.40q comes from %q", answer, id)
			}
		}
	})
}

// WebAuthn Level 3, section 5.11.
func TestRelatedOrigins(t *testing.T) {
	f := Factor{RPID: "example.com", RelatedOrigins: []string{"https://example.net", "https://hr.example.org:8443"}}
	for _, tc := range []struct{ host, origin, want string }{
		{"hr.example.com", "https://hr.example.com", "example.com"},
		{"example.net", "https://example.net", "example.com"},
		{"example.net", "https://example.net:443", "example.com"},
		{"hr.example.org", "https://hr.example.org:8443", "example.com"},
		{"hr.example.org", "https://hr.example.org", ""},
		{"example.net", "http://example.net", ""},
		{"sub.example.net", "https://sub.example.net", ""},
		{"example.org", "https://example.org", ""},
		{"evilexample.net", "https://evilexample.net", ""},
	} {
		ch, err := f.BeginDiscovery(mfa.Site{Host: tc.host, Origin: tc.origin}, now)
		if tc.want == "" {
			if err == nil {
				t.Errorf("%s: %s", tc.origin, ch.Options)
			}
			continue
		}
		if err != nil || newToken(t).read(ch.Options).RPID != tc.want {
			t.Errorf("%s: %s %v", tc.origin, ch.Options, err)
		}
	}

	// Registered on one of them, used on the other.
	net := mfa.Site{Host: "example.net", Origin: "https://example.net"}
	k := newToken(t)
	ch := begin(t, f)
	c, err := f.FinishRegistration(ch.State, nil, k.create(ch.Options), now)
	if err != nil {
		t.Fatal(err)
	}
	k.origin = net.Origin
	q, err := f.BeginDiscovery(net, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.FinishDiscovery(q.State, []mfa.Credential{c}, k.get(q.Options), now); err != nil {
		t.Fatal(err)
	}
	k.origin = "https://hr.example.com"
	_, err = f.FinishDiscovery(q.State, []mfa.Credential{c}, k.get(q.Options), now)
	wantWrong(t, err, "it comes from")
}

func TestWhatABrowserIsToldOfPasskeys(t *testing.T) {
	f := Factor{}
	k, c := registered(t, f)
	_, second := registered(t, f, c)
	elsewhere := second
	elsewhere.RP = "wiki.example.com"
	app := mfa.Credential{Method: mfa.TOTP, Data: []byte("JBSWY3DPEHPK3PXP")}
	got := f.Accepted([]mfa.Credential{app, c, elsewhere}, "hr.example.com")
	if got.RP != "hr.example.com" || got.User != b64(k.handle) || !slices.Equal(got.IDs, []string{b64(k.id)}) {
		t.Fatalf("%+v", got)
	}
	// Those that are good elsewhere alone say whose the empty list is.
	if got := f.Accepted([]mfa.Credential{elsewhere}, "hr.example.com"); got.User != b64(k.handle) || got.IDs == nil || len(got.IDs) != 0 {
		t.Fatalf("%+v", got)
	}
	for _, none := range []mfa.Accepted{f.Accepted(nil, "hr.example.com"), f.Accepted([]mfa.Credential{app}, "hr.example.com"), f.Accepted([]mfa.Credential{c}, "")} {
		if none.RP != "" || none.IDs != nil {
			t.Fatalf("%+v", none)
		}
	}
}

func TestMakers(t *testing.T) {
	f := Factor{}
	k := newToken(t)
	k.aaguid = []byte{0xd5, 0x48, 0x82, 0x6e, 0x79, 0xb4, 0xdb, 0x40, 0xa3, 0xd8, 0x11, 0x11, 0x6f, 0x7e, 0x83, 0x49}
	ch := begin(t, f)
	c, err := f.FinishRegistration(ch.State, nil, k.create(ch.Options), now)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Maker(c); got != "Bitwarden" {
		t.Fatalf("%q", got)
	}
	if _, c := registered(t, f); f.Maker(c) != "" {
		t.Fatalf("zeros are made by %q", f.Maker(c))
	}
	if got := f.Maker(mfa.Credential{Data: []byte("x")}); got != "" {
		t.Fatalf("%q", got)
	}
	for aaguid := range makers {
		if len(aaguid) != 36 || strings.ToLower(aaguid) != aaguid {
			t.Errorf("%q is no AAGUID", aaguid)
		}
	}
}

func FuzzFinishDiscovery(f *testing.F) {
	k, c := registered(f, Factor{})
	q := discover(f, Factor{})
	f.Add(k.get(q.Options))
	k.badSign = true
	f.Add(k.get(q.Options))
	k.noHandle = true
	f.Add(k.get(q.Options))
	f.Add(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"","signature":"","userHandle":"AA"}}`)
	var kept data
	if err := json.Unmarshal(c.Data, &kept); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		id := Factor{}.Discovered(answer)
		next, err := Factor{}.FinishDiscovery(q.State, []mfa.Credential{c}, answer, now)
		var d data
		if err == nil && (json.Unmarshal(next.Data, &d) != nil || next.ID != c.ID || !slices.Equal(d.Credential.PublicKey, kept.Credential.PublicKey) || !d.Credential.Flags.UserVerified) {
			t.Fatalf("%s makes of it %+v", answer, next)
		}
		if err == nil && id != (Factor{}).PublicID(c) {
			t.Fatalf("%s is looked up as %q, and is %q", answer, id, (Factor{}).PublicID(c))
		}
		if err != nil && !errors.Is(err, mfa.ErrWrong) && !errors.Is(err, mfa.ErrCloned) {
			t.Fatalf("%s is a fault: %v", answer, err)
		}
	})
}
