package asn

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
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
func (r ASRange) String() string {
	b := strconv.AppendUint([]byte("AS"), uint64(r.First), 10)
	if r.First != r.Last {
		b = strconv.AppendUint(append(b, "-AS"...), uint64(r.Last), 10)
	}
	return string(b)
}

// A Delegation is a record of a regional Internet registry: who answers for a
// block of addresses or AS numbers. It is a comparable value; the zero
// Delegation is none.
type Delegation struct {
	Registry string    // afrinic, apnic, arin, iana, lacnic or ripencc
	Country  string    // ISO 3166-1 alpha-2 code, or such as EU or AP; empty if unknown
	Block    Range     // the addresses; zero if ASNs is not
	ASNs     ASRange   // the AS numbers; zero if Block is not
	Date     time.Time // of the delegation; zero: unknown
	Status   string    // allocated, assigned, available or reserved
	OpaqueID string    // same for all that a holder has from Registry; empty if unknown
	Source   Info
}

// Held reports whether somebody holds the block. What is available or reserved
// nobody does, whatever else the record says.
func (d Delegation) Held() bool { return d.Status == "allocated" || d.Status == "assigned" }

// Delegations is the records of regional Internet registries. It is immutable
// and safe for concurrent use. The zero Delegations is empty.
type Delegations struct {
	v4, asns spans[uint32]
	v6       spans[uint64] // by the first 64 bits: registries split no further
	tags     []tag
	holders  []holder
	held     []ASRange // those of one holder after those of the one before
	warnings []string
}

// A tag is what many records share.
type tag struct {
	source   int // among the sources of the reader
	registry string
	country  string
	status   string
	info     Info // of the source, once all of it is read
}

// A holder is who has the same id at the same registry.
type holder struct {
	registry, id string
	first, end   int32 // of its AS numbers in held
}

// OpenDelegations reads files of the regional Internet registries, in the form
// named delegated-extended: those of single registries, the merged one of
// the NRO, or a sorted mixture of them; plain or compressed with gzip or xz. Where
// records overlap, the smallest holds; of equal ones that of the newest file, and of these
// the last.
//
// Lines that are no records are left out, and of a file that was cut off what is
// there is used: Warnings tells of both. It is an error if a file cannot be read,
// or has no record at all, or more than 536,870,912 bytes of content, 16,777,216 records
// or 100 registries.
//
// The form: https://www.apnic.net/about-apnic/corporate-documents/documents/resource-guidelines/rir-statistics-exchange-format/
// with an opaque id and, from the NRO, more columns behind. A source's date is
// that of its header.
func OpenDelegations(names ...string) (*Delegations, error) {
	dr := newDelegationReader()
	for _, name := range names {
		f, err := openFile(name, maxDelegations)
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

// Lookup reports the smallest block that holds an address. IPv4-mapped IPv6
// addresses are looked up as IPv4, zones do not matter. It is false if no record does.
func (d *Delegations) Lookup(addr netip.Addr) (Delegation, bool) {
	addr = addr.Unmap()
	switch {
	case addr.Is4():
		b := addr.As4()
		s, ok := d.v4.find(binary.BigEndian.Uint32(b[:]))
		if !ok {
			return Delegation{}, false
		}
		r := delegation(d, s)
		r.Block = Range{First: addr4(s.first), Last: addr4(s.last)}
		return r, true
	case addr.Is6():
		b := addr.As16()
		s, ok := d.v6.find(binary.BigEndian.Uint64(b[:]))
		if !ok {
			return Delegation{}, false
		}
		r := delegation(d, s)
		r.Block = Range{First: addr6(s.first, 0), Last: addr6(s.last, 1<<64-1)}
		return r, true
	}
	return Delegation{}, false
}

// LookupAS reports the smallest block that holds an AS number. It is false if no
// record does.
func (d *Delegations) LookupAS(number uint32) (Delegation, bool) {
	s, ok := d.asns.find(number)
	if !ok {
		return Delegation{}, false
	}
	r := delegation(d, s)
	r.ASNs = ASRange{s.first, s.last}
	return r, true
}

// Holdings reports all AS numbers that one holder has from a registry,
// ascending. There are none if opaqueID is empty.
func (d *Delegations) Holdings(registry, opaqueID string) iter.Seq[ASRange] {
	i, ok := slices.BinarySearchFunc(d.holders, holder{registry: registry, id: opaqueID}, holder.compare)
	if !ok || opaqueID == "" {
		return slices.Values([]ASRange(nil))
	}
	h := d.holders[i]
	return slices.Values(d.held[h.first:h.end])
}

// Warnings reports what is wrong with the files, one sentence for each kind of
// trouble in each of them. They do not say the package's name.
func (d *Delegations) Warnings() []string { return d.warnings }

func (a holder) compare(b holder) int {
	return cmp.Or(strings.Compare(a.registry, b.registry), strings.Compare(a.id, b.id))
}

func delegation[K uint32 | uint64](d *Delegations, s span[K]) Delegation {
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

func addr4(a uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], a)
	return netip.AddrFrom4(b)
}

func addr6(hi, lo uint64) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b)
}

// A delegationReader collects the records of all files.
type delegationReader struct {
	d       *Delegations
	sources []source
	tags    map[tag]uint32
	holders map[holder]uint32
	words   map[string]string // one copy of each

	v4, asns []span[uint32]
	v6       []span[uint64]
}

// A source is one registry in one file.
type source struct {
	registry string
	info     Info
	promised map[string]int // records by type, as the summary says
	found    map[string]int
}

func newDelegationReader() *delegationReader {
	return &delegationReader{
		d:       &Delegations{},
		tags:    make(map[tag]uint32),
		holders: make(map[holder]uint32),
		words:   make(map[string]string),
	}
}

// read reads a file. Its errors do not say the package's name.
func (dr *delegationReader) read(r io.Reader, name string, info Info) error {
	lr := newLineReader(r)
	n, bad := 0, 0
	var firstBad string
	var file []*source // few: the registries of this file
	number := len(dr.sources)
	sourceOf := func(registry string) (*source, int, error) {
		for i, s := range file {
			if s.registry == registry {
				return s, number + i, nil
			}
		}
		if len(file) == maxRegistries {
			return nil, 0, errManyRegistries
		}
		s := &source{registry: registry, info: info, promised: make(map[string]int), found: make(map[string]int)}
		file = append(file, s)
		return s, number + len(file) - 1, nil
	}
	cut := ""
	for {
		line, err := lr.next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			cut = fmt.Sprintf("compressed data end in line %d", lr.number)
			break
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", lr.number, err)
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		// Headers may stand anywhere: a sorted mixture has them where they fall.
		var f [8][]byte
		fields := split(f[:], line)
		switch {
		case fields >= 6 && isNumber(f[0]):
			s, _, err := sourceOf(dr.word(f[1]))
			if err != nil {
				return fmt.Errorf("line %d: %w", lr.number, err)
			}
			if end, err := time.Parse("20060102", string(f[5])); err == nil {
				s.info.Date = end
			}
			continue
		case fields >= 6 && string(f[1]) == "*":
			s, _, err := sourceOf(dr.word(f[0]))
			if err != nil {
				return fmt.Errorf("line %d: %w", lr.number, err)
			}
			if n, err := strconv.Atoi(string(f[4])); err == nil && slices.Contains(recordKinds, string(f[2])) {
				s.promised[string(f[2])] += n
			}
			continue
		}
		if !lr.ended && isCut(file) {
			cut = fmt.Sprintf("line %d is not whole", lr.number)
			break
		}
		if err := dr.record(f[:fields], sourceOf); errors.Is(err, errManyRegistries) || errors.Is(err, ranges.ErrTooMany) {
			return fmt.Errorf("line %d: %w", lr.number, err)
		} else if err != nil {
			if bad++; bad == 1 {
				firstBad = fmt.Sprintf("line %d: %v", lr.number, err)
			}
			continue
		}
		n++
	}
	if n == 0 {
		if bad > 0 {
			return fmt.Errorf("has no delegations: %s", firstBad)
		}
		return errors.New("has no delegations: the file is empty, cut off or of another kind")
	}
	warn := func(format string, args ...any) {
		dr.d.warnings = append(dr.d.warnings, name+": "+fmt.Sprintf(format, args...))
	}
	if bad > 0 {
		warn("%d lines left out, the first being %s", bad, firstBad)
	}
	if cut != "" {
		warn("file is cut off: %s", cut)
	}
	for _, s := range file {
		for _, kind := range recordKinds {
			if found, want := s.found[kind], s.promised[kind]; found < want {
				warn("file is cut off or incomplete: %d of %d %s records of %s", found, want, kind, s.registry)
			}
		}
		dr.sources = append(dr.sources, *s)
	}
	return nil
}

// maxRegistries is more than the world has.
const maxRegistries = 100

var (
	errManyRegistries = fmt.Errorf("more than %d registries: not a file of delegations", maxRegistries)
	recordKinds       = []string{"asn", "ipv4", "ipv6"}
)

// isCut reports whether records are missing that summaries promise.
func isCut(file []*source) bool {
	for _, s := range file {
		for kind, want := range s.promised {
			if s.found[kind]+1 < want {
				return true
			}
		}
	}
	return false
}

// record adds one record: registry, country, type, start, value, date, status
// and maybe an opaque id.
func (dr *delegationReader) record(f [][]byte, sourceOf func(string) (*source, int, error)) error {
	if len(f) < 7 {
		return fmt.Errorf("want 7 or more columns separated by |, found %d", len(f))
	}
	if len(f[0]) == 0 || len(f[6]) == 0 {
		return errors.New("want a registry and a status")
	}
	var (
		first, last uint64
		kind        = string(f[2])
	)
	value, err := strconv.ParseUint(string(f[4]), 10, 64)
	if err != nil || value == 0 {
		return fmt.Errorf("want a count or prefix length, found %q", clip(f[4]))
	}
	switch kind {
	case "asn":
		first, err = strconv.ParseUint(string(f[3]), 10, 32)
		if err != nil {
			return fmt.Errorf("want an AS number, found %q", clip(f[3]))
		}
	case "ipv4", "ipv6":
		addr, err := netip.ParseAddr(string(f[3]))
		if err != nil || addr.Is4() != (kind == "ipv4") || addr.Is4In6() || addr.Zone() != "" {
			return fmt.Errorf("want an address of %s, found %q", kind, clip(f[3]))
		}
		if addr.Is4() {
			b := addr.As4()
			first = uint64(binary.BigEndian.Uint32(b[:]))
			break
		}
		// Unlike the others', the value of ipv6 is the length of a prefix.
		if value > 64 {
			return fmt.Errorf("want a prefix length from 1 to 64, found %d", value)
		}
		b := addr.As16()
		first = binary.BigEndian.Uint64(b[:]) &^ (1<<(64-value) - 1)
		last = first | (1<<(64-value) - 1)
	default:
		return fmt.Errorf("want asn, ipv4 or ipv6, found %q", clip(f[2]))
	}
	if kind != "ipv6" {
		if value > 1<<32-first {
			return fmt.Errorf("%d from %s on end beyond the last", value, f[3])
		}
		last = first + value - 1
	}
	if len(dr.v4)+len(dr.v6)+len(dr.asns) >= ranges.Max {
		return ranges.ErrTooMany
	}
	s, number, err := sourceOf(dr.word(f[0]))
	if err != nil {
		return err
	}
	s.found[kind]++
	t := tag{source: number, registry: s.registry, status: dr.word(f[6])}
	if c := string(f[1]); len(c) == 2 && c != "ZZ" {
		t.country = dr.word(f[1])
	}
	id, ok := dr.tags[t]
	if !ok {
		id = uint32(len(dr.d.tags))
		dr.tags[t] = id
		dr.d.tags = append(dr.d.tags, t)
	}
	var opaque []byte
	if len(f) > 7 {
		opaque = f[7]
	}
	who, ok := dr.holders[holder{registry: s.registry, id: string(opaque)}]
	if !ok {
		h := holder{registry: s.registry, id: string(opaque)}
		who = uint32(len(dr.d.holders))
		dr.holders[h] = who
		dr.d.holders = append(dr.d.holders, h)
	}
	switch date := date(f[5]); kind {
	case "asn":
		dr.asns = append(dr.asns, span[uint32]{uint32(first), uint32(last), date, id, who})
	case "ipv4":
		dr.v4 = append(dr.v4, span[uint32]{uint32(first), uint32(last), date, id, who})
	case "ipv6":
		dr.v6 = append(dr.v6, span[uint64]{first, last, date, id, who})
	}
	return nil
}

// delegations returns all that was read.
func (dr *delegationReader) delegations() *Delegations {
	d := dr.d
	for i := range d.tags {
		d.tags[i].info = dr.sources[d.tags[i].source].info
	}

	// Holders are searched by name, so records follow them to their places.
	order := make([]uint32, len(d.holders))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(i, j uint32) int { return d.holders[i].compare(d.holders[j]) })
	places := make([]uint32, len(order))
	sorted := make([]holder, len(order))
	for i, old := range order {
		places[old] = uint32(i)
		sorted[i] = d.holders[old]
	}
	d.holders = sorted
	place(dr.v4, places)
	place(dr.v6, places)
	place(dr.asns, places)

	newer := func(a, b uint32) int { return d.tags[a].info.Date.Compare(d.tags[b].info.Date) }
	d.v4 = newSpans(dr.v4, newer)
	d.v6 = newSpans(dr.v6, newer)
	d.asns = newSpans(dr.asns, newer)
	d.hold()
	return d
}

// hold fills held from what find tells: a record that another one hides does
// not count.
func (d *Delegations) hold() {
	type holding struct {
		holder uint32
		ASRange
	}
	var all []holding
	for i, o := range d.asns.owners {
		if o < 0 {
			continue
		}
		s := d.asns.all[o]
		if d.holders[s.holder].id == "" || !(Delegation{Status: d.tags[s.tag].status}).Held() {
			continue
		}
		// Every range is followed by another one or by the end of all numbers.
		last := uint32(1<<32 - 1)
		if i+1 < len(d.asns.starts) {
			last = d.asns.starts[i+1] - 1
		}
		all = append(all, holding{s.holder, ASRange{d.asns.starts[i], last}})
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

func place[K uint32 | uint64](list []span[K], places []uint32) {
	for i := range list {
		list[i].holder = places[list[i].holder]
	}
}

// word returns the one copy of a word, so that records share it.
func (dr *delegationReader) word(b []byte) string {
	s, ok := dr.words[string(b)]
	if !ok {
		s = string(b)
		dr.words[s] = s
	}
	return s
}

// split fills f with the fields between bars and returns how many there are;
// what follows the last of f is left out.
func split(f [][]byte, line []byte) int {
	for i := range f {
		field, rest, more := bytes.Cut(line, []byte("|"))
		f[i] = field
		if !more {
			return i + 1
		}
		line = rest
	}
	return len(f)
}

// isNumber reports whether b is a version such as 2 or 2.3.
func isNumber(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return len(b) > 0
}

// date returns YYYYMMDD as a number, 0 if it is none.
func date(b []byte) uint32 {
	n, err := strconv.ParseUint(string(b), 10, 32)
	if month, day := n/100%100, n%100; err != nil || len(b) != 8 || month < 1 || month > 12 || day < 1 || day > 31 {
		return 0
	}
	return uint32(n)
}

// clip shortens what an error shows.
func clip(b []byte) []byte { return b[:min(len(b), 60)] }

// A lineReader reads lines.
type lineReader struct {
	r      *bufio.Reader
	number int  // of the last line
	ended  bool // whether the last line had an end
	long   []byte
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// maxLine is longer than any line that makes sense.
const maxLine = 1 << 20

// next returns the next line without its end, valid until the next call. Of a
// line longer than maxLine it returns the beginning.
func (lr *lineReader) next() ([]byte, error) {
	lr.number++
	lr.long = lr.long[:0]
	for {
		line, err := lr.r.ReadSlice('\n')
		if err == nil || err == io.EOF && len(line)+len(lr.long) > 0 {
			lr.ended = err == nil
			if len(lr.long) > 0 {
				line = append(lr.long, line[:min(len(line), maxLine)]...)
			}
			line = bytes.TrimSuffix(line, []byte("\n"))
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		if err != bufio.ErrBufferFull {
			return nil, err
		}
		if len(lr.long) < maxLine {
			lr.long = append(lr.long, line...)
		}
	}
}
