package monitor

import (
	"context"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/rules"
)

// MaxFound is the maximum number of stored connections in a result.
const MaxFound = 500

const (
	searchTime = 3 * time.Second
	replayTick = 40 * time.Millisecond
)

// Nearby returns the newest stored connections in a circle.
func (m *Monitor) Nearby(ctx context.Context, c history.Circle) ([]live.Past, error) {
	if err := m.Unrecorded(); err != nil {
		return nil, err
	}
	return m.pastRows(m.History.Nearby(ctx, c.Lat, c.Lon, c.Km, MaxFound))
}

// Within returns the newest stored connections to a prefix.
func (m *Monitor) Within(ctx context.Context, p netip.Prefix) ([]live.Past, error) {
	if err := m.Unrecorded(); err != nil {
		return nil, err
	}
	return m.pastRows(m.History.Within(ctx, p, MaxFound))
}

func (m *Monitor) pastRows(rows iter.Seq2[history.Row, error]) (found []live.Past, err error) {
	for r, err := range rows {
		if err != nil {
			return nil, err
		}
		found = append(found, m.past(r))
	}
	return found, nil
}

// Search returns the newest stored connections that fit. It stops after a few seconds: nothing
// older than since was searched; zero: all was.
func (m *Monitor) Search(ctx context.Context, fits func(*live.Past) bool) (found []live.Past, since time.Time, err error) {
	if err := m.Unrecorded(); err != nil {
		return nil, time.Time{}, err
	}
	timed, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	last := time.Now()
	for r, err := range m.History.Newest(timed) {
		if err != nil && timed.Err() != nil && ctx.Err() == nil {
			return found, last, nil
		}
		if err != nil {
			return nil, time.Time{}, err
		}
		last = r.Seen
		if p := m.past(r); fits(&p) {
			if found = append(found, p); len(found) == MaxFound {
				return found, last, nil
			}
		}
	}
	return found, time.Time{}, nil
}

// past converts a stored connection to what the window shows.
func (m *Monitor) past(r history.Row) live.Past {
	l := live.Conn{
		Local: live.EndpointOf(r.Local), Peer: live.EndpointOf(r.Peer), Opened: live.StampOf(r.Opened), Tx: r.Tx, Rx: r.Rx,
		Process: &conntrack.Process{Comm: r.Program, Exe: r.Exe, Container: r.Container},
		Agent:   r.Agent, Scope: m.scope(r.Peer.Addr()), ASN: r.ASN, Org: r.Org, Rule: m.ruleIndex(r.Rule), Name: r.PeerName,
	}
	l.NameSource, _ = conntrack.ParseNameSource(r.PeerNameSource)
	l.Proto, _ = conntrack.ParseProto(r.Protocol)
	l.Direction, _ = conntrack.ParseDirection(r.Direction)
	l.Place.Country = r.Country
	if r.Located {
		l.Place.Lat, l.Place.Lon = r.Lat, r.Lon
		l.Place.Precision = max(geoip.ParsePrecision(r.Precision), geoip.Country)
		l.Unsure = r.Precision == ""
	}
	return live.Past{Conn: l, Label: r.Rule, Count: r.Count, Seen: r.Seen}
}

// ruleIndex returns the index of the rule with a label, or of the last rule if there is none.
func (m *Monitor) ruleIndex(label string) int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, l := range m.labels {
		if l == label {
			return int32(i)
		}
	}
	return int32(len(m.labels) - 1)
}

// Rules returns the rules in use.
func (m *Monitor) Rules() *rules.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rules
}

// Label returns the label of the rule that matches ports and program.
func (m *Monitor) Label(local, peer uint16, program, exe string) string {
	r, _ := m.Rules().Match(rules.Conn{Local: local, Peer: peer, Comm: program, Exe: exe})
	return r.Label
}

// Locate returns where an address is. One that is for documentation or reserved is nowhere, whatever
// a table says.
func (m *Monitor) Locate(addr netip.Addr) (geoip.Place, bool) {
	if addr = m.NAT64.Inner(addr); !asn.Global(addr) {
		return geoip.Place{}, false
	}
	p, by := geoip.Tables(tables(&m.geo, m.Geo)).Lookup(addr)
	return p, by != nil
}

// sourceOf describes the first of the best tables: those with cities, if there are any.
func sourceOf(all geoip.Tables) (s live.Source) {
	for i, db := range all {
		if info := db.Info(); i == 0 || s.CountryLevel && !info.CountryLevel {
			s = live.Source{Name: info.Name, Date: info.Date, CountryLevel: info.CountryLevel}
		}
	}
	return s
}

// newest returns the date of the newest table.
func newest(all []*asn.DB) (at time.Time) {
	for _, db := range all {
		if date := db.Info().Date; date.After(at) {
			at = date
		}
	}
	return at
}

func (m *Monitor) network(addr netip.Addr) (asn.AS, bool) {
	if addr = m.NAT64.Inner(addr); !asn.Global(addr) {
		return asn.AS{}, false
	}
	for _, db := range tables(&m.asn, m.ASN) {
		if as, ok := db.Lookup(addr); ok {
			return as, true
		}
	}
	return asn.AS{}, false
}

// lookUp sets the place and the network of a peer on the Internet.
func (m *Monitor) lookUp(c *live.Conn) {
	c.Place, _ = m.Locate(c.Peer.Addr())
	as, _ := m.network(c.Peer.Addr())
	c.ASN, c.Org = as.Number, as.Org
}

// ReplaceGeo uses a fresh table in place of an old one of Geo from now on, and looks up all
// connections again. It returns how many got another place or network.
func (m *Monitor) ReplaceGeo(old, fresh *geoip.DB) (changed int) {
	return replaceTable(m, &m.geo, m.Geo, old, fresh)
}

// ReplaceASN is ReplaceGeo for a table of ASN.
func (m *Monitor) ReplaceASN(old, fresh *asn.DB) (changed int) {
	return replaceTable(m, &m.asn, m.ASN, old, fresh)
}

// tables returns those that replaceTable has set, else the first ones.
func tables[T any](replaced *atomic.Pointer[[]T], first []T) []T {
	if p := replaced.Load(); p != nil {
		return *p
	}
	return first
}

func replaceTable[T comparable](m *Monitor, replaced *atomic.Pointer[[]T], first []T, old, fresh T) (changed int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Clone(tables(replaced, first))
	if i := slices.Index(all, old); i >= 0 {
		all[i] = fresh
	}
	replaced.Store(&all)
	for _, e := range m.order {
		if e.conn.Scope != live.Internet {
			continue
		}
		n := *e.conn
		if m.lookUp(&n); n.Place != e.conn.Place || n.ASN != e.conn.ASN || n.Org != e.conn.Org {
			e.conn = &n
			changed++
		}
	}
	m.touch()
	return changed
}

// Network names the network of an address, by the first table that knows it.
func (m *Monitor) Network(addr netip.Addr) string {
	as, ok := m.network(addr)
	if !ok {
		return ""
	}
	return fmt.Sprintf("AS%d %s", as.Number, as.Org)
}

// OnMap returns the label of the rule, or "", and the latitude and longitude, or NaN, of
// each row of a table, if its columns say them.
func (m *Monitor) OnMap(t *history.Table) (labels []string, places [][2]float64) {
	labels, places = make([]string, len(t.Rows)), make([][2]float64, len(t.Rows))
	column := make(map[string]int)
	for i, c := range t.Columns {
		if _, ok := column[c.Name]; !ok {
			column[c.Name] = i
		}
	}
	for i, row := range t.Rows {
		get := func(name string) any {
			if c, ok := column[name]; ok {
				return row[c]
			}
			return nil
		}
		labels[i], places[i] = m.rowLabel(get), m.rowPlace(get)
	}
	return labels, places
}

func (m *Monitor) rowLabel(get func(string) any) string {
	if label, ok := get("rule").(string); ok {
		return label
	}
	port, _ := get("port").(int64)
	local, _ := get("local_port").(int64)
	program, named := get("programname").(string)
	exe, _ := get("exe").(string)
	if port == 0 && local == 0 && !named {
		return ""
	}
	return m.Label(uint16(local), uint16(port), program, exe)
}

func (m *Monitor) rowPlace(get func(string) any) [2]float64 {
	none := [2]float64{math.NaN(), math.NaN()}
	lat, lon := history.Number(get("lat")), history.Number(get("lon"))
	if math.Abs(lat) <= 90 && math.Abs(lon) <= 180 {
		return [2]float64{lat, lon}
	}
	ip, ok := get("ip").(string)
	if !ok {
		return none
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return none
	}
	if p, ok := m.Locate(addr); ok {
		return [2]float64{p.Lat, p.Lon}
	}
	return none
}

// Replay plays all stored connections in the order in which they opened, within a duration. It
// calls show with the events since the last call, the time in the history, and the share that
// is done, which ends at 1.
func (m *Monitor) Replay(ctx context.Context, during time.Duration, show func(events []live.Event, at time.Time, share float64)) error {
	if err := m.Unrecorded(); err != nil {
		return err
	}
	first, last, err := m.History.Span(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	span := last.Sub(first) + time.Millisecond
	var events []live.Event
	send := func(at time.Time) bool {
		show(events, at, float64(at.Sub(first))/float64(span))
		events = nil
		select {
		case <-ctx.Done():
			return false
		case <-time.After(replayTick):
			return true
		}
	}
	// until returns the time in the history that is to be shown now.
	until := func() time.Time {
		return first.Add(time.Duration(float64(span) * min(float64(time.Since(begin))/float64(during), 1)))
	}
	due := first
	for r, err := range m.History.Replay(ctx, first, last.Add(time.Millisecond)) {
		if err != nil {
			return err
		}
		for r.Opened.After(due) {
			if due = until(); r.Opened.After(due) && !send(due) {
				return ctx.Err()
			}
		}
		if r.Located {
			events = append(events, live.Event{Lat: r.Lat, Lon: r.Lon, Label: r.Rule})
			if len(events) >= 10_000 { // nobody can see more at once
				show(events, due, float64(due.Sub(first))/float64(span))
				events = nil
			}
		}
	}
	for due = until(); due.Before(first.Add(span)) && send(due); due = until() {
	}
	if ctx.Err() == nil {
		show(events, last, 1)
	}
	return ctx.Err()
}

// PeerNames returns by which names programs ask for an address now, and have asked as far as it is
// recorded.
func (m *Monitor) PeerNames(ctx context.Context, peer netip.Addr) ([]history.PeerName, error) {
	var list []history.PeerName
	known := make(map[string]int) // index in list
	now := m.State()
	for _, c := range now.Conns {
		if c.Name == "" || c.Peer.Addr() != peer {
			continue
		}
		at, ok := known[c.Name]
		switch {
		case !ok && len(list) == MaxFound:
			continue
		case !ok:
			at = len(list)
			known[c.Name] = at
			list = append(list, history.PeerName{Name: c.Name, Seen: now.Time})
		}
		if p := c.Process.Comm; p != "" && !slices.Contains(list[at].Programs, p) {
			list[at].Programs = append(list[at].Programs, p)
		}
	}
	if m.Unrecorded() != nil {
		return list, nil
	}
	timed, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	stored, err := m.History.PeerNames(timed, peer, MaxFound)
	for _, n := range stored {
		if _, ok := known[n.Name]; !ok {
			list = append(list, n)
		}
	}
	return list, err
}

// First returns when a program's connections to an address were first opened, and how often.
func (m *Monitor) First(ctx context.Context, peer netip.Addr, program string) (time.Time, int64, error) {
	if err := m.Unrecorded(); err != nil {
		return time.Time{}, 0, err
	}
	return m.History.First(ctx, peer, program)
}
