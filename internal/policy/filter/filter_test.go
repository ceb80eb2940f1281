package filter

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// device is what is known of a device; an attribute that isn't in it is null.
type device map[string]Value

func (d device) value(name string) Value { return d[name] }

func known(s string) Value             { return TextValue(s) }
func texts(s ...string) Value          { return MultipleValue(s) }
func boolean(yes bool) Value           { return BooleanValue(yes) }
func named(s string) device            { return device{"device.displayName": known(s)} }
func certified(names ...string) device { return device{"certificate.san": texts(names...)} }

var (
	unregistered = device{}
	joined       = device{
		"device.isCompliant": boolean(true), "device.trustType": known("ServerAD"), "device.deviceOwnership": known("Company"),
		"device.deviceId": known("0d3f6a54-3c1e-4b9e-9d1f-2f4f4f7f0a11"), "device.displayName": known("KIOSK-07"),
		"device.operatingSystem": known("Windows"),
	}
	personal = device{
		"device.isCompliant": boolean(false), "device.trustType": known("Workplace"), "device.deviceOwnership": known("Personal"),
		"device.displayName": known("phone"),
	}
)

func mustParse(t testing.TB, rule string) *Rule {
	t.Helper()
	attributes := DeviceAttributes
	if strings.Contains(rule, "certificate.") {
		attributes = CertificateAttributes
	}
	r, err := Parse(rule, attributes)
	if err != nil {
		t.Fatalf("%s: %v", rule, err)
	}
	return r
}

func TestRulesHold(t *testing.T) {
	for _, c := range []struct {
		reason string
		rule   string
		device device
		want   bool
	}{
		{"a rule of Microsoft's for managed devices", `device.isCompliant -eq True -or device.trustType -eq "ServerAD"`, joined, true},
		{"neither compliant nor joined", `device.isCompliant -eq True -or device.trustType -eq "ServerAD"`, personal, false},
		{"both must hold", `device.isCompliant -eq True -and device.deviceOwnership -eq "Personal"`, joined, false},

		// Microsoft's table for devices that aren't registered.
		{"unregistered, equals", `device.trustType -eq "ServerAD"`, unregistered, false},
		{"unregistered, starts with", `device.displayName -startsWith "K"`, unregistered, false},
		{"unregistered, ends with", `device.displayName -endsWith "K"`, unregistered, false},
		{"unregistered, contains", `device.displayName -contains "K"`, unregistered, false},
		{"unregistered, in", `device.displayName -in ["K"]`, unregistered, false},
		{"unregistered, equals nothing", `device.displayName -eq ""`, unregistered, false},
		{"unregistered is not compliant, but neither known not to be", `device.isCompliant -eq False`, unregistered, false},
		{"unregistered, not equals", `device.trustType -ne "ServerAD"`, unregistered, true},
		{"unregistered, not true", `device.isCompliant -ne True`, unregistered, true},
		{"unregistered, not false", `device.isCompliant -ne False`, unregistered, true},
		{"unregistered, not starts with", `device.displayName -notStartsWith "K"`, unregistered, true},
		{"unregistered, not ends with", `device.displayName -notEndsWith "K"`, unregistered, true},
		{"unregistered, not contains", `device.displayName -notContains "K"`, unregistered, true},
		{"unregistered, not in", `device.displayName -notIn ["K"]`, unregistered, true},
		{"unregistered, not of a positive one", `-not (device.trustType -eq "ServerAD")`, unregistered, true},
		{"unregistered, not of a negative one", `-not (device.trustType -ne "ServerAD")`, unregistered, false},
		{"unregistered, null", `device.deviceId -eq null`, unregistered, true},
		{"unregistered, not null", `device.deviceId -ne null`, unregistered, false},
		{"registered, null", `device.deviceId -eq null`, joined, false},
		{"registered, not null", `device.deviceId -ne $null`, joined, true},
		{"compliance that is known", `device.isCompliant -ne null`, personal, true},
		{"null in quotes is a text", `device.displayName -eq "null"`, unregistered, false},
		{"an empty text is known", `device.displayName -eq ""`, named(""), true},
		{"an empty text is not null", `device.displayName -eq null`, named(""), false},

		{"equal but for case", `device.trustType -eq "SERVERad"`, joined, true},
		{"part is not equal", `device.displayName -eq "KIOSK"`, joined, false},
		{"not equal", `device.displayName -ne "kiosk-07"`, joined, false},
		{"begins so", `device.displayName -startsWith "kiosk-"`, joined, true},
		{"does not begin so", `device.displayName -startsWith "07"`, joined, false},
		{"does begin so after all", `device.displayName -notStartsWith "kiosk-"`, joined, false},
		{"ends so", `device.displayName -endsWith "K-07"`, joined, true},
		{"does not end so", `device.displayName -endsWith "KIOSK-07-"`, joined, false},
		{"longer than the whole", `device.displayName -startsWith "KIOSK-07-"`, joined, false},
		{"has the part", `device.displayName -contains "osk"`, joined, true},
		{"the whole is a part", `device.displayName -contains "kiosk-07"`, joined, true},
		{"has the part at its end", `device.displayName -contains "07"`, joined, true},
		{"lacks the part", `device.displayName -notContains "osk"`, joined, false},
		{"in the list", `device.displayName -in ["a","kiosk-07"]`, joined, true},
		{"not in the list", `device.displayName -notIn ["a","b"]`, joined, true},
		{"a list does not look for parts", `device.displayName -in ["kiosk"]`, joined, false},
		{"true in quotes, as in Microsoft's table", `device.isCompliant -eq "True"`, joined, true},
		{"true without case", `device.isCompliant -eq tRuE`, joined, true},
		{"false", `device.isCompliant -eq False`, personal, true},
		{"not true", `device.isCompliant -ne True`, personal, true},

		{"case beyond ASCII", `device.displayName -eq "ÉCOLE-ΣΑΣ"`, named("école-σας"), true},
		{"case beyond ASCII, at the end", `device.displayName -endsWith "ΣΑΣ"`, named("école-σας"), true},
		{"the Kelvin sign is no k", `device.displayName -eq "kiosk"`, named("\u212aiosk"), false},
		{"the long s is no s", `device.displayName -contains "secure"`, named("\u017fecure"), false},
		{"the dotless i is no i", `device.displayName -endsWith "i"`, named("\u0131"), false},
		{"the dotted I is no i", `device.displayName -startsWith "i"`, named("\u0130"), false},
		{"bytes that are no text equal nothing", "device.displayName -eq \"\ufffd\"", named("\xff"), false},
		{"bytes that are no text end nothing", "device.displayName -endsWith \"\ufffd\"", named("\xff"), false},
		{"the sign that stands for them is one", "device.displayName -endsWith \"\ufffd\"", named("\ufffd"), true},
		{"half a character is no part of it", `device.displayName -contains "é"`, named("\xc3"), false},

		{"and binds before or", `device.displayName -eq "phone" -or device.isCompliant -eq True -and device.trustType -eq "AzureAD"`, personal, true},
		{"parentheses go first", `(device.displayName -eq "phone" -or device.isCompliant -eq True) -and device.trustType -eq "AzureAD"`, personal, false},
		{"not binds before and", `-not device.displayName -eq "phone" -and device.trustType -eq "Workplace"`, personal, false},
		{"not of parentheses", `-not (device.displayName -eq "phone" -and device.trustType -eq "AzureAD")`, personal, true},
		{"not before or", `-not device.displayName -eq "phone" -or device.trustType -eq "Workplace"`, personal, true},
		{"not not", `-not -not device.displayName -eq "phone"`, personal, true},

		{"operators without a hyphen", `(device.displayName eq "phone") and not (device.trustType ne "workplace")`, personal, true},
		{"operators with the dash of Microsoft's pages", `device.displayName –eq "phone" –and device.trustType –eq "Workplace"`, personal, true},
		{"names of attributes in other case", `DEVICE.deviceid -EQ "0D3F6A54-3C1E-4B9E-9D1F-2F4F4F7F0A11"`, joined, true},
		{"no space where none is needed", `(device.displayName -eq"phone")-and(device.trustType -in['Workplace'])`, personal, true},
		{"lines and tabs", "device.displayName\n\t-eq \"phone\"\r\n-and\u00a0device.trustType -eq 'Workplace'", personal, true},

		{"a double quote", "device.displayName -eq \"the `\"blue`\" one\"", named(`the "blue" one`), true},
		{"a single quote that is doubled", `device.displayName -eq 'Robin''s'`, named("Robin's"), true},
		{"a single quote that is doubled in double quotes", `device.displayName -eq "Robin''s"`, named("Robin's"), true},
		{"a single quote by itself in double quotes", `device.displayName -eq "Robin's"`, named("Robin's"), true},
		{"a double quote in single ones", `device.displayName -eq 'the "blue" one'`, named(`the "blue" one`), true},
		{"a backslash", `device.displayName -startsWith "CORP\desk"`, named(`corp\desk-1`), true},
		{"a backtick", "device.displayName -eq \"a`b\"", named("a`b"), true},

		{"one of several", `certificate.san -eq "B.example.com"`, certified("a.example.com", "b.example.com"), true},
		{"none of several", `certificate.san -eq "c.example.com"`, certified("a.example.com", "b.example.com"), false},
		{"one of several ends so", `certificate.san -endsWith "@example.com"`, certified("a.example.com", "robin@example.com"), true},
		{"several, in", `certificate.san -in ["x","robin@example.com"]`, certified("a.example.com", "robin@example.com"), true},
		{"several, contains means the whole of one", `certificate.san -contains "example"`, certified("a.example.com"), false},
		{"several, contains the whole of one", `certificate.san -contains "a.example.com"`, certified("b", "a.example.com"), true},
		{"not equal to any of several", `certificate.san -ne "c.example.com"`, certified("a.example.com", "b.example.com"), true},
		{"one of several is equal", `certificate.san -ne "b.example.com"`, certified("a.example.com", "b.example.com"), false},
		{"one of several begins so", `certificate.san -notStartsWith "b."`, certified("a.example.com", "b.example.com"), false},
		{"no name at all, positive", `certificate.san -startsWith "b."`, certified(), false},
		{"no name at all, negative", `certificate.san -notStartsWith "b."`, certified(), true},
		{"no name at all is null", `certificate.san -eq null`, certified(), true},
		{"names are not null", `certificate.san -ne null`, certified("a"), true},
		{"a distinguished name", `certificate.issuer -eq "CN=Devices CA,O=Example\, Inc."`, device{"certificate.issuer": known(`CN=Devices CA,O=Example\, Inc.`)}, true},

		{"a value of another kind is null", `device.displayName -eq "phone"`, device{"device.displayName": texts("phone")}, false},
		{"a text is no boolean", `device.isCompliant -eq True`, device{"device.isCompliant": known("True")}, false},
	} {
		t.Run(c.reason, func(t *testing.T) {
			r := mustParse(t, c.rule)
			if got := r.Match(c.device.value); got != c.want {
				t.Errorf("%s is %v", c.rule, got)
			}
			again := mustParse(t, r.String())
			if got := again.Match(c.device.value); got != c.want || again.String() != r.String() {
				t.Errorf("%s is %v, and it means %s", again, got, c.rule)
			}
		})
	}
}

func TestRulesAreWrittenInOneWay(t *testing.T) {
	for _, c := range []struct{ reason, rule, want string }{
		{"case and space", `DEVICE.ISCOMPLIANT  -EQ 'true'`, `device.isCompliant -eq True`},
		{"no parentheses that change nothing", `((device.isCompliant -eq false) -or ((device.trustType -eq "AzureAD" -and device.displayName -ne "x")))`,
			`device.isCompliant -eq False -or device.trustType -eq "AzureAD" -and device.displayName -ne "x"`},
		{"parentheses that change something", `(device.isCompliant -eq false -or device.trustType -eq "AzureAD") -and device.displayName -ne "x"`,
			`(device.isCompliant -eq False -or device.trustType -eq "AzureAD") -and device.displayName -ne "x"`},
		{"and of and is one and", `device.displayName ne 'x' and (device.displayName ne 'y' and device.displayName ne 'z')`,
			`device.displayName -ne "x" -and device.displayName -ne "y" -and device.displayName -ne "z"`},
		{"not has parentheses", `not device.displayName notin ['x', 'y']`, `-not (device.displayName -notIn ["x","y"])`},
		{"null", `device.displayName NE $NULL`, `device.displayName -ne null`},
		{"quotes", "device.displayName -in [\"`\"a`\"\", 'it''s', \"two '''' of them\"]", "device.displayName -in [\"`\"a`\"\",\"it's\",\"two '''' of them\"]"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if got := mustParse(t, c.rule).String(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestMistakesAreTold(t *testing.T) {
	for _, c := range []struct{ reason, rule, want string }{
		{"nothing", " \n", "column 1: the rule is empty: write a comparison, such as device.isCompliant -eq True"},
		{"no such attribute", `device.colour -eq "blue"`,
			"column 1: there is no attribute device.colour: there are device.isCompliant, device.trustType, device.deviceOwnership, device.deviceId, device.displayName, device.operatingSystem"},
		{"an attribute of Entra's", `device.isCompliant -eq True -and device.extensionattribute3 -eq "SAW"`,
			"column 34: device.extensionAttribute3 is known to Entra only: a proxy can't tell it, so a rule that uses it can't be enforced"},
		{"all mistakes in one run", `device.isCompliant -eq "yes" -or device.model -eq 'x' -or device.displayName -in []`,
			"column 24: device.isCompliant is True or False, and never \"yes\"\n" +
				"column 34: device.model is known to Entra only: a proxy can't tell it, so a rule that uses it can't be enforced\n" +
				"column 82: the list is empty: give the texts to look for, such as [\"one\",\"two\"]"},
		{"a text without quotes", `device.trustType -eq ServerAD`, "column 22: a text in quotes is expected behind -eq, and not ServerAD"},
		{"a word for a boolean", `device.isCompliant -eq yes`, "column 24: device.isCompliant is True or False, and never yes"},
		{"no value for a boolean", `device.isCompliant -ne`, "column 23: True, False or null is expected behind -ne, and not the end of the rule"},
		{"a boolean for a text", `device.trustType -ne true`, `column 22: device.trustType is a text: write "true" if it is to be that word`},
		{"a boolean has no beginning", `device.isCompliant -startsWith "T"`, "column 20: device.isCompliant is True or False, which -startsWith can't compare: use -eq or -ne"},
		{"no operator", `device.trustType "ServerAD"`,
			`column 18: an operator is expected behind device.trustType, and not "ServerAD": they are -eq, -ne, -startsWith, -notStartsWith, -endsWith, -notEndsWith, -contains, -notContains, -in, -notIn`},
		{"an operator of other rules", `device.displayName -match "^K"`,
			"column 20: -match is no operator of a filter for devices: they are -eq, -ne, -startsWith, -notStartsWith, -endsWith, -notEndsWith, -contains, -notContains, -in, -notIn"},
		{"an operator of another language", `device.displayName == "K"`, "column 20: = is no operator: they are words, such as -eq, -ne, -and, -or and -not"},
		{"not null", `device.displayName -not null`, "column 20: -not stands before a comparison, or before parentheses: behind an attribute it is -ne, or another operator with not in its name"},
		{"no value", `device.displayName -eq`, "column 23: a text in quotes is expected behind -eq, and not the end of the rule"},
		{"no attribute", `-eq "x"`, "column 1: -eq stands behind an attribute, and there is none before it: write, for example, device.isCompliant -eq True"},
		{"nothing before and", `-and device.isCompliant -eq True`, "column 1: -and stands between two comparisons, and there is none before it"},
		{"nothing behind or", `device.isCompliant -eq True -or `, "column 33: a comparison is expected, such as device.isCompliant -eq True, and not the end of the rule"},
		{"no and between", `device.isCompliant -eq True device.displayName -eq "x"`, "column 29: device.displayName can't stand behind a comparison: -and, -or or the end of the rule is expected"},
		{"no and between in parentheses", `(device.isCompliant -eq True "x")`, `column 30: "x" can't stand behind a comparison: -and, -or or ) is expected`},
		{"a parenthesis too few", `(device.isCompliant -eq True`, "column 1: the parenthesis that opens here is never closed"},
		{"a parenthesis too many", `device.isCompliant -eq True)`, "column 28: no parenthesis is open that this one closes"},
		{"a list for one", `device.displayName -eq ["x"]`, "column 24: -eq compares with one value: a list goes with -in and -notIn"},
		{"one for a list", `device.displayName -in "x"`, `column 24: -in needs a list, even of one text: ["x"]`},
		{"null in a list", `device.displayName -in ["x",null]`, "column 29: a text in quotes is expected in a list, and not null"},
		{"no comma", `device.displayName -in ["x" "y"]`, `column 29: a comma or ] is expected in a list, and not "y"`},
		{"no end of a list", `device.displayName -in ["x",`, "column 24: the list that begins here has no end: ] is missing"},
		{"no end of a list behind a text", `device.displayName -in ["x"`, "column 24: the list that begins here has no end: ] is missing"},
		{"null has no beginning", `device.displayName -startsWith null`, "column 32: null goes with -eq and -ne only, and not with -startsWith"},
		{"everything contains nothing", `device.displayName -contains ""`, "column 30: -contains with an empty text would tell nothing: give the text to look for, or compare with -eq null"},
		{"no end of a text", `device.displayName -eq "x`, `column 24: the text that begins here has no end: " is missing`},
		{"a backslash for an escape", `device.displayName -eq "a \"b\" c"`, "column 27: a backslash before a quote can be read in two ways: write `\" for a double quote and '' for a single one inside of a text"},
		{"a double quote that is doubled", `device.displayName -eq "a ""b"" c"`, "column 28: a quote follows a text at once: write `\" for a double quote and '' for a single one inside of a text"},
		{"quotes of a word processor", `device.displayName -eq “x”`, `column 24: “ is a typographic quote: texts stand in straight ones, "…"`},
		{"an escape outside of a text", "device.displayName -eq `\"x`\"", "column 24: a backtick stands before a double quote inside of a text, as in \"the `\"blue`\" one\"; a text begins with a quote"},
		{"a line that breaks a text", "device.displayName -eq \"x\ny\"", "column 26: a control character can't be part of a text; is a quote missing before it?"},
		{"a hyphen alone", `device.displayName - eq "x"`, "column 20: a hyphen begins an operator, such as -eq, -and or -not; a text stands in quotes"},
		{"another character", `device.displayName -eq {x}`, "column 24: '{' can't stand here: an attribute, an operator or a value is expected, and a text stands in quotes"},
		{"columns are characters", `device.displayName -eq "é" x`, "column 28: x can't stand behind a comparison: -and, -or or the end of the rule is expected"},
		{"bytes that are no text", "device.displayName -eq \"\xff\"", "column 25: the rule is not UTF-8 from here on"},
		{"the attribute of another table", `certificate.subject -eq "CN=x" -and device.displayName -eq "x"`,
			"column 37: there is no attribute device.displayName: there are certificate.subject, certificate.issuer, certificate.serialNumber, certificate.san, certificate.fingerprint"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			attributes := DeviceAttributes
			if strings.HasPrefix(c.rule, "certificate.") {
				attributes = CertificateAttributes
			}
			r, err := Parse(c.rule, attributes)
			if err == nil {
				t.Fatalf("it is read as %s", r)
			}
			if r != nil {
				t.Error("there is a rule beside the error")
			}
			if got := err.Error(); got != c.want {
				t.Errorf("\ngot  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestWhatOnlyEntraKnowsIsNamed(t *testing.T) {
	_, err := Parse(`device.model -eq "x" -or device.systemLabels -any (_ -eq "y") or device.physicalIds -contains "[ZTDId]"`, DeviceAttributes)
	var names []string
	problems, ok := errors.AsType[Problems](err)
	if !ok {
		t.Fatal(err)
	}
	for _, p := range problems {
		if u, ok := p.(*UnknownAttribute); ok {
			names = append(names, u.Name)
		}
	}
	// What stands behind an operator that there isn't can't be read.
	if want := []string{"device.model", "device.systemLabels"}; !slices.Equal(names, want) {
		t.Errorf("got %q of %v", names, err)
	}
	if _, ok := errors.AsType[*UnknownAttribute](err); !ok {
		t.Error("errors.As does not find it")
	}
}

func TestEveryAttributeOfEntraHasItsMessage(t *testing.T) {
	for _, a := range DeviceAttributes {
		_, err := Parse(a.Name+` -ne null`, DeviceAttributes)
		if u, unknown := errors.AsType[*UnknownAttribute](err); unknown != (a.Kind == Unavailable) || unknown && u.Name != a.Name {
			t.Errorf("%s: %v", a.Name, err)
		}
	}
}

func TestRulesAreBounded(t *testing.T) {
	deep := func(n int) string {
		return strings.Repeat("(", n) + "device.isCompliant -eq True" + strings.Repeat(")", n)
	}
	const id = `"0d3f6a54-3c1e-4b9e-9d1f-2f4f4f7f0a11"`
	fill := func(n int) string {
		s := `device.displayName -eq "`
		return s + strings.Repeat("é", n-len(s)-1+2) + `"` // neither the space nor the hyphen counts
	}
	for _, c := range []struct {
		reason, rule string
		ok           bool
	}{
		{"as deep as may be", deep(MaxNesting), true},
		{"too deep", deep(MaxNesting + 1), false},
		{"far too deep", strings.Repeat("(", 60000), false},
		{"not as deep as may be", strings.Repeat("-not ", MaxNesting) + "device.isCompliant -eq True", true},
		{"not too deep", strings.Repeat("-not ", MaxNesting+1) + "device.isCompliant -eq True", false},
		{"parentheses of not count once", strings.Repeat("-not (", MaxNesting) + "device.isCompliant -eq True" + strings.Repeat(")", MaxNesting), true},
		{"many side by side", strings.Repeat("-not (device.isCompliant -eq True) -and ", 60) + "device.isCompliant -eq True", true},
		{"as long as may be", fill(MaxLength + 1), true},
		{"too long", fill(MaxLength + 2), false},
		{"a list as long as may be in Entra", "device.deviceId -in [" + strings.Repeat(id+",", 77) + id + "]", true},
		{"a list that is too long", "device.deviceId -in [" + strings.Repeat(id+",", 80) + id + "]", false},
		{"spaces beyond all measure", strings.Repeat(" ", maxSize) + "device.isCompliant -eq True", false},
	} {
		t.Run(c.reason, func(t *testing.T) {
			r, err := Parse(c.rule, DeviceAttributes)
			if (err == nil) != c.ok {
				t.Fatal(err)
			}
			if err == nil && mustParse(t, r.String()).String() != r.String() {
				t.Error("it can't be read as it is written")
			}
		})
	}
}

func TestNoRuleHoldsForNothing(t *testing.T) {
	if (&Rule{}).Match(joined.value) || (*Rule)(nil).Match(joined.value) || (&Rule{}).String() != "" {
		t.Error("a rule that says nothing holds")
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	r := mustParse(t, `device.displayName -contains "é-ΣΑΣ" -or device.deviceId -in ["a","b"] -or -not (device.trustType -ne "ServerAD") -and device.isCompliant -eq True`)
	d := joined
	if n := testing.AllocsPerRun(100, func() {
		if !r.Match(func(name string) Value { return d[name] }) {
			t.Error("it does not hold")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	r := mustParse(b, `device.isCompliant -ne True -or device.trustType -ne "ServerAD" -or device.displayName -notContains "osk"`)
	b.ReportAllocs()
	for b.Loop() {
		if r.Match(joined.value) {
			b.Fatal("it holds")
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`device.isCompliant -eq True -or device.trustType -eq "ServerAD"`,
		`-not (device.displayName -startsWith 'x''y') -and device.displayName -notIn ["a","b"]`,
		"not not device.displayName –endsWith \"`\"\" or (device.deviceId ne null)",
		`certificate.san -contains "é" -and certificate.san -ne "É"`,
		`device.displayName -in [""]`, `((((`, `device.model -eq "`,
	} {
		f.Add(s, "KIOSK-07", true)
	}
	both := slices.Concat(DeviceAttributes, CertificateAttributes)
	f.Fuzz(func(t *testing.T, rule, have string, yes bool) {
		r, err := Parse(rule, both)
		if err != nil {
			if err.Error() == "" || r != nil {
				t.Fatal("a mistake without a word, or with a rule")
			}
			return
		}
		written := r.String()
		again, err := Parse(written, both)
		if err != nil {
			t.Fatalf("%q is written as %q: %v", rule, written, err)
		}
		if again.String() != written {
			t.Fatalf("%q is written as %q and then as %q", rule, written, again)
		}
		for _, value := range []func(string) Value{
			func(string) Value { return Value{} },
			func(string) Value { return TextValue(have) },
			func(string) Value { return BooleanValue(yes) },
			func(string) Value { return MultipleValue([]string{have, "b"}) },
		} {
			if r.Match(value) != again.Match(value) {
				t.Fatalf("%q is written as %q and decides otherwise", rule, written)
			}
		}
	})
}
