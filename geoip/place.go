package geoip

// A Precision says how exact a Place is.
type Precision uint8

// The precisions, from none to the best. The zero value is Unknown.
const (
	Unknown Precision = iota // no table knows the address
	Country                  // a point that represents the whole country
	City                     // a city, or coordinates as exact as one
)

// String returns "unknown", "country" or "city".
func (p Precision) String() string {
	switch p {
	case Country:
		return "country"
	case City:
		return "city"
	}
	return "unknown"
}

// A Place is where an address is. It is a comparable value.
type Place struct {
	Lat, Lon  float64 // degrees, north and east positive
	Country   string  // ISO 3166-1 alpha-2 code, empty if unknown
	City      string  // empty if unknown
	Precision Precision
}
