package conntracktest_test

import (
	"context"
	"fmt"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/conntracktest"
)

func ExampleConns() {
	for _, c := range conntracktest.Conns(3, 1) {
		fmt.Println(c.Opened.Format("15:04:05.00"), c.Proto, c.Direction, c.Process.Comm, c.Peer.Port())
	}
	// Output:
	// 12:00:00.00 tcp in nginx 44266
	// 12:00:00.01 tcp in nginx 59226
	// 12:00:00.02 tcp in nginx 57465
}

// A Source is followed as a collector is.
func ExampleSource() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	opened, closed := 0, 0
	for e, err := range (conntracktest.Source{N: 100, Seed: 1}).Events(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		switch e.Kind {
		case conntrack.Open:
			opened++
		case conntrack.Close:
			closed++
		}
		if opened == 100 {
			break
		}
	}
	fmt.Println(opened, closed)
	// Output: 100 0
}
