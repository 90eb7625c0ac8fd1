package connmap_test

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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
