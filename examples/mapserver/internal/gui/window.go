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
	"image/color"
	"math"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/hajimehoshi/ebiten/v2"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
)

const (
	minWidth         = 320
	minHeight        = 160
	frameInterval    = 16 * time.Millisecond
	rememberInterval = 3 * time.Second
	rescheduleAfter  = 250 * time.Millisecond
	redrawDelay      = 100 * time.Millisecond // after the last event, before the window is drawn again
)

// A Window shows a view of the states it is given. Its fields must be set
// before Run.
type Window struct {
	Title string
	Size  image.Point // at the start, in density-independent pixels; zero means 1000x500; larger than the screen shrinks to it
	View  *mapview.View
	State func() *live.State
	// Position is where the window was last; nil lets the system choose.
	Position *image.Point
	// Remember, if not nil, is called on the window's goroutine when the view's
	// settings, the window's position or its size have changed: at most every few
	// seconds, and when it closes.
	Remember func(s mapview.Settings, position, size image.Point)
	// Answers, if not nil, returns the answers since the last call. It is called on
	// the window's goroutine. Call Wake when there are some.
	Answers func() []mapview.Answer
	// Handle is called on the window's goroutine with all effects but those that the
	// window handles itself, which are moving and quitting.
	Handle func(mapview.Effect)
	// Drawn, if not nil, is called on the window's goroutine with each scene that was
	// drawn. It must not keep the scene.
	Drawn func(*mapview.Scene)

	ctx       context.Context
	running   atomic.Bool
	woken     atomic.Bool  // by Wake since the last Update
	dueAt     atomic.Int64 // earliest time of the next frame after Wake, in ns after startTime
	painter   painter
	timer     *time.Timer
	limit     throttle
	cursor    image.Point // in the last Update
	scale     float64
	picture   image.Point
	resize    resize
	repeats   repeats
	drawn     uint64       // Rev of the scene in the window; zero: none
	redraw    time.Time    // when to draw the same scene again; zero: never
	frames    atomic.Int64 // drawn so far, for tests
	saved     remembered
	clock     func() time.Time    // time.Now but for tests
	onInput   func(mapview.Input) // gets the input of the view; only tests set it
	checkedAt time.Time           // when remember looked for changes
}

// remembered is the state that Remember stores.
type remembered struct {
	settings       mapview.Settings
	position, size image.Point
}

// Run opens the window and returns when it is closed or ctx ends. It must be
// called on the main goroutine, once in a process. It fails if there is no
// display. Without X11 Ebitengine takes over the framebuffer device of the
// console if it can, so do not call Run where DISPLAY is not set.
func (w *Window) Run(ctx context.Context) error {
	w.ctx = ctx
	if w.clock == nil {
		w.clock = time.Now
	}
	if w.limit.used == nil {
		w.limit.used = cpuTime
	}
	if w.Size == (image.Point{}) {
		w.Size = image.Pt(1000, 500)
	}
	if m := ebiten.Monitor(); m != nil {
		w.fit(image.Pt(m.Size()))
	}
	ebiten.SetWindowTitle(w.Title)
	ebiten.SetWindowIcon([]image.Image{icon(16), icon(48)})
	ebiten.SetWindowSize(w.Size.X, w.Size.Y)
	if w.Position != nil {
		ebiten.SetWindowPosition(w.Position.X, w.Position.Y)
	}
	ebiten.SetWindowSizeLimits(minWidth, minHeight, -1, -1)
	ebiten.SetWindowDecorated(false)
	ebiten.SetWindowClosingHandled(true)
	ebiten.SetWindowResizingMode(ebiten.WindowResizingModeEnabled)
	ebiten.SetRunnableOnUnfocused(true)
	ebiten.SetScreenClearedEveryFrame(false)
	// A frame is made when there is input or somebody calls Wake, not 60
	// times a second: nothing is computed or drawn while nothing changes.
	ebiten.SetFPSMode(ebiten.FPSModeVsyncOffMinimum) //lint:ignore SA1019 nothing else does that
	// Otherwise input waits for the tick after the next frame.
	ebiten.SetTPS(ebiten.SyncWithFPS)

	stop := context.AfterFunc(ctx, func() {
		w.dueAt.Store(0) // at once
		w.woken.Store(true)
		w.schedule()
	})
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

// fit shrinks the window to a screen. One that shrinks is moved onto it.
func (w *Window) fit(screen image.Point) {
	size := image.Pt(min(w.Size.X, screen.X), min(w.Size.Y, screen.Y))
	if size == w.Size || screen.X < minWidth || screen.Y < minHeight {
		return
	}
	w.Size = size
	if p := w.Position; p != nil {
		w.Position = &image.Point{X: min(max(p.X, 0), screen.X-size.X), Y: min(max(p.Y, 0), screen.Y-size.Y)}
	}
}

var startTime = time.Now() // reference of Window.dueAt

// Wake has the window show the current state: at once while somebody uses it, else within a
// second, to save processor time. It may be called at any time from any goroutine.
func (w *Window) Wake() {
	if !w.running.Load() || w.woken.Swap(true) {
		return
	}
	wait := max(w.limit.wait(time.Now()), 0)
	w.dueAt.Store(int64(time.Since(startTime) + wait))
	if wait > 0 {
		time.AfterFunc(wait, w.schedule)
		return
	}
	w.schedule()
}

// schedule requests a frame, and again until it is made: Ebitengine drops requests while the
// window's size changes.
func (w *Window) schedule() {
	if w.running.Load() && w.woken.Load() && int64(time.Since(startTime)) >= w.dueAt.Load() {
		ebiten.ScheduleFrame() //lint:ignore SA1019 it belongs to that mode
		time.AfterFunc(rescheduleAfter, w.schedule)
	}
}

// A game is a Window as Ebitengine sees it.
type game Window

// Layout is not used: LayoutF is preferred.
func (g *game) Layout(int, int) (int, int) { panic("gui: LayoutF is there") }

// LayoutF makes a pixel of the picture a pixel of the screen. At a fractional
// scale a window of whole density-independent pixels need not be one of whole
// pixels; a picture of another size than the window's would be blurred.
func (g *game) LayoutF(width, height float64) (float64, float64) {
	g.scale = ebiten.Monitor().DeviceScaleFactor()
	g.picture = image.Pt(max(int(math.Round(width*g.scale)), 1), max(int(math.Round(height*g.scale)), 1))
	return float64(g.picture.X), float64(g.picture.Y)
}

func (g *game) Update() error {
	g.running.Store(true)
	now := g.clock()
	if g.ctx.Err() != nil || ebiten.IsWindowBeingClosed() {
		g.remember(now, true)
		return ebiten.Termination
	}
	byEvent := !g.woken.Swap(false)
	in := g.input(now)
	if in.Cursor != g.cursor || in.Held || in.MiddleHeld || in.Right || in.Wheel != 0 || len(in.Keys) > 0 || in.Arrows != (image.Point{}) || g.View.Playing() {
		g.limit.input(time.Now())
	}
	g.cursor = in.Cursor
	if g.resize.update(&in) {
		in.Press, in.Held, in.Inside = false, false, false
	}
	if g.Answers != nil {
		in.Answers = g.Answers()
	}
	effects := g.View.Update(now, in, g.State())
	if g.onInput != nil {
		g.onInput(in)
	}
	next := g.View.Next()
	for _, e := range effects {
		switch e := e.(type) {
		case mapview.Quit:
			g.remember(now, true)
			return ebiten.Termination
		case mapview.MoveWindow:
			x, y := ebiten.WindowPosition()
			ebiten.SetWindowPosition(x+int(float64(e.By.X)/g.scale), y+int(float64(e.By.Y)/g.scale))
		default:
			g.Handle(e)
			next = now // the effect may have changed the scene
		}
	}
	if in.Held || in.MiddleHeld || g.repeats.holding() || g.resize.active {
		next = earlier(next, now.Add(frameInterval))
	}
	g.remember(now, false)
	g.repair(now, byEvent)
	g.wakeAt(earlier(next, g.redraw))
	return nil
}

// remember calls Remember if the settings, the position or the size have changed.
func (g *game) remember(now time.Time, closing bool) {
	if g.Remember == nil || !closing && now.Sub(g.checkedAt) < rememberInterval {
		return
	}
	first := g.checkedAt.IsZero()
	g.checkedAt = now
	var k remembered
	k.settings = g.View.Settings
	k.position.X, k.position.Y = ebiten.WindowPosition()
	k.size.X, k.size.Y = ebiten.WindowSize()
	if first {
		// A window on a screen that no longer exists must become visible.
		w, h := ebiten.Monitor().Size()
		if p := k.position; p.X < 20-k.size.X || p.Y < 20-k.size.Y || p.X > w-20 || p.Y > h-20 {
			ebiten.SetWindowPosition(max((w-k.size.X)/2, 0), max((h-k.size.Y)/2, 0))
		}
		g.saved = k
		return
	}
	if !reflect.DeepEqual(k, g.saved) {
		g.saved = k
		g.Remember(k.settings, k.position, k.size)
	}
}

// repair has the scene drawn again after events that did not change it.
// Without a compositor the parts that another window covers are lost. Ebitengine
// does not say that they are uncovered, but makes an Update then.
func (g *game) repair(now time.Time, byEvent bool) {
	switch {
	case g.View.Scene().Rev != g.drawn:
		g.redraw = time.Time{}
	case !g.redraw.IsZero() && !now.Before(g.redraw):
		g.redraw, g.drawn = time.Time{}, 0
	case byEvent:
		g.redraw = now.Add(redrawDelay)
	}
}

// earlier returns the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// wakeAt schedules a frame in place of those scheduled before.
func (g *game) wakeAt(at time.Time) {
	if g.timer != nil {
		g.timer.Stop()
	}
	if !at.IsZero() {
		g.timer = time.AfterFunc(max(time.Until(at), time.Millisecond), (*Window)(g).Wake)
	}
}

// waitForFrame has Ebitengine finish a frame before it waits for the next event. Otherwise
// another thread presents the frame meanwhile and reads events from the same connection with
// the display. The wait misses these: a key has no effect until the pointer moves. Ebitengine
// waits for frames in which an image is created.
func waitForFrame() {
	m := ebiten.NewImageWithOptions(image.Rect(0, 0, 1, 1), &ebiten.NewImageOptions{Unmanaged: true})
	m.Fill(color.White)
	m.Deallocate()
}

// Draw has Ebitengine present a frame if there is something new, for which it looks whether the
// image is changed. The scene is drawn later.
func (g *game) Draw(screen *ebiten.Image) {
	waitForFrame()
	s := g.View.Scene()
	if s.Rev == g.drawn {
		return
	}
	g.limit.frame(time.Now())
	screen.SubImage(image.Rect(0, 0, 1, 1)).(*ebiten.Image).Fill(color.Black)
	g.drawn = s.Rev
	g.frames.Add(1)
	if g.Drawn != nil {
		g.Drawn(s)
	}
}

// DrawFinalScreen draws the scene straight to the window's memory. By way of an image, each of its
// pixels would be written once more, which without a graphics processor costs as much as all else.
func (g *game) DrawFinalScreen(screen ebiten.FinalScreen, _ *ebiten.Image, _ ebiten.GeoM) {
	g.painter.draw(screen, g.View.Scene())
}
