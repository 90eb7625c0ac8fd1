package conntrack_test

import (
	"context"
	"fmt"
	"net"

	"github.com/connmapgo/connmap/conntrack"
)

// A connection of this process, found among those of the host.
func ExampleCollector_Snapshot() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	// Loopback is left out unless it is asked for.
	c, err := conntrack.New(conntrack.Options{Backend: conntrack.Proc, Loopback: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	conns, err := c.Snapshot(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, conn := range conns {
		if conn.Peer.String() == l.Addr().String() {
			fmt.Println(conn.Proto, conn.Direction, conn.State, conn.Process.PID > 0)
		}
	}
	// Output: tcp out established true
}
