package main

import (
	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
)

// open opens a file as the map will, if it is of a kind that the map reads.
func open(name, kind string) error {
	var err error
	switch kind {
	case "MaxMind DB GeoLite2-City", "connmap CSV":
		_, err = geoip.Open(name)
	case "MaxMind DB GeoLite2-ASN", "GeoLite2 ASN CSV":
		_, err = asn.Open(name)
	}
	return err
}
