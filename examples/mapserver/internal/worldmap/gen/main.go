// Command gen converts a TopoJSON file of Natural Earth, as the package
// world-atlas publishes it, into the outlines that worldmap embeds.
//
// The output is a sequence of variable-length integers: the number of rings
// of land, each ring; the number of borders, each border. A ring or border is
// its number of points, then the points in units of 1/Grid degree, longitude
// before latitude, each after the first as the difference to the one before.
// Rings are closed and unwrapped: they may go beyond 180 degrees.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
)

const grid = 500 // steps per degree: 200 m

type geometry struct {
	Type       string          `json:"type"`
	Arcs       json.RawMessage `json:"arcs"`
	Geometries []geometry      `json:"geometries"`
}

type topology struct {
	Arcs      [][][2]int64        `json:"arcs"`
	Objects   map[string]geometry `json:"objects"`
	Transform struct {
		Scale, Translate [2]float64
	} `json:"transform"`
}

type point struct{ lon, lat float64 }

func main() {
	log.SetFlags(0)
	in := flag.String("in", "countries-50m.json", "TopoJSON `file` with the objects countries and land")
	out := flag.String("out", "outlines.bin", "`file` to write")
	flag.Parse()
	b, err := os.ReadFile(*in)
	if err != nil {
		log.Fatal(err)
	}
	var topo topology
	if err := json.Unmarshal(b, &topo); err != nil {
		log.Fatalf("%s: %v", *in, err)
	}
	rings := topo.rings(topo.Objects["land"])
	borders := topo.borders()
	if len(rings) < 100 || len(borders) < 100 {
		log.Fatalf("%s: implausible: %d rings of land, %d borders", *in, len(rings), len(borders))
	}
	var data []byte
	data = binary.AppendUvarint(data, uint64(len(rings)))
	for _, arcs := range rings {
		data = appendLine(data, closeRing(topo.join(arcs)))
	}
	data = binary.AppendUvarint(data, uint64(len(borders)))
	for _, a := range borders {
		data = appendLine(data, topo.join([]int{a}))
	}
	if err := os.WriteFile(*out, data, 0o644); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %d rings, %d borders, %d bytes\n", *out, len(rings), len(borders), len(data))
}

// rings returns the rings of a geometry, each as indexes of arcs.
func (t *topology) rings(g geometry) [][]int {
	var rings [][]int
	switch g.Type {
	case "GeometryCollection":
		for _, g := range g.Geometries {
			rings = append(rings, t.rings(g)...)
		}
	case "Polygon":
		var r [][]int
		must(json.Unmarshal(g.Arcs, &r))
		rings = append(rings, r...)
	case "MultiPolygon":
		var r [][][]int
		must(json.Unmarshal(g.Arcs, &r))
		for _, p := range r {
			rings = append(rings, p...)
		}
	}
	return rings
}

// borders returns the arcs that two countries share.
func (t *topology) borders() []int {
	users := make([]int, len(t.Arcs))
	for _, ring := range t.rings(t.Objects["countries"]) {
		for _, a := range ring {
			if a < 0 {
				a = ^a
			}
			users[a]++
		}
	}
	var shared []int
	for a, n := range users {
		if n > 1 {
			shared = append(shared, a)
		}
	}
	return shared
}

// join returns the points of arcs in sequence. A negative index is an arc
// backwards.
func (t *topology) join(arcs []int) []point {
	var line []point
	for _, a := range arcs {
		backwards := a < 0
		if backwards {
			a = ^a
		}
		var part []point
		var x, y int64
		for _, d := range t.Arcs[a] {
			x, y = x+d[0], y+d[1]
			part = append(part, point{
				float64(x)*t.Transform.Scale[0] + t.Transform.Translate[0],
				float64(y)*t.Transform.Scale[1] + t.Transform.Translate[1],
			})
		}
		if backwards {
			for i, j := 0, len(part)-1; i < j; i, j = i+1, j-1 {
				part[i], part[j] = part[j], part[i]
			}
		}
		if len(line) > 0 {
			part = part[1:]
		}
		line = append(line, part...)
	}
	// Unwrap: a step of more than half the world went the other way round.
	for i := 1; i < len(line); i++ {
		for line[i].lon-line[i-1].lon > 180 {
			line[i].lon -= 360
		}
		for line[i].lon-line[i-1].lon < -180 {
			line[i].lon += 360
		}
	}
	return line
}

// closeRing leads a ring that goes round the world, as that of Antarctica,
// through the south pole.
func closeRing(ring []point) []point {
	first, last := ring[0], ring[len(ring)-1]
	if math.Abs(first.lon-last.lon) > 180 {
		ring = append(ring, point{last.lon, -90}, point{first.lon, -90}, first)
	}
	return ring
}

func appendLine(data []byte, line []point) []byte {
	type step struct{ x, y int64 }
	var steps []step
	for _, p := range line {
		s := step{int64(math.Round(p.lon * grid)), int64(math.Round(p.lat * grid))}
		if len(steps) == 0 || s != steps[len(steps)-1] {
			steps = append(steps, s)
		}
	}
	data = binary.AppendUvarint(data, uint64(len(steps)))
	var last step
	for _, s := range steps {
		data = binary.AppendVarint(data, s.x-last.x)
		data = binary.AppendVarint(data, s.y-last.y)
		last = s
	}
	return data
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
