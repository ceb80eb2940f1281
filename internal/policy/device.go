package policy

import (
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy/filter"
)

// matchesDevice says whether the policy's rule holds for the device that a client is on. Everything is null of a device that no
// certificate stands for; what the client says itself is taken only beside one.
func (p *compiled) matchesDevice(c *mfa.Client) bool {
	d := &c.Device
	return p.filter.Match(func(attribute string) filter.Value {
		if !d.Known {
			return filter.Value{}
		}
		switch attribute {
		case "device.isCompliant":
			return filter.BooleanValue(d.Compliant)
		case "device.trustType":
			if d.DomainJoined {
				return filter.TextValue("ServerAD")
			}
		case "device.deviceOwnership":
			if d.Compliant || d.DomainJoined {
				return filter.TextValue("Company")
			}
		case "device.deviceId":
			return filter.TextValue(d.ID)
		case "device.displayName":
			return filter.TextValue(d.Name)
		case "device.operatingSystem":
			if c.Platform != "" {
				return filter.TextValue(string(c.Platform))
			}
		}
		return filter.Value{}
	})
}
