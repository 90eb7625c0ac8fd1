package geoip

import (
	"cmp"
	"net/netip"
	"slices"
)

// Tables are looked up together: the most exact place counts, of equally exact ones that of the
// first table. A city within a radius is less exact than one within half of it. If it names no country, that of the first table that does counts. But the
// holder of an address knows best in which country it is: what a geofeed says counts where the
// other tables name another country. The zero Tables are empty. Lookup is safe for concurrent use.
type Tables []*DB

// Sort puts the newest tables first, by Info.Date. Behind the others come those whose files hold
// AS numbers too, since they may have the country of the AS and not of the address, and last
// those of iptoasn, which do.
func (t Tables) Sort() {
	slices.SortStableFunc(t, func(a, b *DB) int {
		return cmp.Or(cmp.Compare(a.t.Flags()&flagHolders, b.t.Flags()&flagHolders), cmp.Compare(a.t.Flags()&flagNetworks, b.t.Flags()&flagNetworks),
			b.Info().Date.Compare(a.Info().Date))
	})
}

// WithDefault returns sorted tables and one that fills their gaps. Only those of iptoasn come behind it.
func (t Tables) WithDefault(db *DB) Tables {
	at := slices.IndexFunc(t, func(db *DB) bool { return db.t.Flags()&flagHolders != 0 })
	if at < 0 {
		at = len(t)
	}
	return slices.Insert(t, at, db)
}

// Lookup returns where a is and the table that says so; nil: no table knows it.
func (t Tables) Lookup(a netip.Addr) (p Place, by *DB) {
	var fed Place
	var feed *DB
	country := ""
	for _, db := range t {
		if db.t.Flags()&flagGeofeed == 0 {
			q, _ := db.Lookup(a)
			if q.Precision > p.Precision || q.Precision == p.Precision && q.Radius > 0 && p.Radius >= 2*q.Radius {
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
