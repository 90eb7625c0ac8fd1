package geoip

import (
	"bytes"
	"encoding/csv"
	"math"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
)

func TestOpenCSV(t *testing.T) {
	// Neither the name nor compression matters.
	for _, data := range [][]byte{[]byte(csvSample), gzipped(t, []byte(csvSample))} {
		name := writeFile(t, "places.mmdb", data)
		date := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
		require.NoError(t, os.Chtimes(name, date, date))
		db, err := Open(name)
		require.NoError(t, err)
		require.NoError(t, db.Verify())
		assert.Equal(t, Info{Name: "places.mmdb", Date: date, Ranges: 3}, db.Info())
		sydney := Place{Lat: -33.6629, Lon: 151.3986, Precision: City}
		pole := Place{Lat: 90, Lon: -180, Precision: City}
		assert.Equal(t, []testRow{
			{Range{First: addr("192.0.2.0"), Last: addr("192.0.2.255")}, sydney},
			{Range{First: addr("198.51.100.0"), Last: addr("198.51.100.0")}, Place{Lat: 52.37403, Lon: 4.88969, Precision: City}},
			{Range{First: addr("198.51.100.56"), Last: addr("198.51.100.57")}, pole},
		}, all(db))
	}
}

// naiveCSV reads ipv4.csv with the standard library. It returns nil where
// readCSV must fail.
func naiveCSV(data []byte) []testRow {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = 4
	fields, err := r.ReadAll()
	if err != nil {
		return nil
	}
	var rows []testRow
	for _, f := range fields {
		first, err1 := strconv.ParseUint(f[0], 10, 32)
		last, err2 := strconv.ParseUint(f[1], 10, 32)
		if err1 != nil || err2 != nil || last < first {
			return nil
		}
		if f[2] == "" || f[3] == "" {
			continue
		}
		lat, err1 := strconv.ParseFloat(f[2], 64)
		lon, err2 := strconv.ParseFloat(f[3], 64)
		if err1 != nil || err2 != nil || math.Abs(lat) > 90 || math.Abs(lon) > 180 {
			return nil
		}
		if lat == 0 && lon == 0 {
			continue
		}
		// The first and the last host of a network stand for it all.
		for bits := 30; bits >= 0; bits-- {
			p := netip.PrefixFrom(addr4(uint32(first)), bits).Masked()
			if p.Addr().Next() == addr4(uint32(first)) && ranges.Last(p).Prev() == addr4(uint32(last)) {
				first, last = first-1, last+1
				break
			}
		}
		rows = append(rows, testRow{Range{First: addr4(uint32(first)), Last: addr4(uint32(last))}, Place{Lat: lat, Lon: lon, Precision: City}})
	}
	return rows
}

func FuzzReadCSV(f *testing.F) {
	f.Add([]byte(csvSample))
	f.Add([]byte("1,2,3,4\n5,6,7\n"))
	f.Add([]byte("0,4294967295,-90,180\n16777217,16777470,-.5,1.\n"))
	f.Add([]byte("1,4294967294,1.12345678,-0.00000001"))
	f.Add([]byte("1,2,+3,0x4\n1,2,1e1,inf"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBuilder()
		file := fileOf(t, data)
		if kind, err := layout.Recognise(fileOf(t, data)); err != nil || kind.Name != "connmap CSV" {
			return
		}
		if _, remarks, err := b.Read(file); err != nil || len(remarks) > 0 {
			return
		}
		db, err := dbOf(b.Table(ranges.Info{}, ranges.Stamp{}))
		require.NoError(t, err)
		if bytes.ContainsAny(data, "\"#") {
			return // naiveCSV knows neither quotation marks nor comments
		}
		rows := naiveCSV(data)
		require.NotEmpty(t, rows, "%q", data)
		if len(rows) > 100 {
			return
		}
		for _, r := range rows {
			for _, a := range []netip.Addr{r.First, r.Last, r.First.Prev(), r.Last.Next()} {
				want, ok := linear(rows, a)
				got, gotOK := db.Lookup(a)
				require.Equal(t, ok, gotOK, "%v in %q", a, data)
				require.InDelta(t, want.Lat, got.Lat, 1.01e-7)
				require.InDelta(t, want.Lon, got.Lon, 1.01e-7)
			}
		}
	})
}

func TestOpenRealCSV(t *testing.T) {
	data := unxz(t, "synth/connmap_ipv4_head200k.csv.xz")
	want := naiveCSV(data)
	require.NotEmpty(t, want)
	db, err := Open(writeFile(t, "ipv4.csv", data))
	require.NoError(t, err)
	require.NoError(t, db.Verify())
	for _, r := range want {
		for _, a := range []netip.Addr{r.First, r.Last} {
			got, ok := db.Lookup(a)
			require.True(t, ok, "%v", a)
			require.Equal(t, r.place, got, "%v", a)
		}
	}
	db, err = Open(writeFile(t, "ipv4.csv", data[:len(data)-30]))
	require.NoError(t, err)
	assert.Equal(t, "it is truncated in its last line", db.Remarks()[0])
}
