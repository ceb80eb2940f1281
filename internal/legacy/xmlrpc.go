package legacy

import "strings"

// methods are those of known applications that take a name and a password, by the beginning of their name, and which of their parameters is
// the name. The first that fits counts.
var methods = []struct {
	prefix string
	user   int
}{
	{"wp.getusersblogs", 0}, {"wp.", 1}, {"metaweblog.", 1}, {"mt.", 1},
	{"blogger.getusersblogs", 1}, {"blogger.getuserinfo", 1}, {"blogger.", 2},
	{"dokuwiki.login", 0}, {"core.login", 0}, {"confluence1.login", 0}, {"confluence2.login", 0}, {"jira1.login", 0}, {"auth.login", 0},
}

// signIns are the last parts of names of methods that sign in, whatever the application.
var signIns = map[string]bool{"login": true, "logon": true, "signin": true, "authenticate": true, "auth": true, "execute_kw": true}

// maxParams is how many parameters are kept.
const maxParams = 4

// methodCalled follows a method call through its XML. A call of system.multicall has others inside.
type methodCalled struct {
	called   bool
	carries  bool // a credential, whatever the user
	method   string
	params   [maxParams]string
	n        int    // parameters so far
	nested   int    // structs and arrays that are open
	typed    bool   // the value has had an element inside
	member   string // name of the member whose value comes next
	userName string // from a member that is called so
}

func (c *methodCalled) open(element int) {
	switch element {
	case methodCall:
		c.called = true
	case param:
		c.n++
	case value:
		c.typed = false
	case structElement, arrayElement:
		c.nested++
	}
}

func (c *methodCalled) close(element int, text string) {
	switch element {
	case methodName:
		c.name(text)
	case nameElement:
		c.member = text
		c.carries = c.carries || credentialName(text)
	case value:
		if !c.typed {
			c.value(text)
		}
		c.typed = true
	case stringElement:
		c.value(text)
		c.typed = true
	case structElement, arrayElement:
		c.nested = max(0, c.nested-1)
		c.typed = true
	case otherElement:
		c.typed = true
	}
}

func (c *methodCalled) name(method string) {
	method = strings.ToLower(method)
	if c.method == "" {
		c.method = method
	}
	last := method[strings.LastIndexByte(method, '.')+1:]
	if signIns[last] || method == "system.multicall" {
		c.carries = true
	}
	for _, m := range methods {
		if strings.HasPrefix(method, m.prefix) {
			c.carries = true
		}
	}
}

func (c *methodCalled) value(text string) {
	switch {
	case strings.EqualFold(c.member, "methodName"):
		c.name(text)
	case c.member != "":
		if c.userName == "" && loginNames[strings.ToLower(c.member)] {
			c.userName = text
		}
	case c.nested == 0 && c.n > 0 && c.n <= maxParams && c.params[c.n-1] == "":
		c.params[c.n-1] = text
	}
	c.member = ""
}

// credential says whether the call carries one, and whom it names where that is sure.
func (c *methodCalled) credential() (user string, ok bool) {
	if !c.called || !c.carries {
		return "", false
	}
	for _, m := range methods {
		if strings.HasPrefix(c.method, m.prefix) {
			return c.params[m.user], true
		}
	}
	return c.userName, true
}
