package geoip

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
)

// isCSV reports whether data begins like connmap's ipv4.csv: with two decimal
// numbers.
func isCSV(data []byte) bool {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	first, rest, _ := bytes.Cut(line, []byte(","))
	second, _, more := bytes.Cut(rest, []byte(","))
	return more && isDigits(first) && isDigits(second)
}

func isDigits(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) > 0
}

// readCSV adds the rows of connmap's ipv4.csv.
func readCSV(b *builder, data []byte) error {
	type point struct{ lat, lon int32 }
	ids := make(map[point]uint32)
	for n := 1; len(data) > 0; n++ {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			continue
		}
		var f [4][]byte
		if count := bytes.Count(line, []byte(",")) + 1; count != len(f) {
			return fmt.Errorf("line %d: %d fields, want start,end,latitude,longitude", n, count)
		}
		for i := range f {
			f[i], line, _ = bytes.Cut(line, []byte(","))
		}
		first, ok := decimal(f[0])
		if !ok {
			return fmt.Errorf("line %d: start %q is not an IPv4 address in decimal", n, f[0])
		}
		last, ok := decimal(f[1])
		if !ok {
			return fmt.Errorf("line %d: end %q is not an IPv4 address in decimal", n, f[1])
		}
		if last < first {
			return fmt.Errorf("line %d: last address %v is before first %v", n, addr4(last), addr4(first))
		}
		if len(f[2]) == 0 || len(f[3]) == 0 {
			continue
		}
		var p point
		if p.lat, ok = coordinate(f[2], 90); !ok {
			return fmt.Errorf("line %d: latitude %q is not a number from -90 to 90", n, f[2])
		}
		if p.lon, ok = coordinate(f[3], 180); !ok {
			return fmt.Errorf("line %d: longitude %q is not a number from -180 to 180", n, f[3])
		}
		// Nobody lives at 0, 0: some tools write it for missing coordinates.
		if p == (point{}) {
			continue
		}
		id, ok := ids[p]
		if !ok {
			var err error
			id, err = b.place(Place{Lat: float64(p.lat) / degree, Lon: float64(p.lon) / degree, Precision: City})
			if err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
			ids[p] = id
		}
		first, last = repair(first, last)
		b.rows4 = append(b.rows4, row[v4]{v4(first), v4(last), id})
	}
	if len(b.rows4) == 0 {
		return errors.New("no line has coordinates")
	}
	return nil
}

// repair widens a range that was a network without its first and last address
// to the network. That is how the tool that makes ipv4.csv writes networks up
// to /30, because it takes the first and last host of each.
func repair(first, last uint32) (uint32, uint32) {
	size := uint64(last) - uint64(first) + 3
	if first > 0 && size >= 4 && size&(size-1) == 0 && uint64(first-1)%size == 0 {
		return first - 1, last + 1
	}
	return first, last
}

func addr4(ip uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(ip >> 24), byte(ip >> 16), byte(ip >> 8), byte(ip)})
}

// decimal parses an unsigned 32-bit number.
func decimal(s []byte) (uint32, bool) {
	if !isDigits(s) || len(s) > 10 {
		return 0, false
	}
	var v uint64
	for _, c := range s {
		v = v*10 + uint64(c-'0')
	}
	return uint32(v), v <= 1<<32-1
}

// coordinate parses degrees such as -33.494 into the stored unit. Further
// decimals than it has are cut off. By hand, since files have millions of
// lines; see BenchmarkOpen.
func coordinate(s []byte, limit int64) (int32, bool) {
	negative := len(s) > 0 && s[0] == '-'
	if negative {
		s = s[1:]
	}
	whole, fraction, dot := bytes.Cut(s, []byte("."))
	if !isDigits(whole) || len(whole) > 3 || dot && !isDigits(fraction) {
		return 0, false
	}
	var v int64
	for _, c := range whole {
		v = v*10 + int64(c-'0')
	}
	for i := range 7 {
		v *= 10
		if i < len(fraction) {
			v += int64(fraction[i] - '0')
		}
	}
	if v > limit*degree {
		return 0, false
	}
	if negative {
		v = -v
	}
	return int32(v), true
}
