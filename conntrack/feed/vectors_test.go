package feed

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
)

var update = flag.Bool("update", false, "write the test vectors anew")

// TestVectors compares what is sent with testdata/vectors.txt, by which a client or a
// server in another language can be tested.
func TestVectors(t *testing.T) {
	var token Token
	for i := range token.secret {
		token.secret[i] = byte(i)
	}
	for i := range token.pin {
		token.pin[i] = byte(0x80 + i)
	}
	channel := bytes.Repeat([]byte{0x42}, 32)
	agent, err := proofOn(channel, token, roleAgent)
	require.NoError(t, err)
	server, err := proofOn(channel, token, roleServer)
	require.NoError(t, err)
	at := time.UnixMicro(1_770_000_000_000_000)
	v4 := conntrack.Conn{ID: 7, Proto: conntrack.TCP, Direction: conntrack.Out, Local: netip.MustParseAddrPort("192.0.2.1:40000"), Peer: netip.MustParseAddrPort("198.51.100.2:443"),
		Process: conntrack.Process{PID: 5, Comm: "ssh", Exe: "/usr/bin/ssh"}, UID: 1000, Tx: 88_000, Rx: 3_200_000, RTT: 41 * time.Millisecond, Opened: at}
	v6 := conntrack.Conn{ID: 1 << 40, Proto: conntrack.UDP, Direction: conntrack.In, Local: netip.MustParseAddrPort("[2001:db8::1]:53"), Peer: netip.MustParseAddrPort("[2001:db8::2]:50000"),
		Process: conntrack.Process{Comm: "named", Container: "c0ffee"}, Opened: at}
	waits := v4
	waits.State = conntrack.CloseWait
	frames := []struct {
		name  string
		frame frame
	}{
		{"proof of the agent", proofFrame{Proof: agent}},
		{"proof of the server", proofFrame{Proof: server}},
		{"hello", helloFrame{Version: version, Name: "nas", Run: bytes.Repeat([]byte{1}, runLen), Wall: at.UnixMicro(), Backend: "ebpf", Limited: "needs root"}},
		{"welcome", welcomeFrame{Version: version, MaxConns: 20_000, Acks: true, Last: 3}},
		{"full", fullFrame{Seq: 1, Conns: []conntrack.Conn{v4, v6}}},
		{"welcome of a server that takes states", welcomeFrame{Version: version, MaxConns: 20_000, Acks: true, Last: 3, States: true}},
		{"welcome of a server that says what it has heard", welcomeFrame{Version: version, MaxConns: 20_000, Acks: true, Last: 3, Recorded: 2, States: true, Heard: 3}},
		{"full with a state", fullFrame{Seq: 1, Conns: []conntrack.Conn{waits}}},
		{"delta", deltaFrame{Seq: 2, Events: []conntrack.Event{
			{Kind: conntrack.Open, Time: at, Conn: v6},
			{Kind: conntrack.Update, Time: at.Add(time.Second), Conn: v4},
			{Kind: conntrack.Close, Time: at.Add(2 * time.Second), Conn: v4},
		}, Lost: 9}},
		{"hello of a client that names its run before", helloFrame{Version: version, Name: "nas", Run: bytes.Repeat([]byte{1}, runLen), Wall: at.UnixMicro(), Before: bytes.Repeat([]byte{2}, runLen)}},
		{"welcome of a server that knows runs", welcomeFrame{Version: version, MaxConns: 20_000, Acks: true, States: true, Runs: true}},
		{"ask", askFrame{Run: bytes.Repeat([]byte{2}, runLen)}},
		{"answer", answerFrame{Run: bytes.Repeat([]byte{2}, runLen), Number: 4}},
		{"again", deltaFrame{Seq: 3, Events: []conntrack.Event{
			{Kind: conntrack.Close, Time: at.Add(2 * time.Second), Conn: v4},
		}, Lost: 9, Run: [runLen]byte(bytes.Repeat([]byte{2}, runLen)), Number: 5}},
		{"ack", ackFrame{Seq: 2}},
		{"ping", pingFrame{}},
		{"bye", byeFrame{Code: byeAgents}},
	}
	var got strings.Builder
	fmt.Fprintf(&got, "# What protocol version 1 sends: frames with their lengths, in hexadecimal.\n"+
		"# The proofs are of this token, on a channel that exports 32 bytes of 42.\ntoken: %s\n", token)
	for _, f := range frames {
		var b bytes.Buffer
		require.NoError(t, writeFrame(&b, f.frame))
		fmt.Fprintf(&got, "%s: %s\n", f.name, hex.EncodeToString(b.Bytes()))
	}
	const file = "testdata/vectors.txt"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), got.String(), "it would speak another protocol than before")
}
