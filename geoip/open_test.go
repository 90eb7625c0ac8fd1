package geoip

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOpenCached: a mapped DB is the same as one that was read; one that is cut reports it, and is
// compiled anew. The rest is tested in internal/ranges.
func TestOpenCached(t *testing.T) {
	source := writeFile(t, "ipv4.csv", []byte(csvSample))
	folder := filepath.Join(t.TempDir(), "cache")
	want, err := Open(source)
	require.NoError(t, err)
	assert.Equal(t, "ipv4.csv", want.Info().Name)
	for range 2 {
		db, err := OpenCached(folder, nil, source)
		require.NoError(t, err)
		require.NoError(t, db.Verify())
		require.NoError(t, db.Err())
		assert.Equal(t, want.Info(), db.Info())
		assert.Equal(t, all(want), all(db))
		files, err := filepath.Glob(filepath.Join(folder, "ipv4-*.geo"))
		require.NoError(t, err)
		require.Len(t, files, 1)
		require.NoError(t, os.Truncate(files[0], 5000))
		assert.EqualError(t, db.Err(), "geoip: "+files[0]+" was truncated while it was in use")
		assert.EqualError(t, db.Verify(), "geoip: damaged table "+files[0])
		assert.Empty(t, all(db))
		_, err = db.WriteTo(io.Discard)
		assert.EqualError(t, err, "geoip: damaged table")
		assert.NoFileExists(t, files[0])
	}
	db, err := OpenCached(writeFile(t, "folder", nil), nil, source)
	assert.ErrorIs(t, err, ErrNotCached)
	assert.ErrorContains(t, err, "geoip: ")
	assert.Equal(t, all(want), all(db))
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
	_, err = CompileFile(source, filepath.Join(t.TempDir(), "missing", "table.geo"), nil)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
