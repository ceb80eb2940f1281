package portal

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// confirmPage asks whether a change of the account is to be made. Who pressed its button, and had to prove first that it is he, comes
// back here: what he pressed has not been done, and no link may do it.
type confirmPage struct {
	*page
	Session    string
	Change, ID string // as in the form of the account page
	What       string // the kind of factor that is removed
	Called     string // its name
	Lead       string
	Submit     string // key of a text
}

// The changes on the account page that need a fresh proof.
const (
	changeRemove = "remove"
	changeCodes  = "recovery"
	changeForget = "forget-upstream"
)

// registerURL is the page on which a factor is chosen, with the way on from there.
func (v *visit) registerURL() string { return prefix + "register?page=choose&t=" + v.token }

// confirmURL is the page on which the change that was asked for with a form of the account page is confirmed; for anything else that
// page itself.
func (v *visit) confirmURL() string {
	change := v.form("action")
	if !slices.Contains([]string{changeRemove, changeCodes, changeForget}, change) {
		return prefix + "account"
	}
	return prefix + "confirm?" + url.Values{"change": {change}, "id": {v.form("id")}}.Encode()
}

// changePages are those on which a change is chosen or confirmed. None is made by loading them.
var changePages = []string{"register", "confirm", "app-password", "upstream"}

// toChange says whether the browser is on the way back to such a page.
func (v *visit) toChange() bool {
	path, _, _ := strings.Cut(v.to.Target, "?")
	name, ours := strings.CutPrefix(path, prefix)
	return ours && slices.Contains(changePages, name)
}

func (v *visit) getConfirm() {
	query := v.r.URL.Query()
	change, id := query.Get("change"), query.Get("id")
	v.to.Target = prefix + "account"
	v.token = v.Returns.Seal(v.to, v.f.Host, v.f.Now)
	st, err := v.Service.State(v.r.Context(), v.client)
	if v.failed(err) {
		return
	}
	if st.Step != signin.Done {
		v.advance(st)
		return
	}
	pg := v.page("")
	pg.as(st)
	pg.Name, pg.Query, pg.Application = "confirm", url.Values{"change": {change}, "id": {id}}.Encode(), v.f.Application
	data := confirmPage{page: pg, Session: st.Current.Session.ID, Change: change, ID: id, Submit: "account.remove"}
	there := false
	switch change {
	case changeRemove:
		var c mfa.Credential
		c, there = st.Account.Credential(id)
		there = there && account.Lasting(c.Method)
		data.What, data.Called = pg.T(methodNames[c.Method]), c.Name
		pg.Title, data.Lead = pg.T("confirm.remove_title"), pg.T("confirm.remove")
	case changeCodes:
		there = st.Account.Registered()
		pg.Title, data.Lead, data.Submit = pg.T("confirm.codes_title"), pg.T("confirm.codes"), "account.new_codes"
	case changeForget:
		there = slices.ContainsFunc(v.Service.UpstreamApplications(st), func(a signin.UpstreamApplication) bool { return a.Name == id && !a.Stored.IsZero() })
		pg.Title, data.Lead = pg.T("confirm.upstream_title", "Application", id), pg.T("confirm.upstream", "Application", id)
	}
	if !there {
		v.redirect(prefix + "account")
		return
	}
	v.render(v.w, pg, http.StatusOK, "confirm", data)
}
