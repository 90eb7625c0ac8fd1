package mapview

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
)

// nearbyReach is how many pixels around the mouse a right click means.
const nearbyReach = 15

// A connList is a panel with live connections and, if it was asked for, stored ones.
type connList struct {
	table
	kind, heading string
	grouped       bool // by program
	searches      bool // has the stored ones that the filter fits
	wants         func(v *View, c *live.Conn) bool
	query         history.Selection // behind it, for the SQL panel
	ask           int               // number of the question for stored ones; zero: none
	waiting       bool
	problem       string
	since         time.Time // nothing older was looked at; zero: all was
	full          bool      // there may be older ones than past
	past          []live.Past

	zone string // of the times
	pace pace
	live []*live.Conn // the newest first
	from struct {
		st     *live.State
		agents int
		filter string
		local  bool
	}
	rows connRows

	closing int // of live, that are being closed
}

// listColumns are the columns of lists. A click on an address opens the report on it.
var listColumns = []column{
	{title: ""}, {title: "program"}, {title: "address", mono: true, link: true}, {title: "port", right: true}, {title: "local port", right: true},
	{title: "opened"}, {title: "last seen"}, {title: "organisation"}, {title: "host"}, {title: "direction"}, {title: "place"}, {title: "rule"},
	{title: "received", right: true}, {title: "sent", right: true}, {title: "RTT ms", right: true}, {title: "count", right: true},
}

const (
	colMark = iota
	colProgram
	colAddress
	colPort
	colLocalPort
	colOpened
	colSeen
	colOrg
	colHost
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
	return &connList{table: table{columns: listColumns, col: colAddress}, kind: kind, heading: heading, wants: wants}
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
	if s := &v.search; len(v.filter.terms) > 0 {
		l := newList("connection list", "Search "+v.filter.text, func(*View, *live.Conn) bool { return true })
		l.grouped, l.searches = true, true
		l.past, l.ask, l.waiting, l.problem, l.since, l.full = s.past, s.ask, s.waiting || s.ask == 0, s.problem, s.since, s.full
		l.query = Filter{v.filter}.Selection()
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
	if k.nowhere {
		l := newList("place list", "Place unknown", func(_ *View, c *live.Conn) bool { return c.Place.Precision == geoip.Unknown })
		l.grouped = true
		l.query = history.Selection{Nowhere: true}
		v.open(l)
		return
	}
	// A stack also holds places beside its own, and at the edge those beyond.
	at := k.conns[0].Place
	cx, cy := worldmap.Point(at.Lat, at.Lon)
	reach := 0.5 / v.world.Zoom
	for _, c := range k.conns {
		reach = max(reach, distance(c.Place, cx, cy)+1e-6)
	}
	l := newList("place list", heading, around(cx, cy, reach))
	l.grouped = true
	v.findNearby(l, at.Lat, at.Lon, min(reach, nearbyReach/v.world.Zoom))
	v.open(l)
}

// distance is how far a place is from a point of the original's map, in its pixels.
func distance(p geoip.Place, x, y float64) float64 {
	px, py := worldmap.Point(p.Lat, p.Lon)
	dx := math.Abs(px - x)
	return math.Hypot(min(dx, worldmap.FrameWidth-dx), py-y)
}

// around wants the connections around a point of the original's map.
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
	v.findNearby(l, lat, lon, reach)
	v.open(l)
}

// find has a list wait for stored connections.
func (v *View) find(l *connList, query history.Selection) {
	v.asks++
	l.ask, l.waiting, l.query = v.asks, true, query
}

// findNearby has a list wait for those at most so many pixels of the original's map from a
// place.
func (v *View) findNearby(l *connList, lat, lon, pixels float64) {
	circle := history.Circle{Lat: lat, Lon: lon, Km: worldmap.Km(lat, pixels)}
	v.find(l, history.Selection{Near: circle})
	v.ask(FindNearby{Ask: l.ask, Circle: circle})
}

// Found is the answer to questions for stored connections.
type Found struct {
	Ask     int
	Past    []live.Past // the newest first
	Since   time.Time   // nothing older was looked at; zero: all was
	Full    bool        // there may be older ones than Past: no more were wanted
	Problem string      // for people
}

func (a Found) take(v *View) {
	v.search.take(a)
	for _, p := range v.desk.panels {
		if l, ok := p.body.(*connList); ok && l.ask == a.Ask && l.waiting {
			l.past, l.since, l.full, l.problem, l.waiting = a.Past, a.Since, a.Full, a.Problem, false
			l.from.st = nil
		}
	}
}

// looking says that there is no answer of the history yet.
func (v *View) looking() string {
	if v.st.Opening {
		return "waiting until the history is taken over"
	}
	return "looking into the history"
}

// close drops the question of which nobody wants the answer any more. That of the filter
// is not the list's.
func (l *connList) close(v *View) {
	if l.waiting && !l.searches {
		v.ask(CancelQuery{Ask: l.ask})
	}
}

func (l *connList) name() string { return l.kind }

func (l *connList) title(v *View) string {
	l.update(v)
	s := l.heading + " · " + thousands(int64(len(l.live)-l.closing)) + " live"
	if l.closing > 0 {
		s += " · " + thousands(int64(l.closing)) + " closing"
	}
	switch {
	case l.waiting:
		s += " · " + v.looking()
	case l.problem != "":
		s += " · " + l.problem
	case l.ask != 0:
		s += " · " + v.pastText(len(l.rows.past), "of the history", l.since, l.full)
		if l.full || !l.since.IsZero() {
			s += "; older ones by Query"
		}
	}
	return s
}

func (l *connList) size(v *View) (w, h float64) {
	l.update(v)
	// In a large window there is room for more columns and rows.
	most := max(12, int(0.6*v.size.h/tableRow))
	return min(max(860, v.size.w-240), 1380), tableHead + float64(min(max(l.rows.len(), 3), most))*tableRow + footHeight
}

// update takes in a new state.
func (l *connList) update(v *View) {
	now := l.from
	now.st, now.agents, now.filter, now.local = v.st, v.agents.changed, v.filter.text, v.Local
	if now == l.from && l.rows.v != nil {
		return
	}
	before := l.from
	before.st = now.st
	if before == now && l.from.st != nil && l.pace.early(v) {
		return
	}
	l.from = now
	l.pace.made(v)
	clear(l.live)
	l.live, l.closing = l.live[:0], 0
	for i := len(v.st.Conns) - 1; i >= 0; i-- {
		if c := v.st.Conns[i]; v.shows(c) && l.wants(v, c) {
			l.live = append(l.live, c)
			if c.State.BeingClosed() {
				l.closing++
			}
		}
	}
	shown := v.onlyPast(l.past)
	if l.grouped {
		byProgram(l.live, func(c *live.Conn) (string, time.Time) { return program(c), c.Opened })
		byProgram(shown, func(p live.Past) (string, time.Time) { return program(&p.Conn), p.Seen })
	}
	// What is being closed comes after what lives.
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
	l.changed = true
}

// onlyPast returns the stored connections that are shown and no longer open: what is
// open has been recorded too.
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

const footHeight = 38

func (l *connList) show(v *View, b box) {
	l.update(v)
	l.nameTimes(v)
	foot := box{b.x, b.y + b.h - 24, b.w, 26}
	if row, col := l.table.show(v, box{b.x, b.y, b.w, b.h - footHeight}, l.rows); row >= 0 && col == colAddress {
		v.openReport(l.rows.conn(row))
	}
	if v.in.Wheel != 0 || l.holding {
		l.pace.rest(v)
	}
	if l.rows.len() == 0 && !l.waiting {
		v.canvas.text(b.x+10, b.y+tableHead+20, typeface.Regular, 12.5, v.theme.dim, v.canvas.elide(typeface.Regular, 12.5, "no connections", b.w-20))
	}
	switch pressed, _ := v.buttons(foot, "Details", "Query", "Copy cell", "Copy row", "Copy all"); pressed {
	case 0:
		l.details(v)
	case 1:
		v.ask(WriteSQL{Of: l.query})
	case 2:
		l.copy(v, l.rows, copyCell)
	case 3:
		l.copy(v, l.rows, copyRow)
	case 4:
		l.copy(v, l.rows, copyAll)
	}
}

// nameTimes says in which zone the times are.
func (l *connList) nameTimes(v *View) {
	zone, _ := v.now.Zone()
	if zone != l.zone {
		l.zone = zone
		l.columns = slices.Clone(l.columns)
		for _, col := range [...]int{colOpened, colSeen} {
			l.columns[col].title = listColumns[col].title + ", " + zone
		}
		l.widths = nil
	}
}

func (l *connList) details(v *View) {
	if l.selected() < 0 {
		v.say("choose a row first")
		return
	}
	conns := make([]*live.Conn, len(l.order))
	for i, row := range l.order {
		conns[i] = l.rows.conn(int(row))
	}
	v.open(newDetails(v, conns, l.row))
}

func (l *connList) key(v *View, k Key) bool {
	l.update(v)
	if k == KeyEnter {
		if at := l.selected(); at >= 0 {
			v.openReport(l.rows.conn(at))
			return true
		}
	}
	return l.keys(v, k, l.rows)
}

// connRows are live connections, and below them stored ones.
type connRows struct {
	v    *View
	live []*live.Conn
	past []live.Past
}

func (r connRows) len() int { return len(r.live) + len(r.past) }

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

func (r connRows) key(row int) any {
	if p := r.stored(row); p != nil {
		return pastKey{p.Peer, p.Local, p.Agent, p.Process.Comm}
	}
	c := r.live[row]
	return connKey{c.Agent, c.ID}
}

// A pastKey tells a stored connection.
type pastKey struct {
	peer, local    netip.AddrPort
	agent, program string
}

// A connKey tells a live connection in different states.
type connKey struct {
	agent string
	id    uint64
}

// faded reports whether a row is of the past.
func (r connRows) faded(row int) bool { return row >= len(r.live) }

func (r connRows) color(row int) color.NRGBA {
	if p := r.stored(row); p != nil {
		return r.v.colorOf(p.Label)
	}
	_, col := r.v.ruleOf(r.conn(row))
	return col
}

func (r connRows) cell(row, col int) string {
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
	case colHost:
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
		return bytesText(c.Rx)
	case colTx:
		return bytesText(c.Tx)
	case colRTT:
		if c.RTT == 0 {
			return ""
		}
		return fmt.Sprintf("%.3g", float64(c.RTT)/1e6)
	case colOpened:
		return r.v.timeText(c.Opened)
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
			return thousands(p.Count)
		}
	}
	return ""
}

func (r connRows) compare(a, b, col int) int {
	x, y := r.conn(a), r.conn(b)
	switch col {
	case colAddress:
		return x.Peer.Compare(y.Peer)
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
		return x.Opened.Compare(y.Opened)
	case colOrg:
		return cmp.Or(cmp.Compare(x.Org, y.Org), cmp.Compare(x.ASN, y.ASN))
	case colSeen:
		return r.seen(a).Compare(r.seen(b))
	case colCount:
		return cmp.Compare(r.count(a), r.count(b))
	}
	return cmp.Compare(r.cell(a, col), r.cell(b, col))
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
