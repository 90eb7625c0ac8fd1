package feed

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
	"github.com/connmapgo/connmap/internal/race"
	"github.com/connmapgo/connmap/internal/random"
	"github.com/connmapgo/connmap/internal/temp"
)

// A flavor says what befalls a simulated world.
type flavor int

const (
	// Connections break, the server is killed and restarted, and its disk is slow: all close events
	// are recorded once, and just what the source lost counts as lost.
	strict flavor = iota
	// Besides, there is much more than memory has room for: what is not recorded counts as
	// lost.
	tight
	// Besides, the agent ends and is killed, and has a spool: what only a killed one knew is
	// lost.
	restarts
	flavors
)

func (f flavor) String() string { return [...]string{"strict", "tight", "restarts"}[f] }

// A simLife is a connection of the simulated host. Its number is its Conn.Rx.
type simLife struct {
	conn    conntrack.Conn
	ended   bool
	perhaps bool // only an agent that was killed may have known of its end
}

// A world is a host with an agent, a map server, and the link between them. What befalls
// them follows from a seed, as far as the Go scheduler lets it. Time is that of synctest.
type world struct {
	flavor flavor
	rng    *mathrand.Rand
	id     *Identity
	dir    string      // of the spool; empty: none
	room   int         // of the agent's table
	spool  int64       // bytes that the spool has room for
	fat    bool        // connections have long texts: fewer go into a frame
	full   atomic.Bool // the spool's disk
	most   int         // connections that the server takes; zero: the default
	began  time.Time
	log    []string

	lives  []*simLife
	living []*simLife
	lost   uint64 // that have to be recorded as lost

	src    script // of the agent; nil: none runs
	stop   context.CancelFunc
	over   chan error
	dead   bool // the agent is killed
	muted  sync.Mutex
	disk   *simDisk
	server *simServer // nil: none runs
	proxy  *proxy
	wrong  []error
}

func (w *world) say(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%9.3f  ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

// simulate runs a world for some steps, and says what is wrong when it has calmed down.
func simulate(t *testing.T, id *Identity, f flavor, seed uint64, steps int) (log []string, err error) {
	dir := ""
	if f >= tight {
		dir = filepath.Join(t.TempDir(), "spool")
	}
	synctest.Test(t, func(t *testing.T) {
		w := &world{flavor: f, rng: mathrand.New(mathrand.NewPCG(seed, uint64(f))), id: id, dir: dir, room: 30_000, began: time.Now(), disk: newSimDisk()}
		if f != strict {
			w.room = 40 + w.rng.IntN(300)
			if w.fat = w.rng.IntN(2) == 0; w.fat && w.rng.IntN(2) == 0 {
				w.room = 1000 // some frames
			}
			w.spool = 8 << w.rng.IntN(24)
			if w.rng.IntN(3) == 0 {
				w.dir = ""
			}
			if w.rng.IntN(4) == 0 {
				w.most = 5 + w.rng.IntN(20)
			}
		}
		weathers := mathrand.New(mathrand.NewPCG(seed, 100))
		w.proxy = &proxy{server: w.dial, link: func(n int) weather {
			// Not so slow that a handshake takes too long.
			wr := weather{delay: time.Duration(weathers.IntN(30)) * time.Millisecond, pieces: 8 + weathers.IntN(8), seed: seed + uint64(n)}
			if weathers.IntN(2) == 0 {
				wr.breaks, wr.from, wr.after = breakClose+breakage(weathers.IntN(int(breakJam))), side(weathers.IntN(2)), 1500+weathers.IntN(1<<weathers.IntN(16))
			}
			return wr
		}}
		w.startServer()
		w.startAgent()
		for range steps {
			w.step()
		}
		w.calm()
		w.wrong = append(w.wrong, w.stopAgent())
		if w.server != nil {
			w.server.end(false)
		}
		w.proxy.close()
		log, err = w.log, errors.Join(w.wrong...)
	})
	return log, err
}

// dial connects to the server.
func (w *world) dial(ctx context.Context) (net.Conn, error) {
	w.muted.Lock()
	s, dead := w.server, w.dead
	w.muted.Unlock()
	if s == nil || dead {
		return nil, syscall.ECONNREFUSED
	}
	near, far := newDuplex()
	select {
	case s.listener.conns <- far:
		return near, nil
	case <-s.listener.done:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *world) startServer() {
	w.say("the server starts")
	s := startSimServer(w.id, w.disk, w.most, w.flavor == strict, w.rng.Uint64())
	w.muted.Lock()
	w.server = s
	w.muted.Unlock()
}

func (w *world) stopServer(kill bool) {
	s := w.server
	w.muted.Lock()
	w.server = nil
	w.muted.Unlock()
	if kill {
		s.mu.Lock()
		s.dead = true
		s.mu.Unlock()
		w.cut()
	}
	s.end(kill)
	for _, text := range s.wrong {
		w.wrong = append(w.wrong, errors.New(text))
	}
}

// cut breaks the links that there are.
func (w *world) cut() {
	w.proxy.mu.Lock()
	defer w.proxy.mu.Unlock()
	for _, l := range w.proxy.links {
		l.close()
	}
}

func (w *world) startAgent() {
	w.say("the agent starts")
	w.muted.Lock()
	w.dead = false
	w.muted.Unlock()
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	w.src, w.over = make(script), make(chan error, 1)
	c := &Client{Addr: "server:1", Token: w.id.Token(), Name: "nas", Source: w.src, Spool: w.dir, dial: w.proxy.dial, room: w.tableOptions()}
	over := w.over
	go func() { over <- c.Run(ctx) }()
	for _, l := range w.living {
		w.send(conntrack.Event{Kind: conntrack.Open, Conn: l.conn})
	}
}

// tableOptions give an agent less room than by default.
func (w *world) tableOptions() frame.TableOptions {
	return frame.TableOptions{MaxCloses: w.room, MaxSpool: w.spool, WriteFile: func(name string, data []byte) error {
		if w.full.Load() {
			return syscall.ENOSPC
		}
		return temp.Write(name, 0o600, data)
	}}
}

// damage has one of the spool's files be cut off, or go.
func (w *world) damage() error {
	names, err := filepath.Glob(filepath.Join(w.dir, "0*"+".ends"))
	if len(names) == 0 || err != nil {
		return err
	}
	name := names[w.rng.IntN(len(names))]
	w.say("damage to %s", filepath.Base(name))
	if w.rng.IntN(2) == 0 {
		w.forgive() // its name would have said how many ends it had
		return os.Remove(name)
	}
	return os.Truncate(name, w.rng.Int64N(200))
}

// stopAgent ends the agent. What was not acknowledged stays in the spool, if there is one.
func (w *world) stopAgent() error {
	w.stop()
	err := <-w.over
	w.src = nil
	return err
}

// killAgent has the agent do nothing more.
func (w *world) killAgent() error {
	w.muted.Lock()
	w.dead = true
	w.muted.Unlock()
	w.cut()
	synctest.Wait()
	kept := w.dir + ".kept"
	var err error
	if w.dir != "" {
		err = errors.Join(os.RemoveAll(kept), os.CopyFS(kept, os.DirFS(w.dir)))
	}
	if e := w.stopAgent(); !errors.Is(e, syscall.ENOSPC) {
		err = errors.Join(err, e)
	}
	if w.dir != "" {
		err = errors.Join(err, os.RemoveAll(w.dir), os.Rename(kept, w.dir))
	}
	return err
}

// forgive notes what nobody may know any more.
func (w *world) forgive() {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	for n, l := range w.lives {
		l.perhaps = l.perhaps || l.ended && len(w.disk.ends[uint64(n)+1]) == 0
	}
	w.lost = w.disk.lost
}

func (w *world) send(e conntrack.Event) {
	select {
	case w.src <- e:
	case <-time.After(time.Minute):
		w.wrong = append(w.wrong, errors.New("the agent does not read its source"))
	}
}

// open opens a connection. IDs and addresses are reused as soon as they are free.
func (w *world) open() *simLife {
	used := func(id uint64) bool {
		return slices.ContainsFunc(w.living, func(l *simLife) bool { return l.conn.ID == id })
	}
	id := 1 + w.rng.Uint64N(10)
	for used(id) {
		id++
	}
	l := &simLife{conn: testConn(id, uint16(id))}
	l.conn.Local = netip.AddrPortFrom(l.conn.Local.Addr(), 1000)
	l.conn.Tx, l.conn.Rx = 0, uint64(len(w.lives)+1)
	if w.fat {
		l.conn.Process.Exe, l.conn.Process.Container = strings.Repeat("x", frame.MaxText), strings.Repeat("y", frame.MaxText)
	}
	w.lives, w.living = append(w.lives, l), append(w.living, l)
	w.send(conntrack.Event{Kind: conntrack.Open, Time: time.Now(), Conn: l.conn})
	return l
}

func (w *world) update(l *simLife) {
	l.conn.Tx++
	if w.rng.IntN(4) == 0 {
		l.conn.Process.PID++
	}
	w.send(conntrack.Event{Kind: conntrack.Update, Time: time.Now(), Conn: l.conn})
}

func (w *world) close(l *simLife) {
	l.conn.Tx++
	l.ended = true
	w.living = slices.DeleteFunc(w.living, func(o *simLife) bool { return o == l })
	w.send(conntrack.Event{Kind: conntrack.Close, Time: time.Now(), Conn: l.conn})
}

func (w *world) any() *simLife {
	if len(w.living) == 0 {
		return w.open()
	}
	return w.living[w.rng.IntN(len(w.living))]
}

// step lets something happen.
func (w *world) step() {
	set := func(f func(s *simServer)) {
		if w.server != nil {
			w.server.mu.Lock()
			f(w.server)
			w.server.mu.Unlock()
		}
	}
	switch n := w.rng.IntN(32); {
	case n < 12:
		for range 1 + w.rng.IntN(8) {
			switch w.rng.IntN(4) {
			case 0:
				w.open()
			case 1:
				w.close(w.open())
			case 2:
				w.update(w.any())
			case 3:
				w.close(w.any())
			}
			if w.rng.IntN(3) == 0 {
				time.Sleep(w.upTo(100 * time.Millisecond))
			}
		}
	case n < 14:
		k := 1 + w.rng.Uint64N(9)
		w.say("the source loses %d", k)
		w.lost += k
		w.send(conntrack.Event{Kind: conntrack.Lost, Lost: k})
	case n < 16:
		w.say("cut")
		w.cut()
	case n < 19 && w.server != nil:
		kill := w.rng.IntN(3) > 0
		w.say("the server ends, killed: %v", kill)
		w.stopServer(kill)
	case n < 23 && w.server == nil:
		w.startServer()
	case n == 23:
		w.say("the disk stalls")
		set(func(s *simServer) { s.stalled = true })
	case n == 24:
		w.say("the disk goes on")
		set(func(s *simServer) { s.stalled = false })
	case n == 25:
		set(func(s *simServer) { s.refusing = !s.refusing; w.say("the server leaves out ends: %v", s.refusing) })
	case n < 28 && w.flavor != strict:
		k := 1 + w.rng.IntN(2*w.room)
		if w.rng.IntN(5) == 0 {
			k = min(k, 400)
			w.say("%d that last, of %d", k, len(w.living))
			for range k {
				w.open()
			}
			break
		}
		w.say("%d short ones", k)
		for range k {
			w.close(w.open())
		}
		for len(w.living) > 500 {
			w.close(w.any())
		}
	case n == 28 && w.flavor == restarts:
		w.say("the agent is killed")
		w.wrong = append(w.wrong, w.killAgent())
		w.forgive()
		time.Sleep(w.upTo(10 * time.Second))
		w.startAgent()
	case n == 29 && w.flavor == restarts:
		w.say("the agent ends")
		err := w.stopAgent()
		if w.dir == "" || w.full.Load() && errors.Is(err, syscall.ENOSPC) {
			w.forgive()
			err = nil
		}
		w.wrong = append(w.wrong, err)
		time.Sleep(w.upTo(10 * time.Second))
		w.startAgent()
	case n == 30 && w.flavor != strict:
		full := !w.full.Load()
		w.say("the agent's disk is full: %v", full)
		w.full.Store(full)
	case n == 31 && w.flavor == restarts && w.dir != "":
		w.wrong = append(w.wrong, w.damage())
	case n == 31:
		w.say("nothing happens for long")
		time.Sleep(w.upTo(12 * time.Minute))
	}
	switch w.rng.IntN(10) {
	case 0, 1, 2, 3:
	case 4, 5, 6, 7:
		time.Sleep(w.upTo(300 * time.Millisecond))
	case 8:
		time.Sleep(w.upTo(5 * time.Second))
	case 9:
		time.Sleep(w.upTo(40 * time.Second))
	}
}

// calm has all go well, and waits until all is as it has to be.
func (w *world) calm() {
	w.say("from now on all goes well")
	w.proxy.mu.Lock()
	w.proxy.link = func(int) weather { return weather{} }
	w.proxy.mu.Unlock()
	w.cut()
	w.full.Store(false)
	if w.server == nil {
		w.startServer()
	}
	w.server.mu.Lock()
	w.server.stalled, w.server.refusing = false, false
	w.server.mu.Unlock()
	var err error
	for range 40 {
		time.Sleep(time.Minute)
		if err = w.settled(); err == nil {
			break
		}
	}
	w.wrong = append(w.wrong, err)
}

// settled says what is not as it has to be in the end.
func (w *world) settled() error {
	live, err := w.server.lives()
	if err != nil {
		return err
	}
	errs := []error{}
	wrong := func(format string, args ...any) {
		if len(errs) < 10 {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	want := len(w.living)
	if w.most > 0 {
		want = min(want, w.most)
	}
	if len(live) != want {
		wrong("%d connections are known to live, not %d", len(live), want)
	}
	for _, c := range live {
		if l := w.lives[c.Rx-1]; l.ended || !l.conn.Equal(c) {
			wrong("what is known of a connection is %v, not %v; ended: %v", c, l.conn, l.ended)
		}
	}
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	missing, first := uint64(0), uint64(0)
	for i, l := range w.lives {
		n := uint64(i) + 1
		got := w.disk.ends[n]
		switch {
		case len(got) > 0 && !l.ended:
			wrong("connection %d lives, and its end is recorded", n)
		case len(got) > 1:
			wrong("the end of connection %d is recorded %d times", n, len(got))
		case len(got) == 0 && l.ended && !l.perhaps:
			if missing++; first == 0 {
				first = n
			}
		}
		for _, c := range got {
			// Close events from the spool have other IDs.
			if c.ID = l.conn.ID; !c.Equal(l.conn) {
				wrong("recorded is %v, not %v", c, l.conn)
			}
		}
	}
	if want := w.lost + missing; w.disk.lost < want || w.flavor == strict && w.disk.lost > want {
		wrong("%d are recorded as lost, not %d: %d by the source, and %d ends, first of connection %d of %d", w.disk.lost, want, w.lost, missing, first, len(w.lives))
	}
	if w.flavor == strict && missing > 0 {
		wrong("%d ends are not recorded, first of connection %d of %d", missing, first, len(w.lives))
	}
	return errors.Join(errs...)
}

// TestSimulation: whatever befalls agent, server and link, each connection is recorded
// once, or counted as lost, and what lives is known. CONNMAP_WORLDS says how many strict
// worlds are tried; of the others it is a third as many each. What fails is tried again with fewer steps.
func TestSimulation(t *testing.T) {
	worlds := 45
	switch {
	case race.Enabled:
		worlds = 10
	case testing.Short():
		worlds = 10
	}
	if n, err := strconv.Atoi(os.Getenv("CONNMAP_WORLDS")); err == nil {
		worlds = n
	}
	first, id := random.Seed(t), identity(t)
	var seeds []uint64
	for n := range uint64(worlds) {
		seeds = append(seeds, first+n)
	}
	const steps = 80
	for f := range flavors {
		t.Run(f.String(), func(t *testing.T) {
			seeds := seeds
			if f != strict {
				seeds = seeds[:(len(seeds)+2)/3] // they take longer
			}
			atOnce(t, seeds, func(t *testing.T, seed uint64) {
				log, err := simulate(t, id, f, seed, steps)
				if err == nil {
					return
				}
				least := steps
				for low := 0; low+1 < least; {
					n := (low + least) / 2
					if l, e := simulate(t, id, f, seed, n); e != nil {
						least, log, err = n, l, e
					} else {
						low = n
					}
				}
				require.Fail(t, "a world went wrong", "%s=%d and %d steps:\n%v\n%s", random.Variable, seed, least, err, strings.Join(log, "\n"))
			})
		})
	}
}
