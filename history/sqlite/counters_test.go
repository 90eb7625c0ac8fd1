package sqlite

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history"
)

// TestLyingCounters: saved queries answer whatever counters agents tell, and a sum of one's
// own says what to write.
func TestLyingCounters(t *testing.T) {
	slow(t)
	db := open(t, path(t))
	all := recent(10_000)
	for i := range all {
		all[i].Tx, all[i].Rx = math.MaxUint64, math.MaxUint64
		all[i].Seen, all[i].Agent = time.Now(), "nas"
	}
	require.NoError(t, db.Record(t.Context(), all))
	for i := range all {
		all[i].Opened = all[i].Opened.Add(time.Second)
	}
	require.NoError(t, db.Record(t.Context(), all))
	c := console(t, db)
	for _, q := range SavedQueries() {
		params := make(map[string]any)
		for k, v := range q.Params {
			params[k] = v
		}
		rows := ask(t, c, q.SQL, params)
		switch q.Name {
		case "agents":
			require.Len(t, rows, 1)
			assert.EqualValues(t, math.MaxInt64, rows[0][3], "bytes sent")
		case "uploads":
			assert.EqualValues(t, 1<<50, rows[0][0])
		}
	}
	_, err := c.Ask(t.Context(), history.Question{SQL: `SELECT sum(tx) FROM detailed_history`})
	assert.EqualError(t, err, "a sum is larger than integers go: write total() in the place of sum()")
	assert.Equal(t, [][]any{{10_000 * float64(1<<50)}}, ask(t, c, `SELECT total(tx) FROM detailed_history`, nil))
}

// TestLyingLosses: what an agent says that it has lost adds up to no more than a counter
// holds, however often it says so.
func TestLyingLosses(t *testing.T) {
	db := open(t, path(t))
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	var all []history.Record
	for i := range 10 {
		all = append(all, history.Loss{Agent: "liar", Count: math.MaxUint64 - uint64(i), Seen: now}, history.Loss{Agent: "nas", Count: 3, Seen: now})
	}
	require.NoError(t, db.recordAll(t.Context(), all))
	require.NoError(t, db.recordAll(t.Context(), all))
	rows := ask(t, console(t, db), `SELECT agent, count, typeof(count) FROM losses ORDER BY agent`, nil)
	assert.Equal(t, [][]any{{"liar", int64(1 << 50), "integer"}, {"nas", int64(60), "integer"}}, rows)
}
