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

// maxProcesses is how many a generation of processes holds.
const maxProcesses = 4096

// processes remembers what the kernel has told of processes. It forgets in
// generations those that nothing was heard of.
type processes struct{ young, old map[processKey]*Process }

type processKey struct {
	pid, exec uint32
	start     int64
}

// add takes in what the kernel tells once of each process, and again when it has
// executed another program.
func (p *processes) add(t *bpf.Process) {
	k := processKey{t.PID, t.Exec, t.Start}
	if v := p.get(k); v != nil && t.Cgroup == "" && t.Exe != "" {
		v.Exe = t.Exe
		return
	}
	v := &Process{PID: int(t.PID), Exe: t.Exe, Container: container([]byte(t.Cgroup))}
	if v.Exe == "" { // longer than any path may be, or the kernel had no room for it
		v.Exe = lookUp(t.PID, t.Start).Exe
	}
	p.put(k, v)
}

// get returns what is known of a process, nil if nothing is.
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

// kernel is the owner of what the kernel does for itself.
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

// lookUp asks /proc, for when what the kernel told was lost. Of a process that is
// gone by now only the number is known.
func lookUp(pid uint32, start int64) *Process {
	v := &Process{PID: int(pid)}
	dir := "/proc/" + strconv.Itoa(v.PID)
	if exe, err := os.Readlink(dir + "/exe"); err == nil {
		v.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	if cgroup, err := os.ReadFile(dir + "/cgroup"); err == nil {
		v.Container = container(cgroup)
	}
	// The number may be another process's by now. It may become one after this
	// too, but not before what was read above.
	if stat, err := os.ReadFile(dir + "/stat"); err != nil || !startedAt(stat, start) {
		return &Process{PID: int(pid)}
	}
	return v
}

// startedAt reports whether a process with this /proc/PID/stat started at a
// time, in ns since boot.
func startedAt(stat []byte, start int64) bool {
	// The name stands in brackets and may contain some.
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const field = 22 - 3 // the first after the name is the third
	if len(f) <= field {
		return false
	}
	ticks, err := strconv.ParseInt(string(f[field]), 10, 64)
	return err == nil && ticks == start/(int64(time.Second)/userHZ)
}

const userHZ = 100 // of all processors this backend is for
