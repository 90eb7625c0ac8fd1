// Package storable reads files that Perl's Storable wrote, in which connmapperl kept its
// simple history, and finds the counts of places in them.
// It writes none, and makes no objects of Perl's: blessed data is plain data.
package storable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// What a file may hold at most. A file may claim any length: nothing is given room before
// its bytes are there.
const (
	MaxBytes = 64 << 20 // of a file
	maxItems = 2_000_000
	maxDepth = 100
)

// Types of items, as Storable.xs numbers them.
const (
	sxObject = iota
	sxLScalar
	sxArray
	sxHash
	sxRef
	sxUndef
	sxInteger
	sxDouble
	sxByte
	sxNetInt
	sxScalar
	sxTiedArray
	sxTiedHash
	sxTiedScalar
	sxSVUndef
	sxYes
	sxNo
	sxBless
	sxIndexBless
	sxHook
	sxOverload
	sxTiedKey
	sxTiedIndex
	sxUTF8
	sxLUTF8
	sxFlagHash
	sxCode
	sxWeakRef
	sxWeakOverload
	sxVString
	sxLVString
	sxUndefElem
	sxRegexp
	sxLarge
	sxTrue
	sxFalse
)

// A decoder is at a byte of a file.
type decoder struct {
	b       []byte
	at      int
	order   binary.ByteOrder
	network bool
	ints    int // bytes of an integer
	floats  int // bytes of a floating point number
	depth   int
	seen    []any // by tag; nil: not complete yet
}

// Read returns what a file holds, for which it must have been read whole: nil, bool, int64,
// float64, string, []any or map[string]any. References are what they refer to, and nil
// within that itself. Bytes that are not UTF-8 are taken for ISO-8859-1, as Perl does. Both
// byte orders, the network's, integers of 32 and 64 bits and versions 2.0 to 2.12 of the
// format are read.
// The error names the byte; nothing is returned then.
func Read(b []byte) (any, error) {
	d := &decoder{b: b}
	v, err := d.file()
	if err != nil {
		return nil, fmt.Errorf("storable: at byte %d: %w", d.at, err)
	}
	return v, nil
}

var errShort = errors.New("the file ends too early")

func (d *decoder) file() (any, error) {
	if len(d.b) > MaxBytes {
		return nil, fmt.Errorf("the file has more than %d MiB", MaxBytes>>20)
	}
	if err := d.header(); err != nil {
		return nil, err
	}
	return d.item()
}

func (d *decoder) header() error {
	magic, err := d.take(4)
	if err != nil || string(magic) != "pst0" {
		return errors.New("no file of Perl's Storable: it does not begin with pst0")
	}
	use, err := d.byte()
	if err != nil {
		return err
	}
	if use>>1 != 2 {
		return fmt.Errorf("format %d of Storable, expected 2", use>>1)
	}
	minor, err := d.byte()
	if err != nil {
		return err
	}
	if minor > 12 {
		return fmt.Errorf("format 2.%d of Storable, expected at most 2.12", minor)
	}
	if d.network = use&1 == 1; d.network {
		d.order = binary.BigEndian
		return nil
	}
	n, err := d.byte()
	if err != nil {
		return err
	}
	order, err := d.take(int(n))
	if err != nil {
		return err
	}
	switch string(order) {
	case "1234", "12345678":
		d.order = binary.LittleEndian
	case "4321", "87654321":
		d.order = binary.BigEndian
	default:
		return fmt.Errorf("unknown byte order %q", order)
	}
	d.ints, d.floats = len(order), 8
	// The sizes of int, long and pointer, and of floating point numbers.
	sizes, err := d.take(3)
	if err == nil && sizes[0] != 4 {
		return fmt.Errorf("lengths of %d bytes, expected 4", sizes[0])
	}
	if err == nil && minor >= 2 {
		var size byte
		size, err = d.byte()
		d.floats = int(size)
	}
	return err
}

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.b)-d.at {
		return nil, errShort
	}
	b := d.b[d.at : d.at+n : d.at+n]
	d.at += n
	return b, nil
}

func (d *decoder) byte() (byte, error) {
	b, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// length is one of 32 bits.
func (d *decoder) length() (int, error) {
	b, err := d.take(4)
	if err != nil {
		return 0, err
	}
	n := int32(d.order.Uint32(b))
	if n < 0 {
		return 0, fmt.Errorf("a length of %d", n)
	}
	return int(n), nil
}

func (d *decoder) text(long bool) (string, error) {
	n, err := 0, error(nil)
	if long {
		n, err = d.length()
	} else {
		var short byte
		short, err = d.byte()
		n = int(short)
	}
	if err != nil {
		return "", err
	}
	b, err := d.take(n)
	if utf8.Valid(b) {
		return string(b), err
	}
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String(), nil
}

// item reads one item with all that is in it.
func (d *decoder) item() (any, error) {
	if d.depth++; d.depth > maxDepth {
		return nil, fmt.Errorf("more than %d levels", maxDepth)
	}
	defer func() { d.depth-- }()
	kind, err := d.byte()
	if err != nil {
		return nil, err
	}
	// These are part of the item that follows, and have no tag.
	switch kind {
	case sxBless:
		return d.blessed()
	case sxIndexBless:
		if _, err := d.index(); err != nil {
			return nil, err
		}
		return d.item()
	case sxVString, sxLVString:
		if _, err := d.text(kind == sxLVString); err != nil {
			return nil, err
		}
		return d.item()
	case sxObject:
		b, err := d.take(4)
		if err != nil {
			return nil, err
		}
		tag := binary.BigEndian.Uint32(b)
		if uint64(tag) >= uint64(len(d.seen)) {
			return nil, fmt.Errorf("it refers to item %d of %d", tag, len(d.seen))
		}
		return d.seen[tag], nil
	}
	if len(d.seen) == maxItems {
		return nil, fmt.Errorf("more than %d items", maxItems)
	}
	tag := len(d.seen)
	d.seen = append(d.seen, nil)
	v, err := d.value(kind)
	if err != nil {
		return nil, err
	}
	d.seen[tag] = v
	return v, nil
}

func (d *decoder) value(kind byte) (any, error) {
	switch kind {
	case sxUndef, sxSVUndef, sxUndefElem:
		return nil, nil
	case sxYes, sxTrue:
		return true, nil
	case sxNo, sxFalse:
		return false, nil
	case sxByte:
		b, err := d.byte()
		return int64(b) - 128, err
	case sxNetInt:
		b, err := d.take(4)
		if err != nil {
			return nil, err
		}
		return int64(int32(binary.BigEndian.Uint32(b))), nil
	case sxInteger:
		return d.integer()
	case sxDouble:
		if d.network || d.floats != 8 {
			return nil, fmt.Errorf("a floating point number of %d bytes, expected 8", d.floats)
		}
		b, err := d.take(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(d.order.Uint64(b)), nil
	case sxScalar, sxUTF8:
		return d.text(false)
	case sxLScalar, sxLUTF8:
		return d.text(true)
	case sxRef, sxOverload, sxWeakRef, sxWeakOverload, sxTiedArray, sxTiedHash, sxTiedScalar:
		return d.item()
	case sxTiedKey:
		v, err := d.item()
		if err == nil {
			_, err = d.item()
		}
		return v, err
	case sxTiedIndex:
		v, err := d.item()
		if err == nil {
			_, err = d.take(4)
		}
		return v, err
	case sxArray:
		return d.array()
	case sxHash, sxFlagHash:
		return d.hash(kind == sxFlagHash)
	case sxHook:
		return nil, errors.New("an object that its class has written in a way of its own")
	case sxCode:
		return nil, errors.New("a piece of program")
	case sxRegexp:
		return nil, errors.New("a regular expression")
	case sxLarge:
		return nil, errors.New("an item of more than 2 GiB")
	}
	return nil, fmt.Errorf("unknown type %d", kind)
}

func (d *decoder) integer() (any, error) {
	if d.network {
		return nil, errors.New("an integer in the byte order of another machine")
	}
	b, err := d.take(d.ints)
	if err != nil {
		return nil, err
	}
	if d.ints == 4 {
		return int64(int32(d.order.Uint32(b))), nil
	}
	return int64(d.order.Uint64(b)), nil
}

// index is one byte, or 128 and four more.
func (d *decoder) index() (int, error) {
	b, err := d.byte()
	if err != nil || b < 0x80 {
		return int(b), err
	}
	return d.length()
}

// blessed reads an object of a class, whose name does not matter.
func (d *decoder) blessed() (any, error) {
	n, err := d.index()
	if err != nil {
		return nil, err
	}
	if _, err := d.take(n); err != nil {
		return nil, err
	}
	return d.item()
}

func (d *decoder) array() (any, error) {
	n, err := d.length()
	if err != nil {
		return nil, err
	}
	if n > len(d.b)-d.at {
		return nil, errShort // an item has a byte at least
	}
	var list []any
	for range n {
		v, err := d.item()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (d *decoder) hash(flags bool) (any, error) {
	if flags {
		if _, err := d.byte(); err != nil {
			return nil, err
		}
	}
	n, err := d.length()
	if err != nil {
		return nil, err
	}
	if n > len(d.b)-d.at {
		return nil, errShort
	}
	m := make(map[string]any)
	for range n {
		v, err := d.item()
		if err != nil {
			return nil, err
		}
		if flags {
			f, err := d.byte()
			if err != nil {
				return nil, err
			}
			if f&8 != 0 { // the key is an item
				key, err := d.item()
				if err != nil {
					return nil, err
				}
				name, ok := key.(string)
				if !ok {
					return nil, errors.New("a key that is no text")
				}
				m[name] = v
				continue
			}
		}
		key, err := d.text(true)
		if err != nil {
			return nil, err
		}
		m[key] = v
	}
	return m, nil
}
