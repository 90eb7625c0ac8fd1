package geoip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// encode serialises what the compiler found. The names of cities are shared by
// equal places.
func encode(starts4 []start[v4], starts6 []start[v6], places []Place, date int64, stamp [16]byte) (string, error) {
	if len(places) > mostIDs {
		return "", fmt.Errorf("geoip: more than %d places", mostIDs)
	}
	tree := grow(starts4)
	if tree.nn > mostIDs {
		return "", fmt.Errorf("geoip: more than %d networks with parts", mostIDs)
	}
	hi6, fine := split(starts6, uint32(len(places)))
	root6, nodes6 := index6(hi6)
	t := table{nn: tree.nn, nv: len(tree.values) / valueSize, m6: len(nodes6), n6: len(hi6), nf: len(fine), np: len(places)}

	var names []byte
	nameAt := make(map[string]int)
	flags := uint32(0)
	if len(places) > 1 {
		flags = flagCountryLevel
	}
	for _, p := range places[1:] {
		if p.Precision != Country {
			flags = 0
		}
		if _, ok := nameAt[p.City]; !ok {
			nameAt[p.City] = len(names)
			names = append(names, p.City...)
		}
	}

	size := t.layout(len(names))
	if size > math.MaxInt32 {
		return "", errors.New("geoip: the table would have more than 2 GiB")
	}
	b := make([]byte, 0, size)
	le := binary.LittleEndian
	align := func(to int) {
		b = append(b, make([]byte, to-len(b))...)
	}
	b = append(b, magic...)
	b = le.AppendUint32(b, version)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(date))
	b = append(b, stamp[:]...)
	for _, n := range []int{t.nn, t.nv, t.n6, t.nf, t.np, len(names), int(flags), known(starts4) + known(starts6), t.m6} {
		b = le.AppendUint32(b, uint32(n))
	}
	align(t.root)
	for _, v := range tree.root {
		b = le.AppendUint32(b, v)
	}
	align(t.nodes)
	b = append(b, tree.nodes...)
	align(t.values)
	b = append(b, tree.values...)
	align(t.root6)
	for _, v := range root6 {
		b = le.AppendUint32(b, v)
	}
	align(t.nodes6)
	for _, node := range nodes6 {
		for _, v := range node {
			b = le.AppendUint32(b, v)
		}
	}
	align(t.hi6)
	for _, s := range hi6 {
		b = le.AppendUint64(b, s.First.Hi)
	}
	align(t.fine)
	for _, s := range fine {
		b = le.AppendUint64(b, s.First.Hi)
		b = le.AppendUint64(b, s.First.Lo)
	}
	appendID := func(id uint32) {
		for range t.width {
			b = append(b, byte(id))
			id >>= 8
		}
	}
	align(t.id6)
	for _, s := range hi6 {
		appendID(s.ID)
	}
	align(t.idf)
	for _, s := range fine {
		appendID(s.ID)
	}
	align(t.places)
	for _, p := range places {
		b = le.AppendUint32(b, uint32(fixed(p.Lat)))
		b = le.AppendUint32(b, uint32(fixed(p.Lon)))
		cc := [2]byte{}
		copy(cc[:], p.Country)
		b = append(b, cc[0], cc[1], byte(p.Precision), byte(len(p.City)))
		b = le.AppendUint32(b, uint32(nameAt[p.City]))
	}
	align(t.ns)
	b = append(b, names...)
	align(t.end)
	for from := 0; from < t.end; from += blockSize {
		b = le.AppendUint32(b, crc32.Checksum(b[from:min(from+blockSize, t.end)], castagnoli))
	}
	le.PutUint32(b[12:], headerSum(string(b[:headerSize]), unsafeString(b[t.end:])))
	return unsafeString(b), nil
}

// known counts the ranges that have a place.
func known[K any](starts []start[K]) (n int) {
	for _, s := range starts {
		if s.ID != 0 {
			n++
		}
	}
	return n
}

// A tree is the sections root, nodes and values.
type tree struct {
	root          [rootSize]uint32
	nodes, values []byte
	nn            int
}

// grow makes the tree of the starts of IPv4 ranges.
func grow(starts []start[v4]) *tree {
	t := &tree{values: make([]byte, 0, valueSize*(len(starts)+len(starts)/8))}
	var parts [256]uint32
	id, i := uint32(0), 0 // what goes on, and the next start
	for h := range uint64(rootSize) {
		after := (h + 1) << 16
		if i < len(starts) && uint64(starts[i].First) == h<<16 {
			id = starts[i].ID
			i++
		}
		if i == len(starts) || uint64(starts[i].First) >= after {
			t.root[h] = id
			continue
		}
		for p := range uint64(256) {
			from := h<<16 | p<<8
			if i < len(starts) && uint64(starts[i].First) == from {
				id = starts[i].ID
				i++
			}
			if i == len(starts) || uint64(starts[i].First) >= from+256 {
				parts[p] = id
				continue
			}
			var small [256]uint32
			for q := range uint64(256) {
				if i < len(starts) && uint64(starts[i].First) == from|q {
					id = starts[i].ID
					i++
				}
				small[q] = id
			}
			parts[p] = valueFlag | t.add(&small)
		}
		t.root[h] = nodeFlag | t.add(&parts)
	}
	return t
}

// add adds a node and returns its number.
func (t *tree) add(parts *[256]uint32) uint32 {
	var words [4]uint64
	var counts [4]byte // of the words before
	first := len(t.values) / valueSize
	for p, v := range parts {
		if p > 0 && p%64 == 0 {
			counts[p/64] = byte(len(t.values)/valueSize - first)
		}
		if p == 0 || v != parts[p-1] {
			words[p/64] |= 1 << (p % 64)
			t.values = append(t.values, byte(v), byte(v>>8), byte(v>>16))
		}
	}
	le := binary.LittleEndian
	for _, w := range words {
		t.nodes = le.AppendUint64(t.nodes, w)
	}
	t.nodes = le.AppendUint32(t.nodes, uint32(first))
	t.nodes = append(t.nodes, counts[1], counts[2], counts[3], 0)
	t.nn++
	return uint32(t.nn - 1)
}

const (
	mostStarts6 = 64      // that are bisected rather than get a node
	mostNodes6  = 1 << 18 // so that no choice of starts makes a table of nodes: 270 MB
)

// index6 makes the sections root6 and nodes6.
func index6(starts []start[v6]) (root []uint32, nodes [][257]uint32) {
	if len(starts) == 0 {
		return nil, nil
	}
	i := 0
	// below returns what stands for the starts of a network, from i on.
	var below func(prefix uint64, shift, most int) uint32
	below = func(prefix uint64, shift, most int) uint32 {
		j := i
		for j < len(starts) && starts[j].First.Hi>>shift == prefix {
			j++
		}
		if j-i <= most || shift == 0 || len(nodes) == mostNodes6 {
			first := i
			i = j
			return uint32(first)
		}
		n := len(nodes)
		nodes = append(nodes, [257]uint32{})
		for part := range uint64(256) {
			nodes[n][part] = below(prefix<<8|part, shift-8, mostStarts6)
		}
		nodes[n][256] = uint32(i)
		return nodeFlag | uint32(n)
	}
	root = make([]uint32, rootSize)
	for h := range uint64(rootSize) {
		root[h] = below(h, 48, 0)
	}
	return root, nodes
}

// split separates the starts within /64 networks from the others; see table.
func split(starts []start[v6], mark uint32) (hi6, fine []start[v6]) {
	before := uint32(0) // the place of what precedes the /64
	for i := 0; i < len(starts); {
		hi := starts[i].First.Hi
		j := i + 1
		for j < len(starts) && starts[j].First.Hi == hi {
			j++
		}
		last := starts[j-1].ID
		if j == i+1 && starts[i].First.Lo == 0 {
			hi6 = append(hi6, starts[i])
		} else {
			hi6 = append(hi6, start[v6]{First: v6{Hi: hi}, ID: mark})
			if starts[i].First.Lo != 0 {
				fine = append(fine, start[v6]{First: v6{Hi: hi}, ID: before})
			}
			fine = append(fine, starts[i:j]...)
			if hi != math.MaxUint64 && (j == len(starts) || starts[j].First.Hi != hi+1) {
				hi6 = append(hi6, start[v6]{First: v6{Hi: hi + 1}, ID: last})
			}
		}
		before, i = last, j
	}
	return hi6, fine
}

// fixed converts degrees to the stored unit.
func fixed(degrees float64) int32 {
	return int32(math.Round(degrees * degree))
}
