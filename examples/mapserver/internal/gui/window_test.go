package gui

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hajimehoshi/ebiten/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/paint"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/viewtest"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

// tests runs the tests inside a window, where pixels can be read back.
type tests struct {
	m    *testing.M
	code int
}

func (t *tests) Layout(w, h int) (int, int) { return w, h }
func (t *tests) Draw(*ebiten.Image)         {}
func (t *tests) Update() error {
	t.code = t.m.Run()
	return ebiten.Termination
}

// asWindow makes the test program open a window, of which there can be only
// one in a process, and report what it did.
const asWindow = "CONNMAP_TEST_WINDOW"

// asSize makes it open a window of a size, and run until its standard input ends.
const asSize = "CONNMAP_TEST_SIZE"

func showSize(s string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &Window{Title: "connmap size", View: &mapview.View{}, State: func() *live.State { return &live.State{} }, Handle: func(mapview.Effect) {}}
	var at image.Point
	if n, _ := fmt.Sscanf(s, "%dx%d+%d+%d", &w.Size.X, &w.Size.Y, &at.X, &at.Y); n == 4 {
		w.Position = &at
	}
	go func() {
		defer cancel()
		io.Copy(io.Discard, os.Stdin)
	}()
	if err := w.Run(ctx); err != nil {
		fmt.Println(err)
	}
}

var noDisplay string

// programs are what the test program does instead of testing, by the variable of the
// environment that says so. It is handed the variable's value.
var programs = map[string]func(arg string){
	asSize:   showSize,
	asWindow: func(string) { fmt.Println(watchWindow()) },
}

func TestMain(m *testing.M) {
	for name, run := range programs {
		if arg := os.Getenv(name); arg != "" {
			run(arg)
			return
		}
	}
	t := &tests{m: m}
	// Ebitengine would try the framebuffer device of the console.
	if os.Getenv("DISPLAY") == "" {
		noDisplay = "needs a display: DISPLAY is not set"
		os.Exit(m.Run())
	}
	ebiten.SetWindowVisible(false)
	if err := ebiten.RunGame(t); err != nil {
		noDisplay = "needs a display: " + err.Error()
		os.Exit(m.Run())
	}
	os.Exit(t.code)
}

// watchWindow opens a window and counts the frames it draws: in the calmest
// of some intervals in which nothing changes, since a mouse may pass, and
// after a change.
func watchWindow() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var state atomic.Pointer[live.State]
	state.Store(&live.State{Seq: 1})
	w := &Window{Title: "connmap test", Size: image.Pt(400, 200), View: &mapview.View{}, State: state.Load}
	calm, after := int64(99), int64(0)
	go func() {
		defer cancel()
		for range 100 {
			if w.frames.Load() > 0 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		for range 6 {
			time.Sleep(300 * time.Millisecond)
			before := w.frames.Load()
			w.Wake()
			time.Sleep(300 * time.Millisecond)
			calm = min(calm, w.frames.Load()-before)
		}
		before := w.frames.Load()
		state.Store(&live.State{Seq: 2, Agents: []live.Agent{{Name: "new"}}})
		w.Wake()
		time.Sleep(300 * time.Millisecond)
		after = w.frames.Load() - before
	}()
	if err := w.Run(ctx); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("calm: %v, seen: %v", calm == 0, after > 0)
}

func runWindow(t *testing.T, env ...string) string {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	c := exec.Command(exe)
	c.Env = append(append(os.Environ(), asWindow+"=1"), env...)
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestDrawsOnlyWhatChanged(t *testing.T) {
	if noDisplay != "" {
		t.Skip(noDisplay)
	}
	assert.Equal(t, "calm: true, seen: true\n", runWindow(t))
}

func TestNoDisplayIsAnError(t *testing.T) {
	assert.Contains(t, runWindow(t, "DISPLAY=:4242"), "no window can be opened")
}

// compare draws a scene here and with paint, and returns the mean and the
// worst difference of their bytes.
func compare(t *testing.T, p *painter, items ...ui.Item) (mean float64, worst int) {
	t.Helper()
	size := image.Pt(400, 200)
	s := &mapview.Scene{Size: size, View: worldmap.Fit(size), Palette: worldmap.Dark, Items: items}
	want := image.NewRGBA(image.Rectangle{Max: size})
	paint.Draw(want, s)
	dst := ebiten.NewImage(size.X, size.Y)
	defer dst.Deallocate()
	p.draw(dst, s)
	got := make([]byte, len(want.Pix))
	dst.ReadPixels(got)
	sum := 0
	for i := range got {
		d := int(got[i]) - int(want.Pix[i])
		d = max(d, -d)
		sum += d
		worst = max(worst, d)
	}
	return float64(sum) / float64(len(got)), worst
}

func testPicture() *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, 40, 30))
	for i := range m.Pix {
		m.Pix[i] = uint8(i)
		if i%4 == 3 {
			m.Pix[i] = 255
		}
	}
	return m
}

func TestLikePaint(t *testing.T) {
	if noDisplay != "" {
		t.Skip(noDisplay)
	}
	white := color.NRGBA{255, 255, 255, 255}
	tests := []struct {
		name  string
		items []ui.Item
		worst int
	}{
		{"map", nil, 0},
		{"discs", []ui.Item{
			{Shape: ui.Disc, X: 40.5, Y: 40, R: 3.2, Color: color.NRGBA{255, 0, 0, 255}},
			{Shape: ui.Disc, X: 80.3, Y: 40.7, R: 20, Color: color.NRGBA{255, 255, 255, 26}},
		}, 2},
		{"rings", []ui.Item{
			{Shape: ui.Ring, X: 130, Y: 40, R: 12, W: 1.2, Color: white},
			{Shape: ui.Ring, X: 160.3, Y: 40.2, R: 4.5, W: 2, Color: white},
		}, 2},
		{"arcs", []ui.Item{
			{Shape: ui.Arc, X: 180, Y: 40, R: 12, W: 4, From: 0.1, To: 0.45, Color: color.NRGBA{0, 255, 0, 255}},
			{Shape: ui.Arc, X: 180, Y: 40, R: 12, W: 4, From: 0.45, To: 1.1, Color: color.NRGBA{0, 0, 255, 255}},
		}, 2},
		{"rectangles", []ui.Item{
			{Shape: ui.Rect, X: 10.5, Y: 100, X2: 120, Y2: 60, R: 6, Color: color.NRGBA{18, 22, 28, 242}},
			{Shape: ui.Frame, X: 10, Y: 100, X2: 120, Y2: 60, R: 6, W: 1, Color: color.NRGBA{49, 58, 70, 255}},
			{Shape: ui.Rect, X: 200, Y: 100, X2: 11, Y2: 11, R: 2.5, Color: color.NRGBA{255, 200, 0, 128}},
		}, 2},
		{"lines", []ui.Item{
			{Shape: ui.Line, X: 20, Y: 20, X2: 120.5, Y2: 90, W: 2.6, Color: white},
			{Shape: ui.Line, X: 150, Y: 20, X2: 150, Y2: 90, W: 1, Color: color.NRGBA{255, 0, 0, 77}},
			{Shape: ui.Line, X: 180, Y: 20, X2: 180, Y2: 20, W: 6, Color: white},
		}, 3},
		{"triangles", []ui.Item{
			{Shape: ui.Triangle, X: 100, Y: 100, R: 9, Color: color.NRGBA{255, 0, 0, 200}},
			{Shape: ui.Triangle, X: 150.4, Y: 100.7, R: 12, W: 1.5, Color: white},
		}, 3},
		{"a picture between shapes", []ui.Item{
			{Shape: ui.Disc, X: 60, Y: 60, R: 20, Color: white},
			{Shape: ui.Picture, X: 50, Y: 50, Picture: testPicture()},
			{Shape: ui.Disc, X: 80, Y: 60, R: 9, Color: white},
		}, 2},
		// Letters are placed by quarters of a pixel.
		{"texts", []ui.Item{
			{Shape: ui.Text, X: 20, Y: 130, Text: "203.0.113.77:443 · ↓", Font: typeface.Mono, Size: 13, Color: white},
			{Shape: ui.Text, X: 20.4, Y: 150.6, Text: "AVATAR To. example.com", Font: typeface.Regular, Size: 12.5, Color: white},
			{Shape: ui.Text, X: 20, Y: 170, Text: "漢字 \n\t\xff Ж", Font: typeface.Bold, Size: 11, Color: white},
		}, 40},
		{"a text below a shape", []ui.Item{
			{Shape: ui.Text, X: 20, Y: 130, Text: "hidden", Font: typeface.Bold, Size: 20, Color: white},
			{Shape: ui.Rect, X: 10, Y: 100, X2: 120, Y2: 60, Color: color.NRGBA{18, 22, 28, 255}},
		}, 2},
	}
	var p painter
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // the second time from what is kept
				mean, worst := compare(t, &p, tt.items...)
				assert.LessOrEqual(t, worst, tt.worst)
				assert.Less(t, mean, 0.5)
			}
		})
	}
}

// TestMoreGlyphsThanRoom draws texts of so many sizes that the atlas must be
// emptied while drawing.
func TestMoreGlyphsThanRoom(t *testing.T) {
	if noDisplay != "" {
		t.Skip(noDisplay)
	}
	var p painter
	var items []ui.Item
	for i := range 80 {
		items = append(items, ui.Item{Shape: ui.Text, X: 5, Y: 190, Text: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Size: 20 + float32(i), Color: color.NRGBA{255, 255, 255, 255}},
			ui.Item{Shape: ui.Rect, X2: 400, Y2: 200, Color: color.NRGBA{18, 22, 28, 200}})
	}
	_, worst := compare(t, &p, items...)
	assert.LessOrEqual(t, worst, 40)
	assert.Greater(t, p.glyphs.atlas.Bounds().Dx(), minAtlas)
}

func TestFit(t *testing.T) {
	screen := image.Pt(1600, 1000)
	at := func(x, y int) *image.Point { return &image.Point{X: x, Y: y} }
	for _, tt := range []struct {
		name     string
		size     image.Point
		position *image.Point
		want     image.Point
		wantAt   *image.Point
	}{
		{"fits", image.Pt(1000, 500), at(900, 700), image.Pt(1000, 500), at(900, 700)},
		{"as large", screen, nil, screen, nil},
		{"larger", image.Pt(3600, 1900), at(1700, 900), screen, at(0, 0)},
		{"too wide", image.Pt(3600, 500), at(-50, 900), image.Pt(1600, 500), at(0, 500)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &Window{Size: tt.size, Position: tt.position}
			w.fit(screen)
			assert.Equal(t, tt.want, w.Size)
			assert.Equal(t, tt.wantAt, w.Position)
			w.fit(image.Point{})
			assert.Equal(t, tt.want, w.Size, "a screen of no size is none")
		})
	}
}

func TestEarlier(t *testing.T) {
	var never time.Time
	a, b := time.Unix(1, 0), time.Unix(2, 0)
	assert.Equal(t, never, earlier(never, never))
	assert.Equal(t, a, earlier(a, never))
	assert.Equal(t, a, earlier(never, a))
	assert.Equal(t, a, earlier(a, b))
	assert.Equal(t, a, earlier(b, a))
}

func BenchmarkPainter(b *testing.B) {
	if noDisplay != "" {
		b.Skip(noDisplay)
	}
	size := image.Pt(1000, 500)
	run := func(name string, items []ui.Item) {
		b.Run(name, func(b *testing.B) {
			s := &mapview.Scene{Size: size, View: worldmap.Fit(size), Palette: worldmap.Dark, Items: items}
			dst := ebiten.NewImage(size.X, size.Y)
			one := make([]byte, 4)
			var p painter
			b.ReportAllocs()
			for b.Loop() {
				p.draw(dst, s)
				dst.SubImage(image.Rect(0, 0, 1, 1)).(*ebiten.Image).ReadPixels(one)
			}
		})
	}
	for _, n := range []int{0, 1000, 10_000} {
		r := rand.New(rand.NewPCG(1, 2))
		var items []ui.Item
		for range n {
			items = append(items, ui.Item{Shape: ui.Disc, X: r.Float32() * 1000, Y: r.Float32() * 500, R: 4, Color: color.NRGBA{255, 0, 0, 255}})
		}
		run(fmt.Sprintf("discs=%d", n), items)
	}
	b.Run("zoom", func(b *testing.B) {
		dst := ebiten.NewImage(size.X, size.Y)
		one := make([]byte, 4)
		var p painter
		s := &mapview.Scene{Size: size, View: worldmap.Fit(size), Palette: worldmap.Dark}
		for b.Loop() {
			s.View.Zoom *= 1.01
			if s.View.Zoom > 60 {
				s.View.Zoom = 1
			}
			p.draw(dst, s)
			dst.SubImage(image.Rect(0, 0, 1, 1)).(*ebiten.Image).ReadPixels(one)
		}
	})
	var labels []ui.Item
	for i := range 400 {
		x, y := float32(i%8*120), float32(i/8*10)
		labels = append(labels,
			ui.Item{Shape: ui.Rect, X: x, Y: y, X2: 110, Y2: 10, R: 3, Color: color.NRGBA{13, 16, 21, 178}},
			ui.Item{Shape: ui.Text, X: x + 0.3, Y: y + 9, Text: fmt.Sprintf("203.0.113.%d:443", i%256), Size: 11, Color: color.NRGBA{255, 255, 255, 255}})
	}
	run("labels=400", labels)
}

// BenchmarkTable scrolls a list of 100,000 connections in the window.
func BenchmarkTable(b *testing.B) {
	if noDisplay != "" {
		b.Skip(noDisplay)
	}
	st := viewtest.Busy()
	few := st.Conns
	st.Conns = nil
	for i := range 100_000 {
		c := *few[i%len(few)]
		c.ID = uint64(i)
		st.Conns = append(st.Conns, &c)
	}
	var v mapview.View
	in := mapview.Input{Size: image.Pt(1000, 500), Scale: 1, Cursor: image.Pt(500, 250), Inside: true, Keys: []ui.Key{ui.KeyEnter}}
	v.Update(viewtest.Noon, in, st)
	in.Keys = nil
	dst := ebiten.NewImage(1000, 500)
	one := make([]byte, 4)
	var p painter
	for i := 0; b.Loop(); i++ {
		in.Wheel = float64(1 - 2*(i/1000%2))
		v.Update(viewtest.Noon, in, st)
		p.draw(dst, v.Scene())
		dst.SubImage(image.Rect(0, 0, 1, 1)).(*ebiten.Image).ReadPixels(one)
	}
}
