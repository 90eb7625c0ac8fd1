package frame

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
	"github.com/connmapgo/connmap/internal/terminal"
)

const (
	keptBuffer    = 16 * 1024 // bytes of a read buffer that are kept between frames
	maxItems      = 4096      // of an array in a frame
	minRow        = 27        // bytes: 14 elements and their array, two of them addresses of 6 bytes
	maxRow        = 104       // bytes without its texts
	maxNameExtra  = 4         // bytes of a name and its source besides its text
	minEventExtra = 3         // bytes of an event besides its row
	maxEventExtra = 11        // likewise
	maxFrameExtra = 64        // bytes of a frame besides its items
	maxState      = 12        // the kernel's largest number of a TCP state
)

// The bodies of frames as CBOR, without their types. When a frame arrives its rows stay raw at
// first. They are decoded one by one, so that memory is only allocated for rows that are there.
type (
	helloBody struct {
		_     struct{} `cbor:",toarray"`
		Hello Hello
	}
	welcomeBody struct {
		_       struct{} `cbor:",toarray"`
		Welcome Welcome
	}
	fullBody[R []any | cbor.RawMessage] struct {
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
		Run    Run
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
		Row  any
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
	namedRow struct { // of a connection whose peer has a name
		_ struct{} `cbor:",toarray"`
		row
		Name       string
		NameSource uint8
	}
)

const (
	arrayOf3  = 0x83 // the first byte of a CBOR array of so many elements
	arrayOf16 = 0x90
)

// decodeMode refuses CBOR that is deeper or longer than any frame.
var decodeMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		MaxNestedLevels: 4, MaxArrayElements: maxItems, MaxMapPairs: 16,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		DupMapKey: cbor.DupMapKeyEnforcedAPF, UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		panic("feed: " + err.Error())
	}
	return mode
}()

// Rows are memory for those of a frame.
type rows struct {
	unnamed []row
	named   []namedRow
}

// add returns a pointer to the row of a connection, which is valid until reset.
func (m *rows) add(c *conntrack.Conn) any {
	r := row{
		ID: c.ID, Proto: uint8(c.Proto), Direction: uint8(c.Direction) | uint8(c.State)<<2, Local: addrBytes(c.Local), Peer: addrBytes(c.Peer),
		PID: int32(c.Process.PID), Comm: cut(c.Process.Comm), Exe: cut(c.Process.Exe), Container: cut(c.Process.Container), UID: c.UID,
		Tx: c.Tx, Rx: c.Rx, RTT: uint32(min(max(c.RTT.Microseconds(), 0), 1<<32-1)), Opened: c.Opened.UnixMicro(),
	}
	if c.Name == "" {
		m.unnamed = append(m.unnamed, r)
		return &m.unnamed[len(m.unnamed)-1]
	}
	m.named = append(m.named, namedRow{row: r, Name: cut(c.Name), NameSource: uint8(c.NameSource)})
	return &m.named[len(m.named)-1]
}

func (m *rows) reset() { m.unnamed, m.named = m.unnamed[:0], m.named[:0] }

// events appends the rows of events to list.
func (m *rows) events(list []eventRow, events []conntrack.Event) []eventRow {
	for i := range events {
		e := &events[i]
		list = append(list, eventRow{Kind: e.Kind, Time: e.Time.UnixMicro(), Row: m.add(&e.Conn)})
	}
	return list
}

// addrBytes leaves out zones, which mean something on their machine only.
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

func (r *namedRow) conn(c clock) (conntrack.Conn, error) {
	local, ok1 := addrOf(r.Local)
	peer, ok2 := addrOf(r.Peer)
	// The beginning of a longer text would keep the memory of all of it.
	long := len(r.Comm) > MaxText || len(r.Exe) > MaxText || len(r.Container) > MaxText || len(r.Name) > MaxText
	direction, state := conntrack.Direction(r.Direction&3), conntrack.State(r.Direction>>2)
	if !ok1 || !ok2 || long || direction > conntrack.Out || state > maxState || r.PID < 0 {
		return conntrack.Conn{}, errConn
	}
	return withName(conntrack.Conn{
		ID: r.ID, Proto: conntrack.Proto(r.Proto), State: state, Direction: direction, Local: local, Peer: peer,
		Process: cleanProcess(conntrack.Process{PID: int(r.PID), Comm: r.Comm, Exe: r.Exe, Container: r.Container}),
		UID:     r.UID, Tx: r.Tx, Rx: r.Rx, RTT: time.Duration(r.RTT) * time.Microsecond, Opened: c.time(r.Opened),
		Name: r.Name, NameSource: conntrack.NameSource(r.NameSource),
	}), nil
}

// decodeRow decodes the first row of b. It returns what follows.
func decodeRow(b []byte) (r namedRow, rest []byte, err error) {
	if len(b) > 0 && b[0] == arrayOf16 {
		rest, err = decodeMode.UnmarshalFirst(b, &r)
	} else {
		rest, err = decodeMode.UnmarshalFirst(b, &r.row)
	}
	if err != nil {
		err = ErrDamaged
	}
	return r, rest, err
}

// items returns how many items a CBOR array has, and their encoding. It refuses more items than
// fit into the bytes.
func items(b []byte, minSize int) (int, []byte, error) {
	if len(b) == 0 || b[0]>>5 != 4 {
		return 0, nil, ErrDamaged
	}
	n, rest := uint64(b[0]&0x1f), b[1:]
	if n >= 24 {
		size := 1 << (n - 24)
		if n > 27 || len(rest) < size {
			return 0, nil, ErrDamaged
		}
		n = 0
		for _, x := range rest[:size] {
			n = n<<8 | uint64(x)
		}
		rest = rest[size:]
	}
	if n > uint64(len(rest)/minSize) {
		return 0, nil, ErrDamaged
	}
	return int(n), rest, nil
}

// appendConns decodes the connections of a full frame.
func appendConns(conns []conntrack.Conn, b []byte, c clock) ([]conntrack.Conn, error) {
	n, b, err := items(b, minRow)
	for range n {
		var r namedRow
		if r, b, err = decodeRow(b); err != nil {
			return conns, err
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
	n, b, err := items(b, minRow+minEventExtra)
	if err != nil {
		return nil, err
	}
	events := make([]conntrack.Event, 0, n+1)
	for range n {
		var e eventRow
		if len(b) == 0 || b[0] != arrayOf3 {
			return nil, ErrDamaged
		}
		if b, err = decodeMode.UnmarshalFirst(b[1:], &e.Kind); err != nil {
			return nil, ErrDamaged
		}
		if b, err = decodeMode.UnmarshalFirst(b, &e.Time); err != nil {
			return nil, ErrDamaged
		}
		if e.Kind < conntrack.Open || e.Kind > conntrack.Close {
			return nil, errConn
		}
		var r namedRow
		if r, b, err = decodeRow(b); err != nil {
			return nil, err
		}
		conn, err := r.conn(c)
		if err != nil {
			return nil, err
		}
		events = append(events, conntrack.Event{Kind: e.Kind, Time: c.time(e.Time), Conn: conn})
	}
	return events, nil
}

// rowSize is the most bytes that a connection takes in a frame.
func rowSize(c *conntrack.Conn) int {
	p := &c.Process
	size := maxRow + min(len(p.Comm), MaxText) + min(len(p.Exe), MaxText) + min(len(p.Container), MaxText)
	if c.Name != "" {
		size += maxNameExtra + min(len(c.Name), MaxText)
	}
	return size
}

// eventSize is the most bytes that an event takes in a frame.
func eventSize(e *conntrack.Event) int { return rowSize(&e.Conn) + maxEventExtra }

// parts splits items so that each part fits into a frame, and says of each part whether there is
// another one. There is always a first one, which may be empty.
func parts[T any](all []T, size func(*T) int) iter.Seq2[[]T, bool] {
	return func(yield func([]T, bool) bool) {
		n, bytes := 0, maxFrameExtra
		for i := range all {
			s := size(&all[i])
			if n == maxItems || bytes+s > MaxSize {
				if !yield(all[i-n:i:i], true) {
					return
				}
				n, bytes = 0, maxFrameExtra
			}
			n, bytes = n+1, bytes+s
		}
		yield(all[len(all)-n:], false)
	}
}

// Write sends a frame with one call of w.Write: its length in 4 bytes, then the frame. It
// fails if w does, or if the frame has more than MaxSize bytes.
func Write(w io.Writer, f Frame) error {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	b := &e.bytes
	b.Reset()
	b.Write(make([]byte, 5)) // of the length and the array's header
	if err := encodeMode.MarshalToBuffer(e.body(f), b); err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	n := b.Len() - 4
	if n > MaxSize {
		return fmt.Errorf("feed: a frame of %d bytes is too large", n)
	}
	// The body is an array too. Its header becomes that of the frame, then comes the type.
	data := b.Bytes()
	if data[5] < 0x80 || data[5] > 0x96 {
		return fmt.Errorf("feed: %T is not a frame", f)
	}
	binary.BigEndian.PutUint32(data, uint32(n))
	data[4], data[5] = data[5]+1, byte(f.Type())
	_, err := w.Write(data)
	return err
}

// An encoder is the memory that encoding a frame takes.
type encoder struct {
	bytes  bytes.Buffer
	rows   rows
	conns  []any
	events []eventRow
}

// The lists are never nil, which would be no array.
var encoders = sync.Pool{New: func() any { return &encoder{conns: []any{}, events: []eventRow{}} }}

var encodeMode = func() cbor.UserBufferEncMode {
	m, err := cbor.EncOptions{}.UserBufferEncMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return m
}()

func (e *encoder) body(f Frame) any {
	e.rows.reset()
	switch f := f.(type) {
	case Hello:
		f.Name, f.Backend, f.Limited = cut(f.Name), cut(f.Backend), terminal.Cut(f.Limited, MaxLimited)
		return helloBody{Hello: f}
	case Welcome:
		return welcomeBody{Welcome: f}
	case Full:
		e.conns = e.conns[:0]
		for i := range f.Conns {
			e.conns = append(e.conns, e.rows.add(&f.Conns[i]))
		}
		return fullBody[[]any]{Seq: f.Seq, More: f.More, Rows: e.conns}
	case Delta:
		e.events = e.rows.events(e.events[:0], f.Events)
		if f.Run != (Run{}) {
			return resendBody[[]eventRow]{Seq: f.Seq, Rows: e.events, Lost: f.Lost, Run: f.Run, Number: f.Number}
		}
		return deltaBody[[]eventRow]{Seq: f.Seq, Rows: e.events, Lost: f.Lost}
	}
	return f
}

// A Reader reads frames, each of which follows its length. It is not safe for concurrent use.
type Reader struct {
	r   io.Reader
	buf []byte
}

// NewReader returns a Reader that reads from r no more than the frames that it returns.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next returns the type and the body of the next frame, which has at most limit bytes. The
// body is for Decode or a Receiver, and valid until the next call. The error is that of the
// underlying reader, or ErrDamaged.
func (r *Reader) Next(limit int) (Type, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n < 2 || n > int64(limit) {
		return 0, nil, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrDamaged, n, limit)
	}
	buf := r.buf[:0]
	if cap(buf) > keptBuffer {
		buf = nil
	}
	// Memory grows with what has arrived, not with what the length announces.
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
		return 0, nil, ErrDamaged
	}
	t := Type(buf[1])
	buf[1] = buf[0] - 1 // the header of the body
	return t, buf[1:], nil
}

// Decode decodes the body of a frame into a pointer to a frame of its type, but for Full and
// Delta, which a Receiver decodes. The error is ErrDamaged.
func Decode(b []byte, f any) (err error) {
	switch f := f.(type) {
	case *Hello:
		var body helloBody
		err = decodeMode.Unmarshal(b, &body)
		*f = body.Hello
	case *Welcome:
		var body welcomeBody
		err = decodeMode.Unmarshal(b, &body)
		*f = body.Welcome
	case *Ask:
		if err = decodeMode.Unmarshal(b, f); err == nil && f.Run == (Run{}) {
			err = errors.New("it asks of no run")
		}
	default:
		err = decodeMode.Unmarshal(b, f)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}
