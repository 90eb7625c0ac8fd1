package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/conntrack/feed"
)

// stormNet is what the traffic of storms goes to, over a device in the network
// namespace of a process that is the test binary started again.
const stormNet = "198.18.0.0/15"

// stormers make traffic, each with a number.
var stormers = map[string]func(n int) error{"peers": stormPeers, "clients": stormClients, "prefork": stormPrefork}

// inStorm prepares the network namespace and runs a stormer.
func inStorm(arg string) error {
	for _, c := range []string{"link set lo up", "addr add 203.0.113.7/32 dev lo", "addr add 203.0.113.8/32 dev lo", "route add local " + stormNet + " dev lo"} {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, out)
		}
	}
	word, number, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	return stormers[word](n)
}

func bound(addr string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fd, err
	}
	a, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		return fd, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte(a.IP.To4()), Port: a.Port})
}

// pace waits until so many of a rate may have been done.
func pace(start time.Time, done, perSecond int) {
	time.Sleep(time.Until(start.Add(time.Duration(done) * time.Second / time.Duration(perSecond))))
}

// stormPeers sends from one socket to n peers, then nothing.
func stormPeers(n int) error {
	fd, err := bound("203.0.113.7:7000")
	if err != nil {
		return err
	}
	start := time.Now()
	for i := range n {
		to := unix.SockaddrInet4{Addr: [4]byte{198, 18 + byte(i>>16)&1, byte(i >> 8), byte(i)}, Port: 6000 + i>>17}
		if err := unix.Sendto(fd, make([]byte, 40), 0, &to); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
		if i%1000 == 999 {
			pace(start, i, 20_000)
		}
	}
	fmt.Println("done")
	time.Sleep(time.Hour)
	return nil
}

// stormClients has n clients a second ask a server, each from an address of its own,
// for 20 s.
func stormClients(n int) error {
	server, err := bound("203.0.113.7:53")
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 500)
		for {
			n, from, err := unix.Recvfrom(server, b, 0)
			if err != nil {
				return
			}
			unix.Sendto(server, b[:n], 0, from)
		}
	}()
	start := time.Now()
	for i := range n * 20 {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(198, 18, byte(i>>8), byte(i)), Port: 1024 + i>>16}, &net.UDPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 53})
		if err != nil {
			return err
		}
		c.SetDeadline(time.Now().Add(time.Second))
		c.Write(make([]byte, 40))
		c.Read(make([]byte, 100))
		c.Close()
		if i%100 == 99 {
			pace(start, i, n)
		}
	}
	fmt.Println("done")
	time.Sleep(time.Hour)
	return nil
}

// stormPrefork has 8 processes take turns at one socket that has n clients, at 1000
// packets a second for 20 s.
func stormPrefork(n int) error {
	fd, err := bound("203.0.113.7:5060")
	if err != nil {
		return err
	}
	for range 8 {
		worker := exec.Command("/proc/self/exe")
		worker.Env = append(os.Environ(), "CONNMAP_STORM=", "CONNMAP_WORKER=1")
		worker.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "socket")}
		worker.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := worker.Start(); err != nil {
			return err
		}
	}
	clients := make([]int, n)
	for i := range clients {
		if clients[i], err = bound("203.0.113.8:0"); err != nil {
			return err
		}
	}
	start := time.Now()
	for i := range 20_000 {
		if err := unix.Sendto(clients[i%n], make([]byte, 40), 0, &unix.SockaddrInet4{Addr: [4]byte{203, 0, 113, 7}, Port: 5060}); err != nil {
			return err
		}
		if i%50 == 49 {
			pace(start, i, 1000)
		}
	}
	fmt.Println("done")
	time.Sleep(time.Hour)
	return nil
}

// stormWorker answers on a socket that it has got.
func stormWorker() {
	b := make([]byte, 500)
	for {
		n, from, err := unix.Recvfrom(3, b, 0)
		if err != nil {
			return
		}
		unix.Sendto(3, b[:n], 0, from)
	}
}

// A watched is an agent that prints what it sees.
type watched struct {
	cmd *exec.Cmd

	mu      sync.Mutex
	ends    map[int]int     // of connections, by process
	updates map[int]int     // likewise
	lost    int             // events
	opened  map[string]bool // local addresses of probes
	log     strings.Builder
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

// buildAgent makes the program, if it can be tried here.
func buildAgent(t *testing.T) string {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace, and to load programs into the kernel")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip(8)")
	}
	return buildLinux(t)
}

func watchStorm(t *testing.T) *watched {
	bin := buildAgent(t)
	w := &watched{cmd: exec.Command(bin, "-watch", "-json", "-v"), ends: map[int]int{}, updates: map[int]int{}, opened: map[string]bool{}}
	w.cmd.Stderr = w
	stdout, err := w.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, w.cmd.Start())
	read := make(chan bool)
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var e struct {
				Event, Local string
				PID          int
				Lost         int
			}
			if json.Unmarshal(lines.Bytes(), &e) != nil {
				continue
			}
			w.mu.Lock()
			w.lost += e.Lost
			switch e.Event {
			case "open":
				w.opened[e.Local] = w.opened[e.Local] || strings.HasPrefix(e.Local, "203.0.113.8:")
			case "update":
				w.updates[e.PID]++
			case "close":
				w.ends[e.PID]++
			}
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		w.cmd.Process.Kill()
		<-read
		w.cmd.Wait()
	})
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return strings.Contains(w.log.String(), "reading sockets")
	}, time.Minute, 10*time.Millisecond)
	if !strings.Contains(w.log.String(), "backend=ebpf") {
		t.Skip("needs a kernel that takes the programs")
	}
	return w
}

// storm starts a stormer. Its end is that of the test.
func storm(t *testing.T, arg string) (pid int, done <-chan bool) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CONNMAP_STORM="+arg)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	said := make(chan bool)
	go func() {
		defer close(said)
		bufio.NewReader(out).ReadString('\n')
	}()
	return cmd.Process.Pid, said
}

// probe makes a connection or sends a datagram, in the namespace of a process, and
// returns how long it took the agent to tell.
func (w *watched) probe(t *testing.T, pid, port int, network string) time.Duration {
	local := "203.0.113.8:" + strconv.Itoa(port)
	helper := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid), "/proc/self/exe")
	helper.Args[2] = os.Args[0]
	helper.Env = append(os.Environ(), "CONNMAP_PROBE="+network+" "+local)
	out, err := helper.CombinedOutput()
	require.NoError(t, err, "%s", out)
	start := time.Now()
	for time.Since(start) < time.Minute {
		w.mu.Lock()
		seen := w.opened[local]
		w.mu.Unlock()
		if seen {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start)
}

// runProbe connects from an address to a listener of its own, or sends from it.
func runProbe(arg string) error {
	network, local, _ := strings.Cut(arg, " ")
	if network == "udp" {
		fd, err := bound(local)
		if err != nil {
			return err
		}
		return unix.Sendto(fd, make([]byte, 99), 0, &unix.SockaddrInet4{Addr: [4]byte{198, 18, 0, 1}, Port: 5353})
	}
	l, err := net.Listen("tcp4", "203.0.113.7:0")
	if err != nil {
		return err
	}
	from, err := net.ResolveTCPAddr("tcp4", local)
	if err != nil {
		return err
	}
	c, err := net.DialTCP("tcp4", from, l.Addr().(*net.TCPAddr))
	if err != nil {
		return err
	}
	return c.Close()
}

// peak returns the most memory a process ever had, in MiB.
func (w *watched) peak(t *testing.T) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	require.NoError(t, err)
	_, hwm, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(hwm)[0])
	require.NoError(t, err)
	return kb >> 10
}

// used returns the processor time of the agent.
func (w *watched) used(t *testing.T) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.cmd.Process.Pid))
	require.NoError(t, err)
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
	user, err := strconv.Atoi(f[12-1])
	require.NoError(t, err)
	system, err := strconv.Atoi(f[13-1])
	require.NoError(t, err)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// needsQuiet skips what measures time and processor time, which other tests would spoil.
func needsQuiet(t *testing.T) {
	if os.Getenv("CONNMAP_STORMS") == "" {
		t.Skip("it measures time: make storms, with nothing else on the machine")
	}
}

// TestStorms: no traffic of one program blinds the agent to that of others, or
// makes it large, and it ends when it is asked to.
func TestStorms(t *testing.T) {
	needsQuiet(t)
	for _, storm := range []struct {
		name, arg string
		flows     int // that end while the storm lasts, at least
		idle      bool
		updates   int // at most
	}{
		{"peers", "peers 200000", 190_000, true, 0},
		{"clients", "clients 1500", 0, false, 0},
		{"prefork", "prefork 500", 0, false, 500 * 2 * 30},
	} {
		t.Run(storm.name, func(t *testing.T) {
			testStorm(t, storm.arg, storm.flows, storm.idle, storm.updates)
		})
	}
}

func testStorm(t *testing.T, arg string, flows int, idle bool, updates int) {
	w := watchStorm(t)
	before, start := w.used(t), time.Now()
	pid, done := storm(t, arg)
	var worst time.Duration
	port := 20_000
	probe := func() {
		for _, network := range []string{"tcp", "udp"} {
			port++
			took := w.probe(t, pid, port, network)
			assert.Less(t, took, 2*time.Second, network)
			worst = max(worst, took)
		}
	}
	time.Sleep(500 * time.Millisecond) // its addresses
	for going := true; going; {
		probe()
		select {
		case <-done:
			going = false
		case <-time.After(500 * time.Millisecond):
		}
	}
	during := time.Since(start)
	share := 100 * (w.used(t) - before) / during
	if idle && !testing.Short() {
		for end := time.Now().Add(75 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
			probe()
		}
		flows = 200_000
	}
	w.mu.Lock()
	t.Logf("storm of %v: agent %d %% of a core, %d MiB at most; worst delay of a probe %v; %d flows ended, %d updates, %d lost\n%s",
		during, share, w.peak(t), worst, w.ends[pid], w.updates[pid], w.lost, w.log.String())
	assert.GreaterOrEqual(t, w.ends[pid], flows)
	assert.Zero(t, w.lost)
	n := 0
	for _, of := range w.updates {
		n += of
	}
	if updates > 0 {
		assert.LessOrEqual(t, n, updates)
	}
	w.mu.Unlock()
	assert.LessOrEqual(t, w.peak(t), 40)
	whole := 100 * (w.used(t) - before) / time.Since(start)
	t.Logf("%d %% of a core with what followed", whole)
	if !idle || !testing.Short() {
		assert.LessOrEqual(t, int64(whole), int64(15))
	}
	end := time.Now()
	require.NoError(t, w.cmd.Process.Signal(syscall.SIGTERM))
	ended := make(chan bool)
	go func() { w.cmd.Process.Wait(); close(ended) }()
	select {
	case <-ended:
		t.Logf("ended in %v", time.Since(end))
	case <-time.After(2 * time.Second):
		t.Error("SIGTERM does not end it in 2 seconds")
	}
}

// TestUnreadOutput: an agent whose output nobody reads ends all the same.
func TestUnreadOutput(t *testing.T) {
	needsLinux(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe() // not read from
	defer r.Close()
	connected(t)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-watch", "-loopback"}, w, io.Discard) }()
	time.Sleep(500 * time.Millisecond)
	cancel()
	select {
	case err := <-ended:
		assert.NoError(t, err)
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
}

// TestStormsToServer: an agent that reports to a server stays small too, whether the
// server acknowledges its reports or not.
func TestStormsToServer(t *testing.T) {
	needsQuiet(t)
	for arg, most := range map[string]int{
		"peers 200000": 64, // of what is to be sent there is more than memory of 40 MiB has room for
		"clients 1500": 40,
		"prefork 500":  40,
	} {
		t.Run(arg, func(t *testing.T) {
			bin := buildAgent(t)
			id, err := feed.LoadIdentity(t.TempDir())
			require.NoError(t, err)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			h := deaf{make(chan int, 1)}
			go func() { served <- (&feed.Server{Identity: id, Handler: h}).Serve(ctx, l) }()
			defer func() { cancel(); <-served }()
			w := &watched{cmd: exec.Command(bin, "-key", filepath.Join(t.TempDir(), "key"), l.Addr().String(), id.Token().String())}
			w.cmd.Stderr = w
			require.NoError(t, w.cmd.Start())
			defer func() { w.cmd.Process.Kill(); w.cmd.Wait() }()
			<-h.full
			before, start := w.used(t), time.Now()
			_, done := storm(t, arg)
			<-done
			time.Sleep(5 * time.Second)
			t.Logf("agent %d %% of a core, %d MiB at most\n%s", 100*(w.used(t)-before)/time.Since(start), w.peak(t), w.log.String())
			assert.LessOrEqual(t, w.peak(t), most)
		})
	}
}
