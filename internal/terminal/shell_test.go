package terminal

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestShell compares Shell with what a shell makes of it.
func TestShell(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("needs a shell: ", err)
	}
	assert.Equal(t, "/home/me/history.sqlite", Shell("/home/me/history.sqlite"))
	for _, word := range []string{"", "a b", "$(touch x)", "it's", "`id`", "\\", "*", "-rf", "a\nb", "ä", `"`, "''"} {
		out, err := exec.Command(sh, "-c", "printf %s "+Shell(word)).Output()
		require.NoError(t, err)
		assert.Equal(t, word, string(out))
	}
}
