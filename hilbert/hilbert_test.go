package hilbert

import (
	"encoding/binary"
	"fmt"
	"image"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// naive walks the curve a level at a time from the finest, turning and mirroring what
// it has, as textbooks do. It gives the layout of the heatmaps at even orders.
func naive(order uint, d uint32) image.Point {
	d >>= 32 - 2*order
	x, y := uint32(0), uint32(0)
	for s := uint32(1); s < 1<<order; s *= 2 {
		rx := d >> 1 & 1
		ry := (d ^ rx) & 1
		if ry == 0 {
			if rx == 1 {
				x, y = s-1-x, s-1-y
			}
			x, y = y, x
		}
		x, y = x+s*rx, y+s*ry
		d >>= 2
	}
	return image.Pt(int(x), int(y))
}

func TestLikeNaive(t *testing.T) {
	for _, order := range []uint{2, 4, 6, 8, 10} {
		o := Order(order)
		for i := range uint32(1) << (2 * order) {
			addr := i << (32 - 2*order)
			want := naive(order, addr)
			require.Equal(t, want, o.Point(addr), "order %d, %#x", order, addr)
			require.Equal(t, addr, o.Distance(want), "order %d, %v", order, want)
			require.Equal(t, addr, naiveDistance(order, want), "order %d, %v", order, want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		addr := r.Uint32()
		for _, order := range []uint{12, 14, 16} {
			require.Equal(t, naive(order, addr), Order(order).Point(addr), "order %d, %#x", order, addr)
		}
		at := image.Pt(r.IntN(65536), r.IntN(65536))
		require.Equal(t, naiveDistance(16, at), Order(16).Distance(at), "%v", at)
		require.Equal(t, addr, Order(16).Distance(Order(16).Point(addr)), "%#x", addr)
	}
}

// naiveDistance undoes naive, a level at a time from the coarsest.
func naiveDistance(order uint, p image.Point) uint32 {
	d, x, y := uint32(0), uint32(p.X), uint32(p.Y)
	for s := uint32(1) << order >> 1; s > 0; s /= 2 {
		rx, ry := x/s, y/s
		x, y = x%s, y%s
		d = d<<2 | rx<<1 | rx ^ ry
		if ry == 0 {
			x, y = y, x
			if rx == 1 {
				x, y = s-1-x, s-1-y
			}
		}
	}
	return d << (32 - 2*order)
}

// grid is where the blocks of 8 bits lie in the well-known heatmaps.
const grid = `
  0   1  14  15  16  19  20  21 234 235 236 239 240 241 254 255
  3   2  13  12  17  18  23  22 233 232 237 238 243 242 253 252
  4   7   8  11  30  29  24  25 230 231 226 225 244 247 248 251
  5   6   9  10  31  28  27  26 229 228 227 224 245 246 249 250
 58  57  54  53  32  35  36  37 218 219 220 223 202 201 198 197
 59  56  55  52  33  34  39  38 217 216 221 222 203 200 199 196
 60  61  50  51  46  45  40  41 214 215 210 209 204 205 194 195
 63  62  49  48  47  44  43  42 213 212 211 208 207 206 193 192
 64  67  68  69 122 123 124 127 128 131 132 133 186 187 188 191
 65  66  71  70 121 120 125 126 129 130 135 134 185 184 189 190
 78  77  72  73 118 119 114 113 142 141 136 137 182 183 178 177
 79  76  75  74 117 116 115 112 143 140 139 138 181 180 179 176
 80  81  94  95  96  97 110 111 144 145 158 159 160 161 174 175
 83  82  93  92  99  98 109 108 147 146 157 156 163 162 173 172
 84  87  88  91 100 103 104 107 148 151 152 155 164 167 168 171
 85  86  89  90 101 102 105 106 149 150 153 154 165 166 169 170
`

func TestReferenceGrid(t *testing.T) {
	var got strings.Builder
	for y := range 16 {
		for x := range 16 {
			fmt.Fprintf(&got, "%3d ", Order(4).Distance(image.Pt(x, y))>>24)
		}
		got.WriteByte('\n')
	}
	assert.Equal(t, strings.Fields(grid), strings.Fields(got.String()))
}

// TestAllOrdersAlike: a coarser picture has the same layout, also of odd orders.
func TestAllOrdersAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		addr := r.Uint32()
		at := Order(16).Point(addr)
		for o := range Order(18) {
			shift := 16 - min(int(o), 16)
			require.Equal(t, image.Pt(at.X>>shift, at.Y>>shift), o.Point(addr))
			p := o.Prefix(o.Point(addr))
			require.Equal(t, 2*min(int(o), 16), p.Bits())
			require.True(t, p.Contains(addrOf(addr)), "%v", p)
			require.Equal(t, image.Rectangle{o.Point(addr), o.Point(addr).Add(image.Pt(1, 1))}, o.Rect(p))
		}
	}
	assert.Equal(t, 65536, Order(16).Side())
	assert.Equal(t, 65536, Order(200).Side())
	assert.Equal(t, 1, Order(0).Side())
	assert.Equal(t, netip.MustParsePrefix("0.0.0.0/0"), Order(0).Prefix(image.Pt(5, -7)))
}

func addrOf(n uint32) netip.Addr {
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], n)
	return netip.AddrFrom4(raw)
}

// TestContinuous: addresses that follow one another are neighbours.
func TestContinuous(t *testing.T) {
	before := Order(8).Point(0)
	for i := uint32(1); i < 1<<16; i++ {
		at := Order(8).Point(i << 16)
		d := at.Sub(before)
		require.Equal(t, 1, d.X*d.X+d.Y*d.Y, "%#x", i)
		before = at
	}
}

func TestOutside(t *testing.T) {
	o := Order(8)
	assert.Equal(t, o.Distance(image.Pt(0, 0)), o.Distance(image.Pt(-5, -1)))
	assert.Equal(t, o.Distance(image.Pt(255, 255)), o.Distance(image.Pt(256, 1<<30)))
}

// TestRect compares with the union of all pixels of a prefix.
func TestRect(t *testing.T) {
	const o = Order(6)
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		for bits := range 33 {
			p, err := addrOf(r.Uint32()).Prefix(bits)
			require.NoError(t, err)
			var want image.Rectangle
			n := 0
			for i := range uint32(1) << 12 {
				pixel := netip.PrefixFrom(addrOf(i<<20), 12)
				if pixel.Overlaps(p) {
					at := naive(6, i<<20)
					want = want.Union(image.Rectangle{at, at.Add(image.Pt(1, 1))})
					n++
				}
			}
			got := o.Rect(p)
			require.Equal(t, want, got, "%v", p)
			require.Equal(t, n, got.Dx()*got.Dy(), "%v is whole", p)
			mapped := netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), bits+96)
			require.Equal(t, want, o.Rect(mapped))
		}
	}
	for _, none := range []netip.Prefix{{}, netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("::ffff:0:0/90"), netip.MustParsePrefix("::/0")} {
		assert.True(t, o.Rect(none).Empty(), "%v", none)
	}
	// Bits beyond the length do not count.
	assert.Equal(t, Order(4).Rect(netip.MustParsePrefix("10.0.0.0/8")), Order(4).Rect(netip.PrefixFrom(netip.MustParseAddr("10.9.8.7"), 8)))
}

func FuzzPoint(f *testing.F) {
	f.Add(uint32(0), uint8(16))
	f.Add(uint32(0xffffffff), uint8(4))
	f.Add(uint32(0xc0000201), uint8(7))
	f.Fuzz(func(t *testing.T, addr uint32, order uint8) {
		o := Order(order)
		at := o.Point(addr)
		require.True(t, at.In(image.Rect(0, 0, o.Side(), o.Side())))
		first := o.Distance(at)
		require.LessOrEqual(t, first, addr)
		require.Equal(t, at, o.Point(first))
		if order%2 == 0 && order > 0 && order <= 16 {
			require.Equal(t, naive(uint(order), addr), at)
		}
	})
}

func FuzzRect(f *testing.F) {
	f.Add(uint32(0x0a000000), uint8(8), uint8(4))
	f.Add(uint32(0xc0000201), uint8(25), uint8(16))
	f.Fuzz(func(t *testing.T, addr uint32, bits, order uint8) {
		p := netip.PrefixFrom(addrOf(addr), int(bits%33))
		o := Order(order % 17)
		r := o.Rect(p)
		require.False(t, r.Empty())
		require.True(t, r.In(image.Rect(0, 0, o.Side(), o.Side())))
		require.True(t, o.Point(addr).In(r))
		last := addr | uint32(1<<(32-uint(p.Bits()))-1)
		require.True(t, o.Point(last).In(r))
	})
}

func Example() {
	const order = Order(12) // a pixel for each /24
	block := netip.MustParsePrefix("192.0.2.0/24")
	at := order.Rect(block).Min
	fmt.Println(order.Side(), at, order.Prefix(at))
	// Output: 4096 (4094,2046) 192.0.2.0/24
}

func ExampleOrder_Point() {
	// 192.0.2.1 in a picture with a pixel for each /24.
	fmt.Println(Order(12).Point(0xc0000201))
	// Output: (4094,2046)
}

func ExampleOrder_Prefix() {
	fmt.Println(Order(4).Prefix(image.Pt(1, 0)), Order(8).Prefix(image.Pt(200, 100)))
	// Output: 1.0.0.0/8 204.218.0.0/16
}

func ExampleOrder_Rect() {
	// A label for 10.0.0.0/8 goes into the middle of its square.
	r := Order(10).Rect(netip.MustParsePrefix("10.0.0.0/8"))
	fmt.Println(r, r.Min.Add(r.Max).Div(2))
	// Output: (192,192)-(256,256) (224,224)
}

func BenchmarkPoint(b *testing.B) {
	addrs := make([]uint32, 1<<12)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range addrs {
		addrs[i] = r.Uint32()
	}
	b.Run("table", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			Order(16).Point(addrs[i%len(addrs)])
		}
	})
	b.Run("naive", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			naive(16, addrs[i%len(addrs)])
		}
	})
}

func BenchmarkDistance(b *testing.B) {
	points := make([]image.Point, 1<<12)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range points {
		points[i] = image.Pt(r.IntN(65536), r.IntN(65536))
	}
	b.Run("table", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			Order(16).Distance(points[i%len(points)])
		}
	})
	b.Run("naive", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			naiveDistance(16, points[i%len(points)])
		}
	})
}
