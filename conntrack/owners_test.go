package conntrack

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// A listFunc is a lister.
type listFunc func(add func(Proto, *sock))

func (f listFunc) list(_ context.Context, add func(Proto, *sock)) error {
	f(add)
	return nil
}

func (listFunc) close() error { return nil }

// TestTold: who a table names is asked for once, and again when another process has got
// its number; who has ended keeps its name until its connections are gone.
func TestTold(t *testing.T) {
	running := map[int32]int64{40: 1, 44: 1} // when they started
	asked := 0
	w := &listedOwners{
		describe: func(pid int32) (Process, bool) {
			asked++
			if running[pid] == 0 {
				return Process{PID: int(pid)}, false
			}
			return Process{PID: int(pid), Exe: map[int64]string{1: `C:\first.exe`, 2: `C:\second.exe`}[running[pid]]}, pid == 44
		},
		started:    func(pid int32) int64 { return running[pid] },
		deniedNote: "not allowed",
	}
	var socks []sock
	l := listFunc(func(add func(Proto, *sock)) {
		for _, s := range socks {
			add(TCP, &s)
		}
	})
	p := newPoller(IPHelper, Options{}, l, w, "what is short")
	conns := func() map[uint16]Conn {
		found, err := p.snapshot(t.Context(), nil)
		require.NoError(t, err)
		byPort := make(map[uint16]Conn)
		for _, c := range found {
			byPort[c.Local.Port()] = c
		}
		return byPort
	}
	of := func(port string, pid int32) sock {
		return sock{state: stateEstablished, local: addrPort("192.0.2.1:" + port), peer: addrPort("198.51.100.2:443"), pid: pid, uid: unknownUID}
	}
	listener := sock{state: stateListen, local: addrPort("0.0.0.0:2000"), peer: addrPort("0.0.0.0:0"), pid: 40}

	socks = []sock{listener, of("1000", 40), of("2000", 40)}
	first := conns()
	require.Len(t, first, 2)
	assert.Equal(t, Process{PID: 40, Exe: `C:\first.exe`}, first[1000].Process)
	assert.Equal(t, Out, first[1000].Direction)
	assert.Equal(t, In, first[2000].Direction)
	assert.Equal(t, uint32(unknownUID), first[1000].UID)
	assert.Equal(t, 1, asked)
	assert.NotContains(t, p.info().Limited, "not allowed")
	assert.Equal(t, first, conns())
	assert.Equal(t, 1, asked)

	// The process ends; what it has closed stays for a moment.
	delete(running, 40)
	socks = []sock{of("1000", 0), of("1001", 44)}
	next := conns()
	assert.Equal(t, first[1000], next[1000])
	assert.Equal(t, 44, next[1001].Process.PID)
	assert.Contains(t, p.info().Limited, "; not allowed")

	// Its number, and the ends of its connection, are another's.
	running[40] = 2
	running[48] = 1
	socks = []sock{of("1000", 48), of("1002", 40)}
	for !time.Now().Round(0).After(first[1000].Opened) {
		time.Sleep(time.Millisecond) // the clock of Windows goes in steps
	}
	last := conns()
	assert.Equal(t, Process{PID: 40, Exe: `C:\second.exe`}, last[1002].Process)
	assert.Equal(t, Process{PID: 48, Exe: `C:\first.exe`}, last[1000].Process)
	assert.True(t, last[1000].Opened.After(first[1000].Opened), "another connection")
	socks = nil
	assert.Empty(t, conns())
	assert.Empty(t, w.byPID)
}

// listOf collects what a parser finds.
func listOf(parse func(add func(*sock)) error) (socks []sock, err error) {
	err = parse(func(s *sock) { socks = append(socks, *s) })
	return socks, err
}
