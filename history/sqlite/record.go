package sqlite

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

const (
	// maxOpenings is how many openings are taken over of a row.
	maxOpenings = 1 << 32

	maxCachedRows = 1 << 17
)

// A rowCache has rows of connections that are open, so that one that is seen again costs an
// update by the number of its row. Others are looked up in the file.
type rowCache struct{ rows map[rowKey]*cachedRow }

// A place is where rows are, if that is known.
type place struct {
	lat, lon float64
	known    bool
}

func placeOf(e *history.Entry) place {
	if !located(e) {
		return place{}
	}
	return place{e.Lat, e.Lon, true}
}

// columnPlace returns a place of two columns from i on.
func columnPlace(stmt *sqlite.Stmt, i int) place {
	return place{stmt.ColumnFloat(i), stmt.ColumnFloat(i + 1), !stmt.ColumnIsNull(i)}
}

// A cachedRow is what the next entry of a connection needs of its row.
type cachedRow struct {
	id                         int64
	count                      int64
	opened                     int64  // the last opening, Unix time in µs
	details                    uint64 // by detailsHash; zero: not known
	place                      place
	tx, rx, txBefore, rxBefore int64
	size                       int64 // by rowSize
	peerName, peerNameSource   string
	closed                     bool
	opener                     *opener // nil: that of its entries
}

// An opener is the program that opened a connection, when it has executed another one since.
type opener struct{ program, exe, container string }

// named returns an entry as that of the program in the row.
func (r *cachedRow) named(e history.Entry) history.Entry {
	if o := r.opener; o != nil {
		e.Program, e.Exe, e.Container = o.program, o.exe, o.container
	}
	return e
}

// A rowKey is two hashes of a key, with seeds of their own: keys themselves would take as much
// memory as the rows. That two connections have the same is less likely than that memory fails.
type rowKey [2]uint64

var secondSeed = maphash.MakeSeed()

func rowKeyOf(e *history.Entry) rowKey {
	k := keyOf(e)
	return rowKey{maphash.Comparable(seed, k), maphash.Comparable(secondSeed, k)}
}

func (c *rowCache) clear() {
	c.rows = make(map[rowKey]*cachedRow)
}

// changes are what a transaction has not written yet.
type changes struct {
	inserts inserts
	rows    int64
	places  map[place]int64
	shares  map[string]share            // what is to be added, by agent
	reports map[[16]byte]history.Report // the last of each run
}

func newChanges() *changes {
	return &changes{places: make(map[place]int64), shares: make(map[string]share), reports: make(map[[16]byte]history.Report)}
}

// share adds to what an agent has.
func (ch *changes) share(agent string, more share) {
	s := ch.shares[agent]
	ch.shares[agent] = share{agent, s.rows + more.rows, s.bytes + more.bytes, s.pruned + more.pruned}
}

// count adds to how often connections to a place were opened.
func (ch *changes) count(p place, n int64) {
	if p.known {
		ch.places[p] += n
	}
}

func (db *DB) record(ctx context.Context, records []history.Record) (err error) {
	db.conn.SetInterrupt(ctx.Done())
	defer db.conn.SetInterrupt(nil)
	end, err := sqlitex.ImmediateTransaction(db.conn)
	if err != nil {
		return err
	}
	defer func() {
		end(&err)
		// The cache may have what was rolled back.
		if err != nil || len(db.cache.rows) > maxCachedRows {
			db.cache.clear()
		}
	}()
	ch := newChanges()
	for _, r := range records {
		switch r := r.(type) {
		case history.Entry:
			err = db.put(r, ch)
		case history.Loss:
			err = db.putLoss(r)
		case history.Report:
			if last, ok := ch.reports[r.Run]; !ok || last.Number < r.Number {
				ch.reports[r.Run] = r
			}
		}
		if err != nil {
			return err
		}
	}
	if err := db.insert(ch); err != nil {
		return err
	}
	return db.writeTotals(ch)
}

// putLoss adds to what was lost of an agent in an hour.
func (db *DB) putLoss(l history.Loss) error {
	stmt, err := db.conn.Prepare(`INSERT INTO losses VALUES (?1, ?2, ?3)
ON CONFLICT (timestamp, agent) DO UPDATE SET count = min(count + excluded.count, ?4)`)
	if err != nil {
		return err
	}
	stmt.BindInt64(1, wholeSeconds(l.Seen.Truncate(time.Hour)))
	stmt.BindText(2, l.Agent)
	stmt.BindInt64(3, limitCounter(l.Count))
	stmt.BindInt64(4, history.MaxCounter)
	return run(stmt)
}

// putReport notes the last report of an agent's run.
func (db *DB) putReport(r history.Report) error {
	stmt, err := db.conn.Prepare(`INSERT INTO reports VALUES (?1, ?2, ?3)
ON CONFLICT (run) DO UPDATE SET number = max(number, excluded.number), timestamp = excluded.timestamp`)
	if err != nil {
		return err
	}
	stmt.BindBytes(1, r.Run[:])
	stmt.BindInt64(2, int64(min(r.Number, math.MaxInt64)))
	stmt.BindInt64(3, wholeSeconds(r.Seen))
	return run(stmt)
}

// LastReport returns the number of the last report of an agent's run that is recorded;
// zero: none.
func (db *DB) LastReport(ctx context.Context, agentRun [16]byte) (number uint64, err error) {
	err = db.read(ctx, `SELECT number FROM reports WHERE run = ?1`, func(stmt *sqlite.Stmt) error {
		number = uint64(stmt.ColumnInt64(0))
		return nil
	}, agentRun[:])
	if err != nil {
		err = fmt.Errorf("history: %s: %w", db.path, err)
	}
	return number, err
}

// put records an entry: a row in the cache is updated, and another one is inserted
// together with others.
func (db *DB) put(e history.Entry, ch *changes) error {
	k := rowKeyOf(&e)
	r := db.cache.rows[k]
	if r != nil && r.closed && (e.Resumed || r.opener != nil) {
		// It is not what the connection goes on with, and others may be open.
		delete(db.cache.rows, k)
		r = nil
	}
	if r == nil {
		return db.putUncached(e, ch)
	}
	of := r.named(e)
	err := db.update(&of, r, ch)
	if err != nil || !e.Closed.IsZero() {
		delete(db.cache.rows, k)
		if r.opener != nil {
			delete(db.cache.rows, rowKeyOf(&of))
		}
	}
	if errors.Is(err, errGone) {
		// Somebody else has deleted the row.
		return db.putUncached(e, ch)
	}
	return err
}

var errGone = errors.New("the row is gone")

// cachedColumns are those that columnRow reads.
var cachedColumns = `id, count, last_opened, tx, rx, tx_before, rx_before, closed IS NOT NULL, lat, lon, peer_name, peer_name_source, ` + rowSizeSQL

func columnRow(stmt *sqlite.Stmt) *cachedRow {
	return &cachedRow{
		id: stmt.ColumnInt64(0), count: stmt.ColumnInt64(1), opened: fromSeconds(stmt.ColumnFloat(2)),
		tx: stmt.ColumnInt64(3), rx: stmt.ColumnInt64(4), txBefore: stmt.ColumnInt64(5), rxBefore: stmt.ColumnInt64(6),
		closed: stmt.ColumnBool(7), place: columnPlace(stmt, 8),
		peerName: stmt.ColumnText(10), peerNameSource: stmt.ColumnText(11), size: stmt.ColumnInt64(12),
	}
}

// find looks up the row of a connection in the file. hash is its column key.
func (db *DB) find(e *history.Entry, hash int64) (*cachedRow, error) {
	stmt, err := db.conn.Prepare(`
SELECT ` + cachedColumns + ` FROM detailed_history WHERE ip = ?1 AND programname = ?2 AND key = ?3`)
	if err != nil {
		return nil, err
	}
	defer stmt.Reset()
	stmt.BindText(1, addrText(e.Peer))
	stmt.BindText(2, e.Program)
	stmt.BindInt64(3, hash)
	if found, err := stmt.Step(); err != nil {
		return nil, err
	} else if !found {
		return nil, errGone
	}
	return columnRow(stmt), nil
}

// update refreshes a row.
func (db *DB) update(e *history.Entry, r *cachedRow, ch *changes) error {
	reopened := e.New && r.opened != micro(e.Opened)
	switch {
	case !reopened:
	case db.continues(r, e):
		r.opened = micro(e.Opened)
	default:
		if e.Resumed && !e.Closed.IsZero() {
			if added, err := db.addLate(e, r, ch); added || err != nil {
				return err
			}
		}
		if !r.closed {
			if err := db.putUnended(r); err != nil {
				return err
			}
		}
		r.count++
		r.opened = micro(e.Opened)
		r.txBefore, r.rxBefore = r.tx, r.rx
		ch.count(r.place, 1)
	}
	if e.PeerName == "" {
		e.PeerName, e.PeerNameSource = r.peerName, r.peerNameSource
	}
	r.peerName, r.peerNameSource = e.PeerName, e.PeerNameSource
	db.nameRecorded(e)
	r.closed = !e.Closed.IsZero() || r.closed && !e.New
	r.tx, r.rx = min(history.MaxCounter, r.txBefore+limitCounter(e.Tx)), min(history.MaxCounter, r.rxBefore+limitCounter(e.Rx))
	if a := detailsHash(e); a != r.details || reopened {
		r.details = a
		if err := db.rewrite(e, r, ch); err != nil {
			return err
		}
	}
	stmt, err := db.conn.Prepare(`
UPDATE detailed_history SET timestamp = ?1, tx = ?2, rx = ?3, closed = iif(?5, ?4, coalesce(?4, closed)) WHERE id = ?6`)
	if err != nil {
		return err
	}
	stmt.BindInt64(1, wholeSeconds(seen(e)))
	stmt.BindInt64(2, r.tx)
	stmt.BindInt64(3, r.rx)
	bindTime(stmt, 4, e.Closed)
	stmt.BindBool(5, e.New)
	stmt.BindInt64(6, r.id)
	if err := run(stmt); err != nil {
		return err
	}
	if db.conn.Changes() == 0 {
		return errGone
	}
	return nil
}

// clockStep is what the times of an agent whose clock is wrong are corrected by, in µs, or a
// multiple of it.
const clockStep = 10e6

// continues reports whether an opening at another time may be the one that a row has: an agent
// that looks anew cannot know when a connection opened. But one that closed may have been there
// before the row's, unless the server's clock was set back since that was recorded.
func (db *DB) continues(r *cachedRow, e *history.Entry) bool {
	if !e.Resumed || r.closed {
		return false
	}
	opened := micro(e.Opened)
	return e.Closed.IsZero() || opened >= r.opened || sameOpening(opened, r.opened) || r.opened > micro(db.clock.now())+clockStep/2
}

// sameOpening reports whether two times of opening may be one, corrected differently.
func sameOpening(a, b int64) bool { return (a-b)%clockStep == 0 }

// rewrite refreshes what seldom changes in a row.
func (db *DB) rewrite(e *history.Entry, r *cachedRow, ch *changes) error {
	if p := placeOf(e); p != r.place {
		ch.count(r.place, -r.count)
		ch.count(p, r.count)
		r.place = p
	}
	if n := rowSize(e); n != r.size {
		ch.share(e.Agent, share{bytes: n - r.size})
		r.size = n
	}
	stmt, err := db.conn.Prepare(`
UPDATE detailed_history SET
	timestamp = ?1, asn = ?2, orgname = ?3, lat = ?4, lon = ?5, x = ?6, y = ?7, precision = ?8,
	direction = ?9, exe = ?10, container = ?11, country = ?12, rule = ?13, peer_name = ?14, peer_name_source = ?15,
	last_opened = ?16, count = ?17, tx_before = ?18, rx_before = ?19
WHERE id = ?20`)
	if err != nil {
		return err
	}
	bindDetails(stmt, 1, e)
	stmt.BindFloat(16, float64(r.opened)/1e6)
	stmt.BindInt64(17, r.count)
	stmt.BindInt64(18, r.txBefore)
	stmt.BindInt64(19, r.rxBefore)
	stmt.BindInt64(20, r.id)
	return run(stmt)
}

// writeTotals writes reports and the counts of places, agents and rows. What has no rows goes.
func (db *DB) writeTotals(ch *changes) error {
	for _, r := range ch.reports {
		if err := db.putReport(r); err != nil {
			return err
		}
	}
	for p, n := range ch.places {
		if err := db.putPlace(p, n); err != nil {
			return err
		}
	}
	for _, s := range ch.shares {
		if err := db.putShare(s); err != nil {
			return err
		}
	}
	if ch.rows == 0 {
		return nil
	}
	stmt, err := db.conn.Prepare(`UPDATE settings SET value = value + ?1 WHERE name = 'rows'`)
	if err != nil {
		return err
	}
	stmt.BindInt64(1, ch.rows)
	return run(stmt)
}

// putPlace adds to how often connections to a place were opened. One without any goes.
func (db *DB) putPlace(p place, n int64) error {
	stmt, err := db.conn.Prepare(`INSERT INTO places VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET count = count + excluded.count`)
	if err != nil {
		return err
	}
	stmt.BindFloat(1, p.lat)
	stmt.BindFloat(2, p.lon)
	stmt.BindInt64(3, n)
	if err := run(stmt); err != nil || n > 0 {
		return err
	}
	if stmt, err = db.conn.Prepare(`DELETE FROM places WHERE lat = ?1 AND lon = ?2 AND count <= 0`); err != nil {
		return err
	}
	stmt.BindFloat(1, p.lat)
	stmt.BindFloat(2, p.lon)
	return run(stmt)
}

// putShare adds to what an agent has. One without rows goes.
func (db *DB) putShare(s share) error {
	stmt, err := db.conn.Prepare(`INSERT INTO agents VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET
	rows = max(0, rows + excluded.rows), bytes = max(0, bytes + excluded.bytes), pruned = pruned + excluded.pruned RETURNING rows <= 0`)
	if err != nil {
		return err
	}
	stmt.BindText(1, s.agent)
	stmt.BindInt64(2, s.rows)
	stmt.BindInt64(3, s.bytes)
	stmt.BindInt64(4, s.pruned)
	_, err = stmt.Step()
	empty := err == nil && stmt.ColumnBool(0)
	if err := errors.Join(err, stmt.Reset()); err != nil || !empty {
		return err
	}
	if stmt, err = db.conn.Prepare(`DELETE FROM agents WHERE agent = ?1`); err != nil {
		return err
	}
	stmt.BindText(1, s.agent)
	return run(stmt)
}

func run(stmt *sqlite.Stmt) error {
	_, err := stmt.Step()
	return errors.Join(err, stmt.Reset())
}

var seed = maphash.MakeSeed()

// detailsHash is a hash of what bindDetails binds beside the time.
func detailsHash(e *history.Entry) uint64 {
	return maphash.Comparable(seed, struct {
		direction, exe, container, org, country, rule, precision, peerName, peerNameSource string

		asn      uint32
		lat, lon uint64
		located  bool
	}{e.Direction, e.Exe, e.Container, e.Org, e.Country, e.Rule, e.Precision, e.PeerName, e.PeerNameSource, e.ASN, math.Float64bits(e.Lat), math.Float64bits(e.Lon), e.Located})
}

func hashOf(e *history.Entry) int64 {
	var b [64]byte
	local := b[:0]
	if e.Local.Addr().IsValid() {
		local = e.Local.Addr().AppendTo(local)
	}
	return keyHash(e.Agent, e.Protocol, string(local), e.Local.Port(), e.Peer.Port())
}

// keyHash is the column key, of what is beside ip and programname in the key of a
// connection.
func keyHash(agent, protocol, local string, localPort, port uint16) int64 {
	b := make([]byte, 0, 128)
	for _, s := range [...]string{agent, protocol, local} {
		b = append(append(b, s...), 0)
	}
	b = binary.LittleEndian.AppendUint16(b, localPort)
	b = binary.LittleEndian.AppendUint16(b, port)
	sum := sha256.Sum256(b)
	return int64(binary.LittleEndian.Uint64(sum[:]))
}

func limitCounter(n uint64) int64 { return int64(min(n, history.MaxCounter)) }

func seen(e *history.Entry) time.Time {
	if e.Seen.IsZero() {
		return e.Opened
	}
	return e.Seen
}

func located(e *history.Entry) bool {
	return e.Located && e.Lat >= -90 && e.Lat <= 90 && e.Lon >= -180 && e.Lon <= 180
}

// bindDetails sets 15 parameters from i on.
func bindDetails(stmt *sqlite.Stmt, i int, e *history.Entry) {
	stmt.BindInt64(i, wholeSeconds(seen(e)))
	stmt.BindText(i+1, formatASN(e.ASN))
	stmt.BindText(i+2, e.Org)
	if located(e) {
		x, y := pixel(e.Lat, e.Lon)
		stmt.BindFloat(i+3, e.Lat)
		stmt.BindFloat(i+4, e.Lon)
		stmt.BindInt64(i+5, x)
		stmt.BindInt64(i+6, y)
		stmt.BindText(i+7, e.Precision)
	} else {
		for j := i + 3; j <= i+6; j++ {
			stmt.BindNull(j)
		}
		stmt.BindText(i+7, "")
	}
	stmt.BindText(i+8, e.Direction)
	stmt.BindText(i+9, e.Exe)
	stmt.BindText(i+10, e.Container)
	stmt.BindText(i+11, e.Country)
	stmt.BindText(i+12, e.Rule)
	if e.PeerName != "" {
		stmt.BindText(i+13, e.PeerName)
		stmt.BindText(i+14, e.PeerNameSource)
	} else {
		stmt.BindNull(i + 13)
		stmt.BindNull(i + 14)
	}
}

func bindTime(stmt *sqlite.Stmt, i int, t time.Time) {
	if t.IsZero() {
		stmt.BindNull(i)
	} else {
		stmt.BindFloat(i, seconds(t))
	}
}

func bindAddr(stmt *sqlite.Stmt, i int, a netip.AddrPort) {
	stmt.BindText(i, addrText(a))
	stmt.BindInt64(i+1, int64(a.Port()))
}

func addrText(a netip.AddrPort) string {
	if a.Addr().IsValid() {
		return a.Addr().String()
	}
	return ""
}

// addrLen is the length of addrText, for which it needs no memory.
func addrLen(a netip.AddrPort) int {
	if !a.Addr().IsValid() {
		return 0
	}
	var b [64]byte
	return len(a.Addr().AppendTo(b[:0]))
}

// pixel returns where a place lies on connmapperl's map, a cut-out of a
// Mercator map whose x repeats every 1000 pixels.
func pixel(lat, lon float64) (x, y int64) {
	// Beyond, Mercator's y grows without end.
	const limit = 85.0511287798066
	lat = max(-limit, min(limit, lat))
	m := math.Log(math.Tan(math.Pi/4 + lat*math.Pi/360))
	return int64(math.Round((lon+180)/360*1000 - 29)), int64(math.Round(250 - 1000*m/(2*math.Pi) + 76))
}
