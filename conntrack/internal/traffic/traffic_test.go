//go:build linux

package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if ran, err := Main(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	} else if ran {
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func newNet(t *testing.T) *Net {
	t.Helper()
	n, err := NewNet(t.Context())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, n.Close())
		for _, path := range []string{"/run/netns/" + n.A, "/run/netns/" + n.B, n.dir} {
			assert.NoFileExists(t, path)
			assert.NoDirExists(t, path)
		}
	})
	return n
}

// run runs a scenario, or skips the test if the kernel does not support it.
func run(t *testing.T, s Scenario, n *Net, hold time.Duration) []Flow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	flows, err := s.Run(ctx, n, hold)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	return flows
}

func scenario(t *testing.T, name string) Scenario {
	t.Helper()
	for _, s := range Scenarios() {
		if s.Name == name {
			return s
		}
	}
	require.Fail(t, "no such scenario", name)
	return Scenario{}
}

func TestScenarioNames(t *testing.T) {
	names, keys := make(map[string]bool), make(map[string]bool)
	for _, s := range Scenarios() {
		assert.False(t, names[s.Name], "two scenarios are %s", s.Name)
		assert.False(t, keys[s.key], "%s: two scenarios have key %s", s.Name, s.key)
		assert.NotContains(t, s.Name, "/")
		assert.NotEmpty(t, s.key, s.Name)
		assert.LessOrEqual(t, len(s.key), 9, "%s: key %s", s.Name, s.key)
		assert.NotZero(t, s.Proto, s.Name)
		assert.NotZero(t, s.Tolerance, s.Name)
		names[s.Name], keys[s.key] = true, true
	}
}

func TestScenarios(t *testing.T) {
	n := newNet(t)
	connections := map[string]int{
		"tcp-sequence": 2000, "tcp-burst": 200, "tcp-processes": procs, "tcp-reset": resets, "udp-443": 5, "udp-dns": 500,
	}
	for _, s := range Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			flows := run(t, s, n, 0)
			want := connections[s.Name]
			if want == 0 {
				want = 1
			}
			checkFlows(t, s, flows, want)
		})
	}
}

// checkFlows checks that both ends tell the same, of a number of connections.
func checkFlows(t *testing.T, s Scenario, flows []Flow, want int) {
	type ends struct{ client, server netip.AddrPort }
	type bytes struct{ tx, rx uint64 }
	got := map[string]map[ends]bytes{"client": {}, "server": {}}
	pids := make(map[int]bool)
	for _, f := range flows {
		e, b := ends{f.Local, f.Peer}, bytes{f.Tx, f.Rx}
		if f.Role == "server" {
			e, b = ends{f.Peer, f.Local}, bytes{f.Rx, f.Tx}
		}
		require.Contains(t, got, f.Role, "%+v", f)
		// assert.NotContains compares with every key.
		if _, twice := got[f.Role][e]; twice {
			require.Fail(t, "two flows", "%+v", f)
		}
		got[f.Role][e] = b
		assert.Equal(t, s.Loopback, e.client.Addr() == e.server.Addr(), "%+v", f)
		pids[f.PID] = true
		checkFlow(t, s, f)
		if t.Failed() {
			return // one is enough to read
		}
	}
	assert.Len(t, got["client"], want)
	if s.server == nil {
		for _, b := range got["client"] {
			assert.Equal(t, b.tx, b.rx, "the kernel echoes: %+v", flows)
		}
		return
	}
	for e, b := range got["client"] {
		require.Equal(t, b, got["server"][e], "%v: %v", s.Name, e)
	}
	assert.Len(t, got["server"], want)
	if s.Name == "tcp-processes" {
		assert.Greater(t, len(pids), procs)
	} else {
		assert.Len(t, pids, 2)
	}
}

func checkFlow(t *testing.T, s Scenario, f Flow) {
	assert.Equal(t, s.Proto, f.Proto, "%+v", f)
	assert.Equal(t, f.Role == "client", f.Out, "%+v", f)
	assert.NotZero(t, f.PID, "%+v", f)
	assert.Regexp(t, "^tfc-"+s.key+"-[cswp]$", f.Comm, "%+v", f)
	assert.LessOrEqual(t, len(f.Comm), 15, "%+v", f)
	assert.True(t, filepath.IsAbs(f.Exe), "%+v", f)
	assert.LessOrEqual(t, f.Tolerance, s.Tolerance, "%+v", f)
	assert.Positive(t, f.Tolerance, "%+v", f)
	for _, a := range []netip.AddrPort{f.Local, f.Peer} {
		assert.True(t, a.IsValid(), "%+v", f)
		assert.False(t, a.Addr().IsUnspecified() || a.Addr().Is4In6(), "%+v", f)
		assert.Equal(t, s.Loopback, a.Addr().IsLoopback(), "%+v", f)
		assert.Equal(t, s.ipv6, a.Addr().Is6(), "%+v", f)
		if f.Proto != protoTest && f.Proto != 1 {
			assert.NotZero(t, a.Port(), "%+v", f)
		}
	}
	if s.Name != "tcp-reset" {
		assert.Positive(t, f.Tx+f.Rx, "%+v", f)
	}
	if s.Name == "tcp-shared" && f.Role == "server" || s.Name == "tcp-handed-over-kept" && f.Role == "server" {
		assert.Len(t, f.Sharers, 1, "%+v", f)
		assert.NotContains(t, f.Sharers, f.PID, "%+v", f)
	} else {
		assert.Empty(t, f.Sharers, "%+v", f)
	}
}

// While a scenario is held, its processes are what its flows say.
func TestHold(t *testing.T) {
	n := newNet(t)
	const hold = 500 * time.Millisecond
	for _, name := range []string{"tcp-loopback", "tcp-shared", "udp-connected", "icmp-raw"} {
		t.Run(name, func(t *testing.T) {
			seen := make(map[string]bool)
			ctx, cancel := context.WithCancel(t.Context())
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				for ctx.Err() == nil {
					exes, _ := filepath.Glob("/proc/[0-9]*/exe")
					for _, exe := range exes {
						if path, err := os.Readlink(exe); err == nil {
							seen[filepath.Dir(exe)+" "+path] = true
						}
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
			start := time.Now()
			flows := run(t, scenario(t, name), n, hold)
			took := time.Since(start)
			cancel()
			<-watched
			assert.GreaterOrEqual(t, took, hold)
			require.NotEmpty(t, flows)
			for _, f := range flows {
				assert.True(t, f.Held, "%+v", f)
				assert.Contains(t, seen, fmt.Sprintf("/proc/%d %s", f.PID, f.Exe))
				assert.NoDirExists(t, fmt.Sprint("/proc/", f.PID))
			}
		})
	}
}

// A run that is cut short leaves neither processes nor namespaces behind.
func TestCancel(t *testing.T) {
	n := newNet(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := scenario(t, "tcp-drip").Run(ctx, n, time.Minute)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(start), 20*time.Second)
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	require.NoError(t, err)
	for _, exe := range exes {
		path, _ := os.Readlink(exe)
		assert.NotEqual(t, n.dir, filepath.Dir(path), exe)
	}
}

func TestEnter(t *testing.T) {
	n := newNet(t)
	here := func() string {
		link, err := os.Readlink("/proc/thread-self/ns/net")
		require.NoError(t, err)
		return link
	}
	home := here()
	for _, name := range []string{n.A, n.B} {
		info, err := os.Stat("/run/netns/" + name)
		require.NoError(t, err)
		leave, err := n.Enter(name)
		require.NoError(t, err)
		inside, err := os.Stat("/proc/thread-self/ns/net")
		assert.NoError(t, leave())
		require.NoError(t, err)
		assert.True(t, os.SameFile(info, inside), name)
		assert.Equal(t, home, here())
	}
	_, err := n.Enter("no such namespace")
	assert.Error(t, err)
}
