// Package filter is the rule language of Entra's "filter for devices": rules over the attributes of a device, or of the
// client certificate that stands for one. It is the syntax of Entra's dynamic membership rules, with the operators that a
// filter for devices may use:
//
//	device.isCompliant -eq True -or device.trustType -eq "ServerAD"
//	-not (device.displayName -startsWith "KIOSK-") -and device.deviceOwnership -ne "Personal"
//	certificate.issuer -eq "CN=Devices,O=Example" -and certificate.san -endsWith ".example.com"
//
//	-eq -ne                            equal to a text, to True or False, or to null
//	-startsWith -endsWith -contains    part of a text; each has its opposite: -notStartsWith …
//	-in -notIn                         equal to one of a list of texts: ["one","two"]
//	-not, then -and, then -or          bind in this order; parentheses go before all
//
// The hyphen may be left out. Names of operators and attributes, and texts, are compared without regard to case.
//
// A text stands in double or single quotes. Inside, a backtick and a double quote are a double quote, and two single quotes
// are a single one; a single quote by itself is one too, where the text stands in double quotes. A backslash is a backslash.
//
// What nobody knows about a device is null, and of a device that isn't registered nobody knows anything. A positive operator
// doesn't hold for null, whatever it is compared with, and a negative one always does. Only -eq null and -ne null ask
// whether something is known.
//
// Of several values, such as the names in a certificate, a positive operator holds if it does for one of them, and a negative
// one if its opposite holds for none. On them -contains asks whether one is the text as a whole, as in Entra.
package filter

// MaxLength is how many characters a rule may have, as in Entra. Spaces, parentheses, hyphens of operators and escapes
// don't count.
const MaxLength = 3072

// MaxNesting is how deep parentheses and -not may be nested.
const MaxNesting = 50

// Kind is what an attribute holds. The zero Kind can't be used in a rule.
type Kind uint8

// The kinds.
const (
	Unavailable Kind = iota // Entra has it, and a proxy can't know it
	Text
	Boolean
	Multiple // several texts
)

// Attribute is a name that rules use.
type Attribute struct {
	Name string // as it is written, with its prefix: device.trustType
	Kind Kind
}

// DeviceAttributes are those of Entra's devices. What a client certificate and an operator's rules say of a device is
// available, the rest is not.
var DeviceAttributes = []Attribute{
	{"device.isCompliant", Boolean},
	{"device.trustType", Text},
	{"device.deviceOwnership", Text},
	{"device.deviceId", Text},
	{"device.displayName", Text},
	{"device.operatingSystem", Text},

	// The others of Entra's filter for devices.
	{"device.enrollmentProfileName", Unavailable},
	{"device.manufacturer", Unavailable},
	{"device.mdmAppId", Unavailable},
	{"device.model", Unavailable},
	{"device.operatingSystemVersion", Unavailable},
	{"device.physicalIds", Unavailable},
	{"device.profileType", Unavailable},
	{"device.systemLabels", Unavailable},
	{"device.extensionAttribute1", Unavailable},
	{"device.extensionAttribute2", Unavailable},
	{"device.extensionAttribute3", Unavailable},
	{"device.extensionAttribute4", Unavailable},
	{"device.extensionAttribute5", Unavailable},
	{"device.extensionAttribute6", Unavailable},
	{"device.extensionAttribute7", Unavailable},
	{"device.extensionAttribute8", Unavailable},
	{"device.extensionAttribute9", Unavailable},
	{"device.extensionAttribute10", Unavailable},
	{"device.extensionAttribute11", Unavailable},
	{"device.extensionAttribute12", Unavailable},
	{"device.extensionAttribute13", Unavailable},
	{"device.extensionAttribute14", Unavailable},
	{"device.extensionAttribute15", Unavailable},

	// What rules for dynamic groups have beside them, under the same prefix.
	{"device.accountEnabled", Unavailable},
	{"device.deviceCategory", Unavailable},
	{"device.deviceManagementAppId", Unavailable},
	{"device.deviceManufacturer", Unavailable},
	{"device.deviceModel", Unavailable},
	{"device.deviceOSType", Unavailable},
	{"device.deviceOSVersion", Unavailable},
	{"device.devicePhysicalIds", Unavailable},
	{"device.deviceTrustType", Unavailable},
	{"device.isRooted", Unavailable},
	{"device.managementType", Unavailable},
	{"device.memberOf", Unavailable},
	{"device.objectId", Unavailable},
}

// CertificateAttributes are those of a client certificate, for operators' own rules: subject and issuer as in RFC 2253,
// the serial number and the SHA-256 fingerprint in hex, and as san every DNS name, e-mail address, URI and IP address.
var CertificateAttributes = []Attribute{
	{"certificate.subject", Text},
	{"certificate.issuer", Text},
	{"certificate.serialNumber", Text},
	{"certificate.san", Multiple},
	{"certificate.fingerprint", Text},
}

// Value is what is known of an attribute. The zero Value is null.
type Value struct {
	kind Kind
	text string
	yes  bool
	many []string
}

// TextValue is a text that is known, even if it is empty.
func TextValue(s string) Value { return Value{kind: Text, text: s} }

// BooleanValue is a boolean that is known.
func BooleanValue(yes bool) Value { return Value{kind: Boolean, yes: yes} }

// MultipleValue is several texts; null if there is none. They are not copied.
func MultipleValue(texts []string) Value {
	if len(texts) == 0 {
		return Value{}
	}
	return Value{kind: Multiple, many: texts}
}

// Rule is a rule that has been read. The zero Rule holds for nothing. It is safe for concurrent use.
type Rule struct{ root *node }

// Match says whether the rule holds. It asks for values by the names of the attributes, written as in the table that the
// rule was parsed with; a value of another kind than the table says is null. It allocates nothing, unless value does.
func (r *Rule) Match(value func(attribute string) Value) bool {
	return r != nil && r.root != nil && r.root.holds(value)
}

// node is a comparison or a combination.
type node struct {
	kind  nodeKind
	parts []*node // of a combination; one for not

	attribute Attribute
	operator  operator
	negative  bool // the operator's opposite

	// What is compared with: null, a boolean or texts. There is one text unless the operator is in.
	null   bool
	yes    bool
	texts  []string // as they were written
	folded []string // as they are compared
}

type nodeKind uint8

const (
	comparison nodeKind = iota
	not
	and
	or
)

type operator uint8

const (
	equals operator = iota
	startsWith
	endsWith
	contains
	in
)

func (n *node) holds(value func(string) Value) bool {
	switch n.kind {
	case not:
		return !n.parts[0].holds(value)
	case and:
		for _, p := range n.parts {
			if !p.holds(value) {
				return false
			}
		}
		return true
	case or:
		for _, p := range n.parts {
			if p.holds(value) {
				return true
			}
		}
		return false
	}
	return n.positive(value(n.attribute.Name)) != n.negative
}

// positive says whether the operator holds, or whether the one does that it is the opposite of.
func (n *node) positive(v Value) bool {
	if v.kind != n.attribute.Kind {
		v = Value{}
	}
	if n.null {
		return v.kind == Unavailable
	}
	switch v.kind {
	case Text:
		return n.compare(v.text)
	case Boolean:
		return v.yes == n.yes
	case Multiple:
		for _, s := range v.many {
			if n.compare(s) {
				return true
			}
		}
	}
	return false
}

func (n *node) compare(s string) bool {
	switch {
	case n.operator == startsWith:
		_, ok := cutPrefix(s, n.folded[0])
		return ok
	case n.operator == endsWith:
		return hasSuffix(s, n.folded[0])
	case n.operator == contains && n.attribute.Kind == Text:
		return hasPart(s, n.folded[0])
	}
	for _, want := range n.folded {
		if rest, ok := cutPrefix(s, want); ok && rest == "" {
			return true
		}
	}
	return false
}
