package feed

import (
	"crypto/tls"
	"sync/atomic"
	"time"
)

// acks tells an agent what is recorded. It does not keep those waiting who say it.
type acks struct {
	conn *tls.Conn
	seq  atomic.Uint64 // recorded last
	wake chan struct{} // capacity 1
	end  chan struct{}
	done chan struct{}
}

func newAcks(conn *tls.Conn) *acks {
	a := &acks{conn: conn, wake: make(chan struct{}, 1), end: make(chan struct{}), done: make(chan struct{})}
	go a.run()
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
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *acks) run() {
	defer close(a.done)
	for {
		select {
		case <-a.end:
			return
		case <-a.wake:
		}
		a.conn.SetWriteDeadline(time.Now().Add(writeTime))
		if writeFrame(a.conn, ackFrame{Type: frameAck, Seq: a.seq.Load()}) != nil {
			return // who reads from the agent learns of it too
		}
	}
}

// stop ends it when the link has ended.
func (a *acks) stop() {
	close(a.end)
	a.conn.NetConn().SetWriteDeadline(time.Now())
	<-a.done
}
