//go:build amd64 || arm64 || loong64 || riscv64

package conntrack

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/connmapgo/connmap/conntrack/internal/bpf"
)

// mostPrograms is how many a generation of programs holds.
const mostPrograms = 4096

// programs remembers what the kernel has told of processes. It forgets in
// generations those that nothing was heard of.
type programs struct{ young, old map[programKey]*Process }

type programKey struct {
	pid   uint32
	start int64
}

// add takes in what the kernel tells once of each process, and again if it
// executes another program.
func (p *programs) add(t *bpf.Process) {
	p.put(programKey{t.PID, t.Start}, &Process{PID: int(t.PID), Exe: t.Exe, Container: container([]byte(t.Cgroup))})
}

func (p *programs) put(k programKey, v *Process) {
	if p.young == nil || len(p.young) >= mostPrograms {
		p.old, p.young = p.young, make(map[programKey]*Process)
	}
	p.young[k] = v
}

// of returns the process that owns a socket.
func (p *programs) of(o *bpf.Owner) Process {
	if o.PID == 0 {
		return Process{}
	}
	k := programKey{o.PID, o.Start}
	v := p.young[k]
	if v == nil {
		if v = p.old[k]; v == nil {
			v = lookUp(o)
		}
		p.put(k, v)
	}
	if string(o.CommText()) != v.Comm {
		v.Comm = string(o.CommText())
	}
	return *v
}

// lookUp asks /proc, for when what the kernel told was lost. A process that is
// gone by now keeps its name.
func lookUp(o *bpf.Owner) *Process {
	v := &Process{PID: int(o.PID)}
	dir := "/proc/" + strconv.Itoa(v.PID)
	// The number may be another process's by now, or count in another namespace.
	comm, err := os.ReadFile(dir + "/comm")
	if err != nil || !bytes.Equal(bytes.TrimSuffix(comm, []byte("\n")), o.CommText()) {
		return v
	}
	if exe, err := os.Readlink(dir + "/exe"); err == nil {
		v.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	if cgroup, err := os.ReadFile(dir + "/cgroup"); err == nil {
		v.Container = container(cgroup)
	}
	return v
}
