package main

import (
	"errors"
	"strings"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
)

// open opens a file as the map and ip2asn do, if they read its kind.
func open(name string, c content) error {
	var err error
	if c.places {
		_, err = geoip.Open(name)
	}
	if err == nil && c.networks {
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
