package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
)

// earth is the mean radius of the Earth in km (IUGG).
const earth = 6371.0088

// box returns the ranges of latitude and longitude around a circle, of which there
// are two of longitude where it crosses the 180th meridian.
func box(lat, lon, km float64) (minLat, maxLat float64, lons [][2]float64) {
	r := km / earth
	dLat := r * 180 / math.Pi
	minLat, maxLat = lat-dLat, lat+dLat
	whole := [][2]float64{{-180, 180}}
	if minLat <= -90 || maxLat >= 90 {
		return max(-90, minLat), min(90, maxLat), whole // a pole lies within
	}
	dLon := math.Asin(min(1, math.Sin(r)/math.Cos(lat*math.Pi/180))) * 180 / math.Pi
	switch {
	case dLon >= 180:
		return minLat, maxLat, whole
	case lon-dLon < -180:
		return minLat, maxLat, [][2]float64{{-180, lon + dLon}, {lon - dLon + 360, 180}}
	case lon+dLon > 180:
		return minLat, maxLat, [][2]float64{{lon - dLon, 180}, {-180, lon + dLon - 360}}
	}
	return minLat, maxLat, [][2]float64{{lon - dLon, lon + dLon}}
}

// placesSQL is the condition for places in a circle: those in its box that are near enough. An
// index by latitude keeps the search short.
func placesSQL(lat, lon, km float64) string {
	minLat, maxLat, lons := box(lat, lon, km)
	var east []string
	for _, l := range lons {
		east = append(east, fmt.Sprintf("lon BETWEEN %v AND %v", l[0], l[1]))
	}
	return fmt.Sprintf(`lat BETWEEN %v AND %v AND (%s)
    AND haversine(lat, lon, %v, %v) <= %v`, minLat, maxLat, strings.Join(east, " OR "), lat, lon, km)
}

// nearbySQL returns a query for the console with the result of Nearby.
func nearbySQL(lat, lon, km float64, limit int) string {
	return fmt.Sprintf(`SELECT detailed_history.* FROM places CROSS JOIN detailed_history USING (lat, lon)
  WHERE %s
  ORDER BY id DESC LIMIT %d`, placesSQL(lat, lon, km), limit)
}

// Nearby yields the rows whose peers are at most km kilometres from a point, the
// newest first, but not more than limit, which must be positive. After an error it
// ends.
func (db *DB) Nearby(ctx context.Context, lat, lon, km float64, limit int) iter.Seq2[history.Row, error] {
	return rows(ctx, db, func(yield func(history.Row) error) error {
		conn, err := db.reader(ctx)
		if err != nil {
			return err
		}
		defer closeConn(conn)
		if _, err := registerFunctions(conn, ConsoleOptions{}); err != nil {
			return err
		}
		var near []place
		err = sqlitex.ExecuteTransient(conn, `SELECT lat, lon FROM places WHERE `+placesSQL(lat, lon, km), &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
			near = append(near, columnPlace(stmt, 0))
			return nil
		}})
		if err != nil {
			return err
		}
		ids, err := newest(conn, near, limit)
		if err != nil {
			return err
		}
		for _, id := range ids {
			err := sqlitex.Execute(conn, `SELECT `+rowColumns+` FROM detailed_history WHERE id = ?`, &sqlitex.ExecOptions{
				Args: []any{id}, ResultFunc: func(stmt *sqlite.Stmt) error { return yield(scan(stmt)) },
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// newest returns the ids of the newest rows of places. The index has those of each place in
// order, so that few are read, however many there are.
func newest(conn *sqlite.Conn, places []place, limit int) ([]int64, error) {
	var ids []int64
	least := int64(math.MinInt64)
	for _, p := range places {
		err := sqlitex.Execute(conn, `SELECT id FROM detailed_history WHERE lat = ? AND lon = ? AND id > ? ORDER BY id DESC LIMIT ?`, &sqlitex.ExecOptions{
			Args: []any{p.lat, p.lon, least, limit}, ResultFunc: func(stmt *sqlite.Stmt) error {
				ids = append(ids, stmt.ColumnInt64(0))
				return nil
			},
		})
		if err != nil {
			return nil, err
		}
		if len(ids) > limit {
			slices.SortFunc(ids, func(a, b int64) int { return cmp.Compare(b, a) })
			ids = ids[:limit]
		}
		if len(ids) == limit && limit > 0 {
			least = slices.Min(ids)
		}
	}
	slices.SortFunc(ids, func(a, b int64) int { return cmp.Compare(b, a) })
	return ids, nil
}
