package feed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/connmapgo/connmap/conntrack"
)

const (
	smallFrame = 64         // bytes, before authentication
	largeFrame = 256 * 1024 // bytes, after it
	rowsAFrame = 300        // connections; 300 of the longest fit into a frame
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
)

type (
	proofFrame struct {
		_     struct{} `cbor:",toarray"`
		Type  frameType
		Proof []byte
	}
	helloFrame struct {
		_                      struct{} `cbor:",toarray"`
		Type                   frameType
		Name, Backend, Limited string
		Wall                   int64
	}
	welcomeFrame struct {
		_    struct{} `cbor:",toarray"`
		Type frameType
		Most int
	}
	fullFrame struct {
		_    struct{} `cbor:",toarray"`
		Type frameType
		More bool
		Rows []row
	}
	deltaFrame struct {
		_      struct{} `cbor:",toarray"`
		Type   frameType
		Events []eventRow
		Lost   uint64
	}
	pingFrame struct {
		_    struct{} `cbor:",toarray"`
		Type frameType
	}
	byeFrame struct {
		_      struct{} `cbor:",toarray"`
		Type   frameType
		Reason string
	}
	eventRow struct {
		_    struct{} `cbor:",toarray"`
		Kind uint8
		Row  row
	}
	row struct {
		_                    struct{} `cbor:",toarray"`
		ID                   uint64
		Proto, Direction     uint8
		Local, Peer          []byte
		PID                  int32
		Comm, Exe, Container string
		UID                  uint32
		Tx, Rx               uint64
		RTT                  uint32
		Opened               int64
	}
)

// decoder refuses what is deeper or longer than any frame.
var decoder = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		MaxNestedLevels: 6, MaxArrayElements: 4096, MaxMapPairs: 16,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		DupMapKey: cbor.DupMapKeyEnforcedAPF, UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		panic("feed: " + err.Error())
	}
	return mode
}()

func rowOf(c conntrack.Conn) row {
	return row{
		ID: c.ID, Proto: uint8(c.Proto), Direction: uint8(c.Direction), Local: addrBytes(c.Local), Peer: addrBytes(c.Peer),
		PID: int32(c.Process.PID), Comm: cut(c.Process.Comm), Exe: cut(c.Process.Exe), Container: cut(c.Process.Container), UID: c.UID,
		Tx: c.Tx, Rx: c.Rx, RTT: uint32(min(c.RTT.Microseconds(), 1<<31)), Opened: c.Opened.UnixMicro(),
	}
}

func cut(s string) string { return s[:min(len(s), mostText)] }

func addrBytes(a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port())
}

func addrOf(b []byte) (netip.AddrPort, bool) {
	if len(b) != 6 && len(b) != 18 {
		return netip.AddrPort{}, false
	}
	a, _ := netip.AddrFromSlice(b[:len(b)-2])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[len(b)-2:])), true
}

var errRow = errors.New("feed: damaged connection")

// conn returns the connection of a row. What an agent says of time is
// believed up to now.
func (r *row) conn(now time.Time) (conntrack.Conn, error) {
	local, ok1 := addrOf(r.Local)
	peer, ok2 := addrOf(r.Peer)
	if !ok1 || !ok2 || r.Direction > uint8(conntrack.Out) || r.PID < 0 {
		return conntrack.Conn{}, errRow
	}
	opened := time.UnixMicro(r.Opened)
	if opened.After(now) || opened.Before(now.AddDate(-20, 0, 0)) {
		opened = now
	}
	return conntrack.Conn{
		ID: r.ID, Proto: conntrack.Proto(r.Proto), Direction: conntrack.Direction(r.Direction), Local: local, Peer: peer,
		Process: CleanProcess(conntrack.Process{PID: int(r.PID), Comm: r.Comm, Exe: r.Exe, Container: r.Container}),
		UID:     r.UID, Tx: r.Tx, Rx: r.Rx, RTT: time.Duration(r.RTT) * time.Microsecond, Opened: opened,
	}, nil
}

// writeFrame sends a frame with one write.
func writeFrame(w io.Writer, frame any) error {
	b, err := cbor.Marshal(frame)
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	if len(b) > largeFrame {
		return fmt.Errorf("feed: frame of %d bytes is too large", len(b))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

// readFrame reads a frame of at most limit bytes into buf, and its type.
func readFrame(r io.Reader, buf []byte, limit int) (frameType, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, buf, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n < 2 || n > limit {
		return 0, buf, fmt.Errorf("feed: frame of %d bytes, at most %d are taken", n, limit)
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		return 0, buf, err
	}
	// An array of up to 23 elements is one byte, its first element, the
	// type, the next.
	if buf[0]&0xe0 != 0x80 || buf[0] > 0x97 || buf[1] > 0x17 {
		return 0, buf, errors.New("feed: this is no frame")
	}
	return frameType(buf[1]), buf, nil
}

func decode(b []byte, frame any) error {
	if err := decoder.Unmarshal(b, frame); err != nil {
		return fmt.Errorf("feed: damaged frame: %w", err)
	}
	return nil
}
