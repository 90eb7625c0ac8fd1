package mapview

import (
	"cmp"
	"image/color"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/numbers"
)

const (
	clusterReach = 6                      // how near places must be to share a disc
	hoverReach   = 8                      // how far from a disc's edge the mouse still means it
	cycleReach   = 28                     // how far from a stack the mouse makes it cycle
	hollowRim    = 1.5                    // width of what stays of a disc for which the country only is known
	cycleTime    = 600 * time.Millisecond // one colour of a cycling stack
)

// A stack is all shown connections at one place of the picture, or so near to it that
// their discs would lie on one another.
type stack struct {
	x, y    float64 // density-independent pixels
	unknown bool    // it holds the peers whose place is unknown
	inside  bool    // more than the country is known of the place of one of them
	conns   []*live.Conn
	shares  []share // by rule, in the order of the rules
}

type share struct {
	group int // index into stacks.groups
	count int
}

// A group is the rules of one label: a line of the legend.
type group struct {
	label string
	color color.NRGBA
	count int // shown connections
	all   int // those that are not shown too
}

// A shownKey changes when the connections that the view shows do. What is made of them is made
// anew then.
type shownKey struct {
	st     *live.State
	agents int
	filter string
	local  bool
}

func (v *View) shownKey() shownKey {
	return shownKey{v.st, v.agents.version, v.filter.text, v.Local}
}

// stacks is what is shown of a state, grouped by place and by label. It is
// computed again only when what it depends on changes.
type stacks struct {
	made struct {
		shownKey
		world              worldmap.View
		size               ui.Box
		unknownX, unknownY float64
		scale              float64
	}
	throttle throttle
	list     []stack // the most connections first, so that small discs lie on top
	groups   []group
	groupOf  []int            // by rule
	index    map[[2]int32]int // of list, by place
	badges   []badge
	counts
}

// counts are numbers of connections.
type counts struct {
	shown    int // on the map
	local    int // not shown, since their peer is local
	ofHidden int // not shown, since their agent is hidden
	filtered int // not shown, since the filter leaves them out
	closing  int // being closed: shown in lists alone
	unknown  int // shown, but their place is unknown
}

// update groups the connections of the state anew, if anything has changed.
func (s *stacks) update(v *View) {
	if !s.stale(v) {
		return
	}
	s.throttle.ran(v)
	s.reset(v.st)
	for _, c := range v.st.Conns {
		g := s.groupOf[min(int(c.Rule), len(s.groupOf)-1)]
		if !s.count(v, c, g) {
			continue
		}
		s.groups[g].count++
		if x, y, unknown, ok := v.spot(c); ok {
			s.put(x, y, unknown, c, g)
		}
	}
	largestFirst := func(a, b stack) int { return cmp.Compare(len(b.conns), len(a.conns)) }
	slices.SortStableFunc(s.list, largestFirst)
	s.cluster()
	for i := range s.list {
		slices.SortFunc(s.list[i].shares, func(a, b share) int { return cmp.Compare(a.group, b.group) })
	}
	slices.SortStableFunc(s.list, largestFirst)
}

// stale reports whether anything that the stacks depend on has changed. The throttle limits
// how often a new state alone counts.
func (s *stacks) stale(v *View) bool {
	made := s.made
	made.shownKey, made.size, made.scale, made.world = v.shownKey(), v.size, v.in.Scale, v.world
	made.unknownX, made.unknownY = v.unknownSpot()
	if made == s.made && s.index != nil {
		return false
	}
	before := s.made
	before.st = made.st
	if before == made && s.index != nil && s.throttle.early(v) {
		return false
	}
	s.made = made
	return true
}

// reset lets go of the old state's connections.
func (s *stacks) reset(st *live.State) {
	s.group(st)
	if s.index == nil {
		s.index = make(map[[2]int32]int)
	}
	clear(s.index)
	clear(s.list)
	s.list, s.counts = s.list[:0], counts{}
}

// count counts a connection of a group, and reports whether the map shows it.
func (s *stacks) count(v *View, c *live.Conn, g int) bool {
	shown := v.shows(c)
	if c.State.BeingClosed() {
		if shown {
			s.closing++
		}
		if !v.filter.states {
			return false
		}
	}
	s.groups[g].all++
	switch {
	case shown:
		s.shown++
		if c.Place.Precision == geoip.Unknown {
			s.unknown++
		}
	case v.agents.hidden[c.Agent]:
		s.ofHidden++
	case !v.fits(c):
		s.filtered++
	default:
		s.local++
	}
	return shown
}

// spot returns where in the picture a connection is shown. ok is false if that is beyond its
// edge.
func (v *View) spot(c *live.Conn) (x, y float64, unknown, ok bool) {
	if c.Place.Precision == geoip.Unknown {
		x, y = v.unknownSpot()
		return x, y, true, true
	}
	x, y = v.world.Pixel(c.Place.Lat, c.Place.Lon)
	if v.camera.zoomed {
		return x, y, false, v.size.Grow(12).Contains(x, y)
	}
	// A place beyond the picture is shown at its edge, or it would not be seen at all.
	return min(max(x, 4), v.size.W-4), min(max(y, 4), v.size.H-4), false, true
}

// put adds a connection of a group to the stack at a spot.
func (s *stacks) put(x, y float64, unknown bool, c *live.Conn, g int) {
	key := [2]int32{int32(math.Round(x)), int32(math.Round(y))}
	if unknown {
		key = [2]int32{math.MinInt32, math.MinInt32} // not a place that others have
	}
	i, ok := s.index[key]
	if !ok {
		i = len(s.list)
		s.index[key] = i
		s.list = append(s.list, stack{x: x, y: y, unknown: unknown})
	}
	k := &s.list[i]
	k.conns = append(k.conns, c)
	k.inside = k.inside || c.Place.Precision > geoip.Country || c.Scope != live.Internet || c.Unsure
	k.add(g, 1)
}

// cluster adds stacks that would be hidden by a larger one to that one. As the map is
// zoomed they come apart.
func (s *stacks) cluster() {
	clear(s.index)
	kept := s.list[:0]
	cell := func(k *stack) [2]int32 {
		return [2]int32{int32(math.Floor(k.x / clusterReach)), int32(math.Floor(k.y / clusterReach))}
	}
next:
	for _, k := range s.list {
		at := cell(&k)
		for dx := int32(-1); dx <= 1 && !k.unknown; dx++ {
			for dy := int32(-1); dy <= 1; dy++ {
				i, ok := s.index[[2]int32{at[0] + dx, at[1] + dy}]
				if ok && math.Hypot(kept[i].x-k.x, kept[i].y-k.y) < clusterReach {
					kept[i].conns = append(kept[i].conns, k.conns...)
					kept[i].inside = kept[i].inside || k.inside
					for _, sh := range k.shares {
						kept[i].add(sh.group, sh.count)
					}
					continue next
				}
			}
		}
		if !k.unknown {
			s.index[at] = len(kept)
		}
		kept = append(kept, k)
	}
	clear(s.list[len(kept):])
	s.list = kept
}

// shows reports whether a connection is shown, in lists and, unless it is being closed, on
// the map.
func (v *View) shows(c *live.Conn) bool {
	return !v.agents.hidden[c.Agent] && v.fits(c) && (c.Scope == live.Internet || v.Local)
}

// showsPast reports whether a connection of the history is shown, by the rule that it was
// recorded with.
func (v *View) showsPast(p *live.Past) bool {
	return !v.agents.hidden[p.Agent] && v.filter.fits(&p.Conn, p.Label) && (p.Scope == live.Internet || v.Local)
}

// group makes the lines of the legend: rules with the same label share one.
func (s *stacks) group(st *live.State) {
	s.groups, s.groupOf = s.groups[:0], s.groupOf[:0]
	byLabel := map[string]int{}
	for _, r := range st.Rules {
		g, ok := byLabel[r.Label]
		if !ok {
			g = len(s.groups)
			byLabel[r.Label] = g
			s.groups = append(s.groups, group{label: r.Label, color: r.Color})
		}
		s.groupOf = append(s.groupOf, g)
	}
}

func (k *stack) add(group, count int) {
	for i := range k.shares {
		if k.shares[i].group == group {
			k.shares[i].count += count
			return
		}
	}
	k.shares = append(k.shares, share{group, count})
}

// radius is that of the disc, or of the ring's outer edge for stacks with a count inside.
func (k *stack) radius() float64 {
	if k.counted() {
		return 10
	}
	return min(3.2+1.1*math.Log2(float64(len(k.conns))), 6)
}

// counted reports whether the stack is drawn as a ring with its count inside.
func (k *stack) counted() bool { return len(k.conns) >= 10 && !k.unknown }

// at returns the stack that a point means, or nil.
func (s *stacks) at(x, y float64) *stack {
	var best *stack
	reach := math.Inf(1)
	for i := range s.list {
		k := &s.list[i]
		if k.unknown {
			continue
		}
		if d := math.Hypot(k.x-x, k.y-y) - k.radius(); d <= hoverReach && d <= reach {
			best, reach = k, d
		}
	}
	return best
}

func (v *View) drawStacks() {
	hover := v.hover.stack
	// Counts lie over discs, or they could not be read.
	for _, counted := range [2]bool{false, true} {
		for i := range v.stacks.list {
			k := &v.stacks.list[i]
			if k == hover || k.unknown || k.counted() != counted {
				continue
			}
			v.drawStack(k, v.cycles(k))
		}
	}
	if hover != nil && !hover.unknown {
		v.drawStack(hover, len(hover.conns) > 1)
		r := hover.radius() + 3.5
		if len(hover.conns) > 1 {
			r = max(r, 13)
		}
		v.canvas.Ring(hover.x, hover.y, r, 1.2, v.theme.Text)
	}
	for _, b := range v.stacks.badges {
		v.canvas.Rect(b.Box, 4, v.theme.Panel)
		v.canvas.Text(b.X+4, b.Y+11.5, typeface.Medium, 11, v.theme.Text, b.text)
	}
}

// cycles reports whether a stack goes through its colours: near the mouse, or everywhere.
func (v *View) cycles(k *stack) bool {
	x, y := v.cursor()
	return len(k.conns) > 1 && (v.Cycle || v.in.Inside && math.Hypot(k.x-x, k.y-y) < cycleReach)
}

// A badge says how many connections a cycling stack holds, unless that stands in or below it.
type badge struct {
	ui.Box
	text string
}

// layoutBadges places the badges, that of the stack under the mouse last.
func (v *View) layoutBadges() {
	v.stacks.badges = v.stacks.badges[:0]
	for i := range v.stacks.list {
		if k := &v.stacks.list[i]; k != v.hover.stack {
			v.layoutBadge(k)
		}
	}
	if v.hover.stack != nil {
		v.layoutBadge(v.hover.stack)
	}
}

// layoutBadge places the badge of a stack, if it has one and that hides no other.
func (v *View) layoutBadge(k *stack) {
	if k.unknown || k.counted() || !v.cycles(k) {
		return
	}
	s := strconv.Itoa(len(k.conns)) + "x"
	b := ui.At(k.x+8, k.y-20, v.canvas.Width(typeface.Medium, 11, s)+8, 15).Clamp(v.size)
	if !slices.ContainsFunc(v.stacks.badges, func(o badge) bool { return o.Overlaps(b) }) {
		v.stacks.badges = append(v.stacks.badges, badge{b, s})
	}
}

func (v *View) drawStack(k *stack, cycling bool) {
	c, t := &v.canvas, v.theme
	if !cycling {
		if k.counted() {
			v.drawShares(k, 8, 4)
			v.drawCount(k, t.Text)
			return
		}
		r := k.radius()
		c.Disc(k.x, k.y, r+1, t.Rim)
		c.Disc(k.x, k.y, r, ui.Opaque(v.stacks.groups[k.shares[0].group].color))
		// The shares of other rules lie over that of the first.
		from := float64(k.shares[0].count) / float64(len(k.conns))
		for _, sh := range k.shares[1:] {
			to := from + float64(sh.count)/float64(len(k.conns))
			c.Arc(k.x, k.y, r/2, r, from, to, ui.Opaque(v.stacks.groups[sh.group].color))
			from = to
		}
		if !k.inside && !k.unknown {
			c.Disc(k.x, k.y, r-hollowRim, ui.Fade(t.palette.Sea, 0.65))
		}
		return
	}
	v.drawShares(k, 8, 4)
	if len(k.shares) > 1 {
		v.wake(v.now.Truncate(cycleTime).Add(cycleTime))
	}
	step := int(v.now.UnixNano()/int64(cycleTime)) % len(k.shares)
	col := ui.Opaque(v.stacks.groups[k.shares[step].group].color)
	switch {
	case k.counted() && len(k.shares) == 1:
		v.drawCount(k, t.Text)
	case k.counted():
		c.Disc(k.x, k.y, 6, col)
		on := dark.palette.Sea
		if ui.Contrast(white, col) > ui.Contrast(on, col) {
			on = white
		}
		v.drawCount(k, on)
	default:
		c.Disc(k.x, k.y, 4.5, col)
	}
}

// drawShares draws the ring that shows the rules of a stack.
func (v *View) drawShares(k *stack, r, w float64) {
	v.canvas.Disc(k.x, k.y, r+w/2+1, v.theme.Rim)
	v.canvas.Disc(k.x, k.y, r, v.theme.palette.Sea)
	from := 0.0
	for _, sh := range k.shares {
		to := from + float64(sh.count)/float64(len(k.conns))
		col := ui.Opaque(v.stacks.groups[sh.group].color)
		if len(k.shares) == 1 {
			v.canvas.Ring(k.x, k.y, r, w, col)
		} else {
			v.canvas.Arc(k.x, k.y, r, w, from, to, col)
		}
		from = to
	}
}

func (v *View) drawCount(k *stack, col color.NRGBA) {
	n := strconv.Itoa(len(k.conns))
	size := 9.0
	if len(n) > 2 {
		n = "99+"
		size = 7
	}
	c := &v.canvas
	c.Text(k.x-c.Width(typeface.Bold, size, n)/2, k.y+size*0.36, typeface.Bold, size, col, n)
}

// unknownSpot returns where peers of unknown place are shown: in the South Pacific of the usual
// window, always beside the legend.
func (v *View) unknownSpot() (x, y float64) {
	return min(legendWidth+8+60, v.size.W-20), v.size.H - 56
}

// unknownBox is the box of those peers and their label; empty: there are none.
func (v *View) unknownBox() ui.Box {
	if v.stacks.unknown == 0 {
		return ui.Box{}
	}
	x, y := v.unknownSpot()
	return ui.At(x-50, y-16, 100, 46)
}

func (v *View) drawUnknown() {
	if v.stacks.unknown == 0 {
		return
	}
	c, t := &v.canvas, v.theme
	i := slices.IndexFunc(v.stacks.list, func(k stack) bool { return k.unknown })
	if i < 0 {
		return
	}
	k := &v.stacks.list[i]
	c.Disc(k.x, k.y, 13, ui.Fade(t.Panel, 0.9))
	for n := range 12 {
		c.Arc(k.x, k.y, 12.5, 1.2, float64(n)/12, (float64(n)+0.55)/12, t.Dim)
	}
	v.drawStack(k, v.cycles(k))
	if v.hover.stack == k {
		c.Ring(k.x, k.y, 15, 1.2, t.Text)
	}
	s := numbers.Count(len(k.conns), "unknown place", "unknown places")
	w := c.Width(typeface.Regular, 11, s)
	c.Text(max(min(k.x-w/2, v.size.W-w-4), 4), k.y+25, typeface.Regular, 11, t.Dim, s)
}
