package mapview_test

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/paint"
	"github.com/connmapgo/connmap/examples/mapserver/internal/viewtest"
)

var (
	update = flag.Bool("update", false, "write the golden pictures anew")
	all    = flag.String("all", "", "write pictures of all panels in many sizes into this `folder`")
)

func TestGoldenPanels(t *testing.T) {
	for _, sc := range viewtest.Scenes {
		t.Run(sc.Name, func(t *testing.T) {
			for theme, light := range map[string]bool{"dark": false, "light": true} {
				s := viewtest.NewScreen(image.Pt(1000, 500), 1, light)
				sc.Show(s)
				var got bytes.Buffer
				require.NoError(t, paint.PNG(&got, s.Scene()))
				name := filepath.Join("testdata", strings.ReplaceAll(sc.Name, " ", "-")+"-"+theme+".png")
				if *update {
					require.NoError(t, os.WriteFile(name, got.Bytes(), 0o666))
				}
				want, err := os.ReadFile(name)
				require.NoError(t, err, "-update writes it")
				same(t, want, got.Bytes(), name)
			}
		})
	}
	if *all == "" {
		return
	}
	for _, sc := range viewtest.Scenes {
		for _, size := range []struct {
			image.Point
			scale float64
		}{{image.Pt(1000, 500), 1}, {image.Pt(1920, 1080), 1}, {image.Pt(2000, 1000), 2}, {image.Pt(400, 240), 1}, {image.Pt(200, 100), 1}} {
			s := viewtest.NewScreen(size.Point, size.scale, false)
			sc.Show(s)
			var got bytes.Buffer
			require.NoError(t, paint.PNG(&got, s.Scene()))
			os.WriteFile(filepath.Join(*all, fmt.Sprintf("%s-%dx%d.png", sc.Name, size.X, size.Y)), got.Bytes(), 0o666)
		}
	}
}

// TestComposeOnlyReads: to compute a scene changes nothing, and what input changes shows at
// once.
func TestComposeOnlyReads(t *testing.T) {
	for _, sc := range viewtest.Scenes {
		s := viewtest.NewScreen(image.Pt(1000, 500), 1, false)
		sc.Show(s)
		rev, next := s.Scene().Rev, s.Next()
		s.Compose()
		assert.Equal(t, rev, s.Scene().Rev, "%s is the same again", sc.Name)
		s.Do()
		assert.Equal(t, rev, s.Scene().Rev, "%s is the same after no input", sc.Name)
		assert.Equal(t, next, s.Next(), sc.Name)
	}
}

// same compares pictures, of which processors round some bytes otherwise.
func same(t *testing.T, want, got []byte, name string) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	a, err := png.Decode(bytes.NewReader(want))
	require.NoError(t, err)
	b, err := png.Decode(bytes.NewReader(got))
	require.NoError(t, err)
	require.Equal(t, a.Bounds(), b.Bounds(), name)
	differ := 0
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			r1, g1, b1, _ := a.At(x, y).RGBA()
			r2, g2, b2, _ := b.At(x, y).RGBA()
			far := func(p, q uint32) bool { return max(p, q)-min(p, q) > 3<<8 }
			if far(r1, r2) || far(g1, g2) || far(b1, b2) {
				differ++
			}
		}
	}
	if differ > 20 {
		file := filepath.Join(os.TempDir(), "connmap-golden-"+strings.ReplaceAll(name, "/", "-"))
		os.WriteFile(file, got, 0o644)
		t.Errorf("%d pixels of %s differ; what is drawn now is %s: if that is right, run the test with -update and look at the pictures", differ, name, file)
	}
}
