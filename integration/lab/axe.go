package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// axe finds what keeps people from using a page (https://github.com/dequelabs/axe-core).
var axe = sync.OnceValues(func() (string, error) {
	raw, err := os.ReadFile(filepath.Join("node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		return "", fmt.Errorf("%w; run `npm ci` in this folder", err)
	}
	return string(raw), nil
})

// Axe lists where the page breaks the rules of WCAG 2.2, levels A and AA.
func (tab *Tab) Axe() []string {
	tab.t.Helper()
	return tab.axe(0)
}

// AxeInFrame is Axe for the page's only frame, which must be of the same site.
func (tab *Tab) AxeInFrame() []string {
	tab.t.Helper()
	return tab.axe(tab.frame())
}

func (tab *Tab) axe(world runtime.ExecutionContextID) []string {
	tab.t.Helper()
	source, err := axe()
	if err != nil {
		tab.t.Fatal(err)
	}
	in := func(p *runtime.EvaluateParams) { p.ContextID = world }
	if !run(tab, "looking for axe", chromedp.Evaluate[bool](`typeof axe === "object"`, in)) {
		run(tab, "loading axe", chromedp.Evaluate[chromedp.Void](source, in))
	}
	// A rule that can't be judged counts as broken: nobody would look.
	found := run(tab, "running axe", chromedp.Evaluate[struct {
		Passes int
		Broken []struct {
			ID, Help, Nodes string
		}
	}](`axe.run(document, {
		runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"], resultTypes: ["violations", "incomplete"], iframes: false,
	}).then(r => ({ Passes: r.passes.length, Broken: [...r.violations, ...r.incomplete].map(v => ({
		ID: v.id, Help: v.help, Nodes: v.nodes.map(n => n.html + " " + [...n.any, ...n.all, ...n.none].map(c => c.message).join(" ")).join("\n"),
	})) }))`, chromedp.EvalAwaitPromise, in))
	if found.Passes == 0 {
		tab.t.Fatal("axe has judged nothing")
	}
	var broken []string
	for _, b := range found.Broken {
		broken = append(broken, strings.TrimSpace(fmt.Sprintf("%s: %s\n%s", b.ID, b.Help, b.Nodes)))
	}
	return broken
}
