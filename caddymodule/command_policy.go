package caddymodule

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/caddy-mfa/caddy-mfa/internal/policy/graph"
)

func policyCommand() *cobra.Command {
	c := group("policy", "Conditional Access policies")
	c.AddCommand(policyListCommand(), policyExportCommand(), whatIfCommand(), replayCommand(), policyLintCommand(), policyImportCommand(), policyTemplateCommand())
	return c
}

// imports is what the command line says of an import.
type imports struct {
	names, output string
	partial       bool
	json          bool
}

func policyImportCommand() *cobra.Command {
	i := &imports{}
	c := &cobra.Command{
		Use: "import <file|folder>…", Short: "Judge policies that were exported from Entra", Args: cobra.MinimumNArgs(1),
		Long: `Judge policies that were exported from Entra, and say of each whether it is enforced here as it is there. No server need run.

A file holds one policy, a list of them, or Graph's answer to a request for all of them; a folder is searched for *.json, and what is
no policy in it is passed over. Ids need a name, which a mapping file gives them:

	ceeac9b8-ddf5-48cb-afcb-e2ab8bfd1a57: group:Finance
	"<AdministratorGroup>": group:Administrators
	Office365: application:files

The status is 0 only if every policy is enforced, or can't apply here in the first place.`,
	}
	f := c.Flags()
	f.StringVar(&i.names, "names", "", "mapping file (YAML) that gives names to ids")
	f.BoolVar(&i.partial, "allow-partial", false, "load refused policies without what can't be enforced, where they then demand more and never less")
	f.StringVarP(&i.output, "output", "o", "", "write what is loaded, with names, to this file")
	f.BoolVar(&i.json, "json", false, "print JSON")
	c.RunE = run(i.run)
	return c
}

func (i *imports) run(c *cobra.Command, paths []string) error {
	var names *graph.Names
	if i.names != "" {
		text, err := os.ReadFile(i.names)
		if err != nil {
			return fmt.Errorf("reading names: %w", err)
		}
		if names, err = graph.ParseNames(text); err != nil {
			return fmt.Errorf("reading names: %s: %w", i.names, err)
		}
	}
	found := policyFiles(paths)
	result := graph.Import(found.files, names, graph.Options{AllowPartial: i.partial})
	for _, err := range result.Errors {
		if found.passedOver(err, result) {
			fmt.Fprintf(c.ErrOrStderr(), "%s is passed over: it is no policy\n", harmless(err.File))
			continue
		}
		found.errs = append(found.errs, err)
	}
	for _, err := range found.errs {
		fmt.Fprintln(c.ErrOrStderr(), harmless(err.Error()))
	}
	if i.output != "" {
		if err := writePolicies(i.output, result); err != nil {
			return err
		}
	}
	answer := append([]graph.Verdict{}, result.Verdicts...) // never null
	if err := (&server{json: i.json}).print(c, answer, func(w io.Writer) { i.print(w, result) }); err != nil {
		return err
	}
	return failure(result, found.errs)
}

// found is what the paths of a command line lead to.
type found struct {
	files    []graph.File
	inFolder map[string]bool
	errs     []error
}

// passedOver says whether a file is no policy, and nobody has said that it is one: it lay in a folder.
func (f *found) passedOver(err *graph.FileError, result *graph.Result) bool {
	return f.inFolder[err.File] && errors.Is(err, graph.ErrNoPolicy) && !slices.ContainsFunc(result.Verdicts, func(v graph.Verdict) bool { return v.File == err.File })
}

// policyFiles reads files, and folders with all that is below them. What can't be read hides nothing else.
func policyFiles(paths []string) *found {
	f := &found{inFolder: map[string]bool{}}
	seen := map[string]bool{}
	read := func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		data, err := readBounded(path, graph.MaxSize+1)
		if err != nil {
			f.errs = append(f.errs, err)
			return
		}
		f.files = append(f.files, graph.File{Name: path, Data: data})
	}
	for _, path := range paths {
		path = filepath.Clean(path)
		info, err := os.Stat(path)
		if err != nil {
			f.errs = append(f.errs, err)
			continue
		}
		if !info.IsDir() {
			read(path)
			continue
		}
		before := len(f.files)
		root := path + string(filepath.Separator) // the folder, also where the path is a link to it
		err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
			if err != nil {
				f.errs = append(f.errs, err)
				return nil
			}
			twice := file != root && strings.HasPrefix(d.Name(), "..") // Kubernetes keeps the versions of a volume there, and links to the files
			switch info, err := os.Stat(file); {
			case twice && d.IsDir():
				return fs.SkipDir
			case !twice && d.Type()&fs.ModeSymlink != 0 && err == nil && info.IsDir():
				f.errs = append(f.errs, fmt.Errorf("%s: a link to a folder, which is not followed; name the folder, too", file))
				return nil
			}
			if !d.IsDir() && strings.EqualFold(filepath.Ext(file), ".json") {
				if !seen[file] {
					f.inFolder[file] = true
				}
				read(file)
			}
			return nil
		})
		if err != nil {
			f.errs = append(f.errs, err)
		}
		if len(f.files) == before && len(f.errs) == 0 {
			f.errs = append(f.errs, fmt.Errorf("%s: there is no *.json in this folder", path))
		}
	}
	return f
}

func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file", path) // a pipe might never end
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return data, nil
}

func writePolicies(path string, result *graph.Result) error {
	data, err := graph.Marshal(result.Policies, result.Strengths)
	if err != nil {
		return fmt.Errorf("writing policies: %w", err)
	}
	return writeFile(path, data)
}

// writeFile writes the whole file or nothing.
func writeFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("writing policies: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("writing policies: %w", err)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644) // the server may run as somebody else, and there is no secret in it
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (i *imports) print(w io.Writer, result *graph.Result) {
	if len(result.Verdicts) > 0 {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "VERDICT\tPOLICY\tPARTS")
		for _, v := range result.Verdicts {
			fmt.Fprintf(t, "%s\t%s\t%s\n", i.verdict(v), short(plain(dash(v.DisplayName))), plain(dash(strings.Join(v.Parts, "; "))))
		}
		t.Flush()
		fmt.Fprintln(w)
	}
	if ids := i.unresolved(result); len(ids) > 0 {
		fmt.Fprint(w, "These ids have no name here. Put them into the mapping file, each with its name behind the colon:\n\n")
		for _, id := range ids {
			fmt.Fprintf(w, "%s: %q", strconv.Quote(id.ID), id.Kind+":")
			if was := remark(id, result.Others); was != "" {
				fmt.Fprintf(w, " # %s", plain(was))
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w)
	}
	counts := map[graph.Judgement]int{}
	inPart := 0
	for _, v := range result.Verdicts {
		counts[v.Verdict]++
		if v.Verdict == graph.Refused && v.Loaded {
			inPart++
		}
	}
	fmt.Fprintf(w, "%s: %d enforced, %d not applicable, %d refused, %d unresolved.\n", number(len(result.Verdicts), "policy", "policies"),
		counts[graph.Enforced], counts[graph.NotApplicable], counts[graph.Refused], counts[graph.Unresolved])
	if inPart > 0 {
		fmt.Fprintf(w, "%d of the refused can be loaded without what can't be enforced: they apply to more sign-ins or demand more than in Entra.\n", inPart)
	}
	if i.output != "" {
		fmt.Fprintf(w, "%s: %s written.\n", i.output, number(len(result.Policies), "policy", "policies"))
	}
}

func (i *imports) verdict(v graph.Verdict) string {
	switch {
	case v.Verdict == graph.NotApplicable:
		return "not applicable"
	case v.Verdict == graph.Refused && v.Loaded:
		return "refused, loaded in part"
	}
	return string(v.Verdict)
}

// unresolved lists the ids without which something is not loaded, each once.
func (i *imports) unresolved(result *graph.Result) []graph.ID {
	seen := map[string]bool{}
	var ids []graph.ID
	for _, v := range result.Verdicts {
		if v.Verdict != graph.Unresolved && !i.partial {
			continue
		}
		for _, id := range v.IDs {
			if key := strings.ToLower(id.ID); !seen[key] {
				seen[key] = true
				ids = append(ids, id)
			}
		}
	}
	slices.SortStableFunc(ids, func(a, b graph.ID) int { return slices.Index(graph.Kinds, a.Kind) - slices.Index(graph.Kinds, b.Kind) })
	return ids
}

// remarks say what well-known ids are in Entra. What they are here, if anything, only an operator can say.
var remarks = map[string]string{
	"00000000-0000-0000-0000-000000000000": "the trusted IPs of per-user MFA",
	"3d46dbda-8382-466a-856d-eb00cbc6b910": "the compliant network of Global Secure Access",
	"office365":                            "the applications of Office 365",
	"microsoftadminportals":                "Microsoft's portals for administrators",
	"00000002-0000-0ff1-ce00-000000000000": "Exchange Online",
	"00000003-0000-0000-c000-000000000000": "Microsoft Graph",
	"00000003-0000-0ff1-ce00-000000000000": "SharePoint Online",
	"0000000a-0000-0000-c000-000000000000": "Microsoft Intune",
	"14d82eec-204b-4c2f-b7e8-296a70dab67e": "Microsoft Graph Command Line Tools",
	"797f4846-ba00-4fd7-ba43-dac1f8f63013": "the API that manages Azure",
	"d4ebce55-015a-49b5-a083-c84d1797ae8c": "Microsoft Intune Enrollment",
}

// remark says what an id is in Entra, as far as that is known.
func remark(id graph.ID, others map[string]string) string {
	key := strings.ToLower(id.ID)
	if name := others[key]; name != "" {
		return name
	}
	return remarks[key]
}

// failure is what the status of an import comes from.
func failure(result *graph.Result, errs []error) error {
	counts := map[graph.Judgement]int{}
	for _, v := range result.Verdicts {
		counts[v.Verdict]++
	}
	var failures []string
	for _, judgement := range []graph.Judgement{graph.Refused, graph.Unresolved} {
		if n := counts[judgement]; n > 0 {
			failures = append(failures, fmt.Sprintf("%s %s", number(n, "policy", "policies"), judgement))
		}
	}
	if len(errs) > 0 {
		failures = append(failures, number(len(errs), "error", "errors")+" above")
	}
	if len(result.Verdicts) == 0 && len(errs) == 0 {
		failures = append(failures, "there is no policy")
	}
	if failures == nil {
		return nil
	}
	return errors.New(strings.Join(failures, ", "))
}

func number(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// plain writes text of somebody else's so that it can't drive the terminal.
func plain(s string) string {
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// short bounds a name in a table, where the longest makes every line as long.
func short(s string) string {
	const most = 120
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// harmless takes out of a message what would drive the terminal. The names of other people's files can hold that.
func harmless(message string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && r != '\n' {
			return unicode.ReplacementChar
		}
		return r
	}, message)
}

// templates are policies to begin with, each a Caddyfile whose first line says what it is for.
//
//go:embed templates/*.caddyfile
var templates embed.FS

func policyTemplateCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "template [<name>]", Short: "Print a policy to begin with, as a part of a Caddyfile", Args: cobra.MaximumNArgs(1),
		Long: "Print a policy to begin with, as a part of a Caddyfile; without a name, list them. Each is in report_only: it is logged and not felt.",
	}
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = run(func(c *cobra.Command, args []string) error {
		all, err := policyTemplates()
		if err != nil {
			return err
		}
		s := &server{json: *asJSON}
		if len(args) == 0 {
			return s.print(c, all, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
				fmt.Fprintln(t, "NAME\tWHAT IT DOES")
				for _, template := range all {
					fmt.Fprintf(t, "%s\t%s\n", template.Name, template.Does)
				}
				t.Flush()
			})
		}
		i := slices.IndexFunc(all, func(t policyTemplate) bool { return t.Name == args[0] })
		if i < 0 {
			return fmt.Errorf("there is no template %q; `caddy-mfa mfa policy template` lists them", args[0])
		}
		return s.print(c, all[i], func(w io.Writer) { io.WriteString(w, all[i].Caddyfile) })
	})
	return c
}

// policyTemplate is a policy to begin with.
type policyTemplate struct {
	Name      string `json:"name"`
	Does      string `json:"does"`
	Caddyfile string `json:"caddyfile"`
}

func policyTemplates() ([]policyTemplate, error) {
	entries, err := templates.ReadDir("templates")
	if err != nil {
		return nil, err
	}
	var all []policyTemplate
	for _, e := range entries {
		text, err := templates.ReadFile("templates/" + e.Name())
		if err != nil {
			return nil, err
		}
		first, _, _ := strings.Cut(string(text), "\n")
		all = append(all, policyTemplate{
			Name: strings.TrimSuffix(e.Name(), ".caddyfile"), Does: strings.TrimPrefix(first, "# "), Caddyfile: string(text),
		})
	}
	return all, nil
}
