package conntrack

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["unmounted"] = helpUnmounted
	helpers["container"] = helpContainer
}

// TestNamesInContainer: names in another network namespace and cgroup are seen as well.
func TestNamesInContainer(t *testing.T) {
	requireRootAndIP(t)
	c := ebpfOrSkip(t, Options{Names: true}, 0)
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	group := ""
	for line := range bytes.Lines(mounts) {
		if f := strings.Fields(string(line)); strings.Contains(string(line), " - cgroup2 ") {
			group, err = os.MkdirTemp(f[4], "connmap-names-")
		}
	}
	if group != "" {
		t.Cleanup(func() {
			assert.Eventually(t, func() bool { return os.Remove(group) == nil }, 10*time.Second, 10*time.Millisecond)
		})
		dir, err := os.Open(group)
		require.NoError(t, err)
		defer dir.Close()
		attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	}
	pid, line := helper(t, "container", attr)
	require.Equal(t, "ready\n", line)
	want := map[string]NameSource{"d9.dns.example": NameDNS, "box.tls.example": NameSNI, "box.http.example": NameHTTP}
	got := map[string]NameSource{}
	assert.Eventually(t, func() bool {
		for _, conn := range snapshot(t, c) {
			if conn.Process.PID == pid && conn.Name != "" {
				got[conn.Name] = conn.NameSource
			}
		}
		return len(got) >= len(want)
	}, 20*time.Second, 50*time.Millisecond)
	assert.Equal(t, want, got)
}

// helpContainer asks for names in a network namespace of its own, and holds the connections until
// standard input ends.
func helpContainer(string) error {
	for _, args := range []string{"link set lo up", "addr add 203.0.113.10/24 dev lo", "addr add 198.18.0.1/15 dev lo"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %s", args, out)
		}
	}
	serveNames(standIn{}, nameServer)
	addrs, err := resolverAt("udp", nameServer+":53").LookupNetIP(context.Background(), "ip4", "d9.dns.example.")
	if err != nil {
		return err
	}
	one, err := net.Dial("tcp", addrs[0].Unmap().String()+":9000")
	if err != nil {
		return err
	}
	defer one.Close()
	two, err := tls.Dial("tcp", nameServer+":8443", &tls.Config{InsecureSkipVerify: true, ServerName: "box.tls.example"})
	if err != nil {
		return err
	}
	defer two.Close()
	three, err := net.Dial("tcp", nameServer+":8080")
	if err != nil {
		return err
	}
	defer three.Close()
	fmt.Fprint(three, "GET / HTTP/1.1\r\nHost: box.http.example:8080\r\n\r\n")
	if _, err := three.Read(make([]byte, 100)); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// A standIn is a testing.TB where there is no test. What fails ends the process.
type standIn struct{ testing.TB }

func (standIn) Helper()                           {}
func (standIn) Cleanup(func())                    {}
func (standIn) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (standIn) FailNow()                          { os.Exit(1) }

// TestNamesWithoutMount: where no cgroup2 file system is mounted the collector has one of its own,
// which nobody else sees.
func TestNamesWithoutMount(t *testing.T) {
	requireRootAndIP(t)
	ebpfOrSkip(t, Options{Names: true}, 0)
	_, in, out := helperIn(t, "unmounted", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS})
	_ = in
	var r struct {
		Info   Info
		Mounts string
	}
	line, err := out.ReadBytes('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(line, &r), "%s", line)
	assert.Equal(t, EBPF, r.Info.Backend)
	assert.NotContains(t, r.Info.Limited, "cgroup")
	assert.NotContains(t, r.Info.Limited, "names")
	assert.Empty(t, r.Mounts)
}

// helpUnmounted says how a collector works in a mount namespace without cgroup2.
func helpUnmounted(string) error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	mounts := func() (list []string) {
		b, _ := os.ReadFile("/proc/self/mountinfo")
		for line := range bytes.Lines(b) {
			if f := strings.Fields(string(line)); strings.Contains(string(line), " - cgroup2 ") {
				list = append(list, f[4])
			}
		}
		return list
	}
	for _, dir := range mounts() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return err
		}
	}
	c, err := New(Options{Backend: EBPF, Names: true})
	if err != nil {
		return err
	}
	defer c.Close()
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"Info": c.Info(), "Mounts": strings.Join(mounts(), " ")})
}

// TestNamesOfPrograms: what people use gives its names away: curl and dig with dnsmasq, and getent.
func TestNamesOfPrograms(t *testing.T) {
	for _, program := range []string{"dnsmasq", "curl", "dig", "getent", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	if !inNamespace(t) {
		return
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", nameServer+":80")
	require.NoError(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done() // the client holds the connection
	})}
	go s.Serve(l)
	defer s.Close()
	secure, err := net.Listen("tcp", nameServer+":443")
	require.NoError(t, err)
	go s.Serve(tls.NewListener(secure, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}))
	start := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd
	}
	start("dnsmasq", "-k", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="+filepath.Join(dir, "pid"),
		"--listen-address="+nameServer, "--bind-interfaces", "--local-ttl=60",
		"--address=/web.example.com/"+nameServer, "--address=/www.example.net/203.0.113.10", "--cname=alias.example.org,target.example.org", "--host-record=target.example.org,203.0.113.10")
	resolv := filepath.Join(dir, "resolv.conf")
	require.NoError(t, os.WriteFile(resolv, []byte("nameserver "+nameServer+"\n"), 0o644))
	// In a mount namespace with that configuration.
	shell := func(script string) *exec.Cmd {
		return start("unshare", "-m", "sh", "-c", "mount --bind "+resolv+" /etc/resolv.conf && "+script)
	}
	c := ebpfOrSkip(t, Options{Names: true}, 0)
	require.Eventually(t, func() bool {
		return exec.Command("dig", "+time=1", "+tries=1", "@"+nameServer, "web.example.com").Run() == nil
	}, 20*time.Second, 100*time.Millisecond)
	await := func(script string, fits func(c Conn) bool) {
		t.Helper()
		for try := 1; ; try++ {
			before := c.Info().Unnamed
			shell(script)
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				if slices.ContainsFunc(snapshot(t, c), fits) {
					return
				}
			}
			for _, conn := range snapshot(t, c) {
				t.Logf("%v %v %s %q %v", conn.Direction, conn.Peer, conn.Process.Comm, conn.Name, conn.NameSource)
			}
			// Others may fill the ring of events: then again.
			require.Greater(t, c.Info().Unnamed, before, "%s", script)
			require.Less(t, try, 10, "%s", script)
		}
	}
	of := func(comm, name string, source NameSource) func(Conn) bool {
		return func(c Conn) bool { return c.Process.Comm == comm && c.Name == name && c.NameSource == source }
	}
	await("curl -s -m 60 http://web.example.com/", of("curl", "web.example.com", NameHTTP))
	await("curl -sk -m 60 https://www.example.net/", of("curl", "www.example.net", NameSNI))
	// getent asks, and its shell connects to the answer.
	await("addr=$(getent ahostsv4 alias.example.org | head -1 | cut -d' ' -f1) && curl -s -m 60 telnet://$addr:80", func(c Conn) bool {
		return c.Process.Comm == "curl" && c.NameSource == NameHost && c.Name == "alias.example.org"
	})
}

// TestNamesOfBrowser: a browser names peers in a ClientHello with post-quantum keys and extensions in
// any order, and in several Initials of QUIC whose pieces are shuffled.
func TestNamesOfBrowser(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip(err)
	}
	if !inNamespace(t) {
		return
	}
	certificates := []tls.Certificate{selfSigned(t)}
	l, err := net.Listen("tcp", nameServer+":443")
	require.NoError(t, err)
	release := make(chan struct{})
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}), ErrorLog: log.New(io.Discard, "", 0)}
	go s.Serve(tls.NewListener(l, &tls.Config{Certificates: certificates, NextProtos: []string{"http/1.1"}}))
	defer s.Close()
	defer close(release)
	q, err := quic.ListenAddr(nameServer+":443", &tls.Config{Certificates: certificates, NextProtos: []string{"h3"}}, nil)
	require.NoError(t, err)
	defer q.Close()
	go func() {
		for {
			if _, err := q.Accept(context.Background()); err != nil {
				return
			}
		}
	}()
	// A flow of QUIC may be short: the browser does not trust the certificate.
	type seen struct {
		comm, name string
		source     NameSource
	}
	var mu sync.Mutex
	all := map[seen]bool{}
	follow(t, ebpfOrSkip(t, Options{Names: true}, 0), func(e Event) {
		if e.Conn.Peer.Addr().String() == nameServer {
			mu.Lock()
			defer mu.Unlock()
			all[seen{e.Conn.Process.Comm, e.Conn.Name, e.Conn.NameSource}] = true
		}
	})
	run := func(url string, more ...string) {
		t.Helper()
		cmd := exec.Command(browser, append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
			"--disable-background-networking", "--ignore-certificate-errors", "--user-data-dir=" + t.TempDir(), "--dump-dom",
			"--host-resolver-rules=MAP * " + nameServer}, append(more, url)...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			cmd.Wait()
		})
	}
	await := func(name string, source NameSource) {
		t.Helper()
		if !assert.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return all[seen{"chromium", name, source}] || all[seen{"chrome", name, source}]
		}, 60*time.Second, 50*time.Millisecond) {
			mu.Lock()
			defer mu.Unlock()
			t.Log(all)
		}
	}
	run("https://secure.browser.example/")
	await("secure.browser.example", NameSNI)
	run("https://quick.browser.example/", "--enable-quic", "--origin-to-force-quic-on=quick.browser.example:443")
	await("quick.browser.example", NameQUIC)
}
