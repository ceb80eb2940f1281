// Throwaway is Caddy with a handler that does the least that a session check can do: it looks at a cookie, and asks Redis
// for it. The benchmark measures caddy-mfa beside it.
package main

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/redis/go-redis/v9"
)

func main() {
	caddy.RegisterModule(new(handler))
	httpcaddyfile.RegisterHandlerDirective("throwaway", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		t := new(handler)
		return t, t.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("throwaway", httpcaddyfile.Before, "basicauth")
	caddycmd.Main()
}

// handler passes requests whose cookie is a key in Redis. Without an address it only looks for the cookie.
type handler struct {
	Address  string `json:"address,omitempty"`
	Password string `json:"password,omitempty"`
	client   *redis.Client
}

func (*handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.throwaway", New: func() caddy.Module { return new(handler) }}
}

func (h *handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	d.Args(&h.Address, &h.Password)
	return nil
}

func (h *handler) Provision(caddy.Context) error {
	if h.Address != "" {
		h.client = redis.NewClient(&redis.Options{Addr: h.Address, Password: h.Password})
	}
	return nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	cookie, err := r.Cookie("throwaway")
	if err != nil {
		http.Error(w, "no cookie", http.StatusUnauthorized)
		return nil
	}
	if h.client != nil {
		if err := h.client.Get(r.Context(), "throwaway:"+cookie.Value).Err(); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return nil
		}
	}
	r.Header.Set("Remote-User", "alice")
	return next.ServeHTTP(w, r)
}
