package clipboard

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// xvfb starts an X server of the test's own, and names it in DISPLAY.
func xvfb(t *testing.T) {
	t.Helper()
	exe, err := exec.LookPath("Xvfb")
	if err != nil {
		t.Skip("needs Xvfb for a clipboard of its own: ", err)
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	c := exec.Command(exe, "-displayfd", "3", "-nolisten", "tcp", "-noreset")
	c.ExtraFiles = []*os.File{w}
	require.NoError(t, c.Start())
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	w.Close()
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	t.Setenv("DISPLAY", ":"+strings.TrimSpace(line))
}

func TestTextsGoFromOneToAnother(t *testing.T) {
	xvfb(t)
	var a, b Clipboard
	defer a.Close()
	defer b.Close()
	_, err := a.Read()
	assert.ErrorContains(t, err, "empty")
	for _, text := range []string{"x", "", "ñ 漢字 👾\n\ttwo", strings.Repeat("0123456789abcdef", 3<<16)} {
		require.NoError(t, a.Write(text))
		got, err := b.Read()
		require.NoError(t, err)
		assert.Equal(t, len(text), len(got))
		assert.True(t, text == got)
		got, err = a.Read()
		require.NoError(t, err)
		assert.True(t, text == got, "its own")
	}
	// The other takes it over.
	require.NoError(t, b.Write("mine"))
	got, err := a.Read()
	require.NoError(t, err)
	assert.Equal(t, "mine", got)
	// A text of no bounds is not read.
	require.NoError(t, b.Write(strings.Repeat("x", maxText+1)))
	_, err = a.Read()
	assert.ErrorIs(t, err, errTooLarge)
	require.NoError(t, b.Write("small again"))
	got, err = a.Read()
	require.NoError(t, err)
	assert.Equal(t, "small again", got)
	// What was on it is gone with its program, and one can go on after Close.
	b.Close()
	_, err = a.Read()
	assert.ErrorContains(t, err, "empty")
	require.NoError(t, b.Write("again"))
	got, err = a.Read()
	require.NoError(t, err)
	assert.Equal(t, "again", got)
}

// TestOtherPrograms exchanges texts with a program that others use.
func TestOtherPrograms(t *testing.T) {
	xclip, err := exec.LookPath("xclip")
	if err != nil {
		t.Skip("needs xclip to compare with: ", err)
	}
	xvfb(t)
	var c Clipboard
	defer c.Close()
	for _, text := range []string{"ñ 漢字\n", strings.Repeat("0123456789abcde\n", 1<<16)} {
		require.NoError(t, c.Write(text))
		for _, target := range []string{"UTF8_STRING", "text/plain;charset=utf-8"} {
			out, err := exec.Command(xclip, "-out", "-selection", "clipboard", "-target", target).Output()
			require.NoError(t, err)
			assert.True(t, text == string(out), "%s: %d bytes of %d", target, len(out), len(text))
		}
		in := exec.Command(xclip, "-in", "-selection", "clipboard")
		in.Stdin = strings.NewReader("theirs " + text)
		require.NoError(t, in.Run())
		// It takes the clipboard over from behind.
		assert.Eventually(t, func() bool {
			got, err := c.Read()
			return err == nil && "theirs "+text == got
		}, time.Minute, 20*time.Millisecond)
	}
	require.NoError(t, c.Write("x"))
	out, err := exec.Command(xclip, "-out", "-selection", "clipboard", "-target", "TARGETS").Output()
	require.NoError(t, err)
	assert.Equal(t, "TARGETS\nUTF8_STRING\ntext/plain;charset=utf-8\nTEXT\n", string(out))
	_, err = exec.Command(xclip, "-out", "-selection", "clipboard", "-target", "image/png").Output()
	assert.Error(t, err, "it is no picture")
}

// TestSilentOwner: one that does not answer is given up.
func TestSilentOwner(t *testing.T) {
	xvfb(t)
	conn, err := xgb.NewConn()
	require.NoError(t, err)
	defer conn.Close()
	win, err := xproto.NewWindowId(conn)
	require.NoError(t, err)
	require.NoError(t, xproto.CreateWindowChecked(conn, 0, win, xproto.Setup(conn).DefaultScreen(conn).Root, 0, 0, 1, 1, 0, xproto.WindowClassInputOnly, 0, 0, nil).Check())
	r, err := xproto.InternAtom(conn, false, 9, "CLIPBOARD").Reply()
	require.NoError(t, err)
	require.NoError(t, xproto.SetSelectionOwnerChecked(conn, win, r.Atom, 0).Check())
	var c Clipboard
	defer c.Close()
	_, err = c.Read()
	assert.ErrorContains(t, err, "does not answer")
	// Close ends a reading at once.
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read()
		ended <- err
	}()
	time.Sleep(100 * time.Millisecond)
	begin := time.Now()
	c.Close()
	assert.ErrorContains(t, <-ended, "gone")
	assert.Less(t, time.Since(begin), timeout/2)
	require.NoError(t, c.Write("x"))
}

func TestNoServer(t *testing.T) {
	t.Setenv("DISPLAY", ":4242")
	var c Clipboard
	defer c.Close()
	assert.Error(t, c.Write("x"))
	_, err := c.Read()
	assert.Error(t, err)
}

func TestLatin1(t *testing.T) {
	assert.Equal(t, "é=½", latin1([]byte{0xe9, '=', 0xbd}))
}
