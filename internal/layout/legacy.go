package layout

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/connmapgo/connmap/internal/ranges"
)

// Editions of GeoIP's .dat, in which MaxMind published until 2019 and others do still. The form
// is that of the GeoIP C library.
const (
	datCountry  = 1
	datCity1    = 2
	datCity0    = 6
	datAS       = 9
	datCountry6 = 12
	datAS6      = 21
	datCity1v6  = 30
	datCity0v6  = 31

	datCountryBegin = 16776960
	datRecord       = 3 // bytes
)

// A dat is a file in GeoIP's .dat.
type dat struct {
	data    []byte
	edition int
	nodes   int
	v6      bool
}

// openDAT finds what ends such a file; it is false if the file is none.
func openDAT(data []byte) (*dat, bool) {
	for i := 3; i <= min(20+3, len(data)); i++ {
		at := len(data) - i
		if !bytes.HasPrefix(data[at:], []byte("\xff\xff\xff")) {
			continue
		}
		rest := data[at+3:]
		if len(rest) == 0 {
			return nil, false
		}
		d := &dat{data: data[:at], edition: int(rest[0]), nodes: datCountryBegin}
		if d.edition >= 106 {
			d.edition -= 105
		}
		switch d.edition {
		case datCountry, datCountry6:
		case datCity0, datCity1, datAS, datCity0v6, datCity1v6, datAS6:
			if len(rest) < 4 {
				return nil, false
			}
			d.nodes = u24(rest[1:])
		default:
			return nil, false
		}
		d.v6 = d.edition == datCountry6 || d.edition == datAS6 || d.edition == datCity0v6 || d.edition == datCity1v6
		return d, true
	}
	return nil, false
}

func u24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// kind is what a file of the edition holds.
func (d *dat) kind() Kind {
	switch d.edition {
	case datAS, datAS6:
		return Kind{Name: "GeoIP legacy AS .dat", Networks: true}
	case datCity0, datCity1, datCity0v6, datCity1v6:
		return Kind{Name: "GeoIP legacy city .dat", Places: true}
	}
	return Kind{Name: "GeoIP legacy country .dat", Places: true}
}

// date returns the date in the text that ends the data, such as GEO-106FREE 20190101 Build.
func (d *dat) date() time.Time {
	tail := d.data[max(0, len(d.data)-200):]
	tail = tail[bytes.LastIndexByte(tail, 0)+1:]
	for _, word := range strings.Fields(string(tail)) {
		if t, err := time.Parse("20060102", word); err == nil {
			return t
		}
	}
	return time.Time{}
}

var errDAT = errors.New("damaged GeoIP .dat")

// read passes on the networks of the tree. A tree with clearly more networks than it has
// nodes, since many lead to the same one, is damaged.
func (d *dat) read(sink Sink, limit int64) (Report, error) {
	report := Report{Kind: d.kind(), Date: d.date()}
	ids := make(map[int]uint32)
	depth := 32
	if d.v6 {
		depth = 128
	}
	work := len(d.data)/datRecord + 1
	var walk func(node int, key ranges.V6, bits int) error
	walk = func(node int, key ranges.V6, bits int) error {
		if bits >= depth || (node+1)*2*datRecord > len(d.data) {
			return errDAT
		}
		for side := range 2 {
			if work--; work < 0 {
				return fmt.Errorf("%w: more networks than it has nodes", errDAT)
			}
			to := u24(d.data[node*2*datRecord+side*datRecord:])
			k := key
			if side == 1 {
				at := depth - 1 - bits
				if at >= 64 {
					k.Hi |= 1 << (at - 64)
				} else {
					k.Lo |= 1 << at
				}
			}
			if to < d.nodes {
				if err := walk(to, k, bits+1); err != nil {
					return err
				}
				continue
			}
			if report.Rows++; report.Rows > limit {
				return nil
			}
			id, ok := ids[to]
			if !ok {
				facts, err := d.facts(to)
				if err != nil {
					return err
				}
				if id, err = sink.ID(facts); err != nil {
					return err
				}
				ids[to] = id
			}
			if id == 0 {
				continue
			}
			last := k
			free := depth - 1 - bits
			if free >= 64 {
				last.Hi |= 1<<(free-64) - 1
				last.Lo = ^uint64(0)
			} else {
				last.Lo |= 1<<free - 1
			}
			var err error
			if d.v6 {
				err = sink.Add(ranges.Range{First: k.Addr(), Last: last.Addr()}, id)
			} else {
				err = sink.Add4(ranges.V4(k.Lo), ranges.V4(last.Lo), id)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(0, ranges.V6{}, 0); err != nil {
		return report, err
	}
	return report.finish(nil)
}

// facts returns what a leaf says.
func (d *dat) facts(to int) (f Facts, err error) {
	if d.edition == datCountry || d.edition == datCountry6 {
		f.Country = datCode(to - datCountryBegin)
		return f, nil
	}
	at := to + (2*datRecord-1)*d.nodes
	if to == d.nodes {
		return f, nil // nothing is known
	}
	if at >= len(d.data) {
		return f, errDAT
	}
	b := d.data[at:min(len(d.data), at+1000)]
	if d.edition == datAS || d.edition == datAS6 {
		text, _, _ := bytes.Cut(b, []byte{0})
		number, org, _ := strings.Cut(UTF8(text), " ")
		f.AS, _ = parseAS([]byte(number))
		f.Org = org
		return f, nil
	}
	f.Country = datCode(int(b[0]))
	b = b[1:]
	var texts [3]string // region, city, postal code
	for i := range texts {
		text, rest, ok := bytes.Cut(b, []byte{0})
		if !ok {
			return f, errDAT
		}
		texts[i], b = UTF8(text), rest
	}
	if len(b) < 2*datRecord {
		return f, errDAT
	}
	f.City, f.Region = texts[1], texts[0] != "" || texts[2] != ""
	f.Lat, f.Lon = float64(u24(b))/10000-180, float64(u24(b[datRecord:]))/10000-180
	f.Point = (f.Lat != 0 || f.Lon != 0) && f.Lat >= -90 && f.Lat <= 90 && f.Lon <= 180
	return f, nil
}

// datCode returns a country by its number in .dat files; what is no country is "".
func datCode(n int) string {
	if n <= 0 || 2*n+2 > len(datCodes) {
		return ""
	}
	code, _ := parseCountry([]byte(datCodes[2*n : 2*n+2]))
	return code
}

// datCodes are the codes of countries in the order of their numbers.
const datCodes = "--APEUADAEAFAGAIALAMCWAOAQARASATAUAWAZBABBBDBEBFBGBHBIBJBMBNBOBRBSBTBVBWBYBZCACCCDCFCGCHCICKCLCMCNCOCRCUCVCXCYCZDEDJDKDMDODZ" +
	"ECEEEGEHERESETFIFJFKFMFOFRSXGAGBGDGEGFGHGIGLGMGNGPGQGRGSGTGUGWGYHKHMHNHRHTHUIDIEILINIOIQIRISITJMJOJPKEKGKHKIKMKNKPKRKWKYKZ" +
	"LALBLCLILKLRLSLTLULVLYMAMCMDMGMHMKMLMMMNMOMPMQMRMSMTMUMVMWMXMYMZNANCNENFNGNINLNONPNRNUNZOMPAPEPFPGPHPKPLPMPNPRPSPTPWPYQA" +
	"RERORURWSASBSCSDSESGSHSISJSKSLSMSNSOSRSTSVSYSZTCTDTFTGTHTJTKTMTNTOTLTRTTTVTWTZUAUGUMUSUYUZVAVCVEVGVIVNVUWFWSYEYTRSZAZMMEZWA1A2O1AXGGIMJEBLMFBQSS--"
