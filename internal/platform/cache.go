package platform

import (
	"strings"

	"github.com/maypok86/otter/v2"
)

// maxKept is how many clients are remembered. They take a few megabytes, and at the worst five.
const maxKept = 4096

// Cache remembers what was parsed: a browser sends the same with every request. It is safe for concurrent use.
type Cache struct{ clients *otter.Cache[headers, Client] }

type headers struct{ hint, userAgent string }

// NewCache makes an empty cache.
func NewCache() *Cache {
	return &Cache{otter.Must(&otter.Options[headers, Client]{MaximumSize: maxKept})}
}

// Parse is what the function Parse is, and allocates nothing for headers that are remembered.
func (c *Cache) Parse(hint, userAgent string) Client {
	h := headers{bound(hint), bound(userAgent)}
	if h == (headers{}) {
		return Client{}
	}
	if client, ok := c.clients.GetIfPresent(h); ok {
		return client
	}
	// Nothing that is kept may keep the whole request in memory.
	h = headers{strings.Clone(h.hint), strings.Clone(h.userAgent)}
	client := Parse(h.hint, h.userAgent)
	c.clients.Set(h, client)
	return client
}
