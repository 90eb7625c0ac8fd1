package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/random"
)

// terminate asks a program to end, and waits for it.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	p.end.Do(func() {
		late := time.AfterFunc(patient, func() { p.cmd.Process.Kill() })
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.cmd.Wait()
		assert.True(t, late.Stop(), "%s does not end", p.name)
		p.in.Close()
	})
}

// A trial is a stage on which things go wrong.
type trial struct {
	*stage
	log []string // what went wrong, and when
}

func (tr *trial) say(format string, args ...any) {
	tr.log = append(tr.log, time.Now().Format("04:05.000")+" "+fmt.Sprintf(format, args...))
}

// The disks of server and agent are small, and can be filled.
const (
	diskOfServer = "connmap"
	diskOfAgent  = "agent"
)

func (tr *trial) mount(name string, size int) {
	dir := filepath.Join(tr.dir, name)
	require.NoError(tr.t, os.MkdirAll(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		tr.t.Skip("needs small disks: ", err)
	}
	tr.t.Cleanup(func() {
		if tr.t.Failed() {
			// The history shows what it lacks.
			tr.t.Logf("kept: %v", os.CopyFS(dir+".kept", os.DirFS(dir)))
		}
		assert.NoError(tr.t, syscall.Unmount(dir, syscall.MNT_DETACH))
	})
}

// fill leaves a disk no room.
func (tr *trial) fill(name string) {
	tr.say("the disk of %s is full", name)
	f, err := os.Create(filepath.Join(tr.dir, name, "full"))
	require.NoError(tr.t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else {
			require.NoError(tr.t, err)
		}
	}
}

func (tr *trial) free(name string) {
	tr.say("the disk of %s has room", name)
	require.NoError(tr.t, os.Remove(filepath.Join(tr.dir, name, "full")))
}

func (tr *trial) endServer(kill bool) {
	tr.say("the server ends, killed: %v", kill)
	if kill {
		tr.server.kill()
	} else {
		tr.server.terminate(tr.t)
	}
	tr.say("the server has ended")
}

func (tr *trial) beginServer() {
	tr.startServer("-headless")
	tr.say("the server starts")
}

// endAgent ends the agent. What it knew when it was killed, and had not told, is lost.
func (tr *trial) endAgent(kill bool) {
	r := &tr.runs[len(tr.runs)-1]
	until := time.Now()
	if kill {
		tr.recorded(until, lastWait)
		tr.upTo(700 * time.Millisecond)
		tr.say("the agent is killed")
		tr.agent.kill()
	} else {
		tr.say("the agent ends")
		until = time.Now().Add(-unheard)
		tr.agent.terminate(tr.t)
	}
	r.safe, r.dead = until, time.Now()
	tr.say("the agent has ended")
}

// unheard is how long the kernel may take to tell an agent of an end.
const unheard = 200 * time.Millisecond

func (tr *trial) beginAgent() {
	tr.tell("pause")
	tr.startAgent()
	tr.say("the agent sees all")
	tr.tell("go")
}

// faults are what goes wrong, in turn. After each all is well for a while.
var faults = []func(*trial){
	func(tr *trial) {
		tr.endServer(true)
		tr.upTo(2 * time.Second)
		tr.beginServer()
	},
	func(tr *trial) {
		tr.endServer(false)
		tr.upTo(2 * time.Second)
		tr.beginServer()
	},
	func(tr *trial) { // again and again, perhaps before anybody has joined or the history is open
		for range 1 + tr.random.IntN(4) {
			tr.endServer(tr.random.IntN(4) > 0)
			tr.beginServer()
			tr.upTo(700 * time.Millisecond)
		}
	},
	func(tr *trial) {
		tr.endAgent(true)
		tr.beginAgent()
	},
	func(tr *trial) {
		tr.endAgent(false)
		tr.beginAgent()
	},
	func(tr *trial) { // the agent ends while there is no server
		tr.endServer(true)
		tr.upTo(3 * time.Second)
		tr.endAgent(false)
		tr.beginServer()
		tr.beginAgent()
	},
	func(tr *trial) { // the agent starts while there is no server
		kill := tr.random.IntN(2) == 0
		if kill {
			tr.endAgent(true)
		}
		tr.endServer(true)
		if !kill {
			tr.upTo(3 * time.Second)
			tr.endAgent(false)
		}
		tr.launchAgent()
		tr.say("the agent starts")
		tr.agent.has(tr.t, "not connected", patient)
		time.Sleep(time.Second)
		tr.follows()
		tr.upTo(10 * time.Second)
		tr.beginServer()
		tr.followAgent()
		tr.say("the agent sees all")
	},
	func(tr *trial) { // both at once
		tr.endAgent(true)
		tr.endServer(true)
		tr.beginServer()
		tr.beginAgent()
	},
	func(tr *trial) {
		tr.say("the link is down")
		tr.cut()
		tr.upTo(15 * time.Second)
		tr.mend()
		tr.say("the link is up")
	},
	func(tr *trial) {
		tr.say("links break after a while, and one does now")
		tr.order("now")
		tr.order("cutting")
		tr.upTo(15 * time.Second)
		tr.say("links do not break any more")
		tr.order("now")
	},
	func(tr *trial) {
		spoils := []string{slowly, nothingForth, nothingBack, nothingForth + nothingBack, jammed}
		spoil := spoils[tr.random.IntN(len(spoils))]
		tr.say("links are spoilt: %s", spoil)
		tr.order(spoil)
		tr.upTo(15 * time.Second)
		tr.say("links are well")
		tr.order("well")
	},
	func(tr *trial) { tr.jump("agent") },
	func(tr *trial) { tr.jump("server") },
	func(tr *trial) { // links that begin before and after
		tr.jump([]string{"agent", "server"}[tr.random.IntN(2)])
		tr.say("the link breaks")
		tr.cut()
		tr.order("now")
		tr.upTo(5 * time.Second)
		tr.mend()
	},
	func(tr *trial) { // more than memory has room for
		tr.endServer(tr.random.IntN(2) == 0)
		tr.say("very many connections")
		tr.tell("burst")
		tr.say("that is over")
		tr.beginServer()
	},
	func(tr *trial) { // somebody removes what lies beside the history
		tr.server.has(tr.t, "Recording", patient)
		tr.say("the history's log is removed")
		said := len(tr.server.text())
		for _, suffix := range []string{"-wal", "-shm", ".reserve"} {
			os.Remove(tr.history() + suffix)
		}
		noticed := func() bool { return strings.Contains(tr.server.text()[said:], "lost its log") }
		require.True(tr.t, poll(patient, 100*time.Millisecond, noticed), "the server notices")
	},
	func(tr *trial) {
		tr.fill(diskOfServer)
		tr.upTo(8 * time.Second)
		tr.free(diskOfServer)
	},
	func(tr *trial) { // the server starts while its disk is full
		tr.fill(diskOfServer)
		tr.upTo(3 * time.Second)
		tr.endServer(tr.random.IntN(2) == 0)
		tr.beginServer()
		tr.upTo(5 * time.Second)
		tr.free(diskOfServer)
	},
	func(tr *trial) { // the agent cannot spool, and goes on from memory
		tr.fill(diskOfAgent)
		tr.endServer(true)
		tr.upTo(3 * time.Second)
		tr.beginServer()
		tr.free(diskOfAgent)
	},
	func(tr *trial) {
		for _, p := range []*process{tr.server, tr.agent} {
			if tr.random.IntN(2) == 0 {
				tr.say("%s stands still", p.name)
				p.cmd.Process.Signal(syscall.SIGSTOP)
				tr.upTo(5 * time.Second)
				p.cmd.Process.Signal(syscall.SIGCONT)
				tr.say("%s goes on", p.name)
			}
		}
	},
}

// prove has things go wrong, and then asks the history for each connection that was made.
func prove(t *testing.T, chance *rand.Rand) {
	dir, err := os.MkdirTemp("", "connmap-prove-")
	require.NoError(t, err)
	tr := &trial{stage: &stage{t: t, random: chance, dir: dir, proxied: true}}
	t.Cleanup(func() {
		t.Logf("what happened, in minutes and seconds:\n%s", strings.Join(tr.log, "\n"))
		if !t.Failed() {
			require.NoError(t, os.RemoveAll(dir))
			return
		}
		for i, p := range tr.started {
			os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d-%s.log", i, p.name)), []byte(p.text()), 0o600)
		}
		t.Logf("the history, and what agents and servers said, are in %s", dir)
	})
	tr.mount(diskOfServer, 128<<20)
	tr.mount(diskOfAgent, 16<<20)
	tr.setClocks()
	tr.begin("0")
	tr.tell("last")
	tr.tell("go")
	for range 6 {
		tr.upTo(3 * time.Second)
		faults[tr.random.IntN(len(faults))](tr)
		if before := tr.declared; tr.stored() != nil && tr.declared != before {
			tr.say("%d are recorded as lost so far", tr.declared)
		}
	}
	tr.upTo(3 * time.Second)
	tr.tell("pause")
	tr.tell("end")
	tr.say("no more connections")
	tr.recorded(time.Now(), 2*lastWait)
	tr.check()
}

// TestProve: whatever goes wrong, each connection is in the history once, with its bytes,
// or is counted as lost. It runs for as long as CONNMAP_PROVE says.
func TestProve(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("CONNMAP_PROVE"))
	if err != nil {
		t.Skip("CONNMAP_PROVE=1h runs it for an hour")
	}
	chance := random.For(t)
	rounds := 0
	for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); rounds++ {
		t.Run(fmt.Sprintf("round=%d", rounds), func(t *testing.T) { prove(t, chance) })
	}
	t.Logf("%d rounds in %v", rounds, length)
}
