package main

import (
	"errors"
	"strings"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
)

// open opens a file as the map and ip2asn do, if they read its kind.
func open(name, kind string) error {
	var err error
	switch kind {
	case "MaxMind DB GeoLite2-City", "connmap CSV", "DB-IP City CSV":
		_, err = geoip.Open(name)
	case "MaxMind DB GeoLite2-ASN", "GeoLite2 ASN CSV", "iptoasn TSV":
		_, err = asn.Open(name)
	}
	if err != nil {
		// The name is that of a temporary file.
		_, text, ok := strings.Cut(err.Error(), name+": ")
		if ok {
			return errors.New(text)
		}
	}
	return err
}
