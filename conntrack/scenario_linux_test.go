//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/internal/traffic"
	"github.com/connmapgo/connmap/internal/race"
)

// several are the scenarios in which more than one process holds a socket.
var several = regexp.MustCompile(`^\s*tcp-(handed-over|shared)`)

var update = flag.Bool("update", false, "write what each backend sees into the package's documentation")

// A pairing is what an end of a connection is known by.
type pairing struct {
	proto       Proto
	local, peer netip.AddrPort
}

func pairingOf(proto Proto, local, peer netip.AddrPort) pairing {
	switch proto {
	case TCP, UDP, SCTP:
	default: // the others have no ports, but some programs number theirs
		local, peer = netip.AddrPortFrom(local.Addr(), 0), netip.AddrPortFrom(peer.Addr(), 0)
	}
	return pairing{proto, local, peer}
}

// A witness remembers what collectors have seen of each connection.
type witness struct {
	mu sync.Mutex
	// By ID too: other tests may have namespaces with the same addresses.
	conns map[pairing]map[uint64]*seen
	// The last of those that share a connection: they may let go of it one
	// after the other.
	sharers map[pairing][]Process
	lost    atomic.Uint64 // events, as collectors report
}

// A seen is a connection as last told.
type seen struct {
	Conn
	opens int
}

// of returns the connection of an end, that of its program if there are several.
func (w *witness) of(p pairing, pid int) (best *seen) {
	for _, s := range w.conns[p] {
		if best == nil || s.Process.PID == pid {
			best = s
		}
	}
	return best
}

func watchAs(t *testing.T, collectors ...interface {
	Events(context.Context) iter.Seq2[Event, error]
}) *witness {
	w := &witness{conns: make(map[pairing]map[uint64]*seen), sharers: make(map[pairing][]Process)}
	visit := func(e Event) {
		if e.Kind == Lost {
			w.lost.Add(e.Lost)
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		p := pairingOf(e.Conn.Proto, e.Conn.Local, e.Conn.Peer)
		if w.conns[p] == nil {
			w.conns[p] = make(map[uint64]*seen)
		}
		s := w.conns[p][e.Conn.ID]
		if s == nil {
			s = new(seen)
			w.conns[p][e.Conn.ID] = s
		}
		s.Conn = e.Conn
		if e.Kind == Open {
			s.opens++
		}
		if e.Conn.Sharers != nil {
			w.sharers[p] = e.Conn.Sharers
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	for _, c := range collectors {
		if c, ok := c.(*Collector); ok && c.Info().Backend == EBPF {
			follow(t, c, visit)
			continue
		}
		wg.Go(func() {
			for e, err := range c.Events(ctx) {
				if !assert.NoError(t, err) {
					return
				}
				visit(e)
			}
		})
	}
	return w
}

// A verdict counts how many ends of a scenario's connections were seen, and how
// well.
type verdict struct {
	ends, seen, direction, program, bytes int
	again                                 int     // opened more than once
	worst                                 float64 // relative error of bytes
	wrong                                 []string
}

func (v verdict) whole() bool {
	return v.seen == v.ends && v.direction == v.ends && v.program == v.ends && v.bytes == v.ends && v.again == 0
}

// lacksOnlyCounters reports whether the collector saw all ends, but not all of their last bytes
// and programs. So it is with a close that the kernel calls no program for.
func (v verdict) lacksOnlyCounters() bool {
	return v.seen == v.ends && v.direction == v.ends && v.again == 0
}

func (v verdict) String() string {
	return fmt.Sprintf("seen %d, direction %d, program %d, bytes %d of %d, worst error %.2f %%", v.seen, v.direction, v.program, v.bytes, v.ends, 100*v.worst)
}

// cell is the verdict in a table: how many ends were seen, and what was wrong
// about those that were.
func (v verdict) cell() string {
	cell, lacks := "all", ""
	switch {
	case v.seen == 0:
		return "-"
	case v.seen < v.ends:
		cell = "some"
	}
	for _, x := range []struct {
		n    int
		code string
	}{{v.direction, "d"}, {v.program, "p"}, {v.bytes, "b"}} {
		if x.n < v.seen {
			lacks += x.code
		}
	}
	if lacks != "" {
		cell += " -" + lacks
	}
	return cell
}

func (w *witness) judge(flows []traffic.Flow) verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := verdict{ends: len(flows)}
	for _, f := range flows {
		p := pairingOf(Proto(f.Proto), f.Local, f.Peer)
		c := w.of(p, f.PID)
		if c == nil {
			v.wrong = append(v.wrong, fmt.Sprintf("not seen: %+v", f))
			continue
		}
		v.seen++
		good := true
		if c.opens != 1 {
			v.again++
			v.wrong = append(v.wrong, fmt.Sprintf("opened %d times: %+v", c.opens, c.Conn))
		}
		if (c.Direction == Out) == f.Out && c.Direction != Unknown {
			v.direction++
		} else {
			good = false
		}
		if c.Process.PID == f.PID && c.Process.Comm == f.Comm && c.Process.Exe == f.Exe {
			v.program++
		} else {
			good = false
		}
		e := max(relative(c.Tx, f.Tx), relative(c.Rx, f.Rx))
		v.worst = max(v.worst, e)
		if e <= f.Tolerance {
			v.bytes++
		} else {
			good = false
		}
		if !good {
			v.wrong = append(v.wrong, fmt.Sprintf("did:  %+v\nseen: %+v", f, c.Conn))
		}
	}
	return v
}

// await returns the verdict of a scenario when all is seen, or else whether it may run again: the
// bytes of closes lack that no program saw, which the collector has found, or events were lost.
func (w *witness) await(flows []traffic.Flow, foundUnseen, lost func() bool) (v verdict, again bool) {
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		v = w.judge(flows)
		waited := time.Since(start)
		switch {
		case v.whole() || waited > time.Minute:
			return v, false
		case v.lacksOnlyCounters() && foundUnseen(), lost() && waited > 10*time.Second:
			return v, true
		}
	}
}

// forget drops what was seen of a scenario that runs again.
func (w *witness) forget(flows []traffic.Flow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range flows {
		p := pairingOf(Proto(f.Proto), f.Local, f.Peer)
		delete(w.conns, p)
		delete(w.sharers, p)
	}
}

// strangers tells of connections whose sharers are not those that share them.
// They are known only while the connection is held.
func (w *witness) strangers(flows []traffic.Flow) (wrong []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range flows {
		var pids []int
		for _, p := range w.sharers[pairingOf(Proto(f.Proto), f.Local, f.Peer)] {
			pids = append(pids, p.PID)
		}
		slices.Sort(f.Sharers)
		if f.Held && !slices.Equal(pids, f.Sharers) {
			wrong = append(wrong, fmt.Sprintf("sharers %v of %+v", pids, f))
		}
	}
	return wrong
}

func relative(got, want uint64) float64 {
	if got == want {
		return 0
	}
	return math.Abs(float64(got)-float64(want)) / max(1, float64(want))
}

func newNet(t *testing.T) *traffic.Net {
	n, err := traffic.NewNet(t.Context())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, n.Close()) })
	return n
}

// in returns a collector for a namespace of n.
func in(t *testing.T, n *traffic.Net, name string, b Backend) *Collector {
	leave, err := n.Enter(name)
	require.NoError(t, err)
	c, err := New(Options{Backend: b, Loopback: true})
	require.NoError(t, leave())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

// TestScenarios: the backend EBPF sees every kind of traffic as it really was,
// although no connection is held open for it.
func TestScenarios(t *testing.T) {
	if testing.Short() && !race.Enabled {
		t.Skip("takes long")
	}
	c := ebpfOrSkip(t, Options{Loopback: true}, 0)
	n := newNet(t)
	w := watchAs(t, c)
	// What is found by passes is what was told of.
	ctx, cancel := context.WithCancel(t.Context())
	var passes sync.WaitGroup
	e := c.backend.(*ebpf)
	passes.Go(func() {
		for ctx.Err() == nil {
			assert.NoError(t, e.do(func() { assert.NoError(t, e.findHolders()) }))
			time.Sleep(50 * time.Millisecond)
		}
	})
	defer passes.Wait()
	defer cancel()
	runScenarios(t, n, w, func() int { return unseen(c) })
	t.Logf("%d connections of others lost", c.Info().Lost) // for all of the scenarios are seen
}

// unseen returns how many closes a collector has found for which no program was called.
func unseen(c *Collector) (n int) {
	e := c.backend.(*ebpf)
	e.do(func() { n = e.closesUnseen })
	return n
}

// runs is how often a scenario runs at most.
const runs = 3

// runScenarios runs all scenarios, of which everything is to be seen. The kernel sometimes calls
// no program for a close, and then the bytes are those of the last poll: a scenario that lacks
// bytes runs again if the collector has found such a close meanwhile. So does one that lacks
// anything if the collector has reported lost events, as when others take both processors.
func runScenarios(t *testing.T, n *traffic.Net, w *witness, unseen func() int) {
	var whole, all, skipped atomic.Int32
	atOnce(8, traffic.Scenarios(), func(_ int, s traffic.Scenario) {
		t.Run(s.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			var v verdict
			for run := range runs {
				before, lost := unseen(), w.lost.Load()
				flows, err := s.Run(ctx, n, 0)
				if errors.Is(err, errors.ErrUnsupported) {
					skipped.Add(1)
					t.Skip(err)
				}
				require.NoError(t, err)
				var again bool
				v, again = w.await(flows, func() bool { return unseen() > before }, func() bool { return w.lost.Load() > lost })
				t.Logf("scenario %-24s %v", s.Name, v)
				if !again || run == runs-1 {
					break
				}
				t.Log("again, for a close was not seen, or events were lost")
				w.forget(flows)
			}
			all.Add(1)
			if v.whole() {
				whole.Add(1)
			}
			assert.True(t, v.whole(), strings.Join(v.wrong[:min(len(v.wrong), 4)], "\n"))
		})
	})
	t.Logf("total: %d of %d scenarios whole, %d skipped", whole.Load(), all.Load(), skipped.Load())
}

// atOnce runs scenarios, up to limit at a time.
func atOnce(limit int, scenarios []traffic.Scenario, run func(i int, s traffic.Scenario)) {
	gate := make(chan struct{}, limit)
	var wg sync.WaitGroup
	// A raw socket gets what is meant for another.
	var raw sync.Mutex
	for i, s := range scenarios {
		wg.Go(func() {
			if s.Proto != unix.IPPROTO_TCP && s.Proto != unix.IPPROTO_UDP {
				raw.Lock()
				defer raw.Unlock()
			}
			gate <- struct{}{}
			defer func() { <-gate }()
			run(i, s)
		})
	}
	wg.Wait()
}

// TestBackends runs all scenarios before all backends at once, and compares what they
// see with the package's documentation. Connections are held for a while, for
// those that poll once a second.
func TestBackends(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	ebpf := ebpfOrSkip(t, Options{Loopback: true}, 0)
	n := newNet(t)
	backends := []Backend{EBPF, Diag, Proc}
	witnesses := map[Backend]*witness{EBPF: watchAs(t, ebpf)}
	for _, b := range backends[1:] {
		witnesses[b] = watchAs(t, in(t, n, n.A, b), in(t, n, n.B, b))
	}
	scenarios := traffic.Scenarios()
	rows := make([]string, len(scenarios))
	const file = "../docs/backends.md"
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	// Which of several holders those that poll find first is chance, and so are
	// their marks where there are several. All else is not.
	lacks := regexp.MustCompile(` -[dpb]+\b`)
	seen := func(line string) string {
		if several.MatchString(line) {
			line = lacks.ReplaceAllString(line, "")
		}
		return strings.Join(strings.Fields(line), " ")
	}
	documented := map[string]bool{}
	rowsOf := map[string]int{} // by the name of the traffic
	_, table, _ := strings.Cut(string(want), "```text\n")
	table, _, _ = strings.Cut(table, "```")
	for line := range strings.Lines(table) {
		documented[seen(line)] = true
		if line[0] != ' ' {
			rowsOf[strings.Fields(line)[0]]++
		}
	}
	run := func(s traffic.Scenario, last bool) (row string, again bool) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		before, lost := unseen(ebpf), witnesses[EBPF].lost.Load()
		flows, err := s.Run(ctx, n, 2500*time.Millisecond)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Log(err)
			return "", false
		}
		if !assert.NoError(t, err) {
			return "", false
		}
		v, again := witnesses[EBPF].await(flows, func() bool { return unseen(ebpf) > before }, func() bool { return witnesses[EBPF].lost.Load() > lost })
		if again && !last {
			for _, w := range witnesses {
				w.forget(flows)
			}
			return "", true
		}
		assert.Empty(t, witnesses[EBPF].strangers(flows), s.Name)
		assert.True(t, v.whole(), "%s: %v\n%s", s.Name, v, strings.Join(v.wrong[:min(len(v.wrong), 2)], "\n"))
		// Those that poll may be late.
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			row = fmt.Sprintf("%-26s", s.Name)
			for _, b := range backends {
				cell := witnesses[b].judge(flows).cell()
				if s.Short && b != EBPF {
					cell = "by chance"
				}
				row += fmt.Sprintf(" %-11s", cell)
			}
			row = strings.TrimRight(row, " ")
			if documented[seen(row)] || time.Now().After(end) {
				return row, false
			}
		}
	}
	atOnce(16, scenarios, func(i int, s traffic.Scenario) { // for they wait most of the time
		for try := range runs {
			var again bool
			if rows[i], again = run(s, try == runs-1); !again {
				break
			}
			t.Log(s.Name, "again, for a close was not seen")
		}
	})
	rows = slices.DeleteFunc(rows, func(s string) bool { return s == "" })
	var doc strings.Builder
	doc.WriteString("# What each backend sees\n\n")
	doc.WriteString("`go test -run Backends -update ./conntrack` writes this file.\n\n")
	doc.WriteString("Each row is a kind of traffic between two hosts. Its connections live for 2.5 seconds; backends\n")
	doc.WriteString("that poll do so once a second.\n\n")
	doc.WriteString("- `all`: both ends are seen, with direction, program and bytes. Bytes may be wrong by 1 % for TCP\n")
	doc.WriteString("  and connected UDP, by 10 % for others, and by half for MPTCP, which sends late data again.\n")
	doc.WriteString("- `-d`, `-p`, `-b`: some direction, program or bytes are wrong or unknown.\n")
	doc.WriteString("- `some`: not both ends. `by chance`: connections that are shorter than a poll. `-`: nothing.\n\n")
	fmt.Fprintf(&doc, "```text\n%-26s %-11s %-11s %s\n", "", backends[0], backends[1], backends[2])
	for _, row := range rows {
		doc.WriteString(row + "\n")
	}
	doc.WriteString("```\n")
	t.Log("\n" + doc.String())
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(doc.String()), 0o666))
		return
	}
	for _, row := range rows {
		assert.True(t, documented[seen(row)], "go test -run Backends -update writes %q", row)
	}
	for _, s := range scenarios {
		assert.Equal(t, 1, rowsOf[s.Name], "rows of %s", s.Name)
		delete(rowsOf, s.Name)
	}
	assert.Empty(t, rowsOf, "rows of no traffic")
}
