package ranges

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"sync"
)

// A Content is the input of a table.
type Content struct {
	Info    Info // without Ranges, which Encode counts
	Flags   uint32
	V4      []Start[V4]
	V6      []Start[V6]
	Records []byte // by ID, including an unused one for ID 0
	Texts   []byte // records refer to them
	Stamp   Stamp  // of the sources
}

// Encode serialises a table. Equal contents give equal bytes.
func (f *Form) Encode(c Content) (string, error) {
	t := &Table{form: f, flags: c.Flags, stamp: c.Stamp, ranges: countIDs(c.V4) + countIDs(c.V6)}
	if !c.Info.Date.IsZero() {
		t.date = c.Info.Date.Unix()
	}
	if t.records = len(c.Records) / f.Record; t.records > MaxRecords {
		return "", fmt.Errorf("more than %d records", MaxRecords)
	}
	name := encodeName(c.Info)
	if t.name = len(name); t.name > maxName {
		return "", fmt.Errorf("name of the table has %d bytes, more than %d", t.name, maxName)
	}
	tree := grow(c.V4)
	if t.nodes4 = len(tree.nodes) / nodeSize; t.nodes4 > maxNodes {
		return "", fmt.Errorf("more than %d networks with parts", maxNodes)
	}
	whole, fine := split(c.V6, uint32(t.records))
	root6, nodes6 := index6(whole)
	t.values4, t.nodes6, t.starts6, t.fine6, t.texts = len(tree.values)/valueSize, len(nodes6), len(whole), len(fine), len(c.Texts)
	size := t.layout()
	if size > math.MaxInt32 {
		return "", errors.New("the table would have more than 2 GiB")
	}

	b := t.appendHeader(make([]byte, 0, size))
	to := func(at int) { b = append(b, make([]byte, at-len(b))...) }
	to(t.atRoot4)
	b = append32(b, tree.root[:])
	to(t.atNodes4)
	b = append(b, tree.nodes...)
	to(t.atValues4)
	b = append(b, tree.values...)
	to(t.atRoot6)
	b = append32(b, root6)
	to(t.atNodes6)
	for i := range nodes6 {
		b = append32(b, nodes6[i][:])
	}
	to(t.atStarts6)
	for _, s := range whole {
		b = le.AppendUint64(b, s.First.Hi)
	}
	to(t.atFine6)
	for _, s := range fine {
		b = le.AppendUint64(le.AppendUint64(b, s.First.Hi), s.First.Lo)
	}
	to(t.atIDs6)
	b = t.appendIDs(b, whole)
	to(t.atFineIDs6)
	b = t.appendIDs(b, fine)
	to(t.atRecords)
	b = append(b, c.Records...)
	to(t.atTexts)
	b = append(b, c.Texts...)
	to(t.atName)
	b = append(b, name...)
	to(t.atSums)
	for from := 0; from < t.atSums; from += blockSize {
		b = le.AppendUint32(b, crc32.Checksum(b[from:min(from+blockSize, t.atSums)], castagnoli))
	}
	le.PutUint32(b[12:], headerSum(string(b[:headerSize]), unsafeString(b[t.atSums:])))
	return unsafeString(b), nil
}

const (
	maxRemarks = 20
	maxRemark  = 500 // bytes
)

// encodeName returns the section name.
func encodeName(info Info) string {
	parts := []string{strings.ReplaceAll(info.Name, "\x00", "")}
	for _, r := range info.Remarks[:min(len(info.Remarks), maxRemarks)] {
		parts = append(parts, strings.ToValidUTF8(strings.ReplaceAll(r[:min(len(r), maxRemark)], "\x00", ""), ""))
	}
	return strings.Join(parts, "\x00")
}

var le = binary.LittleEndian

// appendHeader appends the header without its checksum.
func (t *Table) appendHeader(b []byte) []byte {
	b = append(b, t.form.Magic...)
	b = le.AppendUint32(b, version)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(t.date))
	b = append(b, t.stamp[:]...)
	for _, n := range t.header() {
		b = le.AppendUint32(b, uint32(*n))
	}
	b = le.AppendUint32(b, t.flags)
	return append(b, make([]byte, headerSize-len(b))...)
}

func append32(b []byte, values []uint32) []byte {
	for _, v := range values {
		b = le.AppendUint32(b, v)
	}
	return b
}

func (t *Table) appendIDs(b []byte, starts []Start[V6]) []byte {
	for _, s := range starts {
		for i := range t.width {
			b = append(b, byte(s.ID>>(8*i)))
		}
	}
	return b
}

// countIDs counts the ranges with an ID.
func countIDs[K any](starts []Start[K]) (n int) {
	for _, s := range starts {
		if s.ID != 0 {
			n++
		}
	}
	return n
}

// A tree has the sections root4, nodes4 and values4.
type tree struct {
	root          [rootSize]uint32
	nodes, values []byte
}

// grow makes the tree of the starts of IPv4 ranges, both halves of them at the same time.
func grow(starts []Start[V4]) *tree {
	low, high := new(tree), new(tree)
	if len(starts) == 0 {
		return low
	}
	at := starts[len(starts)/2].First >> 16
	half, _ := slices.BinarySearchFunc(starts, at<<16, func(s Start[V4], a V4) int { return s.First.Compare(a) })
	id := uint32(0)
	if half > 0 {
		id = starts[half-1].ID
	}
	var both sync.WaitGroup
	both.Go(func() { low.grow(starts[:half], 0, uint64(at), 0) })
	high.grow(starts[half:], uint64(at), rootSize, id)
	both.Wait()
	low.join(high, int(at))
	return low
}

// grow adds the networks of 16 bits from one until before another. The starts are those within
// them, id is what continues from before.
func (t *tree) grow(starts []Start[V4], from, to uint64, id uint32) {
	t.values = make([]byte, 0, valueSize*(len(starts)+len(starts)/8))
	var parts [256]uint32
	i := 0 // the index of the next start
	for h := from; h < to; h++ {
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
}

// join adds what another tree has from a network of 16 bits on. Its nodes and values get the
// numbers after those of this one.
func (t *tree) join(u *tree, from int) {
	nodes, values := uint32(len(t.nodes)/nodeSize), uint32(len(t.values)/valueSize)
	for h := from; h < rootSize; h++ {
		if t.root[h] = u.root[h]; t.root[h]&nodeFlag != 0 {
			t.root[h] += nodes
		}
	}
	for at := nodeSize - 8; at < len(u.nodes); at += nodeSize {
		le.PutUint32(u.nodes[at:], le.Uint32(u.nodes[at:])+values)
	}
	for at := 0; at < len(u.values); at += valueSize {
		if v := u.values[at : at+valueSize]; v[2]&(valueFlag>>16) != 0 {
			n := (uint32(v[0]) | uint32(v[1])<<8 | uint32(v[2])<<16) + nodes
			v[0], v[1], v[2] = byte(n), byte(n>>8), byte(n>>16)
		}
	}
	t.nodes, t.values = append(t.nodes, u.nodes...), append(t.values, u.values...)
}

// add adds a node and returns its index.
func (t *tree) add(parts *[256]uint32) uint32 {
	var words [4]uint64
	var counts [4]byte // of set bits in the words before
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
	for _, w := range words {
		t.nodes = le.AppendUint64(t.nodes, w)
	}
	t.nodes = le.AppendUint32(t.nodes, uint32(first))
	t.nodes = append(t.nodes, counts[1], counts[2], counts[3], 0)
	return uint32(len(t.nodes)/nodeSize - 1)
}

const (
	maxStarts6 = 64      // a network with more gets a node, others are bisected
	maxNodes6  = 1 << 18 // bounds the size of nodes for any starts: 270 MB
)

// index6 makes the sections root6 and nodes6.
func index6(starts []Start[V6]) (root []uint32, nodes [][257]uint32) {
	if len(starts) == 0 {
		return nil, nil
	}
	i := 0
	// below returns the entry for the starts of a network, from i on.
	var below func(prefix uint64, shift, limit int) uint32
	below = func(prefix uint64, shift, limit int) uint32 {
		j := i
		for j < len(starts) && starts[j].First.Hi>>shift == prefix {
			j++
		}
		if j-i <= limit || shift == 0 || len(nodes) == maxNodes6 {
			first := i
			i = j
			return uint32(first)
		}
		n := len(nodes)
		nodes = append(nodes, [257]uint32{})
		for part := range uint64(256) {
			nodes[n][part] = below(prefix<<8|part, shift-8, maxStarts6)
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

// split separates the starts within /64 networks from the others; see table.go.
func split(starts []Start[V6], mark uint32) (whole, fine []Start[V6]) {
	before := uint32(0) // the ID before the /64
	for i := 0; i < len(starts); {
		hi := starts[i].First.Hi
		j := i + 1
		for j < len(starts) && starts[j].First.Hi == hi {
			j++
		}
		last := starts[j-1].ID
		if j == i+1 && starts[i].First.Lo == 0 {
			whole = append(whole, starts[i])
		} else {
			whole = append(whole, Start[V6]{First: V6{Hi: hi}, ID: mark})
			if starts[i].First.Lo != 0 {
				fine = append(fine, Start[V6]{First: V6{Hi: hi}, ID: before})
			}
			fine = append(fine, starts[i:j]...)
			if hi != math.MaxUint64 && (j == len(starts) || starts[j].First.Hi != hi+1) {
				whole = append(whole, Start[V6]{First: V6{Hi: hi + 1}, ID: last})
			}
		}
		before, i = last, j
	}
	return whole, fine
}
