package inventory

import (
	"net/netip"
	"strings"
	"testing"
)

func TestPrefix(t *testing.T) {
	for reason, tc := range map[string][2]string{
		"nothing":                            {"", "/"},
		"the root":                           {"/", "/"},
		"a file at the root":                 {"/xmlrpc.php", "/xmlrpc.php"},
		"a file in a folder":                 {"/dav/report.pdf", "/dav"},
		"a folder":                           {"/dav/", "/dav"},
		"two folders":                        {"/remote.php/dav/files/alice", "/remote.php/dav"},
		"a folder in a folder":               {"/remote.php/dav/", "/remote.php/dav"},
		"a query":                            {"/a/b/c?password=hunter2", "/a/b"},
		"a query without path":               {"?token=hunter2", "/"},
		"an escaped query":                   {"/a/b%3fpassword=hunter2/c", "/a"},
		"a fragment":                         {"/a/b/c#hunter2", "/a/b"},
		"a session behind a semicolon":       {"/app;jsessionid=hunter2/x/y", "/app/x"},
		"an escaped one":                     {"/app%3Bjsessionid=hunter2/x/y", "/app/x"},
		"a token for a folder":               {"/hook/0123456789abcdef0123456789abcdef0/x", "/hook/…"},
		"dots":                               {"/a/../b/./c/d", "/b/c"},
		"dots beyond the root":               {"/../../b/c/d", "/b/c"},
		"dots at the end":                    {"/a/b/..", "/a"},
		"double slashes":                     {"//a///b//c", "/a/b"},
		"backslashes":                        {`/a\b\c`, "/a/b"},
		"escaped letters":                    {"/%61/%62/c", "/a/b"},
		"half an escape":                     {"/100%/b/c", "/100%/b"},
		"what a terminal obeys":              {"/a%1b[31m/b/c", "/a [31m/b"},
		"what turns writing round":           {"/a\u202eb/b/c", "/a b/b"},
		"what is no UTF-8":                   {"/a%ff/b/c", "/a /b"},
		"no slash at the beginning":          {"a/b/c", "/a/b"},
		"what looks like a row of all of it": {"(other)", "/(other)"},
	} {
		if got := Prefix(tc[0]); got != tc[1] {
			t.Errorf("%s: %q, want %q", reason, got, tc[1])
		}
	}
}

func FuzzPrefix(f *testing.F) {
	for _, path := range []string{"/a/b/c?d", "/a;b/%3f/%5c../x", "/..", "%", "/a/\xff/"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := Prefix(path)
		if !strings.HasPrefix(got, "/") || strings.Count(got, "/") > 2 || len(got) > 2*(maxSegment+1) || strings.ContainsAny(got, "?#;\\\n\x00\x1b") {
			t.Errorf("%q gives %q", path, got)
		}
	})
}

func TestRange(t *testing.T) {
	for reason, tc := range map[string][2]string{
		"IPv4":                   {"192.0.2.77", "192.0.2.0/24"},
		"IPv4 that came as IPv6": {"::ffff:192.0.2.77", "192.0.2.0/24"},
		"IPv6":                   {"2001:db8:1:2ff::9", "2001:db8:1:200::/56"},
		"IPv6 with a zone":       {"fe80::1%eth0", "fe80::/56"},
	} {
		if got := Range(netip.MustParseAddr(tc[0])); got != netip.MustParsePrefix(tc[1]) {
			t.Errorf("%s: %v, want %s", reason, got, tc[1])
		}
	}
	if got := Range(netip.Addr{}); got.IsValid() {
		t.Errorf("no address is in %v", got)
	}
}

func TestRowsOfDifferentThingsAreDifferentRecords(t *testing.T) {
	base := key{class: "basic", application: "wiki", path: "/a", user: "alice", client: "curl", addresses: netip.MustParsePrefix("192.0.2.0/24")}
	seen := map[string]key{base.record(): base}
	for _, change := range []func(*key){
		func(k *key) { k.class = "digest" }, func(k *key) { k.application = "hr" }, func(k *key) { k.path = "/b" }, func(k *key) { k.user = "bob" },
		func(k *key) { k.client = "git" }, func(k *key) { k.known = true }, func(k *key) { k.addresses = netip.Prefix{} },
		func(k *key) { k.class, k.application = "basicw", "iki" }, func(k *key) { *k = k.other() }, func(k *key) { *k = k.short() },
	} {
		k := base
		change(&k)
		if other, there := seen[k.record()]; there {
			t.Errorf("%+v and %+v are one record", k, other)
		}
		seen[k.record()] = k
	}
}
