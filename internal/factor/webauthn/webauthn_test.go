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

var (
	now   = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	site  = mfa.Site{Host: "hr.example.com", Origin: "https://hr.example.com"}
	alice = &mfa.User{ID: mfa.UserID{Directory: "file", ID: "alice"}, Name: "alice", DisplayName: "Alice Example"}
)

func begin(t testing.TB, f Factor, has ...mfa.Credential) mfa.Challenge {
	t.Helper()
	ch, err := f.BeginRegistration(alice, site, has, now)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// registered gives a token, and what is kept of it.
func registered(t testing.TB, f Factor, has ...mfa.Credential) (*token, mfa.Credential) {
	t.Helper()
	k := newToken(t)
	ch := begin(t, f, has...)
	c, err := f.FinishRegistration(ch.State, has, k.create(ch.Options), now)
	if err != nil {
		t.Fatal(err)
	}
	c.ID = b64(k.id)
	return k, c
}

func ask(t testing.TB, f Factor, credentials ...mfa.Credential) mfa.Challenge {
	t.Helper()
	ch, err := f.BeginVerification(alice, site, credentials, now)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// wantWrong wants a refusal, for the reason that the case is about.
func wantWrong(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, mfa.ErrWrong) || !strings.Contains(err.Error(), words) {
		t.Fatalf("%v, want it refused because of %q", err, words)
	}
}

func TestWhatBrowsersAreAsked(t *testing.T) {
	f := Factor{RPID: "example.com", DisplayName: "Example"}
	ch := begin(t, f)
	k := newToken(t)
	q := k.read(ch.Options)
	if q.RP.ID != "example.com" || q.RP.Name != "Example" || q.User.Name != "alice" || q.User.DisplayName != "Alice Example" || strings.Contains(q.User.ID, "alice") ||
		q.AuthenticatorSelection.UserVerification != "required" || q.AuthenticatorSelection.ResidentKey != "preferred" || q.Attestation != "none" && q.Attestation != "" ||
		q.Timeout != int(Lifetime/time.Millisecond) || len(q.Challenge) < 22 || len(q.ExcludeCredentials) != 0 {
		t.Fatalf("%s", ch.Options)
	}
	if ch.Method != mfa.Passkey || !ch.Expires.Equal(now.Add(Lifetime)) {
		t.Fatalf("%+v", ch)
	}
	k, c := registered(t, f)
	if c.RP != "example.com" || c.Method != mfa.Passkey || !c.Added.Equal(now) {
		t.Fatalf("%+v", c)
	}
	second := begin(t, f, c)
	if q := k.read(second.Options); len(q.ExcludeCredentials) != 1 || q.ExcludeCredentials[0].ID != b64(k.id) || q.User.ID != b64(k.handle) {
		t.Fatalf("%s", second.Options)
	}
	question := ask(t, f, c)
	if q := k.read(question.Options); q.RPID != "example.com" || q.UserVerification != "required" || len(q.AllowCredentials) != 1 || q.Challenge == k.read(second.Options).Challenge {
		t.Fatalf("%s", question.Options)
	}
	if strings.Contains(string(c.Data), "clientDataJSON\":\"e") {
		t.Fatalf("the attestation is kept: %s", c.Data)
	}
}

func TestAPasskeySignsIn(t *testing.T) {
	for reason, change := range map[string]func(*token){
		"a synced passkey":         func(*token) {},
		"a security key":           func(k *token) { k.flags = up | uv },
		"one that counts":          func(k *token) { k.flags, k.counter = up|uv, 7 },
		"without a user handle":    func(k *token) { k.noHandle = true },
		"a port in its origin":     func(*token) {},
		"more than was asked for":  func(k *token) { k.extensions = true },
		"one that attests itself":  func(k *token) { k.attested = "packed" },
		"the flag of backup moves": func(k *token) { k.flags = up | uv | be },
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
			for range 3 {
				if k.counter > 0 {
					k.counter++
				}
				if k.flags&be != 0 {
					k.flags |= bs
				}
				q := ask(t, f, c)
				later := now.Add(time.Minute)
				next, err := f.FinishVerification(q.State, []mfa.Credential{c}, k.get(q.Options), later)
				if err != nil {
					t.Fatal(err)
				}
				if !next.LastUsed.Equal(later) || next.RP != c.RP || next.ID != c.ID {
					t.Fatalf("%+v", next)
				}
				var d data
				if err := json.Unmarshal(next.Data, &d); err != nil || d.Credential.Authenticator.SignCount != k.counter || d.Credential.Flags.BackupState != (k.flags&bs != 0) ||
					!slices.Contains(d.Credential.Transport, "hybrid") {
					t.Fatalf("%s %v", next.Data, err)
				}
				c = next
			}
		})
	}
}

// One case for each step of WebAuthn Level 3, section 7.1, that looks at an answer.
func TestRegistrationRefuses(t *testing.T) {
	for reason, tc := range map[string]struct {
		change func(*token)
		words  string
	}{
		"step 7, the type of a sign-in":         {func(k *token) { k.typ = "webauthn.get" }, "ceremony type"},
		"step 8, another challenge":             {func(k *token) { k.challenge = b64([]byte("0123456789abcdef0123456789abcdef")) }, "challenge"},
		"step 8, no challenge":                  {func(k *token) { k.client = map[string]any{"challenge": ""} }, "challenge"},
		"step 9, another origin":                {func(k *token) { k.origin = "https://hr.example.com.evil.example" }, "it comes from"},
		"step 9, the origin of a sister site":   {func(k *token) { k.origin = "https://wiki.example.com" }, "it comes from"},
		"step 9, without TLS":                   {func(k *token) { k.origin = "http://hr.example.com" }, "it comes from"},
		"step 9, another port":                  {func(k *token) { k.origin = "https://hr.example.com:8443" }, "it comes from"},
		"step 9, what only looks like it":       {func(k *token) { k.origin = "https://x@hr.example.com/" }, "it comes from"},
		"step 9, an app":                        {func(k *token) { k.origin = "android:apk-key-hash:AAAA" }, "it comes from"},
		"step 10, in a frame of another site":   {func(k *token) { k.client = map[string]any{"crossOrigin": true} }, "cross origin"},
		"step 11, below another top":            {func(k *token) { k.client = map[string]any{"topOrigin": "https://evil.example"} }, "topOrigin"},
		"step 11, below another top, as it is":  {func(k *token) { k.client = map[string]any{"crossOrigin": true, "topOrigin": "https://evil.example"} }, "cross origin"},
		"step 14, of another relying party":     {func(k *token) { k.rpID = "evil.example" }, "RP"},
		"step 15, nobody was there":             {func(k *token) { k.flags = uv | be }, "presence"},
		"step 16, the user was not verified":    {func(k *token) { k.flags = up | be }, "verif"},
		"step 17, backed up and can't be":       {func(k *token) { k.flags = up | uv | bs }, "Backup"},
		"step 20, a kind of key not asked for":  {func(k *token) { k.alg = -47 }, "algorithm not supported"},
		"step 22, an attestation that is wrong": {func(k *token) { k.attested, k.badSign = "packed", true }, "verify signature"},
		"step 21, a format that nobody knows":   {func(k *token) { k.attested = "mine" }, "mine is unsupported"},
		"step 25, an id that is too long":       {func(k *token) { k.id = make([]byte, 1024) }, "attestation response"},
		"two ids":                               {func(k *token) { k.badRawID = true }, "does not match"},
		"step 3, an assertion in its place":     {func(k *token) { k.drop = "attestationObject" }, "attestation response"},
		"step 5, client data that is not UTF-8": {func(k *token) {
			k.mangle = func(c []byte) []byte { return bytes.Replace(c, []byte("webauthn."), []byte("webauthn.\xff"), 1) }
		}, "ceremony type"},
		"step 6, client data that is not JSON":  {func(k *token) { k.mangle = func(c []byte) []byte { return append(c, '}') } }, "attestation response"},
		"no kind of credential that there is":   {func(k *token) { k.kind = "password" }, "public-key"},
		"step 12, other client data was signed": {func(k *token) { k.attested, k.otherClient = "packed", true }, "verify signature"},
		"step 13, something behind the key":     {func(k *token) { k.behind = []byte("more") }, "attestation response"},
		"step 13, an object that is not CBOR":   {func(k *token) { k.rawObject = []byte("x") }, "attestation response"},
		"step 13, without an attested key":      {func(k *token) { k.noKey = true }, "attestation response"},
	} {
		t.Run(reason, func(t *testing.T) {
			f := Factor{}
			ch := begin(t, f)
			k := newToken(t)
			tc.change(k)
			_, err := f.FinishRegistration(ch.State, nil, k.create(ch.Options), now)
			wantWrong(t, err, tc.words)
		})
	}
	f := Factor{}
	t.Run("the challenge of another registration", func(t *testing.T) {
		_, err := f.FinishRegistration(begin(t, f).State, nil, newToken(t).create(begin(t, f).Options), now)
		wantWrong(t, err, "challenge")
	})
	t.Run("too late", func(t *testing.T) {
		ch := begin(t, f)
		_, err := f.FinishRegistration(ch.State, nil, newToken(t).create(ch.Options), now.Add(Lifetime))
		wantWrong(t, err, "too late")
	})
	t.Run("step 26, an id that there is", func(t *testing.T) {
		k, c := registered(t, f)
		ch := begin(t, f, c)
		_, err := f.FinishRegistration(ch.State, []mfa.Credential{c}, k.create(ch.Options), now)
		wantWrong(t, err, "registered already")
	})
	t.Run("asked for before the first one came", func(t *testing.T) {
		ch := begin(t, f)
		_, c := registered(t, f)
		_, err := f.FinishRegistration(ch.State, []mfa.Credential{c}, newToken(t).create(ch.Options), now)
		wantWrong(t, err, "first passkey")
	})
	t.Run("the state of a verification", func(t *testing.T) {
		k, c := registered(t, f)
		q := ask(t, f, c)
		_, err := f.FinishRegistration(q.State, nil, k.get(q.Options), now)
		wantWrong(t, err, "")
	})
}

// One case for each step of WebAuthn Level 3, section 7.2, that looks at an answer.
func TestVerificationRefuses(t *testing.T) {
	for reason, tc := range map[string]struct {
		change func(*token)
		words  string
	}{
		"step 5, a passkey that nobody has":     {func(k *token) { k.id = []byte("somebody else's") }, "not owned by"},
		"step 6, of another user":               {func(k *token) { k.otherHandle = make([]byte, handleSize) }, "User handle"},
		"step 10, the type of a registration":   {func(k *token) { k.typ = "webauthn.create" }, "ceremony type"},
		"step 11, another challenge":            {func(k *token) { k.challenge = b64([]byte("0123456789abcdef0123456789abcdef")) }, "challenge"},
		"step 11, no challenge":                 {func(k *token) { k.client = map[string]any{"challenge": ""} }, "challenge"},
		"step 12, another origin":               {func(k *token) { k.origin = "https://hr.example.com.evil.example" }, "it comes from"},
		"step 12, the origin of a sister site":  {func(k *token) { k.origin = "https://wiki.example.com" }, "it comes from"},
		"step 12, without TLS":                  {func(k *token) { k.origin = "http://hr.example.com" }, "it comes from"},
		"step 12, another port":                 {func(k *token) { k.origin = "https://hr.example.com:8443" }, "it comes from"},
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
		"step 3, a registration in its place":   {func(k *token) { k.drop = "signature" }, "not provided"},
		"step 8, client data that is not UTF-8": {func(k *token) {
			k.mangle = func(c []byte) []byte { return bytes.Replace(c, []byte("webauthn."), []byte("webauthn.\xff"), 1) }
		}, "ceremony type"},
		"step 9, client data that is not JSON":  {func(k *token) { k.mangle = func(c []byte) []byte { return append(c, '}') } }, "after top-level value"},
		"no kind of credential that there is":   {func(k *token) { k.kind = "password" }, "bad type"},
		"step 20, other client data was signed": {func(k *token) { k.otherClient = true }, "sign"},
		"step 7, something behind the data":     {func(k *token) { k.behind = []byte("more") }, "credential flag not set"},
		"step 7, authenticator data cut short":  {func(k *token) { k.short = true }, "too short"},
	} {
		t.Run(reason, func(t *testing.T) {
			f := Factor{}
			k, c := registered(t, f)
			q := ask(t, f, c)
			tc.change(k)
			_, err := f.FinishVerification(q.State, []mfa.Credential{c}, k.get(q.Options), now)
			wantWrong(t, err, tc.words)
		})
	}
	f := Factor{}
	k, c := registered(t, f)
	t.Run("the challenge of another question", func(t *testing.T) {
		_, err := f.FinishVerification(ask(t, f, c).State, []mfa.Credential{c}, k.get(ask(t, f, c).Options), now)
		wantWrong(t, err, "challenge")
	})
	t.Run("too late", func(t *testing.T) {
		q := ask(t, f, c)
		_, err := f.FinishVerification(q.State, []mfa.Credential{c}, k.get(q.Options), now.Add(Lifetime))
		wantWrong(t, err, "too late")
	})
	t.Run("another person's passkey", func(t *testing.T) {
		other, theirs := registered(t, f)
		q := ask(t, f, c)
		_, err := f.FinishVerification(q.State, []mfa.Credential{c}, other.get(q.Options), now)
		wantWrong(t, err, "")
		_, err = f.FinishVerification(q.State, []mfa.Credential{theirs}, other.get(q.Options), now)
		wantWrong(t, err, "gone")
	})
	t.Run("a passkey that was removed since", func(t *testing.T) {
		second, added := registered(t, f, c)
		q := ask(t, f, c, added)
		_, err := f.FinishVerification(q.State, []mfa.Credential{c}, second.get(q.Options), now)
		wantWrong(t, err, "")
		if _, err := f.FinishVerification(q.State, []mfa.Credential{c}, k.get(q.Options), now); err != nil {
			t.Fatalf("the other one, that is still there: %v", err)
		}
	})
	t.Run("a passkey that was added since", func(t *testing.T) {
		q := ask(t, f, c)
		second, added := registered(t, f, c)
		_, err := f.FinishVerification(q.State, []mfa.Credential{c, added}, second.get(q.Options), now)
		wantWrong(t, err, "")
	})
	t.Run("without a question", func(t *testing.T) {
		q := ask(t, f, c)
		_, err := f.Finish([]mfa.Credential{c}, k.get(q.Options), now)
		wantWrong(t, err, "nothing was asked")
		_, err = f.FinishVerification([]byte(`{}`), []mfa.Credential{c}, k.get(q.Options), now)
		wantWrong(t, err, "nothing was asked")
	})
	t.Run("the state of a registration", func(t *testing.T) {
		ch := begin(t, f, c)
		_, err := f.FinishVerification(ch.State, []mfa.Credential{c}, k.get(ch.Options), now)
		wantWrong(t, err, "nothing was asked")
	})
	t.Run("a question that did not want the user verified", func(t *testing.T) {
		q := ask(t, f, c)
		state := strings.Replace(string(q.State), `"required"`, `"preferred"`, 1)
		_, err := f.FinishVerification([]byte(state), []mfa.Credential{c}, k.get(q.Options), now)
		wantWrong(t, err, "nothing was asked")
	})
	t.Run("not JSON", func(t *testing.T) {
		for _, answer := range []string{"", "{}", "[]", "null", `{"id":"AA"}`, strings.Repeat("x", maxAnswer+1)} {
			_, err := f.FinishVerification(ask(t, f, c).State, []mfa.Credential{c}, answer, now)
			wantWrong(t, err, "")
			_, err = f.FinishRegistration(begin(t, f).State, nil, answer, now)
			wantWrong(t, err, "")
		}
	})
}

// Step 22: the library only warns.
func TestACounterThatDoesNotGoForwardIsACopy(t *testing.T) {
	f := Factor{}
	for reason, tc := range map[string]struct {
		kept, got uint32
		ok        bool
	}{
		"forward":                 {7, 8, true},
		"far forward":             {7, 1 << 31, true},
		"it begins to count":      {0, 1, true},
		"it doesn't count":        {0, 0, true},
		"it stands still":         {7, 7, false},
		"backwards":               {7, 6, false},
		"it has stopped to count": {7, 0, false},
	} {
		t.Run(reason, func(t *testing.T) {
			k := newToken(t)
			k.flags, k.counter = up|uv, tc.kept
			ch := begin(t, f)
			c, err := f.FinishRegistration(ch.State, nil, k.create(ch.Options), now)
			if err != nil {
				t.Fatal(err)
			}
			q := ask(t, f, c)
			k.counter = tc.got
			if _, err := f.FinishVerification(q.State, []mfa.Credential{c}, k.get(q.Options), now); (err == nil) != tc.ok || err != nil && !errors.Is(err, mfa.ErrCloned) {
				t.Fatal(err)
			}
		})
	}
}

func TestRelyingParties(t *testing.T) {
	for _, tc := range []struct{ id, host, want string }{
		{"", "hr.example.com", "hr.example.com"},
		{"", "localhost", "localhost"},
		{"", "192.0.2.7", ""},
		{"", "2001:db8::1", ""},
		{"", "", ""},
		{"example.com", "hr.example.com", "example.com"},
		{"example.com", "example.com", "example.com"},
		{"example.com", "badexample.com", ""},
		{"example.com", "example.com.evil.example", ""},
		{"example.com", "localhost", ""},
		{"example.com", "192.0.2.7", ""},
	} {
		if got := (Factor{RPID: tc.id}).RP(tc.host); got != tc.want {
			t.Errorf("rp_id %q on %q: %q, want %q", tc.id, tc.host, got, tc.want)
		}
	}
}

func TestOrigins(t *testing.T) {
	for _, tc := range []struct{ host, origin, want string }{
		{"hr.example.com", "https://hr.example.com", "https://hr.example.com"},
		{"hr.example.com", "https://HR.example.com:443", "https://hr.example.com"},
		{"hr.example.com", "https://hr.example.com:8443", "https://hr.example.com:8443"},
		{"localhost", "http://localhost:8080", "http://localhost:8080"},
		{"localhost", "http://localhost:80", "http://localhost"},
		{"hr.example.com", "http://hr.example.com", ""},
		{"127.0.0.1", "http://127.0.0.1:8080", ""},
		{"hr.example.com", "https://wiki.example.com", ""},
		{"hr.example.com", "https://hr.example.com@evil.example", ""},
		{"hr.example.com", "", ""},
		{"", "https://", ""},
	} {
		got, _, err := (Factor{}).origin(mfa.Site{Host: tc.host, Origin: tc.origin})
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v, want %q", tc.origin, got, err, tc.want)
		}
	}
	if _, err := (Factor{}).BeginRegistration(alice, mfa.Site{}, nil, now); err == nil {
		t.Error("there is a registration on no site")
	}
}

func TestAPasskeyOfAnotherRelyingPartyIsNotAskedFor(t *testing.T) {
	_, c := registered(t, Factor{})
	wiki := mfa.Site{Host: "wiki.example.com", Origin: "https://wiki.example.com"}
	if ch, err := (Factor{}).BeginVerification(alice, wiki, []mfa.Credential{c}, now); err == nil {
		t.Fatalf("%s", ch.Options)
	}
	if ch, err := (Factor{RPID: "example.com"}).BeginVerification(alice, site, []mfa.Credential{c}, now); err == nil {
		t.Fatalf("%s", ch.Options)
	}
	// What is kept outside of the seal moves nothing: the signature is over the relying party.
	k, c := registered(t, Factor{})
	c.RP = "wiki.example.com"
	q, err := Factor{}.BeginVerification(alice, wiki, []mfa.Credential{c}, now)
	if err != nil {
		t.Fatal(err)
	}
	k.origin = wiki.Origin
	_, err = Factor{}.FinishVerification(q.State, []mfa.Credential{c}, k.get(q.Options), now)
	wantWrong(t, err, "RP")
}

func FuzzFinishVerification(f *testing.F) {
	k, c := registered(f, Factor{})
	q := ask(f, Factor{}, c)
	f.Add(k.get(q.Options))
	k.badSign = true
	f.Add(k.get(q.Options))
	f.Add(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"","signature":""}}`)
	var kept data
	if err := json.Unmarshal(c.Data, &kept); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		next, err := Factor{}.FinishVerification(q.State, []mfa.Credential{c}, answer, now)
		var d data
		if err == nil && (json.Unmarshal(next.Data, &d) != nil || next.ID != c.ID || !slices.Equal(d.Credential.PublicKey, kept.Credential.PublicKey) || !d.Credential.Flags.UserVerified) {
			t.Fatalf("%s makes of it %+v", answer, next)
		}
		if err != nil && !errors.Is(err, mfa.ErrWrong) && !errors.Is(err, mfa.ErrCloned) {
			t.Fatalf("%s is a fault: %v", answer, err)
		}
	})
}

func FuzzFinishRegistration(f *testing.F) {
	ch := begin(f, Factor{})
	f.Add(newToken(f).create(ch.Options))
	packed := newToken(f)
	packed.attested = "packed"
	f.Add(packed.create(ch.Options))
	f.Fuzz(func(t *testing.T, answer string) {
		c, err := Factor{}.FinishRegistration(ch.State, nil, answer, now)
		if err != nil && !errors.Is(err, mfa.ErrWrong) {
			t.Fatalf("%s is a fault: %v", answer, err)
		}
		if err == nil && (c.RP != site.Host || !strings.Contains(answer, "attestationObject")) {
			t.Fatalf("%+v", c)
		}
	})
}
