package filter

import "strings"

// String writes the rule in one way of all that mean the same: without parentheses that change nothing, and with the names
// of attributes and operators as Entra writes them. Parse reads it as an equal rule.
func (r *Rule) String() string {
	if r == nil || r.root == nil {
		return ""
	}
	var b strings.Builder
	r.root.write(&b)
	return b.String()
}

func (n *node) write(b *strings.Builder) {
	switch n.kind {
	case not:
		b.WriteString("-not (")
		n.parts[0].write(b)
		b.WriteString(")")
		return
	case and, or:
		between := " -and "
		if n.kind == or {
			between = " -or "
		}
		for i, p := range n.parts {
			if i > 0 {
				b.WriteString(between)
			}
			if n.kind == and && p.kind == or {
				b.WriteString("(")
				p.write(b)
				b.WriteString(")")
			} else {
				p.write(b)
			}
		}
		return
	}
	b.WriteString(n.attribute.Name + " " + n.operatorName() + " ")
	switch {
	case n.null:
		b.WriteString("null")
	case n.attribute.Kind == Boolean && n.yes:
		b.WriteString("True")
	case n.attribute.Kind == Boolean:
		b.WriteString("False")
	case n.operator == in:
		quoted := make([]string, len(n.texts))
		for i, s := range n.texts {
			quoted[i] = quote(s)
		}
		b.WriteString("[" + strings.Join(quoted, ",") + "]")
	default:
		b.WriteString(quote(n.texts[0]))
	}
}

func (n *node) operatorName() string {
	if n.negative {
		return operatorNames[n.operator][1]
	}
	return operatorNames[n.operator][0]
}
