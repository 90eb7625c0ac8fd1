package frame

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
)

func testConn(id uint64, port uint16) conntrack.Conn {
	return conntrack.Conn{ID: id, Proto: conntrack.TCP, Direction: conntrack.Out,
		Local: netip.MustParseAddrPort("192.0.2.1:1000"), Peer: netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), port),
		Process: conntrack.Process{PID: 5, Comm: "ssh", Exe: "/usr/bin/ssh", Container: strings.Repeat("ab", 32)},
		UID:     1000, Tx: 1, Rx: 2, RTT: 3 * time.Microsecond, Opened: time.UnixMicro(time.Now().UnixMicro())}
}

// framed puts the length before a frame.
func framed(f string) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(f))), f...) }

func manyConns(n int) []conntrack.Conn {
	conns := make([]conntrack.Conn, n)
	for i := range conns {
		conns[i] = testConn(uint64(i), 1)
		conns[i].Process.Container = ""
	}
	return conns
}

// TestMemoryOfFrames: what a frame makes the server allocate is in proportion
// to its size.
func TestMemoryOfFrames(t *testing.T) {
	nulls := append([]byte{0x84, 4, 1, 0xf4, 0x99, 0x0f, 0xff}, make([]byte, 4095)...)
	for i := range 4095 {
		nulls[7+i] = 0xf6
	}
	var honest bytes.Buffer
	require.NoError(t, Write(&honest, Full{Seq: 1, Conns: manyConns(2000)}))
	for name, b := range map[string][]byte{"nulls": framed(string(nulls)), "honest": honest.Bytes()} {
		_, body, err := NewReader(bytes.NewReader(b)).Next(MaxSize)
		require.NoError(t, err)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var full fullBody[cbor.RawMessage]
		require.NoError(t, Decode(body, &full))
		appendConns(nil, full.Rows, clock{now: time.Now()})
		runtime.ReadMemStats(&after)
		times := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(b))
		assert.Less(t, times, 30.0, "%s: bytes allocated in total for each byte", name)
	}
}

func TestClock(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name         string
		wall, opened time.Time
		want         time.Time
	}{
		{"right", now.Add(-time.Second), now.Add(-time.Hour), now.Add(-time.Hour)},
		{"hour behind", now.Add(-time.Hour), now.Add(-2 * time.Hour), now.Add(-time.Hour)},
		{"hour ahead", now.Add(time.Hour), now, now.Add(-time.Hour)},
		{"1970", time.Unix(100, 0), time.Unix(40, 0), now.Add(-time.Minute)},
		{"2038", time.Unix(1<<31, 0), time.Unix(1<<31-60, 0), now.Add(-time.Minute)},
		{"in the future", now, now.Add(time.Minute), now},
		{"in the far past", now, time.Unix(0, 0), now},
		{"absurd", time.UnixMicro(-1 << 63), time.UnixMicro(1<<63 - 1), now},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := clock{now, Hello{Wall: tt.wall.UnixMicro()}.Skew(now)}
			got := c.time(tt.opened.UnixMicro())
			assert.WithinDuration(t, tt.want, got, 2*skewBelieved)
			assert.False(t, got.After(now.Add(2*skewBelieved)))
			for later := time.Microsecond; later < 2*skewBelieved; later *= 7 {
				assert.NotEqual(t, got, c.time(tt.opened.UnixMicro()-later.Microseconds()), "%v before", later)
			}
		})
	}
}

// TestClockIsSteady: by the time that it opened a connection is known again on another
// link, so it must not depend on when hello arrived.
func TestClockIsSteady(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, ahead := range []time.Duration{-601 * time.Second, -4 * time.Second, 0, time.Second, 4900 * time.Millisecond, 3 * time.Hour} {
		opened := now.Add(ahead)
		var first time.Time
		for _, later := range []time.Duration{0, 7 * time.Millisecond, time.Second, time.Minute} {
			// Another link, whose hello took 20 ms longer each time.
			at := now.Add(later)
			c := clock{at, Hello{Wall: at.Add(ahead - later/50).UnixMicro()}.Skew(at)}
			if got := c.time(opened.UnixMicro()); first.IsZero() {
				first = got
			} else if later < time.Minute {
				assert.Equal(t, first, got, "%v ahead, told after %v", ahead, later)
			}
		}
	}
}

// TestWriteNoFrame: a pointer, which would be encoded as a map, is refused.
func TestWriteNoFrame(t *testing.T) {
	assert.ErrorContains(t, Write(io.Discard, &Hello{}), "not a frame")
	assert.ErrorContains(t, Write(io.Discard, &Full{}), "not a frame")
	assert.NoError(t, Write(io.Discard, &Ping{}))
}

// TestRowSize: what a connection takes in a frame is never underestimated.
func TestRowSize(t *testing.T) {
	long := strings.Repeat("x", 1000)
	c := conntrack.Conn{ID: 1<<64 - 1, Proto: 255, State: 12, Direction: 2,
		Local: netip.MustParseAddrPort("[2001:db8::1]:65535"), Peer: netip.MustParseAddrPort("[2001:db8::2]:65535"),
		Process: conntrack.Process{PID: 1<<31 - 1, Comm: long, Exe: long, Container: long},
		UID:     1<<32 - 1, Tx: 1<<64 - 1, Rx: 1<<64 - 1, RTT: 1<<63 - 1, Opened: time.UnixMicro(-1 << 60)}
	for range 2 {
		b, err := cbor.Marshal(new(rows).add(&c))
		require.NoError(t, err)
		assert.LessOrEqual(t, len(b), rowSize(&c))
		c.Name, c.NameSource = long, conntrack.NameHost
	}
	b, err := cbor.Marshal(new(rows).add(&c))
	require.NoError(t, err)
	assert.LessOrEqual(t, len(b), rowSize(&c))
	event, err := cbor.Marshal(new(rows).events(nil, []conntrack.Event{{Kind: 3, Time: c.Opened, Conn: c}})[0])
	require.NoError(t, err)
	assert.LessOrEqual(t, len(event), rowSize(&c)+maxEventExtra)
	small := new(rows).add(&conntrack.Conn{Local: netip.MustParseAddrPort("0.0.0.0:0"), Peer: netip.MustParseAddrPort("0.0.0.0:0"), Opened: time.UnixMicro(0)})
	b, err = cbor.Marshal(small)
	require.NoError(t, err)
	assert.Len(t, b, minRow)

	conns := make([]conntrack.Conn, 5000)
	for i := range conns {
		conns[i] = c
	}
	n, frames := 0, 0
	for part, more := range parts(conns, rowSize) {
		n += len(part)
		frames++
		require.NoError(t, Write(io.Discard, Full{Seq: 1<<64 - 1, More: more, Conns: part}))
		deltas := []spooledDelta{{number: 1<<64 - 1, lost: 1<<64 - 1}}
		for _, c := range part {
			deltas = append(deltas, spooledDelta{1<<64 - 1, 0, []conntrack.Event{{Kind: conntrack.Close, Time: c.Opened, Conn: c}}})
		}
		for _, d := range packed(deltas) {
			require.NoError(t, Write(io.Discard, Delta{Seq: 1<<64 - 1, Events: d.closes, Lost: d.lost, Run: Run{1}, Number: d.number}))
		}
		assert.Equal(t, n < len(conns), more)
	}
	assert.Equal(t, len(conns), n)
	assert.Greater(t, frames, 10)
}

func BenchmarkFull(b *testing.B) {
	var buf bytes.Buffer
	require.NoError(b, Write(&buf, Full{Seq: 1, Conns: manyConns(1000)}))
	_, raw, err := NewReader(&buf).Next(MaxSize)
	require.NoError(b, err)
	b.Run("decode/rows=1000", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			var f fullBody[cbor.RawMessage]
			Decode(raw, &f)
			appendConns(nil, f.Rows, clock{now: time.Now()})
		}
	})
}
