package platform

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"
)

const (
	firefoxWindows = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"
	firefoxLinux   = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	firefoxAndroid = "Mozilla/5.0 (Android 14; Mobile; rv:128.0) Gecko/128.0 Firefox/128.0"
	chromeWindows  = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
	chromeAndroid  = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36"
	chromeDesktop  = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
	chromeOS       = "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
	chromePhone    = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/126.0.6478.54 Mobile/15E148 Safari/604.1"
	edgeWindows    = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0"
	edgePhone      = "Mozilla/5.0 (Windows Phone 10.0; Android 6.0.1; Microsoft; Lumia 950) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/52.0.2743.116 Mobile Safari/537.36 Edge/15.15254"
	safariMac      = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15"
	safariPad      = "Mozilla/5.0 (iPad; CPU OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 Mobile/15E148 Safari/604.1"
	safariPod      = "Mozilla/5.0 (iPod touch; CPU iPhone OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 Mobile/15E148 Safari/604.1"
	explorer       = "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		reason, hint, userAgent string
		platform                Platform
		browser, system         string
	}{
		{"Firefox", "", firefoxWindows, Windows, "Firefox 128", "Windows 10"},
		{"Firefox on Linux", "", firefoxLinux, Linux, "Firefox 140", "Linux"},
		{"Firefox on a phone", "", firefoxAndroid, Android, "Firefox 128", "Android 14"},
		{"Safari, whose system's version has long been frozen", "", safariMac, MacOS, "Safari 17", "macOS"},
		{"an iPad that says so", "", safariPad, IOS, "Safari 12", "iOS 12"},
		{"an iPad that asks for desktop pages is a Mac by its own words", "", safariMac, MacOS, "Safari 17", "macOS"},
		{"an iPod", "", safariPod, IOS, "Safari 12", "iOS"},
		{"Chrome on a phone of Apple's", "", chromePhone, IOS, "Chrome 126", "iOS 17"},
		{"Internet Explorer's last", "", explorer, Windows, "Internet Explorer 11", "Windows 7"},
		{"a Windows phone that says it is an Android too", "", edgePhone, WindowsPhone, "Edge 15", "Windows Phone"},
		{"Edge", `"Windows"`, edgeWindows, Windows, "Edge 126", "Windows 10"},
		{"Chrome", `"Windows"`, chromeWindows, Windows, "Chrome 126", "Windows 10"},
		{"Chrome on a phone, which tells no version", `"Android"`, chromeAndroid, Android, "Chrome 126", "Android"},
		{"Chrome OS has no name in Entra", `"Chrome OS"`, chromeOS, Unknown, "Chrome 126", "Chrome OS"},
		{"Chrome OS by its older name", `"Chromium OS"`, chromeOS, Unknown, "Chrome 126", "Chrome OS"},
		{"Chrome OS without a hint", "", chromeOS, Unknown, "Chrome 126", "Chrome OS"},

		{"the hint goes before", `"macOS"`, chromeWindows, MacOS, "Chrome 126", "macOS"},
		{"the hint goes before, where it names what Entra has no name for", `"Chrome OS"`, chromeWindows, Unknown, "Chrome 126", "Chrome OS"},
		{"a phone that asks for desktop pages tells in its hint", `"Android"`, chromeDesktop, Android, "Chrome 126", "Android"},
		{"a hint alone", `"Windows"`, "", Windows, "", "Windows"},
		{"a hint that nobody knows", `"Solaris"`, chromeWindows, Unknown, "Chrome 126", "Solaris"},
		{"a hint in other letters", ` "macos" `, chromeWindows, MacOS, "Chrome 126", "macOS"},
		{"a hint that says nothing", `"Unknown"`, chromeWindows, Windows, "Chrome 126", "Windows 10"},
		{"an empty hint", `""`, chromeWindows, Windows, "Chrome 126", "Windows 10"},
		{"no string", `Android`, chromeWindows, Windows, "Chrome 126", "Windows 10"},
		{"half a string", `"Android`, chromeWindows, Windows, "Chrome 126", "Windows 10"},
		{"a quote alone", `"`, chromeWindows, Windows, "Chrome 126", "Windows 10"},
		{"two hints in one", `"Android", "Linux"`, chromeWindows, Windows, "Chrome 126", "Windows 10"},
		{"a hint with an escape", `"And\"roid"`, chromeWindows, Windows, "Chrome 126", "Windows 10"},
		{"a hint with a control character", "\"Android\x00\"", chromeWindows, Windows, "Chrome 126", "Windows 10"},
		{"a hint that is too long", `"Android` + strings.Repeat(" ", maxHeader) + `"`, chromeWindows, Windows, "Chrome 126", "Windows 10"},

		{"nothing at all", "", "", Unknown, "", ""},
		{"a program", "", "curl/8.5.0", Unknown, "curl 8", ""},
		{"a program without a version", "", "backup", Unknown, "backup", ""},
		{"another system", "", "Mozilla/5.0 (X11; FreeBSD amd64; rv:128.0) Gecko/20100101 Firefox/128.0", Unknown, "Firefox 128", ""},
		{"as long as may be", "", firefoxWindows + strings.Repeat(" ", maxHeader-len(firefoxWindows)), Windows, "Firefox 128", "Windows 10"},
		{"too long", "", firefoxWindows + strings.Repeat(" ", maxHeader-len(firefoxWindows)+1), Unknown, "", ""},
		{"too long, beside a hint", `"Linux"`, strings.Repeat("x", maxHeader+1), Linux, "", "Linux"},
		{"a version beyond all measure", "", "curl/12345678901234567890", Unknown, "curl", ""},
		{"a name that can't be printed", "", "cu\x00\x1b\u202er\xffl/8", Unknown, "curl 8", ""},
		{"a name beyond all measure", "", strings.Repeat("é", 100) + "/1", Unknown, strings.Repeat("é", maxText) + " 1", ""},
		{"a sentence is no name", "", "hello there world", Unknown, "", ""},
	} {
		t.Run(c.reason, func(t *testing.T) {
			cache := NewCache()
			for range 2 {
				for _, got := range []Client{Parse(c.hint, c.userAgent), cache.Parse(c.hint, c.userAgent)} {
					if got.Platform != c.platform || got.Browser() != c.browser || got.System != c.system {
						t.Errorf("it is %q, %q on %q", got.Platform, got.Browser(), got.System)
					}
				}
			}
		})
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	cache := NewCache()
	for i := range 3 * maxKept {
		cache.Parse("", fmt.Sprintf("curl/%d", i))
		cache.Parse("", strings.Repeat("x", maxHeader+1+i%100)) // all the same: nothing
	}
	cache.clients.CleanUp()
	if n := cache.clients.EstimatedSize(); n > maxKept {
		t.Errorf("it keeps %d clients", n)
	}
	if got := cache.Parse("", firefoxWindows).Browser(); got != "Firefox 128" {
		t.Errorf("a full cache says %q", got)
	}
}

func TestTheCacheIsShared(t *testing.T) {
	cache := NewCache()
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for n := range 500 {
				if got := cache.Parse("", fmt.Sprintf("curl/%d", (n+i)%100)); got.Version != fmt.Sprint((n+i)%100) {
					t.Errorf("it is %v", got)
				}
			}
		})
	}
	wait.Wait()
}

func TestAHitAllocatesNothing(t *testing.T) {
	cache := NewCache()
	cache.Parse(`"Windows"`, chromeWindows)
	if n := testing.AllocsPerRun(1000, func() { cache.Parse(`"Windows"`, chromeWindows) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHit(b *testing.B) {
	cache := NewCache()
	cache.Parse(`"Windows"`, chromeWindows)
	b.ReportAllocs()
	for b.Loop() {
		if cache.Parse(`"Windows"`, chromeWindows).Platform != Windows {
			b.Fatal("no Windows")
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if Parse(`"Windows"`, chromeWindows).Platform != Windows {
			b.Fatal("no Windows")
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{firefoxWindows, firefoxAndroid, chromeAndroid, chromeOS, chromePhone, edgePhone, safariMac, explorer, "", "curl/8", "x [y; http://z/"} {
		f.Add(`"Windows"`, s)
	}
	f.Fuzz(func(t *testing.T, hint, userAgent string) {
		c := Parse(hint, userAgent)
		switch c.Platform {
		case Unknown, Android, IOS, Windows, MacOS, Linux, WindowsPhone:
		default:
			t.Errorf("no such platform: %q", c.Platform)
		}
		for _, s := range []string{c.Name, c.Version, c.System, c.Browser()} {
			if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxText+10 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q can't be shown", s)
			}
		}
	})
}
