package connmap_test

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTree: nothing is kept in the repository that should not be: keys, large files that
// nobody knows of, and data of others that lies beside it for tests.
func TestTree(t *testing.T) {
	out, err := exec.Command("git", "ls-files", "-z").Output()
	if err != nil {
		t.Skip("this is no checkout of git")
	}
	large := map[string]bool{"asn/embedded/asn.table": true, "geoip/embedded/table.bin": true, "docs/map.png": true}
	others := make(map[[32]byte]string)
	const beside = "../shared/data"
	filepath.WalkDir(beside, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil && info.Size() > 0 {
				if b, err := os.ReadFile(name); err == nil {
					others[sha256.Sum256(b)] = name
				}
			}
		}
		return nil
	})
	if len(others) == 0 {
		t.Log("no data of others to compare with: there is no ", beside)
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		b, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // deleted, but not yet committed
		}
		require.NoError(t, err)
		assert.False(t, bytes.Contains(b, []byte("-----BEGIN "+"PRIVATE KEY")) || bytes.Contains(b, []byte("-----BEGIN "+"EC PRIVATE KEY")), "%s holds a private key", name)
		assert.Empty(t, others[sha256.Sum256(b)], "%s is a file of others", name)
		assert.True(t, len(b) < 300<<10 || large[name], "%s has %d bytes", name, len(b))
	}
}

// TestPackagesAreNamed: who reads doc.go or README.md learns of all packages and programs.
func TestPackagesAreNamed(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, p := range public(t) {
		assert.True(t, bytes.Contains(doc, []byte(p)), "doc.go does not name %s", p)
		assert.True(t, bytes.Contains(readme, []byte("["+p+"]("+p+")")), "README.md has no link to %s", p)
	}
	for _, p := range list(t, "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./cmd/...", "./examples/...") {
		if p = strings.TrimPrefix(p, module); !strings.Contains(p, "/internal/") {
			assert.True(t, bytes.Contains(doc, []byte(p)), "doc.go does not name %s", p)
		}
	}
}

// TestConnmapperlTable: docs/connmapperl.md names tests that there are, and has a row for
// each key, mouse action, file and column in the documentation of connmapperl.
func TestConnmapperlTable(t *testing.T) {
	b, err := os.ReadFile("docs/connmapperl.md")
	require.NoError(t, err)
	table := string(b)
	tests := make(map[string]bool)
	require.NoError(t, filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		source, err := os.ReadFile(name)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(source, -1) {
			tests[string(m[1])] = true
		}
		return err
	}))
	for _, name := range regexp.MustCompile(`\bTest\w+`).FindAllString(table, -1) {
		assert.True(t, tests[name], "there is no %s", name)
	}
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| ") && !strings.Contains(line, "| seen by |") {
			assert.Contains(t, line, "Test", "nothing shows it")
		}
	}

	b, err = os.ReadFile("../shared/seed/connmapperl.txt")
	if err != nil {
		t.Skip("needs the documentation of connmapperl: ", err)
	}
	seed := string(b)
	part := func(from, to string) string {
		_, s, ok := strings.Cut(seed, from)
		require.True(t, ok, from)
		s, _, ok = strings.Cut(s, to)
		require.True(t, ok, to)
		return s
	}
	var want []string
	for line := range strings.Lines(part("KeyAction\n", "\nMouse")) {
		if strings.HasPrefix(line, "Esc") {
			want = append(want, "Esc")
		} else if len(line) > 2 {
			want = append(want, line[:1])
		}
	}
	require.Len(t, want, 17)
	want = append(want, strings.FieldsFunc(part("Schema\n\n", "//"), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })...)
	require.Len(t, want, 32)
	for _, m := range regexp.MustCompile(`(?m)── (resources/)?([\w.*-]+\.\w[\w.-]*)`).FindAllStringSubmatch(part("./\n", "\nrequired"), -1) {
		if !strings.HasSuffix(m[2], ".pl") {
			want = append(want, m[2])
		}
	}
	require.Len(t, want, 45)
	for _, w := range want {
		assert.Regexp(t, "`(resources/)?"+regexp.QuoteMeta(w)+"`", table)
	}
	assert.Equal(t, strings.Count(part("ActionEffect\n", "\nHistory database"), "\n"), strings.Count(table[strings.Index(table, "## Mouse"):strings.Index(table, "## Command")], "\n| ")-2,
		"as many mouse actions, and that on the curve")
}
