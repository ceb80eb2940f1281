package portal

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
)

//go:embed text/*.json
var textFiles embed.FS

// Texts is what the pages say, in every language that there is a catalogue for.
type Texts struct {
	bundle    *i18n.Bundle
	languages []Language
	matcher   language.Matcher
}

// Language is one that the pages speak.
type Language struct {
	Tag  string // BCP 47
	Name string // in that language
	Dir  string // ltr or rtl
}

// NewTexts reads the catalogues: files named after their language, as in en.json. English is the first, and what others
// lack is said in English.
func NewTexts() (*Texts, error) { return newTexts(textFiles) }

func newTexts(files fs.FS) (*Texts, error) {
	t := &Texts{bundle: i18n.NewBundle(language.English)}
	t.bundle.RegisterUnmarshalFunc("json", json.Unmarshal)
	names, err := fs.Glob(files, "text/*.json")
	if err != nil {
		return nil, err
	}
	tags := []language.Tag{language.English}
	for _, name := range names {
		raw, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		file, err := t.bundle.ParseMessageFileBytes(raw, path.Base(name))
		if err != nil {
			return nil, fmt.Errorf("reading texts %s: %w", name, err)
		}
		if file.Tag != language.English {
			tags = append(tags, file.Tag)
		}
	}
	for _, tag := range tags {
		l := Language{Tag: tag.String(), Dir: "ltr"}
		if script, _ := tag.Script(); rightToLeft[script.String()] {
			l.Dir = "rtl"
		}
		l.Name = t.speak(l).T("language.name")
		t.languages = append(t.languages, l)
	}
	t.matcher = language.NewMatcher(tags)
	return t, nil
}

var rightToLeft = map[string]bool{"Arab": true, "Hebr": true, "Thaa": true, "Syrc": true, "Nkoo": true, "Adlm": true}

// Choose finds the language that suits best, of lists of wishes in the form of Accept-Language (RFC 9110, section 12.5.4),
// of which the first that asks for anything that there is decides.
func (t *Texts) Choose(wishes ...string) Language {
	for _, w := range wishes {
		if w == "" || len(w) > 256 {
			continue
		}
		tags, _, err := language.ParseAcceptLanguage(w)
		if err != nil || len(tags) == 0 {
			continue
		}
		if _, i, confidence := t.matcher.Match(tags...); confidence != language.No {
			return t.languages[i]
		}
	}
	return t.languages[0]
}

// speaker says texts in one language.
type speaker struct{ localizer *i18n.Localizer }

func (t *Texts) speak(l Language) speaker {
	return speaker{i18n.NewLocalizer(t.bundle, l.Tag)}
}

// T says a text. The pairs are names and values that stand in it.
func (s speaker) T(key string, pairs ...any) string {
	return s.say(&i18n.LocalizeConfig{MessageID: key, TemplateData: data(pairs)}, key)
}

// Plural says a text about a number of things.
func (s speaker) Plural(key string, count int) string {
	return s.say(&i18n.LocalizeConfig{MessageID: key, PluralCount: count, TemplateData: map[string]any{"Count": count}}, key)
}

func (s speaker) say(c *i18n.LocalizeConfig, key string) string {
	text, err := s.localizer.Localize(c)
	if err != nil && text == "" {
		// A test holds every key of every page against the catalogues.
		return key
	}
	return strings.TrimSpace(text)
}

func data(pairs []any) map[string]any {
	if len(pairs) == 0 {
		return nil
	}
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return m
}
