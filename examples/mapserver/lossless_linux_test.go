package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests in this file kill real programs and cut real links while connections come
// and go, and then ask the history for each of them. With CONNMAP_LONG they take a quarter
// of an hour, and need -timeout 40m.

// killServer kills the map server and starts another.
func (s *stage) killServer() {
	s.t.Helper()
	s.upTo(1500 * time.Millisecond)
	s.stored()
	s.server.kill()
	s.upTo(400 * time.Millisecond)
	s.startServer("-headless")
	// The next may be killed before anybody has joined, or while it opens the history.
	if s.random.IntN(3) > 0 {
		s.server.has(s.t, "agent joined", lastWait)
	}
}

// killAgent kills the agent and starts another.
func (s *stage) killAgent() {
	s.t.Helper()
	s.server.has(s.t, "agent joined", lastWait)
	r := &s.runs[len(s.runs)-1]
	until := time.Now()
	s.recorded(until, patient)
	r.safe = until
	s.upTo(700 * time.Millisecond)
	s.agent.kill()
	r.dead = time.Now()
	s.tell("pause")
	s.startAgent()
	s.tell("go")
}

// cut parts the host from the map server, whose packets then go nowhere.
func (s *stage) cut() { s.ip(fmt.Sprintf("-n %s link set v%sb down", s.center, s.id)) }

// mend joins them again.
func (s *stage) mend() {
	s.ip(fmt.Sprintf("-n %s link set v%sb up", s.center, s.id))
	s.ip(fmt.Sprintf("-n %s route add 203.0.113.0/24 dev v%sb src 198.51.100.20", s.center, s.id))
}

// TestKills: whoever is killed, at whatever moment, no connection is lost but what a
// killed agent had not told yet, and none is recorded twice.
func TestKills(t *testing.T) {
	s := newStage(t, "0")
	rounds := 8
	if long() {
		rounds = 100
	}
	s.tell("go")
	for i := range rounds {
		if i%3 == 2 {
			s.killAgent()
		} else {
			s.killServer()
		}
	}
	s.tell("pause")
	s.server.has(t, "agent joined", lastWait)
	s.recorded(time.Now(), patient)
	s.check()
	t.Run("ghosts", func(t *testing.T) { s.ghosts(t, false) })
	if long() {
		t.Run("silent ghosts", func(t *testing.T) { s.ghosts(t, true) })
	}
}

// ghosts: of an agent that has gone the map shows nothing.
func (s *stage) ghosts(t *testing.T, silent bool) {
	s.agent.kill()
	s.server.kill()
	// How long a start takes on this machine now, before which the picture must not be drawn.
	begin := time.Now()
	s.startServer("-headless", "-history", s.history())
	s.startAgent()
	after := 10*time.Second + 4*time.Since(begin)
	s.agent.kill()
	s.server.kill()
	if silent {
		// It is known to be gone when it has not been heard for 30 s.
		after += 33 * time.Second
	}
	var gone time.Time
	for {
		begin := time.Now()
		// A picture says at once what a headless server says once a minute.
		s.startServer("-history", s.history(), "-screenshot", filepath.Join(s.dir, "map.png"), "-after", after.String())
		s.startAgent()
		s.tell("hold")
		conns := s.all()
		held := conns[len(conns)-1]
		known := poll(after, 100*time.Millisecond, func() bool { return s.stored()[ends{held.Local, held.Peer}].open == 1 })
		if known && silent {
			s.cut()
			defer s.mend()
		}
		s.agent.kill()
		if gone = time.Now(); known && gone.Sub(begin) < after-2*time.Second {
			break
		}
		// The picture was drawn too early, on a machine that is busy.
		require.False(t, known && silent)
		require.Less(t, after, 5*time.Minute, "the map knows a connection that lives: %v", known)
		s.server.kill()
		after *= 2
	}
	got := s.server.has(t, `map\.png: (.*)`, after+patient)[1]
	t.Logf("%.0f s after the agent has gone: %s", time.Since(gone).Seconds(), got)
	assert.Contains(t, got, "0 agents, 0 live connections")
}

// anyOf reports whether something that opened after a time is recorded.
func (s *stage) anyOf(since time.Time) bool {
	s.t.Helper()
	got, all := s.stored(), s.all()
	before := make(map[ends]bool) // ports are used again
	for _, m := range all {
		if !m.Begin.After(since) {
			before[ends{m.Local, m.Peer}] = true
		}
	}
	return slices.ContainsFunc(all, func(m made) bool {
		e := ends{m.Local, m.Peer}
		return !before[e] && got[e].count > 0
	})
}

// back waits until something that opens now is recorded, and returns how long that took.
func (s *stage) back(within time.Duration) time.Duration {
	s.t.Helper()
	begin := time.Now()
	s.tell("probe")
	ok := func() bool { return s.anyOf(begin) }
	if !assert.True(s.t, poll(within, 300*time.Millisecond, ok), "the agent is back in %v", within) {
		require.True(s.t, poll(lastWait, 300*time.Millisecond, ok), "the agent is back")
	}
	return time.Since(begin).Round(100 * time.Millisecond)
}

// TestPartition: of what happens while an agent does not reach its server nothing is lost
// or doubled.
func TestPartition(t *testing.T) {
	s := newStage(t, "0")
	s.tell("go")
	away := 10 * time.Second
	if long() {
		away = 5 * time.Minute
		s.server.has(t, "1 agent, [1-9]", 2*patient)
	}
	time.Sleep(2 * time.Second)
	s.cut()
	begin := time.Now()
	if long() {
		s.server.has(t, "agent left", 35*time.Second)
		t.Logf("the agent has gone %v after the cut", time.Since(begin).Round(time.Second))
		s.server.has(t, "(?s)agent left.* 0 agents, 0 live connections", 2*patient)
	}
	time.Sleep(time.Until(begin.Add(away)))
	assert.False(t, s.anyOf(begin), "the link is cut")
	s.mend()
	within := patient
	if long() {
		within += 5 * time.Minute // it asks less and less often
	}
	t.Logf("back %v after a break of %v", s.back(within), away)
	s.tell("pause")
	s.recorded(time.Now(), patient)
	s.check()
}

// powerOff kills the map server, and what the kernel would send for it later on.
func (s *stage) powerOff() {
	// Kernels without CONFIG_INET_DIAG_DESTROY cannot: to the agent it is a kill then.
	exec.Command("nsenter", "--net=/run/netns/"+s.center, "ss", "-K", "sport", "=", "6789").Run()
	s.server.kill()
}

// TestPowerOff: nor is anything doubled when an agent has to tell again what the server
// has recorded already, since the acknowledgement went down with the server's host.
func TestPowerOff(t *testing.T) {
	s := newStage(t, "0")
	s.tell("go")
	times := 3
	if long() {
		times = 5 // more, and the agent waits for minutes until it tries again
	}
	for range times {
		time.Sleep(time.Second)
		s.cut()
		time.Sleep(time.Second)
		s.powerOff()
		s.startServer("-headless")
		s.server.has(t, "Recording", patient)
		s.mend()
		t.Logf("back after %v", s.back(lastWait))
	}
	s.tell("pause")
	s.recorded(time.Now(), patient)
	s.check()
}

// TestOlderListener: a connection whose program becomes known a moment after it has opened
// is one connection. The agent cannot look into a listener of MPTCP that is older than
// itself: it learns who has accepted when that reads.
func TestOlderListener(t *testing.T) {
	s := newStage(t, "1")
	s.tell("go")
	time.Sleep(5 * time.Second)
	s.tell("pause")
	s.recorded(time.Now(), patient)
	s.check()
}
