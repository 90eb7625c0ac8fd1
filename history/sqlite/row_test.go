package sqlite

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewest(t *testing.T) {
	db := peers(t, "192.0.2.1", "192.0.2.2", "2001:db8::1")
	var got []string
	for r, err := range db.Newest(context.Background()) {
		require.NoError(t, err)
		got = append(got, r.Peer.Addr().String())
	}
	assert.Equal(t, []string{"2001:db8::1", "192.0.2.2", "192.0.2.1"}, got)
	for range db.Newest(context.Background()) {
		break // leaves nothing open
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, err := range db.Newest(ctx) {
		assert.ErrorIs(t, err, context.Canceled)
	}
}
