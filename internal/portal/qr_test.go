package portal

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/boombuler/barcode/qr"
)

var (
	viewBox = regexp.MustCompile(`viewBox="0 0 (\d+) (\d+)"`)
	run     = regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`)
	drawn   = regexp.MustCompile(`fill="#000" d="([^"]*)"`)
)

// A test with a real browser reads the code as a phone does; this one holds each module against the encoder's.
func TestQRCodeIsDrawnModuleByModule(t *testing.T) {
	for reason, text := range map[string]string{
		"a short key":     "otpauth://totp/app:alice?secret=JBSWY3DPEHPK3PXP&issuer=app",
		"a long issuer":   "otpauth://totp/" + strings.Repeat("Example%20Corporation%20", 10) + ":alice?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=" + strings.Repeat("Example%20Corporation%20", 10),
		"other alphabets": "otpauth://totp/%D0%9F:%E5%90%8D?secret=JBSWY3DPEHPK3PXP&issuer=%D0%9F",
	} {
		html, err := qrCode(text, `a "label" & more`)
		if err != nil {
			t.Fatalf("%s: %v", reason, err)
		}
		svg := string(html)
		want, err := qr.Encode(text, qr.M, qr.Auto)
		if err != nil {
			t.Fatal(err)
		}
		size := want.Bounds().Dx()
		m := viewBox.FindStringSubmatch(svg)
		if m == nil || m[1] != m[2] || m[1] != strconv.Itoa(size+8) {
			t.Fatalf("%s: %v, want a code of %d modules with four white ones on each side", reason, m, size)
		}
		path := drawn.FindStringSubmatch(svg)
		if path == nil {
			t.Fatalf("%s: no path: %s", reason, svg)
		}
		if rest := run.ReplaceAllString(path[1], ""); rest != "" {
			t.Fatalf("%s: the path holds %q", reason, rest)
		}
		got := map[[2]int]bool{}
		for _, m := range run.FindAllStringSubmatch(path[1], -1) {
			var n [4]int
			for i := range n {
				if n[i], err = strconv.Atoi(m[i+1]); err != nil {
					t.Fatal(err)
				}
			}
			if n[2] != n[3] {
				t.Fatalf("%s: a crooked run: %s", reason, m[0])
			}
			for x := n[0]; x < n[0]+n[2]; x++ {
				got[[2]int{x - 4, n[1] - 4}] = true
			}
		}
		for y := -4; y < size+4; y++ {
			for x := -4; x < size+4; x++ {
				inside := x >= 0 && y >= 0 && x < size && y < size
				if black := inside && dark(want, x, y); black != got[[2]int{x, y}] {
					t.Fatalf("%s: the module at %d, %d is wrong", reason, x, y)
				}
			}
		}
		if !strings.Contains(svg, `aria-label="a &#34;label&#34; &amp; more"`) {
			t.Errorf("%s: the label is not there: %.200s", reason, svg)
		}
	}
}

func TestQRCodeThatDoesNotFitIsAnError(t *testing.T) {
	if svg, err := qrCode(strings.Repeat("a", 5000), ""); err == nil {
		t.Fatalf("%.100s", svg)
	}
}
