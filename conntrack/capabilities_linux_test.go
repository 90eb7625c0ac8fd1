//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() { helpers["capable"] = helpCapable }

type capableReport struct {
	Info  Info
	Conns []Conn
}

// helpCapable makes a TCP connection and a UDP exchange without fixed peers, and
// prints what a collector of the backend arg sees.
func helpCapable(arg string) error {
	c, err := New(Options{Backend: Backend(arg), Loopback: true})
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	tcp, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return err
	}
	defer tcp.Close()
	var udp [2]net.PacketConn
	for i := range udp {
		if udp[i], err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			return err
		}
		defer udp[i].Close()
	}
	fixed, err := net.Dial("udp4", udp[0].LocalAddr().String())
	if err != nil {
		return err
	}
	defer fixed.Close()
	if _, err := fixed.Write(make([]byte, 7)); err != nil {
		return err
	}
	if _, err := udp[0].WriteTo(make([]byte, 5), udp[1].LocalAddr()); err != nil {
		return err
	}
	conns, err := c.Snapshot(context.Background())
	if err != nil {
		return err
	}
	conns = slices.DeleteFunc(conns, func(c Conn) bool { return c.Process.PID != os.Getpid() })
	return json.NewEncoder(os.Stdout).Encode(capableReport{c.Info(), conns})
}

// TestCapabilities: root is not needed, and each capability that is missing is
// named.
func TestCapabilities(t *testing.T) {
	limited := ebpfOrSkip(t, Options{}, 0).Info().Limited // by the kernel
	const bpf, perfmon, netAdmin = unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN
	for _, tt := range []struct {
		name             string
		backend          Backend
		caps             []uintptr
		want             Backend
		limited          []string // parts
		tcp, fixed, free int      // ends seen
	}{
		{"exactly the three", Auto, []uintptr{bpf, perfmon, netAdmin}, EBPF, nil, 2, 1, 3},
		{"no CAP_NET_ADMIN", Auto, []uintptr{bpf, perfmon}, EBPF, []string{"UDP only sockets with a fixed peer", "missing: CAP_NET_ADMIN"}, 2, 1, 0},
		{"no CAP_PERFMON", Auto, []uintptr{bpf, netAdmin}, Diag, []string{"ebpf does not work here", "missing: CAP_PERFMON"}, 1, 1, 0},
		{"no CAP_BPF", Auto, []uintptr{perfmon, netAdmin}, Diag, []string{"missing: CAP_BPF"}, 1, 1, 0},
		{"none", Auto, nil, Diag, []string{"missing: CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN", "need root"}, 1, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, out := helperIn(t, "capable "+string(tt.backend), &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: tt.caps,
			})
			var r capableReport
			require.NoError(t, json.NewDecoder(out).Decode(&r))
			assert.Equal(t, tt.want, r.Info.Backend, r.Info.Limited)
			for _, part := range tt.limited {
				assert.Contains(t, r.Info.Limited, part)
			}
			if tt.limited == nil {
				assert.Equal(t, limited, r.Info.Limited)
			}
			var tcp, fixed, free int
			for _, c := range r.Conns {
				switch {
				case c.Proto == TCP:
					tcp++
				case c.ID>>63 == 0:
					fixed++
					assert.Equal(t, tt.want == EBPF, c.Tx == 7, "%+v", c)
				default:
					free++
				}
				if tt.want == EBPF {
					assert.NotEmpty(t, c.Process.Exe)
				}
				assert.Equal(t, uint32(65534), c.UID)
			}
			assert.Equal(t, []int{tt.tcp, tt.fixed, tt.free}, []int{tcp, fixed, free}, "%+v", r.Conns)
		})
	}
}
