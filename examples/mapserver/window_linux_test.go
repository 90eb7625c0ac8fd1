package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/clipboard"
)

// showMap is the map server with its window, for the test that uses it by the mouse.
func showMap(args []string) {
	must(run(context.Background(), args, os.Stdout, os.Stderr))
}

// A mouse is xdotool on a display of its own.
type mouse struct {
	t      *testing.T
	window string
}

func (m *mouse) do(args ...string) string {
	m.t.Helper()
	out, err := exec.Command("xdotool", args...).CombinedOutput()
	require.NoError(m.t, err, "xdotool %v: %s", args, out)
	time.Sleep(150 * time.Millisecond) // for the window to take it in
	return strings.TrimSpace(string(out))
}

// at moves the mouse to a point of the window.
func (m *mouse) at(x, y int) {
	m.t.Helper()
	m.do("mousemove", "--window", m.window, strconv.Itoa(x), strconv.Itoa(y))
}

// place returns where the window is on the screen.
func (m *mouse) place() (x, y int) {
	m.t.Helper()
	for line := range strings.Lines(m.do("getwindowgeometry", "--shell", m.window)) {
		fmt.Sscanf(line, "X=%d", &x)
		fmt.Sscanf(line, "Y=%d", &y)
	}
	return x, y
}

// TestMouseAlone uses the real window by the mouse: it moves by a drag, lists and copies
// by the bar, and Esc closes what is open before the bar ends the program.
func TestMouseAlone(t *testing.T) {
	for program, pkg := range map[string]string{"Xvfb": "xvfb", "xdotool": "xdotool"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s (Debian package %s)", program, pkg)
		}
	}
	ownFolders(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	screen := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset")
	screen.ExtraFiles = []*os.File{w}
	require.NoError(t, screen.Start())
	t.Cleanup(func() { screen.Process.Kill(); screen.Wait() })
	w.Close()
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	t.Setenv("DISPLAY", ":"+strings.TrimSpace(line))

	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	c := exec.Command(self, "-demo", "500", "-size", "1000x500", "-history", filepath.Join(dir, "h.sqlite"))
	c.Env = append(os.Environ(), "CONNMAP_TRAFFIC=map", "LIBGL_ALWAYS_SOFTWARE=1")
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	require.NoError(t, c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() { c.Process.Kill() })
	alive := func() {
		t.Helper()
		select {
		case err := <-ended:
			require.Fail(t, "it has ended", "%v\n%s", err, said.String())
		default:
		}
	}

	m := &mouse{t: t}
	require.Eventually(t, func() bool {
		out, err := exec.Command("xdotool", "search", "--onlyvisible", "--name", "^connmap$").Output()
		m.window = strings.TrimSpace(string(out))
		return err == nil && m.window != ""
	}, 20*time.Second, 200*time.Millisecond)
	m.do("windowfocus", m.window)
	time.Sleep(time.Second)

	// A left drag of the map moves the window.
	x0, y0 := m.place()
	m.at(500, 430)
	m.do("mousedown", "1")
	m.do("mousemove_relative", "--", "30", "-20")
	m.do("mousemove_relative", "--", "30", "-20")
	m.do("mouseup", "1")
	x1, y1 := m.place()
	assert.InDelta(t, 60, x1-x0, 3)
	assert.InDelta(t, -40, y1-y0, 3)

	var board clipboard.Clipboard
	defer board.Close()
	copied := func(what string) (text string) {
		t.Helper()
		require.NoError(t, board.Write("nothing"))
		m.do("key", "ctrl+a")
		require.Eventually(t, func() bool {
			text, err = board.Read()
			return err == nil && text != "nothing"
		}, 5*time.Second, 50*time.Millisecond, what)
		return text
	}
	// The bar lists all connections, which the window copies by itself.
	const list, closing, bar = 778, 974, 23
	m.at(list, bar)
	m.do("click", "1")
	text := copied("the list")
	assert.True(t, strings.HasPrefix(text, "\tprogram\taddress\tport\tlocal port\topened, "), "%.80q", text)
	assert.Greater(t, strings.Count(text, "\n●\t"), 300)
	m.do("key", "Escape")
	alive()
	// A right click lists what is near.
	m.at(500, 165) // the middle of Europe
	m.do("click", "3")
	assert.Contains(t, copied("what is near"), "\tprogram\taddress\t")
	m.do("key", "Escape")
	alive()
	// Esc answers a question with no, and stops a replay.
	m.do("key", "r")
	m.do("key", "g")
	m.do("key", "r")
	m.do("key", "Escape")
	m.do("key", "Escape")
	alive()
	// The cross of the bar ends the program.
	m.at(closing, bar)
	m.do("click", "1")
	select {
	case err := <-ended:
		assert.NoError(t, err, said.String())
	case <-time.After(10 * time.Second):
		assert.Fail(t, "it goes on")
	}
	_, err = os.Stat(config{configDir: configDir()}.rememberedFile())
	assert.NoError(t, err, "what the window was like is remembered")
}
