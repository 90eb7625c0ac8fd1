package geoip

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func cachedFiles(t *testing.T, folder string) []string {
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	require.NoError(t, err)
	return files
}

func TestOpenCached(t *testing.T) {
	source := writeFile(t, "ipv4.csv", []byte(csvSample))
	folder := filepath.Join(t.TempDir(), "made", "here")
	calls := 0
	progress := func(done, size int64) {
		calls++
		assert.LessOrEqual(t, done, size)
	}
	want, err := Open(source)
	require.NoError(t, err)
	db, err := OpenCached(folder, progress, source)
	require.NoError(t, err)
	assert.Equal(t, all(want), all(db))
	assert.Equal(t, want.Info(), db.Info())
	assert.Positive(t, calls)
	require.Len(t, cachedFiles(t, folder), 1)

	// The next time nothing is compiled.
	calls = 0
	db, err = OpenCached(folder, progress, source)
	require.NoError(t, err)
	assert.Equal(t, all(want), all(db))
	assert.Zero(t, calls)

	// What is in use stays what it is while the source and the file change.
	require.NoError(t, os.WriteFile(source, []byte("3221225985,3221226238,1,2\n"), 0o600))
	fresh, err := OpenCached(folder, progress, source)
	require.NoError(t, err)
	assert.Positive(t, calls)
	assert.Equal(t, []testRow{{Range{addr("192.0.2.0"), addr("192.0.2.255")}, Place{Lat: 1, Lon: 2, Precision: City}}}, all(fresh))
	assert.Equal(t, all(want), all(db))
	assert.Len(t, cachedFiles(t, folder), 1)

	// A changed time is a change too.
	calls = 0
	then := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(source, then, then))
	_, err = OpenCached(folder, progress, source)
	require.NoError(t, err)
	assert.Positive(t, calls)

	// A damaged source is an error and leaves what was compiled before.
	require.NoError(t, os.WriteFile(source, []byte("3221225985,3221226238,1,x\n"), 0o600))
	_, err = OpenCached(folder, nil, source)
	assert.ErrorContains(t, err, "line 1")
	_, err = OpenCached(folder, nil, source+".missing")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestDamagedCache(t *testing.T) {
	var csv strings.Builder
	for i := range 20_000 {
		lat, lon := i%90, i%180
		csv.WriteString(strings.Join([]string{itoa(1<<24 + i*7), itoa(1<<24 + i*7 + 6), itoa(lat + 1), itoa(lon) + ".5"}, ",") + "\n")
	}
	source := writeFile(t, "ipv4.csv", []byte(csv.String()))
	want, err := Open(source)
	require.NoError(t, err)
	folder := t.TempDir()
	_, err = OpenCached(folder, nil, source)
	require.NoError(t, err)
	file := cachedFiles(t, folder)[0]
	good, err := os.ReadFile(file)
	require.NoError(t, err)
	rows := all(want)
	answers := func(db *DB) (wrong, unknown int) {
		for _, r := range rows {
			switch got, ok := db.Lookup(r.First); {
			case !ok:
				unknown++
			case got != r.place:
				wrong++
			}
		}
		return wrong, unknown
	}
	for at := 0; at < len(good); at += len(good)/40 + 1 {
		bad := append([]byte(nil), good...)
		bad[at] ^= 0x41
		require.NoError(t, os.WriteFile(file, bad, 0o600))
		db, err := OpenCached(folder, nil, source)
		require.NoError(t, err)
		wrong, _ := answers(db)
		assert.Zero(t, wrong, "byte %d", at)
		if db.Verify() == nil {
			continue // the header was damaged, and all was compiled anew at once
		}
		assert.NoFileExists(t, file)
		assert.Empty(t, all(db))
		db, err = OpenCached(folder, nil, source)
		require.NoError(t, err)
		wrong, unknown := answers(db)
		assert.Zero(t, wrong+unknown)
	}
	for _, n := range []int{0, 1, headerSize, len(good) / 2, len(good) - 1} {
		require.NoError(t, os.WriteFile(file, good[:n], 0o600))
		db, err := OpenCached(folder, nil, source)
		require.NoError(t, err)
		wrong, unknown := answers(db)
		assert.Zero(t, wrong+unknown, "%d bytes", n)
	}
}

func TestNotCached(t *testing.T) {
	source := writeFile(t, "ipv4.csv", []byte(csvSample))
	folder := writeFile(t, "folder", nil) // a file stands in the way
	db, err := OpenCached(folder, nil, source)
	assert.ErrorIs(t, err, ErrNotCached)
	assert.ErrorContains(t, err, folder)
	require.NotNil(t, db)
	assert.NotEmpty(t, all(db))
}

func TestCompileFile(t *testing.T) {
	source := writeFile(t, "ipv4.csv", []byte(csvSample))
	target := filepath.Join(t.TempDir(), "table.geo")
	info, err := CompileFile(source, target, nil)
	require.NoError(t, err)
	assert.Equal(t, 3, info.Ranges)
	want, err := Open(source)
	require.NoError(t, err)
	got, err := Open(target)
	require.NoError(t, err)
	assert.Equal(t, all(want), all(got))
	assert.Equal(t, want.Info(), got.Info())
	zipped := writeFile(t, "zipped", gzipped(t, []byte(want.t.data)))
	got, err = Open(zipped)
	require.NoError(t, err)
	assert.Equal(t, all(want), all(got))
	_, err = Open(source, target)
	assert.ErrorContains(t, err, "cannot be combined")

	b := []byte(want.t.data)
	b[len(b)/2] ^= 1
	_, err = Open(writeFile(t, "damaged", b))
	assert.ErrorIs(t, err, errDamaged)
	_, err = CompileFile(source, filepath.Join(t.TempDir(), "missing", "table.geo"), nil)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	var pe *fs.PathError
	assert.True(t, errors.As(err, &pe))
}
