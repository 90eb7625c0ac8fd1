package private

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClose(t *testing.T) {
	if !hasModes {
		t.Skip("files have no modes here")
	}
	for _, tt := range []struct {
		name       string
		mode, bits fs.FileMode
		folder     fs.FileMode
		want       fs.FileMode
		notice     string // a part; empty: none
	}{
		{"a key for its owner", 0o600, Own, 0o700, 0o600, ""},
		{"a key that only can be read", 0o400, Own, 0o700, 0o400, ""},
		{"a key for all", 0o644, Own, 0o700, 0o600, "(mode 0644): it is closed to them now (0600)"},
		{"a key for a group", 0o640, Own, 0o700, 0o600, "(mode 0640): it is closed to them now (0600)"},
		{"a token for a group", 0o440, Given, 0o700, 0o440, ""},
		{"a token for all", 0o664, Given, 0o700, 0o640, "(mode 0664): it is closed to them now (0640)"},
		{"a folder for all", 0o600, Own, 0o777, 0o600, "anybody may put another file in the place of"},
		{"a folder such as /tmp", 0o600, Own, 0o777 | fs.ModeSticky, 0o600, ""},
		{"all of it", 0o666, Own, 0o777, 0o600, "still knows what it holds; anybody may put"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "folder")
			require.NoError(t, os.Mkdir(dir, 0o700))
			name := filepath.Join(dir, "file")
			require.NoError(t, os.WriteFile(name, []byte("secret"), 0o600))
			require.NoError(t, os.Chmod(name, tt.mode))
			require.NoError(t, os.Chmod(dir, tt.folder))
			seen := Check(name, tt.bits)
			info, err := os.Stat(name)
			require.NoError(t, err)
			assert.Equal(t, tt.mode, info.Mode().Perm(), "looking changes nothing")
			notice, err := Restrict(name, tt.bits)
			require.NoError(t, err)
			assert.Equal(t, notice, seen)
			if tt.notice == "" {
				assert.Empty(t, notice)
			} else {
				assert.Contains(t, notice, tt.notice)
			}
			assert.NotContains(t, notice, "\n")
			info, err = os.Stat(name)
			require.NoError(t, err)
			assert.Equal(t, tt.want, info.Mode().Perm())
		})
	}
}

// TestCloseLeavesAlone: what is not there, what is no regular file, and what it may not change.
func TestCloseLeavesAlone(t *testing.T) {
	if !hasModes {
		t.Skip("files have no modes here")
	}
	dir := t.TempDir()
	for _, name := range []string{filepath.Join(dir, "nothing"), dir, os.DevNull} {
		notice, err := Restrict(name, Own)
		assert.NoError(t, err, name)
		assert.Empty(t, notice, name)
	}
	const others = "/proc/self/status" // for all to read, and nobody may change that
	if _, err := os.Stat(others); err == nil {
		_, err := Restrict(others, Own)
		require.ErrorIs(t, err, fs.ErrPermission)
		assert.ErrorContains(t, err, "may be used by others (mode 0444)")
	}
}

func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	for _, tt := range []struct {
		size int
		ok   bool
	}{{0, true}, {10, true}, {maxSize, true}, {maxSize + 1, false}} {
		require.NoError(t, os.WriteFile(name, []byte(strings.Repeat("x", tt.size)), 0o600))
		b, err := Read(name)
		assert.Equal(t, tt.ok, err == nil, "%d bytes: %v", tt.size, err)
		if tt.ok {
			assert.Len(t, b, tt.size)
		}
	}
	_, err := Read(filepath.Join(t.TempDir(), "nothing"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestReadLine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	for text, want := range map[string]string{
		"": "", "secret": "secret", " two words\r\n\n": "two words", "caf\xe9": "caf\xe9",
		"two\nlines": "no", "a\x00b": "no", "\x7fELF\x00\x00": "no",
	} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		got, err := ReadLine(name)
		if want == "no" {
			assert.ErrorContains(t, err, name+" is not a file with a token or a password", "%q", text)
			continue
		}
		assert.NoError(t, err, "%q", text)
		assert.Equal(t, want, got)
	}
	_, err := ReadLine(filepath.Join(t.TempDir(), "nothing"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
