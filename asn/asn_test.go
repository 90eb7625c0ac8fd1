package asn

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/ranges"
)

// An entry is a row for New, whose range is a network.
type entry struct {
	prefix netip.Prefix
	as     AS
}

func entries(list []entry) iter.Seq2[Range, AS] {
	return func(yield func(Range, AS) bool) {
		for _, e := range list {
			if !yield(RangeOf(e.prefix), e.as) {
				return
			}
		}
	}
}

// linear is the naive twin of DB.Lookup.
func linear(list []entry, addr netip.Addr) (AS, bool) {
	addr = addr.Unmap().WithZone("")
	bits := -1
	var as AS
	for _, e := range list {
		if e.prefix.Contains(addr) && e.prefix.Bits() >= bits {
			bits, as = e.prefix.Bits(), e.as
		}
	}
	if as.Number == 0 {
		return AS{}, false
	}
	return as, true
}

var nested = []entry{
	{netip.MustParsePrefix("192.0.2.0/24"), AS{64496, "Example"}},
	{netip.MustParsePrefix("192.0.2.64/26"), AS{64497, "Inner"}},
	{netip.MustParsePrefix("192.0.2.64/32"), AS{64498, "Innermost"}},
	{netip.MustParsePrefix("192.0.2.127/32"), AS{64496, "Example"}},
	{netip.MustParsePrefix("192.0.2.192/26"), AS{}},
	{netip.MustParsePrefix("198.51.100.0/25"), AS{64499, "Half"}},
	{netip.MustParsePrefix("198.51.100.128/25"), AS{64499, "Half"}},
	{netip.MustParsePrefix("255.255.255.0/24"), AS{64500, "Top"}},
	{netip.MustParsePrefix("255.255.255.255/32"), AS{64501, "Last"}},
	{netip.MustParsePrefix("2001:db8::/32"), AS{64502, "Six"}},
	{netip.MustParsePrefix("2001:db8:1::/48"), AS{64503, ""}},
	{netip.MustParsePrefix("2001:db8:1::1/128"), AS{64504, "Host"}},
	{netip.MustParsePrefix("ffff::/16"), AS{64505, "Top of six"}},
}

func TestLookup(t *testing.T) {
	db, err := New(Info{}, entries(nested))
	require.NoError(t, err)
	require.NoError(t, db.Verify())
	tests := []struct {
		addr string
		want AS
	}{
		{"192.0.1.255", AS{}},
		{"192.0.2.0", AS{64496, "Example"}},
		{"192.0.2.63", AS{64496, "Example"}},
		{"192.0.2.64", AS{64498, "Innermost"}},
		{"192.0.2.65", AS{64497, "Inner"}},
		{"192.0.2.126", AS{64497, "Inner"}},
		{"192.0.2.127", AS{64496, "Example"}},
		{"192.0.2.128", AS{64496, "Example"}},
		{"192.0.2.192", AS{}},
		{"192.0.3.0", AS{}},
		{"198.51.100.127", AS{64499, "Half"}},
		{"198.51.100.128", AS{64499, "Half"}},
		{"0.0.0.0", AS{}},
		{"255.255.254.255", AS{}},
		{"255.255.255.254", AS{64500, "Top"}},
		{"255.255.255.255", AS{64501, "Last"}},
		{"::ffff:192.0.2.1", AS{64496, "Example"}},
		{"::", AS{}},
		{"2001:db8::", AS{64502, "Six"}},
		{"2001:db8::1%eth0", AS{64502, "Six"}},
		{"2001:db8:1::", AS{64503, ""}},
		{"2001:db8:1::1", AS{64504, "Host"}},
		{"2001:db8:1::2", AS{64503, ""}},
		{"2001:db8:1:ffff:ffff:ffff:ffff:ffff", AS{64503, ""}},
		{"2001:db8:2::", AS{64502, "Six"}},
		{"2001:db9::", AS{}},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", AS{64505, "Top of six"}},
	}
	for _, tt := range tests {
		t.Run(tt.addr, func(t *testing.T) {
			addr := netip.MustParseAddr(tt.addr)
			got, ok := db.Lookup(addr)
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.want != AS{}, ok)
			naive, _ := linear(nested, addr)
			assert.Equal(t, naive, got)
		})
	}
	_, ok := db.Lookup(netip.Addr{})
	assert.False(t, ok, "the zero address has no AS")
}

func TestAll(t *testing.T) {
	db, err := New(Info{}, entries(nested))
	require.NoError(t, err)
	var got []string
	for r, as := range db.All() {
		got = append(got, r.First.String()+"-"+r.Last.String()+" "+strconv.Itoa(int(as.Number)))
	}
	assert.Equal(t, []string{
		"192.0.2.0-192.0.2.63 64496",
		"192.0.2.64-192.0.2.64 64498",
		"192.0.2.65-192.0.2.126 64497",
		"192.0.2.127-192.0.2.191 64496",
		"198.51.100.0-198.51.100.255 64499",
		"255.255.255.0-255.255.255.254 64500",
		"255.255.255.255-255.255.255.255 64501",
		"2001:db8::-2001:db8:0:ffff:ffff:ffff:ffff:ffff 64502",
		"2001:db8:1::-2001:db8:1:: 64503",
		"2001:db8:1::1-2001:db8:1::1 64504",
		"2001:db8:1::2-2001:db8:1:ffff:ffff:ffff:ffff:ffff 64503",
		"2001:db8:2::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 64502",
		"ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 64505",
	}, got)

	for range db.All() {
		break // must not go on
	}
}

func TestAllWithoutIPv6(t *testing.T) {
	db, err := New(Info{}, entries([]entry{{netip.MustParsePrefix("0.0.0.0/0"), AS{64496, ""}}}))
	require.NoError(t, err)
	for r := range db.All() {
		assert.Equal(t, RangeOf(netip.MustParsePrefix("0.0.0.0/0")), r)
	}
}

func TestZeroDB(t *testing.T) {
	var db DB
	for _, s := range []string{"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"} {
		_, ok := db.Lookup(netip.MustParseAddr(s))
		assert.False(t, ok, s)
	}
	for r := range db.All() {
		assert.Fail(t, "zero DB has a range", r)
	}
	assert.NoError(t, db.Verify())
	assert.Zero(t, db.Info())
	n, err := db.WriteTo(io.Discard)
	assert.Zero(t, n)
	assert.NoError(t, err)
}

func TestNew(t *testing.T) {
	t.Run("order does not matter", func(t *testing.T) {
		list := slices.Clone(nested)
		a, err := New(Info{Name: "x"}, entries(list))
		require.NoError(t, err)
		slices.Reverse(list)
		b, err := New(Info{Name: "x"}, entries(list))
		require.NoError(t, err)
		assert.Equal(t, written(t, a), written(t, b))
	})
	t.Run("last of equal prefixes", func(t *testing.T) {
		p := netip.MustParsePrefix("192.0.2.0/24")
		db, err := New(Info{}, entries([]entry{{p, AS{1, "a"}}, {p, AS{2, "b"}}}))
		require.NoError(t, err)
		got, _ := db.Lookup(p.Addr())
		assert.Equal(t, AS{2, "b"}, got)
	})
	t.Run("host bits and mapped prefixes", func(t *testing.T) {
		db, err := New(Info{}, entries([]entry{{netip.MustParsePrefix("::ffff:192.0.2.7/120"), AS{1, "a"}}}))
		require.NoError(t, err)
		got, _ := db.Lookup(netip.MustParseAddr("192.0.2.0"))
		assert.Equal(t, AS{1, "a"}, got)
	})
	t.Run("broken UTF-8", func(t *testing.T) {
		p := netip.MustParsePrefix("192.0.2.0/24")
		db, err := New(Info{}, entries([]entry{{p, AS{1, "Caf\xe9"}}}))
		require.NoError(t, err)
		got, _ := db.Lookup(p.Addr())
		assert.Equal(t, "Caf\uFFFD", got.Org)
	})
	t.Run("invalid prefix", func(t *testing.T) {
		_, err := New(Info{}, entries([]entry{{netip.Prefix{}, AS{64496, ""}}}))
		assert.EqualError(t, err, "asn: row 1: invalid IP to invalid IP is not a range of addresses")
	})
	t.Run("long name", func(t *testing.T) {
		long := strings.Repeat("x", maxName)
		p := netip.MustParsePrefix("192.0.2.0/24")
		db, err := New(Info{}, entries([]entry{{p, AS{64496, long}}}))
		require.NoError(t, err)
		got, _ := db.Lookup(p.Addr())
		assert.Equal(t, long, got.Org)
		_, err = New(Info{}, entries([]entry{{p, AS{64496, long + "x"}}}))
		assert.EqualError(t, err, "asn: row 1: name of AS64496 has 65536 bytes, more than 65535")
		_, err = New(Info{Name: long + "x"}, entries(nil))
		assert.EqualError(t, err, "asn: name of the table has 65536 bytes, more than 65535")
	})
}

// written returns the serialised form of a DB.
func written(tb testing.TB, db *DB) string {
	var out strings.Builder
	n, err := db.WriteTo(&out)
	require.NoError(tb, err)
	require.EqualValues(tb, out.Len(), n)
	return out.String()
}

// TestLoad: a record that is no AS is damage. The rest is tested in internal/ranges.
func TestLoad(t *testing.T) {
	info := Info{"example", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), 13}
	db, err := New(info, entries(nested))
	require.NoError(t, err)
	table := written(t, db)
	again, err := Load(table)
	require.NoError(t, err)
	assert.Equal(t, info, again.Info())
	assert.NoError(t, again.Verify())
	assert.Equal(t, maps.Collect(db.All()), maps.Collect(again.All()))

	_, err = Load("x")
	assert.EqualError(t, err, "asn: not a compiled table")
	again, err = Load(strings.Replace(table, "Innermost", "Outermost", 1))
	require.NoError(t, err)
	assert.EqualError(t, again.Verify(), "asn: damaged table")

	for name, of := range map[string]func(c *ranges.Content){
		"no number": func(c *ranges.Content) { c.Records[recordSize] = 0 },
		"no order":  func(c *ranges.Content) { c.Records[recordSize] = 9 },
		"no name":   func(c *ranges.Content) { c.Records[recordSize+4] = 200 },
		"cut name":  func(c *ranges.Content) { c.Texts = c.Texts[:len(c.Texts)-1] },
	} {
		c := ranges.Content{V4: []ranges.Start[ranges.V4]{{First: 1, ID: 1}}}
		c.Records, c.Texts, _ = records([]AS{{}, {1, "a"}, {2, "b"}})
		of(&c)
		data, err := form.Encode(c)
		require.NoError(t, err)
		db, err := Load(data)
		require.NoError(t, err)
		assert.EqualError(t, db.Verify(), "asn: damaged table", name)
		for range db.All() {
		}
	}
}

func TestLookupAllocs(t *testing.T) {
	db, err := New(Info{}, entries(nested))
	require.NoError(t, err)
	for _, s := range []string{"192.0.2.65", "2001:db8:1::1", "::ffff:192.0.2.65"} {
		addr := netip.MustParseAddr(s)
		assert.Zero(t, testing.AllocsPerRun(100, func() { db.Lookup(addr) }), s)
	}
}

const blocks = "network,autonomous_system_number,autonomous_system_organization\n" +
	"192.0.2.0/24,64496,\"Example, Inc.\"\n" +
	"198.51.100.0/24,,\n" +
	"2001:db8::/32,64497,\"Say \"\"six\"\"\"\n"

func TestOpen(t *testing.T) {
	zip := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write([]byte(s))
		require.NoError(t, w.Close())
		return b.String()
	}
	tests := []struct{ name, content string }{
		{"plain", blocks},
		{"gzip", zip(blocks)},
		{"byte order mark", "\ufeff" + blocks},
		{"CRLF", strings.ReplaceAll(blocks, "\n", "\r\n")},
		{"no end of line", strings.TrimSpace(blocks)},
		{"other columns", "x,autonomous_system_organization,network,autonomous_system_number\n" +
			",\"Example, Inc.\",192.0.2.0/24,64496\n,,198.51.100.0/24,0\n,\"Say \"\"six\"\"\",2001:db8::/32,64497\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "any name")
			require.NoError(t, os.WriteFile(name, []byte(tt.content), 0o600))
			date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			require.NoError(t, os.Chtimes(name, date, date))
			db, err := Open(name)
			require.NoError(t, err)
			require.NoError(t, db.Verify())
			assert.Equal(t, Info{"any name", date, 2}, db.Info())
			got, _ := db.Lookup(netip.MustParseAddr("192.0.2.255"))
			assert.Equal(t, AS{64496, "Example, Inc."}, got)
			got, _ = db.Lookup(netip.MustParseAddr("2001:db8::5"))
			assert.Equal(t, AS{64497, `Say "six"`}, got)
			_, ok := db.Lookup(netip.MustParseAddr("198.51.100.1"))
			assert.False(t, ok)
		})
	}

	header := blocks[:strings.Index(blocks, "\n")+1]
	failures := []struct{ name, content, want string }{
		{"empty", "", "the file is empty"},
		{"other file", "1.0.0.0,1.0.0.255,AU\n", "country CSV: not a table of AS numbers"},
		{"missing column", "network,as_name\n", `the layout is not known: the columns "network,as_name" tell neither a place nor an AS number`},
		{"header only", header, "it has no rows: the file is truncated"},
		{"network", header + "192.0.2.0/24x,1,\n", `1 of 1 rows cannot be read: line 2: "192.0.2.0/24x" is not a network such as 192.0.2.0/24`},
		{"number", header + "192.0.2.0/24,ASx,\n", `1 of 1 rows cannot be read: line 2: "ASx" is not an AS number from 0 to 4294967295`},
		{"large number", header + "192.0.2.0/24,4294967296,\n", `1 of 1 rows cannot be read: line 2: "4294967296" is not an AS number from 0 to 4294967295`},
		{"columns", header + "192.0.2.0/24,1\n", "1 of 1 rows cannot be read: line 2: 2 columns, expected 3"},
		{"gzip", "\x1f\x8b\x08", "the gzip data are cut off after 0 bytes of content: unexpected EOF"},
		{"cut gzip", zip(strings.Repeat(blocks, 9))[:60], "the gzip data are cut off after "},
		{"damaged mmdb", "\x00\xab\xcd\xefMaxMind.comjunk", "the layout is not known: damaged MaxMind DB: "},
	}
	for _, tt := range failures {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "x.csv")
			require.NoError(t, os.WriteFile(name, []byte(tt.content), 0o600))
			_, err := Open(name)
			assert.ErrorContains(t, err, "asn: "+name+": "+tt.want)
		})
	}
	name := filepath.Join(t.TempDir(), "table")
	db, err := New(Info{Name: "example"}, entries(nested))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, []byte(zip(written(t, db))), 0o600))
	db, err = Open(name)
	require.NoError(t, err)
	assert.Equal(t, Info{Name: "example", Ranges: 13}, db.Info())
	_, err = Open(t.TempDir())
	assert.ErrorContains(t, err, "is a folder, expected a file")
	_, err = Open(filepath.Join(t.TempDir(), "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "asn: ")
}

// TestOpenCached: several files make one DB, and a mapped DB is the same as one that was read;
// one that is cut reports it, and is compiled anew. The rest is tested in internal/ranges.
func TestOpenCached(t *testing.T) {
	dir := t.TempDir()
	four := write(t, filepath.Join(dir, "four.csv"), blocks)
	six := write(t, filepath.Join(dir, "six.tsv"), "2001:db8:ff::\t2001:db8:ff::ff\t64499\tDE\tOther\n")
	want, err := Open(four, six)
	require.NoError(t, err)
	assert.Equal(t, "four.csv", want.Info().Name)
	assert.Equal(t, 4, want.Info().Ranges)
	folder := filepath.Join(dir, "cache")
	for range 2 {
		db, err := OpenCached(folder, nil, four, six)
		require.NoError(t, err)
		require.NoError(t, db.Verify())
		require.NoError(t, db.Err())
		assert.Equal(t, want.Info(), db.Info())
		assert.Equal(t, maps.Collect(want.All()), maps.Collect(db.All()))
		as, ok := db.LookupAS(64499)
		assert.True(t, ok)
		assert.Equal(t, AS{64499, "Other"}, as)
		files, err := filepath.Glob(filepath.Join(folder, "four-*.asn"))
		require.NoError(t, err)
		require.Len(t, files, 1)
		require.NoError(t, os.Truncate(files[0], 5000))
		assert.EqualError(t, db.Err(), "asn: "+files[0]+" was truncated while it was in use")
		assert.EqualError(t, db.Verify(), "asn: damaged table "+files[0])
		assert.Empty(t, maps.Collect(db.All()))
	}
	db, err := OpenCached(four, nil, four)
	assert.ErrorIs(t, err, ErrNotCached)
	assert.NotNil(t, db)
}

// read makes a DB of what a file holds.
func read(r *bufio.Reader) (*DB, error) {
	b := newBuilder()
	_, remarks, err := b.Read(&ranges.File{Reader: r})
	if err != nil {
		return nil, err
	}
	return dbOf(b.Table(ranges.Info{Remarks: remarks}, ranges.Stamp{}))
}

// TestLookupASReal compares the names of AS numbers with a search of all ranges.
func TestLookupASReal(t *testing.T) {
	db, err := Open(data(t, "asn/GeoLite2-ASN-Blocks-IPv6.csv.gz"))
	require.NoError(t, err)
	names := make(map[uint32]string)
	for _, as := range db.All() {
		names[as.Number] = as.Org
	}
	for number, want := range names {
		got, ok := db.LookupAS(number)
		require.True(t, ok)
		require.Equal(t, AS{number, want}, got)
		_, there := names[number+1]
		_, ok = db.LookupAS(number + 1)
		require.Equal(t, there, ok, number+1)
	}
	for _, db := range []*DB{db, {}} {
		_, ok := db.LookupAS(0)
		assert.False(t, ok)
		_, ok = db.LookupAS(1<<32 - 1)
		assert.False(t, ok)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestReadError(t *testing.T) {
	wrong := errors.New("disk on fire")
	_, err := read(bufio.NewReader(io.MultiReader(strings.NewReader(blocks+strings.Repeat("192.0.2.0/24,1,\n", 9999)), failing{wrong})))
	assert.ErrorIs(t, err, wrong)
	_, err = read(bufio.NewReader(failing{wrong}))
	assert.ErrorIs(t, err, wrong)
}

// data returns a file of real data that lies beside the repository.
func data(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := os.Getwd()
	require.NoError(tb, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			tb.Skip("no repository root above the test")
		}
		dir = up
	}
	file := filepath.Join(dir, "..", "shared", "data", name)
	if _, err := os.Stat(file); err != nil {
		tb.Skip("no test data: ", err)
	}
	return file
}

// TestOpenReal looks up the first, last and some other address of each network of
// real tables, read by another route.
func TestOpenReal(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	for _, name := range []string{"asn/GeoLite2-ASN-Blocks-IPv4.csv.gz", "asn/GeoLite2-ASN-Blocks-IPv6.csv.gz"} {
		t.Run(name, func(t *testing.T) {
			list := readAll(t, data(t, name))
			db, err := Open(data(t, name))
			require.NoError(t, err)
			require.NoError(t, db.Verify())
			check(t, db, list)
		})
	}
	t.Run("mmdb", func(t *testing.T) {
		db, err := Open(data(t, "asn/GeoLite2-ASN-20190514.mmdb.gz"))
		require.NoError(t, err)
		require.NoError(t, db.Verify())
		assert.Equal(t, "2019-05-13", db.Info().Date.Format(time.DateOnly))
		check(t, db, readAll(t, data(t, "asn/GeoLite2-ASN-Blocks-IPv4.csv.gz")))
		check(t, db, readAll(t, data(t, "asn/GeoLite2-ASN-Blocks-IPv6.csv.gz")))
	})
}

func check(t *testing.T, db *DB, list []entry) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, e := range list {
		first, end := e.prefix.Addr(), ranges.Last(e.prefix)
		inside := first.As16()
		for i, b := range end.As16() {
			inside[i] |= byte(r.Uint32()) & (b ^ inside[i])
		}
		for _, addr := range []netip.Addr{first, end, netip.AddrFrom16(inside)} {
			if got, _ := db.Lookup(addr); got != e.as {
				require.Equal(t, e.as, got, addr)
			}
		}
	}
}

func readAll(t *testing.T, name string) []entry {
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	zr, err := gzip.NewReader(f)
	require.NoError(t, err)
	rows, err := csv.NewReader(zr).ReadAll()
	require.NoError(t, err)
	var list []entry
	for _, row := range rows[1:] {
		n, err := strconv.Atoi(row[1])
		require.NoError(t, err)
		list = append(list, entry{netip.MustParsePrefix(row[0]), AS{uint32(n), row[2]}})
	}
	return list
}

// FuzzLookup compares the table with a search of all prefixes. Bytes come in
// tens: address bytes of a prefix, its length and its AS.
func FuzzLookup(f *testing.F) {
	f.Add([]byte("\x04\xc0\x00\x02\x00\x00\x00\x00\x18\x01\x04\xc0\x00\x02\x40\x00\x00\x00\x1a\x02"), []byte("\xc0\x00\x02\x41\x00\x00\x00\x00"))
	f.Add([]byte("\x06\x20\x01\x0d\xb8\x00\x00\x00\x20\x01\x06\x20\x01\x0d\xb8\x00\x01\x00\x30\x00"), []byte("\x20\x01\x0d\xb8\x00\x01\x00\x00"))
	f.Add([]byte("\x04\x00\x00\x00\x00\x00\x00\x00\x00\x01\x06\x00\x00\x00\x00\x00\x00\x00\x00\x02"), []byte("\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x04\xff\xff\xff\xff\x00\x00\x00\x20\x01\x06\xff\xff\xff\xff\xff\xff\xff\x80\x02"), []byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, rows, probes []byte) {
		var list []entry
		var addrs []netip.Addr
		for row := range slices.Chunk(rows, 10) {
			if len(row) < 10 || len(list) == 60 {
				break
			}
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte(row[1:5])), int(row[8])%33)
			if row[0]&2 != 0 {
				p = netip.PrefixFrom(wide(row[1:8]), int(row[8])%129)
			}
			p = p.Masked()
			if p.Addr().Is4In6() {
				continue
			}
			list = append(list, entry{p, AS{uint32(row[9] % 5), strings.Repeat("x", int(row[9]%3))}})
			addrs = append(addrs, p.Addr(), p.Addr().Prev(), ranges.Last(p), ranges.Last(p).Next())
		}
		for probe := range slices.Chunk(probes, 8) {
			if len(probe) == 8 {
				addrs = append(addrs, netip.AddrFrom4([4]byte(probe)), wide(probe[1:]))
			}
		}
		db, err := New(Info{}, entries(list))
		require.NoError(t, err)
		require.NoError(t, db.Verify())
		for _, addr := range addrs {
			if !addr.IsValid() {
				continue
			}
			want, wantOK := linear(list, addr)
			got, ok := db.Lookup(addr)
			require.Equal(t, want, got, "%s in %v", addr, list)
			require.Equal(t, wantOK, ok)
		}
		var before Range
		var beforeAS AS
		for r, as := range db.All() {
			require.True(t, r.First.Compare(r.Last) <= 0, r)
			require.True(t, before.Last.Less(r.First), "%v then %v", before, r)
			if before.Last.Next() == r.First {
				require.NotEqual(t, beforeAS, as, r)
			}
			for _, addr := range []netip.Addr{r.First, r.Last} {
				want, _ := linear(list, addr)
				require.Equal(t, want, as, "%s in %v", addr, list)
			}
			before, beforeAS = r, as
		}
	})
}

// wide spreads seven bytes over an IPv6 address: the first six and the last one.
func wide(b []byte) netip.Addr {
	var a [16]byte
	copy(a[:], b[:6])
	a[15] = b[6]
	return netip.AddrFrom16(a)
}

func reader(s string) *bufio.Reader { return bufio.NewReader(strings.NewReader(s)) }

func FuzzRead(f *testing.F) {
	f.Add([]byte(blocks))
	f.Add([]byte("\ufeff" + blocks))
	f.Add([]byte(strings.ReplaceAll(blocks, "\n", "\r\n")))
	f.Add([]byte(blocks + "192.0.2.0/24,1,\"x\ny\"\n::ffff:192.0.2.0/100,4294967295,\n"))
	f.Add([]byte("network,autonomous_system_number\n"))
	f.Add([]byte(tsv))
	f.Fuzz(func(t *testing.T, file []byte) {
		if bytes.HasPrefix(file, []byte("\x1f\x8b")) || bytes.Contains(file, []byte("\xab\xcd\xefMaxMind.com")) {
			t.Skip("the readers of these formats are not ours")
		}
		db, err := read(bufio.NewReader(bytes.NewReader(file)))
		if err != nil {
			assert.Nil(t, db)
			return
		}
		require.NoError(t, db.Verify())
	})
}

func BenchmarkOpen(b *testing.B) {
	for _, name := range []string{"asn/GeoLite2-ASN-Blocks-IPv4.csv.gz", "asn/GeoLite2-ASN-20190514.mmdb.gz"} {
		b.Run(name, func(b *testing.B) {
			file := data(b, name)
			b.ReportAllocs()
			for b.Loop() {
				_, err := Open(file)
				require.NoError(b, err)
			}
		})
	}
}
