//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

const maxProcesses = 4096 // in one generation of processes

// processes is a cache of the processes that the kernel programs have reported. When young is
// full it becomes old, so processes that no event refers to are forgotten.
type processes struct{ young, old map[processKey]*Process }

type processKey struct {
	pid, exec uint32
	start     int64
}

// add adds a process. The kernel programs report each process once, and again when it has
// executed another program.
func (p *processes) add(t *bpf.Process) {
	k := processKey{t.PID, t.Exec, t.Start}
	if v := p.get(k); v != nil && t.Cgroup == "" && t.Exe != "" {
		v.Exe = t.Exe
		return
	}
	v := &Process{PID: int(t.PID), Exe: t.Exe, Container: container([]byte(t.Cgroup))}
	if v.Exe == "" { // the path is too long, or the kernel programs had no room for it
		v.Exe = lookUp(t.PID, t.Start).Exe
	}
	p.put(k, v)
}

// get returns a process; nil: unknown.
func (p *processes) get(k processKey) *Process {
	if v := p.young[k]; v != nil {
		return v
	}
	return p.old[k]
}

func (p *processes) put(k processKey, v *Process) {
	if p.young == nil || len(p.young) >= maxProcesses {
		p.old, p.young = p.young, make(map[processKey]*Process)
	}
	p.young[k] = v
}

// kernel is the owner of the kernel's own traffic.
var kernel = Process{Comm: "kernel"}

// of returns the process that owns a socket.
func (p *processes) of(o *bpf.Owner) Process {
	if o.PID == 0 {
		if o.Comm[0] != 0 {
			return kernel
		}
		return Process{}
	}
	k := processKey{o.PID, o.Exec, o.Start}
	v := p.young[k]
	if v == nil {
		if v = p.old[k]; v == nil {
			v = lookUp(o.PID, o.Start)
		}
		p.put(k, v)
	}
	if string(o.CommText()) != v.Comm {
		v.Comm = string(o.CommText())
	}
	return *v
}

// lookUp reads a process from /proc, in case its event was lost. If the process has ended,
// only its PID is known.
func lookUp(pid uint32, start int64) *Process {
	v := &Process{PID: int(pid)}
	dir := "/proc/" + strconv.Itoa(v.PID)
	if exe, err := os.Readlink(dir + "/exe"); err == nil {
		v.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	if cgroup, err := os.ReadFile(dir + "/cgroup"); err == nil {
		v.Container = container(cgroup)
	}
	// The PID may belong to another process by now. This is checked last, since it could
	// change while the files above are read.
	if stat, err := os.ReadFile(dir + "/stat"); err != nil || !startedAt(stat, start) {
		return &Process{PID: int(pid)}
	}
	return v
}

// startedAt reports whether a process with this /proc/PID/stat started at start, in ns since
// boot.
func startedAt(stat []byte, start int64) bool {
	// The name is in brackets and may itself contain brackets.
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const field = 22 - 3 // the first after the name is the third
	if len(f) <= field {
		return false
	}
	ticks, err := strconv.ParseInt(string(f[field]), 10, 64)
	return err == nil && ticks == start/(int64(time.Second)/userHZ)
}

const userHZ = 100 // on all processors with this backend
