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
	maxGreeting  = 64         // bytes of a frame before authentication
	maxFrame     = 256 * 1024 // likewise after it
	runLen       = 16
	keptBuffer   = 16 * 1024 // bytes; a link that once sent a large frame is not to hold its room
	mostItems    = 4096      // of an array in a frame
	smallestRow  = 27        // bytes: 14 elements and their array, two of them addresses of 6 bytes
	largestRow   = 104       // bytes without its texts
	mostState    = 12        // that a kernel has
	smallestMore = 3         // bytes of an event besides its row, at least
	eventExtra   = 11        // the same at most
	frameExtra   = 32        // bytes of a frame besides its items
	skewBelieved = 5 * time.Second
)

// A frameType is the first element of a frame.
type frameType uint8

const (
	typeProof frameType = iota + 1
	typeHello
	typeWelcome
	typeFull
	typeDelta
	typePing
	typeBye
	typeAck
	typeAsk
	typeAnswer
	typeResend
)

// A frame is what one side sends at once. As CBOR it is an array.
type frame interface{ Type() frameType }

type (
	proofFrame struct {
		_     struct{} `cbor:",toarray"`
		Proof []byte
	}
	helloFrame struct {
		Version int    `cbor:"1,keyasint"`
		Name    string `cbor:"2,keyasint"`
		Run     []byte `cbor:"3,keyasint"`
		Wall    int64  `cbor:"4,keyasint"`
		Backend string `cbor:"5,keyasint,omitempty"`
		Limited string `cbor:"6,keyasint,omitempty"`
		Before  []byte `cbor:"7,keyasint,omitempty"`
	}
	welcomeFrame struct {
		Version  int    `cbor:"1,keyasint"`
		MaxConns int    `cbor:"2,keyasint"`
		Acks     bool   `cbor:"3,keyasint,omitempty"`
		Last     uint64 `cbor:"4,keyasint,omitempty"`
		Recorded uint64 `cbor:"5,keyasint,omitempty"`
		States   bool   `cbor:"6,keyasint,omitempty"`
		Heard    uint64 `cbor:"7,keyasint,omitempty"`
		Runs     bool   `cbor:"8,keyasint,omitempty"`
	}
	fullFrame struct {
		Seq   uint64
		More  bool
		Conns []conntrack.Conn
	}
	// A deltaFrame of an earlier run of the agent has its Run and the Number in it.
	deltaFrame struct {
		Seq    uint64
		Events []conntrack.Event
		Lost   uint64
		Run    [runLen]byte
		Number uint64
	}
	pingFrame struct {
		_ struct{} `cbor:",toarray"`
	}
	byeFrame struct {
		_    struct{} `cbor:",toarray"`
		Code byeCode
	}
	ackFrame struct {
		_   struct{} `cbor:",toarray"`
		Seq uint64
	}
	askFrame struct {
		_   struct{} `cbor:",toarray"`
		Run []byte
	}
	answerFrame struct {
		_      struct{} `cbor:",toarray"`
		Run    []byte
		Number uint64
	}
)

func (proofFrame) Type() frameType   { return typeProof }
func (helloFrame) Type() frameType   { return typeHello }
func (welcomeFrame) Type() frameType { return typeWelcome }
func (fullFrame) Type() frameType    { return typeFull }
func (pingFrame) Type() frameType    { return typePing }
func (byeFrame) Type() frameType     { return typeBye }
func (ackFrame) Type() frameType     { return typeAck }
func (askFrame) Type() frameType     { return typeAsk }
func (answerFrame) Type() frameType  { return typeAnswer }

func (f deltaFrame) Type() frameType {
	if f.Run != ([runLen]byte{}) {
		return typeResend
	}
	return typeDelta
}

type byeCode uint8

const (
	byeToken byeCode = iota + 1
	byeAgents
	byeDamaged
	byeRevoked
	byeReplaced
	byeTotal
	byeChanged
	byeGuesses
	byeApproval
	byeEnrolments
	byeBusy
)

// What frames are as CBOR, without their types. Of those that arrive the rows are raw: they
// are decoded one by one, so that an array takes no more room than its bytes vouch for.
type (
	helloBody struct {
		_     struct{} `cbor:",toarray"`
		Hello helloFrame
	}
	welcomeBody struct {
		_       struct{} `cbor:",toarray"`
		Welcome welcomeFrame
	}
	fullBody[R []row | cbor.RawMessage] struct {
		_    struct{} `cbor:",toarray"`
		Seq  uint64
		More bool
		Rows R
	}
	deltaBody[R []eventRow | cbor.RawMessage] struct {
		_    struct{} `cbor:",toarray"`
		Seq  uint64
		Rows R
		Lost uint64
	}
	resendBody[R []eventRow | cbor.RawMessage] struct {
		_      struct{} `cbor:",toarray"`
		Seq    uint64
		Rows   R
		Lost   uint64
		Run    []byte
		Number uint64
	}
	spooledBody[R []eventRow | cbor.RawMessage] struct { // of a file
		_      struct{} `cbor:",toarray"`
		Number uint64
		Lost   uint64
		Rows   R
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
)

// decodeMode refuses what is deeper or longer than any frame.
var decodeMode = func() cbor.DecMode {
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

func rowOf(c *conntrack.Conn) row {
	return row{
		ID: c.ID, Proto: uint8(c.Proto), Direction: uint8(c.Direction) | uint8(c.State)<<2, Local: addrBytes(c.Local), Peer: addrBytes(c.Peer),
		PID: int32(c.Process.PID), Comm: cut(c.Process.Comm), Exe: cut(c.Process.Exe), Container: cut(c.Process.Container), UID: c.UID,
		Tx: c.Tx, Rx: c.Rx, RTT: uint32(min(max(c.RTT.Microseconds(), 0), 1<<32-1)), Opened: c.Opened.UnixMicro(),
	}
}

func appendEventRows(rows []eventRow, events []conntrack.Event) []eventRow {
	for i := range events {
		e := &events[i]
		rows = append(rows, eventRow{Kind: e.Kind, Time: e.Time.UnixMicro(), Row: rowOf(&e.Conn)})
	}
	return rows
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

// A clock turns the times of an agent into those of the server.
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
		if b, err = decodeMode.UnmarshalFirst(b, &r); err != nil {
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
		if b, err = decodeMode.UnmarshalFirst(b, &r); err != nil {
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
			if n == mostItems || bytes+s > maxFrame {
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

// writeFrame sends a frame with one write: its length, then the frame.
func writeFrame(w io.Writer, f frame) error {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	b := &e.bytes
	b.Reset()
	b.Write(make([]byte, 5)) // of the length and the array's header
	if err := encodeMode.MarshalToBuffer(e.body(f), b); err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	n := b.Len() - 4
	if n > maxFrame {
		return fmt.Errorf("feed: frame of %d bytes is too large", n)
	}
	// The body is an array too. Its header becomes that of the frame, then comes the type.
	data := b.Bytes()
	binary.BigEndian.PutUint32(data, uint32(n))
	data[4], data[5] = data[5]+1, byte(f.Type())
	_, err := w.Write(data)
	return err
}

// An encoder has the room that frames need while they are sent.
type encoder struct {
	bytes  bytes.Buffer
	rows   []row
	events []eventRow
}

// The rows are never nil, which would be no array.
var encoders = sync.Pool{New: func() any { return &encoder{rows: []row{}, events: []eventRow{}} }}

var encodeMode = func() cbor.UserBufferEncMode {
	m, err := cbor.EncOptions{}.UserBufferEncMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return m
}()

func (e *encoder) body(f frame) any {
	switch f := f.(type) {
	case helloFrame:
		return helloBody{Hello: f}
	case welcomeFrame:
		return welcomeBody{Welcome: f}
	case fullFrame:
		e.rows = e.rows[:0]
		for i := range f.Conns {
			e.rows = append(e.rows, rowOf(&f.Conns[i]))
		}
		return fullBody[[]row]{Seq: f.Seq, More: f.More, Rows: e.rows}
	case deltaFrame:
		e.events = appendEventRows(e.events[:0], f.Events)
		if f.Type() == typeResend {
			return resendBody[[]eventRow]{Seq: f.Seq, Rows: e.events, Lost: f.Lost, Run: f.Run[:], Number: f.Number}
		}
		return deltaBody[[]eventRow]{Seq: f.Seq, Rows: e.events, Lost: f.Lost}
	}
	return f
}

// A frameReader reads frames from a connection.
type frameReader struct {
	r   io.Reader
	buf []byte
}

// next returns the type of the next frame, which has at most limit bytes, and its body. The
// body is valid until the next call.
func (r *frameReader) next(limit int) (frameType, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n < 2 || n > int64(limit) {
		return 0, nil, fmt.Errorf("%w: %d bytes, at most %d are taken", errFrame, n, limit)
	}
	buf := r.buf[:0]
	if cap(buf) > keptBuffer {
		buf = nil
	}
	// Who only says that much will come is given no room for it yet.
	for len(buf) < int(n) {
		have := len(buf)
		more := min(int(n)-have, max(keptBuffer, have))
		buf = slices.Grow(buf, more)[:have+more]
		if _, err := io.ReadFull(r.r, buf[have:]); err != nil {
			return 0, nil, err
		}
	}
	r.buf = buf
	// An array of up to 23 elements is one byte, its first element, the type, the next.
	if buf[0]&0xe0 != 0x80 || buf[0] == 0x80 || buf[0] > 0x97 || buf[1] > 0x17 {
		return 0, nil, errFrame
	}
	t := frameType(buf[1])
	buf[1] = buf[0] - 1 // the header of the body
	return t, buf[1:], nil
}

// decode decodes the body of a frame.
func decode(b []byte, f any) (err error) {
	switch f := f.(type) {
	case *helloFrame:
		var body helloBody
		err = decodeMode.Unmarshal(b, &body)
		*f = body.Hello
	case *welcomeFrame:
		var body welcomeBody
		err = decodeMode.Unmarshal(b, &body)
		*f = body.Welcome
	default:
		err = decodeMode.Unmarshal(b, f)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}
