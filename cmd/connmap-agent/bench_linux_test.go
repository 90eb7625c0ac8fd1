package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
)

type deaf struct{ full chan int }

func (d deaf) Join(feed.Agent) {}
func (d deaf) Full(_ feed.Agent, c []conntrack.Conn) {
	select {
	case d.full <- len(c):
	default:
	}
}
func (d deaf) Delta(feed.Agent, []conntrack.Event) {}
func (d deaf) Leave(feed.Agent)                    {}

// The test binary also holds connections for others to see, and makes storms.
func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv("CONNMAP_STORM") != "":
		err = inStorm(os.Getenv("CONNMAP_STORM"))
	case os.Getenv("CONNMAP_PROBE") != "":
		err = runProbe(os.Getenv("CONNMAP_PROBE"))
	case os.Getenv("CONNMAP_WORKER") != "":
		stormWorker()
	case os.Getenv("CONNMAP_HOLD") != "":
		var n int
		if n, err = strconv.Atoi(os.Getenv("CONNMAP_HOLD")); err == nil {
			err = hold(n)
		}
	default:
		code := m.Run()
		os.RemoveAll(builtIn)
		os.Exit(code)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// hold makes n connections on loopback and keeps them until standard input ends.
func hold(n int) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	conns := make([]net.Conn, 0, 2*n)
	for range n {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		s, err := l.Accept()
		if err != nil {
			return err
		}
		conns = append(conns, c, s)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(conns)
	return nil
}

// BenchmarkAgent runs the stripped agent on connections that are idle for 20 s
// and reports its size, resident memory and share of a core.
func BenchmarkAgent(b *testing.B) {
	for _, n := range []int{200, 20_000} {
		if n > 200 && testing.Short() {
			continue
		}
		b.Run(fmt.Sprint("connections=", n), func(b *testing.B) { benchmarkAgent(b, n) })
	}
}

func benchmarkAgent(b *testing.B, n int) {
	bin := filepath.Join(b.TempDir(), "connmap-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(b, err, "%s", out)
	info, err := os.Stat(bin)
	require.NoError(b, err)

	// More than one process may have files open.
	self, err := os.Executable()
	require.NoError(b, err)
	for range 4 {
		holder := exec.Command(self)
		holder.Env = append(os.Environ(), "CONNMAP_HOLD="+strconv.Itoa(n/8)) // both ends are seen
		in, err := holder.StdinPipe()
		require.NoError(b, err)
		out, err := holder.StdoutPipe()
		require.NoError(b, err)
		require.NoError(b, holder.Start())
		defer func() { in.Close(); holder.Wait() }()
		_, err = out.Read(make([]byte, 1))
		require.NoError(b, err)
	}
	id, err := feed.LoadIdentity(b.TempDir())
	require.NoError(b, err)
	sl, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	h := deaf{make(chan int, 1)}
	go func() { served <- (&feed.Server{Identity: id, Handler: h}).Serve(ctx, sl) }()
	defer func() { cancel(); <-served }()

	agent := exec.Command(bin, "-loopback", "-key", filepath.Join(b.TempDir(), "key"), sl.Addr().String(), id.Token().String())
	require.NoError(b, agent.Start())
	defer func() { agent.Process.Kill(); agent.Wait() }()
	<-h.full
	time.Sleep(6 * time.Second)
	for b.Loop() {
		before := cpu(b, agent.Process.Pid)
		during := 20 * time.Second
		if testing.Short() {
			during = time.Second // it is only tried
		}
		time.Sleep(during)
		b.ReportMetric((cpu(b, agent.Process.Pid)-before).Seconds()/during.Seconds()*100, "%core")
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(agent.Process.Pid) + "/status")
	require.NoError(b, err)
	_, rss, _ := bytes.Cut(status, []byte("VmRSS:"))
	kb, err := strconv.Atoi(strings.Fields(string(rss))[0])
	require.NoError(b, err)
	b.ReportMetric(float64(kb)/1024, "MiB-RSS")
	b.ReportMetric(float64(info.Size())/1e6, "MB-binary")
}

// cpu returns the processor time of a process, from the scheduler's own sum:
// that of ticks is too coarse.
func cpu(b *testing.B, pid int) time.Duration {
	var sum time.Duration
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
	require.NoError(b, err)
	for _, name := range tasks {
		s, err := os.ReadFile(name)
		require.NoError(b, err)
		ns, err := strconv.ParseInt(strings.Fields(string(s))[0], 10, 64)
		require.NoError(b, err)
		sum += time.Duration(ns)
	}
	return sum
}
