package ranges

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// manyRows is a table of both families with texts, of some hundred pages.
func manyRows(t *testing.T) (source string, rows []row) {
	for i := range V4(30_000) {
		a := 1<<24 + i*256
		rows = append(rows, row{Range{a.Addr(), (a + 255).Addr()}, "City " + strconv.Itoa(int(i))})
	}
	for i := range uint64(10_000) {
		a := V6{Hi: 0x2001_0db8<<32 | i<<16}
		rows = append(rows, row{Range{a.Addr(), V6{a.Hi | 0xffff, ^uint64(0)}.Addr()}, "Town " + strconv.Itoa(int(i))})
	}
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(r.First.String() + "," + r.Last.String() + "," + r.text + "\n")
	}
	return writeFile(t, "rows.csv", b.String()), rows
}

// TestCutWhileInUse: somebody cuts the compiled table while look-ups run. They answer what
// is so or nothing, what they answered before stays, and the trouble is told.
func TestCutWhileInUse(t *testing.T) {
	source, rows := manyRows(t)
	for _, share := range []int64{0, 1, 2, 3} { // of 4 that stay
		folder := t.TempDir()
		_, err := openCached(folder, source)
		require.NoError(t, err)
		table, err := openCached(folder, source)
		require.NoError(t, err)
		file := cachedFiles(t, folder)[0]
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Greater(t, info.Size(), int64(1<<20))
		require.NoError(t, table.Err())

		var work sync.WaitGroup
		stop := make(chan struct{})
		for n := range 4 {
			work.Go(func() {
				r := rand.New(rand.NewPCG(uint64(n), 1))
				type answer struct {
					row  int
					text string
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
						text := lookup(table, between(r, rows[i].First, rows[i].Last))
						if text == "" {
							continue
						}
						if text != rows[i].text {
							t.Errorf("got %q, want %q", text, rows[i].text)
							return
						}
						if len(kept) < 10_000 {
							kept = append(kept, answer{i, text})
						}
					}
				}
				for _, k := range kept {
					if k.text != rows[k.row].text {
						t.Errorf("it was %q, and is %q", rows[k.row].text, k.text)
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

		assert.Error(t, table.Verify())
		assert.ErrorContains(t, table.Err(), file+" was truncated while it was in use")
		assert.Empty(t, all(table))
		_, err = table.WriteTo(io.Discard)
		assert.Error(t, err)
		assert.NoFileExists(t, file)
		table, err = openCached(folder, source)
		require.NoError(t, err)
		assert.Equal(t, len(rows), len(all(table)), "it is compiled anew")
		var b bytes.Buffer
		_, err = table.WriteTo(&b)
		require.NoError(t, err)
	}
}

// TestChangedWhileInUse: a file that is written into is told, one that is removed or
// replaced is not, since what is mapped stays; and what took its place is not removed.
func TestChangedWhileInUse(t *testing.T) {
	source := writeFile(t, "rows.csv", sample)
	folder := t.TempDir()
	_, err := openCached(folder, source)
	require.NoError(t, err)
	file := cachedFiles(t, folder)[0]
	then := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(file, then, then))
	table, err := openCached(folder, source)
	require.NoError(t, err)
	want := all(table)
	whole, err := os.ReadFile(file)
	require.NoError(t, err)

	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("\xff\xff"), headerSize+4)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	assert.EqualError(t, table.Err(), file+" was changed while it was in use")

	require.NoError(t, os.WriteFile(file, whole, 0o600))
	require.NoError(t, os.Chtimes(file, then, then))
	assert.NoError(t, table.Err())
	require.NoError(t, os.Rename(file, file+".away"))
	assert.NoError(t, table.Err())
	require.NoError(t, os.WriteFile(file, whole[:100], 0o600))
	assert.NoError(t, table.Err())
	assert.Equal(t, want, all(table))
	require.NoError(t, os.Truncate(file+".away", 0))
	assert.Error(t, table.Verify())
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
		assert.Panics(t, func() { guard("some data", f) }, name)
	}
}
