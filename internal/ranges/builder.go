package ranges

import (
	"fmt"
	"net/netip"
)

// A Range is the addresses from First to Last, both included and both of the same family.
type Range struct {
	First, Last netip.Addr
}

// Of returns the addresses of a network; zero if p is invalid.
func Of(p netip.Prefix) Range {
	if !p.IsValid() {
		return Range{}
	}
	p = p.Masked()
	return Range{p.Addr(), Last(p)}
}

// A Builder collects rows in any order, and Resolve makes ranges of them. The zero Builder is
// empty.
type Builder struct {
	rows4 []Row[V4]
	rows6 []Row[V6]
}

// Add adds a row. IPv4-mapped IPv6 addresses count as IPv4, zones are ignored. It fails if r is
// not a range of one family, or if there are Max rows already.
func (b *Builder) Add(r Range, id uint32) error {
	if r.First.Is4In6() && r.Last.Is4In6() {
		r.First, r.Last = r.First.Unmap(), r.Last.Unmap()
	}
	both4 := r.First.Is4() && r.Last.Is4()
	switch {
	case !both4 && !(r.First.Is6() && r.Last.Is6()):
		return fmt.Errorf("%v to %v is not a range of addresses", r.First, r.Last)
	case r.Last.WithZone("").Less(r.First.WithZone("")):
		return fmt.Errorf("last address %v is before first %v", r.Last, r.First)
	case both4:
		return b.Add4(Key4(r.First), Key4(r.Last), id)
	}
	return b.Add6(Key6(r.First), Key6(r.Last), id)
}

// Add4 is Add for IPv4 addresses in ascending order.
func (b *Builder) Add4(first, last V4, id uint32) error {
	if b.Len() >= Max {
		return ErrTooMany
	}
	b.rows4 = append(b.rows4, Row[V4]{First: first, Last: last, ID: id})
	return nil
}

// Add6 is Add of IPv6 addresses in the right order.
func (b *Builder) Add6(first, last V6, id uint32) error {
	if b.Len() >= Max {
		return ErrTooMany
	}
	b.rows6 = append(b.rows6, Row[V6]{First: first, Last: last, ID: id})
	return nil
}

// Len returns how many rows there are.
func (b *Builder) Len() int { return len(b.rows4) + len(b.rows6) }

// Reserve4 reserves room for n more IPv4 rows.
func (b *Builder) Reserve4(n int) {
	// Make does not clear the new room before it is used; slices.Grow would, and nothing
	// can interrupt that.
	b.rows4 = append(make([]Row[V4], 0, len(b.rows4)+n), b.rows4...)
}

// Resolve returns the ranges that remain; see the function Resolve.
func (b *Builder) Resolve() ([]Start[V4], []Start[V6]) {
	return Resolve(b.rows4), Resolve(b.rows6)
}
