package conntrack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

// Follow the connections of this host for ten seconds.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	c, err := conntrack.New(conntrack.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer c.Close()
	if why := c.Info().Limited; why != "" {
		fmt.Fprintln(os.Stderr, "not everything is seen:", why)
	}
	for e, err := range c.Events(ctx) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		fmt.Println(e.Kind, e.Conn.Direction, e.Conn.Process.Comm, e.Conn.Peer)
	}
}

func ExampleEvent_MarshalJSON() {
	line, err := json.Marshal(conntrack.Event{
		Kind: conntrack.Open,
		Time: time.Date(2024, 2, 29, 12, 0, 0, 5e8, time.UTC),
		Conn: conntrack.Conn{
			Proto:     conntrack.TCP,
			Direction: conntrack.Out,
			Local:     netip.MustParseAddrPort("192.0.2.1:50000"),
			Peer:      netip.MustParseAddrPort("198.51.100.7:443"),
			Process:   conntrack.Process{PID: 4711, Comm: "curl"},
			UID:       1000,
			Rx:        5120,
		},
	})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(string(line))
	// Output:
	// {"event":"open","time":"2024-02-29T12:00:00.5Z","proto":"tcp","direction":"out","local":"192.0.2.1:50000","peer":"198.51.100.7:443","pid":4711,"comm":"curl","uid":1000,"tx_bytes":0,"rx_bytes":5120}
}
