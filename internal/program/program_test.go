package program

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/program/programtest"
	"github.com/connmapgo/connmap/internal/temp"
)

const asProgram = "CONNMAP_PROGRAM_TEST"

func TestMain(m *testing.M) {
	dir := os.Getenv(asProgram)
	if dir == "" {
		os.Exit(m.Run())
	}
	Main("example", func(ctx context.Context, stdout, stderr io.Writer) error {
		f, err := temp.Create(dir, "table.*.tmp")
		if err != nil {
			return err
		}
		if os.Args[1] != "deaf" {
			<-ctx.Done()
			if os.Args[1] == "slow" {
				time.Sleep(Grace / 3)
			}
			fmt.Fprintln(stdout, "farewell")
			f.Close()
			return os.Rename(f.Name(), filepath.Join(dir, "whole"))
		}
		for { // work that looks at no context
			time.Sleep(time.Millisecond)
		}
	})
}

// TestEnds: what does not end by itself is ended, and leaves no temporary files.
func TestEnds(t *testing.T) {
	for _, end := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		for _, how := range []string{"good", "deaf"} {
			t.Run(fmt.Sprint(how, " ", end), func(t *testing.T) {
				if signal.Ignored(end) {
					t.Skipf("%v is ignored here, as by nohup", end)
				}
				dir := t.TempDir()
				cmd := exec.Command(os.Args[0], how)
				cmd.Env = append(os.Environ(), asProgram+"="+dir)
				out := programtest.Ends(t, cmd, end, func(int) bool {
					left, _ := filepath.Glob(filepath.Join(dir, "*.tmp"))
					return len(left) == 1
				})
				left, err := filepath.Glob(filepath.Join(dir, "*"))
				require.NoError(t, err)
				if how == "good" {
					assert.Equal(t, "farewell\n", out)
					assert.Equal(t, 0, cmd.ProcessState.ExitCode())
					assert.Equal(t, []string{filepath.Join(dir, "whole")}, left)
				} else {
					assert.Equal(t, "example: interrupted\n", out)
					assert.Equal(t, 1, cmd.ProcessState.ExitCode())
					assert.Empty(t, left)
				}
			})
		}
	}
}

// TestManySignals: a program is not kept from its end by more signals than one.
func TestManySignals(t *testing.T) {
	for _, second := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP, os.Interrupt} {
		if signal.Ignored(second) {
			t.Skipf("%v is ignored here, as by nohup", second)
		}
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "slow")
		cmd.Env = append(os.Environ(), asProgram+"="+dir)
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool {
			left, _ := filepath.Glob(filepath.Join(dir, "*.tmp"))
			return len(left) == 1
		}, time.Minute, time.Millisecond)
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		for range 5 {
			time.Sleep(5 * time.Millisecond)
			require.NoError(t, cmd.Process.Signal(second))
		}
		assert.NoError(t, cmd.Wait())
		assert.FileExists(t, filepath.Join(dir, "whole"))
	}
}

// TestNohup: a program that nohup has started goes on when its terminal is closed.
func TestNohup(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", `trap "" HUP; exec "$0" good`, os.Args[0])
	cmd.Env = append(os.Environ(), asProgram+"="+dir)
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		left, _ := filepath.Glob(filepath.Join(dir, "*.tmp"))
		return len(left) == 1
	}, time.Minute, time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	time.Sleep(100 * time.Millisecond)
	assert.NoFileExists(t, filepath.Join(dir, "whole"))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, cmd.Wait())
	assert.FileExists(t, filepath.Join(dir, "whole"))
}
