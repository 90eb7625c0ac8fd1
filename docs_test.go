package connmap_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDataPath: files, types, methods and fields that docs/data-path.md names are there.
func TestDataPath(t *testing.T) {
	text, err := os.ReadFile("docs/data-path.md")
	require.NoError(t, err)
	var code strings.Builder
	err = filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".c")) && !strings.HasSuffix(name, "_test.go") {
			var b []byte
			b, err = os.ReadFile(name)
			code.Write(b)
			code.WriteByte('\n')
		}
		return err
	})
	require.NoError(t, err)
	found := func(pattern string) bool { return regexp.MustCompile(pattern).MatchString(code.String()) }
	n := 0
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(string(text), -1) {
		name := m[1]
		n++
		if strings.Contains(name, "/") {
			assert.FileExists(t, name)
			continue
		}
		owner, member, qualified := strings.Cut(name, ".")
		o, i := regexp.QuoteMeta(owner), regexp.QuoteMeta(member)
		switch {
		case !qualified:
			assert.True(t, found(`(?m)^(type|package|struct) `+o+`\b`), name)
		case found(`(?m)^func \(\w+ \*?` + o + `(\[\w+\])?\) ` + i + `\(`): // a method
		case found(`(?m)^package `+o+`$`) && found(`(?m)^type `+i+`\b`): // a type of a package
		default:
			assert.True(t, found(`(?ms)^type `+o+` struct \{.*?^\t[\w, ]*\b`+i+`\b.*?^\}`), name)
		}
	}
	assert.Greater(t, n, 40)
}
