package main

import (
	"context"
	"io"
	"os"
	"runtime"

	"github.com/connmapgo/connmap/examples/mapserver/internal/gui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
)

// window shows the map until it is closed, or goes headless without a display.
func (a *app) window(ctx context.Context, stdout io.Writer) error {
	// Without a window system Ebitengine would draw on the console.
	if runtime.GOOS == "linux" && os.Getenv("DISPLAY") == "" {
		return a.headless(ctx, stdout, "there is no display (DISPLAY is not set)")
	}
	open, cancel := context.WithCancel(ctx)
	defer cancel()
	clerk := newClerk(open, a)
	w := &gui.Window{
		Title: "connmap", Size: a.cfg.size, State: a.monitor.State, Answers: clerk.take, Handle: clerk.handle,
		View: &mapview.View{Settings: mapview.Settings{Light: a.cfg.light}, Saved: savedQueries()},
	}
	a.setWake(w.Wake)
	err := w.Run(open)
	a.setWake(nil)
	cancel()
	clerk.close()
	if err != nil && ctx.Err() == nil {
		return a.headless(ctx, stdout, err.Error())
	}
	if a.monitor.Writer == nil {
		return nil
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
