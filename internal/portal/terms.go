package portal

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// Terms are terms of use as a page shows them.
type Terms struct {
	policy.Terms
	Text template.HTML
}

// NewTerms makes terms of an operator's Markdown (CommonMark). HTML that stands in it is left out.
func NewTerms(terms policy.Terms, markdown []byte) (Terms, error) {
	md := goldmark.New(goldmark.WithParserOptions(parser.WithASTTransformers(util.Prioritized(below{}, 0))))
	var html bytes.Buffer
	if err := md.Convert(markdown, &html); err != nil {
		return Terms{}, fmt.Errorf("reading terms of use %q: %w", terms.Name, err)
	}
	return Terms{terms, template.HTML(html.String())}, nil
}

// below puts the text's headings below the page's own, which is the only one of the first level.
type below struct{}

// Transform is for goldmark.
func (below) Transform(doc *ast.Document, _ text.Reader, _ parser.Context) { lower(doc) }

func lower(n ast.Node) {
	if h, ok := n.(*ast.Heading); ok {
		h.Level = min(h.Level+1, 6)
	}
	for child := n.FirstChild(); child != nil; child = child.NextSibling() {
		lower(child)
	}
}

type termsPage struct {
	*page
	Session string
	Terms   Terms
}

func (v *visit) getTerms() {
	st, err := v.Service.State(v.r.Context(), v.client)
	if v.failed(err) {
		return
	}
	v.showTerms(st, http.StatusOK, func(*page) {})
}

// showTerms shows the first terms that are still to be accepted, or leads to the step that is next instead.
func (v *visit) showTerms(st signin.State, status int, prepare func(*page)) {
	if st.Step != signin.Terms {
		v.advance(st)
		return
	}
	asked := st.Decision.Terms[0]
	for _, t := range v.Terms {
		if t.Terms == asked {
			pg := v.page("terms.title")
			pg.as(st)
			pg.Name = "terms"
			prepare(pg)
			v.render(v.w, pg, status, "terms", termsPage{pg, st.Current.Session.ID, t})
			return
		}
	}
	v.failed(fmt.Errorf("there is no text of the terms of use %q, version %d", asked.Name, asked.Version))
}

func (v *visit) postTerms() {
	ctx := v.r.Context()
	version, err := strconv.Atoi(v.form("version"))
	if err != nil {
		version = 0 // which no terms have
	}
	st, cookies, err := v.Service.AcceptTerms(ctx, v.client, v.form("session"), policy.Terms{Name: v.form("terms"), Version: version})
	if errors.Is(err, signin.ErrStep) {
		// Others may be asked for by now.
		v.showTerms(st, http.StatusConflict, func(pg *page) { pg.Notice = pg.T("verify.again") })
		return
	}
	if v.failed(err) {
		return
	}
	v.setCookies(cookies)
	v.advance(st)
}
