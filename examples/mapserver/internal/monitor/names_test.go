package monitor

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/history/sqlite"
	"github.com/connmapgo/connmap/internal/peernames"
)

// TestPeerNames: a name may become known late; it counts for the rule, is shown and recorded as far as it
// is to be kept, and found by the peer's address.
func TestPeerNames(t *testing.T) {
	for mode, want := range map[peernames.Mode]string{peernames.Full: "www.example.com", peernames.Domain: "example.com", peernames.Off: ""} {
		db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "h.sqlite"), sqlite.Options{})
		require.NoError(t, err)
		m := newMonitor(t, "\"Named\",name,*.com,1,2,3,255,0,0\n\"Whole\",name,www.example.com,1,2,3,255,0,0\n\"Domain\",name,example.com,1,2,3,255,0,0\n")
		m.Names = mode
		w := db.Writer()
		m.History, m.Writer = db, w
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { m.Run(ctx); close(ended) }()
		a := agentOf(m)
		c, peer := conn(1, "203.0.113.5:443"), netip.MustParseAddr("203.0.113.5")
		c.Process = conntrack.Process{PID: 1, Comm: "curl"}
		m.Full(a, []conntrack.Conn{c})
		st, _ := published(m)
		assert.Empty(t, st.Conns[0].Name)
		assert.Equal(t, "Other", st.Rules[st.Conns[0].Rule].Label)
		c.Name, c.NameSource = "www.example.com", conntrack.NameSNI
		m.Delta(a, []conntrack.Event{{Kind: conntrack.Update, Conn: c}})
		st, _ = published(m)
		assert.Equal(t, want, st.Conns[0].Name)
		label, source := "Named", "sni"
		if want == "" {
			label, source = "Other", ""
		}
		assert.Equal(t, label, st.Rules[st.Conns[0].Rule].Label)
		assert.Equal(t, source, st.Conns[0].NameSource.String())
		names, err := m.PeerNames(t.Context(), peer)
		require.NoError(t, err)
		if want == "" {
			assert.Empty(t, names)
		} else {
			require.Len(t, names, 1)
			assert.Equal(t, want, names[0].Name)
			assert.Equal(t, []string{"curl"}, names[0].Programs)
		}
		m.Delta(a, []conntrack.Event{{Kind: conntrack.Close, Conn: c, Time: time.Now()}})
		cancel()
		<-ended
		require.NoError(t, w.Close())
		found := 0
		for row, err := range db.Newest(t.Context()) {
			require.NoError(t, err)
			found++
			assert.Equal(t, [2]string{want, source}, [2]string{row.PeerName, row.PeerNameSource})
			past := m.past(row)
			assert.Equal(t, want, past.Name)
			assert.Equal(t, source, past.NameSource.String())
		}
		assert.Equal(t, 1, found)
		m.Publish()
		names, err = m.PeerNames(t.Context(), peer)
		require.NoError(t, err)
		assert.Len(t, names, min(len(want), 1), "of the history")
		require.NoError(t, db.Close())
	}
}
