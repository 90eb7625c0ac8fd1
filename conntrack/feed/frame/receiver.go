package frame

import (
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/connmapgo/connmap/conntrack"
)

// A Receiver decodes and checks what one agent reports over one connection, in the order of
// its arrival. Its exported fields must be set before. It is not safe for concurrent use.
type Receiver struct {
	MaxConns int           // that the agent may have at a time; zero: none
	Skew     time.Duration // by which the agent's clock is behind: its times are corrected

	known []uint64         // IDs, sorted: a map takes two to four times the memory
	conns []conntrack.Conn // of a full that goes on; nil: there is none
	seq   uint64
}

// Full decodes the body of a Full that arrives now. After the last part it returns all
// connections, which are the caller's, and true. The error is ErrDamaged.
func (r *Receiver) Full(body []byte, now time.Time) (conns []conntrack.Conn, whole bool, err error) {
	var f fullBody[cbor.RawMessage]
	if err := Decode(body, &f); err != nil {
		return nil, false, err
	}
	// All parts of one full have the same number.
	if r.conns == nil && f.Seq <= r.seq || r.conns != nil && f.Seq != r.seq {
		return nil, false, ErrDamaged
	}
	r.seq = f.Seq
	if r.conns, err = appendConns(r.conns, f.Rows, clock{now.Round(0), r.Skew}); err != nil {
		return nil, false, err
	}
	if len(r.conns) > r.MaxConns {
		return nil, false, r.tooMany()
	}
	if f.More {
		if r.conns == nil {
			return nil, false, ErrDamaged
		}
		return nil, false, nil
	}
	r.known = make([]uint64, len(r.conns))
	for i := range r.conns {
		r.known[i] = r.conns[i].ID
	}
	slices.Sort(r.known)
	r.known = slices.Compact(r.known)
	conns, r.conns = r.conns, nil
	return conns, true, nil
}

// Delta decodes the body of a frame of TypeDelta or TypeResend that arrives now. If events are
// lost, the last of Events says so. The error is ErrDamaged.
func (r *Receiver) Delta(t Type, body []byte, now time.Time) (Delta, error) {
	f, rows, err := decodeDelta(t, body)
	if err != nil {
		return f, err
	}
	if f.Seq <= r.seq || r.conns != nil {
		return f, ErrDamaged
	}
	r.seq = f.Seq
	c := clock{now.Round(0), r.Skew}
	if f.Events, err = decodeEvents(rows, c); err != nil {
		return f, err
	}
	for i := range f.Events {
		e := &f.Events[i]
		switch at, known := slices.BinarySearch(r.known, e.Conn.ID); {
		case e.Kind == conntrack.Close && known:
			r.known = slices.Delete(r.known, at, at+1)
		case e.Kind != conntrack.Close && !known:
			r.known = slices.Insert(r.known, at, e.Conn.ID)
		}
		if len(r.known) > r.MaxConns {
			return f, r.tooMany()
		}
	}
	if f.Lost > 0 {
		f.Events = append(f.Events, conntrack.Event{Kind: conntrack.Lost, Time: c.now, Lost: f.Lost})
	}
	return f, nil
}

func decodeDelta(t Type, body []byte) (d Delta, rows cbor.RawMessage, err error) {
	if t != TypeResend {
		var b deltaBody[cbor.RawMessage]
		err = Decode(body, &b)
		return Delta{Seq: b.Seq, Lost: b.Lost}, b.Rows, err
	}
	var b resendBody[cbor.RawMessage]
	if err = Decode(body, &b); err == nil && (b.Run == (Run{}) || b.Number == 0) {
		err = ErrDamaged
	}
	return Delta{Seq: b.Seq, Lost: b.Lost, Run: b.Run, Number: b.Number}, b.Rows, err
}

func (r *Receiver) tooMany() error {
	return fmt.Errorf("%w: more than %d connections", ErrDamaged, r.MaxConns)
}

// Len returns how many connections the Receiver keeps in memory.
func (r *Receiver) Len() int { return max(len(r.known), len(r.conns)) }
