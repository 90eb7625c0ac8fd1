package gui

import (
	"image"
	"os/exec"
	"testing"
	"time"

	"github.com/jezek/xgb/xproto"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/paint"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/viewtest"
)

// The codes of keys that all keyboards of PCs have.
const (
	codeQ, codeW, codeA, codeZ, codeC, codeSlash, codeControl, codeShift, codeEscape = 24, 25, 38, 52, 54, 61, 37, 50, 9
)

// TestLayouts presses keys on keyboards whose layouts type no ASCII: commands go by the
// key, texts by what it types.
func TestLayouts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	if _, err := exec.LookPath("setxkbmap"); err != nil {
		t.Skip("needs setxkbmap (Debian package x11-xkb-utils): ", err)
	}
	for _, tt := range []struct{ layout, typed string }{{"ru", "йц"}, {"gr", ";ς"}, {"il", "/'"}, {"ara", "ضص"}, {"fr", "az"}} {
		t.Run(tt.layout, func(t *testing.T) {
			display := xvfb(t)
			out, err := exec.Command("setxkbmap", "-display", display, tt.layout).CombinedOutput()
			require.NoError(t, err, "%s", out)
			w, anew := scenes(t, display)
			d := newDesktop(t, display, w)
			d.find()
			anew("dark")
			s := viewtest.NewScreen(image.Pt(1000, 500), 1, false)
			d.expect(tt.layout, s)
			// A display takes over another layout with the first keys from a keyboard.
			for noticed := 0; noticed < 2; {
				_, updates := d.now()
				d.fake(xproto.KeyPress, codeShift, image.Point{})
				d.fake(xproto.KeyRelease, codeShift, image.Point{})
				time.Sleep(100 * time.Millisecond)
				if _, n := d.now(); n > updates {
					noticed++
				}
			}
			latin := tt.layout == "fr"
			q, c, a := byte(codeQ), byte(codeC), byte(codeA)
			if tt.layout == "fr" {
				q, a = codeA, codeQ // as the keys say there
			}
			d.code(q)
			s.Do('q')
			d.code(a, codeControl)
			s.Do(ui.Ctrl | 'a')
			d.code(codeQ)
			d.code(codeW)
			s.Type(tt.typed)
			d.expect(tt.layout, s)
			if latin {
				return
			}
			d.code(codeZ, codeControl)
			s.Do(ui.Ctrl | 'z')
			d.code(c, codeControl)
			s.Do(ui.Ctrl | 'c')
			d.expect(tt.layout, s)
			d.code(codeEscape)
			d.code(codeSlash)
			d.code(codeQ)
			s.Do(ui.KeyEscape)
			s.Do('/')
			s.Type(tt.typed[:len(tt.typed)/2])
			d.expect(tt.layout, s)
		})
	}
}

// code presses the key of a code while others are held.
func (d *desktop) code(code byte, held ...byte) {
	for _, h := range held {
		d.fake(xproto.KeyPress, h, image.Point{})
	}
	d.press(code)
	d.let(held)
}

func (d *desktop) expect(name string, s *viewtest.Screen) {
	d.t.Helper()
	want := image.NewRGBA(image.Rect(0, 0, 1000, 500))
	paint.Draw(want, s.Scene())
	d.shows(name, want)
}
