package passcode

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const number = "+31612345678"

// phone is a credential with a number.
func phone(t testing.TB, f Factor, id, to string) mfa.Credential {
	t.Helper()
	c, err := f.NewCredential(to, now)
	if err != nil {
		t.Fatal(err)
	}
	c.ID = id
	return c
}

func send(t testing.TB, f Factor, c mfa.Credential, to string, at time.Time) (mfa.Challenge, string) {
	t.Helper()
	ch, code, err := f.NewCode(c, to, at)
	if err != nil {
		t.Fatal(err)
	}
	return ch, code
}

// other is a code that is certainly another one.
func other(code string) string {
	if code[0] == '9' {
		return "0" + code[1:]
	}
	return string(code[0]+1) + code[1:]
}

func TestACodeIsSixDigitsAndNotInWhatIsKept(t *testing.T) {
	f := New(mfa.SMS, nil)
	seen := map[string]bool{}
	for range 200 {
		ch, code := send(t, f, phone(t, f, "1", number), number, now)
		if !regexp.MustCompile(`^[0-9]{6}$`).MatchString(code) {
			t.Fatalf("the code is %q", code)
		}
		if bytes.Contains(ch.State, []byte(code)) {
			t.Fatalf("what is kept holds the code %s: %s", code, ch.State)
		}
		if ch.Expires.After(now.Add(10*time.Minute)) || ch.Method != mfa.SMS || ch.To != "+31 •••• ••78" {
			t.Fatalf("challenge %+v", ch)
		}
		seen[code] = true
	}
	if len(seen) < 190 {
		t.Errorf("200 codes, of which %d differ", len(seen))
	}
}

func TestFinishVerification(t *testing.T) {
	f := New(mfa.SMS, nil)
	first, second := phone(t, f, "1", number), phone(t, f, "2", "+4915112345678")
	both := []mfa.Credential{first, second}
	ch, right := send(t, f, second, "+4915112345678", now)
	for name, test := range map[string]struct {
		state       []byte
		credentials []mfa.Credential
		answer      string
		at          time.Time
		want        error
	}{
		"right":                              {ch.State, both, right, now.Add(time.Minute), nil},
		"at the last moment":                 {ch.State, both, right, now.Add(Lifetime - 1), nil},
		"typed in groups, full-width":        {ch.State, both, right[:3] + "\u00a0-" + right[3:], now, nil},
		"from a machine whose clock is late": {ch.State, both, right, now.Add(-skew), nil},
		"wrong":                              {ch.State, both, other(right), now, mfa.ErrWrong},
		"empty":                              {ch.State, both, "", now, mfa.ErrWrong},
		"one digit less":                     {ch.State, both, right[:5], now, mfa.ErrWrong},
		"one digit more":                     {ch.State, both, right + "0", now, mfa.ErrWrong},
		"two codes":                          {ch.State, both, other(right) + right, now, mfa.ErrWrong},
		"very long":                          {ch.State, both, strings.Repeat(right, 1000), now, mfa.ErrWrong},
		"after ten minutes":                  {ch.State, both, right, now.Add(Lifetime), mfa.ErrExpired},
		"wrong, after ten minutes":           {ch.State, both, other(right), now.Add(Lifetime), mfa.ErrExpired},
		"before it was made":                 {ch.State, both, right, now.Add(-skew - 1), mfa.ErrExpired},
		"its phone was removed":              {ch.State, []mfa.Credential{first}, right, now, mfa.ErrWrong},
		"its phone has another number":       {ch.State, []mfa.Credential{phone(t, f, "2", number)}, right, now, mfa.ErrWrong},
		"nobody has a phone":                 {ch.State, nil, right, now, mfa.ErrWrong},
		"nothing was sent":                   {[]byte(`{}`), both, right, now, mfa.ErrExpired},
		"nothing was hashed":                 {[]byte(`{"method":"sms","credential":"2","to":"+4915112345678","made":"2026-11-25T12:00:00Z"}`), both, "000000", now, mfa.ErrWrong},
	} {
		t.Run(name, func(t *testing.T) {
			used, err := f.FinishVerification(test.state, test.credentials, test.answer, test.at)
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if err == nil && (used.ID != "2" || !used.LastUsed.Equal(test.at)) {
				t.Errorf("used %+v", used)
			}
			if err != nil && used.ID != "" {
				t.Errorf("refused, and gives %+v", used)
			}
		})
	}

	t.Run("code of another kind", func(t *testing.T) {
		if _, err := New(mfa.Voice, nil).FinishVerification(ch.State, both, right, now); !errors.Is(err, mfa.ErrExpired) {
			t.Errorf("the code of a text message is taken as that of a call: %v", err)
		}
	})
	t.Run("code of a registration", func(t *testing.T) {
		ch, code := send(t, f, mfa.Credential{}, number, now)
		if _, err := f.FinishVerification(ch.State, []mfa.Credential{phone(t, f, "", number)}, code, now); !errors.Is(err, mfa.ErrWrong) {
			t.Errorf("it signs in: %v", err)
		}
	})
	t.Run("once", func(t *testing.T) {
		used, err := f.FinishVerification(ch.State, both, right, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.FinishVerification(ch.State, []mfa.Credential{used}, right, now); !errors.Is(err, mfa.ErrReplayed) {
			t.Errorf("twice: %v", err)
		}
		older, code := send(t, f, used, "+4915112345678", now.Add(-time.Second))
		if _, err := f.FinishVerification(older.State, []mfa.Credential{used}, code, now); !errors.Is(err, mfa.ErrReplayed) {
			t.Errorf("one that was made before: %v", err)
		}
		newer, code := send(t, f, used, "+4915112345678", now.Add(time.Second))
		if _, err := f.FinishVerification(newer.State, []mfa.Credential{used}, code, now.Add(time.Second)); err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
	t.Run("damaged state is a fault", func(t *testing.T) {
		if _, err := f.FinishVerification([]byte("{"), both, right, now); err == nil || errors.Is(err, mfa.ErrWrong) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("without a question", func(t *testing.T) {
		if _, err := f.Finish(both, right, now); !errors.Is(err, mfa.ErrExpired) {
			t.Errorf("error %v", err)
		}
	})
}

func TestFinishRegistration(t *testing.T) {
	f := New(mfa.Voice, nil)
	ch, code := send(t, f, mfa.Credential{}, number, now)
	c, err := f.FinishRegistration(ch.State, nil, code, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if c.Method != mfa.Voice || c.Name != "+31 •••• ••78" || !c.Added.Equal(now.Add(time.Minute)) {
		t.Errorf("credential %+v", c)
	}
	if to, shown, err := f.Destination(c); err != nil || to != number || shown != c.Name {
		t.Errorf("codes go to %q, shown as %q, %v", to, shown, err)
	}
	if _, err := f.FinishRegistration(ch.State, []mfa.Credential{c}, code, now); !errors.Is(err, mfa.ErrReplayed) {
		t.Errorf("the same number a second time: %v", err)
	}
	if _, err := f.FinishRegistration(ch.State, nil, other(code), now); !errors.Is(err, mfa.ErrWrong) {
		t.Errorf("wrong code: %v", err)
	}
	signIn, code := send(t, f, phone(t, f, "1", number), number, now)
	if _, err := f.FinishRegistration(signIn.State, nil, code, now); !errors.Is(err, mfa.ErrWrong) {
		t.Errorf("the code of a sign-in registers: %v", err)
	}
	if _, err := f.BeginRegistration(&mfa.User{}, mfa.Site{}, nil, now); err == nil {
		t.Error("registration begins without an address")
	}
}

func TestAddress(t *testing.T) {
	for name, test := range map[string]struct {
		f     Factor
		typed string
		want  string
		err   error
	}{
		"number":                                 {New(mfa.SMS, nil), "+31 6 12345678", number, nil},
		"number with an extension":               {New(mfa.Voice, nil), "+31612345678 ext 1", "", mfa.ErrAddress},
		"number of a country that is not served": {New(mfa.SMS, []string{"+31", "+32"}), "+8816 5550143", "", mfa.ErrNotServed},
		"number of a country that is":            {New(mfa.SMS, []string{"+31", "+32"}), "+32470123456", "+32470123456", nil},
		"mail":                                   {New(mfa.Email, nil), " alice@example.com ", "alice@example.com", nil},
		"mail for a number":                      {New(mfa.Email, nil), number, "", mfa.ErrAddress},
		"mail with a second header":              {New(mfa.Email, nil), "alice@example.com\r\nBcc: mallory@example.net", "", mfa.ErrAddress},
		"mail to two":                            {New(mfa.Email, nil), "alice@example.com,mallory@example.net", "", mfa.ErrAddress},
		"mail with a name":                       {New(mfa.Email, nil), "Alice <alice@example.com>", "", mfa.ErrAddress},
		"mail with a route":                      {New(mfa.Email, nil), "@relay.example.net:alice@example.com", "", mfa.ErrAddress},
		"mail in quotes":                         {New(mfa.Email, nil), "\"alice bob\"@example.com", "", mfa.ErrAddress},
		"mail to this machine":                   {New(mfa.Email, nil), "root@localhost", "", mfa.ErrAddress},
		"mail to an address":                     {New(mfa.Email, nil), "root@[127.0.0.1]", "", mfa.ErrAddress},
		"mail with letters of other scripts":     {New(mfa.Email, nil), "аlice@example.com", "", mfa.ErrAddress},
		"mail that is too long":                  {New(mfa.Email, nil), "alice@" + strings.Repeat("a.", 130) + "com", "", mfa.ErrAddress},
		"the zero factor":                        {Factor{}, number, "", mfa.ErrAddress},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.f.Address(test.typed)
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("%q, %v, want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}

func TestNothingIsSentToANumberThatIsNotServedAnyMore(t *testing.T) {
	c := phone(t, New(mfa.SMS, nil), "1", "+88165550143")
	if _, _, err := New(mfa.SMS, []string{"+31"}).Destination(c); !errors.Is(err, mfa.ErrNotServed) {
		t.Errorf("error %v", err)
	}
	c.Data = []byte("x")
	if _, _, err := New(mfa.SMS, nil).Destination(c); err == nil {
		t.Error("a damaged credential has an address")
	}
}

func FuzzFinish(f *testing.F) {
	factor := New(mfa.SMS, nil)
	c, err := factor.NewCredential(number, now)
	if err != nil {
		f.Fatal(err)
	}
	c.ID = "1"
	ch, code, err := factor.NewCode(c, number, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ch.State, code)
	f.Add(ch.State, "１２３４５６")
	f.Add([]byte(`{"method":"sms","credential":"1","to":"+31612345678","made":"2026-11-25T12:00:00Z","digest":{"salt":"AA==","hash":""}}`), "")
	f.Fuzz(func(t *testing.T, state []byte, typed string) {
		used, err := factor.FinishVerification(state, []mfa.Credential{c}, typed, now)
		if err != nil {
			return
		}
		var s sent
		if json.Unmarshal(state, &s) != nil || s.Credential != "1" || s.To != number || len(s.Digest.Salt) == 0 || used.ID != "1" {
			t.Fatalf("%q is accepted against %s", typed, state)
		}
	})
}
