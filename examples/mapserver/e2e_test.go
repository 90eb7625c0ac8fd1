//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	geoembedded "github.com/connmapgo/connmap/geoip/embedded"
	"github.com/connmapgo/connmap/internal/program"
)

// The test binary is also the traffic program of the end-to-end test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == collectCommand {
		main() // as a server that is root's has started it
		return
	}
	switch os.Getenv("CONNMAP_TRAFFIC") {
	case "serve":
		serve(os.Args[1:])
	case "dial":
		dial(os.Args[1], os.Args[2])
	case "load":
		loadAgents(os.Args[1:])
	case "soak":
		soaked(os.Args[1:])
	case "churn":
		churn(os.Args[1], os.Args[2:])
	case "map":
		showMap(os.Args[1:])
	case "server":
		main()
	case "proxy":
		cut(os.Args[1], os.Args[2])
	default:
		code := m.Run()
		os.RemoveAll(programs.dir)
		os.Exit(code)
	}
}

// programs are those that tests have compiled, by package and arguments.
var programs struct {
	mu    sync.Mutex
	dir   string
	names map[string]string
}

// built returns a program of this module, which all tests share.
func built(t *testing.T, pkg string, args ...string) string {
	t.Helper()
	p := &programs
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir == "" {
		var err error
		p.dir, err = os.MkdirTemp("", "mapserver-programs-")
		require.NoError(t, err)
		p.names = make(map[string]string)
	}
	key := fmt.Sprint(pkg, args)
	if p.names[key] == "" {
		name := filepath.Join(p.dir, fmt.Sprint(len(p.names)), filepath.Base(pkg))
		build := exec.Command("go", slices.Concat([]string{"build", "-o", name}, args, []string{"github.com/connmapgo/connmap/" + pkg})...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s", out)
		p.names[key] = name
	}
	return p.names[key]
}

// serve echoes on addresses given as network, address pairs. On one given as "closer" it
// closes after as many bytes as the first four say.
func serve(args []string) {
	for i := 0; i+1 < len(args); i += 2 {
		echo, network := func(c net.Conn) { io.Copy(c, c) }, args[i]
		if network == "closer" {
			echo, network = answer, "tcp"
		}
		if strings.HasPrefix(args[i], "udp") {
			c, err := net.ListenPacket(args[i], args[i+1])
			must(err)
			go func() {
				buf := make([]byte, 100)
				for {
					n, from, err := c.ReadFrom(buf)
					must(err)
					c.WriteTo(buf[:n], from)
				}
			}()
			continue
		}
		l, err := net.Listen(network, args[i+1])
		must(err)
		go func() {
			for {
				c, err := l.Accept()
				must(err)
				go func() { echo(c); c.Close() }()
			}
		}()
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// answer sends back as many bytes as the first four say.
func answer(c net.Conn) {
	size := make([]byte, 4)
	if _, err := io.ReadFull(c, size); err == nil {
		c.Write(size)
		io.CopyN(c, c, int64(binary.BigEndian.Uint32(size))-4)
	}
}

// dial keeps one connection busy until standard input ends.
func dial(network, address string) {
	c, err := net.Dial(network, address)
	must(err)
	go func() {
		buf := make([]byte, 100)
		for {
			_, err := c.Write([]byte("0123456789"))
			must(err)
			_, err = c.Read(buf)
			must(err)
			time.Sleep(100 * time.Millisecond)
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// inNamespace runs f on a thread inside a network namespace: sockets that f
// opens belong to it.
func inNamespace(name string, f func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		fd, err := unix.Open("/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// hosts counts the calls of twoHosts.
var hosts atomic.Int32

// twoHosts makes two network namespaces that reach each other. Their names and those of their
// devices end in id and a letter.
func twoHosts(t *testing.T) (id, a, b string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the ip command (Debian package iproute2)")
	}
	id = fmt.Sprintf("%dx%d", os.Getpid(), hosts.Add(1))
	a, b = "cm"+id+"a", "cm"+id+"b"
	ip := func(args string) error {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
		return nil
	}
	if err := ip("netns add " + a); err != nil {
		t.Skip("cannot make network namespaces: ", err)
	}
	t.Cleanup(func() { ip("netns del " + a) })
	require.NoError(t, ip("netns add "+b))
	t.Cleanup(func() { ip("netns del " + b) })
	for _, args := range []string{
		fmt.Sprintf("link add v%sa netns %s type veth peer name v%sb netns %s", id, a, id, b),
		fmt.Sprintf("-n %s addr add 203.0.113.10/32 dev v%sa", a, id),
		fmt.Sprintf("-n %s addr add 198.51.100.20/32 dev v%sb", b, id),
		fmt.Sprintf("-n %s addr add 20.51.100.78/32 dev v%sb", b, id),
		fmt.Sprintf("-n %s addr add 2001:db8:a::10/128 dev v%sa nodad", a, id),
		fmt.Sprintf("-n %s addr add %s/128 dev v%sb nodad", b, peer6, id),
		"-n " + a + " link set lo up", "-n " + b + " link set lo up",
		fmt.Sprintf("-n %s link set v%sa up", a, id), fmt.Sprintf("-n %s link set v%sb up", b, id),
		fmt.Sprintf("-n %s route add 198.51.100.0/24 dev v%sa src 203.0.113.10", a, id),
		fmt.Sprintf("-n %s route add 20.51.100.0/24 dev v%sa src 203.0.113.10", a, id), // documentation ranges are nowhere
		fmt.Sprintf("-n %s route add 203.0.113.0/24 dev v%sb src 198.51.100.20", b, id),
		fmt.Sprintf("-n %s -6 route add %s/128 dev v%sa src 2001:db8:a::10", a, peer6, id),
		fmt.Sprintf("-n %s -6 route add 2001:db8:a::/64 dev v%sb src %s", b, id, peer6),
	} {
		require.NoError(t, ip(args))
	}
	return id, a, b
}

// peer6 is an address that the embedded table knows; in its namespace it
// reaches nobody but the test.
const peer6 = "2001:4860:4860::8888"

// command starts a program in a namespace and ends it with the test. Closing
// the returned writer ends its standard input.
func command(t *testing.T, namespace string, env []string, name string, args ...string) (io.WriteCloser, io.Reader) {
	t.Helper()
	cmd := exec.Command("nsenter", append([]string{"--net=/run/netns/" + namespace, name}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return in, out
}

// own makes of a name one that no other process of tests uses, for a program.
func own(name string) string { return fmt.Sprintf("%s-%d", name, os.Getpid()) }

func TestEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	t.Parallel()
	_, a, b := twoHosts(t)
	dir := t.TempDir()
	agent := built(t, "cmd/connmap-agent")
	// A program's name is that of the file it was started by.
	self, err := os.Executable()
	require.NoError(t, err)
	// Others may run this test at the same time.
	web, mail, dns, quic, serve := own("web"), own("mail"), own("dns"), own("quic"), own("serve")
	for _, name := range []string{web, mail, dns, quic, serve} {
		require.NoError(t, os.Symlink(self, filepath.Join(dir, name)))
	}
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	// Of those addresses that tests have only one lies in Rio de Janeiro, and no other test has
	// that: they may run at the same time. The file is written as connmap does.
	cfg := config{
		configDir: dir, dataDir: dir, listen: "127.0.0.1:0", noLocal: true, size: image.Pt(1000, 500),
		history: filepath.Join(dir, "history.sqlite"),
		geo:     program.List{write("ipv4.csv", "338912334,338912334,-22.9068,-43.1729\n")},
		rules:   write("connmaprc", "\"Web\",peer,443,10,200,30,255,0,0\n\"Mail\",peer,993,200,20,220,255,0,0\n\"Names\",app,"+dns+",240,160,0,255,0,0\n"),
	}
	cfg.home, err = parseHome("52.5,13.4")
	require.NoError(t, err)

	var app *app
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	require.NoError(t, inNamespace(a, func() (err error) {
		app, err = start(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
		return err
	}))
	stopped := false
	defer func() {
		if !stopped {
			app.stop()
		}
	}()

	// The agent joins with the line that the server prints, which asks for the token.
	var greeting bytes.Buffer
	app.greet(&greeting)
	line := regexp.MustCompile(`connmap-agent (\S+) -\n`).FindStringSubmatch(greeting.String())
	require.NotNil(t, line, greeting.String())
	assert.NotContains(t, greeting.String(), "cm1_", "nobody may be there to see it")
	paste, _ := command(t, a, []string{"STATE_DIRECTORY=" + dir}, agent, "-name", "nas", line[1], "-")
	_, err = fmt.Fprintln(paste, app.identity.Token())
	require.NoError(t, err)
	state := func(what string, ok func(*live.State) bool) *live.State {
		t.Helper()
		require.Eventually(t, func() bool { return ok(app.monitor.State()) }, time.Minute, 50*time.Millisecond, what)
		return app.monitor.State()
	}
	state("the agent joins", func(st *live.State) bool { return len(st.Agents) == 1 && st.Agents[0].Name == "nas" })

	_, ready := command(t, b, []string{"CONNMAP_TRAFFIC=serve"}, filepath.Join(dir, serve),
		"tcp", "20.51.100.78:443", "tcp", "["+peer6+"]:993", "udp", "20.51.100.78:53", "udp", "["+peer6+"]:443")
	_, err = io.ReadAtLeast(ready, make([]byte, 6), 6)
	require.NoError(t, err)
	conns := []struct{ program, network, peer, rule string }{
		{web, "tcp", "20.51.100.78:443", "Web"},
		{mail, "tcp", "[" + peer6 + "]:993", "Mail"},
		{dns, "udp", "20.51.100.78:53", "Names"},
		{quic, "udp", "[" + peer6 + "]:443", "Web"},
	}
	var ends []io.Closer
	for _, c := range conns {
		end, _ := command(t, a, []string{"CONNMAP_TRAFFIC=dial"}, filepath.Join(dir, c.program), c.network, c.peer)
		ends = append(ends, end)
	}
	find := func(st *live.State, program, peer string) *live.Conn {
		for _, c := range st.Conns {
			if c.Process.Comm == program && c.Peer.String() == peer {
				return c
			}
		}
		return nil
	}
	// The agent sees all namespaces: also the servers' ends, and who else is at
	// work on this machine.
	dialed := func(st *live.State) (n int) {
		for _, c := range st.Conns {
			for _, d := range conns {
				if c.Process.Comm == d.program {
					n++
				}
			}
		}
		return n
	}
	st := state("all connections appear with their programs", func(st *live.State) bool {
		for _, c := range conns {
			if find(st, c.program, c.peer) == nil {
				return false
			}
		}
		return true
	})
	assert.Equal(t, len(conns), dialed(st), "each once")
	for _, c := range conns {
		got := find(st, c.program, c.peer)
		assert.Equal(t, c.network, got.Proto.String(), c.program)
		assert.Equal(t, "out", got.Direction.String(), c.program)
		assert.Equal(t, c.rule, st.Rules[got.Rule].Label, c.program)
		assert.Equal(t, "nas", got.Agent, c.program)
	}
	state("bytes and round-trip time arrive", func(st *live.State) bool {
		c := find(st, web, "20.51.100.78:443")
		return c != nil && c.Tx > 0 && c.Rx > 0 && c.RTT > 0
	})

	// The picture: each place is a disc in the colours of its rules. Others who are at work on this
	// machine may have connections there too, for a while.
	place6, ok := geoembedded.DB().Lookup(netip.MustParseAddr(peer6))
	require.True(t, ok)
	for _, p := range []struct {
		lat, lon float64
		want     color.NRGBA
	}{{-22.9068, -43.1729, color.NRGBA{10, 200, 30, 255}}, {place6.Lat, place6.Lon, color.NRGBA{10, 200, 30, 255}}} {
		// The original's Mercator frame, written out.
		x := (p.lon+180)/360*1000 - 29
		y := 250 - 1000*math.Log(math.Tan(math.Pi/4+p.lat*math.Pi/360))/(2*math.Pi) + 76
		assert.Eventually(t, func() (found bool) {
			var picture bytes.Buffer
			require.NoError(t, app.picture(&picture))
			img, err := png.Decode(&picture)
			require.NoError(t, err)
			for dx := -4; dx <= 4; dx++ {
				for dy := -4; dy <= 4; dy++ {
					found = found || color.NRGBAModel.Convert(img.At(int(x)+dx, int(y)+dy)) == p.want
				}
			}
			return found
		}, time.Minute, 200*time.Millisecond, "%v at %.0f,%.0f", p.want, x, y)
	}

	for _, end := range ends {
		require.NoError(t, end.Close())
	}
	state("closed connections disappear", func(st *live.State) bool { return dialed(st) == 0 })
	app.stop()
	stopped = true

	db, err := sqlite.OpenConn(cfg.history, sqlite.OpenReadOnly)
	require.NoError(t, err)
	defer db.Close()
	recorded := map[string]string{}
	require.NoError(t, sqlitex.Execute(db, "SELECT programname, ip, port, agent, x, count FROM detailed_history", &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error {
			recorded[s.ColumnText(0)] = fmt.Sprint(netip.AddrPortFrom(netip.MustParseAddr(s.ColumnText(1)), uint16(s.ColumnInt(2))), s.ColumnText(3), s.ColumnInt(5))
			return nil
		},
	}))
	for _, c := range conns {
		assert.Equal(t, fmt.Sprint(netip.MustParseAddrPort(c.peer), "nas", 1), recorded[c.program], c.program)
	}
}
