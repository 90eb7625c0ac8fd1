package unpack

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// The form, of which only the filter LZMA2 is supported:
// https://tukaani.org/xz/xz-file-format.txt
const (
	xzMagic  = "\xfd7zXZ\x00"
	xzFooter = "YZ"
	xzFilter = 0x21 // LZMA2

	// MaxDictionary is the largest LZMA2 dictionary that is allocated: that of xz -9. A file
	// could require 4 GiB.
	MaxDictionary = 64 << 20
	// Each block needs a dictionary of its own, which must be cleared. All together may have
	// this many bytes, plus as many as have been unpacked.
	freeDictionaries = 4 * MaxDictionary
)

var errXZ = errors.New("the structure of the xz file is damaged")

// An xzReader unpacks consecutive xz streams. The module that unpacks LZMA2 has an xz reader too,
// but that one allocates any dictionary that a file requires.
type xzReader struct {
	in           *bufio.Reader
	inStream     bool
	flags        [2]byte // of the stream
	newCheck     func() hash.Hash
	block        *xzBlock // nil: between blocks
	blocks       int64    // of the stream
	sizes        hash.Hash32
	n            int64 // unpacked so far
	dictionaries int64 // bytes of all dictionaries so far
}

// An xzBlock is a part of a stream.
type xzBlock struct {
	in            *xzCounter
	r             io.Reader
	header        int64 // bytes of the header
	n             int64 // unpacked so far
	packed, packs int64 // sizes in the header: packed and unpacked; -1: none
	check         hash.Hash
}

// An xzCounter counts the bytes of a block. LZMA2 reads them one by one.
type xzCounter struct {
	r *bufio.Reader
	n int64
}

func (c *xzCounter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func (c *xzCounter) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func newXZ(in *bufio.Reader) (*xzReader, error) {
	x := &xzReader{in: in}
	return x, x.begin()
}

// begin reads the header of a stream.
func (x *xzReader) begin() error {
	var h [12]byte
	if _, err := io.ReadFull(x.in, h[:]); err != nil {
		return err
	}
	if string(h[:6]) != xzMagic || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return errXZ
	}
	x.flags = [2]byte(h[6:8])
	if x.flags[0] != 0 {
		return errXZ
	}
	switch x.flags[1] {
	case 0:
		x.newCheck = nil
	case 1:
		x.newCheck = func() hash.Hash { return crc32.NewIEEE() }
	case 4:
		x.newCheck = func() hash.Hash { return crc64.New(crc64.MakeTable(crc64.ECMA)) }
	case 10:
		x.newCheck = sha256.New
	default:
		return fmt.Errorf("unknown check %d of xz", x.flags[1])
	}
	x.inStream, x.blocks, x.sizes = true, 0, crc32.NewIEEE()
	return nil
}

func (x *xzReader) Read(b []byte) (int, error) {
	for len(b) > 0 {
		switch {
		case !x.inStream:
			if err := x.next(); err != nil {
				return 0, err
			}
		case x.block == nil:
			if err := x.beginBlock(); err != nil {
				return 0, noEOF(err)
			}
		default:
			n, err := x.block.r.Read(b)
			x.block.n += int64(n)
			x.n += int64(n)
			if x.block.check != nil {
				x.block.check.Write(b[:n])
			}
			if p := x.block.packs; p >= 0 && x.block.n > p {
				return 0, errXZ
			}
			if err == io.EOF {
				err = x.endBlock()
			}
			if n > 0 || err != nil {
				return n, noEOF(err)
			}
		}
	}
	return 0, nil
}

// next begins the next stream, after padding in multiples of four zeros.
func (x *xzReader) next() error {
	for {
		b, err := x.in.Peek(4)
		switch {
		case len(b) == 0 && err == io.EOF:
			return io.EOF
		case len(b) < 4:
			return noEOF(err)
		case binary.LittleEndian.Uint32(b) != 0:
			return noEOF(x.begin())
		}
		x.in.Discard(4)
	}
}

// noEOF turns an io.EOF into an error where more data must follow.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// beginBlock reads the header of a block, or the index that follows the last block.
func (x *xzReader) beginBlock() error {
	size, err := x.in.ReadByte()
	if err != nil {
		return err
	}
	if size == 0 {
		return x.end()
	}
	h := make([]byte, 4*(int(size)+1))
	h[0] = size
	if _, err := io.ReadFull(x.in, h[1:]); err != nil {
		return err
	}
	if n := len(h) - 4; crc32.ChecksumIEEE(h[:n]) != binary.LittleEndian.Uint32(h[n:]) {
		return errXZ
	}
	b := &xzBlock{in: &xzCounter{r: x.in}, header: int64(len(h)), packed: -1, packs: -1}
	flags, rest := h[1], bytes.NewReader(h[2:len(h)-4])
	if flags&0x3f != 0 {
		return errors.New("the xz data use filters other than LZMA2, which cannot be read")
	}
	if flags&0x40 != 0 {
		if b.packed, err = xzNumber(rest); err != nil {
			return err
		}
	}
	if flags&0x80 != 0 {
		if b.packs, err = xzNumber(rest); err != nil {
			return err
		}
	}
	var filter [3]byte // its ID, the size of its properties, and the properties
	if _, err := io.ReadFull(rest, filter[:]); err != nil || filter[0] != xzFilter || filter[1] != 1 || filter[2] > 40 {
		return errXZ
	}
	dictionary := int64(1<<32 - 1)
	if filter[2] < 40 {
		dictionary = int64(2|filter[2]&1) << (filter[2]/2 + 11)
	}
	// A block needs no larger dictionary than its own size.
	if b.packs >= 0 {
		dictionary = min(dictionary, b.packs)
	}
	dictionary = max(dictionary, lzma.MinDictCap)
	if dictionary > MaxDictionary {
		return fmt.Errorf("%w: the xz data need a dictionary of %d bytes, more than the %d of xz -9", ErrTooLarge, dictionary, MaxDictionary)
	}
	if x.dictionaries += dictionary; x.dictionaries > freeDictionaries+x.n {
		return fmt.Errorf("%w: the blocks of the xz data are far smaller than their dictionaries", ErrTooLarge)
	}
	if x.newCheck != nil {
		b.check = x.newCheck()
	}
	b.r, err = lzma.Reader2Config{DictCap: int(dictionary)}.NewReader2(b.in)
	x.block = b
	return err
}

// endBlock reads the end of a block: padding and the check.
func (x *xzReader) endBlock() error {
	b := x.block
	x.block = nil
	if b.packs >= 0 && b.n != b.packs || b.packed >= 0 && b.in.n != b.packed {
		return errXZ
	}
	packed := b.in.n
	for range -packed & 3 {
		if c, err := x.in.ReadByte(); err != nil {
			return err
		} else if c != 0 {
			return errXZ
		}
	}
	checked := int64(0)
	if b.check != nil {
		want := make([]byte, b.check.Size())
		if _, err := io.ReadFull(x.in, want); err != nil {
			return err
		}
		got := b.check.Sum(nil)
		if b.check.Size() < sha256.Size { // all but SHA-256 are little-endian
			for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
				got[i], got[j] = got[j], got[i]
			}
		}
		if !bytes.Equal(got, want) {
			return errors.New("a checksum of the xz data is wrong")
		}
		checked = int64(len(want))
	}
	x.blocks++
	x.note(b.header+packed+checked, b.n)
	return nil
}

// note records the sizes of a block, which the index repeats. It keeps only a sum, so that the
// number of blocks needs no memory.
func (x *xzReader) note(unpadded, unpacked int64) {
	b := binary.LittleEndian.AppendUint64(nil, uint64(unpadded))
	x.sizes.Write(binary.LittleEndian.AppendUint64(b, uint64(unpacked)))
}

// end reads the index of a stream and its footer.
func (x *xzReader) end() error {
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	in := &xzSummed{x.in, sum, 1}
	blocks, err := xzNumber(in)
	if err != nil {
		return err
	}
	want := x.sizes.Sum32()
	if blocks != x.blocks {
		return errXZ
	}
	x.sizes = crc32.NewIEEE()
	for range blocks {
		unpadded, err := xzNumber(in)
		if err != nil {
			return err
		}
		unpacked, err := xzNumber(in)
		if err != nil {
			return err
		}
		x.note(unpadded, unpacked)
	}
	if x.sizes.Sum32() != want {
		return errXZ
	}
	for in.n%4 != 0 {
		if c, err := in.ReadByte(); err != nil {
			return err
		} else if c != 0 {
			return errXZ
		}
	}
	size := in.n + 4
	var f [16]byte // checksum of the index, and footer
	if _, err := io.ReadFull(x.in, f[:]); err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint32(f[:]) != sum.Sum32() || le.Uint32(f[4:]) != crc32.ChecksumIEEE(f[8:14]) ||
		(int64(le.Uint32(f[8:]))+1)*4 != size || [2]byte(f[12:14]) != x.flags || string(f[14:]) != xzFooter {
		return errXZ
	}
	x.inStream = false
	return nil
}

// An xzSummed computes a checksum of what is read.
type xzSummed struct {
	r   *bufio.Reader
	sum hash.Hash32
	n   int64
}

func (s *xzSummed) ReadByte() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil {
		s.n++
		s.sum.Write([]byte{b})
	}
	return b, err
}

// xzNumber reads a number of up to 63 bits, seven bits in a byte.
func xzNumber(r io.ByteReader) (int64, error) {
	n := int64(0)
	for shift := 0; shift < 63; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if b == 0 && shift > 0 {
			return 0, errXZ
		}
		n |= int64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errXZ
}
