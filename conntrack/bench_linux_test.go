//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// cpu returns the CPU time that this process and the children it has waited
// for have used.
func cpu(b *testing.B) (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		require.NoError(b, unix.Getrusage(who, &u))
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// hold makes n TCP sockets, held by eight processes, in a network namespace of
// their own, which the calling goroutine is in from then on.
func hold(b *testing.B, n int) {
	requireRootAndIP(b)
	runtime.LockOSThread() // for good: the thread cannot leave the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Skip("needs the right to make a network namespace: ", err)
	}
	addAddresses(b)
	out, err := exec.Command("ip", "addr", "add", testAddr.String()+"/32", "dev", "lo").CombinedOutput()
	require.NoError(b, err, "%s", out)
	for i := range 8 {
		_, line := helper(b, "hold "+strconv.Itoa((n/2+i)/8), nil)
		require.Equal(b, "ready\n", line)
	}
}

// BenchmarkSnapshot compares the CPU time (user and system, children included)
// of repeated Snapshots with owners, bytes and round-trip times, of ss -tunp,
// and of what the kernel alone takes to list the sockets for sock_diag. The
// first Snapshots include New.
func BenchmarkSnapshot(b *testing.B) {
	if _, err := exec.LookPath("ss"); err != nil {
		b.Skip("needs ss(8)")
	}
	for _, sockets := range []int{100, 1000, 10_000, 50_000} {
		if sockets > 1000 && testing.Short() {
			continue
		}
		b.Run(fmt.Sprint("sockets=", sockets), func(b *testing.B) {
			hold(b, sockets)
			repeats := max(3, 20_000/sockets)
			took := map[string]time.Duration{}
			measure := func(name string, repeats int, f func()) {
				start := cpu(b)
				for range repeats {
					f()
				}
				took[name] += (cpu(b) - start) / time.Duration(repeats)
			}
			kernel, err := openDiag(Options{Logger: slog.New(slog.DiscardHandler)})
			require.NoError(b, err)
			defer kernel.close()
			dump := kernel.(*poller).lister.(*diag)
			for b.Loop() {
				measure("ss", 1, func() {
					require.NoError(b, exec.Command("ss", "-tunp").Run()) // into /dev/null
				})
				measure("kernel", repeats, func() {
					require.NoError(b, dump.dumpTCP(tcpStates, func([]byte) {}))
				})
				for _, backend := range []Backend{EBPF, Diag, Proc} {
					var c *Collector
					var conns []Conn
					again := func() {
						var err error
						conns, err = c.backend.snapshot(b.Context(), conns[:0])
						require.NoError(b, err)
					}
					if backend != Proc {
						measure("first-"+string(backend), 1, func() {
							var err error
							c, err = New(Options{Backend: backend})
							if errors.Is(err, errors.ErrUnsupported) {
								b.Skip(err)
							}
							require.NoError(b, err)
							again()
						})
					} else {
						c, err = New(Options{Backend: backend})
						require.NoError(b, err)
						again()
					}
					measure(string(backend), repeats, again)
					n, owned := 0, 0
					for _, conn := range conns {
						if conn.Local.Addr() == testAddr {
							n++
							if conn.Process.PID != 0 {
								owned++
							}
						}
					}
					require.Equal(b, []int{sockets, sockets}, []int{n, owned}, "%s", backend)
					require.NoError(b, c.Close())
				}
			}
			b.ReportMetric(0, "ns/op")
			for name, d := range took {
				b.ReportMetric(d.Seconds()*1e3/float64(b.N), name+"-ms")
			}
			for _, ratio := range [][2]string{{"ebpf", "ss"}, {"ebpf", "kernel"}, {"diag", "ss"}, {"first-diag", "ss"}, {"first-ebpf", "ss"}} {
				b.ReportMetric(took[ratio[0]].Seconds()/took[ratio[1]].Seconds(), ratio[0]+"/"+ratio[1])
			}
		})
	}
}

// BenchmarkStorm is what following by the backend EBPF adds to the time that
// many short connections take, in turns with and without. Like the agent, it
// leaves the other processors to others.
func BenchmarkStorm(b *testing.B) {
	n, pairs := 20_000, 7
	if testing.Short() {
		n, pairs = 2000, 1
	}
	ebpfOrSkip(b, Options{}, 0).Close()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for b.Loop() {
		var elapsed, work []float64
		for range pairs {
			var with, without stormReport
			func() {
				c, err := New(Options{Backend: EBPF})
				require.NoError(b, err)
				defer c.Close()
				ctx, cancel := context.WithCancel(b.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					for range c.Events(ctx) {
					}
				})
				_, finish := startStorm(b, strconv.Itoa(n))
				with = finish()
				cancel()
				wg.Wait()
				require.Zero(b, c.Info().Lost)
			}()
			_, finish := startStorm(b, strconv.Itoa(n))
			without = finish()
			elapsed = append(elapsed, with.Elapsed.Seconds()/without.Elapsed.Seconds())
			work = append(work, with.CPU.Seconds()/without.CPU.Seconds())
		}
		slices.Sort(elapsed)
		slices.Sort(work)
		b.Logf("elapsed %.3f, CPU %.3f", elapsed, work)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(elapsed[pairs/2], "elapsed-with/without")
		b.ReportMetric(work[pairs/2], "cpu-with/without")
	}
}

// BenchmarkPoll is what Events costs each interval when nothing changes.
func BenchmarkPoll(b *testing.B) {
	hold(b, 10_000)
	c := newCollector(b, Options{Backend: Diag})
	var w watch
	var conns []Conn
	b.ReportAllocs()
	for b.Loop() {
		var err error
		conns, err = c.backend.snapshot(b.Context(), conns[:0])
		require.NoError(b, err)
		w.changes(time.Now(), conns, func(Event) bool { return true })
	}
	require.Len(b, conns, 10_000)
}
