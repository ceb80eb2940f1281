package caddymodule

import (
	"slices"
	"strings"
	"testing"
)

const proxied = "servers {\ntrusted_proxies static 10.0.0.0/8\n}"

func TestSitesThatCanNotWorkAreRefused(t *testing.T) {
	for reason, tc := range map[string]struct{ options, servers, sites, says string }{
		"no name, and no host": {
			sites: "http://:0 {\nmfa\nrespond ok\n}", says: "the application has no name, and its site has no host",
		},
		"no name, and two hosts": {
			sites: "http://a.example.com:0, http://b.example.com:0 {\nmfa\nrespond ok\n}", says: "its site has several hosts",
		},
		"no name, and a wildcard": {
			sites: "http://*.example.com:0 {\nmfa\nrespond ok\n}", says: "a wildcard or a placeholder",
		},
		"no name, and invoked by two sites": {
			sites: "&(guarded) {\nmfa\nrespond ok\n}\nhttp://a.example.com:0 {\ninvoke guarded\n}\nhttp://b.example.com:0 {\ninvoke guarded\n}", says: "the sites a.example.com and b.example.com share it",
		},
		"inside a handle for other paths": {
			sites: "http://localhost:0 {\nhandle /app/* {\nmfa app\nrespond ok\n}\nhandle {\nrespond public\n}\n}", says: "would not reach it",
		},
		"inside handle_path": {
			sites: "http://localhost:0 {\nhandle_path /app/* {\nmfa app\nrespond ok\n}\n}", says: "would not reach it",
		},
		"inside a route for other methods": {
			sites: "http://localhost:0 {\n@get method GET\nroute @get {\nmfa app\nrespond ok\n}\n}", says: "would not reach it",
		},
		"only on one of two hosts": {
			sites: "http://a.example.com:0, http://b.example.com:0 {\n@a host a.example.com\nhandle @a {\nmfa app\nrespond ok\n}\nhandle /x {\nmfa app\nrespond ok\n}\n}", says: "would not reach it",
		},
		"where errors are handled": {
			sites: "http://localhost:0 {\nrespond ok\nhandle_errors {\nmfa app\nrespond error\n}\n}", says: "judge answers and not requests",
		},
		"a host that passkeys are not good for": {
			options: "factor webauthn {\nrp_id example.com\n}", sites: "http://hr.example.com:0, http://hr.example.net:0 {\nmfa app\nrespond ok\n}",
			says: "factor webauthn: the site hr.example.net is not example.com, nor below it",
		},
		"well-known paths inside a handle for other paths": {
			sites: "http://localhost:0 {\nhandle /app/* {\nmfa app {\nwell_known\n}\nrespond ok\n}\nhandle /_mfa/* {\nmfa app\n}\n}", says: "it has `well_known`, and a request for /.well-known/passkey-endpoints on localhost would not reach it",
		},
		"well-known paths that come to another application": {
			sites: "http://localhost:0 {\nhandle /app/* {\nmfa app {\nwell_known\n}\nrespond ok\n}\nhandle {\nmfa wiki\n}\n}", says: "would not reach it",
		},
		"addresses that the client writes": {
			options: "registration {\nfrom 10.0.0.0/8\n}", servers: proxied,
			sites: "http://localhost:0 {\nmfa app\nrespond ok\n}", says: "`registration` looks at addresses, but the client's address is the leftmost in X-Forwarded-For, which the client writes; add `trusted_proxies_strict` beside `trusted_proxies`",
		},
		"addresses that the client writes, for a policy": {
			options: "policy Outside {\nstate report_only\nusers all\napplications all\nexclude_locations trusted\ngrant block\n}", servers: proxied,
			sites: "http://localhost:0 {\nmfa app\nrespond ok\n}", says: `the policy "Outside" looks at addresses, but`,
		},
		"addresses that the client writes, for ranges in which nobody is asked": {
			options: "per_user_mfa {\ntrusted_ranges 10.0.0.0/8\n}", servers: proxied,
			sites: "http://localhost:0 {\nmfa app\nrespond ok\n}", says: "`per_user_mfa` looks at addresses, but",
		},
	} {
		t.Run(reason, func(t *testing.T) {
			err := start(t, tc.options, tc.servers, tc.sites)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("it says %v, want %q", err, tc.says)
			}
		})
	}
}

func TestSitesThatWork(t *testing.T) {
	for reason, tc := range map[string]struct {
		options, servers, sites string
		names                   []string // of applications, sorted
	}{
		"the name is the host": {
			sites: "http://HR.example.com:0 {\nmfa\nrespond ok\n}", names: []string{"hr.example.com"},
		},
		"hosts below one domain": {
			options: "factor webauthn {\nrp_id example.com\n}", sites: "http://hr.example.com:0, http://*.example.com:0, http://192.0.2.7:0 {\nmfa app\nrespond ok\n}", names: []string{"app"},
		},
		"a host outside of the domain that is related": {
			options: "factor webauthn {\nrp_id example.com\nrelated_origins https://hr.example.net\n}", sites: "http://example.com:0, http://hr.example.net:0 {\nmfa app\nrespond ok\n}", names: []string{"app"},
		},
		"well-known paths beside a matcher": {
			sites: "http://localhost:0 {\nmfa /app/* app {\nwell_known\n}\nrespond ok\n}", names: []string{"app"},
		},
		"several hosts and a name": {
			sites: "http://a.example.com:0, http://*.b.example.com:0 {\nmfa app\nrespond ok\n}", names: []string{"app"},
		},
		"no host and a name": {
			sites: "http://:0 {\nmfa app\nrespond ok\n}", names: []string{"app"},
		},
		"a matcher": {
			sites: "http://localhost:0 {\nmfa /app/* app\nrespond ok\n}", names: []string{"app"},
		},
		"a handle for every path": {
			sites: "http://localhost:0 {\nhandle {\nmfa app\nrespond ok\n}\n}", names: []string{"app"},
		},
		"a handle for other paths, and one for the pages": {
			sites: "http://localhost:0 {\nhandle /app/* {\nmfa app\nrespond ok\n}\nhandle /_mfa/* {\nmfa app\n}\n}", names: []string{"app", "app"},
		},
		"a handle for some clients": {
			sites: "http://localhost:0 {\n@outside not client_ip 10.0.0.0/8\nhandle {\nmfa app\nrespond ok\n}\n}", names: []string{"app"},
		},
		"two applications on one host": {
			sites: "http://localhost:0 {\nmfa /hr/* hr\nmfa /wiki/* wiki\nrespond ok\n}", names: []string{"hr", "wiki"},
		},
		"a snippet invoked": {
			sites: "&(guarded) {\nmfa app\nrespond ok\n}\nhttp://localhost:0 {\ninvoke guarded\n}", names: []string{"app"},
		},
		"addresses that a proxy vouches for": {
			options: "registration {\nfrom 10.0.0.0/8\n}", servers: "servers {\ntrusted_proxies static 10.0.0.0/8\ntrusted_proxies_strict\n}",
			sites: "http://localhost:0 {\nmfa app\nrespond ok\n}", names: []string{"app"},
		},
		"a named location that no policy names": {
			options: "named_location office {\nranges 10.0.0.0/8\n}", servers: proxied,
			sites: "http://localhost:0 {\nmfa app\nrespond ok\n}", names: []string{"app"},
		},
		"a policy for an application that no site has": {
			options: "policy Wiki {\nstate report_only\nusers all\napplications wiki\ngrant mfa\n}",
			sites:   "http://localhost:0 {\nmfa app\nrespond ok\n}", names: []string{"app"},
		},
		"addresses that nothing looks at": {
			servers: proxied, sites: "http://localhost:0 {\nmfa app\nrespond ok\n}", names: []string{"app"},
		},
	} {
		t.Run(reason, func(t *testing.T) {
			if err := start(t, tc.options, tc.servers, tc.sites); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, h := range active.get().handlers {
				if !h.PagesOnly {
					names = append(names, h.gated.Name)
				}
			}
			slices.Sort(names)
			if !slices.Equal(names, tc.names) {
				t.Errorf("applications %q, want %q", names, tc.names)
			}
		})
	}
}

// TestWhichConnectionsAreShared looks at what NTLM would sign in.
func TestWhichConnectionsAreShared(t *testing.T) {
	for behind, unshared := range map[string]bool{
		"respond ok":                             true,
		"reverse_proxy 127.0.0.1:1":              false,
		"handle {\nreverse_proxy 127.0.0.1:1\n}": false,
		"reverse_proxy 127.0.0.1:1 {\ntransport http {\nkeepalive 1m\n}\n}":  false,
		"reverse_proxy 127.0.0.1:1 {\ntransport http {\nkeepalive off\n}\n}": true,
		"reverse_proxy unix//run/a.sock {\ntransport fastcgi\n}":             true,
	} {
		if h := load(t, "mfa app\n"+behind); h.gated.Doors.Unshared != unshared {
			t.Errorf("%s: %v, want %v", behind, h.gated.Doors.Unshared, unshared)
		}
	}
}
