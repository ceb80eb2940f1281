package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "45s": 45 * time.Second, "1h": time.Hour, "1h30m": 90 * time.Minute, "14d": 14 * 24 * time.Hour, "1d12h": 36 * time.Hour, "500ms": 500 * time.Millisecond,
	} {
		got, err := ParseDuration(text)
		if err != nil || time.Duration(got) != want {
			t.Errorf("ParseDuration(%q) = %v, %v", text, time.Duration(got), err)
		}
		if got.String() != text {
			t.Errorf("%q is written as %q", text, got)
		}
	}
	for _, text := range []string{"", "30", "-1h", "d", "1.5d", "1d-2h", "14 d", "1y", "99999999d", "h1", "1dd"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v", text, got)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"14d", "1h30m", "0", "1d12h", "65535d", "9999h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("%q is %v", text, time.Duration(d))
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Fatalf("%q is %v, which is written as %q and read as %v, %v", text, time.Duration(d), d, time.Duration(again), err)
		}
	})
}

func TestDates(t *testing.T) {
	d, err := ParseDate("2027-03-01")
	if err != nil || !d.Equal(time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)) {
		t.Fatalf("ParseDate = %v, %v", d, err)
	}
	for _, text := range []string{"", "2027-02-30", "1 March 2027", "2027-3-1", "2027-03-01T00:00:00Z"} {
		if d, err := ParseDate(text); err == nil {
			t.Errorf("ParseDate(%q) = %v", text, d)
		}
	}
}

func TestJSONComesBackEqual(t *testing.T) {
	in := `{"secret":["{env.X}"],"session":{"idle":"30m"},"registration":{"from":["10.0.0.0/8"],"require_pass":true},` +
		`"users":[{"file":{"path":"users.yaml"}}],"factor":{"totp":{"issuer":"Example"}},"security_defaults":{"registration_grace":"0","until":"2027-03-01"},"sign_in_log":{"keep":"90d","max":5000},"legacy_report":{"keep":"30d","show_unknown_names":true}}`
	var c Config
	d := json.NewDecoder(strings.NewReader(in))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	if *c.SecurityDefaults.RegistrationGrace != 0 {
		t.Fatal("a grace period of 0 is not no grace period")
	}
	out, err := json.Marshal(c)
	if err != nil || string(out) != in {
		t.Fatalf("%v\n got %s\nwant %s", err, out, in)
	}
}

func TestDefaultsAreThoseOfTheManual(t *testing.T) {
	c := Config{Users: []Directory{{File: &FileDirectory{Path: "users.yaml"}}}}
	if err := c.Validate().Err(); err != nil {
		t.Fatalf("the least that can be said is refused: %v", err)
	}
	c.SetDefaults()
	if time.Duration(c.Session.Idle) != time.Hour || time.Duration(c.Session.Lifetime) != 12*time.Hour ||
		time.Duration(*c.SecurityDefaults.RegistrationGrace) != 14*24*time.Hour || c.SecurityDefaults.Off || c.Users[0].File.Name != "file" ||
		time.Duration(c.SignInLog.Keep) != 30*24*time.Hour || c.SignInLog.Max != 100000 || c.SignInLog.Off ||
		time.Duration(c.LegacyReport.Keep) != 90*24*time.Hour || c.LegacyReport.ShowUnknownNames || c.LegacyReport.Off {
		t.Fatalf("%+v", c)
	}
	var a Application
	a.SetDefaults()
	if a.Identity != (Identity{"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email"}) {
		t.Fatalf("%+v", a)
	}
}

func TestFoldHeader(t *testing.T) {
	for _, name := range []string{"Remote-User", "remote_user", "REMOTE.USER", "Remote~User", "remote!user", "Remote+User", "remote*user", "Remote^User"} {
		if FoldHeader(name) != "remote-user" {
			t.Errorf("FoldHeader(%q) = %q", name, FoldHeader(name))
		}
	}
	if FoldHeader("RemoteUser") == FoldHeader("Remote-User") {
		t.Error("a name without a separator is another name")
	}
}
