package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Chromium is a real browser, without a window.
type Chromium struct {
	t   testing.TB
	ctx context.Context
}

// browserTime is how long the browser may take for anything, and a page for showing what is waited for.
const browserTime = time.Minute

// NewChromium starts a browser. It ends with the test. Every name below example.com leads to this machine. more are options of the
// command line, in place of those that it has else.
func NewChromium(t testing.TB, more ...chromedp.ExecAllocatorOption) *Chromium {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"),
		chromedp.Flag("host-resolver-rules", "MAP localhost 127.0.0.1, MAP *.example.com 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.DisableGPU,
		chromedp.WSURLReadTimeout(patience),
	)
	options = append(options, more...)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // as root there is none
	}
	ctx, end := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(end)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting chromium: %v", err)
	}
	return &Chromium{t, ctx}
}

// Tab is a tab of a browser. A test fails if a page in it breaks its Content-Security-Policy, if a script throws, or if
// something that a page asks for doesn't come.
type Tab struct {
	t     testing.TB
	ctx   context.Context
	shots string // folder for pictures; empty: none are taken

	mu       sync.Mutex
	problems []string
	asked    map[network.RequestID]string
	accepted []string

	noAutofill page.ScriptIdentifier // of what keeps passkeys out of fields; empty: nothing does
}

// Profile opens a tab of a profile of its own, which shares cookies with no other. language is what it asks for, as in
// Accept-Language.
func (c *Chromium) Profile(t testing.TB, language string) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(c.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	return newTab(t, ctx, language)
}

// Another opens another tab of the same profile.
func (tab *Tab) Another(language string) *Tab {
	tab.t.Helper()
	ctx, cancel := chromedp.NewContext(tab.ctx)
	tab.t.Cleanup(cancel)
	return newTab(tab.t, ctx, language)
}

func newTab(t testing.TB, ctx context.Context, language string) *Tab {
	t.Helper()
	tab := &Tab{t: t, ctx: ctx, shots: os.Getenv("CADDY_MFA_SCREENSHOTS"), asked: map[network.RequestID]string{}}
	if err := chromedp.Listen(ctx, tab.listen); err != nil {
		t.Fatalf("opening tab: %v", err)
	}
	tab.Viewport(1280, 800)
	call(tab, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	call(tab, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{AcceptLanguage: language})
	t.Cleanup(func() {
		for _, problem := range tab.Problems() {
			t.Errorf("in the browser: %s", problem)
		}
	})
	return tab
}

// listen notes what goes wrong in pages.
func (tab *Tab) listen(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	note := func(format string, args ...any) { tab.problems = append(tab.problems, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *log.EventEntryAdded:
		// What the network says is seen below, with the kind of the request.
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			note("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		note("exception: %s (%s)", text, e.ExceptionDetails.URL)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeAssert {
			raw, _ := json.Marshal(e.Args)
			note("console: %s", raw)
		}
	case *network.EventRequestWillBeSent:
		tab.asked[e.RequestID] = e.Request.URL
	case *network.EventResponseReceived:
		if e.Type != network.ResourceTypeDocument && e.Response.Status >= 400 {
			note("network: %s %s has status %d", e.Type, e.Response.URL, e.Response.Status)
		}
	case *network.EventLoadingFailed:
		if !e.Canceled && e.ErrorText != "net::ERR_ABORTED" {
			note("network: %s %s: %s %s", e.Type, tab.asked[e.RequestID], e.ErrorText, e.BlockedReason)
		}
	}
}

// Problems lists what went wrong in the tab's pages since the last call, but for what is accepted.
func (tab *Tab) Problems() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	var problems []string
next:
	for _, problem := range tab.problems {
		for _, a := range tab.accepted {
			if strings.Contains(problem, a) {
				continue next
			}
		}
		problems = append(problems, problem)
	}
	tab.problems = nil
	return problems
}

// Accept says that problems with this text are no fault of ours.
func (tab *Tab) Accept(text string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.accepted = append(tab.accepted, text)
}

// try runs an action within browserTime.
func try[T any](tab *Tab, a chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(tab.ctx, browserTime)
	defer cancel()
	return chromedp.Run(ctx, a)
}

func run[T any](tab *Tab, what string, a chromedp.Action[T]) T {
	tab.t.Helper()
	result, err := try(tab, a)
	if err != nil {
		tab.t.Fatalf("%s: %v\n%s", what, err, tab)
	}
	return result
}

func call[P, R any](tab *Tab, command cdp.Command[P, R], params P) R {
	tab.t.Helper()
	return run(tab, command.Method, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// Eval runs a script in the page and gives what it results in. Page policies do not bind it.
func Eval[T any](tab *Tab, script string) T {
	tab.t.Helper()
	return run(tab, script, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
}

// read is Eval for a script that only reads: between two pages there is nothing to read, and so it is asked again.
func read[T any](tab *Tab, script string) T {
	tab.t.Helper()
	for deadline := time.Now().Add(browserTime); ; time.Sleep(5 * time.Millisecond) {
		value, err := try(tab, chromedp.Evaluate[T](script))
		if err == nil {
			return value
		}
		if time.Now().After(deadline) {
			tab.t.Fatalf("%s: %v\n%s", script, err, tab)
		}
	}
}

// String is what the tab shows, for messages.
func (tab *Tab) String() string {
	text, err := try(tab, chromedp.Evaluate[string](`location.href + "\n" + document.title + "\n" + (document.body ? document.body.innerText : "")`))
	if err != nil {
		return err.Error()
	}
	return text
}

// Open goes to an address.
func (tab *Tab) Open(url string) *Tab {
	tab.t.Helper()
	run(tab, "opening "+url, chromedp.Navigate(url))
	return tab
}

// Viewport gives the page a size, in CSS pixels.
func (tab *Tab) Viewport(width, height int) {
	tab.t.Helper()
	call(tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(width), Height: int64(height), DeviceScaleFactor: 1})
}

// Scheme prefers colours that are light or dark.
func (tab *Tab) Scheme(scheme string) {
	tab.t.Helper()
	call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// Path is path and query of the page.
func (tab *Tab) Path() string {
	tab.t.Helper()
	return read[string](tab, `location.pathname + location.search`)
}

// Title is the page's title.
func (tab *Tab) Title() string {
	tab.t.Helper()
	return read[string](tab, `document.title`)
}

// Want waits until a text can be seen on a page that has been loaded.
func (tab *Tab) Want(text string) *Tab {
	tab.t.Helper()
	script := fmt.Sprintf(`document.readyState === "complete" && document.body.innerText.includes(%s)`, quote(text))
	for deadline := time.Now().Add(browserTime); ; {
		// While one page makes way for the next, there is none.
		if found, err := try(tab, chromedp.Evaluate[bool](script)); err == nil && found {
			return tab
		}
		if time.Now().After(deadline) {
			tab.t.Fatalf("the page does not say %q:\n%s", text, tab)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Says tells whether a text can be seen on the page.
func (tab *Tab) Says(text string) bool {
	tab.t.Helper()
	return read[bool](tab, fmt.Sprintf(`document.body.innerText.includes(%s)`, quote(text)))
}

func quote(s string) string {
	raw, err := json.Marshal(s)
	if err != nil { // strings are always written
		panic(err)
	}
	return string(raw)
}

// Focus names the element that has the focus: its id, or its text.
func (tab *Tab) Focus() string {
	tab.t.Helper()
	return read[string](tab, `document.activeElement.id || document.activeElement.textContent.trim()`)
}

// Fill writes into a field, which it finds by its id, as a person or a password manager does.
func (tab *Tab) Fill(id, text string) *Tab {
	tab.t.Helper()
	Eval[bool](tab, fmt.Sprintf(`(() => { const e = document.getElementById(%s); e.focus(); e.select(); return true })()`, quote(id)))
	tab.Type(text)
	return tab
}

// Type writes where the focus is.
func (tab *Tab) Type(text string) {
	tab.t.Helper()
	call(tab, input.InsertText, input.InsertTextParams{Text: text})
}

// Tabulator presses that key.
func (tab *Tab) Tabulator() {
	tab.t.Helper()
	tab.press(input.DispatchKeyEventParams{Key: "Tab", Code: "Tab", WindowsVirtualKeyCode: 9})
}

// Enter presses that key.
func (tab *Tab) Enter() {
	tab.t.Helper()
	tab.press(input.DispatchKeyEventParams{Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 13, Text: "\r"})
}

func (tab *Tab) press(key input.DispatchKeyEventParams) {
	tab.t.Helper()
	// Without an event for the character: the browser makes it itself, unless the key has done its work.
	key.Type = input.DispatchKeyEventTypeKeyDown
	call(tab, input.DispatchKeyEvent, key)
	key.Type, key.Text = input.DispatchKeyEventTypeKeyUp, ""
	call(tab, input.DispatchKeyEvent, key)
}

// Click clicks on the button, link or summary with this text, as soon as it is there to be seen.
func (tab *Tab) Click(text string) *Tab {
	tab.t.Helper()
	type place struct {
		X, Y  float64
		Fault string
	}
	script := fmt.Sprintf(`(() => {
		if (document.readyState !== "complete") return { Fault: "the page is loading" };
		const found = [...document.querySelectorAll("button, a, summary")].filter(e => e.textContent.trim() === %s && e.checkVisibility());
		if (found.length !== 1) return { Fault: found.length + " of them" };
		found[0].scrollIntoView({ block: "center", behavior: "instant" });
		const box = found[0].getClientRects()[0], x = box.x + box.width / 2, y = box.y + box.height / 2;
		const top = document.elementFromPoint(x, y);
		if (!found[0].contains(top)) return { Fault: "something lies over it" };
		return { X: x, Y: y };
	})()`, quote(text))
	for deadline := time.Now().Add(browserTime); ; time.Sleep(5 * time.Millisecond) {
		// While one page makes way for the next, there is none.
		at, err := try(tab, chromedp.Evaluate[place](script))
		if err == nil && at.Fault == "" {
			run(tab, "clicking on "+text, chromedp.MouseClickXY(at.X, at.Y))
			return tab
		}
		if time.Now().After(deadline) {
			tab.t.Fatalf("clicking on %q: %v, %s\n%s", text, err, at.Fault, tab)
		}
	}
}

// Back goes back one page, as the browser's button does.
func (tab *Tab) Back() {
	tab.t.Helper()
	history := run(tab, "reading history", chromedp.NavigationEntries())
	if history.CurrentIndex == 0 {
		tab.t.Fatalf("there is nothing to go back to\n%s", tab)
	}
	call(tab, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: history.Entries[history.CurrentIndex-1].ID})
}

// Reload loads the page again; a form is sent again, as a person confirms.
func (tab *Tab) Reload() {
	tab.t.Helper()
	run(tab, "reloading", chromedp.Reload())
}

// ForgetCookies removes the profile's cookies.
func (tab *Tab) ForgetCookies() {
	tab.t.Helper()
	call(tab, network.ClearBrowserCookies, cdp.Empty{})
}

// Forget removes one cookie of the page.
func (tab *Tab) Forget(name string) {
	tab.t.Helper()
	call(tab, network.DeleteCookies, network.DeleteCookiesParams{Name: name, URL: Eval[string](tab, "location.href")})
}

// Cookie gives a cookie that the profile would send to the page, or nil.
func (tab *Tab) Cookie(name string) *network.Cookie {
	tab.t.Helper()
	for _, c := range call(tab, network.GetCookies, network.GetCookiesParams{}).Cookies {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Downloads keeps the profile's downloads in a folder.
func (tab *Tab) Downloads(dir string) {
	tab.t.Helper()
	run(tab, "allowing downloads", func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.CallBrowser(tab.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
			Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir, BrowserContextID: chromedp.FromContext(tab.ctx).BrowserContextID,
		})
		return chromedp.Void{}, err
	})
}

// Permit lets pages use something without asking, as in "clipboard-read".
func (tab *Tab) Permit(permission string) {
	tab.t.Helper()
	run(tab, "permitting "+permission, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.CallBrowser(tab.ctx, browser.SetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: permission}, Setting: browser.PermissionSettingGranted,
			BrowserContextID: chromedp.FromContext(tab.ctx).BrowserContextID,
		})
		return chromedp.Void{}, err
	})
}

// Picture takes a picture of the whole page, as PNG.
func (tab *Tab) Picture() []byte {
	tab.t.Helper()
	all := true
	return call(tab, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &all}).Data
}

// Screenshot keeps a picture of the page in the folder that CADDY_MFA_SCREENSHOTS names.
func (tab *Tab) Screenshot(name string) {
	tab.t.Helper()
	if tab.shots == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(tab.shots, name+".png"), tab.Picture(), 0o644); err != nil {
		tab.t.Fatal(err)
	}
}

// frame makes a world in the page's only frame that scripts can be run in.
func (tab *Tab) frame() runtime.ExecutionContextID {
	tab.t.Helper()
	tree := call(tab, page.GetFrameTree, cdp.Empty{}).FrameTree
	if len(tree.ChildFrames) != 1 {
		tab.t.Fatalf("%d frames", len(tree.ChildFrames))
	}
	return call(tab, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: tree.ChildFrames[0].Frame.ID}).ExecutionContextID
}

// EvalInFrame runs a script in the page's only frame, which must be of the same site.
func EvalInFrame[T any](tab *Tab, script string) T {
	tab.t.Helper()
	world := tab.frame()
	return run(tab, script, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise, func(p *runtime.EvaluateParams) { p.ContextID = world }))
}

// Port is the port in the page's address, with its colon.
func (tab *Tab) Port() string {
	tab.t.Helper()
	return read[string](tab, `location.port && ":" + location.port`)
}

// Authenticator is one that keeps passkeys and verifies its user, plugged into a tab.
type Authenticator struct {
	tab *Tab
	id  webauthn.AuthenticatorID
}

// Authenticator plugs one into the tab that is part of the device. Its user is there and presses at once.
func (tab *Tab) Authenticator() *Authenticator {
	tab.t.Helper()
	return tab.plug(webauthn.AuthenticatorTransportInternal, true)
}

// SecurityKey plugs one into the tab that is a thing of its own. One that keeps nothing itself has resident false.
func (tab *Tab) SecurityKey(resident bool) *Authenticator {
	tab.t.Helper()
	return tab.plug(webauthn.AuthenticatorTransportUsb, resident)
}

func (tab *Tab) plug(transport webauthn.AuthenticatorTransport, resident bool) *Authenticator {
	tab.t.Helper()
	tab.Autofill(false)
	call(tab, webauthn.Enable, webauthn.EnableParams{})
	added := call(tab, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: transport,
		HasResidentKey: resident, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})
	return &Authenticator{tab, added.AuthenticatorID}
}

// Autofill says whether the user chooses a passkey at once when a page that is loaded from now on has the browser offer them in a field. At
// first nobody does.
func (tab *Tab) Autofill(on bool) {
	tab.t.Helper()
	script := "window.PublicKeyCredential && (PublicKeyCredential.isConditionalMediationAvailable = async () => false)"
	switch {
	case on && tab.noAutofill != "":
		call(tab, page.RemoveScriptToEvaluateOnNewDocument, page.RemoveScriptToEvaluateOnNewDocumentParams{Identifier: tab.noAutofill})
		tab.noAutofill = ""
	case !on && tab.noAutofill == "":
		tab.noAutofill = call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script}).Identifier
	}
}

// TextMessages has pages believe that their browser reads text messages, and that the person lets it. They wait for one in message, a
// function that takes the code. sessionStorage says in "otp" what is waited for, and then "aborted".
func (tab *Tab) TextMessages() {
	tab.t.Helper()
	const script = `window.OTPCredential = class {};
if (navigator.credentials) {
	const get = navigator.credentials.get.bind(navigator.credentials);
	navigator.credentials.get = (options) => options?.otp ? new Promise((done, failed) => {
		sessionStorage.setItem("otp", JSON.stringify(options.otp));
		window.message = (code) => { done({ type: "otp", code }); return true; };
		options.signal.addEventListener("abort", () => { sessionStorage.setItem("otp", "aborted"); failed(options.signal.reason); });
	}) : get(options);
}`
	call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
}

// Present says whether its user presses when he is asked to.
func (a *Authenticator) Present(yes bool) {
	a.tab.t.Helper()
	call(a.tab, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: a.id, Enabled: yes})
}

// Unplug takes it away, with all that it keeps.
func (a *Authenticator) Unplug() {
	a.tab.t.Helper()
	call(a.tab, webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams{AuthenticatorID: a.id})
}

// WithoutWebAuthn takes WebAuthn out of every page from now on, as in a browser that is older than it.
func (tab *Tab) WithoutWebAuthn() {
	tab.t.Helper()
	call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: "delete window.PublicKeyCredential"})
}

// Verifies says whether its user is recognised from now on.
func (a *Authenticator) Verifies(ok bool) {
	a.tab.t.Helper()
	call(a.tab, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: ok})
}

// Forges has it send signatures that are wrong, or right ones again.
func (a *Authenticator) Forges(wrong bool) {
	a.tab.t.Helper()
	call(a.tab, webauthn.SetResponseOverrideBits, webauthn.SetResponseOverrideBitsParams{AuthenticatorID: a.id, IsBogusSignature: &wrong})
}

// Passkeys are those that it keeps.
func (a *Authenticator) Passkeys() []*webauthn.Credential {
	a.tab.t.Helper()
	return call(a.tab, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id}).Credentials
}

// addCredential is WebAuthn.addCredential without what only some authenticators know, which its type always sends.
var addCredential = cdp.Command[addCredentialParams, cdp.Empty]{Method: webauthn.CommandAddCredential}

type addCredentialParams struct {
	AuthenticatorID webauthn.AuthenticatorID `json:"authenticatorId"`
	Credential      struct {
		ID        []byte  `json:"credentialId"`
		Resident  bool    `json:"isResidentCredential"`
		RP        string  `json:"rpId"`
		Key       []byte  `json:"privateKey"`
		Handle    []byte  `json:"userHandle"`
		SignCount float64 `json:"signCount"`
	} `json:"credential"`
}

// Copy puts a passkey into it, as that was in another.
func (a *Authenticator) Copy(c *webauthn.Credential) {
	a.tab.t.Helper()
	p := addCredentialParams{AuthenticatorID: a.id}
	p.Credential.ID, p.Credential.Resident, p.Credential.RP = c.CredentialID, c.IsResidentCredential, c.RpID
	p.Credential.Key, p.Credential.Handle, p.Credential.SignCount = c.PrivateKey, c.UserHandle, c.SignCount
	call(a.tab, addCredential, p)
}
