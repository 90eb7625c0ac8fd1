package ranges

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testForm is that of tables of texts: a record is where the text begins, and its length.
var testForm = &Form{
	Magic: "texttab\x00", Ending: ".texts", Record: 8, Max: 1 << 30,
	Check: func(t *Table, id uint32) bool {
		s, ok := t.Record(id)
		return ok && len(t.Text(int(U32(s, 0)), int(U32(s, 4)))) == int(U32(s, 4))
	},
}

// lookup returns the text of an address, "" if there is none.
func lookup(t *Table, a netip.Addr) string { return textOf(t, t.Find(a)) }

func textOf(t *Table, id uint32) string {
	s, ok := t.Record(id)
	if !ok {
		return ""
	}
	return t.Text(int(U32(s, 0)), int(U32(s, 4)))
}

// A row is a range and its text; "" is none.
type row struct {
	Range
	text string
}

// A textReader reads lines of first address, last address and text.
type textReader struct {
	Builder
	texts []string
	ids   map[string]uint32
}

func newTextReader() *textReader {
	return &textReader{texts: []string{""}, ids: map[string]uint32{"": 0}}
}

func (x *textReader) add(r row) error {
	id, ok := x.ids[r.text]
	if !ok {
		id = uint32(len(x.texts))
		x.ids[r.text] = id
		x.texts = append(x.texts, r.text)
	}
	return x.Add(r.Range, id)
}

func (x *textReader) Read(f *File) (time.Time, []string, error) {
	data, err := io.ReadAll(f)
	if err != nil {
		return time.Time{}, nil, err
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ",", 3)
		if len(f) < 3 {
			return time.Time{}, nil, fmt.Errorf("line %d: %d fields", n, len(f))
		}
		if err := x.add(row{Range{addr(f[0]), addr(f[1])}, f[2]}); err != nil {
			return time.Time{}, nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return f.ModTime, nil, nil
}

func (x *textReader) Table(info Info, stamp Stamp) (*Table, error) {
	c := Content{Info: info, Stamp: stamp}
	c.V4, c.V6 = x.Resolve()
	for _, s := range x.texts {
		c.Records = le.AppendUint32(le.AppendUint32(c.Records, uint32(len(c.Texts))), uint32(len(s)))
		c.Texts = append(c.Texts, s...)
	}
	data, err := testForm.Encode(c)
	if err != nil {
		return nil, err
	}
	return testForm.Load(data)
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func tableOf(tb testing.TB, rows []row) *Table {
	x := newTextReader()
	for _, r := range rows {
		require.NoError(tb, x.add(r))
	}
	t, err := x.Table(Info{Name: "test"}, Stamp{})
	require.NoError(tb, err)
	require.NoError(tb, t.Verify())
	return t
}

func all(t *Table) []row {
	var rows []row
	for r, id := range t.All() {
		rows = append(rows, row{r, textOf(t, id)})
	}
	return rows
}

// linear is what a table answers, in the words of Resolve.
func linear(rows []row, a netip.Addr) string {
	best := -1
	for i, r := range rows {
		if r.First.BitLen() != a.BitLen() || a.Less(r.First) || r.Last.Less(a) {
			continue
		}
		if best >= 0 {
			size, old := distance(r.Range), distance(rows[best].Range)
			if c := size.Compare(old); c > 0 || c == 0 && r.First.Less(rows[best].First) {
				continue
			}
		}
		best = i
	}
	if best < 0 {
		return ""
	}
	return rows[best].text
}

func distance(r Range) V6 {
	if r.First.Is4() {
		return V6{Lo: uint64(Key4(r.Last) - Key4(r.First))}
	}
	return Key6(r.Last).Minus(Key6(r.First))
}

// fuzzRows makes rows from bytes: three for each, of few addresses that lie
// together so that they overlap and touch, at the ends of the families, at the
// edges of IPv4 buckets and at those of /64 networks.
func fuzzRows(data []byte) []row {
	bases := []netip.Addr{
		addr("0.0.0.0"), addr("192.0.2.250"), addr("198.51.255.240"), addr("255.255.255.224"),
		addr("::"), addr("2001:db8::ffff:ffff:ffff:fff0"), addr("2001:db8:0:1::"), addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffe0"),
	}
	texts := []string{"", "Amsterdam", "Balranald", "x", "\u00c5"}
	var rows []row
	for ; len(data) >= 3; data = data[3:] {
		base := bases[data[0]&7]
		first, last := step(base, data[1]&31), step(base, data[2]&31)
		// Some rows end or begin in other /64 networks.
		if !base.Is4() && data[1]&0x80 != 0 {
			first = V6{Hi: Key6(first).Hi + uint64(data[1]>>5&3)}.Addr()
		}
		if !base.Is4() && data[2]&0x80 != 0 {
			last = V6{Hi: Key6(last).Hi + uint64(data[2]>>5&3), Lo: math.MaxUint64}.Addr()
		}
		if last.Less(first) {
			first, last = last, first
		}
		rows = append(rows, row{Range{first, last}, texts[int(data[0]>>3)%len(texts)]})
	}
	return rows
}

func step(a netip.Addr, n byte) netip.Addr {
	for range n {
		a = a.Next()
	}
	return a
}

// FuzzTable compares a table with a search of all rows.
func FuzzTable(f *testing.F) {
	f.Add([]byte{8, 0, 31, 16, 4, 9, 0, 5, 5})
	f.Add([]byte{11, 0, 31, 19, 31, 31})
	f.Add([]byte{13, 0, 31, 21, 15, 16, 14, 0, 2, 21, 0x80, 0xff, 5, 3, 4})
	f.Add([]byte{15, 0, 31, 23, 0x85, 0x9f, 7, 31, 31})
	f.Fuzz(func(t *testing.T, data []byte) {
		rows := fuzzRows(data[:min(len(data), 300)])
		table := tableOf(t, rows)
		check := func(a netip.Addr) {
			if !a.IsValid() {
				return
			}
			if got, want := lookup(table, a), linear(rows, a); got != want {
				t.Fatalf("%v: got %q, want %q in %v", a, got, want, rows)
			}
		}
		for _, r := range rows {
			for _, a := range []netip.Addr{r.First, r.Last} {
				check(a.Prev())
				check(a)
				check(a.Next())
			}
		}
		var before row
		for _, r := range all(table) {
			require.False(t, r.Last.Less(r.First))
			if before.Last.IsValid() && before.Last.BitLen() == r.First.BitLen() {
				require.True(t, before.Last.Less(r.First), "%v then %v", before, r)
				require.False(t, before.Last.Next() == r.First && before.text == r.text, "%v and %v are not merged", before, r)
			}
			for _, a := range []netip.Addr{r.First, r.Last} {
				require.NotEmpty(t, r.text)
				require.Equal(t, r.text, linear(rows, a), "%v of %v", a, r)
			}
			before = r
		}
		require.Equal(t, all(table), all(tableOf(t, all(table))))
		require.Equal(t, len(all(table)), table.Info().Ranges)
	})
}

// TestHalves: a tree that two have grown is that which one would have grown.
func TestHalves(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 100, 10_000} {
		for _, bits := range []int{32, 20, 8} {
			starts := make([]Start[V4], n)
			for i := range starts {
				starts[i] = Start[V4]{V4(r.Uint32() >> (32 - bits) << 3), r.Uint32N(MaxRecords)}
			}
			slices.SortFunc(starts, func(a, b Start[V4]) int { return a.First.Compare(b.First) })
			starts = slices.CompactFunc(starts, func(a, b Start[V4]) bool { return a.First == b.First })
			one := new(tree)
			one.grow(starts, 0, rootSize, 0)
			two := grow(starts)
			assert.True(t, one.root == two.root && bytes.Equal(one.nodes, two.nodes) && bytes.Equal(one.values, two.values), "%d of %d bits", n, bits)
		}
	}
}

// FuzzLoad damages a table: three bytes of data say where, from its start, in
// its middle or from its end, and how. Most of a table is the index, which
// would keep the fuzzer from the rest if it had the table itself.
func FuzzLoad(f *testing.F) {
	rows := fuzzRows([]byte{13, 0, 31, 21, 15, 16, 14, 0, 2, 21, 0x80, 0xff, 5, 3, 4, 8, 0, 31, 16, 4, 9, 0, 5, 5})
	good := tableOf(f, rows).data
	f.Add([]byte{0x00, 4, 1}, uint32(0))
	for _, at := range []byte{8, 24, 28, 32, 36, 40, 64, 80, 200} {
		f.Add([]byte{0x00, at, 0xff, 0x80, at, 0xff, 0x40, at, 0xff}, uint32(0))
	}
	f.Add([]byte{}, uint32(len(good)-100))
	f.Fuzz(func(t *testing.T, damage []byte, cut uint32) {
		data := []byte(good)
		for ; len(damage) >= 3; damage = damage[3:] {
			at := int(damage[0]&0x3f)<<8 | int(damage[1])
			switch damage[0] >> 6 {
			case 0:
				at %= 512
			case 1:
				at *= 16
			default:
				at = len(data) - 1 - at%512
			}
			data[at] ^= damage[2]
		}
		reseal(data)
		table, err := testForm.Load(string(data[:len(data)-int(cut)%len(data)]))
		if err != nil {
			return
		}
		for _, r := range rows {
			lookup(table, r.First)
			lookup(table, r.Last)
		}
		n := 0
		for range table.All() {
			n++
		}
		require.LessOrEqual(t, n, rootSize+table.values4+table.starts6+table.fine6, "ranges")
		table.Info()
		_ = table.Verify()
	})
}

// reseal makes the sum of the header that of what the table has become.
func reseal(data []byte) {
	t := &Table{form: testForm, data: string(data)}
	for i, n := range t.header() {
		*n = int(t.u32(40+4*i) & math.MaxInt32)
	}
	if t.records <= MaxRecords && t.layout() == uint64(len(data)) {
		binary.LittleEndian.PutUint32(data[12:], headerSum(t.data[:headerSize], t.data[t.atSums:]))
	}
}

// TestSharedNodes: where damage has all networks share nodes, All ends all the same.
func TestSharedNodes(t *testing.T) {
	var rows []row
	for i := range V4(128) {
		rows = append(rows, row{Range{(2 * i).Addr(), (2 * i).Addr()}, "x"}, row{Range{(512 * i).Addr(), (512*i + 255).Addr()}, "y"})
	}
	good := tableOf(t, rows)
	data := []byte(good.data)
	for i := 1; i < rootSize; i++ {
		copy(data[good.atRoot4+4*i:], data[good.atRoot4:][:4])
	}
	reseal(data)
	bad, err := testForm.Load(string(data))
	require.NoError(t, err)
	n := 0
	for range bad.All() {
		n++
	}
	assert.Less(t, n, 70_000)
	assert.Error(t, bad.Verify())
}

func TestLoad(t *testing.T) {
	good := tableOf(t, []row{{Range{addr("192.0.2.0"), addr("192.0.2.255")}, "x"}}).data
	other := []byte(good)
	binary.LittleEndian.PutUint32(other[8:], 99)
	for _, tt := range []struct{ name, data, err string }{
		{"empty", "", "not a compiled table"},
		{"text", string(bytes.Repeat([]byte("x"), 1000)), "not a compiled table"},
		{"of another package", "x" + good[1:], "not a compiled table"},
		{"version", string(other), "the table was compiled by another version: compile it again"},
		{"cut short", good[:len(good)-1], "damaged table"},
		{"longer", good + "x", "damaged table"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := testForm.Load(tt.data)
			require.EqualError(t, err, tt.err)
		})
	}
	for i := magicSize + 4; i < len(good); i += 997 {
		bad := []byte(good)
		bad[i] ^= 0x10
		table, err := testForm.Load(string(bad))
		if err == nil {
			err = table.Verify()
		}
		assert.EqualError(t, err, "damaged table", "byte %d", i)
	}
	table, err := testForm.Load(good)
	require.NoError(t, err)
	var b bytes.Buffer
	n, err := table.WriteTo(&b)
	require.NoError(t, err)
	assert.Equal(t, int64(len(good)), n)
	assert.Equal(t, good, b.String())
}

func TestZeroTable(t *testing.T) {
	var table Table
	for _, s := range []string{"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"} {
		assert.Zero(t, table.Find(addr(s)), s)
	}
	assert.Zero(t, table.Find(netip.Addr{}))
	assert.Empty(t, all(&table))
	assert.Zero(t, table.Info())
	assert.NoError(t, table.Verify())
	assert.NoError(t, table.Err())
	n, err := table.WriteTo(io.Discard)
	assert.Zero(t, n)
	assert.NoError(t, err)
	assert.Zero(t, tableOf(t, nil).Find(addr("192.0.2.1")))
}

// TestInfo: what a table is told it tells, whatever file it lies in.
func TestInfo(t *testing.T) {
	info := Info{Name: "Ångström", Date: time.Date(2026, 6, 25, 4, 33, 59, 0, time.UTC), Ranges: 77, Remarks: []string{"3 rows are left out", "Grüße"}}
	x := newTextReader()
	require.NoError(t, x.add(row{Range{addr("192.0.2.0"), addr("192.0.2.255")}, "x"}))
	table, err := x.Table(info, Stamp{})
	require.NoError(t, err)
	info.Ranges = 1
	assert.Equal(t, info, table.Info())
	_, err = x.Table(Info{Name: strings.Repeat("x", maxName+1)}, Stamp{})
	assert.EqualError(t, err, "name of the table has 65536 bytes, more than 65535")
}

// TestManyRecords: more than fit into two bytes.
func TestManyRecords(t *testing.T) {
	var rows []row
	for i := range V4(70_000) {
		a, b := (i << 8).Addr(), V6{Hi: uint64(i) << 32}.Addr()
		rows = append(rows, row{Range{a, a}, fmt.Sprint(i)}, row{Range{b, b}, fmt.Sprint(i)})
	}
	table := tableOf(t, rows)
	assert.Equal(t, 3, table.width)
	for _, r := range rows {
		require.Equal(t, r.text, lookup(table, r.First))
	}
	_, err := testForm.Encode(Content{Records: make([]byte, 8*(MaxRecords+1))})
	assert.ErrorContains(t, err, "more than 8388608 records")
}

// TestManyNodes: where there are no more nodes, the starts are bisected.
func TestManyNodes(t *testing.T) {
	var starts []Start[V6]
	for i := range uint64(maxStarts6 + 1) {
		starts = append(starts, Start[V6]{First: V6{Hi: 0x2001<<48 | i}, ID: uint32(i%2 + 1)})
	}
	_, nodes := index6(starts)
	assert.Len(t, nodes, 6, "one for each byte down to the last")
}

// TestBuilder: rows are of one family, in order, and not more than Max.
func TestBuilder(t *testing.T) {
	one := Range{addr("192.0.2.0"), addr("192.0.2.255")}
	for _, tt := range []struct {
		r   Range
		err string
	}{
		{one, ""},
		{Range{addr("::ffff:192.0.2.0"), addr("::ffff:192.0.2.255")}, ""},
		{Range{one.Last, one.First}, "last address 192.0.2.0 is before first 192.0.2.255"},
		{Range{one.First, addr("2001:db8::")}, "192.0.2.0 to 2001:db8:: is not a range of addresses"},
		{Range{}, "invalid IP to invalid IP is not a range of addresses"},
	} {
		var b Builder
		err := b.Add(tt.r, 1)
		if tt.err == "" {
			require.NoError(t, err)
			assert.Equal(t, []Row[V4]{{Key4(one.First), Key4(one.Last), 1}}, b.rows4)
		} else {
			assert.EqualError(t, err, tt.err)
		}
	}
	b := Builder{rows4: make([]Row[V4], Max-1)}
	require.NoError(t, b.Add(one, 0))
	assert.ErrorIs(t, b.Add(one, 0), ErrTooMany)
	assert.ErrorIs(t, b.Add(Range{addr("::"), addr("::1")}, 0), ErrTooMany)
}

// TestConcurrentLookups: what is remembered of look-ups is shared by all.
func TestConcurrentLookups(t *testing.T) {
	var rows []row
	for i := range uint64(1000) {
		text := fmt.Sprint(i % 4)
		rows = append(rows,
			row{Range{V4(i << 22).Addr(), V4(i<<22 + 1<<22 - 1).Addr()}, text},
			row{Range{V6{Hi: i << 48}.Addr(), V6{Hi: i<<48 + 1<<48 - 1, Lo: math.MaxUint64}.Addr()}, text})
	}
	table := tableOf(t, rows)
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 0))
			for range 100_000 {
				row := rows[r.IntN(len(rows))]
				if got := lookup(table, between(r, row.First, row.Last)); got != row.text {
					t.Errorf("%v: got %q, want %q", row.Range, got, row.text)
					return
				}
			}
		})
	}
	wg.Wait()
}

// between returns a random address from first to last.
func between(r *rand.Rand, first, last netip.Addr) netip.Addr {
	if first.Is4() {
		x, y := Key4(first), Key4(last)
		return (x + V4(r.Uint64N(uint64(y-x)+1))).Addr()
	}
	x, y := Key6(first), Key6(last)
	a := V6{x.Hi + r.Uint64N(y.Hi-x.Hi+1), r.Uint64()}.Addr()
	if a.Less(first) || last.Less(a) {
		return first
	}
	return a
}

// TestFindAllocates: look-ups do not allocate.
func TestFindAllocates(t *testing.T) {
	table := tableOf(t, []row{
		{Range{addr("192.0.2.0"), addr("192.0.2.255")}, "x"},
		{Range{addr("2001:db8::1"), addr("2001:db8::ffff")}, "y"},
	})
	for _, s := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "203.0.113.1"} {
		a := addr(s)
		assert.Zero(t, testing.AllocsPerRun(100, func() { lookup(table, a) }), s)
	}
}
