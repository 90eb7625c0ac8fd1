package geoip

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/internal/unpack"
)

// A location is a row of GeoLite2's file of locations.
type location struct {
	country, city string
	region        bool
}

// columns returns the positions of named columns in a header line; -1: missing.
func columns(header []byte, names ...string) []int {
	fields := fieldsOf(header, ',')
	at := make([]int, len(names))
	for i, name := range names {
		at[i] = slices.IndexFunc(fields, func(f []byte) bool { return string(f) == name })
	}
	return at
}

// isGeoLite reports whether a table begins like the blocks of GeoLite2-City or
// GeoLite2-Country.
func isGeoLite(head []byte) bool {
	at := columns(firstLine(head), "network", "geoname_id")
	return at[0] == 0 && at[1] > 0
}

// geoLite returns the format of a file of blocks. The names of cities and countries are in the
// file of locations beside it.
func geoLite(name string, head []byte) (*textFormat, error) {
	header := firstLine(head)
	at := columns(header, "geoname_id", "registered_country_geoname_id", "latitude", "longitude", "postal_code")
	where, locations, err := openLocations(name)
	if err != nil {
		return nil, err
	}
	if where == "" && (at[2] < 0 || at[3] < 0) {
		return nil, fmt.Errorf("has no coordinates, and the names of its countries are missing: put %s beside it", locationsOf(filepath.Base(name)))
	}
	// The first column, the network, is not among the fields.
	field := func(f [][]byte, i int) []byte {
		if at[i] < 1 || at[i] > len(f) {
			return nil
		}
		return f[at[i]-1]
	}
	return &textFormat{
		fields: string(header), count: len(fieldsOf(header, ',')), sep: ',', networks: true,
		place: func(f [][]byte) (Place, error) {
			p, err := point([][]byte{field(f, 2), field(f, 3)})
			if err != nil {
				return Place{}, err
			}
			l, known := locations[string(field(f, 0))]
			if !known || l.country == "" {
				// If the country of the users is unknown, the one in which the network
				// is registered is used.
				l.country = locations[string(field(f, 1))].country
			}
			return exactPlace(p, l.country, l.city, l.region || len(field(f, 4)) > 0), nil
		},
	}, nil
}

// locationsOf returns the name of the file of locations for a file of blocks.
func locationsOf(blocks string) string {
	before, _, ok := strings.Cut(blocks, "-Blocks-IPv")
	if !ok {
		return "GeoLite2-City-Locations-en.csv"
	}
	return before + "-Locations-en.csv"
}

// openLocations reads the locations beside a file of blocks. where is empty if there are none.
func openLocations(blocks string) (where string, all map[string]location, err error) {
	name := filepath.Join(filepath.Dir(blocks), locationsOf(filepath.Base(blocks)))
	for _, suffix := range []string{"", ".gz", ".xz"} {
		f, _, err := unpack.Open(name + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		defer f.Close()
		r, err := unpack.Reader(f, maxLocations)
		if err == nil {
			all, err = readLocations(r)
		}
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", name+suffix, err)
		}
		return name + suffix, all, nil
	}
	return "", nil, nil
}

// maxLocations is the maximum size of a file of locations; the one of all cities has 20 MB.
const maxLocations = 256 << 20

func readLocations(r *bufio.Reader) (map[string]location, error) {
	l := &lines{r: r}
	header, err := l.next()
	if err != nil {
		return nil, fmt.Errorf("line 1: %w", noEOF(err))
	}
	at := columns(header, "geoname_id", "country_iso_code", "city_name", "subdivision_1_iso_code")
	if at[0] < 0 || at[1] < 0 {
		return nil, errors.New("line 1: expected the columns geoname_id and country_iso_code")
	}
	all := make(map[string]location)
	for {
		line, err := l.next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		f := fieldsOf(line, ',')
		field := func(i int) string {
			if i < 0 || i >= len(f) {
				return ""
			}
			return string(f[i])
		}
		if at[0] >= len(f) || at[1] >= len(f) {
			return nil, fmt.Errorf("line %d: %d fields, expected %s", l.n, len(f), header)
		}
		all[field(at[0])] = location{field(at[1]), field(at[2]), field(at[3]) != ""}
	}
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// locationsBeside returns the name of the file of locations that is read with a file of blocks.
func locationsBeside(name string) []string {
	locations := filepath.Join(filepath.Dir(name), locationsOf(filepath.Base(name)))
	if !strings.Contains(filepath.Base(name), "-Blocks-IPv") {
		return nil
	}
	for _, suffix := range []string{"", ".gz", ".xz"} {
		if _, err := os.Stat(locations + suffix); err == nil {
			return []string{locations + suffix}
		}
	}
	return nil
}
