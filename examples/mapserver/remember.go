package main

import (
	"encoding/json"
	"errors"
	"image"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/internal/temp"
)

// remembered is what the window was like when it was last closed.
type remembered struct {
	X, Y, Width, Height int
	Settings            mapview.Settings
}

func (c config) rememberedFile() string { return filepath.Join(c.configDir, "window.json") }

// recall reads what is remembered; false: nothing, or nothing that can be read.
func (a *app) recall() (r remembered, ok bool) {
	data, err := os.ReadFile(a.cfg.rememberedFile())
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("the window is as for the first time", "error", err)
	}
	return r, err == nil
}

// remember replaces the file in one go.
func (a *app) remember(s mapview.Settings, position, size image.Point) {
	data, err := json.MarshalIndent(remembered{position.X, position.Y, size.X, size.Y, s}, "", "\t")
	name := a.cfg.rememberedFile()
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o700)
	}
	if err == nil {
		err = temp.Write(name, 0o600, append(data, '\n'))
	}
	if err != nil {
		a.log.Warn("the window's settings are not remembered", "error", err)
	}
}

// approval reports whether new agents need somebody's approval, and remembers what it was
// told: whoever starts the server by a unit, or by hand without the flag, is not to let in
// those who wait.
func (c config) approval() (bool, error) {
	name := filepath.Join(c.configDir, "agents-approve")
	if c.approve == nil {
		_, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return true, err
	}
	if *c.approve {
		return true, temp.Write(name, 0o600, []byte("New agents wait for mapserver agents approve, until mapserver -approve=false.\n"))
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	return false, nil
}
