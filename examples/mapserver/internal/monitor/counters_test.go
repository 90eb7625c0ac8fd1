package monitor

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
)

// TestCounters: no connection tells of more bytes than links carry in the time since it
// opened.
func TestCounters(t *testing.T) {
	m := newMonitor(t, "")
	a := feed.Agent{ID: 1, Name: "nas"}
	m.Join(a)
	now := time.Now()
	for i, tt := range []struct {
		opened time.Time
		told   uint64
		most   float64
	}{
		{now, math.MaxUint64, 101e9},
		{now.Add(-time.Minute), math.MaxUint64, 6.1e12},
		{now.Add(-time.Minute), 5e12, 5e12},
		{now.AddDate(-20, 0, 0), math.MaxUint64, 1 << 50},
		{time.Time{}, math.MaxUint64, 1 << 50},
		{now.AddDate(20, 0, 0), math.MaxUint64, 101e9},
		{now, 1000, 1000},
	} {
		c := conn(uint64(i), "8.8.8.8:443")
		c.Opened, c.Tx, c.Rx = tt.opened, tt.told, tt.told
		m.Delta(a, []conntrack.Event{{Kind: conntrack.Open, Conn: c}})
		st, _ := published(m)
		require.Len(t, st.Conns, i+1)
		for _, got := range []uint64{st.Conns[i].Tx, st.Conns[i].Rx} {
			assert.LessOrEqual(t, float64(got), tt.most)
			assert.GreaterOrEqual(t, float64(got), min(tt.most, float64(tt.told))*0.9)
		}
	}
}

// TestLyingLosses: an agent cannot make losses vanish, its own or those of others, by saying
// that there were more than a number holds.
func TestLyingLosses(t *testing.T) {
	m := newMonitor(t, "")
	liar, nas := feed.Agent{ID: 1, Name: "liar"}, feed.Agent{ID: 2, Name: "nas"}
	m.Join(liar)
	m.Join(nas)
	for _, n := range []uint64{math.MaxUint64, 1, math.MaxUint64, math.MaxUint64 - 5} {
		m.Delta(liar, []conntrack.Event{{Kind: conntrack.Lost, Lost: n}})
	}
	m.Delta(nas, []conntrack.Event{{Kind: conntrack.Lost, Lost: 3}})
	st, _ := published(m)
	lost := make(map[string]uint64)
	for _, a := range st.Agents {
		lost[a.Name] = a.Lost
	}
	assert.EqualValues(t, 1<<50, lost["liar"])
	assert.EqualValues(t, 3, lost["nas"])
}
