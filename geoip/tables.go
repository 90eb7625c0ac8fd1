package geoip

import "net/netip"

// Tables are looked up together: the most exact place counts, of equally exact ones that of the
// first table. But the holder of an address knows best in which country it is: what a geofeed
// says counts where the other tables name another country. The zero Tables are empty. Lookup is
// safe for concurrent use.
type Tables []*DB

// Lookup returns where a is and the table that says so; nil: no table knows it.
func (t Tables) Lookup(a netip.Addr) (p Place, by *DB) {
	var fed Place
	var feed *DB
	for _, db := range t {
		if db.t.Flags()&flagGeofeed == 0 {
			if q, _ := db.Lookup(a); q.Precision > p.Precision {
				p, by = q, db
			}
		} else if q, _ := db.Lookup(a); q.Precision > fed.Precision {
			fed, feed = q, db
		}
	}
	if feed != nil && (by == nil || fed.Country != p.Country) {
		return fed, feed
	}
	return p, by
}
