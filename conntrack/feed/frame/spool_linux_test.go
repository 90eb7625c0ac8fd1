package frame

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSpoolOfOthers: files that somebody else has put into the folder do no harm, and hide no
// loss.
func TestSpoolOfOthers(t *testing.T) {
	dir := t.TempDir()
	name := func(b batch) string { return filepath.Join(dir, b.fileName()) }
	delta := func(number uint64) []byte {
		b, err := cbor.Marshal(spooledBody[[]eventRow]{Number: number, Rows: new(rows).events(nil, closes(1, 1))})
		require.NoError(t, err)
		return b
	}
	require.NoError(t, syscall.Mkfifo(name(batch{order: 1, closes: 1}), 0o600))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "run"+spoolSuffix), 0o600))
	require.NoError(t, os.WriteFile(name(batch{order: 2, closes: 1 << 63, lost: 1 << 63}), nil, 0o600))
	require.NoError(t, os.WriteFile(name(batch{order: 3, closes: 1}), delta(0), 0o600))
	require.NoError(t, os.WriteFile(name(batch{order: 4, closes: 2}), append(delta(2), delta(2)...), 0o600))
	require.NoError(t, os.WriteFile(name(batch{order: 5, closes: 5}), nil, 0o600))
	require.NoError(t, os.Truncate(name(batch{order: 5, closes: 5}), 1<<40))
	s, err := openSpool(dir)
	require.NoError(t, err)
	assert.Zero(t, s.startRun(Run{1}))
	var lost []uint64
	for len(s.batches) > 0 {
		for _, d := range s.readFirst() {
			assert.Empty(t, d.closes)
			lost = append(lost, d.lost)
		}
		s.dropFirst()
	}
	assert.Equal(t, []uint64{1, 2, 5}, lost)
}
