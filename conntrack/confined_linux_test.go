//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
	"github.com/connmapgo/connmap/conntrack/internal/traffic"
	"github.com/connmapgo/connmap/internal/confine"
)

func init() { helpers["confined"] = helpConfined }

// helpConfined is a collector that gives its rights away once it is open, and then reports its
// rights and its events until standard input ends.
func helpConfined(arg string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	o := Options{Loopback: true, Interval: time.Second, Logger: slog.New(slog.DiscardHandler)}
	c := &Collector{interval: o.Interval}
	probe, err := bpf.Open(bpf.Options{Loopback: true, NoVisits: arg == "limited"})
	if err != nil {
		return err
	}
	if c.backend, err = startEBPF(probe, o); err != nil {
		return err
	}
	defer c.Close()
	r := confine.Process(confine.Keep{Capabilities: confine.Following})
	out := gob.NewEncoder(os.Stdout)
	var writing sync.Mutex
	if err := out.Encode(fmt.Sprint(r.User, " ", r.Capabilities, " ", r.NoNewPrivs, " ", r.Filtered, " ", errors.Join(r.Missing...))); err != nil {
		return err
	}
	report := func(r confinedReport) error {
		writing.Lock()
		defer writing.Unlock()
		return out.Encode(r)
	}
	go func() {
		for ctx.Err() == nil && report(confinedReport{Unseen: unseen(c)}) == nil {
			time.Sleep(100 * time.Millisecond)
		}
	}()
	for e, err := range c.Events(ctx) {
		if err != nil {
			return err
		}
		if err := report(confinedReport{Event: &e}); err != nil {
			return err
		}
	}
	return nil
}

// A confinedReport is an event, or how many closes the collector has found that no program saw.
type confinedReport struct {
	Event  *Event
	Unseen int
}

// A confined is a collector in a process that has given its rights away.
type confined struct {
	in      io.Closer
	reports *gob.Decoder
	unseen  atomic.Int64
}

func (c *confined) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		defer context.AfterFunc(ctx, func() { c.in.Close() })()
		for {
			var r confinedReport
			err := c.reports.Decode(&r)
			if err == io.EOF && ctx.Err() != nil {
				return
			}
			if err == nil && r.Event == nil {
				c.unseen.Store(int64(r.Unseen))
				continue
			}
			var e Event
			if r.Event != nil {
				e = *r.Event
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// TestScenariosConfined: a collector sees as much when its process has no more rights than
// package confine says it needs, also where the kernel does not let sockets be visited.
func TestScenariosConfined(t *testing.T) {
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_GETPID, 0, 0, 0); errno == syscall.ENOTSUP {
		t.Skip("built with cgo, a process keeps its rights: CGO_ENABLED=0 go test")
	}
	if testing.Short() {
		t.Skip("as long as TestScenarios")
	}
	here := ebpfOrSkip(t, Options{}, 0)
	sees := here.backend.(*ebpf).probe.SeesFrames()
	modes := []string{"limited"}
	if here.Info().Limited == "" {
		modes = append(modes, "visiting")
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			n := newNet(t)
			_, in, out := helperIn(t, "confined "+mode, nil)
			c := &confined{in: in.(io.Closer), reports: gob.NewDecoder(out)}
			var rights string
			require.NoError(t, c.reports.Decode(&rights))
			t.Log(rights)
			if strings.HasPrefix(rights, "0 ") && strings.Contains(rights, errors.ErrUnsupported.Error()) {
				t.Skip("threads cannot be reached, as with cgo")
			}
			assert.NotRegexp(t, "^0 ", rights, "it is root's no more")
			w := watchAs(t, c)
			runScenarios(t, n, w, func() int { return int(c.unseen.Load()) })
			t.Run("packet-socket", func(t *testing.T) {
				if !sees {
					t.Skip("needs Linux 6.3")
				}
				sendPackets(t, n, w)
			})
			t.Run("tunnel", func(t *testing.T) { sendByTunnel(t, n, w) })
		})
	}
}

// told reports whether an event of a connection with peer came. If device is not empty, the
// connection must be of that tunnel's device.
func (w *witness) told(peer netip.AddrPort, device string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, conns := range w.conns {
		for _, c := range conns {
			if p.peer == peer && (device == "" || c.Process.Exe == device) {
				return true
			}
		}
	}
	return false
}

// sendPackets waits until an event says that a packet socket sends. The program for that is
// attached when it does.
func sendPackets(t *testing.T, n *traffic.Net, w *witness) {
	leave, err := n.Enter(n.A)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	devices, noDevices := net.Interfaces()
	require.NoError(t, errors.Join(err, noDevices, leave()))
	defer unix.Close(fd)
	i := slices.IndexFunc(devices, func(d net.Interface) bool { return d.Flags&net.FlagUp != 0 && d.Flags&net.FlagLoopback == 0 })
	require.GreaterOrEqual(t, i, 0)
	const peer = "198.51.100.77:53"
	require.Eventually(t, func() bool {
		err := unix.Sendto(fd, datagram("192.0.2.1:9", peer, 100), 0, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_IP >> 8 /* in the order of the network */, Ifindex: devices[i].Index, Halen: 6})
		return assert.NoError(t, err) && w.told(netip.MustParseAddrPort(peer), "")
	}, time.Minute, 10*time.Millisecond)
}

// sendByTunnel waits until an event says that a tunnel in another network namespace sends. The
// namespace has to be found and entered for that.
func sendByTunnel(t *testing.T, n *traffic.Net, w *witness) {
	device := deviceOf(n, "vxlan1")
	a, b := tunnelEnds(n, 1, false)
	for _, x := range []*tunnelEnd{a, b} {
		if err := command(n, x.ns, fmt.Sprintf("ip link add %s address %s type vxlan id 7 remote %v dstport 4789", device, x.mac, x.other)); err != nil {
			t.Skip("needs a kernel with such devices: ", err)
		}
	}
	a.up(t, n, device, b)
	b.up(t, n, device, a)
	require.Eventually(t, func() bool {
		a.send(t, b)
		return w.told(netip.AddrPortFrom(a.other, 4789), device)
	}, 2*time.Minute, 100*time.Millisecond)
}
