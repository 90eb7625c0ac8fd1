package geoip

import (
	"cmp"
	"net/netip"
	"slices"
)

// Tables are looked up together: the most exact place counts, of equally exact ones that of the
// first table. If it names no country, that of the first table that does counts. But the
// holder of an address knows best in which country it is: what a geofeed says counts where the
// other tables name another country. The zero Tables are empty. Lookup is safe for concurrent use.
type Tables []*DB

// Sort puts the newest tables first, by Info.Date. Behind the others come those whose files hold
// AS numbers too: they often have the country of the AS and not of the address.
func (t Tables) Sort() {
	slices.SortStableFunc(t, func(a, b *DB) int {
		return cmp.Or(cmp.Compare(a.t.Flags()&flagNetworks, b.t.Flags()&flagNetworks), b.Info().Date.Compare(a.Info().Date))
	})
}

// Lookup returns where a is and the table that says so; nil: no table knows it.
func (t Tables) Lookup(a netip.Addr) (p Place, by *DB) {
	var fed Place
	var feed *DB
	country := ""
	for _, db := range t {
		if db.t.Flags()&flagGeofeed == 0 {
			q, _ := db.Lookup(a)
			if q.Precision > p.Precision {
				p, by = q, db
			}
			if country == "" {
				country = q.Country
			}
		} else if q, _ := db.Lookup(a); q.Precision > fed.Precision {
			fed, feed = q, db
		}
	}
	if p.Country == "" {
		p.Country = country
	}
	if feed != nil && (by == nil || fed.Country != p.Country) {
		return fed, feed
	}
	return p, by
}
