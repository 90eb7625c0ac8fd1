//go:build linux

package traffic

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Env is the environment variable with the role of a process: the name of
// the scenario, a slash, the role and its arguments.
const Env = "CONNMAP_TRAFFIC"

// lifetime bounds that of a child whose parent was killed.
const lifetime = 2 * time.Minute

// A role is the part that this process plays in a scenario. It is safe for
// concurrent use.
type role struct {
	name string         // "client", "server" or "worker"
	self netip.Addr     // of a client the address its packets carry, of a server the one it serves at
	peer netip.AddrPort // of the server; not set in the server
	args []string       // further arguments, of a worker

	scenario Scenario
	id       Flow // what all flows of this process have in common

	mu  sync.Mutex
	out *bufio.Writer
}

// Main plays the role in the environment and reports whether there was
// one. It is for TestMain.
func Main() (ran bool, err error) {
	v := os.Getenv(Env)
	if v == "" {
		return false, nil
	}
	time.AfterFunc(lifetime, func() { os.Exit(1) })
	r := &role{out: bufio.NewWriter(os.Stdout)}
	if err = r.run(v); errors.Is(err, errors.ErrUnsupported) {
		reason := strings.TrimSuffix(err.Error(), ": "+errors.ErrUnsupported.Error())
		err = r.send("skip", reason)
	}
	return true, err
}

func (r *role) run(v string) error {
	i := strings.LastIndexByte(v, '/')
	args := strings.Fields(v[i+1:])
	if i < 0 || len(args) < 2 {
		return fmt.Errorf("traffic: role %q is malformed", v)
	}
	name := v[:i]
	r.name = args[0]
	var err error
	if r.self, err = netip.ParseAddr(args[1]); err != nil {
		return err
	}
	if r.args = args[2:]; r.name == "client" {
		if r.peer, err = netip.ParseAddrPort(args[2]); err != nil {
			return err
		}
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		return err
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	r.id = Flow{Role: r.name, PID: os.Getpid(), Comm: strings.TrimSpace(string(comm)), Exe: exe}
	for _, s := range Scenarios() {
		if s.Name != name {
			continue
		}
		r.scenario = s
		r.id.Proto = s.Proto
		f := map[string]func(*role) error{"client": s.client, "server": s.server, "worker": s.worker}[r.name]
		if f == nil {
			break
		}
		return f(r)
	}
	return fmt.Errorf("traffic: no such role: %q", v)
}

// send sends a line to the parent.
func (r *role) send(word, rest string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(r.out, word, strings.ReplaceAll(rest, "\n", " "))
	return r.out.Flush()
}

// ready reports that the server serves at addr.
func (r *role) ready(addr netip.AddrPort) error { return r.send("ready", addr.String()) }

// report reports what this process did on a connection. A missing process and
// tolerance are filled in.
func (r *role) report(f Flow) error {
	f.Proto = r.id.Proto
	f.Local = netip.AddrPortFrom(f.Local.Addr().Unmap(), f.Local.Port())
	f.Peer = netip.AddrPortFrom(f.Peer.Addr().Unmap(), f.Peer.Port())
	if f.Role == "" {
		f.Role = r.id.Role
	}
	if f.PID == 0 {
		f.PID, f.Comm, f.Exe = r.id.PID, r.id.Comm, r.id.Exe
	}
	f.Tolerance = tolerance(f.Proto, f.Connected)
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err = r.out.Write(append(b, '\n'))
	return err
}

// tolerance is the error allowed to a collector. The kernel counts the bytes of connections,
// but not those of each peer of a socket with several.
func tolerance(proto uint8, connected bool) float64 {
	if connected && (proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_UDP) {
		return 0.01
	}
	return 0.10
}

// linger reports that all traffic is done, and waits until sockets may be closed.
func (r *role) linger() error {
	if err := r.send("done", ""); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// flush prints the reports of a process that is not to linger. It does so by
// one write, which leaves those of other processes on the same pipe whole.
func (r *role) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Flush()
}

// workerPath is the executable of workers, beside that of this process.
func (r *role) workerPath() string {
	return filepath.Join(filepath.Dir(os.Args[0]), "tfc-"+r.scenario.key+"-w")
}

// startWorker starts another process of the scenario, which has file as its
// descriptor 3, unless that is nil.
func (r *role) startWorker(file *os.File, args ...string) (*exec.Cmd, error) {
	path := r.workerPath()
	if err := link(r.id.Exe, path); err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	args = append([]string{r.scenario.Name + "/worker", r.self.String()}, args...)
	cmd.Env = append(os.Environ(), Env+"="+strings.Join(args, " "))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	return cmd, cmd.Start()
}
