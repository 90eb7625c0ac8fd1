//go:build unix

package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/race"
	"github.com/connmapgo/connmap/internal/random"
)

const childEnv = "HISTORY_TEST_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := child(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// child records batches until it is killed. It prints the number of each
// when it is acknowledged.
func child(name string) error {
	from, err := strconv.Atoi(os.Getenv(childEnv + "_FROM"))
	if err != nil {
		return err
	}
	db, err := Open(context.Background(), name, Options{})
	if err != nil {
		return err
	}
	for i := from; ; i++ {
		if err := db.Record(context.Background(), entries(i*50, 50)); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

func TestKill(t *testing.T) {
	kills := 40 // at other moments each time
	switch {
	case testing.Short() || race.Enabled:
		kills = 5
	case os.Getenv("CONNMAP_LONG") != "":
		kills = 1000
	}
	name := path(t)
	chance := random.For(t)
	acked := 0 // batches
	var slowest time.Duration
	for i := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+name, childEnv+"_FROM="+strconv.Itoa(acked))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		// Some are killed while they open the database, the others while they
		// record, however long it takes them to get there.
		life := time.Duration(chance.IntN(150_000)) * time.Microsecond
		kill := func() { cmd.Process.Kill() }
		timed := i%4 == 0
		if timed {
			time.AfterFunc(life, kill)
		}
		for s := bufio.NewScanner(out); s.Scan(); {
			n, err := strconv.Atoi(s.Text())
			require.NoError(t, err)
			acked = n + 1
			if !timed {
				timed = true
				time.AfterFunc(life, kill)
			}
		}
		cmd.Wait()
		require.Equal(t, -1, cmd.ProcessState.ExitCode(), "the child was not killed but failed")

		start := time.Now()
		db := open(t, name)
		slowest = max(slowest, time.Since(start))
		require.Empty(t, db.Problem())
		if i%10 == 9 || i == kills-1 {
			require.Equal(t, [][]string{{"ok"}}, query(t, db, `PRAGMA integrity_check`))
		}
		// A batch may have been recorded and its acknowledgement cut off, but
		// none is there in part.
		var rows int
		fmt.Sscan(count(t, db), &rows)
		assert.Zero(t, rows%50)
		assert.GreaterOrEqual(t, rows, acked*50)
		assert.LessOrEqual(t, rows, acked*50+50)
		sum := int64(0)
		for _, n := range places(t, db) {
			sum += n
		}
		assert.EqualValues(t, rows, sum)
		require.NoError(t, db.Close())
	}
	assert.GreaterOrEqual(t, acked, kills/2)
	t.Logf("%d batches acknowledged before %d kills; opened again within %v", acked, kills, slowest)
}
