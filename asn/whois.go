package asn

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/terminal"
)

// A Whois answers from files what the whois servers of the registries answer. It
// asks no server. Any of its sources may be missing: reports then say which file
// would help. The zero Whois knows nothing but special ranges. It is safe for
// concurrent use as long as no field changes.
type Whois struct {
	Delegations *Delegations
	Orgs        *Orgs
	ASNs        []*DB // the first that knows an address counts
	AutNums     *AutNums
	// Place returns where an address is; the zero Place if that is not known. It fails if a
	// table was damaged while in use. Place may be nil.
	Place func(netip.Addr) (Place, error)
}

// A Place is where an address is.
type Place struct {
	Lat, Lon  float64 // degrees, north and east positive
	Country   string  // ISO 3166-1 alpha-2 code, empty if unknown
	City      string  // empty if unknown
	Precision string  // such as country or city
	Source    Info
}

// A Report is what is known of an address or an AS number. What is unknown is zero.
type Report struct {
	Addr    netip.Addr // invalid if the report is of an AS number
	Special string     // what Special or SpecialAS says

	Delegation Delegation
	Org        Org       // of the holder, by one of ASNs
	ASNs       []ASRange // all that the holder has
	ByOrigin   bool      // whether Org and ASNs are of the holder of AS, since the delegation does not tell
	Place      Place     // its Source is zero if unknown
	AS         AS        // that announces the address, or that was asked for
	ASSource   Info      // of AS
	AutNum     AutNum    // of AS, or else of the first of ASNs that has one
	Missing    [6]string // for each part that is unknown why, and what would tell
	asnsSource Info
}

// IsZero reports whether the report is of nothing, as with an error of Ask about
// the question.
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

// files is what would tell each part.
var files = [6]string{
	"the registries' delegated-*-extended files",
	"CAIDA's as-org2info.txt",
	"the registries' delegated-*-extended files",
	"a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz",
	"a table of AS numbers such as GeoLite2-ASN.mmdb or ip2asn-combined.tsv.gz",
	"a registry's database such as ripe.db.aut-num.gz",
}

// notOpen and notFound say what is missing; a bulk of reports needs them often.
var notOpen, notFound = func() (open, found [6]string) {
	for i, f := range files {
		open[i] = "no file is open that tells (wanted: " + f + ")"
		found[i] = "not in the files that are open (wanted: " + f + ")"
	}
	return open, found
}()

// Ask reports on an address, or on an AS number if the question is one with AS
// before it, such as AS64496.
func (w *Whois) Ask(question string) (Report, error) {
	if len(question) > 2 && strings.EqualFold(question[:2], "AS") {
		number, err := parseAS(question)
		if err != nil {
			return Report{}, fmt.Errorf("asn: %w", err)
		}
		return w.ReportAS(number)
	}
	addr, err := netip.ParseAddr(question)
	if err != nil {
		return Report{}, fmt.Errorf("asn: want an address such as 192.0.2.1 or 2001:db8::1, or AS64496, found %q", clip([]byte(question)))
	}
	return w.Report(addr)
}

// Report reports on an address. IPv4-mapped IPv6 addresses are taken as IPv4. On an
// error, which only Place, tables of ASNs that somebody has damaged and the files of AutNums can
// cause, the rest of the report holds.
func (w *Whois) Report(addr netip.Addr) (Report, error) {
	addr = addr.Unmap().WithZone("")
	r := Report{Addr: addr, Special: Special(addr)}
	if w.Delegations != nil {
		r.Delegation, _ = w.Delegations.Lookup(addr)
	}
	var err error
	for _, db := range w.ASNs {
		if as, ok := db.Lookup(addr); ok {
			r.AS, r.ASSource = as, db.Info()
			break
		}
		// One that was damaged while in use may know less than the next.
		if err = db.Err(); err != nil {
			break
		}
	}
	if w.Place != nil {
		var e error
		r.Place, e = w.Place(addr)
		err = errors.Join(err, e)
	}
	return r, errors.Join(err, w.holder(&r))
}

// ReportAS reports on an AS number, as Report does on an address.
func (w *Whois) ReportAS(number uint32) (Report, error) {
	r := Report{Special: SpecialAS(number), AS: AS{Number: number}}
	if w.Delegations != nil {
		r.Delegation, _ = w.Delegations.LookupAS(number)
	}
	for _, db := range w.ASNs {
		if name, ok := db.nameOf(number); ok {
			r.AS.Org, r.ASSource = name, db.Info()
			break
		}
	}
	err := w.holder(&r)
	return r, err
}

// nameOf finds the name of an AS number that announces something, by bisection:
// records are sorted by number.
func (db *DB) nameOf(number uint32) (string, bool) {
	id := uint32(1 + sort.Search(max(0, db.t.Records()-1), func(i int) bool {
		s, ok := db.t.Record(uint32(i + 1))
		return !ok || ranges.U32(s, 0) >= number
	}))
	as, ok := as(&db.t, id)
	return as.Org, ok && as.Number == number
}

// holder fills the parts that follow from the delegation and the AS.
func (w *Whois) holder(r *Report) error {
	known := r.Delegation.Registry != ""
	held := r.Delegation.Held()
	if held {
		// A holder may have no numbers.
		r.ASNs = w.Delegations.holdings(r.Delegation.Registry, r.Delegation.OpaqueID)
		r.asnsSource = r.Delegation.Source
	}
	if len(r.ASNs) == 0 {
		r.asnsSource = Info{}
	}
	if len(r.ASNs) == 0 && (held || !known) && r.AS.Number != 0 {
		r.ByOrigin = r.Addr.IsValid()
		r.ASNs, r.asnsSource = []ASRange{{r.AS.Number, r.AS.Number}}, r.ASSource
		if w.Delegations != nil {
			d, ok := w.Delegations.LookupAS(r.AS.Number)
			if all := w.Delegations.holdings(d.Registry, d.OpaqueID); ok && d.Held() && len(all) > 0 {
				r.ASNs, r.asnsSource = all, d.Source
			}
		}
	}
	if w.Orgs != nil {
		// What the holder announces itself tells most.
		for n := range numbers(r.ASNs, r.AS.Number) {
			var ok bool
			if r.Org, ok = w.Orgs.Lookup(n); ok {
				break
			}
		}
	}
	var err error
	if w.AutNums != nil {
		var ok bool
		if r.AS.Number != 0 {
			r.AutNum, ok, err = w.AutNums.Lookup(r.AS.Number)
		}
		for n := range numbers(r.ASNs, 0) {
			if ok || err != nil {
				break
			}
			r.AutNum, ok, err = w.AutNums.Lookup(n)
		}
	}
	w.missing(r, known, held)
	return err
}

// maxNumbers bounds the search among all numbers of one holder.
const maxNumbers = 100

// numbers reports the numbers of ascending ranges, first before all others if it is one of
// them, but not more than maxNumbers.
func numbers(ranges []ASRange, first uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		i, ok := slices.BinarySearchFunc(ranges, first, func(r ASRange, n uint32) int { return cmp.Compare(r.First, n) })
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

// missing says why parts are unknown.
func (w *Whois) missing(r *Report, known, held bool) {
	noFile := [6]bool{w.Delegations == nil, w.Orgs == nil, w.Delegations == nil, w.Place == nil, len(w.ASNs) == 0, w.AutNums == nil}
	for i := range r.Missing {
		if r.source(i) != (Info{}) || i == partPlace && !r.Addr.IsValid() {
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
func (r *Report) source(part int) Info {
	switch part {
	case partDelegation:
		return r.Delegation.Source
	case partOrg:
		return r.Org.Source
	case partASNs:
		return r.asnsSource
	case partPlace:
		return r.Place.Source
	case partAS:
		return r.ASSource
	}
	return r.AutNum.Source
}

// country is that of the delegation, or else where the address is.
func (r *Report) country() (string, Info) {
	if r.Delegation.Country != "" {
		return r.Delegation.Country, r.Delegation.Source
	}
	if r.Place.Country != "" {
		return r.Place.Country, r.Place.Source
	}
	return "", Info{}
}

// subject is the address or AS number.
func (r *Report) subject() string {
	if r.Addr.IsValid() {
		return r.Addr.String()
	}
	return ASRange{r.AS.Number, r.AS.Number}.String()
}

// WriteText writes the report for people: a line of each part with its source, the
// record of the AS last.
func (r Report) WriteText(out io.Writer) error {
	var b strings.Builder
	b.WriteString(r.subject())
	if r.Special != "" {
		b.WriteString(": " + r.Special)
	}
	b.WriteByte('\n')
	for i, p := range parts {
		if i == partPlace && !r.Addr.IsValid() {
			continue
		}
		title := p.title
		if i == partAS && !r.Addr.IsValid() {
			title = "AS name"
		}
		source := r.source(i)
		if source == (Info{}) {
			// Nobody wonders who holds 10.0.0.1.
			if r.Special == "" {
				fmt.Fprintf(&b, "  %d %-13s %s\n", i+1, title, r.Missing[i])
			}
			continue
		}
		text := terminal.Mask(r.text(i), false)
		if i == partAutNum {
			text = "as follows"
		}
		fmt.Fprintf(&b, "  %d %-13s %s  [%s]\n", i+1, title, text, terminal.Mask(source.text(), false))
	}
	if r.AutNum.Text != "" {
		b.WriteString("\n" + terminal.Mask(r.AutNum.Text, true))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (i Info) text() string {
	if i.Date.IsZero() {
		return i.Name + ", date unknown"
	}
	return i.Name + ", " + i.Date.Format(time.DateOnly)
}

// block is that of the delegation.
func (d Delegation) block() string {
	switch {
	case d.Block.First.IsValid():
		var b [2*39 + 1]byte
		return string(d.Block.Last.AppendTo(append(d.Block.First.AppendTo(b[:0]), '-')))
	case d.Registry != "":
		return d.ASNs.String()
	}
	return ""
}

func (r *Report) text(part int) string {
	byOrigin := ""
	if r.ByOrigin {
		byOrigin = " (of the AS that announces the address)"
	}
	switch part {
	case partDelegation:
		d := r.Delegation
		s := d.block() + " " + d.Status
		if !d.Date.IsZero() {
			s += " " + d.Date.Format(time.DateOnly)
		}
		s += ", " + d.Registry
		if d.Country != "" {
			s += ", " + d.Country
		}
		if d.OpaqueID != "" {
			s += ", holder " + d.OpaqueID
		}
		return s
	case partOrg:
		s := r.Org.Name
		if r.Org.Country != "" {
			s += ", " + r.Org.Country
		}
		if r.Org.ID != "" {
			s += ", " + r.Org.ID
		}
		return s + byOrigin
	case partASNs:
		return strings.Join(asnTexts(r.ASNs), " ") + byOrigin
	case partPlace:
		p := r.Place
		s := strconv.FormatFloat(p.Lat, 'f', 4, 64) + " " + strconv.FormatFloat(p.Lon, 'f', 4, 64)
		if p.City != "" {
			s += ", " + p.City
		}
		if p.Country != "" {
			s += ", " + p.Country
		}
		return s + ", to the " + p.Precision
	case partAS:
		s := ASRange{r.AS.Number, r.AS.Number}.String()
		if r.AS.Org != "" {
			s += " " + r.AS.Org
		}
		return s
	}
	return ""
}

func asnTexts(ranges []ASRange) []string {
	list := make([]string, len(ranges))
	for i, r := range ranges {
		list[i] = r.String()
	}
	return list
}

// WriteLine writes the report as a line of eight fields with tabs between, of which
// the unknown ones are empty: what was asked for, AS number, name of the AS, country,
// registry, block, status and organisation. Of a special address the last is what Special says.
func (r Report) WriteLine(out io.Writer) error {
	country, _ := r.country()
	org := r.Org.Name
	if org == "" {
		org = r.Special
	}
	b := append(make([]byte, 0, 256), r.subject()...)
	b = append(b, '\t')
	if r.AS.Number != 0 {
		b = strconv.AppendUint(b, uint64(r.AS.Number), 10)
	}
	for _, s := range [...]string{r.AS.Org, country, r.Delegation.Registry, r.Delegation.block(), r.Delegation.Status, org} {
		b = append(append(b, '\t'), terminal.Mask(s, false)...)
	}
	_, err := out.Write(append(b, '\n'))
	return err
}

// MarshalJSON returns the report as an object. What is unknown is left out and stands
// in missing with the reason; sources has the file and date of each part. What
// could command a terminal is escaped.
func (r Report) MarshalJSON() ([]byte, error) {
	// By hand, since a bulk of reports is to take seconds: BenchmarkReport.
	b := append(make([]byte, 0, 1024), '{')
	text := func(key, value string) {
		if value != "" {
			b = appendString(appendKey(b, key), value)
		}
	}
	if r.Addr.IsValid() {
		text("address", r.Addr.String())
	}
	text("special", r.Special)
	country, from := r.country()
	text("country", country)
	text("registry", r.Delegation.Registry)
	text("block", r.Delegation.block())
	text("status", r.Delegation.Status)
	if d := r.Delegation.Date; !d.IsZero() {
		b = appendDate(appendKey(b, "date"), d)
	}
	text("opaque_id", r.Delegation.OpaqueID)
	text("org", r.Org.Name)
	text("org_id", r.Org.ID)
	if len(r.ASNs) > 0 {
		b = append(appendKey(b, "asns"), '[')
		for i, a := range r.ASNs {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(a.append(append(b, '"')), '"')
		}
		b = append(b, ']')
	}
	if r.ByOrigin {
		b = append(appendKey(b, "asns_by_origin"), "true"...)
	}
	if r.Place.Source != (Info{}) {
		b = strconv.AppendFloat(appendKey(b, "lat"), r.Place.Lat, 'f', -1, 64)
		b = strconv.AppendFloat(appendKey(b, "lon"), r.Place.Lon, 'f', -1, 64)
	}
	text("city", r.Place.City)
	text("place_precision", r.Place.Precision)
	if r.AS.Number != 0 {
		b = strconv.AppendUint(appendKey(b, "asn"), uint64(r.AS.Number), 10)
	}
	text("asn_org", r.AS.Org)
	text("aut_num", r.AutNum.Text)

	b = append(appendKey(b, "sources"), '{')
	source := func(key string, i Info) {
		if i == (Info{}) {
			return
		}
		b = appendString(append(appendKey(b, key), `{"file":`...), i.Name)
		if !i.Date.IsZero() {
			b = appendDate(append(b, `,"date":`...), i.Date)
		}
		b = append(b, '}')
	}
	source("country", from)
	for i, p := range parts {
		source(p.key, r.source(i))
	}
	b = append(b, '}')
	missing := false
	for i, p := range parts {
		if r.Missing[i] == "" || r.Special != "" {
			continue
		}
		if !missing {
			b = append(appendKey(b, "missing"), '{')
			missing = true
		}
		b = appendString(appendKey(b, p.key), r.Missing[i])
	}
	if missing {
		b = append(b, '}')
	}
	return append(b, '}'), nil
}

// appendKey begins a member of an object.
func appendKey(b []byte, key string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(append(b, '"'), key...)
	return append(b, `":`...)
}

func appendDate(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(b, '"'), time.DateOnly), '"')
}

// appendString appends a string of JSON.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	if isPlain(s) {
		return append(append(b, s...), '"')
	}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		case terminal.Harmful(r):
			for _, half := range utf16.AppendRune(nil, r) {
				b = fmt.Appendf(b, `\u%04x`, half)
			}
		case r < utf8.RuneSelf:
			b = append(b, byte(r))
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// isPlain reports whether a string of JSON needs no escapes.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
