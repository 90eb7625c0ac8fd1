package feed_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/conntrack/feed"
)

// A table is what a map server makes of what agents report; this one only counts.
type table struct{ first chan string }

func (t table) Join(a feed.Agent) { fmt.Println(a.Name, "joins") }
func (t table) Full(a feed.Agent, conns []conntrack.Conn) {
	t.first <- fmt.Sprint(a.Name, " has ", len(conns) > 0, " connections")
}
func (t table) Delta(feed.Agent, []conntrack.Event) {}
func (t table) Leave(a feed.Agent)                  {}

// A server, and an agent that reports to it.
func Example() {
	dir, err := os.MkdirTemp("", "connmap")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	// The server makes a certificate and a secret the first time.
	identity, err := feed.LoadIdentity(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := table{make(chan string, 1)}
	served := make(chan error)
	go func() { served <- (&feed.Server{Identity: identity, Handler: handler}).Serve(ctx, l) }()

	// The agent needs its address and a token; its key is its own.
	token, err := feed.ParseToken(identity.Token().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := feed.LoadKey(filepath.Join(dir, "agent-key.pem"))
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &feed.Client{Addr: l.Addr().String(), Token: token, Key: key, Name: "nas", Source: conntracktest.Source{N: 5}}
	reported := make(chan error)
	go func() { reported <- client.Run(ctx) }()

	fmt.Println(<-handler.first)
	cancel()
	fmt.Println(<-reported, <-served)
	// Output:
	// nas joins
	// nas has true connections
	// <nil> <nil>
}
