package geoip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// isMMDB reports whether data ends with the metadata of a MaxMind DB file,
// which begin within the last 128 KiB.
// See https://maxmind.github.io/MaxMind-DB/.
func isMMDB(data []byte) bool {
	return bytes.Contains(data[max(0, len(data)-128<<10):], []byte("\xab\xcd\xefMaxMind.com"))
}

// readMMDB adds the networks of a MaxMind DB file and returns when it was built.
func readMMDB(b *builder, data []byte) (time.Time, error) {
	r, err := maxminddb.OpenBytes(data)
	if err != nil {
		return time.Time{}, fmt.Errorf("damaged MaxMind DB: %w", err)
	}
	defer r.Close()
	ids := make(map[uintptr]uint32)
	n := uint(0)
	for result := range r.Networks() {
		// Every node of the tree has two records. More networks come from nodes
		// that share others, and there could be 2^128.
		if n++; n > 2*r.Metadata.NodeCount+2 {
			return time.Time{}, errors.New("damaged MaxMind DB: more networks than the tree has records")
		}
		if err := result.Err(); err != nil {
			return time.Time{}, fmt.Errorf("damaged MaxMind DB: %w", err)
		}
		network := result.Prefix()
		id, ok := ids[result.Offset()]
		if !ok {
			var v any
			if err := result.Decode(&v); err != nil {
				return time.Time{}, fmt.Errorf("damaged MaxMind DB: network %v: %w", network, err)
			}
			m, _ := v.(map[string]any)
			if id, err = b.place(mmdbPlace(m)); err != nil {
				return time.Time{}, fmt.Errorf("network %v: %w", network, err)
			}
			ids[result.Offset()] = id
		}
		if id == 0 {
			continue
		}
		if err := b.add(Range{network.Addr(), lastOf(network)}, id); err != nil {
			return time.Time{}, fmt.Errorf("damaged MaxMind DB: %w", err)
		}
	}
	if len(b.places) == 1 {
		return time.Time{}, fmt.Errorf("no record of this %q database has coordinates or a country: not a table of places", r.Metadata.DatabaseType)
	}
	if r.Metadata.BuildEpoch == 0 {
		return time.Time{}, nil
	}
	return r.Metadata.BuildTime(), nil
}

// lastOf returns the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		k := key4(p.Addr()) | v4(1<<(32-p.Bits())-1)
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(k))
		return netip.AddrFrom4(b)
	}
	k := key6(p.Addr())
	if n := p.Bits(); n < 64 {
		k.hi |= 1<<(64-n) - 1
		k.lo = ^uint64(0)
	} else {
		k.lo |= 1<<(128-n) - 1
	}
	return addr6(k)
}

// mmdbPlace returns the place of a record. MaxMind and DB-IP nest their fields,
// IPinfo and others have flat ones and write coordinates as text.
//
// If the country of the users is unknown the one where the network is
// registered has to do.
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
	case float32:
		return float64(v), true
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil
	}
	return 0, false
}
