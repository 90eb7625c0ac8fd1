package storable

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCounts(t *testing.T) {
	paris, rio := Count{48.85, 2.35, 7}, Count{-22.91, -43.17, 3}
	both := []Count{rio, paris}
	tests := []struct {
		name, data string
		want       []Count
		skipped    int
	}{
		{"place to count", `{"48.85,2.35" => 7, "-22.91,-43.17" => 3}`, both, 0},
		{"counts as texts", `{"48.85|2.35" => "7", "-22.91|-43.17" => "3"}`, both, 0},
		{"longitude first", `{"2.35,48.85" => 7, "-43.17,-22.91" => 3, "139.69,35.68" => 1}`, []Count{rio, {35.68, 139.69, 1}, paris}, 0},
		{"place to a hash", `{"48.85 2.35" => {count => 7, label => "Web"}, "-22.91 -43.17" => {count => 3}}`, both, 0},
		{"address to a hash", `{"192.0.2.1" => {lat => 48.85, lon => 2.35, count => 7, port => 443}, "192.0.2.2" => {lat => -22.91, lon => -43.17, count => 3}}`, both, 0},
		{"many at a place", `{a => {lat => 48.85, lon => 2.35, count => 4}, b => {lat => "48.85", lon => "2.35", hits => 3}}`, []Count{paris}, 0},
		{"without counts", `[{lat => 48.85, lon => 2.35, ip => "192.0.2.1"}]`, []Count{{48.85, 2.35, 1}}, 0},
		{"array of hashes", `{history => [{latitude => 48.85, longitude => 2.35, count => 7}, {latitude => -22.91, longitude => -43.17, count => 3}]}`, both, 0},
		{"array of arrays", `[[48.85, 2.35, 7], [-22.91, -43.17, 3]]`, both, 0},
		{"latitude to longitude", `{"48.85" => {"2.35" => 7}, "-22.91" => {"-43.17" => 3}}`, both, 0},
		{"pixels", `{"477.5,170.1" => 7, "351,391" => 3}`, []Count{{-22.78, -43.2, 3}, {48.84, 2.34, 7}}, 0},
		{"pixels in a hash", `{"477,168" => {x => 477.5, y => 170.1, count => 7}}`, []Count{{48.84, 2.34, 7}}, 0},
		{"three numbers", `[1, 2, 3]`, nil, 3},
		{"one place alone", `[48.85, 2.35, 7]`, nil, 3},
		{"whole numbers", `[[1, 2, 3], [48.85, 2.35, 7], [22, 80, 443]]`, []Count{paris}, 6},
		{"colours", `{red => [255, 0, 0], blue => [0, 0, 255], pale => [0.2, 0.5, 1]}`, nil, 9},
		{"a window", `{window => {x => 40, y => 20, width => 1000, height => 500}}`, nil, 4},
		{"nothing", `{}`, nil, 0},
		{"other numbers", `{port => 443, ports => [80, 22], name => "x"}`, nil, 3},
		{"no place", `{a => {lat => 95, lon => 2, count => 1}, b => {lat => 1, lon => 2, count => 0}}`, nil, 2},
	}
	for _, tt := range tests {
		for _, function := range []string{"store", "nstore"} {
			t.Run(tt.name+" "+function, func(t *testing.T) {
				tree, err := Read(perl(t, function, tt.data))
				require.NoError(t, err)
				got, skipped, err := Counts(tree)
				require.NoError(t, err)
				assert.Equal(t, tt.want, got)
				assert.Equal(t, tt.skipped, skipped)
			})
		}
	}
}

// TestCountsBomb: a few bytes that refer to each other many times are not followed for ever.
func TestCountsBomb(t *testing.T) {
	var tree any = []any{int64(1)}
	for range 40 {
		tree = []any{tree, tree, tree}
	}
	_, _, err := Counts(tree)
	assert.ErrorContains(t, err, "refer to others")
}

// TestPlaceOfPixel: connmapperl's map, whose pixels are
// x = (lon+180)/360*1000 - 29 and y = 250 - 1000*ln(tan(pi/4+lat/2))/(2*pi) + 76.
func TestPlaceOfPixel(t *testing.T) {
	for _, want := range [][2]float64{{0, 0}, {48.85, 2.35}, {-22.91, -43.17}, {70, -150}, {-50, 179}, {60, -179}} {
		x := (want[1]+180)/360*1000 - 29
		y := 250 - 1000*math.Log(math.Tan(math.Pi/4+want[0]*math.Pi/360))/(2*math.Pi) + 76
		lat, lon := place(x, y)
		assert.InDelta(t, want[0], lat, 0.006)
		assert.InDelta(t, want[1], lon, 0.006)
	}
}
