package gui

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"

	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/paint"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/viewtest"
)

// showScenes opens a window on the state of the scenes, at a time that stands still.
// Each line of standard input begins anew, light if it says so.
func showScenes() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	view := &mapview.View{FirstQuery: viewtest.FirstQuery, Saved: viewtest.Saved}
	var next atomic.Pointer[string]
	st := viewtest.Busy()
	var answers []mapview.Answer
	w := &Window{Title: "connmap scenes", View: view, clock: func() time.Time { return viewtest.Noon }}
	w.State = func() *live.State {
		if theme := next.Swap(nil); theme != nil {
			*view = mapview.View{FirstQuery: viewtest.FirstQuery, Saved: viewtest.Saved}
			view.Light = *theme == "light"
			fmt.Println("anew")
		}
		return st
	}
	w.onInput = func(in mapview.Input) { fmt.Println(tookOf(in)) }
	w.Handle = func(e mapview.Effect) {
		answers = append(answers, viewtest.Answers(e)...)
		if len(answers) > 0 {
			w.Wake()
		}
	}
	w.Answers = func() []mapview.Answer {
		a := answers
		answers = nil
		return a
	}
	go func() {
		defer cancel()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			theme := in.Text()
			next.Store(&theme)
			w.Wake()
		}
	}()
	if err := w.Run(ctx); err != nil {
		fmt.Println(err)
	}
}

const asScenes = "CONNMAP_TEST_SCENES"

func init() { programs[asScenes] = func(string) { showScenes() } }

// A took is what the window of the scenes says of an input that it has given to its view.
type took struct {
	keys, press, release, right, wheel int
	cursor                             image.Point
}

func tookOf(in mapview.Input) string {
	one := map[bool]int{true: 1}
	return fmt.Sprintln("took", len(in.Keys), one[in.Press], one[in.Release], one[in.Right], one[in.Wheel != 0], in.Cursor.X, in.Cursor.Y)
}

// A watcher adds up what the window says. The zero watcher has heard nothing.
type watcher struct {
	mu      sync.Mutex
	total   took
	updates int
	anew    chan struct{}
}

func (w *watcher) read(r io.Reader) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if lines.Text() == "anew" {
			w.anew <- struct{}{}
			continue
		}
		var n took
		if _, err := fmt.Sscan(strings.TrimPrefix(lines.Text(), "took "), &n.keys, &n.press, &n.release, &n.right, &n.wheel, &n.cursor.X, &n.cursor.Y); err != nil {
			continue
		}
		w.mu.Lock()
		w.updates++
		w.total.keys += n.keys
		w.total.press += n.press
		w.total.release += n.release
		w.total.right += n.right
		w.total.wheel += n.wheel
		w.total.cursor = n.cursor
		w.mu.Unlock()
	}
}

func (w *watcher) now() (took, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total, w.updates
}

// until waits for the window to have taken something in, which it must without anything
// else happening.
func (d *desktop) until(what string, ok func(n took, updates int) bool) {
	d.t.Helper()
	require.Eventually(d.t, func() bool { return ok(d.now()) }, 20*time.Second, 2*time.Millisecond, "the window does not notice: %s", what)
}

// xvfb starts a display of the test's own, since input goes to what has the focus.
func xvfb(t *testing.T) string {
	t.Helper()
	exe, err := exec.LookPath("Xvfb")
	if err != nil {
		t.Skip("needs Xvfb for a display of its own: ", err)
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	c := exec.Command(exe, "-displayfd", "3", "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset")
	c.ExtraFiles = []*os.File{w}
	require.NoError(t, c.Start())
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	w.Close()
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	return ":" + strings.TrimSpace(line)
}

// A desktop is a display with one window, to which it gives real input.
type desktop struct {
	t      *testing.T
	conn   *xgb.Conn
	root   xproto.Window
	window xproto.Window
	codes  map[uint32][2]byte // keycode and whether Shift is needed, by keysym
	cursor image.Point
	*watcher
}

// newDesktop's watcher may be nil if no input is given.
func newDesktop(t *testing.T, display string, w *watcher) *desktop {
	t.Helper()
	conn, err := xgb.NewConnDisplay(display)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	require.NoError(t, xtest.Init(conn))
	// However long the window takes, a key that is held types once.
	xproto.ChangeKeyboardControl(conn, xproto.KbAutoRepeatMode, []uint32{xproto.AutoRepeatModeOff})
	setup := xproto.Setup(conn)
	d := &desktop{t: t, conn: conn, root: setup.DefaultScreen(conn).Root, codes: map[uint32][2]byte{}, cursor: image.Pt(-1, -1), watcher: w}
	n := byte(setup.MaxKeycode - setup.MinKeycode + 1)
	m, err := xproto.GetKeyboardMapping(conn, setup.MinKeycode, n).Reply()
	require.NoError(t, err)
	for i := range int(n) {
		for shift := range 2 {
			sym := uint32(m.Keysyms[i*int(m.KeysymsPerKeycode)+shift])
			if _, ok := d.codes[sym]; !ok {
				d.codes[sym] = [2]byte{byte(int(setup.MinKeycode) + i), byte(shift)}
			}
		}
	}
	d.fake(xproto.MotionNotify, 0, image.Pt(1, 1))
	return d
}

func (d *desktop) fake(kind, detail byte, at image.Point) {
	xtest.FakeInput(d.conn, kind, detail, 0, d.root, int16(at.X), int16(at.Y), 0)
	d.conn.Sync()
}

// find waits for the window and gives it the focus.
func (d *desktop) find() {
	d.t.Helper()
	for range 100 {
		tree, err := xproto.QueryTree(d.conn, d.root).Reply()
		require.NoError(d.t, err)
		for _, w := range tree.Children {
			g, err := xproto.GetGeometry(d.conn, xproto.Drawable(w)).Reply()
			a, err2 := xproto.GetWindowAttributes(d.conn, w).Reply()
			if err == nil && err2 == nil && g.Width == 1000 && g.Height == 500 && a.MapState == xproto.MapStateViewable {
				d.window = w
				xproto.SetInputFocus(d.conn, xproto.InputFocusParent, w, xproto.TimeCurrentTime)
				d.conn.Sync()
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	require.Fail(d.t, "no window appeared")
}

var keysyms = map[ui.Key]uint32{
	ui.KeyEscape: 0xff1b, ui.KeyEnter: 0xff0d, ui.KeyBackspace: 0xff08, ui.KeyDelete: 0xffff, ui.KeyTab: 0xff09,
	ui.KeyLeft: 0xff51, ui.KeyUp: 0xff52, ui.KeyRight: 0xff53, ui.KeyDown: 0xff54,
	ui.KeyHome: 0xff50, ui.KeyEnd: 0xff57, ui.KeyPageUp: 0xff55, ui.KeyPageDown: 0xff56,
}

// key presses a key on the keyboard.
func (d *desktop) key(k ui.Key) {
	d.t.Helper()
	plain := k &^ ui.Shift &^ ui.Ctrl
	sym, ok := keysyms[plain]
	if !ok {
		sym = uint32(plain)
	}
	code, ok := d.codes[sym]
	require.True(d.t, ok, "no key for %#x", sym)
	var held []byte
	if k&ui.Ctrl != 0 {
		held = append(held, d.codes[0xffe3][0])
	}
	if k&ui.Shift != 0 || code[1] != 0 {
		held = append(held, d.codes[0xffe1][0])
	}
	for _, h := range held {
		d.fake(xproto.KeyPress, h, image.Point{})
	}
	d.press(code[0])
	d.let(held)
}

// let releases keys that were held with another, and waits until the window has noticed: in one
// frame with the next key they would count as held with that.
func (d *desktop) let(held []byte) {
	d.t.Helper()
	if len(held) == 0 {
		return
	}
	for _, h := range held {
		d.fake(xproto.KeyRelease, h, image.Point{})
	}
	_, updates := d.now()
	d.until("a key's release", func(_ took, n int) bool { return n > updates+1 })
}

// press presses a key that types, and waits for the window to have noticed that, and that
// it is not held any more.
func (d *desktop) press(code byte) {
	d.t.Helper()
	before, _ := d.now()
	d.fake(xproto.KeyPress, code, image.Point{})
	d.until("a key", func(n took, _ int) bool { return n.keys > before.keys })
	_, updates := d.now()
	d.fake(xproto.KeyRelease, code, image.Point{})
	d.until("a key's release", func(_ took, n int) bool { return n > updates })
}

// mirror does with mouse and keyboard what an Input says.
func (d *desktop) mirror(in mapview.Input) {
	d.t.Helper()
	if in.Inside && in.Cursor != d.cursor {
		d.cursor = in.Cursor
		// A window may be moved after it has appeared.
		at := image.Pt(-1, -1)
		d.until("the pointer", func(n took, _ int) bool {
			o, err := xproto.TranslateCoordinates(d.conn, d.window, d.root, 0, 0).Reply()
			if err != nil {
				return false
			}
			if now := image.Pt(int(o.DstX), int(o.DstY)); now != at {
				at = now
				d.fake(xproto.MotionNotify, 0, at.Add(in.Cursor))
			}
			return n.cursor == in.Cursor
		})
	}
	for _, k := range in.Keys {
		d.key(k)
	}
	button := func(kind, n byte, ok bool, noticed func(took) int) {
		d.t.Helper()
		if !ok {
			return
		}
		before, updates := d.now()
		d.fake(kind, n, image.Point{})
		d.until("a button", func(now took, n int) bool {
			return noticed == nil && n > updates || noticed != nil && noticed(now) > noticed(before)
		})
	}
	button(xproto.ButtonPress, 1, in.Press, func(n took) int { return n.press })
	button(xproto.ButtonRelease, 1, in.Release, func(n took) int { return n.release })
	button(xproto.ButtonPress, 3, in.Right, func(n took) int { return n.right })
	button(xproto.ButtonRelease, 3, in.Right, nil)
	for n, ok := range map[byte]bool{4: in.Wheel > 0, 5: in.Wheel < 0} {
		button(xproto.ButtonPress, n, ok, func(n took) int { return n.wheel })
		if ok {
			d.fake(xproto.ButtonRelease, n, image.Point{})
		}
	}
}

// picture returns what the window shows.
func (d *desktop) picture() *image.RGBA {
	d.t.Helper()
	r, err := xproto.GetImage(d.conn, xproto.ImageFormatZPixmap, xproto.Drawable(d.window), 0, 0, 1000, 500, 0xffffffff).Reply()
	require.NoError(d.t, err)
	m := image.NewRGBA(image.Rect(0, 0, 1000, 500))
	for i := 0; i+3 < len(r.Data) && i < len(m.Pix); i += 4 {
		m.Pix[i], m.Pix[i+1], m.Pix[i+2], m.Pix[i+3] = r.Data[i+2], r.Data[i+1], r.Data[i], 255
	}
	return m
}

// differ counts the pixels that are clearly others.
func differ(a, b *image.RGBA) (n int) {
	for i := 0; i < len(a.Pix); i += 4 {
		for c := range 3 {
			if d := int(a.Pix[i+c]) - int(b.Pix[i+c]); d > 48 || d < -48 {
				n++
				break
			}
		}
	}
	return n
}

// few is how many pixels may be clearly others than paint's: letters are placed by
// quarters of a pixel.
const few = 350

// scenes starts a window for the scenes, and returns what begins the next one.
func scenes(t *testing.T, display string) (w *watcher, anew func(theme string)) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	c := exec.Command(exe)
	c.Env = append(os.Environ(), asScenes+"=1", "DISPLAY="+display, "LIBGL_ALWAYS_SOFTWARE=1")
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	c.Stderr = os.Stderr
	require.NoError(t, c.Start())
	w = &watcher{anew: make(chan struct{}, 1)}
	heard := make(chan struct{})
	go func() { defer close(heard); w.read(out) }()
	t.Cleanup(func() { in.Close(); c.Process.Kill(); <-heard; c.Wait() })
	// Whatever goes wrong, the child says where it was.
	watchdog := time.AfterFunc(5*time.Minute, func() { c.Process.Signal(syscall.SIGQUIT) })
	t.Cleanup(func() { watchdog.Stop() })
	return w, func(theme string) {
		io.WriteString(in, theme+"\n")
		select {
		case <-w.anew:
		case <-time.After(time.Minute):
			require.FailNow(t, "the window does not begin anew")
		}
	}
}

// TestScenes gives a real window the input of each scene, by mouse and keyboard, and
// compares what it shows with what paint draws.
func TestScenes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	display := xvfb(t)
	w, anew := scenes(t, display)
	d := newDesktop(t, display, w)
	d.find()
	for i, sc := range viewtest.Scenes {
		theme := [2]string{"dark", "light"}[i%2]
		t.Run(sc.Name, func(t *testing.T) {
			d.t = t
			d.fake(xproto.MotionNotify, 0, image.Pt(1, 1))
			d.cursor = image.Pt(-1, -1)
			anew(theme)
			s := viewtest.NewScreen(image.Pt(1000, 500), 1, theme == "light")
			before, want := image.NewRGBA(image.Rect(0, 0, 1000, 500)), image.NewRGBA(image.Rect(0, 0, 1000, 500))
			paint.Draw(before, s.Scene())
			s.Mirror = d.mirror
			sc.Show(s)
			paint.Draw(want, s.Scene())
			if sc.Name != "map" {
				require.Greater(t, differ(before, want), few, "the scene shows nothing")
			}
			d.shows(sc.Name, want)
		})
	}
}

// shows waits until the window shows what paint drew.
func (d *desktop) shows(name string, want *image.RGBA) {
	d.t.Helper()
	var got *image.RGBA
	n := 0
	for range 40 {
		got = d.picture()
		if n = differ(got, want); n < few {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if !assert.Less(d.t, n, few, "pixels") {
		save(d.t, "got-"+name, got)
		save(d.t, "want-"+name, want)
	}
}

// save keeps a picture for people to look at.
func save(t *testing.T, name string, m image.Image) {
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, m))
	file := filepath.Join(os.TempDir(), "connmap-"+strings.ReplaceAll(name, " ", "-")+".png")
	require.NoError(t, os.WriteFile(file, b.Bytes(), 0o666))
	t.Log("see", file)
}
