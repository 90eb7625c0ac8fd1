package feed

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// acks tells an agent what is recorded. It does not keep those waiting who say it.
type acks struct {
	conn *tls.Conn
	last func(run frame.Run) uint64 // recorded of a run
	seq  atomic.Uint64              // recorded last
	run  atomic.Pointer[frame.Run]  // asked for; nil: none
	wake chan struct{}              // capacity 1
	end  chan struct{}
	done chan struct{}
}

func newAcks(conn *tls.Conn, last func(run frame.Run) uint64) *acks {
	a := &acks{conn: conn, last: last, wake: make(chan struct{}, 1), end: make(chan struct{}), done: make(chan struct{})}
	go a.write()
	return a
}

// acked notes that all up to a delta is recorded.
func (a *acks) acked(seq uint64) {
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

// answer sends what is recorded of a run, from the goroutine of write.
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
	told := uint64(0)
	for {
		select {
		case <-a.end:
			return
		case <-a.wake:
		}
		a.conn.SetWriteDeadline(time.Now().Add(writeTime))
		var err error
		if seq := a.seq.Load(); seq > told {
			err, told = frame.Write(a.conn, frame.Ack{Seq: seq}), seq
		}
		if run := a.run.Swap(nil); run != nil {
			err = errors.Join(err, frame.Write(a.conn, frame.Answer{Run: *run, Number: a.last(*run)}))
		}
		if err != nil {
			return // who reads from the agent learns of it too
		}
	}
}

// stop ends it when the link has ended.
func (a *acks) stop() {
	close(a.end)
	a.conn.NetConn().SetWriteDeadline(time.Now())
	<-a.done
	a.conn = nil // who may still call acked does not keep it
}
