package worldmap

import (
	_ "embed"
	"encoding/binary"
	"math"
	"sync"
)

// The outlines are those of Natural Earth at 1:50 million. countries-50m.json
// is a file of the npm package world-atlas 2.0.2; it must lie here to generate.
//
//go:generate go run ./gen -in countries-50m.json -out outlines.bin
//go:embed outlines.bin
var data []byte

const grid = 500 // steps per degree in data

// poleY is south of all places: the outlines run through the south pole there.
const poleY = 9e4

// A vertex is a point in world coordinates.
type vertex struct{ x, y float32 }

// A line is a closed ring of land or a border, with the box around it.
type line struct {
	points                 []vertex
	minX, minY, maxX, maxY float32
}

// outlines decodes the data once.
var outlines = sync.OnceValue(func() (o struct{ land, borders []line }) {
	r := reader{data}
	o.land = r.lines()
	o.borders = r.lines()
	return o
})

type reader struct{ b []byte }

func (r *reader) uint() int {
	v, n := binary.Uvarint(r.b)
	r.b = r.b[n:]
	return int(v)
}

func (r *reader) int() int {
	v, n := binary.Varint(r.b)
	r.b = r.b[n:]
	return int(v)
}

func (r *reader) lines() []line {
	lines := make([]line, r.uint())
	for i := range lines {
		l := line{points: make([]vertex, r.uint()), minX: math.MaxFloat32, minY: math.MaxFloat32, maxX: -math.MaxFloat32, maxY: -math.MaxFloat32}
		lon, lat := 0, 0
		for j := range l.points {
			lon += r.int()
			lat += r.int()
			p := vertexAt(float64(lon)/grid, float64(lat)/grid)
			l.points[j] = p
			l.minX, l.maxX = min(l.minX, p.x), max(l.maxX, p.x)
			l.minY, l.maxY = min(l.minY, p.y), max(l.maxY, p.y)
		}
		lines[i] = l
	}
	return lines
}

// vertexAt is Point for longitudes beyond 180 degrees. The south pole, which
// a Mercator map cannot show, lies where no picture reaches, so that land
// goes on to the picture's edge.
func vertexAt(lon, lat float64) vertex {
	_, y := Point(lat, 0)
	if lat <= -89.9 {
		y = 1e5
	}
	return vertex{float32((lon+180)/360*FrameWidth - 29), float32(y)}
}
