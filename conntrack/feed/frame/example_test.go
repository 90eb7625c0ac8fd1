package frame_test

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// An agent reports a connection and its end, over a buffer instead of a network.
func Example() {
	var wire bytes.Buffer
	if err := report(&wire); err != nil {
		fmt.Println(err)
		return
	}
	if err := receive(&wire); err != nil {
		fmt.Println(err)
	}
	// Output:
	// all connections: 1
	// close of 198.51.100.2:443
}

func report(wire io.Writer) error {
	table, err := frame.OpenTable(frame.TableOptions{})
	if err != nil {
		return err
	}
	c := conntrack.Conn{ID: 1, Proto: conntrack.TCP, Local: netip.MustParseAddrPort("192.0.2.1:40000"), Peer: netip.MustParseAddrPort("198.51.100.2:443"), Opened: time.Now()}
	table.Add(conntrack.Event{Kind: conntrack.Open, Time: time.Now(), Conn: c})

	// A real server sends the welcome.
	r := table.Report(frame.Welcome{MaxConns: 100, Acks: true}, func(f frame.Frame) error { return frame.Write(wire, f) })
	defer r.Close()
	if err := r.Flush(time.Now()); err != nil {
		return err
	}
	table.Add(conntrack.Event{Kind: conntrack.Close, Time: time.Now(), Conn: c})
	return r.Finish()
}

func receive(wire io.Reader) error {
	receiver, frames := frame.Receiver{MaxConns: 100}, frame.NewReader(wire)
	for {
		kind, body, err := frames.Next(frame.MaxSize)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch kind {
		case frame.TypeFull:
			conns, whole, err := receiver.Full(body, time.Now())
			if err != nil {
				return err
			}
			if whole {
				fmt.Println("all connections:", len(conns))
			}
		case frame.TypeDelta, frame.TypeResend:
			d, err := receiver.Delta(kind, body, time.Now())
			if err != nil {
				return err
			}
			for _, e := range d.Events {
				fmt.Println(e.Kind, "of", e.Conn.Peer)
			}
		}
	}
}
