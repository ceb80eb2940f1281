package mfa

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePhone(t *testing.T) {
	for name, test := range map[string]struct{ typed, want string }{
		"as in E.164":                      {"+31612345678", "+31612345678"},
		"in groups":                        {" +31 6 1234-56.78 ", "+31612345678"},
		"with the zero of the own country": {"+31 (0)6 12345678", "+31612345678"},
		"with two zeros for the plus sign": {"0031612345678", "+31612345678"},
		"area code in brackets":            {"+1 (202) 555-0143", "+12025550143"},
		"full-width digits":                {"＋３１６１２３４５６７８", "+31612345678"},
		"non-breaking spaces":              {"+31\u00a0612345678", "+31612345678"},
		"shortest":                         {"+6834000", "+6834000"},
		"longest":                          {"+123456789012345", "+123456789012345"},

		"nothing":                        {"", ""},
		"without country":                {"0612345678", ""},
		"extension":                      {"+31201234567 ext. 12", ""},
		"extension behind x":             {"+31201234567x12", ""},
		"extension behind a semicolon":   {"+31201234567;ext=12", ""},
		"extension behind a pause":       {"+31201234567,12", ""},
		"dialled digits":                 {"+31201234567p#21", ""},
		"second number":                  {"+31612345678 +4915112345678", ""},
		"plus sign inside":               {"+31+612345678", ""},
		"letters":                        {"+1 800 FLOWERS", ""},
		"digits of another script":       {"+٣١٦١٢٣٤٥٦٧٨", ""},
		"line break":                     {"+316123\r\n45678", ""},
		"NUL":                            {"+31612345678\x00", ""},
		"right-to-left override":         {"\u202e+31612345678", ""},
		"too short":                      {"+316123", ""},
		"too long":                       {"+1234567890123456", ""},
		"country that begins with zero":  {"+0612345678", ""},
		"three zeros":                    {"00031612345678", ""},
		"longer than anybody types":      {"+31612345678" + strings.Repeat(" ", 60), ""},
		"not a number but a mail":        {"alice@example.com", ""},
		"sip address":                    {"sip:+31612345678@example.com", ""},
		"invalid UTF-8":                  {"+31612345678\xff", ""},
		"placeholder of a configuration": {"{env.HOME}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParsePhone(test.typed)
			if got != test.want || (err == nil) != (test.want != "") || err != nil && !errors.Is(err, ErrPhone) {
				t.Errorf("ParsePhone(%q) = %q, %v, want %q", test.typed, got, err, test.want)
			}
		})
	}
}

func TestPhonesAreMaskedAndCountedByTheirCountry(t *testing.T) {
	for number, want := range map[string][3]string{
		"+31612345678":    {"+31", "+31612", "+31 •••• ••78"},
		"+12025550143":    {"+1", "+1202", "+1 •••• ••43"},
		"+18765550143":    {"+1", "+1876", "+1 •••• ••43"},
		"+352621123456":   {"+352", "+352621", "+352 •••• ••56"},
		"+88165550143":    {"+881", "+881655", "+881 •••• ••43"},
		"+79161234567":    {"+7", "+7916", "+7 •••• ••67"},
		"+6834000":        {"+683", "+683400", "+683 •••• ••00"},
		"not a number":    {"", "not", "••••"},
		"":                {"", "", "••••"},
		"+31 6 123456789": {"", "+31", "••••"},
	} {
		if got := [3]string{CallingCode(number), PhonePrefix(number), MaskPhone(number)}; got != want {
			t.Errorf("%q: %q, want %q", number, got, want)
		}
	}
	for address, want := range map[string]string{"alice@example.com": "a••••@example.com", "é@example.com": "é••••@example.com", "nobody": "••••", "@example.com": "••••", "": "••••"} {
		if got := MaskMail(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

func FuzzParsePhone(f *testing.F) {
	for _, seed := range []string{"+31 (0)6 1234-5678", "0031612345678", "+1 (202) 555-0143", "＋３１６", "+31;ext=1", "(0)+31612345678"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		number, err := ParsePhone(typed)
		if err != nil {
			if number != "" {
				t.Fatalf("%q: an error, and the number %q", typed, number)
			}
			return
		}
		if !e164.MatchString(number) || CallingCode(number) == "" {
			t.Fatalf("%q: %q is not as in E.164", typed, number)
		}
		if again, err := ParsePhone(number); err != nil || again != number {
			t.Fatalf("%q becomes %q, and that %q, %v", typed, number, again, err)
		}
		if masked := strings.TrimPrefix(MaskPhone(number), CallingCode(number)); strings.Contains(masked, number[len(number)-3:]) {
			t.Fatalf("%q shows more than two digits: %s", number, masked)
		}
	})
}
