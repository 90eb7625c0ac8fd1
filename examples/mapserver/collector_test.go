package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
)

// TestTold: what the collector's process tells arrives as it was.
func TestTold(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 5, 7, 123456789, time.UTC)
	conn := conntrack.Conn{
		ID: 1<<63 + 7, Proto: conntrack.TCP, State: conntrack.CloseWait, Direction: conntrack.Out, Opened: at, Tx: 1 << 50, Rx: 7, RTT: 25 * time.Microsecond, UID: 1<<32 - 1,
		Local: netip.MustParseAddrPort("192.0.2.1:443"), Peer: netip.MustParseAddrPort("[2001:db8::1]:65535"),
		Process: conntrack.Process{PID: 42, Comm: "a\xffb", Exe: "/tmp/\xc3(\x80"}, Sharers: []conntrack.Process{{PID: 43, Comm: "x"}},
	}
	list := []message{
		{Info: &conntrack.Info{Backend: conntrack.EBPF, Limited: "few", Lost: 3, Late: 4}},
		{Event: &conntrack.Event{Kind: conntrack.Open, Time: at, Conn: conn}},
		{Event: &conntrack.Event{Kind: conntrack.Lost, Time: at, Lost: 9}},
		{Failed: "no more"},
	}
	var b bytes.Buffer
	l := &messageWriter{w: bufio.NewWriter(&b)}
	for _, x := range list {
		require.NoError(t, l.send(x))
	}
	require.NoError(t, l.flush())
	for _, want := range list {
		got, err := readMessage(&b)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	_, err := readMessage(&b)
	assert.ErrorIs(t, err, io.EOF)

	// One that many share is told without them.
	for range 1 << 15 {
		conn.Sharers = append(conn.Sharers, conntrack.Process{PID: 43, Comm: "fifteen letters"})
	}
	require.NoError(t, l.send(message{Event: &conntrack.Event{Kind: conntrack.Open, Time: at, Conn: conn}}))
	require.NoError(t, l.flush())
	got, err := readMessage(&b)
	require.NoError(t, err)
	conn.Sharers = nil
	assert.Equal(t, conn, got.Event.Conn)

	for name, in := range map[string]string{"too long": "\x00\x10\x00\x01", "nonsense": "\x00\x00\x00\x01\xff"} {
		_, err := readMessage(strings.NewReader(in))
		assert.ErrorIs(t, err, errMessage, name)
	}
	for _, in := range []string{"\x00", "\x00\x00\x00\x05abc"} {
		_, err := readMessage(strings.NewReader(in))
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut off: the process has ended")
	}
}

func FuzzReadTold(f *testing.F) {
	for _, x := range []message{{Failed: "no more"}, {Info: &conntrack.Info{Backend: conntrack.EBPF}}, {Event: &conntrack.Event{Kind: conntrack.Open, Time: time.Unix(1, 2)}}} {
		b, err := encoding.Marshal(x)
		require.NoError(f, err)
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		for {
			x, err := readMessage(r)
			if err != nil {
				return
			}
			// What was read can be told again.
			if _, err := encoding.Marshal(x); err != nil {
				t.Fatalf("%+v: %v", x, err)
			}
		}
	})
}
