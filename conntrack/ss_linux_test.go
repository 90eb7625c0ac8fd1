package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var ssLines = []struct {
	name, line string
	proto      Proto
	want       sock
}{
	{"TCP", "tcp   ESTAB      0      0      192.0.2.1:443   198.51.100.2:50000 timer:(keepalive,119min,0) uid:33 ino:378536 sk:391aa cgroup:/a.slice <-> ts sack bbr wscale:10,10 rto:204 rtt:1.5/0.012 ato:40 mss:32768 bytes_sent:1037 bytes_retrans:7 bytes_acked:1031 bytes_received:30 segs_out:2 bbr:(bw:1bps,mrtt:0.02) send 104857600000bps rcv_rtt:1 minrtt:0.025\n",
		TCP, sock{state: stateEstablished, local: addrPort("192.0.2.1:443"), peer: addrPort("198.51.100.2:50000"), cookie: 0x391aa, uid: 33, inode: 378536, tx: 1030, rx: 30, rtt: 1500 * time.Microsecond}},
	{"IPv6", "tcp ESTAB 0 0 [2001:db8::1]:443 [2001:db8::2]:50000 ino:1 sk:ffffffffffffffff <->\n",
		TCP, sock{state: stateEstablished, local: addrPort("[2001:db8::1]:443"), peer: addrPort("[2001:db8::2]:50000"), cookie: 1<<64 - 1, inode: 1}},
	{"the FIN is no payload", "tcp CLOSE-WAIT 3 0 [::ffff:192.0.2.1]:443 [::ffff:198.51.100.2]:50000 ino:2 sk:2 rtt:0.025/0.012 bytes_received:31\n",
		TCP, sock{state: stateCloseWait, local: addrPort("192.0.2.1:443"), peer: addrPort("198.51.100.2:50000"), cookie: 2, inode: 2, rx: 30, rtt: 25 * time.Microsecond}},
	{"listener", "tcp LISTEN 0 128 *:37551 *:* ino:378534 sk:391a8 cgroup:/ v6only:0 <-> bbr cwnd:10\n",
		TCP, sock{state: stateListen, local: addrPort("[::]:37551"), peer: addrPort("[::]:0"), cookie: 0x391a8, inode: 378534}},
	{"remains of a connection", "tcp FIN-WAIT-2 0 0 192.0.2.1:38226 198.51.100.2:80 timer:(timewait,59sec,0) ino:0 sk:391a7\n",
		TCP, sock{state: stateFinWait2, timer: timerTimeWait, local: addrPort("192.0.2.1:38226"), peer: addrPort("198.51.100.2:80"), cookie: 0x391a7}},
	{"attempt", "tcp SYN-SENT 0 1 192.0.2.1:38226 198.51.100.2:80 ino:3 sk:3\n",
		TCP, sock{local: addrPort("192.0.2.1:38226"), peer: addrPort("198.51.100.2:80"), cookie: 3, inode: 3}},
	{"UDP", "udp ESTAB 0 0 192.0.2.1:56369 198.51.100.2:53 ino:378537 sk:391a5 cgroup:/ <->\n",
		UDP, sock{state: stateEstablished, local: addrPort("192.0.2.1:56369"), peer: addrPort("198.51.100.2:53"), cookie: 0x391a5, inode: 378537}},
	{"on one interface", "udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* uid:102 ino:4 sk:4\n",
		UDP, sock{state: stateClose, local: addrPort("127.0.0.53:53"), peer: addrPort("0.0.0.0:0"), cookie: 4, uid: 102, inode: 4}},
	{"link-local", "udp ESTAB 0 0 [fe80::1]%lo:546 [fe80::2]%lo:547\n",
		UDP, sock{state: stateEstablished, local: addrPort("[fe80::1%1]:546"), peer: addrPort("[fe80::2%1]:547")}},
	{"any address of an interface", "udp UNCONN 0 0 *%eth0:68 *:*\n",
		UDP, sock{state: stateClose, local: addrPort("[::]:68"), peer: addrPort("[::]:0")}},
}

func TestParseSS(t *testing.T) {
	for _, tt := range ssLines {
		t.Run(tt.name, func(t *testing.T) {
			var got sock
			proto, ok := got.parseSS([]byte(tt.line))
			require.True(t, ok, tt.line)
			assert.Equal(t, tt.proto, proto)
			assert.Equal(t, tt.want, got)
		})
	}
	for _, line := range []string{
		"",
		"Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port\n",
		"tcp ESTAB 0 0 192.0.2.1:443\n",
		"tcp ESTAB 0 0 192.0.2.1 198.51.100.2:50000\n",
		"tcp ESTAB 0 0 192.0.2.1:https 198.51.100.2:50000\n",
		"tcp ESTAB 0 0 192.0.2.1:65536 198.51.100.2:50000\n",
		"tcp ESTAB 0 0 www.example.com:80 198.51.100.2:50000\n",
		"raw ESTAB 0 0 192.0.2.1:47 198.51.100.2:*\n",
	} {
		var got sock
		_, ok := got.parseSS([]byte(line))
		assert.False(t, ok, line)
	}
}

func FuzzParseSS(f *testing.F) {
	for _, tt := range ssLines {
		f.Add([]byte(tt.line))
	}
	f.Add([]byte("tcp ESTAB 0 0 *:1 *:1 rtt:-1/1 sk:zz bytes_sent:1 bytes_retrans:2"))
	f.Add([]byte("tcp ESTAB 0 0 []:1 %:1 rtt:NaN rtt:1e300"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var s sock
		if _, ok := s.parseSS(line); !ok {
			return
		}
		for _, a := range []netip.AddrPort{s.local, s.peer} {
			if !a.IsValid() || a.Addr().Is4In6() {
				t.Errorf("%q: %v", line, a)
			}
		}
		if s.rtt < 0 || s.tx > 1<<62 {
			t.Errorf("%q: %+v", line, s)
		}
	})
}

// fakeSS makes a program named ss the only one.
func fakeSS(t *testing.T, script string) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ss"), []byte("#!/bin/sh\n"+script), 0o700))
	t.Setenv("PATH", dir)
}

func TestOpenSSErrors(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"old", "echo \"ss: unrecognized option '--oneline'\" >&2; exit 255", "unrecognized option"},
		{"another program", "echo Sacramento Shuttle", `malformed line "Sacramento Shuttle\n"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fakeSS(t, tt.script)
			_, err := New(Options{Backend: SS})
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			assert.ErrorContains(t, err, tt.want)
			assert.ErrorContains(t, err, "install iproute2")
		})
	}
	t.Run("absent", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := New(Options{Backend: SS})
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		assert.ErrorIs(t, err, exec.ErrNotFound)
		assert.ErrorContains(t, err, "install iproute2")
	})
}

func TestSSIsCanceled(t *testing.T) {
	// New runs it too, but only once.
	fakeSS(t, "if test -e $0.ran; then exec /bin/sleep 60; fi; : >$0.ran")
	c := newCollector(t, Options{Backend: SS})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := c.Snapshot(ctx)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(start), 30*time.Second)
}

// ssConns lists what ss(8) sees, as "tcp local peer pid".
func ssConns(t *testing.T) map[string]bool {
	out, err := exec.Command("ss", "-tunpHO").Output()
	require.NoError(t, err)
	pid := regexp.MustCompile(`pid=(\d+)`)
	found := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		require.GreaterOrEqual(t, len(f), 6, line)
		local, peer := netip.MustParseAddrPort(f[4]), netip.MustParseAddrPort(f[5])
		owner := "0"
		if m := pid.FindStringSubmatch(line); m != nil {
			owner = m[1]
		}
		found[fmt.Sprintln(f[0], unmapped(local), unmapped(peer), owner)] = true
	}
	return found
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func TestSnapshotAgainstSS(t *testing.T) {
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("needs ss(8)")
	}
	if !inNamespace(t) {
		return
	}
	eachPolled(t, func(t *testing.T, b Backend) {
		var halves []net.Conn
		for _, addr := range []string{"203.0.113.10", "[2001:db8:a::10]", "127.0.0.1"} {
			any := listen(t, "[::]:0")
			own := listen(t, addr+":0")
			helper(t, "dial "+addr+":"+port(any.Addr()), nil)
			for range 20 {
				pair(t, any, addr+":"+port(any.Addr()), net.Dialer{})
				client, _ := pair(t, own, own.Addr().String(), net.Dialer{})
				halves = append(halves, client)
			}
			udp, err := net.Dial("udp", addr+":53")
			require.NoError(t, err)
			defer udp.Close()
		}
		for i, c := range halves {
			if i%3 == 0 {
				require.NoError(t, c.(*net.TCPConn).CloseWrite())
			}
		}
		got := map[string]bool{}
		for _, c := range snapshot(t, newCollector(t, Options{Backend: b, Loopback: true})) {
			got[fmt.Sprintln(c.Proto, c.Local, c.Peer, c.Process.PID)] = true
		}
		assert.Len(t, got, 2*3*40+3+3+3)
		assert.Equal(t, ssConns(t), got)
	})
}
