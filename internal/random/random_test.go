package random

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFor: a seed repeats the numbers, in processes that a test starts too.
func TestFor(t *testing.T) {
	if os.Getenv("RANDOM_CHILD") != "" {
		println(New().Uint64())
		return
	}
	child := func(env string) string {
		cmd := exec.Command(os.Args[0], "-test.run=TestFor")
		cmd.Env = append(os.Environ(), "RANDOM_CHILD=1", env)
		var text strings.Builder
		cmd.Stderr = &text
		require.NoError(t, cmd.Run())
		return text.String()
	}
	want := For(t).Uint64()
	assert.Equal(t, want, New().Uint64())
	assert.NotEmpty(t, os.Getenv(Variable))
	assert.Equal(t, child("A=1"), child("A=2"), "both inherit it")
	assert.Equal(t, child(Variable+"=7"), child(Variable+"=7"))
	assert.NotEqual(t, child(Variable+"=7"), child(Variable+"=8"))
}
