package geoip

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/ranges"
)

// city4 is a table of 3,802,720 ranges of IPv4 and its source, unpacked once.
var city4 = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "geoip")
	return filepath.Join(dir, "city4.csv"), err
})

func city4CSV(b *testing.B) string {
	if testing.Short() {
		b.Skip("takes long")
	}
	data := testData(b, "synth/city4.csv.xz")
	name, err := city4()
	require.NoError(b, err)
	if _, err := os.Stat(name); err != nil {
		require.NoError(b, os.WriteFile(name, unpacked(b, data), 0o600))
	}
	return name
}

func TestMain(m *testing.M) {
	if folder, name, ok := strings.Cut(os.Getenv(useEnv), "\n"); ok {
		if err := use(folder, name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if name, err := city4(); err == nil {
		os.RemoveAll(filepath.Dir(name))
	}
	os.Exit(code)
}

// traffic makes addresses to look up: uniform over all, one of a random range,
// which is the worst for caches, and that of 20,000 hosts of which few get the
// most (Zipf, s = 1.1), as peers are.
func traffic(rows []testRow) map[string][]netip.Addr {
	const n = 1 << 20
	r := rand.New(rand.NewPCG(1, 2))
	in := func() netip.Addr {
		row := rows[r.IntN(len(rows))]
		return between(r, row.First, row.Last)
	}
	all := map[string][]netip.Addr{"uniform": make([]netip.Addr, n), "covered": make([]netip.Addr, n), "zipf": make([]netip.Addr, n)}
	hosts := make([]netip.Addr, 20_000)
	for i := range hosts {
		hosts[i] = in()
	}
	zipf := rand.NewZipf(r, 1.1, 1, uint64(len(hosts)-1))
	for i := range n {
		all["uniform"][i] = addr4(r.Uint32())
		all["covered"][i] = in()
		all["zipf"][i] = hosts[zipf.Uint64()]
	}
	return all
}

// BenchmarkLookup4 compares, in one run, how long it takes to look up a place.
func BenchmarkLookup4(b *testing.B) {
	db, err := OpenCached(b.TempDir(), nil, city4CSV(b))
	require.NoError(b, err)
	require.NoError(b, db.Verify())
	rows := all(db)
	b.Logf("%d ranges, table of %d bytes", len(rows), sizeOf(db))
	addrs := traffic(rows)
	for _, kind := range []string{"zipf", "uniform", "covered"} {
		for _, d := range []struct {
			name string
			make func() (find func(netip.Addr) (Place, bool), size int)
		}{
			{"DB", func() (func(netip.Addr) (Place, bool), int) { return db.Lookup, sizeOf(db) }},
			{"DIR-24-8", func() (func(netip.Addr) (Place, bool), int) { d := newDir(db); return d.lookup, d.size() }},
			{"connmap's C", func() (func(netip.Addr) (Place, bool), int) { d := newBisection(rows); return d.recursive, d.size() }},
			{"sort.Search", func() (func(netip.Addr) (Place, bool), int) { d := newBisection(rows); return d.search, d.size() }},
		} {
			b.Run(fmt.Sprintf("%s/%s", kind, d.name), func(b *testing.B) {
				find, size := d.make()
				runtime.GC()
				a := addrs[kind]
				each(b, func(i int) { find(a[i&(len(a)-1)]) })
				b.ReportMetric(float64(size)/1e6, "MB")
			})
		}
	}
}

// sizeOf returns the bytes of a table.
func sizeOf(db *DB) int {
	n, _ := db.WriteTo(io.Discard)
	return int(n)
}

// each measures f in batches, of which the fastest tenth is what the others would
// be too on a machine that has nothing else to do.
func each(b *testing.B, f func(i int)) {
	const batch = 4096
	b.ReportAllocs()
	var took []time.Duration
	i := 0
	for b.Loop() {
		start := time.Now()
		for range batch {
			f(i)
			i++
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took[len(took)/10])/batch, "p10-ns")
	b.ReportMetric(float64(took[len(took)/2])/batch, "median-ns")
}

// A dir is DIR-24-8 (Gupta, Lin and McKeown, 1998): an entry for each /24, and
// 256 more for each that has parts.
type dir struct {
	t     *ranges.Table
	first []uint32
	more  [][256]uint32
}

func newDir(db *DB) *dir {
	d := &dir{t: &db.t, first: make([]uint32, 1<<24)}
	const split = 1 << 31
	for r, id := range db.t.All() {
		if !r.First.Is4() {
			break
		}
		last := uint64(ranges.Key4(r.Last))
		for ip := uint64(ranges.Key4(r.First)); ip <= last; {
			first := &d.first[ip>>8]
			if ip&0xff == 0 && last-ip >= 255 {
				*first = id
				ip += 256
				continue
			}
			if *first == 0 {
				*first = split | uint32(len(d.more))
				d.more = append(d.more, [256]uint32{})
			}
			d.more[*first&^split][ip&0xff] = id
			ip++
		}
	}
	return d
}

func (d *dir) size() int {
	return 4*len(d.first) + 1024*len(d.more) + d.t.Records()*recordSize
}

func (d *dir) lookup(a netip.Addr) (Place, bool) {
	ip := uint32(ranges.Key4(a.Unmap()))
	id := d.first[ip>>8]
	if id>>31 != 0 {
		id = d.more[id&^(1<<31)][ip&0xff]
	}
	return place(d.t, id, uint64(ip>>8), true)
}

// A bisection is a sorted array of ranges.
type bisection struct {
	rows []struct {
		first, last uint32
		lat, lon    float64
	}
}

func newBisection(rows []testRow) *bisection {
	d := &bisection{}
	for _, r := range rows {
		d.rows = append(d.rows, struct {
			first, last uint32
			lat, lon    float64
		}{uint32(ranges.Key4(r.First)), uint32(ranges.Key4(r.Last)), r.place.Lat, r.place.Lon})
	}
	return d
}

func (d *bisection) size() int { return len(d.rows) * int(unsafe.Sizeof(d.rows[0])) }

func (d *bisection) search(a netip.Addr) (Place, bool) {
	ip := uint32(ranges.Key4(a.Unmap()))
	i := sort.Search(len(d.rows), func(i int) bool { return d.rows[i].last >= ip })
	if i == len(d.rows) || d.rows[i].first > ip {
		return Place{}, false
	}
	return Place{Lat: d.rows[i].lat, Lon: d.rows[i].lon, Precision: City}, true
}

// recursive is how the map written in C looks up.
func (d *bisection) recursive(a netip.Addr) (Place, bool) {
	return d.between(0, len(d.rows)-1, uint32(ranges.Key4(a.Unmap())))
}

func (d *bisection) between(l, r int, ip uint32) (Place, bool) {
	if r < l {
		return Place{}, false
	}
	mid := l + (r-l)/2
	row := d.rows[mid]
	switch {
	case row.first <= ip && ip <= row.last:
		return Place{Lat: row.lat, Lon: row.lon, Precision: City}, true
	case ip < row.first:
		return d.between(l, mid-1, ip)
	}
	return d.between(mid+1, r, ip)
}

// TestBenchmarked: what is compared answers the same.
func TestBenchmarked(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	db, err := Open(testData(t, "synth/connmap_ipv4_head200k.csv.xz"))
	require.NoError(t, err)
	rows := all(db)
	d, s := newDir(db), newBisection(rows)
	for kind, addrs := range traffic(rows) {
		for _, a := range addrs {
			want, ok := db.Lookup(a)
			for i, find := range []func(netip.Addr) (Place, bool){d.lookup, s.search, s.recursive} {
				got, gotOK := find(a)
				if got != want || ok != gotOK {
					t.Fatalf("%s, %d: %v: got %+v, want %+v", kind, i, a, got, want)
				}
			}
		}
	}
}

// BenchmarkLookup6 looks up in the real ranges of IPv6.
func BenchmarkLookup6(b *testing.B) {
	db, err := Open(testData(b, "geo/tor-geoip6-20260625.txt.gz"))
	require.NoError(b, err)
	rows := all(db)
	addrs := traffic(rows)
	for _, kind := range []string{"zipf", "covered"} {
		b.Run(kind, func(b *testing.B) {
			a := addrs[kind]
			each(b, func(i int) { db.Lookup(a[i&(len(a)-1)]) })
			b.ReportMetric(float64(sizeOf(db))/1e6, "MB")
		})
	}
}

// BenchmarkOpen compiles files, and opens what is compiled.
func BenchmarkOpen(b *testing.B) {
	for _, bb := range []struct {
		name string
		file func(b *testing.B) string
	}{
		{"city4.csv/rows=3802720", city4CSV},
		{"country.mmdb.gz/networks=448308", func(b *testing.B) string { return testData(b, "geo/GeoLite2-Country-20191217.mmdb.gz") }},
	} {
		b.Run("compile/"+bb.name, func(b *testing.B) {
			name := bb.file(b)
			b.ReportAllocs()
			for b.Loop() {
				_, err := Open(name)
				require.NoError(b, err)
			}
		})
		b.Run("mapped/"+bb.name, func(b *testing.B) {
			name, folder := bb.file(b), b.TempDir()
			_, err := OpenCached(folder, nil, name)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				_, err := OpenCached(folder, compiledAgain(b), name)
				require.NoError(b, err)
			}
		})
	}
}

// memory returns a field of this process's status in MB.
func memory(field string) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), field+":")
	kb, _ := strconv.Atoi(strings.Fields(rest)[0])
	return float64(kb) / 1024
}

const useEnv = "GEOIP_TEST_USE"

// use opens a table, looks up and prints what memory that took.
func use(folder, name string) error {
	runtime.GC()
	before := memory("RssAnon")
	db, err := OpenCached(folder, nil, name)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		db.Lookup(addr4(r.Uint32()))
	}
	_, err = fmt.Println(memory("RssAnon")-before, memory("VmHWM"))
	return err
}

// BenchmarkMemory tells what memory of its own a process needs for a table that
// is mapped and used a thousand times, and the most it needs to compile it.
func BenchmarkMemory(b *testing.B) {
	name, folder := city4CSV(b), b.TempDir()
	for b.Loop() {
		var own, peak [2]float64
		for i := range 2 { // compiled, mapped
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), useEnv+"="+folder+"\n"+name)
			out, err := cmd.Output()
			require.NoError(b, err)
			_, err = fmt.Sscan(string(out), &own[i], &peak[i])
			require.NoError(b, err)
		}
		b.ReportMetric(peak[0], "MiB-to-compile")
		b.ReportMetric(own[1], "MiB-own-if-mapped")
	}
}
