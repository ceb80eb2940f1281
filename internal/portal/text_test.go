package portal

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// catalogue reads the texts of a file. A text that depends on a number has one for each plural form.
func catalogue(t testing.TB, name string) map[string]map[string]string {
	t.Helper()
	raw, err := fs.ReadFile(textFiles, name)
	if err != nil {
		t.Fatal(err)
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	texts := map[string]map[string]string{}
	for key, raw := range entries {
		var text string
		if err := json.Unmarshal(raw, &text); err == nil {
			texts[key] = map[string]string{"": text}
			continue
		}
		var forms map[string]string
		if err := json.Unmarshal(raw, &forms); err != nil {
			t.Fatalf("%s: %s: %v", name, key, err)
		}
		texts[key] = forms
	}
	return texts
}

func catalogues(t testing.TB) map[string]map[string]map[string]string {
	t.Helper()
	names, err := fs.Glob(textFiles, "text/*.json")
	if err != nil || len(names) < 2 {
		t.Fatal(names, err)
	}
	all := map[string]map[string]map[string]string{}
	for _, name := range names {
		all[strings.TrimSuffix(path.Base(name), ".json")] = catalogue(t, name)
	}
	return all
}

var (
	placeholder   = regexp.MustCompile(`\{\{\s*\.(\w+)\s*\}\}`)
	templateKey   = regexp.MustCompile(`\.(?:T|Plural) "([^"]+)"`)
	looksLikeAKey = regexp.MustCompile(`^[a-z]+(\.[a-z_]+)+$`)
)

// keysUsed are those that templates and Go sources name.
func keysUsed(t testing.TB, sections map[string]bool) map[string]bool {
	t.Helper()
	used := map[string]bool{"language.name": true}
	templates, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil || len(templates) == 0 {
		t.Fatal(templates, err)
	}
	for _, name := range templates {
		raw, err := fs.ReadFile(templateFiles, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range templateKey.FindAllStringSubmatch(string(raw), -1) {
			used[m[1]] = true
		}
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			section, _, _ := strings.Cut(text, ".")
			if err == nil && looksLikeAKey.MatchString(text) && sections[section] {
				used[text] = true
			}
			return true
		})
	}
	for _, method := range []mfa.Method{mfa.SMS, mfa.Voice, mfa.Email} {
		used["address."+string(method)], used["address."+string(method)+"_wrong"] = true, true
	}
	for _, method := range []mfa.Method{mfa.Passkey, mfa.Push, mfa.TOTP, mfa.SMS, mfa.Voice, mfa.Email, mfa.RecoveryCode, mfa.TemporaryAccessPass} {
		for _, what := range []string{"lead", "label", "way", "wrong"} {
			used[fmt.Sprintf("verify.%s.%s", method, what)] = true
		}
	}
	return used
}

func TestEveryTextIsThereInEveryLanguage(t *testing.T) {
	all := catalogues(t)
	sections := map[string]bool{}
	for _, texts := range all {
		for key := range texts {
			section, _, _ := strings.Cut(key, ".")
			sections[section] = true
		}
	}
	used := keysUsed(t, sections)
	if len(used) < 100 {
		t.Fatalf("only %d keys are used", len(used))
	}
	for lang, texts := range all {
		for _, key := range slices.Sorted(maps.Keys(used)) {
			if texts[key] == nil {
				t.Errorf("%s lacks %s", lang, key)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			if !used[key] {
				t.Errorf("%s has %s, which no page uses", lang, key)
			}
		}
	}
}

func placeholders(text string) string {
	var names []string
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " ")
}

func TestTranslationsHaveTheSamePlaceholders(t *testing.T) {
	all := catalogues(t)
	for lang, texts := range all {
		for key, forms := range texts {
			english := all["en"][key]
			if len(forms) != len(english) {
				t.Errorf("%s: %s has %d forms, in English %d", lang, key, len(forms), len(english))
			}
			for form, text := range forms {
				if strings.TrimSpace(text) == "" {
					t.Errorf("%s: %s is empty", lang, key)
				}
				if got, want := placeholders(text), placeholders(english[form]); got != want {
					t.Errorf("%s: %s %s holds %q, in English %q", lang, key, form, got, want)
				}
				if rest := placeholder.ReplaceAllString(text, ""); strings.ContainsAny(rest, "{}<>") {
					t.Errorf("%s: %s %s holds a brace or a tag: %s", lang, key, form, text)
				}
			}
		}
	}
}

func TestChoose(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	for reason, tc := range map[string]struct {
		wishes []string
		want   string
	}{
		"nobody wishes anything":                 {nil, "en"},
		"the browser's language":                 {[]string{"", "nl"}, "nl"},
		"a region of it":                         {[]string{"", "nl-BE,nl;q=0.9,en;q=0.8"}, "nl"},
		"the menu comes first":                   {[]string{"en", "nl"}, "en"},
		"the best of several":                    {[]string{"", "fr;q=0.9,nl;q=0.8,en;q=0.5"}, "nl"},
		"the heavier one":                        {[]string{"", "en;q=0.1,nl"}, "nl"},
		"a language that there is not":           {[]string{"", "tlh"}, "en"},
		"the menu's language is not there":       {[]string{"fr", "nl"}, "nl"},
		"nonsense in the cookie":                 {[]string{"\x00\xff;;q=", "nl"}, "nl"},
		"a list that is too long is not read":    {[]string{"", strings.Repeat("nl,", 200)}, "en"},
		"any language":                           {[]string{"", "*"}, "en"},
		"a language of which nothing is wished":  {[]string{"", "nl;q=0"}, "en"},
		"upper case, as some old browsers do it": {[]string{"", "NL-nl"}, "nl"},
	} {
		if got := texts.Choose(tc.wishes...); got.Tag != tc.want {
			t.Errorf("%s: %s, want %s", reason, got.Tag, tc.want)
		}
	}
}

func FuzzChoose(f *testing.F) {
	texts, err := NewTexts()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("nl-BE,nl;q=0.9")
	f.Add("*;q=0")
	f.Fuzz(func(t *testing.T, wish string) {
		if got := texts.Choose(wish, wish); !slices.Contains(texts.languages, got) {
			t.Fatalf("%q: %+v", wish, got)
		}
	})
}
