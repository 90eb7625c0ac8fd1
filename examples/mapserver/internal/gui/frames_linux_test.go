package gui

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/viewtest"
	"github.com/connmapgo/connmap/geoip"
)

const asFrames = "CONNMAP_TEST_FRAMES"

func init() { programs[asFrames] = showFrames }

// spread is a state of n connections to as many places.
func spread(n int, seed uint64) *live.State {
	st := viewtest.Busy()
	few := st.Conns
	st.Conns, st.Problems = nil, nil
	r := rand.New(rand.NewPCG(seed, 2))
	for i := range max(n, 1) {
		c := *few[i%len(few)]
		c.ID = uint64(i)
		c.Place = geoip.Place{Lat: r.Float64()*110 - 45, Lon: r.Float64()*340 - 165, Precision: geoip.City}
		c.Scope = live.Internet
		st.Conns = append(st.Conns, &c)
	}
	return st
}

// showFrames opens a window in which every frame has other dots, and says what
// processor time a frame takes; after a minus sign what share of a core a window with
// so many takes if it changes once a second.
func showFrames(arg string) {
	n, _ := strconv.Atoi(arg)
	slow := n < 0
	n = max(n, -n)
	states := [2]*live.State{spread(n, 1), spread(n, 2)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &Window{Title: "connmap frames", View: &mapview.View{}}
	w.limit.used = func() time.Duration { return 0 } // frames as fast as they can be made
	used := func() time.Duration {
		var u syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	i := 0
	w.State = func() *live.State { return states[i%2] }
	go func() {
		defer cancel()
		for w.frames.Load() < 3 {
			time.Sleep(20 * time.Millisecond)
			i++
			w.Wake()
		}
		frames, begin, cpu := w.frames.Load(), time.Now(), used()
		wait, until := time.Millisecond, frames+60
		if slow {
			wait, until = time.Second, frames+10
		}
		for w.frames.Load() < until && time.Since(begin) < time.Minute {
			at := w.frames.Load()
			i++
			w.Wake()
			// It may be that the state that is drawn has become the one of now again.
			for tries := 1; w.frames.Load() == at && time.Since(begin) < time.Minute; tries++ {
				time.Sleep(time.Millisecond)
				if tries%500 == 0 {
					i++
					w.Wake()
				}
			}
			time.Sleep(wait)
		}
		cpu = used() - cpu
		fmt.Println(float64(cpu.Microseconds())/1000/float64(w.frames.Load()-frames), 100*cpu.Seconds()/time.Since(begin).Seconds())
	}()
	if err := w.Run(ctx); err != nil {
		fmt.Println(err)
	}
}

const asResting = "CONNMAP_TEST_RESTING"

func init() { programs[asResting] = rest }

// rest opens a window whose frames cost much and whose state changes all the time, and says
// how many frames it has made in five seconds without input.
func rest(string) {
	activeTime = time.Second
	states := [2]*live.State{spread(10, 1), spread(10, 2)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &Window{Title: "connmap resting", View: &mapview.View{}}
	w.limit.used = func() time.Duration { return time.Duration(w.frames.Load()) * time.Second }
	i := 0
	w.State = func() *live.State { i++; return states[i%2] }
	go func() {
		defer cancel()
		for w.frames.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		begin, frames := time.Now(), int64(0)
		for ; time.Since(begin) < 8*time.Second; time.Sleep(5 * time.Millisecond) {
			if time.Since(begin) < 3*time.Second {
				frames = w.frames.Load()
			}
			w.Wake()
		}
		fmt.Println(w.frames.Load() - frames)
	}()
	if err := w.Run(ctx); err != nil {
		fmt.Println(err)
	}
}

// TestResting: a window that nobody uses is drawn about once a second if that costs much,
// however often its state changes.
func TestResting(t *testing.T) {
	if noDisplay != "" {
		t.Skip(noDisplay)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), asResting+"=1")
	out, err := c.Output()
	require.NoError(t, err)
	var frames int
	_, err = fmt.Sscan(string(out), &frames)
	require.NoError(t, err, "%s", out)
	// On a busy machine fewer come.
	require.Greater(t, frames, 0)
	require.LessOrEqual(t, frames, 7)
}

// BenchmarkFrame measures frames of a real window.
func BenchmarkFrame(b *testing.B) {
	if noDisplay != "" {
		b.Skip(noDisplay)
	}
	exe, err := os.Executable()
	require.NoError(b, err)
	// Places near the mouse cycle through their colours.
	if conn, err := xgb.NewConn(); err == nil {
		root := xproto.Setup(conn).DefaultScreen(conn).Root
		xproto.WarpPointer(conn, xproto.WindowNone, root, 0, 0, 0, 0, 1, 1)
		conn.Sync()
		defer conn.Close()
	}
	for _, arg := range []string{"0", "1000", "10000", "-500"} {
		b.Run(arg, func(b *testing.B) {
			c := exec.Command(exe)
			c.Env = append(os.Environ(), asFrames+"="+arg)
			out, err := c.Output()
			require.NoError(b, err)
			var ms, share float64
			_, err = fmt.Sscan(string(out), &ms, &share)
			require.NoError(b, err, "%s", out)
			b.ReportMetric(ms, "cpu-ms/frame")
			if arg[0] == '-' {
				b.ReportMetric(share, "%cpu")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
