package ranges

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func writeFile(t *testing.T, name, content string) string {
	name = filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
	return name
}

const sample = "192.0.2.0,192.0.2.255,Sydney\n198.51.100.0,198.51.100.0,Amsterdam\n2001:db8::,2001:db8::ff,Six\n"

func cachedFiles(t *testing.T, folder string) []string {
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	require.NoError(t, err)
	return files
}

func open(names ...string) (*Table, error) { return testForm.Open(newTextReader(), nil, names...) }

func openCached(folder string, names ...string) (*Table, error) {
	return testForm.OpenCached(folder, newTextReader(), nil, names...)
}

// TestOpen: several files make one table, which has the name of the first and the date of the
// oldest.
func TestOpen(t *testing.T) {
	a, b := writeFile(t, "a.csv", sample), writeFile(t, "b.csv", "203.0.113.0,203.0.113.255,Third\n")
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	require.NoError(t, os.Chtimes(b, date, date))
	table, err := open(a, b)
	require.NoError(t, err)
	assert.Equal(t, Info{"a.csv", date, 4, nil}, table.Info())
	assert.Equal(t, "Third", lookup(table, addr("203.0.113.7")))
	assert.Equal(t, "Sydney", lookup(table, addr("192.0.2.7")))

	for name, err := range map[string]string{
		writeFile(t, "empty", ""):                        "the file is empty",
		writeFile(t, "line", sample+"x\n"):               "line 4: 1 fields",
		writeFile(t, "range", "192.0.2.1,192.0.2.0,x\n"): "line 1: last address 192.0.2.0 is before first 192.0.2.1",
		writeFile(t, "cut", "\x1f\x8b\x08"):              "the gzip data are cut off after 0 bytes of content: unexpected EOF",
		filepath.Join(t.TempDir(), "none"):               "no such file or directory",
		t.TempDir():                                      "is a folder, expected a file",
		writeFile(t, "damaged", table.data[:headerSize]): "damaged table",
		writeFile(t, "version", testForm.Magic+"\x63"+strings.Repeat("x", headerSize)): "the table was compiled by another version: compile it again",
	} {
		_, got := open(name)
		assert.EqualError(t, got, name+": "+err)
	}
	_, err = open()
	assert.EqualError(t, err, "no file is named")
}

func TestOpenCached(t *testing.T) {
	source := writeFile(t, "rows.csv", sample)
	folder := filepath.Join(t.TempDir(), "made", "here")
	calls := 0
	progress := func(done, size int64) {
		calls++
		assert.LessOrEqual(t, done, size)
	}
	want, err := open(source)
	require.NoError(t, err)
	table, err := testForm.OpenCached(folder, newTextReader(), progress, source)
	require.NoError(t, err)
	assert.Equal(t, all(want), all(table))
	assert.Equal(t, want.Info(), table.Info())
	assert.Positive(t, calls)
	require.Len(t, cachedFiles(t, folder), 1)

	// The next time nothing is compiled.
	calls = 0
	table, err = testForm.OpenCached(folder, newTextReader(), progress, source)
	require.NoError(t, err)
	assert.Equal(t, all(want), all(table))
	assert.Zero(t, calls)

	// What is in use stays what it is while the source and the file change.
	require.NoError(t, os.WriteFile(source, []byte("192.0.2.0,192.0.2.255,other\n"), 0o600))
	fresh, err := testForm.OpenCached(folder, newTextReader(), progress, source)
	require.NoError(t, err)
	assert.Positive(t, calls)
	assert.Equal(t, []row{{Range{addr("192.0.2.0"), addr("192.0.2.255")}, "other"}}, all(fresh))
	assert.Equal(t, all(want), all(table))
	assert.Len(t, cachedFiles(t, folder), 1)

	// A changed time is a change too.
	calls = 0
	then := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(source, then, then))
	_, err = testForm.OpenCached(folder, newTextReader(), progress, source)
	require.NoError(t, err)
	assert.Positive(t, calls)

	// So is a change whose time was set back, where that shows.
	if runtime.GOOS == "linux" {
		calls = 0
		require.NoError(t, os.WriteFile(source, []byte("192.0.2.0,192.0.2.255,third\n"), 0o600))
		require.NoError(t, os.Chtimes(source, then, then))
		fresh, err = testForm.OpenCached(folder, newTextReader(), progress, source)
		require.NoError(t, err)
		assert.Positive(t, calls)
		assert.Equal(t, "third", all(fresh)[0].text)
	}

	// A damaged source is an error and leaves what was compiled before.
	require.NoError(t, os.WriteFile(source, []byte("192.0.2.0\n"), 0o600))
	_, err = openCached(folder, source)
	assert.ErrorContains(t, err, "line 1")
	_, err = openCached(folder, source+".missing")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestDamagedCache(t *testing.T) {
	source, rows := manyRows(t)
	folder := t.TempDir()
	_, err := openCached(folder, source)
	require.NoError(t, err)
	file := cachedFiles(t, folder)[0]
	good, err := os.ReadFile(file)
	require.NoError(t, err)
	answers := func(t *Table) (wrong, unknown int) {
		for _, r := range rows {
			switch lookup(t, r.First) {
			case r.text:
			case "":
				unknown++
			default:
				wrong++
			}
		}
		return wrong, unknown
	}
	for at := 0; at < len(good); at += len(good)/40 + 1 {
		bad := append([]byte(nil), good...)
		bad[at] ^= 0x41
		require.NoError(t, os.WriteFile(file, bad, 0o600))
		table, err := openCached(folder, source)
		require.NoError(t, err)
		wrong, _ := answers(table)
		assert.Zero(t, wrong, "byte %d", at)
		if table.Verify() == nil {
			continue // the header was damaged, and all was compiled anew at once
		}
		assert.NoFileExists(t, file)
		assert.Empty(t, all(table))
		table, err = openCached(folder, source)
		require.NoError(t, err)
		wrong, unknown := answers(table)
		assert.Zero(t, wrong+unknown)
	}
	for _, n := range []int{0, 1, headerSize, len(good) / 2, len(good) - 1} {
		require.NoError(t, os.WriteFile(file, good[:n], 0o600))
		table, err := openCached(folder, source)
		require.NoError(t, err)
		wrong, unknown := answers(table)
		assert.Zero(t, wrong+unknown, "%d bytes", n)
	}
}

func TestNotCached(t *testing.T) {
	source := writeFile(t, "rows.csv", sample)
	folder := writeFile(t, "folder", "") // a file stands in the way
	table, err := openCached(folder, source)
	assert.ErrorIs(t, err, ErrNotCached)
	assert.ErrorContains(t, err, folder)
	require.NotNil(t, table)
	assert.NotEmpty(t, all(table))
}

// TestCompiled: a compiled file is opened as its source is, compressed too, but alone.
func TestCompiled(t *testing.T) {
	source, rows := manyRows(t)
	target := filepath.Join(t.TempDir(), "table")
	want, err := testForm.CompileFile(newTextReader(), source, target, nil)
	require.NoError(t, err)
	assert.Equal(t, rows, all(want))
	got, err := open(target)
	require.NoError(t, err)
	assert.Equal(t, rows, all(got))
	assert.Equal(t, want.Info(), got.Info())
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(want.data))
	require.NoError(t, w.Close())
	got, err = openCached(t.TempDir(), writeFile(t, "zipped", b.String()))
	require.NoError(t, err)
	assert.Equal(t, rows, all(got))
	_, err = open(source, target)
	assert.ErrorContains(t, err, "cannot be combined")

	bad := []byte(want.data)
	bad[len(bad)/2] ^= 1
	_, err = open(writeFile(t, "damaged", string(bad)))
	assert.ErrorIs(t, err, errDamaged)
	_, err = testForm.CompileFile(newTextReader(), source, filepath.Join(t.TempDir(), "missing", "table"), nil)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	var pe *fs.PathError
	assert.True(t, errors.As(err, &pe))
}
