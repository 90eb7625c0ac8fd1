package mapview

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/hilbert"
	"github.com/connmapgo/connmap/history"
)

//go:generate go run ./gen ipv4-address-space.csv

//go:embed blocks.txt
var blocksText string

// blocks are the holders of the /8 blocks, by IANA's registry.
var blocks = strings.Split(strings.TrimSuffix(blocksText, "\n"), "\n")

const (
	curve       = hilbert.Order(16) // an address a point
	curveSide   = 1 << 16
	mostCurve   = 512 // zoom, at which a /24 is as wide as a word
	curveFoot   = 40  // two lines below the square
	curveReach  = 6   // of the mouse, to a dot
	leastCell   = 13  // of a block that a right click means
	leastNamed  = 38  // of a block, but for the largest, to be named
	fadeAddress = 150 // opacity of an address of the history
)

// curvePanel shows the addresses of IPv4 on a Hilbert curve.
type curvePanel struct {
	x, y    float64 // upper left corner, in points of the curve
	zoom    float64 // over the whole square; zero means 1
	dragged bool
	from    [2]float64

	ground groundKey
	img    *image.RGBA // of ground
	named  Named       // what is under the mouse, as it is known
	asked  netip.Addr  // about which was asked
	dots   map[[2]int32]bool
}

// A groundKey says what the picture below the dots shows.
type groundKey struct {
	x, y, zoom float64
	side       int
	light      bool
	addrs      *uint32 // the first of the history's
	n          int
}

// Named tells the network of an address.
type Named struct {
	Addr netip.Addr
	Text string // such as AS64500 Example Networks, empty: unknown
}

func (a Named) take(v *View) {
	if v.curve.asked == a.Addr {
		v.curve.named = a
	}
}

func (*curvePanel) name() string { return "hilbert" }

func (p *curvePanel) title(v *View) string {
	s := "IPv4 on a Hilbert curve"
	if v.History {
		s += " · " + thousands(int64(len(v.st.Addrs))) + " addresses of the history"
	}
	if p.zoom > 1 {
		s += fmt.Sprintf(" · %.3gx, 0 shows all", p.zoom)
	}
	return s
}

func (*curvePanel) size(v *View) (w, h float64) {
	side := min(v.size.w-2*panelAir-16, v.size.h-titleHeight-curveFoot-panelAir-8, 768)
	return side, side + curveFoot
}

// close lets go of the picture, and of the history's addresses.
func (p *curvePanel) close(*View) { p.img, p.ground = nil, groundKey{} }

// scale is density-independent pixels a point of the curve.
func (p *curvePanel) scale(side float64) float64 { return side * max(p.zoom, 1) / curveSide }

func (p *curvePanel) zoomAt(mx, my, side, factor float64) {
	before := p.scale(side)
	px, py := p.x+mx/before, p.y+my/before
	p.zoom = min(max(max(p.zoom, 1)*factor, 1), mostCurve)
	after := p.scale(side)
	p.x, p.y = px-mx/after, py-my/after
	p.keep()
}

// keep keeps the view inside the square.
func (p *curvePanel) keep() {
	most := curveSide - curveSide/max(p.zoom, 1)
	p.x, p.y = min(max(p.x, 0), most), min(max(p.y, 0), most)
}

func (p *curvePanel) key(_ *View, k Key) bool {
	switch k {
	case '0':
		if p.zoom <= 1 {
			return false
		}
		p.x, p.y, p.zoom = 0, 0, 1
	case '+', '=':
		p.zoomAt(0.5, 0.5, 1, 2)
	case '-':
		p.zoomAt(0.5, 0.5, 1, 0.5)
	case KeyLeft, KeyRight, KeyUp, KeyDown:
		step := curveSide / max(p.zoom, 1) / 8
		by := map[Key][2]float64{KeyLeft: {-step, 0}, KeyRight: {step, 0}, KeyUp: {0, -step}, KeyDown: {0, step}}[k]
		p.x, p.y = p.x+by[0], p.y+by[1]
		p.keep()
	default:
		return false
	}
	return true
}

func (p *curvePanel) show(v *View, b box) {
	c, t := &v.canvas, v.theme
	// A whole number of the screen's pixels, as the picture has.
	pixels := int(min(b.w, b.h-curveFoot) * c.scale)
	if pixels < 16 {
		return
	}
	side := float64(pixels) / c.scale
	left := b.x + max(b.w-side, 0)/2
	sq := box{math.Round(left*c.scale) / c.scale, math.Round(b.y*c.scale) / c.scale, side, side}
	mx, my := v.cursor()
	mx, my = mx-sq.x, my-sq.y
	hot := v.hot(sq)
	if hot && v.in.Wheel != 0 {
		p.zoomAt(mx, my, side, math.Pow(1.5, min(max(v.in.Wheel, -4), 4)))
	}
	p.drag(v, sq, mx, my)
	p.paintGround(v, pixels)
	c.picture(sq.x, sq.y, p.img)
	p.drawGrid(v, sq)
	near := p.drawDots(v, sq, mx, my, hot)
	c.frame(sq, 0, 1, t.edge)

	s := p.scale(side)
	point := image.Pt(int(p.x+mx/s), int(p.y+my/s))
	lines := [2]string{"The mouse names what is there; the wheel zooms, a drag moves.", "h shows the history's addresses; a right click lists what is near."}
	if hot {
		lines = p.about(v, point, s, near)
		switch {
		case v.in.Right:
			p.openNearby(v, point, s)
		case v.in.Press && near != nil:
			v.open(newDetails(v, []*live.Conn{near}, 0))
		}
	}
	for i, l := range lines {
		col := t.text
		if !hot {
			col = t.dim
		}
		c.text(sq.x, sq.y+side+17+float64(i)*17, typeface.Regular, 12, col, c.elide(typeface.Regular, 12, l, b.x+b.w-sq.x))
	}
}

func (p *curvePanel) drag(v *View, sq box, mx, my float64) {
	if !v.in.Held && !v.in.MiddleHeld {
		p.dragged = false
		return
	}
	if !p.dragged {
		if v.hot(sq) && (v.in.Press || v.in.MiddleHeld) {
			p.dragged = true
			p.from = [2]float64{mx, my}
		}
		return
	}
	s := p.scale(sq.w)
	p.x, p.y = p.x-(mx-p.from[0])/s, p.y-(my-p.from[1])/s
	p.from = [2]float64{mx, my}
	p.keep()
}

// paintGround paints the blocks and the addresses of the history, if they are others
// than before.
func (p *curvePanel) paintGround(v *View, side int) {
	k := groundKey{x: p.x, y: p.y, zoom: max(p.zoom, 1), side: side, light: v.Light}
	if v.History && len(v.st.Addrs) > 0 {
		k.addrs, k.n = &v.st.Addrs[0], len(v.st.Addrs)
	}
	if p.img != nil && k == p.ground {
		return
	}
	p.ground = k
	// Another one, since the old one may still be drawn.
	p.img = image.NewRGBA(image.Rect(0, 0, side, side))
	s := float64(side) * k.zoom / curveSide
	hues := octetColors(v.Light)
	for y := range side {
		py := int(p.y + (float64(y)+0.5)/s)
		row := p.img.Pix[y*p.img.Stride:]
		for x := range side {
			px := int(p.x + (float64(x)+0.5)/s)
			col := hues[curve.Distance(image.Pt(px, py))>>24]
			row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = col.R, col.G, col.B, 255
		}
	}
	if k.n > 0 {
		p.paintAddrs(v.st.Addrs, s, v.theme.text)
	}
}

func (p *curvePanel) paintAddrs(addrs []uint32, s float64, col color.NRGBA) {
	side := p.img.Rect.Dx()
	// A dot of an address is at least two pixels, or it could not be seen.
	size := max(int(s), 2)
	for _, a := range addrs {
		at := curve.Point(a)
		x, y := int((float64(at.X)-p.x)*s), int((float64(at.Y)-p.y)*s)
		for j := max(y, 0); j < min(y+size, side); j++ {
			for i := max(x, 0); i < min(x+size, side); i++ {
				pix := p.img.Pix[j*p.img.Stride+4*i:]
				for n, v := range [3]uint8{col.R, col.G, col.B} {
					pix[n] = uint8((int(pix[n])*(255-fadeAddress) + int(v)*fadeAddress) / 255)
				}
			}
		}
	}
}

// octetColors go through the whole hue range by first octet, dark enough, or light
// enough, for dots to be seen.
func octetColors(light bool) (list [256]color.NRGBA) {
	high, low := 0.36, 0.14
	if light {
		high, low = 0.98, 0.84
	}
	for i := range list {
		h := float64(i) / 256 * 6
		f := func(offset float64) uint8 {
			d := math.Abs(math.Mod(h+offset, 6) - 3)
			return uint8(255 * (low + (high-low)*min(max(d-1, 0), 1)))
		}
		list[i] = color.NRGBA{f(0), f(4), f(2), 255}
	}
	return list
}

// drawGrid draws the borders and names of the blocks of 8, 16 and 24 bits that are large
// enough.
func (p *curvePanel) drawGrid(v *View, sq box) {
	c, t := &v.canvas, v.theme
	s := p.scale(sq.w)
	for _, bits := range [...]int{8, 16, 24} {
		unit := 1 << (16 - bits/2) // points along a side
		cell := float64(unit) * s
		if cell < 20 {
			return
		}
		edge := fade(t.text, 0.18)
		for n := int(p.x)/unit + 1; float64(n*unit) < p.x+sq.w/s && n*unit < curveSide; n++ {
			c.rect(box{sq.x + (float64(n*unit)-p.x)*s, sq.y, 1 / c.scale, sq.h}, 0, edge)
		}
		for n := int(p.y)/unit + 1; float64(n*unit) < p.y+sq.h/s && n*unit < curveSide; n++ {
			c.rect(box{sq.x, sq.y + (float64(n*unit)-p.y)*s, sq.w, 1 / c.scale}, 0, edge)
		}
		// Names of the finest blocks that have room for them.
		if bits < 24 && cell/16 >= leastNamed || bits > 8 && cell < leastNamed {
			continue
		}
		for gy := int(p.y) / unit; gy*unit < curveSide && float64(gy*unit) < p.y+sq.h/s; gy++ {
			for gx := int(p.x) / unit; gx*unit < curveSide && float64(gx*unit) < p.x+sq.w/s; gx++ {
				at := box{sq.x + (float64(gx*unit)-p.x)*s, sq.y + (float64(gy*unit)-p.y)*s, cell, cell}
				p.drawName(v, sq, at, curve.Distance(image.Pt(gx*unit, gy*unit)), bits)
			}
		}
	}
}

// drawName writes the name of a block into its square, as far as it is in view.
func (p *curvePanel) drawName(v *View, sq, at box, addr uint32, bits int) {
	c, t := &v.canvas, v.theme
	name := strconv.Itoa(int(addr >> 24))
	for shift := 16; shift >= 32-bits; shift -= 8 {
		name += "." + strconv.Itoa(int(addr>>shift&255))
	}
	x, y := max(at.x, sq.x)+3, max(at.y, sq.y)+11
	right, low := min(at.x+at.w, sq.x+sq.w)-2, min(at.y+at.h, sq.y+sq.h)-3
	if c.width(typeface.Regular, 10, name) > right-x || y > low {
		return
	}
	c.text(x, y, typeface.Regular, 10, fade(t.text, 0.8), name)
	if at.w > 44 && y+12 < low {
		c.text(x, y+12, typeface.Regular, 10, fade(t.text, 0.62), c.elide(typeface.Regular, 10, blocks[addr>>24], right-x))
	}
}

// ipv4 returns an address as a number.
func ipv4(a netip.Addr) (uint32, bool) {
	if !a.Is4() {
		return 0, false
	}
	b := a.As4()
	return binary.BigEndian.Uint32(b[:]), true
}

// drawDots draws the live connections, and returns that under the mouse.
func (p *curvePanel) drawDots(v *View, sq box, mx, my float64, hot bool) (near *live.Conn) {
	c := &v.canvas
	s := p.scale(sq.w)
	if p.dots == nil {
		p.dots = make(map[[2]int32]bool)
	}
	clear(p.dots)
	reach := float64(curveReach)
	for _, conn := range v.st.Conns {
		addr, ok := ipv4(conn.Peer.Addr())
		if !ok || !v.shows(conn) || conn.State.BeingClosed() && !v.filter.states {
			continue
		}
		at := curve.Point(addr)
		x, y := (float64(at.X)+0.5-p.x)*s, (float64(at.Y)+0.5-p.y)*s
		if x < 0 || y < 0 || x > sq.w || y > sq.h {
			continue
		}
		if d := math.Hypot(x-mx, y-my); hot && d < reach {
			near, reach = conn, d
		}
		spot := [2]int32{int32(x), int32(y)}
		if p.dots[spot] {
			continue
		}
		p.dots[spot] = true
		_, col := v.ruleOf(conn)
		c.disc(sq.x+x, sq.y+y, 4, v.theme.rim)
		c.disc(sq.x+x, sq.y+y, 3, col)
	}
	return near
}

// about names what is under the mouse.
func (p *curvePanel) about(v *View, at image.Point, s float64, near *live.Conn) [2]string {
	// As many bits as a pixel tells apart.
	bits := 32
	for side := 1.0; side*s < 1 && bits > 8; side *= 2 {
		bits -= 2
	}
	addr := curve.Distance(at)
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], addr)
	prefix, _ := netip.AddrFrom4(raw).Prefix(bits)
	lines := [2]string{prefix.String() + " · " + blocks[addr>>24]}
	ask := prefix.Addr()
	if near != nil {
		lines[0] = peerText(near) + " · " + program(near) + " on " + near.Agent + " · " + blocks[addr>>24]
		lines[1] = holder(near)
		return lines
	}
	if p.asked != ask {
		p.asked, p.named = ask, Named{}
		v.ask(LookUp{Addr: ask})
	}
	lines[1] = p.named.Text
	return lines
}

// openNearby lists the connections of the block around a point, live and stored.
func (p *curvePanel) openNearby(v *View, at image.Point, s float64) {
	bits := 8
	for _, n := range [...]int{16, 24} {
		if float64(int(1)<<(16-n/2))*s >= leastCell {
			bits = n
		}
	}
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], curve.Distance(at))
	prefix, _ := netip.AddrFrom4(raw).Prefix(bits)
	// Live ones and stored ones by the same rule: their block.
	l := newList("nearby list", "Block "+prefix.String(), func(_ *View, c *live.Conn) bool { return prefix.Contains(c.Peer.Addr()) })
	l.grouped = true
	v.find(l, history.Selection{Within: prefix})
	v.ask(FindWithin{Ask: l.ask, Prefix: prefix})
	v.open(l)
}
