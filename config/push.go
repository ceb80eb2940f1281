package config

import (
	"net"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
)

func (ps *Problems) push(p *Push) {
	address, isMail := strings.CutPrefix(p.Contact, "mailto:")
	u, err := url.Parse(p.Contact)
	switch parsed, mailErr := mail.ParseAddress(address); {
	case p.Contact == "":
		if len(p.Allow) > 0 {
			ps.add("factor.push.allow", "hosts of push services are allowed, and no notifications are sent; write `contact mailto:ops@example.com`, or leave `allow` out")
		}
	case isMail && (mailErr != nil || parsed.Address != address), !isMail && (err != nil || u.Scheme != "https" || u.Host == ""), len(p.Contact) > 254:
		ps.add("factor.push.contact", "%q is nobody that a push service could turn to; write for example `contact mailto:ops@example.com`", p.Contact)
	}
	for _, host := range p.Allow {
		name, port, err := net.SplitHostPort(host)
		if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n == 0 || name == "" || host != strings.ToLower(host) {
			ps.add("factor.push.allow", "%q is no host with a port, in lower case; write for example `allow push.corp.example:8443`", host)
		}
	}
}
