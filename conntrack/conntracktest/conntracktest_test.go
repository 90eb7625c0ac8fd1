package conntracktest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
)

func TestSameSeedSameConns(t *testing.T) {
	assert.Equal(t, Conns(500, 1), Conns(500, 1))
	assert.Equal(t, Conns(500, 1)[:100], Conns(100, 1))
	assert.NotEqual(t, Conns(10, 1), Conns(10, 2))
}

func TestEventsKeepTheNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second+time.Millisecond)
		defer cancel()
		live := map[uint64]conntrack.Conn{}
		events := 0
		for e, err := range (&Source{N: 300, Seed: 7}).Events(ctx) {
			require.NoError(t, err)
			events++
			switch e.Kind {
			case conntrack.Open:
				assert.NotContains(t, live, e.Conn.ID)
				live[e.Conn.ID] = e.Conn
			case conntrack.Update:
				assert.Contains(t, live, e.Conn.ID)
				live[e.Conn.ID] = e.Conn
			case conntrack.Close:
				assert.Equal(t, live[e.Conn.ID], e.Conn, "with the last counters")
				delete(live, e.Conn.ID)
			}
		}
		assert.Len(t, live, 300)
		assert.Equal(t, 300+60*3*3, events)
	})
}
