package feed

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPipesAreRefused: in place of a server's or an agent's own file, where nobody may ever write
// into it.
func TestPipesAreRefused(t *testing.T) {
	dir := t.TempDir()
	load := func() error {
		_, err := LoadIdentity(dir)
		if err == nil {
			_, err = LoadKey(filepath.Join(dir, "agent-key.pem"))
		}
		if err == nil {
			_, err = OpenRegistry(filepath.Join(dir, "agents.json"))
		}
		return err
	}
	require.NoError(t, load())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "agents.json"), []byte("[]"), 0o600))
	for _, name := range []string{"server-cert.pem", "server-key.pem", "server-secret", "agent-key.pem", "agents.json"} {
		name = filepath.Join(dir, name)
		require.NoError(t, os.Rename(name, name+".old"))
		require.NoError(t, syscall.Mkfifo(name, 0o600))
		assert.ErrorContains(t, load(), name+" is not a regular file")
		require.NoError(t, os.Rename(name+".old", name))
	}
}
