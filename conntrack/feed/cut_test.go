package feed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/internal/race"
)

// A witness is a recorder of one agent that notes what a Handler must never receive.
type witness struct {
	*recorder
	pause  time.Duration // after which it records
	wmu    sync.Mutex
	link   uint64                    // zero: there is none
	full   time.Time                 // when the first full frame came; zero: not yet
	opened map[uint64]bool           // told as new, or in full, by this link
	ended  map[uint64]bool           // told as ended by this link
	last   map[uint64]conntrack.Conn // as told at the end, by any link
	since  map[uint64]time.Time      // its end is recorded
	during map[uint64]time.Time      // one ended that was not in the full of that time
	wrong  []string
}

func newWitness(pause time.Duration) *witness {
	return &witness{recorder: newRecorder(), pause: pause, last: map[uint64]conntrack.Conn{}, since: map[uint64]time.Time{}, during: map[uint64]time.Time{}}
}

func (w *witness) note(ok bool, format string, args ...any) {
	if !ok {
		w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	}
}

func (w *witness) Join(a Agent) {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	w.note(w.link == 0, "link %d joins while %d is there", a.ID, w.link)
	w.link, w.full, w.opened, w.ended = a.ID, time.Time{}, map[uint64]bool{}, map[uint64]bool{}
	w.recorder.Join(a)
}

func (w *witness) Full(a Agent, conns []conntrack.Conn) {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	w.note(w.link == a.ID, "full of link %d, that is there is %d", a.ID, w.link)
	for _, c := range conns {
		_, gone := w.last[c.ID]
		w.note(!gone, "full has connection %d, which ended", c.ID)
		w.opened[c.ID] = true
	}
	if w.full.IsZero() {
		w.full = time.Now()
	}
	w.recorder.Full(a, conns)
}

func (w *witness) Delta(a Agent, events []conntrack.Event) {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	w.note(w.link == a.ID, "delta of link %d, that is there is %d", a.ID, w.link)
	for _, e := range events {
		id := e.Conn.ID
		switch e.Kind {
		case conntrack.Open:
			w.note(!w.full.IsZero(), "connection %d opens before the first full", id)
			w.note(!w.opened[id], "connection %d is told as new twice by one link", id)
			w.opened[id] = true
		case conntrack.Update:
			w.note(!w.full.IsZero() && w.opened[id] && !w.ended[id], "update of connection %d, which is not there", id)
		case conntrack.Close:
			w.note(!w.ended[id], "connection %d is told as ended twice by one link", id)
			if !w.full.IsZero() && !w.opened[id] {
				w.during[id] = w.full
			}
			w.ended[id], w.last[id] = true, e.Conn
		}
	}
	w.recorder.Delta(a, events)
}

func (w *witness) Leave(a Agent) {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	w.note(w.link == a.ID, "link %d leaves, that is there is %d", a.ID, w.link)
	w.link = 0
	w.recorder.Leave(a)
}

func (w *witness) Recorded(a Agent, number uint64, f func()) bool {
	w.recorder.Recorded(a, number, f)
	time.AfterFunc(w.pause, func() {
		w.record()
		w.wmu.Lock()
		defer w.wmu.Unlock()
		w.rmu.Lock()
		defer w.rmu.Unlock()
		for id := range w.safe {
			if w.since[id].IsZero() {
				w.since[id] = time.Now()
			}
		}
	})
	return true
}

// settled returns what is not as it must be in the end: all live connections are known, all close
// events are recorded, and only what the source lost is lost. Each connection of the agent brings
// a close event once at most, and not again if it was acknowledged before a given time.
func (w *witness) settled(s *story, links int, acked time.Time) error {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.rmu.Lock()
	defer w.rmu.Unlock()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(w.agents) == 1, "there are %d agents", len(w.agents))
	for agent := range w.agents {
		same := maps.EqualFunc(w.conns[agent], s.live, conntrack.Conn.Equal)
		check(same, "what lives is %v, not %v", w.conns[agent], s.live)
	}
	check(len(w.ends) == len(s.gone), "%d ends are told, not %d", len(w.ends), len(s.gone))
	for id, c := range s.gone {
		check(w.ends[id] >= 1 && w.ends[id] <= links, "the end of %d is told %d times by %d links", id, w.ends[id], links)
		check(w.safe[id], "the end of %d is not recorded", id)
		check(w.ends[id] <= 1 || !w.since[id].Before(acked), "the end of %d is told again though it was acknowledged", id)
		check(w.last[id].Equal(c), "the end of %d told of %v, not of %v", id, w.last[id], c)
	}
	for id, full := range w.during {
		// It may end while the full is on its way.
		check(s.opened[id].Before(full), "connection %d ends, which this link has not told", id)
	}
	check(w.lost == s.lost, "%d are lost, not %d", w.lost, s.lost)
	for _, s := range w.wrong {
		errs = append(errs, errors.New(s))
	}
	return errors.Join(errs...)
}

// A story is what happens on the host of a Client: some live at first, then all kinds of
// things happen at the same time, and one more.
type story struct {
	t          *testing.T
	src        script
	live, gone map[uint64]conntrack.Conn
	opened     map[uint64]time.Time
	lost       uint64 // by the source
	stuck      bool
}

func newStory(t *testing.T) *story {
	return &story{t: t, src: make(script), live: map[uint64]conntrack.Conn{}, gone: map[uint64]conntrack.Conn{}, opened: map[uint64]time.Time{}}
}

func (s *story) send(e conntrack.Event) {
	if s.stuck {
		return
	}
	select {
	case s.src <- e:
	case <-time.After(time.Minute):
		s.stuck = true
		s.t.Error("the client does not read its source")
	}
}

func (s *story) tell(kind conntrack.Kind, id uint64) {
	c, ok := s.live[id]
	if !ok {
		c = testConn(id, uint16(id))
		s.opened[id] = time.Now()
	}
	c.Tx++
	if s.live[id] = c; kind == conntrack.Close {
		delete(s.live, id)
		s.gone[id] = c
	}
	s.send(conntrack.Event{Kind: kind, Conn: c})
}

func (s *story) lose(n uint64) {
	s.lost += n
	s.send(conntrack.Event{Kind: conntrack.Lost, Lost: n})
}

// short has all kinds of things happen, some at the same time.
func (s *story) short() {
	for id := range uint64(3) {
		s.tell(conntrack.Open, id)
	}
	time.Sleep(500 * time.Millisecond)
	s.tell(conntrack.Open, 3)
	s.tell(conntrack.Update, 0)
	s.tell(conntrack.Close, 1)
	s.tell(conntrack.Open, 4)
	s.tell(conntrack.Close, 4)
	s.lose(7)
	time.Sleep(500 * time.Millisecond)
	s.tell(conntrack.Close, 2)
	s.lose(5)
}

// random goes on for some minutes.
func (s *story) random(rng *mathrand.Rand) {
	for id := range uint64(60) {
		s.tell(conntrack.Open, id)
		for range rng.IntN(3) {
			live := slices.Sorted(maps.Keys(s.live))
			if len(live) == 0 {
				break
			}
			kind := []conntrack.Kind{conntrack.Update, conntrack.Close}[rng.IntN(2)]
			s.tell(kind, live[rng.IntN(len(live))])
		}
		if rng.IntN(5) == 0 {
			s.lose(1 + rng.Uint64N(9))
		}
		if rng.IntN(2) == 0 {
			time.Sleep(time.Duration(rng.IntN(10_000)) * time.Millisecond)
		}
	}
}

// A trial is a story reported over connections of which the first ones break.
type trial struct {
	links []weather
	pause time.Duration // after which the Handler records
	tell  func(*story)
	wait  time.Duration // after the story, until all has to be well
}

func (tr trial) String() string {
	return fmt.Sprintf("links %+v, recorded after %v", tr.links, tr.pause)
}

// run makes a Client and a Server, and returns the links when it is all over. Time is that
// of synctest, which also fails if a goroutine is left.
func (tr trial) run(t *testing.T, id *Identity) (links []*passage) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w, listener, s := newWitness(tr.pause), newPipeListener(), newStory(t)
		p := &proxy{
			server: func(ctx context.Context) (net.Conn, error) {
				near, far := newDuplex()
				select {
				case listener.conns <- far:
					return near, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			},
			link: func(n int) weather {
				if n < len(tr.links) {
					return tr.links[n]
				}
				return weather{}
			},
		}
		c := &Client{Addr: "server:1", Token: id.Token(), Name: "nas", Source: s.src, dial: func(ctx context.Context, n, a string) (net.Conn, error) {
			time.Sleep(10 * time.Millisecond) // the first full is to have what opens first
			return p.dial(ctx, n, a)
		}}
		var work sync.WaitGroup
		work.Go(func() { assert.NoError(t, (&Server{Identity: id, Handler: w}).Serve(ctx, listener), tr) })
		work.Go(func() { assert.NoError(t, c.Run(ctx), tr) })
		tr.tell(s)
		time.Sleep(tr.wait)

		p.mu.Lock()
		links = slices.Clone(p.links)
		p.mu.Unlock()
		last := len(links) - 1
		for n, l := range links {
			assert.Equal(t, n < last, l.isBroken(), "link %d of %d, %v", n, len(links), tr)
			if n < last && l.breaks != breakJam { // a jam hides that a side has closed
				assert.True(t, l.isOver(), "a side has not given up a dead link: %v", tr)
			}
		}
		var acked time.Time
		if last == 1 {
			acked = links[0].when.Add(-100 * time.Millisecond) // for the way, if there are delays
		}
		assert.NoError(t, w.settled(s, len(links), acked), tr)
		before := time.Now()
		cancel()
		work.Wait()
		assert.Less(t, time.Since(before), time.Second, "both end at once: %v", tr)
		p.close()
	})
	return links
}

// atOnce calls f for each of many in as many goroutines as there are processors.
func atOnce[T any](t *testing.T, all []T, f func(*testing.T, T)) {
	const groups = 16
	for n := range groups {
		t.Run(fmt.Sprintf("group=%d", n), func(t *testing.T) {
			t.Parallel()
			for i := n; i < len(all) && !t.Failed(); i += groups {
				f(t, all[i])
			}
		})
	}
}

// TestCutAtEveryByte: wherever a connection breaks, the next one brings what was lost with it.
func TestCutAtEveryByte(t *testing.T) {
	id := identity(t)
	fair := trial{pause: 20 * time.Millisecond, tell: (*story).short, wait: 4 * time.Second}
	whole := fair.run(t, id)[0]
	var all []trial
	step := 1
	if race.Enabled || testing.Short() {
		step = 11
	}
	for _, from := range []side{ofClient, ofServer} {
		n := int(whole.carried[from].Load())
		t.Logf("the %s sends %d bytes", from, n)
		require.Greater(t, n, 1000)
		// A signature may be shorter the next time: then the last bytes do not come.
		for after := 0; after <= n; after += step {
			tr := fair
			tr.links = []weather{{breaks: breakClose, from: from, after: after}}
			all = append(all, tr)
			if after%(10*step) == 0 {
				tr.links = []weather{{breaks: breakHalf, from: from, after: after, delay: 5 * time.Millisecond, pieces: 15, seed: uint64(after)}}
				all = append(all, tr)
			}
		}
	}
	atOnce(t, all, func(t *testing.T, tr trial) { tr.run(t, id) })
}

// TestSilentAtEveryStage: likewise if a connection is dead but not closed.
func TestSilentAtEveryStage(t *testing.T) {
	id := identity(t)
	step := 150
	if race.Enabled || testing.Short() {
		step = 900
	}
	var all []trial
	// The second time an acknowledgement comes when the next delta is on its way.
	for _, pause := range []time.Duration{20 * time.Millisecond, 700 * time.Millisecond} {
		// 30 s of silence, then a pause of the client and a handshake.
		fair := trial{pause: pause, tell: (*story).short, wait: 45 * time.Second}
		quiet := fair
		quiet.wait = 4 * time.Second // before the first heartbeat
		whole := quiet.run(t, id)[0]
		for _, from := range []side{ofClient, ofServer} {
			var at []int
			// The edges of what is sent at once are what matters most.
			for _, n := range whole.reads[from] {
				at = append(at, n-1, n, n+1)
			}
			for n := 0; n < int(whole.carried[from].Load()); n += step {
				at = append(at, n)
			}
			slices.Sort(at)
			for _, after := range slices.Compact(at) {
				for _, breaks := range []breakage{breakSwallow, breakOneWay, breakJam} {
					tr := fair
					tr.links = []weather{{breaks: breaks, from: from, after: after}}
					all = append(all, tr)
				}
			}
		}
	}
	t.Logf("%d links", len(all))
	atOnce(t, all, func(t *testing.T, tr trial) { tr.run(t, id) })
}

// TestBrokenAgainAndAgain: likewise if several connections break in a row, in any way.
func TestBrokenAgainAndAgain(t *testing.T) {
	id := identity(t)
	var all []trial
	seeds := uint64(200)
	if race.Enabled || testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		rng := mathrand.New(mathrand.NewPCG(seed, 3))
		tr := trial{
			pause: time.Duration(rng.IntN(2000)) * time.Millisecond,
			tell:  func(s *story) { s.random(rng) },
			wait:  2 * time.Hour, // heartbeats alone have to come to where a link breaks
		}
		for range 1 + rng.IntN(5) {
			tr.links = append(tr.links, weather{
				breaks: breakClose + breakage(rng.IntN(int(breakJam))), after: rng.IntN(4000), from: side(rng.IntN(2)),
				// Not so slow that a handshake takes too long.
				delay: time.Duration(rng.IntN(20)) * time.Millisecond, pieces: 8 + rng.IntN(8), seed: seed,
			})
		}
		all = append(all, tr)
	}
	atOnce(t, all, func(t *testing.T, tr trial) { tr.run(t, id) })
}

// noMore has a test wait in the end until it has left no goroutine.
func noMore(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		// Eventually has one itself.
		if !assert.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, time.Minute, 10*time.Millisecond) {
			buf := make([]byte, 1<<20)
			t.Logf("%s", buf[:runtime.Stack(buf, true)])
		}
	})
}

// overSockets makes a Client that reports over a proxy to a Server of its own.
func overSockets(t *testing.T, id *Identity, h Handler, src Source, link func(int) weather) *proxy {
	t.Helper()
	addr, _ := serve(t, id, h, "127.0.0.1:0")
	p := &proxy{link: link, server: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}}
	through := p.listen(t)
	done, stop := report(t, &Client{Addr: through, Token: id.Token(), Name: "nas", Source: src})
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-done)
	})
	return p
}

// TestCutOnSockets: a kernel keeps and drops bytes in other ways than a pipe does.
func TestCutOnSockets(t *testing.T) {
	t.Parallel()
	noMore(t)
	id := identity(t)
	var all []weather
	for after := 0; after < 4000; after += 125 {
		for _, from := range []side{ofClient, ofServer} {
			breaks := []breakage{breakClose, breakReset, breakHalf}[len(all)%3]
			all = append(all, weather{breaks: breaks, from: from, after: after, delay: 2 * time.Millisecond, pieces: 12, seed: uint64(after)})
		}
	}
	var work sync.WaitGroup
	defer work.Wait()
	for _, first := range all {
		w, s := newWitness(20*time.Millisecond), newStory(t)
		p := overSockets(t, id, w, s.src, func(n int) weather {
			if n == 0 {
				return first
			}
			return weather{delay: 2 * time.Millisecond, pieces: 12}
		})
		work.Go(func() {
			s.short()
			assert.NoError(t, settledSoon(func() error {
				p.mu.Lock()
				links := len(p.links)
				p.mu.Unlock()
				return w.settled(s, links, time.Time{})
			}), "%+v", first)
		})
	}
}

// TestDelayAndRegrouping: a slow connection that regroups all bytes loses no event and repeats
// none.
func TestDelayAndRegrouping(t *testing.T) {
	t.Parallel()
	noMore(t)
	const total = 2000
	w, s := newWitness(20*time.Millisecond), newStory(t)
	p := overSockets(t, identity(t), w, s.src, func(int) weather {
		return weather{delay: 10 * time.Millisecond, pieces: 16, seed: 1}
	})
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	for id := uint64(1); id <= total; {
		for range 1 + rng.IntN(20) {
			if id > total {
				break
			}
			s.tell(conntrack.Open, id)
			if id%3 == 0 && id > 40 {
				s.tell(conntrack.Update, (id-40)|1) // those that are odd live for longer
			}
			if id%2 == 0 {
				s.tell(conntrack.Close, id)
			} else if id > 50 {
				s.tell(conntrack.Close, id-50)
			}
			id++
		}
		time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
	}
	for id := range maps.Clone(s.live) {
		s.tell(conntrack.Close, id)
	}
	assert.NoError(t, settledSoon(func() error { return w.settled(s, 1, time.Time{}) }))
	assert.Len(t, s.gone, total)
	p.mu.Lock()
	defer p.mu.Unlock()
	assert.Len(t, p.links, 1, "it did not break")
}

// settledSoon calls f until it returns nil, for five minutes at most, and returns its last error.
// Unlike assert.Eventually it does not leave f running.
func settledSoon(f func() error) error {
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if err := f(); err == nil || time.Now().After(end) {
			return err
		}
	}
}
