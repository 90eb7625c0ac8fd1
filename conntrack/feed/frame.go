package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/connmapgo/connmap/conntrack"
)

const (
	version      = 1          // of the protocol
	smallFrame   = 64         // bytes, before authentication
	largeFrame   = 256 * 1024 // bytes, after it
	keptBuffer   = 16 * 1024  // bytes; a link that once sent a large frame is not to hold its room
	mostItems    = 4096       // of an array in a frame
	smallestRow  = 27         // bytes: 14 elements and their array, two of them addresses of 6 bytes
	largestRow   = 104        // bytes without its texts
	mostState    = 12         // that a kernel has
	smallestMore = 3          // bytes of an event besides its row, at least
	eventExtra   = 11         // the same at most
	frameExtra   = 32         // bytes of a frame besides its items
	skewBelieved = 5 * time.Second
)

type frameType uint8

const (
	frameProof frameType = iota + 1
	frameHello
	frameWelcome
	frameFull
	frameDelta
	framePing
	frameBye
	frameAck
	frameAsk
	frameAnswer
	frameAgain
)

type byeCode uint8

const (
	byeToken byeCode = iota + 1
	byeAgents
	byeFrame
	byeRevoked
	byeReplaced
	byeTotal
	byeChanged
	byeGuesses
	byeApproval
	byeEnrolments
	byeBusy
)

type (
	proofFrame struct {
		_     struct{} `cbor:",toarray"`
		Type  frameType
		Proof []byte
	}
	helloFrame struct {
		_     struct{} `cbor:",toarray"`
		Type  frameType
		Hello hello
	}
	hello struct {
		Version int    `cbor:"1,keyasint"`
		Name    string `cbor:"2,keyasint"`
		Boot    []byte `cbor:"3,keyasint"`
		Wall    int64  `cbor:"4,keyasint"`
		Backend string `cbor:"5,keyasint,omitempty"`
		Limited string `cbor:"6,keyasint,omitempty"`
		Before  []byte `cbor:"7,keyasint,omitempty"`
	}
	welcomeFrame struct {
		_       struct{} `cbor:",toarray"`
		Type    frameType
		Welcome welcome
	}
	welcome struct {
		Version int    `cbor:"1,keyasint"`
		Most    int    `cbor:"2,keyasint"`
		Acks    bool   `cbor:"3,keyasint,omitempty"`
		Last    uint64 `cbor:"4,keyasint,omitempty"`

		Recorded uint64 `cbor:"5,keyasint,omitempty"`
		States   bool   `cbor:"6,keyasint,omitempty"`
		Heard    uint64 `cbor:"7,keyasint,omitempty"`
		Runs     bool   `cbor:"8,keyasint,omitempty"`
	}
	fullFrame struct {
		_    struct{} `cbor:",toarray"`
		Type frameType
		Seq  uint64
		More bool
		Rows []row
	}
	deltaFrame struct {
		_      struct{} `cbor:",toarray"`
		Type   frameType
		Seq    uint64
		Events []eventRow
		Lost   uint64
	}
	pingFrame struct {
		_    struct{} `cbor:",toarray"`
		Type frameType
	}
	ackFrame struct {
		_    struct{} `cbor:",toarray"`
		Type frameType
		Seq  uint64
	}
	askFrame struct {
		_    struct{} `cbor:",toarray"`
		Type frameType
		Run  []byte
	}
	answerFrame struct {
		_        struct{} `cbor:",toarray"`
		Type     frameType
		Run      []byte
		Recorded uint64
	}
	againFrame struct {
		_      struct{} `cbor:",toarray"`
		Type   frameType
		Seq    uint64
		Events []eventRow
		Lost   uint64
		Run    []byte
		Number uint64
	}
	spooledFrame struct { // of a file
		_      struct{} `cbor:",toarray"`
		Number uint64
		Lost   uint64
		Events []eventRow
	}
	goodbyeFrame struct {
		_    struct{} `cbor:",toarray"`
		Type frameType
		Code byeCode
	}
	eventRow struct {
		_    struct{} `cbor:",toarray"`
		Kind conntrack.Kind
		Time int64
		Row  row
	}
	row struct {
		_                    struct{} `cbor:",toarray"`
		ID                   uint64
		Proto, Direction     uint8 // Direction is the direction and four times the state
		Local, Peer          []byte
		PID                  int32
		Comm, Exe, Container string
		UID                  uint32
		Tx, Rx               uint64
		RTT                  uint32
		Opened               int64
	}

	// What arrives is decoded row by row, so that an array takes no more
	// room than its bytes vouch for.
	fullHead struct {
		_    struct{} `cbor:",toarray"`
		Type frameType
		Seq  uint64
		More bool
		Rows cbor.RawMessage
	}
	deltaHead struct {
		_      struct{} `cbor:",toarray"`
		Type   frameType
		Seq    uint64
		Events cbor.RawMessage
		Lost   uint64
	}
	againHead struct {
		_      struct{} `cbor:",toarray"`
		Type   frameType
		Seq    uint64
		Events cbor.RawMessage
		Lost   uint64
		Run    []byte
		Number uint64
	}
	spooledHead struct {
		_      struct{} `cbor:",toarray"`
		Number uint64
		Lost   uint64
		Events cbor.RawMessage
	}
)

// decoder refuses what is deeper or longer than any frame.
var decoder = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		MaxNestedLevels: 4, MaxArrayElements: mostItems, MaxMapPairs: 16,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		DupMapKey: cbor.DupMapKeyEnforcedAPF, UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		panic("feed: " + err.Error())
	}
	return mode
}()

var (
	errFrame = errors.New("feed: damaged frame")
	errRow   = errors.New("feed: damaged connection")
)

func rowOf(c conntrack.Conn) row {
	return row{
		ID: c.ID, Proto: uint8(c.Proto), Direction: uint8(c.Direction) | uint8(c.State)<<2, Local: addrBytes(c.Local), Peer: addrBytes(c.Peer),
		PID: int32(c.Process.PID), Comm: cut(c.Process.Comm), Exe: cut(c.Process.Exe), Container: cut(c.Process.Container), UID: c.UID,
		Tx: c.Tx, Rx: c.Rx, RTT: uint32(min(max(c.RTT.Microseconds(), 0), 1<<32-1)), Opened: c.Opened.UnixMicro(),
	}
}

func eventRowOf(e conntrack.Event) eventRow {
	return eventRow{Kind: e.Kind, Time: e.Time.UnixMicro(), Row: rowOf(e.Conn)}
}

// addrBytes leaves out zones, which mean something on their host only.
func addrBytes(a netip.AddrPort) []byte {
	if a.Addr().Is4() {
		b := a.Addr().As4()
		return binary.BigEndian.AppendUint16(append(make([]byte, 0, 6), b[:]...), a.Port())
	}
	b := a.Addr().As16()
	return binary.BigEndian.AppendUint16(append(make([]byte, 0, 18), b[:]...), a.Port())
}

func addrOf(b []byte) (netip.AddrPort, bool) {
	if len(b) != 6 && len(b) != 18 {
		return netip.AddrPort{}, false
	}
	a, _ := netip.AddrFromSlice(b[:len(b)-2])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[len(b)-2:])), true
}

// A clock turns the times of an agent into those of the server. The zero clock leaves them
// as they are.
type clock struct {
	now  time.Time     // of the server, without monotonic reading
	skew time.Duration // to add to the agent's
}

// skewOf returns by how much an agent's clock is behind. A little is due to the way that
// the hello took and is none. The rest is rounded, so that it is the same for each link:
// by its time an opening is known again.
func skewOf(now time.Time, wall int64) time.Duration {
	skew := now.Sub(time.UnixMicro(wall))
	if skew.Abs() <= skewBelieved {
		return 0
	}
	return skew.Round(2 * skewBelieved)
}

// time is not in the future, but for what a clock may be ahead unnoticed, nor so far in
// the past that it cannot be true. A time that cannot be true becomes one of the last 10 s.
// Two of them stay different if they are less than 10 s apart: the history distinguishes
// connections with the same ends by their times.
func (c clock) time(micro int64) time.Time {
	t := time.UnixMicro(micro).Add(c.skew)
	if c.now.IsZero() {
		return t
	}
	if t.After(c.now.Add(2*skewBelieved)) || t.Before(c.now.AddDate(-20, 0, 0)) {
		const within = int64(2 * skewBelieved / time.Microsecond)
		now := c.now.UnixMicro()
		ago := (now%within - micro%within + 2*within) % within
		return time.UnixMicro(now - ago)
	}
	return t
}

func (r *row) conn(c clock) (conntrack.Conn, error) {
	local, ok1 := addrOf(r.Local)
	peer, ok2 := addrOf(r.Peer)
	// A piece of a longer text would hold the memory of all of it.
	long := len(r.Comm) > mostText || len(r.Exe) > mostText || len(r.Container) > mostText
	direction, state := conntrack.Direction(r.Direction&3), conntrack.State(r.Direction>>2)
	if !ok1 || !ok2 || long || direction > conntrack.Out || state > mostState || r.PID < 0 {
		return conntrack.Conn{}, errRow
	}
	return conntrack.Conn{
		ID: r.ID, Proto: conntrack.Proto(r.Proto), State: state, Direction: direction, Local: local, Peer: peer,
		Process: CleanProcess(conntrack.Process{PID: int(r.PID), Comm: r.Comm, Exe: r.Exe, Container: r.Container}),
		UID:     r.UID, Tx: r.Tx, Rx: r.Rx, RTT: time.Duration(r.RTT) * time.Microsecond, Opened: c.time(r.Opened),
	}, nil
}

// items returns how many items a well-formed CBOR array has, and their
// encoding. It refuses more than fit into the bytes.
func items(b []byte, smallest int) (int, []byte, error) {
	if len(b) == 0 || b[0]>>5 != 4 {
		return 0, nil, errFrame
	}
	n, rest := uint64(b[0]&0x1f), b[1:]
	if n >= 24 {
		size := 1 << (n - 24)
		if n > 27 || len(rest) < size {
			return 0, nil, errFrame
		}
		n = 0
		for _, x := range rest[:size] {
			n = n<<8 | uint64(x)
		}
		rest = rest[size:]
	}
	if n > uint64(len(rest)/smallest) {
		return 0, nil, errFrame
	}
	return int(n), rest, nil
}

// appendConns decodes the connections of a full frame.
func appendConns(conns []conntrack.Conn, b []byte, c clock) ([]conntrack.Conn, error) {
	n, b, err := items(b, smallestRow)
	for range n {
		var r row
		if b, err = decoder.UnmarshalFirst(b, &r); err != nil {
			return conns, errFrame
		}
		conn, err := r.conn(c)
		if err != nil {
			return conns, err
		}
		conns = append(conns, conn)
	}
	return conns, err
}

// decodeEvents decodes the events of a delta frame.
func decodeEvents(b []byte, c clock) ([]conntrack.Event, error) {
	n, b, err := items(b, smallestRow+smallestMore)
	if err != nil {
		return nil, err
	}
	events := make([]conntrack.Event, 0, n+1)
	for range n {
		var r eventRow
		if b, err = decoder.UnmarshalFirst(b, &r); err != nil {
			return nil, errFrame
		}
		if r.Kind < conntrack.Open || r.Kind > conntrack.Close {
			return nil, errRow
		}
		conn, err := r.Row.conn(c)
		if err != nil {
			return nil, err
		}
		events = append(events, conntrack.Event{Kind: r.Kind, Time: c.time(r.Time), Conn: conn})
	}
	return events, nil
}

// rowSize is at least what a connection takes in a frame.
func rowSize(c *conntrack.Conn) int {
	p := &c.Process
	return largestRow + min(len(p.Comm), mostText) + min(len(p.Exe), mostText) + min(len(p.Container), mostText)
}

// eventSize is likewise of an event.
func eventSize(e *conntrack.Event) int { return rowSize(&e.Conn) + eventExtra }

// parts splits items so that each part fits into a frame, and says of each
// whether there is more. There is always one part.
func parts[T any](all []T, size func(*T) int) iter.Seq2[[]T, bool] {
	return func(yield func([]T, bool) bool) {
		n, bytes := 0, frameExtra
		for i := range all {
			s := size(&all[i])
			if n == mostItems || bytes+s > largeFrame {
				if !yield(all[i-n:i], true) {
					return
				}
				n, bytes = 0, frameExtra
			}
			n, bytes = n+1, bytes+s
		}
		yield(all[len(all)-n:], false)
	}
}

// writeFrame sends a frame with one write.
func writeFrame(w io.Writer, frame any) error {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	b.Write(make([]byte, 4)) // of the length
	if err := encoder.MarshalToBuffer(frame, b); err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	n := b.Len() - 4
	if n > largeFrame {
		return fmt.Errorf("feed: frame of %d bytes is too large", n)
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(n))
	_, err := w.Write(b.Bytes())
	return err
}

// buffers are for frames that are sent.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

var encoder = func() cbor.UserBufferEncMode {
	m, err := cbor.EncOptions{}.UserBufferEncMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return m
}()

// readFrame reads a frame of at most limit bytes, into buf if it has room,
// and its type.
func readFrame(r io.Reader, buf []byte, limit int) (frameType, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, buf, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 2 || n > uint32(limit) {
		return 0, buf, fmt.Errorf("%w: %d bytes, at most %d are taken", errFrame, n, limit)
	}
	if cap(buf) > keptBuffer {
		buf = nil
	}
	// Who only says that much will come is given no room for it yet.
	for buf = buf[:0]; len(buf) < int(n); {
		have := len(buf)
		more := min(int(n)-have, max(keptBuffer, have))
		buf = slices.Grow(buf, more)[:have+more]
		if _, err := io.ReadFull(r, buf[have:]); err != nil {
			return 0, buf, err
		}
	}
	// An array of up to 23 elements is one byte, its first element, the
	// type, the next.
	if buf[0]&0xe0 != 0x80 || buf[0] > 0x97 || buf[1] > 0x17 {
		return 0, buf, errFrame
	}
	return frameType(buf[1]), buf, nil
}

func decode(b []byte, frame any) error {
	if err := decoder.Unmarshal(b, frame); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}
