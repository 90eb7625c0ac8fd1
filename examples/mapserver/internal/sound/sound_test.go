package sound

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hang names the file into which this program writes its process ID to hang then.
const hang = "CONNMAP_TEST_HANG"

func TestMain(m *testing.M) {
	if name := os.Getenv(hang); name != "" {
		os.WriteFile(name+".new", []byte(strconv.Itoa(os.Getpid())), 0o600)
		os.Rename(name+".new", name)
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// fake returns a Player of a sound that is counted, and its clock.
func fake(log *slog.Logger, sound func(context.Context) error) (p *Player, now *time.Time) {
	now = new(time.Time)
	*now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return &Player{log: log, now: func() time.Time { return *now }, sound: sound}, now
}

func TestRate(t *testing.T) {
	var sounds int
	p, now := fake(nil, func(context.Context) error { sounds++; return nil })
	for _, tt := range []struct {
		name  string
		after time.Duration
		want  int
	}{
		{"the first", 0, 1},
		{"at once", 0, 1},
		{"just too soon", time.Second - 1, 1},
		{"a second after the first", 1, 2},
		{"half a second later", time.Second / 2, 2},
		{"dropped ones do not count", time.Second / 2, 3},
		{"much later", time.Hour, 4},
	} {
		*now = now.Add(tt.after)
		p.Play()
		p.playing.Wait()
		assert.Equal(t, tt.want, sounds, tt.name)
	}
	require.NoError(t, p.Close())
	*now = now.Add(time.Hour)
	p.Play()
	p.playing.Wait()
	assert.Equal(t, 4, sounds, "after Close")
	require.NoError(t, p.Close())
}

func TestNeverTwoAtATime(t *testing.T) {
	var sounds atomic.Int32
	end := make(chan struct{})
	p, now := fake(nil, func(context.Context) error { sounds.Add(1); <-end; return nil })
	p.Play()
	*now = now.Add(time.Hour)
	p.Play()
	close(end)
	p.playing.Wait()
	assert.EqualValues(t, 1, sounds.Load())
	p.Play()
	p.playing.Wait()
	assert.EqualValues(t, 2, sounds.Load())
}

func TestConcurrent(t *testing.T) {
	var sounds atomic.Int32
	p, _ := fake(nil, func(ctx context.Context) error { sounds.Add(1); <-ctx.Done(); return ctx.Err() })
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(p.Play)
	}
	calls.Wait()
	require.NoError(t, p.Close(), "stops the sound")
	assert.EqualValues(t, 1, sounds.Load())
}

func TestZero(t *testing.T) {
	var zero Player
	zero.Play()
	require.NoError(t, zero.Close())
}

func TestNone(t *testing.T) {
	p, err := New(" none ", nil)
	require.NoError(t, err)
	p.Play()
	assert.Nil(t, p.stop, "nothing plays")
	require.NoError(t, p.Close())
}

func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error
		tries int
		want  string
	}{
		{"a command may do better later", errors.New("exit status 1"), 3, "level=WARN msg=\"a sound failed; later ones are tried\" error=\"exit status 1\"\n"},
		{"a device will not", fmt.Errorf("%w: gone", errDevice), 1, "level=INFO msg=\"no more sounds will be played: the sound device failed\" error=\"no sound device: gone\"\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			tries := 0
			p, now := fake(logger(&out), func(context.Context) error { tries++; return tt.err })
			for range 3 {
				p.Play()
				p.playing.Wait()
				*now = now.Add(time.Minute)
			}
			assert.Equal(t, tt.tries, tries)
			assert.Equal(t, tt.want, out.String(), "said once")
		})
	}
}

func logger(out *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// noDevice skips where this test would make a noise.
func noDevice(t *testing.T) {
	t.Helper()
	d := opened()
	if d.err == nil {
		select {
		case <-d.ready:
			d.err = d.context.Err()
		case <-time.After(deviceTimeout):
			return
		}
	}
	if d.err == nil {
		t.Skip("there is a sound device")
	}
}

func TestNoDevice(t *testing.T) {
	noDevice(t)
	for range 2 {
		var out bytes.Buffer
		p, err := New("", logger(&out))
		require.NoError(t, err)
		now := time.Now()
		p.now = func() time.Time { return now }
		for range 3 {
			p.Play()
			p.playing.Wait()
			now = now.Add(time.Minute)
		}
		require.NoError(t, p.Close())
		assert.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
		assert.Contains(t, out.String(), `level=INFO msg="no more sounds will be played: the sound device failed" error="no sound device: `)
	}
}

// TestQuiet looks at what the library below the library writes on the terminal.
func TestQuiet(t *testing.T) {
	noDevice(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoDevice$")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.NotContains(t, string(out), "ALSA")
}

func TestTone(t *testing.T) {
	pcm := tone()
	require.Len(t, pcm, 150*rate/1000*frameSize)
	loudest, step, last := 0, 0, 0
	for i := 0; i < len(pcm); i += frameSize {
		left, right := sample(pcm, i), sample(pcm, i+2)
		require.Equal(t, left, right, "frame %d", i/frameSize)
		loudest = max(loudest, left, -left)
		step = max(step, left-last, last-left)
		last = left
	}
	assert.InDelta(t, 0.25*math.MaxInt16, loudest, 0.1*math.MaxInt16, "heard, and far from clipped")
	assert.Less(t, step, 2000, "a click")
	assert.Zero(t, sample(pcm, 0))
	assert.Zero(t, sample(pcm, len(pcm)-2))
}

func sample(pcm []byte, i int) int { return int(int16(binary.LittleEndian.Uint16(pcm[i:]))) }

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
	}{
		{`beep`, []string{"beep"}},
		{"  beep \t -f  880 ", []string{"beep", "-f", "880"}},
		{`a "b c" 'd "e'`, []string{"a", "b c", `d "e`}},
		{`a"b c"d ''`, []string{"ab cd", ""}},
		{`C:\beep\beep.exe $HOME; *`, []string{`C:\beep\beep.exe`, "$HOME;", "*"}},
		{"\xff é", []string{"\xff", "é"}},
		{" ", nil},
	} {
		got, err := split(tt.line)
		require.NoError(t, err, tt.line)
		assert.Equal(t, tt.want, got, tt.line)
	}
}

func need(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
}

func TestCommand(t *testing.T) {
	need(t, "touch")
	dir := t.TempDir()
	p, err := New(fmt.Sprintf(`touch "%[1]s/a b;touch c" '%[1]s/$HOME' %[1]s/*&d`, dir), nil)
	require.NoError(t, err)
	p.Play()
	p.playing.Wait()
	require.NoError(t, p.Close())
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	assert.ElementsMatch(t, []string{"a b;touch c", "$HOME", "*&d"}, names)
}

func TestCommandLimit(t *testing.T) {
	need(t, "sleep")
	start := time.Now()
	err := command([]string{"sleep", "60"}, 50*time.Millisecond)(t.Context())
	assert.EqualError(t, err, "sleep: killed after 50ms")
	assert.Less(t, time.Since(start), 30*time.Second)
}

func TestCommandFails(t *testing.T) {
	need(t, "false")
	assert.EqualError(t, command([]string{"false"}, commandTimeout)(t.Context()), "false: exit status 1")
}

func TestCloseKills(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	t.Setenv(hang, pidFile)
	var out bytes.Buffer
	p, err := New(`"`+os.Args[0]+`" -x`, logger(&out))
	require.NoError(t, err)
	p.Play()
	require.Eventually(t, func() bool { _, err := os.Stat(pidFile); return err == nil }, commandTimeout, 5*time.Millisecond)
	text, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	pid, err := strconv.Atoi(string(text))
	require.NoError(t, err)

	start := time.Now()
	require.NoError(t, p.Close())
	assert.Less(t, time.Since(start), commandTimeout/2)
	if process, err := os.FindProcess(pid); err == nil {
		assert.Error(t, process.Signal(syscall.Signal(0)), "process %d lives", pid)
	}
	assert.Empty(t, out.String(), "Close is no failure")
}

func TestNewErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(name string, data []byte) { require.NoError(t, os.WriteFile(name, data, 0o600)) }
	write("text.wav", []byte("hello"))
	write("large.wav", make([]byte, maxFile+1))
	write("long.wav", wav(8000, 1, 8, make([]byte, 8000*maxSeconds+1)))
	require.NoError(t, os.Mkdir("folder.wav", 0o700))
	for _, tt := range []struct{ name, spec, want string }{
		{"no file", "missing.WAV", "sound: stat missing.WAV: "},
		{"no file", `"missing too.wav"`, "sound: stat missing too.wav: "},
		{"no file, or no command", "no-such-command missing.wav", `sound: there is neither a file "no-such-command missing.wav" nor a command "no-such-command"; expected `},
		{"no command", "no-such-command -x", `sound: exec: "no-such-command": executable file not found in `},
		{"no command", `""`, `sound: exec: "": executable file not found in `},
		{"quote", `beep "a b`, `sound: a quote " is not closed in beep "a b`},
		{"folder", "folder.wav", "sound: folder.wav is not a file; expected "},
		{"text", "text.wav", "sound: text.wav: this is not a WAV file; convert it with: "},
		{"too large", "large.wav", "sound: large.wav has more than 10 MB; use a shorter sound"},
		{"too long", "long.wav", "sound: long.wav: the sound takes 10 seconds; use one of 10 or less"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := New(tt.spec, nil)
			assert.Nil(t, p)
			require.Error(t, err)
			assert.True(t, strings.HasPrefix(err.Error(), tt.want), "got  %s\nwant %s...", err, tt.want)
		})
	}
	_, err := New("missing.wav", nil)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestNewFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, tt := range []struct{ file, spec string }{
		{"a.wav", "a.wav"},
		{"A.WAV", " A.WAV "},
		{"with space.wav", "with space.wav"},
		{"in quotes.wav", `"in quotes.wav"`},
		{"bob's.wav", "bob's.wav"},
	} {
		require.NoError(t, os.WriteFile(tt.file, wav(8000, 1, 8, make([]byte, 800)), 0o600))
		p, err := New(tt.spec, nil)
		require.NoError(t, err, tt.spec)
		require.NoError(t, p.Close())
	}
	need(t, "cat")
	_, err := New("cat a.wav", nil)
	require.NoError(t, err, "a command that ends as a file does")
}
