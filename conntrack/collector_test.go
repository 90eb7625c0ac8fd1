package conntrack

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewRefuses(t *testing.T) {
	_, err := New(Options{Backend: "pcap"})
	assert.ErrorContains(t, err, `conntrack: unknown backend "pcap"`)
	_, err = New(Options{Interval: -1})
	assert.ErrorContains(t, err, "conntrack: the interval -1ns is negative")
}

func conn(id uint64, peer string, tx uint64) Conn {
	return Conn{ID: id, Proto: TCP, Peer: netip.MustParseAddrPort(peer), Tx: tx, Opened: time.Unix(1, 0)}
}

func TestWatchChanges(t *testing.T) {
	a, b := conn(1, "192.0.2.1:80", 0), conn(2, "192.0.2.2:80", 0)
	moreA := a
	moreA.Tx = 5
	slowA := moreA
	slowA.RTT = time.Second
	ownedA := slowA
	ownedA.Process.PID = 3
	elsewhereA := conn(1, "192.0.2.3:80", 0)
	now := time.Unix(9, 0)
	var w watch
	for _, step := range []struct {
		name  string
		conns []Conn
		want  []Event
	}{
		{"nothing at first", nil, nil},
		{"open", []Conn{a, b}, []Event{{Kind: Open, Time: now, Conn: a}, {Kind: Open, Time: now, Conn: b}}},
		{"no change", []Conn{b, a}, nil},
		{"counters", []Conn{moreA, b}, []Event{{Kind: Update, Time: now, Conn: moreA}}},
		{"round-trip time alone", []Conn{slowA, b}, nil},
		{"owner", []Conn{ownedA, b}, []Event{{Kind: Update, Time: now, Conn: ownedA}}},
		{"another peer", []Conn{elsewhereA, b}, []Event{{Kind: Close, Time: now, Conn: ownedA}, {Kind: Open, Time: now, Conn: elsewhereA}}},
		{"close", []Conn{elsewhereA}, []Event{{Kind: Close, Time: now, Conn: b}}},
		{"one for another", []Conn{b}, []Event{{Kind: Open, Time: now, Conn: b}, {Kind: Close, Time: now, Conn: elsewhereA}}},
		{"close last", nil, []Event{{Kind: Close, Time: now, Conn: b}}},
	} {
		var got []Event
		assert.True(t, w.changes(now, step.conns, func(e Event) bool {
			got = append(got, e)
			return true
		}), step.name)
		assert.Equal(t, step.want, got, step.name)
	}
	assert.False(t, w.changes(now, []Conn{a, b}, func(Event) bool { return false }))
}

// Whoever applies the events of a watch must hold what the snapshot held.
func TestWatchAgainstSnapshots(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var w watch
	held := map[uint64]Conn{}
	for range 2000 {
		var conns []Conn
		for id := range uint64(12) {
			if r.IntN(3) > 0 {
				conns = append(conns, conn(id, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(8) / 7)}), 80).String(), r.Uint64N(2)))
			}
		}
		w.changes(time.Time{}, conns, func(e Event) bool {
			old, ok := held[e.Conn.ID]
			switch e.Kind {
			case Open:
				require.False(t, ok, "opened twice")
				held[e.Conn.ID] = e.Conn
			case Update:
				require.True(t, ok, "update before open")
				require.NotEqual(t, old, e.Conn, "update without change")
				held[e.Conn.ID] = e.Conn
			case Close:
				require.Equal(t, old, e.Conn, "last counters")
				delete(held, e.Conn.ID)
			}
			return true
		})
		require.Len(t, held, len(conns))
		for _, c := range conns {
			require.Equal(t, c, held[c.ID])
		}
	}
}

// polls is a backend that returns one snapshot after the other, then fails.
type polls struct{ conns [][]Conn }

func (p *polls) snapshot(ctx context.Context, dst []Conn) ([]Conn, error) {
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	if len(p.conns) == 0 {
		return dst, io.ErrUnexpectedEOF
	}
	dst = append(dst, p.conns[0]...)
	p.conns = p.conns[1:]
	return dst, nil
}

func (p *polls) events(ctx context.Context, interval time.Duration, yield func(Event) bool) error {
	return poll(ctx, interval, p.snapshot, yield)
}

func (*polls) info() Info   { return Info{} }
func (*polls) close() error { return nil }

func TestEvents(t *testing.T) {
	a := conn(1, "192.0.2.1:80", 0)
	synctest.Test(t, func(t *testing.T) {
		c := &Collector{time.Second, &polls{[][]Conn{{a}, {a}, {}}}}
		start := time.Now()
		var kinds []Kind
		var last error
		for e, err := range c.Events(t.Context()) {
			last = err
			if err == nil {
				kinds = append(kinds, e.Kind)
			}
		}
		assert.Equal(t, []Kind{Open, Close}, kinds)
		assert.ErrorIs(t, last, io.ErrUnexpectedEOF)
		assert.ErrorContains(t, last, "conntrack: ")
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestEventsEndWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Collector{time.Hour, &polls{[][]Conn{{conn(1, "192.0.2.1:80", 0)}}}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n := 0
		for _, err := range c.Events(ctx) {
			require.NoError(t, err)
			n++
		}
		assert.Equal(t, 1, n)
		assert.True(t, errors.Is(ctx.Err(), context.DeadlineExceeded))
	})
}

// TestParse: what String writes is read again, and nothing else.
func TestParse(t *testing.T) {
	for p := range 256 {
		got, ok := ParseProto(Proto(p).String())
		assert.True(t, ok, p)
		assert.Equal(t, Proto(p), got)
	}
	for _, s := range []string{"", "6", "TCP", "256", "-1", "047", "+47", "tcp "} {
		got, ok := ParseProto(s)
		assert.False(t, ok, s)
		assert.Zero(t, got)
	}
	for _, d := range []Direction{Unknown, In, Out} {
		got, ok := ParseDirection(d.String())
		assert.True(t, ok, d)
		assert.Equal(t, d, got)
	}
	_, ok := ParseDirection("inn")
	assert.False(t, ok)
}

func TestNames(t *testing.T) {
	got := []string{TCP.String(), UDP.String(), ICMP.String(), ICMPv6.String(), SCTP.String(), UDPLite.String(), Proto(47).String(), State(0).String(), FinWait1.String(), State(2).String(), Unknown.String(), In.String(), Out.String(),
		Open.String(), Update.String(), Close.String(), Lost.String(), Kind(9).String()}
	assert.True(t, slices.Equal(got, []string{"tcp", "udp", "icmp", "icmpv6", "sctp", "udplite", "47", "", "fin-wait-1", "2", "unknown", "in", "out", "open", "update", "close", "lost", "kind 9"}), "%q", got)
}

func TestBeingClosed(t *testing.T) {
	for s, want := range map[State]bool{
		0: false, Established: false, Closed: false, 2: false, FinWait1: true, FinWait2: true, CloseWait: true, LastAck: true, Closing: true,
	} {
		assert.Equal(t, want, s.BeingClosed(), s.String())
	}
}
