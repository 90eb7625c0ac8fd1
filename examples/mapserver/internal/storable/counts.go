package storable

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A Count says how often connections were seen at a place.
type Count struct {
	Lat, Lon float64 // degrees
	Count    int64   // positive
}

// maxVisits bounds how much of a tree is looked at: a few bytes of a file can refer to the
// same item very often.
const maxVisits = 2 * maxItems

// Counts returns the places with their counts that it finds in what [Read] returned, by
// latitude and longitude. It knows hashes from "LAT,LON" or "X,Y" to a count or to a hash
// with one, hashes with lat and lon or x and y, hashes from latitude to a hash from
// longitude to a count, and arrays of arrays of latitude, longitude and count. X and Y are
// pixels of connmapperl's map of 1000x500, so that a place made of them may be 40 km away.
// A hash with lat and lon but no count counts one; one with x and y needs a count, since
// it may be a point of a window. An array needs a coordinate with decimals, since any three
// numbers would do otherwise. Skipped is how many numbers belong to no place.
func Counts(tree any) (counts []Count, skipped int, err error) {
	f := finder{sums: make(map[[2]float64]int64)}
	if err := f.visit(tree, ""); err != nil {
		return nil, 0, err
	}
	f.pairs()
	for at, n := range f.sums {
		counts = append(counts, Count{at[0], at[1], n})
	}
	slices.SortFunc(counts, func(a, b Count) int { return cmp.Or(cmp.Compare(a.Lat, b.Lat), cmp.Compare(a.Lon, b.Lon)) })
	return counts, f.skipped, nil
}

type finder struct {
	sums    map[[2]float64]int64
	keyed   []pair // of keys with two numbers, whose meaning shows when all are known
	visits  int
	skipped int
}

type pair struct {
	a, b  float64
	count int64
}

func (f *finder) add(lat, lon float64, count int64) {
	if !(math.Abs(lat) <= 90 && math.Abs(lon) <= 180) || count < 1 {
		f.skipped++
		return
	}
	sum := f.sums[[2]float64{lat, lon}]
	f.sums[[2]float64{lat, lon}] = sum + min(count, math.MaxInt64-sum)
}

// pixel adds a place of connmapperl's map.
func (f *finder) pixel(x, y float64, count int64) {
	lat, lon := place(x, y)
	f.add(lat, lon, count)
}

// place is where a pixel of connmapperl's map lies.
func place(x, y float64) (lat, lon float64) {
	m := (326 - y) * 2 * math.Pi / 1000
	lat = math.Atan(math.Sinh(m)) * 180 / math.Pi
	lon = (x+29)*360/1000 - 180
	if lon > 180 {
		lon -= 360
	}
	// More digits than a pixel has would be a claim.
	return math.Round(lat*100) / 100, math.Round(lon*100) / 100
}

// visit looks for counts in an item that a hash has under a key.
func (f *finder) visit(v any, key string) error {
	if f.visits++; f.visits > maxVisits {
		return errors.New("storable: too many items refer to others")
	}
	switch v := v.(type) {
	case map[string]any:
		return f.hash(v, key)
	case []any:
		for _, item := range v {
			if lat, lon, n, ok := triple(item); ok {
				f.add(lat, lon, n)
				continue
			}
			if err := f.visit(item, ""); err != nil {
				return err
			}
		}
	case nil, bool:
	default:
		if _, ok := number(v); ok {
			f.skipped++
		}
	}
	return nil
}

func (f *finder) hash(m map[string]any, key string) error {
	count, counted := countOf(m)
	if lat, lon, ok := fields(m, "lat", "latitude", "lon", "lng", "long", "longitude"); ok {
		f.add(lat, lon, count)
		return nil
	}
	if x, y, ok := fields(m, "x", "", "y"); ok && counted {
		f.pixel(x, y, count)
		return nil
	}
	if a, b, ok := numbers(key); ok {
		f.keyed = append(f.keyed, pair{a, b, count})
		return nil
	}
	for k, v := range m {
		a, b, ok := numbers(k)
		if !ok {
			if lat, isLat := coordinate(k, 90); isLat && f.row(lat, v) {
				continue
			}
			if err := f.visit(v, k); err != nil {
				return err
			}
			continue
		}
		switch v := v.(type) {
		case map[string]any:
			if err := f.visit(v, k); err != nil {
				return err
			}
		case []any:
			n := int64(1)
			if len(v) > 0 {
				if first, ok := whole(v[0]); ok {
					n = first
				}
			}
			f.keyed = append(f.keyed, pair{a, b, n})
		default:
			if n, ok := whole(v); ok {
				f.keyed = append(f.keyed, pair{a, b, n})
			} else {
				f.skipped++
			}
		}
	}
	return nil
}

// row adds a hash from longitude to a count, and reports whether it is one.
func (f *finder) row(lat float64, v any) bool {
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 {
		return false
	}
	for k, n := range m {
		_, isLon := coordinate(k, 180)
		if _, ok := whole(n); !ok || !isLon {
			return false
		}
	}
	for k, n := range m {
		lon, _ := coordinate(k, 180)
		count, _ := whole(n)
		f.add(lat, lon, count)
	}
	return true
}

// pairs decides what the two numbers of keys are, for all of them alike: latitude and
// longitude, the other way round, or pixels.
func (f *finder) pairs() {
	degrees, swapped, fraction := true, true, false
	for _, p := range f.keyed {
		degrees = degrees && math.Abs(p.a) <= 90 && math.Abs(p.b) <= 180
		swapped = swapped && math.Abs(p.a) <= 180 && math.Abs(p.b) <= 90
		fraction = fraction || p.a != math.Trunc(p.a) || p.b != math.Trunc(p.b)
	}
	for _, p := range f.keyed {
		switch {
		case degrees:
			f.add(p.a, p.b, p.count)
		case swapped && fraction:
			f.add(p.b, p.a, p.count)
		default:
			f.pixel(p.a, p.b, p.count)
		}
	}
}

// numbers reads two numbers with something between, such as "48.85,2.35".
func numbers(key string) (a, b float64, ok bool) {
	parts := strings.FieldsFunc(key, func(r rune) bool { return strings.ContainsRune(",;:|/_ \t\x1c", r) })
	if len(parts) != 2 {
		return 0, 0, false
	}
	a, errA := strconv.ParseFloat(parts[0], 64)
	b, errB := strconv.ParseFloat(parts[1], 64)
	return a, b, errA == nil && errB == nil && !math.IsNaN(a+b) && !math.IsInf(a+b, 0)
}

// coordinate reads a latitude or a longitude with decimals, unlike a port or an octet.
func coordinate(key string, most float64) (float64, bool) {
	v, err := strconv.ParseFloat(key, 64)
	return v, err == nil && math.Abs(v) <= most && strings.Count(key, ".") == 1
}

// fields returns two numbers by their names.
func fields(m map[string]any, names ...string) (a, b float64, ok bool) {
	get := func(names []string) (float64, bool) {
		for _, name := range names {
			if v, ok := number(m[name]); ok && name != "" {
				return v, true
			}
		}
		return 0, false
	}
	a, okA := get(names[:2])
	b, okB := get(names[2:])
	return a, b, okA && okB
}

// countOf is the count that a hash has, or one, and whether it has one.
func countOf(m map[string]any) (n int64, ok bool) {
	for _, name := range []string{"count", "cnt", "hits", "freq", "frequency", "num", "n", "total"} {
		if n, ok := whole(m[name]); ok {
			return n, true
		}
	}
	return 1, false
}

// triple reads latitude, longitude and count.
func triple(item any) (lat, lon float64, count int64, ok bool) {
	v, _ := item.([]any)
	if len(v) < 3 {
		return 0, 0, 0, false
	}
	lat, okLat := number(v[0])
	lon, okLon := number(v[1])
	count, okCount := whole(v[2])
	decimals := lat != math.Trunc(lat) || lon != math.Trunc(lon)
	return lat, lon, count, okLat && okLon && okCount && decimals && math.Abs(lat) <= 90 && math.Abs(lon) <= 180
}

// number reads a number, also one that Perl has as a text.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	return 0, false
}

// whole reads a number of connections.
func whole(v any) (int64, bool) {
	f, ok := number(v)
	if !ok || f < 0 || f > 1<<53 {
		return 0, false
	}
	return int64(f), true
}
