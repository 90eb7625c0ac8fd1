package feed

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// acks sends acknowledgements and answers to an agent. It sends from its own goroutine, so
// that acknowledge and answer never block.
type acks struct {
	conn     *tls.Conn
	recorded func(run frame.Run) uint64 // number of the last delta of a run that is recorded
	seq      atomic.Uint64              // to acknowledge
	run      atomic.Pointer[frame.Run]  // to answer; nil: none
	wake     chan struct{}              // capacity 1
	end      chan struct{}
	done     chan struct{}
}

func newAcks(conn *tls.Conn, recorded func(run frame.Run) uint64) *acks {
	a := &acks{conn: conn, recorded: recorded, wake: make(chan struct{}, 1), end: make(chan struct{}), done: make(chan struct{})}
	go a.write()
	return a
}

// acknowledge sends that all deltas up to seq are recorded.
func (a *acks) acknowledge(seq uint64) {
	for {
		old := a.seq.Load()
		if old >= seq {
			return
		}
		if a.seq.CompareAndSwap(old, seq) {
			break
		}
	}
	a.signal()
}

// answer sends what is recorded of a run.
func (a *acks) answer(run frame.Run) {
	a.run.Store(&run)
	a.signal()
}

func (a *acks) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *acks) write() {
	defer close(a.done)
	sent := uint64(0)
	for {
		select {
		case <-a.end:
			return
		case <-a.wake:
		}
		a.conn.SetWriteDeadline(time.Now().Add(writeTime))
		var err error
		if seq := a.seq.Load(); seq > sent {
			err, sent = frame.Write(a.conn, frame.Ack{Seq: seq}), seq
		}
		if run := a.run.Swap(nil); run != nil {
			err = errors.Join(err, frame.Write(a.conn, frame.Answer{Run: *run, Number: a.recorded(*run)}))
		}
		if err != nil {
			return // reading from the agent fails too
		}
	}
}

// stop is for when the connection ends.
func (a *acks) stop() {
	close(a.end)
	a.conn.NetConn().SetWriteDeadline(time.Now())
	<-a.done
	a.conn = nil // an Acknowledger may call acknowledge much later
}
