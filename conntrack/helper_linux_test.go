package conntrack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/internal/traffic"
)

// The test binary starts itself again for what needs a process of its own: a
// network namespace, another user, sockets beyond the limit of one process.
const helperEnv = "CONNTRACK_TEST_HELPER"

// helpers are the roles it can have.
var helpers = map[string]func(arg string) error{"dial": helpDial, "snapshot": helpSnapshot, "hold": helpHold}

// helpDial holds a connection until standard input ends.
func helpDial(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// helpSnapshot holds a connection and prints what a Collector sees.
func helpSnapshot(arg string) error {
	backend, addr, _ := strings.Cut(arg, " ")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	c, err := New(Options{Backend: Backend(backend)})
	if err != nil {
		return err
	}
	defer c.Close()
	conns, err := c.Snapshot(context.Background())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(snapshotReport{PID: os.Getpid(), Info: c.Info(), Conns: conns})
}

type snapshotReport struct {
	PID   int
	Info  Info
	Conns []Conn
}

// testAddr is an address of this run of the tests alone, for a collector of the backend EBPF sees
// all namespaces. The helpers inherit it.
var testAddr = func() netip.Addr {
	const name = "CONNTRACK_TEST_ADDR"
	if a, err := netip.ParseAddr(os.Getenv(name)); err == nil {
		return a
	}
	a := netip.AddrFrom4([4]byte{10, byte(os.Getpid() >> 16), byte(os.Getpid() >> 8), byte(os.Getpid())})
	os.Setenv(name, a.String())
	return a
}()

// helpHold holds n connections to itself, which are 2n sockets, until standard
// input ends.
func helpHold(arg string) error {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp4", testAddr.String()+":0")
	if err != nil {
		return err
	}
	for range n {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		a, err := l.Accept()
		if err != nil {
			return err
		}
		defer a.Close()
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// helper starts the test binary in a role and waits for its first line, which
// it returns. The helper ends when the test does.
func helper(t testing.TB, role string, attr *syscall.SysProcAttr) (pid int, line string) {
	cmd, _, out := helperIn(t, role, attr)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	return cmd.Process.Pid, line
}

// helperIn does not wait, and returns the helper's input and output.
func helperIn(t testing.TB, role string, attr *syscall.SysProcAttr) (*exec.Cmd, io.Writer, *bufio.Reader) {
	cmd := exec.Command("/proc/self/exe") // also executable for those who cannot read its directory
	cmd.Env = append(os.Environ(), helperEnv+"="+role)
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		assert.NoError(t, cmd.Wait())
	})
	return cmd, in, bufio.NewReader(out)
}

// inNamespace reports whether the test runs in a network namespace of its own
// that has addresses other than loopback. If not, it runs the test in one.
func inNamespace(t *testing.T) bool {
	if os.Getenv(helperEnv) == "namespace" {
		addAddresses(t)
		return true
	}
	requireRootAndIP(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), helperEnv+"=namespace")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) && len(out) == 0 {
		t.Skip("needs the right to make a network namespace")
	}
	t.Logf("in a network namespace:\n%s", out)
	require.NoError(t, err)
	return false
}

func requireRootAndIP(t testing.TB) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip(8)")
	}
}

// addAddresses gives the network namespace of the calling thread addresses.
func addAddresses(t testing.TB) {
	for _, args := range []string{
		"link set lo up",
		"addr add 203.0.113.10/32 dev lo",
		"addr add 198.51.100.20/32 dev lo",
		"addr add 2001:db8:a::10/128 dev lo nodad",
	} {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		require.NoError(t, err, "ip %s: %s", args, out)
	}
	require.NoError(t, traffic.WaitForAddress(t.Context(), nil, netip.MustParseAddr("2001:db8:a::10")))
}

// eachPolled runs a test for each backend that polls. All but Proc tell cookies,
// bytes and round-trip times.
func eachPolled(t *testing.T, test func(t *testing.T, b Backend)) {
	for _, b := range []Backend{Diag, Proc} {
		t.Run(string(b), func(t *testing.T) { test(t, b) })
	}
}

func newCollector(t testing.TB, o Options) *Collector {
	c, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

// leastAllocs returns how often f allocates in the best of 20 runs: what else this
// process does meanwhile, as tell of the connections of other programs, only adds.
func leastAllocs(f func()) float64 {
	least := math.Inf(1)
	for range 20 {
		least = min(least, testing.AllocsPerRun(1, f))
	}
	return least
}

func snapshot(t testing.TB, c *Collector) []Conn {
	conns, err := c.Snapshot(t.Context())
	require.NoError(t, err)
	return conns
}

// find returns the connection with these ends.
func find(conns []Conn, local, peer net.Addr) (Conn, bool) {
	l, p := netip.MustParseAddrPort(local.String()), netip.MustParseAddrPort(peer.String())
	for _, c := range conns {
		if c.Local == l && c.Peer == p {
			return c, true
		}
	}
	return Conn{}, false
}

// pair connects to l and returns both ends.
func pair(t testing.TB, l net.Listener, addr string, d net.Dialer) (client, server net.Conn) {
	client, err := d.Dial("tcp", addr)
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func listen(t testing.TB, addr string) net.Listener {
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}
