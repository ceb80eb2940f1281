package filter

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxSize is how many bytes are read of a rule, whatever they are.
const maxSize = 1 << 16

// operators by their names in lower case.
var operators = map[string]struct {
	operator operator
	negative bool
}{
	"eq": {equals, false}, "ne": {equals, true},
	"startswith": {startsWith, false}, "notstartswith": {startsWith, true},
	"endswith": {endsWith, false}, "notendswith": {endsWith, true},
	"contains": {contains, false}, "notcontains": {contains, true},
	"in": {in, false}, "notin": {in, true},
}

// operatorNames are how the operators are written, and their opposites.
var operatorNames = [...][2]string{
	equals:     {"-eq", "-ne"},
	startsWith: {"-startsWith", "-notStartsWith"},
	endsWith:   {"-endsWith", "-notEndsWith"},
	contains:   {"-contains", "-notContains"},
	in:         {"-in", "-notIn"},
}

// elsewhere are the operators of Entra's other rules.
var elsewhere = []string{"match", "notMatch", "any", "all", "le", "ge", "lt", "gt", "plus", "minus"}

// Parse reads a rule that uses these attributes. The error is Problems.
func Parse(rule string, attributes []Attribute) (*Rule, error) {
	p := &parser{lexer: lexer{rest: rule, column: 1}, attributes: attributes}
	switch {
	case !utf8.ValidString(rule):
		valid := strings.IndexFunc(rule, func(r rune) bool { return r == utf8.RuneError })
		p.problem(1+utf8.RuneCountInString(rule[:valid]), "the rule is not UTF-8 from here on")
	case len(rule) > maxSize:
		p.problem(1, "the rule is longer than %d characters", MaxLength)
	case strings.TrimSpace(rule) == "":
		p.problem(1, "the rule is empty: write a comparison, such as %s", p.example())
	default:
		root := p.rule()
		if len(p.problems) == 0 {
			return &Rule{root}, nil
		}
	}
	return nil, p.problems
}

// parser reads a rule. What its methods read is nil if there is no going on behind it; what was wrong is in problems.
type parser struct {
	lexer
	attributes []Attribute
	token      token // the next one
	nesting    int
	problems   Problems
}

func (p *parser) problem(column int, format string, args ...any) {
	p.problems = append(p.problems, &Problem{column, fmt.Sprintf(format, args...)})
}

// advance goes to the next token.
func (p *parser) advance() bool {
	t, problem := p.next()
	if problem != nil {
		p.problems = append(p.problems, problem)
		return false
	}
	p.token = t
	return true
}

func (p *parser) rule() *node {
	if !p.advance() {
		return nil
	}
	n := p.combination(or)
	if n == nil {
		return nil
	}
	switch {
	case p.token.kind == end:
		return n
	case p.token.kind == ')':
		p.problem(p.token.column, "no parenthesis is open that this one closes")
	default:
		p.problem(p.token.column, "%s can't stand behind a comparison: -and, -or or the end of the rule is expected", p.token)
	}
	return nil
}

// combination reads what -or combines, or what -and does.
func (p *parser) combination(kind nodeKind) *node {
	name, part := "or", func() *node { return p.combination(and) }
	if kind == and {
		name, part = "and", p.negation
	}
	n := &node{kind: kind}
	for {
		operand := part()
		switch {
		case operand == nil:
			return nil
		case operand.kind == kind:
			n.parts = append(n.parts, operand.parts...)
		default:
			n.parts = append(n.parts, operand)
		}
		if !p.token.is(name) {
			break
		}
		if !p.advance() {
			return nil
		}
	}
	if len(n.parts) == 1 {
		return n.parts[0]
	}
	return n
}

// negation reads one part of what -and combines.
func (p *parser) negation() *node {
	if !p.token.is("not") {
		return p.primary()
	}
	column := p.token.column
	if !p.advance() {
		return nil
	}
	// The parentheses behind -not count for both.
	counts := p.token.kind != '('
	if counts && !p.enter(column) {
		return nil
	}
	operand := p.negation()
	if counts {
		p.nesting--
	}
	if operand == nil {
		return nil
	}
	return &node{kind: not, parts: []*node{operand}}
}

func (p *parser) enter(column int) bool {
	if p.nesting++; p.nesting > MaxNesting {
		p.problem(column, "parentheses and -not are nested more than %d deep: most of them can be left out", MaxNesting)
		return false
	}
	return true
}

// primary reads a comparison, or what stands in parentheses.
func (p *parser) primary() *node {
	if p.token.kind != '(' {
		return p.comparison()
	}
	column := p.token.column
	if !p.enter(column) || !p.advance() {
		return nil
	}
	n := p.combination(or)
	if n == nil {
		return nil
	}
	p.nesting--
	switch {
	case p.token.kind == end:
		p.problem(column, "the parenthesis that opens here is never closed")
		return nil
	case p.token.kind != ')':
		p.problem(p.token.column, "%s can't stand behind a comparison: -and, -or or ) is expected", p.token)
		return nil
	}
	if !p.advance() {
		return nil
	}
	return n
}

func (p *parser) comparison() *node {
	t := p.token
	_, isOperator := operators[strings.ToLower(t.text)]
	switch {
	case t.kind == word && (t.is("and") || t.is("or")):
		p.problem(t.column, "%s stands between two comparisons, and there is none before it", t)
		return nil
	case t.kind == word && (t.hyphen || isOperator):
		p.problem(t.column, "%s stands behind an attribute, and there is none before it: write, for example, %s", t, p.example())
		return nil
	case t.kind != word:
		p.problem(t.column, "a comparison is expected, such as %s, and not %s", p.example(), t)
		return nil
	}
	n := &node{attribute: p.attribute(t)}
	if !p.advance() || !p.operator(n) {
		return nil
	}
	if p.token.kind == '[' {
		return p.list(n)
	}
	return p.value(n)
}

// attribute finds the attribute of a token. What there isn't, is a problem, and is read like one that is unavailable.
func (p *parser) attribute(t token) Attribute {
	for _, a := range p.attributes {
		if !strings.EqualFold(a.Name, t.text) {
			continue
		}
		if a.Kind == Unavailable {
			p.problems = append(p.problems, &UnknownAttribute{a.Name, t.column})
		}
		return a
	}
	var known []string
	for _, a := range p.attributes {
		if a.Kind != Unavailable {
			known = append(known, a.Name)
		}
	}
	p.problem(t.column, "there is no attribute %s: there are %s", t.text, strings.Join(known, ", "))
	return Attribute{Name: t.text}
}

func (p *parser) operator(n *node) bool {
	t := p.token
	o, known := operators[strings.ToLower(t.text)]
	switch {
	case t.kind == word && known:
		n.operator, n.negative = o.operator, o.negative
		if n.attribute.Kind == Boolean && n.operator != equals {
			p.problem(t.column, "%s is True or False, which %s can't compare: use -eq or -ne", n.attribute.Name, t)
			n.attribute.Kind = Unavailable
		}
		return p.advance()
	case t.kind == word && slices.ContainsFunc(elsewhere, t.is):
		p.problem(t.column, "%s is no operator of a filter for devices: they are %s", t, operatorList())
	case t.is("not"):
		p.problem(t.column, "-not stands before a comparison, or before parentheses: behind an attribute it is -ne, or another operator with not in its name")
	default:
		p.problem(t.column, "an operator is expected behind %s, and not %s: they are %s", n.attribute.Name, t, operatorList())
	}
	return false
}

func operatorList() string {
	var all []string
	for _, names := range operatorNames {
		all = append(all, names[:]...)
	}
	return strings.Join(all, ", ")
}

// value reads what an attribute is compared with, where that is one value.
func (p *parser) value(n *node) *node {
	t, name := p.token, n.operatorName()
	wrong := func(format string, args ...any) {
		// Whatever an attribute holds that isn't available.
		if n.attribute.Kind != Unavailable {
			p.problem(t.column, format, args...)
		}
	}
	yes, no := strings.EqualFold(t.text, "true"), strings.EqualFold(t.text, "false")
	bare := t.kind == word && !t.hyphen
	switch {
	case bare && (t.is("null") || t.is("$null")):
		n.null = true
		if n.operator != equals {
			wrong("null goes with -eq and -ne only, and not with %s", name)
		}
	case bare && (yes || no), t.kind == text && n.attribute.Kind == Boolean && (yes || no):
		n.yes = yes
		if n.attribute.Kind != Boolean {
			wrong("%s is a text: write \"%s\" if it is to be that word", n.attribute.Name, t.text)
		}
	case t.kind == text && n.attribute.Kind == Boolean:
		wrong("%s is True or False, and never %s", n.attribute.Name, t)
	case t.kind == text:
		n.texts, n.folded = []string{t.text}, []string{foldText(t.text)}
		switch n.operator {
		case in:
			wrong("%s needs a list, even of one text: [%s]", name, t)
		case startsWith, endsWith, contains:
			if t.text == "" {
				wrong("%s with an empty text would tell nothing: give the text to look for, or compare with -eq null", name)
			}
		}
	case t.kind == word && n.attribute.Kind == Boolean:
		p.problem(t.column, "%s is True or False, and never %s", n.attribute.Name, t)
		return nil
	default:
		p.problem(t.column, "%s is expected behind %s, and not %s", n.expected(), name, t)
		return nil
	}
	if !p.advance() {
		return nil
	}
	return n
}

// expected is what could have been the value.
func (n *node) expected() string {
	switch {
	case n.attribute.Kind == Boolean:
		return "True, False or null"
	case n.operator == in:
		return `a list of texts, such as ["one","two"],`
	}
	return "a text in quotes"
}

// list reads what an attribute is compared with, where that is a list.
func (p *parser) list(n *node) *node {
	open, name := p.token.column, n.operatorName()
	if n.operator != in && n.attribute.Kind != Unavailable {
		p.problem(open, "%s compares with one value: a list goes with -in and -notIn", name)
	}
	for {
		if !p.advance() {
			return nil
		}
		switch {
		case p.token.kind == ']' && len(n.texts) == 0:
			p.problem(open, "the list is empty: give the texts to look for, such as [\"one\",\"two\"]")
		case p.token.kind == end:
			p.problem(open, "the list that begins here has no end: ] is missing")
			return nil
		case p.token.kind != text:
			p.problem(p.token.column, "a text in quotes is expected in a list, and not %s", p.token)
			return nil
		default:
			n.texts, n.folded = append(n.texts, p.token.text), append(n.folded, foldText(p.token.text))
			if !p.advance() {
				return nil
			}
		}
		switch p.token.kind {
		case ',':
		case ']':
			if !p.advance() {
				return nil
			}
			return n
		case end:
			p.problem(open, "the list that begins here has no end: ] is missing")
			return nil
		default:
			p.problem(p.token.column, "a comma or ] is expected in a list, and not %s", p.token)
			return nil
		}
	}
}

// example is a comparison with the first attribute of the table that is available.
func (p *parser) example() string {
	for _, a := range p.attributes {
		switch a.Kind {
		case Boolean:
			return a.Name + " -eq True"
		case Text, Multiple:
			return a.Name + ` -eq "text"`
		}
	}
	return `attribute -eq "text"`
}
