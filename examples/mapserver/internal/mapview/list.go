package mapview

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

// nearbyReach is how many pixels around the mouse a right click means.
const nearbyReach = 15

// A connList is a panel with live connections and, if it was asked for, stored ones.
type connList struct {
	table
	kind, heading string
	wants         func(v *View, c *live.Conn) bool
	sql           string // the question behind it, for the SQL panel
	ask           int    // number of the question for stored ones; zero: none
	waiting       bool
	problem       string
	past          []live.Past

	pace pace
	live []*live.Conn // the newest first
	from struct {
		st     *live.State
		agents int
		filter string
		local  bool
	}
	rows connRows
}

// listColumns are the columns of lists. The first is the one that a click opens.
var listColumns = []column{
	{title: "address", mono: true, link: true}, {title: "port", right: true}, {title: "program"}, {title: "host"},
	{title: "direction"}, {title: "organisation"}, {title: "place"}, {title: "rule"}, {title: "received", right: true},
	{title: "sent", right: true}, {title: "RTT ms", right: true}, {title: "opened"}, {title: "last seen"}, {title: "count", right: true},
}

const (
	colAddress = iota
	colPort
	colProgram
	colHost
	colDirection
	colOrg
	colPlace
	colRule
	colRx
	colTx
	colRTT
	colOpened
	colSeen
	colCount
)

func newList(kind, heading string, wants func(*View, *live.Conn) bool) *connList {
	return &connList{table: table{columns: listColumns}, kind: kind, heading: heading, wants: wants}
}

// newRuleList lists the connections of a label.
func newRuleList(label string) *connList {
	l := newList("rule list", label, func(v *View, c *live.Conn) bool {
		s, _ := v.ruleOf(c)
		return s == label
	})
	l.sql = "SELECT timestamp, ip, port, programname, agent, orgname, country, count\nFROM detailed_history\nWHERE rule = " +
		quote(label) + " AND timestamp >= unixepoch('now', '-7 days')\nORDER BY timestamp DESC LIMIT 500"
	return l
}

// newShownList lists all connections that are shown.
func newShownList() *connList {
	l := newList("connection list", "All connections", func(*View, *live.Conn) bool { return true })
	l.sql = "SELECT timestamp, ip, port, programname, agent, orgname, country, count\nFROM detailed_history\nORDER BY timestamp DESC LIMIT 500"
	return l
}

// quote writes a text as SQL does.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// openNearby lists what is around a point of the map, live and stored.
func (v *View) openNearby(x, y float64) {
	lat, lon := v.world.Place(x, y)
	cx, cy := worldmap.Point(lat, lon)
	reach := nearbyReach / v.world.Zoom
	l := newList("nearby list", fmt.Sprintf("Near %.2f, %.2f", lat, lon), func(_ *View, c *live.Conn) bool {
		if c.Place.Precision == 0 {
			return false
		}
		px, py := worldmap.Point(c.Place.Lat, c.Place.Lon)
		dx := math.Abs(px - cx)
		dx = min(dx, worldmap.FrameWidth-dx)
		return math.Hypot(dx, py-cy) <= reach
	})
	v.find(l)
	v.ask(FindNearby{Ask: l.ask, Lat: lat, Lon: lon, Pixels: reach})
	v.open(l)
}

// find has a list wait for stored connections.
func (v *View) find(l *connList) {
	v.asks++
	l.ask, l.waiting = v.asks, true
}

// Found is the answer to questions for stored connections.
type Found struct {
	Ask     int
	Past    []live.Past // the newest first
	SQL     string      // the same question for the SQL panel
	Problem string      // for people
}

func (a Found) take(v *View) {
	for _, p := range v.desk.panels {
		if l, ok := p.body.(*connList); ok && l.ask == a.Ask && l.waiting {
			l.past, l.sql, l.problem, l.waiting = a.Past, a.SQL, a.Problem, false
			l.from.st = nil
		}
	}
}

func (l *connList) name() string { return l.kind }

func (l *connList) title(v *View) string {
	l.update(v)
	s := l.heading + " · " + thousands(int64(len(l.live))) + " live"
	switch {
	case l.waiting:
		s += " · looking into the history"
	case l.problem != "":
		s += " · " + l.problem
	case l.ask != 0:
		s += " · " + thousands(int64(len(l.rows.past))) + " of the history"
	}
	return s
}

func (l *connList) size(v *View) (w, h float64) {
	l.update(v)
	return 860, tableHead + float64(min(max(l.rows.len(), 3), 12))*tableRow + footHeight
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
	l.live = l.live[:0]
	for i := len(v.st.Conns) - 1; i >= 0; i-- {
		if c := v.st.Conns[i]; v.shows(c) && l.wants(v, c) {
			l.live = append(l.live, c)
		}
	}
	shown := make([]live.Past, 0, len(l.past))
	for _, p := range l.past {
		if v.fits(&p.Conn) && !v.agents.hidden[p.Agent] {
			shown = append(shown, p)
		}
	}
	l.rows = connRows{v: v, live: l.live, past: shown}
	l.changed = true
}

const footHeight = 38

func (l *connList) show(v *View, b box) {
	l.update(v)
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
		v.openSQL(l.sql)
	case 2:
		l.copy(v, l.rows, copyCell)
	case 3:
		l.copy(v, l.rows, copyRow)
	case 4:
		l.copy(v, l.rows, copyAll)
	}
}

func (l *connList) details(v *View) {
	if at := l.selected(); at >= 0 {
		v.open(newDetails(v, []*live.Conn{l.rows.conn(at)}))
	} else {
		v.say("choose a row first")
	}
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
		return c.Proto.String() + " " + c.Direction.String()
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
		if p == nil {
			return "live"
		}
		return r.v.timeText(p.Seen)
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
