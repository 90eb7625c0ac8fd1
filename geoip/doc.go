// Package geoip tells where on Earth an Internet address is, from tables on
// this computer. It neither asks a network service nor contains a table:
//
//	db, err := geoip.OpenCached(cacheFolder, nil, "GeoLite2-City.mmdb")
//	if db == nil { // with a DB, an error is only that of the cache
//		return err
//	}
//	if p, ok := db.Lookup(addr); ok {
//		fmt.Println(p.City, geoip.CountryName(p.Country), p.Lat, p.Lon)
//	}
//
// Package embedded has a table that comes with the program.
//
// Every source is compiled into one kind of table, a [DB]: ranges are sorted,
// overlaps resolved so that the smallest range wins, and equal neighbours
// merged. A table is searched in its serialised bytes, so one that lies in
// the program or in a file costs little heap and no start-up: [OpenCached] keeps
// what it has compiled and maps it into memory.
//
// Some sources know only the country of an address. Its [Place] then has
// Precision [Country] and is a made-up point near the country's capital, a
// different one for every /24 of IPv4 and /48 of IPv6, so that the peers of a
// country do not pile up on one dot. The point is the same on all computers.
package geoip
