package whois

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/internal/terminal"
)

// MarshalJSON returns the report as an object. Unknown parts are absent, and missing has the
// reasons. sources has the file and date of each part. Control characters, which could command
// a terminal, are escaped.
func (r Report) MarshalJSON() ([]byte, error) {
	// It does not use encoding/json: many reports must take seconds; see BenchmarkReport.
	b := append(make([]byte, 0, 1024), '{')
	if r.Addr.IsValid() {
		b = appendText(b, "address", r.Addr.String())
	}
	b = appendText(b, "special", r.Special)
	country, from := r.country()
	b = appendText(b, "country", country)
	b = r.appendHolder(b)
	if r.PlaceSource != (asn.Info{}) {
		b = strconv.AppendFloat(appendKey(b, "lat"), r.Place.Lat, 'f', -1, 64)
		b = strconv.AppendFloat(appendKey(b, "lon"), r.Place.Lon, 'f', -1, 64)
		b = appendText(b, "place_country", r.Place.Country)
		b = appendText(b, "city", r.Place.City)
		b = appendText(b, "place_precision", r.Place.Precision.String())
		if r.Place.Radius > 0 {
			b = strconv.AppendUint(appendKey(b, "place_radius_km"), uint64(r.Place.Radius), 10)
		}
	}
	if r.AS.Number != 0 {
		b = strconv.AppendUint(appendKey(b, "asn"), uint64(r.AS.Number), 10)
	}
	b = appendText(b, "asn_org", r.AS.Org)
	b = appendText(b, "aut_num", r.AutNum.Text)
	b = append(appendKey(b, "sources"), '{')
	b = appendSource(b, "country", from)
	for i, p := range parts {
		b = appendSource(b, p.key, r.source(i))
	}
	b = r.appendMissing(append(b, '}'))
	return append(b, '}'), nil
}

// appendHolder appends the delegation, the organisation and its AS numbers.
func (r *Report) appendHolder(b []byte) []byte {
	d := r.Delegation
	b = appendText(b, "registry", d.Registry)
	b = appendText(b, "block", block(d))
	b = appendText(b, "status", d.Status)
	if !d.Date.IsZero() {
		b = appendDate(appendKey(b, "date"), d.Date)
	}
	b = appendText(b, "opaque_id", d.OpaqueID)
	b = appendText(b, "org", r.Org.Name)
	b = appendText(b, "org_id", r.Org.ID)
	if len(r.ASNs) > 0 {
		b = append(appendKey(b, "asns"), '[')
		for i, a := range r.ASNs {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(a.AppendTo(append(b, '"')), '"')
		}
		b = append(b, ']')
	}
	if r.ByOrigin {
		b = append(appendKey(b, "asns_by_origin"), "true"...)
	}
	return b
}

// appendMissing appends the reasons for unknown parts.
func (r *Report) appendMissing(b []byte) []byte {
	missing := false
	for i, p := range parts {
		if r.Missing[i] == "" || r.Special != "" {
			continue
		}
		if !missing {
			b = append(appendKey(b, "missing"), '{')
			missing = true
		}
		b = appendText(b, p.key, r.Missing[i])
	}
	if missing {
		b = append(b, '}')
	}
	return b
}

// appendSource appends a member with the source of a part, unless it is unknown.
func appendSource(b []byte, key string, i asn.Info) []byte {
	if i == (asn.Info{}) {
		return b
	}
	b = appendString(append(appendKey(b, key), `{"file":`...), i.Name)
	if !i.Date.IsZero() {
		b = appendDate(append(b, `,"date":`...), i.Date)
	}
	return append(b, '}')
}

// appendText appends a member with a string, unless it is empty.
func appendText(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(appendKey(b, key), value)
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
