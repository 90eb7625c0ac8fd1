// Package geoip finds the place of an Internet address on Earth, in tables on this computer.
// It asks no network service and contains no table:
//
//	db, err := geoip.Open("GeoLite2-City.mmdb")
//	if err != nil {
//		return err
//	}
//	if p, ok := db.Lookup(addr); ok {
//		fmt.Println(p.City, geoip.CountryName(p.Country), p.Lat, p.Lon)
//	}
//
// Package embedded has a table of countries that comes with the program. [OpenCached] keeps
// what it has compiled in a folder and maps it into memory, so later starts take no time.
//
// Every source is compiled into one kind of table, a [DB]. Ranges are sorted, the smallest of
// overlapping ranges wins, and equal neighbours are merged. A table is searched in its
// serialised bytes: one in the program or in a file needs little heap and no start-up.
//
// Some sources know only the country of an address. Its [Place] then has Precision [Country].
// It is a made-up point near the country's capital, the same on all computers. Each /24 of
// IPv4 and /48 of IPv6 has another point, so that the peers of a country do not pile up on
// one dot.
package geoip
