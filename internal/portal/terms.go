package portal

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"

	"github.com/yuin/goldmark"

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
	var html bytes.Buffer
	if err := goldmark.Convert(markdown, &html); err != nil {
		return Terms{}, fmt.Errorf("reading terms of use %q: %w", terms.Name, err)
	}
	return Terms{terms, template.HTML(html.String())}, nil
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
