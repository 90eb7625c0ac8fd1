package temp

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"x.1.new", "x.2.new", "x.a.new", "x.new", "y.1.new", "x.3"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		if name != "x.2.new" {
			long := time.Now().Add(-Old - time.Minute)
			require.NoError(t, os.Chtimes(filepath.Join(dir, name), long, long))
		}
	}
	f, err := Create(dir, "x.*.new")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	assert.ElementsMatch(t, []string{"x.2.new", "x.a.new", "x.new", "y.1.new", "x.3", filepath.Base(f.Name())}, left)
}
