package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image/color"
	"io"
	"iter"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/clipboard"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
	"github.com/connmapgo/connmap/internal/program"
)

// showMap is the map server with its window, for the test that uses it by the mouse.
func showMap(args []string) {
	if os.Getenv("CONNMAP_SCENES") != "" {
		out := json.NewEncoder(os.NewFile(3, "scenes"))
		sceneDrawn = func(s *mapview.Scene) {
			now := scene{View: s.View, Items: slices.Clone(s.Items)}
			for i := range now.Items {
				now.Items[i].Picture = nil
			}
			must(out.Encode(now))
		}
	}
	program.Main("mapserver", func(ctx context.Context, stdout, stderr io.Writer) error {
		return run(ctx, args, stdout, stderr)
	})
}

// A scene is what the window has drawn, but for pictures.
type scene struct {
	View  worldmap.View
	Items []ui.Item
}

// text returns where the last text that fits stands, and the text.
func (s *scene) text(pattern string) (x, y int, text string) {
	fits := regexp.MustCompile(pattern)
	for _, i := range slices.Backward(s.Items) {
		if i.Shape == ui.Text && fits.MatchString(i.Text) {
			return int(i.X), int(i.Y), i.Text
		}
	}
	return 0, 0, ""
}

func (s *scene) has(pattern string) bool {
	_, _, text := s.text(pattern)
	return text != ""
}

// texts are all texts from the first one that fits on.
func (s *scene) texts(from string) (list []string) {
	fits := regexp.MustCompile(from)
	for _, i := range s.Items {
		if i.Shape == ui.Text && (list != nil || fits.MatchString(i.Text)) {
			list = append(list, i.Text)
		}
	}
	return list
}

// A window is the map server with its window on a display of its own, and xdotool in
// place of the user's hands.
type window struct {
	t     *testing.T
	id    string
	ended chan error
	said  bytes.Buffer // after it has ended
	stops func(bool)   // it does not run, or goes on
	send  func(syscall.Signal)
	dir   string // of the history

	mu    sync.Mutex
	shown scene
	out   string
}

// openWindow starts a map server.
func openWindow(t *testing.T, args ...string) *window {
	t.Helper()
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
	r.Close()
	t.Setenv("DISPLAY", ":"+strings.TrimSpace(line))

	self, err := os.Executable()
	require.NoError(t, err)
	r, w, err = os.Pipe()
	require.NoError(t, err)
	dir := t.TempDir()
	c := exec.Command(self, append([]string{"-size", "1000x500", "-history", filepath.Join(dir, "h.sqlite")}, args...)...)
	c.Env = append(os.Environ(), "CONNMAP_TRAFFIC=map", "CONNMAP_SCENES=1", "LIBGL_ALWAYS_SOFTWARE=1")
	c.ExtraFiles = []*os.File{w}
	m := &window{t: t, dir: dir, ended: make(chan error, 1)}
	m.stops = func(on bool) {
		t.Helper()
		signal := syscall.SIGCONT
		if on {
			signal = syscall.SIGSTOP
		}
		require.NoError(t, c.Process.Signal(signal))
	}
	m.send = func(signal syscall.Signal) {
		t.Helper()
		require.NoError(t, c.Process.Signal(signal))
	}
	c.Stdout = m
	c.Stderr = &m.said
	require.NoError(t, c.Start())
	w.Close()
	var readers sync.WaitGroup
	readers.Go(func() {
		defer r.Close()
		for in := json.NewDecoder(r); ; {
			var s scene
			if in.Decode(&s) != nil {
				return
			}
			m.mu.Lock()
			m.shown = s
			m.mu.Unlock()
		}
	})
	go func() { m.ended <- c.Wait() }()
	t.Cleanup(func() { c.Process.Kill(); readers.Wait() })
	m.until("a first scene", func(s *scene) bool { return len(s.Items) > 0 })
	m.id = strings.Fields(m.do("search", "--sync", "--onlyvisible", "--name", "^connmap$"))[0]
	m.do("windowfocus", "--sync", m.id)
	return m
}

// Write takes what the server says.
func (m *window) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out += string(p)
	return len(p), nil
}

func (m *window) now() *scene {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shown
	return &s
}

// wait waits until something is so, and fails if the window ends before.
func (m *window) wait(what string, ok func() bool) {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		select {
		case err := <-m.ended:
			require.Fail(m.t, "it has ended", "%s: %v\n%s", what, err, m.said.String())
		default:
		}
		if time.Now().After(end) {
			require.Fail(m.t, "the window does not show it", "%s\n%q", what, m.now().texts("^"))
		}
	}
}

// until waits until the window shows something.
func (m *window) until(what string, ok func(s *scene) bool) {
	m.t.Helper()
	m.wait(what, func() bool { return ok(m.now()) })
}

// sees waits until there is a text that fits, misses until there is none.
func (m *window) sees(pattern string) {
	m.t.Helper()
	m.until("with "+pattern, func(s *scene) bool { return s.has(pattern) })
}

func (m *window) misses(pattern string) {
	m.t.Helper()
	m.until("without "+pattern, func(s *scene) bool { return !s.has(pattern) })
}

// do runs xdotool.
func (m *window) do(args ...string) string {
	m.t.Helper()
	out, err := exec.Command("xdotool", args...).CombinedOutput()
	require.NoError(m.t, err, "xdotool %v: %s", args, out)
	return strings.TrimSpace(string(out))
}

// key presses keys, by the names that xdotool has for them.
func (m *window) key(names ...string) {
	m.t.Helper()
	m.do(append([]string{"key"}, names...)...)
}

// ctrl presses a key with Ctrl, and waits until the window has noticed that neither is
// held any more: of what comes after that it notices another motion.
func (m *window) ctrl(key string) {
	m.t.Helper()
	m.key("ctrl+" + key)
	m.at(722, 23)
	m.sees("^help$")
	m.at(500, 430)
	m.misses("^help$")
}

// at moves the mouse to a point of the window, and may press a button there.
func (m *window) at(x, y int, button ...string) {
	m.t.Helper()
	args := []string{"mousemove", "--window", m.id, strconv.Itoa(x), strconv.Itoa(y)}
	for _, b := range button {
		args = append(args, "click", b)
	}
	m.do(args...)
}

// place returns where the window is on the screen.
func (m *window) place() (x, y int) {
	m.t.Helper()
	for line := range strings.Lines(m.do("getwindowgeometry", "--shell", m.id)) {
		fmt.Sscanf(line, "X=%d", &x)
		fmt.Sscanf(line, "Y=%d", &y)
	}
	return x, y
}

// drags moves the window by a left drag of the map, from a point where there is nothing.
func (m *window) drags(x, y int) {
	m.t.Helper()
	// A slow window may still come after the first move when the second one begins: then again.
	for try := 1; ; try++ {
		x0, _ := m.place()
		m.at(x, y)
		m.do("mousedown", "1")
		m.wait("a window that follows", func() bool {
			m.do("mousemove_relative", "2", "0") // the press counts where it is noticed
			x, _ := m.place()
			return x > x0
		})
		var x1, y1 int
		m.wait("a window that has come after", func() bool {
			x1, y1 = m.place()
			time.Sleep(30 * time.Millisecond)
			x, y := m.place()
			return x == x1 && y == y1
		})
		m.do("mousemove_relative", "--", "30", "-20")
		moved := func() bool {
			x, y := m.place()
			return x-x1 >= 29 && x-x1 <= 31 && y-y1 >= -21 && y-y1 <= -19
		}
		for end := time.Now().Add(10 * time.Second); !moved() && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		m.do("mouseup", "1")
		if moved() {
			return
		}
		require.Less(m.t, try, 5, "the window does not move as the mouse does")
	}
}

// ends waits for the end of the program.
func (m *window) ends() {
	m.t.Helper()
	select {
	case err := <-m.ended:
		assert.NoError(m.t, err, m.said.String())
	case <-time.After(20 * time.Second):
		assert.Fail(m.t, "it goes on")
	}
}

// TestMouseAlone uses the real window by the mouse: it lists and copies by the bar, and
// Esc closes what is open before the bar ends the program.
func TestMouseAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	m := openWindow(t, "-demo", "500")
	m.sees("^1 agent · [345][0-9][0-9] live")
	m.drags(500, 430)

	var board clipboard.Clipboard
	defer board.Close()
	copied := func(what string) (text string) {
		t.Helper()
		require.NoError(t, board.Write("nothing"))
		m.ctrl("a")
		m.wait(what, func() bool {
			var err error
			text, err = board.Read()
			return err == nil && text != "nothing"
		})
		return text
	}
	// The bar lists all connections, which the window copies by itself.
	const list, closing, bar = 778, 974, 23
	m.at(list, bar, "1")
	m.sees("^All connections")
	text := copied("the list")
	assert.True(t, strings.HasPrefix(text, "\tprogram\tname\taddress\tport\tlocal port\topened, "), "%.80q", text)
	assert.Greater(t, strings.Count(text, "\n●\t"), 300)
	m.key("Escape")
	m.misses("^All connections")
	// A right click lists what is near.
	m.at(500, 165, "3") // the middle of Europe
	m.sees("^Near ")
	assert.Contains(t, copied("what is near"), "\tprogram\tname\taddress\t")
	m.key("Escape")
	m.misses("^Near ")
	// Esc answers a question with no, and stops a replay.
	m.key("r")
	m.sees("^r once more")
	m.key("Escape")
	m.sees("^nothing is deleted")
	m.key("g")
	m.sees("^replay")
	m.key("r")
	m.sees("^r once more")
	m.key("Escape")
	m.sees("^nothing is deleted")
	m.sees("^replay")
	m.key("Escape")
	m.sees("^replay stopped")
	// The cross of the bar ends the program.
	m.at(closing, bar, "1")
	m.ends()
	_, err := os.Stat(config{configDir: configDir()}.rememberedFile())
	assert.NoError(t, err, "what the window was like is remembered")
}

// fixed is a source of connections that stay.
type fixed []conntrack.Conn

func (f fixed) Events(ctx context.Context) iter.Seq2[conntrack.Event, error] {
	return func(yield func(conntrack.Event, error) bool) {
		for _, c := range f {
			if !yield(conntrack.Event{Kind: conntrack.Open, Time: time.Now(), Conn: c}, nil) {
				return
			}
		}
		<-ctx.Done()
	}
}

// TestHands does in the real window all that connmapperl's documentation has in its
// tables of keys and of mouse actions, with connections of an agent.
func TestHands(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(text), 0o666))
		return name
	}
	number := func(s string) uint32 {
		a := netip.MustParseAddr(s).As4()
		return binary.BigEndian.Uint32(a[:])
	}
	many, one := [2]float64{20, 20}, [2]float64{-25, 134} // where there is nothing else
	places := file("ipv4.csv", fmt.Sprintf("%d,%d,%v,%v\n%d,%d,%v,%v\n",
		number("198.51.99.0"), number("198.51.99.255"), one[0], one[1], number("203.0.112.0"), number("203.0.112.255"), many[0], many[1]))
	const alpha = "\"Alpha\",peer,443,0,200,255,255,0,0\n"
	ruleFile := file("rules", alpha+"\"Beta\",peer,22,255,0,200,255,0,0\n")

	m := openWindow(t, "-no-local", "-listen", "127.0.0.1:0", "-geo", places, "-rules", ruleFile, "-home", "52.5,13.4")
	var conns fixed
	for i, peer := range []string{"203.0.112.1:443", "203.0.112.2:22", "203.0.112.3:9", "198.51.99.1:443", "192.168.7.7:445"} {
		conns = append(conns, conntrack.Conn{ID: uint64(i + 1), Proto: conntrack.TCP, Direction: conntrack.Out, Opened: time.Now(),
			Local: netip.MustParseAddrPort(fmt.Sprintf("192.0.2.1:%d", 40000+i)), Peer: netip.MustParseAddrPort(peer),
			Process: conntrack.Process{PID: 7, Comm: fmt.Sprint("prog", i+1)}})
	}
	join := regexp.MustCompile(`connmap-agent (\S+) -\n`)
	var to []string
	m.wait("how to join", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		to = join.FindStringSubmatch(m.out)
		return to != nil
	})
	agent := &feed.Client{Addr: to[1], Token: tokenOf(t, os.Getenv("XDG_CONFIG_HOME")), Name: "nas", Source: conns}
	ctx, cancel := context.WithCancel(context.Background())
	reported := make(chan error, 1)
	go func() { reported <- agent.Run(ctx) }()
	defer func() { cancel(); assert.NoError(t, <-reported) }()
	m.sees("^1 agent · 4 live · 1 local hidden")

	pixel := func(p [2]float64) (x, y int) {
		a, b := m.now().View.Pixel(p[0], p[1])
		return int(a), int(b)
	}
	manyX, manyY := pixel(many)
	oneX, oneY := pixel(one)
	legendX, legendY, _ := m.now().text("^Alpha$")
	require.Less(t, legendX, 60)
	away := func() { m.at(500, 400) }

	// The mouse. A drag moves the window.
	away()
	m.drags(500, 400)
	// Near a stack its ring shows all colours in turn, and a badge how many there are.
	m.misses("^3x$")
	m.at(manyX+20, manyY)
	colors := map[color.NRGBA]bool{}
	m.until("a ring in three colours around each in turn, with a badge", func(s *scene) bool {
		arcs, ring := map[color.NRGBA]bool{}, false
		for _, i := range s.Items {
			if int(i.X) != manyX || int(i.Y) != manyY {
				continue
			}
			switch {
			case i.Shape == ui.Arc && i.R == 8:
				arcs[i.Color], ring = true, true
			case i.Shape == ui.Disc && i.R == 4.5 && ring:
				colors[i.Color] = true
			}
		}
		return len(arcs) == 3 && len(colors) >= 2 && s.has("^3x$")
	})
	away()
	m.misses("^3x$")
	// On a label of the legend it tells the most that there were.
	m.at(legendX+10, legendY-4)
	m.sees("^min [012], max 2$")
	// A click on the coloured box writes the label at its places, and takes it away.
	labels := func(want int) {
		t.Helper()
		away()
		m.until(fmt.Sprint(want, " labels"), func(s *scene) bool {
			n := 0
			for _, i := range s.Items {
				if i.Shape == ui.Text && i.Text == "Alpha" && i.X > 170 {
					n++
				}
			}
			return n == want
		})
	}
	labels(0)
	m.at(legendX-16, legendY-4, "1")
	labels(2)
	m.at(legendX-16, legendY-4, "1")
	labels(0)
	// One on the label lists its connections.
	m.at(legendX+10, legendY-4, "1")
	m.sees("^Alpha · 2 live")
	m.key("Escape")
	m.misses("^Alpha · 2 live")
	// A right click opens what is near. Near in the Hilbert curve is a block of addresses:
	// the same list with the same buttons.
	popup := func(title string) []string {
		t.Helper()
		m.sees(title + ".* · 1 live · [0-9]+ of the history")
		list := m.now().texts(title)[1:]
		return slices.DeleteFunc(list, func(s string) bool {
			return !slices.Contains([]string{"program", "address", "port", "local port", "organisation", "agent",
				"198.51.99.1", "prog4", "live", "nas", "Details", "Query", "Copy cell", "Copy row", "Copy all"}, s)
		})
	}
	m.at(oneX+5, oneY+5, "3")
	near := popup("^Near ")
	assert.Contains(t, near, "198.51.99.1")
	assert.Contains(t, near, "Copy all")
	m.key("Escape")
	m.misses("^Near ")
	m.key("z")
	m.sees("^IPv4 on a Hilbert curve")
	var dot *ui.Item
	m.until("a dot for each of two blocks", func(s *scene) bool {
		n, curve := 0, false
		for _, i := range s.Items {
			curve = curve || strings.HasPrefix(i.Text, "IPv4 on a Hilbert")
			if curve && i.Shape == ui.Disc && i.R == 3 {
				if n++; n == 2 {
					dot = &i
				}
			}
		}
		return n == 2
	})
	m.at(int(dot.X), int(dot.Y), "3")
	assert.Equal(t, near, popup("^Block 198"))
	m.key("Escape")
	m.misses("^Block ")
	m.key("Escape")
	m.misses("^IPv4 on")

	// The keys. t and a write labels, f shows badges at all stacks.
	away()
	m.key("t")
	m.sees("^Other: prog3 203.0.112.3:9 \\+2$")
	m.key("t")
	m.misses("prog3 203")
	m.key("a")
	m.sees("^Alpha \\+2$")
	m.key("a")
	m.misses("^Alpha \\+2$")
	m.key("f")
	m.sees("^3x$")
	m.key("f")
	m.misses("^3x$")
	// m shows local peers.
	m.key("m")
	m.sees("^1 agent · 5 live · ")
	m.key("m")
	m.sees("^1 agent · 4 live · 1 local hidden")
	// c reads the rules again.
	file("rules", alpha+"\"Gamma\",peer,22,255,0,200,255,0,0\n")
	m.key("c")
	m.sees("^Gamma$")
	// h shows the places of the history.
	marks := func(want bool) {
		t.Helper()
		m.until(fmt.Sprint("marks ", want), func(s *scene) bool {
			return want == slices.ContainsFunc(s.Items, func(i ui.Item) bool {
				return i.Shape == ui.Disc && i.Color == color.NRGBA{255, 255, 255, 0x1a}
			})
		})
	}
	marks(false)
	m.key("h")
	marks(true)
	m.key("h")
	marks(false)
	// s saves the counts of places, l loads them.
	m.key("s")
	m.sees("^2 places saved in ")
	m.key("l")
	m.sees("^2 places loaded from ")
	// p, q, i and k open panels; in SQL keys are text, and it answers.
	m.key("p")
	m.sees("^How much history is kept$")
	m.key("Escape")
	m.misses("^How much history is kept$")
	m.key("q")
	m.sees("^Run Ctrl\\+Enter$")
	m.ctrl("Return")
	m.sees("^203.0.112.1$")
	m.key("Escape")
	m.misses("^Run Ctrl")
	m.key("i")
	m.sees("^A click on a name")
	m.sees("^127.0.0.1")
	m.key("i")
	m.misses("^A click on a name")
	m.key("k")
	m.sees("^A click on a name")
	m.key("k")
	m.misses("^A click on a name")
	// b makes a sound for what no rule fits.
	m.key("b")
	m.sees("^sound for unclassified connections on$")
	// A text and its end count in the order in which they were typed, however fast.
	for _, typed := range []string{"app:prog4", "port:22", "ip:203.0.112.3"} {
		m.do("key", "slash", "type", "--delay", "0", typed)
		m.sees("^" + typed + "$")
		m.do("key", "--delay", "0", "s", "Return")
		m.sees("^" + typed + "s$")
		m.sees("^1 agent · 0 live · ")
		m.misses("^/$")
		m.key("Escape")
		m.misses("^" + typed)
	}
	m.misses("places saved in")
	// g replays the history, and stops that.
	m.key("g")
	m.sees("^replay · .* · 4$")
	m.key("g")
	m.sees("^replay stopped$")
	// r deletes it.
	m.key("r")
	m.sees("^r once more deletes")
	m.do("sleep", "0.1", "key", "r")
	m.sees("^the stored history has been deleted$")
	// Esc saves and quits.
	saved := filepath.Join(m.dir, "places.txt")
	require.NoError(t, os.Remove(saved))
	m.key("Escape")
	m.ends()
	assert.FileExists(t, saved)
}

// TestWindowEnds: the real window ends at once when it is told to, also while it answers or
// exports, and what it exported by its buttons before is whole.
func TestWindowEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
	for i, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(end.String(), func(t *testing.T) {
			if signal.Ignored(end) {
				t.Skipf("%v is ignored here, as by nohup", end)
			}
			m := openWindow(t, "-demo", "300", "-listen", "none")
			m.sees("live")
			m.key("q")
			m.sees("^CSV$")
			press := func(label string) {
				t.Helper()
				x, y, _ := m.now().text("^" + label + "$")
				m.at(x+4, y-4, "1")
			}
			write := func(sql string) {
				t.Helper()
				m.key("ctrl+a", "BackSpace")
				m.misses("^(FROM|AS|n)$")
				m.do("type", "--delay", "0", sql)
				m.sees("^AS$")
			}
			exports := filepath.Join(os.Getenv("XDG_DATA_HOME"), "connmap", "exports")
			write("SELECT 7 AS a, '=1+1' AS b")
			for label, want := range map[string]string{"CSV": "a,b\n7,'=1+1\n", "JSON": "{\"a\":7,\"b\":\"=1+1\"}\n"} {
				press(label)
				m.sees("1 row written to .*" + strings.ToLower(label))
				names, err := filepath.Glob(filepath.Join(exports, "*."+strings.ToLower(label)))
				require.NoError(t, err)
				require.Len(t, names, 1)
				b, err := os.ReadFile(names[0])
				require.NoError(t, err)
				assert.Equal(t, want, string(b))
			}
			switch i {
			case 1:
				write(endless)
				m.key("ctrl+Return")
				m.sees("^Cancel$")
			case 2:
				write(endless)
				press("CSV")
				m.sees("export")
			}
			start := time.Now()
			m.send(end)
			m.ends()
			// A second, and what a busy machine takes.
			assert.Less(t, time.Since(start), 3*time.Second)
			left, err := os.ReadDir(exports)
			require.NoError(t, err)
			assert.Len(t, left, 2, "nothing of an export that was cut short is left")
		})
	}
}
