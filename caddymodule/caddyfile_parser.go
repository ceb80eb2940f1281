package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-mfa/caddy-mfa/config"
)

// parser reads tokens into a configuration. It goes on after a mistake, so that one run reports them all.
type parser struct {
	mistakes []string
	at       map[string]string // field, as config names it → file:line
	failed   map[string]bool   // fields that could not be read: what they hold says nothing
	shared   string            // where a store was written that several machines share
}

func newParser() *parser { return &parser{at: map[string]string{}, failed: map[string]bool{}} }

func position(d *caddyfile.Dispenser) string { return fmt.Sprintf("%s:%d", d.File(), d.Line()) }

func (p *parser) wrong(d *caddyfile.Dispenser, format string, args ...any) {
	p.mistakes = append(p.mistakes, position(d)+": "+fmt.Sprintf(format, args...))
}

// err gives all mistakes, those of the values included, in the order of the file.
func (p *parser) err(what string, problems config.Problems) error {
	for _, problem := range problems {
		if !p.failed[problem.Field] {
			p.mistakes = append(p.mistakes, p.position(problem.Field, what)+problem.Message)
		}
	}
	switch len(p.mistakes) {
	case 0:
		return nil
	case 1:
		return errors.New(p.mistakes[0])
	}
	slices.SortStableFunc(p.mistakes, byLine)
	return fmt.Errorf("%d mistakes in `%s`:\n%s", len(p.mistakes), what, strings.Join(p.mistakes, "\n"))
}

// position finds where a field, or what holds it, was written.
func (p *parser) position(field, what string) string {
	for f := field; f != ""; f = f[:max(0, strings.LastIndexAny(f, ".["))] {
		if at, ok := p.at[f]; ok {
			return at + ": "
		}
	}
	if at, ok := p.at[""]; ok {
		return at + ": "
	}
	return what + ": "
}

func byLine(x, y string) int {
	line := func(s string) int {
		_, rest, _ := strings.Cut(s, ":")
		number, _, _ := strings.Cut(rest, ":")
		n, err := strconv.Atoi(number)
		if err != nil {
			return 0
		}
		return n
	}
	return line(x) - line(y)
}

// option reads one option. The dispenser stands on its name.
type option func(d *caddyfile.Dispenser)

// repeatable options may stand several times in their block.
var repeatable = map[string]bool{
	"secret": true, "users": true, "factor": true, "sender": true,
	"policy": true, "policies": true, "named_location": true, "strength": true, "device_rule": true, "terms": true,
	"named_locations[].ranges": true, "per_user_mfa.trusted_ranges": true, "senders[].header": true,
	"service_token": true, "application.legacy_auth": true, "application.legacy_exception": true, "application.legacy_exceptions[].from": true,
}

// index is which of several: it makes no difference to what may be written.
var index = regexp.MustCompile(`\[\d+\]`)

// block reads the options of a block. path names the block, for what is not there yet and for positions.
func (p *parser) block(d *caddyfile.Dispenser, path string, options map[string]option) {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		sub := caddyfile.NewDispenser(d.NextSegment())
		sub.Next()
		name := sub.Val()
		full := name
		if path != "" {
			full = path + "." + name
		}
		kind := index.ReplaceAllString(full, "[]")
		read, known := options[name]
		switch {
		case !known && notYet[kind]:
			p.wrong(sub, "`%s` is not available in this version of caddy-mfa", name)
		case !known:
			p.wrong(sub, "unknown option `%s`; want one of %s", name, list(slices.Sorted(maps.Keys(options))))
		case seen[name] && !repeatable[kind]:
			p.wrong(sub, "`%s` stands here twice; write it once", name)
		default:
			field, before := strings.TrimPrefix(full, "application."), len(p.mistakes)
			p.at[field] = position(sub)
			read(sub)
			p.failed[field] = p.failed[field] || len(p.mistakes) > before
		}
		seen[name] = true
	}
}

func list(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }

// args gives the arguments of an option, of which there must be between least and most (-1: any number). example shows one.
func (p *parser) args(d *caddyfile.Dispenser, least, most int, example string) ([]string, bool) {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) < least || most >= 0 && len(args) > most {
		p.wrong(d, "`%s` has %s; write for example `%s`", name, count(len(args)), example)
		return nil, false
	}
	return args, true
}

func count(n int) string {
	switch n {
	case 0:
		return "no value"
	case 1:
		return "1 value"
	}
	return fmt.Sprintf("%d values", n)
}

// end complains of a block behind an option that has none.
func (p *parser) end(d *caddyfile.Dispenser) {
	name := d.Val()
	if d.NextBlock(0) {
		p.wrong(d, "`%s` has no options of its own; take the braces out", name)
	}
}

// one gives the one argument of an option without a block.
func (p *parser) one(d *caddyfile.Dispenser, example string) (string, bool) {
	args, ok := p.args(d, 1, 1, example)
	p.end(d)
	if !ok {
		return "", false
	}
	return args[0], true
}

// duration reads an option that is a duration. Zero is refused: it would be taken for the default.
func (p *parser) duration(field *config.Duration, example string) option {
	return func(d *caddyfile.Dispenser) {
		name := d.Val()
		text, ok := p.one(d, example)
		if !ok {
			return
		}
		value, err := config.ParseDuration(text)
		switch {
		case err != nil:
			p.wrong(d, "%v", err)
			return
		case value == 0:
			p.wrong(d, "`%s` can't be 0; write for example `%s`", name, example)
			return
		}
		*field = value
	}
}

// text reads an option that is one text.
func (p *parser) text(field *string, example string) option {
	return func(d *caddyfile.Dispenser) {
		if text, ok := p.one(d, example); ok {
			*field = text
		}
	}
}
