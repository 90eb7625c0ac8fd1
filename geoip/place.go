package geoip

// A Precision says how exactly a Place is known. A greater one is more exact.
type Precision uint8

// The precisions, from none to the best. The zero value is Unknown.
const (
	Unknown Precision = iota // no table knows the address
	Country                  // a point that stands for the whole country
	Region                   // a point within a region, such as a state or a postal district
	City                     // a city, or coordinates as exact as one
)

// String returns "unknown", "country", "region" or "city".
func (p Precision) String() string {
	switch p {
	case Country:
		return "country"
	case Region:
		return "region"
	case City:
		return "city"
	}
	return "unknown"
}

// ParsePrecision returns the Precision that String returns the text of; of other texts Unknown.
func ParsePrecision(s string) Precision {
	for p := Country; p <= City; p++ {
		if p.String() == s {
			return p
		}
	}
	return Unknown
}

// A Place is where an address is. It is a comparable value.
type Place struct {
	Lat, Lon  float64 // degrees, north and east positive
	Country   string  // ISO 3166-1 alpha-2 code, empty if unknown
	City      string  // empty if unknown
	Precision Precision
	Radius    uint16 // km around the point in which the address is likely, at most 1,023; 0: the table does not say, or more
}
