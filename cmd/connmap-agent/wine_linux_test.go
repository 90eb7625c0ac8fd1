package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
)

// A wine is a Windows of its own, in a folder, with the agent for Windows in it.
type wine struct {
	loader, prefix string
	env            []string
	agent          string // the file
}

// newWine makes one, and ends what runs in it when the test does.
func newWine(t *testing.T) *wine {
	if testing.Short() {
		t.Skip("makes a Windows and takes long")
	}
	w := &wine{}
	var server string
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/lib/wine") { // Debian's wine64 is there
		for name, at := range map[string]*string{"wine64": &w.loader, "wineserver64": &server, "wineserver": &server} {
			if file := filepath.Join(dir, name); *at == "" && exists(file) {
				*at = file
			}
		}
	}
	cc, err := exec.LookPath("x86_64-w64-mingw32-gcc")
	if w.loader == "" || server == "" || err != nil {
		t.Skip("needs wine64 and x86_64-w64-mingw32-gcc: make test-windows installs them")
	}

	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	require.NoError(t, os.MkdirAll(home, 0o700)) // wine links to folders in it
	w.prefix = filepath.Join(dir, "prefix")
	w.env = append(os.Environ(), "WINEPREFIX="+w.prefix, "HOME="+home, "WINEDEBUG=-all", "WINEDLLOVERRIDES=mscoree,mshtml=", "DISPLAY=", "CONNMAP_TOKEN=")
	w.agent = filepath.Join(dir, "connmap-agent.exe")
	build := exec.Command("go", "build", "-o", w.agent, ".")
	build.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	t.Cleanup(func() {
		end := exec.Command(server, "-k", "-w") // of this prefix only
		end.Env = w.env
		end.Run()
	})
	boot := exec.Command(w.loader, "wineboot", "-i")
	boot.Env = w.env
	out, err = boot.CombinedOutput()
	require.NoError(t, err, string(out))
	out, err = exec.Command(cc, "-shared", "-Os", "-s", "-o", filepath.Join(w.prefix, "drive_c/windows/system32/bcryptprimitives.dll"), "testdata/bcryptprimitives.c", "-ladvapi32").CombinedOutput()
	require.NoError(t, err, string(out))
	return w
}

// start starts the agent until the test ends, and returns what it prints. Standard error
// is logged.
func (w *wine) start(t *testing.T, args ...string) (stdout io.Reader) {
	cmd := exec.CommandContext(t.Context(), w.loader, append([]string{w.agent}, args...)...)
	cmd.Env = w.env
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	stderr, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	cmd.Stderr = stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		b, _ := os.ReadFile(stderr.Name())
		t.Logf("connmap-agent %s: %s", args[0], b)
		stderr.Close()
	})
	return stdout
}

// run runs the agent until it ends by itself, and returns what it prints.
func (w *wine) run(t *testing.T, args ...string) string {
	cmd := exec.CommandContext(t.Context(), w.loader, append([]string{w.agent}, args...)...)
	cmd.Env = w.env
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", args, out)
	t.Logf("connmap-agent %s: %s", args[0], out)
	return string(out)
}

// A visitors is a Handler that passes on the connections of whoever joins.
type visitors struct {
	names, left chan string
	conns       chan conntrack.Conn
}

func (v *visitors) Join(a feed.Agent) { v.names <- a.Name }
func (v *visitors) Full(_ feed.Agent, conns []conntrack.Conn) {
	for _, c := range conns {
		v.conns <- c
	}
}
func (v *visitors) Delta(_ feed.Agent, events []conntrack.Event) {
	for _, e := range events {
		v.conns <- e.Conn
	}
}
func (v *visitors) Leave(a feed.Agent) { v.left <- a.Name }

// mapServer serves on loopback until stop is called.
func mapServer(t *testing.T) (host, token string, v *visitors, stop func()) {
	id, err := feed.LoadIdentity(t.TempDir())
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	v = &visitors{make(chan string, 100), make(chan string, 100), make(chan conntrack.Conn, 10_000)}
	r, err := feed.OpenRegistry(filepath.Join(t.TempDir(), "agents.json"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() { assert.NoError(t, (&feed.Server{Identity: id, Registry: r, Handler: v}).Serve(ctx, l)) })
	stop = func() {
		cancel()
		served.Wait()
	}
	t.Cleanup(stop)
	return l.Addr().String(), id.Token().String(), v, stop
}

// next returns what comes next, within two minutes: wine is slow at times.
func next[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	var ok bool
	select {
	case v, ok = <-from:
		require.True(t, ok, "no more comes, or not JSON")
	case <-time.After(2 * time.Minute):
		require.FailNow(t, "nothing comes")
	}
	return v
}

type winEvent struct {
	Event, Proto, State, Direction, Local, Peer, Comm, Exe string
	PID                                                    int
	UID                                                    *uint32
}

// TestWindows: the agent for Windows, run by wine, tells of another one's connection to a map
// server as it opens and closes, which that one reports, and of connections over IPv6. It
// runs as a service too.
func TestWindows(t *testing.T) {
	w := newWine(t)
	stdout := w.start(t, "-watch", "-json", "-loopback", "-interval", "50ms")
	events := make(chan winEvent, 1000)
	go func() {
		defer close(events)
		for sc := bufio.NewScanner(stdout); sc.Scan(); {
			var e winEvent
			if json.Unmarshal(sc.Bytes(), &e) != nil {
				return
			}
			events <- e
		}
	}()
	// told returns the first event that matches, of those that came and will come.
	var all []winEvent
	told := func(t *testing.T, match func(e winEvent) bool) winEvent {
		t.Helper()
		for i := 0; ; i++ {
			if i == len(all) {
				all = append(all, next(t, events))
			}
			if match(all[i]) {
				return all[i]
			}
		}
	}
	t.Run("IPv4", func(t *testing.T) {
		host, token, v, stop := mapServer(t)
		w.start(t, "-key", `C:\agent-key.pem`, "-name", "pc", "-loopback", "-interval", "50ms", host, token)
		assert.Equal(t, "pc", next(t, v.names))
		opened := told(t, func(e winEvent) bool { return e.Event == "open" && e.Peer == host })
		assert.Equal(t, "tcp", opened.Proto)
		assert.Equal(t, "out", opened.Direction)
		assert.Nil(t, opened.UID, "Windows has none")
		// Wine may know the process later.
		owned := told(t, func(e winEvent) bool { return e.Local == opened.Local && e.PID != 0 })
		assert.Equal(t, "connmap-agent.exe", owned.Comm)
		assert.True(t, strings.HasSuffix(owned.Exe, `\connmap-agent.exe`), owned.Exe)
		// It reports its own connection.
		for {
			if c := next(t, v.conns); c.Peer.String() == host && c.Local.String() == opened.Local {
				break
			}
		}
		stop()
		told(t, func(e winEvent) bool { return e.Event == "close" && e.Local == opened.Local && e.Peer == host })
	})
	// Of this process: wine 8 is late to let go of the IPv6 sockets of its own programs.
	t.Run("IPv6", func(t *testing.T) {
		l, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			t.Skip("needs the address ::1: ", err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		local, peer := c.LocalAddr().String(), l.Addr().String()
		told(t, func(e winEvent) bool {
			return e.Event == "open" && e.Direction == "out" && e.Local == local && e.Peer == peer
		})
		// That is known when the listener is, which may be later.
		told(t, func(e winEvent) bool { return e.Direction == "in" && e.Local == peer && e.Peer == local })
		s, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.NoError(t, c.Close())
		told(t, func(e winEvent) bool { return e.Event == "close" && e.Local == local && e.Peer == peer })
	}) // wine's manager of services starts the agent that install has made a service, as often as
	// that is done, and no more after uninstall.
	t.Run("service", func(t *testing.T) {
		host, token, v, _ := mapServer(t)
		folder := filepath.Join(w.prefix, "drive_c/Program Files/connmap-agent")

		out := w.run(t, "install", "-dry-run", "-name", "pc", host, token)
		assert.Contains(t, out, `connmap-agent.exe" service -token-file "C:\Program Files\connmap-agent\state\agent.token"`)
		assert.NotContains(t, out, token, "it is a secret")
		assert.NoDirExists(t, folder)

		for range 2 {
			w.run(t, "install", "-name", "pc", host, token)
			assert.Equal(t, "pc", next(t, v.names))
		}
		for _, name := range []string{"connmap-agent.exe", "state/agent.token", "state/agent-key.pem"} {
			assert.FileExists(t, filepath.Join(folder, name))
		}
		assert.Equal(t, "pc", next(t, v.left), "of the first time")
		out = w.run(t, "uninstall")
		assert.Contains(t, out, "remove the service connmap-agent")
		assert.Equal(t, "pc", next(t, v.left))
		for _, name := range []string{"connmap-agent.exe", "state/agent.token"} {
			assert.NoFileExists(t, filepath.Join(folder, name))
		}
		assert.FileExists(t, filepath.Join(folder, "state/agent-key.pem"), "the key stays")
		w.run(t, "uninstall")
	})
}
