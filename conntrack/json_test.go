package conntrack

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEventMarshalJSON(t *testing.T) {
	at := time.Date(2024, 2, 29, 13, 0, 0, 1000, time.FixedZone("", 3600))
	full := Conn{
		ID: 1, Proto: TCP, State: CloseWait, Direction: In,
		Local:   netip.MustParseAddrPort("[2001:db8::1]:443"),
		Peer:    netip.MustParseAddrPort("[2001:db8::2]:50000"),
		Process: Process{PID: 7, Comm: "nginx", Exe: "/usr/sbin/nginx", Container: strings.Repeat("0a", 32)},
		Sharers: []Process{{PID: 8, Comm: "nginx"}},
		UID:     33, Tx: 1 << 60, Rx: 2, RTT: 1234567 * time.Nanosecond, Opened: at,
	}
	for _, tt := range []struct {
		name  string
		event Event
		want  string
	}{
		{"all fields", Event{Kind: Update, Time: at, Conn: full},
			`{"event":"update","time":"2024-02-29T12:00:00.000001Z","proto":"tcp","state":"close-wait","direction":"in","local":"[2001:db8::1]:443","peer":"[2001:db8::2]:50000","pid":7,"comm":"nginx","exe":"/usr/sbin/nginx","uid":33,"container":"` + strings.Repeat("0a", 32) + `","sharers":[{"pid":8,"comm":"nginx"}],"tx_bytes":1152921504606846976,"rx_bytes":2,"rtt_us":1234,"opened":"2024-02-29T12:00:00.000001Z"}`},
		{"unknown is absent, root is not", Event{Kind: Close, Time: at, Conn: Conn{Proto: UDP, Local: full.Local, Peer: full.Peer}},
			`{"event":"close","time":"2024-02-29T12:00:00.000001Z","proto":"udp","local":"[2001:db8::1]:443","peer":"[2001:db8::2]:50000","uid":0}`},
		{"lost", Event{Kind: Lost, Time: at, Lost: 3},
			`{"event":"lost","time":"2024-02-29T12:00:00.000001Z","lost":3}`},
		{"hostile name", Event{Kind: Open, Time: at, Conn: Conn{Proto: UDP, Process: Process{PID: 1, Comm: "a\n\"\xff"}}},
			`{"event":"open","time":"2024-02-29T12:00:00.000001Z","proto":"udp","pid":1,"comm":"a\n\"\ufffd","uid":0}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := json.Marshal(tt.event)
			require.NoError(t, err)
			assert.Equal(t, tt.want, string(got))
		})
	}
}
