package graph

import (
	"errors"
	"strings"
	"testing"
)

func mustNames(t testing.TB, text string) *Names {
	t.Helper()
	n, err := ParseNames([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNamesTakeThePlaceOfIDs(t *testing.T) {
	names := mustNames(t, `# what Entra calls what we have
8E75AF29-5176-4372-a718-724b8a4620dc: group:Finance
"<AdministratorGroup>": "group: Administrators: all"
62e90394-69f5-4237-9190-012177145e10: role:Domain Admins
Office365: application:files
185c993e-10a9-44fa-98d1-230c8f72f497: location:office
2793995e-0a7d-40d7-bd35-6968ba142197: user:alice
385c993e-10a9-44fa-98d1-230c8f72f497: terms:rules
485c993e-10a9-44fa-98d1-230c8f72f497: strength:keys
`)
	v, r := judged(t, change(t,
		people, `{"includeUsers": ["2793995E-0a7d-40d7-bd35-6968ba142197"], "includeGroups": ["8e75af29-5176-4372-a718-724b8a4620dc", "<administratorgroup>", "group:a:b"], "includeRoles": ["62e90394-69f5-4237-9190-012177145e10", "F2EF992C-3afb-46b9-b7cf-a126ee74c451"]}`,
		targets, `{"includeApplications": ["OFFICE365"]}`,
		"conditions.locations.excludeLocations", `["185c993e-10a9-44fa-98d1-230c8f72f497"]`,
		"grantControls.termsOfUse", `["385c993e-10a9-44fa-98d1-230c8f72f497"]`,
		"grantControls.authenticationStrength", `{"id": "485c993e-10a9-44fa-98d1-230c8f72f497", "displayName": "Keys", "allowedCombinations": ["fido2"]}`,
	), names, Options{})
	if v.Verdict != Enforced {
		t.Fatalf("%+v %v", v, r.Errors)
	}
	c, g := r.Policies[0].Conditions, r.Policies[0].Grant
	got := strings.Join([]string{
		strings.Join(c.Users.Users, ","), strings.Join(c.Users.Groups, ","), strings.Join(c.Users.Roles, ","), strings.Join(c.Applications, ","),
		strings.Join(c.ExcludeLocations, ","), strings.Join(g.Terms, ","), g.Strength,
	}, " | ")
	if want := "alice | Finance,Administrators: all,a:b | Domain Admins,Global Reader | files | office | rules | keys"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if len(r.Strengths) != 0 {
		t.Errorf("a strength that is defined here comes with a definition: %v", r.Strengths)
	}
}

func TestPlaceholdersOfTemplatesAreNoNames(t *testing.T) {
	for _, id := range []string{"<group>", "{group}", "{{group}}", "${GROUP}", "$(group)", "#{group}#", "[group]", "%group%", "__GROUP__", "{8E75AF29-5176-4372-a718-724b8a4620dc}"} {
		if v, _ := judged(t, change(t, people+".excludeGroups", `["`+id+`"]`), nil, Options{}); v.Verdict != Unresolved || len(v.IDs) != 1 || v.IDs[0] != (ID{id, Group}) {
			t.Errorf("%s: %+v", id, v)
		}
	}
	for _, name := range []string{"CA-BreakGlass", "a{b}", "__a", "50%", "Staff (Europe)", "$Staff"} {
		if v, _ := judged(t, change(t, people+".excludeGroups", `["`+name+`"]`), nil, Options{}); v.Verdict != Enforced {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestANameOfAnotherKind(t *testing.T) {
	names := mustNames(t, "ceeac9b8-ddf5-48cb-afcb-e2ab8bfd1a57: user:alice\n")
	v, r := judged(t, change(t, people, `{"includeGroups": ["CEEAC9B8-ddf5-48cb-afcb-e2ab8bfd1a57", "role:x"]}`), names, Options{})
	if v.Verdict != Unresolved || len(v.IDs) != 2 || len(r.Errors) != 2 || len(r.Policies) != 0 {
		t.Fatalf("%+v %v", v, r.Errors)
	}
	const want = `policy.json: policy "Everything": conditions.users.includeGroups: CEEAC9B8-ddf5-48cb-afcb-e2ab8bfd1a57 names a user in the mapping, and a group is wanted here`
	if got := r.Errors[0].Error(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestMistakesInAMapping(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no kind":             {"a: Finance\n", "line 1: a: \"Finance\" says not what it names; one of user:, group:, role:, application:, location:, terms:, strength: is wanted before the name, as in `62e90394-69f5-4237-9190-012177145e10: role:Global Administrator`"},
		"a kind that is none": {"a: team:Finance\n", `"team:Finance" says not what it names`},
		"no name":             {"a: 'group: '\n", "line 1: a: no name follows \"group:\""},
		"nothing":             {"a:\n", `line 1: a: "" says not what it names`},
		"a mapping below":     {"a:\n  group: Finance\n", "line 1: a: one name is wanted"},
		"a list below":        {"a: [group:x]\n", "line 1: a: one name is wanted"},
		"a list":              {"- a\n", "line 1: a mapping of ids to names is wanted"},
		"an id twice":         {"a: group:x\nb: group:y\nA: group:x\n", "line 3: A has a name already, in line 1"},
		"an id that is none":  {"[a, b]: group:x\n", "line 1: an id is wanted before the colon"},
		"an anchor":           {"a: &x group:x\n", "line 1: anchors and aliases are not understood here"},
		"an alias":            {"a: &x group:x\nb: *x\n", "line 2: anchors and aliases are not understood here"},
		"two documents":       {"a: group:x\n---\nb: group:y\n", "more than one document; one mapping is wanted"},
		"no YAML":             {"a: group:x\n\tb: c\n", "not YAML: yaml: line 2"},
		"all at once":         {"a: x\nb: group:y\nc: z\n", "line 3: c:"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := ParseNames([]byte(test.text))
			if err == nil || n != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
	for _, empty := range []string{"", "# nothing yet\n", "---\n", "null\n", "{}\n"} {
		if n, err := ParseNames([]byte(empty)); err != nil || n == nil || len(n.entries) != 0 {
			t.Errorf("%q: %v %v", empty, n, err)
		}
	}
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := range 9 {
		bomb.WriteString(strings.NewReplacer("N", string(rune('1'+i)), "M", string(rune('0'+i))).Replace("aN: &aN [*aM,*aM,*aM,*aM,*aM,*aM,*aM,*aM,*aM]\n"))
	}
	if _, err := ParseNames([]byte(bomb.String())); err == nil {
		t.Error("a billion laughs are a mapping")
	}
}

func TestEveryRoleOfATenantHasOneName(t *testing.T) {
	seen := map[string]string{}
	for id, name := range roles {
		if !guid.MatchString(id) || id != strings.ToLower(id) || name == "" || seen[name] != "" {
			t.Errorf("%s %q %s", id, name, seen[name])
		}
		seen[name] = id
	}
	if len(roles) < 110 {
		t.Errorf("%d roles", len(roles))
	}
}

func TestRolesAreKnownByName(t *testing.T) {
	for name, want := range map[string]bool{"Global Administrator": true, "global administrator": true, "Global Adminstrator": false, "": false} {
		if got := IsRole(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("a: group:x\n")
	f.Add("\"<G>\": \"role: a\"\n62e90394-69f5-4237-9190-012177145e10: user:b # c\n")
	f.Add("a: &x [*x]\n---\n- b")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseNames([]byte(text))
		if (n == nil) != (err != nil) {
			t.Fatalf("%v and %v", n, err)
		}
		if n == nil {
			return
		}
		for id, e := range n.entries {
			name, ok, err := n.resolve("", e.kind, strings.ToUpper(id))
			if strings.ToLower(strings.ToUpper(id)) != id {
				continue
			}
			if !ok || err != nil || name != e.name || name == "" {
				t.Errorf("%q gives %q, %v, %v; want %v", id, name, ok, err, e)
			}
		}
	})
}

func TestErrorsOfAFileCanBeTold(t *testing.T) {
	r := Import([]File{{"f", []byte(`{"value": []}`)}, {"g", []byte("{}")}}, nil, Options{})
	if len(r.Errors) != 1 || !errors.Is(r.Errors[0], ErrNoPolicy) {
		t.Errorf("%v", r.Errors)
	}
}
