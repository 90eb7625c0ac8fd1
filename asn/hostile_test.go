package asn

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestOverlaps: rows that lie in each other cost what rows side by side cost, and not what
// the networks cost that they consist of.
func TestOverlaps(t *testing.T) {
	const n = 64_000
	var b bytes.Buffer
	for i := range uint64(n) {
		first := ranges.V6{Hi: 1, Lo: i | 1}.Addr()
		last := ranges.V6{Hi: ^uint64(1), Lo: ^i &^ 1}.Addr()
		fmt.Fprintf(&b, "%v\t%v\t%d\tZZ\tEXAMPLE\n", first, last, i/2%2+1)
	}
	name := write(t, filepath.Join(t.TempDir(), "table.tsv"), b.String())
	var db *DB
	got := allocated(func() {
		var err error
		db, err = Open(name)
		require.NoError(t, err)
	})
	require.NoError(t, db.Verify())
	t.Logf("%d bytes of text, a table of %d, %d bytes allocated", b.Len(), len(written(t, db)), got)
	assert.Less(t, got, uint64(100<<20))
	as, ok := db.Lookup(netip.MustParseAddr("8000::"))
	assert.True(t, ok)
	assert.NotZero(t, as.Number)
}

// TestSmallestRange: of ranges that are no networks the smallest decides, and of equal ones
// the last.
func TestSmallestRange(t *testing.T) {
	db, err := read(reader("192.0.2.0\t192.0.2.200\t1\tZZ\tlarge\n192.0.2.1\t192.0.2.130\t2\tZZ\tsmall\n192.0.2.1\t192.0.2.130\t3\tZZ\tsmall, and last\n"))
	require.NoError(t, err)
	for addr, want := range map[string]uint32{"192.0.2.0": 1, "192.0.2.1": 3, "192.0.2.130": 3, "192.0.2.131": 1, "192.0.2.200": 1, "192.0.2.201": 0} {
		as, _ := db.Lookup(netip.MustParseAddr(addr))
		assert.Equal(t, want, as.Number, addr)
	}
}

// TestBombs: no format that is read makes gigabytes of kilobytes.
func TestBombs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	open := map[string]func(name string) error{
		"table":       func(name string) error { _, err := Open(name); return err },
		"delegations": func(name string) error { _, err := OpenDelegations(name); return err },
		"orgs":        func(name string) error { _, err := OpenOrgs(name); return err },
		"aut-nums": func(name string) error {
			a, err := OpenAutNums("", name)
			if err == nil {
				a.Close()
			}
			return err
		},
	}
	for _, tt := range []struct{ kind, head, line string }{
		{"table", "", "192.0.2.0\t192.0.2.255\t1\tZZ\tX\n"},
		{"table", "", "\x00"},
		{"delegations", "", "arin|US|asn|1|1|20000101|assigned|A\n"},
		{"orgs", "# format:aut|changed|aut_name|org_id\n", "1||A|B\n"},
		{"aut-nums", "", "aut-num: AS1\n\n"},
	} {
		t.Run(fmt.Sprintf("%s/%.9q", tt.kind, tt.head+tt.line), func(t *testing.T) {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			w.Write([]byte(tt.head))
			chunk := []byte(strings.Repeat(tt.line, 1<<20/len(tt.line)))
			for range 80 {
				w.Write(chunk)
			}
			require.NoError(t, w.Close())
			name := write(t, filepath.Join(t.TempDir(), "bomb.gz"), b.String())
			var err error
			got := allocated(func() { err = open[tt.kind](name) })
			assert.ErrorIs(t, err, unpack.ErrTooLarge)
			content := unpack.Free + unpack.MaxRatio*b.Len()
			assert.Less(t, got, uint64(32*content), "bytes allocated of %d that may unpack to %d", b.Len(), content)
			_, err = Recognise(name)
			assert.NoError(t, err)
		})
	}
}

// TestOpenQuote: a quotation mark that nothing ends takes its own line only.
func TestOpenQuote(t *testing.T) {
	header := blocks[:strings.Index(blocks, "\n")+1]
	db, err := read(reader(header + "192.0.2.0/25,1,\"X\n192.0.2.128/25,2,Y\n"))
	require.NoError(t, err)
	as, _ := db.Lookup(netip.MustParseAddr("192.0.2.128"))
	assert.Equal(t, AS{2, "Y"}, as)
	text := header + strings.Repeat("192.0.2.0/24,1,X\n", 9) + "192.0.2.0/24,1,\"" + strings.Repeat("x", 4*maxLine)
	got := allocated(func() { _, err = read(reader(text)) })
	assert.NoError(t, err)
	assert.Less(t, got, uint64(32<<20))
}

// TestManyRegistries: a file cannot have them searched for each of its lines.
func TestManyRegistries(t *testing.T) {
	for name, line := range map[string]string{
		"headers":   "2|r%d|20200101|1|19930101|20200101|+0000\n",
		"summaries": "r%d|*|asn|*|1|summary\n",
		"records":   "r%d|US|asn|1|1|20000101|assigned|A\n",
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for i := range 2 * maxRegistries {
				fmt.Fprintf(&b, line, i)
			}
			_, err := delegations(t, b.String())
			assert.ErrorContains(t, err, "line 101: more than 100 registries: not a file of delegations")
		})
	}
}

// TestManyAutNums: records of many numbers that lie in each other are found by bisection.
func TestManyAutNums(t *testing.T) {
	const n = 20_000
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "ASHandle: AS%d\nASNumber: %d - %d\n\n", i, i, uint32(1<<31)-uint32(i))
	}
	b.WriteString("ASHandle: AS0\nASNumber: 0 - 4294967295\n\nASHandle: twin\nASNumber: 0 - 4294967295\n\n")
	a, err := OpenAutNums("", write(t, filepath.Join(t.TempDir(), "arin.txt"), b.String()))
	require.NoError(t, err)
	defer a.Close()
	assert.LessOrEqual(t, len(a.dumps[0].starts), 2*n+3)
	for number, want := range map[uint32]string{0: "AS0", 5: "AS5", n: "AS19999", 1<<31 - 7: "AS7", 1<<31 + 1: "AS0", 1<<32 - 1: "AS0"} {
		got, ok, err := a.Lookup(number)
		require.NoError(t, err)
		require.True(t, ok, number)
		handle, _, _ := strings.Cut(strings.TrimPrefix(got.Text, "ASHandle: "), "\n")
		assert.Equal(t, want, handle, number)
	}
}

// TestFull: a table has as many names as New says.
func TestFull(t *testing.T) {
	b := newBuilder()
	b.names = maxNames
	assert.ErrorContains(t, b.add(RangeOf(netip.MustParsePrefix("192.0.2.0/24")), AS{1, "X"}), "names of more than 268435456 bytes")
}
