package geoip

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
)

// A record is a place: lat and lon in 1e-7 degree (2 × 4 bytes), country (2), a byte of a code
// of the precision (2 bits) and of the radius in km (its lower 6 bits), the length of the city
// (1), and its offset in the texts (28 bits) with the upper 4 bits of the radius.
const (
	recordSize = 16
	degree     = 10_000_000 // units of latitude and longitude in a degree

	flagCountryLevel = 1 // no place is better than a country
	flagGeofeed      = 2
	flagNetworks     = 4 // its files hold AS numbers too
	flagHolders      = 8 // its countries are those of the holders of ASes
	maxRadius        = 1<<10 - 1
)

// Precisions by their codes in records.
var precisions = [4]Precision{Unknown, Country, City, Region}

// form is what tables of places are like.
var form = &ranges.Form{
	Magic:  "cmgeoip\x00",
	Ending: ".geo",
	Record: recordSize,
	Max:    layout.Max,
	Check: func(t *ranges.Table, id uint32) bool {
		p, _ := place(t, id, 0, false)
		return max(p.Lat, -p.Lat) <= 90 && max(p.Lon, -p.Lon) <= 180 && p.Precision != Unknown
	},
	Beside: layout.Beside,
}

// records serialises places. Equal names share their bytes.
func records(places []Place) (records, texts []byte, flags uint32) {
	le := binary.LittleEndian
	at := make(map[string]int)
	if len(places) > 1 {
		flags = flagCountryLevel
	}
	for i, p := range places {
		if i > 0 && p.Precision != Country {
			flags = 0
		}
		if _, ok := at[p.City]; !ok {
			at[p.City] = len(texts)
			texts = append(texts, p.City...)
		}
		records = le.AppendUint32(records, uint32(fixed(p.Lat)))
		records = le.AppendUint32(records, uint32(fixed(p.Lon)))
		cc := [2]byte{}
		copy(cc[:], p.Country)
		code := byte(slices.Index(precisions[:], p.Precision))
		records = append(records, cc[0], cc[1], code|byte(p.Radius)<<2, byte(len(p.City)))
		records = le.AppendUint32(records, uint32(at[p.City])|uint32(p.Radius>>6)<<28)
	}
	return records, texts, flags
}

// place returns the place of an ID, and whether there is one. If scattered is set, the place of a
// country is scattered by the network. Fields are set one by one: copying structs would cost
// more than the rest of a lookup.
func place(t *ranges.Table, id uint32, network uint64, scattered bool) (p Place, ok bool) {
	s, ok := t.Record(id)
	if !ok {
		return p, false
	}
	lat, lon := int32(ranges.U32(s, 0)), int32(ranges.U32(s, 4))
	offset := ranges.U32(s, 12)
	p.Precision = precisions[s[10]&3]
	p.Radius = uint16(s[10]>>2) | uint16(offset>>28)<<6
	if scattered && p.Precision == Country {
		lat, lon = scatter(lat, lon, network)
	}
	p.Lat, p.Lon = float64(lat)/degree, float64(lon)/degree
	if s[8] != 0 {
		p.Country = s[8:10]
	}
	if n := int(s[11]); n > 0 {
		p.City = t.Text(int(offset&(1<<28-1)), n)
	}
	return p, true
}

// fixed converts degrees to the stored unit.
func fixed(degrees float64) int32 {
	return int32(math.Round(degrees * degree))
}
