package mapview

import (
	"cmp"
	"fmt"
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
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/numbers"
)

// nearbyReach is how many pixels around the mouse a right click means.
const nearbyReach = 15

// A connList is a panel with live connections and, if it was asked for, stored ones.
type connList struct {
	tablePanel
	kind, heading string
	grouped       bool // by program
	searches      bool // its stored connections are those of the search
	fits          func(v *View, c *live.Conn) bool
	query         history.Selection // behind it, for the SQL panel
	question                        // for stored ones
	found         Found             // the answer

	zone string       // of the times
	live []*live.Conn // the newest first
	made shownKey
	rows connRows

	closing int // of live, that are being closed
}

// listColumns are the columns of lists. A click on an address opens the report on it.
var listColumns = []ui.Column{
	{Title: ""}, {Title: "program"}, {Title: "name"}, {Title: "address", Mono: true, Link: true}, {Title: "port", Right: true}, {Title: "local port", Right: true},
	{Title: "opened"}, {Title: "last seen"}, {Title: "organisation"}, {Title: "agent"}, {Title: "direction"}, {Title: "place"}, {Title: "rule"},
	{Title: "received", Right: true}, {Title: "sent", Right: true}, {Title: "RTT ms", Right: true}, {Title: "count", Right: true},
}

const (
	colMark = iota
	colProgram
	colName
	colAddress
	colPort
	colLocalPort
	colOpened
	colSeen
	colOrg
	colAgent
	colDirection
	colPlace
	colRule
	colRx
	colTx
	colRTT
	colCount
)

// What stands before a live connection, and before one of the history.
const markLive, markPast = "●", "○"

func newList(kind, heading string, wants func(*View, *live.Conn) bool) *connList {
	return &connList{tablePanel: tablePanel{table: ui.NewTable(listColumns, colAddress)}, kind: kind, heading: heading, fits: wants}
}

// newRuleList lists the connections of a label.
func newRuleList(label string) *connList {
	l := newList("rule list", label, func(v *View, c *live.Conn) bool {
		s, _ := v.ruleOf(c)
		return s == label
	})
	l.query = history.Selection{Rule: label}
	return l
}

// newShownList lists all connections that are shown, with a filter also those of the
// history that fit.
func (v *View) newShownList() *connList {
	if len(v.filter.terms) > 0 {
		l := newList("connection list", "", func(*View, *live.Conn) bool { return true })
		l.grouped, l.searches = true, true
		l.follow(v)
		return l
	}
	return newList("connection list", "All connections", func(*View, *live.Conn) bool { return true })
}

// openPlace lists what is at the place of a stack, live and stored; a single connection
// opens its details.
func (v *View) openPlace(k *stack) {
	if len(k.conns) == 1 {
		v.open(newDetails(v, k.conns, 0))
		return
	}
	heading := placeText(k.conns[0])
	for _, c := range k.conns {
		if placeText(c) != heading {
			heading = "Several places"
			break
		}
	}
	if k.unknown {
		l := newList("place list", "Place unknown", func(_ *View, c *live.Conn) bool { return c.Place.Precision == geoip.Unknown })
		l.grouped = true
		l.query = history.Selection{Nowhere: true}
		v.open(l)
		return
	}
	// A stack also holds places near its own, and at the edge of the picture those beyond.
	at := k.conns[0].Place
	cx, cy := worldmap.Point(at.Lat, at.Lon)
	reach := 0.5 / v.world.Zoom
	for _, c := range k.conns {
		reach = max(reach, distance(c.Place, cx, cy)+1e-6)
	}
	l := newList("place list", heading, around(cx, cy, reach))
	l.grouped = true
	l.findNearby(at.Lat, at.Lon, min(reach, nearbyReach/v.world.Zoom))
	v.open(l)
}

// distance is how far a place is from a point of the original's map, in its pixels.
func distance(p geoip.Place, x, y float64) float64 {
	px, py := worldmap.Point(p.Lat, p.Lon)
	dx := math.Abs(px - x)
	return math.Hypot(min(dx, worldmap.FrameWidth-dx), py-y)
}

// around selects the connections around a point of the original's map.
func around(x, y, reach float64) func(*View, *live.Conn) bool {
	return func(_ *View, c *live.Conn) bool {
		return c.Place.Precision != geoip.Unknown && distance(c.Place, x, y) <= reach
	}
}

// openNearby lists what is around a point of the map, live and stored.
func (v *View) openNearby(x, y float64) {
	lat, lon := v.world.Place(x, y)
	cx, cy := worldmap.Point(lat, lon)
	reach := nearbyReach / v.world.Zoom
	l := newList("nearby list", fmt.Sprintf("Near %.2f, %.2f", lat, lon), around(cx, cy, reach))
	l.grouped = true
	l.findNearby(lat, lon, reach)
	v.open(l)
}

// findNearby asks for the stored connections at most so many pixels of the original's map
// from a place.
func (l *connList) findNearby(lat, lon, pixels float64) {
	circle := history.Circle{Lat: lat, Lon: lon, Km: worldmap.Km(lat, pixels)}
	l.query = history.Selection{Near: circle}
	l.pose(l, FindNearby{Circle: circle}, time.Time{})
}

// Found is the answer to questions for stored connections.
type Found struct {
	Ask     int
	Past    []live.Past // the newest first
	Since   time.Time   // nothing older was looked at; zero: all was
	Full    bool        // there may be older ones than Past: no more were wanted
	Problem string      // for people
}

func (a Found) take(v *View) { v.answer(a.Ask, a, true) }

func (l *connList) answered(_ *View, a Answer) {
	l.found = a.(Found)
	l.made.st = nil
}

// follow takes the answer of the search for the filter, as long as there is a filter.
func (l *connList) follow(v *View) {
	s := &v.search
	if len(v.filter.terms) == 0 {
		return
	}
	if heading := "Search " + v.filter.text; heading != l.heading && (l.heading == "" || !s.delayed(v)) {
		l.heading, l.query = heading, Filter{v.filter}.Selection()
	}
	if l.waiting = s.waiting; !s.waiting && l.found.Ask != s.found.Ask {
		l.found = s.found
		l.made.st = nil
	}
}

// pendingText is what stands in place of an answer that has not come yet.
func (v *View) pendingText() string {
	if v.st.Opening {
		return "waiting until the history is open"
	}
	return "looking into the history"
}

func (l *connList) Name() string { return l.kind }

func (l *connList) Title(v *View) string {
	s := l.heading + " · " + numbers.Thousands(int64(len(l.live)-l.closing)) + " live"
	if l.closing > 0 {
		s += " · " + numbers.Thousands(int64(l.closing)) + " closing"
	}
	switch {
	case l.waiting:
		s += " · " + v.pendingText()
	case l.found.Problem != "":
		s += " · " + l.found.Problem
	case l.searches || l.effect != nil:
		s += " · " + v.pastText(len(l.rows.past), "of the history", l.found.Since, l.found.Full)
		if l.found.Full || !l.found.Since.IsZero() {
			s += "; older ones by Query"
		}
	}
	return s
}

func (l *connList) Size(v *View) (w, h float64) {
	l.update(v)
	// In a large window there is room for more columns and rows.
	limit := max(12, int(0.6*v.size.H/ui.TableRow))
	return min(max(860, v.size.W-240), 1380), ui.TableHead + float64(min(max(l.rows.Len(), 3), limit))*ui.TableRow + footHeight
}

// update takes in a new state.
func (l *connList) update(v *View) {
	if l.searches {
		l.follow(v)
	}
	now := v.shownKey()
	if now == l.made && l.rows.v != nil {
		return
	}
	before := l.made
	before.st = now.st
	if before == now && l.made.st != nil && l.throttle.early(v) {
		return
	}
	l.made = now
	l.throttle.ran(v)
	clear(l.live)
	l.live, l.closing = l.live[:0], 0
	for i := len(v.st.Conns) - 1; i >= 0; i-- {
		if c := v.st.Conns[i]; v.shows(c) && l.fits(v, c) {
			l.live = append(l.live, c)
			if c.State.BeingClosed() {
				l.closing++
			}
		}
	}
	shown := v.onlyPast(l.found.Past)
	if l.grouped {
		byProgram(l.live, func(c *live.Conn) (string, time.Time) { return program(c), c.Opened.Time() })
		byProgram(shown, func(p live.Past) (string, time.Time) { return program(&p.Conn), p.Seen })
	}
	// Connections that are being closed come last.
	if l.closing > 0 {
		last := func(c *live.Conn) int {
			if c.State.BeingClosed() {
				return 1
			}
			return 0
		}
		slices.SortStableFunc(l.live, func(a, b *live.Conn) int { return last(a) - last(b) })
	}
	l.rows = connRows{v: v, live: l.live, past: shown}
	l.table.Changed = true
}

// onlyPast returns the stored connections that are shown and not open any more. Open ones
// are in the history too.
func (v *View) onlyPast(past []live.Past) []live.Past {
	shown := make([]live.Past, 0, len(past))
	if len(past) == 0 {
		return shown
	}
	open := make(map[pastKey]bool, len(v.st.Conns))
	for _, c := range v.st.Conns {
		open[pastKey{c.Peer, c.Local, c.Agent, c.Process.Comm}] = true
	}
	for _, p := range past {
		if v.showsPast(&p) && !open[pastKey{p.Peer, p.Local, p.Agent, p.Process.Comm}] {
			shown = append(shown, p)
		}
	}
	return shown
}

// byProgram brings the connections of a program together: the program that has the
// newest comes first, and of each its newest.
func byProgram[T any](list []T, about func(T) (string, time.Time)) {
	newest := make(map[string]time.Time)
	for _, x := range list {
		if name, at := about(x); at.After(newest[name]) {
			newest[name] = at
		}
	}
	slices.SortStableFunc(list, func(a, b T) int {
		p, at := about(a)
		q, bt := about(b)
		return cmp.Or(newest[q].Compare(newest[p]), cmp.Compare(p, q), bt.Compare(at))
	})
}

func (l *connList) Layout(v *View, b ui.Box) {
	l.update(v)
	l.nameTimes(v)
	l.table.Layout(&v.canvas, ui.At(b.X, b.Y, b.W, b.H-footHeight), l.rows)
	l.buttons.Layout(&v.canvas, foot(b), "Details", "Query", "Copy cell", "Copy row", "Copy all")
}

func (l *connList) Mouse(v *View, m ui.Mouse) {
	row, col, label := l.mouse(v, m, l.rows)
	switch {
	case row >= 0 && col == colAddress:
		v.openReport(l.rows.conn(row))
	case label == "Details":
		l.details(v)
	case label == "Query":
		v.ask(WriteSQL{Of: l.query})
	}
}

func (l *connList) Draw(v *View, c *ui.Canvas, b ui.Box) {
	l.draw(c, l.rows)
	if l.rows.Len() == 0 && !l.waiting {
		c.Text(b.X+10, b.Y+ui.TableHead+20, typeface.Regular, 12.5, v.theme.Dim, c.Elide(typeface.Regular, 12.5, "no connections", b.W-20))
	}
}

// nameTimes says in which zone the times are.
func (l *connList) nameTimes(v *View) {
	zone, _ := v.now.Zone()
	if zone != l.zone {
		l.zone = zone
		l.table.Columns = slices.Clone(l.table.Columns)
		for _, col := range [...]int{colOpened, colSeen} {
			l.table.Columns[col].Title = listColumns[col].Title + ", " + zone
		}
		l.table.Remeasure()
	}
}

func (l *connList) details(v *View) {
	if l.table.Selected() < 0 {
		v.say("choose a row first")
		return
	}
	order := l.table.Order()
	conns := make([]*live.Conn, len(order))
	for i, row := range order {
		conns[i] = l.rows.conn(int(row))
	}
	v.open(newDetails(v, conns, l.table.Position()))
}

func (l *connList) Key(v *View, k ui.Key) bool {
	if l.rows.v == nil {
		l.update(v) // it was opened by the key before
	}
	if k == ui.KeyEnter {
		if at := l.table.Selected(); at >= 0 {
			v.openReport(l.rows.conn(at))
			return true
		}
	}
	return v.tableKey(&l.table, k, l.rows)
}

// connRows are live connections, and below them stored ones.
type connRows struct {
	v    *View
	live []*live.Conn
	past []live.Past
}

func (r connRows) Len() int { return len(r.live) + len(r.past) }

func (r connRows) stored(row int) *live.Past {
	if row < len(r.live) {
		return nil
	}
	return &r.past[row-len(r.live)]
}

func (r connRows) conn(row int) *live.Conn {
	if p := r.stored(row); p != nil {
		return &p.Conn
	}
	return r.live[row]
}

func (r connRows) Key(row int) any {
	if p := r.stored(row); p != nil {
		return pastKey{p.Peer, p.Local, p.Agent, p.Process.Comm}
	}
	c := r.live[row]
	return connKey{c.Agent, c.ID}
}

// A pastKey identifies a stored connection.
type pastKey struct {
	peer, local    live.Endpoint
	agent, program string
}

// A connKey identifies a live connection across states.
type connKey struct {
	agent string
	id    uint64
}

// Faded reports whether a row is of the past.
func (r connRows) Faded(row int) bool { return row >= len(r.live) }

func (r connRows) Color(row int) color.NRGBA {
	if p := r.stored(row); p != nil {
		return r.v.colorOf(p.Label)
	}
	_, col := r.v.ruleOf(r.conn(row))
	return col
}

func (r connRows) Cell(row, col int) string {
	c, p := r.conn(row), r.stored(row)
	switch col {
	case colMark:
		if p != nil {
			return markPast
		}
		return markLive
	case colLocalPort:
		if c.Local.Port() == 0 {
			return ""
		}
		return strconv.Itoa(int(c.Local.Port()))
	case colAddress:
		return c.Peer.Addr().String()
	case colPort:
		if c.Peer.Port() == 0 {
			return ""
		}
		return strconv.Itoa(int(c.Peer.Port()))
	case colProgram:
		return program(c)
	case colName:
		return c.Name
	case colAgent:
		return c.Agent
	case colDirection:
		s := c.Proto.String() + " " + c.Direction.String()
		if c.State.BeingClosed() {
			s += ", closing"
		}
		return s
	case colOrg:
		return holder(c)
	case colPlace:
		return placeText(c)
	case colRule:
		if p != nil {
			return p.Label
		}
		s, _ := r.v.ruleOf(c)
		return s
	case colRx:
		return numbers.Bytes(c.Rx)
	case colTx:
		return numbers.Bytes(c.Tx)
	case colRTT:
		if c.RTT == 0 {
			return ""
		}
		return fmt.Sprintf("%.3g", float64(c.RTT)/1e6)
	case colOpened:
		return r.v.timeText(c.Opened.Time())
	case colSeen:
		switch {
		case p != nil:
			return r.v.timeText(p.Seen)
		case c.State.BeingClosed():
			return "closing"
		}
		return "live"
	case colCount:
		if p != nil {
			return numbers.Thousands(p.Count)
		}
	}
	return ""
}

func (r connRows) Compare(a, b, col int) int {
	x, y := r.conn(a), r.conn(b)
	switch col {
	case colAddress:
		return x.Peer.AddrPort().Compare(y.Peer.AddrPort())
	case colPort:
		return cmp.Compare(x.Peer.Port(), y.Peer.Port())
	case colLocalPort:
		return cmp.Compare(x.Local.Port(), y.Local.Port())
	case colRx:
		return cmp.Compare(x.Rx, y.Rx)
	case colTx:
		return cmp.Compare(x.Tx, y.Tx)
	case colRTT:
		return cmp.Compare(x.RTT, y.RTT)
	case colOpened:
		return cmp.Compare(x.Opened, y.Opened)
	case colOrg:
		return cmp.Or(cmp.Compare(x.Org, y.Org), cmp.Compare(x.ASN, y.ASN))
	case colSeen:
		return r.seen(a).Compare(r.seen(b))
	case colCount:
		return cmp.Compare(r.count(a), r.count(b))
	}
	return cmp.Compare(r.Cell(a, col), r.Cell(b, col))
}

func (r connRows) seen(row int) time.Time {
	if p := r.stored(row); p != nil {
		return p.Seen
	}
	return r.v.st.Time
}

func (r connRows) count(row int) int64 {
	if p := r.stored(row); p != nil {
		return p.Count
	}
	return 0
}

// timeText writes a time of today by its clock, else by its date.
func (v *View) timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	layout := "15:04:05"
	if d := v.now.Sub(t); d > 20*time.Hour || d < -time.Hour {
		layout = "2006-01-02 15:04"
	}
	return t.In(v.now.Location()).Format(layout)
}
