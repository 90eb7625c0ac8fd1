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
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/hilbert"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/numbers"
)

//go:generate go run ./gen ipv4-address-space.csv

//go:embed blocks.txt
var blocksText string

// blocks are the holders of the /8 blocks, by IANA's registry.
var blocks = strings.Split(strings.TrimSuffix(blocksText, "\n"), "\n")

const (
	curve          = hilbert.Order(16) // each point is an address
	curveSide      = 1 << 16
	maxCurveZoom   = 512 // a /24 is as wide as a word then
	curveFoot      = 40  // height of the two lines below the square
	curveReach     = 6   // how near to a dot the mouse means it
	minCell        = 13  // width of a block that a right click means
	minNamed       = 38  // width of a block that has its name, but for the largest
	addressOpacity = 150 // opacity of an address of the history
)

const curveName = "hilbert"

// curvePanel shows the addresses of IPv4 on a Hilbert curve.
type curvePanel struct {
	x, y    float64 // upper left corner, in points of the curve
	zoom    float64 // over the whole square; zero means 1
	dragged bool
	from    [2]float64

	ground groundKey
	img    *image.RGBA // of ground
	lookup question    // for the network under the mouse
	about  netip.Addr  // which it is about
	named  string      // the answer

	square ui.Box            // where the curve is; empty: there is no room
	dots   []dot             // live connections
	spots  map[[2]int32]bool // of dots
	near   *live.Conn        // under the mouse
	lines  [2]string         // that name what is under the mouse
}

// A dot is a live connection, in density-independent pixels from the square's corner.
type dot struct {
	x, y  float64
	color color.NRGBA
}

// A groundKey says what the picture below the dots shows.
type groundKey struct {
	x, y, zoom float64
	side       int
	light      bool
	addrs      *uint32 // the first of the history's
	n          int
}

// Named is the answer to LookUp: the network of an address.
type Named struct {
	Ask  int
	Text string // such as AS64500 Example Networks, empty: unknown
}

func (a Named) take(v *View) { v.answer(a.Ask, a, true) }

func (p *curvePanel) answered(_ *View, a Answer) { p.named = a.(Named).Text }

func (p *curvePanel) needs(v *View, n *needs) {
	n.addrs = v.History
	n.questions = append(n.questions, &p.lookup)
}

func (*curvePanel) Name() string { return curveName }

func (p *curvePanel) Title(v *View) string {
	s := "IPv4 on a Hilbert curve"
	if v.History {
		s += " · " + numbers.Thousands(int64(len(v.st.Addrs))) + " addresses of the history"
	}
	if p.zoom > 1 {
		s += fmt.Sprintf(" · %.3gx, 0 shows all", p.zoom)
	}
	return s
}

func (*curvePanel) Size(v *View) (w, h float64) {
	side := min(v.size.W-2*ui.PanelAir-16, v.size.H-ui.TitleHeight-curveFoot-ui.PanelAir-8, 768)
	return side, side + curveFoot
}

// release lets go of the picture, and of the history's addresses.
func (p *curvePanel) release() { p.img, p.ground = nil, groundKey{} }

// scale is density-independent pixels a point of the curve.
func (p *curvePanel) scale(side float64) float64 { return side * max(p.zoom, 1) / curveSide }

func (p *curvePanel) zoomAt(mx, my, side, factor float64) {
	before := p.scale(side)
	px, py := p.x+mx/before, p.y+my/before
	p.zoom = min(max(max(p.zoom, 1)*factor, 1), maxCurveZoom)
	after := p.scale(side)
	p.x, p.y = px-mx/after, py-my/after
	p.keep()
}

// keep keeps the view inside the square.
func (p *curvePanel) keep() {
	limit := curveSide - curveSide/max(p.zoom, 1)
	p.x, p.y = min(max(p.x, 0), limit), min(max(p.y, 0), limit)
}

func (p *curvePanel) Key(_ *View, k ui.Key) bool {
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
	case ui.KeyLeft, ui.KeyRight, ui.KeyUp, ui.KeyDown:
		step := curveSide / max(p.zoom, 1) / 8
		by := map[ui.Key][2]float64{ui.KeyLeft: {-step, 0}, ui.KeyRight: {step, 0}, ui.KeyUp: {0, -step}, ui.KeyDown: {0, step}}[k]
		p.x, p.y = p.x+by[0], p.y+by[1]
		p.keep()
	default:
		return false
	}
	return true
}

func (p *curvePanel) Layout(v *View, b ui.Box) {
	c := &v.canvas
	p.square = ui.Box{}
	// A whole number of the screen's pixels, as the picture has.
	pixels := int(min(b.W, b.H-curveFoot) * c.Scale)
	if pixels < 16 {
		return
	}
	side := float64(pixels) / c.Scale
	left := b.X + max(b.W-side, 0)/2
	p.square = ui.At(math.Round(left*c.Scale)/c.Scale, math.Round(b.Y*c.Scale)/c.Scale, side, side)
	p.paintGround(v, pixels)
	p.findDots(v)
	p.lines = [2]string{"The mouse names what is there; the wheel zooms, a drag moves.", "h shows the history's addresses; a right click lists what is near."}
	if p.hot(v) {
		p.lines = p.under(v)
	}
}

// hot reports whether the mouse is over the curve.
func (p *curvePanel) hot(v *View) bool {
	o := v.panels.Over
	return o != nil && o.Body == body(p) && p.square.Contains(v.cursor())
}

// point returns the point of the curve under the mouse.
func (p *curvePanel) point(x, y float64) image.Point {
	s := p.scale(p.square.W)
	return image.Pt(int(p.x+(x-p.square.X)/s), int(p.y+(y-p.square.Y)/s))
}

func (p *curvePanel) Mouse(v *View, m ui.Mouse) {
	sq := p.square
	if sq.W == 0 {
		return
	}
	over := m.Over(sq)
	if over && m.Wheel != 0 {
		p.zoomAt(m.X-sq.X, m.Y-sq.Y, sq.W, math.Pow(1.5, min(max(m.Wheel, -4), 4)))
	}
	p.drag(m)
	switch {
	case !over:
	case m.Right:
		p.openNearby(v, p.point(m.X, m.Y), p.scale(sq.W))
	case m.Press && p.near != nil:
		v.open(newDetails(v, []*live.Conn{p.near}, 0))
	}
}

func (p *curvePanel) Draw(v *View, c *ui.Canvas, b ui.Box) {
	sq, t := p.square, v.theme
	if sq.W == 0 {
		return
	}
	c.Picture(sq.X, sq.Y, p.img)
	p.drawGrid(v, sq)
	for _, d := range p.dots {
		c.Disc(sq.X+d.x, sq.Y+d.y, 4, t.Rim)
		c.Disc(sq.X+d.x, sq.Y+d.y, 3, d.color)
	}
	c.Frame(sq, 0, 1, t.Edge)
	col := t.Dim
	if c.Hot(sq) {
		col = t.Text
	}
	for i, l := range p.lines {
		c.Text(sq.X, sq.Y+sq.H+17+float64(i)*17, typeface.Regular, 12, col, c.Elide(typeface.Regular, 12, l, b.X+b.W-sq.X))
	}
}

func (p *curvePanel) drag(m ui.Mouse) {
	x, y := m.X-p.square.X, m.Y-p.square.Y
	if !m.Held && !m.Middle {
		p.dragged = false
		return
	}
	if !p.dragged {
		if m.Over(p.square) && (m.Press || m.Middle) {
			p.dragged = true
			p.from = [2]float64{x, y}
		}
		return
	}
	s := p.scale(p.square.W)
	p.x, p.y = p.x-(x-p.from[0])/s, p.y-(y-p.from[1])/s
	p.from = [2]float64{x, y}
	p.keep()
}

// paintGround paints the blocks and the addresses of the history, unless they are as
// before.
func (p *curvePanel) paintGround(v *View, side int) {
	k := groundKey{x: p.x, y: p.y, zoom: max(p.zoom, 1), side: side, light: v.Light}
	if v.History && len(v.st.Addrs) > 0 {
		k.addrs, k.n = &v.st.Addrs[0], len(v.st.Addrs)
	}
	if p.img != nil && k == p.ground {
		return
	}
	p.ground = k
	// A new picture, since the old one may still be drawn.
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
		p.paintAddrs(v.st.Addrs, s, v.theme.Text)
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
					pix[n] = uint8((int(pix[n])*(255-addressOpacity) + int(v)*addressOpacity) / 255)
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
func (p *curvePanel) drawGrid(v *View, sq ui.Box) {
	c, t := &v.canvas, v.theme
	s := p.scale(sq.W)
	for _, bits := range [...]int{8, 16, 24} {
		unit := 1 << (16 - bits/2) // points along a side
		cell := float64(unit) * s
		if cell < 20 {
			return
		}
		edge := ui.Fade(t.Text, 0.18)
		for n := int(p.x)/unit + 1; float64(n*unit) < p.x+sq.W/s && n*unit < curveSide; n++ {
			c.Rect(ui.At(sq.X+(float64(n*unit)-p.x)*s, sq.Y, 1/c.Scale, sq.H), 0, edge)
		}
		for n := int(p.y)/unit + 1; float64(n*unit) < p.y+sq.H/s && n*unit < curveSide; n++ {
			c.Rect(ui.At(sq.X, sq.Y+(float64(n*unit)-p.y)*s, sq.W, 1/c.Scale), 0, edge)
		}
		// Names of the finest blocks that have room for them.
		if bits < 24 && cell/16 >= minNamed || bits > 8 && cell < minNamed {
			continue
		}
		for gy := int(p.y) / unit; gy*unit < curveSide && float64(gy*unit) < p.y+sq.H/s; gy++ {
			for gx := int(p.x) / unit; gx*unit < curveSide && float64(gx*unit) < p.x+sq.W/s; gx++ {
				at := ui.At(sq.X+(float64(gx*unit)-p.x)*s, sq.Y+(float64(gy*unit)-p.y)*s, cell, cell)
				p.drawName(v, sq, at, curve.Distance(image.Pt(gx*unit, gy*unit)), bits)
			}
		}
	}
}

// drawName writes the name of a block into its square, as far as it is in view.
func (p *curvePanel) drawName(v *View, sq, at ui.Box, addr uint32, bits int) {
	c, t := &v.canvas, v.theme
	name := strconv.Itoa(int(addr >> 24))
	for shift := 16; shift >= 32-bits; shift -= 8 {
		name += "." + strconv.Itoa(int(addr>>shift&255))
	}
	x, y := max(at.X, sq.X)+3, max(at.Y, sq.Y)+11
	right, low := min(at.X+at.W, sq.X+sq.W)-2, min(at.Y+at.H, sq.Y+sq.H)-3
	if c.Width(typeface.Regular, 10, name) > right-x || y > low {
		return
	}
	c.Text(x, y, typeface.Regular, 10, ui.Fade(t.Text, 0.8), name)
	if at.W > 44 && y+12 < low {
		c.Text(x, y+12, typeface.Regular, 10, ui.Fade(t.Text, 0.62), c.Elide(typeface.Regular, 10, blocks[addr>>24], right-x))
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

// findDots places the live connections, and finds the one under the mouse.
func (p *curvePanel) findDots(v *View) {
	s, hot := p.scale(p.square.W), p.hot(v)
	mx, my := v.cursor()
	mx, my = mx-p.square.X, my-p.square.Y
	if p.spots == nil {
		p.spots = make(map[[2]int32]bool)
	}
	clear(p.spots)
	p.dots, p.near = p.dots[:0], nil
	reach := float64(curveReach)
	for _, conn := range v.st.Conns {
		addr, ok := ipv4(conn.Peer.Addr())
		if !ok || !v.shows(conn) || conn.State.BeingClosed() && !v.filter.states {
			continue
		}
		at := curve.Point(addr)
		x, y := (float64(at.X)+0.5-p.x)*s, (float64(at.Y)+0.5-p.y)*s
		if x < 0 || y < 0 || x > p.square.W || y > p.square.H {
			continue
		}
		if d := math.Hypot(x-mx, y-my); hot && d < reach {
			p.near, reach = conn, d
		}
		spot := [2]int32{int32(x), int32(y)}
		if p.spots[spot] {
			continue
		}
		p.spots[spot] = true
		_, col := v.ruleOf(conn)
		p.dots = append(p.dots, dot{x, y, col})
	}
}

// under names what is under the mouse.
func (p *curvePanel) under(v *View) [2]string {
	s := p.scale(p.square.W)
	// A pixel may be several addresses: their common prefix is named.
	bits := 32
	for side := 1.0; side*s < 1 && bits > 8; side *= 2 {
		bits -= 2
	}
	n := curve.Distance(p.point(v.cursor()))
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], n)
	prefix, _ := netip.AddrFrom4(raw).Prefix(bits)
	addr, holder8 := prefix.Addr(), blocks[n>>24]
	lines := [2]string{prefix.String() + " · " + holder8}
	if near := p.near; near != nil {
		lines[0] = peerText(near) + " · " + program(near) + " on " + near.Agent + " · " + holder8
		lines[1] = holder(near)
		return lines
	}
	if p.about != addr {
		p.about, p.named = addr, ""
		p.lookup.pose(p, LookUp{Addr: addr}, time.Time{})
	}
	lines[1] = p.named
	return lines
}

// openNearby lists the connections of the block around a point, live and stored.
func (p *curvePanel) openNearby(v *View, at image.Point, s float64) {
	bits := 8
	for _, n := range [...]int{16, 24} {
		if float64(int(1)<<(16-n/2))*s >= minCell {
			bits = n
		}
	}
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], curve.Distance(at))
	prefix, _ := netip.AddrFrom4(raw).Prefix(bits)
	// Live ones and stored ones by the same rule: their block.
	l := newList("nearby list", "Block "+prefix.String(), func(_ *View, c *live.Conn) bool { return prefix.Contains(c.Peer.Addr()) })
	l.grouped = true
	l.query = history.Selection{Within: prefix}
	l.pose(l, FindWithin{Prefix: prefix}, time.Time{})
	v.open(l)
}
