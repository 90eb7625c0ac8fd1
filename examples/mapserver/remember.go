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

// remembered are the position, size and settings of the window when it was last closed.
type remembered struct {
	X, Y, Width, Height int
	Settings            mapview.Settings
}

func (c config) rememberedFile() string { return filepath.Join(c.configDir, "window.json") }

// recall reads what remember wrote. It is false if there is nothing, or if it cannot be read.
func (a *app) recall() (r remembered, ok bool) {
	data, err := os.ReadFile(a.cfg.rememberedFile())
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("the window opens with default settings", "error", err)
	}
	return r, err == nil
}

// remember stores the state of the window.
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
		a.log.Warn("the window's settings could not be stored", "error", err)
	}
}

// approval reports whether new agents need approval. It stores the flag -approve, so that a
// later start without the flag, for example by systemd, does not admit waiting agents.
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
		return true, temp.Write(name, 0o600, []byte("New agents must be approved with mapserver agents approve, until mapserver -approve=false.\n"))
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	return false, nil
}
