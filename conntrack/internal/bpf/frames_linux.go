//go:build amd64 || arm64 || loong64 || riscv64

package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// framesIdle is how long the program of Frames stays attached after the last send of a packet
// socket, in units of 2^30 ns.
const framesIdle = 60

// SeesFrames reports whether sends of packet sockets can be seen, as since Linux 6.3.
func (p *Probe) SeesFrames() bool { return p.coll.Programs[connmapProgSendLength] != nil }

// Frames attaches the program that counts the packets of packet sockets when one of them has
// sent, and detaches it when none has for a minute. now is in ns since boot. The program is
// loaded from the start, so that a process may give up its right to load programs. If the
// kernel refuses to attach it, Frames returns the error once.
func (p *Probe) Frames(now int64) error {
	var last uint32
	if err := p.coll.Variables[connmapVarFramed].Get(&last); err != nil {
		return err
	}
	wanted := last != 0 && int32(uint32(now>>30)-last) < framesIdle // last may be later than now
	switch {
	case wanted && p.frames == nil && !p.framesUnsupported:
		err := p.queuedErr
		if err == nil {
			p.frames, err = link.AttachTracing(link.TracingOptions{Program: p.queued})
		}
		if err != nil {
			p.framesUnsupported = true
			return fmt.Errorf("packets that programs send by packet sockets are not seen: %w", err)
		}
		return p.coll.Variables[connmapVarFraming].Set(uint8(1))
	case !wanted && p.frames != nil:
		l := p.frames
		p.frames = nil
		if err := p.coll.Variables[connmapVarFraming].Set(uint8(0)); err != nil {
			return err
		}
		return l.Close()
	}
	return nil
}

// loadFrames loads the program of Frames; it shares the maps of the others.
func (p *Probe) loadFrames() (*ebpf.Program, error) {
	spec, err := loadConnmap()
	if err != nil {
		return nil, err
	}
	spec.Programs = map[string]*ebpf.ProgramSpec{connmapProgQueued: spec.Programs[connmapProgQueued]}
	for name, m := range p.coll.Maps {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: p.coll.Maps})
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	return coll.DetachProgram(connmapProgQueued), nil
}
