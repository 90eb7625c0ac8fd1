package main

import (
	"context"
	"fmt"
	"image"
	"io"
	"os"
	"runtime"

	"github.com/connmapgo/connmap/examples/mapserver/internal/gui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/sound"
	"github.com/connmapgo/connmap/history/sqlite"
)

// sceneDrawn, if not nil, gets each scene that the window has drawn. Only tests set it.
var sceneDrawn func(*mapview.Scene)

// window shows the map until it is closed, or goes headless without a display.
func (a *app) window(ctx context.Context, stdout io.Writer) error {
	// Without a window system Ebitengine would draw on the console.
	if runtime.GOOS == "linux" && os.Getenv("DISPLAY") == "" {
		return a.headless(ctx, stdout, "there is no display (DISPLAY is not set)")
	}
	beep, err := sound.New(a.cfg.sound, a.log)
	if err != nil {
		return fmt.Errorf("-%w", err)
	}
	defer beep.Close()
	open, cancel := context.WithCancel(ctx)
	defer cancel()
	h := newHandler(open, a, beep)
	if text := a.foundRules(); text != "" {
		h.say(text)
	}
	w := &gui.Window{
		Title: "connmap", Size: a.cfg.size, State: a.monitor.State, Answers: h.takeAnswers, Handle: h.handle, Remember: a.remember, Drawn: sceneDrawn,
		View: &mapview.View{Settings: mapview.Settings{Light: a.cfg.light}, FirstQuery: sqlite.FirstQuery, Saved: savedQueries()},
	}
	if r, ok := a.recall(); ok {
		w.View.Settings = r.Settings
		w.Position = &image.Point{X: r.X, Y: r.Y}
		if a.cfg.themed {
			w.View.Light = a.cfg.light
		}
		if size := image.Pt(r.Width, r.Height); !a.cfg.sized && minSize.X <= size.X && minSize.Y <= size.Y {
			w.Size = size
		}
	}
	a.setWake(w.Wake)
	err = w.Run(open)
	a.setWake(nil)
	cancel()
	h.close()
	if err != nil && ctx.Err() == nil {
		return a.headless(ctx, stdout, err.Error())
	}
	if a.monitor.Unrecorded() != nil {
		return nil
	}
	if a.cfg.demo > 0 && a.cfg.history == "" {
		return nil // these places are no one's
	}
	if _, err := a.saveMarks(context.Background()); err != nil {
		a.log.Warn("the counts of all places are not saved", "error", err)
	}
	return nil
}

func (a *app) setWake(wake func()) {
	a.mu.Lock()
	a.wake = wake
	a.mu.Unlock()
}
