package legacy

import (
	"bytes"
	"html"
	"strings"
)

// The elements that are looked for, by their local names.
const (
	otherElement = iota
	methodCall
	methodName
	param
	value
	stringElement
	structElement
	arrayElement
	nameElement
	usernameToken
	username
)

var elements = map[string]int{
	"methodcall": methodCall, "methodname": methodName, "param": param, "value": value, "string": stringElement, "struct": structElement,
	"array": arrayElement, "name": nameElement, "usernametoken": usernameToken, "username": username,
}

// xml looks for a UsernameToken (WS-Security UsernameToken Profile 1.1) and for a method call of XML-RPC.
func (l *look) xml(b []byte) {
	var (
		call   methodCalled
		text   []byte // since the last tag
		tokens int    // UsernameTokens that are open
	)
	scanXML(b, func(kind tag, element int, s []byte) {
		if kind == characters {
			if len(text) < maxField {
				text = append(text, s[:min(len(s), maxField)]...)
			}
			return
		}
		if kind == opening {
			if element == usernameToken {
				l.token = true
				tokens++
			}
			call.open(element)
		} else {
			t := strings.TrimSpace(plainText(text))
			switch {
			case element == usernameToken:
				tokens = max(0, tokens-1)
			case element == username && tokens > 0 && l.user == "":
				l.user = t
			}
			call.close(element, t)
		}
		text = text[:0]
	})
	if user, ok := call.credential(); ok {
		l.call = true
		if l.user == "" {
			l.user = user
		}
	}
}

// plainText resolves references.
func plainText(b []byte) string {
	if len(b) > maxField {
		return ""
	}
	return html.UnescapeString(string(b))
}

// tag is what scanXML finds.
type tag uint8

const (
	opening tag = iota
	closing
	characters
)

// scanXML goes through tags and text, in linear time. It is lenient: it knows no namespaces and no declarations, and
// also reads what stands in the value of an entity.
func scanXML(b []byte, found func(kind tag, element int, text []byte)) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '<')
		if i < 0 {
			found(characters, 0, b)
			return
		}
		if i > 0 {
			found(characters, 0, b[:i])
			b = b[i:]
		}
		switch {
		case bytes.HasPrefix(b, []byte("<!--")):
			b = after(b[4:], "-->")
		case bytes.HasPrefix(b, []byte("<![CDATA[")):
			b = b[9:]
			if i = bytes.Index(b, []byte("]]>")); i < 0 {
				i = len(b)
			}
			found(characters, 0, bytes.ReplaceAll(b[:i], []byte("&"), []byte("&amp;")))
			b = b[min(i+3, len(b)):]
		case bytes.HasPrefix(b, []byte("<?")):
			b = after(b[2:], "?>")
		case bytes.HasPrefix(b, []byte("<!")):
			b = b[2:]
		case bytes.HasPrefix(b, []byte("</")):
			i := tagEnd(b)
			found(closing, element(b[2:i]), nil)
			b = b[min(i+1, len(b)):]
		default:
			i := tagEnd(b)
			e := element(b[1:i])
			found(opening, e, nil)
			if b[i-1] == '/' {
				found(closing, e, nil)
			}
			b = b[min(i+1, len(b)):]
		}
	}
}

// after is what follows the first mark; nothing where there is none.
func after(b []byte, mark string) []byte {
	_, rest, _ := bytes.Cut(b, []byte(mark))
	return rest
}

// tagEnd is the index of the > that ends a tag, or the length where it is cut off.
func tagEnd(b []byte) int {
	var quote byte
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"', c == '\'':
			quote = c
		case c == '>':
			return i
		}
	}
	return len(b)
}

// element looks up the local name that a tag begins with.
func element(tag []byte) int {
	if i := bytes.IndexAny(tag, " \t\r\n/"); i >= 0 {
		tag = tag[:i]
	}
	if i := bytes.LastIndexByte(tag, ':'); i >= 0 {
		tag = tag[i+1:]
	}
	var low [24]byte
	if len(tag) > len(low) {
		return otherElement
	}
	return elements[string(appendLower(low[:0], string(tag)))]
}
