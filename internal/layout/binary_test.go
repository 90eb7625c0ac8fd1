package layout

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/ranges"
)

// zipped returns a zip archive of files.
func zipped(t testing.TB, files ...string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		require.NoError(t, err)
		w.Write([]byte(files[i+1]))
	}
	require.NoError(t, z.Close())
	return b.Bytes()
}

const (
	blocksHeader = "network,geoname_id,registered_country_geoname_id,represented_country_geoname_id,is_anonymous_proxy,is_satellite_provider,postal_code,latitude,longitude,accuracy_radius\n"
	placesHeader = "geoname_id,locale_code,continent_code,continent_name,country_iso_code,country_name,subdivision_1_iso_code,subdivision_1_name,subdivision_2_iso_code,subdivision_2_name,city_name\n"
)

// TestArchives: all tables of an archive are one, as they are downloaded, and files beside them
// do no harm.
func TestArchives(t *testing.T) {
	four, six := blocksHeader+"192.0.2.0/24,1,,,0,0,,50.7,7.1,20\n", blocksHeader+"2001:db8::/32,1,,,0,0,,50.7,7.1,20\n"
	want := []string{"192.0.2.0-192.0.2.255 DE region Bonn 50.7,7.1 20 km", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff DE region Bonn 50.7,7.1 20 km"}
	dir := "GeoLite2-City-CSV_20260101/"
	locations := placesHeader + "1,en,EU,Europe,DE,Germany,NW,Nordrhein-Westfalen,,,Bonn\n"
	data := zipped(t, dir+"LICENSE.txt", "Some words, and more.\n", dir+"GeoLite2-City-Blocks-IPv4.csv", four,
		dir+"GeoLite2-City-Blocks-IPv6.csv", six, dir+"GeoLite2-City-Locations-de.csv", "x\n", dir+"GeoLite2-City-Locations-en.csv", locations)
	l := &list{}
	r, err := Read(fileOf(data), l)
	require.NoError(t, err)
	assert.Equal(t, want, l.rows)
	assert.Equal(t, Kind{"GeoLite2 city CSV", true, false}, r.Kind)
	assert.Empty(t, r.Remarks)
	k, err := Recognise(fileOf(data))
	require.NoError(t, err)
	assert.Equal(t, r.Kind, k)

	// A tar archive likewise, and never with files of the folder in which the program runs.
	tarred := func(files ...[2]string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, f := range files {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}))
			w.Write([]byte(f[1]))
		}
		require.NoError(t, w.Close())
		return b.Bytes()
	}
	l = &list{}
	_, err = Read(fileOf(tarred([2]string{"x/COPYRIGHT.txt", "Words.\n"}, [2]string{"x/table.csv", "192.0.2.0,192.0.2.255,AU\n"})), l)
	require.NoError(t, err)
	assert.Equal(t, []string{"192.0.2.0-192.0.2.255 AU"}, l.rows)
	t.Chdir(t.TempDir())
	for _, in := range []string{"", "./", dir} {
		l = &list{}
		r, err = Read(fileOf(tarred([2]string{in + "GeoLite2-City-Blocks-IPv4.csv", four}, [2]string{in + "GeoLite2-City-Blocks-IPv6.csv", six},
			[2]string{in + "GeoLite2-City-Locations-de.csv", "x\n"}, [2]string{in + "GeoLite2-City-Locations-en.csv", locations})), l)
		require.NoError(t, err)
		assert.Equal(t, want, l.rows, in)
		assert.Empty(t, r.Remarks)
	}
	require.NoError(t, os.WriteFile("GeoLite2-City-Locations-en.csv", []byte(strings.ReplaceAll(locations, "DE,Germany", "AQ,Antarctica")), 0o600))
	require.NoError(t, os.Mkdir("elsewhere", 0o700))
	for _, archive := range [][]byte{tarred([2]string{"GeoLite2-City-Blocks-IPv4.csv", four}), zipped(t, "x/GeoLite2-City-Blocks-IPv4.csv", four)} {
		l = &list{}
		f := fileOf(archive)
		f.Name = "elsewhere/archive"
		r, err = Read(f, l)
		require.NoError(t, err)
		assert.NotContains(t, l.rows[0], "AQ")
		assert.Contains(t, strings.Join(r.Remarks, ""), "put GeoLite2-City-Locations-en.csv beside it")
		// Those beside the archive do if it has none.
		l = &list{}
		f = fileOf(archive)
		f.Name = "archive"
		r, err = Read(f, l)
		require.NoError(t, err)
		assert.Contains(t, l.rows[0], "AQ")
		assert.Empty(t, r.Remarks)
	}

	_, err = Read(fileOf(zipped(t, "README", "Words.\n")), &list{})
	assert.ErrorIs(t, err, ErrUnknown)
	_, err = Read(fileOf(zipped(t)), &list{})
	assert.ErrorIs(t, err, ErrUnknown)
	_, err = Read(fileOf(data[:len(data)/2]), &list{})
	assert.ErrorContains(t, err, "damaged zip archive")
	bomb := zipped(t, "table.mmdb", strings.Repeat("\x00", 64<<20))
	_, err = Read(fileOf(bomb), &list{})
	assert.ErrorContains(t, err, "unpack to more than 100 times their size")
	// An archive in an archive is not opened.
	_, err = Read(fileOf(zipped(t, "inner.zip", string(data))), &list{})
	assert.ErrorIs(t, err, ErrUnknown)
}

// TestArchiveOfUnlikeTables: tables of countries do not hide those of cities, whichever comes first,
// and what is left out is said.
func TestArchiveOfUnlikeTables(t *testing.T) {
	cities := "20.0.0.0,20.0.255.255,AS,JP,Osaka,Osaka,34.69,135.5\n21.0.0.0,21.0.0.255,AS,JP,Osaka,Osaka,34.69,135.5\n"
	countries := "20.0.0.0,20.0.255.255,CH\n20.0.0.0,20.0.0.255,CH\n"
	networks := "20.0.0.0,20.0.255.255,64500,One\n20.0.0.0,20.0.0.255,64501,Two\n"
	tarBytes := func(files ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i := 0; i < len(files); i += 2 {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))}))
			w.Write([]byte(files[i+1]))
		}
		require.NoError(t, w.Close())
		return b.Bytes()
	}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write([]byte(cities))
	require.NoError(t, w.Close())
	for _, pack := range []func(...string) []byte{tarBytes, func(files ...string) []byte { return zipped(t, files...) }} {
		for _, files := range [][]string{{"a.csv", cities, "b.csv", countries}, {"b.csv", countries, "a.csv", cities}, {"b.csv", countries, "x/a.csv.gz", gz.String(), "LICENSE.txt", "Words.\n"}} {
			l := &list{}
			r, err := Read(fileOf(pack(files...)), l)
			require.NoError(t, err)
			assert.Len(t, l.rows, 2)
			assert.Contains(t, l.rows[0], "Osaka")
			require.Len(t, r.Remarks, 1)
			assert.Contains(t, r.Remarks[0], "b.csv inside is left out: it has countries only, and a.csv")
		}
		l := &list{}
		r, err := Read(fileOf(pack("a.csv", cities, "n.csv", networks)), l)
		require.NoError(t, err)
		assert.Len(t, l.rows, 4)
		assert.Empty(t, r.Remarks)
		r, err = Read(fileOf(pack("a.csv", cities, "bad.csv.gz", "\x1f\x8bgarbage", "n.csv", networks)), &list{})
		require.NoError(t, err)
		require.Len(t, r.Remarks, 1)
		assert.Contains(t, r.Remarks[0], "bad.csv.gz inside is left out: the gzip data are cut off")
		assert.Equal(t, "DB-IP city CSV and AS CSV", r.Kind.Name)
		for bad, why := range map[string]string{
			"":                               "no line has anything",
			"<html>\n":                       "the first line is",
			"20.0.0.0,255.255.0.0,JP\n":      "the second column has netmasks",
			"one,two,three\nfour,five,six\n": "3 columns between commas",
			cities[:20] + "\x00\x00\x00":     "binary data",
		} {
			r, err := Read(fileOf(pack("a.csv", cities, "bad.csv", bad, "README", "Words.\n")), &list{})
			require.NoError(t, err)
			require.Len(t, r.Remarks, 1, bad)
			assert.Contains(t, r.Remarks[0], "bad.csv inside is left out: the layout is not known: ")
			assert.Contains(t, r.Remarks[0], why)
			assert.NotContains(t, r.Remarks[0], "understood are")
		}
	}
}

// TestCompressed: all ways of compressing that are met are undone.
func TestCompressed(t *testing.T) {
	content := []byte(strings.Repeat("192.0.2.0,192.0.2.255,AU\n", 100))
	for _, tool := range []string{"gzip", "bzip2", "xz", "zstd"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Logf("without %s, which is not installed", tool)
			continue
		}
		cmd := exec.Command(path, "-c")
		cmd.Stdin = bytes.NewReader(content)
		data, err := cmd.Output()
		require.NoError(t, err)
		name := t.TempDir() + "/table"
		require.NoError(t, writeFile(name, data))
		l := &list{}
		_, err = readFile(t, name, l)
		require.NoError(t, err, tool)
		assert.Len(t, l.rows, 100, tool)
		require.NoError(t, writeFile(name, data[:len(data)-9]))
		_, err = readFile(t, name, &list{})
		assert.ErrorContains(t, err, tool+" data", "cut off")
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(zipped(t, "x.csv", string(content)))
	z.Close()
	name := t.TempDir() + "/table"
	require.NoError(t, writeFile(name, b.Bytes()))
	_, err := readFile(t, name, &list{})
	assert.Error(t, err, "a zip archive in gzip")
}

// mrt returns records of a dump of a routing table.
func mrt(records ...[]byte) (b []byte) {
	for i, r := range records {
		sub := uint16(peerIndexTable)
		if i > 0 {
			sub = uint16(r[0])
			r = r[1:]
		}
		b = binary.BigEndian.AppendUint32(b, 1767225600) // 2026-01-01
		b = binary.BigEndian.AppendUint16(b, tableDumpV2)
		b = binary.BigEndian.AppendUint16(b, sub)
		b = binary.BigEndian.AppendUint32(b, uint32(len(r)))
		b = append(b, r...)
	}
	return b
}

// rib returns a record of a prefix with routes over paths.
func rib(prefix string, paths ...[]uint32) []byte {
	p := netip.MustParsePrefix(prefix)
	b := []byte{ribIPv4, 0, 0, 0, 1, byte(p.Bits())}
	if p.Addr().Is6() {
		b[0] = ribIPv6
	}
	b = append(b, p.Addr().AsSlice()[:(p.Bits()+7)/8]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(paths)))
	for _, path := range paths {
		attrs := []byte{0x40, 1, 1, 0, 0x50, asPath, 0, byte(2 + 4*len(path)), 2, byte(len(path))}
		for _, as := range path {
			attrs = binary.BigEndian.AppendUint32(attrs, as)
		}
		attrs = append(attrs, 0x40, 3, 4, 192, 0, 2, 1)
		b = append(b, 0, 0, 0, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(attrs)))
		b = append(b, attrs...)
	}
	return b
}

func TestMRT(t *testing.T) {
	data := mrt(make([]byte, 20), rib("0.0.0.0/0", []uint32{1}), rib("192.0.2.0/25", []uint32{64500, 64496}, []uint32{64501, 64496}, []uint32{64497}),
		rib("198.51.100.0/24"), rib("2001:db8::/33", []uint32{4200000000}))
	l := &list{}
	r, err := Read(fileOf(data), l)
	require.NoError(t, err)
	assert.Equal(t, []string{"192.0.2.0-192.0.2.127 AS64496", "2001:db8::-2001:db8:7fff:ffff:ffff:ffff:ffff:ffff AS4200000000"}, l.rows)
	assert.Equal(t, Report{Kind: Kind{"MRT routing table", false, true}, Date: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Rows: 4}, r)
	r, err = Read(fileOf(data[:len(data)-3]), &list{})
	require.NoError(t, err)
	assert.Equal(t, []string{"it is truncated in its last record"}, r.Remarks)
	bad := mrt(make([]byte, 20), rib("192.0.2.0/25", []uint32{64496}), rib("192.0.2.0/25", []uint32{64496}), []byte{ribIPv4, 0, 0, 0, 1, 77, 1, 1})
	r, err = Read(fileOf(bad), &list{})
	require.NoError(t, err)
	assert.Equal(t, []string{"1 row is left out: record 3: a record is truncated"}, r.Remarks)
}

// TestOrigin: the AS of a route is the last of its path, and none of a confederation.
func TestOrigin(t *testing.T) {
	for _, tt := range []struct {
		name string
		path []byte
		want uint32
	}{
		{"sequence", []byte{2, 2, 0, 0, 0, 1, 0, 0, 0, 7}, 7},
		{"set", []byte{2, 1, 0, 0, 0, 1, 1, 2, 0, 0, 0, 8, 0, 0, 0, 9}, 8},
		{"confederation before it", []byte{3, 1, 0, 0, 255, 0, 2, 1, 0, 0, 0, 7}, 7},
		{"inside a confederation", []byte{3, 1, 0, 0, 255, 0, 4, 1, 0, 0, 255, 1}, 0},
		{"own network", nil, 0},
		{"cut off", []byte{2, 2, 0, 0, 0, 1}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			attrs := append([]byte{0x40, 1, 1, 0, 0x40, asPath, byte(len(tt.path))}, tt.path...)
			assert.Equal(t, tt.want, origin(attrs))
		})
	}
}

// binFile returns a file of IP2Location of type 5 with one range of each family.
func binFile() []byte {
	le := binary.LittleEndian
	b := make([]byte, 64)
	copy(b, []byte{5, 6, 26, 1, 2})
	text := func(s string) uint32 {
		at := len(b)
		b = append(append(b, byte(len(s))), s...)
		return uint32(at)
	}
	country := text("AU")
	text("Australia")
	region, city := text("Queensland"), text("Brisbane")
	none := text("-")
	b[29] = 1 // IP2Location, not IP2Proxy
	row := func(country, region, city uint32, lat, lon float32) []byte {
		var r []byte
		for _, v := range []uint32{country, region, city, math.Float32bits(lat), math.Float32bits(lon)} {
			r = le.AppendUint32(r, v)
		}
		return r
	}
	known, unknown := row(country, region, city, -27.46794, 153.02809), row(none, none, none, 0, 0)
	le.PutUint32(b[5:], 4)
	le.PutUint32(b[9:], uint32(len(b)+1))
	for _, r := range []struct {
		first uint32
		rest  []byte
	}{{0, unknown}, {3221225984, known}, {3221226240, unknown}, {math.MaxUint32, unknown}} {
		b = append(le.AppendUint32(b, r.first), r.rest...)
	}
	le.PutUint32(b[13:], 3)
	le.PutUint32(b[17:], uint32(len(b)+1))
	for _, r := range []struct {
		first uint64
		rest  []byte
	}{{0, unknown}, {0x20010db800000000, known}, {0x20010db900000000, unknown}} {
		b = append(le.AppendUint64(le.AppendUint64(b, 0), r.first), r.rest...)
	}
	return b
}

func TestBIN(t *testing.T) {
	l := &list{}
	r, err := Read(fileOf(binFile()), l)
	require.NoError(t, err)
	assert.Equal(t, []string{"0.0.0.0-192.0.1.255 nothing", "192.0.2.0-192.0.2.255 AU region Brisbane -27.46794,153.02809", "192.0.3.0-255.255.255.255 nothing",
		"::-2001:db7:ffff:ffff:ffff:ffff:ffff:ffff nothing", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff AU region Brisbane -27.46794,153.02809"}, l.rows)
	assert.Equal(t, "IP2Location DB5 BIN", r.Kind.Name)
	assert.Equal(t, "2026-01-02", r.Date.Format(time.DateOnly))

	// The last row, which only ends the one before, is the last address of all.
	b := binFile()
	copy(b[len(b)-36:], bytes.Repeat([]byte{255}, 16))
	l = &list{}
	_, err = Read(fileOf(b), l)
	require.NoError(t, err)
	assert.Equal(t, "2001:db8::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff AU region Brisbane -27.46794,153.02809", l.rows[4])

	b[29] = 2 // IP2Proxy
	_, err = Read(fileOf(b), &list{})
	assert.ErrorIs(t, err, ErrUnknown)
}

// TestBINTruncated: of a truncated file the rows are read whose texts are there; it says that it
// is truncated, in one line.
func TestBINTruncated(t *testing.T) {
	le := binary.LittleEndian
	whole := binFile()
	rows := len(whole)
	// The texts of the known rows stand behind all rows, as in files that are published.
	known := le.AppendUint32(le.AppendUint32(nil, 77), 88)
	whole = bytes.ReplaceAll(whole, known, le.AppendUint32(le.AppendUint32(nil, uint32(rows)), uint32(rows)+11))
	whole = append(whole, "\x0aQueensland\x08Brisbane"...)
	le.PutUint32(whole[31:], uint32(len(whole)))
	for _, tt := range []struct {
		size    int
		remarks []string
		err     string
	}{
		{len(whole), nil, ""},
		{len(whole) - 1, []string{"it is truncated: it has 322 of 323 bytes", "2 rows are left out: row 2: a text lies behind the end of the file: it is truncated or damaged"}, ""},
		{rows, []string{"it is truncated: it has 303 of 323 bytes", "2 rows are left out: row 2: a text lies behind the end of the file: it is truncated or damaged"}, ""},
		{rows - 1, nil, "it is truncated: it has 302 of 323 bytes"},
		{64, nil, "it is truncated: it has 64 of 323 bytes"},
	} {
		r, err := Read(fileOf(whole[:tt.size]), &list{})
		assert.Equal(t, "IP2Location DB5 BIN", r.Kind.Name)
		assert.Equal(t, tt.remarks, r.Remarks)
		if tt.err == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, tt.err)
		}
		k, _ := Recognise(fileOf(whole[:tt.size]))
		assert.Equal(t, r.Kind, k)
	}
}

// datFile returns a file of GeoIP of countries in which 128.0.0.0/1 is Australia's.
func datFile() []byte {
	b := []byte{0, 255, 255, 16, 255, 255} // --, AU
	b = append(b, "\x00\x00\x00GEO-106FREE 20190203 Build"...)
	return append(b, 255, 255, 255, 106)
}

func TestDAT(t *testing.T) {
	l := &list{}
	r, err := Read(fileOf(datFile()), l)
	require.NoError(t, err)
	assert.Equal(t, []string{"0.0.0.0-127.255.255.255 nothing", "128.0.0.0-255.255.255.255 AU"}, l.rows)
	assert.Equal(t, Kind{"GeoIP legacy country .dat", true, false}, r.Kind)
	assert.Equal(t, "2019-02-03", r.Date.Format(time.DateOnly))
	assert.Equal(t, "DE", datCode(56))
	assert.Equal(t, "US", datCode(225))
	assert.Equal(t, "SS", datCode(254))
	// A node that leads to itself.
	_, err = Read(fileOf([]byte{0, 0, 0, 0, 0, 0, 255, 255, 255, 106}), &list{})
	assert.ErrorIs(t, err, errDAT)
}

// TestDATReal compares the tables of Debian's package geoip-database with the tools of its
// library, half of the addresses at the borders of networks. A tool knows one address a run.
func TestDATReal(t *testing.T) {
	for _, tt := range []struct{ tool, file string }{
		{"geoiplookup", "/usr/share/GeoIP/GeoIP.dat"},
		{"geoiplookup6", "/usr/share/GeoIP/GeoIPv6.dat"},
	} {
		t.Run(tt.tool, func(t *testing.T) {
			t.Parallel()
			tool, err := exec.LookPath(tt.tool)
			if _, err2 := os.Stat(tt.file); err != nil || err2 != nil {
				t.Skip("Debian's packages geoip-bin and geoip-database are not installed")
			}
			var b ranges.Builder
			codes := &countries{Builder: &b}
			_, err = readFile(t, tt.file, codes)
			require.NoError(t, err)
			v4, v6 := b.Resolve()
			r := rand.New(rand.NewPCG(1, 2))
			n := 5000
			if testing.Short() {
				n = 150
			}
			for i := range n {
				a, id := at(r, v4, ranges.V4(r.Uint32()), 1, i)
				if tt.tool == "geoiplookup6" {
					a, id = at(r, v6, ranges.V6{Hi: 1<<61 | r.Uint64()>>3, Lo: r.Uint64()}, ranges.V6{Lo: 1}, i)
				}
				out, err := exec.Command(tool, "-f", tt.file, a.String()).Output()
				require.NoError(t, err)
				want := "" // GeoIP Country Edition: AU, Australia; or A2, Satellite Provider
				if _, code, ok := strings.Cut(string(out), ": "); ok && code[2] == ',' && isLetter(code[0]) && isLetter(code[1]) {
					want = code[:2]
				}
				require.Equal(t, want, codes.names[id], "%v: %s", a, out)
			}
		})
	}
}

// at returns an address and the ID that starts have for it: the address that is given or, of
// every two, one at a border of starts.
func at[K interface {
	ranges.Key[K]
	Addr() netip.Addr
}](r *rand.Rand, starts []ranges.Start[K], a, one K, i int) (netip.Addr, uint32) {
	if i%2 == 0 && len(starts) > 0 {
		if a = starts[r.IntN(len(starts))].First; i%4 == 0 {
			a = a.Minus(one)
		}
	}
	return a.Addr(), ranges.Find(starts, a)
}

// countries is a Sink for countries.
type countries struct {
	*ranges.Builder
	names []string
}

func (c *countries) ID(f Facts) (uint32, error) {
	if len(c.names) == 0 {
		c.names = []string{""}
	}
	if f.Country == "" {
		return 0, nil
	}
	c.names = append(c.names, f.Country)
	return uint32(len(c.names) - 1), nil
}

// containers are ways in which a file is packed.
var containers = []struct {
	name string
	pack func(t *testing.T, w io.Writer, size int64, content io.Reader)
}{
	{"plain", func(t *testing.T, w io.Writer, _ int64, content io.Reader) {
		_, err := io.Copy(w, content)
		require.NoError(t, err)
	}},
	{"gzip", func(t *testing.T, w io.Writer, _ int64, content io.Reader) {
		z, err := gzip.NewWriterLevel(w, gzip.NoCompression)
		require.NoError(t, err)
		_, err = io.Copy(z, content)
		require.NoError(t, err)
		require.NoError(t, z.Close())
	}},
	{"zip", func(t *testing.T, w io.Writer, _ int64, content io.Reader) {
		z := zip.NewWriter(w)
		m, err := z.CreateHeader(&zip.FileHeader{Name: "member", Method: zip.Store})
		require.NoError(t, err)
		_, err = io.Copy(m, content)
		require.NoError(t, err)
		require.NoError(t, z.Close())
	}},
	{"tar", func(t *testing.T, w io.Writer, size int64, content io.Reader) {
		z := tar.NewWriter(w)
		require.NoError(t, z.WriteHeader(&tar.Header{Name: "words", Mode: 0o644, Size: 6}))
		z.Write([]byte("Words."))
		require.NoError(t, z.WriteHeader(&tar.Header{Name: "member", Mode: 0o644, Size: size}))
		_, err := io.Copy(z, content)
		require.NoError(t, err)
		require.NoError(t, z.Close())
	}},
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestRecogniseBinary: to recognise a file, or to count its rows, needs little memory unless it
// is a table, however large and packed it is.
func TestRecogniseBinary(t *testing.T) {
	const size = 64 << 20
	for _, c := range containers {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "backup.db")
			file, err := os.Create(name)
			require.NoError(t, err)
			c.pack(t, file, size, io.MultiReader(strings.NewReader("SQLite format 3\x00"), io.LimitReader(rand.NewChaCha8([32]byte{}), size-16)))
			require.NoError(t, file.Close())
			assert.Less(t, allocated(func() {
				_, err := openFile(t, name, Recognise)
				assert.ErrorIs(t, err, ErrUnknown)
				_, err = openFile(t, name, Count)
				assert.ErrorIs(t, err, ErrUnknown)
			}), uint64(size/4))

			for _, table := range [][]byte{binFile(), datFile(), mmdbFile} {
				var b bytes.Buffer
				c.pack(t, &b, int64(len(table)), bytes.NewReader(table))
				require.NoError(t, writeFile(name, b.Bytes()))
				k, err := openFile(t, name, Recognise)
				require.NoError(t, err)
				r, err := readFile(t, name, &list{})
				require.NoError(t, err)
				assert.Equal(t, r.Kind, k)
			}
		})
	}

	// The rest of a large file is not looked at.
	name := filepath.Join(t.TempDir(), "sparse.db")
	require.NoError(t, writeFile(name, []byte("SQLite format 3\x00")))
	for _, size := range []int64{900 << 20, 3 << 30} {
		require.NoError(t, os.Truncate(name, size))
		assert.Less(t, allocated(func() {
			_, err := openFile(t, name, Recognise)
			assert.ErrorIs(t, err, ErrUnknown)
			_, err = readFile(t, name, &list{})
			assert.ErrorIs(t, err, ErrUnknown)
		}), uint64(4<<20))
	}
}

// TestManyTables: a tar archive is not searched from its beginning for each of many tables.
func TestManyTables(t *testing.T) {
	var b bytes.Buffer
	z := tar.NewWriter(&b)
	for range 100 {
		require.NoError(t, z.WriteHeader(&tar.Header{Name: "GeoIP.dat", Mode: 0o644, Size: int64(len(datFile()))}))
		z.Write(datFile())
	}
	require.NoError(t, z.Close())
	at := &countingAt{Reader: bytes.NewReader(b.Bytes())}
	f := fileOf(b.Bytes())
	f.At = at
	k, err := Recognise(f)
	require.NoError(t, err)
	assert.True(t, k.Places)
	assert.Less(t, at.n, 20*b.Len())
	r, err := Read(fileOf(b.Bytes()), &list{})
	require.NoError(t, err)
	assert.EqualValues(t, 200, r.Rows)
}

// A countingAt counts the bytes that are read of it.
type countingAt struct {
	*bytes.Reader
	n int
}

func (c *countingAt) ReadAt(b []byte, at int64) (int, error) {
	n, err := c.Reader.ReadAt(b, at)
	c.n += n
	return n, err
}

// mmdbFile is a MaxMind DB file with AS64496 for all addresses.
var mmdbFile = []byte("\x00\x00\x00\x11\x00\x00\x00\x11" + strings.Repeat("\x00", 16) + "\xe2\x58autonomous_system_number\xc2\xfb\xf0\x5d\x01autonomous_system_organization\x44Caf\xe9" +
	"\xab\xcd\xefMaxMind.com\xe5\x5bbinary_format_major_version\xa1\x02\x4ddatabase_type\x4cGeoLite2-ASN\x4aip_version\xa1\x04\x4anode_count\xc1\x01\x4brecord_size\xa1\x20")

func TestMMDB(t *testing.T) {
	l := &list{}
	_, err := Read(fileOf(mmdbFile), l)
	require.NoError(t, err)
	assert.Equal(t, []string{"0.0.0.0-127.255.255.255 AS64496 Café", "128.0.0.0-255.255.255.255 AS64496 Café"}, l.rows)
}

func FuzzBinary(f *testing.F) {
	f.Add(binFile())
	f.Add(datFile())
	f.Add(mrt(make([]byte, 20), rib("192.0.2.0/25", []uint32{64496})))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		Read(fileOf(data), &list{})
		Recognise(fileOf(data))
	})
}
