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

// A FlowKey names a flow.
type FlowKey = connmapFlowKey

const batch = 512

// Flows calls visit for each flow that has grown since the last call, or for each
// flow if all is set, or if more have grown than the programs can list. If visit
// returns false, the next call goes on with the others.
func (p *Probe) Flows(all bool, visit func(FlowKey, *Socket) bool) error {
	// What the programs list from here on is for the next call.
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
		if all || !fill(key, p.record.RawSample) || p.coll.Maps[connmapMapFlows].Lookup(key, value) != nil {
			continue // it is listed below, or has ended
		}
		p.socket.flow(key, value)
		if !visit(*key, &p.socket) {
			return nil // the rest of the list stays where it is
		}
	}
	if !all {
		return nil
	}
	var cursor ebpf.MapBatchCursor
	for {
		n, err := p.coll.Maps[connmapMapFlows].BatchLookup(&cursor, p.keys, p.values, nil)
		if errors.Is(err, unix.ENOSPC) && len(p.keys) < 1<<16 {
			// A bucket holds more.
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

// HasFlow reports whether a flow is counted: that it was visited may be because it
// was read just before it ended.
func (p *Probe) HasFlow(key FlowKey) bool {
	return p.coll.Maps[connmapMapFlows].Lookup(&key, &p.value) == nil
}

// AddFlow begins to count a flow that has been found.
func (p *Probe) AddFlow(s *Socket) error {
	key, value := s.Key(), s.value()
	err := p.coll.Maps[connmapMapFlows].Update(&key, &value, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil
	}
	return err
}

// EndFlows forgets flows and calls visit for each that there was, with its place in keys and
// what it had counted.
func (p *Probe) EndFlows(keys []FlowKey, visit func(i int, tx, rx uint64)) error {
	if len(keys) == 1 || p.NoVisits != nil { // one, as most often
		for i := range keys {
			if take(p.coll.Maps[connmapMapFlows], &keys[i], &p.value) {
				visit(i, p.value.Tx, p.value.Rx)
			}
		}
		return nil
	}
	m := p.coll.Maps[connmapMapEnding]
	from := 0
	for chunk := range slices.Chunk(keys, int(m.MaxEntries())) {
		if p.places == nil {
			p.places = make([]uint32, m.MaxEntries())
			for i := range p.places {
				p.places[i] = uint32(i)
			}
		}
		_, err := m.BatchUpdate(p.places[:len(chunk)], chunk, nil)
		if err == nil {
			err = p.coll.Variables[connmapVarToEnd].Set(uint32(len(chunk)))
		}
		if err != nil {
			return fmt.Errorf("list of flows: %w", err)
		}
		var e connmapEnded
		err = p.iterate(p.ends, int(unsafe.Sizeof(e)), func(b []byte) {
			if fill(&e, b) {
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
