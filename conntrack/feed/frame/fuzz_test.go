package frame

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/connmapgo/connmap/conntrack"
)

func frameSeeds() (seeds [][]byte) {
	conns, events, run := []conntrack.Conn{testConn(1, 2)}, closes(1, 1), Run{1}
	named := testConn(3, 443)
	named.Name, named.NameSource = "www.example.com", conntrack.NameQUIC
	for _, f := range []Frame{
		Full{Seq: 1, Conns: conns}, Delta{Seq: 2, Events: events, Lost: 1},
		Hello{Version: 1, Name: "nas", Run: run, Limited: "x"},
		Welcome{Version: 1, MaxConns: 9, Acks: true, Last: 7},
		Full{Seq: 3, More: true, Conns: conns}, Ping{}, Ack{Seq: 2},
		Ask{Run: run}, Answer{Run: run, Number: 3}, Delta{Seq: 4, Events: events, Lost: 1, Run: run, Number: 5},
		Full{Seq: 5, Conns: append(conns, named)}, Delta{Seq: 6, Events: []conntrack.Event{{Kind: conntrack.Update, Conn: named}}},
	} {
		var b bytes.Buffer
		Write(&b, f)
		seeds = append(seeds, b.Bytes()[4:])
	}
	return seeds
}

func FuzzFrames(f *testing.F) {
	for _, s := range frameSeeds() {
		f.Add(s)
	}
	f.Add([]byte{0x84, 4, 1, 0xf4, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := clock{now: time.UnixMicro(time.Now().UnixMicro()), skew: time.Hour}
		check := func(conn conntrack.Conn) {
			if !conn.Peer.IsValid() || !conn.Local.IsValid() || conn.Peer.Addr().Is4In6() || conn.Local.Addr().Is4In6() || conn.Opened.After(c.now) ||
				!conn.Equal(Clean(conn)) || conn.RTT < 0 {
				t.Fatalf("%+v", conn)
			}
		}
		kind, _, err := NewReader(bytes.NewReader(b)).Next(MaxGreeting)
		if err == nil && kind > 0x17 {
			t.Fatalf("frame of type %d", kind)
		}
		// What it is of is what its type says, but also what others say.
		_, body, err := NewReader(bytes.NewReader(framed(string(b)))).Next(MaxSize)
		if err != nil {
			return
		}
		for _, t := range []Type{TypeDelta, TypeResend} {
			_, rows, err := decodeDelta(t, body)
			if err != nil {
				continue
			}
			events, err := decodeEvents(rows, c)
			if err == nil {
				for _, e := range events {
					check(e.Conn)
				}
			}
		}
		var full fullBody[cbor.RawMessage]
		if Decode(body, &full) == nil {
			conns, err := appendConns(nil, full.Rows, c)
			if err == nil {
				for _, conn := range conns {
					check(conn)
				}
				list, memory := make([]any, len(conns)), new(rows)
				for i := range conns {
					list[i] = memory.add(&conns[i])
				}
				raw, err := cbor.Marshal(list)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := appendConns(nil, raw, clock{now: c.now}); err != nil || !slices.EqualFunc(again, conns, conntrack.Conn.Equal) {
					t.Fatalf("%v: %+v became %+v", err, conns, again)
				}
			}
		}
		for _, f := range []any{new(Hello), new(Welcome), new(Ack), new(Ping), new(Ask), new(Answer)} {
			Decode(body, f)
		}
	})
}

// FuzzReceive is a server that answers anything.
func FuzzReceive(f *testing.F) {
	for _, s := range frameSeeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tb, err := OpenTable(TableOptions{Spool: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tb.spool.putUnsent(closes(1, 1), 1); err != nil {
			t.Fatal(err)
		}
		tb.spool.batches[0].run, tb.spool.batches[0].answered = Run{1}, false // as of an earlier run
		r := tb.Report(Welcome{MaxConns: 10, Acks: true, Runs: true}, func(Frame) error { return nil })
		tb.Add(closes(1, 1)[0])
		for range 3 {
			if err := r.Flush(time.Now()); err != nil {
				t.Fatal(err)
			}
			kind, body, err := NewReader(bytes.NewReader(framed(string(b)))).Next(MaxSize)
			if err == nil {
				r.Receive(kind, body)
			}
			count := 0
			for _, d := range tb.inFlight {
				count += len(d.closes)
			}
			if tb.inFlightCloses != count || tb.spoolInFlight && len(tb.spool.batches) == 0 {
				t.Fatalf("%d closes are in flight, not %d", count, tb.inFlightCloses)
			}
		}
	})
}

// FuzzSpool is a file of the spool that holds anything.
func FuzzSpool(f *testing.F) {
	b, err := cbor.Marshal(spooledBody[[]eventRow]{Number: 1, Lost: 2, Rows: new(rows).events(nil, closes(1, 1))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(append(b, b...))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		b := batch{closes: 2, lost: 4}
		if err := os.WriteFile(filepath.Join(dir, b.fileName()), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSpool(dir)
		if err != nil || len(s.batches) != 1 {
			t.Fatal(s, err)
		}
		ends, lost := 0, uint64(0)
		for _, d := range s.readFirst() {
			ends, lost = ends+len(d.closes), lost+d.lost
		}
		if ends+int(lost) != 6 {
			t.Fatalf("%d ends and %d lost of 2 and 4", ends, lost)
		}
	})
}
