package legacy

import (
	"net/http"
	"testing"
)

func BenchmarkInspectBrowser(b *testing.B) {
	r := &Request{
		Method: "GET", Asked: "/app/list", Rewritten: "/app/list", Query: "page=2&sort=name",
		Header: http.Header{
			"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
			"Accept":     {"text/html,application/xhtml+xml"}, "Cookie": {"a=b"}, "Accept-Language": {"en"}, "Sec-Fetch-Mode": {"navigate"},
			"Accept-Encoding": {"gzip"}, "Referer": {"https://app.example/"}, "Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Site": {"same-origin"},
		},
	}
	b.ReportAllocs()
	for b.Loop() {
		if f := Inspect(r); f.Class != None {
			b.Fatal(f.Class)
		}
	}
}
