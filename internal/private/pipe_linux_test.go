package private

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPipes: a pipe in place of a key is refused, and one in place of a token may not stay empty.
func TestPipes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(name, 0o600))
	for _, name := range []string{name, filepath.Dir(name), os.DevNull} {
		_, err := Read(name)
		assert.EqualError(t, err, name+" is not a regular file")
	}

	// As sops exec-file gives a secret to a program.
	go func() {
		if f, err := os.OpenFile(name, os.O_WRONLY, 0); assert.NoError(t, err) {
			f.WriteString("secret\n")
			f.Close()
		}
	}()
	line, err := ReadLine(name)
	require.NoError(t, err)
	assert.Equal(t, "secret", line)

	defer func(d time.Duration) { pipeWait = d }(pipeWait)
	pipeWait = 100 * time.Millisecond
	_, err = ReadLine(name)
	assert.EqualError(t, err, name+" is not a regular file, and was not written to its end within 100ms: name a regular file")
	f, err := os.OpenFile(name, os.O_WRONLY, 0) // ends the read that is left
	require.NoError(t, err)
	f.Close()

	// As a shell passes <(command), which may ask somebody first.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	time.AfterFunc(3*pipeWait, func() {
		w.WriteString("secret\n")
		w.Close()
	})
	line, err = ReadLine(fmt.Sprintf("/dev/fd/%d", r.Fd()))
	require.NoError(t, err)
	assert.Equal(t, "secret", line)

	_, err = ReadLine(name + " that is missing")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
