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
	"github.com/connmapgo/connmap/conntrack/feed/frame"
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
	joinedConn := bytes.Repeat([]byte{0x42}, 32)
	agent, err := proofOn(joinedConn, token, roleAgent)
	require.NoError(t, err)
	server, err := proofOn(joinedConn, token, roleServer)
	require.NoError(t, err)
	at := time.UnixMicro(1_770_000_000_000_000)
	v4 := conntrack.Conn{ID: 7, Proto: conntrack.TCP, Direction: conntrack.Out, Local: netip.MustParseAddrPort("192.0.2.1:40000"), Peer: netip.MustParseAddrPort("198.51.100.2:443"),
		Process: conntrack.Process{PID: 5, Comm: "ssh", Exe: "/usr/bin/ssh"}, UID: 1000, Tx: 88_000, Rx: 3_200_000, RTT: 41 * time.Millisecond, Opened: at}
	v6 := conntrack.Conn{ID: 1 << 40, Proto: conntrack.UDP, Direction: conntrack.In, Local: netip.MustParseAddrPort("[2001:db8::1]:53"), Peer: netip.MustParseAddrPort("[2001:db8::2]:50000"),
		Process: conntrack.Process{Comm: "named", Container: "c0ffee"}, Opened: at}
	named := v4
	named.Name, named.NameSource = "git.example.com", conntrack.NameDNS
	waits := v4
	waits.State = conntrack.CloseWait
	first, second := frame.Run(bytes.Repeat([]byte{1}, 16)), frame.Run(bytes.Repeat([]byte{2}, 16))
	frames := []struct {
		name  string
		frame frame.Frame
	}{
		{"proof of the agent", proofFrame{Proof: agent}},
		{"proof of the server", proofFrame{Proof: server}},
		{"hello", frame.Hello{Version: frame.Version, Name: "nas", Run: first, Wall: at.UnixMicro(), Backend: "ebpf", Limited: "needs root"}},
		{"welcome", frame.Welcome{Version: frame.Version, MaxConns: 20_000, Acks: true, Last: 3}},
		{"full", frame.Full{Seq: 1, Conns: []conntrack.Conn{v4, v6}}},
		{"welcome of a server that takes states", frame.Welcome{Version: frame.Version, MaxConns: 20_000, Acks: true, Last: 3, States: true}},
		{"welcome of a server that says what it has heard", frame.Welcome{Version: frame.Version, MaxConns: 20_000, Acks: true, Last: 3, Recorded: 2, States: true, Heard: 3}},
		{"full with a state", frame.Full{Seq: 1, Conns: []conntrack.Conn{waits}}},
		{"delta", frame.Delta{Seq: 2, Events: []conntrack.Event{
			{Kind: conntrack.Open, Time: at, Conn: v6},
			{Kind: conntrack.Update, Time: at.Add(time.Second), Conn: v4},
			{Kind: conntrack.Close, Time: at.Add(2 * time.Second), Conn: v4},
		}, Lost: 9}},
		{"hello of a client that names its run before", frame.Hello{Version: frame.Version, Name: "nas", Run: first, Wall: at.UnixMicro(), Before: second}},
		{"welcome of a server that knows runs", frame.Welcome{Version: frame.Version, MaxConns: 20_000, Acks: true, States: true, Runs: true}},
		{"ask", frame.Ask{Run: second}},
		{"answer", frame.Answer{Run: second, Number: 4}},
		{"again", frame.Delta{Seq: 3, Events: []conntrack.Event{
			{Kind: conntrack.Close, Time: at.Add(2 * time.Second), Conn: v4},
		}, Lost: 9, Run: second, Number: 5}},
		{"welcome of a server that takes names", frame.Welcome{Version: frame.Version, MaxConns: 20_000, Acks: true, States: true, Runs: true, Names: true}},
		{"full with a name", frame.Full{Seq: 1, Conns: []conntrack.Conn{v6, named}}},
		{"ack", frame.Ack{Seq: 2}},
		{"ping", frame.Ping{}},
		{"bye", byeFrame{Code: byeAgents}},
	}
	var got strings.Builder
	fmt.Fprintf(&got, "# What protocol version 1 sends: frames with their lengths, in hexadecimal.\n"+
		"# The proofs are of this token, on a channel that exports 32 bytes of 42.\ntoken: %s\n", token)
	for _, f := range frames {
		var b bytes.Buffer
		require.NoError(t, frame.Write(&b, f.frame))
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
