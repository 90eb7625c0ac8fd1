package sqlite

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history"
)

// TestNearby compares with a look at all rows, and with what nearbySQL finds.
func TestNearby(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	slow(t)
	db := open(t, path(t))
	r := rand.New(rand.NewPCG(1, 2))
	all := entries(0, 4000)
	for i := range all {
		e := &all[i]
		switch i % 4 {
		case 0: // about the 180th meridian
			e.Lat, e.Lon = r.Float64()*20-10, 180-r.Float64()*5
			if i%8 == 0 {
				e.Lon = -e.Lon
			}
		case 1: // about the poles
			e.Lat, e.Lon = 90-r.Float64()*r.Float64()*10, r.Float64()*360-180
			if i%8 == 1 {
				e.Lat = -e.Lat
			}
		case 2: // few places
			e.Lat, e.Lon = float64(i%40), float64(i%24)
		default:
			e.Lat, e.Lon = r.Float64()*180-90, r.Float64()*360-180
		}
		e.Located = i%50 != 0
	}
	require.NoError(t, db.Record(t.Context(), all))
	c := console(t, db)
	for i := range 300 {
		at := all[r.IntN(len(all))]
		lat, lon, km, limit := at.Lat, at.Lon, math.Exp(r.Float64()*10), 1+r.IntN(100)
		if i%7 == 0 {
			lat, lon = []float64{90, -90, 0, 0}[r.IntN(4)], []float64{180, -180, 0}[r.IntN(3)]
		}
		var want []int64
		for id := len(all); id > 0 && len(want) < limit; id-- {
			if e := all[id-1]; e.Located && haversine(lat, lon, e.Lat, e.Lon) <= km {
				want = append(want, int64(id))
			}
		}
		var got []int64
		for row, err := range db.Nearby(t.Context(), lat, lon, km, limit) {
			require.NoError(t, err)
			require.Equal(t, all[row.ID-1].Peer, row.Peer)
			got = append(got, row.ID)
		}
		require.Equal(t, want, got, "%v %v %v km, %d", lat, lon, km, limit)
		var asked []int64
		for _, row := range ask(t, c, nearbySQL(lat, lon, km, limit), nil) {
			asked = append(asked, row[0].(int64))
		}
		require.Equal(t, want, asked)
	}
	for range db.Nearby(t.Context(), 0, 0, 20_100, 10) {
		break
	}
	require.NoError(t, db.Close())
	for _, err := range db.Nearby(t.Context(), 0, 0, 1, 1) {
		assert.Error(t, err)
	}
}

func TestReplay(t *testing.T) {
	db := open(t, path(t))
	first, last, err := db.Span(t.Context())
	require.NoError(t, err)
	assert.Zero(t, first)
	assert.Zero(t, last)
	all := spread(500, noon)
	shuffled := slices.Clone(all)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	require.NoError(t, db.Record(t.Context(), shuffled))
	first, last, err = db.Span(t.Context())
	require.NoError(t, err)
	assert.Equal(t, all[0].Opened, first)
	assert.Equal(t, noon, last)
	var got []history.Row
	for row, err := range db.Replay(t.Context(), all[100].Opened, all[200].Opened) {
		require.NoError(t, err)
		got = append(got, row)
	}
	require.Len(t, got, 100)
	for i, row := range got {
		want := all[100+i]
		want.New = false
		assert.Equal(t, want, row.Entry)
		assert.EqualValues(t, 1, row.Count)
		assert.Equal(t, want.Opened, row.LastOpened)
	}
	n := 0
	for range db.Replay(t.Context(), first, last.Add(time.Millisecond)) {
		if n++; n == 10 {
			break
		}
	}
	assert.Equal(t, 10, n)
}

func TestRowOfNothing(t *testing.T) {
	db := open(t, path(t))
	require.NoError(t, db.Record(t.Context(), []history.Entry{{}}))
	for row, err := range db.Replay(t.Context(), time.Time{}, noon) {
		require.NoError(t, err)
		assert.Equal(t, history.Row{ID: 1, Count: 1}, row, fmt.Sprint(row))
	}
}
