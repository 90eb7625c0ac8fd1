//go:build amd64 || arm64 || loong64 || riscv64

package bpf

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A FlowKey identifies a flow.
type FlowKey = connmapFlowKey

const batch = 512

// Flows calls visit for each flow that has grown since the last call. It visits all flows if
// all is set, or if more have grown than the programs could list. If visit returns false, the
// next call continues with the others.
func (p *Probe) Flows(all bool, visit func(FlowKey, *Socket) bool) error {
	// Flows that the programs list from now on are for the next call.
	left := p.grown.AvailableBytes()
	var missed uint32
	p.pass++
	err := errors.Join(
		p.coll.Variables[connmapVarPass].Set(p.pass),
		p.coll.Variables[connmapVarMissed].Get(&missed))
	if err == nil && missed != 0 {
		err = p.coll.Variables[connmapVarMissed].Set(uint32(0))
	}
	if err != nil {
		return err
	}
	all = all || missed != 0
	if p.keys == nil {
		p.keys, p.values = make([]connmapFlowKey, batch), make([]connmapFlow, batch)
	}
	for left > 0 {
		if err := p.grown.ReadInto(&p.record); err != nil {
			return fmt.Errorf("list of flows: %w", err)
		}
		left -= recordSize(len(p.record.RawSample))
		key, value := &p.keys[0], &p.values[0]
		if all || !decode(key, p.record.RawSample) || p.coll.Maps[connmapMapFlows].Lookup(key, value) != nil {
			continue // the loop below visits it, or it has ended
		}
		p.socket.flow(key, value)
		if !visit(*key, &p.socket) {
			return nil // the rest of the list stays for the next call
		}
	}
	if !all {
		return nil
	}
	var cursor ebpf.MapBatchCursor
	for {
		n, err := p.coll.Maps[connmapMapFlows].BatchLookup(&cursor, p.keys, p.values, nil)
		if errors.Is(err, unix.ENOSPC) && len(p.keys) < 1<<16 {
			// A bucket of the map holds more flows than the batch.
			p.keys, p.values = make([]connmapFlowKey, 2*len(p.keys)), make([]connmapFlow, 2*len(p.keys))
			continue
		}
		for i := range n {
			p.socket.flow(&p.keys[i], &p.values[i])
			if !visit(p.keys[i], &p.socket) {
				return p.coll.Variables[connmapVarMissed].Set(uint32(1))
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list of flows: %w", err)
		}
	}
}

// HasFlow reports whether the kernel still counts a flow. Flows may have visited it just before
// it ended.
func (p *Probe) HasFlow(key FlowKey) bool {
	return p.coll.Maps[connmapMapFlows].Lookup(&key, &p.value) == nil
}

// AddFlow makes the kernel count a flow that a pass has found.
func (p *Probe) AddFlow(s *Socket) error {
	key, value := s.Key(), s.value()
	err := p.coll.Maps[connmapMapFlows].Update(&key, &value, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil
	}
	return err
}

// EndFlows removes flows from the kernel, and calls visit for each that existed, with its index
// in keys and its last counters.
func (p *Probe) EndFlows(keys []FlowKey, visit func(i int, tx, rx uint64)) error {
	if len(keys) == 1 || p.VisitErr != nil { // mostly there is one
		for i := range keys {
			if lookupAndDelete(p.coll.Maps[connmapMapFlows], &keys[i], &p.value) {
				visit(i, p.value.Tx, p.value.Rx)
			}
		}
		return nil
	}
	m := p.coll.Maps[connmapMapEnding]
	from := 0
	for chunk := range slices.Chunk(keys, int(m.MaxEntries())) {
		if p.indexes == nil {
			p.indexes = make([]uint32, m.MaxEntries())
			for i := range p.indexes {
				p.indexes[i] = uint32(i)
			}
		}
		_, err := m.BatchUpdate(p.indexes[:len(chunk)], chunk, nil)
		if err == nil {
			err = p.coll.Variables[connmapVarToEnd].Set(uint32(len(chunk)))
		}
		if err != nil {
			return fmt.Errorf("list of flows: %w", err)
		}
		var e connmapEnded
		err = p.iterate(p.ends, int(unsafe.Sizeof(e)), func(b []byte) {
			if decode(&e, b) {
				visit(from+int(e.Index), e.Tx, e.Rx)
			}
		})
		if err != nil {
			return err
		}
		from += len(chunk)
	}
	return nil
}
