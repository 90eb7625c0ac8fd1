package sqlite

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

// TestInsertTogether: of many rows that come together some are there already and others come
// twice, whatever number the file's last row has.
func TestInsertTogether(t *testing.T) {
	for _, last := range []int64{-100, 1, math.MaxInt64 - 70, math.MaxInt64} {
		t.Run(fmt.Sprint("last=", last), func(t *testing.T) {
			db := open(t, path(t))
			rng := rand.New(rand.NewPCG(1, 2))
			want := newTwin()
			next := func() history.Entry {
				e := small(binary.LittleEndian.AppendUint32(nil, rng.Uint32()))
				e.Resumed = false // TestRecordLikeTwin has those
				e.Local = netip.AddrPortFrom(e.Local.Addr(), uint16(rng.IntN(200)))
				want.record(e)
				return e
			}
			require.NoError(t, db.Record(t.Context(), []history.Entry{next()}))
			require.NoError(t, sqlitex.ExecuteTransient(db.conn, fmt.Sprint(`UPDATE detailed_history SET id = `, last), nil))
			db.cache.clear()
			for range 40 {
				require.NoError(t, db.Record(t.Context(), take(next, rng.IntN(300))))
				if rng.IntN(3) == 0 {
					db.cache.clear()
				}
			}
			want.check(t, db)
			n := fmt.Sprint(len(want.rows))
			assert.Equal(t, [][]string{{n, n, n}}, query(t, db, `SELECT count(*), (SELECT sum(rows) FROM agents), (SELECT value FROM settings WHERE name = 'rows') FROM detailed_history`))
		})
	}
}
