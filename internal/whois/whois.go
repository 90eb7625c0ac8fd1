// Package whois finds and opens the files from which package asn answers, and the
// embedded tables beside them, for all programs in one way.
package whois

import (
	"net/netip"
	"os"
	"path/filepath"

	"github.com/connmapgo/connmap/asn"
	asnembedded "github.com/connmapgo/connmap/asn/embedded"
	"github.com/connmapgo/connmap/geoip"
	geoembedded "github.com/connmapgo/connmap/geoip/embedded"
)

// Sources are the files to open. What no field names is looked for in Data.
type Sources struct {
	Data  string // folder; it may be missing
	Cache string // folder for what takes long to read
	Geo   string // file of places
	Orgs  string // file of organisations
	// Files of the AS numbers of addresses, of delegations and of aut-num records.
	ASN, RIR, AutNum []string
	NoAutNums        bool // leave those records out
}

// Open opens the files. One that is named must be good; one that was only found is
// left out with a warning if it is not. The caller must close AutNums of the result,
// if it is not nil.
func (o *Sources) Open(warn func(string)) (*asn.Whois, error) {
	w := &asn.Whois{}
	found := o.files(warn)
	// try opens the named files, else those found.
	try := func(named, found []string, open func(name string) error) error {
		for _, name := range named {
			if err := open(name); err != nil {
				return err
			}
		}
		if len(named) > 0 {
			return nil
		}
		for _, name := range found {
			if err := open(name); err != nil {
				leaveOut(warn, err)
			}
		}
		return nil
	}
	one := func(name string) []string {
		if name == "" {
			return nil
		}
		return []string{name}
	}

	var places []geoTable
	err := try(one(o.Geo), found[asn.Unknown], func(name string) error {
		if len(places) > 0 {
			return nil
		}
		db, err := geoip.OpenCached(o.Cache, nil, name)
		if db == nil {
			return err
		}
		places = append(places, geoTable{db, asn.Info{Name: filepath.Base(name), Date: db.Info().Date}})
		return nil
	})
	if err != nil {
		return nil, err
	}
	embedded := geoembedded.DB()
	places = append(places, geoTable{embedded, asn.Info{Name: "embedded countries", Date: embedded.Info().Date}})
	w.Place = func(addr netip.Addr) (asn.Place, error) { return place(places, addr) }

	err = try(o.ASN, found[asn.TableFile], func(name string) error {
		if len(o.ASN) == 0 && covers(w.ASNs) {
			return nil
		}
		db, err := asn.Open(name)
		if err == nil {
			w.ASNs = append(w.ASNs, db)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	w.ASNs = append(w.ASNs, asnembedded.DB())

	err = try(one(o.Orgs), found[asn.OrgFile], func(name string) error {
		if w.Orgs != nil {
			return nil
		}
		orgs, err := asn.OpenOrgs(name)
		if err == nil {
			w.Orgs = orgs
		}
		return err
	})
	if err != nil {
		return nil, err
	}

	// All together, since the newest of them counts, but a damaged one does no harm.
	var good []string
	rir := o.RIR
	if len(rir) == 0 {
		rir = found[asn.DelegationFile]
	}
	if len(rir) > 0 {
		w.Delegations, err = asn.OpenDelegations(rir...)
		if err != nil && len(o.RIR) == 0 {
			err = try(nil, rir, func(name string) error {
				_, err := asn.OpenDelegations(name)
				if err == nil {
					good = append(good, name)
				}
				return err
			})
			if len(good) > 0 {
				w.Delegations, err = asn.OpenDelegations(good...)
			}
		}
		if err != nil {
			return nil, err
		}
		if w.Delegations != nil {
			for _, warning := range w.Delegations.Warnings() {
				warn(warning)
			}
		}
	}

	if o.NoAutNums {
		return w, nil
	}
	good = nil
	cache := o.Cache
	if os.MkdirAll(cache, 0o755) != nil {
		cache = "" // then it takes longer
	}
	err = try(o.AutNum, found[asn.AutNumFile], func(name string) error {
		a, err := asn.OpenAutNums(cache, name)
		if err == nil {
			good = append(good, name)
			err = a.Close()
		}
		return err
	})
	if err == nil && len(good) > 0 {
		w.AutNums, err = asn.OpenAutNums(cache, good...)
	}
	return w, err
}

// covers reports whether tables know addresses of both families.
func covers(tables []*asn.DB) bool {
	v4, v6 := false, false
	for _, db := range tables {
		for r := range db.All() {
			if v4 = v4 || r.First.Is4(); r.First.Is6() {
				v6 = true
				break
			}
		}
	}
	return v4 && v6
}

// A geoTable is a table of places and where it comes from.
type geoTable struct {
	db   *geoip.DB
	info asn.Info
}

// place asks the tables in turn. One that was damaged while it was in use may know less than
// the next, which is not asked then.
func place(tables []geoTable, addr netip.Addr) (asn.Place, error) {
	for _, t := range tables {
		if p, ok := t.db.Lookup(addr); ok {
			return asn.Place{Lat: p.Lat, Lon: p.Lon, Country: p.Country, City: p.City, Precision: p.Precision.String(), Source: t.info}, nil
		}
		if err := t.db.Err(); err != nil {
			return asn.Place{}, err
		}
	}
	return asn.Place{}, nil
}
