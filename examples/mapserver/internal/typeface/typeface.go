// Package typeface holds the fonts of the window and measures text in them.
// It draws nothing: gui and paint draw with its faces, so that what mapview
// measured is what they draw.
package typeface

import (
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
)

// A Font is one of the fonts of the window.
type Font uint8

// The fonts: text in the first three, addresses and figures in Mono.
const (
	Regular Font = iota
	Medium
	Bold
	Mono
)

var files = [...][]byte{goregular.TTF, gomedium.TTF, gobold.TTF, gomono.TTF}

type key struct {
	font Font
	size float64
}

var cache = struct {
	sync.Mutex
	parsed [len(files)]*opentype.Font
	faces  map[key]font.Face
}{faces: map[key]font.Face{}}

// Face returns a font at a size in pixels per em. Faces are shared and not
// safe for concurrent use: measure and draw on one goroutine.
func Face(f Font, size float64) font.Face {
	cache.Lock()
	defer cache.Unlock()
	k := key{f, size}
	if face, ok := cache.faces[k]; ok {
		return face
	}
	if cache.parsed[f] == nil {
		p, err := opentype.Parse(files[f])
		if err != nil {
			panic("typeface: embedded font: " + err.Error())
		}
		cache.parsed[f] = p
	}
	face, err := opentype.NewFace(cache.parsed[f], &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		panic("typeface: embedded font: " + err.Error())
	}
	cache.faces[k] = face
	return face
}

// Width returns the width of a text in pixels.
func Width(f Font, size float64, s string) float64 {
	return float64(font.MeasureString(Face(f, size), s)) / 64
}
