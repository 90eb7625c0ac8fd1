package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/internal/random"
)

// A stage is a host with an agent, another with a map server, and a third one for the
// agent's host to talk to, whom a cut of the link between the first two does not part.
type stage struct {
	t            *testing.T
	random       *rand.Rand // of the moments when something happens
	dir          string
	id           string     // see twoHosts
	host, center string     // namespaces
	here, there  netip.Addr // ends of the connections, of this run of the test alone
	programs     string     // beginning of the files' names
	join         []string   // arguments of the agent
	server       *process
	agent        *process
	traffic      *process
	runs         []agentRun
	seen         map[ends]record // in the history
	declared     int             // lost, as the agents say
	done         chan struct{}   // the traffic program has done what it was told
	proxied      bool            // the agent reaches the server through proxy
	proxy        *process
	build        []string   // arguments, for the programs
	clocks       bool       // those of server and agent are in files of dir
	started      []*process // servers and agents

	mu    sync.Mutex
	conns []made
}

// An agentRun is the life of an agent.
type agentRun struct {
	begins  time.Time // it may see what is there from here on
	follows time.Time // it is known to see all that is there from here on; zero: it is not yet
	safe    time.Time // what ended before is known to be recorded; zero while it lives
	dead    time.Time // zero while it lives
}

// newStage makes the hosts, and starts a map server, an agent and the traffic program,
// whose peer listens with MPTCP, as programs in Go do, if that is 1.
func newStage(t *testing.T, mptcp string) *stage {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
	t.Parallel()
	s := &stage{t: t, random: random.For(t), dir: t.TempDir()}
	s.begin(mptcp)
	return s
}

func (s *stage) begin(mptcp string) {
	t := s.t
	t.Helper()
	id, host, center := twoHosts(t)
	s.id, s.host, s.center, s.done = id, host, center, make(chan struct{}, 1)
	// An agent sees all namespaces: also what other tests and a second run of this one are at.
	net := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(net[4:], uint32(os.Getpid()))
	binary.BigEndian.PutUint32(net[8:], uint32(hosts.Add(1)))
	net[15] = 0x10
	s.here = netip.AddrFrom16(net)
	net[15] = 0x30
	s.there = netip.AddrFrom16(net)
	third := "cm" + id + "c"
	s.ip("netns add " + third)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", third).Run() })
	for _, args := range []string{
		fmt.Sprintf("link add w%sa netns %s type veth peer name w%sc netns %s", id, host, id, third),
		fmt.Sprintf("-n %s addr add %s/64 dev w%sa nodad", host, s.here, id),
		fmt.Sprintf("-n %s addr add %s/64 dev w%sc nodad", third, s.there, id),
		fmt.Sprintf("-n %s link set w%sa up", host, id), fmt.Sprintf("-n %s link set w%sc up", third, id),
		"-n " + third + " link set lo up",
	} {
		s.ip(args)
	}
	t.Cleanup(func() {
		for _, p := range []*process{s.server, s.agent} {
			if t.Failed() && p != nil {
				t.Logf("the last %s said:\n%s", p.name, p.text())
			}
		}
	})
	require.NoError(t, os.MkdirAll(filepath.Join(s.dir, "agent"), 0o700)) // of its state
	s.programs = filepath.Join(s.dir, fmt.Sprintf("cm%d-", os.Getpid()))
	for name, pkg := range map[string]string{"map": "examples/mapserver", "agent": "cmd/connmap-agent"} {
		require.NoError(t, os.Symlink(built(t, pkg, s.build...), s.programs+name))
	}
	self, err := os.Executable()
	require.NoError(t, err)
	for _, name := range []string{"churn", "echo"} {
		require.NoError(t, os.Symlink(self, s.programs+name))
	}
	var peers, echo []string
	for _, port := range []uint16{443, 993, 8080} {
		peer := netip.AddrPortFrom(s.there, port).String()
		peers, echo = append(peers, peer), append(echo, "tcp", peer)
	}
	closer := netip.AddrPortFrom(s.there, 8443).String()
	echo = append(echo, "closer", closer)
	launch(t, third, []string{"CONNMAP_TRAFFIC=serve", "GODEBUG=multipathtcp=" + mptcp}, nil, s.programs+"echo", echo...).has(t, "ready", patient)
	s.traffic = launch(t, host, []string{"CONNMAP_TRAFFIC=churn"}, s.told, s.programs+"churn", append([]string{closer}, peers...)...)
	s.startServer("-headless")
	line := s.server.has(t, `connmap-agent (\S+) -\n`, patient)
	token := filepath.Join(s.dir, "token")
	require.NoError(t, os.WriteFile(token, []byte(tokenOf(t, s.dir).String()), 0o600))
	s.join = []string{"-token-file", token, line[1]}
	if s.proxied {
		s.proxy = launch(t, host, []string{"CONNMAP_TRAFFIC=proxy"}, nil, s.programs+"echo", "203.0.113.10:6789", "198.51.100.20:6789")
		s.proxy.has(t, "ready", patient)
		s.join[slices.Index(s.join, line[1])] = "203.0.113.10:6789"
	}
	s.startAgent()
}

func (s *stage) ip(args string) {
	s.t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	require.NoError(s.t, err, "ip %s: %s", args, out)
}

// told takes in a line of the traffic program.
func (s *stage) told(line string) {
	var m made
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		s.t.Errorf("traffic program: %v: %s", err, line)
		return
	}
	if !m.Local.IsValid() {
		s.done <- struct{}{}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, m)
}

// tell has the traffic program do something, and waits for it.
func (s *stage) tell(what string) {
	s.t.Helper()
	_, err := fmt.Fprintln(s.traffic.in, what)
	require.NoError(s.t, err)
	if what == "go" || what == "probe" {
		return
	}
	select {
	case <-s.done:
	case <-time.After(patient):
		require.Fail(s.t, "the traffic program does not "+what)
	}
}

func (s *stage) startServer(args ...string) {
	s.t.Helper()
	env := append(s.clock("server"), "XDG_CONFIG_HOME="+s.dir, "XDG_CACHE_HOME="+s.dir, "XDG_DATA_HOME="+s.dir)
	s.server = launch(s.t, s.center, env, nil, s.programs+"map",
		append([]string{"-no-local", "-home", "52.5,13.4", "-listen", "198.51.100.20:6789"}, args...)...)
	s.started = append(s.started, s.server)
}

// clock is the environment of a program whose clock is in a file.
func (s *stage) clock(name string) []string {
	if !s.clocks {
		return nil
	}
	return []string{"CONNMAP_AHEAD=" + filepath.Join(s.dir, name+".clock")}
}

// startAgent starts an agent and waits until it sees what opens.
func (s *stage) startAgent() {
	s.t.Helper()
	s.launchAgent()
	s.followAgent()
}

// launchAgent starts an agent.
func (s *stage) launchAgent() {
	s.t.Helper()
	s.runs = append(s.runs, agentRun{begins: time.Now()})
	env := append(s.clock("agent"), "STATE_DIRECTORY="+filepath.Join(s.dir, "agent"))
	s.agent = launch(s.t, s.host, env, nil, s.programs+"agent", append([]string{"-v", "-name", "nas"}, s.join...)...)
	s.started = append(s.started, s.agent)
}

// followAgent waits until the agent sees what opens.
func (s *stage) followAgent() {
	s.t.Helper()
	if backend := s.agent.has(s.t, `backend=(\w+)`, patient)[1]; backend != "ebpf" {
		s.t.Skipf("needs the backend ebpf: %s does not see connections as short as these", backend)
	}
	s.agent.has(s.t, "msg=connected", lastWait)
	// What is recorded of these has opened when the agent was at work.
	start := time.Now()
	ok := poll(patient, 0, func() bool {
		s.tell("probe")
		time.Sleep(700 * time.Millisecond)
		return s.anyOf(start)
	})
	require.True(s.t, ok, "the agent sees a connection")
	s.follows()
}

// follows notes that the agent sees what opens.
func (s *stage) follows() {
	if r := &s.runs[len(s.runs)-1]; r.follows.IsZero() {
		r.follows = time.Now()
	}
}

func (s *stage) all() []made {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns)
}

// An ends is a connection as one of its sides names it.
type ends struct{ local, peer netip.AddrPort }

// A record is what the history holds of it.
type record struct {
	rows, count, open int // rows, openings, and rows without an end
	tx, rx            int64
}

// A bound says how often a connection is to be in the history, and with how many bytes in
// each direction.
type bound struct {
	made, least, most     int
	leastBytes, mostBytes int64
}

// bounds says what is to be in the history when all that ended before a time is
// recorded. What an agent had not told when it was killed may be missing; what opened
// thereafter, and ended before another began, nobody can have seen.
func (s *stage) bounds(until time.Time) map[ends]bound {
	want := make(map[ends]bound)
	for _, m := range s.all() {
		n := bound{made: 1}
		if m.Probe {
			n.most, n.mostBytes = 1, m.Bytes
		}
		for _, r := range s.runs {
			safe := r.safe
			if safe.IsZero() {
				safe = until
			}
			if !m.End.IsZero() && m.End.Before(r.begins) || !r.dead.IsZero() && m.Begin.After(r.dead) {
				continue
			}
			n.most, n.mostBytes = 1, m.Bytes
			if !r.follows.IsZero() && m.End.After(r.follows) && m.End.Before(safe) {
				n.least = 1
				if !m.Reset {
					n.leastBytes = m.Bytes
				}
			}
		}
		// The agent sees both sides.
		for _, e := range []ends{{m.Local, m.Peer}, {m.Peer, m.Local}} {
			w := want[e]
			want[e] = bound{w.made + n.made, w.least + n.least, w.most + n.most, w.leastBytes + n.leastBytes, w.mostBytes + n.mostBytes}
		}
	}
	return want
}

// stored reads what the history holds of the tests' connections; none if nothing has been
// recorded yet.
func (s *stage) stored() map[ends]record {
	s.t.Helper()
	if _, err := os.Stat(s.history()); err != nil {
		return nil
	}
	got, declared, err := s.read()
	if err != nil {
		s.t.Logf("the history cannot be read now: %v", err)
		return nil
	}
	s.declared = declared
	for e, before := range s.seen {
		if r := got[e]; r.rows < before.rows || r.count < before.count {
			require.Fail(s.t, "what was recorded has gone", "%v to %v: %+v, before %+v", e.local, e.peer, r, before)
		}
	}
	s.seen = got
	return got
}

func (s *stage) history() string { return filepath.Join(s.dir, "connmap", "history.sqlite") }

// read reads what the history holds of the tests' connections, and how much agents say
// that they have lost.
func (s *stage) read() (got map[ends]record, declared int, err error) {
	db, err := sqlite.OpenConn(s.history(), sqlite.OpenReadOnly)
	if err != nil {
		return nil, 0, err
	}
	defer db.Close()
	db.SetBusyTimeout(5 * time.Second)
	got = make(map[ends]record)
	err = sqlitex.ExecuteTransient(db, `SELECT local_ip, local_port, ip, port, count, closed, tx, rx FROM detailed_history`, &sqlitex.ExecOptions{
		ResultFunc: func(row *sqlite.Stmt) error {
			local, err := netip.ParseAddr(row.ColumnText(0))
			peer, err2 := netip.ParseAddr(row.ColumnText(2))
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			if local != s.here && local != s.there {
				return nil // others are at work on this machine too
			}
			e := ends{netip.AddrPortFrom(local, uint16(row.ColumnInt(1))), netip.AddrPortFrom(peer, uint16(row.ColumnInt(3)))}
			r := got[e]
			r.rows++
			r.count += row.ColumnInt(4)
			if row.ColumnIsNull(5) {
				r.open++
			}
			r.tx += row.ColumnInt64(6)
			r.rx += row.ColumnInt64(7)
			got[e] = r
			return nil
		},
	})
	if err != nil {
		return nil, 0, err
	}
	err = sqlitex.ExecuteTransient(db, `SELECT coalesce(sum(count), 0) FROM losses`, &sqlitex.ExecOptions{
		ResultFunc: func(row *sqlite.Stmt) error { declared = row.ColumnInt(0); return nil },
	})
	return got, declared, err
}

// recorded waits until all that ended before a time is in the history.
func (s *stage) recorded(until time.Time, within time.Duration) {
	s.t.Helper()
	time.Sleep(500 * time.Millisecond) // the last may not have been told yet
	ok := poll(within, 500*time.Millisecond, func() bool {
		got, missing := s.stored(), 0
		for e, n := range s.bounds(until) {
			r := got[e]
			missing += max(0, n.least-r.count)
			if n.least == n.most && r.rows > 0 && r.open == r.rows {
				missing++ // its end
			}
		}
		return missing <= s.declared
	})
	got := s.stored()
	require.True(s.t, ok, "what ended before %v is not recorded:\n%s", until.Format(time.StampMilli), s.differences(until, got))
}

// differences tells, for people, what is wrong with the history.
func (s *stage) differences(until time.Time, got map[ends]record) string {
	const most = 20
	var out []string
	want := s.bounds(until)
	conns := s.all()
	for e, n := range want {
		r := got[e]
		ended := r.open == 0 || n.least < n.most
		whole := max(r.tx, r.rx) <= n.mostBytes && (s.declared > 0 || min(r.tx, r.rx) >= n.leastBytes)
		if n.least <= r.count && r.count <= n.most && ended && whole {
			continue
		}
		var when []string
		for _, m := range conns {
			if (m.Local == e.local && m.Peer == e.peer) || (m.Local == e.peer && m.Peer == e.local) {
				when = append(when, m.Begin.Format("04:05.000")+"-"+m.End.Format("04:05.000"))
			}
		}
		if len(when) > 10 {
			when = append(when[:10], "...")
		}
		out = append(out, fmt.Sprintf("%v to %v, made %v: got %+v, want %+v", e.local, e.peer, when, r, n))
	}
	for e, r := range got {
		if _, ok := want[e]; !ok {
			out = append(out, fmt.Sprintf("%v to %v, not made or not ended: got %+v", e.local, e.peer, r))
		}
	}
	slices.Sort(out)
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return strings.Join(out, "\n")
}

// more tells of what is there more than once.
func (s *stage) more(until time.Time, got map[ends]record) string {
	var out []string
	for e, n := range s.bounds(until) {
		if r := got[e]; r.count > n.most && len(out) < 20 {
			out = append(out, fmt.Sprintf("%v to %v: got %+v, want %+v", e.local, e.peer, r, n))
		}
	}
	return strings.Join(out, "\n")
}

// check compares the history with what was made, when all of it has ended and is
// recorded.
func (s *stage) check() {
	s.t.Helper()
	got := s.stored()
	until := time.Now()
	var open, perhaps, missing, lost, doubled, rows int
	for e, n := range s.bounds(until) {
		r := got[e]
		open += n.most
		perhaps += n.most - n.least
		missing += max(0, n.least-r.count)
		lost += max(0, n.most-r.count)
		doubled += max(0, r.count-n.most)
		rows += r.rows
	}
	s.t.Logf("%d connections made; %d agents could see %d of their ends, and may have been killed before they told %d; lost %d, doubled %d; %d rows, %d declared lost",
		len(s.all()), len(s.runs), open, perhaps, lost, doubled, rows, s.declared)
	if missing == 0 || missing > s.declared {
		assert.Empty(s.t, s.differences(until, got))
	}
	if doubled > 0 {
		// Of those of which a program was not known a second row tells, but no second time.
		assert.Fail(s.t, "some are recorded more than once", s.more(until, got))
	}
	assert.Equal(s.t, "ok", s.integrity())
}

func (s *stage) integrity() (answer string) {
	s.t.Helper()
	db, err := sqlite.OpenConn(s.history(), sqlite.OpenReadOnly)
	require.NoError(s.t, err)
	defer db.Close()
	db.SetBusyTimeout(5 * time.Second)
	require.NoError(s.t, sqlitex.ExecuteTransient(db, `PRAGMA integrity_check`, &sqlitex.ExecOptions{
		ResultFunc: func(row *sqlite.Stmt) error { answer = row.ColumnText(0); return nil },
	}))
	return answer
}

// upTo waits at random.
func (s *stage) upTo(d time.Duration) { time.Sleep(time.Duration(s.random.Int64N(int64(d)))) }
