package integration

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/caddy-mfa/caddy-mfa"

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath, Dir, Name                             string
	GoFiles, Imports, TestImports, XTestImports, Deps []string
	Module                                            *struct{ Path string }
}

func (p *goPackage) room() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

func list(t *testing.T, args ...string) []*goPackage {
	t.Helper()
	c := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Name,GoFiles,Imports,TestImports,XTestImports,Deps,Module"}, args...)...)
	c.Dir = ".."
	out, err := c.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var packages []*goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &goPackage{}
		if err := d.Decode(p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatal("go list lists nothing")
	}
	return packages
}

// under says whether a package is the room or inside it.
func under(pkg, room string) bool { return pkg == room || strings.HasPrefix(pkg, room+"/") }

func inOneOf(pkg string, rooms ...string) bool {
	return slices.ContainsFunc(rooms, func(room string) bool { return under(pkg, room) })
}

// keepers says which rooms may import a library. Everybody else goes through them.
var keepers = []struct {
	library string
	rooms   []string
	reason  string
}{
	{"github.com/caddyserver", []string{"caddymodule", "cmd"}, "only the skin knows Caddy: the core can be tested, and kept, without it"},
	{"github.com/redis/go-redis", []string{"internal/store/redis"}, "everybody else talks to the contract of internal/store"},
	{"go.etcd.io/bbolt", []string{"internal/store/bolt"}, "everybody else talks to the contract of internal/store"},
	{"github.com/go-webauthn", []string{"internal/factor/webauthn"}, "its traps are known in one place"},
	{"github.com/go-ldap", []string{"internal/directory/ldap"}, "everybody else talks to the contract of internal/directory"},
	{"github.com/oschwald/maxminddb-golang", []string{"internal/geoip"}, "everybody else asks for the country of an address"},
	{"github.com/mileusna/useragent", []string{"internal/platform"}, "what a client claims is read, and made safe to show, in one place"},
	{"github.com/gorilla/securecookie", []string{"internal/session", "internal/signin"}, "cookies are made where their keys are derived"},
	{"github.com/gaissmai/bart", []string{"internal/policy"}, "addresses are looked up where locations are compiled"},
	{"github.com/yuin/goldmark", []string{"internal/portal"}, "what operators write becomes HTML on the pages alone"},
	{"github.com/tg123/go-htpasswd", []string{"internal/password"}, "it quotes digests and takes forms that no password has: what it sees is checked before"},
	{"github.com/SherClockHolmes/webpush-go", []string{"internal/notify"}, "what is sent to an address that a browser has named is sent from one place"},
	{"github.com/wneessen/go-mail", []string{"internal/sender"}, "mails are written, and mail servers spoken to, in one place"},
	{"github.com/pquerna/otp", []string{"internal/factor/totp"}, "its traps are known in one place"},
	{module + "/caddymodule", []string{"cmd", "caddymodule"}, "nothing may depend on the skin"},
	{module + "/internal/portal", []string{"caddymodule"}, "pages are at the edge; what they need to know is asked of the services"},
	{module + "/internal/store", []string{
		"caddymodule", "internal/store", "internal/session", "internal/account", "internal/signin", "internal/signinlog", "internal/throttle", "internal/inventory", "internal/machinekey",
	}, "state belongs to the service that knows what it means; pages, policy and the gate ask that service"},
	{module + "/internal/signinlog", []string{"caddymodule"}, "who signs in only tells what happened; keeping it must never be his concern"},
	{module + "/internal/inventory", []string{"caddymodule"}, "the gate only tells what it saw; keeping it must never be its concern"},
	{module + "/internal/store/redis", []string{"caddymodule"}, "which store there is, is wiring"},
	{module + "/internal/store/bolt", []string{"caddymodule"}, "which store there is, is wiring"},
}

// allowed are the rooms of the project that a room may import, where that is few.
var allowed = map[string]struct {
	rooms  []string
	reason string
}{
	"config":              {nil, "what an operator can say is plain values"},
	"internal/audit":      {[]string{"internal/mfa"}, "an event is plain values"},
	"internal/mfa":        {nil, "the nouns stand in the middle and lean on nothing"},
	"internal/seal":       {[]string{"internal/mfa"}, "it seals bytes for an owner, whatever they are"},
	"internal/store":      {[]string{"internal/porttest", "internal/store"}, "a store keeps records, whatever is in them"},
	"internal/policy":     {[]string{"internal/mfa", "internal/policy"}, "policy is facts in, decision out"},
	"internal/legacy":     {nil, "it reads headers and nothing else"},
	"internal/risk":       {[]string{"internal/mfa"}, "it is pure: facts in, level out"},
	"internal/factor":     {[]string{"internal/factor", "internal/mfa"}, "a factor judges a proof and keeps nothing"},
	"internal/clocktest":  {nil, "it measures time, whatever takes it"},
	"internal/porttest":   {nil, "it knows ports and nothing else"},
	"internal/sender":     {[]string{"internal/mfa"}, "it sends what it is told to whom it is told, and asks nobody"},
	"internal/gate":       {[]string{"internal/account", "internal/directory", "internal/factor/pass", "internal/legacy", "internal/mfa", "internal/policy", "internal/session", "internal/throttle"}, "the gate decides, and writes no answer"},
	"internal/signinlog":  {[]string{"internal/audit", "internal/mfa", "internal/store"}, "a log keeps what it is told, and asks nobody"},
	"internal/notice":     {[]string{"internal/audit", "internal/directory", "internal/mfa", "internal/sender", "internal/throttle"}, "it tells people what it is told, and changes nothing"},
	"internal/inventory":  {[]string{"internal/audit", "internal/mfa", "internal/store"}, "it keeps what it is told, and asks nobody"},
	"internal/machinekey": {[]string{"internal/account", "internal/audit", "internal/directory", "internal/gate", "internal/legacy", "internal/mfa", "internal/seal", "internal/store", "internal/throttle"}, "it judges the keys that the gate asks about, and knows no request and no page"},
	"internal/session":    {[]string{"internal/mfa", "internal/seal", "internal/store"}, "sessions know nothing of what their proofs are worth"},
	"internal/platform":   {nil, "it reads headers and nothing else"},
	"internal/filewatch":  {nil, "it reads a version of a file, whatever is in it"},
	"internal/directory":  {[]string{"internal/directory", "internal/filewatch", "internal/mfa", "internal/password"}, "a directory knows who somebody is, and not what he may do"},
	"internal/notify":     {[]string{"internal/factor/push", "internal/seal"}, "it leaves what it is told where it is told, and knows nobody"},
	"internal/geoip":      {[]string{"internal/filewatch"}, "it knows addresses and countries, and not what hangs on them"},
}

// pure rooms have no clock, no randomness and no I/O.
var pure = []string{"internal/policy", "internal/legacy", "internal/risk"}

var impure = []string{"bufio", "context", "crypto/rand", "database", "io", "log", "math/rand", "net", "os", "sync", "syscall"}

// TestWhoMayImportWhom keeps the arrows of the architecture as they were drawn.
func TestWhoMayImportWhom(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		room := p.room()
		if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "types", "misc"}, p.Name) {
			t.Errorf("%s: the name %q says nothing of what the package is for", room, p.Name)
		}
		for _, imported := range p.Imports {
			for _, k := range keepers {
				if under(imported, k.library) && !inOneOf(room, k.rooms...) && !under(p.ImportPath, k.library) {
					t.Errorf("%s imports %s, which only %s may: %s", room, imported, strings.Join(k.rooms, ", "), k.reason)
				}
			}
			ours, own := strings.CutPrefix(imported, module+"/")
			for of, a := range allowed {
				if own && under(room, of) && !inOneOf(ours, a.rooms...) {
					t.Errorf("%s imports %s, and may import %s: %s", room, ours, or(strings.Join(a.rooms, ", "), "nothing of the project"), a.reason)
				}
			}
			// legacy reads headers, and bodies that are in memory: without io it couldn't tell their end from a fault.
			reads := room == "internal/legacy" && (imported == "net/http" || imported == "io")
			if inOneOf(room, pure...) && inOneOf(imported, impure...) && imported != "net/netip" && !reads {
				t.Errorf("%s imports %s: it must be pure, so that a decision can be made again and explained", room, imported)
			}
		}
		if inOneOf(room, pure...) {
			for _, file := range p.GoFiles {
				noClock(t, room, filepath.Join(p.Dir, file))
			}
		}
	}
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// noClock complains of calls that ask what time it is.
func noClock(t *testing.T, room, file string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"}, s.Sel.Name) {
			t.Errorf("%s calls time.%s in %s: the time enters as a value", room, s.Sel.Name, path.Base(file))
		}
		return true
	})
}

// TestPluginUsersInheritNoTools shows that what only tests and tools need is not required by the module that plugin users build.
func TestPluginUsersInheritNoTools(t *testing.T) {
	t.Parallel()
	needed := map[string]bool{}
	for _, p := range list(t, "-deps", "./...") {
		if p.Module != nil {
			needed[p.Module.Path] = true
		}
	}
	c := exec.Command("go", "mod", "edit", "-json")
	c.Dir = ".."
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Tool []struct{ Path string }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Require) == 0 {
		t.Fatal("go.mod requires nothing")
	}
	for _, r := range mod.Require {
		if !r.Indirect && !needed[r.Path] {
			t.Errorf("go.mod requires %s, which nothing but tests imports; let integration/go.mod require it", r.Path)
		}
	}
	for _, tool := range mod.Tool {
		t.Errorf("go.mod has the tool %s; let tools/go.mod have it", tool.Path)
	}
}
