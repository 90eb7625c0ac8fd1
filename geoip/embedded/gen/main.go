// Gen writes the default table of geoip/embedded from the files of Debian's
// package tor-geoipdb. With -cities and -centroids it also renews the points of
// the countries in geoip; without, the table has those that geoip has now.
package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"go/format"
	"io"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/geoip"
)

// Input with less than this is cut short or something else.
const (
	minRows4   = 300_000
	minRows6   = 200_000
	minCodes   = 230
	minCities  = 25_000
	minCountry = 245
	maxAge     = 100 * 24 * time.Hour // between the two files of ranges
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet("gen", flag.ContinueOnError)
	ranges4 := fs.String("geoip", "/usr/share/tor/geoip", "IPv4 ranges of tor-geoipdb")
	ranges6 := fs.String("geoip6", "/usr/share/tor/geoip6", "IPv6 ranges of tor-geoipdb")
	table := fs.String("table", "table.bin", "table to write")
	cities := fs.String("cities", "", "cities15000.zip of GeoNames; with -centroids, renews the points of countries")
	centroids := fs.String("centroids", "", "CSV of country code, latitude, longitude and name; with -cities")
	points := fs.String("points", "../countries.go", "Go file of points of countries to write")
	if err := fs.Parse(args); err != nil {
		return err
	}

	locate := geoip.CountryPlace
	if *cities != "" || *centroids != "" {
		if *cities == "" || *centroids == "" {
			return errors.New("-cities and -centroids go together")
		}
		countries, err := renew(*points, *cities, *centroids)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s: %d countries\n", *points, len(countries))
		locate = locateIn(countries)
	}
	return compile(*table, *ranges4, *ranges6, locate, stdout)
}

// renew writes the Go file of the points of countries, and returns them.
func renew(points, cities, centroids string) ([]country, error) {
	countries, err := readCountries(cities, centroids)
	if err != nil {
		return nil, err
	}
	src, err := source(countries)
	if err != nil {
		return nil, err
	}
	return countries, os.WriteFile(points, src, 0o644)
}

// locateIn returns geoip.CountryPlace as it will be with new points.
func locateIn(countries []country) func(code string) (geoip.Place, bool) {
	return func(code string) (geoip.Place, bool) {
		// geoip, as compiled into this program, resolves withdrawn codes; a code
		// that it does not know yet cannot be one.
		if p, ok := geoip.CountryPlace(code); ok {
			code = p.Country
		}
		i, ok := slices.BinarySearchFunc(countries, code, func(c country, code string) int {
			return strings.Compare(c.code, code)
		})
		if !ok {
			return geoip.Place{}, false
		}
		return geoip.Place{Lat: countries[i].lat, Lon: countries[i].lon, Country: code, Precision: geoip.Country}, true
	}
}

// compile writes the table.
func compile(table, ranges4, ranges6 string, locate func(code string) (geoip.Place, bool), stdout io.Writer) error {
	rows4, date4, err := readRanges(ranges4, minRows4)
	if err != nil {
		return err
	}
	rows6, date6, err := readRanges(ranges6, minRows6)
	if err != nil {
		return err
	}
	if date4.Sub(date6).Abs() > maxAge {
		return fmt.Errorf("%s is of %v but %s of %v", ranges4, date4, ranges6, date6)
	}
	located, lost := make(map[string]bool), make(map[string]int)
	info := geoip.Info{Name: "embedded countries", Date: date4}
	db, err := geoip.New(info, func(yield func(geoip.Range, geoip.Place) bool) {
		for _, r := range slices.Concat(rows4, rows6) {
			p, ok := locate(r.code)
			if !ok {
				lost[r.code]++
				continue
			}
			located[p.Country] = true
			if !yield(r.Range, p) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if len(located) < minCodes {
		return fmt.Errorf("only %d countries, expected %d", len(located), minCodes)
	}
	var b bytes.Buffer
	if _, err := db.WriteTo(&b); err != nil {
		return err
	}
	if err := db.Verify(); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: %d bytes, %d + %d rows of %v, %d countries, rows without one: %v\n",
		table, b.Len(), len(rows4), len(rows6), date4.Format(time.DateOnly), len(located), lost)
	return os.WriteFile(table, b.Bytes(), 0o644)
}

// A row is a line of the files of ranges.
type row struct {
	geoip.Range
	code string
}

// readRanges reads a file of tor-geoipdb: comments and lines of first address,
// last address and country, the addresses in decimal or as IPv6. A comment
// says when it was generated.
func readRanges(name string, atLeast int) ([]row, time.Time, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	var rows []row
	var date time.Time
	s := bufio.NewScanner(f)
	for n := 1; s.Scan(); n++ {
		line := s.Text()
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			if at, ok := strings.CutPrefix(strings.TrimSpace(comment), "Generated:"); ok {
				if date, err = time.Parse(time.RFC1123, strings.TrimSpace(at)); err != nil {
					return nil, time.Time{}, fmt.Errorf("%s: line %d: %w", name, n, err)
				}
			}
			continue
		}
		r, err := parseRow(line)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("%s: line %d: %w", name, n, err)
		}
		rows = append(rows, r)
	}
	if err := s.Err(); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", name, err)
	}
	if date.IsZero() {
		return nil, time.Time{}, fmt.Errorf("%s: no line says when it was generated", name)
	}
	if len(rows) < atLeast {
		return nil, time.Time{}, fmt.Errorf("%s: only %d rows, expected %d", name, len(rows), atLeast)
	}
	return rows, date, nil
}

func parseRow(line string) (row, error) {
	f := strings.Split(line, ",")
	if len(f) != 3 || len(f[2]) != 2 {
		return row{}, fmt.Errorf("%q is not first,last,country", line)
	}
	first, err := parseAddr(f[0])
	if err != nil {
		return row{}, err
	}
	last, err := parseAddr(f[1])
	if err != nil {
		return row{}, err
	}
	return row{geoip.Range{First: first, Last: last}, f[2]}, nil
}

func parseAddr(s string) (netip.Addr, error) {
	if strings.Contains(s, ":") {
		return netip.ParseAddr(s)
	}
	v, err := strconv.ParseUint(s, 10, 32)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), err
}

type country struct {
	code, name string
	lat, lon   float64
}

// names corrects what the file of centroids lacks or has under an old name.
var names = map[string]string{
	"CZ": "Czechia",
	"MK": "North Macedonia",
	"SZ": "Eswatini",
	"XK": "Kosovo",
}

// readCountries returns the countries by code, each at its capital, else its
// largest city, else its centroid.
func readCountries(cities, centroids string) ([]country, error) {
	f, err := os.Open(centroids)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = 4
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", centroids, err)
	}
	if len(rows) < minCountry {
		return nil, fmt.Errorf("%s: only %d countries, expected %d", centroids, len(rows), minCountry)
	}
	best, err := readCities(cities)
	if err != nil {
		return nil, err
	}
	all := make(map[string]country)
	for _, row := range rows {
		c := country{code: row[0], name: row[3]}
		if c.lat, c.lon, err = parsePoint(row[1], row[2]); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", centroids, c.code, err)
		}
		all[c.code] = c
	}
	for code, name := range names {
		c := all[code]
		c.code, c.name = code, name
		all[code] = c
	}
	var out []country
	for code, c := range all {
		if city, ok := best[code]; ok {
			c.lat, c.lon = city.lat, city.lon
		}
		if c.lat == 0 && c.lon == 0 {
			return nil, fmt.Errorf("no point for %s", code)
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b country) int { return strings.Compare(a.code, b.code) })
	return out, nil
}

type city struct {
	id, population int
	capital        bool
	lat, lon       float64
}

// readCities returns the best city of each country. The columns are explained
// in https://download.geonames.org/export/dump/readme.txt.
func readCities(name string) (map[string]city, error) {
	z, err := zip.OpenReader(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer z.Close()
	f, err := z.Open("cities15000.txt")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	best := make(map[string]city)
	n := 0
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		n++
		x := strings.Split(s.Text(), "\t")
		if len(x) != 19 {
			return nil, fmt.Errorf("%s: line %d: %d columns, expected 19", name, n, len(x))
		}
		c := city{capital: x[7] == "PPLC"}
		id, err1 := strconv.Atoi(x[0])
		population, err2 := strconv.Atoi(x[14])
		lat, lon, err3 := parsePoint(x[4], x[5])
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", name, n, err)
		}
		c.id, c.population, c.lat, c.lon = id, population, lat, lon
		if old, ok := best[x[8]]; !ok || better(c, old) {
			best[x[8]] = c
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if n < minCities {
		return nil, fmt.Errorf("%s: only %d cities, expected %d", name, n, minCities)
	}
	return best, nil
}

func better(a, b city) bool {
	if a.capital != b.capital {
		return a.capital
	}
	return cmp.Or(cmp.Compare(a.population, b.population), cmp.Compare(b.id, a.id)) > 0
}

func parsePoint(lat, lon string) (float64, float64, error) {
	y, err1 := strconv.ParseFloat(lat, 64)
	x, err2 := strconv.ParseFloat(lon, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, err
	}
	if !(math.Abs(y) <= 90 && math.Abs(x) <= 180) {
		return 0, 0, fmt.Errorf("%s, %s is no point on Earth", lat, lon)
	}
	return y, x, nil
}

// source returns the Go file of the countries.
func source(countries []country) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("// Code generated by geoip/embedded/gen from GeoNames (CC BY 4.0) and pariz/gountries (MIT). DO NOT EDIT.\n\n")
	b.WriteString("package geoip\n\n// By code.\nvar countries = [...]country{\n")
	for _, c := range countries {
		fmt.Fprintf(&b, "{%q, %q, %v, %v},\n", c.code, c.name, c.lat, c.lon)
	}
	b.WriteString("}\n")
	return format.Source(b.Bytes())
}
