package compare

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	psnet "github.com/shirou/gopsutil/v4/net"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack"
)

const (
	holdEnv      = "CONNMAP_COMPARE_HOLD"
	stormEnv     = "CONNMAP_COMPARE_STORM"
	namespaceEnv = "CONNMAP_COMPARE_NAMESPACE"
)

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(stormEnv)); err == nil {
		if err := storm(n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if n, err := strconv.Atoi(os.Getenv(holdEnv)); err == nil {
		if err := hold(n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Geteuid() == 0 && os.Getenv(namespaceEnv) == "" {
		// The whole process, for some read the table of its main thread.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err == nil {
			err = unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), namespaceEnv+"=1"))
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// hold holds n connections to itself, which are 2n sockets, until standard
// input ends.
func hold(n int) error {
	l, err := net.Listen("tcp4", "203.0.113.10:0")
	if err != nil {
		return err
	}
	for range n {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		a, err := l.Accept()
		if err != nil {
			return err
		}
		defer a.Close()
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// storm makes n connections, one after the other, that live for some milliseconds, when
// a line comes from standard input.
func storm(n int) error {
	l, err := net.Listen("tcp4", server)
	if err != nil {
		return err
	}
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(a, a); a.Close() }()
		}
	}()
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	for range n {
		c, err := net.Dial("tcp4", server)
		if err != nil {
			return err
		}
		c.Write([]byte("x"))
		c.Read(make([]byte, 1))
		time.Sleep(2 * time.Millisecond)
		c.(*net.TCPConn).SetLinger(0) // leaves nothing behind
		c.Close()
	}
	return nil
}

// server is where the storm goes.
const server = "203.0.113.10:4000"

// cpu returns the CPU time of this process and of the children it waited for.
func cpu(b *testing.B) (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// network gives the namespace its address.
func network(b *testing.B) {
	if os.Getenv(namespaceEnv) == "" {
		b.Skip("needs root for a network namespace")
	}
	for _, args := range []string{"link set lo up", "addr replace 203.0.113.10/32 dev lo"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			b.Skipf("needs ip(8): %v: %s", err, out)
		}
	}
}

// sockets makes n TCP sockets, held by eight processes.
func sockets(b *testing.B, n int) {
	network(b)
	for i := range 8 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), holdEnv+"="+strconv.Itoa((n/2+i)/8))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { in.Close(); cmd.Wait() })
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
			b.Fatal("helper: ", line, err)
		}
	}
}

// BenchmarkList compares the CPU time, in ms, that it takes to list TCP sockets:
// with owners by ss, gopsutil and conntrack, without by netlink and procfs.
func BenchmarkList(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000, 50_000} {
		b.Run(fmt.Sprint("sockets=", n), func(b *testing.B) {
			sockets(b, n)
			proc, err := procfs.NewDefaultFS()
			if err != nil {
				b.Fatal(err)
			}
			ways := []struct {
				name string
				list func() (int, error)
			}{
				{"ss", func() (int, error) {
					out, err := exec.Command("ss", "-tunpHO").Output()
					return strings.Count(string(out), "\n"), err
				}},
				{"netlink", func() (int, error) {
					list, err := netlink.SocketDiagTCPInfo(unix.AF_INET)
					return len(list), err
				}},
				{"gopsutil", func() (int, error) {
					list, err := psnet.ConnectionsWithContext(context.Background(), "tcp")
					return len(list), err
				}},
				{"procfs", func() (int, error) {
					list, err := proc.NetTCP()
					return len(list), err
				}},
			}
			for _, backend := range []conntrack.Backend{conntrack.EBPF, conntrack.Diag} {
				c, err := conntrack.New(conntrack.Options{Backend: backend})
				if err != nil {
					b.Log(err)
					continue
				}
				defer c.Close()
				ways = append(ways, struct {
					name string
					list func() (int, error)
				}{string(backend), func() (int, error) {
					conns, err := c.Snapshot(context.Background())
					return len(conns), err
				}})
			}
			repeats := max(2, 10_000/n)
			for b.Loop() {
				for _, w := range ways {
					start := cpu(b)
					for range repeats {
						found, err := w.list()
						if err != nil {
							b.Fatal(w.name, ": ", err)
						}
						if found < n {
							b.Fatalf("%s lists %d of %d", w.name, found, n)
						}
					}
					b.ReportMetric((cpu(b)-start).Seconds()*1e3/float64(repeats), w.name+"-ms")
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkShort compares how many of 2,000 connections that live for some milliseconds
// are seen: by programs in the kernel, and by looking once a second.
func BenchmarkShort(b *testing.B) {
	const n = 2000
	network(b)
	for b.Loop() {
		ctx, cancel := context.WithCancel(context.Background())
		seen := make(map[string]map[string]bool)
		var mu sync.Mutex
		var work sync.WaitGroup
		saw := func(way, id, peer string) {
			if peer == server {
				mu.Lock()
				seen[way][id] = true
				mu.Unlock()
			}
		}
		for _, backend := range []conntrack.Backend{conntrack.EBPF, conntrack.Diag, conntrack.Proc} {
			c, err := conntrack.New(conntrack.Options{Backend: backend})
			if err != nil {
				b.Log(err)
				continue
			}
			defer c.Close()
			seen[string(backend)] = make(map[string]bool)
			work.Go(func() {
				for e := range c.Events(ctx) {
					saw(string(backend), fmt.Sprint(e.Conn.ID), e.Conn.Peer.String())
				}
			})
		}
		poll := func(way string, look func()) {
			seen[way] = make(map[string]bool)
			work.Go(func() {
				for ctx.Err() == nil {
					look()
					time.Sleep(time.Second)
				}
			})
		}
		poll("ss", func() {
			out, _ := exec.Command("ss", "-tnH").Output()
			for _, line := range strings.Split(string(out), "\n") {
				if f := strings.Fields(line); len(f) > 4 {
					saw("ss", f[3], f[4])
				}
			}
		})
		poll("gopsutil", func() {
			list, _ := psnet.Connections("tcp")
			for _, c := range list {
				saw("gopsutil", fmt.Sprintf("%s:%d", c.Laddr.IP, c.Laddr.Port), fmt.Sprintf("%s:%d", c.Raddr.IP, c.Raddr.Port))
			}
		})
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), stormEnv+"="+strconv.Itoa(n))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
			b.Fatal("helper: ", line, err)
		}
		time.Sleep(1500 * time.Millisecond) // all look
		fmt.Fprintln(in)
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		cancel()
		work.Wait()
		for way, ids := range seen {
			b.ReportMetric(100*float64(len(ids))/n, way+"-seen-%")
		}
		b.ReportMetric(0, "ns/op")
	}
}
