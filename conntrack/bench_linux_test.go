package conntrack

import (
	"os/exec"
	"runtime"
	"slices"
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

// hold makes 10,000 TCP sockets, held by eight processes, in a network
// namespace of their own, which the calling goroutine is in from then on.
func hold(b *testing.B) {
	requireRootAndIP(b)
	runtime.LockOSThread() // for good: the thread cannot leave the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Skip("needs the right to make a network namespace: ", err)
	}
	addAddresses(b)
	for range 8 {
		_, line := helper(b, "hold 625", nil)
		require.Equal(b, "ready\n", line)
	}
}

// BenchmarkSnapshotAgainstSS compares the CPU time (user and system, children
// included) of a first Snapshot, of a repeated one, and of ss -tunp.
func BenchmarkSnapshotAgainstSS(b *testing.B) {
	if _, err := exec.LookPath("ss"); err != nil {
		b.Skip("needs ss(8)")
	}
	hold(b)
	const repeats = 10
	var ss, first, repeated time.Duration
	for b.Loop() {
		start := cpu(b)
		require.NoError(b, exec.Command("ss", "-tunp").Run()) // into /dev/null
		ss += cpu(b) - start

		start = cpu(b)
		c, err := New(Options{Backend: Diag})
		require.NoError(b, err)
		conns := snapshot(b, c)
		first += cpu(b) - start
		require.Len(b, conns, 10_000)
		require.False(b, slices.ContainsFunc(conns, func(c Conn) bool { return c.Process.PID == 0 }))

		start = cpu(b)
		for range repeats {
			require.Len(b, snapshot(b, c), 10_000)
		}
		repeated += (cpu(b) - start) / repeats
		require.NoError(b, c.Close())
	}
	n := float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ss.Seconds()*1e3/n, "ss-ms")
	b.ReportMetric(first.Seconds()*1e3/n, "first-ms")
	b.ReportMetric(repeated.Seconds()*1e3/n, "repeated-ms")
	b.ReportMetric(first.Seconds()/ss.Seconds(), "first/ss")
	b.ReportMetric(repeated.Seconds()/ss.Seconds(), "repeated/ss")
}

// BenchmarkPoll is what Events costs each interval when nothing changes.
func BenchmarkPoll(b *testing.B) {
	hold(b)
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
