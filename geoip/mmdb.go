package geoip

import (
	"fmt"
	"strconv"
	"time"

	"github.com/connmapgo/connmap/internal/mmdb"
	"github.com/connmapgo/connmap/internal/ranges"
)

// mmdbFields are the fields that mmdbPlace reads.
var mmdbFields = mmdb.Fields{
	"city":         {"names": {"en": nil}},
	"country":      {"iso_code": nil},
	"country_code": nil, "registered_country": {"iso_code": nil},
	"postal": {"code": nil}, "postal_code": nil, "postcode": nil, "region": nil, "state1": nil, "subdivisions": nil,
	"location": {"latitude": nil, "longitude": nil, "lat": nil, "lng": nil, "lon": nil},
	"latitude": nil, "longitude": nil, "lat": nil, "lng": nil, "lon": nil,
}

// readMMDB adds the networks of a MaxMind DB file, and returns when it was built.
func readMMDB(b *builder, data []byte) (time.Time, error) {
	r, err := mmdb.Open(data)
	if err != nil {
		return time.Time{}, fmt.Errorf("damaged MaxMind DB: %w", err)
	}
	ids := make(map[int]uint32)
	for network, err := range r.Networks() {
		if err != nil {
			return time.Time{}, fmt.Errorf("damaged MaxMind DB: %w", err)
		}
		id, ok := ids[network.Record]
		if !ok {
			m, err := r.Record(network.Record, mmdbFields)
			if err != nil {
				return time.Time{}, fmt.Errorf("damaged MaxMind DB: network %v: %w", network.Prefix, err)
			}
			if id, err = b.place(mmdbPlace(m)); err != nil {
				return time.Time{}, fmt.Errorf("network %v: %w", network.Prefix, err)
			}
			ids[network.Record] = id
		}
		if id == 0 {
			continue
		}
		if err := b.Add(ranges.Of(network.Prefix), id); err != nil {
			return time.Time{}, fmt.Errorf("network %v: %w", network.Prefix, err)
		}
	}
	if len(b.places) == 1 {
		return time.Time{}, fmt.Errorf("no record of this %.60q database has coordinates or a country: not a table of places", r.Type)
	}
	return r.Built, nil
}

// mmdbPlace returns the place of a record. MaxMind and DB-IP nest their fields. IPinfo and others
// have flat ones and write coordinates as text. If the country of the users is unknown, it
// is the one in which the network is registered.
func mmdbPlace(m map[string]any) Place {
	code := text(m, "country", "iso_code")
	for _, path := range [][]string{{"country_code"}, {"country"}, {"registered_country", "iso_code"}} {
		if code == "" {
			code = text(m, path...)
		}
	}
	city := text(m, "city", "names", "en")
	if city == "" {
		city = text(m, "city")
	}
	region := false
	for _, path := range [][]string{{"postal", "code"}, {"postal_code"}, {"postcode"}, {"region"}, {"state1"}} {
		region = region || text(m, path...) != ""
	}
	if s, ok := m["subdivisions"].([]any); ok && len(s) > 0 {
		region = true
	}
	var p Place
	if lat, lon, ok := mmdbPoint(m); ok {
		p = Place{Lat: lat, Lon: lon, Precision: City}
	}
	return exactPlace(p, code, city, region)
}

// mmdbPoint returns the coordinates of a record, if it has any.
func mmdbPoint(m map[string]any) (lat, lon float64, ok bool) {
	if location, nested := m["location"].(map[string]any); nested {
		m = location
	}
	for _, name := range [][2]string{{"latitude", "longitude"}, {"lat", "lng"}, {"lat", "lon"}} {
		lat, ok1 := number(m[name[0]])
		lon, ok2 := number(m[name[1]])
		// Nobody lives at 0, 0: DB-IP writes it for missing coordinates.
		if ok1 && ok2 && (lat != 0 || lon != 0) {
			return lat, lon, true
		}
	}
	return 0, 0, false
}

// text returns the text at a path of map keys, or "".
func text(m map[string]any, path ...string) string {
	var v any = m
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	s, _ := v.(string)
	return s
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil
	}
	return 0, false
}
