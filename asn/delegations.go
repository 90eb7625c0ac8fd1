package asn

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/internal/ranges"
)

// An ASRange is the AS numbers from First to Last, both included. It is a
// comparable value; the zero ASRange is none, since nobody holds AS0.
type ASRange struct {
	First, Last uint32
}

// String returns AS64496, or AS64496-AS64511.
func (r ASRange) String() string { return string(r.AppendTo(nil)) }

// AppendTo appends what String returns to b.
func (r ASRange) AppendTo(b []byte) []byte {
	b = strconv.AppendUint(append(b, "AS"...), uint64(r.First), 10)
	if r.First != r.Last {
		b = strconv.AppendUint(append(b, "-AS"...), uint64(r.Last), 10)
	}
	return b
}

// A Delegation is a record of a regional Internet registry on a block of addresses or AS
// numbers: its status, and who holds it. It is a comparable value; the zero Delegation is none.
type Delegation struct {
	Registry string    // afrinic, apnic, arin, iana, lacnic or ripencc
	Country  string    // ISO 3166-1 alpha-2 code, or such as EU or AP; empty if unknown
	Block    Range     // the addresses; zero if ASNs is set
	ASNs     ASRange   // the AS numbers; zero if Block is set
	Date     time.Time // of the delegation; zero: unknown
	Status   string    // allocated, assigned, available or reserved
	OpaqueID string    // the same for all that one holder has from Registry; empty if unknown
	Source   Info
}

// Held reports whether somebody holds the block: it is neither available nor reserved.
func (d Delegation) Held() bool { return d.Status == "allocated" || d.Status == "assigned" }

// Delegations are the records of regional Internet registries. They are immutable and safe for
// concurrent use. The zero Delegations are empty.
type Delegations struct {
	v4, asns spans[ranges.V4]
	v6       spans[ranges.V6]
	tags     []tag
	holders  []holder
	held     []ASRange // grouped by holder
	warnings []string
}

// A tag has the fields that many records share.
type tag struct {
	source   int // index in the reader's sources
	registry string
	country  string
	status   string
	info     Info // of the source; set when all of it is read
}

// A holder is an opaque ID at a registry.
type holder struct {
	registry, id string
	first, end   int32 // of its AS numbers in held
}

// OpenDelegations reads files of the regional Internet registries in the form delegated-extended,
// plain or compressed with gzip, bzip2, xz or zstd. They may be those of single registries, the merged file of
// the NRO, or a sorted mixture. Of a registry only the newest file counts, by the dates in their
// headers. Where records overlap the smallest wins, then that of the newest file, then the last.
//
// Lines that are not records are ignored. Of a truncated file, the records before are used.
// Warnings reports both. It is an error if a file cannot be read, has no record, or has
// more than 536,870,912 bytes of content, 16,777,216 records or 100 registries.
//
// The form: https://www.apnic.net/about-apnic/corporate-documents/documents/resource-guidelines/rir-statistics-exchange-format/
// with an opaque ID and, from the NRO, more columns. The date of a source is the one in its
// header.
func OpenDelegations(names ...string) (*Delegations, error) {
	dr := newDelegationReader()
	for _, name := range names {
		f, err := openRegistry(name, maxDelegations)
		if err != nil {
			return nil, fmt.Errorf("asn: %w", err)
		}
		err = dr.read(f, name, f.info)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("asn: %s: %w", name, err)
		}
	}
	return dr.delegations(), nil
}

// Lookup returns the smallest block that holds an address, and whether there is one.
// IPv4-mapped IPv6 addresses are looked up as IPv4; zones are ignored.
func (d *Delegations) Lookup(addr netip.Addr) (Delegation, bool) {
	addr = addr.Unmap()
	switch {
	case addr.Is4():
		if s, ok := d.v4.find(ranges.Key4(addr)); ok {
			r := delegation(d, s)
			r.Block = Range{First: s.first.Addr(), Last: s.last.Addr()}
			return r, true
		}
	case addr.Is6():
		if s, ok := d.v6.find(ranges.Key6(addr)); ok {
			r := delegation(d, s)
			r.Block = Range{First: s.first.Addr(), Last: s.last.Addr()}
			return r, true
		}
	}
	return Delegation{}, false
}

// LookupAS returns the smallest block that holds an AS number, and whether there is one.
func (d *Delegations) LookupAS(number uint32) (Delegation, bool) {
	s, ok := d.asns.find(ranges.V4(number))
	if !ok {
		return Delegation{}, false
	}
	r := delegation(d, s)
	r.ASNs = ASRange{uint32(s.first), uint32(s.last)}
	return r, true
}

// Holdings returns all AS numbers that a holder has from a registry, ascending. There are none
// if opaqueID is empty. Callers share the elements, and must not change them.
func (d *Delegations) Holdings(registry, opaqueID string) []ASRange {
	i, ok := slices.BinarySearchFunc(d.holders, holder{registry: registry, id: opaqueID}, holder.compare)
	if !ok || opaqueID == "" {
		return nil
	}
	h := d.holders[i]
	return d.held[h.first:h.end:h.end]
}

// Warnings returns a sentence for each kind of fault in each file, without the package's name.
func (d *Delegations) Warnings() []string { return d.warnings }

func (a holder) compare(b holder) int {
	return cmp.Or(strings.Compare(a.registry, b.registry), strings.Compare(a.id, b.id))
}

func delegation[K ranges.Key[K]](d *Delegations, s span[K]) Delegation {
	t := d.tags[s.tag]
	r := Delegation{
		Registry: t.registry, Country: t.country, Status: t.status, Source: t.info,
		OpaqueID: d.holders[s.holder].id,
	}
	if s.date != 0 {
		r.Date = time.Date(int(s.date/10000), time.Month(s.date/100%100), int(s.date%100), 0, 0, 0, 0, time.UTC)
	}
	return r
}

// hold fills held with the AS numbers that have a holder.
func (d *Delegations) hold() {
	type holding struct {
		holder uint32
		ASRange
	}
	var all []holding
	for i, start := range d.asns.starts {
		if start.ID == 0 {
			continue
		}
		s := d.asns.all[start.ID-1]
		if d.holders[s.holder].id == "" || !(Delegation{Status: d.tags[s.tag].status}).Held() {
			continue
		}
		// Every range is followed by another one or by the end of all numbers.
		last := uint32(1<<32 - 1)
		if i+1 < len(d.asns.starts) {
			last = uint32(d.asns.starts[i+1].First - 1)
		}
		all = append(all, holding{s.holder, ASRange{uint32(start.First), last}})
	}
	slices.SortStableFunc(all, func(a, b holding) int { return cmp.Compare(a.holder, b.holder) })
	for i, h := range all {
		if i > 0 && all[i-1].holder == h.holder && d.held[len(d.held)-1].Last+1 == h.First {
			d.held[len(d.held)-1].Last = h.Last
		} else {
			if i == 0 || all[i-1].holder != h.holder {
				d.holders[h.holder].first = int32(len(d.held))
			}
			d.held = append(d.held, h.ASRange)
		}
		d.holders[h.holder].end = int32(len(d.held))
	}
}
