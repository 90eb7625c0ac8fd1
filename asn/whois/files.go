package whois

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
)

// Files are the files to open. Empty fields default to files found in Data.
type Files struct {
	Data  string // folder; it may be missing
	Cache string // folder for compiled forms of files that take long to read
	Orgs  string // file of organisations
	// Files of places, of the AS numbers of addresses, of delegations and of aut-num records.
	Geo, ASN, RIR, AutNum []string
	// NAT64 are prefixes such as 2001:db8:64::/96 by which translators stand for IPv4 addresses.
	NAT64     []string
	NoAutNums bool // do not open aut-num records
	// Tables that are looked up last, such as the embedded ones; nil: none.
	Places   *geoip.DB
	Networks *asn.DB
}

// Open opens the files. A bad file is an error if it is named; if it was found in Data, it is
// left out with a warning. Close the Sources to close the files.
func (f *Files) Open(warn func(string)) (*Sources, error) {
	s := &Sources{}
	for _, p := range f.NAT64 {
		prefix, err := ranges.ParseNAT64(p)
		if err != nil {
			return nil, fmt.Errorf("whois: %w", err)
		}
		s.NAT64 = append(s.NAT64, prefix)
	}
	o := &opener{f, Find(f.Data, warn), warn}
	for _, part := range []func(*Sources) error{o.places, o.networks, o.orgs, o.delegations, o.autNums} {
		if err := part(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// An opener opens the files of one kind after the other.
type opener struct {
	*Files
	found Found
	warn  func(string)
}

// open opens the named files. If there are none, it opens the found ones, best first, until
// there are enough, and leaves out bad ones.
func open[T any](o *opener, named, found []string, enough func([]T) bool, open func(name string) (T, error)) (all []T, err error) {
	for _, name := range named {
		t, err := open(name)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	if len(named) > 0 {
		return all, nil
	}
	for _, name := range found {
		if enough(all) {
			break
		}
		t, err := open(name)
		if err != nil {
			leaveOut(o.warn, err)
			continue
		}
		all = append(all, t)
	}
	return all, nil
}

// one returns a list of a name, empty if the name is empty.
func one(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// The conditions for enough found files of a kind.
func afterOne[T any](all []T) bool { return len(all) > 0 }
func never[T any](all []T) bool    { return false }

func (o *opener) places(s *Sources) (err error) {
	s.Places, err = open(o, o.Geo, o.found.Places, never, func(name string) (*geoip.DB, error) {
		db, err := geoip.OpenCached(o.Cache, nil, name)
		if db != nil {
			err = nil // the table was not cached, which only costs time
			o.remark(name, db.Remarks())
		}
		if errors.Is(err, layout.ErrNoPlaces) && slices.Contains(o.found.Networks, name) {
			err = nil // it is a table of networks
		}
		return db, err
	})
	s.Places = slices.DeleteFunc(s.Places, func(db *geoip.DB) bool { return db == nil })
	s.Places.Sort()
	switch {
	case o.Places == nil:
	case len(o.Geo) > 0:
		s.Places = append(s.Places, o.Places) // what is named comes first, whatever it is
	default:
		s.Places = s.Places.WithDefault(o.Places)
	}
	return err
}

func (o *opener) networks(s *Sources) (err error) {
	s.Networks, err = open(o, o.ASN, o.found.Networks, never, func(name string) (*asn.DB, error) {
		db, err := asn.OpenCached(o.Cache, nil, name)
		if db != nil {
			err = nil
			o.remark(name, db.Remarks())
		}
		return db, err
	})
	slices.SortStableFunc(s.Networks, func(a, b *asn.DB) int { return b.Info().Date.Compare(a.Info().Date) })
	if o.Networks != nil {
		s.Networks = append(s.Networks, o.Networks)
	}
	return err
}

func (o *opener) orgs(s *Sources) error {
	all, err := open(o, one(o.Orgs), o.found.Orgs, afterOne, asn.OpenOrgs)
	if len(all) > 0 {
		s.Orgs = all[0]
		o.remark(s.Orgs.Info().Name, s.Orgs.Remarks())
	}
	return err
}

// delegations opens all files together, since the newest wins.
func (o *opener) delegations(s *Sources) (err error) {
	names := o.RIR
	if len(names) == 0 {
		names = o.found.Delegations
	}
	if len(names) == 0 {
		return nil
	}
	s.Delegations, err = asn.OpenDelegations(names...)
	if err != nil && len(o.RIR) == 0 {
		var good []string
		good, err = open(o, nil, o.found.Delegations, never, func(name string) (string, error) {
			_, err := asn.OpenDelegations(name)
			return name, err
		})
		if len(good) > 0 {
			s.Delegations, err = asn.OpenDelegations(good...)
		}
	}
	if err == nil && s.Delegations != nil {
		for _, warning := range s.Delegations.Warnings() {
			o.warn(warning)
		}
	}
	return err
}

// autNums opens those files that are good.
func (o *opener) autNums(s *Sources) error {
	if o.NoAutNums {
		return nil
	}
	cache := o.Cache
	if os.MkdirAll(cache, 0o755) != nil {
		cache = "" // without a cache it takes longer
	}
	good, err := open(o, o.AutNum, o.found.AutNums, never, func(name string) (string, error) {
		a, err := asn.OpenAutNums(cache, name)
		if err == nil {
			err = a.Close()
		}
		return name, err
	})
	if err == nil && len(good) > 0 {
		s.AutNums, err = asn.OpenAutNums(cache, good...)
	}
	if err == nil && s.AutNums != nil {
		for _, warning := range s.AutNums.Warnings() {
			o.warn(warning)
		}
	}
	return err
}

// remark warns of what users should know of a file.
func (o *opener) remark(name string, remarks []string) {
	for _, r := range remarks {
		o.warn(name + ": " + r)
	}
}
