// Package frame is the protocol of conntrack/feed without a connection: what agents and
// servers send each other, and how an agent keeps what a server has not recorded. It knows
// neither sockets nor TLS, tokens or names of agents.
//
// On the side of the agent, a [Table] holds the connections of a machine, and a [Reporter]
// sends them as frames, over whatever carries bytes:
//
//	table, err := frame.OpenTable(frame.TableOptions{Spool: "spool"})
//	...
//	r := table.Report(welcome, func(f frame.Frame) error { return frame.Write(w, f) })
//	defer r.Close()
//	for {
//		if err := r.Flush(time.Now()); err != nil {
//			return err
//		}
//		select {
//		case <-table.Wake():
//		case <-time.After(time.Until(r.Due(time.Now()))):
//		}
//	}
//
// Another goroutine passes the source's events to [Table.Add], and another one the server's
// frames to [Reporter.Receive]. On the side of the server, a [Receiver] decodes and checks what
// a [Reader] reads. docs/protocol.md describes all frames.
package frame

import (
	"errors"
	"fmt"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

// The version of the protocol, and its bounds.
const (
	Version     = 1          // of the protocol
	MaxGreeting = 64         // bytes of a proof, a welcome, or a bye instead
	MaxSize     = 256 * 1024 // bytes of other frames
	MaxText     = 256        // bytes of a text; Write and Clean cut what is longer
	MaxLimited  = 2048       // bytes of Hello.Limited, which may name several limits
)

// ErrDamaged says that a frame does not follow the protocol.
var ErrDamaged = errors.New("feed: damaged frame")

var errConn = fmt.Errorf("%w: it holds an impossible connection", ErrDamaged)

// A Type is the first element of a frame. Receivers skip frames of types that they do not
// know.
type Type uint8

// The types of frames. Proof and bye belong to conntrack/feed.
const (
	TypeProof Type = iota + 1
	TypeHello
	TypeWelcome
	TypeFull
	TypeDelta
	TypePing
	TypeBye
	TypeAck
	TypeAsk
	TypeAnswer
	TypeResend
)

// A Frame is what one side sends at once. [Write] encodes those of this package, and others
// that encode as a CBOR array of what follows the type.
type Frame interface{ Type() Type }

// A Run is random and names one run of an agent's process. The zero Run is none.
type Run [16]byte

// UnmarshalBinary implements encoding.BinaryUnmarshaler. It fails unless there are 16 bytes.
func (r *Run) UnmarshalBinary(b []byte) error {
	if len(b) != len(r) {
		return ErrDamaged
	}
	*r = Run(b)
	return nil
}

// A Hello is what an agent says of itself before it reports. [Table.Hello] makes one.
type Hello struct {
	Version int    `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"` // by which it wants to be called
	Run     Run    `cbor:"3,keyasint"`
	Wall    int64  `cbor:"4,keyasint"`           // the agent's clock, in microseconds of Unix time
	Backend string `cbor:"5,keyasint,omitempty"` // how it reads its sockets
	Limited string `cbor:"6,keyasint,omitempty"` // why it does not see all; empty: it does
	Before  Run    `cbor:"7,keyasint,omitzero"`  // the run before this one; zero: unknown
}

// Skew returns by how much the agent's clock is behind, if hello arrives now. Up to 5 s are
// due to the network and count as none. The rest is rounded, so that it is the same for each
// connection: a server distinguishes connections by the time at which they opened.
func (h Hello) Skew(now time.Time) time.Duration {
	skew := now.Sub(time.UnixMicro(h.Wall))
	if skew.Abs() <= skewBelieved {
		return 0
	}
	return skew.Round(2 * skewBelieved)
}

// A Welcome is what a server says of itself to an agent that may report.
type Welcome struct {
	Version  int    `cbor:"1,keyasint"`
	MaxConns int    `cbor:"2,keyasint"`           // that it takes of this agent
	Acks     bool   `cbor:"3,keyasint,omitempty"` // it sends Acks
	Last     uint64 `cbor:"4,keyasint,omitempty"` // Heard, for agents that do not know that
	Recorded uint64 `cbor:"5,keyasint,omitempty"` // number of this run's last delta that is recorded
	States   bool   `cbor:"6,keyasint,omitempty"` // it takes the states of sockets
	Heard    uint64 `cbor:"7,keyasint,omitempty"` // number of this run's last delta that this process of the server has received
	Runs     bool   `cbor:"8,keyasint,omitempty"` // it takes Asks, and deltas of earlier runs
	Names    bool   `cbor:"9,keyasint,omitempty"` // it takes names of peers
}

// A Full is a part of all connections of an agent. All parts have the same number.
type Full struct {
	Seq   uint64
	More  bool // it is not the last part
	Conns []conntrack.Conn
}

// A Delta is what has changed since the last full or delta of a run.
type Delta struct {
	Seq    uint64 // in the current run; it grows with each full and delta
	Events []conntrack.Event
	Lost   uint64 // events that the agent has lost
	Run    Run    // an earlier run that has noted the events; zero: the current one
	Number uint64 // of the last delta of that run that is in this one; zero without Run
}

// A Ping is a heartbeat of an agent, or the server's answer.
type Ping struct {
	_ struct{} `cbor:",toarray"`
}

// An Ack says that the server has recorded all deltas of this run up to a number.
type Ack struct {
	_   struct{} `cbor:",toarray"`
	Seq uint64
}

// An Ask is an agent's question which deltas of an earlier run are recorded.
type Ask struct {
	_   struct{} `cbor:",toarray"`
	Run Run
}

// An Answer is the server's answer to an Ask: all deltas up to a number, or none if it is zero.
type Answer struct {
	_      struct{} `cbor:",toarray"`
	Run    Run
	Number uint64
}

// Type implements Frame.
func (Hello) Type() Type { return TypeHello }

// Type implements Frame.
func (Welcome) Type() Type { return TypeWelcome }

// Type implements Frame.
func (Full) Type() Type { return TypeFull }

// Type implements Frame. It is TypeResend if the delta has a Run.
func (d Delta) Type() Type {
	if d.Run != (Run{}) {
		return TypeResend
	}
	return TypeDelta
}

// Type implements Frame.
func (Ping) Type() Type { return TypePing }

// Type implements Frame.
func (Ack) Type() Type { return TypeAck }

// Type implements Frame.
func (Ask) Type() Type { return TypeAsk }

// Type implements Frame.
func (Answer) Type() Type { return TypeAnswer }
