package asn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// A delegationReader collects the records of all files.
type delegationReader struct {
	d       *Delegations
	sources []source
	tags    map[tag]uint32
	holders map[holder]uint32
	words   map[string]string // one copy of each word

	v4, asns []span[ranges.V4]
	v6       []span[ranges.V6]
}

// A source is one registry in one file.
type source struct {
	registry string
	info     Info
	dated    bool           // info has the date of a header
	promised map[string]int // records by type, from the summary
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

// A delegationFile is a file that is being read.
type delegationFile struct {
	*delegationReader
	name       string
	info       Info
	registries []*source // few
	records    int
	bad        int    // lines that were ignored
	firstBad   string // what is wrong with the first bad line
	cut        string // where the file is cut off; empty: it is complete
}

// read reads a file. Its errors do not name the package.
func (dr *delegationReader) read(r io.Reader, name string, info Info) error {
	f := &delegationFile{delegationReader: dr, name: name, info: info}
	lr := newLineReader(r)
	for f.cut == "" {
		line, err := lr.next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			f.cut = fmt.Sprintf("compressed data end in line %d", lr.number)
			break
		}
		if err == nil {
			err = f.line(lr, bytes.TrimSpace(line))
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", lr.number, err)
		}
	}
	if f.records == 0 {
		if f.bad > 0 {
			return fmt.Errorf("has no delegations: %s", f.firstBad)
		}
		return errors.New("has no delegations: the file is empty, cut off or of another kind")
	}
	f.warnings()
	f.setDates()
	for _, s := range f.registries {
		dr.sources = append(dr.sources, *s)
	}
	return nil
}

// line reads a line: a header, a summary or a record.
func (f *delegationFile) line(lr *lineReader, line []byte) error {
	if len(line) == 0 || line[0] == '#' {
		return nil
	}
	// Headers may be anywhere: in a sorted mixture they are among the records.
	var columns [8][]byte
	c := columns[:split(columns[:], line)]
	switch {
	case len(c) >= 6 && isNumber(c[0]):
		s, _, err := f.source(c[1])
		if err != nil {
			return err
		}
		if end, err := time.Parse("20060102", string(c[5])); err == nil && unpack.Plausible(end) {
			s.info.Date, s.dated = end, true
		}
		return nil
	case len(c) >= 6 && string(c[1]) == "*":
		s, _, err := f.source(c[0])
		if err != nil {
			return err
		}
		if n, err := strconv.Atoi(string(c[4])); err == nil && slices.Contains(recordKinds, string(c[2])) {
			s.promised[string(c[2])] += n
		}
		return nil
	}
	if !lr.ended && f.lacksRecords() {
		f.cut = fmt.Sprintf("line %d is not whole", lr.number)
		return nil
	}
	err := errLong
	if !lr.cut {
		err = f.record(c)
	}
	if errors.Is(err, errManyRegistries) || errors.Is(err, ranges.ErrTooMany) {
		return err
	}
	if err != nil {
		if f.bad++; f.bad == 1 {
			f.firstBad = fmt.Sprintf("line %d: %v", lr.number, err)
		}
		return nil
	}
	f.records++
	return nil
}

// source returns a registry of the file, and its index among the sources of all files.
func (f *delegationFile) source(registry []byte) (*source, int, error) {
	for i, s := range f.registries {
		if s.registry == string(registry) {
			return s, len(f.sources) + i, nil
		}
	}
	if len(f.registries) == maxRegistries {
		return nil, 0, errManyRegistries
	}
	s := &source{registry: f.word(registry), info: f.info, promised: make(map[string]int), found: make(map[string]int)}
	f.registries = append(f.registries, s)
	return s, len(f.sources) + len(f.registries) - 1, nil
}

// maxRegistries is more than there are in the world.
const maxRegistries = 100

var (
	errManyRegistries = fmt.Errorf("more than %d registries: not a file of delegations", maxRegistries)
	recordKinds       = []string{"asn", "ipv4", "ipv6"}
)

// lacksRecords reports whether the file has fewer records so far than its summaries promise.
func (f *delegationFile) lacksRecords() bool {
	for _, s := range f.registries {
		for kind, want := range s.promised {
			if f.foundFor(s, kind)+1 < want {
				return true
			}
		}
	}
	return false
}

// merged is what the NRO calls the file into which it merges those of all registries.
const merged = "nro"

// foundFor returns how many records there are of those that a summary promises: that of a merged
// file speaks of all registries.
func (f *delegationFile) foundFor(s *source, kind string) (n int) {
	if s.registry != merged {
		return s.found[kind]
	}
	for _, s := range f.registries {
		n += s.found[kind]
	}
	return n
}

// setDates sets the date of registries that have no header of their own in a merged file.
func (f *delegationFile) setDates() {
	for _, m := range f.registries {
		if m.registry != merged || !m.dated {
			continue
		}
		for _, s := range f.registries {
			if !s.dated {
				s.info.Date, s.dated = m.info.Date, true
			}
		}
	}
}

// warnings adds the warnings on the file.
func (f *delegationFile) warnings() {
	warn := func(format string, args ...any) {
		f.d.warnings = append(f.d.warnings, f.name+": "+fmt.Sprintf(format, args...))
	}
	if f.bad > 0 {
		warn("%d lines ignored, the first being %s", f.bad, f.firstBad)
	}
	if f.cut != "" {
		warn("file is cut off: %s", f.cut)
	}
	for _, s := range f.registries {
		for _, kind := range recordKinds {
			if found, want := f.foundFor(s, kind), s.promised[kind]; found < want {
				warn("file is cut off or incomplete: %d of %d %s records of %s", found, want, kind, s.registry)
			}
		}
	}
}

// record adds one record: registry, country, kind, start, value, date, status and perhaps an
// opaque ID.
func (f *delegationFile) record(c [][]byte) error {
	if len(c) < 7 {
		return fmt.Errorf("expected 7 or more columns separated by |, found %d", len(c))
	}
	if len(c[0]) == 0 || len(c[6]) == 0 {
		return errors.New("expected a registry and a status")
	}
	kind := string(c[2])
	first, last, err := parseBlock(kind, c[3], c[4])
	if err != nil {
		return err
	}
	if len(f.v4)+len(f.v6)+len(f.asns) >= ranges.Max {
		return ranges.ErrTooMany
	}
	s, i, err := f.source(c[0])
	if err != nil {
		return err
	}
	s.found[kind]++
	t := tag{source: i, registry: s.registry, status: f.word(c[6])}
	if code := bytes.ToUpper(c[1]); len(code) == 2 && string(code) != "ZZ" {
		t.country = f.word(code)
	}
	h := holder{registry: s.registry}
	if len(c) > 7 {
		h.id = f.word(c[7])
	}
	about := about{date(c[5]), number(f.tags, &f.d.tags, t), number(f.holders, &f.d.holders, h)}
	switch kind {
	case "asn":
		f.asns = append(f.asns, span[ranges.V4]{ranges.V4(first), ranges.V4(last), about})
	case "ipv4":
		f.v4 = append(f.v4, span[ranges.V4]{ranges.V4(first), ranges.V4(last), about})
	case "ipv6":
		f.v6 = append(f.v6, span[ranges.V6]{ranges.V6{Hi: first}, ranges.V6{Hi: last, Lo: ^uint64(0)}, about})
	}
	return nil
}

// parseBlock returns the first and the last number or address of a record, and for IPv6 their
// first 64 bits: registries delegate no smaller blocks.
func parseBlock(kind string, start, value []byte) (first, last uint64, err error) {
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil || n == 0 {
		return 0, 0, fmt.Errorf("expected a count or prefix length, found %q", clip(value))
	}
	switch kind {
	case "asn":
		first, err = strconv.ParseUint(string(start), 10, 32)
		if err != nil {
			return 0, 0, fmt.Errorf("expected an AS number, found %q", clip(start))
		}
	case "ipv4", "ipv6":
		addr, err := netip.ParseAddr(string(start))
		if err != nil || addr.Is4() != (kind == "ipv4") || addr.Is4In6() || addr.Zone() != "" {
			return 0, 0, fmt.Errorf("expected an address of %s, found %q", kind, clip(start))
		}
		if addr.Is4() {
			first = uint64(ranges.Key4(addr))
			break
		}
		// For ipv6 the value is a prefix length, for the others a count.
		if n > 64 {
			return 0, 0, fmt.Errorf("expected a prefix length from 1 to 64, found %d", n)
		}
		if first = ranges.Key6(addr).Hi &^ (1<<(64-n) - 1); ranges.Key6(addr) != (ranges.V6{Hi: first}) {
			return 0, 0, fmt.Errorf("expected the first address of a network of %d bits, found %q", n, clip(start))
		}
		return first, first | (1<<(64-n) - 1), nil
	default:
		return 0, 0, fmt.Errorf("expected asn, ipv4 or ipv6, found %q", clip([]byte(kind)))
	}
	if n > 1<<32-first {
		return 0, 0, fmt.Errorf("%d from %s on are more than there are", n, start)
	}
	return first, first + n - 1, nil
}

// number returns the index of a value in a list, to which it adds a new value.
func number[T comparable](known map[T]uint32, list *[]T, value T) uint32 {
	i, ok := known[value]
	if !ok {
		i = uint32(len(*list))
		known[value] = i
		*list = append(*list, value)
	}
	return i
}

// delegations returns all records.
func (dr *delegationReader) delegations() *Delegations {
	d := dr.d
	for i := range d.tags {
		d.tags[i].info = dr.sources[d.tags[i].source].info
	}

	// Holders are sorted by name for the search, so the holder indexes of records change.
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

	outdated := dr.outdated()
	dr.v4 = dropOutdated(dr.v4, outdated)
	dr.v6 = dropOutdated(dr.v6, outdated)
	dr.asns = dropOutdated(dr.asns, outdated)
	newer := func(a, b uint32) int { return d.tags[a].info.Date.Compare(d.tags[b].info.Date) }
	d.v4 = newSpans(dr.v4, newer)
	d.v6 = newSpans(dr.v6, newer)
	d.asns = newSpans(dr.asns, newer)
	d.hold()
	return d
}

// outdated reports for each tag whether a newer file has the records of its registry: files have
// all of a registry, so what only an older one has was taken back or divided since.
func (dr *delegationReader) outdated() []bool {
	newest := make(map[string]time.Time)
	for _, s := range dr.sources {
		if s.records() > 0 && s.dated && s.info.Date.After(newest[s.registry]) {
			newest[s.registry] = s.info.Date
		}
	}
	out := make([]bool, len(dr.d.tags))
	for i, t := range dr.d.tags {
		s := dr.sources[t.source]
		out[i] = s.dated && s.info.Date.Before(newest[s.registry])
	}
	return out
}

func (s *source) records() (n int) {
	for _, k := range s.found {
		n += k
	}
	return n
}

func dropOutdated[K ranges.Key[K]](list []span[K], outdated []bool) []span[K] {
	if !slices.Contains(outdated, true) {
		return list
	}
	return slices.DeleteFunc(list, func(s span[K]) bool { return outdated[s.tag] })
}

func place[K ranges.Key[K]](list []span[K], places []uint32) {
	for i := range list {
		list[i].holder = places[list[i].holder]
	}
}

// word returns the one copy of a word, so that records share its memory.
func (dr *delegationReader) word(b []byte) string {
	s, ok := dr.words[string(b)]
	if !ok {
		s = string(b)
		dr.words[s] = s
	}
	return s
}

// date parses YYYYMMDD into a number; 0: it is not a date.
func date(b []byte) uint32 {
	n, err := strconv.ParseUint(string(b), 10, 32)
	if month, day := n/100%100, n%100; err != nil || len(b) != 8 || month < 1 || month > 12 || day < 1 || day > 31 {
		return 0
	}
	day := time.Date(int(n/10000), time.Month(n/100%100), int(n%100), 0, 0, 0, 0, time.UTC)
	if day.Day() != int(n%100) {
		return 0 // such as 20010229
	}
	return uint32(n)
}
