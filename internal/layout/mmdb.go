package layout

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/connmapgo/connmap/internal/mmdb"
	"github.com/connmapgo/connmap/internal/ranges"
)

// mmdbFields are what mmdbFacts looks at.
var mmdbFields = mmdb.Fields{
	"city":         {"names": {"en": nil}},
	"country":      {"iso_code": nil},
	"continent":    nil,
	"country_code": nil, "registered_country": {"iso_code": nil},
	"postal": {"code": nil}, "postal_code": nil, "postcode": nil, "region": nil, "state1": nil, "subdivisions": nil,
	"location": {"latitude": nil, "longitude": nil, "lat": nil, "lng": nil, "lon": nil, "accuracy_radius": nil},
	"latitude": nil, "longitude": nil, "lat": nil, "lng": nil, "lon": nil, "radius": nil,
	"autonomous_system_number": nil, "autonomous_system_organization": nil,
	"asn": nil, "as_number": nil, "as_name": nil, "as_organization": nil, "name": nil,
	"traits": {"autonomous_system_number": nil, "autonomous_system_organization": nil},
}

// cityFields are the names of the city in all languages.
var cityFields = mmdb.Fields{"city": {"names": {"*": nil}}}

// readMMDB passes on the networks of a MaxMind DB file, at most as many as limit says.
func readMMDB(data []byte, sink Sink, limit int64) (Report, error) {
	db, err := mmdb.Open(data)
	if err != nil {
		return Report{}, fmt.Errorf("%w: damaged MaxMind DB: %w", ErrUnknown, err)
	}
	report := Report{Kind: Kind{Name: "MaxMind DB " + db.Type}, Date: db.Built}
	if isOther(db.Type) {
		return report, fmt.Errorf("%w: a %.60q database tells neither places nor AS numbers", ErrUnknown, db.Type)
	}
	ids := make(map[int]uint32)
	bad := make(map[int]bool)
	var firstBad error
	for network, err := range db.Networks() {
		if err != nil {
			return report, fmt.Errorf("damaged MaxMind DB: %w", err)
		}
		id, ok := ids[network.Record]
		if bad[network.Record] {
			report.Skipped++
			continue
		}
		if !ok {
			m, err := db.Record(network.Record, mmdbFields)
			if err != nil {
				return report, fmt.Errorf("damaged MaxMind DB: network %v: %w", network.Prefix, err)
			}
			facts, err := mmdbFacts(m)
			_, continent := m["continent"]
			if err == nil && facts.City == "" && m["city"] != nil {
				if m, err = db.Record(network.Record, cityFields); err == nil {
					facts.City = mmdbCity(m)
				}
			}
			if continent && facts.Country == "" && facts.City == "" && !facts.Region {
				facts.Point = false // it is the middle of the continent
			}
			if err != nil {
				if firstBad == nil {
					firstBad = fmt.Errorf("network %v: %w", network.Prefix, err)
				}
				bad[network.Record] = true
				report.Skipped++
				continue
			}
			if id, err = sink.ID(facts); err != nil {
				return report, fmt.Errorf("network %v: %w", network.Prefix, err)
			}
			report.Kind.Places = report.Kind.Places || facts.Country != "" || facts.Point
			report.Kind.Networks = report.Kind.Networks || facts.AS != 0
			ids[network.Record] = id
		}
		if report.Rows++; report.Rows == limit {
			break
		}
		if id == 0 {
			continue
		}
		if err := sink.Add(ranges.Of(network.Prefix), id); err != nil {
			return report, fmt.Errorf("network %v: %w", network.Prefix, err)
		}
	}
	if report, err = report.finish(firstBad); err != nil {
		return report, err
	}
	if !report.Kind.Places && !report.Kind.Networks {
		return report, fmt.Errorf("%w: no record of this %.60q database has coordinates, a country or an AS number", ErrUnknown, db.Type)
	}
	return report, nil
}

// isOther reports whether a type of database is one about companies, carriers and the like,
// whose records may name countries and AS numbers that are not those of the addresses.
func isOther(kind string) bool {
	kind = strings.ToLower(kind)
	return slices.ContainsFunc([]string{"company", "carrier", "abuse", "privacy", "anonymous", "domain", "rwhois", "connection-type", "ranges"},
		func(word string) bool { return strings.Contains(kind, word) })
}

// mmdbFacts returns what a record says. MaxMind and DB-IP nest their fields, IPinfo and
// others have flat ones and write numbers as text.
//
// If the country of the users is unknown the one where the network is registered has to do.
func mmdbFacts(m map[string]any) (Facts, error) {
	var f Facts
	for _, path := range [][]string{{"country", "iso_code"}, {"country_code"}, {"country"}, {"registered_country", "iso_code"}} {
		if code, ok := parseCountry([]byte(textAt(m, path...))); ok && f.Country == "" {
			f.Country = code
		}
	}
	f.City = mmdbCity(m)
	for _, path := range [][]string{{"postal", "code"}, {"postal_code"}, {"postcode"}, {"region"}, {"state1"}} {
		f.Region = f.Region || textAt(m, path...) != ""
	}
	if s, ok := m["subdivisions"].([]any); ok && len(s) > 0 {
		f.Region = true
	}
	f.Lat, f.Lon, f.Radius, f.Point = mmdbPoint(m)
	if max(f.Lat, -f.Lat) > 90 || max(f.Lon, -f.Lon) > 180 {
		return f, fmt.Errorf("coordinates %v, %v are not degrees on Earth", f.Lat, f.Lon)
	}
	f.Exact = f.Point && 0 < f.Radius && f.Radius <= ExactRadius
	return f, mmdbAS(m, &f)
}

// mmdbCity returns the name of the city: in English, else in the first of the languages by
// their codes.
func mmdbCity(m map[string]any) string {
	city, nested := m["city"].(map[string]any)
	if !nested {
		return name([]byte(textAt(m, "city")))
	}
	names, _ := city["names"].(map[string]any)
	if s := textAt(names, "en"); s != "" {
		return s
	}
	best := ""
	for language := range names {
		if textAt(names, language) != "" && (best == "" || language < best) {
			best = language
		}
	}
	return textAt(names, best)
}

// mmdbAS adds the AS of a record.
func mmdbAS(m map[string]any, f *Facts) error {
	if traits, ok := m["traits"].(map[string]any); ok && m["autonomous_system_number"] == nil {
		m = traits
	}
	for _, key := range []string{"autonomous_system_number", "asn", "as_number"} {
		switch v := m[key].(type) {
		case uint64:
			if v > math.MaxUint32 {
				return fmt.Errorf("AS number %d is more than 4294967295", v)
			}
			f.AS = uint32(v)
		case float64: // of JSON
			if v < 0 || v > math.MaxUint32 || v != math.Trunc(v) {
				return fmt.Errorf("AS number %v is not one from 0 to 4294967295", v)
			}
			f.AS = uint32(v)
		case string:
			n, ok := parseAS([]byte(v))
			if !ok {
				return fmt.Errorf("%.60q is not an AS number", v)
			}
			f.AS = n
		}
		if f.AS != 0 {
			break
		}
	}
	if f.AS == 0 {
		return nil
	}
	for _, key := range []string{"autonomous_system_organization", "as_name", "as_organization", "name"} {
		if s := textAt(m, key); s != "" {
			f.Org = s
			break
		}
	}
	return nil
}

// mmdbPoint returns the coordinates of a record, if it has any.
func mmdbPoint(m map[string]any) (lat, lon float64, radius uint16, ok bool) {
	if location, nested := m["location"].(map[string]any); nested {
		m = location
	}
	for _, name := range [][2]string{{"latitude", "longitude"}, {"lat", "lng"}, {"lat", "lon"}} {
		lat, ok1 := number(m[name[0]])
		lon, ok2 := number(m[name[1]])
		// Nobody lives at 0, 0: DB-IP writes it for missing coordinates.
		if ok1 && ok2 && (lat != 0 || lon != 0) {
			r, ok := number(m["accuracy_radius"])
			if !ok {
				r, _ = number(m["radius"])
			}
			return lat, lon, uint16(max(0, min(math.Ceil(r), math.MaxUint16))), true
		}
	}
	return 0, 0, 0, false
}

// textAt returns the text at a path of map keys in UTF-8, or "".
func textAt(m map[string]any, path ...string) string {
	var v any = m
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	s, _ := v.(string)
	return UTF8(s)
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case uint64:
		return float64(v), true
	case int64:
		return float64(v), true
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil
	}
	return 0, false
}
