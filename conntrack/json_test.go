package conntrack

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/terminal"
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
		{"unknown user", Event{Kind: Open, Time: at, Conn: Conn{Proto: UDP, Local: full.Local, Peer: full.Peer, UID: unknownUID}},
			`{"event":"open","time":"2024-02-29T12:00:00.000001Z","proto":"udp","local":"[2001:db8::1]:443","peer":"[2001:db8::2]:50000"}`},
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

// eventJSON is an event as encoding/json writes it.
type eventJSON struct {
	Event     string         `json:"event"`
	Time      string         `json:"time"`
	Proto     string         `json:"proto,omitzero"`
	State     string         `json:"state,omitzero"`
	Direction string         `json:"direction,omitzero"`
	Local     netip.AddrPort `json:"local,omitzero"`
	Peer      netip.AddrPort `json:"peer,omitzero"`
	PID       int            `json:"pid,omitzero"`
	Comm      string         `json:"comm,omitzero"`
	Exe       string         `json:"exe,omitzero"`
	UID       *uint32        `json:"uid,omitzero"`
	Container string         `json:"container,omitzero"`
	Sharers   []processJSON  `json:"sharers,omitempty"`
	TxBytes   *uint64        `json:"tx_bytes,omitzero"`
	RxBytes   *uint64        `json:"rx_bytes,omitzero"`
	RTT       int64          `json:"rtt_us,omitzero"`
	Opened    string         `json:"opened,omitzero"`
	Lost      *uint64        `json:"lost,omitzero"`
}

type processJSON struct {
	PID       int    `json:"pid"`
	Comm      string `json:"comm,omitzero"`
	Exe       string `json:"exe,omitzero"`
	Container string `json:"container,omitzero"`
}

// TestEventJSONLikeTwin compares with what encoding/json makes of a struct.
func TestEventJSONLikeTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "sshd", "a b", "<x>&y", "q\"\\", "tab\t", "\x7f", "é漢", "bad\xff", "\u2028", "\u009b31m\u202e\U000e0001", "\ufffd", "/usr/bin/long name"}
	process := func() Process {
		p := Process{PID: r.IntN(3), Comm: texts[r.IntN(len(texts))], Exe: texts[r.IntN(len(texts))]}
		if r.IntN(3) == 0 {
			p.Container = strings.Repeat("0a", 32)
		}
		return p
	}
	addrs := []netip.AddrPort{{}, netip.MustParseAddrPort("192.0.2.1:0"), netip.MustParseAddrPort("[fe80::1%eth0]:65535"), netip.MustParseAddrPort("[::]:1"), netip.MustParseAddrPort("[fe80::1%a\"b]:1")}
	for range 10_000 {
		at := time.Unix(r.Int64N(1<<33), r.Int64N(2)*r.Int64N(1e9)).In(time.FixedZone("", r.IntN(5)*1800))
		e := Event{Kind: Kind(r.IntN(5)), Time: at, Lost: r.Uint64N(5)}
		c := &e.Conn
		c.Proto, c.State, c.Direction = Proto(r.IntN(140)), State(r.IntN(13)), Direction(r.IntN(3))
		c.Local, c.Peer, c.Process, c.UID = addrs[r.IntN(len(addrs))], addrs[r.IntN(len(addrs))], process(), r.Uint32N(2)
		c.Tx, c.Rx, c.RTT = r.Uint64N(2)<<63, r.Uint64N(2), time.Duration(r.IntN(3000))
		if r.IntN(2) == 0 {
			c.Opened = at.Add(-time.Hour)
		}
		for range r.IntN(3) {
			c.Sharers = append(c.Sharers, process())
		}
		want := eventJSON{Event: e.Kind.String(), Time: at.UTC().Format(time.RFC3339Nano)}
		if e.Kind == Lost {
			want.Lost = &e.Lost
		} else {
			want.Proto, want.State, want.Local, want.Peer, want.UID = c.Proto.String(), c.State.String(), c.Local, c.Peer, &c.UID
			if c.Direction != Unknown {
				want.Direction = c.Direction.String()
			}
			want.PID, want.Comm, want.Exe, want.Container = c.Process.PID, c.Process.Comm, c.Process.Exe, c.Process.Container
			for _, p := range c.Sharers {
				want.Sharers = append(want.Sharers, processJSON(p))
			}
			if c.Tx != 0 || c.Rx != 0 {
				want.TxBytes, want.RxBytes = &c.Tx, &c.Rx
			}
			want.RTT = c.RTT.Microseconds()
			if !c.Opened.IsZero() {
				want.Opened = c.Opened.UTC().Format(time.RFC3339Nano)
			}
		}
		b, err := json.Marshal(want)
		require.NoError(t, err)
		got, err := e.MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, string(terminal.EscapeJSON(nil, b)), string(got))
		require.False(t, strings.ContainsFunc(string(got), terminal.Harmful), "%q", got)
		require.JSONEq(t, string(b), string(got))
	}
}
