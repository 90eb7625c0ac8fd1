package geoip

import (
	"slices"
	"strings"
)

// A country is a row of the generated table.
type country struct {
	code, name string
	lat, lon   float64
}

// former maps withdrawn codes, which tables still have, to their successors: the state with
// most of the users.
var former = map[string]string{
	"AN": "CW", // Netherlands Antilles
	"CS": "RS", // Serbia and Montenegro
	"SU": "RU", // Soviet Union
	"UK": "GB", // reserved for the United Kingdom, but not its code
}

func findCountry(code string) (country, bool) {
	if now, ok := former[code]; ok {
		code = now
	}
	i, ok := slices.BinarySearchFunc(countries[:], code, func(c country, code string) int {
		return strings.Compare(c.code, code)
	})
	if !ok {
		return country{}, false
	}
	return countries[i], true
}

// CountryName returns the English short name of the country or territory with an ISO 3166-1
// alpha-2 code, such as "Netherlands" for "NL". It is empty for codes that are no country's,
// such as EU and AP of address registries. Kosovo is XK.
func CountryName(code string) string {
	c, _ := findCountry(code)
	return c.name
}

// CountryPlace returns a point that stands for a country or territory: its capital, or else its
// largest city, or else a point within. The precision is [Country]. The codes are those of
// [CountryName].
func CountryPlace(code string) (Place, bool) {
	c, ok := findCountry(code)
	if !ok {
		return Place{}, false
	}
	return Place{Lat: c.lat, Lon: c.lon, Country: c.code, Precision: Country}, true
}

// isCode reports whether s looks like an ISO 3166-1 alpha-2 code.
func isCode(s string) bool {
	return len(s) == 2 && 'A' <= s[0] && s[0] <= 'Z' && 'A' <= s[1] && s[1] <= 'Z'
}
