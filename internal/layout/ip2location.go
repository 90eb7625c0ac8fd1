package layout

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/ranges"
)

// The columns of IP2Location's BIN by its types, of which the first is the address. 0: the
// type has none. The form: https://www.ip2location.com/ and its published readers.
const (
	binCountry = 2
	binRegion  = 3
	binCity    = 4
	binLat     = 5
	binLon     = 6
	binTypes   = 26
)

// binColumns reports which columns a type has.
func binColumns(kind int) (cities, points bool) {
	return kind >= 3, kind >= 5 && kind != 7
}

// A bin is a file of IP2Location in BIN.
type bin struct {
	data           []byte
	kind, columns  int
	count4, count6 int
	at4, at6       int   // from 0
	size           int64 // that the file should have; 0: it does not say
	date           time.Time
}

// openBIN reads the header of a file in BIN; it is false if the file is none.
func openBIN(data []byte) (*bin, bool) {
	b, ok := binHeader(data, int64(len(data)))
	if ok {
		b.data = data
	}
	return b, ok
}

// binHeader reads the header of a file in BIN of a size from its beginning.
func binHeader(data []byte, size int64) (*bin, bool) {
	if len(data) < 64 {
		return nil, false
	}
	le := binary.LittleEndian
	b := &bin{kind: int(data[0]), columns: int(data[1]),
		count4: int(le.Uint32(data[5:])), at4: int(le.Uint32(data[9:])) - 1,
		count6: int(le.Uint32(data[13:])), at6: int(le.Uint32(data[17:])) - 1}
	year, month, day := int(data[2]), int(data[3]), int(data[4])
	cities, points := binColumns(b.kind)
	// Since 2021 files say whose they are. IP2Proxy's have other columns.
	if year >= 21 && data[29] != 1 {
		return nil, false
	}
	least := 2
	switch {
	case points:
		least = 6
	case cities:
		least = 4
	}
	if b.kind < 1 || b.kind > binTypes || b.columns < least || b.columns > 40 || month < 1 || month > 12 || day < 1 || day > 31 || year > 99 ||
		b.count4 == 0 && b.count6 == 0 {
		return nil, false
	}
	if year >= 21 {
		b.size = int64(le.Uint32(data[31:]))
		size = max(size, b.size)
	}
	if b.count4 > 0 && b.at4 < 0 || b.count6 > 0 && b.at6 < 0 || !b.fits(size) {
		return nil, false
	}
	b.date = time.Date(2000+year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	return b, true
}

// fits reports whether the rows lie within a size.
func (b *bin) fits(size int64) bool {
	return (b.count4 == 0 || int64(b.at4+b.count4*4*b.columns) <= size) && (b.count6 == 0 || int64(b.at6+b.count6*(4*b.columns+12)) <= size)
}

// read passes on the rows.
func (b *bin) read(sink Sink, limit int64) (Report, error) {
	report := Report{Kind: Kind{Name: fmt.Sprintf("IP2Location DB%d BIN", b.kind), Places: true}, Date: b.date}
	if have := int64(len(b.data)); have < b.size {
		cut := fmt.Sprintf("it is truncated: it has %s of %s bytes", numbers.Thousands(have), numbers.Thousands(b.size))
		if !b.fits(have) {
			return report, errors.New(cut)
		}
		report.Remarks = append(report.Remarks, cut)
	}
	ids := make(map[string]uint32) // by what stands behind the address
	var bad error
	row := func(at, width int, add func(id uint32) error) error {
		rest := b.data[at+width : at+width+4*(b.columns-1)]
		id, ok := ids[string(rest)]
		if !ok {
			facts, err := b.facts(rest)
			if err != nil {
				if report.Skipped++; bad == nil {
					bad = fmt.Errorf("row %d: %w", report.Rows+report.Skipped, err)
				}
				return nil
			}
			if id, err = sink.ID(facts); err != nil {
				return err
			}
			if len(ids) < maxKnown {
				ids[string(rest)] = id
			}
		}
		if report.Rows++; id == 0 {
			return nil
		}
		return add(id)
	}
	size := 4 * b.columns
	for i := 0; i+1 < b.count4 && report.Rows < limit; i++ { // the last row only ends the one before
		at := b.at4 + i*size
		first, next := binary.LittleEndian.Uint32(b.data[at:]), binary.LittleEndian.Uint32(b.data[at+size:])
		last := next - 1
		if i+2 == b.count4 && next == math.MaxUint32 {
			last = next
		}
		err := row(at, 4, func(id uint32) error {
			if last < first {
				return nil
			}
			return sink.Add4(ranges.V4(first), ranges.V4(last), id)
		})
		if err != nil {
			return report, err
		}
	}
	size += 12
	for i := 0; i+1 < b.count6 && report.Rows < limit; i++ {
		at := b.at6 + i*size
		first, next := b.key6(at), b.key6(at+size)
		err := row(at, 16, func(id uint32) error {
			last := next.Minus(ranges.V6{Lo: 1})
			if i+2 == b.count6 && next == maxV6 {
				last = next
			}
			if first.Compare(next) >= 0 {
				return nil
			}
			return sink.Add(ranges.Range{First: first.Addr(), Last: last.Addr()}, id)
		})
		if err != nil {
			return report, err
		}
	}
	return report.finish(bad)
}

// maxV6 is the last address of IPv6.
var maxV6 = ranges.V6{Hi: math.MaxUint64, Lo: math.MaxUint64}

func (b *bin) key6(at int) ranges.V6 {
	le := binary.LittleEndian
	return ranges.V6{Hi: le.Uint64(b.data[at+8:]), Lo: le.Uint64(b.data[at:])}
}

// facts returns what stands behind the address of a row.
func (b *bin) facts(rest []byte) (f Facts, err error) {
	column := func(i int) uint32 { return binary.LittleEndian.Uint32(rest[4*(i-2):]) }
	code, err := b.text(column(binCountry))
	if err != nil {
		return f, err
	}
	f.Country, _ = parseCountry(code)
	cities, points := binColumns(b.kind)
	if cities {
		region, err1 := b.text(column(binRegion))
		city, err2 := b.text(column(binCity))
		if err := cmp.Or(err1, err2); err != nil {
			return f, err
		}
		f.Region, f.City = name(region) != "", name(city)
	}
	if points {
		f.Lat = round(math.Float32frombits(column(binLat)))
		f.Lon = round(math.Float32frombits(column(binLon)))
		f.Point = (f.Lat != 0 || f.Lon != 0) && f.Lat >= -90 && f.Lat <= 90 && f.Lon >= -180 && f.Lon <= 180
	}
	return f, nil
}

// round returns degrees with as many decimals as four bytes hold.
func round(f float32) float64 { return math.Round(float64(f)*1e5) / 1e5 }

// text returns a text, of which the first byte is the length.
func (b *bin) text(at uint32) ([]byte, error) {
	if uint64(at) >= uint64(len(b.data)) {
		return nil, errBehind
	}
	n := int(b.data[at])
	if uint64(at)+1+uint64(n) > uint64(len(b.data)) {
		return nil, errBehind
	}
	return b.data[at+1 : int(at)+1+n], nil
}

var errBehind = errors.New("a text lies behind the end of the file: it is truncated or damaged")
