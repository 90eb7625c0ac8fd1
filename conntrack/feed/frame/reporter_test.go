package frame

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
)

// TestStatesOfOlderServers: a server that does not know the states of sockets gets none.
func TestStatesOfOlderServers(t *testing.T) {
	c := testConn(1, 443)
	c.State = conntrack.CloseWait
	older := newTable()
	older.Add(conntrack.Event{Kind: conntrack.Open, Conn: c})
	var states []conntrack.State
	r := older.Report(Welcome{MaxConns: 10, Acks: true}, func(f Frame) error {
		switch f := f.(type) {
		case Full:
			states = append(states, f.Conns[0].State)
		case Delta:
			states = append(states, f.Events[0].Conn.State)
		}
		return nil
	})
	require.NoError(t, r.Flush(time.Now()))
	older.Add(conntrack.Event{Kind: conntrack.Close, Conn: c})
	require.NoError(t, r.Finish())
	assert.Equal(t, []conntrack.State{0, 0}, states, "it would refuse anything else")
}
