package portal

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

func pushPortal(t testing.TB, on bool) *Portal {
	t.Helper()
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	p := testPortal(t, texts)
	p.Service = &signin.Service{}
	if on {
		keys, err := seal.NewKeyring(bytes.Repeat([]byte{1}, 32))
		if err != nil {
			t.Fatal(err)
		}
		p.Service.Phones = signin.NewPhones(store.NewMemory(), keys)
	}
	return p
}

func ask(p *Portal, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://hr.example.com"+path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r, Facts{Host: "hr.example.com", Origin: "https://hr.example.com", HTTPS: true, Secure: true, Target: path, Now: time.Now()})
	return w
}

func TestThereIsOneServiceWorkerAndNoOther(t *testing.T) {
	on, off := pushPortal(t, true), pushPortal(t, false)
	worker := []string{"Service-Worker", "script", "Sec-Fetch-Dest", "serviceworker"}
	w := ask(on, http.MethodGet, "/_mfa/push/worker.js", "", worker...)
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/javascript") {
		t.Errorf("the worker: %d %v", w.Code, w.Header())
	}
	if w.Header().Get("Service-Worker-Allowed") != "" {
		t.Error("it may stand before more than the page of a phone")
	}
	if strings.Contains(w.Body.String(), `"fetch"`) {
		t.Error("it answers requests")
	}
	for _, path := range []string{"/_mfa/script.js", "/_mfa/push/approve.js", "/_mfa/push/", "/_mfa/push/manifest.webmanifest", "/_mfa/push/status", "/_mfa/push/worker.js/", "/_mfa/push//worker.js", "/_mfa/signin", "/_mfa/push/%77orker.js"} {
		if w := ask(on, http.MethodGet, path, "", worker...); w.Code != http.StatusForbidden {
			t.Errorf("%s as a worker: %d", path, w.Code)
		}
	}
	if w := ask(off, http.MethodGet, "/_mfa/push/worker.js", "", worker...); w.Code != http.StatusForbidden {
		t.Errorf("without phones: %d", w.Code)
	}
	for _, path := range []string{"/_mfa/push", "/_mfa/push/", "/_mfa/push/approve.js"} {
		if w := ask(off, http.MethodGet, path, ""); w.Code != http.StatusNotFound {
			t.Errorf("without phones, %s: %d", path, w.Code)
		}
	}
}

func TestOnlyThePageOfAPhoneHasAWorker(t *testing.T) {
	p := pushPortal(t, true)
	policy := ask(p, http.MethodGet, "/_mfa/push/", "", "Sec-Fetch-Dest", "document").Header().Get("Content-Security-Policy")
	for _, want := range []string{"worker-src 'self'", "manifest-src 'self'", "connect-src 'self'", "default-src 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("%q lacks %s", policy, want)
		}
	}
	for name, w := range everyPage(t, p, "en", "x") {
		if policy := w.Header().Get("Content-Security-Policy"); name != "phone" && (strings.Contains(policy, "worker-src") || strings.Contains(policy, "manifest-src")) {
			t.Errorf("%s: %s", name, policy)
		}
	}
	for _, dest := range []string{"iframe", "script", "empty", "embed"} {
		if w := ask(p, http.MethodGet, "/_mfa/push/", "", "Sec-Fetch-Dest", dest); w.Code != http.StatusForbidden {
			t.Errorf("the page as %s: %d", dest, w.Code)
		}
	}
}

func TestWhoIsNoPageOfAPhoneSaysNothing(t *testing.T) {
	p := pushPortal(t, true)
	plain := []string{"Content-Type", "application/json"}
	for _, name := range []string{"pair", "confirm", "poll", "answer", "subscribe"} {
		path := "/_mfa/push/" + name
		for reason, test := range map[string]struct {
			w    *httptest.ResponseRecorder
			want int
		}{
			"another site":     {ask(p, http.MethodPost, path, "{}", append(plain, "Sec-Fetch-Site", "cross-site")...), http.StatusForbidden},
			"another origin":   {ask(p, http.MethodPost, path, "{}", append(plain, "Origin", "https://evil.example")...), http.StatusForbidden},
			"a form":           {ask(p, http.MethodPost, path, "a=b", "Content-Type", "application/x-www-form-urlencoded"), http.StatusForbidden},
			"plain text":       {ask(p, http.MethodPost, path, "{}", "Content-Type", "text/plain"), http.StatusForbidden},
			"GET":              {ask(p, http.MethodGet, path, ""), http.StatusMethodNotAllowed},
			"nonsense":         {ask(p, http.MethodPost, path, "{", plain...), http.StatusBadRequest},
			"too much":         {ask(p, http.MethodPost, path, `{"handle":"`+strings.Repeat("x", maxForm)+`"}`, plain...), http.StatusBadRequest},
			"a made-up handle": {ask(p, http.MethodPost, path, `{"handle":"AAAA","link":"AAAA"}`, plain...), http.StatusOK},
		} {
			if test.w.Code != test.want {
				t.Errorf("%s, %s: %d, want %d", name, reason, test.w.Code, test.want)
			}
			if test.want == http.StatusOK && strings.TrimSpace(test.w.Body.String()) != `{"state":"unknown"}` {
				t.Errorf("%s, %s: %s", name, reason, test.w.Body)
			}
		}
	}
}

// TestTheIconForHomeScreensIsSquareAndOpaque: they round it themselves, and show black where nothing is.
func TestTheIconForHomeScreensIsSquareAndOpaque(t *testing.T) {
	p := pushPortal(t, true)
	w := ask(p, http.MethodGet, "/_mfa/push/icon.png", "")
	m, err := png.Decode(w.Body)
	if err != nil || w.Header().Get("Content-Type") != "image/png" {
		t.Fatal(err, w.Header())
	}
	if m.Bounds() != image.Rect(0, 0, 180, 180) {
		t.Errorf("it is %v large", m.Bounds())
	}
	for _, at := range []image.Point{{0, 0}, {179, 0}, {0, 179}, {179, 179}} {
		if got := color.NRGBAModel.Convert(m.At(at.X, at.Y)); got != (color.NRGBA{0x14, 0x53, 0x9a, 0xff}) {
			t.Errorf("at %v: %v", at, got)
		}
	}
	if page := ask(p, http.MethodGet, "/_mfa/push/", "").Body.String(); !strings.Contains(page, `<link rel="apple-touch-icon" href="/_mfa/push/icon.png">`) {
		t.Error("the page of a phone doesn't name it")
	}
	if w := ask(pushPortal(t, false), http.MethodGet, "/_mfa/push/icon.png", ""); w.Code != http.StatusNotFound {
		t.Errorf("without the factor: %d", w.Code)
	}
}
