package whois

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/terminal"
)

// WriteText writes the report for people: one line for each part with its source, and the
// aut-num record last.
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
		if source == (asn.Info{}) {
			// The holder of a special address such as 10.0.0.1 is of no interest.
			if r.Special == "" {
				fmt.Fprintf(&b, "  %d %-13s %s\n", i+1, title, r.Missing[i])
			}
			continue
		}
		text := terminal.Mask(r.text(i), false)
		if i == partAutNum {
			text = "as follows"
		}
		from := sourceText(source)
		if i == partPlace && r.Place.Country != "" && cmp.Or(r.countryBy, source) != source {
			from += "; its country: " + sourceText(r.countryBy)
		}
		fmt.Fprintf(&b, "  %d %-13s %s  [%s]\n", i+1, title, text, terminal.Mask(from, false))
	}
	if r.AutNum.Text != "" {
		b.WriteString("\n" + terminal.Mask(r.AutNum.Text, true))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func sourceText(i asn.Info) string {
	if i.Date.IsZero() {
		return i.Name + ", date unknown"
	}
	return i.Name + ", " + i.Date.Format(time.DateOnly)
}

// WriteLine writes the report as a line of eight fields separated by tabs: the question, AS
// number, name of the AS, country, registry, block, status and organisation. Unknown fields
// are empty. For a special address, the last field is the result of asn.Special.
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
	for _, s := range [...]string{r.AS.Org, country, r.Delegation.Registry, block(r.Delegation), r.Delegation.Status, org} {
		b = append(append(b, '\t'), terminal.Mask(s, false)...)
	}
	_, err := out.Write(append(b, '\n'))
	return err
}

// text returns the text of a part for WriteText.
func (r *Report) text(part int) string {
	byOrigin := ""
	if r.ByOrigin {
		byOrigin = " (of the AS that announces the address)"
	}
	switch part {
	case partDelegation:
		d := r.Delegation
		s := block(d) + " " + d.Status
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
		var list []string
		for _, a := range r.ASNs {
			list = append(list, a.String())
		}
		return strings.Join(list, " ") + byOrigin
	case partPlace:
		return placeText(r.Place)
	case partAS:
		return asText(r.AS)
	}
	return ""
}

func placeText(p geoip.Place) string {
	s := strconv.FormatFloat(p.Lat, 'f', 4, 64) + " " + strconv.FormatFloat(p.Lon, 'f', 4, 64)
	if p.City != "" {
		s += ", " + p.City
	}
	if p.Country != "" {
		s += ", " + p.Country
	}
	s += ", " + p.Precision.String() + " level"
	if p.Radius > 0 {
		s += fmt.Sprintf(", within %d km", p.Radius)
	}
	return s
}

func asText(a asn.AS) string {
	s := asn.ASRange{First: a.Number, Last: a.Number}.String()
	if a.Org != "" {
		s += " " + a.Org
	}
	return s
}

// WriteTables writes what each table of places and of AS numbers says of an address, and marks
// what counts for the report.
func (s *Sources) WriteTables(out io.Writer, addr netip.Addr) error {
	r, err := s.Report(addr)
	if err != nil {
		return err
	}
	var b strings.Builder
	line := func(source asn.Info, text string, known, counts bool) {
		switch {
		case !known:
			text = "not in this table"
		case counts:
			text += "  (counts)"
		}
		fmt.Fprintf(&b, "    [%s]  %s\n", terminal.Mask(sourceText(source), false), terminal.Mask(text, false))
	}
	_, by := s.Places.Lookup(r.inner)
	b.WriteString("  Tables of places\n")
	for _, db := range s.Places {
		p, known := db.Lookup(r.inner)
		info := db.Info()
		line(asn.Info{Name: info.Name, Date: info.Date}, placeText(p), known, db == by && r.Place != geoip.Place{})
	}
	b.WriteString("  Tables of AS numbers\n")
	counted := r.AS.Number == 0 // of a special address none counts
	for _, db := range s.Networks {
		a, known := db.Lookup(r.inner)
		line(db.Info(), asText(a), known, known && !counted)
		counted = counted || known
	}
	_, err = io.WriteString(out, b.String())
	return err
}

// block returns the addresses or AS numbers of a delegation.
func block(d asn.Delegation) string {
	switch {
	case d.Block.First.IsValid():
		var b [2*39 + 1]byte
		return string(d.Block.Last.AppendTo(append(d.Block.First.AppendTo(b[:0]), '-')))
	case d.Registry != "":
		return d.ASNs.String()
	}
	return ""
}
