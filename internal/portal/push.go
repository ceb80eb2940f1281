package portal

import (
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"net/http"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/factor/push"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// The page of a phone and everything of it lie below pushPages, so that its service worker has nothing else in its scope.
const (
	pushPages  = "push/"
	pushWorker = pushPages + "worker.js"
	pushScript = pushPages + "approve.js"
)

//go:embed assets/approve.js assets/worker.js assets/push.svg assets/push.png
var pushFiles embed.FS

// pushAssets are served as they are.
var pushAssets = map[string]struct{ file, contentType string }{
	"worker.js":  {"assets/worker.js", "text/javascript; charset=utf-8"},
	"approve.js": {"assets/approve.js", "text/javascript; charset=utf-8"},
	"icon.svg":   {"assets/push.svg", "image/svg+xml"},
	"icon.png":   {"assets/push.png", "image/png"}, // the same, square and opaque, for the home screens of iPhones
}

// What pages of push may do beside what all may. Only the phone's page has a worker and can be installed.
const (
	allowsFetch = "connect-src 'self'; "
	allowsPhone = allowsFetch + "worker-src 'self'; manifest-src 'self'; "
)

// pushPart is what of the page of a method is about approval on a phone.
type pushPart struct {
	Number   string        // shown while the phones are asked; empty: nobody has asked them
	Answered bool          // on a phone
	Asked    signin.Wishes // beside it: ticked again when it comes to nothing
}

func (v *visit) pushPart(pg *page, st signin.State, method mfa.Method) (part pushPart, err error) {
	if method != mfa.Push {
		return pushPart{}, nil
	}
	prompt, ok, err := v.Service.Prompt(v.r.Context(), v.client, st)
	if err != nil || !ok {
		return pushPart{}, err
	}
	pg.Script, pg.allows, pg.Reload = pushScript, allowsFetch, 5
	if prompt.Outcome != "" {
		pg.Reload = 0
		return pushPart{Answered: true, Asked: signin.Wishes{Stay: prompt.Stay, Remember: prompt.Remember}}, nil
	}
	return pushPart{Number: prompt.Number, Asked: signin.Wishes{Stay: prompt.Stay, Remember: prompt.Remember}}, nil
}

// postPush asks the phones on a press of the button, and asks for their answer.
func (v *visit) postPush(purpose string) {
	ctx, id := v.r.Context(), v.form("session")
	var (
		st      signin.State
		cookies signin.Cookies
		err     error
		wait    *throttle.WaitError
	)
	asks := v.form("action") == "ask"
	if asks {
		st, err = v.Service.AskPhones(ctx, v.client, id)
	} else {
		st, cookies, err = v.Service.FinishPush(ctx, v.client, id)
	}
	again := func(status int, text string) {
		v.showVerify(st, mfa.Push, purpose, status, "", func(pg *page) { pg.wrong("", pg.T(text)) })
	}
	switch {
	case err == nil && asks, errors.Is(err, signin.ErrWaiting):
		// The page that is loaded again asks nobody a second time.
		q := query(mfa.Push, purpose)
		q.Set("t", v.token)
		v.redirect(prefix + "verify?" + q.Encode())
	case errors.Is(err, signin.ErrStep) && st.Step == signin.Password:
		v.renderSignIn(http.StatusUnprocessableEntity, "", func(pg *page) { pg.wrong("username", pg.T("signin.too_long")) })
	case errors.Is(err, signin.ErrStep):
		v.showVerify(st, mfa.Push, purpose, http.StatusConflict, "", func(pg *page) { pg.Notice = pg.T("verify.again") })
	case errors.Is(err, signin.ErrWrong):
		again(http.StatusUnprocessableEntity, "verify.push.wrong")
	case errors.Is(err, signin.ErrReported):
		again(http.StatusForbidden, "push.reported")
	case errors.Is(err, signin.ErrExpired):
		again(http.StatusUnprocessableEntity, "push.unanswered")
	case errors.As(err, &wait):
		v.w.Header().Set("Retry-After", retrySeconds(wait, v.f.Now))
		v.showVerify(st, mfa.Push, purpose, http.StatusTooManyRequests, "", func(pg *page) { pg.wrong("", throttled(pg, wait, v.f.Now)) })
	case v.failed(err):
	default:
		v.setCookies(cookies)
		v.proven(st, purpose)
	}
}

// pairingPage connects a phone.
type pairingPage struct {
	*page
	Session string
	State   string // as in pairingState
	QR      template.HTML
	Link    string // behind the number sign
	URL     string // with it, to read
	Pairing push.Pairing
}

// How far the registration of a phone is.
const (
	pairingOpen      = "open"
	pairingPaired    = "paired"
	pairingConfirmed = "confirmed"
)

func pairingState(p push.Pairing) string {
	switch {
	case p.Confirmed:
		return pairingConfirmed
	case p.Opened:
		return pairingPaired
	}
	return pairingOpen
}

func (v *visit) showPairing(st signin.State, ch mfa.Challenge) {
	pg := v.page("pair.title")
	pg.as(st)
	pg.Name, pg.Script, pg.allows, pg.Reload = "register", pushScript, allowsFetch, 5
	pairing, err := push.PairingOf(ch.State)
	if v.failed(err) {
		return
	}
	link, err := v.Service.PairingLink(st, ch)
	if v.failed(err) {
		return
	}
	data := pairingPage{page: pg, Session: st.Current.Session.ID, State: pairingState(pairing), Pairing: pairing}
	if data.State == pairingOpen {
		// Behind the number sign, it stands in no log.
		data.Link, data.URL = link, v.f.Origin+prefix+pushPages+"#"+link
		if data.QR, err = qrCode(data.URL, pg.T("pair.scan")); v.failed(err) {
			return
		}
	}
	v.render(v.w, pg, http.StatusOK, "pair", data)
}

// checkPairing asks how far the phone is, and ends the registration when the number was typed on it.
func (v *visit) checkPairing() {
	st, ch, err := v.Service.Registration(v.r.Context(), v.client)
	switch {
	case errors.Is(err, signin.ErrStep) && st.User != nil && st.Registers():
		v.showRegister(st, http.StatusUnprocessableEntity, func(pg *page) { pg.wrong("", pg.T("pair.failed")) })
		return
	case errors.Is(err, signin.ErrStep):
		v.advance(st)
		return
	case v.failed(err):
		return
	}
	if pairing, err := push.PairingOf(ch.State); ch.Method != mfa.Push || err != nil || !pairing.Confirmed {
		v.next("register")
		return
	}
	v.finishRegistration()
}

// phonePage is the page of a phone.
type phonePage struct {
	*page
	Key string // with which its browser subscribes to notifications; empty: there are none
	Now int64  // milliseconds since 1970
}

// servePush serves what lies below pushPages, and says whether there is such a thing. Pages that stand in for others are as everywhere.
func (p *Portal) servePush(w http.ResponseWriter, r *http.Request, f Facts, name string) bool {
	if asset, ok := pushAssets[name]; ok {
		body, err := pushFiles.ReadFile(asset.file)
		if err != nil { // it is embedded
			panic(err)
		}
		p.asset(w, r, asset.contentType, body)
		return true
	}
	v := &visit{Portal: p, w: w, r: r, f: f}
	v.open("")
	switch name {
	case "":
		switch dest := r.Header.Get("Sec-Fetch-Dest"); {
		case dest != "" && dest != "document", r.Method != http.MethodGet && r.Method != http.MethodHead:
			return false
		}
		pg := v.page("phone.title")
		pg.Languages, pg.Application, pg.Script, pg.Manifest, pg.allows = nil, "", pushScript, pushPages+"manifest.webmanifest", allowsPhone
		data := phonePage{page: pg, Now: f.Now.UnixMilli()}
		if n := p.Service.Phones.Notifier; n != nil {
			data.Key = n.Key()
		}
		p.render(w, pg, http.StatusOK, "phone", data)
		return true
	case "manifest.webmanifest":
		body, err := json.Marshal(map[string]any{
			"name": f.Host, "short_name": f.Host, "start_url": prefix + pushPages, "scope": prefix + pushPages, "display": "standalone",
			"icons": []map[string]string{{"src": "icon.svg", "type": "image/svg+xml", "sizes": "any"}},
		})
		if v.failed(err) {
			return true
		}
		p.asset(w, r, "application/manifest+json", body)
		return true
	case "status":
		if r.Method == http.MethodGet {
			v.status()
			return true
		}
	}
	say, ok := map[string]func(*visit, []byte) (any, error){
		"pair": (*visit).sayPair, "confirm": (*visit).sayConfirm, "poll": (*visit).sayPoll, "answer": (*visit).sayAnswer, "subscribe": (*visit).saySubscribe,
	}[name]
	if !ok {
		return false
	}
	v.said(say)
	return true
}

// said is something that the script of a phone's page says.
func (v *visit) said(say func(*visit, []byte) (any, error)) {
	media, _, _ := strings.Cut(v.r.Header.Get("Content-Type"), ";")
	switch {
	case v.r.Method != http.MethodPost:
		v.w.Header().Set("Allow", "POST")
		v.writeLine(v.w, http.StatusMethodNotAllowed, "This page can't be used that way.")
		return
	case v.foreign.Check(v.r) != nil, strings.TrimSpace(media) != "application/json":
		v.writeLine(v.w, http.StatusForbidden, "This is for the page of a phone.")
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(v.w, v.r.Body, maxForm))
	if err != nil {
		v.writeLine(v.w, http.StatusBadRequest, "This could not be read.")
		return
	}
	answer, err := say(v, raw)
	state := ""
	switch {
	case err == nil:
		v.writeJSON(answer)
		return
	case errors.Is(err, push.ErrMalformed):
		v.writeLine(v.w, http.StatusBadRequest, "This could not be read.")
		return
	case errors.Is(err, signin.ErrPhone):
		state = "unknown"
	case errors.Is(err, signin.ErrExpired), errors.Is(err, signin.ErrStep):
		state = "expired"
	case errors.Is(err, signin.ErrReplayed):
		state = "answered"
	case errors.Is(err, signin.ErrWrong):
		state = "wrong"
	default:
		v.failed(err)
		return
	}
	v.writeJSON(map[string]string{"state": state})
}

// phoneSays is everything that a phone may say.
type phoneSays struct {
	Handle       string `json:"handle"`
	Link         string `json:"link"`
	At           int64  `json:"at"`
	Key          []byte `json:"key"`
	Signature    []byte `json:"signature"`
	Prompt       string `json:"prompt"`
	Decision     string `json:"decision"`
	Number       string `json:"number"`
	Subscription *struct {
		Endpoint string `json:"endpoint"`
		P256dh   string `json:"p256dh"`
		Auth     string `json:"auth"`
		Sender   string `json:"sender"`
	} `json:"subscription"`
}

func readSaid(raw []byte) (s phoneSays, said signin.Said, err error) {
	if json.Unmarshal(raw, &s) != nil {
		return s, said, push.ErrMalformed
	}
	return s, signin.Said{Handle: s.Handle, At: s.At, Signature: s.Signature}, nil
}

func (v *visit) sayPair(raw []byte) (any, error) {
	s, _, err := readSaid(raw)
	if err != nil {
		return nil, err
	}
	paired, err := v.Service.Pair(v.r.Context(), v.client, s.Link, s.Key, s.Signature)
	return map[string]string{"state": "paired", "handle": paired.Handle, "user": paired.User, "host": paired.Host}, err
}

func (v *visit) sayConfirm(raw []byte) (any, error) {
	s, _, err := readSaid(raw)
	if err != nil {
		return nil, err
	}
	return map[string]string{"state": "confirmed"}, v.Service.ConfirmPairing(v.r.Context(), v.client, s.Link, s.Number, s.Signature)
}

func (v *visit) sayPoll(raw []byte) (any, error) {
	_, said, err := readSaid(raw)
	if err != nil {
		return nil, err
	}
	type prompt struct {
		ID          string `json:"id"`
		Application string `json:"application"`
		Browser     string `json:"browser"`
		Address     string `json:"address"`
		Country     string `json:"country"`
		Left        int64  `json:"left"` // milliseconds
	}
	asked, again, err := v.Service.PhonePrompts(v.r.Context(), v.client, said)
	prompts := []prompt{}
	for _, p := range asked {
		if p.Application == "" {
			p.Application = p.Host
		}
		prompts = append(prompts, prompt{p.ID, p.Application, p.Browser, p.Address, p.Country, p.Expires.Sub(v.f.Now).Milliseconds()})
	}
	return map[string]any{"state": "connected", "handle": again, "prompts": prompts}, err
}

func (v *visit) sayAnswer(raw []byte) (any, error) {
	s, said, err := readSaid(raw)
	if err != nil {
		return nil, err
	}
	state := "approved"
	if s.Decision == push.Deny {
		state = "denied"
	}
	return map[string]string{"state": state}, v.Service.AnswerPrompt(v.r.Context(), v.client, said, s.Prompt, s.Decision, s.Number)
}

func (v *visit) saySubscribe(raw []byte) (any, error) {
	s, said, err := readSaid(raw)
	if err != nil {
		return nil, err
	}
	var to *push.Subscription
	if s.Subscription != nil {
		subscription := push.Subscription(*s.Subscription)
		to = &subscription
	}
	return map[string]string{"state": "subscribed"}, v.Service.Subscribe(v.r.Context(), v.client, said, to)
}

// status tells the script of a page that waits for a phone whether it goes on.
func (v *visit) status() {
	ctx, state := v.r.Context(), "none"
	if v.r.URL.Query().Get("for") == "register" {
		_, ch, err := v.Service.Registration(ctx, v.client)
		if err != nil && !errors.Is(err, signin.ErrStep) {
			v.failed(err)
			return
		}
		if pairing, pairingErr := push.PairingOf(ch.State); err == nil && pairingErr == nil && ch.Method == mfa.Push {
			state = pairingState(pairing)
		}
		v.writeJSON(map[string]string{"state": state})
		return
	}
	st, err := v.Service.State(ctx, v.client)
	if v.failed(err) {
		return
	}
	prompt, ok, err := v.Service.Prompt(ctx, v.client, st)
	switch {
	case v.failed(err):
		return
	case ok && prompt.Outcome == "":
		state = "waiting"
	case ok:
		state = "answered"
	}
	v.writeJSON(map[string]string{"state": state})
}

func (v *visit) writeJSON(value any) {
	body, err := json.Marshal(value)
	if v.failed(err) {
		return
	}
	h := v.w.Header()
	noStore(h)
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	v.w.Write(append(body, '\n')) // a client that is gone is no fault of ours
}

// PushNotice writes what a notification on a phone says: see signin.Phones.
func (t *Texts) PushNotice(languages ...string) []byte {
	lang := t.Choose(languages...)
	s := t.speak(lang)
	body, err := json.Marshal(map[string]string{"title": s.T("phone.notice"), "body": s.T("phone.notice_look"), "lang": lang.Tag, "dir": lang.Dir})
	if err != nil { // texts are always written
		panic(err)
	}
	return body
}
