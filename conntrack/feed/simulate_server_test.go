package feed

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// A simDisk is what a simulated map server has recorded. It outlives the server's processes.
type simDisk struct {
	mu      sync.Mutex
	ends    map[uint64][]conntrack.Conn // of a connection, by its number; each time that its end was recorded
	lost    uint64
	reports map[frame.Run]uint64
}

func newSimDisk() *simDisk {
	return &simDisk{ends: map[uint64][]conntrack.Conn{}, reports: map[frame.Run]uint64{}}
}

// A simServer is a process of a map server: a Server, and an Acknowledger that keeps what the
// feed asks of one, but takes its time.
type simServer struct {
	*Server
	disk     *simDisk
	listener *pipeListener
	stop     context.CancelFunc
	work     sync.WaitGroup

	mu       sync.Mutex
	rng      *mathrand.Rand
	dead     bool // killed: it does nothing more
	stalled  bool // the disk takes nothing
	refusing bool // ends are left out
	closing  bool
	careful  bool                  // nothing makes an agent leave out an end
	told     map[uint64]*simReport // by link: what Delta was told and Recorded was not asked about yet
	queue    []*simReport          // not on the disk yet
	behind   map[uint64]bool       // links whose ends are left out
	live     map[uint64]map[uint64]conntrack.Conn
	wrong    []string
}

// A simReport is what was received with a number.
type simReport struct {
	run    frame.Run
	number uint64
	ends   []conntrack.Conn
	lost   uint64
	safe   func()
}

func startSimServer(id *Identity, disk *simDisk, most int, careful bool, seed uint64) *simServer {
	s := &simServer{
		disk: disk, careful: careful, listener: newPipeListener(), rng: mathrand.New(mathrand.NewPCG(seed, 7)),
		told: map[uint64]*simReport{}, behind: map[uint64]bool{}, live: map[uint64]map[uint64]conntrack.Conn{},
	}
	s.Server = &Server{Identity: id, Handler: s, MaxConns: most}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.work.Go(func() {
		if err := s.Serve(ctx, s.listener); err != nil {
			s.note(err.Error())
		}
	})
	s.work.Go(s.record)
	return s
}

// end ends the process: at once, or when all is recorded.
func (s *simServer) end(kill bool) {
	s.mu.Lock()
	s.dead, s.closing = kill, true
	s.mu.Unlock()
	s.stop()
	s.work.Wait()
	if !kill {
		s.commit(len(s.queue))
	}
}

func (s *simServer) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, text)
}

// pause sleeps at random, as an unlucky scheduler would.
func (s *simServer) pause(most time.Duration) {
	s.mu.Lock()
	d := time.Duration(0)
	if s.rng.IntN(3) == 0 {
		d = time.Duration(s.rng.Int64N(int64(most)))
	}
	s.mu.Unlock()
	time.Sleep(d)
}

// record writes to the disk what was received, in order.
func (s *simServer) record() {
	for {
		s.mu.Lock()
		over := s.closing
		n := 0
		if !s.stalled && !s.dead {
			n = s.rng.IntN(len(s.queue) + 1)
		}
		s.mu.Unlock()
		if over {
			return
		}
		for _, safe := range s.commit(n) {
			s.pause(300 * time.Millisecond)
			s.mu.Lock()
			dead := s.dead
			s.mu.Unlock()
			if !dead {
				safe()
			}
		}
		s.pause(time.Second)
		time.Sleep(time.Millisecond)
	}
}

// commit records the first reports of the queue, in one transaction.
func (s *simServer) commit(n int) (safe []func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	for _, r := range s.queue[:n] {
		for _, c := range r.ends {
			s.disk.ends[c.Rx] = append(s.disk.ends[c.Rx], c)
		}
		s.disk.lost += r.lost
		s.disk.reports[r.run] = max(s.disk.reports[r.run], r.number)
		safe = append(safe, r.safe)
	}
	s.queue = s.queue[n:]
	return safe
}

func (s *simServer) Join(a Agent) {
	s.pause(100 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[a.ID] = map[uint64]conntrack.Conn{}
}

func (s *simServer) Full(a Agent, conns []conntrack.Conn) {
	s.pause(100 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.live[a.ID])
	for _, c := range conns {
		s.live[a.ID][c.ID] = c
	}
}

func (s *simServer) Delta(a Agent, events []conntrack.Event) {
	s.pause(100 * time.Millisecond)
	defer s.pause(100 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &simReport{}
	s.behind[a.ID] = s.behind[a.ID] || s.refusing
	for _, e := range events {
		switch e.Kind {
		case conntrack.Close:
			if c, ok := s.live[a.ID][e.Conn.ID]; ok && c.Rx != e.Conn.Rx && s.careful {
				s.wrong = append(s.wrong, "an end of another connection than the one with this ID")
			}
			delete(s.live[a.ID], e.Conn.ID)
			r.ends = append(r.ends, e.Conn)
		case conntrack.Lost:
			r.lost += e.Lost
		default:
			s.live[a.ID][e.Conn.ID] = e.Conn
		}
	}
	if !s.behind[a.ID] {
		s.told[a.ID] = r
	}
}

func (s *simServer) Leave(a Agent) {
	s.pause(100 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, a.ID)
	delete(s.told, a.ID)
	delete(s.behind, a.ID)
}

func (s *simServer) Recorded(a Agent, number uint64, f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind[a.ID] {
		return false
	}
	r := s.told[a.ID]
	if r == nil {
		r = &simReport{} // of what other links have told
	}
	r.run, r.number, r.safe, s.told[a.ID] = a.Run, number, f, nil
	if !s.dead {
		s.queue = append(s.queue, r)
	}
	return true
}

func (s *simServer) LastRecorded(run [16]byte) uint64 {
	s.pause(100 * time.Millisecond)
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.disk.reports[run]
}

// lives returns what the only agent that is there has.
func (s *simServer) lives() (map[uint64]conntrack.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.live) != 1 {
		return nil, errors.New("the agent is not there, or twice")
	}
	conns := map[uint64]conntrack.Conn{}
	for _, all := range s.live {
		for _, c := range all {
			conns[c.Rx] = c
		}
	}
	return conns, nil
}
