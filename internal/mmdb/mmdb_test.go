package mmdb

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func appendText(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 29:
		b = append(b, text<<5|byte(n))
	case n < 285:
		b = append(b, text<<5|29, byte(n-29))
	case n < 65821:
		b = binary.BigEndian.AppendUint16(append(b, text<<5|30), uint16(n-285))
	default:
		n -= 65821
		b = append(b, text<<5|31, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, s...)
}

// appendPointer has four bytes, whatever it leads to.
func appendPointer(b []byte, to int) []byte {
	return binary.BigEndian.AppendUint32(append(b, pointer<<5|3<<3), uint32(to))
}

// file makes a file of 32-bit records, those of the tree being -1 for nothing and -2-n for
// what begins at n in data.
func file(version byte, tree []int, data []byte) []byte {
	nodes := len(tree) / 2
	var b []byte
	for _, v := range tree {
		switch {
		case v == -1:
			v = nodes
		case v < -1:
			v = nodes + separator - 2 - v
		}
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	}
	b = append(append(b, make([]byte, separator)...), data...)
	b = append(append(b, marker...), maps<<5|6)
	for _, key := range []string{"node_count", "record_size", "ip_version", "binary_format_major_version", "database_type", "build_epoch"} {
		b = appendText(b, key)
		switch key {
		case "node_count":
			b = binary.BigEndian.AppendUint32(append(b, uint32s<<5|4), uint32(nodes))
		case "record_size":
			b = append(b, uint16s<<5|1, 32)
		case "ip_version":
			b = append(b, uint16s<<5|1, version)
		case "database_type":
			b = appendText(b, "Test")
		case "build_epoch":
			b = append(b, 4, 9-7, 0x65, 0, 0, 0)
		default:
			b = append(b, uint16s<<5|1, 2)
		}
	}
	return b
}

// count reads all that a file has, and returns the number of networks.
func count(b []byte, want Fields) (int, error) {
	db, err := Open(b)
	if err != nil {
		return 0, err
	}
	n := 0
	for network, err := range db.Networks() {
		if err != nil {
			return n, err
		}
		n++
		if _, err := db.Record(network.Record, want); err != nil {
			return n, err
		}
	}
	return n, nil
}

// ladder is a tree in which both records of each node lead to the next one, and those of
// the last where end says: 2^depth ways.
func ladder(depth, end int) []int {
	var tree []int
	for i := range depth {
		tree = append(tree, i+1, i+1)
	}
	tree[2*depth-2], tree[2*depth-1] = end, end
	return tree
}

// TestHostileTrees: a tree is walked once, wherever its nodes lead.
func TestHostileTrees(t *testing.T) {
	data := append([]byte{maps<<5 | 1}, appendText(appendText(nil, "a"), "b")...)
	aliases := ladder(96, 96)
	aliases = append(aliases, -1, -1) // IPv4
	for _, tt := range []struct {
		name    string
		version byte
		tree    []int
		want    string
	}{
		{"to a record by 2^32 ways", 4, ladder(32, -2), "more networks than the tree has records"},
		{"to a record by 2^128 ways", 6, ladder(128, -2), "more networks than the tree has records"},
		{"to nothing by 2^32 ways", 4, ladder(32, -1), "more networks than the tree has records"},
		{"to nothing by 2^128 ways", 6, ladder(128, -1), "more networks than the tree has records"},
		{"to IPv4 by 2^96 ways", 6, aliases, "more networks than the tree has records"},
		{"to itself", 6, []int{0, 0}, "more networks than the tree has records"},
		{"to the root", 6, []int{1, -1, 0, -2}, "more networks than the tree has records"},
		{"too deep", 4, func() []int {
			var tree []int
			for i := range 40 {
				tree = append(tree, i+1, -1)
			}
			tree[78] = -1
			return tree
		}(), "deeper than addresses are long"},
		{"behind the end", 4, []int{-2 - len(data), -1}, "does not lie in the file"},
		{"into what separates", 4, []int{-1 + 3, -1}, "does not lie in the file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := count(file(tt.version, tt.tree, data), Fields{"a": nil})
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

// inTheWay makes records of which each has a key that reaches to the same large container,
// whose type is given.
func inTheWay(records int, kind ...byte) func() ([]byte, func(int) int) {
	return func() ([]byte, func(int) int) {
		large := 5*records + 1<<17
		var data []byte
		for range records {
			n := large - len(data) - 5 - 65821
			data = append(data, maps<<5|1, text<<5|31, byte(n>>16), byte(n>>8), byte(n))
		}
		data = append(data, make([]byte, large-len(data))...)
		data = append(append(data, kind...), 0xff, 0xff) // 65,820 members
		return append(data, bytes.Repeat([]byte{text << 5}, 2*65_820)...), func(i int) int { return 5 * i }
	}
}

// TestHostileRecords: all records together cost what the file has bytes for.
func TestHostileRecords(t *testing.T) {
	const records = 1 << 15
	// side is a tree with a record each for so many networks.
	side := func(at func(i int) int) []int {
		tree := make([]int, 2*(records-1))
		for i := range records - 1 {
			for side := range 2 {
				below := 2*i + 1 + side
				if below >= records-1 {
					tree[2*i+side] = -2 - at(below-(records-1))
				} else {
					tree[2*i+side] = below
				}
			}
		}
		return tree
	}
	large := appendText(nil, strings.Repeat("x", 1<<20))
	for _, tt := range []struct {
		name string
		data func() (data []byte, at func(int) int)
	}{
		{"a large text for each", func() ([]byte, func(int) int) {
			data, first := large, len(large)
			for range records {
				data = append(append(data, maps<<5|1), appendText(nil, "a")...)
				data = appendPointer(data, 0)
			}
			size := (len(data) - first) / records
			return data, func(i int) int { return first + i*size }
		}},
		{"a large key for each", func() ([]byte, func(int) int) {
			data, first := large, len(large)
			for range records {
				data = append(appendPointer(append(data, maps<<5|1), 0), text<<5)
			}
			size := (len(data) - first) / records
			return data, func(i int) int { return first + i*size }
		}},
		{"a large map that is not wanted, but in the way", inTheWay(records, maps<<5|30)},
		{"a large array that is not wanted, but in the way", inTheWay(records, 30, arrays-7)},
		{"maps of maps of maps", func() ([]byte, func(int) int) {
			// Level n has two keys that lead to level n-1.
			var data []byte
			below := 0
			for range 64 {
				at := len(data)
				data = append(data, maps<<5|2)
				for range 2 {
					data = appendPointer(appendText(data, "a"), below)
				}
				below = at
			}
			return data, func(int) int { return below }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, at := tt.data()
			// The deepest that anybody wants.
			want := Fields{"a": {"a": {"a": nil}}}
			n, err := count(file(4, side(at), data), want)
			if tt.name == "maps of maps of maps" {
				require.NoError(t, err, "it is as deep as is wanted")
				assert.Equal(t, records, n)
				return
			}
			assert.ErrorIs(t, err, errWork, "after %d", n)
		})
	}
}

// library compares with another reader of the same form.
func library(t *testing.T, b []byte) {
	t.Helper()
	r, err := maxminddb.OpenBytes(b)
	require.NoError(t, err)
	db, err := Open(b)
	require.NoError(t, err)
	assert.Equal(t, r.Metadata.DatabaseType, db.Type)
	assert.Equal(t, r.Metadata.BuildEpoch, uint(db.Built.Unix()))
	var want []Network
	for n := range r.Networks() {
		require.NoError(t, n.Err())
		want = append(want, Network{n.Prefix(), int(n.Offset())})
	}
	var got []Network
	texts := 0
	for n, err := range db.Networks() {
		require.NoError(t, err)
		got = append(got, n)
		m, err := db.Record(n.Record, Fields{"country": {"iso_code": nil}, "location": {"latitude": nil, "accuracy_radius": nil}, "autonomous_system_organization": nil, "subdivisions": nil})
		require.NoError(t, err)
		var all any
		require.NoError(t, r.LookupOffset(uintptr(n.Record)).Decode(&all))
		record, _ := all.(map[string]any)
		require.Equal(t, record["autonomous_system_organization"], m["autonomous_system_organization"])
		country, _ := record["country"].(map[string]any)
		mine, _ := m["country"].(map[string]any)
		require.Equal(t, country["iso_code"], mine["iso_code"])
		location, _ := record["location"].(map[string]any)
		mine, _ = m["location"].(map[string]any)
		require.Equal(t, location["latitude"], mine["latitude"])
		_, ok := record["subdivisions"].([]any)
		some, also := m["subdivisions"].([]any)
		require.True(t, ok == also && ok == (len(some) > 0))
		texts += len(m)
	}
	assert.Equal(t, want, got)
	t.Logf("%d networks, %d fields", len(got), texts)
}

// TestLibrary: it finds what the library of the form's authors finds in their files.
func TestLibrary(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("..", "..", "..", "shared", "data", "*", "*.mmdb"))
	require.NoError(t, err)
	if len(names) == 0 {
		t.Skip("there are no test data beside the repository")
	}
	for _, name := range names {
		if strings.Contains(name, "broken") {
			continue
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			library(t, b)
		})
	}
}

func TestNetworks(t *testing.T) {
	record := append([]byte{maps<<5 | 1}, appendText(appendText(nil, "a"), "b")...)
	// 0.0.0.0/1 has nothing, 128.0.0.0/2 and 192.0.0.0/2 have a record.
	b := file(4, []int{-1, 1, -2, -2}, record)
	library(t, b)
	db, err := Open(b)
	require.NoError(t, err)
	var got []netip.Prefix
	for n, err := range db.Networks() {
		require.NoError(t, err)
		got = append(got, n.Prefix)
	}
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("128.0.0.0/2"), netip.MustParsePrefix("192.0.0.0/2")}, got)
}

// TestWide: a network with all addresses of IPv4 is one of IPv4 too.
func TestWide(t *testing.T) {
	record := append([]byte{maps<<5 | 1}, appendText(appendText(nil, "a"), "b")...)
	db, err := Open(file(6, []int{-2, -1}, record))
	require.NoError(t, err)
	var got []string
	for n, err := range db.Networks() {
		require.NoError(t, err)
		got = append(got, n.Prefix.String())
	}
	assert.Equal(t, []string{"::/1", "0.0.0.0/0"}, got)
}

func FuzzDB(f *testing.F) {
	record := append([]byte{maps<<5 | 2}, appendText(appendPointer(appendText(nil, "a"), 0), "b")...)
	f.Add(file(4, []int{-1, 1, -2, -2}, record))
	f.Add(file(6, ladder(100, -2), record))
	if b, err := os.ReadFile("../../../shared/data/geo/GeoLite2-City-Test.mmdb"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		count(b, Fields{"a": {"a": nil}, "country": {"iso_code": nil}})
	})
}
