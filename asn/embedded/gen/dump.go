package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/asn"
)

// license is the licence of the table; package embedded states its terms.
const license = "CC BY-SA 4.0"

// A network is a network of the dump and the number of its AS.
type network struct {
	prefix netip.Prefix
	number uint32
}

// A dump is the part of a location database that is made into a table.
type dump struct {
	vendor, license string
	date            time.Time
	names           map[uint32]string // by AS number
	networks        []network         // those that have an AS
}

// parse reads the output of "location dump": a header of comments, then blocks of attributes,
// separated by blank lines. A block is an AS or a network,
//
//	aut-num:                 AS64496
//	name:                    Example
//
//	net:                     192.0.2.0/24
//	country:                 DE
//	aut-num:                 64496
//
// and a network without aut-num has only a country. Such networks are ignored. That does not
// affect an AS around them: the database repeats it at each network inside.
func parse(r io.Reader) (*dump, error) {
	d := &dump{names: make(map[uint32]string)}
	s := bufio.NewScanner(r)
	var number uint32       // of the AS whose block this is
	var prefix netip.Prefix // of the network whose block this is
	line := 0
	for s.Scan() {
		line++
		text := s.Text()
		if comment, ok := strings.CutPrefix(text, "#"); ok {
			if err := d.comment(comment); err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
			continue
		}
		if strings.TrimSpace(text) == "" {
			number, prefix = 0, netip.Prefix{}
			continue
		}
		key, value, ok := strings.Cut(text, ":")
		value = strings.TrimSpace(value)
		if !ok || value == "" {
			return nil, fmt.Errorf("line %d: expected an attribute and its value, found %.60q", line, text)
		}
		var err error
		switch key {
		case "net":
			prefix, err = netip.ParsePrefix(value)
		case "aut-num":
			var n uint64
			n, err = strconv.ParseUint(strings.TrimPrefix(value, "AS"), 10, 32)
			if prefix.IsValid() {
				d.networks = append(d.networks, network{prefix, uint32(n)})
			} else {
				number = uint32(n)
			}
		case "name":
			if number == 0 {
				err = errors.New("a name, but of no AS")
			}
			d.names[number] = value
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", line+1, err)
	}
	return d, nil
}

func (d *dump) comment(text string) error {
	key, value, _ := strings.Cut(text, ":")
	value = strings.TrimSpace(value)
	switch strings.TrimSpace(key) {
	case "Generated":
		date, err := time.Parse(time.RFC1123, value)
		if err != nil {
			return err
		}
		d.date = date.UTC()
	case "Vendor":
		d.vendor = value
	case "License":
		d.license = value
	}
	return nil
}

// check returns an error for a dump that cannot be the whole database, or whose terms are not
// those that package embedded states.
func (d *dump) check() error {
	const (
		minNames = 80_000
		minV4    = 800_000
		minV6    = 150_000
	)
	v4, v6 := 0, 0
	for _, n := range d.networks {
		if n.prefix.Addr().Is4() {
			v4++
		} else {
			v6++
		}
	}
	switch {
	case d.date.Year() < 2020:
		return fmt.Errorf("date of the database is %v: expected one after 2020", d.date)
	case d.vendor != "IPFire Project" || d.license != license:
		return fmt.Errorf("database of %q under %q: expected one of the IPFire Project under %q, or change what package embedded says of both",
			d.vendor, d.license, license)
	case len(d.names) < minNames:
		return fmt.Errorf("%d names: expected at least %d", len(d.names), minNames)
	case v4 < minV4 || v6 < minV6:
		return fmt.Errorf("%d IPv4 and %d IPv6 networks with an AS: expected at least %d and %d", v4, v6, minV4, minV6)
	}
	return nil
}

// table makes the table of a dump.
func (d *dump) table() (*asn.DB, error) {
	info := asn.Info{Name: d.vendor + " location database (" + d.license + ")", Date: d.date}
	return asn.New(info, func(yield func(asn.Range, asn.AS) bool) {
		for _, n := range d.networks {
			if !yield(asn.RangeOf(n.prefix), asn.AS{Number: n.number, Org: d.names[n.number]}) {
				return
			}
		}
	})
}
