package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// pages are what operators read.
func pages(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) < 2 {
		t.Fatalf("no pages in docs: %q, %v", files, err)
	}
	return append(files, "../README.md", "../SECURITY.md", "../CHANGELOG.md")
}

func readPage(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is an example in a page: what stands between two lines of ```.
type block struct {
	info, text string
	line       int
}

// examples gives the blocks of a page, and the page without them.
func examples(t *testing.T, file string) (blocks []block, prose string) {
	t.Helper()
	var b *block
	var rest strings.Builder
	line := 0
	for text := range strings.Lines(readPage(t, file)) {
		line++
		info, fence := strings.CutPrefix(text, "```")
		switch {
		case fence && b == nil:
			b = &block{info: strings.TrimSpace(info), line: line}
		case fence:
			blocks = append(blocks, *b)
			b = nil
		case b != nil:
			b.text += text
		default:
			rest.WriteString(text)
		}
	}
	if b != nil {
		t.Fatalf("%s:%d: an example doesn't end", file, b.line)
	}
	return blocks, rest.String()
}

// whole makes a Caddyfile of an example, as docs/README.md describes it.
func whole(info, text string) (string, error) {
	const users = "\tmfa {\n\t\tusers file users.yaml\n\t}\n"
	const site = "hr.example.com {\n\tmfa hr\n\treverse_proxy localhost:9000\n}\n"
	switch info {
	case "caddyfile whole":
		return text, nil
	case "caddyfile global":
		return "{\n" + users + text + "}\n\n" + site, nil
	case "caddyfile mfa":
		return "{\n\tmfa {\n" + text + "\t}\n}\n\n" + site, nil
	case "caddyfile site":
		return "{\n" + users + "}\n\nhr.example.com {\n" + text + "}\n", nil
	}
	return "", fmt.Errorf("%q doesn't say where the example belongs; want caddyfile whole, global, mfa or site", info)
}

const exampleUsers = "users:\n  alice:\n    password: $argon2id$v=19$m=19456,t=2,p=1$kP/8J1y6KSPsvWs9dCpZMg$L6MpYjMrzkJHP4/WVNyiHr+AFPgfNaeUc3eN9B17Rvo\n"

// exampleHtpasswd is what Apache has written.
const exampleHtpasswd = "alice:$2y$12$bvtd67fAV09k73yItfYtv.ZXiLNjWtyiPy0vF2W8tofKiyqxftl/6\n"

// examplePolicy is one that was exported from Entra.
const examplePolicy = `{
	"displayName": "Second factor for Finance",
	"state": "enabled",
	"conditions": {
		"clientAppTypes": ["all"],
		"applications": {"includeApplications": ["All"]},
		"users": {"includeGroups": ["11111111-1111-1111-1111-111111111111"]}
	},
	"grantControls": {"operator": "OR", "builtInControls": ["mfa"]}
}`

// office is a place where the files are that examples name.
type office struct {
	dir string
	env []string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{dir: t.TempDir()}
	const secret = " secret of more than thirty-two bytes"
	for name, text := range map[string]string{
		"users.yaml": exampleUsers, "partners.yaml": "users: {}\n", "htpasswd": exampleHtpasswd, "groups": "staff: alice\n", "mfa": "a new" + secret, "mfa-2025": "an old" + secret, "redis": "a password", "hr": "svc-hr:a password", "twilio": "a token", "gateway": "a token", "mail": "a password", "redis-ca.pem": certificate(t),
		"devices-ca.pem": certificate(t), "makers": certificate(t), "house-rules.md": "# House rules\n\nBe kind.\n", "names.yaml": "11111111-1111-1111-1111-111111111111: group:Finance\n",
		"policies/mfa.json": examplePolicy,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(o.dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.env = append(os.Environ(), "HOME="+o.dir, "XDG_DATA_HOME="+o.dir, "XDG_CONFIG_HOME="+o.dir, "REDIS_USERNAME=caddy-mfa", "REDIS_PASSWORD=a password", "HR_PASSWORD=a password",
		"TWILIO_ACCOUNT_SID=AC0123456789abcdef0123456789abcdef", "TWILIO_API_KEY=SK0123456789abcdef0123456789abcdef")
	return o
}

// certificate makes the certificate of an authority, as PEM.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// run runs the program with a Caddyfile, and gives what it printed.
func (o *office) run(t *testing.T, caddyfile string, args ...string) (string, error) {
	t.Helper()
	for _, place := range []string{"/etc/caddy-mfa/", "/var/lib/caddy-mfa/", "/run/caddy-mfa/", "/run/secrets/"} {
		caddyfile = strings.ReplaceAll(caddyfile, place, o.dir+"/")
	}
	if err := os.WriteFile(filepath.Join(o.dir, "Caddyfile"), []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(lab.Binary(t), append(args, "--config", "Caddyfile")...)
	c.Dir, c.Env = o.dir, o.env
	out, err := c.CombinedOutput()
	return string(out), err
}

// validate adapts and validates a Caddyfile.
func (o *office) validate(t *testing.T, caddyfile string) error {
	t.Helper()
	out, err := o.run(t, caddyfile, "validate")
	if err != nil {
		return fmt.Errorf("%w:\n%s", err, out)
	}
	if strings.Contains(out, "input is not formatted") {
		return fmt.Errorf("it is not formatted as `caddy-mfa fmt` does:\n%s", out)
	}
	return nil
}

// validateUsers validates a users file.
func (o *office) validateUsers(t *testing.T, users string) error {
	t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, "users.yaml"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	caddyfile, err := whole("caddyfile global", "")
	if err != nil {
		return err
	}
	return o.validate(t, caddyfile)
}

// validateHtpasswd validates an htpasswd file.
func (o *office) validateHtpasswd(t *testing.T, users string) error {
	t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, "htpasswd"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	return o.validate(t, "{\n\tmfa {\n\t\tusers htpasswd htpasswd\n\t}\n}\n\nhr.example.com {\n\tmfa hr\n\treverse_proxy localhost:9000\n}\n")
}

// indent is a text as it would stand one or more blocks deeper.
func indent(text string, tabs int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(strings.Repeat("\t", tabs))
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestExamplesOfTheDocumentationAreValid(t *testing.T) {
	t.Parallel()
	depth := map[string]int{"caddyfile global": 1, "caddyfile mfa": 2, "caddyfile site": 1}
	caddyfiles, users := 0, 0
	for _, file := range pages(t) {
		blocks, _ := examples(t, file)
		for _, b := range blocks {
			name := filepath.Base(file) + ":" + strconv.Itoa(b.line)
			switch language, _, _ := strings.Cut(b.info, " "); language {
			case "caddyfile":
				caddyfiles++
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					caddyfile, err := whole(b.info, indent(b.text, depth[b.info]))
					if err != nil {
						t.Fatal(err)
					}
					if err := newOffice(t).validate(t, caddyfile); err != nil {
						t.Fatalf("%v\n%s", err, caddyfile)
					}
				})
			case "yaml":
				users++
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					switch b.info {
					case "yaml users":
						if err := newOffice(t).validateUsers(t, b.text); err != nil {
							t.Fatal(err)
						}
					case "yaml names":
						names := filepath.Join(t.TempDir(), "names.yaml")
						if err := os.WriteFile(names, []byte(b.text), 0o600); err != nil {
							t.Fatal(err)
						}
						if _, errs, status := policyImport(t, "--names", names, filepath.Join(lookAlikes, "ConditionalAccess", "CA004.json")); status != 0 {
							t.Fatal(errs)
						}
					default:
						t.Fatalf("%q doesn't say what the example is; want yaml users or yaml names", b.info)
					}
				})
			case "htpasswd":
				users++
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					if err := newOffice(t).validateHtpasswd(t, b.text); err != nil {
						t.Fatal(err)
					}
				})
			case "json":
				if !json.Valid([]byte(b.text)) {
					t.Errorf("%s: the example is no JSON", name)
				}
			}
		}
	}
	if caddyfiles == 0 || users == 0 {
		t.Fatalf("%d Caddyfiles and %d users files: the pages are not read", caddyfiles, users)
	}
}

func TestTheExampleCaddyfileIsValid(t *testing.T) {
	t.Parallel()
	if err := newOffice(t).validate(t, readPage(t, "../Caddyfile.example")); err != nil {
		t.Fatal(err)
	}
}

// TestTheExampleCaddyfileHasEveryOption holds it against the tables of the page about the Caddyfile.
func TestTheExampleCaddyfileHasEveryOption(t *testing.T) {
	t.Parallel()
	example := regexp.MustCompile(`[a-z_]+`).FindAllString(readPage(t, "../Caddyfile.example"), -1)
	option := regexp.MustCompile("`([a-z_]+)[^`]*`")
	options := 0
	for line := range strings.Lines(readPage(t, "../docs/caddyfile.md")) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, match := range option.FindAllStringSubmatch(cells[1], -1) {
			options++
			if !slices.Contains(example, match[1]) {
				t.Errorf("%s is missing", match[0])
			}
		}
	}
	if options == 0 {
		t.Fatal("the page is not read")
	}
}

// A check that takes everything would show nothing.
func TestAMistakeInAnExampleIsSeen(t *testing.T) {
	t.Parallel()
	for reason, b := range map[string]block{
		"unknown option among the global ones": {info: "caddyfile global", text: "\tnonsense\n"},
		"unknown option of the app":            {info: "caddyfile mfa", text: "\t\tusers file users.yaml\n\t\tnonsense\n"},
		"unknown option of the directive":      {info: "caddyfile site", text: "\tmfa hr {\n\t\tnonsense\n\t}\n"},
		"unknown directive":                    {info: "caddyfile whole", text: "localhost {\n\tnonsense\n}\n"},
		"a file that is not there":             {info: "caddyfile mfa", text: "\t\tusers file nobody.yaml\n"},
		"a secret that is not there":           {info: "caddyfile mfa", text: "\t\tusers file users.yaml\n\t\tsecret {file./run/secrets/nothing}\n"},
		"not formatted":                        {info: "caddyfile mfa", text: "users file users.yaml\n"},
		"nobody says where it belongs":         {info: "caddyfile", text: "localhost {\n\trespond ok\n}\n"},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			caddyfile, err := whole(b.info, b.text)
			if err == nil {
				err = newOffice(t).validate(t, caddyfile)
			}
			if err == nil {
				t.Fatal("it is taken for right")
			}
		})
	}
	t.Run("a plain password", func(t *testing.T) {
		t.Parallel()
		if newOffice(t).validateHtpasswd(t, "alice:hunter2\n") == nil {
			t.Fatal("it is taken for right")
		}
	})
	t.Run("unknown key of a user", func(t *testing.T) {
		t.Parallel()
		if newOffice(t).validateUsers(t, exampleUsers+"    nonsense: 1\n") == nil {
			t.Fatal("it is taken for right")
		}
	})
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^(#+) (.*)$`)
)

// anchor is how a heading is linked to.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

func TestLinksOfTheDocumentationLeadSomewhere(t *testing.T) {
	t.Parallel()
	linked := map[string]bool{}
	for _, file := range pages(t) {
		_, prose := examples(t, file)
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := file
			if target != "" {
				path = filepath.Join(filepath.Dir(file), target)
			}
			if path != file {
				linked[filepath.Clean(path)] = true
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %s leads nowhere", file, m[1])
				continue
			}
			if fragment == "" {
				continue
			}
			_, prose := examples(t, path)
			if !slices.ContainsFunc(heading.FindAllStringSubmatch(prose, -1), func(h []string) bool { return anchor(h[2]) == fragment }) {
				t.Errorf("%s: %s leads to no heading", file, m[1])
			}
		}
	}
	for _, file := range pages(t) {
		if !linked[filepath.Clean(file)] && filepath.Base(file) != "README.md" {
			t.Errorf("no page leads to %s", file)
		}
	}
}

// section is what stands in a page below a heading, its subsections included.
func section(t *testing.T, page, title string) string {
	t.Helper()
	found := heading.FindAllStringSubmatchIndex(page, -1)
	for i, m := range found {
		if page[m[4]:m[5]] != title {
			continue
		}
		level := m[3] - m[2]
		for _, next := range found[i+1:] {
			if next[3]-next[2] <= level {
				return page[m[1]:next[0]]
			}
		}
		return page[m[1]:]
	}
	t.Fatalf("there is no section %q", title)
	return ""
}

var (
	refused = regexp.MustCompile("Caddyfile:([0-9]+): unknown option `nonsense`; want one of ([^\"\\\\]*)")
	quoted  = regexp.MustCompile("`([a-z_]+)`")
)

// TestEveryOptionIsDocumented asks the program: it answers an option that it doesn't know with those that it does.
func TestEveryOptionIsDocumented(t *testing.T) {
	t.Parallel()
	page := readPage(t, "../docs/caddyfile.md")
	o := newOffice(t)
	documented := func(title string, options []string) {
		text := section(t, page, title)
		for _, option := range options {
			if !strings.Contains(text, "\n| `"+option+" ") && !strings.Contains(text, "\n| `"+option+"` ") {
				t.Errorf("docs/caddyfile.md, %s: the option `%s` is missing", title, option)
			}
		}
	}
	for caddyfile, titles := range map[string][]string{
		`{
	mfa {
		nonsense
		store redis {
			nonsense
		}
		session {
			nonsense
		}
		registration {
			nonsense
		}
		users file users.yaml {
			nonsense
		}
		users htpasswd htpasswd {
			nonsense
		}
		factor totp {
			nonsense
		}
		security_defaults {
			nonsense
		}
		policy nonsense {
			nonsense
		}
		policies import policies/*.json {
			nonsense
		}
		named_location nonsense {
			nonsense
		}
		strength nonsense {
			nonsense
		}
		terms nonsense {
			nonsense
		}
		per_user_mfa {
			nonsense
		}
		app_passwords {
			nonsense
		}
		service_token nonsense {
			nonsense
		}
		sign_in_log {
			nonsense
		}
		legacy_report {
			nonsense
		}
		factor sms {
			nonsense
		}
		sender a twilio {
			nonsense
		}
		sender b webhook https://gateway.example.com {
			nonsense
		}
		sender c command true {
			nonsense
		}
		sender d smtp localhost:25 {
			nonsense
		}
		message_limits {
			nonsense
		}
		notify_changes {
			nonsense
		}
	}
}
`: {"Global option", "store redis", "session", "registration", "users file", "users htpasswd", "factor totp", "security_defaults", "policy", "policies import", "named_location", "strength", "terms", "per_user_mfa", "app_passwords", "service_token", "sign_in_log", "legacy_report",
			"factor sms, factor voice, factor email", "sender twilio", "sender webhook", "sender command", "sender smtp", "message_limits", "notify_changes"},
		`{
	mfa {
		users file users.yaml
	}
}
localhost {
	mfa hr {
		nonsense
		legacy_exception basic {
			nonsense
		}
		identity {
			nonsense
		}
	}
}
`: {"Directive", "legacy_exception", "Directive"},
	} {
		out, err := o.run(t, caddyfile, "adapt")
		if err == nil {
			t.Fatalf("an unknown option is taken:\n%s", out)
		}
		answers := refused.FindAllStringSubmatch(out, -1)
		if len(answers) != len(titles) {
			t.Fatalf("%d blocks refuse an unknown option, want %d:\n%s", len(answers), len(titles), out)
		}
		for i, title := range titles {
			var options []string
			for _, m := range quoted.FindAllStringSubmatch(answers[i][2], -1) {
				options = append(options, m[1])
			}
			if len(options) == 0 {
				t.Fatalf("%s: no options in %q", title, answers[i][0])
			}
			documented(title, options)
		}
	}
}

// TestEveryFieldOfTheJSONIsDocumented reads what becomes of the Caddyfiles with which the adapter is tested: among them is one for
// every option.
func TestEveryFieldOfTheJSONIsDocumented(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../caddymodule/testdata/adapt/*.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	for _, file := range files {
		_, adapted, _ := strings.Cut(readPage(t, file), "\n----------\n")
		var config struct {
			Apps map[string]any `json:"apps"`
		}
		if json.Unmarshal([]byte(adapted), &config) != nil {
			continue // a mistake, and its message
		}
		leaves(fields, "", config.Apps["mfa"])
		handlers(fields, config.Apps["http"])
	}
	if len(fields) < 20 {
		t.Fatalf("only %d fields were found: %v", len(fields), slices.Sorted(maps.Keys(fields)))
	}
	page := readPage(t, "../docs/caddyfile.md")
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		// The three have the same grammar.
		name := regexp.MustCompile(`^(sessions|accounts)\.`).ReplaceAllString(field, "store.")
		// Every sender has a name of its own, and headers are the operator's.
		name = regexp.MustCompile(`^senders\.[^.]*`).ReplaceAllString(name, "senders.<name>")
		name = regexp.MustCompile(`\.headers\..*`).ReplaceAllString(name, ".headers")
		if !strings.Contains(page, "`"+name+"`") && !strings.Contains(page, "`"+name+".") {
			t.Errorf("docs/caddyfile.md: the field `%s` is missing", name)
		}
	}
}

// leaves collects the paths of what holds no further fields.
func leaves(fields map[string]bool, path string, value any) {
	switch value := value.(type) {
	case map[string]any:
		if len(value) == 0 {
			fields[path] = true
		}
		for key, v := range value {
			leaves(fields, strings.TrimPrefix(path+"."+key, "."), v)
		}
	case []any:
		for _, v := range value {
			leaves(fields, path+"[]", v)
		}
	case nil:
	default:
		fields[path] = true
	}
}

// handlers collects the fields of our handlers, wherever they are.
func handlers(fields map[string]bool, value any) {
	switch value := value.(type) {
	case map[string]any:
		if value["handler"] == "mfa" {
			delete(value, "handler")
			leaves(fields, "", value)
			return
		}
		for _, v := range value {
			handlers(fields, v)
		}
	case []any:
		for _, v := range value {
			handlers(fields, v)
		}
	}
}

var (
	synopsis   = regexp.MustCompile(`(?m)^\\fBcaddy-mfa (mfa(?: [a-z][a-z-]*)*)`)
	manualFlag = regexp.MustCompile(`(?m)^(?:\\fB-[a-z]\\fP, )?\\fB(--[a-z-]+)\\fP`)
)

// TestEveryCommandIsDocumented reads the manual pages that the program makes of its help texts: one run tells of every command.
func TestEveryCommandIsDocumented(t *testing.T) {
	t.Parallel()
	page := readPage(t, "../docs/commands.md")
	dir := t.TempDir()
	if out, err := exec.Command(lab.Binary(t), "manpage", "--directory", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "caddy-mfa-mfa*.8"))
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, file := range files {
		manual, id := readPage(t, file), strings.TrimSuffix(filepath.Base(file), ".8")
		m := synopsis.FindStringSubmatch(manual)
		if m == nil || "caddy-mfa-"+strings.ReplaceAll(m[1], " ", "-") != id {
			t.Errorf("the help of %s calls it by another name:\n%s", id, manual)
			continue
		}
		if strings.Contains(manual, `\fB`+id+"-") {
			continue // a group, which names its commands
		}
		commands++
		name := m[1]
		if !strings.Contains(page, "\n## "+name+"\n") {
			t.Errorf("docs/commands.md: the command %s is missing", name)
		}
		flags := manualFlag.FindAllStringSubmatch(manual, -1)
		if len(flags) == 0 {
			t.Errorf("the help of %s names no option, not even --help:\n%s", name, manual)
		}
		for _, m := range flags {
			if !strings.Contains(page, "`"+m[1]+"`") && !strings.Contains(page, "`"+m[1]+" ") && !strings.Contains(page, " "+m[1]+" ") {
				t.Errorf("docs/commands.md: the option %s of %s is missing", m[1], name)
			}
		}
	}
	if commands < 20 {
		t.Fatalf("only %d commands were found", commands)
	}
}

// TestEveryKeyOfAUserIsDocumented asks the program, with a key that it doesn't know.
func TestEveryKeyOfAUserIsDocumented(t *testing.T) {
	t.Parallel()
	err := newOffice(t).validateUsers(t, "users:\n  alice:\n    nonsense: 1\n")
	if err == nil {
		t.Fatal("an unknown key is taken")
	}
	_, list, _ := strings.Cut(err.Error(), "want one of ")
	keys := regexp.MustCompile(`[a-z_]+`).FindAllString(strings.SplitN(list, `"`, 2)[0], -1)
	if len(keys) < 5 {
		t.Fatalf("the program names %q:\n%v", keys, err)
	}
	page := readPage(t, "../docs/users.md")
	for _, key := range keys {
		if !strings.Contains(page, "`"+key+"`") || !strings.Contains(page, "\n    "+key+": ") {
			t.Errorf("docs/users.md: the key %s is missing, in the table or in the example", key)
		}
	}
}

// TestEveryEventIsDocumented reads the events where they are declared.
func TestEveryEventIsDocumented(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../internal/audit/audit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	page := readPage(t, "../docs/logs-and-metrics.md")
	events := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Type" {
			return true
		}
		for _, v := range spec.Values {
			event, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			events++
			if !strings.Contains(page, "`"+event+"`") {
				t.Errorf("docs/logs-and-metrics.md: the event %s is missing", event)
			}
		}
		return true
	})
	if events < 10 {
		t.Fatalf("only %d events were found", events)
	}
}

// TestWhatIsWrittenOfLogsAndMetricsIsThere holds the page against a server that runs.
func TestWhatIsWrittenOfLogsAndMetricsIsThere(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Servers: "metrics", Global: "sender gateway command true\nfactor sms {\nsender gateway\n}\npolicy Watch {\nstate report_only\nusers all\napplications all\ngrant mfa\n}"})
	lab.NewBrowser(t, p.URL).Password("/", "alice", lab.Password)
	page := readPage(t, "../docs/logs-and-metrics.md")

	status, metrics := p.API(http.MethodGet, "/metrics", nil)
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d", status)
	}
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (caddy_mfa_[a-z_]+) `).FindAllStringSubmatch(metrics, -1) {
		shown[m[1]] = true
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/logs-and-metrics.md: the metric %s is missing", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`(caddy_mfa_[a-z_]+)`").FindAllStringSubmatch(page, -1) {
		if !shown[m[1]] {
			t.Errorf("docs/logs-and-metrics.md: there is no metric %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^caddy_mfa_requests_total\{.*verdict="([a-z_]+)"`).FindAllStringSubmatch(metrics, -1) {
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/logs-and-metrics.md: the verdict %s is missing", m[1])
		}
	}

	var signIn map[string]any
	for line := range strings.Lines(p.Log()) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil && entry["logger"] == "mfa.signin" {
			signIn = entry
		}
	}
	if signIn == nil {
		t.Fatal("no sign-in was logged")
	}
	blocks, _ := examples(t, "../docs/logs-and-metrics.md")
	i := slices.IndexFunc(blocks, func(b block) bool { return b.info == "json" })
	if i < 0 {
		t.Fatal("docs/logs-and-metrics.md shows no sign-in")
	}
	var example map[string]any
	d := json.NewDecoder(bytes.NewReader([]byte(blocks[i].text)))
	if err := d.Decode(&example); err != nil {
		t.Fatal(err)
	}
	for field := range example {
		if _, ok := signIn[field]; !ok {
			t.Errorf("docs/logs-and-metrics.md: a sign-in has no field %s", field)
		}
	}
	for field := range signIn {
		if _, ok := example[field]; !ok && !slices.Contains([]string{"level", "ts", "logger", "msg"}, field) {
			t.Errorf("docs/logs-and-metrics.md: the field %s is missing", field)
		}
	}
	// As Graph writes it, which is not how Caddy writes times.
	text, _ := signIn["createdDateTime"].(string)
	if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
		t.Errorf("createdDateTime is %v: %v", signIn["createdDateTime"], err)
	}
}

// TestPagesSayWhatTheDocumentationQuotes holds the quotations against the English texts.
func TestPagesSayWhatTheDocumentationQuotes(t *testing.T) {
	t.Parallel()
	var texts map[string]any
	if err := json.Unmarshal([]byte(readPage(t, "../internal/portal/text/en.json")), &texts); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, text := range texts {
		switch text := text.(type) {
		case string:
			all = append(all, text)
		case map[string]any:
			for _, form := range text {
				all = append(all, fmt.Sprint(form))
			}
		}
	}
	quotations := 0
	for file, title := range map[string]string{"../docs/signing-in.md": "Signing in", "../docs/troubleshooting.md": "People can't sign in"} {
		_, prose := examples(t, file)
		prose = strings.Join(strings.Fields(section(t, prose, title)), " ")
		for _, m := range regexp.MustCompile(`"([A-Z][^"]*)"`).FindAllStringSubmatch(prose, -1) {
			for part := range strings.SplitSeq(m[1], "…") {
				quotations++
				part = strings.TrimSpace(part)
				// Two texts of one page may be quoted together.
				for sentence := range strings.SplitSeq(strings.TrimSuffix(part, "."), ". ") {
					if !slices.ContainsFunc(all, func(text string) bool { return strings.Contains(text, sentence) }) {
						t.Errorf("%s: no page says %q", file, sentence)
					}
				}
			}
		}
	}
	if quotations < 5 {
		t.Fatalf("only %d quotations were found", quotations)
	}
}
