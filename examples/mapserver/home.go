package main

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/connmapgo/connmap/geoip"
)

// parseHome reads LAT,LON in degrees.
func parseHome(s string) (geoip.Place, error) {
	lat, lon, ok := strings.Cut(s, ",")
	la, err1 := strconv.ParseFloat(strings.TrimSpace(lat), 64)
	lo, err2 := strconv.ParseFloat(strings.TrimSpace(lon), 64)
	if !ok || err1 != nil || err2 != nil || !(la >= -90 && la <= 90 && lo >= -180 && lo <= 180) {
		return geoip.Place{}, fmt.Errorf("-home: expected LAT,LON in degrees such as 52.52,13.40, found %q", s)
	}
	return geoip.Place{Lat: la, Lon: lo, Precision: geoip.City}, nil
}

// findHome guesses where this machine is, without using the network: by a public address of
// its own, else by its time zone. The zero Place means unknown.
func findHome(dbs []*geoip.DB) (geoip.Place, string) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().IsGlobalUnicast() || p.Addr().IsPrivate() {
			continue
		}
		for _, db := range dbs {
			if place, ok := db.Lookup(p.Addr()); ok {
				return place, "address " + p.Addr().String()
			}
		}
	}
	zone := os.Getenv("TZ")
	if zone == "" {
		if name, err := filepath.EvalSymlinks("/etc/localtime"); err == nil {
			_, zone, _ = strings.Cut(name, "/zoneinfo/")
		}
	}
	if place, ok := zonePlace("/usr/share/zoneinfo/zone1970.tab", strings.TrimPrefix(zone, ":")); ok {
		return place, "time zone " + zone
	}
	return geoip.Place{}, ""
}

// zonePlace looks up the principal place of a time zone in a table of the tz
// database: country codes, coordinates in ISO 6709, name, separated by tabs.
func zonePlace(table, zone string) (geoip.Place, bool) {
	f, err := os.Open(table)
	if err != nil || zone == "" {
		return geoip.Place{}, false
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		col := strings.Split(sc.Text(), "\t")
		if len(col) < 3 || col[2] != zone {
			continue
		}
		split := strings.LastIndexAny(col[1], "+-")
		if split <= 0 {
			break
		}
		lat, ok1 := degrees(col[1][:split], 2)
		lon, ok2 := degrees(col[1][split:], 3)
		country, _, _ := strings.Cut(col[0], ",")
		return geoip.Place{Lat: lat, Lon: lon, Country: country, Precision: geoip.Country}, ok1 && ok2
	}
	return geoip.Place{}, false
}

// degrees reads ±DDMM or ±DDMMSS, or with three digits of degrees.
func degrees(s string, digits int) (float64, bool) {
	if len(s) != 1+digits+2 && len(s) != 1+digits+4 {
		return 0, false
	}
	n, err := strconv.Atoi(s[1:])
	if err != nil || n < 0 {
		return 0, false
	}
	if len(s) == 1+digits+2 {
		n *= 100
	}
	v := float64(n/10000) + float64(n/100%100)/60 + float64(n%100)/3600
	if s[0] == '-' {
		v = -v
	}
	return v, true
}
