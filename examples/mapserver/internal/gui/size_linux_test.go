package gui

import (
	"encoding/json"
	"fmt"
	"image"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jezek/xgb/xproto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// remembersTooMuch is a window that was remembered on a larger screen.
const remembersTooMuch = "../../../../../shared/inputs/window-big.json"

// TestFirstSizeFitsTheScreen at any scale, also if a larger one is remembered.
func TestFirstSizeFitsTheScreen(t *testing.T) {
	big := "3600x1900+1700+900"
	if b, err := os.ReadFile(remembersTooMuch); err == nil {
		var r struct{ X, Y, Width, Height int }
		require.NoError(t, json.Unmarshal(b, &r))
		big = fmt.Sprintf("%dx%d+%d+%d", r.Width, r.Height, r.X, r.Y)
	}
	for _, tt := range []struct {
		name, size string
		dpi        int
		want       image.Point // in pixels of a screen of 1280x800
	}{
		{"first", "first", 96, image.Pt(1000, 500)},
		{"first, scaled by 2", "first", 192, image.Pt(1280, 800)},
		{"larger than the screen", big, 96, image.Pt(1280, 800)},
		{"larger, scaled by 1.5", big, 144, image.Pt(1280, 800)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			display := xvfb(t)
			d := newDesktop(t, display, nil)
			dpi := fmt.Sprintf("Xft.dpi:\t%d\n", tt.dpi)
			xproto.ChangeProperty(d.conn, xproto.PropModeReplace, d.root, xproto.AtomResourceManager, xproto.AtomString, 8, uint32(len(dpi)), []byte(dpi))
			d.conn.Sync()
			exe, err := os.Executable()
			require.NoError(t, err)
			c := exec.Command(exe)
			c.Env = append(os.Environ(), asSize+"="+tt.size, "DISPLAY="+display, "LIBGL_ALWAYS_SOFTWARE=1")
			in, err := c.StdinPipe()
			require.NoError(t, err)
			c.Stderr = os.Stderr
			require.NoError(t, c.Start())
			t.Cleanup(func() { in.Close(); c.Wait() })
			var got image.Rectangle
			near := func() bool {
				tree, err := xproto.QueryTree(d.conn, d.root).Reply()
				require.NoError(t, err)
				for _, w := range tree.Children {
					g, err := xproto.GetGeometry(d.conn, xproto.Drawable(w)).Reply()
					a, err2 := xproto.GetWindowAttributes(d.conn, w).Reply()
					if err == nil && err2 == nil && a.MapState == xproto.MapStateViewable {
						got = image.Rect(0, 0, int(g.Width), int(g.Height)).Add(image.Pt(int(g.X), int(g.Y)))
						off := got.Size().Sub(tt.want)
						return max(off.X, -off.X, off.Y, -off.Y) <= 2
					}
				}
				return false
			}
			assert.Eventually(t, near, time.Minute, 100*time.Millisecond)
			// A pixel more is of rounding at a scale.
			assert.True(t, got.In(image.Rect(-1, -1, 1281, 801)), "%v", got)
		})
	}
}
