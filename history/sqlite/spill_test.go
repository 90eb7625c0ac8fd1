package sqlite

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history"
)

// TestSpill: what a question sorts, groups or joins takes no more room on the disk than there
// is for it, and what fits is answered, also beside one that does not.
func TestSpill(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	slow(t)
	db := open(t, path(t))
	c := console(t, db)
	const rows = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000), wide(v) AS (SELECT printf('%05d%7000s', i * 7919 % 100000, '') FROM n) `
	for name, sql := range map[string]string{
		"ORDER BY":          rows + `SELECT v FROM wide ORDER BY v`,
		"GROUP BY":          rows + `SELECT v, count(*) FROM wide GROUP BY v`,
		"DISTINCT":          rows + `SELECT DISTINCT v FROM wide`,
		"UNION":             rows + `SELECT v FROM wide UNION SELECT v FROM wide`,
		"window":            rows + `SELECT v, row_number() OVER (ORDER BY v) FROM wide`,
		"kept in the midst": rows + `, kept AS MATERIALIZED (SELECT v FROM wide) SELECT count(*) FROM kept AS a, kept AS b WHERE a.v = b.v`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Each(t.Context(), history.Question{SQL: sql, Timeout: 5 * time.Minute, MaxRows: -1, MaxBytes: -1}, func([]history.Column) error { return nil }, func([]any) error { return nil })
			var mistake *history.QueryError
			require.ErrorAs(t, err, &mistake)
			assert.Contains(t, mistake.Msg, "more than 256 MB on the disk: narrow it")
			spill.mu.Lock()
			defer spill.mu.Unlock()
			assert.Empty(t, spill.files)
			assert.Empty(t, spill.used)
		})
	}
	// Of 100 MB all is sorted.
	n := 0
	_, err := c.Each(t.Context(), history.Question{SQL: `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000), wide(v) AS (SELECT printf('%05d%10000s', i * 7919 % 100000, '') FROM n)
		SELECT v FROM wide ORDER BY v`, Timeout: 5 * time.Minute, MaxRows: -1, MaxBytes: -1}, func([]history.Column) error { return nil }, func([]any) error { n++; return nil })
	require.NoError(t, err)
	assert.Equal(t, 10_000, n)
	assert.Equal(t, [][]any{{int64(1)}}, ask(t, c, `SELECT 1`, nil))
}
