package unpack

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

func pack(tb testing.TB, format, content string) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	switch format {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "xz":
		var err error
		w, err = xz.NewWriter(&b)
		require.NoError(tb, err)
	default:
		return []byte(content)
	}
	_, err := io.WriteString(w, content)
	require.NoError(tb, err)
	require.NoError(tb, w.Close())
	return b.Bytes()
}

func unpacked(b []byte) (string, error) {
	r, err := Reader(bytes.NewReader(b), 1<<30)
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(r)
	return string(content), err
}

func TestReader(t *testing.T) {
	for _, format := range []string{"plain", "gzip", "xz"} {
		t.Run(format, func(t *testing.T) {
			for _, content := range []string{"", "1", "two\n", strings.Repeat("many lines\n", 100_000)} {
				got, err := unpacked(pack(t, format, content))
				require.NoError(t, err)
				assert.True(t, got == content)
			}
		})
	}
	several := append(pack(t, "gzip", "one\n"), pack(t, "gzip", "two\n")...)
	got, err := unpacked(several)
	require.NoError(t, err)
	assert.Equal(t, "one\ntwo\n", got)
}

func TestDamaged(t *testing.T) {
	for _, format := range []string{"gzip", "xz"} {
		t.Run(format, func(t *testing.T) {
			whole := pack(t, format, strings.Repeat("many lines\n", 1000))
			for _, n := range []int{6, 15, len(whole) / 2, len(whole) - 1} {
				_, err := unpacked(whole[:n])
				assert.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d bytes", n)
				assert.ErrorContains(t, err, "the "+format+" data are cut off after")
			}
			whole[len(whole)/2] ^= 0xff
			_, err := unpacked(whole)
			assert.ErrorContains(t, err, format+" data")
		})
	}
}

func FuzzReader(f *testing.F) {
	for _, format := range []string{"plain", "gzip", "xz"} {
		f.Add(pack(f, format, "content\n"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := Reader(bytes.NewReader(b), 1<<30); err == nil {
			io.CopyN(io.Discard, r, 1<<20)
		}
	})
}

// TestOpen: a pipe and a folder are no files.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	_, _, err := Open(dir)
	assert.ErrorContains(t, err, dir+": is a folder, expected a file")
	_, _, err = Open(os.DevNull)
	assert.ErrorContains(t, err, os.DevNull+": is not a regular file")
	_, _, err = Open(filepath.Join(dir, "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	name := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(name, []byte("text"), 0o600))
	f, info, err := Open(name)
	require.NoError(t, err)
	defer f.Close()
	assert.EqualValues(t, 4, info.Size())
}
