package sqlite

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history"
)

// tree is what lies in a folder: names with modes and contents.
func tree(t testing.TB, dir string) map[string]string {
	all := make(map[string]string)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		info, err := os.Lstat(name)
		require.NoError(t, err)
		content := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			content, err = os.Readlink(name)
		} else if info.Mode().IsRegular() {
			var b []byte
			b, err = os.ReadFile(name)
			content = string(b)
		}
		require.NoError(t, err)
		all[e.Name()] = info.Mode().String() + " " + content
	}
	return all
}

// dump is a history as the sqlite3 tool writes it in SQL.
const dump = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n" + schema + "COMMIT;\n"

// ahead is an SQLite file whose header says that it is written ahead.
func ahead(b []byte) string { return string(b[:18]) + "\x02\x02" + string(b[20:]) }

// TestNoHistory: whatever is no history, nor what is left of one, is refused with a
// sentence, and stays as it is; nothing comes to lie beside it.
func TestNoHistory(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write([]byte(dump))
	require.NoError(t, z.Close())
	other, err := os.ReadFile(foreign(t, "CREATE TABLE moz_cookies (id);\nINSERT INTO moz_cookies VALUES ('detailed_history')"))
	require.NoError(t, err)
	for name, content := range map[string]string{
		"letter":           "dear diary\n",
		"long letter":      strings.Repeat("dear diary, ", 100_000),
		"SQL":              dump,
		"gzip":             zipped.String(),
		"zeros":            strings.Repeat("\x00", 8192),
		"header only":      "SQLite format 3\x00",
		"program":          "\x7fELF" + strings.Repeat("\x01", 5000),
		"other program":    string(other),
		"written ahead":    ahead(other),
		"cut off":          string(other[:len(other)-1000]),
		"damaged":          string(other[:50]) + strings.Repeat("\xff", len(other)-50),
		"private key":      "-----BEGIN OPENSSH PRIVATE" + " KEY-----\nexample\n",
		"one byte":         "x",
		"word of the name": "detailed_history",
	} {
		t.Run(name, func(t *testing.T) {
			for _, how := range []string{"itself", "symbolic link", "hard link"} {
				dir := t.TempDir()
				file := filepath.Join(dir, "Cargo")
				require.NoError(t, os.WriteFile(file, []byte(content), 0o640))
				require.NoError(t, os.WriteFile(file+".lock", []byte("of another program"), 0o644))
				require.NoError(t, os.WriteFile(file+".reserve", []byte("of another program"), 0o644))
				named := file
				switch how {
				case "symbolic link":
					named = filepath.Join(dir, "link")
					require.NoError(t, os.Symlink("Cargo", named))
				case "hard link":
					named = filepath.Join(dir, "link")
					require.NoError(t, os.Link(file, named))
				}
				before := tree(t, dir)
				_, err := Open(t.Context(), named, Options{})
				assert.ErrorContains(t, err, "choose another file, this one stays as it is", how)
				assert.Equal(t, before, tree(t, dir), how)
				_, err = OpenConsole(t.Context(), named, ConsoleOptions{})
				assert.Error(t, err)
				assert.Equal(t, before, tree(t, dir), how)
			}
		})
	}
}

// FuzzOpen: what is no history stays, and what is left of one is kept.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("SQLite format 3\x00"))
	f.Add([]byte("tabledetailed_historydetailed_history"))
	name := path(f)
	db := open(f, name)
	require.NoError(f, db.Close())
	whole, err := os.ReadFile(name)
	require.NoError(f, err)
	f.Add(whole[:4096])
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		name := filepath.Join(dir, "x")
		require.NoError(t, os.WriteFile(name, content, 0o600))
		before := tree(t, dir)
		db, err := Open(t.Context(), name, Options{})
		if err != nil {
			for name, now := range tree(t, dir) {
				if name != "x" && isHistory(bytes.NewReader(content)) {
					continue // of a newer version
				}
				require.Equal(t, before[name], now, name)
			}
			return
		}
		require.NoError(t, db.Close())
		if len(content) == 0 || db.Problem() == "" {
			return
		}
		require.True(t, isHistory(bytes.NewReader(content)))
		kept, err := filepath.Glob(name + ".corrupt-*Z")
		require.NoError(t, err)
		require.Len(t, kept, 1)
		b, err := os.ReadFile(kept[0])
		require.NoError(t, err)
		require.Equal(t, content, b)
	})
}

// TestNames: all names of a file lead to one history, which one DB at a time has.
func TestNames(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	name := filepath.Join(dir, "history.sqlite")
	link := filepath.Join(elsewhere, "link")
	require.NoError(t, os.Symlink(filepath.Join(dir, "..", filepath.Base(dir), "history.sqlite"), link))
	folder := filepath.Join(elsewhere, "folder")
	require.NoError(t, os.Symlink(dir, folder))
	names := []string{name, link, filepath.Join(folder, "history.sqlite")}

	db := open(t, link) // leads nowhere yet
	require.NoError(t, db.Record(t.Context(), entries(0, 100)))
	assert.Equal(t, name, db.path)
	if runtime.GOOS == "linux" {
		hard := filepath.Join(elsewhere, "hard")
		require.NoError(t, os.Link(name, hard))
		names = append(names, hard)
	}
	for _, n := range names {
		_, err := Open(t.Context(), n, Options{})
		assert.ErrorIs(t, err, ErrInUse, n)
		c, err := OpenConsole(t.Context(), n, ConsoleOptions{})
		require.NoError(t, err)
		table, err := c.Ask(t.Context(), history.Question{SQL: `SELECT count(*) FROM detailed_history`})
		require.NoError(t, err)
		assert.Equal(t, [][]any{{int64(100)}}, table.Rows, n)
		require.NoError(t, c.Close())
	}
	// What was refused has not taken the lock away from the one that has it.
	require.NoError(t, db.Record(t.Context(), entries(100, 100)))
	require.NoError(t, db.Close())
	for _, n := range names {
		db := open(t, n)
		assert.Equal(t, name, db.path, n)
		assert.Equal(t, "200", count(t, db), n)
		require.NoError(t, db.Close())
	}
	left, err := os.ReadDir(elsewhere)
	require.NoError(t, err)
	for _, e := range left {
		assert.Contains(t, []string{"link", "folder", "hard"}, e.Name())
	}

	// Under the name that is left it is recorded from then on.
	if runtime.GOOS == "linux" {
		hard := names[len(names)-1]
		require.NoError(t, os.Remove(name))
		db = open(t, hard)
		assert.Equal(t, hard, db.path)
		assert.Equal(t, "200", count(t, db))
		assert.Equal(t, [][]string{{hard}}, query(t, db, settingPath))
	}
}

// TestInTheWay: files of others that have the names which a history gives to what lies beside
// it stay as they are.
func TestInTheWay(t *testing.T) {
	name := path(t)
	require.NoError(t, os.WriteFile(name+".lock", []byte("of another program"), 0o600))
	_, err := Open(t.Context(), name, Options{})
	assert.ErrorContains(t, err, name+".lock exists and is not a lock file of this program: move it away, or choose another file")
	require.NoError(t, os.Remove(name+".lock"))

	for _, suffix := range []string{".reserve", ".migrating", ".x.migrating"} {
		require.NoError(t, os.WriteFile(name+suffix, []byte("of another program"), 0o600))
	}
	db := open(t, name)
	assert.False(t, db.dropReserve())
	require.NoError(t, db.Close())

	old := foreign(t, perlTable+"\nINSERT INTO detailed_history (ip) VALUES ('192.0.2.1');")
	require.NoError(t, os.Rename(old, name))
	left := name + ".17.migrating"
	require.NoError(t, os.WriteFile(left, []byte("of a migration that was killed"), 0o600))
	db = open(t, name)
	assert.Equal(t, "1", count(t, db))
	assert.NoFileExists(t, left)
	for _, suffix := range []string{".reserve", ".migrating", ".x.migrating"} {
		b, err := os.ReadFile(name + suffix)
		require.NoError(t, err)
		assert.Equal(t, "of another program", string(b), suffix)
	}
}
