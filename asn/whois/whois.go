// Package whois reports on addresses and AS numbers: who holds them, where they are and who
// announces them. It answers from files, and asks no server.
//
//	files := whois.Files{Data: folder, Cache: cacheFolder, Places: geoembedded.DB(), Networks: asnembedded.DB()}
//	sources, err := files.Open(func(warning string) { log.Print(warning) })
//	if err != nil {
//		return err
//	}
//	defer sources.Close()
//	report, err := sources.Ask("192.0.2.1")
//	report.WriteText(os.Stdout)
package whois

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/ranges"
)

// Sources are the tables and files that reports are made from. Any may be missing; reports then
// say which file would help. The zero Sources have only special ranges. They are safe for
// concurrent use while no field changes.
type Sources struct {
	Delegations *asn.Delegations
	Orgs        *asn.Orgs
	Networks    []*asn.DB // the first that knows an address counts
	AutNums     *asn.AutNums
	Places      geoip.Tables
	// NAT64 are the prefixes of translators, besides the well-known one, whose addresses stand
	// for IPv4 ones.
	NAT64 ranges.NAT64
}

// Close closes the files of AutNums. Reports then fail to read them.
func (s *Sources) Close() error {
	if s.AutNums == nil {
		return nil
	}
	return s.AutNums.Close()
}

// A Report describes an address or an AS number. Unknown parts are zero.
type Report struct {
	Addr    netip.Addr // invalid if the report is on an AS number
	Special string     // the result of asn.Special or asn.SpecialAS

	Delegation  asn.Delegation
	Org         asn.Org       // of the holder, by one of ASNs
	ASNs        []asn.ASRange // all that the holder has; read only
	ByOrigin    bool          // Org and ASNs are those of the holder of AS, since the delegation names none
	Place       geoip.Place
	PlaceSource asn.Info   // of Place; zero if that is unknown
	AS          asn.AS     // the AS that announces the address, or the AS of the question
	ASSource    asn.Info   // of AS
	AutNum      asn.AutNum // of AS, or else of the first of ASNs that has one
	Missing     [6]string  // for each unknown part the reason, and which file would help
	asnsSource  asn.Info
	countryBy   asn.Info   // of Place.Country
	inner       netip.Addr // Addr, or the IPv4 address that it stands for
}

// IsZero reports whether the report is empty, as when Ask returns an error for its question.
func (r *Report) IsZero() bool { return !r.Addr.IsValid() && r.AS.Number == 0 && r.Special == "" }

// The parts of a report, in the order in which they are written.
const (
	partDelegation = iota
	partOrg
	partASNs
	partPlace
	partAS
	partAutNum
)

var parts = [6]struct{ title, key string }{
	{"Delegation", "delegation"},
	{"Organisation", "org"},
	{"AS numbers", "asns"},
	{"Place", "place"},
	{"Announced by", "asn"},
	{"aut-num", "aut_num"},
}

// wanted names the files that have each part.
var wanted = [6]string{
	"the registries' delegated-*-extended files",
	"CAIDA's as-org2info.txt",
	"the registries' delegated-*-extended files",
	"a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz",
	"a table of AS numbers such as GeoLite2-ASN.mmdb or ip2asn-combined.tsv.gz",
	"a registry's database such as ripe.db.aut-num.gz",
}

// notOpen and notFound are the reasons in Missing, made once since many reports need them.
var notOpen, notFound = func() (open, found [6]string) {
	for i, f := range wanted {
		open[i] = "no file for it is open (one of: " + f + ")"
		found[i] = "not in the open files (one of: " + f + ")"
	}
	return open, found
}()

// Ask reports on an address, or on an AS number with AS before it, such as AS64496.
func (s *Sources) Ask(question string) (Report, error) {
	if len(question) > 2 && strings.EqualFold(question[:2], "AS") {
		number, err := asn.ParseAS(question)
		if err != nil {
			return Report{}, err
		}
		return s.ReportAS(number)
	}
	addr, err := netip.ParseAddr(question)
	if err != nil {
		return Report{}, fmt.Errorf("whois: expected an address such as 192.0.2.1 or 2001:db8::1, or AS64496, found %q", question[:min(len(question), 60)])
	}
	return s.Report(addr)
}

// Report reports on an address. IPv4-mapped IPv6 addresses count as IPv4. It fails if a table
// was damaged while in use, or if AutNums cannot be read. All other parts of the report are
// then valid.
func (s *Sources) Report(addr netip.Addr) (Report, error) {
	addr = addr.Unmap().WithZone("")
	r := Report{Addr: addr, Special: asn.Special(addr), inner: s.NAT64.Inner(addr)}
	if r.inner != addr && r.Special == "" {
		r.Special = "IPv4 translated to IPv6 by this network"
	}
	if s.Delegations != nil {
		r.Delegation, _ = s.Delegations.Lookup(r.inner)
	}
	err := errors.Join(s.network(&r), s.place(&r), s.holder(&r))
	s.missing(&r)
	return r, err
}

// network sets the AS that announces the address. If a table was damaged while in use it does
// not try the next, which may be older.
func (s *Sources) network(r *Report) error {
	if !asn.Global(r.inner) {
		return nil
	}
	for _, db := range s.Networks {
		var ok bool
		if r.AS, ok = db.Lookup(r.inner); ok {
			r.ASSource = db.Info()
			s.name(&r.AS)
			return nil
		}
		if err := db.Err(); err != nil {
			return err
		}
	}
	return nil
}

// name gives an AS whose table has no names the one that another table has.
func (s *Sources) name(a *asn.AS) {
	for _, db := range s.Networks {
		if a.Org != "" {
			return
		}
		named, _ := db.LookupAS(a.Number)
		a.Org = named.Org
	}
}

// place sets the place of the address. It fails if a table was damaged while in use, for then
// another one may have answered.
func (s *Sources) place(r *Report) error {
	if !asn.Global(r.inner) {
		return nil
	}
	place, by := s.Places.Lookup(r.inner)
	for _, db := range s.Places {
		if err := db.Err(); err != nil {
			return err
		}
	}
	if by != nil {
		r.Place, r.PlaceSource = place, infoOf(by)
		r.countryBy = r.PlaceSource
		if own, _ := by.Lookup(r.inner); own.Country != place.Country {
			for _, db := range s.Places {
				if q, _ := db.Lookup(r.inner); q.Country == place.Country {
					r.countryBy = infoOf(db)
					break
				}
			}
		}
	}
	return nil
}

func infoOf(db *geoip.DB) asn.Info {
	info := db.Info()
	return asn.Info{Name: info.Name, Date: info.Date, Ranges: info.Ranges}
}

// ReportAS reports on an AS number, as Report does on an address.
func (s *Sources) ReportAS(number uint32) (Report, error) {
	r := Report{Special: asn.SpecialAS(number), AS: asn.AS{Number: number}}
	if s.Delegations != nil {
		r.Delegation, _ = s.Delegations.LookupAS(number)
	}
	for _, db := range s.Networks {
		if as, ok := db.LookupAS(number); ok {
			r.AS, r.ASSource = as, db.Info()
			break
		}
	}
	err := s.holder(&r)
	s.missing(&r)
	return r, err
}

// holder sets the parts that depend on the delegation and the AS.
func (s *Sources) holder(r *Report) error {
	s.numbers(r)
	if s.Orgs != nil {
		// The AS that announces the address is first, if the holder has it.
		for n := range each(r.ASNs, r.AS.Number) {
			var ok bool
			if r.Org, ok = s.Orgs.Lookup(n); ok {
				break
			}
		}
	}
	if s.AutNums == nil {
		return nil
	}
	var ok bool
	var err error
	if r.AS.Number != 0 {
		r.AutNum, ok, err = s.AutNums.Lookup(r.AS.Number)
	}
	for n := range each(r.ASNs, 0) {
		if ok || err != nil {
			break
		}
		r.AutNum, ok, err = s.AutNums.Lookup(n)
	}
	return err
}

// numbers sets the AS numbers of the holder.
func (s *Sources) numbers(r *Report) {
	if r.Delegation.Held() {
		// A holder may have no numbers.
		r.ASNs = s.Delegations.Holdings(r.Delegation.Registry, r.Delegation.OpaqueID)
	}
	if len(r.ASNs) > 0 {
		r.asnsSource = r.Delegation.Source
		return
	}
	if r.AS.Number == 0 || r.Delegation.Registry != "" && !r.Delegation.Held() {
		return
	}
	r.ByOrigin = r.Addr.IsValid()
	r.ASNs, r.asnsSource = []asn.ASRange{{First: r.AS.Number, Last: r.AS.Number}}, r.ASSource
	if s.Delegations != nil {
		d, ok := s.Delegations.LookupAS(r.AS.Number)
		if all := s.Delegations.Holdings(d.Registry, d.OpaqueID); ok && d.Held() && len(all) > 0 {
			r.ASNs, r.asnsSource = all, d.Source
		}
	}
}

// maxNumbers bounds the search among all numbers of one holder.
const maxNumbers = 100

// each yields at most maxNumbers numbers of ascending ranges. If first is one of them it comes
// before all others.
func each(ranges []asn.ASRange, first uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		i, ok := slices.BinarySearchFunc(ranges, first, func(r asn.ASRange, n uint32) int { return cmp.Compare(r.First, n) })
		if !ok {
			i--
		}
		if i >= 0 && first <= ranges[i].Last && !yield(first) {
			return
		}
		left := maxNumbers
		for _, r := range ranges {
			for n := uint64(r.First); n <= uint64(r.Last); n++ {
				if left--; left < 0 || !yield(uint32(n)) {
					return
				}
			}
		}
	}
}

// missing sets the reasons for unknown parts.
func (s *Sources) missing(r *Report) {
	known, held := r.Delegation.Registry != "", r.Delegation.Held()
	noFile := [6]bool{s.Delegations == nil, s.Orgs == nil, s.Delegations == nil, len(s.Places) == 0, len(s.Networks) == 0, s.AutNums == nil}
	for i := range r.Missing {
		if r.source(i) != (asn.Info{}) || i == partPlace && !r.Addr.IsValid() {
			continue
		}
		switch {
		case noFile[i]:
			r.Missing[i] = notOpen[i]
		case known && !held && (i == partOrg || i == partASNs):
			r.Missing[i] = "none, since the block is " + r.Delegation.Status
		case i == partOrg && len(r.ASNs) == 0, i == partASNs, i == partAutNum && len(r.ASNs) == 0 && r.AS.Number == 0:
			r.Missing[i] = "unknown, since neither a holder nor an AS number is known"
		default:
			r.Missing[i] = notFound[i]
		}
	}
}

// source returns the source of a part, zero if the part is unknown.
func (r *Report) source(part int) asn.Info {
	switch part {
	case partDelegation:
		return r.Delegation.Source
	case partOrg:
		return r.Org.Source
	case partASNs:
		return r.asnsSource
	case partPlace:
		return r.PlaceSource
	case partAS:
		return r.ASSource
	}
	return r.AutNum.Source
}

// country returns the country of the delegation, or else of the place.
func (r *Report) country() (string, asn.Info) {
	if r.Delegation.Country != "" {
		return r.Delegation.Country, r.Delegation.Source
	}
	if r.Place.Country != "" {
		return r.Place.Country, cmp.Or(r.countryBy, r.PlaceSource)
	}
	return "", asn.Info{}
}

// subject returns the address or AS number.
func (r *Report) subject() string {
	if r.Addr.IsValid() {
		return r.Addr.String()
	}
	return asn.ASRange{First: r.AS.Number, Last: r.AS.Number}.String()
}
