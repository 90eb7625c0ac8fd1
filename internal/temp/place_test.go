package temp

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	require.NoError(t, os.WriteFile(from, []byte("new"), 0o600))
	require.NoError(t, os.WriteFile(to, []byte("old"), 0o600))
	assert.ErrorIs(t, Place(from, to), fs.ErrExist)
	b, err := os.ReadFile(to)
	require.NoError(t, err)
	assert.Equal(t, "old", string(b))
	require.NoError(t, os.Remove(to))
	require.NoError(t, os.Symlink("nowhere", to))
	assert.ErrorIs(t, Place(from, to), fs.ErrExist)
	require.NoError(t, os.Remove(to))
	require.NoError(t, Place(from, to))
	b, err = os.ReadFile(to)
	require.NoError(t, err)
	assert.Equal(t, "new", string(b))
	assert.NoFileExists(t, from)
}

func TestReplaceable(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		return name
	}
	ours := func(head []byte) bool { return bytes.HasPrefix(head, []byte("ours")) }
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(file("linked", "a letter"), link))
	for name, want := range map[string]string{
		filepath.Join(dir, "none"):  "",
		file("empty", ""):           "",
		file("ours", "ours, again"): "",
		file("letter", "a letter"):  "letter exists and is not a picture: name another file, or move it away",
		link:                        "link exists and is not a picture: name another file, or move it away",
		dir:                         "is not a file: name another",
	} {
		err := Replaceable(name, "picture", ours)
		if want == "" {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorContains(t, err, want)
		}
	}
}
