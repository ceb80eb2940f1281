package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
)

// keyEndpoints serves app passwords and service tokens. What is made is told once.
func keyEndpoints(handle func(pattern string, serve func(r *http.Request) (any, error)), s *admin.Service) {
	handle("GET /mfa/users/{name}/app-passwords", func(r *http.Request) (any, error) {
		return s.AppPasswords(r.Context(), r.PathValue("name"), time.Now())
	})
	handle("POST /mfa/users/{name}/app-passwords", func(r *http.Request) (any, error) {
		if err := r.ParseForm(); err != nil {
			return nil, badInput{fmt.Errorf("reading the wish: %w", err)}
		}
		wish, err := parseWish(r.PostForm)
		if err != nil {
			return nil, badInput{err}
		}
		made, err := s.AddAppPassword(r.Context(), r.PathValue("name"), wish, time.Now())
		return made, keyMistake(err)
	})
	handle("POST /mfa/users/{name}/app-passwords/revoke", func(r *http.Request) (any, error) {
		id, err := whichToRevoke(r)
		if err != nil {
			return nil, err
		}
		ids, err := s.RevokeAppPasswords(r.Context(), r.PathValue("name"), id, time.Now())
		return revoked{ids}, err
	})
	handle("GET /mfa/service-tokens", func(r *http.Request) (any, error) { return s.ServiceTokens(r.Context()) })
	handle("POST /mfa/service-tokens/{name}/add", func(r *http.Request) (any, error) {
		made, err := s.AddServiceToken(r.Context(), r.PathValue("name"), time.Now())
		return made, keyMistake(err)
	})
	handle("POST /mfa/service-tokens/{name}/revoke", func(r *http.Request) (any, error) {
		id, err := whichToRevoke(r)
		if err != nil {
			return nil, err
		}
		ids, err := s.RevokeServiceToken(r.Context(), r.PathValue("name"), id)
		return revoked{ids}, err
	})
}

// revoked names the keys that have ended.
type revoked struct {
	Revoked []string `json:"revoked"`
}

// whichToRevoke reads which key is to end; empty: all. That has to be said, so that nobody ends all of them by leaving something out.
func whichToRevoke(r *http.Request) (string, error) {
	id, all := r.FormValue("id"), r.FormValue("all") == "true"
	if (id == "") != all {
		return "", badInput{errors.New("say which one by its id, or `all`")}
	}
	return id, nil
}

// keyMistake says that somebody has asked for what can't be.
func keyMistake(err error) error {
	for _, mistake := range []error{
		machinekey.ErrName, machinekey.ErrApplication, machinekey.ErrExpires, machinekey.ErrScope, machinekey.ErrTooMany, machinekey.ErrTooManySecrets,
		machinekey.ErrTokenEnded, admin.ErrUserRefused,
	} {
		if errors.Is(err, mistake) {
			return badInput{err}
		}
	}
	return err
}

// parseWish reads what an app password is to be good for.
func parseWish(form url.Values) (machinekey.Wish, error) {
	w := machinekey.Wish{Name: form.Get("name"), Application: form.Get("application"), Methods: form["method"], Paths: form["path"]}
	var mistakes []error
	if w.Application == "" {
		mistakes = append(mistakes, errors.New("application: say which one it opens"))
	}
	if text := form.Get("expires"); text != "" {
		expires, err := time.Parse(time.RFC3339, text)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("expires is a time as in 2027-03-01T09:00:00+01:00, not %q", text))
		}
		w.Expires = expires
	}
	for _, text := range form["from"] {
		r, err := netip.ParsePrefix(text)
		if err != nil {
			r, err = parseRange(text) // of one address
		}
		if err == nil {
			err = config.CheckRange(r)
		}
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		w.From = append(w.From, r)
	}
	for _, p := range w.Paths {
		if err := config.CheckPath(p); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	return w, errors.Join(mistakes...)
}
