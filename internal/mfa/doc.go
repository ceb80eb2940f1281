// Package mfa holds the nouns that every room of caddy-mfa shares: who somebody is, what he has proven and when,
// and what is kept of him. It does no input or output and knows neither HTTP nor Caddy.
package mfa
