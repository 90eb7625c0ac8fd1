package geoip

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// manyPlaces is a table of both families with names, of some hundred pages.
func manyPlaces(t *testing.T) (source string, rows []testRow) {
	var csv strings.Builder
	for i := range 30_000 {
		a := addr4(1<<24 + uint32(i)*256)
		csv.WriteString(a.String() + "," + addr4(1<<24+uint32(i)*256+255).String() + ",OC,AU,State,City " + itoa(i) + "," + itoa(i%80) + ".25," + itoa(i%170) + ".5\n")
	}
	for i := range 10_000 {
		a := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(i >> 8), byte(i)})
		last := a.As16()
		for k := 6; k < 16; k++ {
			last[k] = 0xff
		}
		csv.WriteString(a.String() + "," + netip.AddrFrom16(last).String() + ",OC,NZ,State,Town " + itoa(i) + "," + itoa(i%80) + ".75," + itoa(i%170) + "\n")
	}
	source = writeFile(t, "city.csv", []byte(csv.String()))
	db, err := Open(source)
	require.NoError(t, err)
	return source, all(db)
}

// TestCutWhileInUse: somebody cuts the compiled table while look-ups run. They answer what
// is so or nothing, what they answered before stays, and the trouble is told.
func TestCutWhileInUse(t *testing.T) {
	source, rows := manyPlaces(t)
	for _, share := range []int64{0, 1, 2, 3} { // of 4 that stay
		folder := t.TempDir()
		_, err := OpenCached(folder, nil, source)
		require.NoError(t, err)
		db, err := OpenCached(folder, nil, source)
		require.NoError(t, err)
		file := cachedFiles(t, folder)[0]
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Greater(t, info.Size(), int64(1<<20))
		require.NoError(t, db.Err())

		var work sync.WaitGroup
		stop := make(chan struct{})
		for n := range 4 {
			work.Go(func() {
				r := rand.New(rand.NewPCG(uint64(n), 1))
				type answer struct {
					row  int
					city string
				}
				var kept []answer
				for done := false; !done; {
					select {
					case <-stop:
						done = true
					default:
					}
					for range 500 {
						i := r.IntN(len(rows))
						p, ok := db.Lookup(between(r, rows[i].First, rows[i].Last))
						if !ok {
							continue
						}
						if p != rows[i].place {
							t.Errorf("got %v, want %v", p, rows[i].place)
							return
						}
						if len(kept) < 10_000 {
							kept = append(kept, answer{i, p.City})
						}
					}
				}
				for _, k := range kept {
					if k.city != rows[k.row].place.City {
						t.Errorf("it was %q, and is %q", rows[k.row].place.City, k.city)
						return
					}
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		require.NoError(t, os.Truncate(file, info.Size()*share/4))
		time.Sleep(50 * time.Millisecond)
		close(stop)
		work.Wait()

		assert.Error(t, db.Verify())
		assert.ErrorContains(t, db.Err(), file+" was cut while it was in use")
		assert.Empty(t, all(db))
		_, err = db.WriteTo(io.Discard)
		assert.Error(t, err)
		assert.NoFileExists(t, file)
		db, err = OpenCached(folder, nil, source)
		require.NoError(t, err)
		assert.Equal(t, len(rows), len(all(db)), "it is compiled anew")
		var b bytes.Buffer
		_, err = db.WriteTo(&b)
		require.NoError(t, err)
	}
}

// TestChangedWhileInUse: a file that is written into is told, one that is removed or
// replaced is not, since what is mapped stays; and what took its place is not removed.
func TestChangedWhileInUse(t *testing.T) {
	source := writeFile(t, "ipv4.csv", []byte(csvSample))
	folder := t.TempDir()
	_, err := OpenCached(folder, nil, source)
	require.NoError(t, err)
	file := cachedFiles(t, folder)[0]
	then := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(file, then, then))
	db, err := OpenCached(folder, nil, source)
	require.NoError(t, err)
	want := all(db)
	whole, err := os.ReadFile(file)
	require.NoError(t, err)

	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("\xff\xff"), headerSize+4)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	assert.EqualError(t, db.Err(), "geoip: "+file+" was changed while it was in use")

	require.NoError(t, os.WriteFile(file, whole, 0o600))
	require.NoError(t, os.Chtimes(file, then, then))
	assert.NoError(t, db.Err())
	require.NoError(t, os.Rename(file, file+".away"))
	assert.NoError(t, db.Err())
	require.NoError(t, os.WriteFile(file, whole[:100], 0o600))
	assert.NoError(t, db.Err())
	assert.Equal(t, want, all(db))
	require.NoError(t, os.Truncate(file+".away", 0))
	assert.Error(t, db.Verify())
	assert.FileExists(t, file)
}

// TestOtherFaultsArePanics: what is not ours to catch goes on.
func TestOtherFaultsArePanics(t *testing.T) {
	for name, f := range map[string]func(){
		"a panic": func() { panic("x") },
		"nil":     func() { _ = *(*int)(nil) },
		"an index": func() {
			var s []int
			_ = s[len(s)]
		},
	} {
		assert.Panics(t, func() { unlessCut("some data", f) }, name)
	}
}
