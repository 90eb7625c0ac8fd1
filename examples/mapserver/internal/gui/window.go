// Package gui is the map window: it hands input and states to a view model
// and draws the scenes that come back.
// It decides nothing: what is shown, and what a key means, is mapview's. It
// is the only importer of Ebitengine.
package gui

import (
	"context"
	"errors"
	"fmt"
	"image"
	"sync/atomic"
	"time"

	"github.com/hajimehoshi/ebiten/v2"
	"github.com/hajimehoshi/ebiten/v2/inpututil"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
)

const (
	smallestWidth  = 320
	smallestHeight = 160
	frameTime      = 16 * time.Millisecond
)

// A Window shows a view of the states it is given. Its fields must be set
// before Run.
type Window struct {
	Title string
	Size  image.Point // at the start, in density-independent pixels
	View  *mapview.View
	State func() *live.State
	// Handle is called on the window's goroutine with what the window does
	// not do itself: everything but moving and quitting.
	Handle func(mapview.Effect)

	ctx     context.Context
	running atomic.Bool
	painter painter
	timer   *time.Timer
	scale   float64
	picture image.Point
	edge    resize
	drawn   uint64
}

// Run opens the window and returns when it is closed or ctx ends. It must be
// called on the main goroutine, once in a process. It fails if there is no
// display.
func (w *Window) Run(ctx context.Context) error {
	w.ctx = ctx
	ebiten.SetWindowTitle(w.Title)
	ebiten.SetWindowSize(w.Size.X, w.Size.Y)
	ebiten.SetWindowSizeLimits(smallestWidth, smallestHeight, -1, -1)
	ebiten.SetWindowDecorated(false)
	ebiten.SetWindowResizingMode(ebiten.WindowResizingModeEnabled)
	ebiten.SetRunnableOnUnfocused(true)
	ebiten.SetScreenClearedEveryFrame(false)
	// A frame is made when there is input or somebody calls Wake, not 60
	// times a second: nothing is computed or drawn while nothing changes.
	ebiten.SetFPSMode(ebiten.FPSModeVsyncOffMinimum)
	// Otherwise input waits for the tick after the next frame.
	ebiten.SetTPS(ebiten.SyncWithFPS)

	stop := context.AfterFunc(ctx, w.Wake)
	defer stop()
	defer w.running.Store(false)
	err := ebiten.RunGameWithOptions((*game)(w), &ebiten.RunGameOptions{X11ClassName: "connmap", X11InstanceName: "connmap"})
	if w.timer != nil {
		w.timer.Stop()
	}
	if err != nil && !errors.Is(err, ebiten.Termination) {
		return fmt.Errorf("no window can be opened (%w)", err)
	}
	return nil
}

// Wake has the window look at the state again. It may be called at any time
// from any goroutine.
func (w *Window) Wake() {
	if w.running.Load() {
		ebiten.ScheduleFrame()
	}
}

// A game is a Window as Ebitengine sees it.
type game Window

// Layout is not used: LayoutF is preferred.
func (g *game) Layout(int, int) (int, int) { panic("gui: LayoutF is there") }

// LayoutF makes a pixel of the picture a pixel of the screen.
func (g *game) LayoutF(width, height float64) (float64, float64) {
	g.scale = ebiten.Monitor().DeviceScaleFactor()
	g.picture = image.Pt(int(width*g.scale), int(height*g.scale))
	return width * g.scale, height * g.scale
}

func (g *game) Update() error {
	g.running.Store(true)
	if g.ctx.Err() != nil {
		return ebiten.Termination
	}
	now := time.Now()
	in := g.input()
	if g.edge.update(&in) {
		in.Press, in.Held, in.Inside = false, false, false
	}
	for _, e := range g.View.Update(now, in, g.State()) {
		switch e := e.(type) {
		case mapview.Quit:
			return ebiten.Termination
		case mapview.MoveWindow:
			x, y := ebiten.WindowPosition()
			ebiten.SetWindowPosition(x+int(float64(e.By.X)/g.scale), y+int(float64(e.By.Y)/g.scale))
		default:
			g.Handle(e)
			g.wakeAt(now) // what was done may show
		}
	}
	if g.View.Scene().Rev != g.drawn {
		g.wakeAt(now)
	}
	if next := g.View.Next(); !next.IsZero() {
		g.wakeAt(next)
	}
	if in.Held || g.edge.active {
		g.wakeAt(now.Add(frameTime))
	}
	return nil
}

// wakeAt has a frame made at a time, if none is due before.
func (g *game) wakeAt(at time.Time) {
	d := max(time.Until(at), time.Millisecond)
	if g.timer == nil {
		g.timer = time.AfterFunc(d, (*Window)(g).Wake)
		return
	}
	g.timer.Reset(d)
}

func (g *game) input() mapview.Input {
	x, y := ebiten.CursorPosition()
	in := mapview.Input{
		Size:    g.picture,
		Scale:   g.scale,
		Cursor:  image.Pt(x, y),
		Press:   inpututil.IsMouseButtonJustPressed(ebiten.MouseButtonLeft),
		Release: inpututil.IsMouseButtonJustReleased(ebiten.MouseButtonLeft),
		Held:    ebiten.IsMouseButtonPressed(ebiten.MouseButtonLeft),
	}
	in.Inside = in.Cursor.In(image.Rectangle{Max: in.Size})
	// A key that is held types again and again; only its press counts.
	if pressed := inpututil.AppendJustPressedKeys(nil); len(pressed) > 0 {
		if inpututil.IsKeyJustPressed(ebiten.KeyEscape) {
			in.Keys = append(in.Keys, mapview.KeyEscape)
		}
		for _, r := range ebiten.AppendInputChars(nil) {
			in.Keys = append(in.Keys, mapview.Key(r))
		}
	}
	return in
}

func (g *game) Draw(screen *ebiten.Image) {
	s := g.View.Scene()
	if s.Rev == g.drawn {
		return
	}
	g.painter.draw(screen, s)
	g.drawn = s.Rev
}
