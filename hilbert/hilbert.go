// Package hilbert maps the IPv4 address space onto a Hilbert curve. Addresses that are close
// are close in the picture, and every prefix is a square or two. It draws nothing.
//
//	const order = hilbert.Order(12)
//	at := order.Point(0xc0000201)  // pixel of 192.0.2.1
//	fmt.Println(order.Prefix(at))  // 192.0.2.0/24
//
// The curve is that of the well-known heatmaps of IPv4. In them 0.0.0.0/8 is in the upper left
// corner, 64.0.0.0/8 in the lower left, 255.0.0.0/8 in the upper right, and y grows downwards.
// The first blocks of 8 bits:
//
//	0  1 14 15
//	3  2 13 12
//	4  7  8 11
//	5  6  9 10
//
// A picture of an Order has 1<<Order pixels a side, and a pixel is a prefix of 2*Order bits.
// So it is, with Order 4 a /8, with Order 12 a /24, with Order 16 one address. Pictures of all
// orders have the same layout, coarser or finer.
//
// The curve is Hilbert's of 1891; here it is walked four levels at a time by tables of its
// four orientations.
package hilbert

import (
	"encoding/binary"
	"image"
	"net/netip"
)

// An Order is how fine a picture is: 1 to 16. Zero is a picture of one pixel; more than 16 means
// 16. Its methods do not allocate and are safe for concurrent use.
type Order uint8

const finest = 16

func (o Order) levels() uint { return uint(min(o, finest)) }

// Side returns the pixels along a side of the picture, a power of two up to 65,536.
func (o Order) Side() int { return 1 << o.levels() }

// An orientation of the curve has two bits: axes exchanged, and both axes reversed. In the plain
// orientation a curve visits the quarters in the order of quarters; the first quarter is then
// exchanged, the last exchanged and reversed.
const (
	exchanged = 1
	reversed  = 2
	turned    = (exchanged | reversed) << 8
)

var (
	quarters = [4][2]uint8{{0, 0}, {0, 1}, {1, 1}, {1, 0}} // x, y
	turns    = [4]uint8{exchanged, 0, 0, exchanged | reversed}
)

// forth maps four levels of a distance to x, y and the next orientation; back maps x and y to the
// distance and the next orientation. The present orientation is in the index above eight bits, and
// the next one in the value.
var forth, back = tables()

func tables() (forth, back [1024]uint16) {
	for start := range uint16(4) {
		for d := range 256 {
			turn, x, y := uint8(start), uint8(0), uint8(0)
			for shift := 6; shift >= 0; shift -= 2 {
				digit := d >> shift & 3
				qx, qy := quarters[digit][0], quarters[digit][1]
				if turn&exchanged != 0 {
					qx, qy = qy, qx
				}
				if turn&reversed != 0 {
					qx, qy = 1-qx, 1-qy
				}
				x, y = x<<1|qx, y<<1|qy
				turn ^= turns[digit]
			}
			forth[start<<8|uint16(d)] = uint16(x) | uint16(y)<<4 | uint16(turn)<<8
			back[start<<8|uint16(x<<4|y)] = uint16(d) | uint16(turn)<<8
		}
	}
	return forth, back
}

// Point returns the pixel of an address. The address is its four bytes in network order as a
// number.
func (o Order) Point(addr uint32) image.Point {
	a := uint(forth[addr>>24])
	b := uint(forth[a&turned|uint(addr>>16&255)])
	c := uint(forth[b&turned|uint(addr>>8&255)])
	d := uint(forth[c&turned|uint(addr&255)])
	x := a&15<<12 | b&15<<8 | c&15<<4 | d&15
	y := a&0xf0<<8 | b&0xf0<<4 | c&0xf0 | d&0xf0>>4
	shift := (finest - o.levels()) & 31
	return image.Pt(int(x>>shift), int(y>>shift))
}

// Distance returns the first address of a pixel, as a number as in Point. A point outside the
// picture means the nearest pixel of its edge.
func (o Order) Distance(p image.Point) uint32 {
	levels := o.levels()
	most := 1<<levels - 1
	shift := (finest - levels) & 31
	x, y := uint(max(0, min(p.X, most)))<<shift, uint(max(0, min(p.Y, most)))<<shift
	a := uint(back[x>>8&0xf0|y>>12&15])
	b := uint(back[a&turned|x>>4&0xf0|y>>8&15])
	c := uint(back[b&turned|x&0xf0|y>>4&15])
	d := uint(back[c&turned|x<<4&0xf0|y&15])
	first := a&255<<24 | b&255<<16 | c&255<<8 | d&255
	return uint32(first &^ (1<<((32-2*levels)&63) - 1))
}

// Prefix returns the addresses of a pixel. A point outside the picture means the nearest pixel of
// its edge.
func (o Order) Prefix(p image.Point) netip.Prefix {
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], o.Distance(p))
	return netip.PrefixFrom(netip.AddrFrom4(raw), int(2*o.levels()))
}

// Rect returns the pixels of a prefix: a square, or for an odd length two squares side by side.
// A prefix finer than the picture has the one pixel in which it lies. IPv4-mapped IPv6
// prefixes count as IPv4. Other IPv6 prefixes and invalid ones have no pixels.
func (o Order) Rect(p netip.Prefix) image.Rectangle {
	addr, bits := p.Addr(), p.Bits()
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	if !addr.Is4() || bits < 0 {
		return image.Rectangle{}
	}
	raw := addr.As4()
	first := binary.BigEndian.Uint32(raw[:])
	levels := o.levels()
	if bits > int(2*levels) {
		at := o.Point(first)
		return image.Rectangle{at, at.Add(image.Pt(1, 1))}
	}
	first &^= uint32(1<<(32-bits) - 1)
	square := func(first uint32, bits int) image.Rectangle {
		side := 1 << (int(levels) - bits/2)
		at := o.Point(first)
		at.X, at.Y = at.X&^(side-1), at.Y&^(side-1)
		return image.Rectangle{at, at.Add(image.Pt(side, side))}
	}
	if bits%2 == 0 {
		return square(first, bits)
	}
	return square(first, bits+1).Union(square(first|1<<(31-bits), bits+1))
}
