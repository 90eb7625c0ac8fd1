package feed

import (
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/connmapgo/connmap/conntrack"
)

// A receiver decodes and checks the frames in which one agent reports, in the order in which
// they come. It keeps the IDs of the connections that the agent has. It is not safe for
// concurrent use.
type receiver struct {
	maxConns int           // that the agent may have at a time
	skew     time.Duration // by which the agent's clock is behind

	known map[uint64]struct{} // IDs
	conns []conntrack.Conn    // of a full that goes on; nil: there is none
	seq   uint64
}

// full decodes a part of a full. After the last one it returns all connections, which are the
// caller's, and true.
func (r *receiver) full(body []byte, now time.Time) (conns []conntrack.Conn, whole bool, err error) {
	var f fullBody[cbor.RawMessage]
	if err := decode(body, &f); err != nil {
		return nil, false, err
	}
	// All parts of one full have the same number.
	if r.conns == nil && f.Seq <= r.seq || r.conns != nil && f.Seq != r.seq {
		return nil, false, errFrame
	}
	r.seq = f.Seq
	if r.conns, err = appendConns(r.conns, f.Rows, clock{now.Round(0), r.skew}); err != nil {
		return nil, false, err
	}
	if len(r.conns) > r.maxConns {
		return nil, false, r.tooMany()
	}
	if f.More {
		if r.conns == nil {
			return nil, false, errFrame
		}
		return nil, false, nil
	}
	r.known = make(map[uint64]struct{}, len(r.conns))
	for i := range r.conns {
		r.known[r.conns[i].ID] = struct{}{}
	}
	conns, r.conns = r.conns, nil
	return conns, true, nil
}

// delta decodes a delta or a resend. If events are lost, the last event says so.
func (r *receiver) delta(t frameType, body []byte, now time.Time) (deltaFrame, error) {
	f, rows, err := decodeDelta(t, body)
	if err != nil {
		return f, err
	}
	if f.Seq <= r.seq || r.conns != nil {
		return f, errFrame
	}
	r.seq = f.Seq
	c := clock{now.Round(0), r.skew}
	if f.Events, err = decodeEvents(rows, c); err != nil {
		return f, err
	}
	if r.known == nil {
		r.known = make(map[uint64]struct{})
	}
	for i := range f.Events {
		e := &f.Events[i]
		if e.Kind == conntrack.Close {
			delete(r.known, e.Conn.ID)
		} else {
			r.known[e.Conn.ID] = struct{}{}
		}
		if len(r.known) > r.maxConns {
			return f, r.tooMany()
		}
	}
	if f.Lost > 0 {
		f.Events = append(f.Events, conntrack.Event{Kind: conntrack.Lost, Time: c.now, Lost: f.Lost})
	}
	return f, nil
}

func decodeDelta(t frameType, body []byte) (f deltaFrame, rows cbor.RawMessage, err error) {
	if t != typeResend {
		var d deltaBody[cbor.RawMessage]
		err = decode(body, &d)
		return deltaFrame{Seq: d.Seq, Lost: d.Lost}, d.Rows, err
	}
	var d resendBody[cbor.RawMessage]
	if err = decode(body, &d); err == nil && (!isRun(d.Run) || d.Number == 0) {
		err = errFrame
	}
	if err != nil {
		return f, nil, err
	}
	return deltaFrame{Seq: d.Seq, Lost: d.Lost, Run: [runLen]byte(d.Run), Number: d.Number}, d.Rows, nil
}

func (r *receiver) tooMany() error {
	return fmt.Errorf("%w: more than %d connections", errFrame, r.maxConns)
}

// held returns how many connections there is memory for.
func (r *receiver) held() int { return max(len(r.known), len(r.conns)) }

// isRun reports whether bytes can name a run of an agent.
func isRun(b []byte) bool { return len(b) == runLen && [runLen]byte(b) != [runLen]byte{} }
