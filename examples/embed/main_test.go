package main

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
)

// joins is a map that only waits for agents.
type joins chan feed.Agent

func (j joins) Join(a feed.Agent)                 { j <- a }
func (joins) Full(feed.Agent, []conntrack.Conn)   {}
func (joins) Delta(feed.Agent, []conntrack.Event) {}
func (joins) Leave(feed.Agent)                    {}

func TestReport(t *testing.T) {
	id, err := feed.LoadIdentity(t.TempDir())
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	agents := make(joins, 1)
	ctx, cancel := context.WithCancel(t.Context())
	served, reported := make(chan error, 1), make(chan error, 1)
	go func() { served <- (&feed.Server{Identity: id, Handler: agents}).Serve(ctx, l) }()
	go func() {
		reported <- report(ctx, l.Addr().String(), id.Token().String(), filepath.Join(t.TempDir(), "key.pem"))
	}()
	select {
	case a := <-agents:
		assert.NotEmpty(t, a.Name)
	case err := <-reported:
		t.Skip("this machine's connections cannot be read: ", err)
	case <-time.After(time.Minute):
		t.Fatal("the agent did not join")
	}
	cancel()
	assert.NoError(t, <-reported)
	assert.NoError(t, <-served)
	assert.Error(t, report(t.Context(), "map", "no token", ""))
}
